//! Search by nearness: the vector part of segments and memtables.
//!
//! - A sealed segment: [`build_index`] makes its graph and codes, [`grow_index`] goes on with an older graph,
//!   [`SegmentVectors`] searches them together with the f32 vectors.
//! - A memtable: [`LiveVectors`] takes rows and searches them at once.
//! - Both answer a [`PreparedQuery`] with rows and scores, best first, and say how they went about it ([`Strategy`]).
//!
//! Vectors must have gone through [`prepare_vector`] before they are stored: finite, and of unit length under cosine.
//! Rows are numbers here; nothing in this module knows points, payload, deletion or where files lie. What may be returned
//! comes as a bitmap of rows.

mod bits;
mod build;
mod calibrate;
mod codes;
mod distance;
mod exact;
mod graph;
mod int4;
mod kernels;
mod live;
mod pass;
mod plan;
mod query;
mod report;
mod rotation;
mod row_bits;
#[cfg(test)]
mod samples;
mod segment;
#[cfg(test)]
mod tests;
mod walked;

pub(crate) use build::GROWN_DELETED_SHARE;
pub(crate) use kernels::prefetch;

pub use build::{Ancestor, BuiltIndex, MIN_GRAPH_ROWS, VectorColumn, VectorsParams, build_index, grow_index};
pub use distance::prepare_vector;
pub use live::{LIVE_GRAPH_MIN_ROWS, LiveVectors};
pub use plan::{ExactReason, Strategy};
pub use query::PreparedQuery;
pub use report::{CalibratedBeam, GraphReport, VectorIndexReport};
pub use segment::SegmentVectors;

use crate::schema::RecallTarget;
pub use crate::scored::Scored;

/// How hard a search tries.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SearchParams {
    /// Beam width of the graph walk; `None`: what reached the recall aimed at when the graph was built, and no less than
    /// `2k`. At most [`MAX_EF`](crate::search::MAX_EF), and never less than the hits wanted.
    pub ef: Option<usize>,
    /// Compare all rows, whatever that costs.
    pub exact: bool,
    /// What a search without `ef` aims at.
    pub recall_target: RecallTarget,
    /// The score of the last of the hits wanted, where as many are known from elsewhere: rows that score less may be left
    /// out, which spares looking at them closely.
    pub floor: Option<f32>,
}

impl SearchParams {
    /// Brute force.
    pub const EXACT: Self = Self { ef: None, exact: true, recall_target: RecallTarget::DEFAULT, floor: None };
}
