//! Which files a path means, and what is told about each beside its content.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use ragstone_proto::v1::ingest_document_request::Content;
use ragstone_proto::v1::{IngestDocumentRequest, Payload, Value, value};

use super::Reading;

/// Largest file that is sent in one message.
pub(super) const MAX_SENT_BYTES: u64 = 60 << 20;

/// A file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct FoundFile {
    /// Absolute.
    pub(in crate::cli) path: PathBuf,
    /// The part below the folder that was named, or the file's name.
    pub(in crate::cli) relative: PathBuf,
    /// Whether the file itself was named on the command line.
    pub(in crate::cli) named: bool,
}

/// What the walk could not look at.
pub(in crate::cli) struct Unreadable {
    pub(in crate::cli) message: String,
    pub(in crate::cli) named: bool,
}

/// Finds the files that the paths mean, in a stable order, each once.
pub(in crate::cli) fn find(paths: &[PathBuf]) -> (Vec<FoundFile>, Vec<Unreadable>) {
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for path in paths {
        match path.canonicalize() {
            Ok(root) if root.is_dir() => walk(&root, &mut found, &mut unreadable),
            Ok(path) => {
                let relative = path.file_name().map(PathBuf::from).unwrap_or_default();
                found.push(FoundFile { path, relative, named: true });
            }
            Err(error) => {
                unreadable.push(Unreadable { message: format!("{}: {error}", path.display()), named: true })
            }
        }
    }
    // A file that was named and lies in a named folder too is sent once, as a named one.
    found.sort_by(|a, b| a.path.cmp(&b.path).then(b.named.cmp(&a.named)));
    found.dedup_by(|a, b| a.path == b.path);
    (found, unreadable)
}

fn walk(root: &Path, found: &mut Vec<FoundFile>, unreadable: &mut Vec<Unreadable>) {
    let walk = ignore::WalkBuilder::new(root).require_git(false).git_global(false).git_exclude(false).build();
    for entry in walk {
        match entry {
            Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file()) => {
                let relative = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
                found.push(FoundFile { path: entry.into_path(), relative, named: false });
            }
            Ok(_) => {}
            Err(error) => unreadable.push(Unreadable { message: error.to_string(), named: false }),
        }
    }
}

/// Reads a file into a request. Blocks.
pub(super) fn request(
    collection: &str,
    file: &FoundFile,
    tag: u64,
    reading: &Reading,
) -> Result<IngestDocumentRequest, String> {
    let path = file.path.to_str().ok_or("the name is not UTF-8; --watch can read it")?;
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if about.len() > MAX_SENT_BYTES {
        return Err(format!(
            "{} is more than can be sent ({}); --watch lets the server read it",
            super::super::output::bytes(about.len()),
            super::super::output::bytes(MAX_SENT_BYTES)
        ));
    }
    let data = std::fs::read(path).map_err(|error| error.to_string())?;
    Ok(IngestDocumentRequest {
        collection: collection.to_owned(),
        document_id: path.to_owned(),
        file_name: file.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        content: Some(Content::Data(data.into())),
        uri: file_uri(path),
        metadata: Some(metadata(file, &about, reading)),
        chunk: reading.chunk.clone(),
        passwords: reading.passwords.clone(),
        duplicates: reading.duplicates.into(),
        near_duplicates: reading.near_duplicates,
        near_duplicate_threshold: reading.near_duplicate_threshold,
        ttl_seconds: reading.ttl_seconds,
        tag,
        ..IngestDocumentRequest::default()
    })
}

/// The same payload that a watched folder gives its files.
fn metadata(file: &FoundFile, about: &std::fs::Metadata, reading: &Reading) -> Payload {
    let text = |text: String| Value { kind: Some(value::Kind::StringValue(text)) };
    let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let extension = file.path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let relative = file.relative.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
    let size = value::Kind::IntegerValue(i64::try_from(about.len()).unwrap_or(i64::MAX));
    let mut fields = vec![
        ("file_name", text(name)),
        ("file_ext", text(extension)),
        ("path", text(relative.clone())),
        ("size", Value { kind: Some(size) }),
    ];
    if let Ok(modified) = about.modified() {
        fields.push(("modified", text(rfc3339(modified))));
    }
    let mut fields: HashMap<String, Value> =
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for (name, value) in reading.path_fields.as_ref().map(|rule| rule.of(&relative)).unwrap_or_default() {
        let kind = match value.as_i64() {
            Some(number) => value::Kind::IntegerValue(number),
            None => value::Kind::StringValue(value.as_str().unwrap_or_default().to_owned()),
        };
        fields.entry(name).or_insert(Value { kind: Some(kind) });
    }
    Payload { fields }
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// An absolute path as a `file://` address (RFC 8089): what a path segment can't hold is escaped.
fn file_uri(path: &str) -> String {
    let mut uri = String::from("file://");
    for &byte in path.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:!$&'()*+,;=@".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn folders_are_walked_without_hidden_and_ignored_files() {
        let folder =
            folder(&[("b/c.md", ""), ("a.txt", ""), (".hidden", ""), ("x.log", ""), (".gitignore", "*.log")]);
        let (found, unreadable) = find(&[folder.path().to_owned()]);
        let names: Vec<_> = found.iter().map(|file| file.relative.to_str().unwrap()).collect();
        assert_eq!(names, ["a.txt", "b/c.md"]);
        assert!(unreadable.is_empty() && found.iter().all(|file| !file.named));
    }

    #[test]
    fn a_file_named_twice_is_found_once_and_counts_as_named() {
        let folder = folder(&[("a.txt", "")]);
        let (found, _) =
            find(&[folder.path().to_owned(), folder.path().join("a.txt"), folder.path().join("a.txt")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].named);
    }

    #[test]
    fn a_path_that_is_not_there_is_told() {
        let folder = folder(&[]);
        let (found, unreadable) = find(&[folder.path().join("none.txt")]);
        assert!(found.is_empty() && unreadable[0].named && unreadable[0].message.contains("none.txt"));
    }

    #[test]
    fn requests_carry_identity_and_metadata() {
        let folder = folder(&[("sub/Ä b.TXT", "hello")]);
        let (found, _) = find(&[folder.path().to_owned()]);
        let request = request("c", &found[0], 7, &Reading::default()).unwrap();
        assert_eq!((request.tag, request.file_name.as_str()), (7, "Ä b.TXT"));
        assert!(
            request.uri.starts_with("file:///") && request.uri.ends_with("/sub/%C3%84%20b.TXT"),
            "{}",
            request.uri
        );
        assert_eq!(request.document_id, found[0].path.to_str().unwrap());
        let fields = request.metadata.unwrap().fields;
        let text = |name: &str| match fields[name].kind.clone().unwrap() {
            value::Kind::StringValue(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!((text("file_ext").as_str(), text("path").as_str()), ("txt", "sub/Ä b.TXT"));
        assert_eq!(fields["size"].kind, Some(value::Kind::IntegerValue(5)));
        assert!(DateTime::parse_from_rfc3339(&text("modified")).is_ok());
    }

    #[test]
    fn a_file_too_large_to_send_names_the_way_out() {
        let folder = folder(&[("big.txt", "")]);
        let path = folder.path().join("big.txt");
        std::fs::File::options().write(true).open(&path).unwrap().set_len(MAX_SENT_BYTES + 1).unwrap();
        let (found, _) = find(&[path]);
        assert!(request("c", &found[0], 0, &Reading::default()).unwrap_err().contains("--watch"));
    }
}
