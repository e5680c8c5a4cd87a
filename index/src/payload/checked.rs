//! A filter after the check: every field is known, every value has the field's type, every bound is inclusive. Pure
//! data; [`super::matcher`] tests it on a row, the keyword index turns it into a bitmap.

use std::sync::Arc;

use crate::filter;
use crate::schema::FieldType;

/// A filter that fits a schema. Made by [`super::check_filter`] only.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedFilter {
    pub(crate) root: Group,
}

impl CheckedFilter {
    /// Whether it passes every row without looking.
    pub fn is_empty(&self) -> bool {
        self.root.must.is_empty() && self.root.should.is_empty() && self.root.must_not.is_empty()
    }
}

/// Every `must`, one of `should` when there are any, no `must_not`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Group {
    pub(crate) must: Vec<Node>,
    pub(crate) should: Vec<Node>,
    pub(crate) must_not: Vec<Node>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Field {
        field: FieldRef,
        test: Test,
    },
    /// Sorted, without duplicates.
    HasId(Vec<String>),
    Group(Group),
}

/// A field that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldRef {
    BuiltIn(BuiltIn),
    Payload { name: Arc<str>, field_type: FieldType },
}

/// The built-in fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    DocumentId,
    Uri,
    Title,
    MediaType,
    Page,
    ChunkIndex,
}

impl BuiltIn {
    pub(crate) const ALL: [Self; 6] =
        [Self::DocumentId, Self::Uri, Self::Title, Self::MediaType, Self::Page, Self::ChunkIndex];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DocumentId => filter::DOCUMENT_ID,
            Self::Uri => filter::URI,
            Self::Title => filter::TITLE,
            Self::MediaType => filter::MEDIA_TYPE,
            Self::Page => filter::PAGE,
            Self::ChunkIndex => filter::CHUNK_INDEX,
        }
    }

    pub(crate) fn field_type(self) -> FieldType {
        match self {
            Self::DocumentId | Self::Uri | Self::Title | Self::MediaType => FieldType::Keyword,
            Self::Page | Self::ChunkIndex => FieldType::Integer,
        }
    }
}

impl FieldRef {
    pub(crate) fn field_type(&self) -> FieldType {
        match self {
            Self::BuiltIn(field) => field.field_type(),
            Self::Payload { field_type, .. } => *field_type,
        }
    }
}

/// A test that fits the field's type. A row passes when one of its values does; lists are sorted without duplicates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Exists(bool),
    /// Keyword.
    KeywordIn(Vec<String>),
    /// Keyword.
    Prefix(String),
    /// Integer, or datetime in microseconds.
    IntegerIn(Vec<i64>),
    /// Integer, or datetime in microseconds; both bounds inclusive, empty when `min > max`.
    IntegerRange {
        min: i64,
        max: i64,
    },
    /// Float; finite, no negative zero.
    FloatIn(Vec<f64>),
    /// Float; both bounds inclusive, empty when `min > max`.
    FloatRange {
        min: f64,
        max: f64,
    },
    /// Bool; which of the two pass.
    BoolIn {
        yes: bool,
        no: bool,
    },
    /// Text; all of these words occur among the values of the field, at least one word.
    Words(Vec<String>),
}
