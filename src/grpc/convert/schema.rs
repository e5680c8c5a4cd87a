//! Schemas and what is told of a collection.

use ragstone_index::collection::CollectionStats;
use ragstone_index::schema::{CollectionSchema, Distance, FieldType, PayloadField};
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
        Ok(SpaceDraft { name: space.name, dimension: space.dimension, distance, embedder: space.embedder })
    });
    Ok(SchemaDraft {
        vectors: vectors.collect::<Result<_>>()?,
        payload: payload_fields(schema.payload, "schema.payload")?,
        dynamic_payload: schema.dynamic_payload.unwrap_or(true),
        description: schema.description,
    })
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

/// Counts and sizes.
pub fn stats(name: String, stats: CollectionStats) -> v1::CollectionStats {
    let segment = |segment: ragstone_index::collection::SegmentStats| v1::SegmentStats {
        id: segment.id,
        rows: segment.rows,
        deleted_rows: segment.deleted_rows,
        bytes: segment.bytes,
        vector_index: segment
            .vector_index
            .into_iter()
            .map(|(space, kind)| (space, kind.to_owned()))
            .collect(),
    };
    v1::CollectionStats {
        name,
        points: stats.points,
        documents: stats.documents,
        documents_failed: stats.documents_failed,
        seq_no: stats.seq_no,
        memtable_points: stats.memtable_points,
        memtable_bytes: stats.memtable_bytes,
        segments: stats.segments.into_iter().map(segment).collect(),
        log_bytes: stats.log_bytes,
        disk_bytes: stats.disk_bytes,
    }
}
