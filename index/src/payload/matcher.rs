//! A checked filter tested on one row: what the memtable uses, and the definition of what a filter means. The keyword
//! index must answer the same for every row; a test compares the two.

use super::checked::BuiltIn;
use super::{CheckedFilter, FieldRef, Group, MAX_KEYWORD_BYTES, Node, Test, TypedRow, TypedValue};
use crate::keyword::analyzer;

/// The built-in fields of one row.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the columns of crate::batch")]
pub struct RowOrigin<'a> {
    pub document_id: Option<&'a str>,
    pub uri: Option<&'a str>,
    pub title: Option<&'a str>,
    pub media_type: Option<&'a str>,
    pub page: Option<u32>,
    pub chunk_index: Option<u32>,
}

impl<'a> RowOrigin<'a> {
    /// The value of a built-in string field, if it has one that filters can see.
    pub(crate) fn keyword(&self, field: BuiltIn) -> Option<&'a str> {
        match field {
            BuiltIn::DocumentId => self.document_id,
            BuiltIn::Uri => self.uri,
            BuiltIn::Title => self.title,
            BuiltIn::MediaType => self.media_type,
            BuiltIn::Page | BuiltIn::ChunkIndex => None,
        }
        .filter(|text| !text.is_empty() && text.len() <= MAX_KEYWORD_BYTES)
    }

    /// The value of a built-in integer field.
    pub(crate) fn integer(&self, field: BuiltIn) -> Option<i64> {
        match field {
            BuiltIn::Page => self.page,
            BuiltIn::ChunkIndex => self.chunk_index,
            BuiltIn::DocumentId | BuiltIn::Uri | BuiltIn::Title | BuiltIn::MediaType => None,
        }
        .map(i64::from)
    }
}

impl CheckedFilter {
    /// Whether a row passes.
    pub fn matches(&self, id: &str, row: &TypedRow, origin: &RowOrigin<'_>) -> bool {
        Subject { id, row, origin }.group(&self.root)
    }
}

struct Subject<'a> {
    id: &'a str,
    row: &'a TypedRow,
    origin: &'a RowOrigin<'a>,
}

impl Subject<'_> {
    fn group(&self, group: &Group) -> bool {
        group.must.iter().all(|node| self.node(node))
            && (group.should.is_empty() || group.should.iter().any(|node| self.node(node)))
            && !group.must_not.iter().any(|node| self.node(node))
    }

    fn node(&self, node: &Node) -> bool {
        match node {
            Node::HasId(ids) => ids.binary_search_by(|id| id.as_str().cmp(self.id)).is_ok(),
            Node::Group(group) => self.group(group),
            Node::Field { field: FieldRef::Payload { name, .. }, test } => match test {
                Test::Exists(wanted) => self.row.values(name).next().is_some() == *wanted,
                Test::Words(words) => has_words(self.row.values(name), words),
                _ => self.row.values(name).any(|value| value_passes(value, test)),
            },
            Node::Field { field: FieldRef::BuiltIn(field), test } => self.built_in(*field, test),
        }
    }

    fn built_in(&self, field: BuiltIn, test: &Test) -> bool {
        let keyword = self.origin.keyword(field);
        let integer = self.origin.integer(field);
        match test {
            Test::Exists(wanted) => (keyword.is_some() || integer.is_some()) == *wanted,
            _ => {
                keyword.is_some_and(|text| keyword_passes(text, test))
                    || integer.is_some_and(|number| integer_passes(number, test))
            }
        }
    }
}

fn value_passes(value: &TypedValue, test: &Test) -> bool {
    match (value, test) {
        (TypedValue::Keyword(text), _) => keyword_passes(text, test),
        (TypedValue::Integer(number) | TypedValue::Datetime(number), _) => integer_passes(*number, test),
        (TypedValue::Float(number), Test::FloatIn(wanted)) => {
            wanted.binary_search_by(|one| one.total_cmp(number)).is_ok()
        }
        (TypedValue::Float(number), Test::FloatRange { min, max }) => min <= number && number <= max,
        (TypedValue::Bool(flag), Test::BoolIn { yes, no }) => {
            if *flag {
                *yes
            } else {
                *no
            }
        }
        _ => false,
    }
}

fn keyword_passes(text: &str, test: &Test) -> bool {
    match test {
        Test::KeywordIn(wanted) => wanted.binary_search_by(|one| one.as_str().cmp(text)).is_ok(),
        Test::Prefix(prefix) => text.starts_with(prefix.as_str()),
        _ => false,
    }
}

fn integer_passes(number: i64, test: &Test) -> bool {
    match test {
        Test::IntegerIn(wanted) => wanted.binary_search(&number).is_ok(),
        Test::IntegerRange { min, max } => *min <= number && number <= *max,
        _ => false,
    }
}

/// Whether all words occur, in whichever of the values.
fn has_words<'a>(values: impl Iterator<Item = &'a TypedValue>, words: &[String]) -> bool {
    let mut missing: Vec<&str> = words.iter().map(String::as_str).collect();
    for value in values {
        let TypedValue::Text(text) = value else { continue };
        analyzer::simple(text, |word| {
            missing.retain(|wanted| *wanted != word);
            !missing.is_empty()
        });
        if missing.is_empty() {
            break;
        }
    }
    missing.is_empty()
}
