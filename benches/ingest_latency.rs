//! Question: does a search keep its latency while vectors are written at full speed? Corpus: generated unit vectors of 384
//! f32 that lie near a space of few dimensions, as real embeddings do. It isolates the vector search of one client, in
//! process and over gRPC, in a closed loop and paced; the writer sends batches of 256 new points as fast as they are taken.
//!
//! `cargo bench --bench ingest_latency [-- ROWS [SECONDS]] [in-process | grpc]` (default 200000 rows, 10 seconds a line)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use ragstone_index::collection::Collection;
use ragstone_index::search::{Fusion, SearchRequest, Select, VectorLeg};
use ragstone_index::store::{Store, StoreOptions};
use ragstone_proto::v1 as api;

#[path = "support/mod.rs"]
mod support;
#[path = "support/vectors.rs"]
mod vectors;

use support::{Server, connect, percentile};
use vectors::{DIMENSION, Vectors, upsert};

const BATCH: usize = 256;
/// Different vectors that the writer sends; their ids are always new.
const WRITER_VECTORS: usize = 100 * BATCH;
const QUERIES: usize = 1_000;
/// Time from one paced query to the next.
const PACE: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> Result<()> {
    let given: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rows = given.first().copied().unwrap_or(200_000);
    let time = Duration::from_secs(given.get(1).copied().unwrap_or(10) as u64);
    let mut source = Vectors::new();
    let data = Arc::new(Data {
        base: (0..rows).flat_map(|_| source.next()).collect(),
        more: (0..WRITER_VECTORS).flat_map(|_| source.next()).collect(),
        queries: (0..QUERIES).map(|_| source.next()).collect(),
    });
    println!(
        "| where | load | writer | queries | p50 ms | p95 ms | p99 ms | rows/s written | longest write ms |"
    );
    println!("|---|---|---|--:|--:|--:|--:|--:|--:|");
    let only = |place: &str| std::env::args().any(|argument| argument == place);
    if !only("grpc") {
        in_process(&data, time)?;
    }
    if !only("in-process") {
        over_grpc(&data, time).await?;
    }
    Ok(())
}

struct Data {
    /// Rows x dimension.
    base: Vec<f32>,
    more: Vec<f32>,
    queries: Vec<Vec<f32>>,
}

/// What the writer did.
#[derive(Default)]
struct Written {
    rows: AtomicU64,
    longest_us: AtomicU64,
}

impl Written {
    fn add(&self, rows: usize, took: Duration) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.longest_us.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
    }
}

fn report(place: &str, load: &str, mut times: Vec<Duration>, took: Duration, written: Option<&Written>) {
    times.sort_unstable();
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| percentile(&times, share));
    let number =
        |of: fn(&Written) -> &AtomicU64| written.map_or(0, |w| of(w).swap(0, Ordering::Relaxed)) as f64;
    let (rows, longest) = (number(|w| &w.rows) / took.as_secs_f64(), number(|w| &w.longest_us) / 1e3);
    let writer = if written.is_some() { "full speed" } else { "idle" };
    println!(
        "| {place} | {load} | {writer} | {} | {p50:.3} | {p95:.3} | {p99:.3} | {rows:.0} | {longest:.0} |",
        times.len()
    );
}

fn in_process(data: &Arc<Data>, time: Duration) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), StoreOptions::default())?;
    let collection = store.create_collection("bench", vectors::schema())?;
    for (number, batch) in data.base.chunks(4_096 * DIMENSION).enumerate() {
        collection.write(upsert(&format!("base-{number}"), batch)?)?;
    }
    collection.flush()?;
    collection.compact()?;
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(Written::default());
    for (load, pace) in [("closed loop", None), ("every 10 ms", Some(PACE))] {
        report("in process", load, search_for(&collection, data, time, pace)?, time, None);
    }
    let writer = {
        let (collection, data) = (Arc::clone(&collection), Arc::clone(data));
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        std::thread::spawn(move || -> Result<()> {
            for (number, batch) in data.more.chunks(BATCH * DIMENSION).cycle().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let request = upsert(&format!("more-{number}"), batch)?;
                let started = Instant::now();
                collection.write(request)?;
                written.add(BATCH, started.elapsed());
            }
            Ok(())
        })
    };
    for (load, pace) in [("closed loop", None), ("every 10 ms", Some(PACE))] {
        report("in process", load, search_for(&collection, data, time, pace)?, time, Some(&written));
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    eprintln!("segments: {:?}", sizes(&collection)?);
    Ok(())
}

fn sizes(collection: &Collection) -> Result<Vec<u64>> {
    Ok(collection.stats().segments.iter().map(|segment| segment.rows).collect())
}

fn search_for(
    collection: &Collection,
    data: &Data,
    time: Duration,
    pace: Option<Duration>,
) -> Result<Vec<Duration>> {
    let requests: Vec<SearchRequest> = data
        .queries
        .iter()
        .map(|vector| SearchRequest {
            vector: Some(VectorLeg {
                using: String::new(),
                vector: vector.clone(),
                ef: None,
                exact: false,
                recall_target: None,
            }),
            keyword: None,
            filter: None,
            limit: 10,
            offset: 0,
            score_threshold: None,
            max_per_document: None,
            fusion: Fusion::default(),
            candidates: None,
            select: Select::default(),
            min_seq_no: None,
            explain: false,
        })
        .collect();
    let started = Instant::now();
    let mut times = Vec::new();
    let mut next = started;
    for request in requests.iter().cycle() {
        if started.elapsed() >= time {
            break;
        }
        if let Some(pace) = pace {
            next += pace;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let asked = Instant::now();
        anyhow::ensure!(collection.search(request)?.hits.len() == 10, "fewer hits than asked for");
        times.push(asked.elapsed());
    }
    Ok(times)
}

async fn over_grpc(data: &Arc<Data>, time: Duration) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(&folder.path().join("data"), &[]).await?;
    let mut collections =
        api::collection_service_client::CollectionServiceClient::new(server.channel.clone());
    let space = api::VectorSpace { name: "v".into(), dimension: DIMENSION as u32, ..Default::default() };
    let schema = Some(api::CollectionSchema { vectors: vec![space], ..Default::default() });
    let request = api::CreateCollectionRequest { name: "bench".into(), schema, if_not_exists: false };
    collections.create_collection(request).await?;
    let mut points = api::point_service_client::PointServiceClient::new(server.channel.clone());
    for (number, batch) in data.base.chunks(4_096 * DIMENSION).enumerate() {
        points.upsert_points(upsert_request(&format!("base-{number}"), batch)).await?;
    }
    let mut admin = api::admin_service_client::AdminServiceClient::new(server.channel.clone());
    admin.flush(api::FlushRequest { collection: "bench".into() }).await?;
    admin.compact(api::CompactRequest { collection: "bench".into() }).await?;
    for (load, pace) in [("closed loop", None), ("every 10 ms", Some(PACE))] {
        report("gRPC", load, ask_for(&server, data, time, pace).await?, time, None);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(Written::default());
    let address = server.address.clone();
    let writer = {
        let (data, stop, written) = (Arc::clone(data), Arc::clone(&stop), Arc::clone(&written));
        let write = async move {
            let mut points = api::point_service_client::PointServiceClient::new(connect(&address).await?);
            for (number, batch) in data.more.chunks(BATCH * DIMENSION).cycle().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let request = upsert_request(&format!("more-{number}"), batch);
                let started = Instant::now();
                points.upsert_points(request).await?;
                written.add(BATCH, started.elapsed());
            }
            Ok::<_, anyhow::Error>(())
        };
        // A client of its own, as an ingestor is: what it spends on its requests must not count as a search's wait.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(write))
    };
    for (load, pace) in [("closed loop", None), ("every 10 ms", Some(PACE))] {
        report("gRPC", load, ask_for(&server, data, time, pace).await?, time, Some(&written));
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    Ok(())
}

fn packed(vector: &[f32]) -> api::Vector {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    api::Vector { f32: bytes.into(), values: vec![] }
}

fn upsert_request(name: &str, vectors: &[f32]) -> api::UpsertPointsRequest {
    let points = vectors
        .chunks(DIMENSION)
        .enumerate()
        .map(|(row, vector)| api::Point {
            id: format!("{name}-{row}"),
            vectors: [("v".to_owned(), packed(vector))].into(),
            ..Default::default()
        })
        .collect();
    api::UpsertPointsRequest { collection: "bench".into(), points, atomic: true }
}

async fn ask_for(
    server: &Server,
    data: &Data,
    time: Duration,
    pace: Option<Duration>,
) -> Result<Vec<Duration>> {
    let mut search = api::search_service_client::SearchServiceClient::new(server.channel.clone());
    let requests: Vec<api::SearchRequest> = data
        .queries
        .iter()
        .map(|vector| api::SearchRequest {
            collection: "bench".into(),
            mode: api::SearchMode::Vector as i32,
            vector: Some(packed(vector)),
            ..Default::default()
        })
        .collect();
    let started = Instant::now();
    let mut times = Vec::new();
    let mut next = started;
    for request in requests.iter().cycle() {
        if started.elapsed() >= time {
            break;
        }
        if let Some(pace) = pace {
            next += pace;
            tokio::time::sleep_until(next.into()).await;
        }
        let request = request.clone();
        let asked = Instant::now();
        let found = search.search(request).await?.into_inner();
        times.push(asked.elapsed());
        anyhow::ensure!(found.hits.len() == 10, "fewer hits than asked for");
    }
    Ok(times)
}
