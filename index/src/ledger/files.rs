//! Ledger files: sorted changes, merged like the levels of a log-structured tree.
//!
//! A body is a row of [`Change`]s in postcard, documents before entries, each in the order of its key. A checkpoint
//! writes one file; it takes those older files in that are at most [`GROWTH`] times as large as what is written already.
//! So each file is larger than all newer ones together, there are few of them, and a change is written again about once
//! per doubling of the ledger. A file that takes in the oldest one has no deletions any more.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Delta, Ledger};
use crate::directory::Directory;
use crate::document::DocumentRecord;
use crate::error::{Error, Result};
use crate::file_format::{FOOTER_BYTES, FileKind, HEADER_BYTES, SealedWriter, open_file, seal_file};

/// Folder of the ledger files.
pub const LEDGER_FOLDER: &str = "ledger";
/// An older file that is larger than this many times the newer ones together stays as it is.
const GROWTH: u64 = 2;
/// What a key and the bookkeeping of a change take at least, for the estimate of a size.
const CHANGE_BYTES: u64 = 16;

/// Version 1 of the format. Postcard tells neither names nor types: what [`Change`] or [`DocumentRecord`] look like may
/// only change together with the version, and the old one must stay readable. A test holds the bytes fast.
const KIND: FileKind = FileKind { magic: *b"LEDGER\0\0", version: 1, name: "ledger" };

/// A change of the ledger, as on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    PutDocument(Arc<DocumentRecord>),
    DeleteDocument(String),
    PutEntry { key: String, value: Arc<[u8]> },
    DeleteEntry(String),
}

impl Change {
    /// What changes are sorted by; two of the same key are two states of one thing.
    fn key(&self) -> (u8, &str) {
        match self {
            Self::PutDocument(document) => (0, &document.id),
            Self::DeleteDocument(id) => (0, id),
            Self::PutEntry { key, .. } | Self::DeleteEntry(key) => (1, key),
        }
    }

    fn is_deletion(&self) -> bool {
        matches!(self, Self::DeleteDocument(_) | Self::DeleteEntry(_))
    }
}

impl Delta {
    fn changes(&self) -> impl Iterator<Item = Change> {
        let documents = self.documents.iter().map(|(id, document)| match document {
            Some(document) => Change::PutDocument(Arc::clone(document)),
            None => Change::DeleteDocument(id.clone()),
        });
        let entries = self.entries.iter().map(|(key, value)| match value {
            Some(value) => Change::PutEntry { key: key.clone(), value: Arc::clone(value) },
            None => Change::DeleteEntry(key.clone()),
        });
        documents.chain(entries)
    }

    /// About how many bytes it takes in a file.
    fn bytes(&self) -> u64 {
        let documents = self.documents.iter().map(|(id, document)| {
            let strings =
                document.iter().flat_map(|d| [&d.uri, &d.title, &d.media_type, &d.version, &d.source_id]);
            id.len() + strings.map(String::len).sum::<usize>()
        });
        let entries =
            self.entries.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, |value| value.len()));
        documents.chain(entries).map(|bytes| bytes as u64 + CHANGE_BYTES).sum()
    }
}

/// Writes the changes since the last checkpoint into one new file, numbered `file_id`, that takes in some of the newest
/// of `files` (oldest first). Returns the files that make up the ledger now, for the manifest; those of `files` that are
/// not among them may be deleted once the manifest is swapped. Without changes nothing is written.
pub fn checkpoint(
    directory: &dyn Directory,
    files: &[String],
    delta: &Delta,
    file_id: u64,
) -> Result<Vec<String>> {
    if delta.is_empty() {
        return Ok(files.to_vec());
    }
    let path = format!("{LEDGER_FOLDER}/{file_id:010}");
    if files.contains(&path) {
        return Err(Error::Internal(format!("ledger file {path} is written a second time")));
    }
    directory.create_dir(LEDGER_FOLDER)?;
    // A crash may have left a file that no manifest names.
    directory.delete(&path)?;

    let (kept, merged) = files.split_at(files.len() - how_many_to_merge(directory, files, delta.bytes())?);
    let mut sources: Vec<Source<'_>> = Vec::with_capacity(merged.len() + 1);
    for file in merged {
        let changes: Box<dyn Iterator<Item = Result<Change>>> = Box::new(Reader::open(directory, file)?);
        sources.push(changes.peekable());
    }
    let newest: Box<dyn Iterator<Item = Result<Change>> + '_> = Box::new(delta.changes().map(Ok));
    sources.push(newest.peekable());

    seal_file(directory, &path, KIND, |writer| write_merged(writer, &mut sources, !kept.is_empty()))?;
    Ok(kept.iter().cloned().chain([path]).collect())
}

/// How many of the newest files go into a new one of `bytes` bytes.
fn how_many_to_merge(directory: &dyn Directory, files: &[String], mut bytes: u64) -> Result<usize> {
    bytes += (HEADER_BYTES + FOOTER_BYTES) as u64;
    for (merged, file) in files.iter().rev().enumerate() {
        let len = directory.len(file)?;
        if len > GROWTH * bytes {
            return Ok(merged);
        }
        bytes += len;
    }
    Ok(files.len())
}

type Source<'a> = Peekable<Box<dyn Iterator<Item = Result<Change>> + 'a>>;

/// Writes the newest state of everything in `sources` (oldest first), in order.
fn write_merged(writer: &mut SealedWriter, sources: &mut [Source<'_>], keep_deletions: bool) -> Result<()> {
    let mut bytes = Vec::new();
    while let Some(change) = next_merged(sources)? {
        if change.is_deletion() && !keep_deletions {
            continue;
        }
        bytes.clear();
        bytes = postcard::to_extend(&change, bytes).map_err(|error| Error::Internal(error.to_string()))?;
        writer.put(&bytes)?;
    }
    Ok(())
}

/// The newest change of the smallest key, with the older ones of that key dropped.
fn next_merged(sources: &mut [Source<'_>]) -> Result<Option<Change>> {
    let mut smallest: Option<(u8, String)> = None;
    for source in sources.iter_mut() {
        match source.peek() {
            Some(Ok(change)) => {
                let (sort, key) = change.key();
                if smallest.as_ref().is_none_or(|(s, k)| (sort, key) < (*s, k.as_str())) {
                    smallest = Some((sort, key.to_owned()));
                }
            }
            Some(Err(_)) => return source.next().transpose(),
            None => {}
        }
    }
    let Some((sort, key)) = smallest else { return Ok(None) };
    let is_of_key =
        |change: &Result<Change>| matches!(change, Ok(change) if change.key() == (sort, key.as_str()));
    let mut newest = None;
    for source in sources {
        if let Some(change) = source.next_if(is_of_key) {
            newest = Some(change);
        }
    }
    newest.transpose()
}

/// Puts the changes of a file into a ledger.
pub(super) fn read_into(ledger: &mut Ledger, directory: &dyn Directory, path: &str) -> Result<()> {
    for change in Reader::open(directory, path)? {
        match change? {
            Change::PutDocument(document) => {
                ledger.insert_document(document);
            }
            Change::DeleteDocument(id) => {
                ledger.remove_document(&id);
            }
            Change::PutEntry { key, value } => {
                ledger.entries.insert(key, value);
            }
            Change::DeleteEntry(key) => {
                ledger.entries.remove(&key);
            }
        }
    }
    Ok(())
}

/// The changes of a file, in order. Ends behind the first error.
struct Reader {
    body: Bytes,
    offset: usize,
    last_key: Option<(u8, String)>,
    path: std::path::PathBuf,
}

impl Reader {
    fn open(directory: &dyn Directory, path: &str) -> Result<Self> {
        let body = open_file(directory, path, KIND, true)?;
        Ok(Self { body, offset: 0, last_key: None, path: directory.full_path(path) })
    }

    fn read(&mut self) -> Result<Change> {
        let corrupt = |message: String| Error::corrupt(&self.path, self.offset as u64, message);
        let rest = self.body.get(self.offset..).unwrap_or_default();
        let (change, behind) =
            postcard::take_from_bytes::<Change>(rest).map_err(|error| corrupt(error.to_string()))?;
        let (sort, key) = change.key();
        if self.last_key.as_ref().is_some_and(|(s, k)| (*s, k.as_str()) >= (sort, key)) {
            return Err(corrupt(format!("{key:?} is out of order")));
        }
        self.last_key = Some((sort, key.to_owned()));
        self.offset = self.body.len() - behind.len();
        Ok(change)
    }
}

impl Iterator for Reader {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.body.len() {
            return None;
        }
        let change = self.read();
        if change.is_err() {
            self.offset = self.body.len();
        }
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::directory::MemDirectory;
    use crate::document::DocumentState;
    use crate::error::ErrorKind;
    use crate::file_format::seal_bytes;

    fn samples() -> [Change; 4] {
        let document = DocumentRecord {
            id: "a/b.md".into(),
            uri: "file:///a/b.md".into(),
            title: "B".into(),
            media_type: "text/markdown".into(),
            version: "ff".into(),
            size_bytes: 300,
            modified_ns: Some(-2),
            chunks: 3,
            state: DocumentState::Failed { reason: "no".into() },
            indexed_at_us: 1,
            source_id: "s".into(),
        };
        [
            Change::PutDocument(Arc::new(document)),
            Change::DeleteDocument("x".into()),
            Change::PutEntry { key: "k".into(), value: [1, 2, 255].into() },
            Change::DeleteEntry("l".into()),
        ]
    }

    fn body() -> Vec<u8> {
        samples().iter().flat_map(|change| postcard::to_stdvec(change).unwrap()).collect()
    }

    #[test]
    fn format_version_1_does_not_change() {
        // If this fails, directories that exist can't be read any more: raise the version and keep a reader of this one.
        let hex: String = body().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "0006612f622e6d640e66696c653a2f2f2f612f622e6d6401420d746578742f6d61726b646f776e026666ac0201030301026e6f020173",
                "010178",
                "02016b030102ff",
                "03016c"
            )
        );
    }

    #[test]
    fn broken_bodies_are_refused_at_every_byte() {
        let good = body();
        for at in 0..good.len() {
            let directory = MemDirectory::new();
            seal_bytes(&directory, "short", KIND, &good[..at]).unwrap();
            let read: Result<Vec<_>> = Reader::open(&directory, "short").unwrap().collect();
            match read {
                Ok(changes) => assert_eq!(changes, samples()[..changes.len()]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption),
            }
            for value in [0, 0x7F, 0xFF, good[at] ^ 1] {
                let mut bad = good.clone();
                bad[at] = value;
                let path = format!("{value}");
                let _ = directory.delete(&path);
                seal_bytes(&directory, &path, KIND, &bad).unwrap();
                // Some bytes may well be different: only the checksum, right here, could tell. No panic, no endless row.
                assert!(Reader::open(&directory, &path).unwrap().count() <= good.len());
            }
        }
    }

    #[test]
    fn changes_out_of_order_are_corruption() {
        let directory = MemDirectory::new();
        let twice =
            [postcard::to_stdvec(&samples()[3]).unwrap(), postcard::to_stdvec(&samples()[2]).unwrap()]
                .concat();
        seal_bytes(&directory, "file", KIND, &twice).unwrap();
        let error = Reader::open(&directory, "file").unwrap().last().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
    }
}
