//! Question: what does a client that sends far faster than the server embeds do to it? Corpus: generated pages of about two
//! chunks of words, and so many bytes of markup that all of them together are far more than the server may hold. It compares a
//! client that heeds its credit with one that sends as fast as the connection takes it, by throughput and by the memory of
//! the server, and both with the embedder alone on the same chunks, in this process.
//!
//! `cargo bench --bench ingest_stream [-- DOCUMENTS [KIB]]` (default 600 pages of 256 KiB)

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ragstone_ingest::embed::registry::{EmbedderRegistry, RegistryOptions};
use ragstone_ingest::embed::service::{EmbedService, Priority, ServiceOptions};
use ragstone_proto::v1 as api;
use ragstone_proto::v1::ingest_stream_reply::Message as Reply;
use ragstone_proto::v1::ingest_stream_request::Message as Asked;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

#[path = "support/mod.rs"]
mod support;

use support::{Server, scroll};

const WORDS_PER_PAGE: usize = 300;

#[tokio::main]
async fn main() -> Result<()> {
    let given: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let count = given.first().copied().unwrap_or(600);
    let bytes = given.get(1).copied().unwrap_or(256) << 10;
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path(), &[]).await?;
    println!("{count} pages, {} MiB in all\n", (count * bytes) >> 20);
    println!(
        "| client | documents | chunks | seconds | chunks/s | at its end sent after s | peak own MiB before | peak own MiB |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    // The model is loaded, and so is whatever else the first document needs.
    run(&server, "warm", 20, bytes, true).await?;
    for (name, heeds) in [("heeds its credit", true), ("ignores its credit", false)] {
        let before = server.memory_mib("RssAnon");
        let memory = server.watch_own_memory();
        let run = run(&server, if heeds { "heeding" } else { "ignoring" }, count, bytes, heeds).await?;
        println!(
            "| {name} | {} | {} | {:.1} | {:.0} | {:.1} | {before} | {} |",
            run.documents,
            run.chunks,
            run.took.as_secs_f64(),
            f64::from(run.chunks) / run.took.as_secs_f64(),
            run.sent_after.as_secs_f64(),
            memory.most_mib(),
        );
    }
    let texts = texts(&server, "heeding").await?;
    drop(server);
    embedder_alone(texts).await
}

struct Run {
    documents: usize,
    chunks: u32,
    took: Duration,
    /// When the last page had left the client.
    sent_after: Duration,
}

async fn run(server: &Server, collection: &str, count: usize, bytes: usize, heeds: bool) -> Result<Run> {
    let mut collections =
        api::collection_service_client::CollectionServiceClient::new(server.connect().await?);
    let create = api::CreateCollectionRequest { name: collection.into(), ..Default::default() };
    collections.create_collection(create).await?;
    let (requests, receiver) = mpsc::channel(1);
    let (granted, mut credit) = watch::channel(api::IngestCredit::default());
    let name = collection.to_owned();
    let started = Instant::now();
    let sending = tokio::spawn(async move {
        let open = api::IngestStreamOpen { collection: name.clone(), ..Default::default() };
        let message = |asked| api::IngestStreamRequest { message: Some(asked) };
        requests.send(message(Asked::Open(open))).await?;
        let (mut items, mut sent) = (0, 0);
        for number in 0..count {
            let page = page(&name, number, bytes);
            if heeds {
                credit.wait_for(|credit| items < credit.items && sent < credit.bytes).await?;
            }
            items += 1;
            sent += page.len() as u64;
            let document = api::IngestDocumentRequest {
                document_id: format!("{number}"),
                file_name: "page.html".into(),
                content: Some(api::ingest_document_request::Content::Data(page.into())),
                ..Default::default()
            };
            requests.send(message(Asked::Document(document))).await?;
        }
        anyhow::Ok(started.elapsed())
    });
    let mut client = api::ingest_service_client::IngestServiceClient::new(server.connect().await?);
    let mut replies = client.ingest_stream(ReceiverStream::new(receiver)).await?.into_inner();
    let (mut documents, mut chunks) = (0, 0);
    while let Some(reply) = replies.message().await? {
        match reply.message.context("an empty reply")? {
            Reply::Credit(credit) => {
                granted.send_replace(credit);
            }
            Reply::Document(reply) => {
                if reply.outcome() != api::DocumentOutcome::Indexed {
                    bail!("document {} was not indexed: {}", reply.document_id, reply.error);
                }
                documents += 1;
                chunks += reply.chunks;
            }
            Reply::Arrow(_) => bail!("no rows were sent"),
        }
    }
    if documents != count {
        bail!("{documents} of {count} documents were answered");
    }
    Ok(Run { documents, chunks, took: started.elapsed(), sent_after: sending.await?? })
}

/// Words of its own, so that nothing is embedded twice, below markup that is thrown away.
fn page(collection: &str, number: usize, bytes: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(number as u64);
    let mut text = format!("<html><head><title>{collection} {number}</title></head><body><p>");
    for word in 0..WORDS_PER_PAGE {
        let word = match word % 12 {
            0 => format!("{}. ", random.random_range(0..100_000)),
            _ => format!("{} ", COMMON[random.random_range(0..COMMON.len())]),
        };
        text.push_str(&word);
    }
    text.push_str("</p><!-- ");
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
    text.push_str(" --></body></html>");
    text.into_bytes()
}

const COMMON: [&str; 16] = [
    "river", "stone", "table", "green", "window", "paper", "engine", "market", "winter", "garden", "letter",
    "morning", "silver", "bridge", "music", "history",
];

async fn texts(server: &Server, collection: &str) -> Result<Vec<String>> {
    let points = scroll(&server.connect().await?, collection).await?;
    Ok(points.into_iter().map(|point| point.text).collect())
}

async fn embedder_alone(texts: Vec<String>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let options = RegistryOptions { onnxruntime: None, cache_dir: folder.path().to_owned() };
    let registry = Arc::new(EmbedderRegistry::new(ragstone::config::Config::default().embedders, options)?);
    let name = registry.default_name().to_owned();
    let service = EmbedService::new(registry, ServiceOptions::default())?;
    service.embed(&name, texts.iter().take(64).cloned().collect(), Priority::Document).await?;
    let count = texts.len();
    let started = Instant::now();
    service.embed(&name, texts, Priority::Document).await?;
    let took = started.elapsed().as_secs_f64();
    println!("| the embedder alone | | {count} | {took:.1} | {:.0} | | | |", count as f64 / took);
    Ok(())
}
