//! What an import is going to read, settled before the first row: files, formats, job id.

use std::path::{Path, PathBuf};

use super::checkpoint::Position;
use super::columns::{ColumnMapping, Roles};
use super::rows::Rows;
use super::{
    ImportFormat, ImportJob, MAX_BATCH_ROWS, MAX_FILES, MAX_JOB_ID_BYTES, arrow_file, jsonl, parquet,
};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::Target;

/// The job with everything resolved.
pub(super) struct Plan {
    pub job_id: String,
    /// Hash of files (paths, sizes, times), formats and mapping.
    pub inputs: String,
    pub files: Vec<PlannedFile>,
    pub mapping: ColumnMapping,
    pub target: Target,
    pub batch_rows: usize,
    /// Rows of all files; 0 when a format does not tell.
    pub rows_total: u64,
}

/// A file of the job.
pub(super) struct PlannedFile {
    pub path: PathBuf,
    pub format: ImportFormat,
}

/// Nobody wants more rows.
#[derive(Debug)]
pub(super) struct Stop;

/// Why a file was not read to its end.
#[derive(Debug)]
pub(super) enum FileError {
    Stopped(Stop),
    Broken(Error),
}

impl From<Error> for FileError {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl Plan {
    /// Looks at the files: they exist and are files. Blocking.
    pub fn new(job: &ImportJob, target: Target) -> Result<Self> {
        if !(1..=MAX_BATCH_ROWS).contains(&job.batch_rows) {
            let message = format!("{} is not between 1 and {MAX_BATCH_ROWS}", job.batch_rows);
            return Err(Error::invalid("batch_rows", message));
        }
        job.columns.validate(&target)?;
        let mut files = Vec::new();
        for (at, path) in job.paths.iter().enumerate() {
            expand(path, job.format, &format!("paths[{at}]"), &mut files)?;
            if files.len() > MAX_FILES {
                let message = format!("more than {MAX_FILES} files");
                return Err(Error::new(ErrorKind::ResourceExhausted, message).at("paths"));
            }
        }
        if files.is_empty() {
            return Err(Error::invalid("paths", "no files to import"));
        }
        let inputs = inputs(job, &files)?;
        let job_id = match job.job_id.as_deref() {
            None | Some("") => inputs.chars().take(32).collect(),
            Some(id) if id.len() > MAX_JOB_ID_BYTES || id.chars().any(char::is_control) => {
                let message = format!("expected at most {MAX_JOB_ID_BYTES} bytes without control characters");
                return Err(Error::invalid("job_id", message));
            }
            Some(id) => id.to_owned(),
        };
        // A file whose footer can't be read fails when its turn comes; the total is only shown.
        let known: Option<u64> = files.iter().map(PlannedFile::rows).sum();
        Ok(Self {
            job_id,
            inputs,
            files,
            mapping: job.columns.clone(),
            target,
            batch_rows: job.batch_rows,
            rows_total: known.unwrap_or_default(),
        })
    }

    /// Key of the job's checkpoint.
    pub fn checkpoint_key(&self) -> String {
        format!("import/{}", self.job_id)
    }

    /// Reads a file from `start` on.
    pub fn read(
        &self,
        start: Position,
        emit: &mut dyn FnMut(Rows) -> Result<(), Stop>,
    ) -> Result<(), FileError> {
        match self.files.get(start.file).map(|file| file.format) {
            Some(ImportFormat::Parquet) => parquet::read(self, start, emit),
            Some(ImportFormat::Arrow) => arrow_file::read(self, start, emit),
            Some(ImportFormat::Jsonl) => jsonl::read(self, start, emit),
            None => Ok(()),
        }
    }

    /// Bytes that the vectors of a row can take, by the target's dimensions.
    pub fn vector_bytes(&self) -> usize {
        self.target.spaces.iter().map(|space| space.dimension as usize * size_of::<f32>()).sum()
    }

    /// Whether texts of a file with these columns have to be embedded.
    pub fn embeds(&self, roles: &Roles) -> bool {
        let without_vectors = self
            .target
            .spaces
            .iter()
            .zip(&roles.vectors)
            .any(|(space, column)| space.embedder.is_some() && column.is_none());
        roles.text.is_some() && without_vectors
    }
}

impl PlannedFile {
    fn rows(&self) -> Option<u64> {
        match self.format {
            ImportFormat::Parquet => Some(parquet::row_count(&self.path).unwrap_or_default()),
            ImportFormat::Arrow => Some(arrow_file::row_count(&self.path).unwrap_or_default()),
            ImportFormat::Jsonl => None,
        }
    }
}

fn expand(path: &Path, format: Option<ImportFormat>, at: &str, files: &mut Vec<PlannedFile>) -> Result<()> {
    let unreadable = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("{} can't be read: {error}", path.display())).at(at)
    };
    let path = std::path::absolute(path).map_err(unreadable)?;
    let metadata = std::fs::metadata(&path).map_err(unreadable)?;
    if metadata.is_file() {
        let format = format.or_else(|| format_of(&path)).ok_or_else(|| {
            let message =
                format!("{}: expected .parquet, .arrow, .jsonl or .ndjson, or a format", path.display());
            Error::invalid(at, message)
        })?;
        files.push(PlannedFile { path, format });
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(Error::invalid(at, format!("{} is neither a file nor a folder", path.display())));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(unreadable)?.take(MAX_FILES.saturating_mul(10)) {
        let path = entry.map_err(unreadable)?.path();
        let known = format_of(&path).filter(|known| format.is_none_or(|wanted| wanted == *known));
        if let Some(known) = known.filter(|_| path.is_file()) {
            found.push(PlannedFile { path, format: known });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    files.append(&mut found);
    Ok(())
}

fn format_of(path: &Path) -> Option<ImportFormat> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "parquet" | "pq" => Some(ImportFormat::Parquet),
        "arrow" | "ipc" | "feather" => Some(ImportFormat::Arrow),
        "jsonl" | "ndjson" => Some(ImportFormat::Jsonl),
        _ => None,
    }
}

/// A changed file, mapping or collection is another import.
fn inputs(job: &ImportJob, files: &[PlannedFile]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(job.collection.as_bytes());
    let mapping = serde_json::to_vec(&job.columns);
    part(&mapping.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?);
    for file in files {
        part(file.path.as_os_str().as_encoded_bytes());
        part(match file.format {
            ImportFormat::Parquet => b"parquet",
            ImportFormat::Arrow => b"arrow",
            ImportFormat::Jsonl => b"jsonl",
        });
        let metadata = std::fs::metadata(&file.path).ok();
        let size = metadata.as_ref().map_or(0, std::fs::Metadata::len);
        let modified = metadata.and_then(|metadata| metadata.modified().ok());
        let modified = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        part(&size.to_le_bytes());
        part(&modified.map_or(0, |time| time.as_nanos()).to_le_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}
