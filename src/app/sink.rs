//! The pipeline's sink over the engine: what `ingest` makes becomes writes of `index`. Every write returns after it is
//! durable and visible.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, UInt32Type};
use async_trait::async_trait;
use ragstone_index::batch;
use ragstone_index::collection::Collection;
use ragstone_index::document::{DocumentRecord, DocumentState};
use ragstone_index::ledger::{DOCUMENT_NOTE_PREFIX, DOCUMENT_RETRY_PREFIX, note_key, retry_key};
use ragstone_index::schema::{CollectionSchema, FieldType};
use ragstone_index::store::Store;
use ragstone_index::write::{Change, WriteReceipt, WriteRequest};
use ragstone_ingest::chunk::embedding_text;
use ragstone_ingest::document::{DocumentEntry, EXPIRES_AT_FIELD, EntryState, Retry};
use ragstone_ingest::pipeline::chunk_key;
use ragstone_ingest::sink::{BatchSink, FieldKind, RejectedRow, RowsWritten, Target, TargetSpace};
use ragstone_ingest::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::embedding::put_column;
use super::error::Error as AppError;
use super::workers::Workers;

/// A record and its points are written together. A new file time alone is worth writing so many points again; for more,
/// reading the file again after a restart is cheaper.
const MAX_TOUCHED_CHUNKS: u32 = 64;

/// The next try of a document in the ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version")]
enum StoredRetry {
    #[serde(rename = "1")]
    V1(Retry),
}

/// The sink of the server.
#[derive(Debug)]
pub struct EngineSink {
    store: Arc<Store>,
    workers: Workers,
}

impl EngineSink {
    /// A sink into the collections of a store.
    pub fn new(store: Arc<Store>, workers: Workers) -> Self {
        Self { store, workers }
    }

    fn collection(&self, name: &str) -> Result<Arc<Collection>> {
        self.store.collection(name).map_err(|error| match error {
            ragstone_index::Error::NotFound { name, .. } => pipeline_error(AppError::NoCollection(name)),
            other => pipeline_error(other.into()),
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        collection: &str,
        job: impl FnOnce(&Collection) -> ragstone_index::Result<T> + Send + 'static,
    ) -> Result<T> {
        let collection = self.collection(collection)?;
        self.workers.read.run(move || Ok(job(&collection)?)).await.map_err(pipeline_error)
    }

    async fn write(&self, collection: &str, request: WriteRequest) -> Result<WriteReceipt> {
        let collection = self.collection(collection)?;
        self.workers.write.run(move || Ok(collection.write(request)?)).await.map_err(pipeline_error)
    }

    async fn put(
        &self,
        collection: &str,
        entry: DocumentEntry,
        points: Option<RecordBatch>,
        note: Option<Vec<u8>>,
    ) -> Result<u64> {
        let points = points.map(with_expiry).transpose().map_err(|error| pipeline_error(error.into()))?;
        let remember = note.map(|value| Change::PutLedger { key: note_key(&entry.id), value });
        let mut changes = vec![Change::PutDocument { document: record(entry), points }];
        changes.extend(remember);
        Ok(self.change(collection, changes).await?.seq_no)
    }

    async fn change(&self, collection: &str, changes: Vec<Change>) -> Result<WriteReceipt> {
        self.write(collection, WriteRequest { changes, skip_bad_rows: false }).await
    }
}

#[async_trait]
impl BatchSink for EngineSink {
    async fn target(&self, collection: &str) -> Result<Target> {
        let schema = self.collection(collection)?.schema();
        let space = |space: &ragstone_index::schema::VectorSpace| TargetSpace {
            name: space.name.clone(),
            dimension: space.dimension,
            embedder: space.embedder.as_ref().map(|e| e.name.clone()),
            fingerprint: space.embedder.as_ref().map(|e| e.fingerprint.clone()),
        };
        let kind = |kind: FieldType| match kind {
            FieldType::Keyword => FieldKind::Keyword,
            FieldType::Integer => FieldKind::Integer,
            FieldType::Float => FieldKind::Float,
            FieldType::Bool => FieldKind::Bool,
            FieldType::Datetime => FieldKind::Datetime,
            FieldType::Text => FieldKind::Text,
        };
        let payload = schema.payload.iter().map(|field| (field.name.clone(), kind(field.field_type)));
        Ok(Target {
            spaces: schema.vectors.iter().map(space).collect(),
            payload: payload.collect(),
            dynamic_payload: schema.dynamic_payload,
        })
    }

    async fn document(&self, collection: &str, id: &str) -> Result<Option<DocumentEntry>> {
        Ok(self.collection(collection)?.document(id).map(entry))
    }

    async fn documents_of_source(&self, collection: &str, source_id: &str) -> Result<Vec<DocumentEntry>> {
        let source_id = source_id.to_owned();
        let job =
            move |c: &Collection| Ok(c.documents_of_source(&source_id).into_iter().map(entry).collect());
        self.read(collection, job).await
    }

    async fn document_vectors(
        &self,
        collection: &str,
        id: &str,
    ) -> Result<HashMap<(String, String), Vec<f32>>> {
        // Those of a linked document are its holder's.
        let stored = self.collection(collection)?.document(id);
        let id = stored.as_ref().and_then(|stored| stored.linked_to()).unwrap_or(id).to_owned();
        let job = move |c: &Collection| Ok(vectors_by_key(&c.schema(), &c.document_points(&id)?));
        self.read(collection, job).await
    }

    async fn put_document(
        &self,
        collection: &str,
        entry: DocumentEntry,
        points: Option<RecordBatch>,
    ) -> Result<u64> {
        self.put(collection, entry, points, None).await
    }

    async fn put_document_with_note(
        &self,
        collection: &str,
        entry: DocumentEntry,
        points: RecordBatch,
        note: Vec<u8>,
    ) -> Result<u64> {
        self.put(collection, entry, Some(points), Some(note)).await
    }

    async fn document_notes(&self, collection: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let of_document =
            |(key, note): (String, Vec<u8>)| Some((key.strip_prefix(DOCUMENT_NOTE_PREFIX)?.to_owned(), note));
        let job = move |c: &Collection| {
            Ok(c.ledger_prefix(DOCUMENT_NOTE_PREFIX).into_iter().filter_map(of_document).collect())
        };
        self.read(collection, job).await
    }

    async fn rename_document(&self, collection: &str, from: &str, entry: DocumentEntry) -> Result<bool> {
        let old = from.to_owned();
        let collection_now = self.collection(collection)?;
        if collection_now.document(from).is_none() {
            return Ok(false);
        }
        let record = record(entry);
        let job = {
            let record = record.clone();
            move |c: &Collection| renamed(&c.document_points(&old)?, &record)
        };
        let points = self.read(collection, job).await?;
        let points = Some(points).filter(|points| points.num_rows() > 0);
        let note = collection_now.note(from);
        let mut changes = Vec::with_capacity(3);
        if record.id != from {
            changes.push(Change::DeleteDocuments(vec![from.to_owned()]));
        }
        let remember = note.map(|value| Change::PutLedger { key: note_key(&record.id), value });
        changes.push(Change::PutDocument { document: record, points });
        changes.extend(remember);
        self.change(collection, changes).await?;
        Ok(true)
    }

    async fn touch_document(&self, collection: &str, entry: DocumentEntry) -> Result<()> {
        let stored = self.collection(collection)?.document(&entry.id);
        let worth_it = stored
            .is_some_and(|stored| stored.source_id != entry.source_id || stored.chunks <= MAX_TOUCHED_CHUNKS);
        if worth_it {
            let id = entry.id.clone();
            self.rename_document(collection, &id, entry).await?;
        }
        Ok(())
    }

    async fn link_document(
        &self,
        collection: &str,
        entry: DocumentEntry,
    ) -> Result<Option<(u64, DocumentEntry)>> {
        let (open, document) = (self.collection(collection)?, record(entry));
        // A write that would be refused is not begun; it may be refused nevertheless.
        if !document.content().is_some_and(|content| open.holds_content(content, &document.id)) {
            return Ok(None);
        }
        let id = document.id.clone();
        let changes = vec![Change::PutDocument { document, points: None }];
        let job = move || {
            let request = WriteRequest { changes, skip_bad_rows: false };
            match open.write(request) {
                Ok(receipt) => Ok(open.document(&id).map(|stored| (receipt.seq_no, self::entry(stored)))),
                Err(ragstone_index::Error::FailedPrecondition(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        self.workers.write.run(job).await.map_err(pipeline_error)
    }

    async fn put_retries(&self, collection: &str, retries: Vec<(String, Retry)>) -> Result<()> {
        let put = |(id, retry): (String, Retry)| {
            let value = serde_json::to_vec(&StoredRetry::V1(retry)).map_err(|error| {
                Error::new(ErrorKind::Internal, format!("the next try of a document as JSON: {error}"))
            })?;
            Ok(Change::PutLedger { key: retry_key(&id), value })
        };
        let changes: Vec<Change> = retries.into_iter().map(put).collect::<Result<_>>()?;
        if changes.is_empty() {
            return Ok(());
        }
        self.change(collection, changes).await.map(drop)
    }

    async fn retries(&self, collection: &str, prefix: &str) -> Result<Vec<(String, Retry)>> {
        let prefix = retry_key(prefix);
        let of_document = |(key, value): (String, Vec<u8>)| {
            let id = key.strip_prefix(DOCUMENT_RETRY_PREFIX)?.to_owned();
            match serde_json::from_slice(&value) {
                Ok(StoredRetry::V1(retry)) => Some((id, retry)),
                Err(error) => {
                    // It is tried at once, then.
                    tracing::warn!(document = id, %error, "can't read when a document is tried again");
                    None
                }
            }
        };
        let job =
            move |c: &Collection| Ok(c.ledger_prefix(&prefix).into_iter().filter_map(of_document).collect());
        self.read(collection, job).await
    }

    async fn forget_retries(&self, collection: &str, ids: Vec<String>) -> Result<()> {
        let open = self.collection(collection)?;
        let keys = ids.iter().map(|id| retry_key(id)).filter(|key| open.ledger(key).is_some());
        let changes: Vec<Change> = keys.map(|key| Change::DeleteLedger { key }).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.change(collection, changes).await.map(drop)
    }

    async fn delete_documents(&self, collection: &str, ids: Vec<String>) -> Result<u64> {
        let collection = self.collection(collection)?;
        let delete = move || Ok(delete_documents(&collection, ids)?);
        self.workers.write.run(delete).await.map(|receipt| receipt.seq_no).map_err(pipeline_error)
    }

    async fn write_rows(
        &self,
        collection: &str,
        rows: RecordBatch,
        checkpoint: Option<(String, Vec<u8>)>,
        strict: bool,
    ) -> Result<RowsWritten> {
        let mut changes = Vec::with_capacity(2);
        if rows.num_rows() > 0 {
            changes.push(Change::UpsertPoints(rows));
        }
        changes.extend(checkpoint.map(|(key, value)| Change::PutLedger { key, value }));
        let receipt = self.write(collection, WriteRequest { changes, skip_bad_rows: !strict }).await?;
        let rejected = receipt.rejected.into_iter();
        let rejected = rejected.map(|r| RejectedRow { row: r.row, column: r.column, message: r.message });
        Ok(RowsWritten { seq_no: receipt.seq_no, upserted: receipt.upserted, rejected: rejected.collect() })
    }

    async fn checkpoint(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.collection(collection)?.ledger(key))
    }
}

/// Deletes documents: in one write, or, where more points than fit one go over to documents that are linked to these, in
/// several.
pub(super) fn delete_documents(
    collection: &Collection,
    mut ids: Vec<String>,
) -> ragstone_index::Result<WriteReceipt> {
    let delete = |ids: Vec<String>| {
        collection.write(WriteRequest { changes: vec![Change::DeleteDocuments(ids)], skip_bad_rows: false })
    };
    let links =
        ids.len() > 1 && collection.copies(ids.iter().map(String::as_str), 0).iter().any(|c| c.total > 0);
    if !links {
        return delete(ids);
    }
    match delete(ids.clone()) {
        Err(ragstone_index::Error::LimitExceeded { .. }) => {
            let rest = ids.split_off(ids.len() / 2);
            let first = delete_documents(collection, ids)?;
            let second = delete_documents(collection, rest)?;
            Ok(WriteReceipt {
                deleted_documents: first.deleted_documents + second.deleted_documents,
                deleted_points: first.deleted_points + second.deleted_points,
                ..second
            })
        }
        outcome => outcome,
    }
}

/// An error of the application as one of the pipeline.
pub fn pipeline_error(error: AppError) -> Error {
    use ragstone_index::ErrorKind as Engine;
    let kind = match &error {
        AppError::Pipeline(error) => return error.clone(),
        AppError::Engine(error) => match error.kind() {
            Engine::InvalidArgument => ErrorKind::InvalidArgument,
            Engine::NotFound => ErrorKind::NotFound,
            Engine::AlreadyExists | Engine::FailedPrecondition => ErrorKind::FailedPrecondition,
            Engine::ResourceExhausted => ErrorKind::ResourceExhausted,
            Engine::DeadlineExceeded | Engine::Unavailable => ErrorKind::Unavailable,
            Engine::Corruption | Engine::Internal => ErrorKind::Internal,
        },
        AppError::NoCollection(_) => ErrorKind::NotFound,
        AppError::BadRequest(_) => ErrorKind::InvalidArgument,
        AppError::Busy { .. } => ErrorKind::ResourceExhausted,
        AppError::DeadlineExceeded(_) => ErrorKind::Unavailable,
        AppError::ShuttingDown | AppError::Cancelled => ErrorKind::Cancelled,
        AppError::Panicked => ErrorKind::Internal,
    };
    let field = error.violations().into_iter().next().map(|violation| violation.field);
    let message = match &error {
        AppError::Engine(ragstone_index::Error::InvalidArgument { message, .. }) => message.clone(),
        other => other.to_string(),
    };
    match field {
        Some(field) => Error::new(kind, message).at(field),
        None => Error::new(kind, message),
    }
}

/// An entry as the engine keeps it.
pub fn record(entry: DocumentEntry) -> DocumentRecord {
    let state = match entry.state {
        EntryState::Indexed => DocumentState::Indexed,
        EntryState::Failed { reason } => DocumentState::Failed { reason },
        EntryState::Skipped { reason } => DocumentState::Skipped { reason },
        EntryState::Linked { to, payload_patch } => DocumentState::Linked { to, payload_patch },
    };
    DocumentRecord {
        id: entry.id,
        uri: entry.uri,
        title: entry.title,
        media_type: entry.media_type,
        version: entry.version,
        size_bytes: entry.size_bytes,
        modified_ns: entry.modified_ns,
        chunks: entry.chunks,
        state,
        indexed_at_us: chrono::Utc::now().timestamp_micros(),
        source_id: entry.source_id,
    }
}

/// A record as the pipeline knows it.
pub fn entry(record: DocumentRecord) -> DocumentEntry {
    let state = match record.state {
        DocumentState::Indexed => EntryState::Indexed,
        DocumentState::Failed { reason } => EntryState::Failed { reason },
        DocumentState::Skipped { reason } => EntryState::Skipped { reason },
        DocumentState::Linked { to, payload_patch } => EntryState::Linked { to, payload_patch },
    };
    DocumentEntry {
        id: record.id,
        uri: record.uri,
        title: record.title,
        media_type: record.media_type,
        version: record.version,
        size_bytes: record.size_bytes,
        modified_ns: record.modified_ns,
        chunks: record.chunks,
        state,
        source_id: record.source_id,
    }
}

/// The vectors of a document's points by space and the hash of what was embedded.
fn vectors_by_key(schema: &CollectionSchema, points: &RecordBatch) -> HashMap<(String, String), Vec<f32>> {
    let mut vectors = HashMap::new();
    let strings = |name: &str| points.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let (texts, titles) = (strings(batch::TEXT), strings(batch::TITLE));
    let headings = points.column_by_name(batch::HEADING_PATH).and_then(|column| column.as_list_opt::<i32>());
    let embedded = |row: usize| {
        let text = |column: Option<&StringArray>| {
            column
                .filter(|column| column.is_valid(row))
                .map_or(String::new(), |column| column.value(row).to_owned())
        };
        let path: Vec<String> = headings
            .filter(|headings| headings.is_valid(row))
            .map(|headings| headings.value(row))
            .and_then(|path| Some(path.as_string_opt::<i32>()?.iter().flatten().map(str::to_owned).collect()))
            .unwrap_or_default();
        embedding_text(&text(titles), &path, &text(texts))
    };
    for row in 0..points.num_rows() {
        let embedded = embedded(row);
        for space in &schema.vectors {
            let Some(embedder) = &space.embedder else { continue };
            let column = points.column_by_name(&batch::vector_column(&space.name));
            let Some(list) = column.and_then(|column| column.as_fixed_size_list_opt()) else { continue };
            if list.is_null(row) {
                continue;
            }
            if let Some(values) = list.value(row).as_primitive_opt::<Float32Type>() {
                let key = chunk_key(&embedder.fingerprint, &embedded);
                vectors.insert((space.name.clone(), key), values.values().to_vec());
            }
        }
    }
    vectors
}

/// A document's points with their expiry in the column for it; it is the same for all of them.
fn with_expiry(points: RecordBatch) -> ragstone_index::Result<RecordBatch> {
    let payloads = points.column_by_name(batch::PAYLOAD).and_then(|column| column.as_string_opt::<i32>());
    let first = payloads.and_then(|payloads| payloads.iter().next().flatten());
    let Some(first) = first.filter(|payload| payload.contains(EXPIRES_AT_FIELD)) else { return Ok(points) };
    let mut payload: serde_json::Map<String, serde_json::Value> = serde_json::from_str(first)
        .map_err(|error| ragstone_index::Error::Internal(format!("the payload of a document: {error}")))?;
    let Some(expires_at) = payload.get(EXPIRES_AT_FIELD).and_then(serde_json::Value::as_i64) else {
        return Ok(points);
    };
    payload.remove(EXPIRES_AT_FIELD);
    let rows = points.num_rows();
    let stripped = serde_json::Value::Object(payload).to_string();
    let strip = |payload: &str| -> String {
        if payload == first {
            return stripped.clone();
        }
        let mut other: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(payload).unwrap_or_default();
        other.remove(EXPIRES_AT_FIELD);
        serde_json::Value::Object(other).to_string()
    };
    let payloads: StringArray = payloads.into_iter().flatten().map(|payload| payload.map(&strip)).collect();
    let times = Int64Array::from(vec![expires_at; rows]);
    put_column(&points, batch::PAYLOAD, Arc::new(payloads))
        .and_then(|points| put_column(&points, batch::EXPIRES_AT, Arc::new(times)))
        .map_err(|error| {
            ragstone_index::Error::Internal(format!("points of a document that expires: {error}"))
        })
}

/// A document's points under another record: id, address and title follow it.
fn renamed(points: &RecordBatch, to: &DocumentRecord) -> ragstone_index::Result<RecordBatch> {
    let rows = points.num_rows();
    let chunks = points.column_by_name(batch::CHUNK_INDEX).and_then(|c| c.as_primitive_opt::<UInt32Type>());
    let number = |row: usize| match chunks.filter(|chunks| chunks.is_valid(row)) {
        Some(chunks) => chunks.value(row) as usize,
        None => row,
    };
    let ids: StringArray = (0..rows).map(|row| Some(format!("{}#{}", to.id, number(row)))).collect();
    let same = |text: &str| -> ArrayRef {
        let value = Some(text).filter(|text| !text.is_empty());
        Arc::new((0..rows).map(|_| value).collect::<StringArray>())
    };
    let columns: [(&str, ArrayRef); 3] =
        [(batch::ID, Arc::new(ids)), (batch::DOCUMENT_ID, same(&to.id)), (batch::URI, same(&to.uri))];
    columns
        .into_iter()
        .try_fold(points.clone(), |points, (name, column)| put_column(&points, name, column))
        .map_err(|error| ragstone_index::Error::Internal(format!("points of a renamed document: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use arrow::array::{FixedSizeListArray, UInt32Array};
    use ragstone_index::schema::{Distance, EmbedderRef, VectorSpace};

    fn entry_of(id: &str) -> DocumentEntry {
        DocumentEntry {
            id: id.into(),
            uri: format!("file:///{id}"),
            title: "T".into(),
            media_type: "text/plain".into(),
            version: "v".into(),
            size_bytes: 3,
            modified_ns: Some(-5),
            chunks: 2,
            state: EntryState::Failed { reason: "no text".into() },
            source_id: "s".into(),
        }
    }

    fn points() -> RecordBatch {
        let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some(vec![Some(1.0), Some(0.0)]), None],
            2,
        );
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(StringArray::from(vec!["old#4", "old#7"])) as ArrayRef, false),
            ("document_id", Arc::new(StringArray::from(vec!["old", "old"])) as ArrayRef, true),
            ("text", Arc::new(StringArray::from(vec!["one", "two"])) as ArrayRef, true),
            ("title", Arc::new(StringArray::from(vec!["T", "T"])) as ArrayRef, true),
            ("chunk_index", Arc::new(UInt32Array::from(vec![4, 7])) as ArrayRef, true),
            ("vector:text", Arc::new(vectors) as ArrayRef, true),
        ])
        .unwrap()
    }

    #[test]
    fn entries_and_records_say_the_same() {
        assert_eq!(entry(record(entry_of("a"))), entry_of("a"));
    }

    #[tokio::test]
    async fn next_tries_are_kept_until_their_document_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path(), Default::default()).unwrap());
        let schema = CollectionSchema {
            vectors: vec![VectorSpace::new("text", 2, Distance::Cosine)],
            payload: Vec::new(),
            dynamic_payload: true,
            description: String::new(),
        };
        store.create_collection("c", schema).unwrap();
        let sink = EngineSink::new(Arc::clone(&store), Workers::new(&tokio::runtime::Handle::current()));
        let retry = |tries| Retry {
            reason: "away".into(),
            tries,
            due_ms: 1_700_000_000_000,
            size_bytes: 3,
            modified_ns: -5,
        };
        let all = [("/a/x", 1), ("/a/y", 2), ("/b/z", 3)].map(|(id, tries)| (id.to_owned(), retry(tries)));
        sink.put_retries("c", all.to_vec()).await.unwrap();
        assert_eq!(sink.retries("c", "/a/").await.unwrap(), all[..2]);
        sink.put_document("c", entry_of("/a/x"), None).await.unwrap();
        assert_eq!(sink.retries("c", "/").await.unwrap(), all[1..]);
        let before = store.collection("c").unwrap().stats().seq_no;
        sink.forget_retries("c", vec!["/a/x".into(), "unknown".into()]).await.unwrap();
        assert_eq!(
            store.collection("c").unwrap().stats().seq_no,
            before,
            "nothing to forget, nothing is written"
        );
        sink.forget_retries("c", vec!["/a/y".into()]).await.unwrap();
        assert_eq!(sink.retries("c", "").await.unwrap(), all[2..]);
        // One that can't be read is tried at once.
        let bad = Change::PutLedger { key: retry_key("/b/z"), value: b"{}".to_vec() };
        sink.change("c", vec![bad]).await.unwrap();
        assert_eq!(sink.retries("c", "").await.unwrap(), []);
    }

    #[test]
    fn the_stored_form_of_a_next_try_stays_readable() {
        let text = r#"{"version":"1","reason":"away","tries":2,"due_ms":7,"size_bytes":3,"modified_ns":-5}"#;
        let StoredRetry::V1(retry) = serde_json::from_str(text).unwrap();
        assert_eq!((retry.reason.as_str(), retry.tries, retry.due_ms), ("away", 2, 7));
        assert_eq!(serde_json::to_string(&StoredRetry::V1(retry)).unwrap(), text);
    }

    #[test]
    fn a_renamed_document_keeps_text_and_vectors() {
        let renamed = renamed(&points(), &record(entry_of("new"))).unwrap();
        let texts = |name: &str| -> Vec<String> {
            let column = renamed.column_by_name(name).unwrap().as_string::<i32>().clone();
            column.iter().map(|text| text.unwrap_or("").to_owned()).collect()
        };
        assert_eq!(texts("id"), ["new#4", "new#7"]);
        assert_eq!(texts("document_id"), ["new", "new"]);
        assert_eq!(texts("uri"), ["file:///new", "file:///new"]);
        assert_eq!(texts("text"), ["one", "two"]);
        assert!(renamed.column_by_name("vector:text").unwrap().is_valid(0));
    }

    #[test]
    fn vectors_are_found_by_what_was_embedded() {
        let space = VectorSpace {
            embedder: Some(EmbedderRef { name: "e".into(), fingerprint: "print".into() }),
            ..VectorSpace::new("text", 2, Distance::Cosine)
        };
        let schema = CollectionSchema {
            vectors: vec![space],
            payload: Vec::new(),
            dynamic_payload: true,
            description: String::new(),
        };
        let vectors = vectors_by_key(&schema, &points());
        let key = chunk_key("print", &embedding_text("T", &[], "one"));
        assert_eq!(vectors, HashMap::from([(("text".to_owned(), key), vec![1.0, 0.0])]));
    }

    #[test]
    fn kinds_survive_the_border() {
        let check = |error: ragstone_index::Error, kind: ErrorKind| {
            assert_eq!(pipeline_error(error.into()).kind(), kind)
        };
        check(ragstone_index::Error::invalid("text", "x"), ErrorKind::InvalidArgument);
        check(ragstone_index::Error::LogFailed("x".into()), ErrorKind::Unavailable);
        check(ragstone_index::Error::Internal("x".into()), ErrorKind::Internal);
        let invalid = pipeline_error(ragstone_index::Error::invalid("text", "x").into());
        assert_eq!((invalid.field(), invalid.message()), (Some("text"), "x"));
    }
}
