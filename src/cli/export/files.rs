//! The files of an export. Each is written under a name that nobody reads, and gets its own when all are complete and on
//! disk. Blocking.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::Format;

/// Rows of a Parquet row group, at most: where an import that is stopped goes on.
const ROW_GROUP_ROWS: usize = 65_536;
/// Bytes of a row group, roughly at most: it is in memory until it is complete.
const ROW_GROUP_BYTES: usize = 128 << 20;
/// Most files of a folder: digits of their names.
const MAX_PARTS: usize = 100_000;

/// Where an export goes.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// For a folder: the first part of its files' names, and the rows of each.
    pub(super) parts: Option<(String, u64)>,
    pub(super) overwrite: bool,
}

/// What an export left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) files: Vec<PathBuf>,
}

impl Destination {
    /// Refuses to replace what is there, unless asked to.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let there = match &self.parts {
            None => self.path.exists().then(|| self.path.clone()),
            Some(_) => self.earlier_parts()?.into_iter().next(),
        };
        match there {
            Some(path) if !self.overwrite => {
                bail!("{} is there; --overwrite replaces it", path.display())
            }
            _ => Ok(()),
        }
    }

    /// Files of an earlier export into the same folder.
    fn earlier_parts(&self) -> anyhow::Result<Vec<PathBuf>> {
        let Some((prefix, _)) = &self.parts else { return Ok(Vec::new()) };
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let is_part = |name: &str| {
            name.strip_prefix(prefix.as_str())
                .and_then(|rest| rest.strip_prefix('-')?.split_once('.'))
                .is_some_and(|(digits, extension)| {
                    digits.len() == 5
                        && digits.bytes().all(|b| b.is_ascii_digit())
                        && extension == self.format.extension()
                })
        };
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(&self.path).with_context(|| self.path.display().to_string())? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_part) {
                parts.push(entry.path());
            }
        }
        parts.sort();
        Ok(parts)
    }

    /// Begins to write.
    pub(super) fn open(self) -> ExportFiles {
        ExportFiles { destination: self, schema: None, done: Vec::new(), current: None, rows: 0 }
    }

    fn part(&self, number: usize) -> anyhow::Result<PathBuf> {
        let Some((prefix, _)) = &self.parts else { return Ok(self.path.clone()) };
        if number >= MAX_PARTS {
            bail!("more than {MAX_PARTS} files; ask for more points a file with --rows-per-file");
        }
        Ok(self.path.join(format!("{prefix}-{number:05}.{}", self.format.extension())))
    }
}

/// An export that is written.
pub(super) struct ExportFiles {
    destination: Destination,
    schema: Option<SchemaRef>,
    done: Vec<Partial>,
    current: Option<(Writer, Partial, u64)>,
    rows: u64,
}

impl ExportFiles {
    /// Writes the rows of an IPC stream.
    pub(super) fn write(&mut self, ipc: &[u8]) -> anyhow::Result<()> {
        let reader = StreamReader::try_new(ipc, None).context("the server sent no Arrow IPC stream")?;
        let schema = self.schema.get_or_insert_with(|| reader.schema());
        if **schema != *reader.schema() {
            bail!("the server changed the columns on the way");
        }
        for batch in reader {
            let batch = batch.context("the server sent no Arrow IPC stream")?;
            self.write_batch(&batch)?;
        }
        Ok(())
    }

    fn write_batch(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let most = self.destination.parts.as_ref().map_or(u64::MAX, |(_, rows)| *rows);
        let mut from = 0;
        while from < batch.num_rows() {
            if self.current.as_ref().is_some_and(|(.., rows)| *rows >= most) {
                self.close()?;
            }
            let (writer, _, rows) = self.begun()?;
            let room = usize::try_from(most - *rows).unwrap_or(usize::MAX);
            let taken = room.min(batch.num_rows() - from);
            writer.write(&batch.slice(from, taken))?;
            *rows += taken as u64;
            from += taken;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn begun(&mut self) -> anyhow::Result<&mut (Writer, Partial, u64)> {
        if self.current.is_none() {
            if self.destination.parts.is_some() {
                std::fs::create_dir_all(&self.destination.path)
                    .with_context(|| self.destination.path.display().to_string())?;
            }
            let partial = Partial::new(self.destination.part(self.done.len())?)?;
            let file = partial.create().with_context(|| partial.hidden.display().to_string())?;
            let schema = self.schema.clone().unwrap_or_else(|| Arc::new(Schema::empty()));
            self.current = Some((Writer::new(self.destination.format, file, &schema)?, partial, 0));
        }
        self.current.as_mut().context("a file is open")
    }

    fn close(&mut self) -> anyhow::Result<()> {
        if let Some((writer, partial, _)) = self.current.take() {
            writer.finish().with_context(|| partial.hidden.display().to_string())?;
            self.done.push(partial);
        }
        Ok(())
    }

    /// Completes the files and gives them their names.
    pub(super) fn finish(mut self) -> anyhow::Result<Written> {
        if self.done.is_empty() && self.current.is_none() {
            self.begun()?;
        }
        self.close()?;
        self.destination.check()?;
        let mut written = Written { rows: self.rows, ..Written::default() };
        let earlier = self.destination.earlier_parts()?;
        for partial in std::mem::take(&mut self.done) {
            let path = partial.publish()?;
            written.bytes += std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
            written.files.push(path);
        }
        for old in earlier.iter().filter(|old| !written.files.contains(old)) {
            std::fs::remove_file(old).with_context(|| old.display().to_string())?;
        }
        if let Some(folder) = written.files.first().and_then(|file| file.parent()) {
            sync_folder(folder)?;
        }
        Ok(written)
    }
}

/// A file under its hidden name; deleted unless it is published.
#[derive(Debug)]
struct Partial {
    hidden: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Partial {
    fn new(path: PathBuf) -> anyhow::Result<Self> {
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", std::process::id()));
        Ok(Self { hidden: path.with_file_name(hidden), path, published: false })
    }

    fn create(&self) -> std::io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(&self.hidden)
    }

    fn publish(mut self) -> anyhow::Result<PathBuf> {
        std::fs::rename(&self.hidden, &self.path).with_context(|| self.path.display().to_string())?;
        self.published = true;
        Ok(self.path.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // What can't be deleted has a name that tells what it is.
            let _left = std::fs::remove_file(&self.hidden);
        }
    }
}

enum Writer {
    Parquet(Box<ArrowWriter<BufWriter<File>>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
}

impl Writer {
    fn new(format: Format, file: File, schema: &SchemaRef) -> anyhow::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(match format {
            Format::Parquet => {
                let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties(schema)))?;
                Self::Parquet(Box::new(writer))
            }
            Format::Arrow => Self::Arrow(Box::new(FileWriter::try_new(file, schema)?)),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Parquet(writer) => {
                writer.write(batch)?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES {
                    writer.flush()?;
                }
            }
            Self::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Writes what is left, down to the disk.
    fn finish(self) -> anyhow::Result<()> {
        let mut file = match self {
            Self::Parquet(writer) => writer.into_inner()?,
            Self::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?
            }
        };
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(())
    }
}

/// Vectors have neither repetitions for a dictionary nor an order for statistics.
fn properties(schema: &Schema) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    let is_vector = |data_type: &DataType| matches!(data_type, DataType::FixedSizeList(..));
    for field in schema.fields().iter().filter(|field| is_vector(field.data_type())) {
        let path = ColumnPath::new(vec![field.name().clone(), "list".into(), "item".into()]);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| folder.display().to_string())
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> anyhow::Result<()> {
    Ok(())
}
