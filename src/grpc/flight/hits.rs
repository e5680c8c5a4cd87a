//! The hits of a search as rows: the columns of points, and the scores behind the id.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListBuilder, Float32Array, Float32Builder, Int64Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType};
use ragstone_index::batch;
use ragstone_index::collection::Copies;
use ragstone_index::document::DocumentRecord;
use ragstone_index::search::Hit;
use serde_json::json;

use crate::app::error::{Error, Result};

/// What hits are sorted by.
const SCORE: &str = "_score";
/// Similarity in the vector leg.
const VECTOR_SCORE: &str = "_vector_score";
/// Score of the keyword leg.
const KEYWORD_SCORE: &str = "_keyword_score";

/// The columns of hits.
pub(super) fn schema(points: &Schema) -> Schema {
    let scores = [(SCORE, false), (VECTOR_SCORE, true), (KEYWORD_SCORE, true)];
    let scores = scores.map(|(name, null)| Arc::new(Field::new(name, DataType::Float32, null)));
    let mut fields: Vec<Arc<Field>> = points.fields().iter().cloned().collect();
    fields.splice(1..1, scores);
    Schema::new(fields)
}

/// The hits with the columns of `wanted`, which are some of [`schema`].
pub(super) fn rows(
    hits: &[Hit],
    copies: &HashMap<String, Copies>,
    wanted: &SchemaRef,
) -> Result<RecordBatch> {
    let defect = |error: arrow::error::ArrowError| {
        Error::from(ragstone_index::Error::Internal(format!("hits could not become rows: {error}")))
    };
    let columns = wanted.fields().iter().map(|field| match field.name().as_str() {
        batch::ALSO_AT => Ok(also_at(hits, copies)),
        _ => column(hits, field),
    });
    let columns = columns.collect::<Result<_>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(hits.len()));
    RecordBatch::try_new_with_options(Arc::clone(wanted), columns, &options).map_err(defect)
}

fn column(hits: &[Hit], field: &Field) -> Result<ArrayRef> {
    fn filled(text: &str) -> Option<&str> {
        Some(text).filter(|text| !text.is_empty())
    }
    let text = |read: fn(&Hit) -> Option<&str>| -> ArrayRef {
        Arc::new(hits.iter().map(read).collect::<StringArray>())
    };
    let score = |read: fn(&Hit) -> Option<f32>| -> ArrayRef {
        Arc::new(hits.iter().map(read).collect::<Float32Array>())
    };
    let number = |read: fn(&Hit) -> Option<u32>| -> ArrayRef {
        Arc::new(hits.iter().map(read).collect::<UInt32Array>())
    };
    let position = |read: fn(&Hit) -> Option<u64>| -> ArrayRef {
        Arc::new(hits.iter().map(read).collect::<UInt64Array>())
    };
    Ok(match field.name().as_str() {
        batch::ID => text(|hit| Some(&hit.point.id)),
        SCORE => score(|hit| Some(hit.score)),
        VECTOR_SCORE => score(|hit| hit.vector_score),
        KEYWORD_SCORE => score(|hit| hit.keyword_score),
        batch::DOCUMENT_ID => text(|hit| filled(&hit.point.origin.document_id)),
        batch::TEXT => text(|hit| filled(&hit.point.text)),
        batch::URI => text(|hit| filled(&hit.point.origin.uri)),
        batch::TITLE => text(|hit| filled(&hit.point.origin.title)),
        batch::MEDIA_TYPE => text(|hit| filled(&hit.point.origin.media_type)),
        batch::PART => text(|hit| filled(&hit.point.origin.part)),
        batch::PARENT => number(|hit| hit.point.origin.parent),
        batch::PAGE => number(|hit| hit.point.origin.page),
        batch::CHUNK_INDEX => number(|hit| hit.point.origin.chunk_index),
        batch::SPAN_START => position(|hit| hit.point.origin.span_start),
        batch::SPAN_END => position(|hit| hit.point.origin.span_end),
        batch::EXPIRES_AT => expiries(hits),
        batch::PAYLOAD => payloads(hits),
        batch::HEADING_PATH => heading_paths(hits),
        other => vectors(hits, other, field.data_type())?,
    })
}

/// The first documents that are linked to that of a hit, and how many there are.
fn also_at(hits: &[Hit], copies: &HashMap<String, Copies>) -> ArrayRef {
    let json = |hit: &Hit| {
        let copies = copies.get(&hit.point.origin.document_id)?;
        let place = |copy: &DocumentRecord| json!({"document_id": copy.id, "uri": copy.uri});
        let places: Vec<_> = copies.first.iter().map(place).collect();
        Some(json!({"also_at": places, "total": copies.total}).to_string())
    };
    Arc::new(hits.iter().map(json).collect::<StringArray>())
}

fn expiries(hits: &[Hit]) -> ArrayRef {
    let times: Int64Array = hits.iter().map(|hit| hit.point.expires_at_ms).collect();
    Arc::new(times.reinterpret_cast::<TimestampMillisecondType>().with_data_type(batch::expires_at_type()))
}

fn payloads(hits: &[Hit]) -> ArrayRef {
    let json = |hit: &Hit| {
        let payload = hit.point.payload.as_ref().filter(|payload| !payload.is_empty())?;
        serde_json::to_string(payload).ok()
    };
    Arc::new(hits.iter().map(json).collect::<StringArray>())
}

fn heading_paths(hits: &[Hit]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for hit in hits {
        hit.point.origin.heading_path.iter().for_each(|heading| lists.values().append_value(heading));
        lists.append(!hit.point.origin.heading_path.is_empty());
    }
    Arc::new(lists.finish())
}

fn vectors(hits: &[Hit], column: &str, data_type: &DataType) -> Result<ArrayRef> {
    let DataType::FixedSizeList(_, width) = data_type else {
        return Err(ragstone_index::Error::Internal(format!("column {column} is no column of hits")).into());
    };
    let space = column.strip_prefix(batch::VECTOR_PREFIX).unwrap_or(column);
    let mut lists = FixedSizeListBuilder::new(Float32Builder::new(), *width);
    for hit in hits {
        let vector = hit.point.vectors.iter().find(|(name, _)| name == space).map(|(_, vector)| vector);
        match vector.filter(|vector| vector.len() == *width as usize) {
            Some(vector) => lists.values().append_slice(vector),
            None => lists.values().append_value_n(0.0, *width as usize),
        }
        lists.append(vector.is_some_and(|vector| vector.len() == *width as usize));
    }
    Ok(Arc::new(lists.finish()))
}
