//! The log: what is acknowledged is in it, on disk, in order.
//!
//! It must not know what a payload means. One writer owns it; [`GroupCommit`] lets many callers share one sync.

mod file_log;
mod group_commit;
mod reader;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use file_log::{FileLog, LOG_FOLDER};
pub use group_commit::{Abandoned, GroupCommit};
pub use record::{MAX_RECORD_BYTES, MAX_SEQ};

use crate::error::Result;

/// An ordered, durable list of payloads, numbered one by one.
pub trait Log: Send + fmt::Debug {
    /// Adds a record; it is durable after the next [`Log::sync`]. `seq` must be [`Log::next_seq`]. A payload over
    /// [`MAX_RECORD_BYTES`] is refused and changes nothing. After any other error, here or in `sync` or `rotate`, the
    /// log takes no more records until it is opened again: what is on disk is not known.
    fn append(&mut self, seq: u64, payload: &[u8]) -> Result<()>;

    /// Puts everything appended on disk.
    fn sync(&mut self) -> Result<()>;

    /// Syncs, and starts a new part of the log, so that [`Log::remove_before`] can drop the parts before.
    /// `first_seq` must be [`Log::next_seq`].
    fn rotate(&mut self, first_seq: u64) -> Result<()>;

    /// Drops the parts whose records are all below `seq`. The newest part stays.
    fn remove_before(&mut self, seq: u64) -> Result<()>;

    /// Hands every synced record from `from_seq` on to `visit`, in order. An error of `visit` ends it.
    fn replay(&self, from_seq: u64, visit: &mut dyn FnMut(u64, Bytes) -> Result<()>) -> Result<()>;

    /// The number of the next record.
    fn next_seq(&self) -> u64;

    /// Bytes of all parts.
    fn bytes(&self) -> u64;
}
