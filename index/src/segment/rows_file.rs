//! The rows of a segment as an Arrow IPC file: written in a stream, read without a copy from the mapped file, one batch at
//! a time and each only when a row of it is asked for. Opening reads the footer and the header of every batch, not the rows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, root_as_footer, root_as_message};
use bytes::Bytes;

use crate::batch;
use crate::error::{Error, Result};
use crate::rows::Rows;

/// Bytes behind the footer of an Arrow file: its length and the closing magic.
const TRAILER: usize = 10;
/// What stands before the header of a batch: a mark, and the header's length.
const CONTINUATION: [u8; 4] = [0xFF; 4];

/// Rows of a segment that lie in one Arrow batch.
#[derive(Debug)]
pub(crate) struct SegmentBatch {
    /// Row number of its first row.
    pub(crate) base: u32,
    /// Number of its rows.
    pub(crate) count: u32,
    source: Arc<Source>,
    block: Block,
    decoded: OnceLock<Result<Decoded, String>>,
}

/// The columns of a batch.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The canonical columns but the vectors.
    pub(crate) batch: RecordBatch,
    /// Its columns, downcast.
    pub(crate) rows: Rows,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    buffer: Buffer,
    schema: SchemaRef,
    decoder: FileDecoder,
}

impl SegmentBatch {
    /// Whether the file has a column; one of an older version may lack what is read as nulls.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.source.schema.index_of(name).is_ok()
    }

    /// Its columns, decoded at the first call.
    ///
    /// # Errors
    /// [`Error::Corruption`] when the bytes are no such batch.
    pub(crate) fn decoded(&self) -> Result<&Decoded> {
        let decoded = self.decoded.get_or_init(|| {
            let decoded = self.decode();
            if let Err(message) = &decoded {
                tracing::error!(file = %self.source.path.display(), message, "rows of a segment can't be read");
            }
            decoded
        });
        decoded.as_ref().map_err(|message| {
            Error::corrupt(
                &self.source.path,
                u64::try_from(self.block.offset()).unwrap_or(0),
                message.clone(),
            )
        })
    }

    fn decode(&self) -> Result<Decoded, String> {
        let buffer = &self.source.buffer;
        let (start, length) = block_range(&self.block, buffer.len()).ok_or("a block is out of range")?;
        let batch = self
            .source
            .decoder
            .read_record_batch(&self.block, &buffer.slice_with_length(start, length))
            .map_err(|error| error.to_string())?
            .ok_or("a block is no batch of rows")?;
        if batch.num_rows() != self.count as usize {
            return Err(format!("{} rows in a batch of {}", batch.num_rows(), self.count));
        }
        let batch = batch::completed(batch).map_err(|error| error.to_string())?;
        let rows = Rows::new(&batch).map_err(|error| error.to_string())?;
        Ok(Decoded { batch, rows })
    }
}

/// The batches of an Arrow file; their buffers point into `body`.
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
    let blocks: Vec<Block> = footer.recordBatches().iter().flatten().copied().collect();
    let schema = Arc::new(schema);
    let decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
    let source = Arc::new(Source { path: path.to_owned(), buffer: buffer.clone(), schema, decoder });
    let mut batches = Vec::with_capacity(blocks.len());
    let mut base = 0u32;
    for block in blocks {
        let (start, length) =
            block_range(&block, buffer.len()).ok_or_else(|| corrupt("a block is out of range".into()))?;
        let bytes = buffer.get(start..start + length).unwrap_or_default();
        let count = rows_of(bytes).map_err(corrupt)?;
        let source = Arc::clone(&source);
        batches.push(SegmentBatch { base, count, source, block, decoded: OnceLock::new() });
        base = base.checked_add(count).ok_or_else(|| corrupt("too many rows".into()))?;
    }
    Ok(batches)
}

/// Number of rows that the header of a batch tells.
fn rows_of(bytes: &[u8]) -> Result<u32, String> {
    let header =
        bytes.strip_prefix(&CONTINUATION).unwrap_or(bytes).get(4..).ok_or("a batch without a header")?;
    let message = root_as_message(header).map_err(|error| error.to_string())?;
    let batch = message.header_as_record_batch().ok_or("a block is no batch of rows")?;
    u32::try_from(batch.length()).map_err(|_| format!("a batch of {} rows", batch.length()))
}

fn block_range(block: &Block, len: usize) -> Option<(usize, usize)> {
    let start = usize::try_from(block.offset()).ok()?;
    let metadata = usize::try_from(block.metaDataLength()).ok()?;
    let length = usize::try_from(block.bodyLength()).ok()?.checked_add(metadata)?;
    (start.checked_add(length)? <= len).then_some((start, length))
}

/// Number of rows of some batches.
pub(crate) fn count_rows(batches: &[SegmentBatch]) -> u32 {
    batches.last().map_or(0, |last| last.base + last.count)
}
