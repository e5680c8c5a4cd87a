//! What a collection holds: vector spaces and typed payload fields.
//!
//! A schema is pure data; it is written into the log and the manifest, so its serde form is a disk format.

mod index_options;

use serde::{Deserialize, Serialize};

pub use self::index_options::{
    EF_CONSTRUCT_RANGE, HnswOptions, IndexChange, IndexOptions, M_RANGE, Quantization, RECALL_TARGET_RANGE,
    RecallTarget, VectorStorage,
};

use crate::error::{Error, Result};

/// Longest name of a collection, vector space or payload field, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Largest dimension of a vector space.
pub const MAX_DIMENSION: u32 = 65_535;
/// Most vector spaces of one collection.
pub const MAX_VECTOR_SPACES: usize = 16;
/// Most payload fields of one collection.
pub const MAX_PAYLOAD_FIELDS: usize = 1_000;

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// Cosine similarity; vectors are stored with unit length. Score: -1 to 1, larger is nearer.
    Cosine,
    /// Inner product. Score: the product, larger is nearer.
    Dot,
    /// Euclidean distance. Score: the negated distance, larger is nearer.
    Euclidean,
}

/// Which embedder fills a vector space from text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedderRef {
    /// Its configured name.
    pub name: String,
    /// Identity of model, weights, dimension, pooling, normalisation, prefix and token limit.
    pub fingerprint: String,
}

/// A named vector column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorSpace {
    /// Its name; 1 to 128 bytes of `[A-Za-z0-9_-]`.
    pub name: String,
    /// Components of a vector, 1 to 65,535.
    pub dimension: u32,
    /// How vectors are compared.
    pub distance: Distance,
    /// Absent when clients bring the vectors.
    pub embedder: Option<EmbedderRef>,
    /// How vectors are indexed, kept and searched; the one part that may change.
    #[serde(default)]
    pub index: IndexOptions,
}

impl VectorSpace {
    /// A space that clients bring the vectors of, indexed by default.
    pub fn new(name: impl Into<String>, dimension: u32, distance: Distance) -> Self {
        Self { name: name.into(), dimension, distance, embedder: None, index: IndexOptions::default() }
    }

    /// Whether vectors of one mean the same in the other: everything but how they are indexed is equal.
    pub fn same_vectors(&self, other: &Self) -> bool {
        let Self { name, dimension, distance, embedder, index: _ } = self;
        *name == other.name
            && *dimension == other.dimension
            && *distance == other.distance
            && *embedder == other.embedder
    }
}

/// Type of a payload field. A field may hold one value or an array of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// An exact string: equality, any-of, prefix.
    Keyword,
    /// A 64-bit signed integer.
    Integer,
    /// A 64-bit float.
    Float,
    /// True or false.
    Bool,
    /// An RFC 3339 string; compared as microseconds since 1970 UTC.
    Datetime,
    /// Words, matched one by one.
    Text,
}

/// A typed payload field. Fields of nested objects are named with dots: `author.name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadField {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub field_type: FieldType,
}

/// What a collection holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSchema {
    /// At most 16; none for a collection that is only searched by words.
    pub vectors: Vec<VectorSpace>,
    /// Known payload fields, in the order they joined.
    pub payload: Vec<PayloadField>,
    /// Whether a payload field seen for the first time joins the schema.
    pub dynamic_payload: bool,
    /// Free text of the owner.
    pub description: String,
}

impl CollectionSchema {
    /// Finds a vector space; an empty name means the first.
    pub fn vector_space(&self, name: &str) -> Result<(usize, &VectorSpace)> {
        if name.is_empty() {
            return self
                .vectors
                .first()
                .map(|space| (0, space))
                .ok_or_else(|| Error::invalid("using", "the collection has no vector space"));
        }
        self.vectors.iter().enumerate().find(|(_, space)| space.name == name).ok_or_else(|| {
            let known: Vec<_> = self.vectors.iter().map(|space| space.name.as_str()).collect();
            Error::invalid("using", format!("no vector space \"{name}\"; there is: {}", known.join(", ")))
        })
    }

    /// Finds a payload field.
    pub fn payload_field(&self, name: &str) -> Option<&PayloadField> {
        self.payload.iter().find(|field| field.name == name)
    }

    /// Checks names, dimensions, bounds and that no name comes twice.
    pub fn validate(&self) -> Result<()> {
        if self.vectors.len() > MAX_VECTOR_SPACES {
            return Err(Error::LimitExceeded {
                what: "schema.vectors",
                value: self.vectors.len() as u64,
                limit: MAX_VECTOR_SPACES as u64,
            });
        }
        if self.payload.len() > MAX_PAYLOAD_FIELDS {
            return Err(Error::LimitExceeded {
                what: "schema.payload",
                value: self.payload.len() as u64,
                limit: MAX_PAYLOAD_FIELDS as u64,
            });
        }
        for (i, space) in self.vectors.iter().enumerate() {
            let at = format!("schema.vectors[{i}]");
            check_name(&space.name, &format!("{at}.name"))?;
            if space.dimension == 0 || space.dimension > MAX_DIMENSION {
                return Err(Error::invalid(
                    format!("{at}.dimension"),
                    format!("{} is not between 1 and {MAX_DIMENSION}", space.dimension),
                ));
            }
            space.index.validate(&at)?;
            if self.vectors.iter().take(i).any(|other| other.name == space.name) {
                return Err(Error::invalid(format!("{at}.name"), format!("\"{}\" comes twice", space.name)));
            }
        }
        for (i, field) in self.payload.iter().enumerate() {
            let at = format!("schema.payload[{i}].name");
            check_field_name(&field.name, &at)?;
            if self.payload.iter().take(i).any(|other| other.name == field.name) {
                return Err(Error::invalid(at, format!("\"{}\" comes twice", field.name)));
            }
        }
        Ok(())
    }
}

/// Checks the name of a collection or vector space: 1 to 128 of `[A-Za-z0-9_-]`, not starting with `-` or `_`.
pub fn check_name(name: &str, field: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || !name.chars().all(allowed)
        || name.starts_with(['-', '_'])
    {
        return Err(Error::invalid(
            field,
            format!(
                "{:?} is not a name: expected 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 _ -, not starting with - or _",
                name.chars().take(MAX_NAME_BYTES).collect::<String>()
            ),
        ));
    }
    Ok(())
}

/// Checks the name of a payload field: 1 to 128 bytes, no control characters, not starting with `_` (built-in fields).
pub fn check_field_name(name: &str, field: &str) -> Result<()> {
    if name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || name.starts_with('_')
        || name.chars().any(char::is_control)
    {
        return Err(Error::invalid(
            field,
            format!(
                "{:?} is not a field name: expected 1 to {MAX_NAME_BYTES} bytes without control characters, not \
                 starting with _",
                name.chars().take(MAX_NAME_BYTES).collect::<String>()
            ),
        ));
    }
    Ok(())
}
