//! The best rows of a sealed segment for a query, with the statistics of the whole collection. It knows no other segment
//! and no deleted rows: the caller's `allow` leaves them out.
//!
//! Rows are found by tantivy's block-max WAND (Ding and Suel, SIGIR 2011), which skips blocks of postings that can't reach
//! the best `k`. What a block can reach was written when the segment was sealed, as the (length, count) that scores best
//! *under the segment's own average length*; under the collection's average another one may score more. So the
//! walk runs under the segment's average, where its bounds hold, every candidate is scored under the collection's, and
//! the threshold is lowered by the most that the two can differ by. The result is that of an exhaustive search.

use roaring::RoaringBitmap;
use tantivy::query::{
    BooleanWeight, BoostWeight, EnableScoring, Occur, Query, Scorer, SumCombiner, TermQuery, Weight,
};
use tantivy::schema::IndexRecordOption;
use tantivy::{Score, TERMINATED, Term};

use super::query::{KeywordQuery, QueryTerm};
use super::segment::{SegmentKeywords, internal};
use super::stats::{CollectionTextStats, TermStats};
use crate::error::Result;
use crate::scored::{Scored, TopK};

/// With fewer allowed rows than this share (one in so many) of the segment, rows are looked up in the postings one by
/// one; with more, the postings are walked and rows that are not allowed are skipped.
const LOOKUP_SHARE: u64 = 64;
/// Room for the rounding of float sums in a threshold.
const ROUNDING: Score = 1.0 - 1e-5;

impl SegmentKeywords {
    /// The best `k` of the rows that have a term of the query and are in `allow`; best first, lower row first among
    /// equals. `stats` must have the memtable's and every segment's numbers for this query.
    pub fn search(
        &self,
        query: &KeywordQuery,
        stats: &CollectionTextStats,
        k: usize,
        allow: Option<&RoaringBitmap>,
    ) -> Result<Vec<Scored>> {
        self.best(query, stats, k, allow).map_err(|error| internal("search", &error))
    }

    fn best(
        &self,
        query: &KeywordQuery,
        stats: &CollectionTextStats,
        k: usize,
        allow: Option<&RoaringBitmap>,
    ) -> tantivy::Result<Vec<Scored>> {
        let rows = self.reader().max_doc();
        let mut terms = self.terms_here(query, stats)?;
        if k == 0 || terms.is_empty() {
            return Ok(Vec::new());
        }
        let mut top = TopK::new(k, rows);
        if let Some(allow) = allow.filter(|allow| allow.len() * LOOKUP_SHARE < u64::from(rows)) {
            for row in allow.iter().take_while(|row| *row < rows) {
                if let Some(score) = score(&mut terms, row) {
                    top.push(Scored { row, score });
                }
            }
            return Ok(top.into_sorted());
        }
        let stretch = terms.iter().map(|term| term.stretch).fold(1.0, Score::max);
        let clauses = terms.iter_mut().filter_map(|term| Some((Occur::Should, term.walk.take()?))).collect();
        let union: BooleanWeight<SumCombiner> =
            BooleanWeight::with_minimum_number_should_match(clauses, 1, true, Box::new(SumCombiner::default));
        union.for_each_pruning(Score::MIN, self.reader(), &mut |row, _| {
            if allow.is_none_or(|allow| allow.contains(row))
                && let Some(score) = score(&mut terms, row)
            {
                top.push(Scored { row, score });
            }
            top.threshold() / stretch * ROUNDING
        })?;
        Ok(top.into_sorted())
    }

    /// The terms of the query that this segment has, in the query's order.
    fn terms_here(
        &self,
        query: &KeywordQuery,
        stats: &CollectionTextStats,
    ) -> tantivy::Result<Vec<TermHere>> {
        let mut terms = Vec::new();
        for (number, term) in query.terms().iter().enumerate() {
            if let Some(collection) = stats.term(number, term) {
                terms.extend(self.term_here(term, &collection)?);
            }
        }
        Ok(terms)
    }

    fn term_here(&self, term: &QueryTerm, collection: &TermStats) -> tantivy::Result<Option<TermHere>> {
        let field = self.fields().text(term.field);
        let text = Term::from_field_text(field, &term.text);
        let index = self.reader().inverted_index(field)?;
        let here = TermStats {
            rows: u64::from(self.reader().max_doc()),
            tokens: index.total_num_tokens(),
            doc_freq: u64::from(index.doc_freq(&text)?),
        };
        if here.doc_freq == 0 {
            return Ok(None);
        }
        let weight = |stats: &TermStats, boost: Score| -> tantivy::Result<BoostWeight> {
            let scoring = EnableScoring::enabled_from_statistics_provider(stats, self.searcher());
            let query = TermQuery::new(text.clone(), IndexRecordOption::WithFreqs);
            Ok(BoostWeight::new(query.weight(scoring)?, boost))
        };
        let scorer = weight(collection, term.weight)?.scorer(self.reader(), 1.0)?;
        let walk = weight(&here, term.weight * (collection.idf() / here.idf()))?;
        let stretch = (collection.average_length() / here.average_length()).max(1.0);
        Ok(Some(TermHere { scorer, walk: Some(Box::new(walk)), stretch }))
    }
}

/// A term that the segment has.
struct TermHere {
    /// Scores under the collection's average length.
    scorer: Box<dyn Scorer>,
    /// Walks under the segment's average length; taken once.
    walk: Option<Box<dyn Weight>>,
    /// The most that a row's score can grow from the segment's average length to the collection's. For a row of length f
    /// it is (t + k(1-b+bf/s)) / (t + k(1-b+bf/c)), which is at most c/s when c > s, and at most 1 otherwise.
    stretch: Score,
}

/// The score of a row, summed in the query's order as the memtable does, so that the floats are the same; `None`: it has
/// no term. Rows must come in rising order.
fn score(terms: &mut [TermHere], row: u32) -> Option<Score> {
    let mut sum = 0.0;
    for TermHere { scorer, .. } in terms {
        if scorer.doc() < row {
            scorer.seek(row);
        }
        if scorer.doc() == row && row != TERMINATED {
            sum += scorer.score();
        }
    }
    (sum > 0.0).then_some(sum)
}
