//! Schemas as the log once had them. Field by field what is on some disk: nothing here may change.

use serde::{Deserialize, Serialize};

use crate::schema::{CollectionSchema, Distance, EmbedderRef, IndexOptions, PayloadField, VectorSpace};

/// A schema before vector spaces had index options.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SchemaV1 {
    vectors: Vec<SpaceV1>,
    payload: Vec<PayloadField>,
    dynamic_payload: bool,
    description: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct SpaceV1 {
    name: String,
    dimension: u32,
    distance: Distance,
    embedder: Option<EmbedderRef>,
}

impl From<SchemaV1> for CollectionSchema {
    fn from(old: SchemaV1) -> Self {
        let SchemaV1 { vectors, payload, dynamic_payload, description } = old;
        let space = |SpaceV1 { name, dimension, distance, embedder }| VectorSpace {
            name,
            dimension,
            distance,
            embedder,
            index: IndexOptions::default(),
        };
        Self { vectors: vectors.into_iter().map(space).collect(), payload, dynamic_payload, description }
    }
}
