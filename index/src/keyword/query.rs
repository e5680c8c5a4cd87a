//! A keyword query: the distinct terms of a text with their weights. Pure data; it knows no index.

use std::collections::HashMap;

use super::TextField;
use super::analyzer::{Analyzers, MAX_TOKEN_BYTES};
use super::exact::{Kind, exact_spans};

/// Most distinct terms of a query in each of the two views; terms beyond are ignored.
pub const MAX_QUERY_TERMS: usize = 256;

/// Most bytes of a query's text; what stands behind them is ignored.
pub const MAX_QUERY_BYTES: usize = 64 << 10;

/// Weight of an exact word, or of a pair of stop words: it mostly repeats what its stem said, so it only tells apart what
/// the stems leave equal.
///
/// The three weights were chosen on SciFact, Cranfield, CACM and NPL (`examples/beir_keyword.rs`): without the exact
/// view nDCG@10 is 0.684, 0.385, 0.489, 0.435; with it 0.690, 0.386, 0.496, 0.436.
const PLAIN_WEIGHT: f32 = 0.1;
/// Weight of a compound of ordinary words (`well-known`, `and/or`), which writers also write apart.
const HYPHENATED_WEIGHT: f32 = 0.3;
/// Weight of an identifier, a number, a path: it says what no stem says.
const COMPOUND_WEIGHT: f32 = 1.0;

/// A term and what it weighs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QueryTerm {
    pub(super) field: TextField,
    pub(super) text: String,
    /// Factor of its BM25 score; a term that comes twice counts twice, as in Lucene.
    pub(super) weight: f32,
}

/// A text to search for, analyzed once for all segments.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeywordQuery {
    terms: Vec<QueryTerm>,
}

impl KeywordQuery {
    /// Analyzes a text. Never fails: a text without words gives a query that finds nothing.
    pub fn new(text: &str) -> Self {
        let text = text.get(..text.floor_char_boundary(MAX_QUERY_BYTES)).unwrap_or_default();
        let mut query = Self::default();
        let mut numbers = HashMap::new();
        Analyzers::new().tokens(TextField::Words, text, |token, _| {
            query.add(&mut numbers, TextField::Words, token, 1.0);
        });
        let mut numbers = HashMap::new();
        let mut folded = String::new();
        exact_spans(text, |span| {
            if span.span.len() > MAX_TOKEN_BYTES {
                return;
            }
            folded.clear();
            span.push_text(&mut folded, text);
            let weight = match span.kind {
                Kind::Plain | Kind::StopPair(..) => PLAIN_WEIGHT,
                Kind::Compound if folded.chars().all(|c| c.is_alphabetic() || c == '-' || c == '/') => {
                    HYPHENATED_WEIGHT
                }
                Kind::Compound => COMPOUND_WEIGHT,
            };
            if !folded.is_empty() {
                query.add(&mut numbers, TextField::Exact, &folded, weight);
            }
        });
        query
    }

    /// Whether it can find nothing.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub(super) fn terms(&self) -> &[QueryTerm] {
        &self.terms
    }

    fn add(&mut self, numbers: &mut HashMap<String, usize>, field: TextField, text: &str, weight: f32) {
        if let Some(term) = numbers.get(text).and_then(|number| self.terms.get_mut(*number)) {
            term.weight += weight;
        } else if numbers.len() < MAX_QUERY_TERMS {
            numbers.insert(text.to_owned(), self.terms.len());
            self.terms.push(QueryTerm { field, text: text.to_owned(), weight });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KeywordQuery, MAX_QUERY_BYTES, MAX_QUERY_TERMS};

    #[test]
    fn terms_are_distinct_and_counted() {
        let query = KeywordQuery::new("cells cell v1.2");
        let terms: Vec<_> = query.terms().iter().map(|term| (term.text.as_str(), term.weight)).collect();
        assert_eq!(
            terms,
            [
                ("cell", 2.0),
                ("v1", 1.0),
                ("2", 1.0),
                ("cells", 0.1),
                ("cell", 0.1),
                ("v1.2", 1.0),
                ("v1", 0.1),
                ("2", 0.1)
            ]
        );
    }

    #[test]
    fn nothing_to_find() {
        assert!(KeywordQuery::new("").is_empty());
        assert!(KeywordQuery::new(" ... \u{200D} !?").is_empty());
        assert!(!KeywordQuery::new("the").is_empty());
    }

    #[test]
    fn terms_are_bounded() {
        let text: String = (0..10_000).map(|i| format!("w{i} ")).collect();
        assert_eq!(KeywordQuery::new(&text).terms().len(), 2 * MAX_QUERY_TERMS);
        let far = format!("{}heron", "…".repeat(MAX_QUERY_BYTES));
        assert!(KeywordQuery::new(&far).is_empty());
    }
}
