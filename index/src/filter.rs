//! The filter language: pure data, checked against a schema before anything runs.
//!
//! Evaluation lives with the data: `memtable` tests rows one by one, `keyword` turns a filter into a tantivy query.

use serde::{Deserialize, Serialize};

/// Deepest nesting of filters.
pub const MAX_FILTER_DEPTH: usize = 32;
/// Most conditions of one filter, nested ones included.
pub const MAX_FILTER_CONDITIONS: usize = 1_024;
/// Most values of one `any_of` or `has_id`.
pub const MAX_FILTER_VALUES: usize = 10_000;

/// Built-in field: the document id.
pub const DOCUMENT_ID: &str = "_document_id";
/// Built-in field: the source address.
pub const URI: &str = "_uri";
/// Built-in field: the document title, as one exact string.
pub const TITLE: &str = "_title";
/// Built-in field: the media type.
pub const MEDIA_TYPE: &str = "_media_type";
/// Built-in field: the page, an integer.
pub const PAGE: &str = "_page";
/// Built-in field: the position in the document, an integer.
pub const CHUNK_INDEX: &str = "_chunk_index";

/// A boolean filter: every `must`, at least one `should` when there are any, no `must_not`. An empty filter passes all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Filter {
    /// All of these hold.
    pub must: Vec<Condition>,
    /// When not empty, at least one of these holds.
    pub should: Vec<Condition>,
    /// None of these holds.
    pub must_not: Vec<Condition>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    /// A test on a field. A field with several values passes when one of them does.
    Field {
        /// Payload field (dots for nested ones) or built-in field.
        field: String,
        /// The test.
        test: FieldTest,
    },
    /// The point id is one of these.
    HasId(Vec<String>),
    /// A nested filter.
    Nested(Filter),
}

/// A test on the values of a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FieldTest {
    /// Equal to this.
    Equals(Scalar),
    /// Equal to one of these.
    AnyOf(Vec<Scalar>),
    /// Within bounds; integer, float and datetime fields.
    Range(Range),
    /// Whether there is a value.
    Exists(bool),
    /// Starts with this; keyword fields.
    Prefix(String),
    /// All words of this occur; text fields.
    MatchText(String),
}

/// A value as the caller wrote it; the schema says how it is read (a datetime arrives as a string).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// A 64-bit float.
    Float(f64),
    /// A string.
    String(String),
}

/// Bounds; an absent one does not bound.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Range {
    /// Greater than.
    pub gt: Option<Scalar>,
    /// Greater than or equal to.
    pub gte: Option<Scalar>,
    /// Less than.
    pub lt: Option<Scalar>,
    /// Less than or equal to.
    pub lte: Option<Scalar>,
}
