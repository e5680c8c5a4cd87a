//! The task of one watched folder. It turns hints and time into looks, looks into plans, plans into jobs, and keeps the
//! status. What to do about a look is decided in `files`, how in `job`.

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::SourceConfig;
use super::events::{Due, Hint, Pending, Watch};
use super::files::{Circumstances, FileRecord, Job, Plan};
use super::job::{Done, FileResult, Order, Worker, now_ns, run_blocking};
use super::rules::Rules;
use super::status::{Noticing, Shared};
use super::survey::{RootIdentity, Survey, Surveyor, root_identity};
use crate::document::DocumentEntry;
use crate::error::{Error, ErrorKind, Result};

/// A folder that the system can't watch is offered to it again after this.
const WATCH_RETRY: Duration = Duration::from_secs(600);
/// A whole scan may take at most this share of the time: one part in ...
const SCAN_SHARE: u32 = 10;
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
    watch: Option<Watch>,
    watch_retry: Instant,
    /// The folder that was found by the last scan that ended well.
    root: Option<RootIdentity>,
    /// As of that scan.
    recipe: String,
    surveyor: Option<Surveyor>,
}

enum Finished {
    Scanned(Result<Box<Scan>>),
    Looked { survey: Result<Survey>, closed: HashSet<PathBuf> },
    Worked(Done),
}

/// What a whole scan found.
struct Scan {
    watch: Option<Watch>,
    blind: Option<String>,
    recipe: String,
    entries: Vec<DocumentEntry>,
    started: Instant,
    surveyor: Surveyor,
    survey: Survey,
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
            watch: None,
            watch_retry: now,
            root: None,
            recipe: String::new(),
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
            if self.scanning {
                // The running one may have passed the place: once more when it has ended.
                self.pending.rescan(now + self.config.settle);
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
        let Due { paths, closed, .. } = due;
        self.tasks.spawn(async move {
            let survey = run_blocking(move || surveyor.paths(&paths)).await;
            Finished::Looked { survey, closed }
        });
    }

    fn start_scan(&mut self) {
        self.scanning = true;
        self.shared.health.lock().scanning = true;
        let now = Instant::now();
        let may_watch = self.config.events && now >= self.watch_retry;
        let (shared, worker, config) =
            (Arc::clone(&self.shared), Arc::clone(&self.worker), self.config.clone());
        let watched = self.watch.as_ref().and(self.root);
        self.tasks.spawn(async move {
            let scan =
                AssertUnwindSafe(scan(&shared, &worker, &config, may_watch, watched)).catch_unwind().await;
            let died = |_| Err(Error::new(ErrorKind::Internal, "the scan hit a defect"));
            Finished::Scanned(scan.unwrap_or_else(died).map(Box::new))
        });
    }

    fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Scanned(scan) => self.finish_scan(scan),
            Finished::Looked { survey, closed } => {
                self.looking = false;
                match survey {
                    Ok(survey) if Some(survey.root) == self.root => self.finish_look(survey, &closed),
                    // Another folder lies at the root, or none: the scan finds out.
                    Ok(_) | Err(_) => self.pending.rescan(Instant::now()),
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
        let checked = scan.and_then(|scan| self.check_scan(scan));
        let scan = match checked {
            Ok(scan) => scan,
            Err(error) => return self.be_unavailable(&error, now),
        };
        let Scan { watch, blind, recipe, entries, started, surveyor, mut survey } = *scan;
        if let Some(reason) = blind {
            self.go_blind(reason, now);
        }
        if watch.is_some() {
            self.drop_watch();
            self.watch = watch;
            self.shared.health.lock().noticing = Noticing::Events;
        }
        self.root = Some(survey.root);
        self.recipe = recipe;
        let trouble = survey.trouble.take();
        let foreign = {
            let mut files = self.shared.files.lock();
            files.take_ledger(entries, &surveyor.names, started)
        };
        self.remove_foreign(foreign);
        self.surveyor = Some(surveyor);
        let plan = self.plan(survey, &HashSet::new(), now);
        self.backlog.extend(plan.jobs);
        self.look_later(plan.look_again, now);

        let interval =
            if self.watch.is_some() { self.config.scan_interval } else { self.config.poll_interval };
        self.next_scan = now + interval.max(started.elapsed() * SCAN_SHARE);
        let mut health = self.shared.health.lock();
        health.unavailable = None;
        health.trouble = trouble;
        health.scanning = false;
        health.scans += 1;
    }

    /// A folder that is suddenly empty may be a disk that is not mounted. It counts as empty when this very folder was
    /// seen before: then its files were deleted.
    fn check_scan(&self, scan: Box<Scan>) -> Result<Box<Scan>> {
        let is_known = self.root == Some(scan.survey.root);
        let is_expected = is_known || (scan.entries.is_empty() && !self.shared.files.lock().any_stored());
        if !scan.survey.root_is_empty || is_expected {
            return Ok(scan);
        }
        let message = format!(
            "the folder is empty, but {} of its files are indexed: nothing is deleted, in case a disk is not mounted; \
             put a file into it, or remove the source with its documents",
            scan.entries.len()
        );
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    fn be_unavailable(&mut self, error: &Error, now: Instant) {
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
        self.next_scan = now + self.config.unavailable_interval;
    }

    fn finish_look(&mut self, survey: Survey, closed: &HashSet<PathBuf>) {
        let now = Instant::now();
        let plan = self.plan(survey, closed, now);
        self.urgent.extend(plan.jobs);
        self.look_later(plan.look_again, now);
    }

    fn plan(&self, survey: Survey, closed: &HashSet<PathBuf>, now: Instant) -> Plan {
        let closed = closed.iter().map(|path| self.shared.names.key(path)).collect();
        let circumstances = Circumstances {
            recipe: &self.recipe,
            now,
            now_ns: now_ns(),
            settle: self.config.settle,
            removal_grace: self.config.removal_grace,
            closed: &closed,
        };
        self.shared.files.lock().plan(survey, &circumstances)
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
            let order = Order { job, surveyor, recipe: self.recipe.clone() };
            let worker = Arc::clone(&self.worker);
            self.running += 1;
            self.tasks.spawn(async move {
                let done = AssertUnwindSafe(worker.run(&order)).catch_unwind().await;
                Finished::Worked(done.unwrap_or_else(|_| Worker::died(&order.job)))
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
                let wait = backoff(&self.config, tries);
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

/// The wait before the next try of a file that failed `tries` times before.
fn backoff(config: &SourceConfig, tries: u32) -> Duration {
    config.retry_first.saturating_mul(1 << tries.min(16)).min(config.retry_last)
}

async fn next_hint(watch: &mut Option<Watch>) -> Option<Hint> {
    match watch {
        Some(watch) => watch.hints.recv().await,
        None => std::future::pending().await,
    }
}

/// Looks at ledger and folder. The watch is set up before the look, so that nothing falls between them.
async fn scan(
    shared: &Arc<Shared>,
    worker: &Worker,
    config: &SourceConfig,
    may_watch: bool,
    watched: Option<RootIdentity>,
) -> Result<Scan> {
    let started = Instant::now();
    let collection = &shared.source.collection;
    let recipe = worker.pipeline.recipe(collection).await?;
    let entries = worker.sink.documents_of_source(collection, &shared.source.id).await?;
    let (shared, config) = (Arc::clone(shared), config.clone());
    run_blocking(move || {
        let root = shared.root();
        let identity = root_identity(root)?;
        let mut blind = None;
        let mut watch = None;
        if may_watch && watched != Some(identity) {
            watch = Watch::new(root).map_err(|reason| blind = Some(reason)).ok();
        }
        let surveyor = Surveyor {
            root: root.clone(),
            names: shared.names.clone(),
            rules: Arc::new(Rules::new(root, &shared.source.ignore)?),
            max_file_bytes: config.max_file_bytes,
            max_files: config.max_files,
        };
        let survey = surveyor.whole()?;
        Ok(Scan { watch, blind, recipe, entries, started, surveyor, survey })
    })
    .await
}
