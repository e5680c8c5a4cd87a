//! The engine of ragstone: a durable log, a memtable, immutable segments, and search by vector and by word over them.
//!
//! Synchronous by design: it knows no async runtime, no network and no embedder. What enters is Arrow batches
//! ([`batch`]), what leaves is points and scores ([`search`]).

#![warn(missing_docs)]

mod background;
pub mod batch;
pub mod clock;
pub mod collection;
pub mod directory;
pub mod document;
pub mod error;
pub mod file_format;
pub mod filter;
mod fusion;
mod heap;
pub mod keyword;
pub mod ledger;
pub mod log;
mod maintenance;
pub mod manifest;
mod memtable;
pub mod payload;
pub mod plan;
pub mod recall;
mod rows;
pub mod schema;
pub mod scored;
pub mod search;
mod segment;
pub mod store;
pub mod tombstones;
mod validate;
pub mod vector;
pub mod write;

pub use error::{Error, ErrorKind, Result};
