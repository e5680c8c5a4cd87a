//! Runs an import: a thread reads and converts, the texts are embedded, the rows are written, all three at once with
//! short queues between them.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::checkpoint::State;
use super::embedding::Filler;
use super::plan::{FileError, Plan, Stop};
use super::rows::Rows;
use super::write::{Order, Writer};
use super::{ImportJob, ImportProgress, ImportSummary};
use crate::embed::EmbedService;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::BatchSink;

/// Batches between two stages: with those in work, some five batches are in memory.
const QUEUED_BATCHES: usize = 1;

/// What the reader tells.
enum Event {
    Rows(Box<Rows>),
    Finished(usize),
    Failed(usize, Error),
}

/// Imports the files of a job, from where an earlier run of the same job got. Rows and files that can't be read are
/// reported and skipped, unless the job is strict.
///
/// # Errors
///
/// A job that makes no sense, a missing file, an embedder that does not fit, a sink that fails, cancellation, and with
/// `strict` the first bad row or file. Whatever was written before stays, and the next run goes on behind it. When no
/// file could be read at all, the error is that of the first.
pub async fn run(
    job: ImportJob,
    sink: Arc<dyn BatchSink>,
    embed: Arc<EmbedService>,
    progress: mpsc::Sender<ImportProgress>,
    cancel: CancellationToken,
) -> Result<ImportSummary> {
    let target = sink.target(&job.collection).await?;
    let planned = {
        let (job, target, cancel) = (job.clone(), target.clone(), cancel.clone());
        tokio::task::spawn_blocking(move || Plan::new(&job, target, &cancel))
            .await
            .map_err(|error| defect(&error))?
    };
    let plan = Arc::new(planned?);
    let state = starting_state(&job, &plan, sink.as_ref()).await?;

    let (read_sender, mut read) = mpsc::channel(QUEUED_BATCHES);
    let (ready_sender, ready) = mpsc::channel(QUEUED_BATCHES);
    let reader = {
        let (plan, state, cancel) = (Arc::clone(&plan), state.clone(), cancel.clone());
        tokio::task::spawn_blocking(move || read_files(&plan, &state, &read_sender, &cancel))
    };
    let filling = fill(&mut read, ready_sender, Filler::new(embed, target), &cancel);
    let order = Order { plan, collection: job.collection, strict: job.strict, sink, progress, state };
    let writing = write(ready, Writer::new(order), &cancel);
    let (filled, written) = tokio::join!(filling, writing);
    // The reader stops when nobody takes its rows.
    drop(read);
    reader.await.map_err(|error| defect(&error))?;
    // A failed stage ends the others early and without an error of their own.
    filled?;
    let summary = written?.finish().await;
    match summary.errors.first() {
        Some(error)
            if summary.files_failed == summary.files && summary.rows_done + summary.rows_resumed == 0 =>
        {
            Err(Error::bad_content(error.to_string()).at(error.path.clone()))
        }
        _ => Ok(summary),
    }
}

async fn starting_state(job: &ImportJob, plan: &Plan, sink: &dyn BatchSink) -> Result<State> {
    if job.restart {
        return Ok(State::new(&plan.inputs));
    }
    let Some(bytes) = sink.checkpoint(&job.collection, &plan.checkpoint_key()).await? else {
        return Ok(State::new(&plan.inputs));
    };
    Ok(State::read(&bytes, &plan.inputs).unwrap_or_else(|| {
        tracing::warn!(
            job_id = plan.job_id,
            "import: files or columns changed since the last run: starting anew"
        );
        State::new(&plan.inputs)
    }))
}

/// Reads all files that are not finished, in order. Runs on a thread of its own.
fn read_files(plan: &Plan, state: &State, sender: &mpsc::Sender<Event>, cancel: &CancellationToken) {
    for file in 0..plan.files.len() {
        let Some(start) = state.start(file) else { continue };
        let mut emit = |rows| {
            if cancel.is_cancelled() {
                return Err(Stop);
            }
            sender.blocking_send(Event::Rows(Box::new(rows))).map_err(|_| Stop)
        };
        let event = match plan.read(start, &mut emit) {
            Ok(()) => Event::Finished(file),
            Err(FileError::Broken(error)) => Event::Failed(file, error),
            Err(FileError::Stopped(Stop)) => return,
        };
        if sender.blocking_send(event).is_err() {
            return;
        }
    }
}

/// Embeds what lacks vectors and hands everything on in order.
async fn fill(
    read: &mut mpsc::Receiver<Event>,
    ready: mpsc::Sender<(Event, u64)>,
    mut filler: Filler,
    cancel: &CancellationToken,
) -> Result<()> {
    while let Some(mut event) = read.recv().await {
        let mut cut = 0;
        if let Event::Rows(rows) = &mut event {
            cut = tokio::select! {
                () = cancel.cancelled() => return Err(cancelled()),
                cut = filler.fill(rows) => cut?,
            };
        }
        if ready.send((event, cut)).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn write(
    mut ready: mpsc::Receiver<(Event, u64)>,
    mut writer: Writer,
    cancel: &CancellationToken,
) -> Result<Writer> {
    while let Some((event, cut)) = ready.recv().await {
        // Between two writes: what was begun is finished, so that the next run finds a whole state.
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        match event {
            Event::Rows(rows) => writer.write(*rows, cut).await?,
            Event::Finished(file) => writer.finish_file(file),
            Event::Failed(file, error) => writer.fail_file(file, &error).await?,
        }
    }
    if cancel.is_cancelled() {
        return Err(cancelled());
    }
    Ok(writer)
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the import was stopped; it goes on from here when it is started again")
}

fn defect(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("a stage of the import failed: {error}"))
}
