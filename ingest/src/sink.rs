//! Where the pipeline's batches go. The server implements this over the engine; tests implement it over a map.
//!
//! **Invariant:** every method that writes returns after the write is durable.

use std::collections::{BTreeMap, HashMap};

use arrow::array::RecordBatch;
use async_trait::async_trait;

use crate::document::{DocumentEntry, Retry};
use crate::error::Result;

/// A vector space of the target collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpace {
    /// Its name.
    pub name: String,
    /// Components of a vector.
    pub dimension: u32,
    /// Name of the embedder that fills it, when there is one.
    pub embedder: Option<String>,
    /// The fingerprint that the collection was created with.
    pub fingerprint: Option<String>,
}

/// What a collection expects of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Its vector spaces.
    pub spaces: Vec<TargetSpace>,
    /// Types of its payload fields, by name.
    pub payload: BTreeMap<String, FieldKind>,
    /// Whether other fields may be written.
    pub dynamic_payload: bool,
}

/// Type of a payload field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the types of docs/data-model.md")]
pub enum FieldKind {
    Keyword,
    Integer,
    Float,
    Bool,
    Datetime,
    Text,
}

/// What a batch of rows became.
#[derive(Debug, Clone, Default)]
pub struct RowsWritten {
    /// Sequence number of the write.
    pub seq_no: u64,
    /// Rows written.
    pub upserted: u64,
    /// Rows refused: row of the batch, column, reason.
    pub rejected: Vec<RejectedRow>,
}

/// A row that the collection refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Row of the batch.
    pub row: usize,
    /// Column at fault.
    pub column: String,
    /// What was found and what was expected.
    pub message: String,
}

/// Where the pipeline's batches go, and where it remembers what it did: both in the same commit.
#[async_trait]
pub trait BatchSink: Send + Sync + 'static {
    /// What the collection expects.
    async fn target(&self, collection: &str) -> Result<Target>;

    /// A document's ledger entry.
    async fn document(&self, collection: &str, id: &str) -> Result<Option<DocumentEntry>>;

    /// All ledger entries of a source.
    async fn documents_of_source(&self, collection: &str, source_id: &str) -> Result<Vec<DocumentEntry>>;

    /// Vectors of a stored document by the hash of what was embedded (`pipeline::chunk_key`) in each space, so
    /// that unchanged chunks aren't embedded again. Key: (space, chunk key).
    async fn document_vectors(
        &self,
        collection: &str,
        id: &str,
    ) -> Result<HashMap<(String, String), Vec<f32>>>;

    /// Replaces a document whole, entry and points together. `points` is `None` for an entry that isn't `Indexed`.
    /// Returns the sequence number.
    async fn put_document(
        &self,
        collection: &str,
        entry: DocumentEntry,
        points: Option<RecordBatch>,
    ) -> Result<u64>;

    /// As [`Self::put_document`], with something to remember of the document in the same commit, as long as this version of it
    /// is there. A sink that keeps no notes compares nothing after a restart.
    async fn put_document_with_note(
        &self,
        collection: &str,
        entry: DocumentEntry,
        points: RecordBatch,
        _note: Vec<u8>,
    ) -> Result<u64> {
        self.put_document(collection, entry, Some(points)).await
    }

    /// What was remembered of the documents of a collection, by their ids.
    async fn document_notes(&self, _collection: &str) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(Vec::new())
    }

    /// Moves a stored document to another id: points and entry change in one step, nothing is embedded again. `false`
    /// when there is no such document.
    async fn rename_document(&self, collection: &str, from: &str, entry: DocumentEntry) -> Result<bool>;

    /// Updates what the ledger knows of a stored document's file (`modified_ns`, `source_id`) and nothing else: its points
    /// stay as they are. A sink that does not keep it costs one more reading of the file after a restart, no more.
    async fn touch_document(&self, _collection: &str, _entry: DocumentEntry) -> Result<()> {
        Ok(())
    }

    /// Makes a document, in place of points of its own, a link to one that is stored with the same content: the same digits
    /// behind the version, see `pipeline`. The entry's `chunks`, `title` and `media_type` become those of that document.
    /// Returns the sequence number and the entry; `None` when there is no such document, and nothing was written. A sink that
    /// links nothing stores everything.
    async fn link_document(
        &self,
        _collection: &str,
        _entry: DocumentEntry,
    ) -> Result<Option<(u64, DocumentEntry)>> {
        Ok(None)
    }

    /// Remembers of documents, stored or not, that they are tried again, until they are written or deleted. A sink that does
    /// not has them tried at once after a restart.
    async fn put_retries(&self, _collection: &str, _retries: Vec<(String, Retry)>) -> Result<()> {
        Ok(())
    }

    /// What was remembered so of the documents whose id starts with `prefix`.
    async fn retries(&self, _collection: &str, _prefix: &str) -> Result<Vec<(String, Retry)>> {
        Ok(Vec::new())
    }

    /// Forgets it. Unknown ids are ignored.
    async fn forget_retries(&self, _collection: &str, _ids: Vec<String>) -> Result<()> {
        Ok(())
    }

    /// Deletes documents with their points, and what is remembered of ids without. Returns the sequence number.
    async fn delete_documents(&self, collection: &str, ids: Vec<String>) -> Result<u64>;

    /// Writes rows and, in the same commit, a checkpoint. With `strict` one bad row refuses the batch.
    async fn write_rows(
        &self,
        collection: &str,
        rows: RecordBatch,
        checkpoint: Option<(String, Vec<u8>)>,
        strict: bool,
    ) -> Result<RowsWritten>;

    /// Reads a checkpoint.
    async fn checkpoint(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>>;
}
