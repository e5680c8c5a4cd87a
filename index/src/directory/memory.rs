//! A directory in memory, for tests: the same rules as the file system, no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;

use super::{
    AppendFile, Directory, DirectoryLock, FileWriter, check_finished_path, check_folder, check_log_path,
    check_path, check_rename,
};
use crate::error::{Error, Result};

/// Files and folders in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemDirectory {
    tree: Arc<Mutex<Tree>>,
}

#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<String, Content>,
    folders: BTreeSet<String>,
    locked: bool,
}

#[derive(Debug, Clone)]
enum Content {
    Finished(Bytes),
    Log(Arc<Mutex<Vec<u8>>>),
}

impl Content {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Finished(data) => data.clone(),
            Self::Log(data) => Bytes::from(data.lock().clone()),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Finished(data) => data.len() as u64,
            Self::Log(data) => data.lock().len() as u64,
        }
    }
}

impl Tree {
    fn file(&self, path: &str) -> Result<&Content> {
        self.files.get(path).ok_or_else(|| missing(path))
    }

    fn check_parent(&self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) if !self.folders.contains(parent) => Err(missing(path)),
            _ => Ok(()),
        }
    }
}

fn missing(path: &str) -> Error {
    Error::io(path, io::ErrorKind::NotFound.into())
}

/// A copy that starts at a multiple of 64, as a mapped file does, so that readers can see it as numbers.
fn aligned_copy(data: &[u8]) -> Bytes {
    const ALIGNMENT: usize = 64;
    let mut buffer = vec![0; data.len() + ALIGNMENT];
    let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    if let Some(room) = buffer.get_mut(start..start + data.len()) {
        room.copy_from_slice(data);
    }
    Bytes::from(buffer).slice(start..start + data.len())
}

/// The name of `path` when it is directly in `folder`.
fn name_in<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    let name = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
    (!name.contains('/')).then_some(name)
}

/// Whether `path` is below `folder`.
fn is_below(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

impl MemDirectory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file of any content under any name, also one that can't be written through [`Directory`]: half of one, a
    /// log with a flipped bit.
    pub fn plant(&self, path: &str, data: &[u8]) -> Result<()> {
        check_path(path)?;
        let content = if super::is_log(path) {
            Content::Log(Arc::new(Mutex::new(data.to_vec())))
        } else {
            Content::Finished(aligned_copy(data))
        };
        let mut tree = self.tree.lock();
        tree.check_parent(path)?;
        tree.files.insert(path.to_owned(), content);
        Ok(())
    }
}

impl Directory for MemDirectory {
    fn read(&self, path: &str) -> Result<Bytes> {
        check_path(path)?;
        Ok(self.tree.lock().file(path)?.bytes())
    }

    fn stream(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.read(path)?.reader()))
    }

    fn write_atomic(&self, path: &str, data: &[u8]) -> Result<()> {
        self.plant(path, data)
    }

    fn create(&self, path: &str) -> Result<Box<dyn FileWriter>> {
        check_finished_path(path)?;
        let tree = self.tree.lock();
        tree.check_parent(path)?;
        if tree.files.contains_key(path) {
            return Err(Error::io(path, io::ErrorKind::AlreadyExists.into()));
        }
        Ok(Box::new(MemFileWriter { directory: self.clone(), path: path.to_owned(), data: Vec::new() }))
    }

    fn append(&self, path: &str) -> Result<Box<dyn AppendFile>> {
        check_log_path(path)?;
        let mut tree = self.tree.lock();
        tree.check_parent(path)?;
        let content = tree.files.entry(path.to_owned()).or_insert_with(|| Content::Log(Arc::default()));
        match content {
            Content::Log(data) => Ok(Box::new(MemAppendFile { data: Arc::clone(data) })),
            Content::Finished(_) => Err(Error::Internal(format!("{path:?} is not a log"))),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        check_rename(from, to)?;
        let mut tree = self.tree.lock();
        tree.check_parent(to)?;
        if let Some(content) = tree.files.remove(from) {
            tree.files.insert(to.to_owned(), content);
            return Ok(());
        }
        if !tree.folders.remove(from) {
            return Err(missing(from));
        }
        let moved = |path: &str| format!("{to}{}", path.strip_prefix(from).unwrap_or_default());
        tree.folders.insert(to.to_owned());
        let folders = std::mem::take(&mut tree.folders);
        tree.folders =
            folders.into_iter().map(|path| if is_below(from, &path) { moved(&path) } else { path }).collect();
        let files = std::mem::take(&mut tree.files);
        tree.files = files
            .into_iter()
            .map(|(path, c)| if is_below(from, &path) { (moved(&path), c) } else { (path, c) })
            .collect();
        Ok(())
    }

    fn delete(&self, path: &str) -> Result<()> {
        check_path(path)?;
        self.tree.lock().files.remove(path);
        Ok(())
    }

    fn exists(&self, path: &str) -> Result<bool> {
        check_path(path)?;
        Ok(self.tree.lock().files.contains_key(path))
    }

    fn len(&self, path: &str) -> Result<u64> {
        check_path(path)?;
        Ok(self.tree.lock().file(path)?.len())
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        check_folder(folder)?;
        let tree = self.tree.lock();
        Ok(tree.files.keys().filter_map(|path| name_in(folder, path)).map(str::to_owned).collect())
    }

    fn list_dirs(&self, folder: &str) -> Result<Vec<String>> {
        check_folder(folder)?;
        let tree = self.tree.lock();
        Ok(tree.folders.iter().filter_map(|path| name_in(folder, path)).map(str::to_owned).collect())
    }

    fn create_dir(&self, path: &str) -> Result<()> {
        check_path(path)?;
        let mut tree = self.tree.lock();
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        tree.folders.extend(ends.filter_map(|end| path.get(..end)).map(str::to_owned));
        Ok(())
    }

    fn delete_dir(&self, path: &str) -> Result<()> {
        check_path(path)?;
        let mut tree = self.tree.lock();
        tree.files.retain(|file, _| !is_below(path, file));
        tree.folders.retain(|folder| folder != path && !is_below(path, folder));
        Ok(())
    }

    fn lock(&self) -> Result<DirectoryLock> {
        let mut tree = self.tree.lock();
        if tree.locked {
            return Err(Error::FailedPrecondition("the directory in memory is in use".into()));
        }
        tree.locked = true;
        Ok(DirectoryLock::new(MemLock(self.clone())))
    }
}

struct MemLock(MemDirectory);

impl Drop for MemLock {
    fn drop(&mut self) {
        self.0.tree.lock().locked = false;
    }
}

#[derive(Debug)]
struct MemFileWriter {
    directory: MemDirectory,
    path: String,
    data: Vec<u8>,
}

impl Write for MemFileWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.data.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWriter for MemFileWriter {
    fn finish(self: Box<Self>) -> Result<u64> {
        self.directory.write_atomic(&self.path, &self.data)?;
        Ok(self.data.len() as u64)
    }
}

#[derive(Debug)]
struct MemAppendFile {
    data: Arc<Mutex<Vec<u8>>>,
}

impl AppendFile for MemAppendFile {
    fn write_all(&mut self, data: &[u8]) -> Result<()> {
        self.data.lock().extend_from_slice(data);
        Ok(())
    }

    fn sync_data(&mut self) -> Result<()> {
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        Ok(self.data.lock().len() as u64)
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        self.data.lock().truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }
}
