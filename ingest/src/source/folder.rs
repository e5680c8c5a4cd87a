//! The task of one watched folder. It turns hints and time into looks, looks into plans, plans into jobs, and keeps the
//! status. What to do about a look is decided in `files`, how in `job`.

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::{MIN_GUARDED_FILES, SourceConfig};
use super::events::{Due, Hint, Pending, Watch};
use super::files::{Attempt, Circumstances, FileRecord, Job, Plan};
use super::job::{Done, FileResult, Order, Worker, now_ns, run_blocking};
use super::passwords;
use super::rules::Rules;
use super::status::{Noticing, Shared};
use super::survey::{RootIdentity, Survey, Surveyor, root_identity};
use crate::document::{DocumentEntry, IngestOptions, Progress};
use crate::error::{Error, ErrorKind, Result};

/// A folder that the system can't watch is offered to it again after this.
const WATCH_RETRY: Duration = Duration::from_secs(600);
/// Scans by the clock take at most this share of the time: one part in ...
const SCAN_SHARE: u32 = 10;
/// Scans that were asked for, too.
const ASKED_SCAN_SHARE: u32 = 2;
/// Field of the error that says that too much is missing.
const LOSS_FIELD: &str = "loss";
/// Hints taken before anything else is done.
const HINTS_AT_ONCE: usize = 4_096;

/// The task of one watched folder.
pub(crate) struct Folder {
    shared: Arc<Shared>,
    worker: Arc<Worker>,
    config: SourceConfig,
    cancel: CancellationToken,
    tasks: JoinSet<Finished>,
    pending: Pending,
    /// What events brought: before the backlog.
    urgent: VecDeque<Job>,
    /// What scans brought.
    backlog: VecDeque<Job>,
    running: usize,
    looking: bool,
    scanning: bool,
    next_scan: Instant,
    /// When the running scan, or the last one, began.
    scan_started: Instant,
    /// No scan before this, whoever asks for one.
    scan_pause: Instant,
    watch: Option<Watch>,
    watch_retry: Instant,
    /// The folder that was found by the last scan that ended well.
    root: Option<RootIdentity>,
    /// As of that scan.
    recipe: String,
    /// How files are read, with the passwords as of that scan.
    options: Arc<IngestOptions>,
    surveyor: Option<Surveyor>,
}

enum Finished {
    Scanned(Result<Box<Scan>>),
    Looked(Result<Plan>),
    Worked(Done),
}

/// What a whole scan found, and what follows.
struct Scan {
    watch: Option<Watch>,
    /// Why there is no watch.
    blind: Option<String>,
    recipe: String,
    options: Arc<IngestOptions>,
    surveyor: Surveyor,
    root: RootIdentity,
    /// Why a part could not be read.
    trouble: Option<String>,
    /// Documents of this source that lie in another folder.
    foreign: Vec<String>,
    plan: Plan,
}

/// What a scan has to know of the one before.
struct Before {
    root: Option<RootIdentity>,
    /// The folder that is being watched.
    watched: Option<RootIdentity>,
    may_watch: bool,
}

impl Folder {
    pub fn new(
        shared: Arc<Shared>,
        worker: Arc<Worker>,
        config: SourceConfig,
        cancel: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            worker,
            config,
            cancel,
            tasks: JoinSet::new(),
            pending: Pending::default(),
            urgent: VecDeque::new(),
            backlog: VecDeque::new(),
            running: 0,
            looking: false,
            scanning: false,
            next_scan: now,
            scan_started: now,
            scan_pause: now,
            watch: None,
            watch_retry: now,
            root: None,
            recipe: String::new(),
            options: Arc::default(),
            surveyor: None,
        }
    }

    /// Runs until it is cancelled. Writes that have begun end by themselves.
    pub async fn run(mut self) {
        let (cancel, shared) = (self.cancel.clone(), Arc::clone(&self.shared));
        loop {
            let now = Instant::now();
            self.start_due(now);
            self.start_jobs();
            self.publish();
            let wake = tokio::time::Instant::from_std(self.next_wake(now));
            tokio::select! {
                () = cancel.cancelled() => break,
                hint = next_hint(&mut self.watch) => self.take_hints(hint),
                Some(finished) = self.tasks.join_next(), if !self.tasks.is_empty() => match finished {
                    Ok(finished) => self.finish(finished),
                    Err(error) => tracing::error!(source = self.shared.source.id, %error, "a task was lost"),
                },
                () = shared.rescan.notified() => self.pending.rescan(Instant::now()),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.tasks.shutdown().await;
    }

    fn next_wake(&self, now: Instant) -> Instant {
        // While a look or a scan runs, its end wakes the task.
        let scan = (!self.scanning).then_some(self.next_scan);
        let pending = self.pending.next_due().filter(|_| !self.looking);
        scan.into_iter().chain(pending).min().unwrap_or(now + self.config.scan_interval)
    }

    // Hints

    fn take_hints(&mut self, first: Option<Hint>) {
        let now = Instant::now();
        let mut next = Some(first.unwrap_or_else(|| Hint::Blind("the system's watch has ended".into())));
        for _ in 0..HINTS_AT_ONCE {
            match next.take() {
                Some(hint) => self.take_hint(hint, now),
                None => break,
            }
            next = self.watch.as_mut().and_then(|watch| watch.hints.try_recv().ok());
        }
        if let Some(hint) = next {
            self.take_hint(hint, now);
        }
        if self.watch.as_ref().is_some_and(Watch::take_overflow) {
            self.pending.rescan(now);
        }
    }

    fn take_hint(&mut self, hint: Hint, now: Instant) {
        let hint = match hint {
            Hint::Blind(reason) => return self.go_blind(reason, now),
            Hint::Rules | Hint::Rescan => Some(hint),
            Hint::Closed(path) => self.relative(path).map(Hint::Closed),
            Hint::Written(path) => self.relative(path).map(Hint::Written),
            Hint::Touched(path) => self.relative(path).map(Hint::Touched),
            Hint::Moved(path) => self.relative(path).map(Hint::Moved),
            Hint::Folder(path) => self.relative(path).map(Hint::Folder),
        };
        // What happens to the root itself concerns everything.
        self.pending.add(hint.unwrap_or(Hint::Rescan), now, &self.config);
    }

    fn relative(&self, path: PathBuf) -> Option<PathBuf> {
        let relative = path.strip_prefix(self.shared.root()).ok()?;
        (!relative.as_os_str().is_empty()).then(|| relative.to_owned())
    }

    fn go_blind(&mut self, reason: String, now: Instant) {
        tracing::warn!(source = self.shared.source.id, reason, "changes are found by scanning only");
        self.drop_watch();
        self.watch_retry = now + WATCH_RETRY;
        self.shared.health.lock().noticing = Noticing::Scans { reason };
        self.pending.rescan(now);
    }

    /// Ending a watch waits for the watcher's thread.
    fn drop_watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            tokio::task::spawn_blocking(move || drop(watch));
        }
    }

    // Looks

    fn start_due(&mut self, now: Instant) {
        if !self.scanning && self.next_scan <= now {
            self.start_scan();
        }
        if self.looking {
            return;
        }
        let due = self.pending.take_due(now);
        if due.rescan {
            if self.scanning || now < self.scan_pause {
                // The running one may have passed the place: once more when it has ended.
                self.pending.rescan(self.scan_pause.max(now + self.config.settle));
            } else {
                self.start_scan();
            }
        }
        if !due.paths.is_empty() {
            self.start_look(due);
        }
    }

    fn start_look(&mut self, due: Due) {
        // Before the first scan there is nothing to compare with; it will see these too.
        let Some(surveyor) = self.surveyor.clone() else { return };
        self.looking = true;
        let (shared, config) = (Arc::clone(&self.shared), self.config.clone());
        let (recipe, root) = (self.recipe.clone(), self.root);
        self.tasks.spawn(async move {
            let plan = run_blocking(move || {
                let survey = surveyor.paths(&due.paths)?;
                if Some(survey.root) != root {
                    return Err(Error::new(ErrorKind::Unavailable, "another folder lies at the root"));
                }
                let closed = due.closed.iter().map(|path| shared.names.key(path)).collect();
                Ok(plan(&shared, &config, survey, &recipe, &closed))
            });
            Finished::Looked(plan.await)
        });
    }

    fn start_scan(&mut self) {
        self.scanning = true;
        self.shared.health.lock().scanning = true;
        self.scan_started = Instant::now();
        let before = Before {
            root: self.root,
            watched: self.watch.as_ref().and(self.root),
            may_watch: self.config.events && self.scan_started >= self.watch_retry,
        };
        let (shared, worker, config) =
            (Arc::clone(&self.shared), Arc::clone(&self.worker), self.config.clone());
        self.tasks.spawn(async move {
            let scan = AssertUnwindSafe(scan(shared, &worker, config, before)).catch_unwind().await;
            let died = |_| Err(Error::new(ErrorKind::Internal, "the scan hit a defect"));
            Finished::Scanned(scan.unwrap_or_else(died).map(Box::new))
        });
    }

    fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Scanned(scan) => self.finish_scan(scan),
            Finished::Looked(plan) => {
                self.looking = false;
                let now = Instant::now();
                match plan {
                    Ok(plan) => {
                        self.urgent.extend(plan.jobs);
                        self.look_later(plan.look_again, now);
                    }
                    // Another folder lies at the root, or none: the scan finds out.
                    Err(_) => self.pending.rescan(now),
                }
            }
            Finished::Worked(done) => {
                self.running = self.running.saturating_sub(1);
                self.finish_job(done);
            }
        }
    }

    fn finish_scan(&mut self, scan: Result<Box<Scan>>) {
        self.scanning = false;
        let now = Instant::now();
        let elapsed = now.duration_since(self.scan_started);
        self.scan_pause = now + elapsed * (ASKED_SCAN_SHARE - 1);
        let scan = match scan {
            Ok(scan) => *scan,
            Err(error) => return self.be_unavailable(&error, now + elapsed * SCAN_SHARE),
        };
        if let Some(reason) = scan.blind {
            self.go_blind(reason, now);
        }
        if scan.watch.is_some() {
            self.drop_watch();
            self.watch = scan.watch;
            self.shared.health.lock().noticing = Noticing::Events;
        }
        self.root = Some(scan.root);
        self.recipe = scan.recipe;
        self.options = scan.options;
        self.surveyor = Some(scan.surveyor);
        self.remove_foreign(scan.foreign);
        self.backlog.extend(scan.plan.jobs);
        self.look_later(scan.plan.look_again, now);

        let interval =
            if self.watch.is_some() { self.config.scan_interval } else { self.config.poll_interval };
        self.next_scan = now + interval.max(elapsed * SCAN_SHARE);
        self.shared.loss_accepted.store(false, Ordering::Release);
        let mut health = self.shared.health.lock();
        health.unavailable = None;
        health.doubts_loss = false;
        health.trouble = scan.trouble;
        health.scanning = false;
        health.scans += 1;
        health.passwords = self.options.passwords.len();
    }

    /// Nothing is done until a scan ends well; the next begins after the usual wait, and not before `earliest`.
    fn be_unavailable(&mut self, error: &Error, earliest: Instant) {
        let now = Instant::now();
        let message = error.message().to_owned();
        let mut health = self.shared.health.lock();
        if health.unavailable.as_ref() != Some(&message) {
            tracing::warn!(
                source = self.shared.source.id,
                reason = message,
                "a watched folder can't be used now"
            );
        }
        health.unavailable = Some(message);
        health.doubts_loss = error.field() == Some(LOSS_FIELD);
        if !health.doubts_loss {
            self.shared.loss_accepted.store(false, Ordering::Release);
        }
        health.scanning = false;
        drop(health);
        self.drop_watch();
        self.pending.clear();
        self.surveyor = None;
        // What was planned holds no longer; the next scan plans anew.
        let mut files = self.shared.files.lock();
        for job in self.urgent.drain(..).chain(self.backlog.drain(..)) {
            for key in job.keys() {
                files.finish(key, now, true, |_| {});
            }
        }
        drop(files);
        self.next_scan = earliest.max(now + self.config.unavailable_interval);
    }

    fn look_later(&mut self, paths: Vec<(PathBuf, Duration)>, now: Instant) {
        for (path, wait) in paths {
            self.pending.later(path, now + wait);
        }
    }

    /// Documents of this source that lie in another folder: its root was another one before.
    fn remove_foreign(&mut self, ids: Vec<String>) {
        if ids.is_empty() {
            return;
        }
        let (worker, source) = (Arc::clone(&self.worker), self.shared.source.id.clone());
        let collection = self.shared.source.collection.clone();
        self.running += 1;
        self.tasks.spawn(async move {
            let result = super::delete_in_groups(worker.sink.as_ref(), &collection, ids).await;
            if let Err(error) = &result {
                tracing::warn!(source, %error, "documents of a former folder can't be deleted");
            }
            Finished::Worked(Done::Removed { keys: Vec::new(), result: result.map(drop) })
        });
    }

    // Jobs

    fn start_jobs(&mut self) {
        while self.running < self.config.concurrent_files.max(1) {
            let Some(surveyor) = self.surveyor.clone() else { return };
            let Some(job) = self.urgent.pop_front().or_else(|| self.backlog.pop_front()) else { return };
            let progress = Progress::default();
            let mut attempt = Attempt::default();
            if let Job::Ingest { key, .. } | Job::Move { to: key, .. } = &job {
                attempt = self.shared.files.lock().begin(key, &progress);
            }
            let wait = self.config.backoff(attempt.tries);
            let (recipe, options) = (self.recipe.clone(), Arc::clone(&self.options));
            let order = Order { job, surveyor, recipe, options, progress };
            let worker = Arc::clone(&self.worker);
            self.running += 1;
            self.tasks.spawn(async move {
                let done = AssertUnwindSafe(worker.run(&order)).catch_unwind().await;
                let done = done.unwrap_or_else(|_| Worker::died(&order.job));
                worker.remember_outcome(&order.surveyor.names, &done, &attempt, wait).await;
                Finished::Worked(done)
            });
        }
    }

    fn finish_job(&mut self, done: Done) {
        match done {
            Done::Ingested { key, result } => self.finish_file(&key, result),
            Done::Moved { from, moved, to, result } => {
                self.finish_record(
                    &from,
                    |record| {
                        if moved {
                            record.set_removed()
                        }
                    },
                    !moved,
                );
                if moved {
                    // Its points are stored under the new name already, whatever comes.
                    self.shared.files.lock().mark_stored(&to);
                }
                self.finish_file(&to, result);
            }
            Done::Removed { keys, result } => {
                let failed = result.is_err();
                if let Err(error) = result {
                    tracing::warn!(source = self.shared.source.id, %error, "deleting failed");
                }
                for key in keys {
                    self.finish_record(
                        &key,
                        |record| {
                            if !failed {
                                record.set_removed()
                            }
                        },
                        failed,
                    );
                }
            }
        }
    }

    fn finish_file(&mut self, key: &str, result: FileResult) {
        match result {
            FileResult::Stored { state, stat, read_ns, version, chunks } => {
                self.finish_record(
                    key,
                    |record| record.set_stored(state, stat, read_ns, version, chunks),
                    false,
                );
            }
            FileResult::Vanished | FileResult::Unsettled => self.finish_record(key, |_| {}, true),
            FileResult::Retry { error, stat } => {
                tracing::debug!(source = self.shared.source.id, key, %error, "a file is tried again later");
                let tries = self.shared.files.lock().get(key).map_or(0, |record| record.tries);
                let wait = self.config.backoff(tries);
                let retry_at = Instant::now() + wait;
                let path = self.shared.files.lock().get(key).map(|record| record.path.clone());
                self.finish_record(
                    key,
                    |record| record.set_retry(error.message().to_owned(), stat, retry_at),
                    false,
                );
                if let Some(path) = path {
                    self.pending.later(path, retry_at);
                }
            }
        }
    }

    /// Ends a file's turn; `look` looks at it again after a while, as does anything that happened to it meanwhile.
    fn finish_record(&mut self, key: &str, change: impl FnOnce(&mut FileRecord), look: bool) {
        let now = Instant::now();
        let mut files = self.shared.files.lock();
        let Some(path) = files.get(key).map(|record| record.path.clone()) else { return };
        let again = files.finish(key, now, look, change);
        drop(files);
        if again {
            self.pending.later(path, now);
        } else if look {
            self.pending.later(path, now + self.config.settle);
        }
    }

    fn publish(&self) {
        self.shared.health.lock().jobs = self.running + self.urgent.len() + self.backlog.len();
    }
}

async fn next_hint(watch: &mut Option<Watch>) -> Option<Hint> {
    match watch {
        Some(watch) => watch.hints.recv().await,
        None => std::future::pending().await,
    }
}

/// Looks at ledger and folder. The watch is set up before the look, so that nothing falls between them.
async fn scan(shared: Arc<Shared>, worker: &Worker, config: SourceConfig, before: Before) -> Result<Scan> {
    let started = Instant::now();
    let collection = &shared.source.collection;
    let options = passwords::options(&shared.source).await?;
    let recipe = worker.pipeline.recipe(collection, &options).await?;
    let entries = worker.sink.documents_of_source(collection, &shared.source.id).await?;
    // Later, what is in memory is newer.
    let retries = match before.root {
        None => worker.sink.retries(collection, &shared.names.id("")).await?,
        Some(_) => Vec::new(),
    };
    run_blocking(move || {
        let root = shared.root();
        let identity = root_identity(root)?;
        let mut blind = None;
        let mut watch = None;
        if before.may_watch && before.watched != Some(identity) {
            watch = Watch::new(root).map_err(|reason| blind = Some(reason)).ok();
        }
        let surveyor = Surveyor {
            root: root.clone(),
            names: shared.names.clone(),
            rules: Arc::new(Rules::new(root, &shared.source.ignore)?),
            max_file_bytes: config.max_file_bytes,
            max_files: config.max_files,
        };
        let mut survey = surveyor.whole()?;
        check_loss(&shared, &survey, &entries, before.root)?;
        let (root, trouble) = (survey.root, survey.trouble.take());
        let mut files = shared.files.lock();
        let foreign = files.take_ledger(entries, &surveyor.names, started);
        files.take_retries(retries, &surveyor.names, started, now_ns(), config.retry_last);
        drop(files);
        let mut plan = plan(&shared, &config, survey, &recipe, &HashSet::new());
        if before.root.is_none() {
            plan.look_again.extend(shared.files.lock().waiting(Instant::now()));
        }
        Ok(Scan { watch, blind, recipe, options, surveyor, root, trouble, foreign, plan })
    })
    .await
}

/// A folder that is suddenly empty, or lacks most of what is stored, may be a disk that is not mounted, or another one.
/// Where this very folder was seen before, its files were deleted; else a person has to say so.
fn check_loss(
    shared: &Shared,
    survey: &Survey,
    entries: &[DocumentEntry],
    before: Option<RootIdentity>,
) -> Result<()> {
    let is_known = before == Some(survey.root);
    if is_known || (entries.is_empty() && !shared.files.lock().any_stored()) {
        return Ok(());
    }
    let stored: Vec<&str> = entries.iter().filter_map(|entry| shared.names.key_of_id(&entry.id)).collect();
    // One that is left out by now lies there nevertheless.
    let is_gone = |key: &&&str| {
        let is_unseen = !survey.seen.contains_key(**key) && !survey.is_unreadable(key);
        is_unseen && std::fs::symlink_metadata(shared.root().join(key)).is_err()
    };
    let gone = stored.iter().filter(is_gone).count();
    let lacks_most = stored.len() >= MIN_GUARDED_FILES && gone * 2 > stored.len();
    if !(survey.root_is_empty || lacks_most) || shared.loss_accepted.swap(false, Ordering::AcqRel) {
        return Ok(());
    }
    let found = if survey.root_is_empty {
        format!("the folder is empty, but {} of its files are indexed", entries.len())
    } else {
        format!("{gone} of the {} files that are indexed are not in the folder", stored.len())
    };
    let message = format!(
        "{found}: nothing is deleted, in case a disk is not mounted, or another one is; if they are meant to be \
         gone, say so (ragstone source scan --accept-loss {})",
        shared.source.id
    );
    Err(Error::new(ErrorKind::Unavailable, message).at(LOSS_FIELD))
}

/// What follows from a survey. Heavy for a large one.
fn plan(
    shared: &Shared,
    config: &SourceConfig,
    survey: Survey,
    recipe: &str,
    closed: &HashSet<String>,
) -> Plan {
    let circumstances = Circumstances {
        recipe,
        now: Instant::now(),
        now_ns: now_ns(),
        settle: config.settle,
        removal_grace: config.removal_grace,
        reingest_outdated: config.reingest_outdated,
        closed,
    };
    shared.files.lock().plan(survey, &circumstances)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::pipeline::fakes::{FakeEmbedder, MapSink, pipeline};
    use crate::source::FolderSource;

    #[tokio::test]
    async fn a_system_that_tells_no_more_is_replaced_by_scans_and_that_is_said() {
        let root = tempfile::tempdir().unwrap();
        let source = FolderSource::new("c", root.path(), Vec::new()).unwrap();
        let (sink, embedder) = (MapSink::new(), FakeEmbedder::new());
        let pipeline = pipeline(&sink, &embedder);
        let worker = Arc::new(Worker { source: source.clone(), pipeline, sink });
        let shared = Arc::new(Shared::new(source, Noticing::Events));
        let cancel = CancellationToken::new();
        let mut folder = Folder::new(Arc::clone(&shared), worker, SourceConfig::default(), cancel);
        let now = Instant::now();
        folder.take_hint(Hint::Blind("the system's limit is reached".into()), now);
        let status = shared.status();
        assert!(matches!(status.noticing, Noticing::Scans { .. }));
        assert_eq!(
            status.error.as_deref(),
            Some("changes are found by scanning only: the system's limit is reached")
        );
        // What happened meanwhile is looked for at once, and the system is asked again after a while.
        assert_eq!(folder.pending.next_due(), Some(now));
        assert!(folder.watch_retry > now + WATCH_RETRY / 2);
    }
}
