//! Batch import of Parquet, Arrow and JSON Lines files into a collection.
//!
//! [`run`] reads the files of an [`ImportJob`] one after the other, embeds texts that have no vector, and writes batches
//! to a [`BatchSink`](crate::sink::BatchSink). With every batch it commits where it stands, so the same job goes on
//! behind the last durable batch. Memory depends on the size of a batch, not of a file.
//!
//! The files are those of this machine, or objects of a store.
//!
//! It knows nothing of documents and chunks: a row is a point.

mod arrow_file;
mod checkpoint;
mod columns;
mod convert;
mod embedding;
mod exported;
mod ids;
mod input;
mod json;
mod jsonl;
mod location;
#[cfg(feature = "object-store")]
mod objects;
mod parquet;
mod plan;
mod rows;
mod run;
mod table;
mod vectors;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use columns::ColumnMapping;
pub use location::is_url;
pub use run::run;

/// Rows read at a time when nothing is said.
pub const DEFAULT_BATCH_ROWS: usize = 8_192;
/// Most rows read at a time.
pub const MAX_BATCH_ROWS: usize = 65_536;
/// Rows of a batch whose texts have to be embedded: a few seconds of work, so that progress is durable soon.
pub const EMBEDDED_BATCH_ROWS: usize = 256;
/// About as many bytes of rows are written at once, at most.
pub const MAX_WRITE_BYTES: usize = 64 << 20;
/// Most files of one import.
pub const MAX_FILES: usize = 10_000;
/// Longest line of a JSON Lines file, in bytes.
pub const MAX_LINE_BYTES: usize = 16 << 20;
/// Longest job id, in bytes.
pub const MAX_JOB_ID_BYTES: usize = 200;
/// Most errors of a summary; the others are only counted.
pub const MAX_SUMMARY_ERRORS: usize = 1_000;
/// Most errors of one progress message; the others are only counted.
pub const MAX_PROGRESS_ERRORS: usize = 100;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file.
    Arrow,
    /// One JSON object a line.
    Jsonl,
}

/// What to import.
#[derive(Debug, Clone)]
pub struct ImportJob {
    /// Target collection.
    pub collection: String,
    /// Files, patterns of files (`*`, `?`, `[..]`, `**`), or folders whose Parquet, Arrow and JSON Lines files are meant (in
    /// order of name, not their subfolders). URLs of object stores (`s3://`, `gs://`, `az://`, `abfss://`) and files
    /// (`file://`) may stand in their place, with patterns and folders too; what opens a store is in the environment.
    pub paths: Vec<PathBuf>,
    /// `None`: by each file's extension.
    pub format: Option<ImportFormat>,
    /// Which columns hold what.
    pub columns: ColumnMapping,
    /// Stop at the first bad row or file.
    pub strict: bool,
    /// Names the job for resumption. `None`: made from collection, paths, sizes and times of the files (of
    /// objects also their ETags), and mapping.
    pub job_id: Option<String>,
    /// Begin at the first row even when the job got further before.
    pub restart: bool,
    /// Rows read at a time; 1 to [`MAX_BATCH_ROWS`].
    pub batch_rows: usize,
}

impl ImportJob {
    /// A job with default columns and batch size that goes on after errors.
    pub fn new(collection: impl Into<String>, paths: Vec<PathBuf>) -> Self {
        Self {
            collection: collection.into(),
            paths,
            format: None,
            columns: ColumnMapping::default(),
            strict: false,
            job_id: None,
            restart: false,
            batch_rows: DEFAULT_BATCH_ROWS,
        }
    }
}

/// Where an import stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportProgress {
    /// The job.
    pub job_id: String,
    /// The file in work.
    pub path: String,
    /// Rows read and dealt with by this run.
    pub rows_done: u64,
    /// Rows of all files together; 0 when a format does not tell (JSON Lines).
    pub rows_total: u64,
    /// Rows that are durable by this run.
    pub rows_written: u64,
    /// Rows refused by this run.
    pub rows_rejected: u64,
    /// Rows that an earlier run dealt with.
    pub rows_resumed: u64,
    /// New since the last message, at most [`MAX_PROGRESS_ERRORS`].
    pub errors: Vec<RowError>,
    /// Sequence number of the last write.
    pub seq_no: u64,
    /// The last message.
    pub done: bool,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// The job.
    pub job_id: String,
    /// Files of the job.
    pub files: usize,
    /// Files that could not be read to their end.
    pub files_failed: usize,
    /// Rows read by this run.
    pub rows_done: u64,
    /// Rows that are durable by this run.
    pub rows_written: u64,
    /// Rows refused by this run.
    pub rows_rejected: u64,
    /// Rows that an earlier run dealt with.
    pub rows_resumed: u64,
    /// Texts embedded only up to their embedder's token limit.
    pub texts_cut: u64,
    /// Sequence number of the last write; 0 when nothing was written.
    pub seq_no: u64,
    /// The first [`MAX_SUMMARY_ERRORS`] errors.
    pub errors: Vec<RowError>,
}

/// A bad row, or a bad file (then `row` is 0 and `column` is empty).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowError {
    /// The file.
    pub path: String,
    /// Parquet, and Arrow, where it is the batch.
    pub row_group: Option<u32>,
    /// From 0 within the row group (Parquet, Arrow); the line, from 1 (JSON Lines).
    pub row: u64,
    /// Column at fault.
    pub column: String,
    /// What was found and what was expected.
    pub message: String,
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(row_group) = self.row_group {
            write!(f, ", row group {row_group}, row {}", self.row)?;
        } else if self.row > 0 {
            write!(f, ", line {}", self.row)?;
        }
        if !self.column.is_empty() {
            write!(f, ", column {:?}", self.column)?;
        }
        write!(f, ": {}", self.message)
    }
}
