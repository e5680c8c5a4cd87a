//! The `exact` view of a text: every word as written, and compounds, so that code, names and numbers can be found as
//! such. It knows no stemming.
//!
//! A compound is what stands together without a space: `foo_bar`, `v1.2.3`, `std::vec::Vec`, `C++`, `--dry-run`,
//! `10.1038/nature12373`, `CD4+`. It is indexed whole, by its pieces between `/ \ : @ >`, by their pieces between dots,
//! and by its words, so that `src/foo_bar.rs` is found by `foo_bar.rs` and by `foo_bar` too. Words in camel case add
//! their humps. Two stop words in a row add the pair (as in Lucene's common grams), which makes "to be or not to be" a
//! query with an answer although there are no positions.

use std::ops::Range;

use super::analyzer::is_stop_word;
use super::runs::{Run, Runs, characters, push_folded};

/// What a token of the exact view is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word, or a hump of one.
    Plain,
    /// Several words, or a word with signs, as one.
    Compound,
    /// Two stop words: the first ends and the second starts at these bytes.
    StopPair(usize, usize),
}

/// A token of the exact view, as bytes of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExactSpan {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

impl ExactSpan {
    /// Appends the token's indexed form.
    pub(super) fn push_text(&self, out: &mut String, text: &str) {
        let mut push = |span: Range<usize>| push_folded(out, text.get(span).unwrap_or_default());
        match self.kind {
            Kind::Plain | Kind::Compound => push(self.span.clone()),
            Kind::StopPair(first_end, second_start) => {
                push(self.span.start..first_end);
                out.push(' ');
                let mut push = |span: Range<usize>| push_folded(out, text.get(span).unwrap_or_default());
                push(second_start..self.span.end);
            }
        }
    }
}

/// How strongly what stands between two words of a compound separates them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Joint {
    /// `_ - & + #` and the comma within a number.
    Weak,
    /// A dot.
    Dot,
    /// `/ \ : @ >`.
    Strong,
}

/// Reads what stands between two runs; `None`: they don't belong together.
fn joint(text: &str, before: &Run, after: &Run) -> Option<Joint> {
    if before.unspaced || after.unspaced {
        return None;
    }
    match text.get(before.span.end..after.span.start)? {
        "-" | "_" | "__" | "___" | "&" | "+" | "++" | "#" => Some(Joint::Weak),
        "," => {
            let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
            let bytes = text.as_bytes();
            let within_number =
                digit(bytes.get(before.span.end.checked_sub(1)?)) && digit(bytes.get(after.span.start));
            within_number.then_some(Joint::Weak)
        }
        "." => Some(Joint::Dot),
        "/" | "\\" | ":" | "::" | "://" | ":\\" | "\\\\" | "@" | "->" | "//" => Some(Joint::Strong),
        _ => None,
    }
}

/// Bytes of the signs in front of a word that belong to it: `.NET`, `#tag`, `@user`, `$HOME`, `--flag`, `__init__`.
/// They count where a word could start only.
fn lead(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes().get(..start).unwrap_or_default();
    let signs = bytes.iter().rev().take_while(|byte| b".#@$-_/".contains(byte)).count();
    if signs == 0 || signs > 2 {
        return 0;
    }
    let before = bytes.len().checked_sub(signs + 1).and_then(|i| bytes.get(i));
    if before.is_none_or(|byte| byte.is_ascii_whitespace() || b"([{<\"'`,;=|".contains(byte)) {
        signs
    } else {
        0
    }
}

/// Bytes of the signs behind a word that belong to it: `C++`, `C#`, `CD4+`, `95%`, `__init__`.
fn trail(text: &str, end: usize) -> usize {
    let bytes = text.as_bytes().get(end..).unwrap_or_default();
    let signs = bytes.iter().take_while(|byte| b"+#%_".contains(byte)).count();
    if signs > 2 { 0 } else { signs }
}

/// Calls with the tokens of the exact view, in no particular order within a compound.
pub(super) fn exact_spans(text: &str, mut emit: impl FnMut(ExactSpan)) {
    let mut runs = Runs::new(text).peekable();
    // Runs of one compound, each with the joint in front of it.
    let mut compound: Vec<(Joint, Range<usize>)> = Vec::new();
    let mut last_word: Option<Range<usize>> = None;
    while let Some(run) = runs.next() {
        if run.unspaced {
            for one in characters(text, &run.span) {
                emit(ExactSpan { span: one, kind: Kind::Plain });
            }
            last_word = None;
            continue;
        }
        compound.clear();
        compound.push((Joint::Strong, run.span.clone()));
        let mut last = run;
        while let Some(joint) = runs.peek().and_then(|next| joint(text, &last, next)) {
            let Some(next) = runs.next() else { break };
            compound.push((joint, next.span.clone()));
            last = next;
        }
        emit_compound(text, &compound, &mut emit);
        if let [(_, word)] = compound.as_slice() {
            emit_stop_pair(text, last_word.as_ref(), word, &mut emit);
            last_word = Some(word.clone());
        } else {
            last_word = None;
        }
    }
}

fn emit_compound(text: &str, parts: &[(Joint, Range<usize>)], emit: &mut impl FnMut(ExactSpan)) {
    let (Some((_, first)), Some((_, last))) = (parts.first(), parts.last()) else { return };
    let core = first.start..last.end;
    let signed = core.start - lead(text, core.start)..core.end + trail(text, core.end);
    if signed != core {
        emit(ExactSpan { span: signed, kind: Kind::Compound });
    }
    if parts.len() > 1 {
        emit(ExactSpan { span: core, kind: Kind::Compound });
        emit_pieces(parts, Joint::Strong, emit);
    }
    for (_, word) in parts {
        emit(ExactSpan { span: word.clone(), kind: Kind::Plain });
        emit_humps(text, word, emit);
    }
}

/// Emits the pieces of a compound between joints of at least `level`, and the smaller pieces within them. A piece of one
/// word is left to the caller, and a compound without such a joint is no piece of itself.
fn emit_pieces(parts: &[(Joint, Range<usize>)], level: Joint, emit: &mut impl FnMut(ExactSpan)) {
    let mut pieces = Vec::new();
    let mut from = 0;
    for i in 1..=parts.len() {
        if parts.get(i).is_none_or(|(joint, _)| *joint >= level) {
            pieces.push(from..i);
            from = i;
        }
    }
    let split = pieces.len() > 1;
    for piece in pieces {
        let Some([(_, first), .., (_, last)]) = parts.get(piece.clone()) else { continue };
        if split {
            emit(ExactSpan { span: first.start..last.end, kind: Kind::Compound });
        }
        if level == Joint::Strong {
            emit_pieces(parts.get(piece).unwrap_or_default(), Joint::Dot, emit);
        }
    }
}

/// Emits the humps of a word in camel case (`parseRequest`: `parse`, `Request`).
fn emit_humps(text: &str, word: &Range<usize>, emit: &mut impl FnMut(ExactSpan)) {
    let bytes = text.as_bytes();
    let turns = |i: &usize| {
        let before = i.checked_sub(1).and_then(|before| bytes.get(before));
        before.is_some_and(u8::is_ascii_lowercase) && bytes.get(*i).is_some_and(u8::is_ascii_uppercase)
    };
    let mut from = word.start;
    for turn in (word.start + 1..word.end).filter(turns) {
        emit(ExactSpan { span: from..turn, kind: Kind::Plain });
        from = turn;
    }
    if from > word.start {
        emit(ExactSpan { span: from..word.end, kind: Kind::Plain });
    }
}

fn emit_stop_pair(
    text: &str,
    before: Option<&Range<usize>>,
    word: &Range<usize>,
    emit: &mut impl FnMut(ExactSpan),
) {
    let Some(before) = before else { return };
    let stop = |span: &Range<usize>| text.get(span.clone()).is_some_and(is_stop_word);
    let between = text.get(before.end..word.start).unwrap_or_default();
    if stop(before) && stop(word) && between.chars().all(char::is_whitespace) {
        emit(ExactSpan { span: before.start..word.end, kind: Kind::StopPair(before.end, word.start) });
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, exact_spans};

    fn tokens(text: &str) -> (Vec<String>, Vec<String>) {
        let (mut plain, mut compound) = (Vec::new(), Vec::new());
        exact_spans(text, |token| {
            let mut folded = String::new();
            token.push_text(&mut folded, text);
            if token.kind == Kind::Plain { plain.push(folded) } else { compound.push(folded) }
        });
        compound.sort();
        (plain, compound)
    }

    fn compounds(text: &str) -> Vec<String> {
        tokens(text).1
    }

    #[test]
    fn identifiers_versions_and_numbers_stay_whole() {
        assert_eq!(
            tokens("call foo_bar now"),
            (["call", "foo", "bar", "now"].map(str::to_owned).to_vec(), vec!["foo_bar".to_owned()])
        );
        assert_eq!(compounds("in v1.2.3, we"), ["v1.2.3"]);
        assert_eq!(compounds("10,000 of 3.14"), ["10,000", "3.14"]);
        assert_eq!(compounds("one,two and end. Next"), [""; 0]);
    }

    #[test]
    fn signs_belong_to_their_word_where_a_word_starts() {
        assert_eq!(compounds("C++ and C# or CD4+ cells"), ["c#", "c++", "cd4+"]);
        assert_eq!(compounds(".NET --dry-run (#42) $HOME"), ["#42", "$home", "--dry-run", ".net", "dry-run"]);
        assert_eq!(compounds("so... what--ever - x"), [""; 0]);
        assert_eq!(compounds("__init__"), ["__init__"]);
    }

    #[test]
    fn paths_are_found_by_their_pieces() {
        assert_eq!(compounds("src/keyword/foo_bar.rs"), ["foo_bar", "foo_bar.rs", "src/keyword/foo_bar.rs"]);
        assert_eq!(compounds("me@example.com"), ["example.com", "me@example.com"]);
        assert_eq!(compounds("std::vec::Vec"), ["std::vec::vec"]);
        assert_eq!(compounds("a.b"), ["a.b"]);
    }

    #[test]
    fn camel_case_adds_its_humps() {
        assert_eq!(tokens("parseHttpRequest").0, ["parsehttprequest", "parse", "http", "request"]);
        assert_eq!(tokens("HTTP x").0, ["http", "x"]);
    }

    #[test]
    fn stop_words_in_a_row_are_paired() {
        assert_eq!(compounds("To  be, or not to be"), ["not to", "or not", "to be", "to be"]);
    }

    #[test]
    fn unspaced_scripts_give_characters() {
        assert_eq!(tokens("東京").0, ["東", "京"]);
    }

    #[test]
    fn a_hostile_chain_stays_linear() {
        let text = "a.b/".repeat(50_000);
        let mut count = 0;
        exact_spans(&text, |_| count += 1);
        assert!(count <= 300_002, "{count}");
    }
}
