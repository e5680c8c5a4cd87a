//! How the documents of a collection are made: which embedder fills which vector space, and how text is split.

use std::sync::Arc;

use super::identity::{self, RECIPE_DIGITS};
use crate::embed::Embedder;
use crate::embed::registry::EmbedderRegistry;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{Target, TargetSpace};

/// Raised whenever extraction, chunking or assembly make something else of the same content: documents of an older
/// number are made again.
pub const PIPELINE_VERSION: u32 = 3;

/// A vector space that the pipeline fills.
#[derive(Debug, Clone)]
pub(crate) struct Space {
    pub name: String,
    pub dimension: u32,
    pub fingerprint: String,
    /// Configured name of the embedder.
    pub embedder_name: String,
    pub embedder: Arc<dyn Embedder>,
}

/// How the documents of a collection are made.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub spaces: Vec<Space>,
    /// Hash of all that decides what a document becomes.
    pub hash: String,
}

impl Recipe {
    /// Finds the embedders of a collection's spaces. `settings` stands for all else that decides. May load a model: heavy.
    ///
    /// # Errors
    /// `FailedPrecondition` when a configured embedder is not the one that the collection was created with.
    pub fn resolve(target: &Target, registry: &EmbedderRegistry, settings: &str) -> Result<Self> {
        let mut spaces = Vec::new();
        for space in &target.spaces {
            if let Some(name) = &space.embedder {
                spaces.push(check_embedder(space, name, registry.get(name)?)?);
            }
        }
        let hash = hash(&spaces, settings);
        Ok(Self { spaces, hash })
    }

    /// The embedder with the smallest token limit: chunks that fit it fit all.
    pub fn chunking_embedder(&self) -> Option<&dyn Embedder> {
        let tightest = self.spaces.iter().min_by_key(|space| space.embedder.info().max_tokens)?;
        Some(tightest.embedder.as_ref())
    }

    /// Bytes of the vectors of one chunk.
    pub fn vector_bytes(&self) -> usize {
        self.spaces.iter().map(|space| space.dimension as usize * size_of::<f32>()).sum()
    }
}

fn check_embedder(space: &TargetSpace, name: &str, embedder: Arc<dyn Embedder>) -> Result<Space> {
    let info = embedder.info();
    if let Some(stored) = space.fingerprint.as_ref().filter(|stored| **stored != info.fingerprint) {
        let message = format!(
            "vector space \"{}\" was filled by embedder {stored}, but \"{name}\" is now {}: configure the former \
             again, or create a new collection",
            space.name, info.fingerprint
        );
        return Err(Error::new(ErrorKind::FailedPrecondition, message).at(&space.name));
    }
    if space.dimension != info.dimension {
        let message = format!(
            "vector space \"{}\" has dimension {}, but embedder \"{name}\" makes vectors of {}",
            space.name, space.dimension, info.dimension
        );
        return Err(Error::new(ErrorKind::FailedPrecondition, message).at(&space.name));
    }
    Ok(Space {
        name: space.name.clone(),
        dimension: space.dimension,
        fingerprint: info.fingerprint.clone(),
        embedder_name: name.to_owned(),
        embedder,
    })
}

fn hash(spaces: &[Space], settings: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    identity::field(&mut hasher, &PIPELINE_VERSION.to_le_bytes());
    identity::field(&mut hasher, settings.as_bytes());
    for space in spaces {
        identity::field(&mut hasher, space.name.as_bytes());
        identity::field(&mut hasher, space.fingerprint.as_bytes());
    }
    identity::cut(&hasher.finalize().to_hex(), RECIPE_DIGITS).to_owned()
}
