//! The innermost loops: distances of one query code to many codes, the transform of rotations, and fetching what will be
//! read next.
//!
//! One call serves all neighbours of an expanded node, so that the choice of instructions is made once for all of them and
//! the query stays in registers. Where this machine has no kernel of our own, the library's kernels (see
//! [`distance`](crate::vector::distance)) do it pair by pair; both give the same integers.
//!
//! This folder holds the only `unsafe` of the vector code: calls of functions compiled for instructions that were found
//! on this machine, loads from arrays of known length, and prefetches, which touch nothing. It must not know graphs.

#[cfg(target_arch = "x86_64")]
mod x86;

use crate::vector::distance::{CodeKernel, code_distance};

/// Bytes that the memory system fetches at once.
const CACHE_LINE: usize = 64;

/// Codes of all nodes, and how they are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes<'a> {
    pub(crate) kernel: CodeKernel,
    pub(crate) dimension: usize,
    /// Nodes x dimension.
    pub(crate) codes: &'a [i8],
}

impl<'a> Codes<'a> {
    /// Code of a node; empty when there is no such node.
    #[inline]
    pub(crate) fn code(&self, node: u32) -> &'a [i8] {
        let start = node as usize * self.dimension;
        self.codes.get(start..start + self.dimension).unwrap_or_default()
    }
}

/// Distances of a code to those of `nodes`, in their order, in units of the code; smaller is nearer. A node that isn't
/// there is farthest. `out` is emptied first.
#[inline]
pub(crate) fn code_distances(codes: Codes<'_>, from: &[i8], nodes: &[u32], out: &mut Vec<f32>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    if x86::code_distances(codes, from, nodes, out) {
        return;
    }
    out.extend(nodes.iter().map(|node| code_distance(codes.kernel, from, codes.code(*node))));
}

/// Whether [`bit_sums`] looks at planes on this machine.
pub(crate) fn needs_planes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return !x86::has_wide_sums();
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// Planes of a bit code's query: plane p of the word w, at `8 w + p`, has bit p of each component (two's complement).
pub(crate) fn bit_planes(components: &[i8], planes: &mut Vec<u64>) {
    planes.clear();
    for word in components.chunks(u64::BITS as usize) {
        planes.extend((0..8).map(|plane| {
            let bit = |(at, component): (usize, &i8)| u64::from(*component as u8 >> plane & 1) << at;
            word.iter().enumerate().map(bit).sum::<u64>()
        }));
    }
}

/// Where the bits of nodes lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BitLayout {
    /// Words of a node's bits.
    pub(crate) words: usize,
    /// Words from one node to the next.
    pub(crate) stride: usize,
}

impl BitLayout {
    /// The bits of a node; none when there is no such node.
    #[inline(always)]
    fn bits(self, records: &[u64], node: u32) -> &[u64] {
        let start = node as usize * self.stride;
        records.get(start..start + self.words).unwrap_or_default()
    }
}

/// For each of `nodes`: the sum of the query's `components` at the bits set in the node's code; 0 for a node that isn't
/// there. `planes` are those of the components. `out` is emptied first.
#[inline]
pub(crate) fn bit_sums(
    records: &[u64],
    layout: BitLayout,
    components: &[i8],
    planes: &[u64],
    nodes: &[u32],
    out: &mut Vec<f32>,
) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    if x86::bit_sums(records, layout, components, planes, nodes, out) {
        return;
    }
    bit_sums_by_planes(records, layout, planes, nodes, out);
}

/// The sum over set bits, plane by plane: `popcount` counts the components that have the plane's bit.
#[inline(always)]
fn bit_sums_by_planes(records: &[u64], layout: BitLayout, planes: &[u64], nodes: &[u32], out: &mut Vec<f32>) {
    let (planes, _) = planes.as_chunks::<8>();
    for &node in nodes {
        let code = layout.bits(records, node);
        let mut sum = 0_i32;
        for (word, planes) in code.iter().zip(planes) {
            for (plane, bits) in planes.iter().enumerate() {
                let count = (word & bits).count_ones() as i32;
                // The highest bit of a signed byte counts -128.
                sum += if plane == 7 { -(count << plane) } else { count << plane };
            }
        }
        out.push(sum as f32);
    }
}

/// Components of four-bit codes whose halves share 64 bytes.
pub(crate) const INT4_BLOCK: usize = 128;

/// How the sums over a four-bit code become a distance: `constant + product x <query, code> + square x <code, code - 16>`,
/// with codes as they are stored, 0 to 15.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int4Weights {
    pub(crate) constant: f32,
    pub(crate) product: f32,
    pub(crate) square: f32,
}

/// Distances to `nodes` into `out`, which has as many places. `codes` has half a byte a component of the query, see
/// [`Int4Codes`](crate::vector::int4::Int4Codes); a node that isn't there counts as one whose components are all 0.
#[inline]
pub(crate) fn int4_distances(
    codes: &[u8],
    components: &[i8],
    weights: Int4Weights,
    nodes: &[u32],
    out: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if x86::int4_distances(codes, components, weights, nodes, out) {
        return;
    }
    int4_distances_by_pairs(codes, components, weights, nodes, out);
}

/// The portable way.
#[inline(always)]
fn int4_distances_by_pairs(
    codes: &[u8],
    components: &[i8],
    weights: Int4Weights,
    nodes: &[u32],
    out: &mut [f32],
) {
    const HALF: usize = INT4_BLOCK / 2;
    let (components, _) = components.as_chunks::<INT4_BLOCK>();
    for (node, out) in nodes.iter().zip(out) {
        let (blocks, _) = int4_code(codes, components.len() * HALF, *node).as_chunks::<HALF>();
        let (mut product, mut square) = (0_i32, 0_i32);
        for (bytes, components) in blocks.iter().zip(components) {
            let (for_low, for_high) = components.split_at(HALF);
            for ((byte, a), b) in bytes.iter().zip(for_low).zip(for_high) {
                let (low, high) = (i16::from(byte & 15), i16::from(byte >> 4));
                product += i32::from(low * i16::from(*a)) + i32::from(high * i16::from(*b));
                square += i32::from(low * (low - 16)) + i32::from(high * (high - 16));
            }
        }
        *out = weights.of(product, square);
    }
}

/// The code of a node; none when there is no such node.
#[inline(always)]
fn int4_code(codes: &[u8], stride: usize, node: u32) -> &[u8] {
    let start = node as usize * stride;
    codes.get(start..start + stride).unwrap_or_default()
}

impl Int4Weights {
    #[inline(always)]
    fn of(self, product: i32, square: i32) -> f32 {
        self.constant + self.product * product as f32 + self.square * square as f32
    }
}

/// The Walsh-Hadamard transform of a power of two of components, scaled to keep lengths.
pub(crate) fn hadamard(block: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::hadamard(block) {
        return;
    }
    butterflies(block, 1);
}

/// The rounds of the transform that mix components `half` and more apart; then the scale.
#[inline(always)]
fn butterflies(block: &mut [f32], mut half: usize) {
    while half < block.len() {
        for pair in block.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (block.len() as f32).sqrt();
    block.iter_mut().for_each(|component| *component *= scale);
}

/// Asks the memory system for all lines of a slice. Changes nothing but the time of a later read.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(slice.as_ptr().cast(), size_of_val(slice));
    #[cfg(not(target_arch = "x86_64"))]
    {
        // No stable prefetch here: a read whose value nobody waits for starts the same fetch.
        let step = (CACHE_LINE / size_of::<T>().max(1)).max(1);
        for element in slice.iter().step_by(step) {
            std::hint::black_box(element);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn many_distances_are_those_of_pairs_at_every_length() {
        let mut rng = StdRng::seed_from_u64(3);
        for dimension in [1, 2, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 384, 1_000] {
            for extreme in [false, true] {
                let mut component = || {
                    if extreme { [-127, 127][rng.random_range(0..2)] } else { rng.random_range(-127..=127) }
                };
                let codes: Vec<i8> = (0..dimension * 9).map(|_| component()).collect();
                let from: Vec<i8> = (0..dimension).map(|_| component()).collect();
                let nodes = [8, 0, 3, 9, 4, u32::MAX, 1];
                for kernel in [CodeKernel::Dot, CodeKernel::SquaredEuclidean] {
                    let codes = Codes { kernel, dimension, codes: &codes };
                    let mut found = vec![1.0];
                    code_distances(codes, &from, &nodes, &mut found);
                    let expected: Vec<f32> =
                        nodes.iter().map(|node| code_distance(kernel, &from, codes.code(*node))).collect();
                    assert_eq!(found, expected, "{kernel:?} of {dimension}");
                }
            }
        }
    }

    #[test]
    fn sums_over_bits_are_exact_however_they_are_made() {
        let mut rng = StdRng::seed_from_u64(5);
        for (words, stride) in [(1, 1), (2, 4), (3, 4), (6, 8), (8, 9), (9, 9), (12, 16)] {
            let layout = BitLayout { words, stride };
            let records: Vec<u64> = (0..stride * 5).map(|_| rng.random()).collect();
            let components: Vec<i8> = (0..words * 64).map(|_| rng.random_range(-128..=127)).collect();
            let mut planes = Vec::new();
            bit_planes(&components, &mut planes);
            let nodes = [4, 0, 2, u32::MAX];
            let expected: Vec<f32> = nodes
                .iter()
                .map(|node| {
                    let code = records.get(*node as usize * stride..).unwrap_or_default();
                    let bit = |at: usize| code.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
                    (0..components.len()).filter(|at| bit(*at)).map(|at| f32::from(components[at])).sum()
                })
                .collect();
            let mut found = vec![1.0];
            bit_sums(&records, layout, &components, &planes, &nodes, &mut found);
            assert_eq!(found, expected);
            found.clear();
            bit_sums_by_planes(&records, layout, &planes, &nodes, &mut found);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn distances_by_half_bytes_are_exact_however_they_are_made() {
        let mut rng = StdRng::seed_from_u64(8);
        for blocks in [1, 2, 3, 6, 7, 12] {
            let stride = blocks * INT4_BLOCK / 2;
            let codes: Vec<u8> = (0..stride * 11).map(|_| rng.random()).collect();
            let components: Vec<i8> =
                (0..blocks * INT4_BLOCK).map(|_| rng.random_range(-127..=127)).collect();
            // Powers of two and whole numbers, so that every sum is exact.
            for square in [0.0, 0.5] {
                let weights = Int4Weights { constant: 3.0, product: -0.25, square };
                let nodes = [10, 0, 3, 7, 2, 9, u32::MAX];
                let expected: Vec<f32> = nodes
                    .iter()
                    .map(|node| {
                        let code = codes.get(*node as usize * stride..).unwrap_or_default();
                        let half = |at: usize| {
                            let byte = code.get(at / INT4_BLOCK * 64 + at % 64).copied().unwrap_or_default();
                            i32::from(if at % INT4_BLOCK < 64 { byte & 15 } else { byte >> 4 })
                        };
                        let sum =
                            |term: &dyn Fn(usize) -> i32| (0..components.len()).map(term).sum::<i32>() as f32;
                        let product = sum(&|at| half(at) * i32::from(components[at]));
                        3.0 - 0.25 * product + square * sum(&|at| half(at) * (half(at) - 16))
                    })
                    .collect();
                let mut found = vec![1.0; nodes.len()];
                int4_distances(&codes, &components, weights, &nodes, &mut found);
                assert_eq!(found, expected, "{blocks} blocks, {square}");
                int4_distances_by_pairs(&codes, &components, weights, &nodes, &mut found);
                assert_eq!(found, expected, "{blocks} blocks, {square}, by pairs");
            }
        }
    }

    #[test]
    fn the_transform_is_its_own_inverse_and_the_same_everywhere() {
        let mut rng = StdRng::seed_from_u64(9);
        for length in [1, 2, 8, 16, 32, 64, 256, 1_024] {
            let block: Vec<f32> = (0..length).map(|_| rng.random_range(-1.0..1.0)).collect();
            let (mut fast, mut plain) = (block.clone(), block.clone());
            hadamard(&mut fast);
            butterflies(&mut plain, 1);
            assert!(fast.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-5), "{length}");
            hadamard(&mut fast);
            assert!(fast.iter().zip(&block).all(|(a, b)| (a - b).abs() < 1e-5), "{length}");
        }
    }

    #[test]
    fn prefetching_takes_any_slice() {
        prefetch::<u8>(&[]);
        prefetch(&[1_u32; 100]);
        prefetch(&[0_i8; 65]);
    }
}
