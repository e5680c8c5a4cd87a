//! What an import is going to read, settled before the first row: files or objects, formats, job id.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use ignore::overrides::OverrideBuilder;
use tokio_util::sync::CancellationToken;

use super::checkpoint::Position;
use super::columns::{ColumnMapping, Roles};
use super::location::Location;
#[cfg(feature = "object-store")]
use super::objects;
use super::rows::Rows;
use super::{
    ImportFormat, ImportJob, MAX_BATCH_ROWS, MAX_FILES, MAX_JOB_ID_BYTES, arrow_file, jsonl, parquet,
};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::Target;

/// Deepest folder that a pattern reaches.
const MAX_PATTERN_DEPTH: usize = 64;
/// Objects whose footers are read at the same time.
#[cfg(feature = "object-store")]
const OUTLINES_AT_ONCE: usize = 16;

/// The job with everything resolved.
pub(super) struct Plan {
    pub job_id: String,
    /// Hash of files (paths, sizes, times; of objects also their ETags), formats and mapping.
    pub inputs: String,
    pub files: Vec<PlannedFile>,
    pub mapping: ColumnMapping,
    pub target: Target,
    pub batch_rows: usize,
    /// Rows of all files; 0 when a format does not tell.
    pub rows_total: u64,
    /// Columns that some file has, of those whose format tells.
    pub columns: BTreeSet<String>,
}

/// What a file tells of itself before it is read.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// `None`: it would have to be read for it.
    pub rows: Option<u64>,
    pub columns: Vec<String>,
}

/// A file of the job.
pub(super) struct PlannedFile {
    /// Of an object: its URL.
    pub path: PathBuf,
    pub format: ImportFormat,
    pub source: Source,
}

/// Where the bytes of a file are.
#[derive(Debug)]
pub(super) enum Source {
    /// At its path.
    Local,
    /// In a store.
    #[cfg(feature = "object-store")]
    Object(std::sync::Arc<objects::Object>),
    /// In a store that can't be asked for it, for this reason.
    #[cfg(feature = "object-store")]
    Unreachable(String),
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
    /// Looks at the files: they exist and are files. Blocking; `cancel` ends waiting for a store.
    pub fn new(job: &ImportJob, target: Target, cancel: &CancellationToken) -> Result<Self> {
        if !(1..=MAX_BATCH_ROWS).contains(&job.batch_rows) {
            let message = format!("{} is not between 1 and {MAX_BATCH_ROWS}", job.batch_rows);
            return Err(Error::invalid("batch_rows", message));
        }
        job.columns.validate(&target)?;
        let mut files = Vec::new();
        let mut finder = Finder::new(job.format, cancel)?;
        for (at, path) in job.paths.iter().enumerate() {
            finder.expand(path, &format!("paths[{at}]"), &mut files)?;
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
        let mut rows_total = Some(0);
        let mut columns = BTreeSet::new();
        for outline in outlines(&files) {
            rows_total = rows_total.zip(outline.rows).map(|(total, rows): (u64, u64)| total + rows);
            columns.extend(outline.columns);
        }
        Ok(Self {
            job_id,
            inputs,
            files,
            mapping: job.columns.clone(),
            target,
            batch_rows: job.batch_rows,
            rows_total: rows_total.unwrap_or_default(),
            columns,
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
    fn outline(&self) -> Outline {
        let outline = match self.format {
            ImportFormat::Parquet => parquet::outline(self),
            ImportFormat::Arrow => arrow_file::outline(self),
            ImportFormat::Jsonl => return Outline::default(),
        };
        // A file whose footer can't be read fails when its turn comes; the total is only shown.
        outline.unwrap_or(Outline { rows: Some(0), columns: Vec::new() })
    }
}

/// What the files tell of themselves. Stores answer slowly, but many questions at once.
fn outlines(files: &[PlannedFile]) -> Vec<Outline> {
    #[cfg(feature = "object-store")]
    if files.iter().any(|file| matches!(file.source, Source::Object(_))) {
        let share = files.len().div_ceil(OUTLINES_AT_ONCE).max(1);
        return std::thread::scope(|scope| {
            let outlines = |files: &[PlannedFile]| files.iter().map(PlannedFile::outline).collect::<Vec<_>>();
            let threads: Vec<_> =
                files.chunks(share).map(|files| scope.spawn(move || outlines(files))).collect();
            // A thread that died has nothing to tell; the files fail when their turn comes.
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
    }
    files.iter().map(PlannedFile::outline).collect()
}

/// Finds the files that the paths of a job mean.
struct Finder {
    format: Option<ImportFormat>,
    #[cfg(feature = "object-store")]
    stores: objects::Stores,
}

impl Finder {
    #[cfg(feature = "object-store")]
    fn new(format: Option<ImportFormat>, cancel: &CancellationToken) -> Result<Self> {
        Ok(Self { format, stores: objects::Stores::new(cancel.clone())? })
    }

    #[cfg(not(feature = "object-store"))]
    fn new(format: Option<ImportFormat>, _: &CancellationToken) -> Result<Self> {
        Ok(Self { format })
    }

    fn expand(&mut self, path: &Path, at: &str, files: &mut Vec<PlannedFile>) -> Result<()> {
        match Location::of(path, at)? {
            Location::Local(path) => expand(&path, self.format, at, files),
            #[cfg(feature = "object-store")]
            Location::Object(url) => {
                let found = objects::find(&mut self.stores, &url, self.format, at)?;
                let planned = |objects::Found { url, object, format }: objects::Found| {
                    let source = object.map_or_else(Source::Unreachable, Source::Object);
                    PlannedFile { path: url.into(), format, source }
                };
                files.extend(found.into_iter().map(planned));
                Ok(())
            }
            #[cfg(not(feature = "object-store"))]
            Location::Object(url) => {
                let message = format!(
                    "{}: this build reads no object stores (it is without the feature \"object-store\"); expected a path",
                    url.base
                );
                Err(Error::new(ErrorKind::FailedPrecondition, message).at(at))
            }
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
    if is_pattern(&path) {
        return expand_pattern(&path, format, at, files);
    }
    let metadata = std::fs::metadata(&path).map_err(unreadable)?;
    if metadata.is_file() {
        let format = format.or_else(|| format_of(&path)).ok_or_else(|| {
            let message =
                format!("{}: expected .parquet, .arrow, .jsonl or .ndjson, or a format", path.display());
            Error::invalid(at, message)
        })?;
        files.push(PlannedFile { path, format, source: Source::Local });
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
            found.push(PlannedFile { path, format: known, source: Source::Local });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    files.append(&mut found);
    Ok(())
}

/// A name with `*`, `?` or `[`, unless there is a file of exactly that name.
fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte)) && !path.exists()
}

/// Files of known formats whose path matches: `*` and `?` within a name, `**` over folders.
fn expand_pattern(
    path: &Path,
    format: Option<ImportFormat>,
    at: &str,
    files: &mut Vec<PlannedFile>,
) -> Result<()> {
    let wrong = |error: &dyn std::fmt::Display| Error::invalid(at, format!("{}: {error}", path.display()));
    let is_plain =
        |part: &&std::ffi::OsStr| !part.as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte));
    let base: PathBuf = path.iter().take_while(is_plain).collect();
    let pattern = path.strip_prefix(&base).map_err(|error| wrong(&error))?;
    let pattern = pattern.to_str().ok_or_else(|| wrong(&"the pattern is not UTF-8"))?;
    let mut matching = OverrideBuilder::new(&base);
    matching.add(&format!("/{pattern}")).map_err(|error| wrong(&error))?;
    let matching = matching.build().map_err(|error| wrong(&error))?;
    let mut walk = WalkBuilder::new(&base);
    walk.standard_filters(false).overrides(matching).max_depth(Some(MAX_PATTERN_DEPTH));
    let mut found = Vec::new();
    for entry in walk.build() {
        let entry = entry.map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("{}: {error}", path.display())).at(at)
        })?;
        let chosen = match (format, format_of(entry.path())) {
            (None, known) => known,
            (Some(wanted), None) => Some(wanted),
            (Some(wanted), Some(known)) => (wanted == known).then_some(wanted),
        };
        if let Some(format) = chosen.filter(|_| entry.path().is_file()) {
            found.push(PlannedFile { path: entry.into_path(), format, source: Source::Local });
        }
        if found.len() > MAX_FILES {
            break;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    files.append(&mut found);
    Ok(())
}

pub(super) fn format_of(path: &Path) -> Option<ImportFormat> {
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
        #[cfg(feature = "object-store")]
        if let Source::Object(object) = &file.source {
            part(object.identity().as_bytes());
            continue;
        }
        let metadata = std::fs::metadata(&file.path).ok();
        let size = metadata.as_ref().map_or(0, std::fs::Metadata::len);
        let modified = metadata.and_then(|metadata| metadata.modified().ok());
        let modified = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        part(&size.to_le_bytes());
        part(&modified.map_or(0, |time| time.as_nanos()).to_le_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}
