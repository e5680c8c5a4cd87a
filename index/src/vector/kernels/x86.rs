//! Kernels for x86-64 with AVX-512 VNNI (Intel since 2019, AMD since 2022): 64 components an instruction.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes. Codes are signed, so 128 is added to each (by flipping its top bit) and
//! 128 times the sum of the query is taken off again.
#![allow(
    unsafe_code,
    reason = "SIMD loads and calls into functions compiled for instructions found at run time"
)]

use std::arch::x86_64::{
    __m256i, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm512_add_epi32, _mm512_cvtepi8_epi16,
    _mm512_dpbusd_epi32, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
    _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_sub_epi16, _mm512_xor_si512,
};
use std::sync::LazyLock;

use crate::vector::distance::CodeKernel;
use crate::vector::kernels::{CACHE_LINE, Codes};

/// Components of one register.
const LANES: usize = 64;
/// Largest dimension whose sums fit 32 bits with the 128 added: 255 x 127 x 65,535 does.
const MAX_DIMENSION: usize = 65_535;

static HAS_VNNI: LazyLock<bool> = LazyLock::new(|| {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
});

/// Appends the distances; false where this machine or these codes have no kernel here.
#[inline]
pub(super) fn code_distances(codes: Codes<'_>, from: &[i8], nodes: &[u32], out: &mut Vec<f32>) -> bool {
    if !*HAS_VNNI || from.len() != codes.dimension || codes.dimension > MAX_DIMENSION {
        return false;
    }
    match codes.kernel {
        // SAFETY: the machine has the instructions that the function was compiled for.
        CodeKernel::Dot => unsafe { dots(codes, from, nodes, out) },
        // SAFETY: as above.
        CodeKernel::SquaredEuclidean => unsafe { squares(codes, from, nodes, out) },
    }
    true
}

/// Asks for the lines of `bytes` bytes from `start` on.
#[inline(always)]
pub(super) fn prefetch(start: *const i8, bytes: usize) {
    for offset in (0..bytes).step_by(CACHE_LINE) {
        // SAFETY: a prefetch is a hint about an address; it reads nothing and can't fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dots(codes: Codes<'_>, from: &[i8], nodes: &[u32], out: &mut Vec<f32>) {
    let flip = _mm512_set1_epi8(-128);
    let surplus = 128 * from.iter().map(|component| i32::from(*component)).sum::<i32>();
    let (from_whole, from_rest) = from.as_chunks::<LANES>();
    for &node in nodes {
        let code = codes.code(node);
        if code.len() != from.len() {
            out.push(f32::MAX);
            continue;
        }
        let (whole, rest) = code.as_chunks::<LANES>();
        let mut sums = [_mm512_setzero_si512(); 2];
        let (code_pairs, code_last) = whole.as_chunks::<2>();
        let (from_pairs, from_last) = from_whole.as_chunks::<2>();
        for ([c0, c1], [f0, f1]) in code_pairs.iter().zip(from_pairs) {
            sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_xor_si512(load(c0), flip), load(f0));
            sums[1] = _mm512_dpbusd_epi32(sums[1], _mm512_xor_si512(load(c1), flip), load(f1));
        }
        for (c, f) in code_last.iter().zip(from_last) {
            sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_xor_si512(load(c), flip), load(f));
        }
        if !rest.is_empty() {
            // Lanes behind the end are 0 in the query, whatever the flip makes of the code's.
            let code = _mm512_xor_si512(load_rest(rest), flip);
            sums[1] = _mm512_dpbusd_epi32(sums[1], code, load_rest(from_rest));
        }
        let product = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1])).wrapping_sub(surplus);
        out.push(-(product as f32));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn squares(codes: Codes<'_>, from: &[i8], nodes: &[u32], out: &mut Vec<f32>) {
    const HALF: usize = LANES / 2;
    let (from_whole, from_rest) = from.as_chunks::<HALF>();
    for &node in nodes {
        let code = codes.code(node);
        if code.len() != from.len() {
            out.push(f32::MAX);
            continue;
        }
        let (whole, rest) = code.as_chunks::<HALF>();
        let mut sum = _mm512_setzero_si512();
        for (c, f) in whole.iter().zip(from_whole) {
            // Differences of codes need nine bits.
            let difference =
                _mm512_sub_epi16(_mm512_cvtepi8_epi16(load_half(c)), _mm512_cvtepi8_epi16(load_half(f)));
            sum = _mm512_dpwssd_epi32(sum, difference, difference);
        }
        let mut square = i64::from(_mm512_reduce_add_epi32(sum) as u32);
        for (c, f) in rest.iter().zip(from_rest) {
            let difference = i64::from(*c) - i64::from(*f);
            square += difference * difference;
        }
        out.push(square as f32);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(components: &[i8; LANES]) -> __m512i {
    // SAFETY: 64 bytes lie behind the reference; the load needs no alignment.
    unsafe { _mm512_loadu_si512(components.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_half(components: &[i8; LANES / 2]) -> __m256i {
    // SAFETY: 32 bytes lie behind the reference; the load needs no alignment.
    unsafe { _mm256_loadu_si256(components.as_ptr().cast()) }
}

/// Fewer than 64 components, zeros behind.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load_rest(components: &[i8]) -> __m512i {
    let mask = (1_u64 << components.len().min(LANES - 1)) - 1;
    // SAFETY: lanes whose bit is not set are not read, and there are bits for the components only.
    unsafe { _mm512_maskz_loadu_epi8(mask, components.as_ptr()) }
}
