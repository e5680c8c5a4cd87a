//! Log, ledger files and manifest together, as the engine uses them: power cuts at every step of writes and seals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use ragstone_index::directory::{Directory, Fault, FaultyDirectory, MemDirectory, join, remove_unfinished};
use ragstone_index::ledger::{LEDGER_FOLDER, Ledger, checkpoint};
use ragstone_index::log::{FileLog, GroupCommit, Log};
use ragstone_index::manifest::ManifestV1;
use ragstone_index::schema::CollectionSchema;
use ragstone_index::{Error, Result};

/// The smallest engine: key/value writes, logged, and sealed into ledger files.
struct Engine {
    directory: Arc<dyn Directory>,
    log: FileLog,
    manifest: ManifestV1,
    ledger: Ledger,
}

impl Engine {
    fn open(directory: Arc<dyn Directory>) -> Result<Self> {
        remove_unfinished(&*directory, "")?;
        let schema = CollectionSchema {
            vectors: vec![],
            payload: vec![],
            dynamic_payload: true,
            description: String::new(),
        };
        let manifest = match ManifestV1::load(&*directory)? {
            Some(manifest) => manifest,
            None => ManifestV1::new(schema),
        };
        remove_unnamed(&*directory, &manifest)?;
        let mut ledger = Ledger::load(&*directory, &manifest.ledger)?;
        let log = FileLog::open(Arc::clone(&directory), manifest.applied_seq + 1)?;
        log.replay(manifest.applied_seq + 1, &mut |_, payload| apply(&mut ledger, &payload))?;
        Ok(Self { directory, log, manifest, ledger })
    }

    /// A write of several changes, acknowledged when it returns.
    fn write(&mut self, changes: &[Change]) -> Result<()> {
        let payload = serde_json::to_vec(changes).unwrap();
        self.log.append(self.log.next_seq(), &payload)?;
        self.log.sync()?;
        apply(&mut self.ledger, &payload)
    }

    fn seal(&mut self) -> Result<()> {
        let applied_seq = self.log.next_seq() - 1;
        self.log.rotate(applied_seq + 1)?;
        let mut manifest = ManifestV1 { applied_seq, ..self.manifest.clone() };
        let file_id = manifest.take_file_id();
        manifest.ledger = checkpoint(&*self.directory, &manifest.ledger, &self.ledger.take_dirty(), file_id)?;
        manifest.store(&*self.directory)?;
        self.manifest = manifest;
        self.log.remove_before(applied_seq + 1)?;
        remove_unnamed(&*self.directory, &self.manifest)
    }

    fn view(&self) -> BTreeMap<String, Vec<u8>> {
        self.ledger.entries("").map(|(key, value)| (key.to_owned(), value.to_vec())).collect()
    }
}

/// A key and its new value; `None` deletes.
type Change = (String, Option<Vec<u8>>);

fn apply(ledger: &mut Ledger, payload: &[u8]) -> Result<()> {
    let changes: Vec<Change> =
        serde_json::from_slice(payload).map_err(|error| Error::Internal(error.to_string()))?;
    for (key, value) in changes {
        match value {
            Some(value) => ledger.put_entry(&key, &value)?,
            None => drop(ledger.delete_entry(&key)),
        }
    }
    Ok(())
}

/// Deletes the ledger files that no manifest names.
fn remove_unnamed(directory: &dyn Directory, manifest: &ManifestV1) -> Result<()> {
    let named: BTreeSet<_> = manifest.ledger.iter().collect();
    for name in directory.list(LEDGER_FOLDER)? {
        let path = join(LEDGER_FOLDER, &name);
        if !named.contains(&path) {
            directory.delete(&path)?;
        }
    }
    Ok(())
}

fn some_changes(random: &mut StdRng) -> Vec<Change> {
    (0..random.random_range(1..5))
        .map(|_| {
            let value = vec![random.random(); random.random_range(0..40)];
            (format!("k{}", random.random_range(0..20)), random.random_bool(0.7).then_some(value))
        })
        .collect()
}

fn after(mut state: BTreeMap<String, Vec<u8>>, changes: &[Change]) -> BTreeMap<String, Vec<u8>> {
    for (key, value) in changes {
        match value {
            Some(value) => drop(state.insert(key.clone(), value.clone())),
            None => drop(state.remove(key)),
        }
    }
    state
}

#[test]
fn no_power_cut_loses_an_acknowledged_write_or_shows_half_of_one() {
    let mut cuts = 0;
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut disk = MemDirectory::new();
        let mut acked = BTreeMap::new();
        for life in 0..5 {
            let directory = FaultyDirectory::new(disk).unwrap();
            directory.fail_any(random.random_range(1..120), Fault::PowerCut);
            // The write that was under way when the power went may be there or not, but whole.
            let mut under_way = None;
            if let Ok(mut engine) = Engine::open(Arc::new(directory.clone())) {
                assert_eq!(engine.view(), acked, "seed {seed} life {life}");
                for _ in 0..30 {
                    let changes = some_changes(&mut random);
                    let next = after(acked.clone(), &changes);
                    if engine.write(&changes).is_err() {
                        under_way = Some(next);
                        break;
                    }
                    acked = next;
                    if random.random_bool(0.15) && engine.seal().is_err() {
                        break;
                    }
                }
            }
            disk = directory.power_cut(random.random()).unwrap();
            let found = Engine::open(Arc::new(disk.clone())).unwrap_or_else(|error| {
                panic!("seed {seed} life {life}: does not open: {error}");
            });
            let found = found.view();
            assert!(
                found == acked || Some(&found) == under_way.as_ref(),
                "seed {seed} life {life}: {found:?} {acked:?}"
            );
            acked = found;
            cuts += 1;
        }
    }
    assert_eq!(cuts, 1_500);
}

#[test]
fn a_seal_that_fails_at_any_step_leaves_a_directory_that_opens_as_it_was() {
    let mut failed = 0;
    for nth in 1.. {
        let directory = FaultyDirectory::new(MemDirectory::new()).unwrap();
        let mut engine = Engine::open(Arc::new(directory.clone())).unwrap();
        engine.write(&[("a".into(), Some(vec![1])), ("b".into(), Some(vec![2]))]).unwrap();
        engine.seal().unwrap();
        engine.write(&[("a".into(), None), ("c".into(), Some(vec![3]))]).unwrap();
        let expected = engine.view();
        directory.fail_any(directory.operations() + nth, Fault::Error);
        let outcome = engine.seal();
        drop(engine);
        directory.clear_faults();
        // The process is started again.
        assert_eq!(Engine::open(Arc::new(directory)).unwrap().view(), expected, "step {nth}");
        if outcome.is_ok() {
            break;
        }
        failed += 1;
    }
    assert!(failed >= 9, "only {failed} steps can fail");
}

#[test]
fn concurrent_writers_share_syncs_and_all_writes_are_there() {
    const THREADS: usize = 8;
    const WRITES: usize = 50;
    let temporary = tempfile::tempdir().unwrap();
    let directory: Arc<dyn Directory> =
        Arc::new(ragstone_index::directory::FsDirectory::open(temporary.path()).unwrap());
    let engine = parking_lot::Mutex::new(FileLog::open(Arc::clone(&directory), 1).unwrap());
    let group: GroupCommit<Vec<u8>, Result<u64, String>> = GroupCommit::new(64, 1 << 20);
    let commit = |payloads: Vec<Vec<u8>>| {
        let mut log = engine.lock();
        let appended: Vec<Result<u64, String>> = payloads
            .iter()
            .map(|payload| {
                let seq = log.next_seq();
                log.append(seq, payload).map(|()| seq).map_err(|error| error.to_string())
            })
            .collect();
        match log.sync() {
            Ok(()) => appended,
            Err(error) => appended.iter().map(|_| Err(error.to_string())).collect(),
        }
    };
    let acked = parking_lot::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (group, commit, acked) = (&group, &commit, &acked);
            scope.spawn(move || {
                for write in 0..WRITES {
                    let payload = format!("{thread}/{write}").into_bytes();
                    let seq = group.submit(payload.clone(), payload.len(), commit).unwrap().unwrap();
                    assert_eq!(acked.lock().insert(seq, payload), None);
                }
            });
        }
    });
    drop(engine);
    let mut found = BTreeMap::new();
    let log = FileLog::open(directory, 1).unwrap();
    log.replay(1, &mut |seq, payload| {
        found.insert(seq, payload.to_vec());
        Ok(())
    })
    .unwrap();
    assert_eq!(found, acked.into_inner());
    assert_eq!(found.len(), THREADS * WRITES);
}
