//! Reads an Arrow IPC file batch by batch, from any row on. No length is believed before the file has that many bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, root_as_footer, root_as_message};
use parquet::file::reader::Length as _;

use super::checkpoint::Position;
use super::input::Input;
use super::plan::{FileError, Outline, Plan, PlannedFile, Source, Stop};
use super::rows::Rows;
use super::table::{Place, Table};
use crate::error::{Error, Result};

/// Bytes behind the footer: its length and the closing magic.
const TRAILER: usize = 10;
/// Largest footer.
const MAX_FOOTER_BYTES: usize = 64 << 20;
/// Largest batch: it is in memory whole.
const MAX_BLOCK_BYTES: usize = 1 << 30;
/// What may stand before the header of a batch.
const CONTINUATION: [u8; 4] = [0xFF; 4];

/// Rows and columns of a file as its batches and its footer tell them.
pub(super) fn outline(file: &PlannedFile) -> Result<Outline> {
    guarded(|| {
        // Each batch tells its rows at its own place: a question for each would be too many for a store.
        let is_near = matches!(file.source, Source::Local);
        let file = ArrowFile::open(file)?;
        let rows = || file.blocks.iter().map(|block| file.rows_of(block)).sum::<Result<u64>>();
        let rows = is_near.then(rows).transpose()?;
        let columns = file.schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Outline { rows, columns })
    })
}

/// Reads a file from `start` on. `emit` takes each batch in order. A batch counts as a row group.
pub(super) fn read(
    plan: &Plan,
    start: Position,
    emit: &mut dyn FnMut(Rows) -> Result<(), Stop>,
) -> Result<(), FileError> {
    let file = plan.files.get(start.file).ok_or(FileError::Stopped(Stop))?;
    let file = guarded(|| ArrowFile::open(file))?;
    let mut table = Table::new(plan, start, &file.schema)?;
    let mut file_row = 0;
    for (number, block) in file.blocks.iter().enumerate() {
        let row_group = u32::try_from(number).map_err(|_| Error::bad_content("too many batches"))?;
        if row_group < start.row_group {
            file_row += guarded(|| file.rows_of(block))?;
            continue;
        }
        let batch = guarded(|| file.batch(block))?;
        let rows = batch.num_rows();
        let skipped = if row_group == start.row_group { start.row.min(rows as u64) } else { 0 };
        let from = usize::try_from(skipped).unwrap_or(rows);
        let place = Place { row_group, row: skipped, file_row: file_row + skipped };
        let rest = batch.slice(from, rows - from);
        // What the decoder took for sound may still surprise a conversion.
        catch_unwind(AssertUnwindSafe(|| table.emit(&rest, &place, emit)))
            .unwrap_or_else(|_| Err(FileError::Broken(gave_up())))?;
        file_row += rows as u64;
    }
    Ok(())
}

struct ArrowFile {
    input: Input,
    schema: SchemaRef,
    decoder: FileDecoder,
    blocks: Vec<Block>,
}

impl ArrowFile {
    fn open(file: &PlannedFile) -> Result<Self> {
        let input = Input::open(file)?;
        let short = || Error::bad_content("not a readable Arrow file: it is too short");
        let trailer_start = input.len().checked_sub(TRAILER as u64).ok_or_else(short)?;
        let trailer = input.read_at(trailer_start, TRAILER)?;
        let trailer: [u8; TRAILER] = trailer.as_ref().try_into().map_err(|_| short())?;
        let length = read_footer_length(trailer).map_err(|error| broken(&error))?;
        if length > MAX_FOOTER_BYTES {
            return Err(Error::bad_content(format!(
                "the footer has {length} bytes, at most {MAX_FOOTER_BYTES}"
            )));
        }
        let footer_start = trailer_start.checked_sub(length as u64).ok_or_else(short)?;
        let footer = input.read_at(footer_start, length)?;
        let footer = root_as_footer(&footer).map_err(|error| broken(&error))?;
        let schema = footer.schema().ok_or_else(|| broken(&"its footer has no schema"))?;
        let schema = Arc::new(try_fb_to_schema(schema).map_err(|error| broken(&error))?);
        let blocks = footer.recordBatches().iter().flatten().copied().collect();
        let mut decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
        for block in footer.dictionaries().iter().flatten() {
            decoder.read_dictionary(block, &bytes_of(&input, block)?).map_err(|error| broken(&error))?;
        }
        Ok(Self { input, schema, decoder, blocks })
    }

    fn batch(&self, block: &Block) -> Result<RecordBatch> {
        let bytes = bytes_of(&self.input, block)?;
        let batch = self.decoder.read_record_batch(block, &bytes).map_err(|error| broken(&error))?;
        batch.ok_or_else(|| broken(&"a block is no batch of rows"))
    }

    /// Rows of a batch as its header tells them.
    fn rows_of(&self, block: &Block) -> Result<u64> {
        let (start, _) = range(block)?;
        let length = usize::try_from(block.metaDataLength()).unwrap_or_default();
        let bytes = self.input.read_at(start, length)?;
        let header = bytes.strip_prefix(&CONTINUATION).unwrap_or(&bytes).get(4..);
        let header = header.ok_or_else(|| broken(&"a batch without a header"))?;
        let message = root_as_message(header).map_err(|error| broken(&error))?;
        let batch = message.header_as_record_batch().ok_or_else(|| broken(&"a block is no batch of rows"))?;
        u64::try_from(batch.length()).map_err(|_| broken(&"a batch of fewer than no rows"))
    }
}

/// Place and length of a block.
fn range(block: &Block) -> Result<(u64, usize)> {
    let start = u64::try_from(block.offset()).ok();
    let length = usize::try_from(block.metaDataLength())
        .ok()
        .zip(usize::try_from(block.bodyLength()).ok())
        .and_then(|(metadata, body)| metadata.checked_add(body));
    let (start, length) = start.zip(length).ok_or_else(|| broken(&"a block is out of range"))?;
    if length > MAX_BLOCK_BYTES {
        return Err(Error::bad_content(format!("a batch has {length} bytes, at most {MAX_BLOCK_BYTES}")));
    }
    Ok((start, length))
}

fn bytes_of(input: &Input, block: &Block) -> Result<Buffer> {
    let (start, length) = range(block)?;
    Ok(Buffer::from(input.read_at(start, length)?))
}

/// A defect of the decoder that a broken file finds must not end the import.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(gave_up()))
}

fn gave_up() -> Error {
    Error::bad_content("the file is broken: its reader gave up")
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::bad_content(format!("not a readable Arrow file: {error}"))
}
