//! One piece of work on a folder's files: read a file and hand it to the pipeline, follow a rename, delete. It decides
//! nothing about other files.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::FolderSource;
use super::files::{Attempt, FileState, Job, NS_PER_MS, retry};
use super::names::{Names, file_name, file_url, slashed};
use super::survey::{FileStat, Seen, Surveyor, reason};
use crate::document::{DocumentEntry, EXPIRES_AT_FIELD, EntryState, IngestOptions, Progress, RawDocument};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::{Admission, CONTENT_FIELD, Pipeline};
use crate::sink::BatchSink;

/// What stays of an older version of a file.
#[derive(Debug, Default)]
struct Kept {
    title: String,
    media_type: String,
    chunks: u32,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Done {
    Ingested {
        key: String,
        result: FileResult,
    },
    /// `moved`: nothing is stored under `from` any more.
    Moved {
        from: String,
        moved: bool,
        to: String,
        result: FileResult,
    },
    Removed {
        keys: Vec<String>,
        result: Result<()>,
    },
}

/// What became of a file.
#[derive(Debug)]
pub(crate) enum FileResult {
    /// The ledger knows it, indexed or failed for good.
    Stored { state: FileState, stat: FileStat, read_ns: i64, version: String, chunks: u32 },
    /// It is no file any more, or not one that counts.
    Vanished,
    /// It changed while it was read.
    Unsettled,
    /// It failed for a reason that may pass.
    Retry { error: Error, stat: Option<FileStat> },
}

/// What the jobs of one source share.
pub(crate) struct Worker {
    pub source: FolderSource,
    pub pipeline: Arc<Pipeline>,
    pub sink: Arc<dyn BatchSink>,
}

/// A job with what it has to know of its circumstances.
pub(crate) struct Order {
    pub job: Job,
    pub surveyor: Surveyor,
    pub recipe: String,
    /// How files are read.
    pub options: Arc<IngestOptions>,
    /// Where the job tells how far it is.
    pub progress: Progress,
}

struct Content {
    data: Bytes,
    stat: FileStat,
    read_ns: i64,
    admission: Admission,
}

impl Worker {
    /// Does a job. Errors are part of the outcome.
    pub async fn run(&self, order: &Order) -> Done {
        match &order.job {
            Job::Ingest { key, path } => {
                let result = self.ingest(order, key, path).await.unwrap_or_else(|result| result);
                Done::Ingested { key: key.clone(), result }
            }
            Job::Move { from, from_path, to, path } => {
                let mut moved = false;
                let result = self.follow(order, (from, from_path), (to, path), &mut moved).await;
                let result = result.unwrap_or_else(|result| result);
                Done::Moved { from: from.clone(), moved, to: to.clone(), result }
            }
            Job::Remove { keys } => {
                let ids = keys.iter().map(|key| order.surveyor.names.id(key)).collect();
                let result = self.sink.delete_documents(&self.source.collection, ids).await.map(drop);
                Done::Removed { keys: keys.clone(), result }
            }
        }
    }

    /// The outcome of a job that died.
    pub fn died(job: &Job) -> Done {
        let error = || Error::new(ErrorKind::Internal, "indexing it hit a defect");
        let result = || FileResult::Retry { error: error(), stat: None };
        match job {
            Job::Ingest { key, .. } => Done::Ingested { key: key.clone(), result: result() },
            Job::Move { from, to, .. } => {
                Done::Moved { from: from.clone(), moved: false, to: to.clone(), result: result() }
            }
            Job::Remove { keys } => Done::Removed { keys: keys.clone(), result: Err(error()) },
        }
    }

    /// Lets the ledger know what a restart has to know: of a try that failed, that there is another one after `wait`; of one
    /// that followed such a try and went well, that there is none. The file's turn has not ended, so that nothing else is
    /// written of it meanwhile. Where the ledger can't be written, a restart tries the file at once.
    pub async fn remember_outcome(&self, names: &Names, done: &Done, attempt: &Attempt, wait: Duration) {
        let (Done::Ingested { key, result } | Done::Moved { to: key, result, .. }) = done else { return };
        let collection = &self.source.collection;
        let written = match result {
            // Nothing is wrong with the file: the server goes down.
            FileResult::Retry { error, .. } if error.kind() == ErrorKind::Cancelled => return,
            FileResult::Retry { error, stat } => {
                let Some(stat) = stat.or(attempt.planned) else { return };
                let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                let tries = attempt.tries.saturating_add(1);
                let due_ms = (now_ns() / NS_PER_MS).saturating_add(wait_ms);
                let retry = retry(error.message(), tries, due_ms, stat);
                self.sink.put_retries(collection, vec![(names.id(key), retry)]).await
            }
            // A write of it has done so already; one that was not needed, because the content is what is stored, has not.
            FileResult::Stored { .. } if attempt.noted => {
                self.sink.forget_retries(collection, vec![names.id(key)]).await
            }
            FileResult::Stored { .. } | FileResult::Vanished | FileResult::Unsettled => return,
        };
        if let Err(error) = written {
            tracing::debug!(source = self.source.id, key, %error, "the next try of a file can't be noted");
        }
    }

    async fn ingest(&self, order: &Order, key: &str, path: &Path) -> Result<FileResult, FileResult> {
        let content = self.read(order, path).await?;
        let mut raw = self.raw(order, key, path, content.data.clone(), content.stat);
        if self.expires_at_ms(&content.stat).is_some_and(|end| end <= now_ns() / NS_PER_MS) {
            let stat = content.stat;
            let over = self.record_end(order, raw, stat, content.read_ns).await;
            return over.map_err(|error| FileResult::Retry { error, stat: Some(stat) });
        }
        raw.progress = order.progress.clone();
        self.hand_over(order, raw, content).await
    }

    /// If the file at `to` is what the ledger has at `from`, its points move; nothing is embedded again. Then it is
    /// handed over like any file, for what depends on its name.
    async fn follow(
        &self,
        order: &Order,
        from: (&str, &Path),
        to: (&str, &Path),
        moved: &mut bool,
    ) -> Result<FileResult, FileResult> {
        let content = self.read(order, to.1).await?;
        let mut raw = self.raw(order, to.0, to.1, content.data.clone(), content.stat);
        let before = self.raw(order, from.0, from.1, content.data.clone(), content.stat);
        let stat = content.stat;
        let retry = |error| FileResult::Retry { error, stat: Some(stat) };
        *moved = self.move_points(before, &raw, &order.recipe).await.map_err(retry)?;
        raw.progress = order.progress.clone();
        self.hand_over(order, raw, content).await
    }

    async fn move_points(&self, before: RawDocument, after: &RawDocument, recipe: &str) -> Result<bool> {
        let collection = &self.source.collection;
        let stored = self.sink.document(collection, &before.id).await?;
        let Some(stored) = stored.filter(|entry| entry.state == EntryState::Indexed) else {
            return Ok(false);
        };
        let from = before.id.clone();
        if !self.pipeline.is_version(collection, &Arc::new(before), &stored.version).await? {
            return Ok(false);
        }
        let entry = DocumentEntry {
            id: after.id.clone(),
            uri: after.uri.clone(),
            // Not done yet: a scan after a crash reads the file again.
            version: recipe.to_owned(),
            modified_ns: None,
            ..stored
        };
        self.sink.rename_document(collection, &from, entry).await
    }

    async fn hand_over(
        &self,
        order: &Order,
        raw: RawDocument,
        content: Content,
    ) -> Result<FileResult, FileResult> {
        let Content { data, stat, read_ns, admission } = content;
        drop(data);
        let shell = RawDocument { data: Bytes::new(), ..raw.clone() };
        match self.pipeline.ingest_admitted(&self.source.collection, raw, admission).await {
            Ok(done) => {
                let (version, chunks) = (done.version, done.chunks);
                Ok(FileResult::Stored { state: FileState::Indexed, stat, read_ns, version, chunks })
            }
            Err(error) if is_final(&error) => self
                .record_failure(order, shell, stat, read_ns, &error)
                .await
                .map_err(|error| FileResult::Retry { error, stat: Some(stat) }),
            Err(error) => Err(FileResult::Retry { error, stat: Some(stat) }),
        }
    }

    /// When a file is no more, in milliseconds since 1970.
    fn expires_at_ms(&self, stat: &FileStat) -> Option<i64> {
        let ttl = self.source.options.ttl_seconds?;
        Some((stat.modified_ns / NS_PER_MS).saturating_add_unsigned(ttl.saturating_mul(1_000)))
    }

    /// A file whose time is over goes to the ledger with the reason, so that it is not read again before it changes.
    async fn record_end(
        &self,
        order: &Order,
        raw: RawDocument,
        stat: FileStat,
        read_ns: i64,
    ) -> Result<FileResult> {
        let collection = &self.source.collection;
        let reason = "it has not changed for longer than its time to live".to_owned();
        // What is left of a version with a later end goes, too.
        self.sink.delete_documents(collection, vec![raw.id.clone()]).await?;
        self.record(order, raw, (stat, read_ns), EntryState::Skipped { reason }, Kept::default()).await
    }

    /// A bad file goes to the ledger with its reason, so that it is not read again before it changes. Points of an
    /// older version stay.
    async fn record_failure(
        &self,
        order: &Order,
        shell: RawDocument,
        stat: FileStat,
        read_ns: i64,
        error: &Error,
    ) -> Result<FileResult> {
        let reason = error.message().to_owned();
        let of_no_use = is_of_no_use(error);
        if !of_no_use {
            tracing::warn!(source = self.source.id, document = shell.id, reason, "a file can't be indexed");
        }
        let state = if of_no_use { EntryState::Skipped { reason } } else { EntryState::Failed { reason } };
        let older = self.sink.document(&self.source.collection, &shell.id).await?;
        // A link has no points of its own that could stay.
        let older = older.filter(|entry| !matches!(entry.state, EntryState::Linked { .. }));
        let kept =
            older.map(|DocumentEntry { title, media_type, chunks, .. }| Kept { title, media_type, chunks });
        self.record(order, shell, (stat, read_ns), state, kept.unwrap_or_default()).await
    }

    /// Notes in the ledger why a file has no points of its present content.
    async fn record(
        &self,
        order: &Order,
        file: RawDocument,
        (stat, read_ns): (FileStat, i64),
        state: EntryState,
        kept: Kept,
    ) -> Result<FileResult> {
        let Kept { title, media_type, chunks } = kept;
        let entry = DocumentEntry {
            id: file.id,
            uri: file.uri,
            title,
            media_type,
            version: order.recipe.clone(),
            size_bytes: stat.size,
            modified_ns: Some(stat.modified_ns),
            chunks,
            state: state.clone(),
            source_id: self.source.id.clone(),
        };
        self.sink.put_document(&self.source.collection, entry, None).await?;
        let version = order.recipe.clone();
        Ok(FileResult::Stored { state: state.into(), stat, read_ns, version, chunks })
    }

    async fn read(&self, order: &Order, path: &Path) -> Result<Content, FileResult> {
        let look = || {
            let (surveyor, path) = (order.surveyor.clone(), path.to_owned());
            run_blocking(move || surveyor.one(&path))
        };
        let retry = |error| FileResult::Retry { error, stat: None };
        let Some(Seen::File(stat)) = look().await.map_err(retry)? else { return Err(FileResult::Vanished) };
        let size = usize::try_from(stat.size).unwrap_or(usize::MAX);
        let admission = self.pipeline.admit(size).await.map_err(retry)?;
        let full = order.surveyor.root.join(path);
        match run_blocking(move || read_whole(&full, stat, size)).await {
            Ok(Some((data, read_ns))) => Ok(Content { data, stat, read_ns, admission }),
            Ok(None) => Err(FileResult::Unsettled),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(FileResult::Vanished),
            Err(error) => Err(FileResult::Retry { error, stat: Some(stat) }),
        }
    }

    fn raw(&self, order: &Order, key: &str, path: &Path, data: Bytes, stat: FileStat) -> RawDocument {
        let (name, extension) = file_name(path);
        let mut metadata = Map::new();
        metadata.insert("file_name".into(), Value::from(name.clone()));
        metadata.insert("file_ext".into(), Value::from(extension));
        metadata.insert("path".into(), Value::from(slashed(path)));
        metadata.insert("size".into(), Value::from(stat.size));
        if let Some(end) = self.expires_at_ms(&stat) {
            metadata.insert(EXPIRES_AT_FIELD.into(), Value::from(end));
        }
        RawDocument {
            id: order.surveyor.names.id(key),
            file_name: name,
            uri: file_url(&self.source.root.join(path)),
            data,
            metadata,
            modified_ns: Some(stat.modified_ns),
            source_id: self.source.id.clone(),
            options: Arc::clone(&order.options),
            ..RawDocument::default()
        }
    }
}

/// Whether trying again is of no use until the file changes.
fn is_final(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::BadContent | ErrorKind::InvalidArgument => true,
        // The document is too large, or there is no room for it now.
        ErrorKind::ResourceExhausted => error.field() == Some(CONTENT_FIELD),
        ErrorKind::NotFound
        | ErrorKind::FailedPrecondition
        | ErrorKind::Unavailable
        | ErrorKind::Cancelled
        | ErrorKind::Internal => false,
    }
}

/// Whether the file has nothing wrong with it, but nothing to index either. The extractor says so only in words.
fn is_of_no_use(error: &Error) -> bool {
    let format = error.message().strip_prefix("not a readable format");
    let pretends = format.is_some_and(|what| what.starts_with(" (named"));
    error.kind() == ErrorKind::BadContent && ((format.is_some() && !pretends) || error.message() == "no text")
}

/// Reads the file that was seen as `expected`. `None`: it is another one by now, or changed meanwhile.
fn read_whole(path: &Path, expected: FileStat, size: usize) -> Result<Option<(Bytes, i64)>> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("it can't be read: {}", reason(&error)))
    };
    let mut file = File::open(path).map_err(failed)?;
    let before = file.metadata().map_err(failed)?;
    if !before.is_file() || FileStat::of(&before) != expected {
        return Ok(None);
    }
    let mut data = Vec::with_capacity(size);
    let limit = expected.size.saturating_add(1);
    file.by_ref().take(limit).read_to_end(&mut data).map_err(failed)?;
    let read_ns = now_ns();
    let after = file.metadata().map_err(failed)?;
    let is_whole = data.len() == size && FileStat::of(&after) == expected;
    Ok(is_whole.then(|| (Bytes::from(data), read_ns)))
}

/// The clock of the files, in nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Runs disk work off the async threads.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let lost = |_| Err(Error::new(ErrorKind::Internal, "looking at the folder hit a defect"));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}
