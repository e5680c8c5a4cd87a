//! A batch of a file to [`Rows`]: each column to what its role asks for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Schema};

use super::checkpoint::Position;
use super::columns::{EXPIRES_AT, Kind, Roles};
use super::ids::{self, MadeIds};
use super::json;
use super::rows::{BadRows, Rows, defect};
use super::vectors;
use crate::error::{Error, Result};
use crate::sink::Target;

/// Where a batch was read.
pub(super) struct Origin<'a> {
    pub path: &'a Arc<str>,
    pub made_ids: &'a MadeIds,
    pub row_group: u32,
    /// First row, within the row group.
    pub row: u64,
    /// First row, within the file.
    pub file_row: u64,
    pub file: usize,
}

/// What a column of a file can be.
pub(super) fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Dictionary(_, values) => kind(values),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Kind::Time,
        other if ids::is_key_type(other) => Kind::Key,
        other if vectors::is_vector_type(other) => Kind::Vector,
        _ => Kind::Other,
    }
}

/// Columns that can't become payload, with the reason.
pub(super) fn unusable_payload(schema: &Schema, roles: &Roles) -> Vec<(String, String)> {
    let reason = |name: &String| {
        let field = schema.field_with_name(name).ok()?;
        if name.is_empty() || name.starts_with('_') || name.len() > 128 || name.chars().any(char::is_control)
        {
            return Some("is left out: payload fields have 1 to 128 bytes and don't start with _".to_owned());
        }
        let fits = json::supported(field.data_type());
        (!fits).then(|| format!("is left out: type {} can't become payload", field.data_type()))
    };
    roles.payload.iter().filter_map(|name| Some((name.clone(), reason(name)?))).collect()
}

/// Converts a batch. An error here is of the whole file.
pub(super) fn convert(
    batch: &RecordBatch,
    roles: &Roles,
    target: &Target,
    origin: &Origin<'_>,
) -> Result<Rows> {
    let mut bad = BadRows::default();
    let count = batch.num_rows();
    let ids = match &roles.id {
        Some(name) => ids::convert(column(batch, name)?, name, &mut bad)?,
        None => (0..count as u64).map(|row| Some(origin.made_ids.id(origin.file_row + row))).collect(),
    };
    let text = |name: &Option<String>| -> Result<Option<StringArray>> {
        name.as_ref().map(|name| strings(column(batch, name)?, name)).transpose()
    };
    let document_ids = match &roles.document_id {
        Some(name) => Some(ids::to_strings(column(batch, name)?, name)?),
        None => None,
    };
    let mut spaces = Vec::with_capacity(target.spaces.len());
    for (space, name) in target.spaces.iter().zip(&roles.vectors) {
        spaces.push(match name {
            Some(name) => Some(vectors::convert(column(batch, name)?, name, space.dimension, &mut bad)?),
            None => None,
        });
    }
    let payloads = match &roles.payload_json {
        Some(_) => text(&roles.payload_json)?,
        None => payloads(batch, roles)?,
    };
    let carried = roles.carried.iter().map(|name| Ok((name.clone(), Arc::clone(column(batch, name)?))));
    let mut carried: Vec<(String, ArrayRef)> = carried.collect::<Result<_>>()?;
    if let Some(name) = &roles.expires_at {
        carried.push((EXPIRES_AT.to_owned(), times(column(batch, name)?, name)?));
    }
    let read = count as u64;
    let rows = Rows {
        path: Arc::clone(origin.path),
        row_group: Some(origin.row_group),
        numbers: (0..read).map(|row| origin.row + row).collect(),
        ids,
        document_ids,
        texts: text(&roles.text)?,
        titles: text(&roles.title)?,
        payloads,
        vectors: spaces,
        carried,
        read,
        errors: Vec::new(),
        after: Position { file: origin.file, row_group: origin.row_group, row: origin.row + read, byte: 0 },
    };
    rows.without(bad)
}

/// Points in time as they are, integers as milliseconds since 1970.
fn times(column: &ArrayRef, name: &str) -> Result<ArrayRef> {
    if !column.data_type().is_integer() {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, &DataType::Int64, &options).map_err(|error| {
        Error::bad_content(format!("column {name:?} can't be read as points in time: {error}"))
    })
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| defect(&format!("column {name:?} was not read")))
}

fn strings(column: &ArrayRef, name: &str) -> Result<StringArray> {
    let strings = cast(column, &DataType::Utf8)
        .map_err(|error| Error::bad_content(format!("column {name:?} can't be read as strings: {error}")))?;
    strings.as_string_opt::<i32>().cloned().ok_or_else(|| defect(&"cast changed a type"))
}

/// A JSON object for each row that has any payload.
fn payloads(batch: &RecordBatch, roles: &Roles) -> Result<Option<StringArray>> {
    if roles.payload.is_empty() {
        return Ok(None);
    }
    let columns = roles.payload.iter().map(|name| Ok((name.as_str(), column(batch, name)?.as_ref())));
    let columns = columns.collect::<Result<Vec<(&str, &dyn Array)>>>()?;
    let mut payloads = StringBuilder::new();
    let mut object = Vec::new();
    for row in 0..batch.num_rows() {
        object.clear();
        let members = columns.iter().map(|(name, array)| (*name, (*array, row)));
        if json::members(members, &mut object) == 0 {
            payloads.append_null();
        } else {
            payloads.append_value(std::str::from_utf8(&object).map_err(|error| defect(&error))?);
        }
    }
    Ok(Some(payloads.finish()))
}
