//! Passes over a whole column of vectors, told piece by piece, so that the memory of what was read can be given back.
//!
//! A column lies in a mapped file. Each pass would leave all of it counted as this process's memory, several times what is
//! made of it. It must not know files.

use std::ops::Range;

/// Told which rows of a column were read and won't be for a while. Rows may be named more than once, and some that the column
/// does not have.
pub(crate) type Read<'a> = dyn Fn(Range<usize>) + Sync + 'a;

/// Vectors that are read here and there before their memory is given back: each may lie in a large page, all of which counts.
pub(crate) const SCATTERED_VECTORS: usize = 8;

/// Rows that a pass reads in one piece.
pub(crate) const PASS_ROWS: usize = 2_048;
