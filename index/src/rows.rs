//! Typed access to the columns of a canonical batch: every column of [`crate::batch::arrow_schema`], in its order.

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Float32Type, TimestampMillisecondType, UInt32Type, UInt64Type};

use crate::batch;
use crate::error::{Error, Result};
use crate::search::Origin;
use crate::vector::prefetch;

/// Most bytes of a value that are fetched ahead; behind them the processor fetches on by itself.
const PREFETCHED: usize = 256;

/// The columns of a canonical batch, downcast once.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    ids: StringArray,
    document_ids: StringArray,
    texts: StringArray,
    payloads: StringArray,
    uris: StringArray,
    titles: StringArray,
    media_types: StringArray,
    pages: UInt32Array,
    chunk_indexes: UInt32Array,
    heading_paths: ListArray,
    span_starts: UInt64Array,
    span_ends: UInt64Array,
    parts: StringArray,
    parents: UInt32Array,
    expiries: TimestampMillisecondArray,
    /// No row has anything but an id, a text, and a payload. Said once for all, because each column that is asked about a
    /// row costs a read of cold memory.
    bare: bool,
}

impl Rows {
    /// Downcasts. A column that is missing or of another type is a defect (memtable) or corruption (file); the caller
    /// knows which.
    pub(crate) fn new(batch: &RecordBatch) -> Result<Self> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| Error::Internal(format!("no column \"{name}\" in a batch of rows")))
        };
        let string = |name: &str| -> Result<StringArray> {
            column(name)?.as_string_opt::<i32>().cloned().ok_or_else(|| wrong_type(name))
        };
        let u32s = |name: &str| -> Result<UInt32Array> {
            column(name)?.as_primitive_opt::<UInt32Type>().cloned().ok_or_else(|| wrong_type(name))
        };
        let u64s = |name: &str| -> Result<UInt64Array> {
            column(name)?.as_primitive_opt::<UInt64Type>().cloned().ok_or_else(|| wrong_type(name))
        };
        let heading_paths: ListArray = column(batch::HEADING_PATH)?
            .as_list_opt::<i32>()
            .filter(|list| list.values().as_string_opt::<i32>().is_some())
            .cloned()
            .ok_or_else(|| wrong_type(batch::HEADING_PATH))?;
        let mut rows = Self {
            ids: string(batch::ID)?,
            document_ids: string(batch::DOCUMENT_ID)?,
            texts: string(batch::TEXT)?,
            payloads: string(batch::PAYLOAD)?,
            uris: string(batch::URI)?,
            titles: string(batch::TITLE)?,
            media_types: string(batch::MEDIA_TYPE)?,
            pages: u32s(batch::PAGE)?,
            chunk_indexes: u32s(batch::CHUNK_INDEX)?,
            heading_paths,
            span_starts: u64s(batch::SPAN_START)?,
            span_ends: u64s(batch::SPAN_END)?,
            parts: string(batch::PART)?,
            parents: u32s(batch::PARENT)?,
            expiries: column(batch::EXPIRES_AT)?
                .as_primitive_opt::<TimestampMillisecondType>()
                .cloned()
                .ok_or_else(|| wrong_type(batch::EXPIRES_AT))?,
            bare: false,
        };
        let further: [&dyn Array; 12] = [
            &rows.document_ids,
            &rows.uris,
            &rows.titles,
            &rows.media_types,
            &rows.pages,
            &rows.chunk_indexes,
            &rows.heading_paths,
            &rows.span_starts,
            &rows.span_ends,
            &rows.parts,
            &rows.parents,
            &rows.expiries,
        ];
        rows.bare = further.iter().all(|column| column.null_count() == column.len());
        Ok(rows)
    }

    /// Point id of a row.
    pub(crate) fn id(&self, row: usize) -> &str {
        self.ids.value(row)
    }

    /// Has what tells where the id of a row lies (and its text and payload, if wanted) fetched from memory.
    pub(crate) fn prefetch_offsets(&self, row: usize, text: bool, payload: bool) {
        for column in self.read_with(text, payload) {
            prefetch(column.value_offsets().get(row..row + 2).unwrap_or_default());
        }
    }

    /// Has the id of a row (and the start of its text and payload, if wanted) fetched from memory.
    pub(crate) fn prefetch_values(&self, row: usize, text: bool, payload: bool) {
        for column in self.read_with(text, payload) {
            let Some([start, end]) = column.value_offsets().get(row..row + 2) else { continue };
            let (start, end) = (*start as usize, *end as usize);
            let end = end.min(start.saturating_add(PREFETCHED));
            prefetch(column.value_data().get(start..end).unwrap_or_default());
        }
    }

    /// The columns that every hit is read from, and those that are wanted.
    fn read_with(&self, text: bool, payload: bool) -> impl Iterator<Item = &StringArray> {
        let columns = [(&self.ids, true), (&self.texts, text), (&self.payloads, payload)];
        columns.into_iter().filter_map(|(column, wanted)| wanted.then_some(column))
    }

    /// Document id of a row; `None` for a record without a document.
    pub(crate) fn document_id(&self, row: usize) -> Option<&str> {
        string(&self.document_ids, row)
    }

    /// Text of a row.
    pub(crate) fn text(&self, row: usize) -> Option<&str> {
        string(&self.texts, row)
    }

    /// Payload of a row, a JSON object.
    pub(crate) fn payload(&self, row: usize) -> Option<&str> {
        string(&self.payloads, row)
    }

    /// Source address of a row.
    pub(crate) fn uri(&self, row: usize) -> Option<&str> {
        string(&self.uris, row)
    }

    /// Document title of a row.
    pub(crate) fn title(&self, row: usize) -> Option<&str> {
        string(&self.titles, row)
    }

    /// Media type of a row.
    pub(crate) fn media_type(&self, row: usize) -> Option<&str> {
        string(&self.media_types, row)
    }

    /// Page of a row, from 1.
    pub(crate) fn page(&self, row: usize) -> Option<u32> {
        self.pages.is_valid(row).then(|| self.pages.value(row))
    }

    /// Part of the document that a row is from.
    pub(crate) fn part(&self, row: usize) -> Option<&str> {
        string(&self.parts, row)
    }

    /// Position of a row in its document, from 0.
    pub(crate) fn chunk_index(&self, row: usize) -> Option<u32> {
        self.chunk_indexes.is_valid(row).then(|| self.chunk_indexes.value(row))
    }

    /// Headings above a row, outermost first.
    pub(crate) fn heading_path(&self, row: usize) -> Vec<String> {
        if self.heading_paths.is_null(row) {
            return Vec::new();
        }
        let headings = self.heading_paths.value(row);
        match headings.as_string_opt::<i32>() {
            Some(headings) => headings.iter().flatten().map(str::to_owned).collect(),
            None => Vec::new(),
        }
    }

    /// From when on a row is no more, in milliseconds since 1970.
    pub(crate) fn expires_at(&self, row: usize) -> Option<i64> {
        if self.bare {
            return None;
        }
        self.expiries.is_valid(row).then(|| self.expiries.value(row))
    }

    /// The rows that expire, with their time.
    pub(crate) fn expiring(&self) -> impl Iterator<Item = (i64, usize)> + '_ {
        let any = self.expiries.null_count() < self.expiries.len();
        let rows = if any { 0..self.expiries.len() } else { 0..0 };
        rows.filter_map(|row| Some((self.expires_at(row)?, row)))
    }

    /// Everything that says where a row comes from.
    pub(crate) fn origin(&self, row: usize) -> Origin {
        if self.bare {
            return Origin::default();
        }
        let owned = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let number = |values: &UInt64Array| values.is_valid(row).then(|| values.value(row));
        Origin {
            document_id: owned(self.document_id(row)),
            uri: owned(self.uri(row)),
            title: owned(self.title(row)),
            media_type: owned(self.media_type(row)),
            page: self.page(row),
            chunk_index: self.chunk_index(row),
            heading_path: self.heading_path(row),
            span_start: number(&self.span_starts),
            span_end: number(&self.span_ends),
            part: owned(self.part(row)),
            parent: self.parents.is_valid(row).then(|| self.parents.value(row)),
        }
    }
}

fn string(values: &StringArray, row: usize) -> Option<&str> {
    values.is_valid(row).then(|| values.value(row))
}

fn wrong_type(name: &str) -> Error {
    Error::Internal(format!("column \"{name}\" of a batch of rows has another type"))
}

/// A vector column: `dimension` floats a row, flat, with a mask of the rows that have a vector.
#[derive(Debug, Clone)]
pub(crate) struct VectorRows {
    list: FixedSizeListArray,
    values: arrow::array::Float32Array,
    dimension: usize,
}

impl VectorRows {
    /// Downcasts a column of type [`batch::vector_type`].
    pub(crate) fn new(column: &ArrayRef, name: &str) -> Result<Self> {
        let list = column.as_fixed_size_list_opt().cloned().ok_or_else(|| wrong_type(name))?;
        let dimension = usize::try_from(list.value_length()).unwrap_or(0);
        let values =
            list.values().as_primitive_opt::<Float32Type>().cloned().ok_or_else(|| wrong_type(name))?;
        Ok(Self { list, values, dimension })
    }

    /// The vector of a row.
    pub(crate) fn get(&self, row: usize) -> Option<&[f32]> {
        if self.list.is_null(row) {
            return None;
        }
        let start = row.checked_mul(self.dimension)?;
        self.values.values().get(start..start + self.dimension)
    }
}
