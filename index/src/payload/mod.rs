//! Payload fields: JSON to typed values, filters checked against a schema, and filters tested on one row.
//!
//! Knows JSON and the schema; knows no segment, no memtable and no tantivy beyond the word splitter of `text` fields.

mod check;
mod checked;
pub mod datetime;
mod flatten;
mod infer;
mod matcher;
mod typed;

#[cfg(test)]
mod tests;

pub use check::check_filter;
pub use checked::CheckedFilter;
pub(crate) use checked::{BuiltIn, FieldRef, Group, Node, Test};
pub use matcher::RowOrigin;
pub use typed::{PayloadError, PayloadTyper, TypedRow, TypedValue};

/// Deepest nesting of objects and arrays in a payload.
pub const MAX_PAYLOAD_DEPTH: usize = 16;
/// Most values of one payload, all fields and array items together.
pub const MAX_PAYLOAD_VALUES: usize = 4_096;
/// Longest value of a keyword field, in bytes. A built-in field with a longer value has none, as far as filters go.
pub const MAX_KEYWORD_BYTES: usize = 32_766;
/// A string longer than this many bytes makes a field that nobody declared a `text` field instead of a `keyword`.
pub const MAX_INFERRED_KEYWORD_BYTES: usize = 256;
/// Names listed by an error that says which fields there are.
const MAX_LISTED_FIELDS: usize = 50;

/// Field names for an error message: the first of them, and how many more there are.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    let mut more = 0;
    for (i, name) in names.enumerate() {
        if i >= MAX_LISTED_FIELDS {
            more += 1;
            continue;
        }
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(name);
    }
    if more > 0 {
        out.push_str(&format!(" and {more} more"));
    }
    out
}

/// A text of the caller for an error message: at most as long as a name may be.
fn shortened(text: &str) -> String {
    let mut out: String = text.chars().take(crate::schema::MAX_NAME_BYTES).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}
