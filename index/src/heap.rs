//! Freed memory goes back to the system when something large was let go of.
//!
//! A memtable is a great many small allocations. The C library keeps what is freed of them for later, since among them lie a
//! few that live on; a process that has sealed one would go on counting its memory, and the next merge on top of it. It must
//! not know what was let go of.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the C library's own function has no safe form")
)]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    /// Gives whole free pages of every arena back to the system; tells whether there were any.
    fn malloc_trim(keep_at_the_top: usize) -> std::ffi::c_int;
}

/// Gives what is free back to the system. It takes some milliseconds for 100 MiB, in which threads that allocate from the same
/// arena wait. Nothing happens where the C library isn't glibc: others give it back themselves.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: the function takes the locks of the allocator that it needs, may be called by any thread at any time, and
        // touches nothing that is allocated.
        unsafe { malloc_trim(0) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_kept_is_whole_and_what_was_freed_can_be_had_again() {
        let kept: Vec<Box<[u8]>> = (0..20_000_u32).map(|i| vec![i as u8; 1_500].into_boxed_slice()).collect();
        let (even, odd): (Vec<_>, Vec<_>) = kept.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
        drop(odd);
        give_back();
        assert!(even.iter().all(|(i, block)| block.iter().all(|byte| *byte == *i as u8)));
        let again: Vec<Box<[u8]>> = (0..20_000).map(|_| vec![9; 1_500].into_boxed_slice()).collect();
        assert!(again.iter().all(|block| block.iter().all(|byte| *byte == 9)));
        assert!(even.iter().all(|(i, block)| block.iter().all(|byte| *byte == *i as u8)));
    }
}
