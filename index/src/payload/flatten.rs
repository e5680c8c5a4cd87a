//! A nested JSON payload as a flat list of (dotted name, value). It knows no types and no schema.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::typed::PayloadError;
use super::{MAX_PAYLOAD_DEPTH, MAX_PAYLOAD_VALUES, shortened};

/// A scalar of the payload under its dotted name.
pub(super) struct Leaf<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: &'a Value,
}

/// Flattens objects with dots and arrays into several values; nulls, empty objects and empty arrays are absent.
pub(super) fn flatten(payload: &Map<String, Value>) -> Result<Vec<Leaf<'_>>, PayloadError> {
    let mut leaves = Vec::new();
    for (key, value) in payload {
        walk(Cow::Borrowed(key), value, 1, &mut leaves)?;
    }
    Ok(leaves)
}

/// Recursion is bounded by [`MAX_PAYLOAD_DEPTH`].
fn walk<'a>(
    name: Cow<'a, str>,
    value: &'a Value,
    depth: usize,
    leaves: &mut Vec<Leaf<'a>>,
) -> Result<(), PayloadError> {
    if depth > MAX_PAYLOAD_DEPTH {
        return Err(PayloadError::new(shortened(&name), format!("nested deeper than {MAX_PAYLOAD_DEPTH}")));
    }
    match value {
        Value::Null => Ok(()),
        Value::Array(items) => items.iter().try_for_each(|item| walk(name.clone(), item, depth + 1, leaves)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, inner)| {
            let mut dotted = String::with_capacity(name.len() + 1 + key.len());
            dotted.push_str(&name);
            dotted.push('.');
            dotted.push_str(key);
            walk(Cow::Owned(dotted), inner, depth + 1, leaves)
        }),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            if leaves.len() >= MAX_PAYLOAD_VALUES {
                return Err(PayloadError::new(
                    shortened(&name),
                    format!("the payload has more than {MAX_PAYLOAD_VALUES} values"),
                ));
            }
            leaves.push(Leaf { name, value });
            Ok(())
        }
    }
}
