//! Text to vectors. One trait, several providers; a fingerprint tells whether two vectors may be compared.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Result;

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
