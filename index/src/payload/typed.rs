//! Typed values of one payload: JSON read as the schema says. It knows no filter and no index.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::flatten::{Leaf, flatten};
use super::{MAX_KEYWORD_BYTES, datetime, infer, listed, shortened};
use crate::error::Error;
use crate::schema::{CollectionSchema, FieldType, MAX_PAYLOAD_FIELDS, PayloadField, check_field_name};

/// A payload that doesn't fit the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("payload.{field}: {message}")]
pub struct PayloadError {
    /// Dotted name of the field at fault.
    pub field: String,
    /// What was found and what was expected.
    pub message: String,
}

impl PayloadError {
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl From<PayloadError> for Error {
    fn from(error: PayloadError) -> Self {
        Self::invalid(format!("payload.{}", error.field), error.message)
    }
}

/// One value of a payload field.
#[derive(Debug, Clone, PartialEq)]
pub enum TypedValue {
    /// An exact string, at most [`MAX_KEYWORD_BYTES`].
    Keyword(Box<str>),
    /// A 64-bit integer.
    Integer(i64),
    /// A finite float; never negative zero.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Microseconds since 1970 UTC.
    Datetime(i64),
    /// Words.
    Text(Box<str>),
}

/// The typed values of one row, by field name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TypedRow {
    /// Sorted by name; the values of one field keep the order of the payload.
    values: Vec<(Arc<str>, TypedValue)>,
    /// Fields that the schema doesn't have yet, with the type that their values suggest, in the order of the payload.
    /// Empty unless the schema is dynamic.
    pub new_fields: Vec<PayloadField>,
}

impl TypedRow {
    /// The values of a field; none when it is absent.
    pub fn values<'a>(&'a self, field: &str) -> impl Iterator<Item = &'a TypedValue> + use<'a> {
        let from = self.values.partition_point(|(name, _)| name.as_ref() < field);
        let to = self.values.partition_point(|(name, _)| name.as_ref() <= field);
        self.values.get(from..to).unwrap_or_default().iter().map(|(_, value)| value)
    }

    /// All values, by field name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TypedValue)> {
        self.values.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Memory held, in bytes, names not counted (rows share them).
    pub fn memory_bytes(&self) -> usize {
        let strings: usize = self
            .values
            .iter()
            .map(|(_, value)| match value {
                TypedValue::Keyword(text) | TypedValue::Text(text) => text.len(),
                _ => 0,
            })
            .sum();
        size_of::<Self>() + self.values.capacity() * size_of::<(Arc<str>, TypedValue)>() + strings
    }
}

/// Reads payloads as a schema says.
#[derive(Debug, Clone)]
pub struct PayloadTyper {
    fields: HashMap<Arc<str>, FieldType>,
    /// The names in the order they joined, for error messages.
    names: Vec<Arc<str>>,
    dynamic: bool,
}

impl PayloadTyper {
    /// A typer for the fields that `schema` has now.
    pub fn new(schema: &CollectionSchema) -> Self {
        let mut typer = Self { fields: HashMap::new(), names: Vec::new(), dynamic: schema.dynamic_payload };
        for field in &schema.payload {
            typer.join(field);
        }
        typer
    }

    /// Lets the new fields of a row join, so that the rows after it are held to the same types. A field that is known
    /// with the same type changes nothing.
    pub fn extend(&mut self, fields: &[PayloadField]) -> Result<(), PayloadError> {
        for field in fields {
            match self.fields.get(field.name.as_str()) {
                Some(known) if *known == field.field_type => {}
                Some(known) => return Err(conflict(&field.name, infer::name(field.field_type), *known)),
                None if self.names.len() >= MAX_PAYLOAD_FIELDS => return Err(too_many(&field.name)),
                None => self.join(field),
            }
        }
        Ok(())
    }

    fn join(&mut self, field: &PayloadField) {
        let name: Arc<str> = field.name.as_str().into();
        if self.fields.insert(Arc::clone(&name), field.field_type).is_none() {
            self.names.push(name);
        }
    }

    /// Types a payload. Objects are flattened with dots, arrays give a field several values, nulls give none. Fields
    /// that the schema doesn't have become [`TypedRow::new_fields`] when it is dynamic, and an error otherwise.
    pub fn typed(&self, payload: &Map<String, Value>) -> Result<TypedRow, PayloadError> {
        let mut leaves = flatten(payload)?;
        // Stable: the values of one field stay in their order.
        leaves.sort_by(|a, b| a.name.cmp(&b.name));
        let mut row = TypedRow { values: Vec::with_capacity(leaves.len()), new_fields: Vec::new() };
        for group in leaves.chunk_by(|a, b| a.name == b.name) {
            self.type_field(group, &mut row)?;
        }
        if self.names.len() + row.new_fields.len() > MAX_PAYLOAD_FIELDS
            && let Some(last) = row.new_fields.last()
        {
            return Err(too_many(&last.name));
        }
        Ok(row)
    }

    /// Types all values of one field.
    fn type_field(&self, leaves: &[Leaf<'_>], row: &mut TypedRow) -> Result<(), PayloadError> {
        let Some(first) = leaves.first() else { return Ok(()) };
        let (name, field_type) = match self.fields.get_key_value(first.name.as_ref()) {
            Some((name, field_type)) => (Arc::clone(name), *field_type),
            None => {
                let field = self.new_field(leaves)?;
                let known = (Arc::from(field.name.as_str()), field.field_type);
                row.new_fields.push(field);
                known
            }
        };
        for leaf in leaves {
            let value =
                convert(leaf.value, field_type).map_err(|message| PayloadError::new(&*name, message))?;
            row.values.push((Arc::clone(&name), value));
        }
        Ok(())
    }

    fn new_field(&self, leaves: &[Leaf<'_>]) -> Result<PayloadField, PayloadError> {
        let name = leaves.first().map_or("", |leaf| leaf.name.as_ref());
        let fault = |message: String| PayloadError::new(shortened(name), message);
        if !self.dynamic {
            let message = if self.names.is_empty() {
                "no such field; the schema has none and is not dynamic".to_owned()
            } else {
                format!("no such field; there are: {}", listed(self.names.iter().map(AsRef::as_ref)))
            };
            return Err(fault(message));
        }
        check_field_name(name, "name").map_err(|error| match error {
            Error::InvalidArgument { message, .. } => fault(message),
            other => fault(other.to_string()),
        })?;
        let field_type = infer::infer(leaves.iter().map(|leaf| leaf.value)).map_err(fault)?;
        // A leaf is never null, so there is a type.
        Ok(PayloadField { name: name.to_owned(), field_type: field_type.unwrap_or(FieldType::Keyword) })
    }
}

fn too_many(field: &str) -> PayloadError {
    PayloadError::new(field, format!("a collection has at most {MAX_PAYLOAD_FIELDS} payload fields"))
}

fn conflict(field: &str, found: &str, expected: FieldType) -> PayloadError {
    PayloadError::new(field, format!("expected {}, found {found}", infer::name(expected)))
}

/// Reads one JSON scalar as a type; the error says what was found and expected.
fn convert(value: &Value, field_type: FieldType) -> Result<TypedValue, String> {
    let wrong = || Err(format!("expected {}, found {}", infer::name(field_type), found(value)));
    match (field_type, value) {
        (FieldType::Keyword, Value::String(text)) if text.len() > MAX_KEYWORD_BYTES => Err(format!(
            "a keyword is at most {MAX_KEYWORD_BYTES} bytes, found {}; declare the field as text",
            text.len()
        )),
        (FieldType::Keyword, Value::String(text)) => Ok(TypedValue::Keyword(text.as_str().into())),
        (FieldType::Text, Value::String(text)) => Ok(TypedValue::Text(text.as_str().into())),
        (FieldType::Datetime, Value::String(text)) => datetime::parse(text)
            .map(TypedValue::Datetime)
            .ok_or_else(|| format!("expected an RFC 3339 datetime, found {:?}", shortened(text))),
        (FieldType::Bool, Value::Bool(flag)) => Ok(TypedValue::Bool(*flag)),
        (FieldType::Integer, Value::Number(number)) => match number.as_i64() {
            Some(integer) => Ok(TypedValue::Integer(integer)),
            None if number.is_f64() => wrong(),
            None => Err(format!("{number} does not fit a signed 64-bit integer")),
        },
        (FieldType::Float, Value::Number(number)) => {
            match number.as_f64().filter(|float| float.is_finite()) {
                // Adding zero turns -0.0 into 0.0, which compares alike and is stored alike.
                Some(float) => Ok(TypedValue::Float(float + 0.0)),
                None => Err(format!("{number} is not a finite 64-bit float")),
            }
        }
        _ => wrong(),
    }
}

/// What a JSON scalar is, as error messages name it.
fn found(value: &Value) -> String {
    match value {
        Value::Bool(flag) => format!("bool {flag}"),
        Value::Number(number) if number.is_f64() => format!("float {number}"),
        Value::Number(number) => format!("integer {number}"),
        Value::String(text) => format!("string {:?}", shortened(text)),
        Value::Null => "null".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
