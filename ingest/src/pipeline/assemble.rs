//! Chunks and vectors to the Arrow batch that `docs/data-model.md` describes. Pure; it knows no sink.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};

use super::prepare::{CONTENT_FIELD, Prepared};
use super::vectors::SpaceVectors;
use crate::error::{Error, ErrorKind, Result};

/// Most bytes of the points of one document. Below the 256 MiB that the engine takes in one write.
pub const MAX_DOCUMENT_BATCH_BYTES: usize = 240 << 20;

/// Bytes of a row besides its strings and vectors: offsets, numbers, validity.
const ROW_OVERHEAD_BYTES: usize = 96;

/// What all rows of a document share.
#[derive(Debug, Clone)]
pub(crate) struct RowCommon {
    pub document_id: String,
    pub uri: String,
    /// A JSON object.
    pub payload: String,
}

/// Refuses a document whose points would be too large for one write, before anything is embedded.
///
/// # Errors
/// `ResourceExhausted` with the size.
pub(crate) fn check_size(common: &RowCommon, prepared: &Prepared, vector_bytes: usize) -> Result<()> {
    let strings = common.payload.len() + common.uri.len() + prepared.title.len() + prepared.media_type.len();
    let row = strings + 2 * common.document_id.len() + vector_bytes + ROW_OVERHEAD_BYTES;
    let own = |chunk: &crate::document::Chunk| {
        chunk.text.len()
            + chunk.part.len()
            + chunk.heading_path.iter().map(|heading| heading.len() + 4).sum::<usize>()
    };
    let total =
        prepared.chunks.iter().map(|chunk| row.saturating_add(own(chunk))).fold(0, usize::saturating_add);
    if total > MAX_DOCUMENT_BATCH_BYTES {
        let message = format!(
            "its {} chunks make {total} bytes with their metadata and vectors, over the limit of \
             {MAX_DOCUMENT_BATCH_BYTES}: split it",
            prepared.chunks.len()
        );
        return Err(Error::new(ErrorKind::ResourceExhausted, message).at(CONTENT_FIELD));
    }
    Ok(())
}

/// The points of a document, in chunk order, with a vector column for each of `spaces`.
pub(crate) fn assemble(
    common: &RowCommon,
    prepared: &Prepared,
    spaces: Vec<SpaceVectors>,
) -> Result<RecordBatch> {
    let rows = prepared.chunks.len();
    let chunks = || prepared.chunks.iter();
    let index = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);

    let ids = (0..rows).map(|i| Some(format!("{}#{i}", common.document_id)));
    let mut columns: Vec<(Field, ArrayRef)> = Vec::with_capacity(14 + spaces.len());
    let mut push = |name: &str, nullable: bool, array: ArrayRef| {
        columns.push((Field::new(name, array.data_type().clone(), nullable), array));
    };
    push("id", false, Arc::new(ids.collect::<StringArray>()));
    push("document_id", true, repeated(&common.document_id, rows));
    push("text", true, Arc::new(chunks().map(|chunk| Some(chunk.text.as_str())).collect::<StringArray>()));
    push("payload", true, repeated(&common.payload, rows));
    push("uri", true, repeated(&common.uri, rows));
    push("title", true, repeated(&prepared.title, rows));
    push("media_type", true, repeated(&prepared.media_type, rows));
    push("page", true, Arc::new(chunks().map(|chunk| chunk.page).collect::<UInt32Array>()));
    push("chunk_index", true, Arc::new((0..rows).map(|i| Some(index(i))).collect::<UInt32Array>()));
    push("heading_path", true, heading_paths(prepared));
    let starts = chunks().map(|chunk| Some(chunk.span.start as u64));
    push("span_start", true, Arc::new(starts.collect::<UInt64Array>()));
    let ends = chunks().map(|chunk| Some(chunk.span.end as u64));
    push("span_end", true, Arc::new(ends.collect::<UInt64Array>()));
    let parts = chunks().map(|chunk| Some(chunk.part.as_str()).filter(|part| !part.is_empty()));
    push("part", true, Arc::new(parts.collect::<StringArray>()));
    push("parent", true, Arc::new(chunks().map(|chunk| chunk.parent).collect::<UInt32Array>()));
    for space in spaces {
        push(&format!("vector:{}", space.space), true, vector_column(space)?);
    }

    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(defect)
}

/// A column with one value in all rows; an empty value is null.
fn repeated(value: &str, rows: usize) -> ArrayRef {
    let value = (!value.is_empty()).then_some(value);
    Arc::new(std::iter::repeat_n(value, rows).collect::<StringArray>())
}

fn heading_paths(prepared: &Prepared) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for chunk in &prepared.chunks {
        for heading in &chunk.heading_path {
            builder.values().append_value(heading);
        }
        builder.append(!chunk.heading_path.is_empty());
    }
    Arc::new(builder.finish())
}

fn vector_column(space: SpaceVectors) -> Result<ArrayRef> {
    let mut values = Vec::with_capacity(space.rows.len() * space.dimension as usize);
    for row in &space.rows {
        values.extend_from_slice(space.vectors.get(*row).map_or(&[][..], Vec::as_slice));
    }
    let dimension = i32::try_from(space.dimension).map_err(defect)?;
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let array = FixedSizeListArray::try_new(item, dimension, Arc::new(Float32Array::from(values)), None);
    Ok(Arc::new(array.map_err(defect)?))
}

fn defect(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("the batch of a document could not be made: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::document::{Chunk, Properties};

    fn common() -> RowCommon {
        RowCommon { document_id: "doc".into(), uri: String::new(), payload: r#"{"a":1}"#.into() }
    }

    fn prepared() -> Prepared {
        let chunk = |text: &str, heading: &[&str], page| Chunk {
            text: text.into(),
            span: 3..3 + text.len(),
            heading_path: heading.iter().map(|heading| (*heading).to_owned()).collect(),
            page,
            part: String::new(),
            parent: None,
        };
        let chunks =
            vec![chunk("one", &["A", "B"], Some(1)), chunk("two", &[], None), chunk("one", &["A"], Some(2))];
        let embedding_texts = chunks.iter().map(|chunk| chunk.text.clone()).collect();
        Prepared {
            title: "Title".into(),
            media_type: "text/plain".into(),
            chunks,
            embedding_texts,
            key_texts: None,
            properties: Properties::default(),
        }
    }

    #[test]
    fn rows_carry_their_origin_and_their_vectors() {
        let vectors = SpaceVectors {
            space: "text".into(),
            dimension: 2,
            rows: vec![0, 1, 0],
            vectors: vec![vec![1.0, 0.0], vec![0.0, 1.0]],
            embedded: 2,
        };
        let batch = assemble(&common(), &prepared(), vec![vectors]).unwrap();
        let strings = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let ids: Vec<_> = strings("id").iter().flatten().map(str::to_owned).collect();
        assert_eq!(ids, ["doc#0", "doc#1", "doc#2"]);
        assert_eq!(strings("uri").null_count(), 3);
        assert_eq!(strings("payload").value(2), r#"{"a":1}"#);
        let headings = batch.column_by_name("heading_path").unwrap().as_list::<i32>();
        assert!(headings.is_null(1));
        assert_eq!(headings.value(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["A", "B"]);
        let ends = batch.column_by_name("span_end").unwrap();
        assert_eq!(ends.as_primitive::<arrow::datatypes::UInt64Type>().value(0), 6);
        let vectors = batch.column_by_name("vector:text").unwrap().as_fixed_size_list();
        let row = vectors.value(2);
        assert_eq!(row.as_primitive::<arrow::datatypes::Float32Type>().values().as_ref(), [1.0, 0.0]);
        assert!(!batch.schema().field_with_name("id").unwrap().is_nullable());
    }

    #[test]
    fn metadata_that_multiplies_is_refused_before_it_does() {
        let big = RowCommon { payload: "x".repeat(MAX_DOCUMENT_BATCH_BYTES / 3), ..common() };
        assert!(check_size(&common(), &prepared(), 1_536).is_ok());
        let error = check_size(&big, &prepared(), 1_536).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(check_size(&common(), &prepared(), usize::MAX / 2).is_err());
    }

    #[test]
    fn a_wrong_vector_is_an_error_not_a_panic() {
        let (rows, vectors) = (vec![0, 0, 0], vec![vec![1.0]]);
        let vectors = SpaceVectors { space: "text".into(), dimension: 2, rows, vectors, embedded: 1 };
        assert_eq!(assemble(&common(), &prepared(), vec![vectors]).unwrap_err().kind(), ErrorKind::Internal);
    }
}
