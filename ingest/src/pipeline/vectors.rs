//! A vector for each chunk: taken from the stored version where the text is the same, embedded where it is not.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};

use super::identity::chunk_key;
use super::recipe::Space;
use crate::embed::service::{EmbedService, Priority};
use crate::error::{Error, ErrorKind, Result};

/// Texts handed to the embedder at once; it makes its own batches of them.
const GROUP_TEXTS: usize = 256;
/// Groups of one document that wait for the embedder: one is worked on, one is ready.
const GROUPS_IN_FLIGHT: usize = 2;

/// Stored vectors by (space, chunk key).
pub(crate) type StoredVectors = HashMap<(String, String), Vec<f32>>;

/// The vectors of a document's chunks in one space. Chunks of equal text share one.
#[derive(Debug)]
pub(crate) struct SpaceVectors {
    pub space: String,
    pub dimension: u32,
    /// Which of `vectors` belongs to each chunk.
    pub rows: Vec<usize>,
    pub vectors: Vec<Vec<f32>>,
    /// How many of `vectors` had to be made.
    pub embedded: usize,
}

/// Finds or makes the vectors of a space. `texts` has one entry a chunk; stored vectors are found by `keys`.
pub(crate) async fn fill(
    space: &Space,
    texts: &[String],
    keys: &[String],
    stored: &mut StoredVectors,
    service: &EmbedService,
) -> Result<SpaceVectors> {
    let mut filled = SpaceVectors {
        space: space.name.clone(),
        dimension: space.dimension,
        rows: Vec::with_capacity(texts.len()),
        vectors: Vec::new(),
        embedded: 0,
    };
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut missing: Vec<usize> = Vec::new();
    let mut missing_texts: Vec<String> = Vec::new();
    for (text, key) in texts.iter().zip(keys) {
        let next = filled.vectors.len();
        let slot = *seen.entry(text).or_insert(next);
        filled.rows.push(slot);
        if slot < next {
            continue;
        }
        let known = if stored.is_empty() {
            None
        } else {
            stored.remove(&(space.name.clone(), chunk_key(&space.fingerprint, key)))
        };
        match known.filter(|vector| vector.len() == space.dimension as usize) {
            Some(vector) => filled.vectors.push(vector),
            None => {
                missing.push(slot);
                missing_texts.push(text.clone());
                filled.vectors.push(Vec::new());
            }
        }
    }
    filled.embedded = missing.len();
    let embedded = embed(space, missing_texts, service).await?;
    for (slot, vector) in missing.into_iter().zip(embedded) {
        if let Some(place) = filled.vectors.get_mut(slot) {
            *place = vector;
        }
    }
    Ok(filled)
}

/// Embeds texts, in order.
async fn embed(space: &Space, texts: Vec<String>, service: &EmbedService) -> Result<Vec<Vec<f32>>> {
    let expected = texts.len();
    let mut texts = texts.into_iter();
    let groups = std::iter::from_fn(|| {
        let group: Vec<String> = texts.by_ref().take(GROUP_TEXTS).collect();
        (!group.is_empty()).then_some(group)
    });
    let vectors: Vec<Vec<f32>> = stream::iter(groups)
        .map(|group| service.embed(&space.embedder_name, group, Priority::Document))
        .buffered(GROUPS_IN_FLIGHT)
        .try_concat()
        .await?;
    let dimension = space.dimension as usize;
    if vectors.len() != expected || vectors.iter().any(|vector| vector.len() != dimension) {
        let message = format!(
            "embedder \"{}\" made {} vectors of {expected} texts, or not all of dimension {dimension}",
            space.embedder_name,
            vectors.len()
        );
        return Err(Error::new(ErrorKind::Internal, message));
    }
    Ok(vectors)
}
