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
        let FileStat { size, modified_ns, .. } = record.stat?;
        let reason = cut(reason, Retry::MAX_REASON_BYTES).to_owned();
        Some(Retry { reason, tries: record.tries, due_ms, size_bytes: size, modified_ns })
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::path::Path;

    use super::*;
    use crate::source::survey::Observation;

    const RECIPE: &str = "0123456789abcdef";
    const OLD_NS: i64 = 1_000;
    const NOW_NS: i64 = 1_000_000_000_000;
    const GRACE: Duration = Duration::from_millis(250);

    fn stat(size: u64, modified_ns: i64, inode: u64) -> FileStat {
        FileStat { size, modified_ns, inode: Some(inode) }
    }

    fn survey(scope: &str, seen: &[(&str, Seen)]) -> Survey {
        let observe = |(key, seen): &(&str, Seen)| {
            ((*key).to_owned(), Observation { path: PathBuf::from(key), seen: seen.clone() })
        };
        Survey { scopes: vec![scope.into()], seen: seen.iter().map(observe).collect(), ..Survey::default() }
    }

    struct Case {
        files: Files,
        start: Instant,
        closed: HashSet<String>,
    }

    impl Case {
        /// Files that are indexed as `stat(10, OLD_NS, inode)`, with inodes from 1.
        fn indexed(keys: &[&str]) -> Self {
            let mut case = Self { files: Files::default(), start: Instant::now(), closed: HashSet::new() };
            let seen: Vec<_> =
                keys.iter().zip(1..).map(|(key, i)| (*key, Seen::File(stat(10, OLD_NS, i)))).collect();
            case.plan(0, survey("", &seen));
            for (key, seen) in seen {
                let Seen::File(stat) = seen else { unreachable!() };
                case.store(key, stat, NOW_NS);
            }
            case
        }

        fn plan(&mut self, ms: u64, survey: Survey) -> Plan {
            let circumstances = Circumstances {
                recipe: RECIPE,
                now: self.start + Duration::from_millis(ms),
                now_ns: NOW_NS,
                settle: Duration::from_millis(200),
                removal_grace: GRACE,
                reingest_outdated: false,
                closed: &self.closed,
            };
            self.files.plan(survey, &circumstances)
        }

        fn store(&mut self, key: &str, stat: FileStat, read_ns: i64) -> bool {
            let version = format!("{RECIPE}rest");
            let change =
                |record: &mut FileRecord| record.set_stored(FileState::Indexed, stat, read_ns, version, 1);
            self.files.finish(key, self.start, false, change)
        }
    }

    fn ingest(key: &str) -> Job {
        Job::Ingest { key: key.into(), path: Path::new(key).into() }
    }

    #[test]
    fn an_unchanged_file_needs_nothing() {
        let mut case = Case::indexed(&["a"]);
        let plan = case.plan(1, survey("", &[("a", Seen::File(stat(10, OLD_NS, 1)))]));
        assert!(plan.jobs.is_empty() && plan.look_again.is_empty());
    }

    #[test]
    fn a_changed_size_or_time_needs_a_reading() {
        for changed in [stat(11, OLD_NS, 1), stat(10, OLD_NS + 1, 1)] {
            let mut case = Case::indexed(&["a"]);
            assert_eq!(case.plan(1, survey("", &[("a", Seen::File(changed))])).jobs, [ingest("a")]);
        }
    }

    #[test]
    fn a_document_of_another_recipe_is_made_again_when_somebody_says_so() {
        let mut case = Case::indexed(&["a", "b"]);
        let outdate = |record: &mut FileRecord| record.version = "another recipe and the rest".into();
        case.files.finish("a", case.start, false, outdate);
        let seen =
            || survey("", &[("a", Seen::File(stat(10, OLD_NS, 1))), ("b", Seen::File(stat(10, OLD_NS, 2)))]);
        assert!(case.plan(1, seen()).jobs.is_empty());
        let shown: Vec<_> = case.files.after(None).map(|(_, _, state)| state).collect();
        assert_eq!(shown, [FileState::Outdated, FileState::Indexed]);
        assert_eq!((case.files.counts().indexed, case.files.counts().outdated), (2, 1));
        assert_eq!(case.files.accept_recipe(), 1);
        assert_eq!(case.plan(2, seen()).jobs, [ingest("a")]);
        // One that failed is tried with a new recipe in any case.
        let mut case = Case::indexed(&["a"]);
        let fail = |record: &mut FileRecord| {
            record.version = "another recipe and the rest".into();
            record.state = FileState::Failed { reason: "broken".into() };
        };
        case.files.finish("a", case.start, false, fail);
        assert_eq!(case.plan(1, survey("", &[("a", Seen::File(stat(10, OLD_NS, 1)))])).jobs, [ingest("a")]);
    }

    #[test]
    fn a_failed_file_waits_until_it_is_retried_and_a_cleared_one_until_it_changes() {
        let mut case = Case::indexed(&["a"]);
        let fail = |record: &mut FileRecord| record.state = FileState::Failed { reason: "broken".into() };
        case.files.finish("a", case.start, false, fail);
        let seen = |size| survey("", &[("a", Seen::File(stat(size, OLD_NS, 1)))]);
        assert!(case.plan(1, seen(10)).jobs.is_empty());
        assert_eq!(case.files.failed(&["b".into()]), [""; 0]);
        let failed = case.files.failed(&[]);
        assert_eq!(failed, ["a"]);
        assert_eq!(case.files.take_failed(&[]), ["a"]);
        assert!(case.files.failed(&[]).is_empty(), "it is busy");
        case.files.finish("a", case.start, true, |record| record.set_asked(case.start));
        assert_eq!(case.plan(2, seen(10)).jobs, [ingest("a")]);
        assert_eq!(case.files.failed(&[]), [""; 0], "it is in work");
        case.files.finish("a", case.start, false, |record| record.set_cleared("broken".into()));
        assert!(case.plan(3, seen(10)).jobs.is_empty());
        assert_eq!(case.plan(4, seen(11)).jobs, [ingest("a")]);
    }

    #[test]
    fn work_shows_how_far_it_is() {
        let mut case = Case::indexed(&["a"]);
        case.plan(1, survey("", &[("a", Seen::File(stat(11, OLD_NS, 1)))]));
        let progress = Progress::default();
        case.files.begin("a", &progress);
        let shown = |files: &Files| files.after(None).map(|(_, _, state)| state).next().unwrap();
        assert_eq!(shown(&case.files), FileState::Queued);
        progress.set(Stage::Extracting);
        assert_eq!(shown(&case.files), FileState::Extracting);
        progress.set(Stage::Embedding);
        assert_eq!(shown(&case.files), FileState::Embedding);
        case.store("a", stat(11, OLD_NS, 1), NOW_NS);
        assert_eq!(shown(&case.files), FileState::Indexed);
    }

    #[test]
    fn a_file_read_right_after_its_change_is_read_once_more() {
        let mut case = Case::indexed(&["a"]);
        let seen = || survey("", &[("a", Seen::File(stat(10, NOW_NS - 1_000_000_000, 1)))]);
        case.plan(1, seen());
        case.store("a", stat(10, NOW_NS - 1_000_000_000, 1), NOW_NS - 999_000_000);
        assert_eq!(case.plan(2, seen()).jobs, [ingest("a")]);
        case.store("a", stat(10, NOW_NS - 1_000_000_000, 1), NOW_NS);
        assert!(case.plan(3, seen()).jobs.is_empty());
    }

    #[test]
    fn a_young_file_waits_unless_its_writer_closed_it() {
        let mut case = Case::indexed(&[]);
        let seen = || survey("a", &[("a", Seen::File(stat(10, NOW_NS - 1_000_000, 1)))]);
        let plan = case.plan(1, seen());
        assert_eq!((plan.jobs.len(), plan.look_again.len()), (0, 1));
        assert_eq!(case.files.counts().pending, 1);
        case.closed.insert("a".into());
        assert_eq!(case.plan(2, seen()).jobs, [ingest("a")]);
    }

    #[test]
    fn a_file_is_removed_only_after_it_was_found_gone_twice() {
        let mut case = Case::indexed(&["a", "b/c"]);
        let plan = case.plan(1, survey("", &[]));
        assert_eq!((plan.jobs.len(), plan.look_again.len()), (0, 2));
        // A look elsewhere does not confirm it.
        assert!(case.plan(900, survey("x", &[])).jobs.is_empty());
        let plan = case.plan(901, survey("b", &[]));
        assert_eq!(plan.jobs, [Job::Remove { keys: vec!["b/c".into()] }]);
        // It came back in time.
        assert!(case.plan(902, survey("a", &[("a", Seen::File(stat(10, OLD_NS, 1)))])).jobs.is_empty());
        assert!(case.plan(903, survey("a", &[])).jobs.is_empty());
    }

    #[test]
    fn what_could_not_be_read_stays() {
        let mut case = Case::indexed(&["a/b", "c"]);
        for ms in [1, 1_000] {
            let blind = Survey {
                unreadable: vec!["a".into()],
                ..survey("", &[("c", Seen::File(stat(10, OLD_NS, 2)))])
            };
            let plan = case.plan(ms, blind);
            assert!(plan.jobs.is_empty() && plan.look_again.is_empty());
        }
    }

    #[test]
    fn a_scope_ends_at_its_folder() {
        let mut case = Case::indexed(&["a", "a/b", "a.txt", "ab"]);
        let plan = case.plan(1, survey("a", &[]));
        let mut looks: Vec<_> = plan.look_again.into_iter().map(|(path, _)| path).collect();
        looks.sort();
        assert_eq!(looks, [PathBuf::from("a"), PathBuf::from("a/b")]);
    }

    #[test]
    fn a_file_under_a_new_name_is_followed() {
        // Same inode and time: a rename. Another inode: a copy that kept the time. Same inode: renamed and touched.
        for new in [stat(10, OLD_NS, 1), stat(10, OLD_NS, 99), stat(10, OLD_NS + 5, 1)] {
            let mut case = Case::indexed(&["a", "b"]);
            let seen = [("b", Seen::File(stat(10, OLD_NS, 2))), ("z", Seen::File(new))];
            let plan = case.plan(1, survey("", &seen));
            let follow =
                Job::Move { from: "a".into(), from_path: "a".into(), to: "z".into(), path: "z".into() };
            assert_eq!(plan.jobs, [follow]);
            assert!(plan.look_again.is_empty());
        }
        let mut case = Case::indexed(&["a"]);
        let plan = case.plan(1, survey("", &[("z", Seen::File(stat(11, OLD_NS, 1)))]));
        assert_eq!(plan.jobs, [ingest("z")]);
    }

    #[test]
    fn each_vanished_file_is_followed_to_one_place() {
        let mut case = Case::indexed(&["a", "b"]);
        let seen: Vec<_> =
            ["x", "y", "z"].into_iter().map(|key| (key, Seen::File(stat(10, OLD_NS, 50)))).collect();
        let jobs = case.plan(1, survey("", &seen)).jobs;
        let moves = jobs.iter().filter(|job| matches!(job, Job::Move { .. })).count();
        assert_eq!((jobs.len(), moves), (3, 2));
    }

    #[test]
    fn what_happens_to_a_busy_file_is_looked_at_when_it_is_done() {
        let mut case = Case::indexed(&["a"]);
        let changed = || survey("", &[("a", Seen::File(stat(11, OLD_NS, 1)))]);
        assert_eq!(case.plan(1, changed()).jobs.len(), 1);
        assert!(case.plan(2, changed()).jobs.is_empty());
        assert!(case.store("a", stat(11, OLD_NS, 1), NOW_NS));
        assert!(!case.store("a", stat(11, OLD_NS, 1), NOW_NS));
    }

    #[test]
    fn a_passing_failure_waits_for_its_time() {
        let mut case = Case::indexed(&["a"]);
        let seen = || survey("", &[("a", Seen::File(stat(11, OLD_NS, 1)))]);
        case.plan(1, seen());
        let retry_at = case.start + Duration::from_millis(500);
        let change =
            |record: &mut FileRecord| record.set_retry("away".into(), Some(stat(11, OLD_NS, 1)), retry_at);
        case.files.finish("a", case.start, false, change);
        assert!(case.plan(499, seen()).jobs.is_empty());
        assert_eq!(case.files.counts().failed, 1);
        assert_eq!(case.plan(500, seen()).jobs, [ingest("a")]);
        assert_eq!(case.files.get("a").unwrap().tries, 1);
    }

    #[test]
    fn a_next_try_is_taken_over_and_waits_no_longer_than_it_may() {
        let names = Names::new(Path::new("/watched"));
        let start = Instant::now();
        let hour = Duration::from_secs(3_600);
        let retry = |key: &str, due_ms| {
            let id = format!("/watched/{key}");
            let retry =
                Retry { reason: "away".into(), tries: 4, due_ms, size_bytes: 10, modified_ns: OLD_NS };
            (id, retry)
        };
        let now_ms = NOW_NS / NS_PER_MS;
        let mut case = Case { files: Files::default(), start, closed: HashSet::new() };
        let retries = vec![
            retry("changed", now_ms + 60_000),
            retry("far", i64::MAX),
            retry("over", i64::MIN),
            retry("soon", now_ms + 60_000),
            ("/elsewhere/x".to_owned(), retry("x", 0).1),
        ];
        case.files.take_retries(retries, &names, start, NOW_NS, hour);
        let mut waits = case.files.waiting(start);
        waits.sort();
        let minute = Duration::from_secs(60);
        let expect = [("changed", minute), ("far", hour), ("over", Duration::ZERO), ("soon", minute)];
        assert_eq!(waits, expect.map(|(key, wait)| (PathBuf::from(key), wait)));
        let seen = |size| {
            let stat = |key: &str| Seen::File(stat(if key == "changed" { size } else { 10 }, OLD_NS, 1));
            survey("", &["changed", "far", "over", "soon"].map(|key| (key, stat(key))))
        };
        assert_eq!(case.plan(1, seen(10)).jobs, [ingest("over")]);
        assert_eq!(case.plan(2, seen(11)).jobs, [ingest("changed")]);
        assert_eq!(case.plan(60_000, seen(11)).jobs, [ingest("soon")]);
        // One that is gone is forgotten, though nothing of it is stored.
        assert!(case.plan(60_001, survey("far", &[])).jobs.is_empty());
        assert_eq!(case.plan(60_500, survey("far", &[])).jobs, [Job::Remove { keys: vec!["far".into()] }]);
        case.files.finish("far", start, false, FileRecord::set_removed);
        assert!(case.files.get("far").is_none());
    }

    #[test]
    fn a_void_takes_what_was_indexed_with_it_and_keeps_its_reason() {
        let mut case = Case::indexed(&["a"]);
        let void = || survey("a", &[("a", Seen::Void("empty".into()))]);
        case.plan(1, void());
        assert_eq!(case.plan(300, void()).jobs, [Job::Remove { keys: vec!["a".into()] }]);
        case.files.finish("a", case.start, false, FileRecord::set_removed);
        assert_eq!(case.files.counts().skipped, 1);
        assert!(case.plan(600, void()).jobs.is_empty());
        assert_eq!(case.plan(700, survey("a", &[("a", Seen::File(stat(1, OLD_NS, 1)))])).jobs, [ingest("a")]);
    }

    #[test]
    fn the_ledger_is_taken_over_unless_something_newer_is_known() {
        let names = Names::new(Path::new("/watched"));
        let entry = |id: &str, version: &str| DocumentEntry {
            id: id.into(),
            uri: String::new(),
            title: String::new(),
            media_type: String::new(),
            version: format!("{RECIPE}{version}"),
            size_bytes: 10,
            modified_ns: Some(OLD_NS),
            chunks: 3,
            state: EntryState::Indexed,
            source_id: "s".into(),
        };
        let mut files = Files::default();
        let before = Instant::now();
        let foreign =
            files.take_ledger(vec![entry("/watched/a", "1"), entry("/other/b", "1")], &names, before);
        assert_eq!(foreign, ["/other/b"]);
        assert_eq!((files.get("a").unwrap().chunks, files.counts().indexed), (3, 1));

        // Stored anew since the ledger was read: the reading is stale.
        let later = before + Duration::from_secs(1);
        let change = |record: &mut FileRecord| {
            record.set_stored(FileState::Indexed, stat(20, 5, 1), NOW_NS, format!("{RECIPE}2"), 4);
        };
        files.finish("a", later, false, change);
        files.take_ledger(vec![entry("/watched/a", "1")], &names, before);
        assert_eq!(files.get("a").unwrap().chunks, 4);
        files.take_ledger(Vec::new(), &names, before);
        assert!(files.any_stored());

        // Deleted by somebody else.
        files.take_ledger(Vec::new(), &names, later + Duration::from_secs(1));
        assert!(!files.any_stored());
    }
}
