//! What is known of a folder's files, and what has to be done about a survey. Pure: it reads no disk and writes to no
//! sink, so that every case can be tested as data.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::names::Names;
use super::survey::{FileStat, Seen, Survey, within};
use crate::document::{DocumentEntry, EntryState, Progress, Retry, Stage};
use crate::pipeline::{cut, recipe_of};

/// A file read so shortly after its last change may have changed again within the same tick of the file system's
/// clock: it is read once more.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// Nanoseconds of a millisecond.
pub(crate) const NS_PER_MS: i64 = 1_000_000;

/// How the last try to index a file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It waits for its turn.
    Queued,
    /// Its text is read.
    Extracting,
    /// Its chunks get their vectors and are written.
    Embedding,
    /// It is searchable.
    Indexed,
    /// It is searchable as extraction, chunking or embedding were set before.
    Outdated,
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

impl From<EntryState> for FileState {
    fn from(state: EntryState) -> Self {
        match state {
            EntryState::Indexed | EntryState::Linked { .. } => Self::Indexed,
            EntryState::Failed { reason } => Self::Failed { reason },
            EntryState::Skipped { reason } => Self::Skipped { reason },
        }
    }
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
    /// How far the work is.
    progress: Progress,
    /// Something happened to it meanwhile.
    again: bool,
    /// Tries in a row that failed and may yet succeed.
    pub tries: u32,
    retry_at: Option<Instant>,
    /// The ledger may know of the next try.
    noted: bool,
    /// As it was when its turn was planned.
    planned: Option<FileStat>,
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

/// That a file as it was is tried again at `due_ms`, in milliseconds since 1970, after so many tries in a row that failed.
pub(crate) fn retry(reason: &str, tries: u32, due_ms: i64, stat: FileStat) -> Retry {
    let reason = cut(reason, Retry::MAX_REASON_BYTES).to_owned();
    Retry { reason, tries, due_ms, size_bytes: stat.size, modified_ns: stat.modified_ns }
}

/// A file's turn, as far as it has to do with the ones before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attempt {
    /// Tries in a row that failed.
    pub tries: u32,
    /// The ledger may know of this try.
    pub noted: bool,
    /// The file as it was when the turn was planned.
    pub planned: Option<FileStat>,
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
    /// Make documents of another recipe again, in any case.
    pub reingest_outdated: bool,
    /// Keys whose writer has closed them, or that came as they are: complete with all below, however young.
    pub closed: &'a HashSet<String>,
}

/// What is known of a folder's files, by key.
#[derive(Debug, Default)]
pub(crate) struct Files {
    records: BTreeMap<String, FileRecord>,
    /// Keys with `gone_since`.
    vanishing: BTreeSet<String>,
    /// The collection's recipe, as of the last plan.
    recipe: String,
    /// The recipe for which outdated documents are to be made again.
    accepted: Option<String>,
}

/// Files by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "numbers of files in the state they name")]
pub struct FileCounts {
    pub indexed: u64,
    /// Of those that are indexed.
    pub outdated: u64,
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
            progress: Progress::default(),
            again: false,
            tries: 0,
            retry_at: None,
            noted: false,
            planned: None,
            gone_since: None,
            changed_at: now,
        }
    }

    /// The state that people are told, where documents are made by `recipe`.
    fn shown_state(&self, recipe: &str) -> FileState {
        if !self.busy {
            return if self.is_outdated(recipe) { FileState::Outdated } else { self.state.clone() };
        }
        match self.progress.stage() {
            Stage::Waiting => FileState::Queued,
            Stage::Extracting => FileState::Extracting,
            Stage::Embedding => FileState::Embedding,
        }
    }

    fn is_outdated(&self, recipe: &str) -> bool {
        self.state == FileState::Indexed && !recipe.is_empty() && recipe_of(&self.version) != recipe
    }

    /// When a failure is tried again; `None` where only a change of the file, or a person, leads to another try.
    pub fn retry_time(&self) -> Option<SystemTime> {
        let wait = self.retry_at?.saturating_duration_since(Instant::now());
        Some(SystemTime::now() + wait)
    }

    /// `accepted`: documents of another recipe are made again.
    fn is_due(&self, stat: &FileStat, at: &Circumstances<'_>, accepted: bool) -> bool {
        let settled = match self.state {
            FileState::Indexed => true,
            FileState::Failed { .. } => self.retry_at.is_none(),
            FileState::Skipped { .. } => self.stored,
            FileState::Queued | FileState::Extracting | FileState::Embedding | FileState::Outdated => false,
        };
        // What failed may go well with another recipe.
        let follows_recipe = accepted || self.state != FileState::Indexed;
        let known = self.stat.is_some_and(|known| known.same_content(stat));
        let retry = self.retry_at.is_some_and(|retry_at| retry_at <= at.now);
        let waiting = self.retry_at.is_some_and(|retry_at| retry_at > at.now);
        if known && waiting {
            return false;
        }
        let other_recipe = follows_recipe && recipe_of(&self.version) != at.recipe;
        !known || retry || self.racy || !settled || other_recipe
    }
}

impl Files {
    /// Looks a record up.
    pub fn get(&self, key: &str) -> Option<&FileRecord> {
        self.records.get(key)
    }

    /// Records in key order behind `after`, with the states that people are told.
    pub fn after<'a>(
        &'a self,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a String, &'a FileRecord, FileState)> + 'a {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_owned()));
        let records = self.records.range((start, Bound::Unbounded));
        records.map(|(key, record)| (key, record, record.shown_state(&self.recipe)))
    }

    /// Work on a file begins.
    pub fn begin(&mut self, key: &str, progress: &Progress) -> Attempt {
        let Some(record) = self.records.get_mut(key) else { return Attempt::default() };
        record.progress = progress.clone();
        Attempt { tries: record.tries, noted: record.noted, planned: record.planned }
    }

    /// Keys of files that failed: those of `keys`, or all when there are none.
    pub fn failed(&self, keys: &[String]) -> Vec<String> {
        let is_failed =
            |record: &FileRecord| !record.busy && matches!(record.state, FileState::Failed { .. });
        if keys.is_empty() {
            let failed = self.records.iter().filter(|(_, record)| is_failed(record));
            return failed.map(|(key, _)| key.clone()).collect();
        }
        let failed = keys.iter().filter(|key| self.records.get(*key).is_some_and(is_failed));
        failed.cloned().collect()
    }

    /// As [`Self::failed`]. They are busy until they are finished.
    pub fn take_failed(&mut self, keys: &[String]) -> Vec<String> {
        self.take(keys, |_| true)
    }

    /// As [`Self::take_failed`], those that nothing but a change leads to another try of.
    pub fn take_dead(&mut self, keys: &[String]) -> Vec<String> {
        self.take(keys, |record| record.stored && record.retry_at.is_none())
    }

    fn take(&mut self, keys: &[String], wanted: impl Fn(&FileRecord) -> bool) -> Vec<String> {
        let mut taken = self.failed(keys);
        taken.retain(|key| match self.records.get_mut(key) {
            Some(record) if wanted(record) => {
                record.busy = true;
                true
            }
            _ => false,
        });
        taken
    }

    /// What the ledger has to know of a file that failed and is to be tried at `due_ms`, in milliseconds since 1970.
    pub fn retry_note(&self, key: &str, due_ms: i64) -> Option<Retry> {
        let record = self.records.get(key)?;
        let FileState::Failed { reason } = &record.state else { return None };
        Some(retry(reason, record.tries, due_ms, record.stat?))
    }

    /// Lets documents of other recipes be made again at the next look. Returns how many there are.
    pub fn accept_recipe(&mut self) -> u64 {
        self.accepted = Some(self.recipe.clone());
        self.counts().outdated
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
                FileState::Queued | FileState::Extracting | FileState::Embedding => counts.pending += 1,
                FileState::Indexed | FileState::Outdated => {
                    counts.indexed += 1;
                    counts.outdated += u64::from(record.is_outdated(&self.recipe));
                }
                FileState::Failed { .. } => counts.failed += 1,
                FileState::Skipped { .. } => counts.skipped += 1,
            }
        }
        counts
    }

    /// Takes over the ledger as it was at `loaded`. What changed since then is newer and stays.
    pub fn take_ledger(
        &mut self,
        entries: Vec<DocumentEntry>,
        names: &Names,
        loaded: Instant,
    ) -> Vec<String> {
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
        let known =
            self.records.entry(key).or_insert_with(|| FileRecord::new(path, FileState::Queued, loaded));
        let newer = known.busy || known.changed_at > loaded;
        if newer || (known.stored && known.version == entry.version) {
            return;
        }
        known.stat = entry.modified_ns.map(|modified_ns| FileStat {
            size: entry.size_bytes,
            modified_ns,
            inode: None,
        });
        known.version = entry.version;
        known.chunks = entry.chunks;
        known.stored = true;
        known.racy = false;
        known.retry_at = None;
        known.state = entry.state.into();
    }

    /// Takes over what the ledger knows of next tries. `now_ns` is `loaded` on the clock of the files; as it may have been set
    /// back since, nothing waits for more than `longest`.
    pub fn take_retries(
        &mut self,
        retries: Vec<(String, Retry)>,
        names: &Names,
        loaded: Instant,
        now_ns: i64,
        longest: Duration,
    ) {
        for (id, retry) in retries {
            let Some(key) = names.key_of_id(&id) else { continue };
            let known = self
                .records
                .entry(key.to_owned())
                .or_insert_with(|| FileRecord::new(PathBuf::from(key), FileState::Queued, loaded));
            if known.busy || known.changed_at > loaded {
                continue;
            }
            let wait_ms = retry.due_ms.saturating_sub(now_ns / NS_PER_MS).max(0);
            let wait = Duration::from_millis(wait_ms.unsigned_abs()).min(longest);
            known.state = FileState::Failed { reason: retry.reason };
            known.stat =
                Some(FileStat { size: retry.size_bytes, modified_ns: retry.modified_ns, inode: None });
            known.tries = retry.tries;
            known.retry_at = Some(loaded + wait);
            known.noted = true;
        }
    }

    /// Paths that wait for their next try, and for how long.
    pub fn waiting(&self, now: Instant) -> Vec<(PathBuf, Duration)> {
        let wait = |record: &FileRecord| {
            let wait = record.retry_at?.saturating_duration_since(now);
            (!record.busy).then(|| (record.path.clone(), wait))
        };
        self.records.values().filter_map(wait).collect()
    }

    /// What has to be done so that the collection agrees with what was seen.
    pub fn plan(&mut self, survey: Survey, at: &Circumstances<'_>) -> Plan {
        let mut plan = Plan::default();
        at.recipe.clone_into(&mut self.recipe);
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
            absent.extend(
                exact
                    .into_iter()
                    .chain(below)
                    .filter(|key| !survey.seen.contains_key(*key) && !survey.is_unreadable(key))
                    .cloned(),
            );
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
        let accepted = at.reingest_outdated || self.accepted.as_deref() == Some(at.recipe);
        let is_young = is_young(&stat, at) && !at.closed.iter().any(|closed| within(&key, closed));
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
        if !record.is_due(&stat, at, accepted) {
            return;
        }
        if is_young {
            plan.look_again.push((path, at.settle));
            return;
        }
        record.busy = true;
        record.planned = Some(stat);
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
        } else if record.stored || record.noted {
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
            let record =
                self.records.get(key).filter(|record| !record.busy && record.state == FileState::Indexed);
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
    pub fn finish(
        &mut self,
        key: &str,
        now: Instant,
        look: bool,
        change: impl FnOnce(&mut FileRecord),
    ) -> bool {
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
    pub fn set_stored(
        &mut self,
        state: FileState,
        stat: FileStat,
        read_ns: i64,
        version: String,
        chunks: u32,
    ) {
        let tick = i64::try_from(CLOCK_TICK.as_nanos()).unwrap_or(i64::MAX);
        self.racy = read_ns.saturating_sub(stat.modified_ns).abs() < tick;
        self.stat = Some(stat);
        self.state = state;
        self.version = version;
        self.chunks = chunks;
        self.stored = true;
        self.tries = 0;
        self.retry_at = None;
        self.noted = false;
    }

    /// It failed for a reason that may pass.
    pub fn set_retry(&mut self, reason: String, stat: Option<FileStat>, retry_at: Instant) {
        self.state = FileState::Failed { reason };
        self.stat = stat.or(self.planned);
        self.tries = self.tries.saturating_add(1);
        self.retry_at = Some(retry_at);
        self.noted = true;
    }

    /// It failed and is to be tried again at the next look.
    pub fn set_asked(&mut self, now: Instant) {
        self.retry_at = Some(now);
        self.noted = true;
    }

    /// Its failure is settled: it is left alone until it changes.
    pub fn set_cleared(&mut self, reason: String) {
        self.state = FileState::Skipped { reason };
        self.tries = 0;
        self.retry_at = None;
        self.noted = false;
    }

    /// Nothing of it is stored any more.
    pub fn set_removed(&mut self) {
        self.stored = false;
        self.stat = None;
        self.version.clear();
        self.chunks = 0;
        self.tries = 0;
        self.retry_at = None;
        self.noted = false;
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

#[cfg(test)]
mod tests;
