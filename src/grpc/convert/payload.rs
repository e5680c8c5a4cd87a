//! Payload values: wire form to JSON and back. JSON keeps 64-bit integers and finite floats.

use std::collections::HashMap;

use ragstone_proto::v1;
use ragstone_proto::v1::value::Kind;
use serde_json::{Map, Number, Value};

use crate::app::error::{Error, Result};

/// Deepest nesting of lists and objects in a payload.
pub const MAX_PAYLOAD_DEPTH: usize = 32;

/// A payload as a JSON object. `at` is its path in the request.
pub fn to_json(payload: v1::Payload, at: &str) -> Result<Map<String, Value>> {
    object(payload, at, 0)
}

fn object(payload: v1::Payload, at: &str, depth: usize) -> Result<Map<String, Value>> {
    payload
        .fields
        .into_iter()
        .map(|(name, value)| {
            let value = json(value, depth)
                .map_err(|problem| Error::invalid(format!("{at}.{name}{}", problem.0), problem.1));
            value.map(|value| (name, value))
        })
        .collect()
}

/// Where below the field, and what.
struct Problem(String, String);

fn json(value: v1::Value, depth: usize) -> Result<Value, Problem> {
    if depth >= MAX_PAYLOAD_DEPTH {
        return Err(Problem(String::new(), format!("is nested more than {MAX_PAYLOAD_DEPTH} deep")));
    }
    Ok(match value.kind {
        // A value without a kind is how some clients write null.
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::IntegerValue(value)) => Value::Number(value.into()),
        Some(Kind::FloatValue(value)) => Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| Problem(String::new(), format!("{value} is not a finite number")))?,
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().enumerate();
            let items =
                items.map(|(i, v)| json(v, depth + 1).map_err(|p| Problem(format!("[{i}]{}", p.0), p.1)));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Some(Kind::StructValue(payload)) => {
            let fields = payload.fields.into_iter();
            let fields = fields.map(|(name, v)| {
                let value = json(v, depth + 1).map_err(|p| Problem(format!(".{name}{}", p.0), p.1))?;
                Ok((name, value))
            });
            Value::Object(fields.collect::<Result<_, Problem>>()?)
        }
    })
}

/// A JSON object as a payload.
pub fn from_json(object: Map<String, Value>) -> v1::Payload {
    let fields: HashMap<_, _> = object.into_iter().map(|(name, value)| (name, wire(value))).collect();
    v1::Payload { fields }
}

fn wire(value: Value) -> v1::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Kind::IntegerValue(integer),
            None => Kind::FloatValue(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => {
            Kind::ListValue(v1::ListValue { values: values.into_iter().map(wire).collect() })
        }
        Value::Object(object) => Kind::StructValue(from_json(object)),
    };
    v1::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use serde_json::json;

    #[test]
    fn there_and_back() {
        let value = json!({
            "null": null, "yes": true, "large": i64::MAX, "small": i64::MIN, "half": 0.5, "word": "ü",
            "list": [1, [2.5, "x"], {}], "author": {"name": "A", "age": 3}
        });
        let Value::Object(object) = value else { panic!() };
        assert_eq!(to_json(from_json(object.clone()), "payload").unwrap(), object);
    }

    #[test]
    fn floats_without_a_json_form_are_named() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let list = v1::ListValue { values: vec![v1::Value { kind: Some(Kind::FloatValue(bad)) }] };
            let fields = [("a".to_owned(), v1::Value { kind: Some(Kind::ListValue(list)) })].into();
            let error = to_json(v1::Payload { fields }, "points[2].payload").unwrap_err();
            assert!(error.to_string().starts_with("points[2].payload.a[0]: "), "{error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut value = v1::Value { kind: Some(Kind::BoolValue(true)) };
        for _ in 0..MAX_PAYLOAD_DEPTH {
            value = v1::Value { kind: Some(Kind::ListValue(v1::ListValue { values: vec![value] })) };
        }
        let fields = [("a".to_owned(), value)].into();
        let error = to_json(v1::Payload { fields }, "metadata").unwrap_err();
        assert!(error.to_string().contains("32 deep"), "{error}");
    }
}
