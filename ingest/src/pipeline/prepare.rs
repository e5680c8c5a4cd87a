//! Content to chunks: the part of the pipeline that only needs the CPU. It knows no sink and embeds nothing.

use super::PipelineConfig;
use super::identity::{self, MAX_TITLE_BYTES};
use super::recipe::Recipe;
use crate::chunk::{self, Context};
use crate::document::{Chunk, Properties, RawDocument};
use crate::error::{Error, ErrorKind, Result};
use crate::extract;

/// Most chunks of one document.
pub const MAX_CHUNKS: usize = 60_000;

/// Field of the errors that the content itself is the cause of.
pub const CONTENT_FIELD: &str = "content";

/// A document that is ready to be embedded.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub title: String,
    pub media_type: String,
    pub chunks: Vec<Chunk>,
    /// What is embedded of each chunk: its text in its context.
    pub embedding_texts: Vec<String>,
    /// By what the stored vector of each chunk is found: its text in its full context. `None`: the same.
    pub key_texts: Option<Vec<String>>,
    /// What the content says of itself.
    pub properties: Properties,
}

/// Extracts and chunks a document. Blocks, for seconds when it is large.
///
/// # Errors
/// `BadContent` when it can't be read or has no text, `ResourceExhausted` when it is over a bound. They name
/// [`CONTENT_FIELD`]: another try of the same content ends the same way.
pub(crate) fn prepare(raw: &RawDocument, recipe: &Recipe, config: &PipelineConfig) -> Result<Prepared> {
    read(raw, recipe, config).map_err(|error| match error.field() {
        Some(_) => error,
        None => error.at(CONTENT_FIELD),
    })
}

fn read(raw: &RawDocument, recipe: &Recipe, config: &PipelineConfig) -> Result<Prepared> {
    let document = extract::extract(raw, &config.extract)?;
    let params = config.chunker_for(&raw.options, &document.media_type);
    let title = if raw.title.is_empty() { document.title.trim() } else { raw.title.as_str() };
    let title = identity::cut(title, MAX_TITLE_BYTES).to_owned();
    let chunks = chunk::chunk(&document, &title, recipe.chunking_embedder(), &params)?;
    if chunks.is_empty() {
        return Err(Error::bad_content("it has no text"));
    }
    if chunks.len() > MAX_CHUNKS {
        let message = format!("it makes {} chunks, over the limit of {MAX_CHUNKS}: split it", chunks.len());
        return Err(Error::new(ErrorKind::ResourceExhausted, message));
    }
    let texts = |context: Context| -> Vec<String> {
        let text = |chunk: &Chunk| chunk::text_in_context(&title, &chunk.heading_path, &chunk.text, context);
        chunks.iter().map(text).collect()
    };
    let embedding_texts = texts(params.context);
    let key_texts = (params.context != Context::default()).then(|| texts(Context::default()));
    Ok(Prepared {
        media_type: document.media_type,
        properties: document.properties,
        embedding_texts,
        key_texts,
        title,
        chunks,
    })
}
