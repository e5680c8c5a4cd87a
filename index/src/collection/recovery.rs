//! Opening a collection: manifest, segments, ledger, then the log behind them; what a crash left over is swept.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use arrow::array::RecordBatch;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use rayon::prelude::*;

use crate::collection::pacing::{Pace, SearchClock};
use crate::collection::record::{Logged, decode};
use crate::collection::scrub::Health;
use crate::collection::seal::TOMBSTONES;
use crate::collection::snapshot::PartView;
use crate::collection::state::{Resolved, State, Tables};
use crate::collection::{Collection, MAX_GROUP_BYTES, MAX_GROUP_WRITES};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::ledger::{LEDGER_FOLDER, Ledger};
use crate::log::{FileLog, GroupCommit, LOG_FOLDER, Log as _};
use crate::maintenance::{Maintenance, Task};
use crate::manifest::{MANIFEST_FILE, ManifestV1};
use crate::recall::RecallMeter;
use crate::schema::CollectionSchema;
use crate::segment::{Part, open_segment, segment_dir};
use crate::store::StoreOptions;
use crate::tombstones::read_tombstones;
use crate::validate::{ValidBatch, type_canonical};

impl Collection {
    /// Writes the first manifest of a new collection; with it the collection exists.
    pub(crate) fn create(directory: &dyn Directory, schema: &CollectionSchema) -> Result<()> {
        schema.validate()?;
        ManifestV1::new(schema.clone()).store(directory)
    }

    /// Opens a collection and recovers everything that was acknowledged.
    pub(crate) fn open(
        name: &str,
        directory: Arc<dyn Directory>,
        options: StoreOptions,
        maintenance: Arc<Maintenance>,
    ) -> Result<Arc<Self>> {
        let missing = || Error::corrupt(directory.full_path(MANIFEST_FILE), 0, "the manifest is missing");
        let manifest = ManifestV1::load(&*directory)?.ok_or_else(missing)?;
        sweep(&*directory, &manifest)?;
        let schema = Arc::new(manifest.schema.clone());
        let mut persisted = HashMap::new();
        let parts = open_segments(&*directory, &manifest, &schema, &options, &mut persisted)?;
        let mut ledger = Ledger::load(&*directory, &manifest.ledger)?;

        let applied = manifest.applied_seq;
        let mut tables = Tables::new(applied, schema, parts);
        let log = FileLog::open(Arc::clone(&directory), applied + 1)?;
        let mut log_bytes = 0;
        log.replay(applied + 1, &mut |seq, payload: Bytes| {
            log_bytes += payload.len() as u64;
            replay(&mut tables, &mut ledger, seq, &payload).map_err(|message| {
                Error::corrupt(directory.full_path(LOG_FOLDER), 0, format!("write {seq}: {message}"))
            })
        })?;
        let state = State {
            log: Box::new(log),
            manifest,
            tables,
            frozen: VecDeque::new(),
            active_since: applied + 1,
            log_bytes,
            persisted,
            failed: None,
            seal_error: None,
            pace: Pace::default(),
            expired_documents: Vec::new(),
        };
        tracing::info!(
            collection = name,
            seq_no = state.tables.seq_no,
            replayed = state.tables.seq_no - applied,
            segments = state.manifest.segments.len(),
            "collection open"
        );
        let spaces = state.tables.schema.vectors.len();
        let collection = Arc::new_cyclic(|this: &Weak<Self>| Self {
            name: name.to_owned(),
            directory,
            options,
            snapshot: ArcSwap::from_pointee(state.tables.snapshot()),
            state: Mutex::new(state),
            ledger: RwLock::new(ledger),
            commits: GroupCommit::new(MAX_GROUP_WRITES, MAX_GROUP_BYTES),
            changed: Condvar::new(),
            sealing: Mutex::new(()),
            compacting: Mutex::new(()),
            gathering: Mutex::new(()),
            merging: Mutex::default(),
            closed: AtomicBool::new(false),
            recall: RecallMeter::new(spaces),
            searches: SearchClock::new(),
            health: Health::default(),
            maintenance,
            this: this.clone(),
        });
        collection.freeze_if_full(&mut collection.state.lock());
        if collection.options.verify_checksums {
            for view in &collection.snapshot.load().parts {
                if let Some(segment) = view.segment() {
                    collection.health.is_whole(segment.id);
                }
            }
        }
        for task in [Task::Compact, Task::Feed, Task::Scrub] {
            collection.maintenance.request(task, Arc::downgrade(&collection));
        }
        Ok(collection)
    }
}

fn open_segments(
    directory: &dyn Directory,
    manifest: &ManifestV1,
    schema: &CollectionSchema,
    options: &StoreOptions,
    persisted: &mut HashMap<u64, Arc<roaring::RoaringBitmap>>,
) -> Result<Vec<PartView>> {
    let params = options.vectors_params();
    let views: Vec<PartView> = manifest
        .segments
        .par_iter()
        .map(|entry| {
            let segment = open_segment(directory, entry.id, schema, &params, options.verify_checksums)?;
            if segment.rows != entry.rows {
                return Err(Error::corrupt(
                    segment_dir(entry.id),
                    0,
                    format!("{} rows, {} expected", segment.rows, entry.rows),
                ));
            }
            let rows = segment.rows;
            let mut view = PartView::new(Part::Segment(Arc::new(segment)), rows);
            if let Some(file) = &entry.tombstones {
                view.deleted = Arc::new(read_tombstones(directory, file, rows)?);
            }
            Ok(view)
        })
        .collect::<Result<_>>()?;
    for view in &views {
        if let Some(segment) = view.segment() {
            persisted.insert(segment.id, Arc::clone(&view.deleted));
        }
    }
    Ok(views)
}

/// Deletes folders and files that no manifest names: what a crash left of a seal or a compaction.
fn sweep(directory: &dyn Directory, manifest: &ManifestV1) -> Result<()> {
    for name in directory.list_dirs("segments")? {
        let path = format!("segments/{name}");
        if !manifest.segments.iter().any(|entry| segment_dir(entry.id) == path) {
            directory.delete_dir(&path)?;
        }
    }
    for folder in [TOMBSTONES, LEDGER_FOLDER] {
        for name in directory.list(folder)? {
            let path = format!("{folder}/{name}");
            let tombstones = manifest.segments.iter().filter_map(|entry| entry.tombstones.as_deref());
            let ledgers = manifest.ledger.iter().map(String::as_str);
            if !tombstones.chain(ledgers).any(|known| known == path) {
                directory.delete(&path)?;
            }
        }
    }
    Ok(())
}

fn replay(tables: &mut Tables, ledger: &mut Ledger, seq: u64, payload: &[u8]) -> Result<(), String> {
    let mut schema = Arc::clone(&tables.schema);
    let mut changes = Vec::new();
    for change in decode(payload)? {
        changes.push(resolved(change, &mut schema).map_err(|error| error.to_string())?);
    }
    tables.apply(ledger, changes).map_err(|error| error.to_string())?;
    tables.seq_no = seq;
    Ok(())
}

fn resolved(change: Logged<RecordBatch>, schema: &mut Arc<CollectionSchema>) -> Result<Resolved> {
    let valid = |batch: RecordBatch, schema: &CollectionSchema| -> Result<ValidBatch> {
        let (typed, _) = type_canonical(&batch, schema)?;
        Ok(ValidBatch { batch, typed, new_fields: Vec::new() })
    };
    Ok(match change {
        Logged::Schema(changed) => {
            *schema = Arc::new(changed);
            Resolved::Schema(Arc::clone(schema))
        }
        Logged::Upsert(batch) => Resolved::Upsert(valid(batch, schema)?),
        Logged::PutDocument { document, points } => {
            let points = points.map(|points| valid(points, schema)).transpose()?;
            Resolved::PutDocument { document, points }
        }
        Logged::DeletePoints(ids) => Resolved::DeletePoints(ids),
        Logged::DeleteDocuments(ids) => Resolved::DeleteDocuments(ids),
        Logged::PutLedger { key, value } => Resolved::PutLedger { key, value },
        Logged::DeleteLedger { key } => Resolved::DeleteLedger { key },
        Logged::PutRecords(records) => Resolved::PutRecords(records),
    })
}
