//! The payload of a document's chunks: what was given with it, and what follows from its name, its path and its content.
//! What was given always wins, and a field that the collection declares otherwise is left out, never a reason to fail.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value};

use super::identity::cut;
use super::near::Near;
use crate::document::{Properties, RawDocument};
use crate::error::{Error, Result};
use crate::sink::{FieldKind, Target};

/// Longest author or keyword that is kept, in bytes.
const MAX_VALUE_BYTES: usize = 200;
/// Most authors, keywords and folders that are kept.
const MAX_VALUES: usize = 50;

/// Fields that say where a document lies. Documents that differ in nothing else have the same content.
pub(super) const LOCATION_FIELDS: [&str; 6] =
    ["file_ext", "file_name", "folders", "modified", "path", "size"];
/// Longest patch of a payload, in bytes; a document with a longer one is stored, not linked.
const MAX_PATCH_BYTES: usize = 4 << 10;

/// What makes the payload of another document of the same content this one's: its own values of [`LOCATION_FIELDS`], null
/// where it has none. `None` when they are too long to be kept beside the record.
pub(super) fn payload_patch(raw: &RawDocument, target: &Target) -> Option<String> {
    let mut derived = derived(raw, &Properties::default());
    let mut patch = Map::new();
    for name in LOCATION_FIELDS {
        let given = raw.metadata.get(name).cloned();
        let value = given.or_else(|| derived.remove(name).filter(|value| fits(target, name, value)));
        // The time of a document that is no file may be in its content, which is not known here.
        if value.is_some() || name != "modified" {
            patch.insert(name.to_owned(), value.unwrap_or(Value::Null));
        }
    }
    Some(Value::Object(patch).to_string()).filter(|patch| patch.len() <= MAX_PATCH_BYTES)
}

/// Adds to a payload what document it is a near-duplicate of, where the collection takes that.
pub(super) fn mark(payload: &str, near: &Near, target: &Target) -> Result<String> {
    let invalid = |error: serde_json::Error| Error::invalid("metadata", error.to_string());
    let mut fields: Map<String, Value> = serde_json::from_str(payload).map_err(invalid)?;
    let similarity = f64::from((near.similarity * 1_000.0).round()) / 1_000.0;
    let marks = [
        ("near_duplicate_of", Value::from(near.document_id.as_str())),
        ("near_duplicate_group", Value::from(near.group.as_str())),
        ("near_duplicate_similarity", Value::from(similarity)),
    ];
    for (name, value) in marks {
        if fits(target, name, &value) {
            fields.insert(name.to_owned(), value);
        }
    }
    serde_json::to_string(&fields).map_err(invalid)
}

/// The fields that a path rule makes.
pub(super) fn path_fields(raw: &RawDocument) -> Map<String, Value> {
    let rule = raw.options.path_fields.as_ref();
    rule.map(|rule| rule.of(&path(raw)).into_iter().collect()).unwrap_or_default()
}

/// The payload as a JSON object.
pub(super) fn payload(raw: &RawDocument, properties: &Properties, target: &Target) -> Result<String> {
    let mut payload = raw.metadata.clone();
    for (name, value) in derived(raw, properties) {
        if !payload.contains_key(&name) && fits(target, &name, &value) {
            payload.insert(name, value);
        }
    }
    serde_json::to_string(&payload).map_err(|error| Error::invalid("metadata", error.to_string()))
}

fn derived(raw: &RawDocument, properties: &Properties) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    let path = path(raw);
    if !raw.file_name.is_empty() {
        let name = raw.file_name.rsplit(['/', '\\']).next().unwrap_or_default();
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
        add("file_name", Some(name.into()));
        add("file_ext", Some(extension.unwrap_or_default().into()));
        add("size", Some(raw.data.len().into()));
        let folders: Vec<&str> = path.split('/').filter(|folder| !folder.is_empty()).collect();
        add("folders", several(folders.split_last().map_or(&[][..], |(_, folders)| folders)));
    }
    add("author", one_or_several(&properties.authors));
    add("created", properties.created.clone().map(Value::from));
    let own_time = raw
        .modified_ns
        .map(|ns| DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Micros, true));
    add("modified", own_time.or_else(|| properties.modified.clone()).map(Value::from));
    add("language", properties.language.clone().map(Value::from));
    add("keywords", several(&properties.keywords));
    if let Some(rule) = &raw.options.path_fields {
        for (name, value) in rule.of(&path) {
            add(&name, Some(value));
        }
    }
    fields
}

/// The path below the folder that it was found in; of a document from elsewhere, its name.
fn path(raw: &RawDocument) -> String {
    match raw.metadata.get("path") {
        Some(Value::String(path)) => path.clone(),
        _ => raw.file_name.replace('\\', "/"),
    }
}

fn several<T: AsRef<str>>(values: &[T]) -> Option<Value> {
    let kept = values
        .iter()
        .map(|value| cut(value.as_ref().trim(), MAX_VALUE_BYTES))
        .filter(|value| !value.is_empty());
    let kept: Vec<Value> = kept.take(MAX_VALUES).map(Value::from).collect();
    (!kept.is_empty()).then_some(Value::Array(kept))
}

fn one_or_several(values: &[String]) -> Option<Value> {
    match several(values)? {
        Value::Array(mut kept) if kept.len() == 1 => kept.pop(),
        kept => Some(kept),
    }
}

/// Whether the collection takes a value under this name.
fn fits(target: &Target, name: &str, value: &Value) -> bool {
    let one = match value {
        Value::Array(values) => values.first().unwrap_or(value),
        value => value,
    };
    match (target.payload.get(name), one) {
        (None, _) => target.dynamic_payload,
        (Some(FieldKind::Keyword | FieldKind::Text), Value::String(_)) => true,
        (Some(FieldKind::Datetime), Value::String(text)) => DateTime::parse_from_rfc3339(text).is_ok(),
        (Some(FieldKind::Integer | FieldKind::Float), Value::Number(_)) => true,
        (Some(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::document::IngestOptions;
    use crate::pipeline::PathFields;

    fn document() -> (RawDocument, Properties) {
        let options = IngestOptions {
            path_fields: PathFields::parse_optional("{team}/**").unwrap(),
            ..Default::default()
        };
        let raw = RawDocument {
            file_name: "Plan.PDF".into(),
            data: bytes::Bytes::from_static(b"1234"),
            metadata: json!({"path": "ops/backup/Plan.PDF", "author": "given"}).as_object().unwrap().clone(),
            modified_ns: Some(0),
            options: Arc::new(options),
            ..RawDocument::default()
        };
        let properties = Properties {
            authors: vec!["found".into()],
            created: Some("2020-01-01T00:00:00Z".into()),
            modified: Some("2021-01-01T00:00:00Z".into()),
            language: Some("en".into()),
            keywords: vec![" a ".into(), String::new()],
        };
        (raw, properties)
    }

    fn of(target: &Target) -> Value {
        let (raw, properties) = document();
        serde_json::from_str(&payload(&raw, &properties, target).unwrap()).unwrap()
    }

    #[test]
    fn name_path_and_content_give_fields() {
        let expect = json!({
            "path": "ops/backup/Plan.PDF", "author": "given", "file_name": "Plan.PDF", "file_ext": "pdf", "size": 4,
            "folders": ["ops", "backup"], "team": "ops", "created": "2020-01-01T00:00:00Z",
            "modified": "1970-01-01T00:00:00.000000Z", "language": "en", "keywords": ["a"],
        });
        assert_eq!(of(&Target { dynamic_payload: true, ..Target::default() }), expect);
        let text = RawDocument { is_text: true, ..RawDocument::default() };
        let target = Target { dynamic_payload: true, ..Target::default() };
        assert_eq!(payload(&text, &Properties::default(), &target).unwrap(), "{}");
    }

    #[test]
    fn a_patch_says_where_a_document_lies_and_nothing_else() {
        let (raw, _) = document();
        let open = Target { dynamic_payload: true, ..Target::default() };
        let patch = |raw: &RawDocument| -> Value {
            serde_json::from_str(&payload_patch(raw, &open).unwrap()).unwrap()
        };
        let expect = json!({
            "path": "ops/backup/Plan.PDF", "file_name": "Plan.PDF", "file_ext": "pdf", "size": 4,
            "folders": ["ops", "backup"], "modified": "1970-01-01T00:00:00.000000Z",
        });
        assert_eq!(patch(&raw), expect);
        let text = RawDocument { is_text: true, ..RawDocument::default() };
        let none = json!({"path": null, "file_name": null, "file_ext": null, "size": null, "folders": null});
        assert_eq!(patch(&text), none);
        let mut long = raw.clone();
        long.metadata.insert("path".into(), "x".repeat(MAX_PATCH_BYTES).into());
        assert_eq!(payload_patch(&long, &open), None);
    }

    #[test]
    fn what_the_collection_declares_otherwise_is_left_out() {
        let declared =
            [("language", FieldKind::Keyword), ("created", FieldKind::Integer), ("team", FieldKind::Bool)];
        let payload = declared.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
        let strict = Target { payload, dynamic_payload: false, ..Target::default() };
        assert_eq!(of(&strict), json!({"path": "ops/backup/Plan.PDF", "author": "given", "language": "en"}));
        let open = of(&Target { dynamic_payload: true, ..strict });
        assert!(open.get("created").is_none() && open.get("team").is_none() && open.get("size").is_some());
    }
}
