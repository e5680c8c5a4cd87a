//! What a ticket, a command and a path ask for. The reference for users is `docs/flight.md`. Tickets are JSON with a
//! version, so that a client writes one without generated code; filters are written in the filter language.

use bytes::Bytes;
use ragstone_index::filter::Filter;
use ragstone_proto::v1;
use serde::{Deserialize, Serialize};

use crate::app::error::{Error, Result};
use crate::app::search::Query;
use crate::filter_language;
use crate::grpc::convert::{filter, search};

/// The version that this server writes and reads.
pub(super) const VERSION: u32 = 1;
/// Longest ticket, in bytes: a filter of the greatest length and a vector of many components fit.
const MAX_TICKET_BYTES: usize = 4 << 20;

/// What to read.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) collection: String,
    /// Only these columns, in this order.
    pub(super) columns: Option<Vec<String>>,
    pub(super) what: What,
}

/// Which points.
#[derive(Debug)]
pub(super) enum What {
    /// All, or those that pass.
    Points(Option<Filter>),
    /// Those that a search finds, best first.
    Hits(Box<Query>),
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticket {
    version: u32,
    collection: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    search: Option<Search>,
}

/// As `SearchRequest`, with the collection and the filter of the ticket.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Search {
    text: Option<String>,
    vector: Option<Vec<f32>>,
    mode: Mode,
    using: String,
    limit: Option<u32>,
    offset: u32,
    score_threshold: Option<f32>,
    max_per_document: Option<u32>,
    hnsw_ef: Option<u32>,
    recall_target: Option<f32>,
    exact: bool,
    min_seq_no: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Auto,
    Hybrid,
    Vector,
    Keyword,
}

/// The ticket of a whole collection.
pub(super) fn whole(collection: &str) -> Bytes {
    let ticket = Ticket { version: VERSION, collection: collection.into(), ..Ticket::default() };
    // A structure of strings and numbers always becomes JSON.
    serde_json::to_vec(&ticket).unwrap_or_default().into()
}

/// Reads a ticket or a command; `at` is its name in the request.
pub(super) fn read(bytes: &[u8], at: &str) -> Result<Wanted> {
    if bytes.len() > MAX_TICKET_BYTES {
        return Err(Error::invalid(at, format!("{} bytes are more than {MAX_TICKET_BYTES}", bytes.len())));
    }
    let Ticket { version, collection, filter: expression, columns, search: asked } =
        serde_json::from_slice(bytes).map_err(|error| {
            let message = format!("is no ticket: {error}; the smallest is {}", example());
            Error::invalid(at, message)
        })?;
    if version != VERSION {
        return Err(Error::invalid(format!("{at}.version"), format!("is {version}; known is {VERSION}")));
    }
    let wire = expression.map(|expression| filter_language::parse(&expression));
    let wire = wire.transpose().map_err(|error| Error::invalid(format!("{at}.filter"), error.to_string()))?;
    let what = match asked {
        None => What::Points(wire.map(|wire| filter::filter(wire, &format!("{at}.filter"))).transpose()?),
        Some(asked) => What::Hits(Box::new(query(&collection, asked, wire, columns.as_deref(), at)?)),
    };
    Ok(Wanted { collection, columns, what })
}

fn example() -> String {
    String::from_utf8_lossy(&whole("NAME")).into_owned()
}

fn query(
    collection: &str,
    asked: Search,
    filter: Option<v1::Filter>,
    columns: Option<&[String]>,
    at: &str,
) -> Result<Query> {
    let mode = match asked.mode {
        Mode::Auto => v1::SearchMode::Unspecified,
        Mode::Hybrid => v1::SearchMode::Hybrid,
        Mode::Vector => v1::SearchMode::Vector,
        Mode::Keyword => v1::SearchMode::Keyword,
    };
    let wants = |column: &str| columns.is_none_or(|columns| columns.iter().any(|name| name == column));
    let spaces = |name: &String| name.strip_prefix(ragstone_index::batch::VECTOR_PREFIX).map(str::to_owned);
    let vectors: Vec<String> = columns.unwrap_or_default().iter().filter_map(spaces).collect();
    let request = v1::SearchRequest {
        collection: collection.into(),
        text: asked.text,
        vector: asked.vector.map(|values| v1::Vector { values, ..v1::Vector::default() }),
        mode: mode.into(),
        using: asked.using,
        filter,
        limit: asked.limit,
        offset: asked.offset,
        score_threshold: asked.score_threshold,
        max_per_document: asked.max_per_document,
        params: Some(v1::SearchParams {
            hnsw_ef: asked.hnsw_ef,
            exact: Some(asked.exact),
            recall_target: asked.recall_target,
            ..v1::SearchParams::default()
        }),
        with_payload: Some(v1::PayloadSelector {
            enable: Some(wants(ragstone_index::batch::PAYLOAD)),
            ..v1::PayloadSelector::default()
        }),
        with_vectors: Some(v1::VectorSelector {
            enable: columns.is_none() || !vectors.is_empty(),
            names: vectors,
        }),
        with_text: Some(wants(ragstone_index::batch::TEXT)),
        with_highlights: Some(false),
        min_seq_no: asked.min_seq_no,
        ..v1::SearchRequest::default()
    };
    search::query(request).map_err(|error| error.within(&format!("{at}.search.")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn the_ticket_of_a_collection_reads_as_all_its_points() {
        let wanted = read(&whole("docs"), "ticket").unwrap();
        assert_eq!(wanted.collection, "docs");
        assert!(matches!(wanted.what, What::Points(None)) && wanted.columns.is_none());
    }

    #[test]
    fn a_search_carries_what_its_columns_need() {
        let ticket = br#"{"version": 1, "collection": "c", "columns": ["id", "vector:v"], "filter": "a = 1",
            "search": {"vector": [1, 0.5], "limit": 3, "mode": "vector"}}"#;
        let wanted = read(ticket, "ticket").unwrap();
        let What::Hits(query) = wanted.what else { panic!("{wanted:?}") };
        assert_eq!((query.limit, query.vector.as_deref()), (3, Some(&[1.0, 0.5][..])));
        assert_eq!(query.select.vectors, ["v"]);
        assert!(!query.select.text && query.filter.is_some());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |ticket: &str, field: &str| {
            let error = read(ticket.as_bytes(), "ticket").unwrap_err();
            assert_eq!(error.violations()[0].field, field, "{ticket}");
        };
        check("", "ticket");
        check("docs", "ticket");
        check(r#"{"collection": "c"}"#, "ticket");
        check(r#"{"version": 1, "collection": "c", "colour": 1}"#, "ticket");
        check(r#"{"version": 2, "collection": "c"}"#, "ticket.version");
        check(r#"{"version": 1, "collection": "c", "filter": "a ="}"#, "ticket.filter");
        check(
            r#"{"version": 1, "collection": "c", "search": {"text": "x", "limit": 0}}"#,
            "ticket.search.limit",
        );
        check(&format!("\"{}\"", "x".repeat(MAX_TICKET_BYTES)), "ticket");
    }
}
