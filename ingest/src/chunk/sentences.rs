//! Sentences: where one ends is told as in [`super::boundary`], by its stop and what follows.

use std::ops::Range;

use super::boundary::Before;

/// The sentences of a span, one behind the other. A line without a stop goes on in the next; an empty line ends it.
/// Headings belong to the sentence that follows them.
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
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(sentences.len());
    for sentence in sentences {
        match joined.last_mut().filter(|before| ends_with_heading(text, before)) {
            Some(before) => before.end = sentence.end,
            None => joined.push(sentence),
        }
    }
    joined
}

/// Whether the last line of a span is a heading of Markdown.
fn ends_with_heading(text: &str, span: &Range<usize>) -> bool {
    let words = text.get(span.clone()).unwrap_or_default().trim();
    let line = words.rsplit('\n').next().unwrap_or_default();
    let marks = line.len() - line.trim_start_matches('#').len();
    (1..=6).contains(&marks) && line.get(marks..).is_some_and(|rest| rest.starts_with(' '))
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
        let text = "# A\n\n## B\n\nOne. Two.";
        let found: Vec<&str> = split(text, &(0..text.len())).into_iter().map(|span| &text[span]).collect();
        assert_eq!(found, ["# A\n\n## B\n\nOne. ", "Two."]);
    }
}
