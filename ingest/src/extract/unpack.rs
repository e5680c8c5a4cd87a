//! Archives as one document: each member is read like a file of its own and becomes a part named by its path. ZIP, tar,
//! gzip and gzipped tar; archives in archives to the depth that [`Scope`] allows.
//!
//! Nothing is written to disk, so paths of members are only names. What can't be read is left out and told of; an
//! archive of nothing readable is refused.

use std::io::{Cursor, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use super::members::Members;
use super::scope::Scope;
use crate::document::{ExtractedDocument, Passwords, RawDocument};
use crate::error::{Error, Result};

/// Where the mark of a tar header stands, and the size of the header.
const TAR_MARK: std::ops::Range<usize> = 257..262;
const TAR_HEADER_BYTES: usize = 512;
/// Longest name of a member that is kept, in characters.
const MAX_NAME_CHARS: usize = 500;
/// Folders and files that systems put into archives by themselves.
const CLUTTER: &[&str] = &["__MACOSX", ".DS_Store", "Thumbs.db", ".git", ".svn"];

/// Whether this begins like a tar archive.
pub(super) fn is_tar(data: &[u8]) -> bool {
    data.get(TAR_MARK).is_some_and(|mark| mark == b"ustar")
}

/// Reads a ZIP archive.
pub(super) fn zip(raw: &RawDocument, scope: &Scope) -> Result<ExtractedDocument> {
    let mut archive = ZipArchive::new(Cursor::new(raw.data.as_ref()))
        .map_err(|error| Error::bad_content(format!("broken ZIP archive: {error}")))?;
    let mut members = Members::new(scope, raw)?;
    for index in 0..archive.len() {
        let name = match archive.name_for_index(index) {
            Some(Ok(name)) => display_name(&name),
            _ => format!("member {}", index + 1),
        };
        if name.ends_with('/') || is_clutter(&name) {
            continue;
        }
        scope.member()?;
        match zip_member(&mut archive, index, &name, &raw.options.passwords, scope) {
            Ok(Some(data)) => members.add(&name, data)?,
            Ok(None) => {}
            Err(error) if scope.is_used_up() => return Err(error),
            Err(error) => members.leave_out(&name, &error),
        }
    }
    members.finish("application/zip")
}

/// Content of a file in a ZIP archive; `None` for what is no file.
fn zip_member(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    name: &str,
    passwords: &Passwords,
    scope: &Scope,
) -> Result<Option<Bytes>> {
    let mut tried = passwords.iter();
    let mut password = None;
    loop {
        let opened = match password {
            None => archive.by_index(index),
            Some(password) => archive.by_index_decrypt(index, str::as_bytes(password)),
        };
        let failure = match opened {
            Ok(member) if !member.is_file() => return Ok(None),
            Ok(member) => {
                let packed = member.compressed_size();
                match inflate(member, packed, name, scope) {
                    // The check of a password lets one of 256 wrong ones through; then the content fails.
                    Err(error) if password.is_none() || scope.is_used_up() => return Err(error),
                    Err(error) => error,
                    Ok(data) => return Ok(Some(data)),
                }
            }
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) | ZipError::InvalidPassword) => {
                Error::bad_content("it needs a password")
            }
            Err(error) => return Err(Error::bad_content(format!("it can't be unpacked: {error}"))),
        };
        password = tried.next();
        if password.is_none() {
            return Err(failure);
        }
    }
}

/// Reads a tar archive.
pub(super) fn tar(raw: &RawDocument, scope: &Scope) -> Result<ExtractedDocument> {
    let mut members = Members::new(scope, raw)?;
    let mut archive = tar::Archive::new(raw.data.as_ref());
    let broken = |error: std::io::Error| Error::bad_content(format!("broken tar archive: {error}"));
    let entries = archive.entries().map_err(broken)?;
    for entry in entries {
        scope.member()?;
        let entry = match entry {
            Ok(entry) => entry,
            // What came before can be read; where the next member starts is not known any more.
            Err(error) => {
                members.leave_out("the rest", &broken(error));
                break;
            }
        };
        let name = display_name(&String::from_utf8_lossy(&entry.path_bytes()));
        if !entry.header().entry_type().is_file() || is_clutter(&name) {
            continue;
        }
        let packed = entry.size();
        match inflate(entry, packed, &name, scope) {
            Ok(data) => members.add(&name, data)?,
            Err(error) if scope.is_used_up() => return Err(error),
            Err(error) => members.leave_out(&name, &error),
        }
    }
    members.finish("application/x-tar")
}

/// Reads what is gzipped: a tar archive, or one file.
pub(super) fn gzip(raw: &RawDocument, scope: &Scope) -> Result<ExtractedDocument> {
    let mut decoder = MultiGzDecoder::new(raw.data.as_ref());
    let mut start = Vec::new();
    // An error comes again, with its message, when all is read.
    let _ = decoder.by_ref().take(TAR_HEADER_BYTES as u64).read_to_end(&mut start);
    let stored = decoder.header().and_then(|header| header.filename()).map(String::from_utf8_lossy);
    let name = file_name(raw, stored.as_deref());
    let packed = raw.data.len() as u64;
    let data = inflate(MultiGzDecoder::new(raw.data.as_ref()), packed, &name, scope)?;
    let inner = RawDocument { data, file_name: name.clone(), media_type: String::new(), ..raw.clone() };
    if is_tar(&start) {
        return Ok(ExtractedDocument { media_type: "application/gzip".into(), ..tar(&inner, scope)? });
    }
    scope.member()?;
    let mut members = Members::new(scope, raw)?;
    members.add(&name, inner.data)?;
    members.finish("application/gzip")
}

/// The name of what a gzip file holds: `a.txt.gz` holds `a.txt`.
fn file_name(raw: &RawDocument, stored: Option<&str>) -> String {
    let lower = raw.file_name.to_ascii_lowercase();
    let stem = |ending: &str| raw.file_name.get(..raw.file_name.len().saturating_sub(ending.len()));
    let own = match () {
        () if lower.ends_with(".tgz") => stem("tgz").map(|stem| format!("{stem}tar")),
        () if lower.ends_with(".gz") => stem(".gz").map(str::to_owned),
        () => None,
    };
    let name = own.filter(|name| !name.is_empty()).or_else(|| stored.map(display_name));
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "content".into())
}

/// Reads a member to its end or to the first limit.
fn inflate(mut member: impl Read, packed: u64, name: &str, scope: &Scope) -> Result<Bytes> {
    let mut data = Vec::new();
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        let count = match member.read(&mut buffer) {
            Ok(count) => count,
            Err(error) => return Err(Error::bad_content(format!("it can't be unpacked: {error}"))),
        };
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
            return Ok(Bytes::from(data));
        };
        data.extend_from_slice(part);
        scope.unpacked(part.len(), data.len() as u64, packed, name)?;
        scope.limits.check_source(data.len())?;
    }
}

/// A path as a name: slashes, no controls, no leading `./`, of bounded length.
fn display_name(path: &str) -> String {
    let name: String = path
        .chars()
        .filter(|c| !c.is_control())
        .map(|c| if c == '\\' { '/' } else { c })
        .take(MAX_NAME_CHARS)
        .collect();
    name.trim_start_matches("./").trim_start_matches('/').to_owned()
}

fn is_clutter(name: &str) -> bool {
    name.split('/').any(|part| CLUTTER.contains(&part) || part.starts_with("._"))
}
