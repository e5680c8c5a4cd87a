//! What a log record of a collection says: the changes of one write, resolved, so that replaying them needs nothing else.
//!
//! Payload of a record: `u32` length of the head, the head (postcard, a versioned enum), then the batches of the head as
//! Arrow IPC streams, one behind the other. Schema changes come first in their record.
//!
//! Postcard knows a variant by its place and a struct by the order of its fields: variants are added at the end, and what
//! has been on a disk never changes. A schema, which grows, is written as JSON.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use crate::batch;
use crate::collection::old_schema::SchemaV1;
use crate::document::DocumentRecord;
use crate::error::{Error, Result};
use crate::schema::CollectionSchema;

#[derive(Debug, Serialize, Deserialize)]
enum Head {
    V1 { changes: Vec<HeadChange> },
}

#[derive(Debug, Serialize, Deserialize)]
enum HeadChange {
    /// Read, no longer written.
    SchemaV1(SchemaV1),
    Upsert {
        bytes: u64,
    },
    PutDocument {
        document: DocumentRecord,
        bytes: Option<u64>,
    },
    DeletePoints(Vec<String>),
    DeleteDocuments(Vec<String>),
    PutLedger {
        key: String,
        value: Vec<u8>,
    },
    DeleteLedger {
        key: String,
    },
    Schema {
        json: String,
    },
    PutRecords(Vec<DocumentRecord>),
}

/// A change as the log has it.
#[derive(Debug)]
pub(crate) enum Logged<B> {
    /// The schema from here on.
    Schema(CollectionSchema),
    /// Canonical rows.
    Upsert(B),
    /// A document with its canonical rows.
    PutDocument { document: DocumentRecord, points: Option<B> },
    /// Point ids.
    DeletePoints(Vec<String>),
    /// Document ids.
    DeleteDocuments(Vec<String>),
    /// A ledger entry.
    PutLedger { key: String, value: Vec<u8> },
    /// A ledger key.
    DeleteLedger { key: String },
    /// Records beside points that are there, or of documents without.
    PutRecords(Vec<DocumentRecord>),
}

/// Encodes a batch as an Arrow IPC stream.
pub(crate) fn encode_batch(batch: &RecordBatch) -> Result<Vec<u8>> {
    let arrow =
        |error: arrow::error::ArrowError| Error::Internal(format!("a batch could not be encoded: {error}"));
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(arrow)?;
    writer.write(batch).map_err(arrow)?;
    writer.into_inner().map_err(arrow)
}

/// Encodes the payload of a record.
pub(crate) fn encode(changes: &[Logged<&[u8]>]) -> Result<Vec<u8>> {
    let head = Head::V1 { changes: changes.iter().map(head_of).collect::<Result<_>>()? };
    let head = postcard::to_stdvec(&head).map_err(|error| Error::Internal(error.to_string()))?;
    let length = u32::try_from(head.len()).map_err(|_| Error::LimitExceeded {
        what: "bytes of ids and values in one write",
        value: head.len() as u64,
        limit: u64::from(u32::MAX),
    })?;
    let batches = || changes.iter().filter_map(batch_of);
    let mut payload = Vec::with_capacity(4 + head.len() + batches().map(<[u8]>::len).sum::<usize>());
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(&head);
    batches().for_each(|batch| payload.extend_from_slice(batch));
    Ok(payload)
}

fn head_of(change: &Logged<&[u8]>) -> Result<HeadChange> {
    Ok(match change {
        Logged::Schema(schema) => HeadChange::Schema {
            json: serde_json::to_string(schema).map_err(|error| Error::Internal(error.to_string()))?,
        },
        Logged::Upsert(batch) => HeadChange::Upsert { bytes: batch.len() as u64 },
        Logged::PutDocument { document, points } => HeadChange::PutDocument {
            document: document.clone(),
            bytes: points.map(|points| points.len() as u64),
        },
        Logged::DeletePoints(ids) => HeadChange::DeletePoints(ids.clone()),
        Logged::DeleteDocuments(ids) => HeadChange::DeleteDocuments(ids.clone()),
        Logged::PutLedger { key, value } => HeadChange::PutLedger { key: key.clone(), value: value.clone() },
        Logged::DeleteLedger { key } => HeadChange::DeleteLedger { key: key.clone() },
        Logged::PutRecords(records) => HeadChange::PutRecords(records.clone()),
    })
}

fn batch_of<'a>(change: &Logged<&'a [u8]>) -> Option<&'a [u8]> {
    match change {
        Logged::Upsert(batch) => Some(batch),
        Logged::PutDocument { points, .. } => *points,
        _ => None,
    }
}

/// Decodes the payload of a record. The record's checksum was right, so a failure here means another version or a defect.
pub(crate) fn decode(payload: &[u8]) -> Result<Vec<Logged<RecordBatch>>, String> {
    let (length, rest) = payload.split_first_chunk::<4>().ok_or("the record is shorter than its header")?;
    let length = u32::from_le_bytes(*length) as usize;
    let head = rest.get(..length).ok_or("the head of the record is cut off")?;
    let mut batches = rest.get(length..).unwrap_or_default();
    let Head::V1 { changes } = postcard::from_bytes(head).map_err(|error| error.to_string())?;
    let mut next_batch = |bytes: u64| -> Result<RecordBatch, String> {
        let bytes = usize::try_from(bytes).map_err(|error| error.to_string())?;
        let (batch, rest) = batches.split_at_checked(bytes).ok_or("a batch of the record is cut off")?;
        batches = rest;
        decode_batch(batch)
    };
    let mut decoded = Vec::with_capacity(changes.len());
    for change in changes {
        decoded.push(match change {
            HeadChange::SchemaV1(schema) => Logged::Schema(schema.into()),
            HeadChange::Schema { json } => {
                Logged::Schema(serde_json::from_str(&json).map_err(|error| error.to_string())?)
            }
            HeadChange::Upsert { bytes } => Logged::Upsert(next_batch(bytes)?),
            HeadChange::PutDocument { document, bytes } => {
                Logged::PutDocument { document, points: bytes.map(&mut next_batch).transpose()? }
            }
            HeadChange::DeletePoints(ids) => Logged::DeletePoints(ids),
            HeadChange::DeleteDocuments(ids) => Logged::DeleteDocuments(ids),
            HeadChange::PutLedger { key, value } => Logged::PutLedger { key, value },
            HeadChange::DeleteLedger { key } => Logged::DeleteLedger { key },
            HeadChange::PutRecords(records) => Logged::PutRecords(records),
        });
    }
    Ok(decoded)
}

fn decode_batch(bytes: &[u8]) -> Result<RecordBatch, String> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(|error| error.to_string())?;
    let stored = reader.next().ok_or("a batch of the record is empty")?.map_err(|error| error.to_string())?;
    // Records of older programs lack the columns that came since.
    if stored.column_by_name(batch::SPAN_END).is_none() {
        return Ok(stored);
    }
    batch::completed(stored).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::sync::Arc;

    use arrow::array::StringArray;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::schema::{Distance, EmbedderRef, FieldType, PayloadField, RecallTarget, VectorSpace};

    fn batch(ids: &[&str]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(ids.to_vec()))]).unwrap()
    }

    #[test]
    fn changes_come_back_as_they_went() {
        let (one, two) = (batch(&["a", "b"]), batch(&["c"]));
        let (one_bytes, two_bytes) = (encode_batch(&one).unwrap(), encode_batch(&two).unwrap());
        let payload = encode(&[
            Logged::Upsert(&one_bytes),
            Logged::DeletePoints(vec!["x".into()]),
            Logged::Upsert(&two_bytes),
            Logged::PutLedger { key: "k".into(), value: vec![0, 255] },
        ])
        .unwrap();
        let decoded = decode(&payload).unwrap();
        let [
            Logged::Upsert(first),
            Logged::DeletePoints(ids),
            Logged::Upsert(second),
            Logged::PutLedger { key, value },
        ] = decoded.as_slice()
        else {
            panic!("{decoded:?}");
        };
        assert_eq!((first, second), (&one, &two));
        assert_eq!(
            (ids.as_slice(), key.as_str(), value.as_slice()),
            (&["x".to_owned()][..], "k", &[0, 255][..])
        );
    }

    #[test]
    fn a_schema_comes_back_with_its_index_options() {
        let mut space = VectorSpace::new("text", 384, Distance::Dot);
        space.index.hnsw.m = 48;
        space.index.recall_target = RecallTarget::new(0.95, "").unwrap();
        let schema = CollectionSchema {
            vectors: vec![space],
            payload: vec![PayloadField { name: "year".into(), field_type: FieldType::Integer }],
            dynamic_payload: false,
            description: "d".into(),
        };
        let decoded = decode(&encode(&[Logged::Schema(schema.clone())]).unwrap()).unwrap();
        let [Logged::Schema(read)] = decoded.as_slice() else { panic!("{decoded:?}") };
        assert_eq!(*read, schema);
    }

    #[test]
    fn a_schema_of_the_first_release_is_read() {
        // Variant 0 of the head, one change, variant 0 of the changes; then the fields in their order.
        let mut head = vec![0, 1, 0];
        head.extend(b"\x01\x04text\x80\x03\x02\x01\x06minilm\x02fp");
        head.extend(b"\x01\x04year\x01\x01\x05notes");
        let mut payload = (head.len() as u32).to_le_bytes().to_vec();
        payload.extend(head);
        let decoded = decode(&payload).unwrap();
        let [Logged::Schema(read)] = decoded.as_slice() else { panic!("{decoded:?}") };
        let embedder = EmbedderRef { name: "minilm".into(), fingerprint: "fp".into() };
        let space =
            VectorSpace { embedder: Some(embedder), ..VectorSpace::new("text", 384, Distance::Euclidean) };
        let expected = CollectionSchema {
            vectors: vec![space],
            payload: vec![PayloadField { name: "year".into(), field_type: FieldType::Integer }],
            dynamic_payload: true,
            description: "notes".into(),
        };
        assert_eq!(*read, expected);
    }

    #[test]
    fn a_cut_record_is_an_error() {
        let bytes = encode_batch(&batch(&["a"])).unwrap();
        let payload = encode(&[Logged::Upsert(&bytes)]).unwrap();
        for cut in 0..payload.len() - 8 {
            assert!(decode(&payload[..cut]).is_err(), "cut {cut}");
        }
    }
}
