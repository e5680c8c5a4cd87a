//! What the graph of a column may be walked on, and which of it is: the same for a search and for the calibration that tells
//! how wide searches have to be.
//!
//! It must not know graphs or files.

use crate::vector::bits::{BitCodes, BitQuery};
use crate::vector::codes::{CodeScale, Floats, Target};
use crate::vector::distance::CodeKernel;
use crate::vector::int4::Int4Codes;
use crate::vector::kernels::Codes;
use crate::vector::query::PreparedQuery;
use crate::vector::rotation::RotatedQuery;

/// The vectors of a column and the codes that there are of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walked<'a> {
    pub(crate) floats: Floats<'a>,
    pub(crate) int4: Option<Int4Codes<'a>>,
    /// Nodes x dimension, and their scale.
    pub(crate) int8: Option<(&'a [i8], CodeScale)>,
    pub(crate) bits: Option<BitCodes<'a>>,
}

/// Memory of a query as codes, used again by the next.
#[derive(Debug, Default)]
pub(crate) struct TargetMemory {
    code: Vec<i8>,
    int4: RotatedQuery,
    bits: BitQuery,
}

impl Walked<'_> {
    /// Distances from a query, and what a unit of these is worth: by codes if there are and the query fits them, bits only
    /// where there are no others.
    pub(crate) fn target<'b>(
        &'b self,
        query: &'b PreparedQuery,
        memory: &'b mut TargetMemory,
    ) -> (Target<'b>, f32) {
        let TargetMemory { code, int4: rotated, bits: bit_query } = memory;
        let Self { floats, int4, int8, bits } = self;
        if let Some(int4) = int4 {
            int4.prepare(query.rotated(), rotated);
            return (Target::Int4(*int4, rotated), 1.0);
        }
        if let Some((codes, scale)) = int8 {
            let kernel = CodeKernel::of(floats.distance);
            if let Some(unit) = scale.encode_query(kernel, query.vector(), code) {
                return (Target::Code(Codes { kernel, dimension: floats.dimension, codes }, code), unit);
            }
        } else if let Some(bits) = bits {
            bits.prepare(query.rotated(), bit_query);
            return (Target::Bits(*bits, bit_query), 1.0);
        }
        (Target::Float(*floats, query.vector()), 1.0)
    }
}
