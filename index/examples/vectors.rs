//! Question: how fast is the graph of a sealed segment built, and how fast does it answer at which recall?
//!
//! ```text
//! cargo run --release -p ragstone-index --example vectors -- DIR [--threads N] [--m N] [--efc N] [--distance cosine] [--queries N]
//!     [--index FILE] [--ef LIST] [--runs N] [--filters no|LIST] [--grow-from N [--deleted SHARE]] [--without N]
//! ```
//!
//! DIR holds `base.npy` and `queries.npy`: f32, C order, two dimensions. The truth is computed by an exact scan. `--index`
//! keeps the built index in a file, or takes it from there. `--grow-from` builds a graph of the first N vectors, deletes a share
//! of them and grows it by the rest, as a compaction does; `--without N` builds from nothing what that leaves. A rate is the median of `--runs` (5). Searches
//! run on one thread, without the network, the log or payload: what is measured is the vector index alone.
#![allow(clippy::print_stdout, reason = "prints its measurements")]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ragstone_index::schema::Distance;
use ragstone_index::vector::{
    Ancestor, PreparedQuery, Scored, SearchParams, SegmentVectors, VectorColumn, VectorsParams, build_index,
    grow_index, prepare_vector,
};
use rayon::prelude::*;
use roaring::RoaringBitmap;

const K: usize = 10;
const BEAMS: [usize; 10] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256];
const SHARES: [f64; 8] = [0.9, 0.5, 0.3, 0.2, 0.1, 0.05, 0.01, 0.001];

/// As the engine keeps vectors, graphs and codes of a space that lives in memory.
fn in_large_pages(bytes: &[u8]) -> Result<Bytes> {
    let mut memory = memmap2::MmapMut::map_anon(bytes.len())?;
    #[cfg(target_os = "linux")]
    memory.advise(memmap2::Advice::HugePage)?;
    memory.copy_from_slice(bytes);
    Ok(Bytes::from_owner(memory.make_read_only()?))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .context("usage: vectors DIR [--threads N] [--m N] [--efc N] [--distance NAME] [--queries N]")?;
    let mut params = VectorsParams::default();
    let mut distance = Distance::Cosine;
    let mut most_queries = usize::MAX;
    let (mut beams, mut runs, mut filters, mut kept) = (BEAMS.to_vec(), 5, SHARES.to_vec(), None);
    let (mut grow_from, mut without, mut deleted) = (0, 0, 0.0);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--threads" => params.threads = value.parse()?,
            "--m" => params.m = value.parse()?,
            "--efc" => params.ef_construction = value.parse()?,
            "--ef" => beams = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--runs" => runs = value.parse()?,
            "--filters" if value == "no" => filters.clear(),
            "--filters" => filters = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--grow-from" => grow_from = value.parse()?,
            "--without" => without = value.parse()?,
            "--deleted" => deleted = value.parse()?,
            "--index" => kept = Some(value),
            "--queries" => most_queries = value.parse()?,
            "--distance" => distance = serde_json::from_value(serde_json::Value::String(value))?,
            _ => bail!("unknown flag {flag}"),
        }
    }
    let (dimension, mut base) = read_npy(&Path::new(&dir).join("base.npy"))?;
    let (query_dimension, queries) = read_npy(&Path::new(&dir).join("queries.npy"))?;
    ensure!(dimension == query_dimension, "base has dimension {dimension}, queries {query_dimension}");
    for vector in base.chunks_mut(dimension) {
        prepare_vector(distance, vector).map_err(anyhow::Error::msg)?;
    }
    let of_first = grow_from.max(without).min(base.len() / dimension);
    let live: RoaringBitmap = (0..of_first as u32).filter(|row| scattered(*row) >= deleted).collect();
    let never = AtomicBool::new(false);
    let mut older = None;
    if of_first > 0 {
        let first = base.get(..of_first * dimension).unwrap_or_default();
        if grow_from > 0 {
            let column = VectorColumn { dimension, data: first, present: None };
            let start = Instant::now();
            let built = build_index(&column, distance, &params, &never)?.context("too few rows")?;
            println!("built {of_first} x {dimension} in {:.1} s", start.elapsed().as_secs_f64());
            let mut index = Vec::new();
            built.write_to(&mut index)?;
            let vectors = Bytes::copy_from_slice(bytemuck::cast_slice(first));
            let (path, index) = (Path::new("memory"), Some(Bytes::from(index)));
            older = Some(SegmentVectors::open(path, distance, dimension, of_first, vectors, None, index)?);
        }
        let mut left = Vec::with_capacity(base.len());
        for (row, vector) in (0..).zip(base.chunks(dimension)) {
            if row >= of_first as u32 || live.contains(row) {
                left.extend_from_slice(vector);
            }
        }
        base = left;
    }
    let ancestor = older.as_ref().map(|vectors| Ancestor { vectors, live: &live });
    let rows = base.len() / dimension;

    let start = Instant::now();
    let index = match kept.as_ref().and_then(|path| std::fs::read(path).ok()) {
        Some(index) => index,
        None => {
            let column = VectorColumn { dimension, data: &base, present: None };
            let built = grow_index(&column, ancestor.as_ref(), distance, &params, &never, &|_| ())?;
            let mut index = Vec::new();
            built.context("too few rows")?.write_to(&mut index)?;
            let seconds = start.elapsed().as_secs_f64();
            println!("built {rows} x {dimension} in {seconds:.1} s, {} MB", index.len() >> 20);
            if let Some(path) = &kept {
                std::fs::write(path, &index)?;
            }
            index
        }
    };
    let index = in_large_pages(&index)?;
    let vectors = in_large_pages(bytemuck::cast_slice(&base))?;
    drop((base, older));
    let start = Instant::now();
    let path = Path::new("memory");
    let segment = SegmentVectors::open(path, distance, dimension, rows, vectors, None, Some(index))?;
    if let Some(graph) = segment.report().graph {
        let beams = graph.calibration.iter().map(|beam| format!("{} {:.4}", beam.ef, beam.recall));
        println!("expected: {}", beams.collect::<Vec<_>>().join(", "));
        println!("{} vectors taken over from an older graph", graph.inherited);
    }
    println!("opened in {:.3} s", start.elapsed().as_secs_f64());

    let queries: Vec<PreparedQuery> = queries
        .chunks(dimension)
        .take(most_queries)
        .map(|vector| PreparedQuery::new(distance, dimension, vector))
        .collect::<Result<_, _>>()?;
    let truth = truth(&segment, &queries, None);
    for ef in beams {
        measure(
            &segment,
            &queries,
            &truth,
            &SearchParams { ef: Some(ef), ..SearchParams::default() },
            None,
            runs,
        );
    }
    println!("default ef:");
    measure(&segment, &queries, &truth, &SearchParams::default(), None, runs);
    if filters.is_empty() {
        return Ok(());
    }
    let queries = &queries[..queries.len().min(300)];
    // Nearest to a row first: what passes lies in one corner of the space, queries anywhere.
    let corner = segment.vector(0).context("no vector")?.to_vec();
    let similarity = |row: u32| {
        let vector = segment.vector(row).unwrap_or_default();
        vector.iter().zip(&corner).map(|(a, b)| a * b).sum::<f32>()
    };
    let mut by_corner: Vec<(f32, u32)> = (0..rows as u32).map(|row| (similarity(row), row)).collect();
    by_corner.sort_by(|a, b| b.0.total_cmp(&a.0));
    for share in filters {
        let scattered = (0..rows as u32).filter(|row| scattered(*row) < share).collect();
        let correlated = by_corner.iter().take((rows as f64 * share) as usize).map(|(_, row)| *row).collect();
        for (name, allow) in [("pass", scattered), ("pass, correlated", correlated)] {
            let allow: RoaringBitmap = allow;
            let truth = self::truth(&segment, queries, Some(&allow));
            print!("{share:5} {name}: ");
            measure(&segment, queries, &truth, &SearchParams::default(), Some(&allow), runs);
        }
    }
    Ok(())
}

/// A number of 0..1 that has nothing to do with the vectors.
fn scattered(row: u32) -> f64 {
    f64::from(row.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519))
        / f64::from(u32::MAX)
}

fn truth(
    segment: &SegmentVectors,
    queries: &[PreparedQuery],
    allow: Option<&RoaringBitmap>,
) -> Vec<Vec<Scored>> {
    queries.par_iter().map(|query| segment.search(query, K, &SearchParams::EXACT, allow).0).collect()
}

fn measure(
    segment: &SegmentVectors,
    queries: &[PreparedQuery],
    truth: &[Vec<Scored>],
    params: &SearchParams,
    allow: Option<&RoaringBitmap>,
    runs: usize,
) {
    let mut found = Vec::new();
    let mut seconds: Vec<f64> = (0..runs.max(1))
        .map(|_| {
            let start = Instant::now();
            found = queries.iter().map(|query| segment.search(query, K, params, allow)).collect();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let seconds = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
    let hits: usize = found
        .iter()
        .zip(truth)
        .map(|((found, _), truth)| {
            let worst = truth.last().map_or(f32::INFINITY, |hit| hit.score);
            found.iter().filter(|hit| hit.score >= worst).count().min(truth.len())
        })
        .sum();
    let wanted: usize = truth.iter().map(Vec::len).sum();
    let recall = hits as f64 / wanted.max(1) as f64;
    let strategy = found.first().map(|(_, strategy)| strategy.describe()).unwrap_or_default();
    println!("{:9.0} QPS at recall@{K} {recall:.4}  ({strategy})", queries.len() as f64 / seconds);
}

/// Reads a two-dimensional f32 array: dimension and components.
fn read_npy(path: &Path) -> Result<(usize, Vec<f32>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.starts_with(b"\x93NUMPY\x01"), "{}: not a .npy file of version 1", path.display());
    let length = bytes.get(8..10).map_or(0, |two| usize::from(u16::from_le_bytes([two[0], two[1]])));
    let header = std::str::from_utf8(bytes.get(10..10 + length).context("short header")?)?;
    ensure!(
        header.contains("'<f4'") && header.contains("'fortran_order': False"),
        "not f32 in C order: {header}"
    );
    let shape =
        header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).context("no shape")?.0;
    let sizes: Vec<usize> = shape
        .split(',')
        .filter(|size| !size.trim().is_empty())
        .map(|size| size.trim().parse())
        .collect::<Result<_, _>>()?;
    let [rows, dimension] = sizes[..] else { bail!("{} dimensions, expected 2", sizes.len()) };
    let data = bytes.get(10 + length..).context("short file")?;
    ensure!(data.len() == rows * dimension * 4, "{} bytes for {rows} x {dimension}", data.len());
    let floats =
        data.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
    Ok((dimension, floats))
}
