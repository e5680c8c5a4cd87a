//! A random rotation, and vectors as they are seen from the middle of their column: what bit codes and four-bit codes are
//! made of.
//!
//! A rotation keeps all products and lengths and spreads what a vector says evenly over its components, so that each of
//! them may be rounded by the same step, and a query is made ready in the same way for both kinds of codes. It must not
//! know codes, graphs or files.

use std::cell::RefCell;

use crate::vector::codes::{Floats, nearest_byte, sample};
use crate::vector::distance::{self, CodeKernel};
use crate::vector::kernels;
use crate::vector::pass::Read;

/// Rounds of the rotation.
const ROUNDS: usize = 4;
/// Vectors whose mean and spread stand for those of the column...
const CENTRE_VECTORS: usize = 10_000;
/// ...of which so many are read before their memory is given back: they lie all over the column.
const CENTRE_PIECE: usize = 256;
/// Largest magnitude of a query's component as a byte.
const LARGEST: f32 = 127.0;

/// A random rotation that costs `d log d`: signs are flipped and a Walsh-Hadamard transform mixes a power of two of the
/// components, four times in turn from the front and from the back. The same for all columns of a dimension.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rotation {
    /// For each round, the sign bits that change.
    flips: Vec<u32>,
    dimension: usize,
}

impl Rotation {
    /// For vectors of a dimension.
    pub(crate) fn of(dimension: usize) -> Self {
        let flip = |at: usize| if sign(at / dimension.max(1), at % dimension.max(1)) { 1 << 31 } else { 0 };
        Self { flips: (0..ROUNDS * dimension).map(flip).collect(), dimension }
    }

    /// The mean of some vectors, rotated.
    pub(crate) fn mean<'a>(&self, vectors: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
        self.mean_and_spread(vectors).0
    }

    /// The mean of some vectors, rotated, and the root of the mean square of the components without it.
    fn mean_and_spread<'a>(&self, vectors: impl Iterator<Item = &'a [f32]>) -> (Vec<f32>, f32) {
        // Of huge components the sum of many has no room in an f32.
        let (mut sums, mut squares, mut count) = (vec![0.0_f64; self.dimension], 0.0_f64, 0_u32);
        for vector in vectors {
            for (sum, x) in sums.iter_mut().zip(vector) {
                let x = f64::from(*x);
                *sum += x;
                squares += x * x;
            }
            count += 1;
        }
        let count = f64::from(count.max(1));
        sums.iter_mut().for_each(|sum| *sum /= count);
        let rest = squares / count - sums.iter().map(|x| x * x).sum::<f64>();
        let mut mean: Vec<f32> = sums.iter().map(|x| *x as f32).collect();
        self.apply(&mut mean);
        (mean, (rest.max(0.0) / self.dimension.max(1) as f64).sqrt() as f32)
    }

    /// A vector as it is seen from `centre`, which is rotated; `rest` is emptied first.
    pub(crate) fn seen_from(&self, centre: &[f32], vector: &[f32], rest: &mut Vec<f32>) {
        rest.clear();
        rest.extend_from_slice(vector);
        self.apply(rest);
        rest.iter_mut().zip(centre).for_each(|(x, centre)| *x -= centre);
    }

    fn apply(&self, vector: &mut [f32]) {
        let block = 1_usize << self.dimension.max(1).ilog2();
        for (round, flips) in self.flips.chunks_exact(self.dimension.max(1)).enumerate() {
            for (component, flip) in vector.iter_mut().zip(flips) {
                *component = f32::from_bits(component.to_bits() ^ flip);
            }
            let start = if round % 2 == 0 { 0 } else { self.dimension - block };
            if let Some(block) = vector.get_mut(start..start + block) {
                kernels::hadamard(block);
            }
        }
    }
}

thread_local! {
    /// The rotation of the query before, which is most often that of the next.
    static ROTATION: RefCell<Rotation> = RefCell::default();
}

/// A vector, rotated.
pub(crate) fn rotated(vector: &[f32]) -> Vec<f32> {
    let mut rotated = vector.to_vec();
    ROTATION.with_borrow_mut(|rotation| {
        if rotation.dimension != vector.len() {
            *rotation = Rotation::of(vector.len());
        }
        rotation.apply(&mut rotated);
    });
    rotated
}

/// Whether a component changes its sign in a round: bits of a multiplicative hash.
fn sign(round: usize, at: usize) -> bool {
    let mixed = ((at * ROUNDS + round) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 63 == 1
}

/// From where the vectors of a column are seen.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) rotation: Rotation,
    /// Dimension components: the mean of the column, rotated.
    pub(crate) centre: Vec<f32>,
    /// Root of the mean square of a component as seen from there.
    pub(crate) spread: f32,
}

impl Frame {
    /// That of the vectors of the nodes, by a sample.
    pub(crate) fn of(floats: Floats<'_>, nodes: usize, read: &Read<'_>) -> Self {
        let rotation = Rotation::of(floats.dimension);
        let members = sample(nodes, CENTRE_VECTORS);
        let pieces = members.chunks(CENTRE_PIECE).inspect(|_| read(0..floats.rows()));
        let (centre, spread) = rotation.mean_and_spread(pieces.flatten().map(|node| floats.vector(*node)));
        Self { rotation, centre, spread }
    }
}

/// A query made ready for the codes of a column.
#[derive(Debug, Default, Clone)]
pub(crate) struct RotatedQuery {
    /// As bytes, in steps of `scale`; zeros behind the last.
    pub(crate) components: Vec<i8>,
    /// Sum of these.
    pub(crate) total: i32,
    /// What one step of a component is worth.
    pub(crate) scale: f32,
    /// Length of the query, seen from the centre where distances are.
    pub(crate) length: f32,
    /// What all distances have in common.
    pub(crate) base: f32,
    rotated: Vec<f32>,
}

impl RotatedQuery {
    /// Takes a [rotated] query of as many components as `centre` has, which is the column's; `places` bytes, at least as
    /// many, are filled.
    pub(crate) fn prepare(&mut self, kernel: CodeKernel, centre: &[f32], rotated: &[f32], places: usize) {
        self.rotated.clear();
        self.rotated.extend_from_slice(rotated);
        self.base = match kernel {
            CodeKernel::Dot => -product(&self.rotated, centre),
            CodeKernel::SquaredEuclidean => {
                self.rotated.iter_mut().zip(centre).for_each(|(x, centre)| *x -= centre);
                product(&self.rotated, &self.rotated)
            }
        };
        self.length = product(&self.rotated, &self.rotated).sqrt();
        // Without their sign, finite floats are ordered as their bits are, and integers are compared many at once.
        let reach = self.rotated.iter().fold(0, |reach: u32, x| reach.max(x.abs().to_bits()));
        let scale = f32::from_bits(reach) / LARGEST;
        self.scale = if scale.is_normal() { scale } else { 1.0 };
        let Self { rotated, components, scale, .. } = self;
        components.clear();
        components.extend(rotated.iter().map(|x| nearest_byte(x / *scale)));
        self.components.resize(places, 0);
        self.total = self.components.iter().map(|component| i32::from(*component)).sum();
    }
}

/// A product of two vectors, summed in f64.
pub(crate) fn product(a: &[f32], b: &[f32]) -> f32 {
    distance::dot(a, b) as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::schema::Distance;
    use crate::vector::distance::dot;
    use crate::vector::samples::{clustered, floats};

    #[test]
    fn a_rotation_keeps_lengths_and_products() {
        for dimension in [1, 2, 3, 7, 64, 100, 384] {
            let vectors = clustered(Distance::Euclidean, 2, dimension, 3);
            let (a, b) = vectors.split_at(dimension);
            let (mut a_rotated, mut b_rotated) = (a.to_vec(), b.to_vec());
            let rotation = Rotation::of(dimension);
            rotation.apply(&mut a_rotated);
            rotation.apply(&mut b_rotated);
            let scale = dot(a, a).max(dot(b, b));
            assert!((dot(a, b) - dot(&a_rotated, &b_rotated)).abs() < 1e-4 * scale, "{dimension}");
            assert!((dot(a, a) - dot(&a_rotated, &a_rotated)).abs() < 1e-4 * scale, "{dimension}");
        }
    }

    #[test]
    fn the_mean_of_many_huge_vectors_is_finite() {
        let huge = [1e36_f32; 64];
        let mean = Rotation::of(64).mean(std::iter::repeat_n(&huge[..], 2_000));
        assert!(mean.iter().all(|x| x.is_finite()));
        let length = mean.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((length / 8e36 - 1.0).abs() < 1e-3, "{length}");
    }

    #[test]
    fn the_spread_of_a_column_is_that_of_what_is_left_without_its_mean() {
        let (dimension, nodes) = (96, 3_000);
        let vectors = clustered(Distance::Euclidean, nodes, dimension, 5);
        let floats = floats(Distance::Euclidean, dimension, &vectors);
        let frame = Frame::of(floats, nodes, &|_| ());
        let mut rest = Vec::new();
        let squares = vectors.chunks(dimension).map(|vector| {
            frame.rotation.seen_from(&frame.centre, vector, &mut rest);
            dot(&rest, &rest)
        });
        let spread = (squares.sum::<f64>() / (nodes * dimension) as f64).sqrt();
        assert!((f64::from(frame.spread) / spread - 1.0).abs() < 1e-3, "{} {spread}", frame.spread);
    }
}
