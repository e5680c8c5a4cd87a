//! The keyword index of a sealed segment: opened in place from one blob. It knows no other segment and no deleted rows;
//! `search` ranks its rows, `filter` turns filters into bitmaps.

use std::fmt::Display;
use std::path::Path;

use bytes::Bytes;
use tantivy::{Index, ReloadPolicy, Searcher, SegmentReader, Term};

use super::bundle::BundleDirectory;
use super::fields::{Fields, META_FILE, SegmentMeta};
use super::filter_cache::FilterCache;
use super::query::KeywordQuery;
use super::stats::CollectionTextStats;
use crate::error::{Error, Result};
use crate::schema::CollectionSchema;

/// The keyword index of a segment.
pub struct SegmentKeywords {
    searcher: Searcher,
    fields: Fields,
    rows_with_text: u64,
    filters: FilterCache,
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
        Ok(Self { searcher, fields, rows_with_text, filters: FilterCache::default() })
    }

    /// The one tantivy segment; that there is one was checked at the open.
    pub(super) fn reader(&self) -> &SegmentReader {
        self.searcher.segment_reader(0)
    }

    pub(super) fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    pub(super) fn filters(&self) -> &FilterCache {
        &self.filters
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
}
