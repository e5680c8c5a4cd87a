//! Points as a client sends them -> one Arrow batch of the columns that the engine takes. A point that can't become a
//! row is set aside with the path of its field; the others go on.

use std::sync::Arc;

use arrow::array::builder::{ListBuilder, StringBuilder};
use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray, UInt32Array,
    UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Schema, TimestampMillisecondType};
use ragstone_index::batch;
use ragstone_index::schema::{CollectionSchema, VectorSpace};
use ragstone_proto::v1;

use super::{payload, vector};
use crate::app::embedding::check_vector_bytes;
use crate::app::error::{Error, Result};
use crate::app::points::{PointRows, RejectedRow};

/// Converts the points of a request. Rows refer to `points[i]` of it.
pub fn rows(points: Vec<v1::Point>, schema: &CollectionSchema) -> Result<PointRows> {
    if points.is_empty() {
        return Err(Error::invalid("points", "is empty: send at least one point"));
    }
    if points.len() > batch::MAX_BATCH_ROWS {
        let message =
            format!("{} points are more than {} in one request", points.len(), batch::MAX_BATCH_ROWS);
        return Err(Error::invalid("points", message));
    }
    let mut prepared = Vec::with_capacity(points.len());
    let mut rejected = Vec::new();
    for (row, point) in points.into_iter().enumerate() {
        let id = point.id.chars().take(batch::MAX_ID_BYTES).collect::<String>();
        match Row::prepare(point, row, schema) {
            Ok(ready) => prepared.push(ready),
            Err(error) => rejected.extend(error.violations().into_iter().take(1).map(|violation| {
                RejectedRow { row, id: id.clone(), field: violation.field, message: violation.message }
            })),
        }
    }
    let batch = assemble(&prepared, schema)?;
    Ok(PointRows { batch, request_rows: prepared.iter().map(|row| row.request_row).collect(), rejected })
}

/// A point whose form is right.
struct Row {
    request_row: usize,
    id: String,
    text: String,
    payload: Option<String>,
    origin: v1::Origin,
    expires_at_ms: Option<i64>,
    /// By position of the space in the schema.
    vectors: Vec<Option<Vec<f32>>>,
}

impl Row {
    fn prepare(point: v1::Point, row: usize, schema: &CollectionSchema) -> Result<Self> {
        let at = |field: &str| format!("points[{row}].{field}");
        let bounded = |length: usize, limit: usize, field: &str| match length > limit {
            true => Err(Error::invalid(at(field), format!("{length} bytes are more than {limit}"))),
            false => Ok(()),
        };
        if point.id.is_empty() {
            return Err(Error::invalid(at("id"), "is empty"));
        }
        bounded(point.id.len(), batch::MAX_ID_BYTES, "id")?;
        bounded(point.text.len(), batch::MAX_TEXT_BYTES, "text")?;
        let origin = point.origin.unwrap_or_default();
        bounded(origin.document_id.len(), batch::MAX_DOCUMENT_ID_BYTES, "origin.document_id")?;
        let mut vectors = vec![None; schema.vectors.len()];
        for (name, given) in &point.vectors {
            let at = format!("points[{row}].vectors[\"{name}\"]");
            let (i, space) = find_space(schema, name).ok_or_else(|| {
                let known: Vec<&str> = schema.vectors.iter().map(|space| space.name.as_str()).collect();
                Error::invalid(&at, format!("no such vector space; there is: {}", known.join(", ")))
            })?;
            let values = vector::components(given).map_err(|message| Error::invalid(&at, message))?;
            if values.len() != space.dimension as usize {
                let message = format!("has {} components; the space has {}", values.len(), space.dimension);
                return Err(Error::invalid(at, message));
            }
            if let Some(place) = vectors.get_mut(i) {
                *place = Some(values);
            }
        }
        let payload = match point.payload {
            Some(fields) => {
                let object = payload::to_json(fields, &at("payload"))?;
                let text = serde_json::Value::Object(object).to_string();
                bounded(text.len(), batch::MAX_PAYLOAD_BYTES, "payload")?;
                Some(text)
            }
            None => None,
        };
        let (id, text, expires_at_ms) = (point.id, point.text, point.expires_at_ms);
        Ok(Self { request_row: row, id, text, payload, origin, expires_at_ms, vectors })
    }
}

fn find_space<'a>(schema: &'a CollectionSchema, name: &str) -> Option<(usize, &'a VectorSpace)> {
    schema.vectors.iter().enumerate().find(|(_, space)| space.name == name)
}

/// Name of a column, and its value of a row.
type TextColumn = (&'static str, fn(&Row) -> &str);
type NumberColumn<T> = (&'static str, fn(&Row) -> Option<T>);

/// Rows of one request as columns. Vector columns that no row fills are left out.
fn assemble(rows: &[Row], schema: &CollectionSchema) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut add = |name: &str, column: ArrayRef, nullable: bool| {
        fields.push(Field::new(name, column.data_type().clone(), nullable));
        columns.push(column);
    };
    let ids: StringArray = rows.iter().map(|row| Some(row.id.as_str())).collect();
    add(batch::ID, Arc::new(ids), false);
    let texts: [TextColumn; 6] = [
        (batch::DOCUMENT_ID, |row| &row.origin.document_id),
        (batch::TEXT, |row| &row.text),
        (batch::URI, |row| &row.origin.uri),
        (batch::TITLE, |row| &row.origin.title),
        (batch::MEDIA_TYPE, |row| &row.origin.media_type),
        (batch::PART, |row| &row.origin.part),
    ];
    for (name, value) in texts {
        // The wire has no absent string: an empty one is none.
        let column: StringArray =
            rows.iter().map(|row| Some(value(row)).filter(|text| !text.is_empty())).collect();
        add(name, Arc::new(column), true);
    }
    add(
        batch::PAYLOAD,
        Arc::new(rows.iter().map(|row| row.payload.as_deref()).collect::<StringArray>()),
        true,
    );
    let numbers: [NumberColumn<u32>; 3] = [
        (batch::PAGE, |row| row.origin.page),
        (batch::CHUNK_INDEX, |row| row.origin.chunk_index),
        (batch::PARENT, |row| row.origin.parent),
    ];
    for (name, value) in numbers {
        add(name, Arc::new(rows.iter().map(value).collect::<UInt32Array>()), true);
    }
    add(batch::HEADING_PATH, heading_paths(rows), true);
    let spans: [NumberColumn<u64>; 2] =
        [(batch::SPAN_START, |row| row.origin.span_start), (batch::SPAN_END, |row| row.origin.span_end)];
    for (name, value) in spans {
        add(name, Arc::new(rows.iter().map(value).collect::<UInt64Array>()), true);
    }
    let times: Int64Array = rows.iter().map(|row| row.expires_at_ms).collect();
    add(
        batch::EXPIRES_AT,
        Arc::new(
            times.reinterpret_cast::<TimestampMillisecondType>().with_data_type(batch::expires_at_type()),
        ),
        true,
    );
    for (i, space) in schema.vectors.iter().enumerate() {
        let given: Vec<Option<&[f32]>> =
            rows.iter().map(|row| row.vectors.get(i).and_then(|vector| vector.as_deref())).collect();
        if given.iter().any(Option::is_some) {
            let column = vector_column(&given, space.dimension)?;
            add(&batch::vector_column(&space.name), Arc::new(column), true);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| ragstone_index::Error::Internal(format!("batch of points: {error}")).into())
}

fn heading_paths(rows: &[Row]) -> ArrayRef {
    let item = match batch::heading_path_type() {
        DataType::List(item) => item,
        _ => Arc::new(Field::new("item", DataType::Utf8, true)),
    };
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(item);
    for row in rows {
        for heading in &row.origin.heading_path {
            builder.values().append_value(heading);
        }
        builder.append(!row.origin.heading_path.is_empty());
    }
    Arc::new(builder.finish())
}

/// Vectors as a column; a missing one is null. Columns of more bytes than a write may have are refused.
pub fn vector_column(vectors: &[Option<&[f32]>], dimension: u32) -> Result<FixedSizeListArray> {
    let width = dimension as usize;
    check_vector_bytes(vectors.len(), dimension)?;
    let mut values = Vec::with_capacity(vectors.len() * width);
    for vector in vectors {
        match vector {
            Some(vector) => values.extend_from_slice(vector),
            None => values.resize(values.len() + width, 0.0),
        }
    }
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let nulls = NullBuffer::new(BooleanBuffer::collect_bool(vectors.len(), |i| {
        vectors.get(i).is_some_and(Option::is_some)
    }));
    FixedSizeListArray::try_new(item, dimension as i32, Arc::new(Float32Array::from(values)), Some(nulls))
        .map_err(|error| ragstone_index::Error::Internal(format!("column of vectors: {error}")).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use arrow::array::{Array as _, AsArray as _};
    use ragstone_index::schema::Distance;

    fn schema(dimension: u32) -> CollectionSchema {
        let space = |name: &str| VectorSpace::new(name, dimension, Distance::Cosine);
        CollectionSchema {
            vectors: vec![space("text"), space("image")],
            payload: Vec::new(),
            dynamic_payload: true,
            description: String::new(),
        }
    }

    fn point(id: &str, vector: Option<&[f32]>) -> v1::Point {
        let vectors = vector.map(|v| ("text".to_owned(), vector::packed(v))).into_iter().collect();
        v1::Point { id: id.into(), vectors, ..v1::Point::default() }
    }

    #[test]
    fn columns_are_those_of_the_contract() {
        let origin = v1::Origin { page: Some(3), heading_path: vec!["A".into()], ..v1::Origin::default() };
        let first = v1::Point { text: "words".into(), origin: Some(origin), ..point("a", Some(&[1.0, 2.0])) };
        let rows = rows(vec![first, point("b", None)], &schema(2)).unwrap();
        let full = batch::arrow_schema(&schema(2));
        for field in rows.batch.schema().fields() {
            assert_eq!(full.field_with_name(field.name()).unwrap().data_type(), field.data_type());
        }
        assert!(rows.batch.column_by_name("vector:image").is_none());
        let vectors = rows.batch.column_by_name("vector:text").unwrap();
        assert!(vectors.is_valid(0) && vectors.is_null(1));
        assert_eq!(
            vectors.as_fixed_size_list().value(0).as_primitive::<arrow::datatypes::Float32Type>().values(),
            &[1.0, 2.0]
        );
        let text = rows.batch.column_by_name("text").unwrap();
        assert!(text.is_valid(0) && text.is_null(1));
        assert!(rows.batch.column_by_name("heading_path").unwrap().is_null(1));
    }

    #[test]
    fn bad_points_are_set_aside_with_their_path() {
        let unknown =
            v1::Point { vectors: [("txt".to_owned(), vector::packed(&[1.0]))].into(), ..point("d", None) };
        let points = vec![
            point("a", Some(&[1.0, 2.0])),
            point("", None),
            point("b", Some(&[1.0])),
            point("c", Some(&[1.0, f32::NAN])),
            unknown,
            v1::Point { text: "x".repeat(batch::MAX_TEXT_BYTES + 1), ..point("e", None) },
            point(&"x".repeat(1_025), None),
            point("z", None),
        ];
        let rows = rows(points, &schema(2)).unwrap();
        assert_eq!(rows.request_rows, [0, 7]);
        let fields: Vec<_> = rows.rejected.iter().map(|r| (r.row, r.field.as_str())).collect();
        let expect = [
            (1, "points[1].id"),
            (2, "points[2].vectors[\"text\"]"),
            (3, "points[3].vectors[\"text\"]"),
            (4, "points[4].vectors[\"txt\"]"),
            (5, "points[5].text"),
            (6, "points[6].id"),
        ];
        assert_eq!(fields, expect);
    }

    #[test]
    fn an_empty_request_is_refused() {
        assert!(rows(Vec::new(), &schema(2)).unwrap_err().to_string().starts_with("points: is empty"));
    }

    #[test]
    fn one_vector_among_many_rows_does_not_ask_for_gigabytes() {
        let wide = vec![0.5; 65_535];
        let mut points: Vec<_> = (0..60_000).map(|i| point(&format!("p{i}"), None)).collect();
        points.push(point("wide", Some(&wide)));
        let error = rows(points, &schema(65_535)).err().unwrap();
        assert!(error.to_string().contains("bytes of the vectors"), "{error}");
    }
}
