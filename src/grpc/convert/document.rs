//! Documents, sources and imports.

use std::sync::Arc;

use bytes::Bytes;
use ragstone_index::collection::Copies;
use ragstone_index::document::{DocumentRecord, DocumentState};
use ragstone_ingest::document::{
    Duplicates, EXPIRES_AT_FIELD, IngestOptions, Passwords, Progress, RawDocument, Resemblance, check_ttl,
};
use ragstone_ingest::pipeline::{Ingested, Outcome};
use ragstone_proto::v1;
use ragstone_proto::v1::ingest_document_request::Content;

use super::{chunk, payload, rfc3339};
use crate::app::error::{Error, Result};

/// Longest file name, title and address, in bytes.
const MAX_NAME_BYTES: usize = 8_192;

/// A document that a client sends.
pub fn raw(request: v1::IngestDocumentRequest) -> Result<RawDocument> {
    let names = [
        ("file_name", &request.file_name),
        ("media_type", &request.media_type),
        ("title", &request.title),
        ("uri", &request.uri),
    ];
    for (field, value) in names {
        if value.len() > MAX_NAME_BYTES {
            return Err(Error::invalid(
                field,
                format!("{} bytes are more than {MAX_NAME_BYTES}", value.len()),
            ));
        }
    }
    if request.document_id.is_empty() && request.uri.is_empty() && request.file_name.is_empty() {
        return Err(Error::invalid(
            "document_id",
            "is empty, and there is no uri or file_name to make it from",
        ));
    }
    let (data, is_text) = match request.content {
        Some(Content::Data(data)) => (data, false),
        Some(Content::Text(text)) => (Bytes::from(text), true),
        None => return Err(Error::invalid("content", "is missing: give data or text")),
    };
    let mut metadata =
        request.metadata.map(|m| payload::to_json(m, "metadata")).transpose()?.unwrap_or_default();
    if metadata.contains_key(EXPIRES_AT_FIELD) {
        return Err(Error::invalid("metadata", format!("{EXPIRES_AT_FIELD} is reserved; give ttl_seconds")));
    }
    if let Some(ttl) = request.ttl_seconds {
        check_ttl(ttl, "ttl_seconds")?;
        let expires_at = chrono::Utc::now().timestamp_millis().saturating_add_unsigned(ttl * 1_000);
        metadata.insert(EXPIRES_AT_FIELD.to_owned(), expires_at.into());
    }
    Ok(RawDocument {
        id: request.document_id,
        file_name: request.file_name,
        uri: request.uri,
        media_type: request.media_type,
        title: request.title,
        data,
        is_text,
        metadata,
        modified_ns: None,
        source_id: String::new(),
        options: Arc::new(IngestOptions {
            passwords: Passwords::new(request.passwords)?,
            path_fields: None,
            chunk: chunk::settings(request.chunk)?,
            duplicates: duplicates(request.duplicates)?,
            near_duplicates: request.near_duplicates,
            near_duplicate_threshold: request.near_duplicate_threshold.map(Resemblance::new).transpose()?,
            ttl_seconds: None,
        }),
        progress: Progress::default(),
    })
}

/// The reply for a document that was taken in.
pub fn ingested(ingested: Ingested, tag: u64) -> v1::IngestDocumentResponse {
    let outcome = match ingested.outcome {
        Outcome::Indexed => v1::DocumentOutcome::Indexed,
        Outcome::Unchanged => v1::DocumentOutcome::Unchanged,
        Outcome::Linked => v1::DocumentOutcome::Linked,
    };
    v1::IngestDocumentResponse {
        document_id: ingested.document_id,
        outcome: outcome.into(),
        seq_no: ingested.seq_no,
        chunks: ingested.chunks,
        error: String::new(),
        tag,
    }
}

/// The reply for a document of a stream that was not.
pub fn failed(document_id: String, error: &Error, tag: u64) -> v1::IngestDocumentResponse {
    let violation = error.violations().into_iter().next();
    let error = match violation {
        Some(violation) => format!("{}: {}", violation.field, violation.message),
        None => error.to_string(),
    };
    v1::IngestDocumentResponse {
        document_id,
        outcome: v1::DocumentOutcome::Failed.into(),
        seq_no: 0,
        chunks: 0,
        error,
        tag,
    }
}

/// What becomes of documents whose content is stored already; `None` where a request does not say.
pub fn duplicates(wire: i32) -> Result<Option<Duplicates>> {
    match v1::Duplicates::try_from(wire) {
        Ok(v1::Duplicates::Unspecified) => Ok(None),
        Ok(v1::Duplicates::Keep) => Ok(Some(Duplicates::Keep)),
        Ok(v1::Duplicates::Link) => Ok(Some(Duplicates::Link)),
        Err(_) => Err(Error::invalid("duplicates", format!("{wire} is not known here"))),
    }
}

/// The same on the wire.
pub fn duplicates_to_wire(duplicates: Option<Duplicates>) -> i32 {
    let duplicates = match duplicates {
        None => v1::Duplicates::Unspecified,
        Some(Duplicates::Keep) => v1::Duplicates::Keep,
        Some(Duplicates::Link) => v1::Duplicates::Link,
    };
    duplicates.into()
}

/// Where documents lie, and how many there are.
pub fn locations(copies: &Copies) -> (Vec<v1::Location>, u32) {
    let location =
        |record: &DocumentRecord| v1::Location { document_id: record.id.clone(), uri: record.uri.clone() };
    (copies.first.iter().map(location).collect(), u32::try_from(copies.total).unwrap_or(u32::MAX))
}

/// A document's record on the wire, without those that are linked to it.
pub fn document(record: DocumentRecord) -> v1::Document {
    let mut linked_to = String::new();
    let (state, error) = match record.state {
        DocumentState::Indexed => (v1::DocumentState::Indexed, String::new()),
        DocumentState::Failed { reason } | DocumentState::Skipped { reason } => {
            (v1::DocumentState::Failed, reason)
        }
        DocumentState::Linked { to, .. } => {
            linked_to = to;
            (v1::DocumentState::Linked, String::new())
        }
    };
    v1::Document {
        id: record.id,
        uri: record.uri,
        title: record.title,
        media_type: record.media_type,
        version: record.version,
        size_bytes: record.size_bytes,
        chunks: record.chunks,
        state: state.into(),
        error,
        indexed_at: rfc3339(record.indexed_at_us),
        source_id: record.source_id,
        linked_to,
        also_at: Vec::new(),
        also_at_total: 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn request() -> v1::IngestDocumentRequest {
        v1::IngestDocumentRequest {
            document_id: "d".into(),
            content: Some(Content::Text("words".into())),
            ..v1::IngestDocumentRequest::default()
        }
    }

    #[test]
    fn text_and_bytes() {
        let text = raw(request()).unwrap();
        assert!(text.is_text && text.data == "words" && text.id == "d");
        let data = Some(Content::Data(Bytes::from_static(b"%PDF-")));
        assert!(!raw(v1::IngestDocumentRequest { content: data, ..request() }).unwrap().is_text);
    }

    #[test]
    fn what_is_missing_or_too_long_is_named() {
        let check = |request: v1::IngestDocumentRequest, field: &str| {
            let message = raw(request).unwrap_err().to_string();
            assert!(message.starts_with(field), "{message}");
        };
        check(v1::IngestDocumentRequest { content: None, ..request() }, "content: is missing");
        check(v1::IngestDocumentRequest { document_id: String::new(), ..request() }, "document_id: is empty");
        check(v1::IngestDocumentRequest { title: "x".repeat(10_000), ..request() }, "title: ");
    }
}
