//! The keyword index of a sealed segment: opened in place from one blob, searched with collection-wide statistics. It
//! knows no other segment and no deleted rows (the caller's `allow` leaves them out).

use std::fmt::Display;
use std::path::Path;

use bytes::Bytes;
use roaring::RoaringBitmap;
use tantivy::query::{
    BooleanWeight, BoostWeight, EnableScoring, Occur, Query, Scorer, SumCombiner, TermQuery, Weight,
};
use tantivy::schema::IndexRecordOption;
use tantivy::{Index, ReloadPolicy, Searcher, SegmentReader, TERMINATED, Term};

use super::bundle::BundleDirectory;
use super::fields::{Fields, META_FILE, SegmentMeta};
use super::query::KeywordQuery;
use super::stats::CollectionTextStats;
use crate::error::{Error, Result};
use crate::schema::CollectionSchema;
use crate::scored::{Scored, TopK};

/// With fewer allowed rows than this share (one in so many) of the segment, rows are looked up in the postings one by
/// one; with more, the postings are walked and rows that are not allowed are skipped.
const LOOKUP_SHARE: u64 = 64;

/// The keyword index of a segment.
pub struct SegmentKeywords {
    searcher: Searcher,
    fields: Fields,
    rows_with_text: u64,
}

impl std::fmt::Debug for SegmentKeywords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentKeywords").field("rows", &self.searcher.num_docs()).finish_non_exhaustive()
    }
}

/// A failure of tantivy that no input explains.
pub(super) fn internal(what: &str, error: &dyn Display) -> Error {
    Error::Internal(format!("keyword index: {what}: {error}"))
}

impl SegmentKeywords {
    /// Opens what [`super::KeywordBuilder::finish`] made, without copying. `schema` is the collection's now, `rows` what
    /// the segment has. The caller has verified a checksum over `bundle`; `path` names it in errors.
    pub fn open(path: &Path, bundle: Bytes, schema: &CollectionSchema, rows: u32) -> Result<Self> {
        let corrupt = |error: &dyn Display| Error::corrupt(path, 0, error.to_string());
        let directory = BundleDirectory::open(path, bundle)?;
        let meta = directory.get(META_FILE).ok_or_else(|| corrupt(&"the bundle has no metadata"))?;
        let SegmentMeta::V1 { rows: sealed, rows_with_text, payload } =
            serde_json::from_slice(meta.as_slice()).map_err(|error| corrupt(&error))?;
        let (tantivy_schema, fields) = Fields::new(&payload);
        fields.check_against(schema).map_err(|message| corrupt(&message))?;
        let index = Index::open(directory).map_err(|error| corrupt(&error))?;
        if index.schema() != tantivy_schema {
            return Err(corrupt(&"the tantivy schema is not the one of the metadata"));
        }
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).doc_store_cache_num_blocks(0);
        let searcher = reader.try_into().map_err(|error| corrupt(&error))?.searcher();
        let found: Vec<u32> = searcher.segment_readers().iter().map(SegmentReader::max_doc).collect();
        if sealed != rows || found != [rows] {
            return Err(corrupt(&format!(
                "{found:?} rows in the keyword index, {sealed} sealed, {rows} expected"
            )));
        }
        Ok(Self { searcher, fields, rows_with_text })
    }

    /// The one tantivy segment; that there is one was checked at the open.
    pub(super) fn reader(&self) -> &SegmentReader {
        self.searcher.segment_reader(0)
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Adds the rows, tokens and document frequencies of this segment.
    pub fn add_stats(&self, query: &KeywordQuery, stats: &mut CollectionTextStats) -> Result<()> {
        let failed = |error: &dyn Display| internal("read statistics", error);
        let inverted = |field| self.reader().inverted_index(field).map_err(|error| failed(&error));
        let words = inverted(self.fields.words)?;
        let exact = inverted(self.fields.exact)?;
        stats.add(self.rows_with_text, words.total_num_tokens(), exact.total_num_tokens());
        for (number, term) in query.terms().iter().enumerate() {
            let index = if term.field == super::TextField::Words { &words } else { &exact };
            let term = Term::from_field_text(self.fields.text(term.field), &term.text);
            let rows = index.doc_freq(&term).map_err(|error| failed(&error))?;
            stats.add_doc_freq(query, number, u64::from(rows));
        }
        Ok(())
    }

    /// The best `k` of the rows that have a term of the query and are in `allow`; best first, lower row first among
    /// equals. `stats` must have the memtable's and every segment's numbers for this query.
    ///
    /// Among rows that tie for the last place, and in the rare case that a block's stored best length and count is not
    /// its best under the collection's average length, pruning may keep another row than an exhaustive search would.
    pub fn search(
        &self,
        query: &KeywordQuery,
        stats: &CollectionTextStats,
        k: usize,
        allow: Option<&RoaringBitmap>,
    ) -> Result<Vec<Scored>> {
        let failed = |error: tantivy::TantivyError| internal("search", &error);
        let rows = self.reader().max_doc();
        let weights = self.weights(query, stats).map_err(failed)?;
        if k == 0 || weights.is_empty() {
            return Ok(Vec::new());
        }
        let mut top = TopK::new(k, rows);
        if let Some(allow) = allow.filter(|allow| allow.len() * LOOKUP_SHARE < u64::from(rows)) {
            let mut scorers = self.scorers(&weights).map_err(failed)?;
            score_rows(&mut scorers, allow.iter().take_while(|row| *row < rows), |hit| top.push(hit));
            return Ok(top.into_sorted());
        }
        // Made before the weights are used up: the scorers for the second pass.
        let mut scorers = self.scorers(&weights).map_err(failed)?;
        union(weights)
            .for_each_pruning(f32::MIN, self.reader(), &mut |row, score| {
                if allow.is_none_or(|allow| allow.contains(row)) {
                    top.push(Scored { row, score });
                }
                top.threshold()
            })
            .map_err(failed)?;
        // Sum the winners' terms again in the query's order: pruning adds them in an order that depends on the postings,
        // and floats care. After this a row has the same score in the memtable and in every segment.
        let mut winners: Vec<u32> = top.into_sorted().into_iter().map(|hit| hit.row).collect();
        winners.sort_unstable();
        let mut hits = Vec::with_capacity(winners.len());
        score_rows(&mut scorers, winners.into_iter(), |hit| hits.push(hit));
        hits.sort_unstable_by(Scored::best_first);
        Ok(hits)
    }

    /// A weight for each term that some row of the collection has, in the query's order.
    fn weights(
        &self,
        query: &KeywordQuery,
        stats: &CollectionTextStats,
    ) -> tantivy::Result<Vec<Box<dyn Weight>>> {
        let mut weights: Vec<Box<dyn Weight>> = Vec::new();
        for (number, term) in query.terms().iter().enumerate() {
            let Some(term_stats) = stats.term(number, term) else { continue };
            let text = Term::from_field_text(self.fields.text(term.field), &term.text);
            let scoring = EnableScoring::enabled_from_statistics_provider(&term_stats, &self.searcher);
            let weight = TermQuery::new(text, IndexRecordOption::WithFreqs).weight(scoring)?;
            weights.push(Box::new(BoostWeight::new(weight, term.weight)));
        }
        Ok(weights)
    }

    /// A scorer for each term that this segment has, in the order of the weights.
    fn scorers(&self, weights: &[Box<dyn Weight>]) -> tantivy::Result<Vec<Box<dyn Scorer>>> {
        let mut scorers = Vec::with_capacity(weights.len());
        for weight in weights {
            let scorer = weight.scorer(self.reader(), 1.0)?;
            if scorer.doc() != TERMINATED {
                scorers.push(scorer);
            }
        }
        Ok(scorers)
    }
}

/// Any of these, scores summed; tantivy prunes such a union with block-max WAND (Ding and Suel, SIGIR 2011).
fn union(weights: Vec<Box<dyn Weight>>) -> BooleanWeight<SumCombiner> {
    let clauses = weights.into_iter().map(|weight| (Occur::Should, weight)).collect();
    BooleanWeight::with_minimum_number_should_match(clauses, 1, true, Box::new(SumCombiner::default))
}

/// Scores rows that come in rising order by looking each up in every scorer; rows without a term are left out.
fn score_rows(scorers: &mut [Box<dyn Scorer>], rows: impl Iterator<Item = u32>, mut hit: impl FnMut(Scored)) {
    for row in rows {
        let mut score = 0.0;
        for scorer in scorers.iter_mut() {
            if scorer.doc() < row {
                scorer.seek(row);
            }
            if scorer.doc() == row {
                score += scorer.score();
            }
        }
        if score > 0.0 {
            hit(Scored { row, score });
        }
    }
}
