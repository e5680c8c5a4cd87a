//! Imports: a bounded number at once, each with its progress, cancelled when nobody listens any more.

use std::sync::Arc;

use ragstone_ingest::import::{self, ImportJob, ImportProgress, ImportSummary};
use ragstone_ingest::sink::BatchSink;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::App;
use super::error::{Error, Result};

/// Imports at the same time.
pub const MAX_IMPORTS: usize = 4;
/// Progress messages that wait for a slow listener; the import waits too.
const PROGRESS_QUEUE: usize = 16;

/// An import that runs. Dropping it cancels the import; what is durable stays, and the job can go on later.
#[derive(Debug)]
pub struct RunningImport {
    /// Its progress; ends with the import.
    pub progress: mpsc::Receiver<ImportProgress>,
    task: JoinHandle<Result<ImportSummary>>,
    _cancel_on_drop: DropGuard,
}

impl RunningImport {
    /// How it ended. Call it when `progress` has ended.
    pub async fn outcome(self) -> Result<ImportSummary> {
        self.task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an import died");
            Err(Error::Panicked)
        })
    }
}

impl App {
    /// Starts an import.
    pub fn import(&self, job: ImportJob) -> Result<RunningImport> {
        self.collection(&job.collection)?;
        let Ok(permit) = Arc::clone(&self.imports).try_acquire_owned() else {
            return Err(Error::Busy { what: "imports", limit: MAX_IMPORTS });
        };
        let (sender, progress) = mpsc::channel(PROGRESS_QUEUE);
        let cancel: CancellationToken = self.stopping.child_token();
        let sink: Arc<dyn BatchSink> = Arc::clone(&self.sink) as Arc<dyn BatchSink>;
        let (embed, token) = (Arc::clone(self.embedding.service()), cancel.clone());
        let task = tokio::spawn(async move {
            let _permit = permit;
            Ok(import::run(job, sink, embed, sender, token).await?)
        });
        Ok(RunningImport { progress, task, _cancel_on_drop: cancel.drop_guard() })
    }
}
