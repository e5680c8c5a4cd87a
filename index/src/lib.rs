//! The engine of ragstone: a durable log, a memtable, immutable segments, and search by vector and by word over them.
//!
//! Synchronous by design: it knows no async runtime, no network and no embedder. What enters is Arrow batches
//! ([`batch`]), what leaves is points and scores ([`search`]).

#![warn(missing_docs)]

pub mod batch;
pub mod collection;
pub mod document;
pub mod error;
pub mod filter;
pub mod schema;
pub mod search;
pub mod store;
pub mod vector;
pub mod write;

pub use error::{Error, ErrorKind, Result};
