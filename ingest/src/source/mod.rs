//! Watched folders: a folder and a collection are kept equal.
//!
//! **Events are hints, the scan is the truth.** The system's events only say where to look; what is done follows from a
//! look at the disk and from the ledger. So a lost event costs time, never a file.
//!
//! The way of a change: `events` (hint) -> `folder` (when) -> `survey` (what is there) -> `files` (what follows) -> `job`
//! (the pipeline, the sink).

mod config;
mod events;
mod files;
mod folder;
mod job;
mod names;
mod passwords;
mod rules;
mod status;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::config::{MAX_IGNORE_PATTERN_BYTES, MAX_IGNORE_PATTERNS, MAX_SOURCES, SourceConfig};
use self::files::FileRecord;
pub use self::files::{FileCounts, FileState};
use self::folder::Folder;
use self::job::{Worker, run_blocking};
use self::status::Shared;
pub use self::status::{FileStatus, FilesPage, Noticing, SourceState, SourceStatus};
use crate::document::{EntryState, IngestOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Pipeline;
use crate::sink::BatchSink;

/// A folder that a collection is kept equal to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FolderSource {
    /// Names it. Documents carry it: the same folder of the same collection should keep it, see [`FolderSource::new`].
    pub id: String,
    /// Where the documents go.
    pub collection: String,
    /// An absolute path.
    pub root: PathBuf,
    /// Patterns of files to leave out, in `.gitignore` form, beside the folder's own `.gitignore` files.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Changes are found by scans only: where the system does not tell of them (network folders, containers).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub poll: bool,
    /// How its files are read. Passwords are not stored with it.
    #[serde(default)]
    pub options: IngestOptions,
    /// An absolute path: more passwords, one a line. Read when the source starts, and with every scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

impl FolderSource {
    /// A source whose id follows from collection and path, so that a folder that is removed and added again is the same.
    ///
    /// # Errors
    /// `InvalidArgument` when the path is not absolute or a pattern is none.
    pub fn new(collection: &str, root: &Path, ignore: Vec<String>) -> Result<Self> {
        let root = names::absolute_root(root)?;
        rules::check_patterns(&ignore)?;
        let hash = blake3::hash(format!("{collection}\0{}", root.display()).as_bytes()).to_hex();
        let id = format!("folder-{}", hash.get(..16).unwrap_or_default());
        let options = IngestOptions::default();
        let collection = collection.to_owned();
        Ok(Self { id, collection, root, ignore, poll: false, options, password_file: None })
    }

    /// Checks that its passwords can be read now, as [`Self::check_root`] does for the folder.
    ///
    /// # Errors
    /// `InvalidArgument` on `password_file`.
    pub async fn check_passwords(&self) -> Result<()> {
        self.password_file.as_deref().map_or(Ok(()), passwords::check_path)?;
        let read = passwords::options(self).await.map(drop);
        read.map_err(|error| Error::invalid("password_file", error.message()))
    }

    /// Checks that the folder is there now. For whoever adds one; a source that exists may be away for a while.
    ///
    /// # Errors
    /// `InvalidArgument` on `path`.
    pub async fn check_root(&self) -> Result<()> {
        let root = self.root.clone();
        run_blocking(move || match std::fs::read_dir(&root) {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("{} can't be watched: {}", root.display(), survey::reason(&error));
                Err(Error::invalid("path", message))
            }
        })
        .await
    }
}

/// Keeps watched folders and their collections equal.
pub struct SourceManager {
    pipeline: Arc<Pipeline>,
    sink: Arc<dyn BatchSink>,
    config: SourceConfig,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    shared: Arc<Shared>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for SourceManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceManager").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SourceManager {
    /// A manager without sources. It remembers none: whoever adds one keeps it for the next start.
    pub fn new(pipeline: Arc<Pipeline>, sink: Arc<dyn BatchSink>, config: SourceConfig) -> Self {
        Self { pipeline, sink, config, running: Mutex::default() }
    }

    /// Begins to watch. The folder need not be there: then the source is unavailable until it is. Needs a tokio runtime.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad path or pattern, `FailedPrecondition` when a source of this id, or one of an
    /// overlapping folder in the same collection, is there already, `ResourceExhausted` when there are too many.
    pub fn add(&self, source: FolderSource) -> Result<SourceStatus> {
        self.add_with(source, self.config.clone())
    }

    /// As [`Self::add`], for a source whose options were changed: its documents are made again as they say.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_changed(&self, source: FolderSource) -> Result<SourceStatus> {
        self.add_with(source, SourceConfig { reingest_outdated: true, ..self.config.clone() })
    }

    fn add_with(&self, mut source: FolderSource, mut config: SourceConfig) -> Result<SourceStatus> {
        source.root = names::absolute_root(&source.root)?;
        rules::check_patterns(&source.ignore)?;
        source.password_file.as_deref().map_or(Ok(()), passwords::check_path)?;
        let mut running = self.running.lock();
        check_room(&source, &running)?;
        config.events &= !source.poll;
        let noticing = if config.events {
            Noticing::Events
        } else {
            Noticing::Scans { reason: "events are switched off".into() }
        };
        let shared = Arc::new(Shared::new(source.clone(), noticing));
        let worker = Arc::new(Worker {
            source: source.clone(),
            pipeline: Arc::clone(&self.pipeline),
            sink: Arc::clone(&self.sink),
        });
        let cancel = CancellationToken::new();
        let folder = Folder::new(Arc::clone(&shared), worker, config, cancel.clone());
        let task = tokio::spawn(folder.run());
        let status = shared.status();
        running.insert(source.id, Running { shared, cancel, task });
        Ok(status)
    }

    /// Stops watching. With `delete_documents` what the folder brought is deleted. Returns the number of documents
    /// deleted.
    ///
    /// # Errors
    /// `NotFound` when there is no such source; errors of the sink.
    pub async fn remove(&self, id: &str, delete_documents: bool) -> Result<u64> {
        let Some(running) = self.running.lock().remove(id) else { return Err(not_found(id)) };
        let source = running.shared.source.clone();
        let prefix = running.shared.names.id("");
        running.stop().await;
        self.forget_retries(&source.collection, &prefix).await;
        if !delete_documents {
            return Ok(0);
        }
        let entries = self.sink.documents_of_source(&source.collection, id).await?;
        let ids = entries.into_iter().map(|entry| entry.id).collect();
        delete_in_groups(self.sink.as_ref(), &source.collection, ids).await
    }

    /// Nobody tries the files of a removed source again; one that is added anew begins anew.
    async fn forget_retries(&self, collection: &str, prefix: &str) {
        let forget = async {
            let ids: Vec<String> =
                self.sink.retries(collection, prefix).await?.into_iter().map(|(id, _)| id).collect();
            for group in ids.chunks(config::RETRY_GROUP) {
                self.sink.forget_retries(collection, group.to_vec()).await?;
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = forget.await {
            tracing::debug!(collection, %error, "next tries of files can't be forgotten");
        }
    }

    /// All sources, or those of a collection, by id.
    pub fn list(&self, collection: Option<&str>) -> Vec<SourceStatus> {
        let all: Vec<_> = self.running.lock().values().map(|running| Arc::clone(&running.shared)).collect();
        all.iter()
            .filter(|shared| collection.is_none_or(|collection| shared.source.collection == collection))
            .map(|shared| shared.status())
            .collect()
    }

    /// A source.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn status(&self, id: &str) -> Result<SourceStatus> {
        Ok(self.shared(id)?.status())
    }

    /// Files of a source behind `after`, which is [`FilesPage::next`] of the page before.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn files(&self, id: &str, after: Option<&str>, limit: usize) -> Result<FilesPage> {
        self.files_where(id, after, limit, |_| true)
    }

    /// As [`Self::files`], of those whose state is wanted.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn files_where(
        &self,
        id: &str,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&FileState) -> bool,
    ) -> Result<FilesPage> {
        Ok(self.shared(id)?.page(after, limit, wanted))
    }

    /// Tries files that failed again now: those at `paths`, relative to the source, or all when there are none. Returns
    /// how many.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn retry(&self, id: &str, paths: &[String]) -> Result<u64> {
        let shared = self.shared(id)?;
        let failed = shared.files.lock().take_failed(&shared.keys(paths));
        for group in failed.chunks(config::RETRY_GROUP) {
            self.retry_group(&shared, group).await;
        }
        shared.rescan.notify_one();
        Ok(failed.len() as u64)
    }

    /// The ledger remembers what was asked for: a restart before the try forgets it not.
    async fn retry_group(&self, shared: &Shared, keys: &[String]) {
        let due_ms = job::now_ns() / files::NS_PER_MS;
        let notes = {
            let files = shared.files.lock();
            let note = |key: &String| Some((shared.names.id(key), files.retry_note(key, due_ms)?));
            keys.iter().filter_map(note).collect()
        };
        if let Err(error) = self.sink.put_retries(&shared.source.collection, notes).await {
            tracing::debug!(source = shared.source.id, %error, "the next try of files can't be noted");
        }
        let now = Instant::now();
        let mut files = shared.files.lock();
        for key in keys {
            files.finish(key, now, true, |record| record.set_asked(now));
        }
    }

    /// Takes files that failed for good off the list of failures, as [`Self::retry`] chooses them; they are left alone until
    /// they change. What is stored of their older versions stays. Those that are going to be tried again stay listed.
    /// Returns how many were taken off.
    ///
    /// # Errors
    /// `NotFound`, and those of the sink.
    pub async fn clear(&self, id: &str, paths: &[String]) -> Result<u64> {
        let shared = self.shared(id)?;
        let dead = shared.files.lock().take_dead(&shared.keys(paths));
        let (mut cleared, mut outcome, mut again) = (0, Ok(()), false);
        for key in dead {
            let reason = match &outcome {
                Ok(()) => self.clear_one(&shared, &key).await,
                Err(_) => Ok(None),
            };
            let reason = reason.unwrap_or_else(|error| {
                outcome = Err(error);
                None
            });
            cleared += u64::from(reason.is_some());
            let change = |record: &mut FileRecord| {
                if let Some(reason) = reason {
                    record.set_cleared(reason);
                }
            };
            again |= shared.files.lock().finish(&key, Instant::now(), true, change);
        }
        if again {
            shared.rescan.notify_one();
        }
        outcome.map(|()| cleared)
    }

    /// Makes the ledger leave a failed document alone. Returns the reason that it is given; `None` when it is not a failed
    /// one any more.
    async fn clear_one(&self, shared: &Shared, key: &str) -> Result<Option<String>> {
        let collection = &shared.source.collection;
        let stored = self.sink.document(collection, &shared.names.id(key)).await?;
        let Some(mut entry) = stored else { return Ok(None) };
        let EntryState::Failed { reason } = entry.state else { return Ok(None) };
        let reason = format!("cleared by hand: {reason}");
        entry.state = EntryState::Skipped { reason: reason.clone() };
        self.sink.put_document(collection, entry, None).await?;
        Ok(Some(reason))
    }

    /// Makes the documents of a source again that were made with other settings of extraction, chunking or embedding than
    /// the present ones. Returns how many there are as of the last scan.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn reingest_outdated(&self, id: &str) -> Result<u64> {
        let shared = self.shared(id)?;
        let outdated = shared.files.lock().accept_recipe();
        shared.rescan.notify_one();
        Ok(outdated)
    }

    /// Says that what is missing in the folder is meant to be gone, where the source is unavailable because it doubts
    /// that. It scans, and deletes the documents.
    ///
    /// # Errors
    /// `NotFound`, and `FailedPrecondition` when it does not doubt anything.
    pub fn accept_loss(&self, id: &str) -> Result<()> {
        let shared = self.shared(id)?;
        if !shared.health.lock().doubts_loss {
            let message =
                format!("source \"{}\" does not wait for this: nothing was held back", shared.source.id);
            return Err(Error::new(ErrorKind::FailedPrecondition, message).at("accept_loss"));
        }
        shared.loss_accepted.store(true, Ordering::Release);
        shared.rescan.notify_one();
        Ok(())
    }

    /// Scans a source now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn rescan(&self, id: &str) -> Result<()> {
        self.shared(id)?.rescan.notify_one();
        Ok(())
    }

    /// Stops watching all folders; waits until their tasks have ended.
    pub async fn shutdown(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        join_all(running.into_values().map(Running::stop)).await;
    }

    fn shared(&self, id: &str) -> Result<Arc<Shared>> {
        let running = self.running.lock();
        running.get(id).map(|running| Arc::clone(&running.shared)).ok_or_else(|| not_found(id))
    }
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        // The end of the runtime, which may come first, ends it as well.
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(source = self.shared.source.id, %error, "the task of a watched folder died");
        }
    }
}

impl Drop for SourceManager {
    fn drop(&mut self) {
        for running in self.running.get_mut().values() {
            running.cancel.cancel();
        }
    }
}

fn check_room(source: &FolderSource, running: &BTreeMap<String, Running>) -> Result<()> {
    if source.id.is_empty() || source.id.len() > 128 {
        return Err(Error::invalid("source_id", "a source's id has 1 to 128 bytes"));
    }
    if running.len() >= MAX_SOURCES {
        let message = format!("there are {MAX_SOURCES} watched folders already, the most there can be");
        return Err(Error::new(ErrorKind::ResourceExhausted, message));
    }
    if running.contains_key(&source.id) {
        let message = format!("there is a source \"{}\" already", source.id);
        return Err(Error::new(ErrorKind::FailedPrecondition, message));
    }
    let overlap = running.values().map(|running| &running.shared.source).find(|other| {
        other.collection == source.collection
            && (other.root.starts_with(&source.root) || source.root.starts_with(&other.root))
    });
    match overlap {
        Some(other) => {
            let message = format!(
                "{} overlaps with {}, which source \"{}\" keeps in the same collection",
                source.root.display(),
                other.root.display(),
                other.id
            );
            Err(Error::new(ErrorKind::FailedPrecondition, message).at("path"))
        }
        None => Ok(()),
    }
}

fn not_found(id: &str) -> Error {
    let id: String = id.chars().take(128).collect();
    Error::new(ErrorKind::NotFound, format!("there is no source \"{id}\"")).at("source_id")
}

/// Deletes documents, a bounded number in each write.
async fn delete_in_groups(sink: &dyn BatchSink, collection: &str, ids: Vec<String>) -> Result<u64> {
    for group in ids.chunks(config::REMOVAL_GROUP) {
        sink.delete_documents(collection, group.to_vec()).await?;
    }
    Ok(ids.len() as u64)
}
