//! A copy of bytes in large pages, for what is read here and there all the time.
//!
//! A walk over a graph touches memory anywhere: with pages of 4 KiB nearly each touch also looks for its page. The system
//! gives pages of 2 MiB to private memory that asks for them, and not to mapped files. It must not know what the bytes are.

use bytes::Bytes;
#[cfg(target_os = "linux")]
use memmap2::{Advice, MmapMut};

/// Fewer bytes than a large page gain nothing.
const LEAST_BYTES: usize = 2 << 20;

/// A copy in large pages; `None` where there is nothing to gain or no such memory, which is no error.
pub(crate) fn copied(bytes: &[u8]) -> Option<Bytes> {
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
        memory.copy_from_slice(bytes);
        Some(Bytes::from_owner(memory.make_read_only().ok()?))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_holds_the_same_bytes() {
        let bytes: Vec<u8> = (0..LEAST_BYTES + 77).map(|at| (at % 251) as u8).collect();
        // A system without large pages gives none.
        assert!(copied(&bytes).is_none_or(|copy| copy[..] == bytes[..]));
        assert!(copied(&bytes[..LEAST_BYTES - 1]).is_none());
    }
}
