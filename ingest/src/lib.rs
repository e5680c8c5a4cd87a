//! The pipeline of ragstone: sources to documents to chunks to embeddings to Arrow batches.
//!
//! It doesn't know the engine: what it makes goes to a [`sink::BatchSink`], as Arrow batches of the columns that
//! `docs/data-model.md` describes.

#![warn(missing_docs)]

pub mod chunk;
pub mod document;
pub mod embed;
pub mod error;
pub mod extract;
pub mod import;
pub mod pipeline;
pub mod sink;
pub mod source;
#[cfg(test)]
mod test_data;

pub use error::{Error, ErrorKind, Result};
