//! Question: what does gRPC cost on top of the engine? Vector-only searches with ids only, by 1, 2 and 8 clients that
//! share the cores with the server: queries a second, times, and the server's processor time a query beside that of the
//! same queries in process; single searches against batches of them; inserts in batches of 256 and one by one.
//! Corpus: 200,000 x 384 from `base.npy` and `queries.npy` of a folder, else generated.
//!
//! `cargo bench --bench grpc [-- [FOLDER] [--data DIR] [--server BINARY] [--only search|batch|insert]]`
//!
//! `--data` keeps the collection for the next run, `--server` measures another build.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use ragstone_index::search::{PayloadSelect, SearchRequest, Select, VectorLeg};
use ragstone_index::store::{Store, StoreOptions};
use ragstone_proto::v1 as api;
use tonic::transport::Channel;

#[path = "support/mod.rs"]
mod support;
#[path = "support/table.rs"]
mod table;

use support::{Server, percentile};
use table::Table;

const COLLECTION: &str = "bench";
const SPACE: &str = "text";
const ROWS: usize = 200_000;
const DIMENSION: usize = 384;
const BEAMS: [u32; 2] = [32, 64];
const CLIENTS: [usize; 3] = [1, 2, 8];
/// Searches of one `SearchBatch`.
const BATCH: usize = 32;
/// Points of one insert.
const INSERT: usize = 256;
/// Runs of each cell, and how long one takes; the one with the median rate is printed.
const RUNS: usize = 5;
const RUN: Duration = Duration::from_millis(1_000);

struct Arguments {
    folder: Option<PathBuf>,
    data: Option<PathBuf>,
    server: PathBuf,
    only: Option<String>,
}

impl Arguments {
    fn parse() -> Self {
        let mut parsed = Self {
            folder: None,
            data: None,
            server: PathBuf::from(env!("CARGO_BIN_EXE_ragstone")),
            only: None,
        };
        let mut given = std::env::args().skip(1);
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--data" => parsed.data = given.next().map(PathBuf::from),
                "--server" => parsed.server = given.next().map_or(parsed.server, PathBuf::from),
                "--only" => parsed.only = given.next(),
                flag if flag.starts_with('-') => {}
                folder => parsed.folder = Some(PathBuf::from(folder)),
            }
        }
        parsed
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

struct Corpus {
    base: Table,
    queries: Table,
    /// Nearest rows of each query, when the folder has them.
    truth: Option<Table>,
}

impl Corpus {
    fn load(folder: Option<&Path>) -> Result<Self> {
        Ok(match folder {
            Some(folder) => Self {
                base: Table::read(&folder.join("base.npy"))?,
                queries: Table::read(&folder.join("queries.npy"))?,
                truth: Table::read(&folder.join("gt.npy")).ok(),
            },
            None => Self {
                base: Table::generate(ROWS, DIMENSION, 2),
                queries: Table::generate(2_000, DIMENSION, 3),
                truth: None,
            },
        })
    }

    fn points(&self, rows: std::ops::Range<usize>) -> Vec<api::Point> {
        rows.map(|row| api::Point {
            id: row.to_string(),
            vectors: [(SPACE.to_owned(), packed(&self.base, row))].into(),
            ..Default::default()
        })
        .collect()
    }

    fn recall(&self, query: usize, hits: &[api::Hit]) -> Option<f64> {
        let truth = self.truth.as_ref()?.integers(query);
        let nearest: HashSet<i32> = truth.into_iter().take(10).collect();
        let found = hits.iter().filter(|hit| hit.id.parse().is_ok_and(|id| nearest.contains(&id))).count();
        Some(found as f64 / 10.0)
    }
}

fn packed(table: &Table, row: usize) -> api::Vector {
    api::Vector { f32: Bytes::copy_from_slice(table.packed(row)), values: Vec::new() }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let corpus = Arc::new(Corpus::load(arguments.folder.as_deref())?);
    if arguments.wants("search") || arguments.wants("batch") {
        let temporary = tempfile::tempdir()?;
        let data = arguments.data.as_deref().unwrap_or(temporary.path());
        let server = Server::start_binary(&arguments.server, data, &[]).await?;
        load(&server.channel, &corpus).await?;
        if arguments.wants("search") {
            searches(server, data, &corpus).await?;
        }
        if arguments.wants("batch") {
            let server = Server::start_binary(&arguments.server, data, &[]).await?;
            batches(&server, &corpus).await?;
        }
    }
    if arguments.wants("insert") {
        inserts(&arguments.server, &corpus).await?;
    }
    Ok(())
}

/// Fills the collection unless it is there, and makes one indexed segment of it.
async fn load(channel: &Channel, corpus: &Corpus) -> Result<()> {
    let mut points = api::point_service_client::PointServiceClient::new(channel.clone());
    let count = api::CountPointsRequest { collection: COLLECTION.into(), filter: None };
    let known = points.count_points(count).await.map_or(0, |reply| reply.into_inner().count);
    if known == corpus.base.rows as u64 {
        return Ok(());
    }
    create(channel, corpus.base.width).await?;
    for start in (0..corpus.base.rows).step_by(INSERT) {
        upsert(&mut points, corpus.points(start..(start + INSERT).min(corpus.base.rows))).await?;
    }
    let mut admin = api::admin_service_client::AdminServiceClient::new(channel.clone());
    admin.flush(api::FlushRequest { collection: COLLECTION.into() }).await?;
    admin.compact(api::CompactRequest { collection: COLLECTION.into() }).await?;
    Ok(())
}

async fn create(channel: &Channel, dimension: usize) -> Result<()> {
    let mut collections = api::collection_service_client::CollectionServiceClient::new(channel.clone());
    let space = api::VectorSpace {
        name: SPACE.into(),
        dimension: dimension as u32,
        distance: api::Distance::Cosine as i32,
        ..Default::default()
    };
    let schema = api::CollectionSchema { vectors: vec![space], ..Default::default() };
    let request =
        api::CreateCollectionRequest { name: COLLECTION.into(), schema: Some(schema), if_not_exists: true };
    collections.create_collection(request).await?;
    Ok(())
}

async fn upsert(
    client: &mut api::point_service_client::PointServiceClient<Channel>,
    points: Vec<api::Point>,
) -> Result<()> {
    let request = api::UpsertPointsRequest { collection: COLLECTION.into(), points, atomic: true };
    client.upsert_points(request).await?;
    Ok(())
}

/// A search by vector of which only ids and scores come back.
fn search_request(queries: &Table, query: usize, ef: u32) -> api::SearchRequest {
    api::SearchRequest {
        collection: COLLECTION.into(),
        mode: api::SearchMode::Vector as i32,
        vector: Some(packed(queries, query)),
        limit: Some(10),
        with_payload: Some(api::PayloadSelector { enable: Some(false), ..Default::default() }),
        with_text: Some(false),
        params: Some(api::SearchParams { hnsw_ef: Some(ef), ..Default::default() }),
        ..Default::default()
    }
}

/// What one run of a cell gave.
struct Run {
    /// Sorted.
    times: Vec<Duration>,
    qps: f64,
    /// Processor time of the server, microseconds a query.
    server_us: f64,
    recall: Option<f64>,
}

async fn searches(mut server: Server, data: &Path, corpus: &Arc<Corpus>) -> Result<()> {
    let mut rows = Vec::new();
    for ef in BEAMS {
        let requests: Arc<Vec<_>> = Arc::new(
            (0..corpus.queries.rows).map(|query| search_request(&corpus.queries, query, ef)).collect(),
        );
        for clients in CLIENTS {
            let mut channels = Vec::new();
            for _ in 0..clients {
                channels.push(server.connect().await?);
            }
            run(&server, &channels, corpus, &requests).await?;
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                runs.push(run(&server, &channels, corpus, &requests).await?);
            }
            runs.sort_by(|a, b| a.qps.total_cmp(&b.qps));
            rows.push((ef, clients, runs.swap_remove(RUNS / 2)));
        }
    }
    server.kill()?;
    let mut in_process = Vec::new();
    for ef in BEAMS {
        in_process.push((ef, in_process_us(data, &corpus.queries, ef as usize)?));
    }
    println!(
        "| ef | recall | clients | QPS | p50 ms | p95 ms | p99 ms | server us a query | in process us | overhead us |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (ef, clients, run) in rows {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| percentile(&run.times, share));
        let own = in_process.iter().find(|(other, _)| *other == ef).map_or(f64::NAN, |(_, us)| *us);
        let recall = run.recall.map_or_else(|| "-".to_owned(), |recall| format!("{recall:.4}"));
        println!(
            "| {ef} | {recall} | {clients} | {:.0} | {p50:.3} | {p95:.3} | {p99:.3} | {:.0} | {own:.0} | {:.0} |",
            run.qps,
            run.server_us,
            run.server_us - own
        );
    }
    Ok(())
}

async fn run(
    server: &Server,
    channels: &[Channel],
    corpus: &Arc<Corpus>,
    requests: &Arc<Vec<api::SearchRequest>>,
) -> Result<Run> {
    let (cpu, started) = (server.cpu()?, Instant::now());
    let mut tasks = Vec::new();
    for (client, channel) in channels.iter().enumerate() {
        let (channel, requests, corpus) = (channel.clone(), Arc::clone(requests), Arc::clone(corpus));
        tasks.push(tokio::spawn(async move {
            let mut search = api::search_service_client::SearchServiceClient::new(channel);
            let (mut times, mut recalls) = (Vec::new(), Vec::new());
            while started.elapsed() < RUN {
                let query = (client * 251 + times.len()) % requests.len();
                let request = requests[query].clone();
                let asked = Instant::now();
                let reply = search.search(request).await?.into_inner();
                times.push(asked.elapsed());
                if times.len() <= requests.len() {
                    recalls.extend(corpus.recall(query, &reply.hits));
                }
            }
            Ok::<_, tonic::Status>((times, recalls))
        }));
    }
    let (mut times, mut recalls) = (Vec::new(), Vec::new());
    for task in tasks {
        let (own, found) = task.await??;
        times.extend(own);
        recalls.extend(found);
    }
    let (took, cpu) = (started.elapsed(), server.cpu()? - cpu);
    times.sort_unstable();
    Ok(Run {
        qps: times.len() as f64 / took.as_secs_f64(),
        server_us: cpu.as_secs_f64() * 1e6 / times.len() as f64,
        recall: (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64),
        times,
    })
}

/// Time of one search in this process, in microseconds: the same queries over the same files, median of the runs.
fn in_process_us(data: &Path, queries: &Table, ef: usize) -> Result<f64> {
    let store = Store::open(data, StoreOptions::default())?;
    let collection = store.collection(COLLECTION)?;
    let requests: Vec<SearchRequest> = (0..queries.rows)
        .map(|query| SearchRequest {
            vector: Some(VectorLeg {
                using: String::new(),
                vector: queries.floats(query),
                ef: Some(ef),
                exact: false,
                recall_target: None,
            }),
            keyword: None,
            filter: None,
            limit: 10,
            offset: 0,
            score_threshold: None,
            max_per_document: None,
            fusion: Default::default(),
            candidates: None,
            select: Select {
                payload: PayloadSelect::None,
                vectors: Vec::new(),
                text: false,
                highlights: false,
            },
            min_seq_no: None,
            explain: false,
        })
        .collect();
    let mut means = Vec::new();
    for _ in 0..=RUNS {
        let started = Instant::now();
        for request in &requests {
            collection.search(request)?;
        }
        means.push(started.elapsed().as_secs_f64() * 1e6 / requests.len() as f64);
    }
    // The first run warms the caches.
    means.remove(0);
    means.sort_by(f64::total_cmp);
    means.get(RUNS / 2).copied().context("no runs")
}

/// Searches of a batch against as many single ones, by one client.
async fn batches(server: &Server, corpus: &Corpus) -> Result<()> {
    let mut search = api::search_service_client::SearchServiceClient::new(server.connect().await?);
    println!("| ef | searches a call | QPS | server us a query |");
    println!("|--:|--:|--:|--:|");
    for ef in BEAMS {
        for size in [1, BATCH] {
            let mut runs = Vec::new();
            let mut query = 0;
            for _ in 0..=RUNS {
                let (cpu, started, first) = (server.cpu()?, Instant::now(), query);
                while started.elapsed() < RUN {
                    let next = |at: usize| search_request(&corpus.queries, at % corpus.queries.rows, ef);
                    if size == 1 {
                        search.search(next(query)).await?;
                    } else {
                        let searches = (query..query + size).map(next).collect();
                        search.search_batch(api::SearchBatchRequest { searches }).await?;
                    }
                    query += size;
                }
                let (took, cpu) = (started.elapsed(), server.cpu()? - cpu);
                let done = (query - first) as f64;
                runs.push((done / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / done));
            }
            runs.remove(0);
            runs.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (qps, us) = runs[RUNS / 2];
            println!("| {ef} | {size} | {qps:.0} | {us:.0} |");
        }
    }
    Ok(())
}

/// Inserts into an empty collection: the whole corpus in batches, then single points.
async fn inserts(binary: &Path, corpus: &Corpus) -> Result<()> {
    println!("| insert | clients | points/s | p50 ms | p99 ms | server us a point |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, size, clients, count) in [
        ("in batches of 256", INSERT, 1, 50_000),
        ("in batches of 256", INSERT, 4, 50_000),
        ("one by one", 1, 1, 4_000),
        ("one by one", 1, 8, 8_000),
    ] {
        let data = tempfile::tempdir()?;
        let server = Server::start_binary(binary, data.path(), &[]).await?;
        create(&server.channel, corpus.base.width).await?;
        let (cpu, started) = (server.cpu()?, Instant::now());
        let mut tasks = Vec::new();
        for client in 0..clients {
            let mut requests = Vec::new();
            for start in (client * size..count).step_by(size * clients) {
                requests.push(corpus.points(start..(start + size).min(count)));
            }
            let channel = server.connect().await?;
            tasks.push((requests, channel));
        }
        let begun = Instant::now();
        let preparing = begun - started;
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|(requests, channel)| {
                tokio::spawn(async move {
                    let mut points = api::point_service_client::PointServiceClient::new(channel);
                    let mut times = Vec::new();
                    for request in requests {
                        let asked = Instant::now();
                        upsert(&mut points, request).await?;
                        times.push(asked.elapsed());
                    }
                    Ok::<_, anyhow::Error>(times)
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await??);
        }
        let (took, cpu) = (started.elapsed() - preparing, server.cpu()? - cpu);
        times.sort_unstable();
        let rate = count as f64 / took.as_secs_f64();
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(&times, share));
        let us = cpu.as_secs_f64() * 1e6 / count as f64;
        println!("| {name} | {clients} | {rate:.0} | {p50:.3} | {p99:.3} | {us:.1} |");
    }
    Ok(())
}
