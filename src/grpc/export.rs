//! Exports over gRPC: batches as Arrow IPC, no more of them in memory than the caller's reading calls for.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use ragstone_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::convert::filter;
use super::status;
use crate::app::App;
use crate::app::error::{Error, Result};
use crate::app::exports::RunningExport;

/// Messages that wait for a slow reader.
const QUEUE: usize = 2;

type Message = std::result::Result<v1::ExportPointsResponse, Status>;

/// Starts an export; what it gives comes as a stream, which ends with the last points or an error.
pub(super) async fn run(app: Arc<App>, request: v1::ExportPointsRequest) -> Result<ReceiverStream<Message>> {
    let filter = request.filter.map(|wire| filter::filter(wire, "filter")).transpose()?;
    let export = app.export(&request.collection, filter).await?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = send(export, &sender) => outcome,
            () = app.stopping().cancelled() => Err(Error::ShuttingDown),
            () = sender.closed() => return,
        };
        if let Err(error) = outcome {
            let _gone = sender.send(Err(status::status(&error))).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn send(mut export: RunningExport, sender: &mpsc::Sender<Message>) -> Result<()> {
    let (rows_total, seq_no) = (export.rows(), export.seq_no());
    let mut rows_done = 0;
    let encode = |batch: RecordBatch| Ok((batch.num_rows() as u64, ipc(&batch.schema(), Some(&batch))?));
    while let Some((rows, ipc)) = export.next(encode).await? {
        rows_done += rows;
        let message = v1::ExportPointsResponse { ipc, rows_done, rows_total, seq_no };
        if sender.send(Ok(message)).await.is_err() {
            return Ok(());
        }
    }
    if rows_total == 0 {
        let ipc = ipc(export.schema(), None)?;
        let _gone = sender.send(Ok(v1::ExportPointsResponse { ipc, rows_done, rows_total, seq_no })).await;
    }
    Ok(())
}

/// One whole IPC stream.
fn ipc(schema: &SchemaRef, batch: Option<&RecordBatch>) -> Result<Bytes> {
    let write = || -> std::result::Result<Vec<u8>, ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        batch.map_or(Ok(()), |batch| writer.write(batch))?;
        writer.finish()?;
        writer.into_inner()
    };
    write().map(Bytes::from).map_err(|error| {
        ragstone_index::Error::Internal(format!("a batch could not be encoded: {error}")).into()
    })
}
