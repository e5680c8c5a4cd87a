//! A file of typed columns, whatever its format: what its columns are for, and its batches as [`Rows`].

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::checkpoint::Position;
use super::columns::{Kind, Roles};
use super::convert::{self, Origin, convert, kind};
use super::exported;
use super::ids::MadeIds;
use super::plan::{FileError, Plan, Stop};
use super::rows::Rows;
use super::{EMBEDDED_BATCH_ROWS, MAX_WRITE_BYTES, RowError};
use crate::error::Result;

/// A file whose columns are known.
pub(super) struct Table<'a> {
    plan: &'a Plan,
    file: usize,
    path: Arc<str>,
    roles: Roles,
    made_ids: MadeIds,
    /// Columns that are left out, told with the first rows.
    notes: Vec<RowError>,
}

/// Where a batch begins.
pub(super) struct Place {
    pub row_group: u32,
    /// Within the row group.
    pub row: u64,
    /// Within the file.
    pub file_row: u64,
}

impl<'a> Table<'a> {
    /// Finds out what the columns of a file are for. `start` is where its reading begins.
    pub fn new(plan: &'a Plan, start: Position, schema: &Schema) -> Result<Self, FileError> {
        let file = plan.files.get(start.file).ok_or(FileError::Stopped(Stop))?;
        let columns: Vec<(&str, Kind)> =
            schema.fields().iter().map(|field| (field.name().as_str(), kind(field.data_type()))).collect();
        let mut roles = plan.mapping.roles(&columns, &plan.columns, &plan.target)?;
        let mut left_out = exported::adopt(schema, &plan.mapping, &mut roles);
        left_out.extend(convert::unusable_payload(schema, &roles));
        let path: Arc<str> = file.path.display().to_string().into();
        let mut notes = Vec::new();
        for (column, message) in left_out {
            roles.payload.retain(|name| *name != column);
            // Said once, when the file is begun.
            if start == Position::start_of(start.file) {
                notes.push(RowError { path: path.to_string(), row_group: None, row: 0, column, message });
            }
        }
        Ok(Self { plan, file: start.file, path, roles, made_ids: MadeIds::new(&file.path), notes })
    }

    /// Whether a column is needed.
    pub fn uses(&self, name: &str) -> bool {
        self.roles.named().any(|used| used == name) || self.roles.payload.iter().any(|used| used == name)
    }

    /// Hands a batch on, in parts of what is written at once.
    pub fn emit(
        &mut self,
        batch: &RecordBatch,
        place: &Place,
        emit: &mut dyn FnMut(Rows) -> Result<(), Stop>,
    ) -> Result<(), FileError> {
        let most = self.write_rows(batch);
        let mut from = 0;
        while from < batch.num_rows() {
            let part = batch.slice(from, most.min(batch.num_rows() - from));
            let origin = Origin {
                path: &self.path,
                made_ids: &self.made_ids,
                row_group: place.row_group,
                row: place.row + from as u64,
                file_row: place.file_row + from as u64,
                file: self.file,
            };
            let mut rows = convert(&part, &self.roles, &self.plan.target, &origin)?;
            rows.errors.splice(0..0, self.notes.drain(..));
            emit(rows).map_err(FileError::Stopped)?;
            from += part.num_rows();
        }
        Ok(())
    }

    /// Rows to write at a time: fewer where they turned out large, or have to be embedded.
    fn write_rows(&self, batch: &RecordBatch) -> usize {
        let row_bytes =
            (batch.get_array_memory_size() / batch.num_rows().max(1)).max(self.plan.vector_bytes()).max(1);
        let fitting = (MAX_WRITE_BYTES / row_bytes).clamp(1, self.plan.batch_rows.max(1));
        if self.plan.embeds(&self.roles) { fitting.min(EMBEDDED_BATCH_ROWS) } else { fitting }
    }
}
