//! All collections of one data directory.

use std::path::Path;
use std::sync::Arc;

use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::schema::CollectionSchema;

/// How the engine uses memory and cores.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// A memtable of more bytes is sealed.
    pub memtable_max_bytes: usize,
    /// A memtable of more rows is sealed.
    pub memtable_max_rows: usize,
    /// Threads for building graphs; 0: one per core.
    pub build_threads: usize,
    /// Compaction starts when a segment has more than this share of deleted rows.
    pub compact_deleted_share: f32,
    /// Compaction merges once there are this many segments of one size class.
    pub compact_fan_in: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memtable_max_bytes: 256 << 20,
            memtable_max_rows: 100_000,
            build_threads: 0,
            compact_deleted_share: 0.2,
            compact_fan_in: 4,
        }
    }
}

/// An open data directory.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens a data directory, making it if it isn't there, and recovers every collection. Takes a lock on it: a second
    /// process gets [`Error::FailedPrecondition`].
    pub fn open(_path: &Path, _options: StoreOptions) -> Result<Self> {
        Ok(Self {})
    }

    /// Creates a collection; durable when it returns.
    pub fn create_collection(&self, _name: &str, _schema: CollectionSchema) -> Result<Arc<Collection>> {
        Err(Error::Internal("open".into()))
    }

    /// An open collection.
    pub fn collection(&self, _name: &str) -> Result<Arc<Collection>> {
        Err(Error::Internal("open".into()))
    }

    /// All collections, by name.
    pub fn collections(&self) -> Vec<Arc<Collection>> {
        Vec::new()
    }

    /// Deletes a collection and its files. Searches that run keep their snapshot.
    pub fn delete_collection(&self, _name: &str) -> Result<()> {
        Err(Error::Internal("open".into()))
    }

    /// Stops background work and waits for it. Nothing acknowledged is lost without it.
    pub fn close(&self) {}
}
