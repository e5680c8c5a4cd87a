//! The rows of a segment as an Arrow IPC file: written in a stream, read without a copy from the mapped file.

use std::path::Path;
use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, root_as_footer};
use bytes::Bytes;

use crate::batch;
use crate::error::{Error, Result};
use crate::rows::Rows;
use crate::segment::SegmentBatch;

/// Bytes behind the footer of an Arrow file: its length and the closing magic.
const TRAILER: usize = 10;

/// Decodes the batches of an Arrow file; their buffers point into `body`.
pub(crate) fn read_batches(path: &Path, body: &Bytes) -> Result<Vec<SegmentBatch>> {
    let corrupt = |message: String| Error::corrupt(path, 0, message);
    let buffer = Buffer::from(body.clone());
    let trailer_start = buffer
        .len()
        .checked_sub(TRAILER)
        .ok_or_else(|| corrupt("shorter than an Arrow file can be".into()))?;
    let trailer: [u8; TRAILER] =
        buffer[trailer_start..].try_into().map_err(|_| corrupt("the Arrow trailer is missing".into()))?;
    let footer_length = read_footer_length(trailer).map_err(|error| corrupt(error.to_string()))?;
    let footer_start = trailer_start
        .checked_sub(footer_length)
        .ok_or_else(|| corrupt("the Arrow footer is too long".into()))?;
    let footer =
        root_as_footer(&buffer[footer_start..trailer_start]).map_err(|error| corrupt(error.to_string()))?;
    let schema = footer.schema().ok_or_else(|| corrupt("the Arrow footer has no schema".into()))?;
    let schema = try_fb_to_schema(schema).map_err(|error| corrupt(error.to_string()))?;
    let decoder = FileDecoder::new(Arc::new(schema), footer.version());
    let mut batches = Vec::new();
    let mut base = 0u32;
    for block in footer.recordBatches().iter().flatten() {
        let (start, length) =
            block_range(block, buffer.len()).ok_or_else(|| corrupt("a block is out of range".into()))?;
        let decoded = decoder
            .read_record_batch(block, &buffer.slice_with_length(start, length))
            .map_err(|error| corrupt(error.to_string()))?;
        let Some(batch) = decoded else { continue };
        let batch = batch::completed(batch).map_err(|error| corrupt(error.to_string()))?;
        let rows = Rows::new(&batch).map_err(|error| corrupt(error.to_string()))?;
        let count = u32::try_from(batch.num_rows()).map_err(|_| corrupt("too many rows".into()))?;
        batches.push(SegmentBatch { base, batch, rows });
        base = base.checked_add(count).ok_or_else(|| corrupt("too many rows".into()))?;
    }
    Ok(batches)
}

fn block_range(block: &Block, len: usize) -> Option<(usize, usize)> {
    let start = usize::try_from(block.offset()).ok()?;
    let metadata = usize::try_from(block.metaDataLength()).ok()?;
    let length = usize::try_from(block.bodyLength()).ok()?.checked_add(metadata)?;
    (start.checked_add(length)? <= len).then_some((start, length))
}

/// Number of rows of some batches.
pub(crate) fn count_rows(batches: &[SegmentBatch]) -> u32 {
    batches.last().map_or(0, |last| last.base + last.batch.num_rows() as u32)
}
