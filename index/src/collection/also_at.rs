//! Links of documents beside exported rows, and back: the column `also_at`. It stands in the first row of a document that others
//! are linked to, as JSON that says all that is needed to link them again where the rows are written.
//!
//! **Invariant:** what is written so never replaces a record, and gives none to a document that has points of its own: the
//! records that are there know better.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::batch;
use crate::collection::export::defect;
use crate::collection::links::MAX_COPIES;
use crate::collection::state::Tables;
use crate::document::{CONTENT_DIGITS, DocumentRecord, DocumentState, VERSION_DIGITS};
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::write::RowError;

/// What the column holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version")]
enum AlsoAt {
    #[serde(rename = "1")]
    V1 {
        /// What is known of the document of the row.
        of: Known,
        /// The documents that are linked to it.
        also_at: Vec<Link>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Link {
    document_id: String,
    uri: String,
    payload_patch: String,
    #[serde(flatten)]
    known: Known,
}

/// What a record has and rows have not.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    /// Hash of content, metadata and pipeline version.
    hash: String,
    size_bytes: u64,
    modified_ns: Option<i64>,
    chunks: u32,
    indexed_at_us: i64,
}

impl Known {
    fn of(record: &DocumentRecord) -> Self {
        Self {
            hash: record.version.clone(),
            size_bytes: record.size_bytes,
            modified_ns: record.modified_ns,
            chunks: record.chunks,
            indexed_at_us: record.indexed_at_us,
        }
    }

    /// The source that brought it is another collection's.
    fn record(self, id: String, uri: String, state: DocumentState) -> DocumentRecord {
        DocumentRecord {
            id,
            uri,
            title: String::new(),
            media_type: String::new(),
            version: self.hash,
            size_bytes: self.size_bytes,
            modified_ns: self.modified_ns,
            chunks: self.chunks,
            state,
            indexed_at_us: self.indexed_at_us,
            source_id: String::new(),
        }
    }
}

/// A document that holds points, with those that are linked to it.
type Linked = (Arc<DocumentRecord>, Vec<Arc<DocumentRecord>>);

/// The links of a collection that are still to be exported, by the document that holds the points.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<String, Linked>);

impl Links {
    /// All of a ledger.
    pub(super) fn of(ledger: &Ledger) -> Self {
        let linked = ledger.all_copies().filter_map(|(id, copies)| {
            let holder = ledger.document(id)?;
            let copies = copies.filter_map(|id| ledger.document(id)).map(Arc::clone).collect();
            Some((id.to_owned(), (Arc::clone(holder), copies)))
        });
        Self(linked.collect())
    }

    /// The schema of rows with their links, where there are any.
    pub(super) fn schema(&self, rows: &SchemaRef) -> SchemaRef {
        if self.0.is_empty() { Arc::clone(rows) } else { schema(rows) }
    }

    /// Puts the column behind rows, as `schema` wants it.
    pub(super) fn add(&mut self, rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        if schema.fields().len() == rows.num_columns() {
            return Ok(rows.clone());
        }
        let ids = rows.column_by_name(batch::DOCUMENT_ID).and_then(|ids| ids.as_string_opt::<i32>());
        let ids = ids.ok_or_else(|| Error::Internal("exported rows have no documents".into()))?;
        let links: Vec<Option<String>> = ids
            .iter()
            .map(|id| id.and_then(|id| self.0.remove(id)).map(json).transpose())
            .collect::<Result<_>>()?;
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(StringArray::from(links)));
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(defect)
    }
}

/// The schema of rows with the column behind them.
pub(super) fn schema(rows: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = rows.fields().iter().cloned().collect();
    fields.push(Arc::new(batch::also_at_field()));
    Arc::new(Schema::new(fields))
}

fn json((holder, copies): Linked) -> Result<String> {
    let link = |copy: &Arc<DocumentRecord>| match &copy.state {
        DocumentState::Linked { payload_patch, .. } => Some(Link {
            document_id: copy.id.clone(),
            uri: copy.uri.clone(),
            payload_patch: payload_patch.clone(),
            known: Known::of(copy),
        }),
        _ => None,
    };
    let also_at: Vec<Link> = copies.iter().filter_map(link).collect();
    let mut of = Known::of(&holder);
    // A document whose present content could not be read still holds the content that the others are linked to.
    if holder.content().is_none()
        && let Some(content) = also_at.first().and_then(|link| link.known.hash.get(VERSION_DIGITS..))
    {
        of.hash = format!("{}{content}", "0".repeat(VERSION_DIGITS));
    }
    let also_at = AlsoAt::V1 { of, also_at };
    serde_json::to_string(&also_at).map_err(|error| Error::Internal(error.to_string()))
}

/// A document whose points are written, with the documents that are to be linked to it.
#[derive(Debug)]
pub(super) struct Adoption {
    holder: DocumentRecord,
    links: Vec<DocumentRecord>,
}

/// Rows without the column, and what stands in it. A row whose links can't be read is told and written without them.
pub(super) fn taken_out(
    rows: RecordBatch,
    change: usize,
) -> Result<(RecordBatch, Vec<Adoption>, Vec<RowError>)> {
    let Ok(place) = rows.schema().index_of(batch::ALSO_AT) else { return Ok((rows, Vec::new(), Vec::new())) };
    let text = |column: &ArrayRef, name: &str| -> Result<StringArray> {
        let texts = cast(column, &DataType::Utf8)
            .map_err(|error| Error::invalid(format!("points.{name}"), format!("expected text: {error}")))?;
        Ok(texts.as_string::<i32>().clone())
    };
    let named = |name: &str| rows.column_by_name(name).map(|column| text(column, name)).transpose();
    let links = text(rows.column(place), batch::ALSO_AT)?;
    let (ids, documents) = (named(batch::ID)?, named(batch::DOCUMENT_ID)?);
    let (uris, titles) = (named(batch::URI)?, named(batch::TITLE)?);
    let types = named(batch::MEDIA_TYPE)?;
    let at = |column: &Option<StringArray>, row: usize| -> String {
        let column = column.as_ref().filter(|column| column.is_valid(row));
        column.map(|column| column.value(row).to_owned()).unwrap_or_default()
    };
    let (mut adoptions, mut errors) = (Vec::new(), Vec::new());
    for (row, json) in links.iter().enumerate() {
        let Some(json) = json.filter(|json| !json.is_empty()) else { continue };
        match read(json, at(&documents, row), at(&uris, row)) {
            Ok(mut adoption) => {
                (adoption.holder.title, adoption.holder.media_type) = (at(&titles, row), at(&types, row));
                adoptions.push(adoption);
            }
            Err(message) => {
                let column = batch::ALSO_AT.to_owned();
                errors.push(RowError { change, row, id: at(&ids, row), column, message });
            }
        }
    }
    let rest: Vec<usize> = (0..rows.num_columns()).filter(|column| *column != place).collect();
    Ok((rows.project(&rest).map_err(defect)?, adoptions, errors))
}

fn read(json: &str, document_id: String, uri: String) -> Result<Adoption, String> {
    let AlsoAt::V1 { of, also_at } = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if also_at.len() > MAX_COPIES {
        return Err(format!("{} documents, at most {MAX_COPIES} can be linked to one", also_at.len()));
    }
    let holder = of.record(document_id, uri, DocumentState::Indexed);
    check(&holder)?;
    let content = holder.content();
    let link = |link: Link| {
        let Link { document_id, uri, payload_patch, known } = link;
        if payload_patch.len() > batch::MAX_PAYLOAD_BYTES {
            return Err(format!("a payload patch of {} bytes", payload_patch.len()));
        }
        let state = DocumentState::Linked { to: holder.id.clone(), payload_patch };
        let record = known.record(document_id, uri, state);
        check(&record)?;
        if record.content() != content || record.id == holder.id {
            return Err(format!("{:?} has not the content of this document", record.id));
        }
        Ok(record)
    };
    let links = also_at.into_iter().map(link).collect::<Result<_, String>>()?;
    Ok(Adoption { holder, links })
}

fn check(record: &DocumentRecord) -> Result<(), String> {
    let (id, uri) = (record.id.len(), record.uri.len());
    if !(1..=batch::MAX_DOCUMENT_ID_BYTES).contains(&id) || uri > batch::MAX_ORIGIN_BYTES {
        return Err(format!("a document id of {id} bytes, and an address of {uri}"));
    }
    let is_whole = record.version.len() == VERSION_DIGITS + CONTENT_DIGITS && record.content().is_some();
    if !is_whole || record.chunks == 0 {
        return Err(format!("nothing tells the content of {:?}", record.id));
    }
    Ok(())
}

/// The records that a write adds, as ledger and points are before it.
pub(super) fn records(adoptions: Vec<Adoption>, tables: &Tables, ledger: &Ledger) -> Vec<DocumentRecord> {
    let mut records = Vec::new();
    for Adoption { holder, links } in adoptions {
        let known = ledger.document(&holder.id);
        let holds = |known: &Arc<DocumentRecord>| {
            known.state == DocumentState::Indexed && known.chunks > 0 && known.content() == holder.content()
        };
        if !known.is_none_or(holds) {
            continue;
        }
        let room = MAX_COPIES.saturating_sub(ledger.copies_of(&holder.id).len());
        let is_new =
            |link: &DocumentRecord| ledger.document(&link.id).is_none() && tables.has_no_points(&link.id);
        let links: Vec<DocumentRecord> = links.into_iter().filter(is_new).take(room).collect();
        if known.is_none() && !links.is_empty() {
            records.push(holder);
        }
        records.extend(links);
    }
    records
}
