//! A folder of a directory, as a directory of its own: each collection lives in one and doesn't know its place.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::{AppendFile, Directory, DirectoryLock, FileWriter, Residency, check_folder, check_path, join};
use crate::error::Result;

/// A folder of another directory.
#[derive(Debug, Clone)]
pub struct SubDirectory {
    inner: Arc<dyn Directory>,
    prefix: String,
}

impl SubDirectory {
    /// The folder `prefix` of `inner`; made if it isn't there.
    pub fn open(inner: Arc<dyn Directory>, prefix: &str) -> Result<Self> {
        inner.create_dir(prefix)?;
        Ok(Self { inner, prefix: prefix.to_owned() })
    }

    fn file(&self, path: &str) -> Result<String> {
        check_path(path)?;
        Ok(join(&self.prefix, path))
    }

    fn folder(&self, path: &str) -> Result<String> {
        check_folder(path)?;
        Ok(if path.is_empty() { self.prefix.clone() } else { join(&self.prefix, path) })
    }
}

impl Directory for SubDirectory {
    fn read(&self, path: &str) -> Result<Bytes> {
        self.inner.read(&self.file(path)?)
    }

    fn map(&self, path: &str) -> Result<(Bytes, Residency)> {
        self.inner.map(&self.file(path)?)
    }

    fn stream(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        self.inner.stream(&self.file(path)?)
    }

    fn write_atomic(&self, path: &str, data: &[u8]) -> Result<()> {
        self.inner.write_atomic(&self.file(path)?, data)
    }

    fn create(&self, path: &str) -> Result<Box<dyn FileWriter>> {
        self.inner.create(&self.file(path)?)
    }

    fn append(&self, path: &str) -> Result<Box<dyn AppendFile>> {
        self.inner.append(&self.file(path)?)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename(&self.file(from)?, &self.file(to)?)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(&self.file(path)?)
    }

    fn exists(&self, path: &str) -> Result<bool> {
        self.inner.exists(&self.file(path)?)
    }

    fn len(&self, path: &str) -> Result<u64> {
        self.inner.len(&self.file(path)?)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.inner.list(&self.folder(folder)?)
    }

    fn list_dirs(&self, folder: &str) -> Result<Vec<String>> {
        self.inner.list_dirs(&self.folder(folder)?)
    }

    fn create_dir(&self, path: &str) -> Result<()> {
        self.inner.create_dir(&self.file(path)?)
    }

    fn delete_dir(&self, path: &str) -> Result<()> {
        self.inner.delete_dir(&self.file(path)?)
    }

    /// Claims the whole directory that this is a folder of.
    fn lock(&self) -> Result<DirectoryLock> {
        self.inner.lock()
    }

    fn full_path(&self, path: &str) -> PathBuf {
        self.inner.full_path(&join(&self.prefix, path))
    }
}
