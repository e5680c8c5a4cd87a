//! Mapping a finished file into memory: the only place of the storage layer with `unsafe`.
//!
//! It must not know who reads the bytes, only that the file under them doesn't change.

#![expect(
    unsafe_code,
    reason = "a mapping is sound only while the file does not change, which the type can't show"
)]

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a whole finished file. The mapping lives as long as any slice of it, also after the file is deleted.
///
/// Benefit: segments of many gigabytes are searched without being read or copied first; the system's page cache decides
/// what stays in memory.
pub(super) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the bytes of a mapping must not change, and the file must not become shorter, while it is borrowed.
    // - A finished file gets its name only after its last byte is written and synced, by a rename; replacing or
    //   deleting it unlinks the inode and leaves its content alone (`FsDirectory::write_atomic`, `delete`).
    // - Files that grow or are truncated end in `.log`; they are never mapped, and renaming can't make one of the other.
    // - The data directory is locked, so no other process of ours writes in it. A foreign process that writes into a
    //   data directory breaks this, as it breaks every program that maps files; no program can prevent it.
    let mapped = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(mapped))
}
