//! Question: how long does a hybrid query take over gRPC, with the text embedded by the server and with a vector given,
//! alone and under 8 clients? Corpus: a BEIR folder, ingested through the pipeline; client and server share the machine.
//!
//! `cargo bench --bench latency -- BEIR_FOLDER`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ragstone_proto::v1 as api;
use tonic::transport::Channel;

#[path = "support/mod.rs"]
mod support;

use support::{Server, percentile};

const COLLECTION: &str = "bench";
/// Queries of each client in a run.
const QUERIES: usize = 600;
/// Runs of each cell; the one with the median p50 is printed.
const RUNS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let Some(folder) = folder else {
        println!("skipped: no BEIR folder given");
        return Ok(());
    };
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]).await?;
    ingest(&server.channel, &folder).await?;
    let texts: Vec<String> = lines(&folder.join("queries.jsonl"))?
        .iter()
        .filter_map(|query| Some(query["text"].as_str()?.to_owned()))
        .collect();
    let vectors = some_vectors(&server.channel).await?;
    println!("| query | clients | QPS | p50 ms | p95 ms | p99 ms |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, vector_in) in [("hybrid, text in", false), ("hybrid, vector in", true)] {
        let requests: Arc<Vec<api::SearchRequest>> = Arc::new(
            texts
                .iter()
                .zip(vectors.iter().cycle())
                .map(|(text, vector)| api::SearchRequest {
                    collection: COLLECTION.into(),
                    mode: api::SearchMode::Hybrid as i32,
                    text: Some(text.clone()),
                    vector: vector_in.then(|| vector.clone()),
                    ..Default::default()
                })
                .collect(),
        );
        for clients in [1, 8] {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                runs.push(run(&server.channel, &requests, clients).await?);
            }
            runs.sort_by(|a, b| percentile(&a.0, 0.5).total_cmp(&percentile(&b.0, 0.5)));
            let (times, total) = &runs[RUNS / 2];
            let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| percentile(times, share));
            let qps = times.len() as f64 / total.as_secs_f64();
            println!("| {name} | {clients} | {qps:.0} | {p50:.2} | {p95:.2} | {p99:.2} |");
        }
    }
    Ok(())
}

/// Sorted times of all queries, and the time that they took together.
async fn run(
    channel: &Channel,
    requests: &Arc<Vec<api::SearchRequest>>,
    clients: usize,
) -> Result<(Vec<Duration>, Duration)> {
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (channel, requests) = (channel.clone(), Arc::clone(requests));
        tasks.push(tokio::spawn(async move {
            let mut search = api::search_service_client::SearchServiceClient::new(channel);
            let mut times = Vec::with_capacity(QUERIES);
            for number in 0..QUERIES {
                let request = requests[(client * 37 + number) % requests.len()].clone();
                let asked = Instant::now();
                search.search(request).await?;
                times.push(asked.elapsed());
            }
            Ok::<_, tonic::Status>(times)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    let total = started.elapsed();
    all.sort_unstable();
    Ok((all, total))
}

async fn ingest(channel: &Channel, folder: &Path) -> Result<()> {
    let mut collections = api::collection_service_client::CollectionServiceClient::new(channel.clone());
    let request = api::CreateCollectionRequest { name: COLLECTION.into(), ..Default::default() };
    collections.create_collection(request).await?;
    let documents: Vec<api::IngestDocumentRequest> = lines(&folder.join("corpus.jsonl"))?
        .iter()
        .map(|line| api::IngestDocumentRequest {
            collection: COLLECTION.into(),
            document_id: line["_id"].as_str().unwrap_or_default().into(),
            title: line["title"].as_str().unwrap_or_default().into(),
            content: Some(api::ingest_document_request::Content::Text(
                line["text"].as_str().unwrap_or_default().into(),
            )),
            ..Default::default()
        })
        .collect();
    let mut client = api::ingest_service_client::IngestServiceClient::new(channel.clone());
    let mut replies = client.ingest_documents(tokio_stream::iter(documents)).await?.into_inner();
    while replies.message().await?.is_some() {}
    let mut admin = api::admin_service_client::AdminServiceClient::new(channel.clone());
    admin.flush(api::FlushRequest { collection: COLLECTION.into() }).await?;
    Ok(())
}

async fn some_vectors(channel: &Channel) -> Result<Vec<api::Vector>> {
    let mut points = api::point_service_client::PointServiceClient::new(channel.clone());
    let request = api::ScrollPointsRequest {
        collection: COLLECTION.into(),
        limit: Some(500),
        with_vectors: Some(api::VectorSelector { enable: true, names: vec![] }),
        ..Default::default()
    };
    let points = points.scroll_points(request).await?.into_inner().points;
    points
        .into_iter()
        .map(|mut point| point.vectors.remove("text").context("a point without a vector"))
        .collect()
}

fn lines(path: &Path) -> Result<Vec<serde_json::Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
