//! What a file would become: extraction and chunking without a store. It knows neither gRPC nor the command line.

use std::time::{Duration, Instant};

use ragstone_ingest::chunk::chunk;
use ragstone_ingest::document::{Chunk, ExtractedDocument, RawDocument};
use ragstone_ingest::embed::Embedder;
use ragstone_ingest::extract::extract;
use ragstone_ingest::pipeline::PipelineConfig;

/// A document and the chunks it would be stored as.
#[derive(Debug)]
pub struct Preview {
    /// Its text and what it says of itself.
    pub document: ExtractedDocument,
    /// In their order.
    pub chunks: Vec<Chunk>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Extracts and chunks a document for an embedder. Blocks, for seconds when it is large.
///
/// # Errors
/// Those that ingesting it would have.
pub fn preview(
    raw: &RawDocument,
    embedder: &dyn Embedder,
    config: &PipelineConfig,
) -> Result<Preview, ragstone_ingest::Error> {
    let start = Instant::now();
    let document = extract(raw, &config.extract)?;
    let title = if raw.title.is_empty() { document.title.trim() } else { raw.title.as_str() };
    let params = config.chunker_for(&raw.options, &document.media_type);
    let chunks = chunk(&document, title, Some(embedder), &params)?;
    Ok(Preview { document, chunks, elapsed: start.elapsed() })
}
