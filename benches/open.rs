//! Question: how long after a data directory is opened is the first query answered, and what memory do 1,000 queries take, with
//! the original vectors in memory and mapped? Corpus: generated vectors of 384 f32, sealed and compacted. In process; the
//! collection is opened by a process of its own, which this bench starts.
//!
//! `cargo bench --bench open [-- ROWS...]` (default 200000). The files were just written and are in the system's cache; for a
//! cold start, `cargo bench --bench open -- keep DIR ROWS`, drop the caches, then `cargo bench --bench open -- open DIR`.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use ragstone_index::collection::SchemaUpdate;
use ragstone_index::schema::{IndexChange, VectorStorage};
use ragstone_index::search::{Fusion, SearchRequest, Select, VectorLeg};
use ragstone_index::store::{Store, StoreOptions};

#[path = "support/vectors.rs"]
mod vectors;

use vectors::{Vectors, upsert};

/// Queries before memory is looked at.
const QUERIES: usize = 1_000;

fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["open", folder] => return open(Path::new(folder)),
        ["keep", folder, rows] => return write(Path::new(folder), rows.parse()?),
        _ => {}
    }
    let sizes: Vec<usize> = given.iter().filter_map(|argument| argument.parse().ok()).collect();
    println!(
        "| rows | vectors | segments | disk MiB | open ms | first answer ms | anonymous MiB | from files MiB | RSS MiB |"
    );
    println!("|--:|---|--:|--:|--:|--:|--:|--:|--:|");
    for rows in if sizes.is_empty() { vec![200_000] } else { sizes } {
        let folder = tempfile::tempdir()?;
        write(folder.path(), rows)?;
        let itself = std::env::current_exe()?;
        for storage in [VectorStorage::Memory, VectorStorage::Mapped] {
            keep(folder.path(), storage)?;
            let opened = Command::new(&itself).arg("open").arg(folder.path()).output()?;
            print!("{}", String::from_utf8_lossy(&opened.stdout));
        }
    }
    Ok(())
}

/// Says where the original vectors live from the next opening on.
fn keep(folder: &Path, storage: VectorStorage) -> Result<()> {
    let store = Store::open(folder, StoreOptions::default())?;
    let change = IndexChange { storage: Some(storage), ..IndexChange::default() };
    let index = vec![("v".to_owned(), change)];
    store.collection("bench")?.update_schema(SchemaUpdate { index, ..SchemaUpdate::default() })?;
    Ok(())
}

fn write(folder: &Path, rows: usize) -> Result<()> {
    let store = Store::open(folder, StoreOptions::default())?;
    let collection = store.create_collection("bench", vectors::schema())?;
    let mut source = Vectors::new();
    for start in (0..rows).step_by(4_096) {
        let count = 4_096.min(rows - start);
        let batch: Vec<f32> = (0..count).flat_map(|_| source.next()).collect();
        collection.write(upsert(&format!("row-{start}"), &batch)?)?;
    }
    collection.flush()?;
    collection.compact()?;
    Ok(())
}

fn open(folder: &Path) -> Result<()> {
    let mut source = Vectors::new();
    let queries: Vec<SearchRequest> = (0..QUERIES).map(|_| request(source.next())).collect();
    let started = Instant::now();
    let store = Store::open(folder, StoreOptions::default())?;
    let opened = started.elapsed();
    let collection = store.collection("bench")?;
    let mut answered = None;
    for request in &queries {
        anyhow::ensure!(collection.search(request)?.hits.len() == 10, "fewer hits than asked for");
        answered.get_or_insert_with(|| started.elapsed());
    }
    let answered = answered.context("no queries")?;
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let mib = |name: &str| -> Result<u64> {
        let line = rollup.lines().find(|line| line.starts_with(name)).context("no such line")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? >> 10)
    };
    let (anonymous, resident) = (mib("Anonymous:")?, mib("Rss:")?);
    let storage = collection.schema().vector_space("")?.1.index.storage.name();
    let stats = collection.stats();
    println!(
        "| {} | {storage} | {} | {} | {:.0} | {:.0} | {anonymous} | {} | {resident} |",
        stats.points,
        stats.segments.len(),
        stats.disk_bytes >> 20,
        opened.as_secs_f64() * 1e3,
        answered.as_secs_f64() * 1e3,
        resident.saturating_sub(anonymous)
    );
    Ok(())
}

fn request(vector: Vec<f32>) -> SearchRequest {
    SearchRequest {
        vector: Some(VectorLeg { using: String::new(), vector, ef: None, exact: false, recall_target: None }),
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
    }
}
