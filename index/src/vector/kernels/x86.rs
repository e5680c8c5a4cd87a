//! Kernels for x86-64 with AVX-512 VNNI (Intel since 2019, AMD since 2022): 64 components an instruction.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes. Codes are signed, so 128 is added to each (by flipping its top bit) and
//! 128 times the sum of the query is taken off again.
#![allow(
    unsafe_code,
    reason = "SIMD loads and calls into functions compiled for instructions found at run time"
)]

use std::arch::x86_64::{
    __m128, __m128i, __m256i, __m512, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_add_ps, _mm_cvtepi32_ps,
    _mm_mul_ps, _mm_prefetch, _mm_set1_ps, _mm_storeu_ps, _mm256_add_epi32, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_castsi512_si256, _mm512_cvtepi8_epi16, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32,
    _mm512_extracti64x4_epi64, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_sub_ps,
    _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8, _mm512_permute_ps, _mm512_reduce_add_epi32,
    _mm512_set1_epi8, _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_srli_epi16, _mm512_storeu_ps,
    _mm512_sub_epi8, _mm512_sub_epi16, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};
use std::sync::LazyLock;

use crate::vector::distance::CodeKernel;
use crate::vector::kernels::{
    BitLayout, CACHE_LINE, Codes, Int4Weights, bit_sums_by_planes, butterflies, int4_code,
    int4_distances_by_pairs,
};

/// Components of one register.
const LANES: usize = 64;
/// Floats of one register.
const FLOATS: usize = 16;
/// Nodes whose sums are reduced together.
const FOUR: usize = 4;
/// Largest dimension whose sums fit 32 bits with the 128 added: 255 x 127 x 65,535 does.
const MAX_DIMENSION: usize = 65_535;

static HAS_VNNI: LazyLock<bool> = LazyLock::new(|| {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
});

static HAS_AVX2: LazyLock<bool> = LazyLock::new(|| is_x86_feature_detected!("avx2"));

static HAS_POPCNT: LazyLock<bool> = LazyLock::new(|| is_x86_feature_detected!("popcnt"));

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

/// Whether [`bit_sums`] has a use for components alone.
pub(super) fn has_wide_sums() -> bool {
    *HAS_VNNI
}

/// Appends the sums over set bits; false where this machine has no kernel here.
#[inline]
pub(super) fn bit_sums(
    records: &[u64],
    layout: BitLayout,
    components: &[i8],
    planes: &[u64],
    nodes: &[u32],
    out: &mut Vec<f32>,
) -> bool {
    if *HAS_VNNI {
        // SAFETY: the machine has the instructions that the function was compiled for.
        unsafe { masked_sums(records, layout, components, nodes, out) };
        return true;
    }
    if *HAS_POPCNT {
        // SAFETY: as above.
        unsafe { counted_sums(records, layout, planes, nodes, out) };
        return true;
    }
    false
}

/// A word of a code is the mask of the query's components that are summed.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn masked_sums(records: &[u64], layout: BitLayout, components: &[i8], nodes: &[u32], out: &mut Vec<f32>) {
    let (components, _) = components.as_chunks::<LANES>();
    // Of a known number of words the query stays in registers.
    match layout.words {
        2 => masked_sums_of::<2>(records, layout, components, nodes, out),
        4 => masked_sums_of::<4>(records, layout, components, nodes, out),
        6 => masked_sums_of::<6>(records, layout, components, nodes, out),
        8 => masked_sums_of::<8>(records, layout, components, nodes, out),
        12 => masked_sums_of::<12>(records, layout, components, nodes, out),
        16 => masked_sums_of::<16>(records, layout, components, nodes, out),
        24 => masked_sums_of::<24>(records, layout, components, nodes, out),
        _ => {
            let ones = _mm512_set1_epi8(1);
            for node in nodes {
                let mut sum = _mm512_setzero_si512();
                for (word, components) in layout.bits(records, *node).iter().zip(components) {
                    sum = _mm512_dpbusd_epi32(sum, _mm512_maskz_mov_epi8(*word, ones), load(components));
                }
                out.push(_mm512_reduce_add_epi32(sum) as f32);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn masked_sums_of<const WORDS: usize>(
    records: &[u64],
    layout: BitLayout,
    components: &[[i8; LANES]],
    nodes: &[u32],
    out: &mut Vec<f32>,
) {
    let ones = _mm512_set1_epi8(1);
    let mut query = [_mm512_setzero_si512(); WORDS];
    for (register, components) in query.iter_mut().zip(components) {
        *register = load(components);
    }
    let bits = |node: u32| layout.bits(records, node).first_chunk::<WORDS>().unwrap_or(&[0; WORDS]);
    // Loops of their own: closures would not be compiled into functions for these instructions.
    out.resize(nodes.len(), 0.0);
    let (fours, rest) = nodes.as_chunks::<FOUR>();
    let (fours_out, rest_out) = out.as_chunks_mut::<FOUR>();
    for (nodes, out) in fours.iter().zip(fours_out) {
        let mut sums = [_mm512_setzero_si512(); FOUR];
        for (sum, node) in sums.iter_mut().zip(nodes) {
            let bits = bits(*node);
            for at in 0..WORDS {
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_maskz_mov_epi8(bits[at], ones), query[at]);
            }
        }
        store(_mm_cvtepi32_ps(reduce_four(sums)), out);
    }
    for (node, out) in rest.iter().zip(rest_out) {
        let (bits, mut sum) = (bits(*node), _mm512_setzero_si512());
        for at in 0..WORDS {
            sum = _mm512_dpbusd_epi32(sum, _mm512_maskz_mov_epi8(bits[at], ones), query[at]);
        }
        *out = _mm512_reduce_add_epi32(sum) as f32;
    }
}

/// Distances by four-bit codes; false where this machine has no kernel here.
#[inline]
pub(super) fn int4_distances(
    codes: &[u8],
    components: &[i8],
    weights: Int4Weights,
    nodes: &[u32],
    out: &mut [f32],
) -> bool {
    if *HAS_VNNI {
        let (components, _) = components.as_chunks::<LANES>();
        let (components, _) = components.as_chunks::<2>();
        if weights.square == 0.0 {
            // SAFETY: the machine has the instructions that the function was compiled for.
            unsafe { half_bytes::<false>(codes, components, weights, nodes, out) };
        } else {
            // SAFETY: as above.
            unsafe { half_bytes::<true>(codes, components, weights, nodes, out) };
        }
        return true;
    }
    if *HAS_AVX2 {
        // SAFETY: as above.
        unsafe { half_bytes_of_pairs(codes, components, weights, nodes, out) };
        return true;
    }
    false
}

/// Both halves of 64 bytes with the components that they belong to, four nodes at once so that the query is loaded for all.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn half_bytes<const SQUARES: bool>(
    codes: &[u8],
    components: &[[[i8; LANES]; 2]],
    weights: Int4Weights,
    nodes: &[u32],
    out: &mut [f32],
) {
    let stride = components.len() * LANES;
    let (low_half, sixteen) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
    for (nodes, out) in nodes.chunks(FOUR).zip(out.chunks_mut(FOUR)) {
        let mut rows = [&[][..]; FOUR];
        for (row, node) in rows.iter_mut().zip(nodes) {
            *row = int4_code(codes, stride, *node).as_chunks::<LANES>().0;
        }
        let mut products = [_mm512_setzero_si512(); FOUR];
        let mut squares = [_mm512_setzero_si512(); FOUR];
        for (at, [for_low, for_high]) in components.iter().enumerate() {
            let (for_low, for_high) = (load(for_low), load(for_high));
            for ((row, product), square) in rows.iter().zip(&mut products).zip(&mut squares) {
                let Some(bytes) = row.get(at) else { continue };
                let bytes = load_bytes(bytes);
                let low = _mm512_and_si512(bytes, low_half);
                // Shifts exist for wider numbers only; what comes in from the byte above is masked away.
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low_half);
                *product = _mm512_dpbusd_epi32(*product, low, for_low);
                *product = _mm512_dpbusd_epi32(*product, high, for_high);
                if SQUARES {
                    *square = _mm512_dpbusd_epi32(*square, low, _mm512_sub_epi8(low, sixteen));
                    *square = _mm512_dpbusd_epi32(*square, high, _mm512_sub_epi8(high, sixteen));
                }
            }
        }
        let sums = _mm_cvtepi32_ps(reduce_four(products));
        let scaled = _mm_mul_ps(_mm_set1_ps(weights.product), sums);
        let mut distances = _mm_add_ps(_mm_set1_ps(weights.constant), scaled);
        if SQUARES {
            let sums = _mm_cvtepi32_ps(reduce_four(squares));
            distances = _mm_add_ps(distances, _mm_mul_ps(_mm_set1_ps(weights.square), sums));
        }
        let mut four = [0.0; FOUR];
        store(distances, &mut four);
        out.copy_from_slice(four.get(..out.len()).unwrap_or_default());
    }
}

/// The portable way, compiled for registers of 32 bytes.
#[target_feature(enable = "avx2")]
fn half_bytes_of_pairs(
    codes: &[u8],
    components: &[i8],
    weights: Int4Weights,
    nodes: &[u32],
    out: &mut [f32],
) {
    int4_distances_by_pairs(codes, components, weights, nodes, out);
}

/// The Walsh-Hadamard transform; false where this machine or so few components have no kernel here.
pub(super) fn hadamard(block: &mut [f32]) -> bool {
    if !*HAS_VNNI || block.len() < FLOATS {
        return false;
    }
    // SAFETY: the machine has the instructions that the function was compiled for.
    unsafe { hadamard_of_registers(block) };
    true
}

/// The first rounds mix the components within a register, the others registers.
#[target_feature(enable = "avx512f")]
fn hadamard_of_registers(block: &mut [f32]) {
    let turned = |lane_bit: u16| {
        // Lanes that are subtracted: the upper ones of each pair.
        (0..FLOATS as u16).filter(|lane| lane & lane_bit != 0).fold(0, |mask, lane| mask | 1 << lane)
    };
    let masks: [u16; 4] = [turned(1), turned(2), turned(4), turned(8)];
    let (registers, _) = block.as_chunks_mut::<FLOATS>();
    for floats in registers {
        let mut x = load_floats(floats);
        let swapped = _mm512_permute_ps::<0b10_11_00_01>(x);
        x = _mm512_mask_sub_ps(_mm512_add_ps(swapped, x), masks[0], swapped, x);
        let swapped = _mm512_permute_ps::<0b01_00_11_10>(x);
        x = _mm512_mask_sub_ps(_mm512_add_ps(swapped, x), masks[1], swapped, x);
        let swapped = _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x);
        x = _mm512_mask_sub_ps(_mm512_add_ps(swapped, x), masks[2], swapped, x);
        let swapped = _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x);
        x = _mm512_mask_sub_ps(_mm512_add_ps(swapped, x), masks[3], swapped, x);
        store_floats(x, floats);
    }
    butterflies(block, FLOATS);
}

/// The sums of the lanes of four registers: together that takes a third of the instructions.
#[target_feature(enable = "avx512f")]
#[inline]
fn reduce_four([a, b, c, d]: [__m512i; FOUR]) -> __m128i {
    // Lanes by turns: a b a b, then a b c d.
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

/// The portable way, with the instruction that counts bits.
#[target_feature(enable = "popcnt")]
fn counted_sums(records: &[u64], layout: BitLayout, planes: &[u64], nodes: &[u32], out: &mut Vec<f32>) {
    bit_sums_by_planes(records, layout, planes, nodes, out);
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

#[target_feature(enable = "avx512f")]
#[inline]
fn load_bytes(bytes: &[u8; LANES]) -> __m512i {
    // SAFETY: 64 bytes lie behind the reference; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_floats(floats: &[f32; FLOATS]) -> __m512 {
    // SAFETY: sixteen floats lie behind the reference; the load needs no alignment.
    unsafe { _mm512_loadu_ps(floats.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_floats(floats: __m512, out: &mut [f32; FLOATS]) {
    // SAFETY: sixteen floats lie behind the reference; the store needs no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), floats) }
}

#[inline]
fn store(floats: __m128, out: &mut [f32; FOUR]) {
    // SAFETY: four floats lie behind the reference; the store needs no alignment, and every x86-64 has it.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), floats) }
}
