//! Text to token ids and token spans, with a bound on the text that one call looks at. Knows no model but the
//! tokenizer's own file.

use std::ops::Range;

use tokenizers::normalizers::{BertNormalizer, Lowercase};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::error::{Error, ErrorKind, Result};

/// Most bytes of a text that are tokenised to embed it. Models take a few hundred tokens; this is far beyond them.
pub const MAX_EMBEDDED_BYTES: usize = 64 << 10;

/// Texts are tokenised for their spans in windows of about this many bytes, which bounds memory: a tokenizer needs some
/// hundred bytes a token.
const WINDOW_BYTES: usize = 64 << 10;
/// The same where plain windows are quicker: one wide character makes a whole window slower.
const SMALL_WINDOW_BYTES: usize = 2 << 10;

/// A tokenizer and the token limit of its model.
pub(super) struct TextTokenizer {
    inner: Tokenizer,
    /// The same without what changes nothing in plain text, see [`is_plain`].
    plain: Option<Tokenizer>,
    max_tokens: usize,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`. Its truncation and padding are ignored; `max_tokens` counts the model's own tokens too.
    pub fn from_json(json: &[u8], max_tokens: usize) -> Result<Self> {
        let inner = Tokenizer::from_bytes(json)
            .map_err(|error| Error::bad_content(format!("tokenizer.json can't be read: {error}")))?;
        Self::new(inner, max_tokens)
    }

    /// Takes a tokenizer over, without its truncation and padding.
    pub fn new(mut inner: Tokenizer, max_tokens: usize) -> Result<Self> {
        inner.with_truncation(None).map_err(failed)?;
        inner.with_padding(None);
        // A text that contains "[SEP]" means these five characters, not the model's separator.
        inner.set_encode_special_tokens(true);
        let plain = plain(&inner)?;
        Ok(Self { inner, plain, max_tokens })
    }

    fn of(&self, text: &str) -> &Tokenizer {
        self.plain.as_ref().filter(|_| is_plain(text)).unwrap_or(&self.inner)
    }

    /// Token ids of a text with the model's own tokens around them, at most `max_tokens`: the last one, which ends the
    /// sequence, is kept.
    pub fn ids(&self, text: &str) -> Result<Vec<i32>> {
        let text = text.get(..text.floor_char_boundary(MAX_EMBEDDED_BYTES)).unwrap_or(text);
        let encoding = self.of(text).encode_fast(text, true).map_err(failed)?;
        let mut ids = encoding.get_ids().iter().map(|&id| narrow(id)).collect::<Result<Vec<i32>>>()?;
        if ids.len() > self.max_tokens {
            let end = ids.last().copied();
            ids.truncate(self.max_tokens.saturating_sub(1));
            ids.extend(end);
        }
        Ok(ids)
    }

    /// Byte ranges of the tokens of a text, in order, without the model's own tokens. They lie on character boundaries.
    pub fn spans(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let mut spans = Vec::with_capacity(text.len() / 4);
        let bytes = if self.plain.is_some() { SMALL_WINDOW_BYTES } else { WINDOW_BYTES };
        let mut start = 0;
        while start < text.len() {
            let end = window_end(text, start, bytes);
            let window = text.get(start..end).unwrap_or_default();
            let encoding = self.of(window).encode(window, false).map_err(failed)?;
            spans.extend(encoding.get_offsets().iter().map(|&(from, to)| {
                let from = window.floor_char_boundary(from);
                let to = window.ceil_char_boundary(to.max(from));
                start + from..start + to
            }));
            start = end;
        }
        Ok(spans)
    }
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer").field("max_tokens", &self.max_tokens).finish_non_exhaustive()
    }
}

/// What makes the same tokens of plain text in half of the time, by leaving out most of what BERT's tokenizers look for: characters
/// to drop, to set apart, or to strip of accents. `None` where the tokenizer is of another kind.
fn plain(tokenizer: &Tokenizer) -> Result<Option<Tokenizer>> {
    let Some(NormalizerWrapper::BertNormalizer(BertNormalizer { lowercase, .. })) =
        tokenizer.get_normalizer()
    else {
        return Ok(None);
    };
    // It takes every whitespace for the same, which cleaning otherwise sees to.
    if !matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_))) {
        return Ok(None);
    }
    let mut plain = tokenizer.clone();
    plain.with_normalizer(lowercase.then_some(Lowercase)).map_err(failed)?;
    Ok(Some(plain))
}

/// Whether a text has only printable ASCII characters and the usual whitespace.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'))
}

/// End of the window of `bytes` that starts at `start`: behind its last whitespace when there is one, so that no word is cut.
fn window_end(text: &str, start: usize, bytes: usize) -> usize {
    let limit = text.floor_char_boundary(start.saturating_add(bytes));
    if limit >= text.len() {
        return text.len();
    }
    let window = text.get(start..limit).unwrap_or_default();
    let behind_space =
        window.char_indices().rev().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
    start + behind_space.unwrap_or(window.len())
}

fn narrow(id: u32) -> Result<i32> {
    i32::try_from(id)
        .map_err(|_| Error::bad_content(format!("token id {id} of the tokenizer is out of range")))
}

fn failed(error: tokenizers::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("tokenizing failed: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn tokenizer(max_tokens: usize) -> TextTokenizer {
        let json = include_bytes!("../../models/all-MiniLM-L6-v2/tokenizer.json");
        TextTokenizer::from_json(json, max_tokens).unwrap()
    }

    fn pieces<'a>(text: &'a str, spans: &[Range<usize>]) -> Vec<&'a str> {
        spans.iter().map(|span| &text[span.clone()]).collect()
    }

    #[test]
    fn spans_are_bytes_of_the_text_also_behind_wide_characters() {
        let text = "Größe: 5 µm – naïve 日本 e\u{301}t\u{e9} 🙂 end";
        let spans = tokenizer(256).spans(text).unwrap();
        let pieces = pieces(text, &spans);
        assert!(pieces.contains(&"日") && pieces.contains(&"本"), "{pieces:?}");
        assert_eq!(pieces.last(), Some(&"end"));
        assert!(spans.windows(2).all(|pair| pair[0].start <= pair[1].start), "{spans:?}");
    }

    #[test]
    fn ids_are_the_spans_and_two_more() {
        let tokenizer = tokenizer(256);
        let text = "Retrieval augmented generation, in 2 words";
        assert_eq!(tokenizer.ids(text).unwrap().len(), tokenizer.spans(text).unwrap().len() + 2);
        assert_eq!(tokenizer.ids("").unwrap(), [101, 102]);
        assert!(tokenizer.spans("").unwrap().is_empty());
    }

    #[test]
    fn a_long_text_is_cut_and_still_ends_as_a_sequence() {
        let ids = tokenizer(16).ids(&"word ".repeat(1_000)).unwrap();
        assert_eq!(ids.len(), 16);
        assert_eq!((ids[0], ids[15]), (101, 102));
    }

    #[test]
    fn control_tokens_in_a_text_are_text() {
        let ids = tokenizer(256).ids("a [SEP] b [CLS] [PAD]").unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == 102).count(), 1);
        assert_eq!(ids.iter().filter(|&&id| id == 101).count(), 1);
        assert!(!ids.contains(&0));
    }

    #[test]
    fn windows_change_nothing() {
        let tokenizer = tokenizer(256);
        let sentence = "The quick brown fox, unquestionably, jumps over 12 lazy dogs. ";
        let text = sentence.repeat(4 * WINDOW_BYTES / sentence.len());
        assert!(text.len() > 3 * WINDOW_BYTES);
        let one = tokenizer.spans(sentence).unwrap();
        let all = tokenizer.spans(&text).unwrap();
        assert_eq!(all.len(), one.len() * (text.len() / sentence.len()));
        let last: Vec<_> = all[all.len() - one.len()..].iter().map(|span| &text[span.clone()]).collect();
        assert_eq!(last, pieces(sentence, &one));
    }

    #[test]
    fn plain_text_has_the_same_tokens_the_quick_way() {
        let tokenizer = tokenizer(256);
        let slow = TextTokenizer { inner: tokenizer.inner.clone(), plain: None, max_tokens: 256 };
        let printable: String = (' '..='~').chain(['\t', '\n', '\r']).collect();
        let mut text = String::new();
        for i in 0..3_000_usize {
            // Every pair of characters, in many lengths of words.
            let (a, b) = (i % printable.len(), i * 31 % printable.len());
            text.extend([&printable[a..=a], &printable[b..=b], if i % 7 == 0 { " Word-" } else { "" }]);
        }
        let mixed = text.replace("Word-", "Größe 日本 ");
        for text in [text.as_str(), &mixed, "[SEP] a_b [CLS]", "", " \n", "É", "a\u{0}b c\u{7f}d"] {
            assert_eq!(tokenizer.spans(text).unwrap(), slow.spans(text).unwrap(), "{text:?}");
            assert_eq!(tokenizer.ids(text).unwrap(), slow.ids(text).unwrap(), "{text:?}");
        }
        assert!(tokenizer.plain.is_some() && is_plain(&text) && !is_plain(&mixed));
    }

    #[test]
    fn one_endless_word_and_binary_noise_pass() {
        let tokenizer = tokenizer(256);
        tokenizer.spans(&"x".repeat(3 * WINDOW_BYTES)).unwrap();
        tokenizer.spans(&"é".repeat(WINDOW_BYTES)).unwrap();
        let noise: String = (0..20_000_u32).filter_map(|i| char::from_u32(i * 53 % 0x1_10000)).collect();
        for span in tokenizer.spans(&noise).unwrap() {
            assert!(noise.get(span.clone()).is_some(), "{span:?}");
        }
        assert!(tokenizer.ids(&noise.repeat(30)).unwrap().len() <= 256);
    }

    #[test]
    fn a_broken_tokenizer_file_is_an_error() {
        for json in [&b""[..], b"{}", b"{\"model\": 5}", b"\xff\xfe"] {
            assert!(TextTokenizer::from_json(json, 256).is_err());
        }
    }
}
