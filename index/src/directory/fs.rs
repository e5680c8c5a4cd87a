//! A directory of the file system: the only file of the engine that calls `std::fs`.
//!
//! **Invariant**: a name of a finished file never points to an unfinished one: write under a temporary name, sync,
//! rename, sync the folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::map::{Residency, map};
use super::{
    AppendFile, Directory, DirectoryLock, FileWriter, UNFINISHED_SUFFIX, check_finished_path, check_folder,
    check_log_path, check_path, check_rename, is_log,
};
use crate::background::give_way;
use crate::error::{Error, Result};

/// The file that is locked while a process owns the directory.
const LOCK_FILE: &str = "LOCK";
/// Bytes that one call of the system writes. While it copies them nobody else gets the core, however urgent: ten
/// megabytes in one call would keep a search waiting for milliseconds.
const PIECE: usize = 128 << 10;

/// A folder of the file system.
#[derive(Debug, Clone)]
pub struct FsDirectory {
    root: PathBuf,
}

impl FsDirectory {
    /// Opens a folder, making it and those above it if they aren't there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        // A full path keeps its meaning when the process changes its working directory, and says more in messages.
        let root = std::path::absolute(&root).map_err(|source| Error::io(&root, source))?;
        create_folder(&root)?;
        Ok(Self { root })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn names(&self, folder: &str, wanted: fn(&fs::FileType) -> bool) -> Result<Vec<String>> {
        check_folder(folder)?;
        let full = self.resolve(folder);
        let failed = |source| Error::io(&full, source);
        let entries = match fs::read_dir(&full) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if !wanted(&entry.file_type().map_err(failed)?) {
                continue;
            }
            // A name that isn't UTF-8 is not ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl Directory for FsDirectory {
    fn read(&self, path: &str) -> Result<Bytes> {
        check_path(path)?;
        let full = self.resolve(path);
        let failed = |source| Error::io(&full, source);
        let mut file = File::open(&full).map_err(failed)?;
        if is_log(path) {
            let mut data = Vec::new();
            file.read_to_end(&mut data).map_err(failed)?;
            return Ok(Bytes::from(data));
        }
        map(&file).map(|(bytes, _)| bytes).map_err(failed)
    }

    fn map(&self, path: &str) -> Result<(Bytes, Residency)> {
        check_finished_path(path)?;
        let full = self.resolve(path);
        let mapped = File::open(&full).and_then(|file| map(&file));
        mapped.map_err(|source| Error::io(&full, source))
    }

    fn stream(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        check_path(path)?;
        let full = self.resolve(path);
        let file = File::open(&full).map_err(|source| Error::io(&full, source))?;
        Ok(Box::new(file))
    }

    fn write_atomic(&self, path: &str, data: &[u8]) -> Result<()> {
        check_path(path)?;
        let mut writer = FsFileWriter::start(self.resolve(path))?;
        writer.write_all(data).map_err(|source| Error::io(&writer.path, source))?;
        Box::new(writer).finish().map(|_| ())
    }

    fn create(&self, path: &str) -> Result<Box<dyn FileWriter>> {
        check_finished_path(path)?;
        let full = self.resolve(path);
        if full.exists() {
            return Err(Error::io(full, io::ErrorKind::AlreadyExists.into()));
        }
        Ok(Box::new(FsFileWriter::start(full)?))
    }

    fn append(&self, path: &str) -> Result<Box<dyn AppendFile>> {
        check_log_path(path)?;
        let full = self.resolve(path);
        let is_new = !full.exists();
        let opened = OpenOptions::new().append(true).create(true).open(&full);
        let file = opened.map_err(|source| Error::io(&full, source))?;
        if is_new {
            sync_parent(&full)?;
        }
        Ok(Box::new(FsAppendFile { file, path: full }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        check_rename(from, to)?;
        let (from, to) = (self.resolve(from), self.resolve(to));
        fs::rename(&from, &to).map_err(|source| Error::io(&from, source))?;
        sync_parent(&to)?;
        if from.parent() != to.parent() {
            sync_parent(&from)?;
        }
        Ok(())
    }

    fn delete(&self, path: &str) -> Result<()> {
        check_path(path)?;
        let full = self.resolve(path);
        unless_missing(fs::remove_file(&full)).map_err(|source| Error::io(full, source))
    }

    fn exists(&self, path: &str) -> Result<bool> {
        check_path(path)?;
        let full = self.resolve(path);
        match fs::metadata(&full) {
            Ok(metadata) => Ok(metadata.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(full, error)),
        }
    }

    fn len(&self, path: &str) -> Result<u64> {
        check_path(path)?;
        let full = self.resolve(path);
        fs::metadata(&full).map(|metadata| metadata.len()).map_err(|source| Error::io(full, source))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.names(folder, fs::FileType::is_file)
    }

    fn list_dirs(&self, folder: &str) -> Result<Vec<String>> {
        self.names(folder, fs::FileType::is_dir)
    }

    fn create_dir(&self, path: &str) -> Result<()> {
        check_path(path)?;
        create_folder(&self.resolve(path))
    }

    fn delete_dir(&self, path: &str) -> Result<()> {
        check_path(path)?;
        let full = self.resolve(path);
        unless_missing(fs::remove_dir_all(&full)).map_err(|source| Error::io(full, source))
    }

    fn lock(&self) -> Result<DirectoryLock> {
        let full = self.root.join(LOCK_FILE);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&full);
        let file = opened.map_err(|source| Error::io(&full, source))?;
        match file.try_lock() {
            Ok(()) => Ok(DirectoryLock::new(file)),
            Err(TryLockError::WouldBlock) => Err(Error::FailedPrecondition(format!(
                "the data directory {} is in use by another process; stop it or choose another directory",
                self.root.display()
            ))),
            Err(TryLockError::Error(source)) => Err(Error::io(full, source)),
        }
    }

    fn full_path(&self, path: &str) -> PathBuf {
        self.resolve(path)
    }
}

/// A file under its temporary name.
#[derive(Debug)]
struct FsFileWriter {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    len: u64,
    finished: bool,
}

impl FsFileWriter {
    fn start(path: PathBuf) -> Result<Self> {
        let mut temporary = path.clone().into_os_string();
        temporary.push(UNFINISHED_SUFFIX);
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(|source| Error::io(&temporary, source))?;
        Ok(Self { file, temporary, path, len: 0, finished: false })
    }
}

impl Write for FsFileWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data.get(..PIECE).unwrap_or(data))?;
        if written == PIECE {
            give_way();
        }
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FileWriter for FsFileWriter {
    fn finish(mut self: Box<Self>) -> Result<u64> {
        self.file.sync_all().map_err(|source| Error::io(&self.temporary, source))?;
        fs::rename(&self.temporary, &self.path).map_err(|source| Error::io(&self.path, source))?;
        self.finished = true;
        sync_parent(&self.path)?;
        Ok(self.len)
    }
}

impl Drop for FsFileWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is swept when the directory is opened again.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[derive(Debug)]
struct FsAppendFile {
    file: File,
    path: PathBuf,
}

impl AppendFile for FsAppendFile {
    fn write_all(&mut self, data: &[u8]) -> Result<()> {
        let mut pieces = data.chunks(PIECE);
        pieces
            .try_for_each(|piece| self.file.write_all(piece))
            .map_err(|source| Error::io(&self.path, source))
    }

    fn sync_data(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|source| Error::io(&self.path, source))
    }

    fn len(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|source| Error::io(&self.path, source))
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        let cut = self.file.set_len(len).and_then(|()| self.file.sync_all());
        cut.map_err(|source| Error::io(&self.path, source))
    }
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a folder and the missing ones above it, each durable in the one above.
fn create_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(Error::io(path, error)),
    }
}

/// Puts the name of a file on disk: a rename is durable only with its folder.
fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Windows can't open a folder as a file; NTFS journals the rename itself.
    if cfg!(unix) {
        let synced = File::open(parent).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::io(parent, source))?;
    }
    Ok(())
}
