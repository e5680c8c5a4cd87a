//! Generated unit vectors that lie near a space of few dimensions, as real embeddings do, and a collection of them in process.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use ragstone_index::schema::{CollectionSchema, Distance, IndexOptions, VectorSpace};
use ragstone_index::write::{Change, WriteRequest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Components of a vector.
pub const DIMENSION: usize = 384;
/// Dimensions of the space that the vectors lie near.
const LATENT: usize = 20;

/// Makes unit vectors: a random point of a space of few dimensions, and a little noise in all.
pub struct Vectors {
    rng: StdRng,
    axes: Vec<f32>,
}

impl Vectors {
    /// Always the same ones.
    pub fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(5);
        let axes = (0..LATENT * DIMENSION).map(|_| rng.random_range(-1.0f32..1.0)).collect();
        Self { rng, axes }
    }

    /// The next one.
    pub fn next(&mut self) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..DIMENSION).map(|_| self.rng.random_range(-0.3f32..0.3)).collect();
        for axis in self.axes.chunks(DIMENSION) {
            let weight = self.rng.random_range(-1.0f32..1.0);
            vector.iter_mut().zip(axis).for_each(|(x, a)| *x += weight * a);
        }
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        vector
    }
}

/// A schema of one vector space, "v".
pub fn schema() -> CollectionSchema {
    let space = VectorSpace {
        name: "v".into(),
        dimension: DIMENSION as u32,
        distance: Distance::Cosine,
        embedder: None,
        index: IndexOptions::default(),
    };
    CollectionSchema {
        vectors: vec![space],
        payload: vec![],
        dynamic_payload: true,
        description: String::new(),
    }
}

/// A write of points `name-0`, `name-1`, and so on.
pub fn upsert(name: &str, vectors: &[f32]) -> Result<WriteRequest> {
    let count = vectors.len() / DIMENSION;
    let ids = StringArray::from_iter_values((0..count).map(|row| format!("{name}-{row}")));
    let DataType::FixedSizeList(item, length) = ragstone_index::batch::vector_type(DIMENSION as u32) else {
        anyhow::bail!("a vector column is a list");
    };
    let vectors = FixedSizeListArray::new(item, length, Arc::new(Float32Array::from(vectors.to_vec())), None);
    let columns: [(&str, ArrayRef); 2] = [("id", Arc::new(ids)), ("vector:v", Arc::new(vectors))];
    let changes = vec![Change::UpsertPoints(RecordBatch::try_from_iter(columns)?)];
    Ok(WriteRequest { changes, skip_bad_rows: false })
}
