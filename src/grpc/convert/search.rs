//! Searches and their hits.

use ragstone_index::schema::RecallTarget;
use ragstone_index::search::{Fusion, Hit, LegScore, MAX_EF, MAX_LIMIT, Origin, Select};
use ragstone_proto::v1;
use ragstone_proto::v1::fusion::Method;

use super::{document, filter, payload, select, vector};
use crate::app::error::{Error, Result};
use crate::app::parents::Parent;
use crate::app::search::{Answer, MAX_PARENTS, Mode, Query};
use crate::app::snippet::{Snippet, snippet};

/// Hits when the request doesn't say.
const DEFAULT_LIMIT: u32 = 10;
/// The usual constant of reciprocal rank fusion.
const DEFAULT_RRF_K: f32 = 60.0;

/// A search that a client asks for.
pub fn query(request: v1::SearchRequest) -> Result<Query> {
    let mode = match v1::SearchMode::try_from(request.mode) {
        Ok(v1::SearchMode::Unspecified) => Mode::Auto,
        Ok(v1::SearchMode::Hybrid) => Mode::Hybrid,
        Ok(v1::SearchMode::Vector) => Mode::Vector,
        Ok(v1::SearchMode::Keyword) => Mode::Keyword,
        Err(_) => return Err(Error::invalid("mode", format!("{} is not a mode known here", request.mode))),
    };
    let limit = request.limit.unwrap_or(DEFAULT_LIMIT) as usize;
    let offset = request.offset as usize;
    if limit == 0 || limit > MAX_LIMIT {
        return Err(Error::invalid("limit", format!("{limit} is not between 1 and {MAX_LIMIT}")));
    }
    if limit + offset > MAX_LIMIT {
        return Err(Error::invalid(
            "offset",
            format!("offset + limit is {}, over {MAX_LIMIT}", limit + offset),
        ));
    }
    if (request.with_parents || request.collapse_near_duplicates) && limit + offset > MAX_PARENTS {
        let what = if request.with_parents { "with_parents" } else { "collapse_near_duplicates" };
        return Err(Error::invalid(
            "limit",
            format!("{what} gives at most {MAX_PARENTS} hits, offset included"),
        ));
    }
    if request.score_threshold.is_some_and(|score| !score.is_finite()) {
        return Err(Error::invalid("score_threshold", "is not a finite number"));
    }
    let vector = request
        .vector
        .map(|v| vector::components(&v).map_err(|e| Error::invalid("vector", e)))
        .transpose()?;
    let v1::SearchParams { hnsw_ef, exact, candidates, recall_target } = request.params.unwrap_or_default();
    let recall_target = recall_target.map(|target| RecallTarget::new(target, "params.recall_target"));
    let text = request.with_text.unwrap_or(true);
    Ok(Query {
        collection: request.collection,
        mode,
        text: request.text,
        vector,
        using: request.using,
        filter: request.filter.map(|f| filter::filter(f, "filter")).transpose()?,
        limit,
        offset,
        score_threshold: request.score_threshold,
        max_per_document: request.max_per_document.filter(|n| *n > 0).map(|n| n as usize),
        fusion: fusion(request.fusion)?,
        ef: bounded(hnsw_ef, MAX_EF, "params.hnsw_ef")?,
        recall_target: recall_target.transpose()?,
        exact: exact.unwrap_or(false),
        candidates: bounded(candidates, MAX_LIMIT, "params.candidates")?,
        select: Select {
            payload: select::payload_select(request.with_payload)?,
            vectors: select::vector_select(request.with_vectors),
            text,
            highlights: text && request.with_highlights.unwrap_or(true),
        },
        min_seq_no: request.min_seq_no,
        explain: request.explain,
        parents: request.with_parents,
        collapse: request.collapse_near_duplicates,
    })
}

fn bounded(value: Option<u32>, most: usize, at: &str) -> Result<Option<usize>> {
    match value.map(|v| v as usize) {
        Some(value) if value == 0 || value > most => {
            Err(Error::invalid(at, format!("{value} is not between 1 and {most}")))
        }
        value => Ok(value),
    }
}

fn fusion(fusion: Option<v1::Fusion>) -> Result<Fusion> {
    let share = |weight: Option<f32>, at: &str| match weight.unwrap_or(0.5) {
        weight if (0.0..=1.0).contains(&weight) => Ok(weight),
        weight => Err(Error::invalid(at, format!("{weight} is not between 0 and 1"))),
    };
    match fusion.and_then(|fusion| fusion.method) {
        None => Ok(Fusion::default()),
        Some(Method::MinMax(min_max)) => Ok(Fusion::MinMax {
            vector_weight: share(min_max.vector_weight, "fusion.min_max.vector_weight")?,
        }),
        Some(Method::Rrf(rrf)) => {
            let k = rrf.k.unwrap_or(DEFAULT_RRF_K);
            if !(k.is_finite() && k > 0.0) {
                return Err(Error::invalid("fusion.rrf.k", format!("{k} is not a finite number above 0")));
            }
            Ok(Fusion::Rrf { k, vector_weight: share(rrf.vector_weight, "fusion.rrf.vector_weight")? })
        }
    }
}

/// The reply to a search.
pub fn reply(answer: Answer) -> v1::SearchResponse {
    let phases = answer.phases.into_iter();
    let phases = phases.map(|(phase, elapsed_us)| v1::PhaseTime { phase: phase.into(), elapsed_us });
    let plan = answer.explain.then(|| v1::Plan { steps: answer.plan, phases: phases.collect() });
    let highlights = answer.highlights;
    let mut parents = answer.parents.into_iter();
    let copies = answer.copies;
    let hit = |found: Hit| {
        let copies = copies.get(&found.point.origin.document_id);
        let (also_at, also_at_total) = copies.map(document::locations).unwrap_or_default();
        let near_duplicates = answer.collapsed.get(&found.point.origin.document_id);
        let near_duplicates = near_duplicates.into_iter().flatten().map(location).collect();
        v1::Hit {
            also_at,
            also_at_total,
            near_duplicates,
            ..hit(found, highlights, parents.next().flatten())
        }
    };
    v1::SearchResponse {
        hits: answer.hits.into_iter().map(hit).collect(),
        seq_no: answer.seq_no,
        elapsed_us: answer.elapsed.as_micros() as u64,
        plan,
    }
}

fn hit(hit: Hit, highlights: bool, parent: Option<Parent>) -> v1::Hit {
    let highlight = highlights.then(|| {
        let Snippet { text, spans } = snippet(&hit.point.text, &hit.highlights);
        v1::Highlight { spans: wire_spans(&hit.highlights), snippet: text, snippet_spans: wire_spans(&spans) }
    });
    v1::Hit {
        id: hit.point.id,
        score: hit.score,
        vector_score: hit.vector_score,
        keyword_score: hit.keyword_score,
        text: hit.point.text,
        payload: hit.point.payload.map(payload::from_json),
        origin: Some(select::origin(hit.point.origin)),
        vectors: hit
            .point
            .vectors
            .into_iter()
            .map(|(space, values)| (space, vector::packed(&values)))
            .collect(),
        highlight,
        legs: hit.legs.into_iter().map(leg).collect(),
        parent: parent.map(|parent| v1::Parent {
            text: parent.text,
            span_start: parent.span.start,
            span_end: parent.span.end,
        }),
        also_at: Vec::new(),
        also_at_total: 0,
        near_duplicates: Vec::new(),
    }
}

fn location(origin: &Origin) -> v1::Location {
    v1::Location { document_id: origin.document_id.clone(), uri: origin.uri.clone() }
}

fn wire_spans(spans: &[std::ops::Range<usize>]) -> Vec<v1::Span> {
    // Texts are at most 1 MiB: positions fit.
    spans.iter().map(|span| v1::Span { start: span.start as u32, end: span.end as u32 }).collect()
}

fn leg(leg: LegScore) -> v1::LegScore {
    v1::LegScore {
        leg: leg.leg.name().into(),
        rank: u32::try_from(leg.rank).unwrap_or(u32::MAX),
        raw: leg.raw,
        normalized: leg.normalized,
        weight: leg.weight,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn request() -> v1::SearchRequest {
        v1::SearchRequest { collection: "c".into(), text: Some("t".into()), ..v1::SearchRequest::default() }
    }

    #[test]
    fn absent_means_the_documented_default() {
        let query = query(request()).unwrap();
        assert_eq!((query.limit, query.offset, query.mode), (10, 0, Mode::Auto));
        assert_eq!(query.fusion, Fusion::MinMax { vector_weight: 0.5 });
        assert_eq!(query.select, Select::default());
        assert!(!query.exact && query.ef.is_none() && query.candidates.is_none());
    }

    #[test]
    fn without_text_there_are_no_highlights() {
        let query = query(v1::SearchRequest { with_text: Some(false), ..request() }).unwrap();
        assert!(!query.select.text && !query.select.highlights);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let check = |request: v1::SearchRequest, field: &str| {
            let message = query(request).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{field}: ")), "{message}");
        };
        let params = |params: v1::SearchParams| v1::SearchRequest { params: Some(params), ..request() };
        let fusion = |method: Method| v1::SearchRequest {
            fusion: Some(v1::Fusion { method: Some(method) }),
            ..request()
        };
        check(v1::SearchRequest { limit: Some(0), ..request() }, "limit");
        check(v1::SearchRequest { limit: Some(10_001), ..request() }, "limit");
        check(v1::SearchRequest { offset: u32::MAX, ..request() }, "offset");
        check(v1::SearchRequest { mode: 17, ..request() }, "mode");
        check(v1::SearchRequest { score_threshold: Some(f32::NAN), ..request() }, "score_threshold");
        check(v1::SearchRequest { vector: Some(v1::Vector::default()), ..request() }, "vector");
        check(params(v1::SearchParams { hnsw_ef: Some(0), ..Default::default() }), "params.hnsw_ef");
        for target in [0.4, 1.0, f32::NAN] {
            let wanted = v1::SearchParams { recall_target: Some(target), ..Default::default() };
            check(params(wanted), "params.recall_target");
        }
        check(
            params(v1::SearchParams { candidates: Some(10_001), ..Default::default() }),
            "params.candidates",
        );
        check(
            fusion(Method::MinMax(v1::MinMaxFusion { vector_weight: Some(1.5) })),
            "fusion.min_max.vector_weight",
        );
        check(fusion(Method::Rrf(v1::RrfFusion { k: Some(f32::NAN), vector_weight: None })), "fusion.rrf.k");
    }
}
