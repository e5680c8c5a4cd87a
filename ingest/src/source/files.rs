//! What is known of a folder's files, and what has to be done about a survey. Pure: it reads no disk and writes to no
//! sink, so that every case can be tested as data.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::names::Names;
use super::survey::{FileStat, Seen, Survey};
use crate::document::{DocumentEntry, EntryState};
use crate::pipeline::recipe_of;

/// A file read so shortly after its last change may have changed again within the same tick of the file system's
/// clock: it is read once more.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// How the last try to index a file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It waits, or is in work.
    Queued,
    /// It is searchable.
    Indexed,
    /// It could not be read; an older version, if any, stays.
    Failed {
        /// Why, for the owner of the file.
        reason: String,
    },
    /// It is left out.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub(crate) struct FileRecord {
    /// Relative to the root.
    pub path: PathBuf,
    /// As it was when it was last read.
    pub stat: Option<FileStat>,
    /// Version of the ledger's entry.
    pub version: String,
    pub state: FileState,
    pub chunks: u32,
    /// The ledger has an entry for it.
    pub stored: bool,
    /// It may have changed right after it was read.
    racy: bool,
    /// It is queued or in work.
    pub busy: bool,
    /// Something happened to it meanwhile.
    again: bool,
    /// Tries in a row that failed and may yet succeed.
    pub tries: u32,
    retry_at: Option<Instant>,
    gone_since: Option<Instant>,
    changed_at: Instant,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Read the file and make it the stored version.
    Ingest { key: String, path: PathBuf },
    /// The file at `to` is probably the one that was at `from`.
    Move { from: String, from_path: PathBuf, to: String, path: PathBuf },
    /// Delete what is stored of files that are gone.
    Remove { keys: Vec<String> },
}

impl Job {
    /// Keys that wait for it.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Ingest { key, .. } => vec![key],
            Self::Move { from, to, .. } => vec![from, to],
            Self::Remove { keys } => keys.iter().map(String::as_str).collect(),
        }
    }
}

/// What a survey leads to.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub jobs: Vec<Job>,
    /// Paths to look at again after a while.
    pub look_again: Vec<(PathBuf, Duration)>,
}

/// Under which circumstances a survey is judged.
#[derive(Debug)]
pub(crate) struct Circumstances<'a> {
    /// The collection's recipe.
    pub recipe: &'a str,
    pub now: Instant,
    /// The same on the clock of the files.
    pub now_ns: i64,
    pub settle: Duration,
    pub removal_grace: Duration,
    /// Keys whose writer has closed them: complete, however young.
    pub closed: &'a HashSet<String>,
}

/// What is known of a folder's files, by key.
#[derive(Debug, Default)]
pub(crate) struct Files {
    records: BTreeMap<String, FileRecord>,
    /// Keys with `gone_since`.
    vanishing: BTreeSet<String>,
}

/// Files by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "numbers of files in the state they name")]
pub struct FileCounts {
    pub indexed: u64,
    pub pending: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl FileRecord {
    fn new(path: PathBuf, state: FileState, now: Instant) -> Self {
        Self {
            path,
            stat: None,
            version: String::new(),
            state,
            chunks: 0,
            stored: false,
            racy: false,
            busy: false,
            again: false,
            tries: 0,
            retry_at: None,
            gone_since: None,
            changed_at: now,
        }
    }

    /// The state that people are told.
    pub fn shown_state(&self) -> FileState {
        if self.busy { FileState::Queued } else { self.state.clone() }
    }

    fn is_due(&self, stat: &FileStat, at: &Circumstances<'_>) -> bool {
        let settled = match self.state {
            FileState::Indexed => true,
            FileState::Failed { .. } => self.retry_at.is_none(),
            FileState::Skipped { .. } => self.stored,
            FileState::Queued => false,
        };
        let known = self.stat.is_some_and(|known| known.same_content(stat));
        let retry = self.retry_at.is_some_and(|retry_at| retry_at <= at.now);
        let waiting = self.retry_at.is_some_and(|retry_at| retry_at > at.now);
        if known && waiting {
            return false;
        }
        !known || retry || self.racy || !settled || recipe_of(&self.version) != at.recipe
    }
}

impl Files {
    /// Looks a record up.
    pub fn get(&self, key: &str) -> Option<&FileRecord> {
        self.records.get(key)
    }

    /// Records in key order behind `after`.
    pub fn after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = (&'a String, &'a FileRecord)> + 'a {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_owned()));
        self.records.range((start, Bound::Unbounded))
    }

    /// Whether the ledger has an entry of any file.
    pub fn any_stored(&self) -> bool {
        self.records.values().any(|record| record.stored)
    }

    /// Files by state.
    pub fn counts(&self) -> FileCounts {
        let mut counts = FileCounts::default();
        for record in self.records.values() {
            match record.state {
                _ if record.busy => counts.pending += 1,
                FileState::Queued => counts.pending += 1,
                FileState::Indexed => counts.indexed += 1,
                FileState::Failed { .. } => counts.failed += 1,
                FileState::Skipped { .. } => counts.skipped += 1,
            }
        }
        counts
    }

    /// Takes over the ledger as it was at `loaded`. What changed since then is newer and stays.
    pub fn take_ledger(&mut self, entries: Vec<DocumentEntry>, names: &Names, loaded: Instant) -> Vec<String> {
        let mut foreign = Vec::new();
        let mut present = HashSet::new();
        for entry in entries {
            match names.key_of_id(&entry.id) {
                Some(key) => {
                    present.insert(key.to_owned());
                    let key = key.to_owned();
                    self.take_entry(key, entry, loaded);
                }
                None => foreign.push(entry.id),
            }
        }
        for (key, record) in &mut self.records {
            if record.stored && !record.busy && record.changed_at < loaded && !present.contains(key) {
                record.stored = false;
                record.stat = None;
                record.state = FileState::Queued;
            }
        }
        foreign
    }

    fn take_entry(&mut self, key: String, entry: DocumentEntry, loaded: Instant) {
        let path = PathBuf::from(&key);
        let known = self.records.entry(key).or_insert_with(|| FileRecord::new(path, FileState::Queued, loaded));
        let newer = known.busy || known.changed_at > loaded;
        if newer || (known.stored && known.version == entry.version) {
            return;
        }
        known.stat = entry.modified_ns.map(|modified_ns| FileStat { size: entry.size_bytes, modified_ns, inode: None });
        known.version = entry.version;
        known.chunks = entry.chunks;
        known.stored = true;
        known.racy = false;
        known.retry_at = None;
        known.state = match entry.state {
            EntryState::Indexed => FileState::Indexed,
            EntryState::Failed { reason } => FileState::Failed { reason },
            EntryState::Skipped { reason } => FileState::Skipped { reason },
        };
    }

    /// What has to be done so that the collection agrees with what was seen.
    pub fn plan(&mut self, survey: Survey, at: &Circumstances<'_>) -> Plan {
        let mut plan = Plan::default();
        let absent = self.absent(&survey);
        let (mut fresh, mut gone) = (Vec::new(), Vec::new());
        for (key, observation) in survey.seen {
            let path = observation.path;
            match observation.seen {
                Seen::File(stat) => self.plan_file(key, path, stat, at, &mut plan, &mut fresh),
                Seen::Skipped(reason) => self.plan_skipped(key, path, reason, at),
                Seen::Void(reason) => {
                    self.plan_skipped(key.clone(), path, reason, at);
                    self.plan_gone(key, true, at, &mut gone);
                }
            }
        }
        for key in absent {
            self.plan_gone(key, false, at, &mut gone);
        }
        self.pair(fresh, at, &mut plan);
        self.plan_removals(gone, at, &mut plan);
        plan
    }

    /// Keys that lie in the survey's scopes and were not seen.
    fn absent(&self, survey: &Survey) -> Vec<String> {
        let mut absent = Vec::new();
        for scope in &survey.scopes {
            let below = if scope.is_empty() { String::new() } else { format!("{scope}/") };
            let exact = self.records.get_key_value(scope).map(|(key, _)| key);
            let below = self.records.range(below.clone()..).map(|(key, _)| key).take_while({
                let below = below.clone();
                move |key| key.starts_with(&below)
            });
            absent.extend(exact.into_iter().chain(below).filter(|key| {
                !survey.seen.contains_key(*key) && !survey.is_unreadable(key)
            }).cloned());
        }
        absent.sort_unstable();
        absent.dedup();
        absent
    }

    fn plan_file(
        &mut self,
        key: String,
        path: PathBuf,
        stat: FileStat,
        at: &Circumstances<'_>,
        plan: &mut Plan,
        fresh: &mut Vec<(String, FileStat)>,
    ) {
        self.vanishing.remove(&key);
        let is_young = is_young(&stat, at) && !at.closed.contains(&key);
        let record = self
            .records
            .entry(key.clone())
            .or_insert_with(|| FileRecord::new(path.clone(), FileState::Queued, at.now));
        record.path.clone_from(&path);
        record.gone_since = None;
        if record.busy {
            record.again = true;
            return;
        }
        if let Some(known) = record.stat.as_mut().filter(|known| known.same_content(&stat)) {
            known.inode = stat.inode;
        }
        if !record.is_due(&stat, at) {
            return;
        }
        if is_young {
            plan.look_again.push((path, at.settle));
            return;
        }
        record.busy = true;
        if record.stored {
            plan.jobs.push(Job::Ingest { key, path });
        } else {
            fresh.push((key, stat));
        }
    }

    fn plan_skipped(&mut self, key: String, path: PathBuf, reason: String, at: &Circumstances<'_>) {
        let record =
            self.records.entry(key).or_insert_with(|| FileRecord::new(path, FileState::Queued, at.now));
        if record.busy {
            record.again = true;
            return;
        }
        record.state = FileState::Skipped { reason };
        // So that it is read once it can be.
        record.stat = None;
        record.retry_at = None;
    }

    /// A file whose content is gone from the folder. `is_void`: something without content lies in its place.
    fn plan_gone(&mut self, key: String, is_void: bool, at: &Circumstances<'_>, gone: &mut Vec<String>) {
        let Some(record) = self.records.get_mut(&key) else { return };
        if record.busy {
            record.again = true;
        } else if record.stored {
            record.gone_since.get_or_insert(at.now);
            self.vanishing.insert(key.clone());
            gone.push(key);
        } else if !is_void {
            self.records.remove(&key);
        }
    }

    /// Finds for each fresh file the one that it was under another name.
    fn pair(&mut self, fresh: Vec<(String, FileStat)>, at: &Circumstances<'_>, plan: &mut Plan) {
        if fresh.is_empty() {
            return;
        }
        let mut candidates: HashMap<u64, Vec<(String, FileStat)>> = HashMap::new();
        for key in &self.vanishing {
            let record = self.records.get(key).filter(|record| !record.busy && record.state == FileState::Indexed);
            if let Some(stat) = record.and_then(|record| record.stat) {
                candidates.entry(stat.size).or_default().push((key.clone(), stat));
            }
        }
        for (key, stat) in fresh {
            let Some(record) = self.records.get(&key) else { continue };
            let path = record.path.clone();
            let from = candidates.get_mut(&stat.size).and_then(|same_size| {
                let same_file = |other: &FileStat| stat.inode.is_some() && other.inode == stat.inode;
                let same_time = |other: &FileStat| other.modified_ns == stat.modified_ns;
                let found = same_size
                    .iter()
                    .position(|(_, other)| same_file(other) && same_time(other))
                    .or_else(|| same_size.iter().position(|(_, other)| same_time(other)))
                    .or_else(|| same_size.iter().position(|(_, other)| same_file(other)))?;
                Some(same_size.swap_remove(found).0)
            });
            let job = match from.and_then(|from| self.begin_move(from, at)) {
                Some((from, from_path)) => Job::Move { from, from_path, to: key, path },
                None => Job::Ingest { key, path },
            };
            plan.jobs.push(job);
        }
    }

    fn begin_move(&mut self, from: String, at: &Circumstances<'_>) -> Option<(String, PathBuf)> {
        self.vanishing.remove(&from);
        let record = self.records.get_mut(&from)?;
        record.busy = true;
        record.gone_since = None;
        record.changed_at = at.now;
        Some((from, record.path.clone()))
    }

    /// Only what this very survey found gone is removed, and only when it has been gone for a while.
    fn plan_removals(&mut self, gone: Vec<String>, at: &Circumstances<'_>, plan: &mut Plan) {
        let mut due = Vec::new();
        for key in gone {
            // One that was taken for a move is busy.
            let Some(record) = self.records.get_mut(&key).filter(|record| !record.busy) else { continue };
            let waited = record.gone_since.map_or(Duration::ZERO, |since| at.now.duration_since(since));
            match at.removal_grace.checked_sub(waited).filter(|rest| !rest.is_zero()) {
                Some(rest) => plan.look_again.push((record.path.clone(), rest)),
                None => {
                    record.busy = true;
                    record.gone_since = None;
                    self.vanishing.remove(&key);
                    due.push(key);
                }
            }
        }
        let groups = due.chunks(super::config::REMOVAL_GROUP);
        plan.jobs.extend(groups.map(|keys| Job::Remove { keys: keys.to_vec() }));
    }

    /// Ends a file's turn. `change` sets what is known of it now; `look`: it is going to be looked at again. Returns
    /// whether something happened to it meanwhile.
    pub fn finish(&mut self, key: &str, now: Instant, look: bool, change: impl FnOnce(&mut FileRecord)) -> bool {
        let Some(record) = self.records.get_mut(key) else { return false };
        record.busy = false;
        record.changed_at = now;
        change(record);
        let again = std::mem::take(&mut record.again);
        let is_over = !record.stored && record.state == FileState::Queued && record.stat.is_none();
        if is_over && !again && !look {
            self.records.remove(key);
        }
        again
    }

    /// The ledger has an entry for it, though its turn has not ended.
    pub fn mark_stored(&mut self, key: &str) {
        if let Some(record) = self.records.get_mut(key) {
            record.stored = true;
        }
    }
}

impl FileRecord {
    /// It was read as `stat` at `read_ns` and is stored as `version`.
    pub fn set_stored(&mut self, state: FileState, stat: FileStat, read_ns: i64, version: String, chunks: u32) {
        let tick = i64::try_from(CLOCK_TICK.as_nanos()).unwrap_or(i64::MAX);
        self.racy = read_ns.saturating_sub(stat.modified_ns).abs() < tick;
        self.stat = Some(stat);
        self.state = state;
        self.version = version;
        self.chunks = chunks;
        self.stored = true;
        self.tries = 0;
        self.retry_at = None;
    }

    /// It failed for a reason that may pass.
    pub fn set_retry(&mut self, reason: String, stat: Option<FileStat>, retry_at: Instant) {
        self.state = FileState::Failed { reason };
        self.stat = stat;
        self.tries = self.tries.saturating_add(1);
        self.retry_at = Some(retry_at);
    }

    /// Nothing of it is stored any more.
    pub fn set_removed(&mut self) {
        self.stored = false;
        self.stat = None;
        self.version.clear();
        self.chunks = 0;
        self.tries = 0;
        self.retry_at = None;
        if !matches!(self.state, FileState::Skipped { .. }) {
            self.state = FileState::Queued;
        }
    }
}

/// Whether a file changed so shortly ago that its writer may not be done.
fn is_young(stat: &FileStat, at: &Circumstances<'_>) -> bool {
    let settle = i64::try_from(at.settle.as_nanos()).unwrap_or(i64::MAX);
    (0..settle).contains(&at.now_ns.saturating_sub(stat.modified_ns))
}
