//! Text to vectors. One trait, several providers; a fingerprint tells whether two vectors may be compared.
//!
//! [`service::EmbedService`] is the front that the pipeline and the search handlers use; [`registry::EmbedderRegistry`]
//! knows the configured embedders and loads each when it is first needed.

pub mod cache;
pub mod config;
pub mod fastembed;
pub mod minilm;
pub mod registry;
pub mod service;

mod flight;
mod local_model;
mod onnxruntime;
mod prefixes;
mod queue;
mod tokens;
mod vector;
mod worker;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Result;

pub use cache::{CacheStats, VectorCache};
pub use config::{EmbedderConfig, FastembedConfig, OnnxConfig, Pooling};
pub use minilm::MINILM;
pub use registry::{EmbedderRegistry, EmbedderStatus, RegistryOptions};
pub use service::{EmbedService, EmbedStats, Priority, ServiceOptions};
pub use tokens::MAX_EMBEDDED_BYTES;

/// What is known of an embedder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedderInfo {
    /// Its configured name.
    pub name: String,
    /// Components of a vector.
    pub dimension: u32,
    /// Most tokens of a text, the model's own start and end tokens included.
    pub max_tokens: usize,
    /// Identity: name, hash of the weights, dimension, pooling, normalisation, prefixes, max tokens.
    pub fingerprint: String,
}

/// Turns texts into vectors. Calls are synchronous and heavy: run them off the async threads.
pub trait Embedder: Send + Sync + std::fmt::Debug {
    /// What is known of it.
    fn info(&self) -> &EmbedderInfo;

    /// Byte ranges of the tokens of `text`, without the model's own start and end tokens.
    fn token_spans(&self, text: &str) -> Result<Vec<Range<usize>>>;

    /// A unit vector for each text, in order. Texts over the token limit are cut: the chunker keeps that from happening.
    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>>;

    /// A unit vector for a query; models with a query prefix add it here.
    fn embed_query(&self, text: &str) -> Result<Vec<f32>>;
}
