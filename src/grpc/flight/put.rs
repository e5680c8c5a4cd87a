//! `DoPut`: record batches into a collection. One part reads and decodes, the other writes what is there; between them wait
//! at most [`QUEUE_BYTES`], so that a client is read only as fast as the disk and the embedder take it.
//!
//! Each batch is acknowledged once it is on disk. A client that doesn't read its acknowledgements isn't waited for: they
//! add up to one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use ragstone_index::batch;
use ragstone_index::schema::CollectionSchema;
use ragstone_ingest::import::EMBEDDED_BATCH_ROWS;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{info, ticket};
use crate::app::App;
use crate::app::error::{Error, Result};
use crate::app::points::{PointRows, RejectedRow, Upserted};
use crate::grpc::{arrow_stream, status};

/// Uploads at the same time: each may hold two messages of the greatest size.
pub(super) const MAX_UPLOADS: usize = 16;
/// Decoded bytes of one upload that wait for the disk.
const QUEUE_BYTES: usize = 32 << 20;
/// ...and portions.
const QUEUE_PIECES: usize = 256;
/// About so many bytes are decoded and written at once.
const PIECE_BYTES: usize = 8 << 20;
/// Rows that are written at once. Small batches that wait are put together: each write waits for the disk.
const WRITE_ROWS: usize = 16_384;
/// Acknowledgements that wait for a slow reader before they are put together.
const ACKS: usize = 64;
/// Refused rows that one acknowledgement names.
const MAX_NAMED: usize = 1_000;
/// Bytes are counted in units of this size.
const UNIT: usize = 1_024;
/// Where a batch is, in messages.
const AT: &str = "data";

type Reply = std::result::Result<PutResult, Status>;

/// Takes what a client sends; the acknowledgements come as a stream, which ends with the upload. The first message, which
/// names the collection and the columns, is read here, so that what is wrong with it is told at once.
pub(super) async fn run(
    app: Arc<App>,
    uploads: &Arc<Semaphore>,
    mut messages: Streaming<FlightData>,
) -> std::result::Result<ReceiverStream<Reply>, Status> {
    let refused = |error: Error| status::status(&error);
    let permit = Arc::clone(uploads).try_acquire_owned();
    let permit = permit.map_err(|_| refused(Error::Busy { what: "Flight uploads", limit: MAX_UPLOADS }))?;
    let first = messages.message().await.map_err(status::refused)?;
    let mut upload = Upload::begin(&app, first.as_ref()).map_err(refused)?;
    let (replies, receiver) = mpsc::channel(ACKS);
    tokio::spawn(async move {
        let _permit = permit;
        let outcome = tokio::select! {
            outcome = upload.run(first, messages, &replies) => outcome,
            () = app.stopping().cancelled() => Err(status::status(&Error::ShuttingDown)),
            // What is being written is finished, and nothing behind it begun.
            () = replies.closed() => return,
        };
        if let Err(status) = outcome {
            let _gone = replies.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// The command of an upload, in place of a path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    version: u32,
    collection: String,
}

/// The collection that a descriptor names.
fn collection(descriptor: Option<&FlightDescriptor>) -> Result<String> {
    let missing = "is missing: name the collection in the first message";
    let descriptor = descriptor.ok_or_else(|| Error::invalid("descriptor", missing))?;
    if descriptor.r#type() != DescriptorType::Cmd {
        return info::path(descriptor).map(str::to_owned);
    }
    let Command { version, collection } = serde_json::from_slice(&descriptor.cmd)
        .map_err(|error| Error::invalid("descriptor.cmd", format!("is not understood: {error}")))?;
    if version != ticket::VERSION {
        let message = format!("is {version}; known is {}", ticket::VERSION);
        return Err(Error::invalid("descriptor.cmd.version", message));
    }
    Ok(collection)
}

struct Upload {
    app: Arc<App>,
    collection: String,
    schema: Arc<CollectionSchema>,
    /// The collection's columns.
    full: SchemaRef,
    /// The client's.
    given: Option<SchemaRef>,
    next_row: usize,
    room: Arc<Semaphore>,
}

/// Rows of a client's batch, with their share of the room.
struct Piece {
    rows: PointRows,
    /// The last one of its batch.
    ends_batch: bool,
    /// Rows that one write may have, others put beside these.
    most_rows: usize,
    room: OwnedSemaphorePermit,
}

impl Upload {
    fn begin(app: &Arc<App>, first: Option<&FlightData>) -> Result<Self> {
        let collection = collection(first.and_then(|first| first.flight_descriptor.as_ref()))?;
        let schema = app.collection(&collection)?.schema();
        Ok(Self {
            app: Arc::clone(app),
            collection,
            full: batch::arrow_schema(&schema),
            schema,
            given: None,
            next_row: 0,
            room: Arc::new(Semaphore::new(QUEUE_BYTES / UNIT)),
        })
    }

    async fn run(
        &mut self,
        first: Option<FlightData>,
        messages: Streaming<FlightData>,
        replies: &mpsc::Sender<Reply>,
    ) -> std::result::Result<(), Status> {
        let (sender, queue) = mpsc::channel(QUEUE_PIECES);
        let mut writer = Writer {
            app: Arc::clone(&self.app),
            collection: self.collection.clone(),
            replies: replies.clone(),
            ack: Ack { version: ticket::VERSION, ..Ack::default() },
            untold: false,
        };
        // The reader's end closes the queue, and the writer then finishes what is in it.
        let (read, written) = tokio::join!(self.read(first, messages, sender), writer.write(queue));
        writer.finish().await;
        written.map_err(|error| status::status(&error))?;
        read
    }

    async fn read(
        &mut self,
        first: Option<FlightData>,
        mut messages: Streaming<FlightData>,
        queue: mpsc::Sender<Piece>,
    ) -> std::result::Result<(), Status> {
        let mut next = first;
        while let Some(message) = next {
            match self.take(message, &queue).await {
                Ok(true) => {}
                // The writer has given up, and says why.
                Ok(false) => return Ok(()),
                Err(error) => return Err(status::status(&error)),
            }
            next = tokio::select! {
                message = messages.message() => message.map_err(status::refused)?,
                () = queue.closed() => return Ok(()),
            };
        }
        Ok(())
    }

    /// Decodes a message and hands its rows on; `false` when nobody takes them.
    async fn take(&mut self, message: FlightData, queue: &mpsc::Sender<Piece>) -> Result<bool> {
        let Some(rows) = self.decode(message).await? else { return Ok(true) };
        let most_rows = self.write_rows(&rows);
        let row_bytes = arrow_stream::slice_bytes(&rows).div_ceil(rows.num_rows().max(1)).max(1);
        let most = (PIECE_BYTES / row_bytes).clamp(1, most_rows);
        let whole = rows.num_rows();
        let mut start = 0;
        while start < whole {
            let rows = rows.slice(start, most.min(whole - start));
            start += rows.num_rows();
            // Twice: as it came, and as it is written.
            let units = (2 * arrow_stream::slice_bytes(&rows)).div_ceil(UNIT).clamp(1, QUEUE_BYTES / UNIT);
            let room = Arc::clone(&self.room).acquire_many_owned(units as u32).await;
            let Ok(room) = room else { return Ok(false) };
            let (full, first_row) = (Arc::clone(&self.full), self.next_row);
            self.next_row += rows.num_rows();
            let conform =
                move || arrow_stream::guarded(AT, || arrow_stream::conform(&rows, &full, AT, first_row));
            let rows = self.app.compute(conform).await?;
            if queue.send(Piece { rows, ends_batch: start == whole, most_rows, room }).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The rows of a message, if it has any.
    async fn decode(&mut self, message: FlightData) -> Result<Option<RecordBatch>> {
        let given = self.given.clone();
        let decoded =
            self.app.compute(move || arrow_stream::guarded(AT, || decode(&message, given.as_ref()))).await?;
        match decoded {
            Decoded::Nothing => Ok(None),
            Decoded::Rows(rows) => Ok(Some(rows)),
            Decoded::Schema(schema) => {
                // Columns that don't fit are told before any row is taken.
                let empty = RecordBatch::new_empty(Arc::clone(&schema));
                arrow_stream::conform(&empty, &self.full, "schema", 0)?;
                self.given = Some(schema);
                Ok(None)
            }
        }
    }

    /// Rows to write at once: fewer where they have to be embedded.
    fn write_rows(&self, rows: &RecordBatch) -> usize {
        let lacks = |space: &str| {
            rows.column_by_name(&batch::vector_column(space)).is_none_or(|vectors| vectors.null_count() > 0)
        };
        let embeds = rows.column_by_name(batch::TEXT).is_some()
            && self.schema.vectors.iter().any(|space| space.embedder.is_some() && lacks(&space.name));
        if embeds { EMBEDDED_BATCH_ROWS } else { WRITE_ROWS }
    }
}

/// What a message holds.
enum Decoded {
    Nothing,
    Schema(SchemaRef),
    Rows(RecordBatch),
}

fn decode(message: &FlightData, given: Option<&SchemaRef>) -> Result<Decoded> {
    let broken = |error: ArrowError| Error::invalid(AT, format!("is no valid Arrow message: {error}"));
    if message.data_header.is_empty() {
        return Ok(Decoded::Nothing);
    }
    let header = root_as_message(&message.data_header)
        .map_err(|error| Error::invalid(AT, format!("has no valid header: {error}")))?;
    match (header.header_type(), given) {
        (MessageHeader::Schema, None) => {
            let schema = header.header_as_schema().ok_or_else(|| Error::invalid(AT, "has no schema"))?;
            let schema = try_fb_to_schema(schema).map_err(broken)?;
            Ok(Decoded::Schema(Arc::new(schema)))
        }
        (MessageHeader::Schema, Some(_)) => Err(Error::invalid("schema", "comes twice")),
        (MessageHeader::RecordBatch, Some(schema)) => {
            let rows = header.header_as_record_batch().ok_or_else(|| Error::invalid(AT, "has no rows"))?;
            // Nothing is made for rows that are only claimed, as those of a column of nulls.
            arrow_stream::check_rows(usize::try_from(rows.length()).unwrap_or(usize::MAX), AT)?;
            let body = Buffer::from(message.data_body.clone());
            let rows =
                read_record_batch(&body, rows, Arc::clone(schema), &HashMap::new(), None, &header.version());
            rows.map(Decoded::Rows).map_err(broken)
        }
        (MessageHeader::RecordBatch, None) => Err(Error::invalid(AT, "comes before the schema")),
        (MessageHeader::DictionaryBatch, _) => {
            let named = given.and_then(|schema| {
                let dictionary = |data_type: &DataType| matches!(data_type, DataType::Dictionary(..));
                schema.fields().iter().find(|field| dictionary(field.data_type())).map(|field| field.name())
            });
            let at = named.map_or(AT.to_owned(), |name| format!("{AT}.{name}"));
            Err(Error::invalid(at, "is a dictionary: send plain values (in pyarrow: dictionary_decode())"))
        }
        (other, _) => {
            let other = other.variant_name().unwrap_or("unknown");
            Err(Error::invalid(AT, format!("holds {other}, expected rows")))
        }
    }
}

/// What is durable so far. In the `app_metadata` of the replies.
#[derive(Debug, Default, Serialize)]
struct Ack {
    version: u32,
    seq_no: u64,
    /// Batches of the client of which every row was dealt with.
    batches: u64,
    /// Rows dealt with.
    rows: u64,
    upserted: u64,
    rejected_total: u64,
    /// New since the acknowledgement before; the first [`MAX_NAMED`].
    rejected: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    /// From 0, over the whole upload.
    row: usize,
    id: String,
    column: String,
    message: String,
}

struct Writer {
    app: Arc<App>,
    collection: String,
    replies: mpsc::Sender<Reply>,
    ack: Ack,
    untold: bool,
}

impl Writer {
    async fn write(&mut self, mut queue: mpsc::Receiver<Piece>) -> Result<()> {
        let mut waiting = None;
        loop {
            let first = match waiting.take() {
                Some(piece) => piece,
                None => match queue.recv().await {
                    Some(piece) => piece,
                    None => return Ok(()),
                },
            };
            let most_rows = first.most_rows;
            let small = |rows: usize, bytes: usize| rows <= most_rows && bytes <= PIECE_BYTES;
            let (mut rows, mut bytes) = size(&first);
            let mut group = vec![first];
            while small(rows, bytes) {
                let Ok(piece) = queue.try_recv() else { break };
                let (more_rows, more_bytes) = size(&piece);
                if !small(rows + more_rows, bytes + more_bytes) {
                    waiting = Some(piece);
                    break;
                }
                (rows, bytes) = (rows + more_rows, bytes + more_bytes);
                group.push(piece);
            }
            self.write_group(group).await?;
        }
    }

    async fn write_group(&mut self, group: Vec<Piece>) -> Result<()> {
        let mut held = Vec::with_capacity(group.len());
        let mut rows = Vec::with_capacity(group.len());
        let mut batches = 0;
        for piece in group {
            batches += u64::from(piece.ends_batch);
            held.push(piece.room);
            rows.push(piece.rows);
        }
        let joined = self.app.compute(move || arrow_stream::one(rows, AT)).await?;
        let Some(joined) = joined else { return Ok(()) };
        let count = joined.batch.num_rows() + joined.rejected.len();
        let Upserted { seq_no, upserted, rejected } = self.app.upsert_batch(&self.collection, joined).await?;
        drop(held);
        self.ack.seq_no = seq_no;
        self.ack.batches += batches;
        self.ack.rows += count as u64;
        self.ack.upserted += upserted;
        self.ack.rejected_total += rejected.len() as u64;
        let room = MAX_NAMED.saturating_sub(self.ack.rejected.len());
        self.ack.rejected.extend(rejected.into_iter().take(room).map(refused));
        self.untold = true;
        if let Ok(place) = self.replies.clone().try_reserve() {
            place.send(Ok(self.told()));
        }
        Ok(())
    }

    /// Says what was not said, and waits for it.
    async fn finish(&mut self) {
        if self.untold {
            let reply = self.told();
            let _gone = self.replies.send(Ok(reply)).await;
        }
    }

    fn told(&mut self) -> PutResult {
        self.untold = false;
        // A structure of strings and numbers always becomes JSON.
        let app_metadata = serde_json::to_vec(&self.ack).unwrap_or_default().into();
        self.ack.rejected.clear();
        PutResult { app_metadata }
    }
}

fn size(piece: &Piece) -> (usize, usize) {
    (piece.rows.batch.num_rows(), arrow_stream::slice_bytes(&piece.rows.batch))
}

fn refused(row: RejectedRow) -> Refused {
    Refused { row: row.row, id: row.id, column: row.field, message: row.message }
}
