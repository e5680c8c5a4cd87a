//! The last stage: writes rows with the checkpoint behind them, counts, and tells how it goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, error::TrySendError};

use super::checkpoint::State;
use super::plan::Plan;
use super::rows::Rows;
use super::{ImportProgress, ImportSummary, MAX_PROGRESS_ERRORS, MAX_SUMMARY_ERRORS, RowError};
use crate::error::{Error, Result};
use crate::sink::BatchSink;

/// Progress is told at most this often, unless there is an error to tell.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How long the last message waits for a listener that is behind.
const LAST_MESSAGE_WAIT: Duration = Duration::from_secs(5);

/// Writes for one import.
pub(super) struct Writer {
    plan: Arc<Plan>,
    collection: String,
    strict: bool,
    sink: Arc<dyn BatchSink>,
    progress: mpsc::Sender<ImportProgress>,
    state: State,
    summary: ImportSummary,
    path: String,
    untold: Vec<RowError>,
    told: Instant,
}

/// What a writer works for.
pub(super) struct Order {
    pub plan: Arc<Plan>,
    pub collection: String,
    pub strict: bool,
    pub sink: Arc<dyn BatchSink>,
    pub progress: mpsc::Sender<ImportProgress>,
    pub state: State,
}

impl Writer {
    pub fn new(order: Order) -> Self {
        let summary = ImportSummary {
            job_id: order.plan.job_id.clone(),
            files: order.plan.files.len(),
            rows_resumed: order.state.rows_done,
            ..ImportSummary::default()
        };
        let first =
            order.plan.files.get(order.state.position.file.min(order.plan.files.len().saturating_sub(1)));
        let path = first.map(|file| file.path.display().to_string()).unwrap_or_default();
        Self {
            plan: order.plan,
            collection: order.collection,
            strict: order.strict,
            sink: order.sink,
            progress: order.progress,
            state: order.state,
            summary,
            path,
            untold: Vec::new(),
            told: Instant::now(),
        }
    }

    /// Writes rows together with the checkpoint behind them. With `strict` the first bad row ends the import before
    /// anything of its batch is written.
    pub async fn write(&mut self, rows: Rows, texts_cut: u64) -> Result<()> {
        self.path = rows.path.to_string();
        // A note on a whole column is no bad row.
        let is_bad = |error: &&RowError| error.row > 0 || error.row_group.is_some();
        if let Some(error) = rows.errors.iter().find(is_bad).filter(|_| self.strict) {
            return Err(Error::bad_content(error.to_string()).at(error.path.clone()));
        }
        self.state.advance(rows.after);
        self.state.rows_done += rows.read;
        let mut rejected = rows.read - rows.len() as u64;
        if rows.len() > 0 {
            let batch = rows.to_batch(&self.plan.target)?;
            let checkpoint = Some((self.plan.checkpoint_key(), self.state.to_bytes()));
            let written = self.sink.write_rows(&self.collection, batch, checkpoint, self.strict).await?;
            self.summary.seq_no = written.seq_no;
            self.summary.rows_written += written.upserted;
            rejected += written.rejected.len() as u64;
            for refused in &written.rejected {
                self.note(rows.error(refused.row, &refused.column, &refused.message));
            }
        }
        self.summary.rows_done += rows.read;
        self.summary.rows_rejected += rejected;
        self.summary.texts_cut += texts_cut;
        rows.errors.into_iter().for_each(|error| self.note(error));
        self.tell(false).await;
        Ok(())
    }

    /// A file is read to its end.
    pub fn finish_file(&mut self, file: usize) {
        self.state.finish(file);
    }

    /// A file can't be read any further.
    pub async fn fail_file(&mut self, file: usize, error: &Error) -> Result<()> {
        let path = self.plan.files.get(file).map(|file| file.path.display().to_string()).unwrap_or_default();
        if self.strict {
            return Err(Error::new(error.kind(), format!("{path}: {}", error.message())).at(path));
        }
        tracing::warn!(path, %error, "import: file can't be read");
        self.state.fail(file);
        self.summary.files_failed += 1;
        let column = error.field().unwrap_or_default().to_owned();
        self.note(RowError { path, column, message: error.message().to_owned(), ..RowError::default() });
        self.tell(false).await;
        Ok(())
    }

    /// The last message and the summary.
    pub async fn finish(mut self) -> ImportSummary {
        self.tell(true).await;
        self.summary
    }

    fn note(&mut self, error: RowError) {
        if self.untold.len() < MAX_PROGRESS_ERRORS {
            self.untold.push(error.clone());
        }
        if self.summary.errors.len() < MAX_SUMMARY_ERRORS {
            self.summary.errors.push(error);
        }
    }

    async fn tell(&mut self, done: bool) {
        if !done && self.untold.is_empty() && self.told.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.told = Instant::now();
        let message = ImportProgress {
            job_id: self.summary.job_id.clone(),
            path: self.path.clone(),
            rows_done: self.summary.rows_done,
            rows_total: self.plan.rows_total,
            rows_written: self.summary.rows_written,
            rows_rejected: self.summary.rows_rejected,
            rows_resumed: self.summary.rows_resumed,
            errors: std::mem::take(&mut self.untold),
            seq_no: self.summary.seq_no,
            done,
        };
        // Who does not listen still gets the import; ending it is what the cancellation token is for.
        if done {
            let _ = self.progress.send_timeout(message, LAST_MESSAGE_WAIT).await;
        } else if let Err(TrySendError::Full(message)) = self.progress.try_send(message) {
            self.untold = message.errors;
        }
    }
}
