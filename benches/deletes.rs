//! Question: what do deleted points cost in recall, and does compaction give their space back? Corpus: generated vectors of
//! 384 f32, of which 30 % are deleted, beside a collection that never had them. In process.
//!
//! `cargo bench --bench deletes [-- ROWS]` (default 200000)

use std::sync::Arc;

use anyhow::Result;
use ragstone_index::collection::Collection;
use ragstone_index::search::{Fusion, Hit, SearchRequest, Select, VectorLeg};
use ragstone_index::store::{Store, StoreOptions};
use ragstone_index::write::{Change, WriteRequest};

#[path = "support/vectors.rs"]
mod vectors;

use vectors::{Vectors, upsert};

const BATCH: usize = 4_096;
const QUERIES: usize = 1_000;

fn main() -> Result<()> {
    let rows = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    let mut source = Vectors::new();
    let all: Vec<Vec<f32>> = (0..rows).map(|_| source.next()).collect();
    let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| source.next()).collect();
    // Three of ten, spread evenly.
    let goes = |row: usize| row.wrapping_mul(7) % 10 < 3;
    // Nothing is rewritten before it is asked for.
    let options = StoreOptions { compact_deleted_share: 0.99, ..StoreOptions::default() };
    println!("| collection | points | recall@10 | disk MiB |");
    println!("|---|--:|--:|--:|");
    let (_fresh_folder, _fresh_store, fresh) = filled(&all, &options, |row| !goes(row))?;
    report("never had them", &fresh, &queries)?;
    let (_folder, _store, collection) = filled(&all, &options, |_| true)?;
    let id = |row: usize| format!("{}-{}", row / BATCH, row % BATCH);
    let ids: Vec<String> = (0..rows).filter(|row| goes(*row)).map(id).collect();
    for ids in ids.chunks(10_000) {
        let changes = vec![Change::DeletePoints(ids.to_vec())];
        collection.write(WriteRequest { changes, skip_bad_rows: false })?;
    }
    collection.flush()?;
    report("30 % deleted", &collection, &queries)?;
    collection.compact()?;
    report("and compacted", &collection, &queries)
}

/// A flushed and compacted collection of these rows.
fn filled(
    all: &[Vec<f32>],
    options: &StoreOptions,
    wanted: impl Fn(usize) -> bool,
) -> Result<(tempfile::TempDir, Store, Arc<Collection>)> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), options.clone())?;
    let collection = store.create_collection("bench", vectors::schema())?;
    let rows: Vec<usize> = (0..all.len()).filter(|row| wanted(*row)).collect();
    for (number, batch) in rows.chunks(BATCH).enumerate() {
        let vectors: Vec<f32> = batch.iter().flat_map(|row| all[*row].iter().copied()).collect();
        collection.write(upsert(&number.to_string(), &vectors)?)?;
    }
    collection.flush()?;
    collection.compact()?;
    Ok((folder, store, collection))
}

fn report(name: &str, collection: &Collection, queries: &[Vec<f32>]) -> Result<()> {
    let find = |vector: &Vec<f32>, exact: bool| -> Result<Vec<Hit>> {
        let leg =
            VectorLeg { using: String::new(), vector: vector.clone(), ef: None, exact, recall_target: None };
        let request = SearchRequest {
            vector: Some(leg),
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
        };
        Ok(collection.search(&request)?.hits)
    };
    let mut found = 0;
    for query in queries {
        let worst = find(query, true)?.last().map_or(f32::MAX, |hit| hit.score);
        found += find(query, false)?.iter().filter(|hit| hit.score >= worst).count();
    }
    let recall = found as f64 / (10 * queries.len()) as f64;
    let stats = collection.stats();
    println!("| {name} | {} | {recall:.4} | {} |", stats.points, stats.disk_bytes >> 20);
    Ok(())
}
