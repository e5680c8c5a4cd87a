//! Where a block that is too long is cut: into even parts, each cut at the best place near its ideal.

use std::ops::Range;

use super::measure::{Measure, is_ideograph};

/// How good a place is, from 0 (within a token) up; against it stands the distance from the ideal, 1 at the far end.
const SEAM: f64 = 1.2;
const SENTENCE: f64 = 0.9;
const LINE: f64 = 0.5;
const CLAUSE: f64 = 0.4;
const WORD: f64 = 0.2;
const TOKEN: f64 = -0.6;
const CHARACTER: f64 = -1.0;

/// Least part of the ideal that a part may have.
const LEAST: (usize, usize) = (2, 5);

/// Cuts a span into as few parts of at most `room` tokens as possible, of about the same size.
pub(super) fn split(
    text: &str,
    span: &Range<usize>,
    room: usize,
    measure: &Measure,
    seams: &[usize],
) -> Vec<Range<usize>> {
    let room = room.max(1);
    let mut parts = Vec::new();
    let mut start = span.start;
    loop {
        let left = measure.count(&(start..span.end));
        if left <= room {
            break;
        }
        let cut = |parts_left: usize| {
            let ideal = left.div_ceil(parts_left);
            // What remains must fit into the other parts.
            let least = left.saturating_sub((parts_left - 1) * room).max(ideal * LEAST.0 / LEAST.1).max(1);
            let from = measure.forward(start, least, span.end);
            let to = measure.forward(start, room, span.end);
            best_cut(text, start, from..to, ideal, measure, seams)
        };
        let fewest = left.div_ceil(room);
        let first = cut(fewest);
        // One part more is better than a torn sentence, and much better than a torn word.
        let second = if first.strength < SENTENCE { cut(fewest + 1) } else { Cut::NONE };
        let better =
            (second.strength >= SENTENCE) || (first.strength < WORD && second.strength > first.strength);
        let at = if better { second.at } else { first.at };
        let at = if at > start { at } else { forced(text, start, measure.forward(start, room, span.end)) };
        if at <= start || at >= span.end {
            break;
        }
        parts.push(start..at);
        start = at;
    }
    parts.push(start..span.end);
    parts
}

/// Two halves by bytes, for text that the measure can't cut.
pub(super) fn halves(text: &str, span: &Range<usize>) -> Vec<Range<usize>> {
    let mut middle = span.start + (span.end - span.start) / 2;
    while middle > span.start && !text.is_char_boundary(middle) {
        middle -= 1;
    }
    if middle == span.start {
        middle = text
            .get(span.clone())
            .and_then(|part| part.chars().next())
            .map_or(span.end, |c| span.start + c.len_utf8());
    }
    if middle >= span.end { vec![span.clone()] } else { vec![span.start..middle, middle..span.end] }
}

/// A place to cut at.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    strength: f64,
}

impl Cut {
    const NONE: Self = Self { at: 0, strength: f64::NEG_INFINITY };
}

/// The best place within `window`, both ends included.
fn best_cut(
    text: &str,
    start: usize,
    window: Range<usize>,
    ideal: usize,
    measure: &Measure,
    seams: &[usize],
) -> Cut {
    let mut from = window.start.max(start + 1).min(text.len());
    while from > start && !text.is_char_boundary(from) {
        from -= 1;
    }
    let mut best = (f64::NEG_INFINITY, Cut::NONE);
    let mut before = Before::read(text.get(start..from).unwrap_or_default());
    let mut tokens = measure.count(&(start..from));
    let mut marks = measure.from(from).iter().map(|mark| *mark as usize).peekable();
    for (at, character) in text.get(from..).unwrap_or_default().char_indices() {
        let at = from + at;
        if at > window.end {
            break;
        }
        while marks.next_if(|mark| *mark < at).is_some() {
            tokens += 1;
        }
        if at > start && !joins(before.last, character) {
            let strength = if seams.binary_search(&at).is_ok() {
                SEAM
            } else {
                before.strength(character).max(if marks.peek() == Some(&at) { TOKEN } else { CHARACTER })
            };
            let score = strength - distance(tokens, ideal);
            if score > best.0 {
                best = (score, Cut { at, strength });
            }
        }
        before.push(character);
    }
    best.1
}

#[expect(clippy::cast_precision_loss, reason = "token counts are small")]
fn distance(tokens: usize, ideal: usize) -> f64 {
    tokens.abs_diff(ideal) as f64 / ideal.max(1) as f64
}

/// The last place before `end`, or after one character, where no better one is.
fn forced(text: &str, start: usize, end: usize) -> usize {
    let mut at = end.min(text.len());
    while at > start && !text.is_char_boundary(at) {
        at -= 1;
    }
    if at > start {
        return at;
    }
    text.get(start..).and_then(|rest| rest.chars().next()).map_or(start, |c| start + c.len_utf8())
}

/// Characters that make one sign with the one before them: combining marks, joiners, variation selectors, skin tones,
/// and the second half of a flag or of a line end.
fn joins(before: char, character: char) -> bool {
    let joiner = '\u{200d}';
    let regional = |c: char| matches!(c as u32, 0x1_f1e6..=0x1_f1ff);
    before == joiner
        || character == joiner
        || regional(before) && regional(character)
        || matches!(character as u32, 0x0300..=0x036f | 0x0483..=0x0489 | 0x0591..=0x05bd | 0x064b..=0x065f
            | 0x093a..=0x094f | 0x0e31 | 0x0e34..=0x0e3a | 0x0e47..=0x0e4e | 0x1ab0..=0x1aff | 0x20d0..=0x20ff
            | 0x302a..=0x302f | 0x3099..=0x309a | 0xfe00..=0xfe0f | 0x1_f3fb..=0x1_f3ff | 0xe_0020..=0xe_01ef)
}

/// What stands before a place.
pub(super) struct Before {
    last: char,
    /// Line ends in the blanks right before.
    lines: u32,
    blank: bool,
    /// The last thing that is no blank and no closing quote or bracket.
    end: char,
    /// Characters of the word that `end` closes.
    word: usize,
    closed: bool,
}

impl Before {
    pub(super) fn read(text: &str) -> Self {
        let mut before = Self { last: '\0', lines: 0, blank: false, end: '\0', word: 0, closed: false };
        // A sentence end is told by a few characters.
        let tail = text.char_indices().rev().nth(40).map_or(0, |(at, _)| at);
        text.get(tail..).unwrap_or_default().chars().for_each(|character| before.push(character));
        before
    }

    pub(super) fn push(&mut self, character: char) {
        if character.is_whitespace() {
            self.lines = if self.blank { self.lines } else { 0 } + u32::from(character == '\n');
            self.blank = true;
        } else {
            if self.blank {
                self.word = 0;
                self.closed = false;
            }
            self.blank = false;
            if matches!(character, '"' | '\'' | ')' | ']' | '}' | '»' | '”' | '’' | '」' | '』' | '）')
                && self.word > 0
            {
                self.closed = true;
            } else {
                if is_stop(character) || is_comma(character) {
                    // "(see Fig. 3)." closes more than a short word.
                    if self.closed {
                        self.word += 2;
                    }
                    self.closed = false;
                } else {
                    self.word += 1;
                }
                self.end = character;
            }
        }
        self.last = character;
    }

    /// How good it is to cut between this and `next`.
    fn strength(&self, next: char) -> f64 {
        if next.is_whitespace() {
            return CHARACTER;
        }
        if self.blank && self.lines > 1 {
            return SEAM;
        }
        let wide_stop = matches!(self.end, '。' | '！' | '？' | '．' | '।');
        if wide_stop && !is_stop(next) && (self.blank || self.last == self.end || self.closed) {
            return SENTENCE;
        }
        let starts_sentence = !next.is_lowercase() && !next.is_ascii_digit();
        if self.blank && is_stop(self.end) && starts_sentence && !self.abbreviated() {
            return SENTENCE;
        }
        if self.blank && self.lines > 0 {
            return LINE;
        }
        if is_comma(self.end) && (self.blank || self.last == self.end && is_ideograph(next)) {
            return CLAUSE;
        }
        if self.blank || is_ideograph(self.last) && is_ideograph(next) { WORD } else { CHARACTER }
    }

    /// Whether a sentence, or a paragraph, ends between this and `next`.
    pub(super) fn ends_sentence(&self, next: char) -> bool {
        !next.is_whitespace() && self.strength(next) >= SENTENCE
    }

    /// `J. Smith`, `et al. The`, `Fig. 3`: a short word before the stop. Ends sentences at times, but then a cut at
    /// another place does no harm.
    fn abbreviated(&self) -> bool {
        self.end == '.' && !self.closed && self.word <= 2
    }
}

fn is_stop(character: char) -> bool {
    matches!(character, '.' | '!' | '?' | '…' | '。' | '！' | '？' | '．' | '।' | '؟')
}

fn is_comma(character: char) -> bool {
    matches!(character, ',' | ';' | ':' | '、' | '，' | '；' | '：' | '،')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn parts(text: &str, room: usize) -> Vec<&str> {
        let measure = Measure::of(text, None).unwrap();
        let parts = split(text, &(0..text.len()), room, &measure, &[]);
        assert_eq!(parts.iter().map(|part| &text[part.clone()]).collect::<String>(), text);
        for part in &parts {
            assert!(measure.count(part) <= room, "{part:?} of {text:?}");
        }
        parts.into_iter().map(|part| text[part].trim()).collect()
    }

    #[test]
    fn parts_are_even() {
        let sizes: Vec<_> =
            parts(&"word ".repeat(260), 250).iter().map(|part| part.split(' ').count()).collect();
        assert_eq!(sizes, [130, 130]);
    }

    #[test]
    fn sentences_stay_whole() {
        let text = "Granite is a hard stone. It was found by Dr. A. Smith, in the hills (see Fig. 3). Who knows? Nobody \
                    really does know that.";
        assert_eq!(
            parts(text, 15),
            [
                "Granite is a hard stone.",
                "It was found by Dr. A. Smith, in the hills (see Fig. 3).",
                "Who knows? Nobody really does know that."
            ]
        );
        let cjk = "今日は天気がいい。明日は雨が降るだろう。昨日は雪が降っていた。";
        for part in parts(cjk, 14) {
            assert!(part.ends_with('。'), "{part}");
        }
    }

    #[test]
    fn lines_go_before_words() {
        assert_eq!(parts("a b c d\ne f g h\ni j k l\nm n o p", 8), ["a b c d\ne f g h", "i j k l\nm n o p"]);
    }

    #[test]
    fn signs_are_not_torn() {
        let family = "👩\u{200d}👩\u{200d}👧\u{fe0f}";
        let text = family.repeat(200);
        for part in parts(&text, 10) {
            assert!(part.starts_with('👩') || part.starts_with('👧'), "{part:?}");
            assert!(!part.ends_with('\u{200d}'));
        }
        parts(&"e\u{301}".repeat(500), 7);
    }

    #[test]
    fn halves_always_make_progress() {
        assert_eq!(halves("aä", &(0..3)), [0..1, 1..3]);
        assert_eq!(halves("ää", &(0..4)), [0..2, 2..4]);
        assert_eq!(halves("ä", &(0..2)).len(), 1);
    }
}
