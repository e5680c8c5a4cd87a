//! Files that an export made: their columns are those of a batch (docs/data-model.md), so that what was exported comes
//! back as it was. They are known by having all of the columns that every batch has, with types that fit.

use arrow::datatypes::{DataType, Schema};

use super::columns::{ColumnMapping, EXPIRES_AT, Roles, VECTOR_PREFIX};

/// The payload, a JSON object as text.
const PAYLOAD: &str = "payload";
/// Columns that other roles read.
const OWN: [&str; 4] = ["id", "document_id", "text", "title"];

/// A type that a column of a batch may have.
type Fits = fn(&DataType) -> bool;

/// Columns that are taken as they are.
const CARRIED: [(&str, Fits); 7] = [
    ("uri", is_text),
    ("media_type", is_text),
    ("page", DataType::is_integer),
    ("chunk_index", DataType::is_integer),
    ("heading_path", is_text_list),
    ("span_start", DataType::is_integer),
    ("span_end", DataType::is_integer),
];

/// Columns that exports of older versions, or of other collections, lack, taken as they are.
const YOUNGER: [(&str, Fits); 3] =
    [("part", is_text), ("parent", DataType::is_integer), ("also_at", is_text)];

/// Gives the columns of an exported file their roles; does nothing to another file, or when the user says what becomes
/// payload. Tells the columns that have no place in a batch, with the reason.
pub(super) fn adopt(schema: &Schema, mapping: &ColumnMapping, roles: &mut Roles) -> Vec<(String, String)> {
    if !mapping.payload.is_empty() || !is_exported(schema) {
        return Vec::new();
    }
    roles.payload_json = Some(PAYLOAD.to_owned());
    let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
    if roles.expires_at.is_none()
        && schema.field_with_name(EXPIRES_AT).is_ok_and(|field| is_time(field.data_type()))
    {
        roles.expires_at = Some(EXPIRES_AT.to_owned());
    }
    let fits = |(name, fits): &&(&str, Fits)| {
        schema.field_with_name(name).is_ok_and(|field| fits(field.data_type()))
    };
    let carried = CARRIED.iter().chain(YOUNGER.iter().filter(fits));
    roles.carried = carried.map(|(name, _)| (*name).to_owned()).collect();
    let mut left_out = std::mem::take(&mut roles.payload);
    left_out.retain(|name| !roles.named().any(|known| known == name));
    let reason = |name: &str| match name.strip_prefix(VECTOR_PREFIX) {
        Some(space) => format!("is left out: the collection has no vector space {space:?}"),
        None => "is left out: it is no column of an export".to_owned(),
    };
    left_out.into_iter().map(|name| (reason(&name), name)).map(|(reason, name)| (name, reason)).collect()
}

fn is_exported(schema: &Schema) -> bool {
    let has =
        |name: &str, fits: Fits| schema.field_with_name(name).is_ok_and(|field| fits(field.data_type()));
    OWN.iter().chain(&[PAYLOAD]).all(|name| has(name, is_text))
        && CARRIED.iter().all(|(name, fits)| has(name, *fits))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_text_list(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => is_text(item.data_type()),
        _ => false,
    }
}
