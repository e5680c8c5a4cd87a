//! Where the words of a query stand in a text. It knows no index.

use std::collections::HashSet;
use std::ops::Range;

use super::TextField;
use super::analyzer::Analyzers;
use super::query::KeywordQuery;

/// Most spans of one text.
pub const MAX_HIGHLIGHTS: usize = 64;

/// Byte spans of the query's words in a text, from the left, not overlapping, at most [`MAX_HIGHLIGHTS`]. Exact words
/// count when they are compounds, or when the query has nothing but stop words.
pub fn highlight(text: &str, query: &KeywordQuery) -> Vec<Range<usize>> {
    let of = |field: TextField| query.terms().iter().filter(move |term| term.field == field);
    let words: HashSet<&str> = of(TextField::Words).map(|term| term.text.as_str()).collect();
    let exact: HashSet<&str> = of(TextField::Exact)
        .filter(|term| words.is_empty() || is_compound(&term.text))
        .map(|term| term.text.as_str())
        .collect();
    let mut spans = Vec::new();
    let mut analyzers = Analyzers::new();
    for (field, wanted) in [(TextField::Words, words), (TextField::Exact, exact)] {
        if !wanted.is_empty() {
            analyzers.tokens(field, text, |token, span| {
                if wanted.contains(token) {
                    spans.push(span);
                }
            });
        }
    }
    merged(spans)
}

/// Whether an exact token is a compound: neither a word nor a pair of stop words.
fn is_compound(token: &str) -> bool {
    !token.contains(' ') && !token.chars().all(char::is_alphanumeric)
}

fn merged(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    let mut out: Vec<Range<usize>> = Vec::new();
    for span in spans {
        if let Some(last) = out.last_mut()
            && span.start < last.end
        {
            last.end = last.end.max(span.end);
        } else if out.len() < MAX_HIGHLIGHTS {
            out.push(span);
        } else {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{MAX_HIGHLIGHTS, highlight};
    use crate::keyword::KeywordQuery;

    fn marked<'a>(text: &'a str, query: &str) -> Vec<&'a str> {
        highlight(text, &KeywordQuery::new(query)).into_iter().map(|span| &text[span]).collect()
    }

    #[test]
    fn marks_every_form_of_a_word_but_no_stop_words() {
        assert_eq!(
            marked("The cell divides; cells are dividing.", "the dividing cell"),
            ["cell", "divides", "cells", "dividing"]
        );
    }

    #[test]
    fn marks_compounds_whole() {
        assert_eq!(marked("use foo_bar, foo or C++ 11", "foo_bar"), ["foo_bar", "foo"]);
        assert_eq!(marked("C++ is a language", "c++"), ["C++"]);
    }

    #[test]
    fn marks_stop_words_when_there_is_nothing_else() {
        assert_eq!(marked("To be or not", "to be"), ["To be"]);
        assert_eq!(marked("東京都の天気", "東京都"), ["東京都"]);
        assert_eq!(marked("effects of the drug", "effects of the drug"), ["effects", "drug"]);
        assert_eq!(marked("nothing here", ""), [""; 0]);
    }

    #[test]
    fn spans_are_bounded() {
        let text = "word ".repeat(1_000);
        assert_eq!(highlight(&text, &KeywordQuery::new("word")).len(), MAX_HIGHLIGHTS);
    }
}
