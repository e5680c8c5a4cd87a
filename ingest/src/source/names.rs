//! Names of a folder's files: key, document id, uri. Pure; it never looks at a disk.
//!
//! A key is the document id without the root: mostly the relative path with `/`, but unlike that always UTF-8, bounded
//! and unique.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::pipeline::bounded_id;

/// Longest path of a root, in bytes. Leaves room for the names of its files in a document id.
pub(crate) const MAX_ROOT_BYTES: usize = 700;

/// The names of one folder's files.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The root with `/` at its end.
    prefix: String,
}

impl Names {
    pub fn new(root: &Path) -> Self {
        let mut prefix = slashed(root);
        if !prefix.ends_with('/') {
            prefix.push('/');
        }
        Self { prefix }
    }

    /// Key of a path relative to the root.
    pub fn key(&self, relative: &Path) -> String {
        let mut name = format!("{}{}", self.prefix, slashed(relative));
        if relative.to_str().is_none() {
            let hash = blake3::hash(relative.as_os_str().as_encoded_bytes()).to_hex();
            name = format!("{name}~{}", hash.get(..12).unwrap_or_default());
        }
        let id = bounded_id(&name);
        self.key_of_id(&id).unwrap_or(&id).to_owned()
    }

    /// Document id of a key.
    pub fn id(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Key of a document id; `None` when it does not lie in the folder.
    pub fn key_of_id<'a>(&self, id: &'a str) -> Option<&'a str> {
        id.strip_prefix(self.prefix.as_str())
    }
}

/// A path with `/` between its parts, as text for people.
pub(crate) fn slashed(path: &Path) -> String {
    let text = path.to_string_lossy();
    if std::path::MAIN_SEPARATOR == '/' {
        text.into_owned()
    } else {
        text.replace(std::path::MAIN_SEPARATOR, "/")
    }
}

/// `file://` URL of an absolute path (RFC 8089).
pub(crate) fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    let bytes = path.as_os_str().as_encoded_bytes();
    if !bytes.starts_with(b"/") {
        url.push('/');
    }
    for &byte in bytes {
        let byte = if std::path::MAIN_SEPARATOR == '\\' && byte == b'\\' { b'/' } else { byte };
        if byte.is_ascii_alphanumeric() || b"-._~/:!$&'()*+,;=@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// Makes a root absolute without asking the disk, so that a folder that is away for now keeps its name.
///
/// # Errors
/// `InvalidArgument` when it is empty, relative, too long, or no UTF-8.
pub(crate) fn absolute_root(path: &Path) -> Result<PathBuf> {
    if !path.is_absolute() {
        return Err(Error::invalid("path", format!("{:?} is not an absolute path", path.display())));
    }
    let mut root = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                return Err(Error::invalid("path", "a watched folder's path can't contain .."));
            }
            Component::CurDir => {}
            part => root.push(part),
        }
    }
    match root.to_str() {
        Some(text) if text.len() <= MAX_ROOT_BYTES => Ok(root),
        Some(text) => {
            let message = format!("{} bytes are over the limit of {MAX_ROOT_BYTES}", text.len());
            Err(Error::invalid("path", message))
        }
        None => Err(Error::invalid("path", "a watched folder's path must be UTF-8")),
    }
}

/// The last part of a path and its extension in lower case, as text.
pub(crate) fn file_name(path: &Path) -> (String, String) {
    let text =
        |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    (text(path.file_name()), text(path.extension()).to_lowercase())
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::pipeline::MAX_DOCUMENT_ID_BYTES;

    #[test]
    fn a_key_is_the_relative_path_and_its_id_the_absolute_one() {
        let names = Names::new(Path::new("/data/notes"));
        let key = names.key(Path::new("sub/ä b.txt"));
        assert_eq!(key, "sub/ä b.txt");
        assert_eq!(names.id(&key), "/data/notes/sub/ä b.txt");
        assert_eq!(names.key_of_id("/data/notes/sub/ä b.txt"), Some("sub/ä b.txt"));
        assert_eq!(names.key_of_id("/data/other/a.txt"), None);
        assert_eq!(names.key_of_id("/data/notesx"), None);
        assert_eq!(Names::new(Path::new("/")).id("etc/a"), "/etc/a");
    }

    #[test]
    fn names_that_are_no_utf8_or_too_long_stay_unique_and_bounded() {
        let root = format!("/{}", "r".repeat(MAX_ROOT_BYTES - 1));
        let names = Names::new(&absolute_root(Path::new(&root)).unwrap());
        let long = |end: &str| names.key(Path::new(&format!("{}/{end}", "x/".repeat(500))));
        let broken = |bytes: &[u8]| names.key(Path::new(OsStr::from_bytes(bytes)));
        let keys = [long("a"), long("b"), broken(b"a\xff.txt"), broken(b"a\xfe.txt"), "a\u{fffd}.txt".into()];
        for (i, key) in keys.iter().enumerate() {
            let id = names.id(key);
            assert!(id.len() <= MAX_DOCUMENT_ID_BYTES);
            assert_eq!(names.key_of_id(&id), Some(key.as_str()));
            assert!(!keys[..i].contains(key));
        }
    }

    #[test]
    fn urls_are_percent_encoded() {
        assert_eq!(file_url(Path::new("/a b/ä#?%.txt")), "file:///a%20b/%C3%A4%23%3F%25.txt");
        assert_eq!(file_url(Path::new(OsStr::from_bytes(b"/\xff"))), "file:///%FF");
    }

    #[test]
    fn roots_are_absolute_clean_and_bounded() {
        assert_eq!(absolute_root(Path::new("/a/./b//c/")).unwrap(), Path::new("/a/b/c"));
        let long = format!("/{}", "r".repeat(MAX_ROOT_BYTES));
        for bad in ["", "a/b", "/a/../b", &long] {
            assert_eq!(absolute_root(Path::new(bad)).unwrap_err().field(), Some("path"), "{bad}");
        }
    }
}
