//! What identifies a document, its version and its chunks. Pure functions; they know neither sink nor embedder.
//!
//! A version is 64 hexadecimal digits: 16 of the recipe (how the pipeline works for this collection), 48 of the
//! document. So a scan can tell from the stored version alone that a file was indexed by another recipe. 32 digits more say
//! which documents have the same content; they decide nothing about a document itself.

use serde_json::{Map, Value};

use super::derive::{LOCATION_FIELDS, path_fields};
use crate::document::RawDocument;
use crate::error::{Error, Result};

/// Longest document id, in bytes.
pub const MAX_DOCUMENT_ID_BYTES: usize = 1_000;
/// Longest uri, in bytes.
pub const MAX_URI_BYTES: usize = 8_192;
/// Longest title, in bytes. A longer one that was found in the content is cut, one that was given is an error.
pub const MAX_TITLE_BYTES: usize = 1_024;
/// Longest metadata of a document, as JSON, in bytes.
pub const MAX_METADATA_BYTES: usize = 1 << 20;
/// Deepest nesting of metadata.
pub const MAX_METADATA_DEPTH: usize = 64;
/// Digits of the recipe in front of a version.
pub const RECIPE_DIGITS: usize = 16;

const VERSION_DIGITS: usize = 64;
const CONTENT_DIGITS: usize = 32;
/// What is left of a name that is too long for an id, before its hash.
const LONG_ID_PREFIX_BYTES: usize = 900;

/// The id under which a document is stored: its own, else its uri, else its file name.
///
/// # Errors
/// `InvalidArgument` when none of the three is given, or the document's own id is too long.
pub fn document_id(raw: &RawDocument) -> Result<String> {
    if !raw.id.is_empty() {
        if raw.id.len() > MAX_DOCUMENT_ID_BYTES {
            let message = format!("{} bytes are over the limit of {MAX_DOCUMENT_ID_BYTES}", raw.id.len());
            return Err(Error::invalid("document_id", message));
        }
        return Ok(raw.id.clone());
    }
    [&raw.uri, &raw.file_name]
        .into_iter()
        .find(|name| !name.is_empty())
        .map(|name| bounded_id(name))
        .ok_or_else(|| {
            Error::invalid("document_id", "a document needs an id, a uri or a file name: all three are empty")
        })
}

/// A name as an id: itself, or its beginning and its hash when it is too long for one.
pub fn bounded_id(name: &str) -> String {
    if name.len() <= MAX_DOCUMENT_ID_BYTES {
        return name.to_owned();
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{}~{}", cut(name, LONG_ID_PREFIX_BYTES), cut(&hash, 32))
}

/// The longest beginning of `text` that has at most `bytes` bytes and ends between two characters.
pub fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Key of a chunk's vector: the embedder and what it is given.
pub fn chunk_key(fingerprint: &str, embedding_text: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    field(&mut hasher, fingerprint.as_bytes());
    field(&mut hasher, embedding_text.as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// The version of a document under a recipe. Hashes the whole content: heavy for a large one.
///
/// The modification time is no part of it: a file that was only touched is the same document.
///
/// # Errors
/// `InvalidArgument` when the metadata is over its bounds.
pub fn version(recipe: &str, raw: &RawDocument) -> Result<String> {
    let metadata = canonical_json(&raw.metadata)?;
    let mut hasher = blake3::Hasher::new();
    for part in [&raw.uri, &raw.title, &raw.file_name, &raw.media_type, &metadata] {
        field(&mut hasher, part.as_bytes());
    }
    field(&mut hasher, &[u8::from(raw.is_text)]);
    field(&mut hasher, &raw.data);
    let document = hasher.finalize().to_hex();
    Ok(format!("{recipe}{}", cut(&document, VERSION_DIGITS - RECIPE_DIGITS)))
}

/// What documents have in common whose points would differ only in where they come from: their bytes, how they are read, and
/// all of their metadata that does not say where they lie. `None` for one that no other may stand for. Hashes the whole
/// content.
///
/// # Errors
/// As [`version`].
pub fn content_key(recipe: &str, raw: &RawDocument) -> Result<Option<String>> {
    // Fields of the system, such as the moment of its end, are a document's own.
    if raw.metadata.keys().any(|name| name.starts_with('_')) {
        return Ok(None);
    }
    let mut metadata = raw.metadata.clone();
    metadata.retain(|name, _| !LOCATION_FIELDS.contains(&name.as_str()));
    let (metadata, from_path) = (canonical_json(&metadata)?, canonical_json(&path_fields(raw))?);
    let mut hasher = blake3::Hasher::new();
    let format = format_name(&raw.file_name).to_ascii_lowercase();
    for part in [recipe, &raw.title, &raw.media_type, &format, &metadata, &from_path] {
        field(&mut hasher, part.as_bytes());
    }
    field(&mut hasher, &[u8::from(raw.is_text)]);
    field(&mut hasher, &raw.data);
    Ok(Some(cut(&hasher.finalize().to_hex(), CONTENT_DIGITS).to_owned()))
}

/// As much of a file name as decides how a file is read: its extension. The whole name of one without (`Makefile`), of one
/// whose name stands for its format, and of a packed file, whose content is named after it.
fn format_name(file_name: &str) -> &str {
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_packed = ["gz", "tgz", "bz2", "xz", "zst", "z"].iter().any(|p| extension.eq_ignore_ascii_case(p));
    if extension.is_empty() || is_packed || name.eq_ignore_ascii_case("cmakelists.txt") {
        name
    } else {
        extension
    }
}

/// Whether two versions ask for the same points.
pub fn is_same_version(a: &str, b: &str) -> bool {
    cut(a, VERSION_DIGITS) == cut(b, VERSION_DIGITS)
}

/// The recipe's part of a stored version.
pub fn recipe_of(version: &str) -> &str {
    cut(version, RECIPE_DIGITS)
}

/// Adds a part so that no two lists of parts hash alike.
pub(crate) fn field(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

/// JSON with the keys of every object in order, so that equal metadata is equal text.
fn canonical_json(metadata: &Map<String, Value>) -> Result<String> {
    let mut out = String::new();
    write_object(metadata, 1, &mut out)?;
    Ok(out)
}

fn write_object(object: &Map<String, Value>, depth: usize, out: &mut String) -> Result<()> {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
    out.push('{');
    for (i, (key, value)) in entries.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_scalar(&Value::String(key.clone()), out)?;
        out.push(':');
        write_value(value, depth + 1, out)?;
    }
    out.push('}');
    Ok(())
}

fn write_value(value: &Value, depth: usize, out: &mut String) -> Result<()> {
    if depth > MAX_METADATA_DEPTH {
        let message = format!("nested deeper than the limit of {MAX_METADATA_DEPTH}");
        return Err(Error::invalid("metadata", message));
    }
    match value {
        Value::Object(object) => write_object(object, depth, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(item, depth + 1, out)?;
            }
            out.push(']');
            Ok(())
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &Value, out: &mut String) -> Result<()> {
    out.push_str(&value.to_string());
    if out.len() > MAX_METADATA_BYTES {
        let message = format!("over the limit of {MAX_METADATA_BYTES} bytes of JSON");
        return Err(Error::invalid("metadata", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;

    const RECIPE: &str = "0123456789abcdef";

    fn raw(text: &'static str) -> RawDocument {
        RawDocument {
            file_name: "a.txt".into(),
            data: Bytes::from_static(text.as_bytes()),
            ..Default::default()
        }
    }

    fn metadata(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_id_is_the_documents_own_then_its_uri_then_its_file_name() {
        let mut document = raw("x");
        assert_eq!(document_id(&document).unwrap(), "a.txt");
        document.uri = "file:///a.txt".into();
        assert_eq!(document_id(&document).unwrap(), "file:///a.txt");
        document.id = "mine".into();
        assert_eq!(document_id(&document).unwrap(), "mine");
        assert_eq!(document_id(&RawDocument::default()).unwrap_err().field(), Some("document_id"));
    }

    #[test]
    fn ids_keep_their_bounds() {
        let fits = "é".repeat(MAX_DOCUMENT_ID_BYTES / 2);
        assert_eq!(bounded_id(&fits), fits);
        let (a, b) = (format!("{fits}a"), format!("{fits}b"));
        assert!(bounded_id(&a).len() <= MAX_DOCUMENT_ID_BYTES);
        assert_ne!(bounded_id(&a), bounded_id(&b));
        let error = document_id(&RawDocument { id: a, ..Default::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn the_order_of_keys_does_not_change_a_version() {
        let (mut a, mut b) = (raw("x"), raw("x"));
        a.metadata.insert("b".into(), json!({"y": 1, "x": [true, null]}));
        a.metadata.insert("a".into(), json!("text"));
        b.metadata.insert("a".into(), json!("text"));
        b.metadata.insert("b".into(), json!({"x": [true, null], "y": 1}));
        assert_eq!(version(RECIPE, &a).unwrap(), version(RECIPE, &b).unwrap());
    }

    #[test]
    fn every_part_changes_a_version_and_the_modification_time_does_not() {
        let base = version(RECIPE, &raw("x")).unwrap();
        assert_eq!(base.len(), VERSION_DIGITS);
        assert_eq!(recipe_of(&base), RECIPE);
        assert_eq!(version(RECIPE, &RawDocument { modified_ns: Some(5), ..raw("x") }).unwrap(), base);
        let changed = [
            raw("y"),
            RawDocument { title: "t".into(), ..raw("x") },
            RawDocument { uri: "u".into(), ..raw("x") },
            RawDocument { file_name: "b.txt".into(), ..raw("x") },
            RawDocument { media_type: "text/plain".into(), ..raw("x") },
            RawDocument { is_text: true, ..raw("x") },
            RawDocument { metadata: metadata(json!({"a": 1})), ..raw("x") },
        ];
        let mut versions: Vec<_> = changed.iter().map(|raw| version(RECIPE, raw).unwrap()).collect();
        versions.push(base);
        versions.push(version("fedcba9876543210", &raw("x")).unwrap());
        let count = versions.len();
        versions.sort();
        versions.dedup();
        assert_eq!(versions.len(), count);
    }

    #[test]
    fn metadata_over_its_bounds_is_refused() {
        let mut deep = json!(1);
        for _ in 0..=MAX_METADATA_DEPTH {
            deep = json!([deep]);
        }
        for value in [json!({"a": "x".repeat(MAX_METADATA_BYTES)}), json!({ "a": deep })] {
            let error = version(RECIPE, &RawDocument { metadata: metadata(value), ..raw("x") }).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidArgument, Some("metadata")));
        }
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 99), "aé");
    }
}
