//! What a segment's vectors consist of and how well they are found, for statistics.
//!
//! Plain data. It must not know how an index is read or searched.

use crate::schema::Quantization;

/// How the vectors of one space lie in one segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VectorIndexReport {
    /// Rows that have a vector.
    pub vectors: u64,
    /// Bytes of the original vectors, rows without one included.
    pub vector_bytes: u64,
    /// The graph; `None`: every search compares all vectors.
    pub graph: Option<GraphReport>,
}

/// A graph and the codes that it is walked on.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphReport {
    /// Links of a node on upper levels; twice as many on level 0.
    pub m: u32,
    /// Beam of its construction, where the index remembers it.
    pub ef_construct: Option<u32>,
    /// What it is walked on; never [`Quantization::Auto`].
    pub quantization: Quantization,
    /// Bytes of the codes; 0 where it is walked on the original vectors.
    pub code_bytes: u64,
    /// Bytes of links and everything else but the codes.
    pub graph_bytes: u64,
    /// Share of the nearest neighbours that the codes kept on a sample when the segment was made, if that was measured.
    pub code_recall: Option<f32>,
    /// Beams that were found to reach a recall on a sample when the segment was made, by rising recall.
    pub calibration: Vec<CalibratedBeam>,
    /// Vectors whose links were taken over from the graph of an older segment; 0: it was built from nothing.
    pub inherited: u64,
    /// How many older graphs it goes back to, each grown from the one before.
    pub generation: u32,
}

/// A beam width and the recall that it reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibratedBeam {
    /// Share of the nearest neighbours that was found.
    pub recall: f32,
    /// Width of the beam.
    pub ef: u32,
}
