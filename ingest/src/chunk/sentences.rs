//! Sentences: where one ends is told as in [`super::boundary`], by its stop and what follows.

use std::ops::Range;

use super::boundary::Before;

/// The sentences of a span, one behind the other. A line without a stop goes on in the next; an empty line ends it.
pub(super) fn split(text: &str, span: &Range<usize>) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start = span.start;
    let mut before = Before::read("");
    for (at, character) in text.get(span.clone()).unwrap_or_default().char_indices() {
        let at = span.start + at;
        if at > start && before.ends_sentence(character) {
            sentences.push(start..at);
            start = at;
            before = Before::read("");
        }
        before.push(character);
    }
    if start < span.end {
        sentences.push(start..span.end);
    }
    sentences
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn sentences_end_with_stops_and_empty_lines() {
        let text = "Granite is hard. It was found by Dr. A. Smith (see Fig. 3). Who knows?\n\nA line\ngoes on 3.5 times. 石は硬い。砂は違う。";
        let found: Vec<&str> =
            split(text, &(0..text.len())).into_iter().map(|span| text[span].trim()).collect();
        assert_eq!(
            found,
            [
                "Granite is hard.",
                "It was found by Dr. A. Smith (see Fig. 3).",
                "Who knows?",
                "A line\ngoes on 3.5 times.",
                "石は硬い。",
                "砂は違う。"
            ]
        );
        assert!(split("", &(0..0)).is_empty());
    }
}
