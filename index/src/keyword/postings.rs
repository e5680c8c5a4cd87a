//! The memtable's inverted index: rows are appended, and found from the next search on. It knows no files and no ids.
//!
//! One writer and many readers behind a lock: a row is analyzed before the lock is taken and only its counts are put in
//! under it; a search holds the lock for one pass over the postings of its terms.

use std::collections::HashMap;

use parking_lot::RwLock;
use roaring::RoaringBitmap;
use tantivy::fieldnorm::FieldNormReader;

use super::analyzer::Analyzers;
use super::query::KeywordQuery;
use super::stats::CollectionTextStats;
use super::{IndexedText, TextField};
use crate::scored::{Scored, TopK};

/// Bytes that a new term costs beside its text and its postings: the map's entry and two vectors' slack.
const TERM_OVERHEAD_BYTES: usize = 96;
/// Bytes of one posting, with the slack of a growing vector.
const POSTING_BYTES: usize = 12;

/// The postings of rows that are not sealed yet.
#[derive(Debug, Default)]
pub struct MemPostings {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    words: View,
    exact: View,
    rows: u32,
    rows_with_text: u64,
    bytes: usize,
}

/// One view of all rows.
#[derive(Debug, Default)]
struct View {
    postings: HashMap<Box<str>, Vec<Posting>>,
    /// Length of each row, as tantivy quantises it.
    lengths: Vec<u8>,
    tokens: u64,
}

/// A row that has a term, and how often.
#[derive(Debug, Clone, Copy)]
struct Posting {
    row: u32,
    count: u32,
}

impl MemPostings {
    /// Without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// For appending rows: what reads their texts is made once for all.
    pub(crate) fn appender(&self) -> Appender<'_> {
        Appender { postings: self, analyzers: Analyzers::new() }
    }

    /// Appends the next row.
    pub fn append(&self, text: &IndexedText<'_>) {
        self.appender().append(text);
    }

    /// Rows appended.
    pub fn len(&self) -> u32 {
        self.inner.read().rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, in bytes, estimated.
    pub fn memory_bytes(&self) -> usize {
        self.inner.read().bytes
    }

    /// Adds the rows, tokens and document frequencies of all rows.
    pub fn add_stats(&self, query: &KeywordQuery, stats: &mut CollectionTextStats) {
        let inner = self.inner.read();
        stats.add(inner.rows_with_text, inner.words.tokens, inner.exact.tokens);
        for (number, term) in query.terms().iter().enumerate() {
            let rows = inner.view(term.field).postings.get(term.text.as_str()).map_or(0, Vec::len);
            stats.add_doc_freq(query, number, rows as u64);
        }
    }

    /// The best `k` of the rows below `visible_rows` that have a term of the query and are in `allow`; best first, lower
    /// row first among equals. `stats` must have this memtable's and every segment's numbers for this query.
    pub fn search(
        &self,
        query: &KeywordQuery,
        stats: &CollectionTextStats,
        k: usize,
        allow: Option<&RoaringBitmap>,
        visible_rows: u32,
    ) -> Vec<Scored> {
        let inner = self.inner.read();
        let rows = inner.rows.min(visible_rows);
        let mut scores = vec![0.0_f32; rows as usize];
        // Term after term in the query's order, as a segment sums its winners: the same floats on both sides of a seal.
        for (number, term) in query.terms().iter().enumerate() {
            let view = inner.view(term.field);
            let Some(postings) = view.postings.get(term.text.as_str()) else { continue };
            let Some(term_stats) = stats.term(number, term) else { continue };
            let weight = term_stats.weight(term.weight);
            for posting in postings {
                let row = posting.row as usize;
                let (Some(score), Some(length)) = (scores.get_mut(row), view.lengths.get(row)) else { break };
                *score += weight.score(*length, posting.count);
            }
        }
        drop(inner);
        let mut top = TopK::new(k, rows);
        for (row, score) in (0..rows).zip(scores) {
            if score > 0.0 && score > top.threshold() && allow.is_none_or(|allow| allow.contains(row)) {
                top.push(Scored { row, score });
            }
        }
        top.into_sorted()
    }
}

/// Appends rows to postings; see [`MemPostings::appender`].
pub(crate) struct Appender<'a> {
    postings: &'a MemPostings,
    analyzers: Analyzers,
}

impl Appender<'_> {
    /// Appends the next row.
    pub(crate) fn append(&mut self, text: &IndexedText<'_>) {
        let words = Counts::of(&mut self.analyzers, TextField::Words, text);
        let exact = Counts::of(&mut self.analyzers, TextField::Exact, text);
        let has_word = text.has_word();
        let mut inner = self.postings.inner.write();
        let row = inner.rows;
        inner.rows += 1;
        inner.rows_with_text += u64::from(has_word);
        inner.bytes += inner_append(&mut inner.words, row, words);
        inner.bytes += inner_append(&mut inner.exact, row, exact);
    }
}

impl Inner {
    fn view(&self, field: TextField) -> &View {
        match field {
            TextField::Words => &self.words,
            TextField::Exact => &self.exact,
        }
    }
}

/// The tokens of one row in one view.
struct Counts {
    counts: HashMap<String, u32>,
    tokens: u32,
}

impl Counts {
    fn of(analyzers: &mut Analyzers, field: TextField, text: &IndexedText<'_>) -> Self {
        let mut counts: HashMap<String, u32> = HashMap::new();
        let mut tokens = 0;
        for part in text.parts() {
            analyzers.tokens(field, part, |token, _| {
                tokens += 1;
                match counts.get_mut(token) {
                    Some(count) => *count += 1,
                    None => {
                        counts.insert(token.to_owned(), 1);
                    }
                }
            });
        }
        Self { counts, tokens }
    }
}

/// Puts a row's counts in; returns the bytes that this took.
fn inner_append(view: &mut View, row: u32, counts: Counts) -> usize {
    let mut bytes = 1;
    view.lengths.push(FieldNormReader::fieldnorm_to_id(counts.tokens));
    view.tokens += u64::from(counts.tokens);
    for (term, count) in counts.counts {
        bytes += POSTING_BYTES;
        let posting = Posting { row, count };
        match view.postings.get_mut(term.as_str()) {
            Some(postings) => postings.push(posting),
            None => {
                bytes += TERM_OVERHEAD_BYTES + term.len();
                view.postings.insert(term.into_boxed_str(), vec![posting]);
            }
        }
    }
    bytes
}
