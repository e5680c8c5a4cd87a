//! Imports over gRPC: the request as a job, the progress as a stream. When the caller goes away, the import ends.

use std::path::PathBuf;

use ragstone_ingest::import::{
    ColumnMapping, ImportFormat, ImportJob, ImportProgress, MAX_FILES, MAX_JOB_ID_BYTES, RowError,
};
use ragstone_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status;
use crate::app::App;
use crate::app::error::{Error, Result};
use crate::app::imports::RunningImport;

/// Messages that wait for a slow reader.
const QUEUE: usize = 4;

/// The job that a client asks for.
pub fn job(request: v1::ImportRequest) -> Result<ImportJob> {
    if request.paths.is_empty() || request.paths.iter().any(String::is_empty) {
        return Err(Error::invalid("paths", "name at least one file of the server's machine"));
    }
    if request.paths.len() > MAX_FILES {
        return Err(Error::invalid(
            "paths",
            format!("{} paths are more than {MAX_FILES}", request.paths.len()),
        ));
    }
    if request.job_id.len() > MAX_JOB_ID_BYTES {
        let message = format!("{} bytes are more than {MAX_JOB_ID_BYTES}", request.job_id.len());
        return Err(Error::invalid("job_id", message));
    }
    let format = match v1::ImportFormat::try_from(request.format) {
        Ok(v1::ImportFormat::Unspecified) => None,
        Ok(v1::ImportFormat::Parquet) => Some(ImportFormat::Parquet),
        Ok(v1::ImportFormat::Arrow) => Some(ImportFormat::Arrow),
        Ok(v1::ImportFormat::Jsonl) => Some(ImportFormat::Jsonl),
        Err(_) => {
            return Err(Error::invalid("format", format!("{} is not a format known here", request.format)));
        }
    };
    let v1::ColumnMapping { id, text, title, vectors, document_id, payload, expires_at } =
        request.columns.unwrap_or_default();
    let paths = request.paths.into_iter().map(PathBuf::from).collect();
    Ok(ImportJob {
        format,
        columns: ColumnMapping {
            id,
            text,
            title,
            vectors: vectors.into_iter().collect(),
            document_id,
            payload,
            expires_at,
        },
        strict: request.strict,
        job_id: Some(request.job_id).filter(|id| !id.is_empty()),
        restart: request.restart,
        ..ImportJob::new(request.collection, paths)
    })
}

/// Starts a job; its progress comes back as a stream, which ends with the last message or an error.
pub fn run(
    app: &App,
    job: ImportJob,
) -> Result<ReceiverStream<std::result::Result<v1::ImportProgress, Status>>> {
    let mut running: RunningImport = app.import(job)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        loop {
            let progress = tokio::select! {
                progress = running.progress.recv() => progress,
                // Dropping the import cancels it.
                () = sender.closed() => return,
            };
            let Some(progress) = progress else { break };
            if sender.send(Ok(wire(progress))).await.is_err() {
                return;
            }
        }
        if let Err(error) = running.outcome().await {
            let _gone = sender.send(Err(status::status(&error))).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

fn wire(progress: ImportProgress) -> v1::ImportProgress {
    let error = |error: RowError| v1::ImportError {
        path: error.path,
        row_group: error.row_group,
        row: error.row,
        column: error.column,
        message: error.message,
    };
    v1::ImportProgress {
        job_id: progress.job_id,
        path: progress.path,
        rows_done: progress.rows_done,
        rows_total: progress.rows_total,
        rows_written: progress.rows_written,
        rows_rejected: progress.rows_rejected,
        rows_resumed: progress.rows_resumed,
        errors: progress.errors.into_iter().map(error).collect(),
        seq_no: progress.seq_no,
        done: progress.done,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn absent_means_the_default() {
        let job = job(v1::ImportRequest { paths: vec!["/a".into()], ..Default::default() }).unwrap();
        assert_eq!((job.format, job.job_id, job.strict, job.restart), (None, None, false, false));
        assert_eq!(job.columns, ColumnMapping::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |request: v1::ImportRequest, field: &str| {
            assert_eq!(job(request).unwrap_err().violations()[0].field, field);
        };
        let request = || v1::ImportRequest { paths: vec!["/a".into()], ..Default::default() };
        check(v1::ImportRequest { paths: Vec::new(), ..request() }, "paths");
        check(v1::ImportRequest { paths: vec![String::new()], ..request() }, "paths");
        check(v1::ImportRequest { format: 9, ..request() }, "format");
        check(v1::ImportRequest { job_id: "x".repeat(201), ..request() }, "job_id");
    }
}
