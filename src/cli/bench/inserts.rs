//! How fast points go in through gRPC: in batches, each acknowledged before the next, and one by one.

use std::time::{Duration, Instant};

use ragstone_proto::v1 as api;
use ragstone_proto::v1::admin_service_client::AdminServiceClient;
use ragstone_proto::v1::collection_service_client::CollectionServiceClient;
use ragstone_proto::v1::point_service_client::PointServiceClient;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::engine::{BATCH_ROWS, COLLECTION, SPACE, id_of};
use super::measure::percentile_ms;
use super::process::Memory;
use super::served::Server;
use super::truth::Metric;
use super::vector_file::VectorFile;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::progress::Progress;
use crate::grpc::convert::vector::packed;

/// Points that are written one by one.
const SINGLE_WRITES: usize = 500;
/// Batches that are read ahead of the network.
const READ_AHEAD: usize = 4;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inserted {
    pub(super) points: usize,
    /// Until all were durable.
    pub(super) inserted: Duration,
    /// Until all were in segments.
    pub(super) indexed: Duration,
    pub(super) one_p50_ms: f64,
    /// Of the server, when all was indexed.
    pub(super) memory: Memory,
}

/// Writes the first `rows` rows of the base into a fresh collection.
pub(super) async fn measure(
    server: &Server,
    base: VectorFile,
    rows: usize,
    metric: Metric,
    stop: &CancellationToken,
) -> Outcome<Inserted> {
    let channel = server.connect().await?;
    create(&channel, base.width(), metric).await?;
    let mut points = PointServiceClient::new(channel.clone());
    let rows = rows.min(base.rows());
    let mut batches = batches(base, rows);
    let mut progress = Progress::new("inserting grpc", "rows", Some(rows as u64));
    let (mut done, mut some) = (0, Vec::new());
    let started = Instant::now();
    while let Some(batch) = batches.recv().await {
        if stop.is_cancelled() {
            return Err(Failure::failed("interrupted"));
        }
        let batch = batch?;
        done += batch.len();
        if some.len() < SINGLE_WRITES {
            some.extend(batch.iter().take(SINGLE_WRITES - some.len()).cloned());
        }
        upsert(&mut points, batch).await?;
        progress.set_done(done as u64);
    }
    let inserted = started.elapsed();
    drop(progress);
    let _progress = Progress::new("indexing grpc", "rows", None);
    let flush = api::FlushRequest { collection: COLLECTION.to_owned() };
    AdminServiceClient::new(channel).flush(flush).await?;
    let (indexed, memory) = (started.elapsed(), server.memory());
    let mut times = Vec::with_capacity(some.len());
    for (at, point) in some.into_iter().enumerate() {
        let asked = Instant::now();
        upsert(&mut points, vec![api::Point { id: id_of(rows + at), ..point }]).await?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    Ok(Inserted { points: done, inserted, indexed, one_p50_ms: percentile_ms(&times, 0.5), memory })
}

async fn create(channel: &Channel, dimension: usize, metric: Metric) -> Outcome {
    let distance = match metric {
        Metric::Cosine => api::Distance::Cosine,
        Metric::Dot => api::Distance::Dot,
        Metric::Euclidean => api::Distance::Euclidean,
    };
    let space = api::VectorSpace {
        name: SPACE.to_owned(),
        dimension: dimension as u32,
        distance: distance as i32,
        ..Default::default()
    };
    let request = api::CreateCollectionRequest {
        name: COLLECTION.to_owned(),
        schema: Some(api::CollectionSchema { vectors: vec![space], ..Default::default() }),
        ..Default::default()
    };
    CollectionServiceClient::new(channel.clone()).create_collection(request).await?;
    Ok(())
}

/// Reads ahead on a thread of its own, so that the time of the file isn't that of the server.
fn batches(base: VectorFile, rows: usize) -> mpsc::Receiver<anyhow::Result<Vec<api::Point>>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        let width = base.width();
        let ended = base.each_slice::<f32>(|first, slice| {
            for (at, vectors) in slice.chunks(BATCH_ROWS * width).enumerate() {
                let first = first + at * BATCH_ROWS;
                let points =
                    vectors.chunks_exact(width).enumerate().map(|(at, vector)| point(first + at, vector));
                let batch: Vec<_> = points.take(rows.saturating_sub(first)).collect();
                if batch.is_empty() || sender.blocking_send(Ok(batch)).is_err() {
                    // Enough, or nobody listens any more.
                    anyhow::bail!(Enough);
                }
            }
            Ok(())
        });
        if let Err(error) = ended
            && !error.is::<Enough>()
        {
            // Nobody left to hear of it: then it doesn't matter.
            let _unheard = sender.blocking_send(Err(error));
        }
    });
    receiver
}

/// Ends the reading of a file before its end.
#[derive(Debug, thiserror::Error)]
#[error("enough rows")]
struct Enough;

fn point(row: usize, vector: &[f32]) -> api::Point {
    let vectors = [(SPACE.to_owned(), packed(vector))].into();
    api::Point { id: id_of(row), vectors, ..Default::default() }
}

async fn upsert(client: &mut PointServiceClient<Channel>, points: Vec<api::Point>) -> Outcome {
    let request = api::UpsertPointsRequest { collection: COLLECTION.to_owned(), points, atomic: true };
    client.upsert_points(request).await?;
    Ok(())
}
