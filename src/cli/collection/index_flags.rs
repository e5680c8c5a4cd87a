//! The flags that say how the vectors of a space are indexed, for `collection create` and `collection update`.

use clap::ValueEnum;
use ragstone_index::schema;
use ragstone_proto::v1::{HnswOptions, Quantization, VectorSpace, VectorSpaceUpdate, VectorStorage};

/// How vectors are indexed.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub(super) struct IndexFlags {
    /// Links of a node of the graphs, 4 to 128: more is better recall, more memory, slower building
    /// [default in a new collection: 16]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(4..=128))]
    hnsw_m: Option<u32>,
    /// Beam of an insertion into a graph, 8 to 4096: wider is better graphs, slower building
    /// [default in a new collection: 128]
    #[arg(long, value_name = "EF", value_parser = clap::value_parser!(u32).range(8..=4_096))]
    hnsw_ef_construct: Option<u32>,
    /// Codes that graphs are walked on; the final order is always by the original vectors
    /// [default in a new collection: auto]
    #[arg(long, value_enum)]
    quantization: Option<QuantizationName>,
    /// Where the original vectors of sealed segments live [default in a new collection: memory]
    #[arg(long, value_enum)]
    storage: Option<StorageName>,
    /// Recall that a search without --ef aims at, 0.5 to 0.999 [default in a new collection: 0.99]
    #[arg(long, value_name = "SHARE")]
    recall_target: Option<f32>,
}

/// [`schema::Quantization`] as it is called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum QuantizationName {
    /// Whatever keeps recall
    Auto,
    /// The original vectors
    None,
    /// Half a byte a component; a byte where that loses neighbours
    Int4,
    /// A byte a component
    Int8,
    /// A bit a component
    Binary,
}

/// [`schema::VectorStorage`] as it is called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum StorageName {
    /// In memory, as far as there is enough
    Memory,
    /// On disk, read where a search needs them
    Mapped,
}

impl From<QuantizationName> for schema::Quantization {
    fn from(name: QuantizationName) -> Self {
        match name {
            QuantizationName::Auto => Self::Auto,
            QuantizationName::None => Self::None,
            QuantizationName::Int4 => Self::Int4,
            QuantizationName::Int8 => Self::Int8,
            QuantizationName::Binary => Self::Binary,
        }
    }
}

impl From<StorageName> for schema::VectorStorage {
    fn from(name: StorageName) -> Self {
        match name {
            StorageName::Memory => Self::Memory,
            StorageName::Mapped => Self::Mapped,
        }
    }
}

impl IndexFlags {
    /// Whether a flag was given.
    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Puts what was given into a space that is made.
    pub(super) fn apply(&self, space: &mut VectorSpace) {
        space.hnsw = self.hnsw();
        space.quantization = self.quantization().into();
        space.storage = self.storage().into();
        space.recall_target = self.recall_target;
    }

    /// The change of a space that is there.
    pub(super) fn update(&self, space: &str) -> VectorSpaceUpdate {
        VectorSpaceUpdate {
            name: space.to_owned(),
            hnsw: self.hnsw(),
            quantization: self.quantization().into(),
            storage: self.storage().into(),
            recall_target: self.recall_target,
        }
    }

    fn hnsw(&self) -> Option<HnswOptions> {
        let given = self.hnsw_m.is_some() || self.hnsw_ef_construct.is_some();
        given.then_some(HnswOptions { m: self.hnsw_m, ef_construct: self.hnsw_ef_construct })
    }

    fn quantization(&self) -> Quantization {
        match self.quantization {
            None => Quantization::Unspecified,
            Some(QuantizationName::Auto) => Quantization::Auto,
            Some(QuantizationName::None) => Quantization::None,
            Some(QuantizationName::Int4) => Quantization::Int4,
            Some(QuantizationName::Int8) => Quantization::Int8,
            Some(QuantizationName::Binary) => Quantization::Binary,
        }
    }

    fn storage(&self) -> VectorStorage {
        match self.storage {
            None => VectorStorage::Unspecified,
            Some(StorageName::Memory) => VectorStorage::Memory,
            Some(StorageName::Mapped) => VectorStorage::Mapped,
        }
    }
}
