//! `DoGet`: points or hits as a stream of record batches. No more of them are in memory than the client's reading calls
//! for: [`QUEUE`] messages of [`encode::MESSAGE_BYTES`] wait, and one is made.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::ticket::{self, Wanted, What};
use super::{encode, hits, info};
use crate::app::App;
use crate::app::error::{Error, Result};
use crate::app::exports::RunningExport;
use crate::app::visibility::Patience;
use crate::grpc::status;

/// Messages that wait for a slow reader.
const QUEUE: usize = 2;

type Message = std::result::Result<FlightData, Status>;

/// Starts what a ticket asks for. What is wrong with it is told before the stream begins.
pub(super) async fn run(app: Arc<App>, ticket: &[u8], patience: Patience) -> Result<ReceiverStream<Message>> {
    let wanted = ticket::read(ticket, "ticket")?;
    let rows = Rows::begin(&app, wanted, patience).await?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = rows.send(&sender) => outcome,
            () = app.stopping().cancelled() => Err(Error::ShuttingDown),
            () = sender.closed() => return,
        };
        if let Err(error) = outcome {
            let _gone = sender.send(Err(status::status(&error))).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// What a stream gives.
enum Rows {
    Points { export: RunningExport, first: FlightData, places: Option<Arc<[usize]>> },
    Hits { first: FlightData, rows: RecordBatch },
}

impl Rows {
    async fn begin(app: &App, wanted: Wanted, patience: Patience) -> Result<Self> {
        match wanted.what {
            What::Points(filter) => {
                let export = app.export(&wanted.collection, filter).await?;
                let schema = info::chosen(Arc::clone(export.schema()), wanted.columns.as_deref())?;
                let first = encode::schema(&schema);
                let places = wanted.columns.map(|names| info::places(export.schema(), &names));
                Ok(Self::Points { first, export, places: places.transpose()?.map(Arc::from) })
            }
            What::Hits(query) => {
                let schema = info::hit_columns(app, &wanted.collection, wanted.columns.as_deref())?;
                let answer = app.search(*query, patience).await?;
                let first = encode::schema(&schema);
                let rows = app.compute(move || hits::rows(&answer.hits, &answer.copies, &schema)).await?;
                Ok(Self::Hits { first, rows })
            }
        }
    }

    async fn send(self, sender: &mpsc::Sender<Message>) -> Result<()> {
        match self {
            Self::Points { mut export, first, places } => {
                let mut message = Some(first);
                while let Some(now) = message {
                    if sender.send(Ok(now)).await.is_err() {
                        break;
                    }
                    let places = places.clone();
                    message =
                        export.next(move |rows| encode::batch(&projected(rows, places.as_deref())?)).await?;
                }
            }
            Self::Hits { first, rows } => {
                let mut message = Ok(first);
                let mut portions = encode::portions(rows).into_iter();
                while sender.send(message).await.is_ok() {
                    let Some(rows) = portions.next() else { break };
                    message = Ok(encode::batch(&rows)?);
                }
            }
        }
        Ok(())
    }
}

fn projected(rows: RecordBatch, places: Option<&[usize]>) -> Result<RecordBatch> {
    let Some(places) = places else { return Ok(rows) };
    let defect = |error: arrow::error::ArrowError| ragstone_index::Error::Internal(error.to_string());
    Ok(rows.project(places).map_err(defect)?)
}
