//! Graphs that are grown from older ones: as good as built ones, when they may be, and what their bytes remember.

use super::*;
use crate::vector::{Ancestor, grow_index};

/// A column, its segment, and which rows of it are live.
struct Old {
    vectors: Vec<f32>,
    present: Option<RoaringBitmap>,
    segment: SegmentVectors,
    live: RoaringBitmap,
}

impl Old {
    fn new(
        distance: Distance,
        vectors: Vec<f32>,
        present: Option<RoaringBitmap>,
        params: &VectorsParams,
    ) -> Self {
        let column = VectorColumn { dimension: DIMENSION, data: &vectors, present: present.as_ref() };
        let segment = open(distance, &vectors, present.clone(), bytes_of(distance, column, params)).unwrap();
        let live = (0..(vectors.len() / DIMENSION) as u32).collect();
        Self { vectors, present, segment, live }
    }

    fn without(mut self, deleted: impl Fn(u32) -> bool) -> Self {
        self.live = self.live.iter().filter(|row| !deleted(*row)).collect();
        self
    }

    /// The live rows and others behind them, and which have a vector.
    fn merged(&self, others: &[f32]) -> (Vec<f32>, Option<RoaringBitmap>) {
        let at = |row: u32| row as usize * DIMENSION;
        let mut vectors: Vec<f32> =
            self.live.iter().flat_map(|row| self.vectors[at(row)..at(row + 1)].to_vec()).collect();
        let left = vectors.len() / DIMENSION;
        vectors.extend_from_slice(others);
        let present = self.present.as_ref().map(|present| {
            let old = (0_u32..).zip(&self.live).filter(|(_, row)| present.contains(*row)).map(|(new, _)| new);
            old.chain(left as u32..(vectors.len() / DIMENSION) as u32).collect()
        });
        (vectors, present)
    }

    fn grown(&self, distance: Distance, others: &[f32], params: &VectorsParams) -> SegmentVectors {
        let (vectors, present) = self.merged(others);
        let column = VectorColumn { dimension: DIMENSION, data: &vectors, present: present.as_ref() };
        let ancestor = Ancestor { vectors: &self.segment, live: &self.live };
        let never = AtomicBool::new(false);
        let index = grow_index(&column, Some(&ancestor), distance, params, &never, &|_| ()).unwrap().unwrap();
        let mut bytes = Vec::new();
        index.write_to(&mut bytes).unwrap();
        open(distance, &vectors, present, Some(bytes)).unwrap()
    }

    fn built(&self, distance: Distance, others: &[f32], params: &VectorsParams) -> SegmentVectors {
        let (vectors, present) = self.merged(others);
        let column = VectorColumn { dimension: DIMENSION, data: &vectors, present: present.as_ref() };
        open(distance, &vectors, present.clone(), bytes_of(distance, column, params)).unwrap()
    }
}

fn made(segment: &SegmentVectors) -> (u64, u32) {
    let graph = segment.report().graph.unwrap();
    (graph.inherited, graph.generation)
}

fn recall_at(segment: &SegmentVectors, queries: &[PreparedQuery], ef: usize) -> f64 {
    let params = SearchParams { ef: Some(ef), ..SearchParams::default() };
    let of = |query| {
        let (expected, _) = segment.search(query, 10, &SearchParams::EXACT, None);
        recall(&segment.search(query, 10, &params, None).0, &expected)
    };
    queries.iter().map(of).sum::<f64>() / queries.len() as f64
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

type IsDeleted = fn(u32) -> bool;

/// Deleted rows: some anywhere, or the first.
fn deletions() -> [(&'static str, IsDeleted); 4] {
    [
        ("none", |_| false),
        ("a quarter, scattered", |row| row.wrapping_mul(2_654_435_761) >> 30 == 0),
        ("the first quarter", |row| row < 1_500),
        ("every fourth", |row| row % 4 == 1),
    ]
}

#[test]
fn a_grown_graph_finds_as_much_as_a_built_one() {
    // With one thread: several build a graph a little differently each time. On average of the distances, since graphs of
    // other vectors of the same kind differ by up to 0.012 at the narrow beam.
    let mut all = Vec::new();
    for (deleted, gone) in deletions() {
        for others in [true, false] {
            let mut behind = [Vec::new(), Vec::new()];
            for distance in DISTANCES {
                let queries = queries(distance, 200);
                let old = Old::new(distance, clustered(distance, 6_000, DIMENSION, 1), None, &params(1));
                let old = old.without(gone);
                let others = if others { clustered(distance, 2_000, DIMENSION, 3) } else { Vec::new() };
                let grown = old.grown(distance, &others, &params(1));
                let built = old.built(distance, &others, &params(1));
                assert_eq!(made(&grown), (old.live.len(), 1), "{deleted}");
                assert_eq!(made(&built), (0, 0));
                for (behind, ef) in behind.iter_mut().zip([16, 48]) {
                    behind.push(recall_at(&built, &queries, ef) - recall_at(&grown, &queries, ef));
                }
            }
            for behind in behind {
                assert!(mean(&behind) <= 0.01, "{deleted}: {behind:?} less than built");
                all.extend(behind);
            }
        }
    }
    assert!(mean(&all) < 0.005, "{all:?} less than built, on average of all");
}

#[test]
fn a_cluster_that_is_gone_whole_costs_its_neighbours_no_recall() {
    // On average of several, as above.
    let distance = Distance::Cosine;
    let asked = queries(distance, 200);
    let mut behind = Vec::new();
    for (seed, corner) in (1..).zip(asked.iter().step_by(7).take(6)) {
        let vectors = clustered(distance, 6_000, DIMENSION, 10 * seed);
        let old = Old::new(distance, vectors, None, &params(1));
        let (ranked, _) = old.segment.search(corner, 1_500, &SearchParams::EXACT, None);
        let gone: RoaringBitmap = ranked.iter().map(|hit| hit.row).collect();
        let old = old.without(|row| gone.contains(row));
        let (grown, built) = (old.grown(distance, &[], &params(1)), old.built(distance, &[], &params(1)));
        assert_eq!(made(&grown).0, 4_500);
        behind.push(recall_at(&built, &asked, 32) - recall_at(&grown, &asked, 32));
    }
    assert!(mean(&behind) <= 0.01, "{behind:?} less than built");
}

#[test]
fn rows_without_a_vector_keep_their_places() {
    let distance = Distance::Euclidean;
    let present: RoaringBitmap = (0..5_000).filter(|row| row % 3 != 0).collect();
    let vectors = clustered(distance, 5_000, DIMENSION, 1);
    let old = Old::new(distance, vectors, Some(present.clone()), &params(1)).without(|row| row % 7 == 0);
    let kept = old.live.iter().filter(|row| present.contains(*row)).count() as u64;
    let others = clustered(distance, 1_000, DIMENSION, 3);
    let grown = old.grown(distance, &others, &params(1));
    assert_eq!(made(&grown), (kept, 1));
    assert_eq!(grown.len() as u64, kept + 1_000);
    assert!(mean_recall(&grown, &queries(distance, 100), None).0 > 0.98);
}

#[test]
fn quantization_may_change_on_the_way_and_links_may_not() {
    let distance = Distance::Cosine;
    let old = Old::new(distance, clustered(distance, 3_000, DIMENSION, 1), None, &params(2));
    let others = clustered(distance, 500, DIMENSION, 3);
    for quantization in [Quantization::None, Quantization::Int8, Quantization::Binary] {
        let grown = old.grown(distance, &others, &VectorsParams { quantization, ..params(2) });
        assert_eq!(made(&grown).0, 3_000, "{quantization:?}");
        assert!(mean_recall(&grown, &queries(distance, 100), None).0 > 0.97, "{quantization:?}");
    }
    for other in [VectorsParams { m: 12, ..params(2) }, VectorsParams { ef_construction: 100, ..params(2) }] {
        assert_eq!(made(&old.grown(distance, &others, &other)), (0, 0));
    }
}

#[test]
fn what_is_small_or_full_of_holes_is_built_from_nothing() {
    let distance = Distance::Dot;
    let old = || Old::new(distance, clustered(distance, 3_000, DIMENSION, 1), None, &params(2));
    assert_eq!(made(&old().grown(distance, &clustered(distance, 3_100, DIMENSION, 3), &params(2))).0, 0);
    let holey = old().without(|row| row % 3 == 0);
    assert_eq!(made(&holey.grown(distance, &[], &params(2))).0, 0);
    // Rows that are not the first of the new column: the graph would be about others.
    let (mut wrong, others) = (old(), clustered(distance, 100, DIMENSION, 3));
    let (vectors, _) = wrong.merged(&others);
    wrong.live.insert(5_000);
    wrong.live.remove(3);
    let ancestor = Ancestor { vectors: &wrong.segment, live: &wrong.live };
    let mut present: RoaringBitmap = (0..3_100).collect();
    present.remove(7);
    let column = VectorColumn { dimension: DIMENSION, data: &vectors, present: Some(&present) };
    let never = AtomicBool::new(false);
    let index = grow_index(&column, Some(&ancestor), distance, &params(2), &never, &|_| ()).unwrap().unwrap();
    let mut bytes = Vec::new();
    index.write_to(&mut bytes).unwrap();
    assert_eq!(made(&open(distance, &vectors, Some(present), Some(bytes)).unwrap()).0, 0);
}

#[test]
fn many_generations_stay_good_and_then_one_is_built() {
    let distance = Distance::Cosine;
    let mut rng = StdRng::seed_from_u64(11);
    let mut old = Old::new(distance, clustered(distance, 4_000, DIMENSION, 1), None, &params(2));
    let queries = queries(distance, 200);
    for round in 1..=9 {
        let gone: RoaringBitmap = (0..old.live.len() as u32).filter(|_| rng.random_bool(0.25)).collect();
        old = old.without(|row| gone.contains(row));
        let others = clustered(distance, 1_000, DIMENSION, 100 + round);
        let grown = old.grown(distance, &others, &params(2));
        let (inherited, generation) = made(&grown);
        if round == 9 {
            assert_eq!((inherited, generation), (0, 0));
            return;
        }
        assert_eq!((inherited, generation), (old.live.len(), round as u32));
        let built = old.built(distance, &others, &params(2));
        let recalls = (recall_at(&grown, &queries, 24), recall_at(&built, &queries, 24));
        println!("generation {generation}: recall {:.4}, built {:.4}", recalls.0, recalls.1);
        assert!(recalls.0 >= recalls.1 - 0.01, "generation {generation}: {recalls:?}");
        let (vectors, _) = old.merged(&others);
        let live = (0..(vectors.len() / DIMENSION) as u32).collect();
        old = Old { vectors, present: None, segment: grown, live };
    }
}

#[test]
fn one_thread_grows_the_same_bytes() {
    let distance = Distance::Euclidean;
    let old = Old::new(distance, clustered(distance, 2_000, DIMENSION, 1), None, &params(1));
    let old = old.without(|row| row % 6 == 0);
    let (vectors, _) = old.merged(&clustered(distance, 500, DIMENSION, 3));
    let bytes = || {
        let column = VectorColumn { dimension: DIMENSION, data: &vectors, present: None };
        let ancestor = Ancestor { vectors: &old.segment, live: &old.live };
        let never = AtomicBool::new(false);
        let index =
            grow_index(&column, Some(&ancestor), distance, &params(1), &never, &|_| ()).unwrap().unwrap();
        let mut bytes = Vec::new();
        index.write_to(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(bytes(), bytes());
}
