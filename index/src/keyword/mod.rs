//! Search by words: the analyzers, the memtable's postings, a sealed segment's tantivy index, and filters as bitmaps.
//!
//! A row is indexed twice, as `words` (English stems without stop words, what most of the score comes from) and as
//! `exact` (every word as it is written, and whole identifiers, versions, paths). Both sides of a seal score with the
//! same formula on the same quantised lengths and with the statistics of the whole collection, so a row keeps its score
//! when it moves from the memtable to a segment.
//!
//! Knows rows, not points: ids are values of a field here, deleted rows are the caller's to leave out.

pub(crate) mod analyzer;
mod build;
mod bundle;
mod exact;
mod fields;
mod filter;
mod filter_cache;
mod highlight;
mod postings;
mod query;
mod runs;
mod search;
mod segment;
mod stats;

#[cfg(test)]
mod tests;

pub use build::KeywordBuilder;
pub use highlight::{MAX_HIGHLIGHTS, highlight};
pub use postings::MemPostings;
pub use query::{KeywordQuery, MAX_QUERY_BYTES, MAX_QUERY_TERMS};
pub use segment::SegmentKeywords;
pub use stats::CollectionTextStats;

/// The searchable text of a row: what the keyword index reads, in this order, as one stream of words.
#[derive(Debug, Clone, Copy, Default)]
pub struct IndexedText<'a> {
    /// Title of the document.
    pub title: Option<&'a str>,
    /// Headings above the chunk, outermost first.
    pub heading_path: &'a [&'a str],
    /// The text of the row.
    pub text: Option<&'a str>,
}

impl<'a> IndexedText<'a> {
    /// Whether there is a word in it. Rows without one don't count in the statistics of BM25.
    fn has_word(&self) -> bool {
        self.parts().any(|part| {
            let mut found = false;
            analyzer::simple(part, |_| {
                found = true;
                false
            });
            found
        })
    }

    /// The parts that there are.
    fn parts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.title.into_iter().chain(self.heading_path.iter().copied()).chain(self.text)
    }
}

/// The two views of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TextField {
    /// Stems without stop words.
    Words,
    /// Words as written, and compounds.
    Exact,
}
