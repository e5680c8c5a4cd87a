//! How near two vectors are: the SIMD kernels and the meaning of a score.
//!
//! Kernels come from `numkong`, which picks the instruction set of the machine at run time. This file is the only one
//! that calls it. Inside the graph *smaller is nearer* ([`float_distance`], [`code_distance`]); towards the caller
//! *larger is nearer* ([`score`]). It must not know graphs, files or rows.

use numkong::{Dot, Euclidean};

use crate::schema::Distance;

/// Longest vectors whose norm still counts as zero under cosine.
const SMALLEST_NORM: f64 = 1e-30;

/// How two codes are compared; smaller is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeKernel {
    /// The negated inner product.
    Dot,
    /// The squared Euclidean distance.
    SquaredEuclidean,
}

impl CodeKernel {
    /// The kernel that orders codes as `distance` orders vectors.
    pub(crate) fn of(distance: Distance) -> Self {
        match distance {
            Distance::Cosine | Distance::Dot => Self::Dot,
            Distance::Euclidean => Self::SquaredEuclidean,
        }
    }
}

/// Inner product, accumulated in f64; 0 where the lengths differ.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    f32::dot(a, b).unwrap_or(0.0)
}

/// Squared Euclidean distance, accumulated in f64; infinite where the lengths differ.
#[inline]
pub(crate) fn squared_euclidean(a: &[f32], b: &[f32]) -> f64 {
    f32::sqeuclidean(a, b).unwrap_or(f64::INFINITY)
}

/// Distance of two int8 codes, in units of the code; farthest where the lengths differ.
///
/// Codes lie in -127..=127, so that the sums of 65,535 components fit the kernels' 32 bits.
#[inline]
pub(crate) fn code_distance(kernel: CodeKernel, a: &[i8], b: &[i8]) -> f32 {
    match kernel {
        CodeKernel::Dot => i8::dot(a, b).map_or(f32::MAX, |product| -(product as f32)),
        CodeKernel::SquaredEuclidean => i8::sqeuclidean(a, b).map_or(f32::MAX, |square| square as f32),
    }
}

/// Distance of two vectors for the walk: the negated product, or the squared Euclidean distance. Finite.
#[inline]
pub(crate) fn float_distance(distance: Distance, a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::MAX;
    }
    to_finite(match distance {
        Distance::Cosine | Distance::Dot => -dot(a, b),
        Distance::Euclidean => squared_euclidean(a, b),
    })
}

/// The score a caller sees, larger is nearer: the product (under cosine, of unit vectors: -1 to 1), or the negated
/// Euclidean distance. Finite.
#[inline]
pub(crate) fn score(distance: Distance, a: &[f32], b: &[f32]) -> f32 {
    match distance {
        // Rounding may carry the product of two unit vectors a little over 1.
        Distance::Cosine => dot(a, b).clamp(-1.0, 1.0) as f32,
        Distance::Dot => to_finite(dot(a, b)),
        Distance::Euclidean => to_finite(-squared_euclidean(a, b).sqrt()),
    }
}

/// The distance for the walk at which a caller sees this score.
pub(crate) fn of_score(distance: Distance, score: f32) -> f32 {
    match distance {
        Distance::Cosine | Distance::Dot => -score,
        Distance::Euclidean => score * score,
    }
}

/// The distance for the walk of a vector to itself; `None` under dot, where it differs and others may be nearer.
pub(crate) fn to_itself(distance: Distance) -> Option<f32> {
    match distance {
        Distance::Cosine => Some(-1.0),
        Distance::Euclidean => Some(0.0),
        Distance::Dot => None,
    }
}

/// Checks that every component is finite and, under cosine, scales the vector to unit length in place.
///
/// # Errors
/// A message for the user: the first component that is not finite, or a zero vector under cosine.
pub fn prepare_vector(distance: Distance, vector: &mut [f32]) -> std::result::Result<(), String> {
    // Asked of all at once first: a loop that may end early is not done for many components at a time.
    let all_finite = vector.iter().fold(true, |all, component| all & component.is_finite());
    let bad = if all_finite { None } else { vector.iter().position(|component| !component.is_finite()) };
    if let Some(at) = bad {
        let value = vector.get(at).copied().unwrap_or_default();
        return Err(format!("component {at} is {value}, expected a finite number"));
    }
    if distance != Distance::Cosine {
        return Ok(());
    }
    let norm = dot(vector, vector).sqrt();
    if norm < SMALLEST_NORM {
        return Err("a zero vector has no direction, which cosine compares".to_owned());
    }
    let inverse = norm.recip();
    for component in vector.iter_mut() {
        *component = (f64::from(*component) * inverse) as f32;
    }
    Ok(())
}

/// The nearest f32 that is finite.
#[inline]
fn to_finite(value: f64) -> f32 {
    value.clamp(-f64::from(f32::MAX), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const LENGTHS: [usize; 12] = [1, 2, 3, 7, 8, 31, 63, 64, 65, 100, 384, 1_537];

    #[test]
    fn float_kernels_agree_with_plain_loops() {
        let mut rng = StdRng::seed_from_u64(1);
        for length in LENGTHS {
            let a: Vec<f32> = (0..length).map(|_| rng.random_range(-2.0..2.0)).collect();
            let b: Vec<f32> = (0..length).map(|_| rng.random_range(-2.0..2.0)).collect();
            let product: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            let square: f64 = a.iter().zip(&b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
            assert!((dot(&a, &b) - product).abs() < 1e-6 * length as f64, "dot of {length}");
            assert!((squared_euclidean(&a, &b) - square).abs() < 1e-6 * length as f64, "square of {length}");
            assert!((f64::from(score(Distance::Euclidean, &a, &b)) + square.sqrt()).abs() < 1e-3);
            assert!((f64::from(score(Distance::Dot, &a, &b)) - product).abs() < 1e-3);
        }
    }

    #[test]
    fn code_kernels_are_exact_to_the_ends_of_their_range() {
        let mut rng = StdRng::seed_from_u64(2);
        for length in LENGTHS {
            let a: Vec<i8> = (0..length).map(|_| rng.random_range(-127..=127)).collect();
            let b: Vec<i8> = (0..length).map(|_| rng.random_range(-127..=127)).collect();
            let product: i64 = a.iter().zip(&b).map(|(x, y)| i64::from(*x) * i64::from(*y)).sum();
            let square: i64 = a.iter().zip(&b).map(|(x, y)| (i64::from(*x) - i64::from(*y)).pow(2)).sum();
            assert_eq!(code_distance(CodeKernel::Dot, &a, &b), -(product as f32));
            assert_eq!(code_distance(CodeKernel::SquaredEuclidean, &a, &b), square as f32);
        }
        let (low, high) = (vec![-127_i8; 65_535], vec![127_i8; 65_535]);
        assert_eq!(code_distance(CodeKernel::Dot, &low, &high), (127_i64 * 127 * 65_535) as f32);
        assert_eq!(code_distance(CodeKernel::SquaredEuclidean, &low, &high), (254_i64 * 254 * 65_535) as f32);
    }

    #[test]
    fn huge_components_give_finite_scores() {
        let (a, b) = (vec![f32::MAX; 8], vec![f32::MIN; 8]);
        for distance in [Distance::Dot, Distance::Euclidean] {
            assert!(score(distance, &a, &b).is_finite());
            assert!(float_distance(distance, &a, &b).is_finite());
        }
        let mut unit = a;
        prepare_vector(Distance::Cosine, &mut unit).unwrap();
        assert!((score(Distance::Cosine, &unit, &unit) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn vectors_that_cannot_be_compared_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let message = prepare_vector(Distance::Dot, &mut [0.0, bad]).unwrap_err();
            assert!(message.contains("component 1"), "{message}");
        }
        assert!(prepare_vector(Distance::Cosine, &mut [0.0; 4]).unwrap_err().contains("zero vector"));
        assert!(prepare_vector(Distance::Euclidean, &mut [0.0; 4]).is_ok());
        let mut vector = [3.0, 4.0];
        prepare_vector(Distance::Cosine, &mut vector).unwrap();
        assert_eq!(vector, [0.6, 0.8]);
    }
}
