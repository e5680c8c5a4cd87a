//! The gate of the write path: what a caller sends becomes a canonical batch, or an error that names row and column.
//!
//! Everything behind this file may rely on: all columns of [`crate::batch::arrow_schema`] are there in order, ids are
//! unique and within bounds, vectors are finite, of the right dimension and (under cosine) of unit length, payloads
//! are JSON objects that fit the schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, SchemaRef, TimeUnit, TimestampMillisecondType};

use crate::batch;
use crate::error::{Error, Result};
use crate::payload::{PayloadTyper, TypedRow};
use crate::rows::Rows;
use crate::schema::{CollectionSchema, PayloadField, VectorSpace};
use crate::vector::prepare_vector;
use crate::write::RowError;

/// Row errors that a receipt lists; more are only counted in the message of the last.
const MAX_ROW_ERRORS: usize = 10_000;

/// A batch that passed.
#[derive(Debug, Clone)]
pub(crate) struct ValidBatch {
    /// All columns, canonical.
    pub(crate) batch: RecordBatch,
    /// The payload of each row by the schema it was checked with.
    pub(crate) typed: Vec<TypedRow>,
    /// Payload fields that join the schema with this batch.
    pub(crate) new_fields: Vec<PayloadField>,
}

/// How a batch is checked.
pub(crate) struct Checks<'a> {
    /// The schema now.
    pub(crate) schema: &'a CollectionSchema,
    /// Which change of the request this is, for row errors.
    pub(crate) change: usize,
    /// Leave bad rows out instead of refusing the batch.
    pub(crate) skip_bad_rows: bool,
    /// When given, every row becomes a chunk of this document.
    pub(crate) document_id: Option<&'a str>,
}

/// Checks a batch and brings it into canonical form.
pub(crate) fn validate(input: &RecordBatch, checks: &Checks<'_>) -> Result<(ValidBatch, Vec<RowError>)> {
    check_size(input)?;
    let mut errors =
        RowErrors { change: checks.change, list: Vec::new(), bad: vec![false; input.num_rows()] };
    let mut columns = canonical_columns(input, checks, &mut errors)?;
    if let Some(document_id) = checks.document_id {
        set_document(&mut columns, document_id, input.num_rows());
    }
    let schema = batch::arrow_schema(checks.schema);
    let canonical = record_batch(&schema, columns, input.num_rows())?;

    check_ids(input, &canonical, &mut errors);
    let rows = Rows::new(&canonical)?;
    check_texts(&rows, input.num_rows(), &mut errors);
    let (mut typed, new_fields) = type_payloads(&rows, input.num_rows(), checks.schema, &mut errors)?;

    if !errors.list.is_empty() && !checks.skip_bad_rows {
        let first = errors.list.swap_remove(0);
        return Err(Error::invalid(format!("points[{}].{}", first.row, first.column), first.message));
    }
    let keep: Vec<bool> = errors.bad.iter().map(|bad| !bad).collect();
    let canonical = if keep.iter().all(|keep| *keep) {
        canonical
    } else {
        let mut rows = keep.iter();
        typed.retain(|_| rows.next().copied().unwrap_or(false));
        filter_record_batch(&canonical, &BooleanArray::from(keep)).map_err(arrow_defect)?
    };
    Ok((ValidBatch { batch: canonical, typed, new_fields }, errors.list))
}

/// Reads the payloads of a canonical batch again, by another schema.
pub(crate) fn type_canonical(
    batch: &RecordBatch,
    schema: &CollectionSchema,
) -> Result<(Vec<TypedRow>, Vec<PayloadField>)> {
    let rows = Rows::new(batch)?;
    let mut errors = RowErrors { change: 0, list: Vec::new(), bad: vec![false; batch.num_rows()] };
    let typed = type_payloads(&rows, batch.num_rows(), schema, &mut errors)?;
    match errors.list.into_iter().next() {
        None => Ok(typed),
        Some(first) => Err(Error::invalid(format!("points[{}].{}", first.row, first.column), first.message)),
    }
}

struct RowErrors {
    change: usize,
    list: Vec<RowError>,
    bad: Vec<bool>,
}

impl RowErrors {
    fn push(&mut self, row: usize, id: &str, column: impl Into<String>, message: impl Into<String>) {
        let first = self.bad.get_mut(row).is_some_and(|bad| !std::mem::replace(bad, true));
        if first && self.list.len() < MAX_ROW_ERRORS {
            let (column, message) = (column.into(), message.into());
            self.list.push(RowError { change: self.change, row, id: id.to_owned(), column, message });
        }
    }
}

fn check_size(input: &RecordBatch) -> Result<()> {
    if input.num_rows() > batch::MAX_BATCH_ROWS {
        return Err(Error::LimitExceeded {
            what: "rows of a batch",
            value: input.num_rows() as u64,
            limit: batch::MAX_BATCH_ROWS as u64,
        });
    }
    let bytes: usize = input
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(usize::MAX / 64))
        .sum();
    if bytes > batch::MAX_BATCH_BYTES {
        return Err(Error::LimitExceeded {
            what: "bytes of a batch",
            value: bytes as u64,
            limit: batch::MAX_BATCH_BYTES as u64,
        });
    }
    Ok(())
}

fn canonical_columns(
    input: &RecordBatch,
    checks: &Checks<'_>,
    errors: &mut RowErrors,
) -> Result<Vec<ArrayRef>> {
    let schema = batch::arrow_schema(checks.schema);
    for (i, field) in input.schema().fields().iter().enumerate() {
        if schema.field_with_name(field.name()).is_err() {
            let known: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::invalid(
                field.name(),
                format!("no column of this name; there are: {}", known.join(", ")),
            ));
        }
        if input.schema().fields().iter().take(i).any(|other| other.name() == field.name()) {
            return Err(Error::invalid(field.name(), "the column comes twice"));
        }
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = match input.column_by_name(field.name()) {
            None if field.name() == batch::ID => {
                return Err(Error::invalid(batch::ID, "the column is missing"));
            }
            None => new_null_array(field.data_type(), input.num_rows()),
            Some(column) => match field.name().strip_prefix(batch::VECTOR_PREFIX) {
                Some(name) => {
                    let (_, space) = checks.schema.vector_space(name)?;
                    canonical_vectors(column, field, space, &mut |row, message| {
                        errors.push(row, &id_of(input, row), field.name(), message);
                    })?
                }
                None if field.name() == batch::EXPIRES_AT => canonical_times(column, field)?,
                None => cast(column, field)?,
            },
        };
        columns.push(column);
    }
    Ok(columns)
}

fn cast(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let text_like =
        |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let number_like = |kind: &DataType| kind.is_integer();
    let list_like = |kind: &DataType| matches!(kind, DataType::List(_) | DataType::LargeList(_));
    let (from, to) = (column.data_type(), field.data_type());
    let fits = (text_like(from) && text_like(to))
        || (number_like(from) && number_like(to))
        || (list_like(from) && list_like(to))
        || *from == DataType::Null;
    if !fits {
        return Err(Error::invalid(field.name(), format!("the column is of type {from}, expected {to}")));
    }
    cast_with_options(column, to, &options)
        .map_err(|error| Error::invalid(field.name(), format!("the column does not fit {to}: {error}")))
}

/// Points in time of any unit, or numbers of milliseconds, to those of the field. What has no zone is UTC.
fn canonical_times(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let wrong = |why: &str| {
        let message =
            format!("the column is of type {}, expected {}{why}", column.data_type(), field.data_type());
        Error::invalid(field.name(), message)
    };
    let milliseconds = match column.data_type() {
        DataType::Null => return Ok(new_null_array(field.data_type(), column.len())),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Date32 | DataType::Date64 | DataType::Int64 => {
            DataType::Timestamp(TimeUnit::Millisecond, None)
        }
        _ => return Err(wrong("")),
    };
    let times =
        cast_with_options(column, &milliseconds, &options).map_err(|error| wrong(&format!(": {error}")))?;
    let times = times.as_primitive_opt::<TimestampMillisecondType>().cloned().ok_or_else(|| wrong(""))?;
    // The number of a point in time does not depend on its zone.
    Ok(Arc::new(times.with_data_type(field.data_type().clone())))
}

/// Brings a vector column to `FixedSizeList<Float32>`: finite, unit length under cosine. Bad rows are reported and
/// become null.
fn canonical_vectors(
    column: &ArrayRef,
    field: &Field,
    space: &VectorSpace,
    bad_row: &mut dyn FnMut(usize, String),
) -> Result<ArrayRef> {
    if column.data_type().is_null() {
        return Ok(new_null_array(field.data_type(), column.len()));
    }
    let DataType::FixedSizeList(item, dimension) = column.data_type() else {
        return Err(Error::invalid(
            field.name(),
            format!("the column is of type {}, expected {}", column.data_type(), field.data_type()),
        ));
    };
    if *dimension != space.dimension as i32 {
        return Err(Error::invalid(
            field.name(),
            format!("vectors of {dimension} components, expected {}", space.dimension),
        ));
    }
    let column = match item.data_type() {
        DataType::Float32 => Arc::clone(column),
        DataType::Float16 | DataType::Float64 => {
            cast_with_options(column, field.data_type(), &CastOptions::default())
                .map_err(|error| Error::invalid(field.name(), error.to_string()))?
        }
        other => {
            return Err(Error::invalid(
                field.name(),
                format!("components of type {other}, expected Float32"),
            ));
        }
    };
    let defect = || Error::Internal(format!("column {} lost its type", field.name()));
    let list = column.as_fixed_size_list_opt().ok_or_else(defect)?;
    let components = list.values().as_primitive_opt::<Float32Type>().ok_or_else(defect)?;
    let dimension = space.dimension as usize;
    let mut values = components.values().to_vec();
    let mut present = Vec::with_capacity(list.len());
    for (row, vector) in values.chunks_exact_mut(dimension).enumerate().take(list.len()) {
        if list.is_null(row) {
            vector.fill(0.0);
            present.push(false);
            continue;
        }
        let start = row * dimension;
        let missing = components.nulls().is_some_and(|nulls| nulls.slice(start, dimension).null_count() > 0);
        let checked = if missing {
            Err("the vector has a component without a value".to_owned())
        } else {
            prepare_vector(space.distance, vector)
        };
        present.push(checked.is_ok());
        if let Err(message) = checked {
            vector.fill(0.0);
            bad_row(row, message);
        }
    }
    let DataType::FixedSizeList(item, length) = field.data_type() else { return Err(defect()) };
    let list = FixedSizeListArray::try_new(
        Arc::clone(item),
        *length,
        Arc::new(Float32Array::from(values)),
        Some(NullBuffer::from(present)),
    )
    .map_err(arrow_defect)?;
    Ok(Arc::new(list))
}

fn set_document(columns: &mut [ArrayRef], document_id: &str, rows: usize) {
    // The order of the columns is that of `arrow_schema`: id, document_id, ...
    if let Some(column) = columns.get_mut(1) {
        *column = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(document_id, rows)));
    }
}

fn record_batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let Some(ids) = columns.first() else { return Err(Error::Internal("a batch without columns".into())) };
    if ids.null_count() == 0 {
        return RecordBatch::try_new(Arc::clone(schema), columns).map_err(arrow_defect);
    }
    // Null ids are reported row by row; until those rows are left out the column holds empty strings.
    let strings = ids.as_string_opt::<i32>().ok_or_else(|| Error::Internal("ids lost their type".into()))?;
    let filled = StringArray::from_iter_values(
        (0..rows).map(|row| if strings.is_null(row) { "" } else { strings.value(row) }),
    );
    let mut columns = columns;
    if let Some(first) = columns.first_mut() {
        *first = Arc::new(filled);
    }
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(arrow_defect)
}

fn id_of(input: &RecordBatch, row: usize) -> String {
    let ids = input.column_by_name(batch::ID).and_then(|column| column.as_string_opt::<i32>());
    ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row).to_owned()).unwrap_or_default()
}

/// Ids: bounds, and of a repeated id only the last row counts, as if the rows had come one by one.
fn check_ids(input: &RecordBatch, canonical: &RecordBatch, errors: &mut RowErrors) {
    let Some(ids) = canonical.column_by_name(batch::ID).and_then(|column| column.as_string_opt::<i32>())
    else {
        return;
    };
    let documents =
        canonical.column_by_name(batch::DOCUMENT_ID).and_then(|column| column.as_string_opt::<i32>());
    let mut last: HashMap<&str, usize> = HashMap::with_capacity(input.num_rows());
    for row in 0..ids.len() {
        let id = ids.value(row);
        if id.is_empty() || id.len() > batch::MAX_ID_BYTES {
            let message = format!("an id of {} bytes, expected 1 to {}", id.len(), batch::MAX_ID_BYTES);
            errors.push(row, &id.chars().take(64).collect::<String>(), batch::ID, message);
            continue;
        }
        if let Some(document) = documents.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row))
            && document.len() > batch::MAX_DOCUMENT_ID_BYTES
        {
            let message = format!(
                "an id of {} bytes, expected at most {}",
                document.len(),
                batch::MAX_DOCUMENT_ID_BYTES
            );
            errors.push(row, id, batch::DOCUMENT_ID, message);
            continue;
        }
        if errors.bad.get(row).copied().unwrap_or(true) {
            continue;
        }
        if let Some(earlier) = last.insert(id, row)
            && let Some(bad) = errors.bad.get_mut(earlier)
        {
            *bad = true;
        }
    }
}

fn check_texts(rows: &Rows, count: usize, errors: &mut RowErrors) {
    for row in 0..count {
        let bounds = [
            (batch::TEXT, rows.text(row), batch::MAX_TEXT_BYTES),
            (batch::PAYLOAD, rows.payload(row), batch::MAX_PAYLOAD_BYTES),
            (batch::URI, rows.uri(row), batch::MAX_ORIGIN_BYTES),
            (batch::TITLE, rows.title(row), batch::MAX_ORIGIN_BYTES),
            (batch::MEDIA_TYPE, rows.media_type(row), batch::MAX_ORIGIN_BYTES),
            (batch::PART, rows.part(row), batch::MAX_ORIGIN_BYTES),
        ];
        for (column, value, limit) in bounds {
            let bytes = value.map_or(0, str::len);
            if bytes > limit {
                errors.push(row, rows.id(row), column, format!("{bytes} bytes, expected at most {limit}"));
            }
        }
    }
}

fn type_payloads(
    rows: &Rows,
    count: usize,
    schema: &CollectionSchema,
    errors: &mut RowErrors,
) -> Result<(Vec<TypedRow>, Vec<PayloadField>)> {
    let mut typer = PayloadTyper::new(schema);
    let mut typed = Vec::with_capacity(count);
    let mut new_fields = Vec::new();
    for row in 0..count {
        let skip = errors.bad.get(row).copied().unwrap_or(true);
        let result = match rows.payload(row) {
            Some(json) if !skip && !json.is_empty() => parse_object(json).and_then(|payload| {
                typer
                    .typed(&payload)
                    .map_err(|error| (format!("{}.{}", batch::PAYLOAD, error.field), error.message))
            }),
            _ => Ok(TypedRow::default()),
        };
        // A field that one row brought is known to the next, with the type of its first value.
        let result = result.and_then(|mut row| {
            let fields = std::mem::take(&mut row.new_fields);
            typer
                .extend(&fields)
                .map_err(|error| (format!("{}.{}", batch::PAYLOAD, error.field), error.message))?;
            new_fields.extend(fields);
            Ok(row)
        });
        typed.push(result.unwrap_or_else(|(column, message)| {
            errors.push(row, rows.id(row), column, message);
            TypedRow::default()
        }));
    }
    Ok((typed, new_fields))
}

fn parse_object(json: &str) -> Result<serde_json::Map<String, serde_json::Value>, (String, String)> {
    serde_json::from_str(json)
        .map_err(|error| (batch::PAYLOAD.to_owned(), format!("not a JSON object: {error}")))
}

fn arrow_defect(error: arrow::error::ArrowError) -> Error {
    Error::Internal(format!("a batch could not be put together: {error}"))
}
