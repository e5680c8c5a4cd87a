//! Schemas, and what is told of a collection.

use ragstone_index::schema::{
    CollectionSchema, Distance, FieldType, IndexChange, IndexOptions, PayloadField, Quantization,
    RecallTarget, VectorStorage,
};
use ragstone_proto::v1;

use crate::app::collections::{CollectionView, SchemaDraft, SpaceDraft};
use crate::app::error::{Error, Result};

/// The schema that a client asks for. Embedders are names here; the application layer looks them up.
pub fn draft(schema: v1::CollectionSchema) -> Result<SchemaDraft> {
    let vectors = schema.vectors.into_iter().enumerate().map(|(i, space)| {
        let distance = match v1::Distance::try_from(space.distance) {
            Ok(v1::Distance::Unspecified | v1::Distance::Cosine) => Distance::Cosine,
            Ok(v1::Distance::Dot) => Distance::Dot,
            Ok(v1::Distance::Euclidean) => Distance::Euclidean,
            Err(_) => {
                return Err(Error::invalid(
                    format!("schema.vectors[{i}].distance"),
                    format!("{} is not a distance known here", space.distance),
                ));
            }
        };
        let wanted = WireIndex {
            hnsw: space.hnsw,
            quantization: space.quantization,
            storage: space.storage,
            recall_target: space.recall_target,
        };
        let index = wanted.checked(&format!("schema.vectors[{i}]"))?;
        let v1::VectorSpace { name, dimension, embedder, .. } = space;
        Ok(SpaceDraft { name, dimension, distance, embedder, index })
    });
    Ok(SchemaDraft {
        vectors: vectors.collect::<Result<_>>()?,
        payload: payload_fields(schema.payload, "schema.payload")?,
        dynamic_payload: schema.dynamic_payload.unwrap_or(true),
        description: schema.description,
    })
}

/// How vectors are to be indexed from now on, by vector space.
pub fn index_changes(updates: Vec<v1::VectorSpaceUpdate>) -> Result<Vec<(String, IndexChange)>> {
    let changes = updates.into_iter().enumerate().map(|(i, update)| {
        let v1::VectorSpaceUpdate { name, hnsw, quantization, storage, recall_target } = update;
        let wanted = WireIndex { hnsw, quantization, storage, recall_target };
        Ok((name, wanted.checked(&format!("update_vectors[{i}]"))?))
    });
    changes.collect()
}

/// What a message says of an index.
struct WireIndex {
    hnsw: Option<v1::HnswOptions>,
    quantization: i32,
    storage: i32,
    recall_target: Option<f32>,
}

impl WireIndex {
    fn checked(self, at: &str) -> Result<IndexChange> {
        let v1::HnswOptions { m, ef_construct } = self.hnsw.unwrap_or_default();
        let quantization = match v1::Quantization::try_from(self.quantization) {
            Ok(v1::Quantization::Unspecified) => None,
            Ok(v1::Quantization::Auto) => Some(Quantization::Auto),
            Ok(v1::Quantization::None) => Some(Quantization::None),
            Ok(v1::Quantization::Int4) => Some(Quantization::Int4),
            Ok(v1::Quantization::Int8) => Some(Quantization::Int8),
            Ok(v1::Quantization::Binary) => Some(Quantization::Binary),
            Err(_) => {
                let message = format!("{} is not a quantization known here", self.quantization);
                return Err(Error::invalid(format!("{at}.quantization"), message));
            }
        };
        let storage = match v1::VectorStorage::try_from(self.storage) {
            Ok(v1::VectorStorage::Unspecified) => None,
            Ok(v1::VectorStorage::Memory) => Some(VectorStorage::Memory),
            Ok(v1::VectorStorage::Mapped) => Some(VectorStorage::Mapped),
            Err(_) => {
                let message = format!("{} is not a storage known here", self.storage);
                return Err(Error::invalid(format!("{at}.storage"), message));
            }
        };
        let target = self.recall_target;
        let recall_target = target.map(|target| RecallTarget::new(target, &format!("{at}.recall_target")));
        let change =
            IndexChange { m, ef_construct, quantization, storage, recall_target: recall_target.transpose()? };
        // With the defaults for the rest: what is given must be within bounds by itself.
        IndexOptions::default().changed(&change).validate(at)?;
        Ok(change)
    }
}

/// Payload fields with known types. `at` is their path in the request.
pub fn payload_fields(fields: Vec<v1::PayloadField>, at: &str) -> Result<Vec<PayloadField>> {
    let fields = fields.into_iter().enumerate().map(|(i, field)| {
        let field_type = match v1::FieldType::try_from(field.r#type) {
            Ok(v1::FieldType::Keyword) => FieldType::Keyword,
            Ok(v1::FieldType::Integer) => FieldType::Integer,
            Ok(v1::FieldType::Float) => FieldType::Float,
            Ok(v1::FieldType::Bool) => FieldType::Bool,
            Ok(v1::FieldType::Datetime) => FieldType::Datetime,
            Ok(v1::FieldType::Text) => FieldType::Text,
            Ok(v1::FieldType::Unspecified) | Err(_) => {
                let known = "keyword, integer, float, bool, datetime, text";
                return Err(Error::invalid(format!("{at}[{i}].type"), format!("give a type: {known}")));
            }
        };
        Ok(PayloadField { name: field.name, field_type })
    });
    fields.collect()
}

/// What is told of a collection.
pub fn info(view: CollectionView) -> v1::CollectionInfo {
    v1::CollectionInfo {
        name: view.name,
        schema: Some(wire(&view.schema)),
        points: view.points,
        documents: view.documents,
        seq_no: view.seq_no,
    }
}

fn wire(schema: &CollectionSchema) -> v1::CollectionSchema {
    let space = |space: &ragstone_index::schema::VectorSpace| {
        let distance = match space.distance {
            Distance::Cosine => v1::Distance::Cosine,
            Distance::Dot => v1::Distance::Dot,
            Distance::Euclidean => v1::Distance::Euclidean,
        };
        let (embedder, embedder_fingerprint) =
            space.embedder.as_ref().map(|e| (e.name.clone(), e.fingerprint.clone())).unwrap_or_default();
        v1::VectorSpace {
            name: space.name.clone(),
            dimension: space.dimension,
            distance: distance.into(),
            embedder,
            embedder_fingerprint,
            hnsw: Some(v1::HnswOptions {
                m: Some(space.index.hnsw.m),
                ef_construct: Some(space.index.hnsw.ef_construct),
            }),
            quantization: quantization(space.index.quantization).into(),
            storage: storage(space.index.storage).into(),
            recall_target: Some(space.index.recall_target.get()),
        }
    };
    let field = |field: &PayloadField| {
        let field_type = match field.field_type {
            FieldType::Keyword => v1::FieldType::Keyword,
            FieldType::Integer => v1::FieldType::Integer,
            FieldType::Float => v1::FieldType::Float,
            FieldType::Bool => v1::FieldType::Bool,
            FieldType::Datetime => v1::FieldType::Datetime,
            FieldType::Text => v1::FieldType::Text,
        };
        v1::PayloadField { name: field.name.clone(), r#type: field_type.into() }
    };
    v1::CollectionSchema {
        vectors: schema.vectors.iter().map(space).collect(),
        payload: schema.payload.iter().map(field).collect(),
        dynamic_payload: Some(schema.dynamic_payload),
        description: schema.description.clone(),
    }
}

fn quantization(quantization: Quantization) -> v1::Quantization {
    match quantization {
        Quantization::Auto => v1::Quantization::Auto,
        Quantization::None => v1::Quantization::None,
        Quantization::Int4 => v1::Quantization::Int4,
        Quantization::Int8 => v1::Quantization::Int8,
        Quantization::Binary => v1::Quantization::Binary,
    }
}

fn storage(storage: VectorStorage) -> v1::VectorStorage {
    match storage {
        VectorStorage::Memory => v1::VectorStorage::Memory,
        VectorStorage::Mapped => v1::VectorStorage::Mapped,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn update(change: impl FnOnce(&mut v1::VectorSpaceUpdate)) -> Result<Vec<(String, IndexChange)>> {
        let mut update = v1::VectorSpaceUpdate { name: "text".into(), ..Default::default() };
        change(&mut update);
        index_changes(vec![v1::VectorSpaceUpdate::default(), update])
    }

    #[test]
    fn what_a_message_leaves_out_stays_open() {
        let changes = update(|_| {}).unwrap();
        assert_eq!(changes[1], ("text".to_owned(), IndexChange::default()));
        let changes = update(|update| update.storage = v1::VectorStorage::Mapped.into()).unwrap();
        let mapped = IndexChange { storage: Some(VectorStorage::Mapped), ..IndexChange::default() };
        assert_eq!(changes[1].1, mapped);
    }

    #[test]
    fn index_options_out_of_bounds_are_named() {
        let check = |change: fn(&mut v1::VectorSpaceUpdate), field: &str| {
            let message = update(change).unwrap_err().to_string();
            assert!(message.starts_with(&format!("update_vectors[1].{field}: ")), "{message}");
        };
        check(|u| u.hnsw = Some(v1::HnswOptions { m: Some(3), ef_construct: None }), "hnsw.m");
        check(|u| u.hnsw = Some(v1::HnswOptions { m: None, ef_construct: Some(5_000) }), "hnsw.ef_construct");
        check(|u| u.quantization = 9, "quantization");
        check(|u| u.storage = -1, "storage");
        check(|u| u.recall_target = Some(1.0), "recall_target");
        let space = v1::VectorSpace { recall_target: Some(0.1), ..Default::default() };
        let schema = v1::CollectionSchema { vectors: vec![space], ..Default::default() };
        let message = draft(schema).unwrap_err().to_string();
        assert!(message.starts_with("schema.vectors[0].recall_target: "), "{message}");
    }
}
