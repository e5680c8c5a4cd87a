//! The flat HNSW graph of a sealed segment (Malkov & Yashunin, arXiv 1603.09320).
//!
//! - [`walk`]: beam search and descent, shared by building and searching
//! - [`filtered`]: the walk that knows only some of the nodes
//! - [`prune`]: which neighbours a node keeps
//! - [`builder`]: inserts all nodes, in parallel
//! - [`place`], [`turns`]: in which order, and shared among threads
//! - [`grow`]: takes an older graph over, for the builder to go on with
//! - [`connect`]: links the nodes that building left unreachable
//! - [`format`]: the bytes on disk, written and checked
//!
//! Nodes are numbered without gaps; which row a node stands for is told by a
//! [`RowMap`](crate::vector::codes::RowMap). Nothing here knows scores, segments or where bytes come from.

pub(crate) mod builder;
pub(crate) mod connect;
pub(crate) mod filtered;
pub(crate) mod format;
pub(crate) mod grow;
pub(crate) mod place;
pub(crate) mod prune;
pub(crate) mod turns;
pub(crate) mod walk;
