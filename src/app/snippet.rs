//! A short part of a text around the matched words: what a person sees of a hit.

use std::ops::Range;

/// About so many bytes of the text are shown.
pub const SNIPPET_BYTES: usize = 240;
/// Marks where the text goes on.
const ELLIPSIS: &str = "…";
/// A cut moves at most this far to fall between two words.
const WORD_SLACK: usize = 24;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snippet {
    /// The part, with `…` where it was cut.
    pub text: String,
    /// Byte spans of the matched words in it.
    pub spans: Vec<Range<usize>>,
}

/// The part of `text` with the densest group of `spans`, or its start when there are none. Spans that are not within
/// the text are ignored.
pub fn snippet(text: &str, spans: &[Range<usize>]) -> Snippet {
    let mut spans: Vec<Range<usize>> = spans
        .iter()
        .filter(|span| span.start < span.end && text.get((*span).clone()).is_some())
        .cloned()
        .collect();
    spans.sort_by_key(|span| (span.start, span.end));
    let window = window(text, &spans);
    let Some(part) = text.get(window.clone()) else {
        return Snippet::default();
    };
    let lead = part.len() - part.trim_start().len();
    let part = part.trim();
    let start = window.start + lead;
    let end = start + part.len();
    let before =
        if start > 0 && !text.get(..start).unwrap_or_default().trim().is_empty() { ELLIPSIS } else { "" };
    let after = if text.get(end..).unwrap_or_default().trim().is_empty() { "" } else { ELLIPSIS };
    let shift = |at: usize| at - start + before.len();
    let inside = spans.into_iter().filter(|span| span.start >= start && span.end <= end);
    Snippet {
        spans: inside.map(|span| shift(span.start)..shift(span.end)).collect(),
        text: format!("{before}{part}{after}"),
    }
}

/// Where to cut: around the group of spans that fits and has most of them, the first such group.
fn window(text: &str, spans: &[Range<usize>]) -> Range<usize> {
    let Some(first) = spans.first() else {
        return between_words(text, 0..SNIPPET_BYTES.min(text.len()));
    };
    let mut best = (1, first.clone());
    let mut from = 0;
    for (to, last) in spans.iter().enumerate() {
        while from < to && spans.get(from).is_some_and(|start| last.end - start.start > SNIPPET_BYTES) {
            from += 1;
        }
        let count = to - from + 1;
        if count > best.0
            && let Some(start) = spans.get(from)
        {
            best = (count, start.start..last.end);
        }
    }
    let group = best.1;
    // A single match longer than the snippet is shown whole.
    let room = SNIPPET_BYTES.saturating_sub(group.len());
    let start = group.start.saturating_sub(room / 2);
    let end = (start + SNIPPET_BYTES.max(group.len())).min(text.len()).max(group.end);
    let start = end.saturating_sub(SNIPPET_BYTES.max(group.len())).min(start);
    let outer = between_words(text, start..end);
    outer.start.min(group.start)..outer.end.max(group.end)
}

/// Moves both ends inwards to a gap between words, when there is one near, and to a character boundary in any case.
fn between_words(text: &str, span: Range<usize>) -> Range<usize> {
    let start = (span.start..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    let end =
        (0..=span.end.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0).max(start);
    let part = text.get(start..end).unwrap_or_default();
    let mut inner = start..end;
    if start > 0
        && let Some(gap) =
            part.char_indices().take_while(|(i, _)| *i < WORD_SLACK).find(|(_, c)| c.is_whitespace())
    {
        inner.start = start + gap.0;
    }
    if end < text.len()
        && let Some(gap) = part
            .char_indices()
            .rev()
            .take_while(|(i, _)| part.len() - i < WORD_SLACK)
            .find(|(_, c)| c.is_whitespace())
    {
        inner.end = (start + gap.0).max(inner.start);
    }
    inner
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    fn spans_of(text: &str, word: &str) -> Vec<Range<usize>> {
        text.match_indices(word).map(|(i, w)| i..i + w.len()).collect()
    }

    #[test]
    fn a_short_text_is_shown_whole() {
        let text = "a stone in the river";
        let snippet = snippet(text, &spans_of(text, "stone"));
        assert_eq!(
            (snippet.text.as_str(), snippet.spans.as_slice()),
            (text, spans_of(text, "stone").as_slice())
        );
    }

    #[test]
    fn without_matches_it_is_the_start() {
        let text = "word ".repeat(200);
        let snippet = snippet(&text, &[]);
        assert!(snippet.text.starts_with("word word") && snippet.text.ends_with("word…"));
        assert!(snippet.text.len() <= SNIPPET_BYTES + 3 && snippet.spans.is_empty());
    }

    #[test]
    fn the_densest_group_wins() {
        let text = format!("alpha {} alpha beta alpha {}", "filler ".repeat(100), "filler ".repeat(100));
        let snippet = snippet(&text, &spans_of(&text, "alpha"));
        assert!(snippet.text.contains("alpha beta alpha"), "{}", snippet.text);
        assert!(snippet.text.starts_with('…') && snippet.text.ends_with('…'));
        assert_eq!(snippet.spans.len(), 2);
        assert!(snippet.spans.iter().all(|span| &snippet.text[span.clone()] == "alpha"));
    }

    #[test]
    fn spans_that_are_none_are_ignored() {
        let text = "grüße";
        let snippet = snippet(text, &[3..4, 0..99, 5..5, 99..100]);
        assert_eq!(snippet, Snippet { text: text.into(), spans: vec![] });
    }

    #[test]
    fn any_text_and_any_spans() {
        let mut rng = StdRng::seed_from_u64(7);
        for round in 0..2_000 {
            let alphabet: Vec<char> = "ab ü日\n😀".chars().collect();
            let text: String = (0..rng.random_range(0..900))
                .map(|_| alphabet[rng.random_range(0..alphabet.len())])
                .collect();
            let edges: Vec<usize> = (0..=text.len()).filter(|i| text.is_char_boundary(*i)).collect();
            let spans: Vec<Range<usize>> = (0..rng.random_range(0..12))
                .map(|_| {
                    let at = rng.random_range(0..edges.len());
                    edges[at]..edges[(at + rng.random_range(0..6)).min(edges.len() - 1)]
                })
                .collect();
            let snippet = snippet(&text, &spans);
            for span in &snippet.spans {
                assert!(snippet.text.get(span.clone()).is_some(), "round {round}");
            }
            assert!(snippet.text.len() <= SNIPPET_BYTES + 2 * ELLIPSIS.len() + 8, "round {round}");
        }
    }
}
