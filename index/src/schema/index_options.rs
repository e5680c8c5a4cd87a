//! How the vectors of a space are indexed, kept and searched, as far as its owner decides.
//!
//! Pure data with bounds. It must not know how an index works; part of the schema, so its serde form is a disk format, in
//! which anything may be missing: that means the default.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Fewest and most links of a node on the upper levels of a graph.
pub const M_RANGE: (u32, u32) = (4, 128);
/// Narrowest and widest beam of an insertion.
pub const EF_CONSTRUCT_RANGE: (u32, u32) = (8, 4_096);
/// Least and most recall that can be aimed at.
pub const RECALL_TARGET_RANGE: (f32, f32) = (0.5, 0.999);

/// How the vectors of one space are indexed, kept and searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexOptions {
    /// Shape of the graphs. A change reaches segments that are made from then on.
    pub hnsw: HnswOptions,
    /// Codes that graphs are walked on. A change reaches segments that are made from then on.
    pub quantization: Quantization,
    /// Where the original vectors live. A change reaches segments that are made or opened from then on.
    pub storage: VectorStorage,
    /// What a search that names no beam aims at. A change holds from the next search on.
    pub recall_target: RecallTarget,
}

/// Shape of a graph and effort of its construction (Malkov and Yashunin, 2016: M and efConstruction).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HnswOptions {
    /// Links of a node on upper levels, 4 to 128; twice as many on level 0.
    pub m: u32,
    /// Beam of an insertion, 8 to 4,096.
    pub ef_construct: u32,
}

impl Default for HnswOptions {
    fn default() -> Self {
        Self { m: 16, ef_construct: 128 }
    }
}

/// Which codes a graph is walked on. The final order is always by the original vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// Whatever keeps recall; decided for each segment when it is made.
    #[default]
    Auto,
    /// None: the original vectors.
    None,
    /// Half a byte a component; a byte where that loses neighbours.
    Int4,
    /// A byte a component.
    Int8,
    /// A bit a component, with more candidates to be put in order.
    Binary,
}

impl Quantization {
    /// Its name on the wire, the command line and in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Binary => "binary",
        }
    }
}

/// Where the vectors of segments live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorStorage {
    /// In memory: graphs and codes in memory of their own, in large pages; the original vectors as far as there is enough.
    #[default]
    Memory,
    /// On disk, read where a search needs them; the system's cache keeps graphs and codes, which are read most.
    Mapped,
}

impl VectorStorage {
    /// Its name on the wire and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Mapped => "mapped",
        }
    }
}

/// The share of the true nearest neighbours that a search aims to find: 0.5 to 0.999.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct RecallTarget(f32);

// Never NaN.
impl Eq for RecallTarget {}

impl RecallTarget {
    /// When nobody says: 0.99.
    pub const DEFAULT: Self = Self(0.99);

    /// A target within bounds.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming `field`.
    pub fn new(target: f32, field: &str) -> Result<Self> {
        let (least, most) = RECALL_TARGET_RANGE;
        if (least..=most).contains(&target) {
            return Ok(Self(target));
        }
        Err(Error::invalid(field, format!("{target} is not between {least} and {most}")))
    }

    /// The target nearest to a share that may be out of bounds; the default for NaN.
    pub(crate) fn nearest(share: f32) -> Self {
        let (least, most) = RECALL_TARGET_RANGE;
        if share.is_nan() { Self::DEFAULT } else { Self(share.clamp(least, most)) }
    }

    /// The share.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Default for RecallTarget {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<f32> for RecallTarget {
    type Error = Error;

    fn try_from(target: f32) -> Result<Self> {
        Self::new(target, "recall_target")
    }
}

impl From<RecallTarget> for f32 {
    fn from(target: RecallTarget) -> Self {
        target.0
    }
}

/// What somebody wants of [`IndexOptions`]; what is `None` is left as it is, or to the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "as in IndexOptions and HnswOptions")]
pub struct IndexChange {
    pub m: Option<u32>,
    pub ef_construct: Option<u32>,
    pub quantization: Option<Quantization>,
    pub storage: Option<VectorStorage>,
    pub recall_target: Option<RecallTarget>,
}

impl IndexOptions {
    /// These options after a change.
    pub fn changed(self, change: &IndexChange) -> Self {
        Self {
            hnsw: HnswOptions {
                m: change.m.unwrap_or(self.hnsw.m),
                ef_construct: change.ef_construct.unwrap_or(self.hnsw.ef_construct),
            },
            quantization: change.quantization.unwrap_or(self.quantization),
            storage: change.storage.unwrap_or(self.storage),
            recall_target: change.recall_target.unwrap_or(self.recall_target),
        }
    }

    /// Checks bounds; `at` is the path of the vector space in messages.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the field and its range.
    pub fn validate(&self, at: &str) -> Result<()> {
        let within = |field: &str, value: u32, (least, most): (u32, u32)| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(
                format!("{at}.hnsw.{field}"),
                format!("{value} is not between {least} and {most}"),
            ))
        };
        within("m", self.hnsw.m, M_RANGE)?;
        within("ef_construct", self.hnsw.ef_construct, EF_CONSTRUCT_RANGE)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn whatever_is_missing_on_disk_is_the_default() {
        let options: IndexOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, IndexOptions::default());
        let options: IndexOptions = serde_json::from_str(r#"{"hnsw":{"m":32},"storage":"mapped"}"#).unwrap();
        let hnsw = HnswOptions { m: 32, ..HnswOptions::default() };
        assert_eq!(options, IndexOptions { hnsw, storage: VectorStorage::Mapped, ..IndexOptions::default() });
    }

    #[test]
    fn what_is_written_is_read() {
        let options = IndexOptions {
            hnsw: HnswOptions { m: 4, ef_construct: 4_096 },
            quantization: Quantization::Binary,
            storage: VectorStorage::Mapped,
            recall_target: RecallTarget::new(0.95, "").unwrap(),
        };
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(
            text,
            r#"{"hnsw":{"m":4,"ef_construct":4096},"quantization":"binary","storage":"mapped","recall_target":0.95}"#
        );
        assert_eq!(serde_json::from_str::<IndexOptions>(&text).unwrap(), options);
    }

    #[test]
    fn targets_out_of_bounds_are_neither_made_nor_read() {
        for target in [0.0, 0.49, 1.0, -1.0, f32::NAN, f32::INFINITY] {
            let error = RecallTarget::new(target, "params.recall_target").unwrap_err();
            assert_eq!(error.field(), Some("params.recall_target"));
        }
        assert!(serde_json::from_str::<RecallTarget>("0.3").is_err());
        assert!(RecallTarget::new(0.5, "").is_ok() && RecallTarget::new(0.999, "").is_ok());
    }

    #[test]
    fn a_change_leaves_the_rest_and_bounds_name_their_field() {
        let change =
            IndexChange { m: Some(129), storage: Some(VectorStorage::Mapped), ..IndexChange::default() };
        let options = IndexOptions::default().changed(&change);
        assert_eq!((options.hnsw.m, options.hnsw.ef_construct), (129, 128));
        assert_eq!(options.storage, VectorStorage::Mapped);
        let error = options.validate("schema.vectors[1]").unwrap_err();
        assert_eq!(error.field(), Some("schema.vectors[1].hnsw.m"));
        assert!(error.to_string().contains("between 4 and 128"), "{error}");
        let change = IndexChange { ef_construct: Some(7), ..IndexChange::default() };
        let error = IndexOptions::default().changed(&change).validate("v").unwrap_err();
        assert_eq!(error.field(), Some("v.hnsw.ef_construct"));
    }
}
