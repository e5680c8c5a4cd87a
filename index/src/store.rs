//! All collections of one data directory.
//!
//! Layout: `STORE` (format version), `collections/NAME/` with `MANIFEST`, `log/`, `segments/`, `tombstones/`, `ledger/`.
//! A collection exists when its manifest does; a folder without one is what a crash left of a creation or a deletion.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::collection::Collection;
use crate::directory::{Directory, DirectoryLock, FsDirectory, SubDirectory, remove_unfinished};
use crate::error::{Error, Result};
use crate::maintenance::Maintenance;
use crate::manifest::MANIFEST_FILE;
use crate::schema::{CollectionSchema, check_name};
use crate::vector::VectorsParams;

/// Name of the file that says which format a data directory has.
const STORE: &str = "STORE";
/// Folder of the collections.
const COLLECTIONS: &str = "collections";
/// Most collections of one data directory.
pub const MAX_COLLECTIONS: usize = 10_000;

/// How the engine uses memory and cores.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreOptions {
    /// A memtable that takes more bytes of memory is sealed.
    pub memtable_max_bytes: usize,
    /// A memtable of more rows is sealed.
    pub memtable_max_rows: usize,
    /// A memtable whose log has more bytes is sealed, which bounds the time to recover.
    pub log_max_bytes: u64,
    /// Threads for building graphs; 0: as many as `background_cpu_share` allows.
    pub build_threads: usize,
    /// Share of the cores that building graphs may use, 0 to 1; one thread in any case.
    pub background_cpu_share: f32,
    /// Compaction rewrites a segment with more than this share of deleted rows.
    pub compact_deleted_share: f32,
    /// Compaction merges once there are this many segments of one size class.
    pub compact_fan_in: usize,
    /// Compaction makes no segment of more bytes than this.
    pub compact_max_segment_bytes: u64,
    /// Check every checksum before a collection is open. Otherwise that happens in the background once it is.
    pub verify_checksums: bool,
    /// What points expire by.
    pub clock: Clock,
    /// Share of the searches that are repeated by comparing every vector, 0 to 1: see [`crate::recall`].
    pub sampled_recall_share: f32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memtable_max_bytes: 256 << 20,
            memtable_max_rows: 100_000,
            log_max_bytes: 512 << 20,
            build_threads: 0,
            background_cpu_share: 1.0,
            compact_deleted_share: 0.2,
            compact_fan_in: 4,
            compact_max_segment_bytes: 1 << 30,
            verify_checksums: false,
            sampled_recall_share: 0.01,
            clock: Clock::default(),
        }
    }
}

impl StoreOptions {
    /// How graphs are built, where a vector space doesn't say otherwise.
    pub(crate) fn vectors_params(&self) -> VectorsParams {
        VectorsParams { threads: self.threads(), ..VectorsParams::default() }
    }

    /// Threads that build a graph.
    pub(crate) fn threads(&self) -> usize {
        if self.build_threads > 0 {
            return self.build_threads;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        ((cores as f32 * self.background_cpu_share.clamp(0.0, 1.0)).round() as usize).max(1)
    }
}

/// The content of `STORE`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version")]
enum StoreFile {
    #[serde(rename = "1")]
    V1 {},
}

/// An open data directory.
#[derive(Debug)]
pub struct Store {
    directory: Arc<dyn Directory>,
    options: StoreOptions,
    collections: RwLock<BTreeMap<String, Arc<Collection>>>,
    maintenance: Arc<Maintenance>,
    _lock: DirectoryLock,
}

impl Store {
    /// Opens a data directory, making it if it isn't there, and recovers every collection. Takes a lock on it: a second
    /// process gets [`Error::FailedPrecondition`].
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self> {
        Self::open_in(Arc::new(FsDirectory::open(path)?), options)
    }

    /// [`Store::open`] in any directory.
    pub fn open_in(directory: Arc<dyn Directory>, options: StoreOptions) -> Result<Self> {
        let lock = directory.lock()?;
        remove_unfinished(&*directory, "")?;
        check_version(&*directory)?;
        let maintenance = Arc::new(
            Maintenance::start(options.sampled_recall_share)
                .map_err(|error| Error::io(directory.full_path(""), error))?,
        );
        let mut collections = BTreeMap::new();
        for name in directory.list_dirs(COLLECTIONS)? {
            let folder = format!("{COLLECTIONS}/{name}");
            if !directory.exists(&format!("{folder}/{MANIFEST_FILE}"))? {
                tracing::warn!(
                    collection = name,
                    "a folder without a manifest is left of a creation or deletion: deleted"
                );
                directory.delete_dir(&folder)?;
                continue;
            }
            let collection = Collection::open(
                &name,
                sub(&directory, &folder)?,
                options.clone(),
                Arc::clone(&maintenance),
            )?;
            collections.insert(name, collection);
        }
        Ok(Self { directory, options, collections: RwLock::new(collections), maintenance, _lock: lock })
    }

    /// Creates a collection; durable when it returns.
    pub fn create_collection(&self, name: &str, schema: CollectionSchema) -> Result<Arc<Collection>> {
        check_name(name, "name")?;
        let mut collections = self.collections.write();
        if collections.contains_key(name) {
            return Err(Error::AlreadyExists { what: "collection", name: name.to_owned() });
        }
        if collections.len() >= MAX_COLLECTIONS {
            let (value, limit) = (collections.len() as u64 + 1, MAX_COLLECTIONS as u64);
            return Err(Error::LimitExceeded { what: "collections", value, limit });
        }
        let folder = format!("{COLLECTIONS}/{name}");
        let directory = sub(&self.directory, &folder)?;
        Collection::create(&*directory, &schema)?;
        let collection =
            Collection::open(name, directory, self.options.clone(), Arc::clone(&self.maintenance))?;
        collections.insert(name.to_owned(), Arc::clone(&collection));
        Ok(collection)
    }

    /// An open collection.
    pub fn collection(&self, name: &str) -> Result<Arc<Collection>> {
        let collections = self.collections.read();
        collections
            .get(name)
            .cloned()
            .ok_or_else(|| Error::NotFound { what: "collection", name: name.chars().take(256).collect() })
    }

    /// All collections, by name.
    pub fn collections(&self) -> Vec<Arc<Collection>> {
        self.collections.read().values().cloned().collect()
    }

    /// Deletes a collection and its files. Searches that run keep their snapshot.
    pub fn delete_collection(&self, name: &str) -> Result<()> {
        let mut collections = self.collections.write();
        let collection = collections
            .remove(name)
            .ok_or_else(|| Error::NotFound { what: "collection", name: name.chars().take(256).collect() })?;
        collection.close_and_wait();
        let folder = format!("{COLLECTIONS}/{name}");
        // Without its manifest the collection is gone, whatever a crash leaves of the rest.
        self.directory.delete(&format!("{folder}/{MANIFEST_FILE}"))?;
        self.directory.delete_dir(&folder)
    }

    /// Stops background work and waits for it. Nothing acknowledged is lost without it.
    pub fn close(&self) {
        for collection in self.collections.read().values() {
            collection.close();
        }
        self.maintenance.stop();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn sub(directory: &Arc<dyn Directory>, folder: &str) -> Result<Arc<dyn Directory>> {
    Ok(Arc::new(SubDirectory::open(Arc::clone(directory), folder)?))
}

fn check_version(directory: &dyn Directory) -> Result<()> {
    if directory.exists(STORE)? {
        let content = directory.read(STORE)?;
        let StoreFile::V1 {} = serde_json::from_slice(&content).map_err(|error| {
            Error::corrupt(
                directory.full_path(STORE),
                0,
                format!("not a data directory of this version: {error}"),
            )
        })?;
        return Ok(());
    }
    let content =
        serde_json::to_vec(&StoreFile::V1 {}).map_err(|error| Error::Internal(error.to_string()))?;
    directory.write_atomic(STORE, &content)
}
