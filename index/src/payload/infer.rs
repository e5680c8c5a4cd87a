//! The type of a field that is seen for the first time, from all its values in one payload. It knows no schema.

use serde_json::Value;

use super::{MAX_INFERRED_KEYWORD_BYTES, datetime};
use crate::schema::FieldType;

/// Infers a type, or tells which two kinds of values don't go together.
///
/// Integers and floats together are floats. Strings are datetimes when all of them are RFC 3339 timestamps, text when
/// one is longer than [`MAX_INFERRED_KEYWORD_BYTES`], keywords otherwise. A date alone stays a keyword: too many
/// codes look like one.
pub(super) fn infer<'a>(values: impl Iterator<Item = &'a Value>) -> Result<Option<FieldType>, String> {
    let mut found: Option<FieldType> = None;
    for value in values {
        let Some(one) = of_value(value) else { continue };
        found = Some(match found {
            None => one,
            Some(before) => join(before, one)
                .ok_or_else(|| format!("values of two types: {} and {}", name(before), name(one)))?,
        });
    }
    Ok(found)
}

fn of_value(value: &Value) -> Option<FieldType> {
    match value {
        Value::Bool(_) => Some(FieldType::Bool),
        Value::Number(number) if number.is_f64() => Some(FieldType::Float),
        Value::Number(_) => Some(FieldType::Integer),
        Value::String(text) if text.len() > MAX_INFERRED_KEYWORD_BYTES => Some(FieldType::Text),
        Value::String(text) if datetime::parse_timestamp(text).is_some() => Some(FieldType::Datetime),
        Value::String(_) => Some(FieldType::Keyword),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The type that takes values of both.
fn join(a: FieldType, b: FieldType) -> Option<FieldType> {
    use FieldType::{Datetime, Float, Integer, Keyword, Text};
    match (a, b) {
        _ if a == b => Some(a),
        (Integer, Float) | (Float, Integer) => Some(Float),
        (Keyword | Datetime | Text, Keyword | Datetime | Text) => {
            Some(if a == Text || b == Text { Text } else { Keyword })
        }
        _ => None,
    }
}

/// A type as error messages name it.
pub(super) fn name(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Keyword => "keyword",
        FieldType::Integer => "integer",
        FieldType::Float => "float",
        FieldType::Bool => "bool",
        FieldType::Datetime => "datetime",
        FieldType::Text => "text",
    }
}
