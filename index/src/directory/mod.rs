//! The few file operations that the engine is built on, behind one trait, so that a test can cut the power and an
//! object store can stand here one day.
//!
//! Paths are relative, with `/` between names. There are two sorts of file, told apart by their name:
//!
//! * **finished files** are written once ([`Directory::create`], [`Directory::write_atomic`]), appear under their name
//!   only when they are complete and on disk, and never change; they can be mapped into memory;
//! * **logs** (names that end in `.log`) grow at the end ([`Directory::append`]) and are never mapped.
//!
//! This module must not know what the files mean.

mod faulty;
mod fs;
pub(crate) mod huge_pages;
mod map;
mod memory;
mod sub;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;

use bytes::Bytes;

pub use faulty::{Fault, FaultyDirectory, Operation};
pub use fs::FsDirectory;
pub use map::Residency;
pub use memory::MemDirectory;
pub use sub::SubDirectory;

use crate::error::{Error, Result};

/// Longest path inside a directory, in bytes.
pub const MAX_PATH_BYTES: usize = 512;
/// How the name of a file ends that is not finished yet. What a crash leaves behind is swept by
/// [`remove_unfinished`].
pub const UNFINISHED_SUFFIX: &str = ".tmp";
/// How the name of a file ends that grows by [`Directory::append`].
pub const LOG_SUFFIX: &str = ".log";

/// Folders and files under one root.
///
/// When an operation that makes, replaces or renames a file returns, a power cut can't undo it. A deletion may come
/// undone: a file that was deleted shortly before a power cut can be there again.
pub trait Directory: Send + Sync + fmt::Debug {
    /// The whole content of a file. Large files are mapped, not copied: slices of the result share the mapping, and
    /// it stays readable when the file is deleted or replaced meanwhile. A finished file starts at a multiple of 64 in
    /// memory.
    fn read(&self, path: &str) -> Result<Bytes>;

    /// [`Directory::read`] of a finished file, with a say in which of its pages are in memory.
    fn map(&self, path: &str) -> Result<(Bytes, Residency)> {
        check_finished_path(path)?;
        Ok((self.read(path)?, Residency::default()))
    }

    /// The content of a file from the start, for files that are too large or too short-lived to be mapped.
    fn stream(&self, path: &str) -> Result<Box<dyn Read + Send>>;

    /// Makes or replaces a file in one step: after a crash there is the old content or the new one.
    fn write_atomic(&self, path: &str, data: &[u8]) -> Result<()>;

    /// Starts a new file. It appears under its name with [`FileWriter::finish`]; a writer that is dropped leaves
    /// nothing. An error if the file exists.
    fn create(&self, path: &str) -> Result<Box<dyn FileWriter>>;

    /// Opens a log for writing at its end, making it if it isn't there. The name must end in [`LOG_SUFFIX`].
    fn append(&self, path: &str) -> Result<Box<dyn AppendFile>>;

    /// Renames a file or a folder; a file at the new name is replaced.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Deletes a file. One that isn't there is no error.
    fn delete(&self, path: &str) -> Result<()>;

    /// Whether there is a file of this name.
    fn exists(&self, path: &str) -> Result<bool>;

    /// Length of a file in bytes.
    fn len(&self, path: &str) -> Result<u64>;

    /// Names of the files in a folder (`""` is the root), sorted, without those in folders below. A folder that
    /// isn't there has none.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// Names of the folders in a folder (`""` is the root), sorted. A folder that isn't there has none.
    fn list_dirs(&self, folder: &str) -> Result<Vec<String>>;

    /// Makes a folder, and those above it. One that is there is no error.
    fn create_dir(&self, path: &str) -> Result<()>;

    /// Deletes a folder with all that is in it. One that isn't there is no error.
    fn delete_dir(&self, path: &str) -> Result<()>;

    /// Claims the directory for this process until the lock is dropped.
    /// [`Error::FailedPrecondition`] when it is claimed already.
    fn lock(&self) -> Result<DirectoryLock>;

    /// A path as the user knows it, for messages.
    fn full_path(&self, path: &str) -> PathBuf {
        PathBuf::from(path)
    }
}

/// A file that is being written.
pub trait FileWriter: Write + Send + fmt::Debug {
    /// Puts everything on disk and gives the file its name. Returns its length in bytes.
    fn finish(self: Box<Self>) -> Result<u64>;
}

/// A log that is open for writing at its end.
pub trait AppendFile: Send + fmt::Debug {
    /// Writes at the end. After an error an unknown part of the data may have been written.
    fn write_all(&mut self, data: &[u8]) -> Result<()>;

    /// Returns when everything written is on disk. After an error nothing written since the last success can be
    /// relied on, and trying again doesn't help: the system may have dropped the pages.
    fn sync_data(&mut self) -> Result<()>;

    /// Length in bytes.
    fn len(&self) -> Result<u64>;

    /// Whether nothing is in it.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file to this length; on disk when it returns.
    fn truncate(&mut self, len: u64) -> Result<()>;
}

/// The claim on a directory; dropping it lets go.
pub struct DirectoryLock(#[expect(dead_code, reason = "only its drop matters")] Box<dyn Any + Send + Sync>);

impl DirectoryLock {
    fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for DirectoryLock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DirectoryLock")
    }
}

/// Checks that a path stays inside its directory: names joined by `/`, none of them empty, `.` or `..`, no character
/// that some system reads as a separator.
pub fn check_path(path: &str) -> Result<()> {
    let bad_name = |name: &str| name.is_empty() || name == "." || name == "..";
    let bad_char = |c: char| c.is_control() || matches!(c, '\\' | ':');
    if path.len() > MAX_PATH_BYTES || path.split('/').any(bad_name) || path.chars().any(bad_char) {
        let shown: String = path.chars().take(MAX_PATH_BYTES).collect();
        return Err(Error::Internal(format!("{shown:?} is not a path inside a directory")));
    }
    Ok(())
}

/// [`check_path`] for a folder, which may be the root.
fn check_folder(path: &str) -> Result<()> {
    if path.is_empty() { Ok(()) } else { check_path(path) }
}

/// [`check_path`] for a file that is to be finished under this name.
fn check_finished_path(path: &str) -> Result<()> {
    check_path(path)?;
    if path.ends_with(UNFINISHED_SUFFIX) || is_log(path) {
        return Err(Error::Internal(format!("{path:?} can't be the name of a finished file")));
    }
    Ok(())
}

/// [`check_path`] for a log.
fn check_log_path(path: &str) -> Result<()> {
    check_path(path)?;
    if !is_log(path) {
        return Err(Error::Internal(format!("{path:?} is not the name of a log")));
    }
    Ok(())
}

/// [`check_path`] for both names of a rename. A log stays a log: a mapped file must not be one that can be truncated.
fn check_rename(from: &str, to: &str) -> Result<()> {
    check_path(from)?;
    check_path(to)?;
    if is_log(from) != is_log(to) {
        return Err(Error::Internal(format!("{from:?} can't be renamed to {to:?}: a log stays a log")));
    }
    Ok(())
}

fn is_log(path: &str) -> bool {
    path.ends_with(LOG_SUFFIX)
}

/// The path of `name` in `folder`, which may be the root.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Deletes what a crash left unfinished in a folder and those below, and says how many files that were. Only for the
/// holder of the lock, before it writes.
pub fn remove_unfinished(directory: &dyn Directory, folder: &str) -> Result<usize> {
    let mut removed = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in directory.list(&folder)? {
            if name.ends_with(UNFINISHED_SUFFIX) {
                directory.delete(&join(&folder, &name))?;
                removed += 1;
            }
        }
        folders.extend(directory.list_dirs(&folder)?.iter().map(|name| join(&folder, name)));
    }
    if removed > 0 {
        tracing::info!(folder = %directory.full_path(folder).display(), removed, "removed unfinished files");
    }
    Ok(removed)
}
