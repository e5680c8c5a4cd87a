//! Reads a Parquet file row group by row group, from any row on. What a broken file does to the reader stays here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::MAX_WRITE_BYTES;
use super::checkpoint::Position;
use super::input::Input;
use super::plan::{FileError, Outline, Plan, PlannedFile, Stop};
use super::rows::Rows;
use super::table::{Place, Table};
use crate::error::{Error, Result};

/// Rows and columns of a file as its footer tells them.
pub(super) fn outline(file: &PlannedFile) -> Result<Outline> {
    let metadata = open(file)?.1;
    let columns = metadata.schema().fields().iter().map(|field| field.name().clone()).collect();
    let rows = metadata.metadata().row_groups().iter().map(|group| rows_of(group.num_rows())).sum();
    Ok(Outline { rows: Some(rows), columns })
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
    table: Table<'a>,
    input: Input,
    metadata: ArrowReaderMetadata,
    projection: ProjectionMask,
}

impl<'a> Reader<'a> {
    fn open(plan: &'a Plan, start: Position) -> Result<Self, FileError> {
        let file = plan.files.get(start.file).ok_or(FileError::Stopped(Stop))?;
        let (input, metadata) = open(file)?;
        let schema = metadata.schema();
        let table = Table::new(plan, start, schema)?;
        let roots = schema.fields().iter().enumerate().filter(|(_, field)| table.uses(field.name()));
        let projection = ProjectionMask::roots(metadata.parquet_schema(), roots.map(|(at, _)| at));
        Ok(Self { plan, table, input, metadata, projection })
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
                self.read_group(Group { row_group, rows, bytes, skipped, group_start }, emit)?;
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
        let columns =
            self.metadata.metadata().row_group(group.row_group as usize).columns().iter().enumerate();
        let read = columns.filter(|(at, _)| self.projection.leaf_included(*at)).map(|(_, column)| {
            let (start, length) = column.byte_range();
            start..start.saturating_add(length)
        });
        let input = self.input.for_columns(read)?;
        let skipped = usize::try_from(group.skipped).map_err(|_| Error::bad_content("too many rows"))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(input, self.metadata.clone())
            .with_row_groups(vec![group.row_group as usize])
            .with_projection(self.projection.clone())
            .with_batch_size(self.batch_rows(&group))
            .with_offset(skipped)
            .build()
            .map_err(|error| self.input.fault(broken(&error)))?;
        let mut row = group.skipped;
        for batch in reader {
            let batch = batch.map_err(|error| self.input.fault(broken(&error)))?;
            let place = Place { row_group: group.row_group, row, file_row: group.group_start + row };
            self.table.emit(&batch, &place, emit)?;
            row += batch.num_rows() as u64;
        }
        Ok(())
    }

    /// Rows to read at a time: fewer where rows are large, by what the footer says of them.
    fn batch_rows(&self, group: &Group) -> usize {
        let row_bytes = (group.bytes / group.rows.max(1)).max(1);
        let fitting = usize::try_from(MAX_WRITE_BYTES as u64 / row_bytes).unwrap_or(usize::MAX);
        self.plan.batch_rows.min(fitting).max(1)
    }
}

/// A row group and where in it to begin.
struct Group {
    row_group: u32,
    rows: u64,
    bytes: u64,
    skipped: u64,
    /// Its first row within the file.
    group_start: u64,
}

fn open(file: &PlannedFile) -> Result<(Input, ArrowReaderMetadata)> {
    let input = Input::open(file)?;
    let metadata =
        catch_unwind(AssertUnwindSafe(|| ArrowReaderMetadata::load(&input, ArrowReaderOptions::new())));
    match metadata {
        Ok(Ok(metadata)) => Ok((input, metadata)),
        Ok(Err(error)) => Err(input.fault(broken(&error))),
        Err(_) => Err(Error::bad_content("the file is broken: its reader gave up")),
    }
}

fn rows_of(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::bad_content(format!("not a readable Parquet file: {error}"))
}
