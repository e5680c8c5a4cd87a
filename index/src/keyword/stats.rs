//! Collection-wide statistics for BM25: sums over all segments and the memtable, for the terms of one query. It knows
//! no segment and no memtable; both add to it.
//!
//! Deleted rows count until compaction takes them away, in Lucene's manner: scores shift a little then.

use tantivy::query::{Bm25StatisticsProvider, Bm25Weight};
use tantivy::schema::Field;
use tantivy::{Score, Term};

use super::TextField;
use super::query::{KeywordQuery, QueryTerm};

/// What BM25 needs to know of the whole collection for one [`KeywordQuery`]. Start from the default and let every
/// segment and memtable add to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectionTextStats {
    /// Rows with a word.
    pub(super) rows: u64,
    /// Tokens of the words view.
    pub(super) words: u64,
    /// Tokens of the exact view.
    pub(super) exact: u64,
    /// Rows that have the term, for each term of the query.
    pub(super) doc_freqs: Vec<u64>,
}

impl CollectionTextStats {
    /// Adds what a segment or memtable has.
    pub(super) fn add(&mut self, rows: u64, words: u64, exact: u64) {
        self.rows += rows;
        self.words += words;
        self.exact += exact;
    }

    /// Adds rows that have the query's term of this number.
    pub(super) fn add_doc_freq(&mut self, query: &KeywordQuery, term: usize, rows: u64) {
        self.doc_freqs.resize(query.terms().len(), 0);
        if let Some(count) = self.doc_freqs.get_mut(term) {
            *count += rows;
        }
    }

    /// What BM25 needs for one term; `None` when no row has it.
    pub(super) fn term(&self, number: usize, term: &QueryTerm) -> Option<TermStats> {
        let doc_freq = self.doc_freqs.get(number).copied().filter(|count| *count > 0)?;
        let tokens = match term.field {
            TextField::Words => self.words,
            TextField::Exact => self.exact,
        };
        // Sums that were read while rows came in may be off by those rows; tantivy panics on such sums.
        let rows = self.rows.max(doc_freq);
        Some(TermStats { rows, tokens: tokens.max(doc_freq), doc_freq })
    }
}

/// The statistics of one term, consistent in themselves: `doc_freq <= rows`, nothing is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TermStats {
    pub(super) rows: u64,
    pub(super) tokens: u64,
    pub(super) doc_freq: u64,
}

impl TermStats {
    pub(super) fn average_length(&self) -> Score {
        self.tokens as Score / self.rows as Score
    }

    /// How much a term says, as tantivy has it.
    pub(super) fn idf(&self) -> Score {
        let without = self.rows.saturating_sub(self.doc_freq) as Score;
        (1.0 + (without + 0.5) / (self.doc_freq as Score + 0.5)).ln()
    }

    /// The scorer of the memtable, the same as tantivy makes from [`Bm25StatisticsProvider`].
    pub(super) fn weight(&self, boost: Score) -> Bm25Weight {
        let average_length = self.average_length();
        Bm25Weight::for_one_term_without_explain(self.doc_freq, self.rows, average_length).boost_by(boost)
    }
}

impl Bm25StatisticsProvider for TermStats {
    fn total_num_tokens(&self, _field: Field) -> tantivy::Result<u64> {
        Ok(self.tokens)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.rows)
    }

    fn doc_freq(&self, _term: &Term) -> tantivy::Result<u64> {
        Ok(self.doc_freq)
    }
}
