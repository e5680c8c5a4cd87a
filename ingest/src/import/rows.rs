//! Rows on their way from a file to the sink: columns as the sink wants them, and where each row came from.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, FixedSizeListArray, RecordBatch, StringArray};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};

use super::RowError;
use super::checkpoint::Position;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::Target;

/// Rows of one file, all columns of the same length.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub path: Arc<str>,
    pub row_group: Option<u32>,
    /// Number of each row, as errors give it.
    pub numbers: Vec<u64>,
    pub ids: StringArray,
    pub document_ids: Option<StringArray>,
    pub texts: Option<StringArray>,
    pub titles: Option<StringArray>,
    pub payloads: Option<StringArray>,
    /// By vector space of the target.
    pub vectors: Vec<Option<FixedSizeListArray>>,
    /// Columns that go on as they are, by name.
    pub carried: Vec<(String, ArrayRef)>,
    /// Rows read, those that are not here for their errors included.
    pub read: u64,
    pub errors: Vec<RowError>,
    /// Where the file goes on behind them.
    pub after: Position,
}

/// The first error of each row: column and message.
#[derive(Debug, Default)]
pub(super) struct BadRows {
    rows: std::collections::BTreeMap<usize, (String, String)>,
}

impl BadRows {
    /// Notes an error; a row's first one counts.
    pub fn add(&mut self, row: usize, column: &str, message: impl Into<String>) {
        self.rows.entry(row).or_insert_with(|| (column.to_owned(), message.into()));
    }
}

impl Rows {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The error of a row that is here.
    pub fn error(&self, row: usize, column: &str, message: &str) -> RowError {
        RowError {
            path: self.path.to_string(),
            row_group: self.row_group,
            row: self.numbers.get(row).copied().unwrap_or_default(),
            column: column.to_owned(),
            message: message.to_owned(),
        }
    }

    /// Takes bad rows out and keeps their errors. Without bad rows nothing is copied.
    pub fn without(mut self, bad: BadRows) -> Result<Self> {
        if bad.rows.is_empty() {
            return Ok(self);
        }
        for (row, (column, message)) in &bad.rows {
            self.errors.push(self.error(*row, column, message));
        }
        let keep: BooleanArray = (0..self.len()).map(|row| Some(!bad.rows.contains_key(&row))).collect();
        let numbers = std::mem::take(&mut self.numbers).into_iter().zip(keep.values().iter());
        self.numbers = numbers.filter_map(|(number, keep)| keep.then_some(number)).collect();
        self.ids = filtered(&self.ids, &keep)?;
        for column in [&mut self.document_ids, &mut self.texts, &mut self.titles, &mut self.payloads] {
            *column = column.as_ref().map(|column| filtered(column, &keep)).transpose()?;
        }
        for column in &mut self.vectors {
            *column = column.as_ref().map(|column| filtered(column, &keep)).transpose()?;
        }
        for (_, column) in &mut self.carried {
            *column = filter(column, &keep).map_err(|error| defect(&error))?;
        }
        Ok(self)
    }

    /// The batch for the sink. Columns that the files don't have are left out.
    pub fn to_batch(&self, target: &Target) -> Result<RecordBatch> {
        let mut fields = vec![Field::new("id", DataType::Utf8, false)];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.ids.clone())];
        let texts = [
            ("document_id", &self.document_ids),
            ("text", &self.texts),
            ("payload", &self.payloads),
            ("title", &self.titles),
        ];
        for (name, column) in texts {
            if let Some(column) = column {
                fields.push(Field::new(name, DataType::Utf8, true));
                columns.push(Arc::new(column.clone()));
            }
        }
        for (space, column) in target.spaces.iter().zip(&self.vectors) {
            if let Some(column) = column {
                fields.push(Field::new(format!("vector:{}", space.name), column.data_type().clone(), true));
                columns.push(Arc::new(column.clone()));
            }
        }
        for (name, column) in &self.carried {
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(Arc::clone(column));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| defect(&error))
    }
}

/// The field inside of a vector column.
pub(super) fn vector_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float32, true))
}

/// An error of Arrow that no input should bring about.
pub(super) fn defect(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("a batch could not be made: {error}"))
}

fn filtered<A: Array + Clone + 'static>(column: &A, keep: &BooleanArray) -> Result<A> {
    let column = filter(column, keep).map_err(|error| defect(&error))?;
    column.as_any().downcast_ref::<A>().cloned().ok_or_else(|| defect(&"filter changed a type"))
}
