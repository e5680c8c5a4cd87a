//! A query vector that was checked once and is then used against every segment and memtable of a collection.
//!
//! It must not know where vectors are stored.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::schema::Distance;
use crate::vector::distance::prepare_vector;
use crate::vector::rotation;

/// A query vector: of the right dimension, finite, of unit length under cosine.
#[derive(Debug, Clone)]
pub struct PreparedQuery {
    distance: Distance,
    vector: Arc<[f32]>,
    /// As bit codes need it, made when the first asks for it.
    rotated: OnceLock<Vec<f32>>,
}

impl PreparedQuery {
    /// Checks a caller's vector for a vector space.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the field `vector`: wrong dimension, a component that is not finite, a zero
    /// vector under cosine.
    pub fn new(distance: Distance, dimension: usize, vector: &[f32]) -> Result<Self> {
        if vector.len() != dimension {
            let found = vector.len();
            return Err(Error::invalid("vector", format!("{found} components, expected {dimension}")));
        }
        let mut vector: Arc<[f32]> = vector.into();
        // Nobody else has it yet.
        prepare_vector(distance, Arc::make_mut(&mut vector))
            .map_err(|message| Error::invalid("vector", message))?;
        Ok(Self { distance, vector, rotated: OnceLock::new() })
    }

    /// How the space compares.
    pub fn distance(&self) -> Distance {
        self.distance
    }

    /// The components; of unit length under cosine.
    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// The components behind the rotation of bit codes.
    pub(crate) fn rotated(&self) -> &[f32] {
        self.rotated.get_or_init(|| rotation::rotated(&self.vector))
    }

    /// The components, shared.
    pub(crate) fn shared(&self) -> Arc<[f32]> {
        Arc::clone(&self.vector)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn wrong_queries_name_their_field() {
        let cases: [(&[f32], &str); 4] = [
            (&[1.0], "1 components, expected 2"),
            (&[1.0, f32::NAN], "component 1 is NaN"),
            (&[f32::INFINITY, 0.0], "component 0 is inf"),
            (&[0.0, 0.0], "zero vector"),
        ];
        for (vector, expected) in cases {
            let error = PreparedQuery::new(Distance::Cosine, 2, vector).unwrap_err();
            assert_eq!(error.field(), Some("vector"));
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert_eq!(PreparedQuery::new(Distance::Cosine, 2, &[0.0, 9.0]).unwrap().vector(), [0.0, 1.0]);
        assert_eq!(PreparedQuery::new(Distance::Dot, 2, &[0.0, 0.0]).unwrap().vector(), [0.0, 0.0]);
    }
}
