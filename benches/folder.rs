//! Question: what does a folder of documents cost on its way into the index beside the embedding of its chunks, and how fast
//! is it when all of them were embedded before? Corpus: any folder of documents.
//!
//! `cargo bench --bench folder -- FOLDER`
//!
//! A server watches the folder, first with an empty cache of vectors, then with a full one and a new collection. The same
//! chunks are embedded by the embedder alone, in this process, while nothing else runs. Processor time is compared beside
//! the clock: it says the same on a machine with neighbours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ragstone_ingest::embed::{EmbedderRegistry, MINILM};
use ragstone_proto::v1 as api;

#[path = "support/mod.rs"]
mod support;

use support::{OwnMemory, Server, own_cpu, scroll};

/// Between two looks at what is indexed.
const LOOK: Duration = Duration::from_millis(100);
/// Texts that the embedder gets at once; a file's chunks are as many or fewer.
const BATCH: usize = 256;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let Some(folder) = folder else {
        println!("skipped: no folder given");
        return Ok(());
    };
    let folder = folder.canonicalize()?;
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]).await?;
    let memory = server.watch_own_memory();

    let cold = pass(&server, &memory, &folder, "cold").await?;
    let texts: Vec<String> =
        scroll(&server.channel, "cold").await?.into_iter().map(|point| point.text).collect();
    let warm = pass(&server, &memory, &folder, "warm").await?;
    drop(server);
    let distinct: BTreeSet<&str> = texts.iter().map(String::as_str).collect();
    let bare = embed_alone(&distinct)?;

    println!("{} files, {} chunks, {} distinct texts", cold.files, texts.len(), distinct.len());
    println!("| | s | files/s | chunks/s | processor s | peak MiB, own | peak MiB |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for (name, pass) in [("folder, nothing embedded before", &cold), ("folder, all embedded before", &warm)] {
        println!(
            "| {name} | {:.1} | {:.0} | {:.0} | {:.1} | {} | {} |",
            pass.time.as_secs_f64(),
            pass.files as f64 / pass.time.as_secs_f64(),
            texts.len() as f64 / pass.time.as_secs_f64(),
            pass.cpu.as_secs_f64(),
            pass.own_mib,
            pass.mib
        );
    }
    let (time, cpu) = (bare.time.as_secs_f64(), bare.cpu.as_secs_f64());
    println!(
        "| the distinct texts embedded, alone | {time:.1} | | {:.0} | {cpu:.1} | | |",
        distinct.len() as f64 / time
    );
    println!(
        "beside the embedding: {:.1} % of its time, {:.1} % of its processor time",
        (cold.time.as_secs_f64() / time - 1.0) * 100.0,
        (cold.cpu.as_secs_f64() / cpu - 1.0) * 100.0
    );
    Ok(())
}

/// One way of the folder into a collection.
struct Pass {
    files: u64,
    time: Duration,
    cpu: Duration,
    /// Most memory so far that is the server's own, and with mapped files.
    own_mib: u64,
    mib: u64,
}

/// Watches the folder until everything in it is indexed or was refused, then watches it no more.
async fn pass(server: &Server, memory: &OwnMemory, folder: &Path, collection: &str) -> Result<Pass> {
    let mut collections =
        api::collection_service_client::CollectionServiceClient::new(server.channel.clone());
    let request = api::CreateCollectionRequest { name: collection.to_owned(), ..Default::default() };
    collections.create_collection(request).await?;
    let mut client = api::ingest_service_client::IngestServiceClient::new(server.channel.clone());
    let (started, cpu) = (Instant::now(), server.cpu()?);
    let request = api::AddSourceRequest {
        collection: collection.to_owned(),
        path: folder.display().to_string(),
        ..Default::default()
    };
    let source = client.add_source(request).await?.into_inner().source.context("no source")?;
    let files = loop {
        tokio::time::sleep(LOOK).await;
        let request = api::ListSourcesRequest { collection: collection.to_owned() };
        let sources = client.list_sources(request).await?.into_inner().sources;
        let now = sources.into_iter().find(|now| now.id == source.id).context("the source is gone")?;
        match now.state() {
            api::SourceState::Watching if now.files_pending == 0 => break now.files_indexed,
            api::SourceState::Unavailable => bail!("the folder can't be read: {}", now.error),
            _ => {}
        }
    };
    let pass = Pass {
        files,
        time: started.elapsed(),
        cpu: server.cpu()?.saturating_sub(cpu),
        own_mib: memory.most_mib(),
        mib: server.memory_mib("VmHWM"),
    };
    let request = api::RemoveSourceRequest { source_id: source.id, delete_documents: false };
    client.remove_source(request).await?;
    Ok(pass)
}

struct Alone {
    time: Duration,
    cpu: Duration,
}

fn embed_alone(texts: &BTreeSet<&str>) -> Result<Alone> {
    let embedder = EmbedderRegistry::builtin().get(MINILM)?;
    embedder.embed_documents(&["warm up"])?;
    let texts: Vec<&str> = texts.iter().copied().collect();
    let (started, cpu) = (Instant::now(), own_cpu()?);
    let mut count = 0;
    for batch in texts.chunks(BATCH) {
        count += embedder.embed_documents(batch)?.len();
    }
    ensure!(count == texts.len(), "{count} vectors of {} texts", texts.len());
    Ok(Alone { time: started.elapsed(), cpu: own_cpu()?.saturating_sub(cpu) })
}
