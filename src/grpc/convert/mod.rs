//! Between the wire types and the types of the application layer. Whatever a client can get wrong in the form of a
//! request is found here and named by its path; what only the data can tell is the engine's question.

pub mod chunk;
pub mod document;
pub mod filter;
pub mod payload;
pub mod point;
pub mod schema;
pub mod search;
pub mod select;
pub mod stats;
pub mod vector;

use crate::app::error::{Error, Result};

/// Most items of a page.
pub const MAX_PAGE: u32 = 10_000;
/// Items of a page when the request doesn't say.
pub const DEFAULT_PAGE: u32 = 100;
/// Most ids of one request that deletes.
pub const MAX_IDS: usize = 65_536;

/// Size of a page: absent means [`DEFAULT_PAGE`].
pub fn page_limit(limit: Option<u32>) -> Result<usize> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit as usize),
        limit => Err(Error::invalid("limit", format!("{limit} is not between 1 and {MAX_PAGE}"))),
    }
}

/// A list of ids: not empty, not too many.
pub fn ids(ids: Vec<String>, most: usize, at: &str) -> Result<Vec<String>> {
    if ids.is_empty() {
        return Err(Error::invalid(at, "is empty: name at least one"));
    }
    if ids.len() > most {
        return Err(Error::invalid(at, format!("{} ids are more than {most}", ids.len())));
    }
    Ok(ids)
}

/// A field that has to be there.
pub fn required<T>(value: Option<T>, at: &str) -> Result<T> {
    value.ok_or_else(|| Error::invalid(at, "is missing"))
}

/// The text of microseconds since 1970 in RFC 3339; empty for a time that no calendar has.
pub fn rfc3339(us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(us)
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
        .unwrap_or_default()
}
