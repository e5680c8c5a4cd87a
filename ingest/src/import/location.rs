//! What a path of a job names: a file of this machine, or objects of a store by a URL. It opens nothing.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What is understood, as errors name it.
const EXPECTED: &str = "expected a path, or a URL that begins with s3://, gs://, az://, abfss:// or file://";

/// Where a path of a job leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A file, folder or pattern of this machine.
    Local(PathBuf),
    /// An object, folder or pattern of a store.
    Object(ObjectUrl),
}

/// Whose store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Provider {
    S3,
    Google,
    Azure,
}

/// A URL of a store in its parts. The key is taken as it stands: nothing in it is decoded, `?` and `#` are no more than
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectUrl {
    pub provider: Provider,
    /// Scheme and bucket, as they were written: `s3://bucket`.
    pub base: String,
    /// Key, key prefix or pattern, without the slash that begins it.
    pub key: String,
}

impl Location {
    /// Reads a path of a job. `at` names it in errors.
    pub fn of(path: &Path, at: &str) -> Result<Self> {
        let Some((scheme, rest)) = path.to_str().and_then(split_scheme) else {
            return Ok(Self::Local(path.to_owned()));
        };
        let wrong = |why: &str| Error::invalid(at, format!("{}: {why}", path.display()));
        let provider = match scheme {
            "file" => return local(rest).map(Self::Local).map_err(wrong),
            "s3" | "s3a" => Provider::S3,
            "gs" => Provider::Google,
            "az" | "abfs" | "abfss" => Provider::Azure,
            _ => return Err(wrong(EXPECTED)),
        };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || bucket.contains(['*', '?', '[', ' ']) {
            return Err(wrong("expected the name of a bucket behind ://"));
        }
        let base = format!("{scheme}://{bucket}");
        Ok(Self::Object(ObjectUrl { provider, base, key: key.to_owned() }))
    }
}

/// Whether a path of an import is a URL. The others are paths of the machine that reads them.
pub fn is_url(path: &str) -> bool {
    split_scheme(path).is_some()
}

fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_scheme.then_some((scheme, rest))
}

/// The path of a file URL, decoded.
fn local(rest: &str) -> Result<PathBuf, &'static str> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("expected an absolute path of this machine behind file://");
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let code = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(code.ok_or("expected two hexadecimal digits behind %")?);
    }
    String::from_utf8(bytes).map(PathBuf::from).map_err(|_| "the path is not UTF-8")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn of(path: &str) -> Result<Location> {
        Location::of(Path::new(path), "paths[0]")
    }

    #[test]
    fn urls_fall_into_store_bucket_and_key() {
        for (url, provider, base, key) in [
            ("s3://b/a/*.parquet", Provider::S3, "s3://b", "a/*.parquet"),
            ("s3a://b", Provider::S3, "s3a://b", ""),
            ("s3://b/", Provider::S3, "s3://b", ""),
            ("gs://b/x%20y?#.jsonl", Provider::Google, "gs://b", "x%20y?#.jsonl"),
            ("az://c/p/", Provider::Azure, "az://c", "p/"),
            (
                "abfss://c@acc.dfs.core.windows.net/p",
                Provider::Azure,
                "abfss://c@acc.dfs.core.windows.net",
                "p",
            ),
        ] {
            let expected = ObjectUrl { provider, base: base.to_owned(), key: key.to_owned() };
            assert_eq!(of(url).unwrap(), Location::Object(expected), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_a_path() {
        for path in ["/a/b.parquet", "a*.parquet", "s3:/b", "C://x", "with space://x", "://x"] {
            assert_eq!(of(path).unwrap(), Location::Local(PathBuf::from(path)), "{path}");
            assert!(!is_url(path));
        }
        assert_eq!(of("file:///a%20b/%C3%B6*.pq").unwrap(), Location::Local(PathBuf::from("/a b/ö*.pq")));
        assert_eq!(of("file://localhost/a").unwrap(), Location::Local(PathBuf::from("/a")));
        assert!(is_url("file:///a"));
    }

    #[test]
    fn urls_that_lead_nowhere_are_refused_by_name() {
        for url in [
            "http://h/a.parquet",
            "ftp://h/a",
            "s3://",
            "s3:///a",
            "s3://b*/a",
            "file://host/a",
            "file:///%4",
        ] {
            let error = of(url).unwrap_err();
            assert_eq!(error.field(), Some("paths[0]"), "{url}");
            assert!(error.message().starts_with(url) && error.message().contains("expected"), "{error}");
        }
    }
}
