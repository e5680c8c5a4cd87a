//! The Arrow schema of a batch of points: the contract between whoever makes points and the engine.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `id` | Utf8, not null | point id, 1 to 1,024 bytes |
//! | `document_id` | Utf8 | document the point is a chunk of |
//! | `text` | Utf8 | what the keyword index reads |
//! | `payload` | Utf8 | a JSON object |
//! | `uri`, `title`, `media_type` | Utf8 | origin |
//! | `page`, `chunk_index` | UInt32 | origin: page from 1, chunk from 0 |
//! | `heading_path` | `List<Utf8>` | headings above the chunk, outermost first |
//! | `span_start`, `span_end` | UInt64 | bytes in the document's extracted text |
//! | `part` | Utf8 | part of the document: member of an archive, attachment, chapter, sheet |
//! | `parent` | UInt32 | which larger chunk of the document this one is a part of, from 0 |
//! | `expires_at` | `Timestamp(ms, UTC)` | from when on the point is no more |
//! | `vector:NAME` | `FixedSizeList<Float32, dimension>` | one per vector space |
//! | `also_at` | Utf8 | only in exports and writes: documents that are linked to the row's, see `collection::also_at` |
//!
//! Only `id` must be there; a column that is missing is a column of nulls. Unknown columns are an error that names
//! them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::schema::CollectionSchema;

/// Column of the point id.
pub const ID: &str = "id";
/// Column of the document id.
pub const DOCUMENT_ID: &str = "document_id";
/// Column of the text.
pub const TEXT: &str = "text";
/// Column of the payload, a JSON object.
pub const PAYLOAD: &str = "payload";
/// Column of the source address.
pub const URI: &str = "uri";
/// Column of the document title.
pub const TITLE: &str = "title";
/// Column of the media type.
pub const MEDIA_TYPE: &str = "media_type";
/// Column of the page, from 1.
pub const PAGE: &str = "page";
/// Column of the position in the document, from 0.
pub const CHUNK_INDEX: &str = "chunk_index";
/// Column of the headings above the chunk.
pub const HEADING_PATH: &str = "heading_path";
/// Column of the first byte of the chunk in the extracted text.
pub const SPAN_START: &str = "span_start";
/// Column of the byte behind the chunk in the extracted text.
pub const SPAN_END: &str = "span_end";
/// Column of the part of the document.
pub const PART: &str = "part";
/// Column of the larger chunk that a chunk is a part of.
pub const PARENT: &str = "parent";
/// Column of the moment from which on the point is no more.
pub const EXPIRES_AT: &str = "expires_at";
/// Column of the documents that are linked to that of a row: JSON. It is no column of stored rows: exports have it where there
/// are such documents, and a write takes it.
pub const ALSO_AT: &str = "also_at";
/// Prefix of the vector columns.
pub const VECTOR_PREFIX: &str = "vector:";

/// Columns before the vector columns.
pub const FIXED_COLUMNS: usize = 15;
/// Longest point id, in bytes.
pub const MAX_ID_BYTES: usize = 1_024;
/// Longest document id, in bytes: its chunks' point ids add `#` and a number.
pub const MAX_DOCUMENT_ID_BYTES: usize = 1_000;
/// Longest text of a point, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Longest payload of a point, as JSON, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Longest uri, title or media type, in bytes.
pub const MAX_ORIGIN_BYTES: usize = 8_192;
/// Most rows of one write.
pub const MAX_BATCH_ROWS: usize = 65_536;
/// Most bytes of one write, as Arrow buffers.
pub const MAX_BATCH_BYTES: usize = 256 << 20;

/// Name of the column of a vector space.
pub fn vector_column(space: &str) -> String {
    format!("{VECTOR_PREFIX}{space}")
}

/// The full Arrow schema of a collection's points, all columns in the order of the table above.
pub fn arrow_schema(schema: &CollectionSchema) -> SchemaRef {
    let mut fields = fixed_fields();
    for space in &schema.vectors {
        fields.push(Field::new(vector_column(&space.name), vector_type(space.dimension), true));
    }
    Arc::new(Schema::new(fields))
}

/// The columns before the vector columns.
fn fixed_fields() -> Vec<Field> {
    let utf8 = |name: &str| Field::new(name, DataType::Utf8, true);
    vec![
        Field::new(ID, DataType::Utf8, false),
        utf8(DOCUMENT_ID),
        utf8(TEXT),
        utf8(PAYLOAD),
        utf8(URI),
        utf8(TITLE),
        utf8(MEDIA_TYPE),
        Field::new(PAGE, DataType::UInt32, true),
        Field::new(CHUNK_INDEX, DataType::UInt32, true),
        Field::new(HEADING_PATH, heading_path_type(), true),
        Field::new(SPAN_START, DataType::UInt64, true),
        Field::new(SPAN_END, DataType::UInt64, true),
        utf8(PART),
        Field::new(PARENT, DataType::UInt32, true),
        Field::new(EXPIRES_AT, expires_at_type(), true),
    ]
}

/// The column of links, beside those of stored rows.
pub fn also_at_field() -> Field {
    Field::new(ALSO_AT, DataType::Utf8, true)
}

/// A stored batch with all columns of today: those that were added since it was written are null.
///
/// # Errors
/// Arrow's, which would be a defect.
pub(crate) fn completed(stored: RecordBatch) -> Result<RecordBatch, ArrowError> {
    if [PART, PARENT, EXPIRES_AT].iter().all(|name| stored.column_by_name(name).is_some()) {
        return Ok(stored);
    }
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for field in fixed_fields() {
        match stored.column_by_name(field.name()) {
            Some(column) => columns.push(Arc::clone(column)),
            None if field.is_nullable() => columns.push(new_null_array(field.data_type(), stored.num_rows())),
            // Whoever reads the batch misses it by name.
            None => continue,
        }
        fields.push(field);
    }
    for (field, column) in stored.schema().fields().iter().zip(stored.columns()) {
        if field.name().starts_with(VECTOR_PREFIX) {
            fields.push(field.as_ref().clone());
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Type of `heading_path`.
pub fn heading_path_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

/// Type of `expires_at`.
pub fn expires_at_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Type of a vector column.
pub fn vector_type(dimension: u32) -> DataType {
    // The dimension was checked against MAX_DIMENSION, which fits.
    DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), dimension as i32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn a_batch_of_older_columns_is_completed() {
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = fixed_fields()
            .into_iter()
            .take(12)
            .map(|field| {
                let column = arrow::array::new_empty_array(field.data_type());
                (field, column)
            })
            .unzip();
        let old = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let new = completed(old).unwrap();
        let names: Vec<_> = new.schema().fields().iter().map(|field| field.name().clone()).collect();
        let expect: Vec<_> = fixed_fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, expect);
        assert_eq!(names.len(), FIXED_COLUMNS);
        assert_eq!(completed(new.clone()).unwrap(), new);
    }
}
