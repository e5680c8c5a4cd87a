//! Fills the vectors that the files don't bring: texts of a space with an embedder.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, NullBufferBuilder, StringArray,
};
use arrow::datatypes::Float32Type;

use super::rows::{Rows, defect, vector_item};
use crate::chunk::embedding_text;
use crate::embed::{EmbedService, Priority};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{Target, TargetSpace};

/// Embeds for one import.
pub(super) struct Filler {
    service: Arc<EmbedService>,
    target: Target,
    /// Embedders that fit their space, by space; each is checked when it is first needed.
    checked: Vec<bool>,
}

impl Filler {
    pub fn new(service: Arc<EmbedService>, target: Target) -> Self {
        let checked = vec![false; target.spaces.len()];
        Self { service, target, checked }
    }

    /// Embeds what lacks a vector. Returns how many texts were longer than their embedder takes.
    pub async fn fill(&mut self, rows: &mut Rows) -> Result<u64> {
        let mut cut = 0;
        for at in 0..self.target.spaces.len() {
            let Some(space) = self.target.spaces.get(at).cloned() else { continue };
            let Some(embedder) = space.embedder.as_deref() else { continue };
            let missing = missing(rows, at);
            if missing.is_empty() {
                continue;
            }
            if !self.checked.get(at).copied().unwrap_or_default() {
                self.check(&space, embedder).await?;
                self.checked.iter_mut().skip(at).take(1).for_each(|checked| *checked = true);
            }
            let texts: Vec<String> = missing.iter().map(|&row| text_of(rows, row)).collect();
            cut += self.count_cut(embedder, &texts).await?;
            let vectors = self.service.embed(embedder, texts, Priority::Document).await?;
            let filled = merged(rows, at, &missing, &vectors, space.dimension)?;
            rows.vectors.iter_mut().skip(at).take(1).for_each(|column| *column = Some(filled.clone()));
        }
        Ok(cut)
    }

    /// Vectors of another embedder than the space was filled with would be compared with strangers.
    async fn check(&self, space: &TargetSpace, embedder: &str) -> Result<()> {
        let info = self.service.info(embedder).await?;
        if info.dimension != space.dimension {
            let message = format!(
                "vector space \"{}\" has {} components, its embedder \"{embedder}\" makes {}",
                space.name, space.dimension, info.dimension
            );
            return Err(Error::new(ErrorKind::FailedPrecondition, message).at("embedder"));
        }
        match &space.fingerprint {
            Some(fingerprint) if *fingerprint != info.fingerprint => {
                let message = format!(
                    "vector space \"{}\" was filled by {fingerprint}, but embedder \"{embedder}\" is now {}: their \
                     vectors can't be compared",
                    space.name, info.fingerprint
                );
                Err(Error::new(ErrorKind::FailedPrecondition, message).at("embedder"))
            }
            _ => Ok(()),
        }
    }

    async fn count_cut(&self, embedder: &str, texts: &[String]) -> Result<u64> {
        let (registry, name) = (Arc::clone(self.service.registry()), embedder.to_owned());
        // A token has at least a byte: shorter texts fit and need no look.
        let limit = self.service.info(embedder).await?.max_tokens;
        let long: Vec<String> = texts.iter().filter(|text| text.len() + 2 > limit).cloned().collect();
        if long.is_empty() {
            return Ok(0);
        }
        let count = move || {
            let embedder = registry.get(&name)?;
            let mut cut = 0;
            for text in &long {
                cut += u64::from(embedder.token_spans(text)?.len() + 2 > limit);
            }
            Ok(cut)
        };
        let counted = tokio::task::spawn_blocking(count).await;
        counted
            .map_err(|error| Error::new(ErrorKind::Internal, format!("counting tokens failed: {error}")))?
    }
}

/// Rows with a text and without a vector in a space.
fn missing(rows: &Rows, space: usize) -> Vec<usize> {
    let Some(texts) = &rows.texts else { return Vec::new() };
    let vectors = rows.vectors.get(space).and_then(Option::as_ref);
    let has_vector = |row: usize| vectors.is_some_and(|vectors| vectors.is_valid(row));
    let has_text = |row: usize| texts.is_valid(row) && !texts.value(row).trim().is_empty();
    (0..rows.len()).filter(|&row| !has_vector(row) && has_text(row)).collect()
}

/// What is embedded for a row: its title, where it has one, and its text.
fn text_of(rows: &Rows, row: usize) -> String {
    let value = |column: &Option<StringArray>| {
        column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned())
    };
    // As for the chunks of a document, so that both kinds of points are searched alike.
    embedding_text(&value(&rows.titles).unwrap_or_default(), &[], &value(&rows.texts).unwrap_or_default())
}

/// The space's column with the new vectors in it.
fn merged(
    rows: &Rows,
    space: usize,
    missing: &[usize],
    vectors: &[Vec<f32>],
    dimension: u32,
) -> Result<FixedSizeListArray> {
    let width = dimension as usize;
    let given = rows.vectors.get(space).and_then(Option::as_ref);
    let mut values = Vec::with_capacity(rows.len() * width);
    let mut nulls = NullBufferBuilder::new(rows.len());
    let mut made = missing.iter().zip(vectors).peekable();
    for row in 0..rows.len() {
        if let Some((_, vector)) = made.next_if(|(at, _)| **at == row) {
            if vector.len() != width {
                return Err(defect(&format!("an embedder made {} components", vector.len())));
            }
            values.extend_from_slice(vector);
            nulls.append_non_null();
        } else if let Some(given) = given.filter(|given| given.is_valid(row)) {
            let vector: ArrayRef = given.value(row);
            values.extend_from_slice(vector.as_primitive::<Float32Type>().values());
            nulls.append_non_null();
        } else {
            values.resize(values.len() + width, 0.0);
            nulls.append_null();
        }
    }
    let values = Arc::new(Float32Array::from(values));
    FixedSizeListArray::try_new(vector_item(), dimension as i32, values, nulls.finish())
        .map_err(|error| defect(&error))
}
