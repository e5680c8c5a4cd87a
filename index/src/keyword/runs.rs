//! Runs of letters and digits in a text, the raw material of every analyzer. It knows no language.

use std::ops::Range;

/// A run, as bytes of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) span: Range<usize>,
    /// Written without spaces between words (Chinese, Japanese, Korean, Thai, ...): not one word, but an unknown number.
    pub(super) unspaced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Unspaced,
    /// Belongs to the letter before it.
    Mark,
    Other,
}

fn class(c: char) -> Class {
    if c.is_ascii() {
        return if c.is_ascii_alphanumeric() { Class::Letter } else { Class::Other };
    }
    match u32::from(c) {
        // Combining marks, soft hyphen, zero-width joiners, variation selectors.
        0x00AD
        | 0x0300..=0x036F
        | 0x0483..=0x0487
        | 0x0591..=0x05BD
        | 0x064B..=0x065F
        | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF
        | 0x200B..=0x200D
        | 0x2060
        | 0x20D0..=0x20FF
        | 0xFE00..=0xFE0F
        | 0xFE20..=0xFE2F
        | 0xFEFF => Class::Mark,
        // Thai, Lao, Myanmar, Khmer, Hangul, kana, Han.
        0x0E00..=0x0EFF
        | 0x1000..=0x109F
        | 0x1100..=0x11FF
        | 0x1780..=0x17FF
        | 0x3005
        | 0x3041..=0x30FF
        | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xAC00..=0xD7AF
        | 0xF900..=0xFAFF
        | 0xFF66..=0xFF9F
        | 0x2_0000..=0x3_FFFF
            if c.is_alphanumeric() || !matches!(c, '\u{0E3F}' | '\u{0E4F}' | '\u{30A0}' | '\u{30FB}') =>
        {
            Class::Unspaced
        }
        // Indic scripts: vowel signs and viramas that are not letters, but not the sentence marks.
        0x0900..=0x0DFF if !c.is_alphanumeric() && !matches!(c, '\u{0964}' | '\u{0965}' | '\u{0970}') => {
            Class::Mark
        }
        _ if c.is_alphanumeric() => Class::Letter,
        _ => Class::Other,
    }
}

/// The runs of a text from the left.
#[derive(Debug, Clone)]
pub(super) struct Runs<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Runs<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let rest = self.text.get(self.at..)?;
        let mut chars = rest.char_indices().map(|(i, c)| (self.at + i, class(c)));
        let (start, first) = chars.find(|(_, class)| matches!(class, Class::Letter | Class::Unspaced))?;
        let end = chars.find(|(_, class)| *class != first && *class != Class::Mark);
        let end = end.map_or(self.text.len(), |(i, _)| i);
        self.at = end;
        Some(Run { span: start..end, unspaced: first == Class::Unspaced })
    }
}

/// Calls with the pieces of an unspaced run that stand for its words: overlapping pairs of characters, or the single
/// character of a run of one.
pub(super) fn pairs(text: &str, run: &Range<usize>, mut piece: impl FnMut(Range<usize>)) {
    let mut before: Option<Range<usize>> = None;
    let mut alone = true;
    for one in characters(text, run) {
        if let Some(before) = before.replace(one.clone()) {
            piece(before.start..one.end);
            alone = false;
        }
    }
    if let (true, Some(one)) = (alone, before) {
        piece(one);
    }
}

/// The characters of an unspaced run, each with its marks.
pub(super) fn characters<'a>(
    text: &'a str,
    run: &Range<usize>,
) -> impl Iterator<Item = Range<usize>> + use<'a> {
    let start = run.start;
    let end = run.end;
    let inner = text.get(run.clone()).unwrap_or_default();
    let mut starts =
        inner.char_indices().filter(|(_, c)| class(*c) != Class::Mark).map(move |(i, _)| start + i);
    let mut next = starts.next();
    std::iter::from_fn(move || {
        let from = next?;
        next = starts.next();
        Some(from..next.unwrap_or(end))
    })
}

/// Appends a text in the form that is indexed: lower case, without invisible characters, ligatures and full-width
/// letters as the letters they stand for.
pub(super) fn push_folded(out: &mut String, text: &str) {
    if text.is_ascii() {
        out.extend(text.chars().map(|c| c.to_ascii_lowercase()));
        return;
    }
    for c in text.chars() {
        match c {
            '\u{00AD}' | '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' => {}
            '\u{FB00}' => out.push_str("ff"),
            '\u{FB01}' => out.push_str("fi"),
            '\u{FB02}' => out.push_str("fl"),
            '\u{FB03}' => out.push_str("ffi"),
            '\u{FB04}' => out.push_str("ffl"),
            '\u{FF01}'..='\u{FF5E}' => {
                let ascii = char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c);
                out.push(ascii.to_ascii_lowercase());
            }
            _ => out.extend(c.to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Runs, pairs, push_folded};

    fn runs(text: &str) -> Vec<&str> {
        Runs::new(text).map(|run| &text[run.span]).collect()
    }

    fn folded(text: &str) -> String {
        let mut out = String::new();
        push_folded(&mut out, text);
        out
    }

    #[test]
    fn runs_end_where_the_letters_end() {
        assert_eq!(runs("The cat's v1.2, naïve."), ["The", "cat", "s", "v1", "2", "naïve"]);
        assert_eq!(runs(" --- "), [""; 0]);
        assert_eq!(runs(""), [""; 0]);
    }

    #[test]
    fn marks_stay_with_their_letter() {
        assert_eq!(runs("cafe\u{301} x"), ["cafe\u{301}", "x"]);
        assert_eq!(runs("हिन्दी भाषा।"), ["हिन्दी", "भाषा"]);
        assert_eq!(runs("\u{301}\u{200D}"), [""; 0]);
    }

    #[test]
    fn scripts_without_spaces_are_runs_of_their_own() {
        let text = "Rust言語は速い";
        let found: Vec<_> = Runs::new(text).map(|run| (&text[run.span.clone()], run.unspaced)).collect();
        assert_eq!(found, [("Rust", false), ("言語は速い", true)]);
    }

    #[test]
    fn unspaced_runs_become_overlapping_pairs() {
        let list = |text: &str| {
            let mut out = Vec::new();
            pairs(text, &(0..text.len()), |span| out.push(text[span].to_owned()));
            out
        };
        assert_eq!(list("東京都"), ["東京", "京都"]);
        assert_eq!(list("猫"), ["猫"]);
    }

    #[test]
    fn folding_lowers_and_unties() {
        assert_eq!(folded("ÄPFEL"), "äpfel");
        assert_eq!(folded("e\u{FB03}cient co\u{AD}operate"), "efficient cooperate");
        assert_eq!(folded("ＡＢＣ１"), "abc1");
    }
}
