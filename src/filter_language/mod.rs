//! The language of `--filter` and of Flight tickets: an expression becomes a filter of the wire contract.
//!
//! The reference for users is `docs/filter-language.md`. This module knows the grammar and nothing of collections:
//! whether a field exists and has a fitting type is the server's to say.
//!
//! ```text
//! expression = all { "or" all }
//! all        = one { "and" one }
//! one        = "not" one | "(" expression ")" | "exists" "(" field ")" | field test
//! test       = ( "=" | "!=" | ">" | ">=" | "<" | "<=" ) value
//!            | [ "not" ] "in" "[" value { "," value } "]"
//!            | "starts_with" string | "matches" string
//! ```

mod lexer;
mod lower;
mod parser;
#[cfg(test)]
mod tests;

use ragstone_proto::v1::Filter;

/// Longest expression, in bytes.
const MAX_EXPRESSION_BYTES: usize = 256 << 10;
/// Deepest nesting of parentheses and `not`.
const MAX_NESTING: usize = 32;

/// Widest part of an expression that an error shows, in characters.
const EXCERPT_WIDTH: usize = 72;

/// Reads an expression.
pub(crate) fn parse(expression: &str) -> Result<Filter, SyntaxError> {
    if expression.len() > MAX_EXPRESSION_BYTES {
        let message =
            format!("the expression is {} bytes long; at most {MAX_EXPRESSION_BYTES}", expression.len());
        return Err(Problem { at: 0, message }.within(""));
    }
    let filter =
        parser::parse(expression).map(lower::to_filter).map_err(|problem| problem.within(expression))?;
    lower::check_bounds(&filter).map_err(|message| Problem { at: 0, message }.within(expression))?;
    Ok(filter)
}

/// What is wrong, and at which byte of the expression.
#[derive(Debug, PartialEq)]
struct Problem {
    at: usize,
    message: String,
}

impl Problem {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// Adds the place in the form that a person reads: a column, and the line with a caret below.
    fn within(self, expression: &str) -> SyntaxError {
        let column = expression.get(..self.at).unwrap_or(expression).chars().count();
        // Control characters would tear the caret from its place.
        let shown: Vec<char> = expression.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let start = if shown.len() <= EXCERPT_WIDTH { 0 } else { column.saturating_sub(EXCERPT_WIDTH / 2) };
        let excerpt = shown.into_iter().skip(start).take(EXCERPT_WIDTH).collect();
        SyntaxError { message: self.message, column: column + 1, excerpt, caret: column - start }
    }
}

/// An expression that cannot be read.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("filter, column {column}: {message}\n  {excerpt}\n  {:caret$}^", "")]
pub(crate) struct SyntaxError {
    message: String,
    /// In characters, from 1.
    column: usize,
    excerpt: String,
    caret: usize,
}
