//! Reads a Parquet file row group by row group, from any row on. What a broken file does to the reader stays here.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::checkpoint::Position;
use super::columns::{Kind, Roles};
use super::convert::{self, Origin, convert, kind};
use super::ids::MadeIds;
use super::plan::{FileError, Plan, Stop};
use super::rows::Rows;
use super::{EMBEDDED_BATCH_ROWS, MAX_WRITE_BYTES, RowError};
use crate::error::{Error, ErrorKind, Result};

/// Rows of a file as its footer tells them.
pub(super) fn row_count(path: &Path) -> Result<u64> {
    let metadata = open(path)?.1;
    Ok(metadata.metadata().row_groups().iter().map(|group| rows_of(group.num_rows())).sum())
}

/// Reads a file from `start` on. `emit` takes each batch in order.
pub(super) fn read(
    plan: &Plan,
    start: Position,
    emit: &mut dyn FnMut(Rows) -> Result<(), Stop>,
) -> Result<(), FileError> {
    // A defect of the decoder that a broken file finds must not end the import.
    catch_unwind(AssertUnwindSafe(|| Reader::open(plan, start)?.read_groups(start, emit))).unwrap_or_else(
        |_| Err(FileError::Broken(Error::bad_content("the file is broken: its reader gave up"))),
    )
}

struct Reader<'a> {
    plan: &'a Plan,
    path: Arc<str>,
    handle: File,
    metadata: ArrowReaderMetadata,
    roles: Roles,
    projection: ProjectionMask,
    made_ids: MadeIds,
    /// Columns that are left out, told with the first rows.
    notes: Vec<RowError>,
}

impl<'a> Reader<'a> {
    fn open(plan: &'a Plan, start: Position) -> Result<Self, FileError> {
        let file = plan.files.get(start.file).ok_or(FileError::Stopped(Stop))?;
        let (handle, metadata) = open(&file.path)?;
        let schema = metadata.schema();
        let columns: Vec<(&str, Kind)> =
            schema.fields().iter().map(|field| (field.name().as_str(), kind(field.data_type()))).collect();
        let mut roles = plan.mapping.roles(&columns, &plan.target)?;
        let path: Arc<str> = file.path.display().to_string().into();
        let mut notes = Vec::new();
        for (column, message) in convert::unusable_payload(schema, &roles) {
            roles.payload.retain(|name| *name != column);
            // Said once, when the file is begun.
            if start == Position::start_of(start.file) {
                notes.push(RowError { path: path.to_string(), row_group: None, row: 0, column, message });
            }
        }
        let used =
            |name: &str| roles.named().any(|used| used == name) || roles.payload.iter().any(|p| p == name);
        let roots = columns.iter().enumerate().filter(|(_, (name, _))| used(name)).map(|(at, _)| at);
        let projection = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let made_ids = MadeIds::new(&file.path);
        Ok(Self { plan, path, handle, metadata, roles, projection, made_ids, notes })
    }

    fn read_groups(
        mut self,
        start: Position,
        emit: &mut dyn FnMut(Rows) -> Result<(), Stop>,
    ) -> Result<(), FileError> {
        let metadata = Arc::clone(self.metadata.metadata());
        let mut group_start = 0;
        for (at, group) in metadata.row_groups().iter().enumerate() {
            let rows = rows_of(group.num_rows());
            let row_group = u32::try_from(at).map_err(|_| Error::bad_content("too many row groups"))?;
            if row_group >= start.row_group {
                let skipped = if row_group == start.row_group { start.row.min(rows) } else { 0 };
                let bytes = u64::try_from(group.total_byte_size()).unwrap_or_default();
                self.read_group(
                    Group { file: start.file, row_group, rows, bytes, skipped, group_start },
                    emit,
                )?;
            }
            group_start += rows;
        }
        Ok(())
    }

    fn read_group(
        &mut self,
        group: Group,
        emit: &mut dyn FnMut(Rows) -> Result<(), Stop>,
    ) -> Result<(), FileError> {
        if group.skipped >= group.rows {
            return Ok(());
        }
        let handle = self.handle.try_clone().map_err(|error| unreadable(&error))?;
        let skipped = usize::try_from(group.skipped).map_err(|_| Error::bad_content("too many rows"))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(handle, self.metadata.clone())
            .with_row_groups(vec![group.row_group as usize])
            .with_projection(self.projection.clone())
            .with_batch_size(self.batch_rows(&group))
            .with_offset(skipped)
            .build()
            .map_err(|error| broken(&error))?;
        let mut row = group.skipped;
        for batch in reader {
            let batch = batch.map_err(|error| broken(&error))?;
            let most = self.write_rows(&batch);
            let mut from = 0;
            while from < batch.num_rows() {
                let part = batch.slice(from, most.min(batch.num_rows() - from));
                let origin = Origin {
                    path: &self.path,
                    made_ids: &self.made_ids,
                    row_group: group.row_group,
                    row,
                    file_row: group.group_start + row,
                    file: group.file,
                };
                let mut rows = convert(&part, &self.roles, &self.plan.target, &origin)?;
                rows.errors.splice(0..0, self.notes.drain(..));
                emit(rows).map_err(FileError::Stopped)?;
                row += part.num_rows() as u64;
                from += part.num_rows();
            }
        }
        Ok(())
    }

    /// Rows to read at a time: fewer where rows are large, by what the footer says of them.
    fn batch_rows(&self, group: &Group) -> usize {
        let row_bytes = (group.bytes / group.rows.max(1)).max(1);
        let fitting = usize::try_from(MAX_WRITE_BYTES as u64 / row_bytes).unwrap_or(usize::MAX);
        self.plan.batch_rows.min(fitting).max(1)
    }

    /// Rows to write at a time: fewer where they turned out large, or have to be embedded.
    fn write_rows(&self, batch: &RecordBatch) -> usize {
        let row_bytes =
            (batch.get_array_memory_size() / batch.num_rows().max(1)).max(self.plan.vector_bytes()).max(1);
        let fitting = (MAX_WRITE_BYTES / row_bytes).max(1);
        if self.plan.embeds(&self.roles) { fitting.min(EMBEDDED_BATCH_ROWS) } else { fitting }
    }
}

/// A row group and where in it to begin.
struct Group {
    file: usize,
    row_group: u32,
    rows: u64,
    bytes: u64,
    skipped: u64,
    /// Its first row within the file.
    group_start: u64,
}

fn open(path: &Path) -> Result<(File, ArrowReaderMetadata)> {
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let metadata =
        catch_unwind(AssertUnwindSafe(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())));
    match metadata {
        Ok(Ok(metadata)) => Ok((file, metadata)),
        Ok(Err(error)) => Err(broken(&error)),
        Err(_) => Err(Error::bad_content("the file is broken: its reader gave up")),
    }
}

fn rows_of(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::bad_content(format!("not a readable Parquet file: {error}"))
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the file can't be read: {error}"))
}
