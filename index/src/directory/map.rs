//! Mapping a finished file into memory: the only place of the storage layer with `unsafe`.
//!
//! It must not know who reads the bytes, only that the file under them doesn't change.

#![expect(
    unsafe_code,
    reason = "a mapping is sound only while the file does not change, which the type can't show"
)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a whole finished file. The mapping lives as long as any slice of it, also after the file is deleted.
///
/// Benefit: segments of many gigabytes are searched without being read or copied first; the system's page cache decides
/// what stays in memory.
pub(super) fn map(file: &File) -> io::Result<(Bytes, Residency)> {
    if file.metadata()?.len() == 0 {
        return Ok((Bytes::new(), Residency::default()));
    }
    // SAFETY: the bytes of a mapping must not change, and the file must not become shorter, while it is borrowed.
    // - A finished file gets its name only after its last byte is written and synced, by a rename; replacing or
    //   deleting it unlinks the inode and leaves its content alone (`FsDirectory::write_atomic`, `delete`).
    // - Files that grow or are truncated end in `.log`; they are never mapped, and renaming can't make one of the other.
    // - The data directory is locked, so no other process of ours writes in it. A foreign process that writes into a
    //   data directory breaks this, as it breaks every program that maps files; no program can prevent it.
    let mapped = Arc::new(unsafe { Mmap::map(file)? });
    Ok((Bytes::from_owner(Owner(Arc::clone(&mapped))), Residency(Some(mapped))))
}

/// What the bytes of a mapping belong to.
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Which pages of a mapped file are wanted in memory. Of bytes that aren't mapped it knows nothing and does nothing; nor does
/// it on Windows.
///
/// Wishes only: the bytes read the same whatever is said here, and a system that doesn't follow is no error.
#[derive(Debug, Clone, Default)]
pub struct Residency(Option<Arc<Mmap>>);

impl Residency {
    /// Reads go here and there: nothing is read ahead of them.
    pub fn at_random(&self) {
        #[cfg(unix)]
        self.wish("random", |map| map.advise(memmap2::Advice::Random));
    }

    /// Everything is wanted soon and for long: the system reads it in the background, and in large pages where its cache has
    /// them, so that reads here and there don't look for their page each time.
    pub fn wanted(&self) {
        #[cfg(target_os = "linux")]
        self.wish("in large pages", |map| map.advise(memmap2::Advice::HugePage));
        #[cfg(unix)]
        self.wish("wanted", |map| map.advise(memmap2::Advice::WillNeed));
    }

    /// A range of bytes isn't wanted for now: its whole pages no longer count as this process's memory. Who reads them again
    /// gets them from the system's cache or the disk.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        self.wish("released", |map| {
            let end = range.end.min(map.len());
            let Some(len) = end.checked_sub(range.start).filter(|len| *len > 0) else { return Ok(()) };
            // SAFETY: dropping pages loses what was written into them and nowhere else. This is a shared mapping of a file, for
            // reading only: nothing was written, and the next read brings back the same bytes of the file.
            unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, len) }
        });
        #[cfg(not(unix))]
        let _ = range;
    }

    /// [`Self::release`] of the whole file.
    pub fn release_all(&self) {
        self.release(0..usize::MAX);
    }

    #[cfg(unix)]
    fn wish(&self, what: &str, advise: impl FnOnce(&Mmap) -> io::Result<()>) {
        if let Some(Err(error)) = self.0.as_deref().map(advise) {
            tracing::debug!(what, %error, "the system was not told which pages are wanted");
        }
    }
}
