//! Texts to tokens: the same code for rows, queries and highlights, in the memtable and in tantivy. It knows no index.

use std::collections::VecDeque;
use std::ops::Range;

use tantivy::tokenizer::{
    Language, Stemmer, StopWordFilter, TextAnalyzer, Token, TokenStream, Tokenizer, TokenizerManager,
};

use super::TextField;
use super::exact::{ExactSpan, exact_spans};
use super::runs::{Run, Runs, characters, pairs, push_folded};

/// Longest token, in bytes as written; longer ones are not indexed.
pub const MAX_TOKEN_BYTES: usize = 255;

/// The English stop words of Lucene.
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no",
    "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to",
    "was", "will", "with",
];
/// The longest of them.
const MAX_STOP_WORD_BYTES: usize = 5;

/// Whether a word, in any case, is a stop word.
pub(super) fn is_stop_word(word: &str) -> bool {
    word.len() <= MAX_STOP_WORD_BYTES && STOP_WORDS.iter().any(|stop| stop.eq_ignore_ascii_case(word))
}

/// Calls with the words of a text as payload fields of type `text` have them: folded, unstemmed, with stop words;
/// scripts without spaces character by character. Stops when the call returns false.
pub(crate) fn simple(text: &str, mut word: impl FnMut(&str) -> bool) {
    let mut folded = String::new();
    let mut call = |span: Range<usize>| {
        if span.len() > MAX_TOKEN_BYTES {
            return true;
        }
        folded.clear();
        push_folded(&mut folded, text.get(span).unwrap_or_default());
        folded.is_empty() || word(&folded)
    };
    for Run { span, unspaced } in Runs::new(text) {
        let goes_on = if unspaced { characters(text, &span).all(&mut call) } else { call(span) };
        if !goes_on {
            return;
        }
    }
}

/// The analyzers of the two views. Not shared between threads: making one is cheap.
pub(super) struct Analyzers {
    words: TextAnalyzer,
    exact: TextAnalyzer,
}

impl Analyzers {
    pub(super) fn new() -> Self {
        Self { words: words_analyzer(), exact: TextAnalyzer::from(ExactTokenizer) }
    }

    /// Calls with the tokens of a text and their bytes in it.
    pub(super) fn tokens(&mut self, field: TextField, text: &str, mut token: impl FnMut(&str, Range<usize>)) {
        let analyzer = match field {
            TextField::Words => &mut self.words,
            TextField::Exact => &mut self.exact,
        };
        let mut stream = analyzer.token_stream(text);
        while stream.advance() {
            let found = stream.token();
            token(&found.text, found.offset_from..found.offset_to);
        }
    }
}

/// Names of the analyzers in a tantivy schema. They are stored in segments.
pub(super) mod names {
    pub(crate) const WORDS: &str = "ragstone_words";
    pub(crate) const EXACT: &str = "ragstone_exact";
    pub(crate) const SIMPLE: &str = "ragstone_simple";
    pub(crate) const RAW: &str = "raw";
}

/// All analyzers for tantivy.
pub(super) fn manager() -> TokenizerManager {
    let manager = TokenizerManager::default();
    manager.register(names::WORDS, words_analyzer());
    manager.register(names::EXACT, TextAnalyzer::from(ExactTokenizer));
    manager.register(names::SIMPLE, TextAnalyzer::from(SimpleTokenizer));
    manager
}

/// Porter2 stems (snowballstem.org) of what is not a stop word.
fn words_analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(WordTokenizer)
        .filter(StopWordFilter::remove(STOP_WORDS.map(str::to_owned)))
        .filter(Stemmer::new(Language::English))
        .build()
}

/// Words for stemming; scripts without spaces as pairs of characters.
#[derive(Clone)]
struct WordTokenizer;

/// The exact view.
#[derive(Clone)]
struct ExactTokenizer;

/// See [`simple`].
#[derive(Clone)]
struct SimpleTokenizer;

impl Tokenizer for WordTokenizer {
    type TokenStream<'a> = RunStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> RunStream<'a> {
        RunStream {
            text,
            runs: Runs::new(text),
            queue: VecDeque::new(),
            paired: true,
            token: Token::default(),
        }
    }
}

impl Tokenizer for SimpleTokenizer {
    type TokenStream<'a> = RunStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> RunStream<'a> {
        RunStream {
            text,
            runs: Runs::new(text),
            queue: VecDeque::new(),
            paired: false,
            token: Token::default(),
        }
    }
}

impl Tokenizer for ExactTokenizer {
    type TokenStream<'a> = ExactStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> ExactStream<'a> {
        let mut spans = Vec::new();
        exact_spans(text, |span| spans.push(span));
        ExactStream { text, spans: spans.into_iter(), token: Token::default() }
    }
}

struct RunStream<'a> {
    text: &'a str,
    runs: Runs<'a>,
    /// Pieces of the last unspaced run.
    queue: VecDeque<Range<usize>>,
    /// Unspaced runs as pairs instead of characters.
    paired: bool,
    token: Token,
}

impl RunStream<'_> {
    fn next_span(&mut self) -> Option<Range<usize>> {
        loop {
            if let Some(span) = self.queue.pop_front() {
                return Some(span);
            }
            let run = self.runs.next()?;
            if !run.unspaced {
                return Some(run.span);
            }
            if self.paired {
                pairs(self.text, &run.span, |span| self.queue.push_back(span));
            } else {
                self.queue.extend(characters(self.text, &run.span));
            }
        }
    }
}

impl TokenStream for RunStream<'_> {
    fn advance(&mut self) -> bool {
        while let Some(span) = self.next_span() {
            let text = self.text;
            if set(&mut self.token, &span, |out| push_folded(out, text.get(span.clone()).unwrap_or_default()))
            {
                return true;
            }
        }
        false
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

struct ExactStream<'a> {
    text: &'a str,
    spans: std::vec::IntoIter<ExactSpan>,
    token: Token,
}

impl TokenStream for ExactStream<'_> {
    fn advance(&mut self) -> bool {
        for exact in self.spans.by_ref() {
            if set(&mut self.token, &exact.span, |out| exact.push_text(out, self.text)) {
                return true;
            }
        }
        false
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

/// Fills a token; false when there is nothing to index at these bytes.
fn set(token: &mut Token, span: &Range<usize>, push: impl FnOnce(&mut String)) -> bool {
    if span.len() > MAX_TOKEN_BYTES {
        return false;
    }
    token.text.clear();
    push(&mut token.text);
    token.offset_from = span.start;
    token.offset_to = span.end;
    token.position = token.position.wrapping_add(1);
    !token.text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::{Analyzers, MAX_TOKEN_BYTES, STOP_WORDS, TextField, is_stop_word, simple};

    fn words(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        Analyzers::new().tokens(TextField::Words, text, |token, _| out.push(token.to_owned()));
        out
    }

    #[test]
    fn words_are_stems_without_stop_words() {
        assert_eq!(words("The Cells were dividing"), ["cell", "were", "divid"]);
        assert_eq!(words("to be or not to be"), [""; 0]);
        assert_eq!(words("東京都の"), ["東京", "京都", "都の"]);
    }

    #[test]
    fn offsets_are_those_of_the_text_as_written() {
        let text = "Größe: Äpfel";
        let mut spans = Vec::new();
        Analyzers::new().tokens(TextField::Words, text, |_, span| spans.push(&text[span]));
        assert_eq!(spans, ["Größe", "Äpfel"]);
    }

    #[test]
    fn tokens_longer_than_the_bound_are_left_out() {
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        let fits = "y".repeat(MAX_TOKEN_BYTES);
        assert_eq!(words(&format!("{long} {fits} end")), [fits, "end".to_owned()]);
    }

    #[test]
    fn simple_keeps_stop_words_and_can_be_stopped() {
        let mut seen = Vec::new();
        simple("The C++ 東京 end", |word| {
            seen.push(word.to_owned());
            word != "東"
        });
        assert_eq!(seen, ["the", "c", "東"]);
    }

    #[test]
    fn stop_words_are_known_in_any_case() {
        assert!(is_stop_word("The") && is_stop_word("THESE") && !is_stop_word("who"));
        assert!(STOP_WORDS.iter().all(|word| is_stop_word(word)));
    }
}
