//! Question: how near does an exact scan come to the speed at which the machine reads memory?
//!
//! ```text
//! cargo run --release -p ragstone-index --example exact_scan -- [ROWS] [DIMENSION]
//! ```
//!
//! Random vectors, 200,000 x 384 unless said otherwise. Each line: GB of vectors compared a second, best of five. "read" sums
//! the same bytes and is the roof. Isolates the scan: no graph, no log, no payload.
#![allow(clippy::print_stdout, reason = "prints its measurements")]

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use ragstone_index::schema::Distance;
use ragstone_index::vector::{PreparedQuery, SearchParams, SegmentVectors};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

const K: usize = 10;
const RUNS: usize = 5;
const BATCH: usize = 16;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (rows, dimension) = (number(200_000)?, number(384)?);
    let mut rng = StdRng::seed_from_u64(1);
    let vectors: Vec<f32> = (0..rows * dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
    let gigabytes = (vectors.len() * 4) as f64 / 1e9;
    let bytes = Bytes::from_owner(Floats(vectors));
    report("read, 1 thread", gigabytes, || {
        let words = bytemuck::cast_slice::<u8, u64>(&bytes);
        black_box(words.chunks_exact(8).fold([0_u64; 8], |mut sums, chunk| {
            sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
            sums
        }));
    });
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for distance in [Distance::Dot, Distance::Euclidean] {
        let segment =
            SegmentVectors::open(Path::new("memory"), distance, dimension, rows, bytes.clone(), None, None)?;
        let query = |rng: &mut StdRng| {
            let vector: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
            PreparedQuery::new(distance, dimension, &vector)
        };
        let queries = (0..BATCH).map(|_| query(&mut rng)).collect::<Result<Vec<_>, _>>()?;
        let together: Vec<&PreparedQuery> = queries.iter().collect();
        let one = queries.first().context("a query")?;
        let name = |what: &str| format!("{distance:?}, {what}");
        let search = |allow: Option<&RoaringBitmap>| {
            black_box(segment.search(one, K, &SearchParams::EXACT, allow));
        };
        single.install(|| report(&name("1 thread"), gigabytes, || search(None)));
        report(&name("all threads"), gigabytes, || search(None));
        for share in [0.9, 0.5, 0.1, 0.01] {
            let allow: RoaringBitmap = (0..rows as u32).filter(|_| rng.random_bool(share)).collect();
            let part = gigabytes * allow.len() as f64 / rows as f64;
            single
                .install(|| report(&name(&format!("1 thread, {share} pass")), part, || search(Some(&allow))));
        }
        single.install(|| {
            report(&name("1 thread, one after the other"), gigabytes * BATCH as f64, || {
                queries.iter().for_each(|query| {
                    black_box(segment.search(query, K, &SearchParams::EXACT, None));
                });
            });
            report(&name("1 thread, together"), gigabytes * BATCH as f64, || {
                black_box(segment.nearest_exact(&together, K, None));
            });
        });
    }
    Ok(())
}

/// Owns the vectors that are read as bytes.
struct Floats(Vec<f32>);

impl AsRef<[u8]> for Floats {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn report(what: &str, gigabytes: f64, mut run: impl FnMut()) {
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    let best = seconds.fold(f64::MAX, f64::min);
    println!("{what:45} {:6.1} GB/s  {:8.2} ms", gigabytes / best, best * 1e3);
}
