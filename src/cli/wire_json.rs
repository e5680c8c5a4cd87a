//! Messages of the wire as the JSON that `--json` prints.

use ragstone_proto::v1::value::Kind;
use ragstone_proto::v1::{
    CollectionInfo, CollectionStats, Distance, Document, DocumentState, EmbeddingStats, FieldType, Hit,
    Location, Origin, Payload, Plan, Point, Quantization, Span, Value, Vector, VectorIndexStats,
    VectorStorage,
};
use serde_json::{Map, Value as Json, json};

pub(super) fn value(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(*flag),
        Some(Kind::IntegerValue(number)) => json!(number),
        Some(Kind::FloatValue(number)) => json!(number),
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(self::value).collect()),
        Some(Kind::StructValue(fields)) => payload(fields),
    }
}

pub(super) fn payload(payload: &Payload) -> Json {
    // Sorted, so that the same payload prints the same.
    let mut fields: Vec<_> = payload.fields.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    Json::Object(fields.into_iter().map(|(name, field)| (name.clone(), value(field))).collect())
}

/// Components of a vector, in either of its two forms.
pub(super) fn components(vector: &Vector) -> Vec<f32> {
    if vector.f32.is_empty() {
        return vector.values.clone();
    }
    vector.f32.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn vectors<'a>(vectors: impl IntoIterator<Item = (&'a String, &'a Vector)>) -> Json {
    let mut sorted: Vec<_> = vectors.into_iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    Json::Object(sorted.into_iter().map(|(name, vector)| (name.clone(), json!(components(vector)))).collect())
}

/// Adds the fields of an origin that say something.
fn add_origin(object: &mut Map<String, Json>, origin: &Origin) {
    let texts = [
        ("document_id", &origin.document_id),
        ("uri", &origin.uri),
        ("title", &origin.title),
        ("media_type", &origin.media_type),
        ("part", &origin.part),
    ];
    for (name, text) in texts {
        if !text.is_empty() {
            object.insert(name.to_owned(), json!(text));
        }
    }
    if !origin.heading_path.is_empty() {
        object.insert("heading_path".to_owned(), json!(origin.heading_path));
    }
    let numbers = [
        ("page", origin.page.map(u64::from)),
        ("chunk_index", origin.chunk_index.map(u64::from)),
        ("span_start", origin.span_start),
        ("span_end", origin.span_end),
        ("parent", origin.parent.map(u64::from)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            object.insert(name.to_owned(), json!(number));
        }
    }
}

fn spans(spans: &[Span]) -> Json {
    spans.iter().map(|span| json!([span.start, span.end])).collect()
}

pub(super) fn hit(hit: &Hit) -> Json {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(hit.id));
    object.insert("score".to_owned(), json!(hit.score));
    object.insert("vector_score".to_owned(), json!(hit.vector_score));
    object.insert("keyword_score".to_owned(), json!(hit.keyword_score));
    if let Some(origin) = &hit.origin {
        add_origin(&mut object, origin);
    }
    object.insert("text".to_owned(), json!(hit.text));
    if let Some(parent) = &hit.parent {
        object.insert("parent_text".to_owned(), json!(parent.text));
        object.insert("parent_span".to_owned(), json!([parent.span_start, parent.span_end]));
    }
    if let Some(fields) = &hit.payload {
        object.insert("payload".to_owned(), payload(fields));
    }
    if let Some(highlight) = &hit.highlight {
        object.insert("snippet".to_owned(), json!(highlight.snippet));
        object.insert("snippet_spans".to_owned(), spans(&highlight.snippet_spans));
        object.insert("spans".to_owned(), spans(&highlight.spans));
    }
    if !hit.vectors.is_empty() {
        object.insert("vectors".to_owned(), vectors(&hit.vectors));
    }
    if !hit.legs.is_empty() {
        let legs = hit.legs.iter().map(|leg| {
            json!({"leg": leg.leg, "rank": leg.rank, "raw": leg.raw, "normalized": leg.normalized, "weight": leg.weight})
        });
        object.insert("legs".to_owned(), legs.collect());
    }
    let mut object = Json::Object(object);
    add_locations(&mut object, &hit.also_at, hit.also_at_total);
    if !hit.near_duplicates.is_empty() {
        let ids: Vec<&str> = hit.near_duplicates.iter().map(|at| at.document_id.as_str()).collect();
        object["near_duplicates"] = json!(ids);
    }
    object
}

pub(super) fn plan(plan: &Plan) -> Json {
    let phases: Map<String, Json> =
        plan.phases.iter().map(|phase| (phase.phase.clone(), json!(phase.elapsed_us))).collect();
    json!({"steps": plan.steps, "elapsed_us": phases})
}

pub(super) fn point(point: &Point) -> Json {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(point.id));
    if let Some(origin) = &point.origin {
        add_origin(&mut object, origin);
    }
    object.insert("text".to_owned(), json!(point.text));
    if let Some(fields) = &point.payload {
        object.insert("payload".to_owned(), payload(fields));
    }
    if !point.vectors.is_empty() {
        object.insert("vectors".to_owned(), vectors(&point.vectors));
    }
    Json::Object(object)
}

pub(super) fn document(document: &Document) -> Json {
    let state = match document.state() {
        DocumentState::Unspecified => "unknown",
        DocumentState::Indexed => "indexed",
        DocumentState::Failed => "failed",
        DocumentState::Linked => "linked",
    };
    let mut object = json!({
        "id": document.id, "uri": document.uri, "title": document.title, "media_type": document.media_type,
        "version": document.version, "size_bytes": document.size_bytes, "chunks": document.chunks, "state": state,
        "error": document.error, "indexed_at": document.indexed_at, "source_id": document.source_id,
        "linked_to": document.linked_to,
    });
    add_locations(&mut object, &document.also_at, document.also_at_total);
    object
}

/// Where else a content lies, where it does.
fn add_locations(object: &mut Json, also_at: &[Location], total: u32) {
    if total > 0 {
        let location = |at: &Location| json!({"document_id": at.document_id, "uri": at.uri});
        object["also_at"] = also_at.iter().map(location).collect();
        object["also_at_total"] = json!(total);
    }
}

pub(super) fn distance_name(distance: Distance) -> &'static str {
    match distance {
        Distance::Unspecified | Distance::Cosine => "cosine",
        Distance::Dot => "dot",
        Distance::Euclidean => "euclidean",
    }
}

fn quantization_name(quantization: Quantization) -> &'static str {
    match quantization {
        Quantization::Unspecified | Quantization::Auto => "auto",
        Quantization::None => "none",
        Quantization::Int4 => "int4",
        Quantization::Int8 => "int8",
        Quantization::Binary => "binary",
    }
}

fn storage_name(storage: VectorStorage) -> &'static str {
    match storage {
        VectorStorage::Unspecified | VectorStorage::Memory => "memory",
        VectorStorage::Mapped => "mapped",
    }
}

/// A share as it was written: 0.99 and not 0.9900000095.
fn decimal(share: f32) -> f64 {
    (f64::from(share) * 1e6).round() / 1e6
}

pub(super) fn field_type_name(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Unspecified => "unknown",
        FieldType::Keyword => "keyword",
        FieldType::Integer => "integer",
        FieldType::Float => "float",
        FieldType::Bool => "bool",
        FieldType::Datetime => "datetime",
        FieldType::Text => "text",
    }
}

pub(super) fn collection(info: &CollectionInfo) -> Json {
    let schema = info.schema.clone().unwrap_or_default();
    let vectors = schema.vectors.iter().map(|space| {
        json!({
            "name": space.name, "dimension": space.dimension, "distance": distance_name(space.distance()),
            "embedder": space.embedder, "embedder_fingerprint": space.embedder_fingerprint,
            "m": space.hnsw.and_then(|hnsw| hnsw.m), "ef_construct": space.hnsw.and_then(|hnsw| hnsw.ef_construct),
            "quantization": quantization_name(space.quantization()), "storage": storage_name(space.storage()),
            "recall_target": space.recall_target.map(decimal),
        })
    });
    let fields = schema
        .payload
        .iter()
        .map(|field| json!({"name": field.name, "type": field_type_name(field.r#type())}));
    json!({
        "name": info.name, "description": schema.description, "points": info.points, "documents": info.documents,
        "seq_no": info.seq_no, "vectors": vectors.collect::<Json>(), "payload": fields.collect::<Json>(),
        "dynamic_payload": schema.dynamic_payload.unwrap_or(true),
    })
}

pub(super) fn collection_stats(stats: &CollectionStats) -> Json {
    let segments = stats.segments.iter().map(|segment| {
        let mut index: Vec<_> = segment.vector_index.iter().collect();
        index.sort();
        let index: Map<String, Json> = index.into_iter().map(|(space, kind)| (space.clone(), json!(kind))).collect();
        json!({
            "id": segment.id, "rows": segment.rows, "deleted_rows": segment.deleted_rows, "bytes": segment.bytes,
            "vector_index": index, "vector_indexes": segment.vector_indexes.iter().map(vector_index).collect::<Json>(),
        })
    });
    let recall = stats.recall.iter().map(|recall| {
        json!({
            "vector_space": recall.vector_space, "recall_target": decimal(recall.recall_target),
            "samples": recall.samples, "dropped": recall.dropped, "recall": recall.recall,
            "recent_recall": recall.recent_recall,
        })
    });
    json!({
        "name": stats.name, "points": stats.points, "documents": stats.documents,
        "documents_failed": stats.documents_failed, "seq_no": stats.seq_no, "memtable_points": stats.memtable_points,
        "memtable_bytes": stats.memtable_bytes, "segments": segments.collect::<Json>(), "log_bytes": stats.log_bytes,
        "disk_bytes": stats.disk_bytes, "deleted_rows": stats.deleted_rows, "tombstone_share": stats.tombstone_share,
        "space_amplification": stats.space_amplification, "recall": recall.collect::<Json>(),
    })
}

pub(super) fn embedding_stats(stats: &EmbeddingStats) -> Json {
    let cache = stats.cache.as_ref().map(|cache| {
        json!({
            "hits": cache.hits, "misses": cache.misses, "damaged": cache.damaged, "vectors": cache.vectors,
            "bytes": cache.bytes, "limit_bytes": cache.limit_bytes,
        })
    });
    json!({"embedded": stats.embedded, "shared": stats.shared, "cache": cache})
}

fn vector_index(index: &VectorIndexStats) -> Json {
    let graph = index.graph.as_ref().map(|graph| {
        let calibration =
            graph.calibration.iter().map(|beam| json!({"recall": decimal(beam.recall), "ef": beam.ef}));
        json!({
            "m": graph.m, "ef_construct": graph.ef_construct, "quantization": graph.quantization,
            "code_bytes": graph.code_bytes, "graph_bytes": graph.graph_bytes,
            "code_recall": graph.code_recall.map(decimal), "calibration": calibration.collect::<Json>(),
            "inherited": graph.inherited, "generation": graph.generation,
        })
    });
    json!({
        "vector_space": index.vector_space, "vectors": index.vectors, "vector_bytes": index.vector_bytes,
        "graph": graph,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use ragstone_proto::v1::{Highlight, ListValue};

    fn text(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.to_owned())) }
    }

    #[test]
    fn integers_keep_all_their_bits() {
        let number = Value { kind: Some(Kind::IntegerValue(i64::MAX)) };
        assert_eq!(value(&number).to_string(), "9223372036854775807");
    }

    #[test]
    fn payloads_print_sorted_and_nested() {
        let list =
            Value { kind: Some(Kind::ListValue(ListValue { values: vec![text("x"), Value::default()] })) };
        let inner = Payload { fields: [("name".to_owned(), text("Ada"))].into() };
        let fields = [
            ("tags".to_owned(), list),
            ("author".to_owned(), Value { kind: Some(Kind::StructValue(inner)) }),
            ("draft".to_owned(), Value { kind: Some(Kind::BoolValue(true)) }),
        ];
        let json = payload(&Payload { fields: fields.into() }).to_string();
        assert_eq!(json, r#"{"author":{"name":"Ada"},"draft":true,"tags":["x",null]}"#);
    }

    #[test]
    fn both_forms_of_a_vector_read_the_same() {
        let packed: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let packed = Vector { f32: packed.into(), values: Vec::new() };
        let plain = Vector { f32: Vec::new().into(), values: vec![1.5, -2.0] };
        assert_eq!(components(&packed), components(&plain));
    }

    #[test]
    fn a_hit_names_all_three_scores_even_when_a_leg_did_not_find_it() {
        let found = Hit {
            id: "a#0".into(),
            score: 0.5,
            keyword_score: Some(2.0),
            origin: Some(Origin { document_id: "a".into(), page: Some(3), ..Origin::default() }),
            highlight: Some(Highlight { snippet: "b".into(), ..Highlight::default() }),
            ..Hit::default()
        };
        let json = hit(&found);
        assert_eq!(json["vector_score"], Json::Null);
        assert_eq!((&json["keyword_score"], &json["page"]), (&json!(2.0), &json!(3)));
        assert!(json.get("uri").is_none() && json.get("chunk_index").is_none());
    }
}
