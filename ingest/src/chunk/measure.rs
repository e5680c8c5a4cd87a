//! How many tokens any part of a text has, after one tokenisation of the whole: offsets in order, counted by binary
//! search.

use std::ops::Range;

use rayon::prelude::*;

use crate::embed::Embedder;
use crate::error::Result;

/// Bytes that are tokenised at once; tokenisers need tens of bytes of memory per byte.
const WINDOW_BYTES: usize = 64 << 10;
/// A token, or blanks between two tokens, longer than this counts as several. Tokenisers give one "unknown" token for
/// any long string, and none for blanks: a chunk of one token must not be a megabyte.
const LONG_BYTES: usize = 32;
/// Bytes per count of a long token, and of long blanks.
const TOKEN_STEP: usize = 4;
const BLANK_STEP: usize = 16;

/// Where tokens start.
#[derive(Debug, Default)]
pub(super) struct Measure {
    marks: Vec<u32>,
}

impl Measure {
    /// Tokenises `text`; without an embedder words are counted.
    pub(super) fn of(text: &str, embedder: Option<&dyn Embedder>) -> Result<Self> {
        let windows = windows(text);
        let marks = windows
            .into_par_iter()
            .map(|window| {
                let part = text.get(window.clone()).unwrap_or_default();
                let spans = match embedder {
                    Some(embedder) => embedder.token_spans(part)?,
                    None => words(part),
                };
                Ok(marks(&spans, &window))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { marks: marks.concat() })
    }

    /// Tokens that start within `span`.
    pub(super) fn count(&self, span: &Range<usize>) -> usize {
        self.before(span.end).saturating_sub(self.before(span.start))
    }

    /// The offset up to which a text from `start` has `tokens` tokens; `end` when it has fewer.
    pub(super) fn forward(&self, start: usize, tokens: usize, end: usize) -> usize {
        self.marks
            .get(self.before(start).saturating_add(tokens))
            .map_or(end, |mark| (*mark as usize).min(end))
    }

    /// The offset from which a text up to `end` has `tokens` tokens.
    pub(super) fn back(&self, end: usize, tokens: usize) -> usize {
        let index = self.before(end).saturating_sub(tokens);
        self.marks.get(index).map_or(end, |mark| (*mark as usize).min(end))
    }

    /// Starts of tokens from `offset` on.
    pub(super) fn from(&self, offset: usize) -> &[u32] {
        self.marks.get(self.before(offset)..).unwrap_or_default()
    }

    /// Tokens that start before `offset`.
    pub(super) fn before(&self, offset: usize) -> usize {
        self.marks.partition_point(|mark| (*mark as usize) < offset)
    }
}

/// Parts of a text that end with a line, else with a word, else anywhere.
fn windows(text: &str) -> Vec<Range<usize>> {
    let mut windows = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let mut end = (start + WINDOW_BYTES).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if end < text.len() {
            let part = text.get(start..end).unwrap_or_default();
            let cut = part.rfind('\n').or_else(|| part.rfind(' ')).filter(|at| *at > 0);
            end = cut.map_or(end, |at| start + at);
        }
        windows.push(start..end);
        start = end;
    }
    windows
}

/// The marks of a window, in the text's offsets, in order.
fn marks(spans: &[Range<usize>], window: &Range<usize>) -> Vec<u32> {
    let mut marks = Vec::with_capacity(spans.len());
    let mut end = window.start;
    let step_over = |from: usize, to: usize, step: usize, marks: &mut Vec<u32>| {
        if to.saturating_sub(from) > LONG_BYTES {
            marks.extend((from..to).step_by(step).skip(1).filter_map(|at| u32::try_from(at).ok()));
        }
    };
    for span in spans {
        let start = (window.start + span.start).clamp(end, window.end);
        let stop = (window.start + span.end).clamp(start, window.end);
        step_over(end, start, BLANK_STEP, &mut marks);
        marks.extend(u32::try_from(start).ok());
        step_over(start, stop, TOKEN_STEP, &mut marks);
        end = stop;
    }
    step_over(end, window.end, BLANK_STEP, &mut marks);
    marks
}

/// Words, and single characters of scripts that write none apart.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    for (at, character) in text.char_indices() {
        let end = at + character.len_utf8();
        if character.is_whitespace() {
            open = false;
        } else if open && !is_ideograph(character) {
            if let Some(word) = words.last_mut() {
                word.end = end;
            }
        } else {
            words.push(at..end);
            open = !is_ideograph(character);
        }
    }
    words
}

/// Characters of scripts that put no blanks between words.
pub(super) fn is_ideograph(character: char) -> bool {
    matches!(character as u32, 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x2e80..=0x9fff | 0xac00..=0xd7af
        | 0xf900..=0xfaff | 0xff66..=0xff9f | 0x2_0000..=0x3_ffff)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn counts_any_part() {
        let measure = Measure::of("one two  three 日本", None).unwrap();
        assert_eq!(measure.count(&(0..21)), 5);
        assert_eq!(measure.count(&(1..9)), 1);
        assert_eq!(measure.count(&(4..4)), 0);
        assert_eq!(measure.forward(0, 2, 21), 9);
        assert_eq!(measure.forward(0, 50, 21), 21);
        assert_eq!(measure.back(9, 1), 4);
        assert_eq!(measure.back(9, 10), 0);
        assert_eq!(measure.from(5)[..2], [9, 15]);
    }

    #[test]
    fn long_strings_and_blanks_count() {
        let text = format!("{}{}{}", "x".repeat(1_000), " ".repeat(1_000), "y");
        let measure = Measure::of(&text, None).unwrap();
        assert_eq!(measure.count(&(0..1_000)), 250);
        assert!((60..=64).contains(&measure.count(&(1_000..2_000))));
    }

    #[test]
    fn windows_cover_the_text_and_cut_no_word() {
        let text = "word and wörter ".repeat(20_000);
        let windows = windows(&text);
        assert!(windows.len() > 3);
        assert_eq!(windows.iter().map(|w| &text[w.clone()]).collect::<String>(), text);
        let measure = Measure::of(&text, None).unwrap();
        assert_eq!(measure.count(&(0..text.len())), 60_000);
        let unbroken = "é".repeat(WINDOW_BYTES);
        assert_eq!(
            super::windows(&unbroken).iter().map(|w| &unbroken[w.clone()]).collect::<String>(),
            unbroken
        );
    }
}
