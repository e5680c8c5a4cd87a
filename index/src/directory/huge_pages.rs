//! A copy of bytes in large pages, for what is read here and there all the time.
//!
//! A walk over a graph touches memory anywhere: with pages of 4 KiB nearly each touch also looks for its page. The system
//! gives pages of 2 MiB to private memory that asks for them, and not to mapped files. It must not know what the bytes are.

use std::ops::Range;

use bytes::Bytes;
#[cfg(target_os = "linux")]
use memmap2::{Advice, MmapMut};

/// Fewer bytes than a large page gain nothing.
const LEAST_BYTES: usize = 2 << 20;

/// Bytes that are copied before it is told.
const PIECE_BYTES: usize = 4 << 20;

/// A copy in large pages; `None` where there is nothing to gain or no such memory, which is no error. Tells `read` which
/// bytes were copied, so that they don't lie in memory twice for long.
pub(crate) fn copied(bytes: &[u8], read: impl Fn(Range<usize>)) -> Option<Bytes> {
    if bytes.len() < LEAST_BYTES {
        return None;
    }
    #[cfg(target_os = "linux")]
    {
        let mut memory = MmapMut::map_anon(bytes.len()).ok()?;
        if let Err(error) = memory.advise(Advice::HugePage) {
            tracing::debug!(%error, "no large pages");
            return None;
        }
        for (at, (copy, piece)) in memory.chunks_mut(PIECE_BYTES).zip(bytes.chunks(PIECE_BYTES)).enumerate() {
            copy.copy_from_slice(piece);
            read(at * PIECE_BYTES..at * PIECE_BYTES + piece.len());
        }
        Some(Bytes::from_owner(memory.make_read_only().ok()?))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (read, PIECE_BYTES);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_copy_holds_the_same_bytes() {
        let bytes: Vec<u8> = (0..LEAST_BYTES + PIECE_BYTES + 77).map(|at| (at % 251) as u8).collect();
        let told = Cell::new(0);
        let read = |range: Range<usize>| {
            assert_eq!(range.start, told.get());
            told.set(range.end);
        };
        // A system without large pages gives none.
        if let Some(copy) = copied(&bytes, read) {
            assert!(copy[..] == bytes[..]);
            assert_eq!(told.get(), bytes.len(), "all of it was read");
        }
        assert!(copied(&bytes[..LEAST_BYTES - 1], |_| ()).is_none());
    }
}
