//! Test vectors: clustered like embeddings, with neighbours worth finding.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::schema::Distance;
use crate::vector::codes::{Floats, RowMap};
use crate::vector::distance::prepare_vector;

/// `rows` x `dimension` components in clusters of uneven size, ready to be stored. Cosine: unit length; dot: lengths differ
/// by a factor of two; Euclidean: away from the origin.
pub(crate) fn clustered(distance: Distance, rows: usize, dimension: usize, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    // Centres are the same for every seed, so that queries of one seed lie among the rows of another.
    let mut centre_rng = StdRng::seed_from_u64(4_711);
    let clusters = 40;
    let centres: Vec<f32> = (0..clusters * dimension).map(|_| normal(&mut centre_rng)).collect();
    let mut vectors = Vec::with_capacity(rows * dimension);
    for _ in 0..rows {
        let cluster = (rng.random::<f32>().powi(2) * clusters as f32) as usize % clusters;
        let centre = &centres[cluster * dimension..(cluster + 1) * dimension];
        let mut vector: Vec<f32> = centre.iter().map(|x| x + 0.7 * normal(&mut rng)).collect();
        match distance {
            Distance::Cosine => {}
            Distance::Dot => {
                prepare_vector(Distance::Cosine, &mut vector).unwrap_or_default();
                let length = rng.random_range(1.0..2.0);
                vector.iter_mut().for_each(|x| *x *= length);
            }
            Distance::Euclidean => vector.iter_mut().for_each(|x| *x += 3.0),
        }
        prepare_vector(distance, &mut vector).unwrap_or_default();
        vectors.extend(vector);
    }
    vectors
}

/// A column of which every row has a vector.
pub(crate) fn floats(distance: Distance, dimension: usize, vectors: &[f32]) -> Floats<'_> {
    Floats { distance, dimension, vectors, rows: RowMap::Identity }
}

/// A normally distributed number (Irwin-Hall).
fn normal(rng: &mut StdRng) -> f32 {
    (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
}

/// Share of `expected` rows that `found` has, by score: what is equally near counts.
pub(crate) fn recall(found: &[crate::vector::Scored], expected: &[crate::vector::Scored]) -> f64 {
    let Some(last) = expected.last() else { return 1.0 };
    let hits = found.iter().filter(|hit| hit.score >= last.score).count().min(expected.len());
    hits as f64 / expected.len() as f64
}
