//! Several small files as one: what tantivy writes for a segment, in one blob that is read in place. It knows no tantivy
//! query and nothing of what the files mean.
//!
//! ```text
//! "RAGSKWRD"  version u32  files u32  data_start u64  { name_len u16, name, offset u64, len u64 }*  data
//! ```
//!
//! Little-endian; offsets count from the first byte of the blob. The checksum of the whole is its container's.

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use stable_deref_trait::StableDeref;
use tantivy::Directory;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{DirectoryLock, FileHandle, Lock, OwnedBytes, WatchCallback, WatchHandle, WritePtr};

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"RAGSKWRD";
const VERSION: u32 = 1;
/// Magic, version, file count, data start.
const HEADER_BYTES: usize = 24;
/// Most files of a bundle: tantivy writes seven.
const MAX_FILES: usize = 64;

/// Packs files into a bundle.
pub(super) fn pack(files: &BTreeMap<String, OwnedBytes>) -> Result<Vec<u8>> {
    let table: usize = files.keys().map(|name| 2 + name.len() + 16).sum();
    let data_start = HEADER_BYTES + table;
    let data: usize = files.values().map(|file| file.len()).sum();
    let mut out = Vec::with_capacity(data_start + data);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let count = u32::try_from(files.len()).ok().filter(|count| *count as usize <= MAX_FILES);
    let count = count.ok_or_else(|| Error::Internal(format!("a bundle of {} files", files.len())))?;
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&(data_start as u64).to_le_bytes());
    let mut offset = data_start as u64;
    for (name, file) in files {
        let name_len = u16::try_from(name.len())
            .map_err(|_| Error::Internal(format!("a file name of {} bytes", name.len())))?;
        out.extend_from_slice(&name_len.to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&(file.len() as u64).to_le_bytes());
        offset += file.len() as u64;
    }
    debug_assert_eq!(out.len(), data_start, "the table is as long as was counted");
    for file in files.values() {
        out.extend_from_slice(file.as_slice());
    }
    Ok(out)
}

/// A bundle as a read-only tantivy directory. Cloning shares the bytes.
#[derive(Clone)]
pub(super) struct BundleDirectory {
    files: Arc<BTreeMap<PathBuf, OwnedBytes>>,
}

impl std::fmt::Debug for BundleDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.files.keys()).finish()
    }
}

impl BundleDirectory {
    /// Reads the table; every length is checked, nothing is copied. `path` names the file in errors.
    pub(super) fn open(path: &Path, bundle: Bytes) -> Result<Self> {
        let mut table = Table { path, bytes: &bundle, at: 0 };
        if table.take(8)? != MAGIC {
            return Err(Error::corrupt(path, 0, "not a keyword bundle"));
        }
        let version = u32::from_le_bytes(table.array()?);
        if version != VERSION {
            return Err(Error::corrupt(path, 8, format!("keyword bundle version {version} is not known")));
        }
        let count = u32::from_le_bytes(table.array()?) as usize;
        if count > MAX_FILES {
            return Err(Error::corrupt(path, 12, format!("{count} files in a keyword bundle")));
        }
        let data_start = u64::from_le_bytes(table.array()?);
        let mut spans = BTreeMap::new();
        // Files follow one another without gaps, so a wrong offset or length can't go unseen.
        let mut expected = data_start;
        for _ in 0..count {
            let at = table.at as u64;
            let name_len = usize::from(u16::from_le_bytes(table.array()?));
            let name = std::str::from_utf8(table.take(name_len)?)
                .map_err(|_| Error::corrupt(path, at, "a file name that is not UTF-8"))?
                .to_owned();
            let offset = u64::from_le_bytes(table.array()?);
            let len = u64::from_le_bytes(table.array()?);
            let end = offset.checked_add(len).filter(|end| *end <= bundle.len() as u64);
            let (Some(end), true) = (end, offset == expected) else {
                return Err(Error::corrupt(path, at, format!("file {name:?} is not within the bundle")));
            };
            expected = end;
            if spans.insert(name, offset as usize..end as usize).is_some() {
                return Err(Error::corrupt(path, at, "a file name that comes twice"));
            }
        }
        if table.at as u64 != data_start || expected != bundle.len() as u64 {
            return Err(Error::corrupt(path, 16, "the table does not cover the bundle"));
        }
        let whole = OwnedBytes::new(Stable(bundle));
        let files = spans.into_iter().map(|(name, span)| (PathBuf::from(name), whole.slice(span))).collect();
        Ok(Self { files: Arc::new(files) })
    }

    /// A file's bytes.
    pub(super) fn get(&self, name: &str) -> Option<&OwnedBytes> {
        self.files.get(Path::new(name))
    }
}

/// Reads the table with every step checked.
struct Table<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len);
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found =
            found.ok_or_else(|| Error::corrupt(self.path, self.at as u64, "the bundle ends too early"))?;
        self.at += len;
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let at = self.at as u64;
        <[u8; N]>::try_from(self.take(N)?)
            .map_err(|_| Error::corrupt(self.path, at, "the bundle ends too early"))
    }
}

/// [`Bytes`] for [`OwnedBytes`], which asks for a promise that no safe type over a memory map can give.
struct Stable(Bytes);

impl Deref for Stable {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

// SAFETY: `StableDeref` asks that `deref` gives the same address for as long as the value lives, also after a move.
// `Bytes` keeps pointer and length of a buffer on the heap, in a memory map or in static memory, and shares ownership of
// it; moving a `Bytes` moves that pointer, never the buffer. `Stable` is private, has no `DerefMut` and no method that
// changes its field, so pointer and length never change either.
#[expect(
    unsafe_code,
    reason = "a marker that lets tantivy read the memory map in place; the argument is above"
)]
unsafe impl StableDeref for Stable {}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a sealed segment is read only")
}

impl Directory for BundleDirectory {
    fn get_file_handle(&self, path: &Path) -> std::result::Result<Arc<dyn FileHandle>, OpenReadError> {
        match self.files.get(path) {
            Some(file) => Ok(Arc::new(file.clone())),
            None => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn delete(&self, path: &Path) -> std::result::Result<(), DeleteError> {
        Err(DeleteError::IoError { io_error: Arc::new(read_only()), filepath: path.to_owned() })
    }

    fn exists(&self, path: &Path) -> std::result::Result<bool, OpenReadError> {
        Ok(self.files.contains_key(path))
    }

    fn open_write(&self, path: &Path) -> std::result::Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::IoError { io_error: Arc::new(read_only()), filepath: path.to_owned() })
    }

    fn atomic_read(&self, path: &Path) -> std::result::Result<Vec<u8>, OpenReadError> {
        match self.files.get(path) {
            Some(file) => Ok(file.as_slice().to_vec()),
            None => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn atomic_write(&self, _path: &Path, _data: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    /// Nobody writes, so nobody has to be kept out.
    fn acquire_lock(&self, _lock: &Lock) -> std::result::Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;
    use std::path::Path;

    use bytes::Bytes;
    use tantivy::directory::OwnedBytes;

    use super::{BundleDirectory, pack};
    use crate::error::ErrorKind;

    fn sample() -> Vec<u8> {
        let file = |bytes: &[u8]| OwnedBytes::new(bytes.to_vec());
        let files = [("meta", file(b"{}")), ("empty", file(b"")), ("terms", file(&[7; 300]))];
        pack(&files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()).unwrap()
    }

    fn open(bytes: &[u8]) -> crate::Result<BundleDirectory> {
        BundleDirectory::open(Path::new("seg/words"), Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn files_come_back_in_place() {
        let bytes = Bytes::from(sample());
        let range = bytes.as_ptr_range();
        let bundle = BundleDirectory::open(Path::new("x"), bytes.clone()).unwrap();
        assert_eq!(bundle.get("meta").unwrap().as_slice(), b"{}");
        assert!(bundle.get("empty").unwrap().is_empty());
        assert!(range.contains(&bundle.get("terms").unwrap().as_slice().as_ptr()));
        assert!(bundle.get("other").is_none());
        drop(bytes);
        assert_eq!(bundle.get("terms").unwrap().as_slice(), [7; 300]);
    }

    #[test]
    fn every_cut_is_corruption() {
        let bytes = sample();
        for len in 0..bytes.len() {
            let error = open(&bytes[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{len}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(open(&longer).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn a_changed_table_is_corruption_or_other_names() {
        let bytes = sample();
        let names = BTreeMap::from([("meta", 2), ("empty", 0), ("terms", 300)]);
        let table = bytes.len() - 302;
        for at in 0..table {
            for flip in [0x01, 0x80, 0xFF] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                match open(&changed) {
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption),
                    // Nothing but a name may change unseen.
                    Ok(bundle) => assert!(names.keys().any(|name| bundle.get(name).is_none()), "byte {at}"),
                }
            }
        }
    }
}
