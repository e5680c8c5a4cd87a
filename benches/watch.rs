//! Question: how long after a file is closed does a search find it, and does the index agree with the folder after
//! renames, edits and deletes, also those made while the server was down? Corpus: small text files, written here; 2,000
//! are indexed already.
//!
//! `cargo bench --bench watch`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ragstone_proto::v1 as api;
use tonic::transport::Channel;

#[path = "support/mod.rs"]
mod support;

use support::{Server, percentile, scroll};

const COLLECTION: &str = "notes";
const INDEXED: usize = 2_000;
const WRITTEN: usize = 200;
const CHANGED: usize = 50;
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> Result<()> {
    let (data, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let root = folder.path().canonicalize()?;
    for number in 0..INDEXED {
        std::fs::write(root.join(format!("old{number}.txt")), text(&format!("oldword{number}")))?;
    }
    let watch = ["--watch".to_owned(), format!("{}={COLLECTION}", root.display())];
    let mut server = Server::start(data.path(), &watch).await?;
    let started = Instant::now();
    agrees(&server.channel, &root).await?;
    println!("{INDEXED} files indexed in {:.1} s", started.elapsed().as_secs_f64());

    let mut times = Vec::new();
    for number in 0..WRITTEN {
        let word = format!("newword{number}");
        std::fs::write(root.join(format!("new{number}.txt")), text(&word))?;
        let closed = Instant::now();
        while !found(&server.channel, &word).await? {
            ensure!(closed.elapsed() < PATIENCE, "new{number}.txt was not found");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(closed.elapsed());
    }
    times.sort_unstable();
    let [p50, p95, worst] = [0.5, 0.95, 1.0].map(|share| percentile(&times, share));
    println!(
        "close to first hit, {WRITTEN} files one by one: p50 {p50:.0} ms, p95 {p95:.0} ms, longest {worst:.0} ms"
    );

    let changed = Instant::now();
    change(&root, "a")?;
    agrees(&server.channel, &root).await?;
    println!(
        "{CHANGED} renamed, edited and deleted each: agrees after {:.1} s",
        changed.elapsed().as_secs_f64()
    );

    server.kill()?;
    change(&root, "b")?;
    let restarted = Instant::now();
    let server = Server::start(data.path(), &watch).await?;
    agrees(&server.channel, &root).await?;
    println!(
        "the same while the server was down: agrees {:.1} s after its start",
        restarted.elapsed().as_secs_f64()
    );
    Ok(())
}

fn text(word: &str) -> String {
    format!("A short note about {word}, written to be found a moment later.\n")
}

/// Renames, edits and deletes so many files each; `round` makes the words and names new.
fn change(root: &Path, round: &str) -> Result<()> {
    let mut files = files(root)?.into_iter();
    for (number, file) in files.by_ref().take(CHANGED).enumerate() {
        std::fs::rename(&file, root.join(format!("renamed-{round}{number}.txt")))?;
    }
    for (number, file) in files.by_ref().take(CHANGED).enumerate() {
        std::fs::write(&file, text(&format!("editedword{round}{number}")))?;
    }
    for file in files.by_ref().take(CHANGED) {
        std::fs::remove_file(file)?;
    }
    Ok(())
}

fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    std::fs::read_dir(root)?.map(|entry| Ok(entry?.path())).collect()
}

async fn found(channel: &Channel, word: &str) -> Result<bool> {
    let request = api::SearchRequest {
        collection: COLLECTION.into(),
        mode: api::SearchMode::Keyword as i32,
        text: Some(word.to_owned()),
        limit: Some(1),
        ..Default::default()
    };
    let mut client = api::search_service_client::SearchServiceClient::new(channel.clone());
    Ok(!client.search(request).await?.into_inner().hits.is_empty())
}

/// Waits until the points are exactly the files: the same paths, the same texts.
async fn agrees(channel: &Channel, root: &Path) -> Result<()> {
    let mut wanted = BTreeSet::new();
    for file in files(root)? {
        wanted.insert((file.display().to_string(), std::fs::read_to_string(&file)?.trim().to_owned()));
    }
    let started = Instant::now();
    loop {
        let there = points(channel).await?;
        if there == wanted {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "the index has {} that the folder hasn't, and lacks {}",
            there.difference(&wanted).count(),
            wanted.difference(&there).count()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn points(channel: &Channel) -> Result<BTreeSet<(String, String)>> {
    // The collection is made by the watch, a moment after the start.
    let points = match scroll(channel, COLLECTION).await {
        Err(status) if status.code() == tonic::Code::NotFound => Vec::new(),
        points => points?,
    };
    let place = |point: api::Point| (point.origin.unwrap_or_default().document_id, point.text);
    Ok(points.into_iter().map(place).collect())
}
