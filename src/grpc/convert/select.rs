//! What a reply carries: payload fields, vectors, and points themselves.

use ragstone_index::search::{PayloadSelect, PointData};
use ragstone_proto::v1;

use super::{payload, vector};
use crate::app::error::{Error, Result};

/// Which payload fields.
pub fn payload_select(selector: Option<v1::PayloadSelector>) -> Result<PayloadSelect> {
    let Some(v1::PayloadSelector { enable, include, exclude }) = selector else {
        return Ok(PayloadSelect::All);
    };
    match (enable, include.is_empty(), exclude.is_empty()) {
        (Some(false), _, _) => Ok(PayloadSelect::None),
        (_, true, true) => Ok(PayloadSelect::All),
        (_, false, true) => Ok(PayloadSelect::Include(include)),
        (_, true, false) => Ok(PayloadSelect::Exclude(exclude)),
        (_, false, false) => {
            Err(Error::invalid("with_payload", "gives both include and exclude: give one of them"))
        }
    }
}

/// Which vector spaces; `["*"]` is the engine's word for all.
pub fn vector_select(selector: Option<v1::VectorSelector>) -> Vec<String> {
    match selector {
        Some(v1::VectorSelector { enable: true, names }) if names.is_empty() => vec!["*".into()],
        Some(v1::VectorSelector { enable: true, names }) => names,
        // Naming spaces without saying "enable" can only mean that they are wanted.
        Some(v1::VectorSelector { enable: false, names }) => names,
        None => Vec::new(),
    }
}

/// A point as it goes over the wire.
pub fn point(point: PointData) -> v1::Point {
    v1::Point {
        id: point.id,
        vectors: point.vectors.into_iter().map(|(space, values)| (space, vector::packed(&values))).collect(),
        text: point.text,
        payload: point.payload.map(payload::from_json),
        origin: Some(origin(point.origin)),
        expires_at_ms: point.expires_at_ms,
    }
}

/// Where a point comes from.
pub fn origin(origin: ragstone_index::search::Origin) -> v1::Origin {
    v1::Origin {
        document_id: origin.document_id,
        uri: origin.uri,
        title: origin.title,
        media_type: origin.media_type,
        page: origin.page,
        heading_path: origin.heading_path,
        chunk_index: origin.chunk_index,
        span_start: origin.span_start,
        span_end: origin.span_end,
        part: origin.part,
        parent: origin.parent,
    }
}
