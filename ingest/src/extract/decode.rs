//! Bytes to text, whatever the encoding: byte order mark, then UTF-8, then what the document declares, then a guess.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes at the start in which HTML and XML may declare their encoding.
const DECLARATION_BYTES: usize = 4096;
/// Bytes that a guess or the search for NULs looks at.
const SAMPLE_BYTES: usize = 64 << 10;

/// Width and byte order of a text of wide code units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wide {
    Utf16Le,
    Utf16Be,
    Utf32Le,
    Utf32Be,
}

/// Tells UTF-16 and UTF-32 by their mark, or by where the zero bytes of Western text stand.
pub(super) fn wide(data: &[u8]) -> Option<Wide> {
    match data {
        [0xff, 0xfe, 0, 0, ..] => return Some(Wide::Utf32Le),
        [0, 0, 0xfe, 0xff, ..] => return Some(Wide::Utf32Be),
        [0xff, 0xfe, ..] => return Some(Wide::Utf16Le),
        [0xfe, 0xff, ..] => return Some(Wide::Utf16Be),
        _ => {}
    }
    let sample = data.get(..data.len().min(SAMPLE_BYTES) & !3)?;
    if sample.is_empty() {
        return None;
    }
    let mut zeros = [0usize; 4];
    for unit in sample.chunks_exact(4) {
        for (count, byte) in zeros.iter_mut().zip(unit) {
            *count += usize::from(*byte == 0);
        }
    }
    // Nearly always zero, or nearly never: anything between is binary.
    let units = sample.len() / 4;
    let pattern = zeros.map(|count| match count {
        count if count * 10 >= units * 7 => Some(true),
        count if count * 50 <= units => Some(false),
        _ => None,
    });
    match pattern {
        [Some(false), Some(true), Some(true), Some(true)] => Some(Wide::Utf32Le),
        [Some(true), Some(true), Some(true), Some(false)] => Some(Wide::Utf32Be),
        [Some(false), Some(true), Some(false), Some(true)] => Some(Wide::Utf16Le),
        [Some(true), Some(false), Some(true), Some(false)] => Some(Wide::Utf16Be),
        _ => None,
    }
}

/// Decodes a text file. Bytes that the encoding doesn't have become U+FFFD.
pub(super) fn decode_text(data: &[u8]) -> Cow<'_, str> {
    decode(data, None)
}

/// Decodes HTML or XML, which may declare their encoding.
pub(super) fn decode_markup(data: &[u8]) -> Cow<'_, str> {
    decode(data, declared(data.get(..DECLARATION_BYTES).unwrap_or(data)))
}

fn decode<'a>(data: &'a [u8], declared: Option<&'static Encoding>) -> Cow<'a, str> {
    match wide(data) {
        Some(Wide::Utf16Le) => return UTF_16LE.decode(data).0,
        Some(Wide::Utf16Be) => return UTF_16BE.decode(data).0,
        Some(Wide::Utf32Le) => return utf32(data, u32::from_le_bytes).into(),
        Some(Wide::Utf32Be) => return utf32(data, u32::from_be_bytes).into(),
        None => {}
    }
    let body = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    if let Ok(text) = std::str::from_utf8(body) {
        return text.into();
    }
    let encoding = if body.len() < data.len() { UTF_8 } else { declared.unwrap_or_else(|| guess(data)) };
    // A declaration of UTF-8 that the content belies says nothing.
    let encoding = if encoding == UTF_8 && body.len() == data.len() { guess_or_utf8(data) } else { encoding };
    encoding.decode_without_bom_handling(body).0
}

fn guess(data: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    let sample = data.get(..SAMPLE_BYTES).unwrap_or(data);
    detector.feed(sample, sample.len() == data.len());
    let encoding = detector.guess(None, Utf8Detection::Allow);
    // Plain ASCII in the sample, something else behind it.
    if encoding == UTF_8 && sample.is_ascii() { WINDOWS_1252 } else { encoding }
}

/// UTF-8 with a few broken bytes stays UTF-8.
fn guess_or_utf8(data: &[u8]) -> &'static Encoding {
    let text = String::from_utf8_lossy(data);
    let broken = text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
    let wide = text.chars().filter(|c| !c.is_ascii()).count();
    if broken * 10 <= wide { UTF_8 } else { guess(data) }
}

/// The encoding named in `<?xml encoding="…"?>`, `<meta charset="…">` or a `content="…; charset=…"`.
fn declared(head: &[u8]) -> Option<&'static Encoding> {
    let head: String = head.iter().map(|byte| char::from(*byte).to_ascii_lowercase()).collect();
    let after = |name: &str| head.split_once(name).map(|(_, rest)| rest);
    let value = after("charset=").or_else(|| after("encoding=").filter(|_| head.trim_start().starts_with("<?xml")))?;
    let label: String = value
        .trim_start_matches(['"', '\'', ' '])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.'))
        .collect();
    // A byte order would have shown; whoever could read the declaration as ASCII did not write UTF-16.
    Encoding::for_label(label.as_bytes()).filter(|encoding| *encoding != UTF_16LE && *encoding != UTF_16BE)
}

fn utf32(data: &[u8], unit: fn([u8; 4]) -> u32) -> String {
    let (units, _) = data.as_chunks::<4>();
    units
        .iter()
        .map(|bytes| char::from_u32(unit(*bytes)).unwrap_or(char::REPLACEMENT_CHARACTER))
        .filter(|c| *c != '\u{feff}')
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    const TEXT: &str = "Grüße aus Köln, señor: čeština. And some more plain words to look at.";

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn unicode_with_and_without_marks() {
        let marked = format!("\u{feff}{TEXT}");
        let wide32 = |f: fn(u32) -> [u8; 4], text: &str| text.chars().flat_map(|c| f(c as u32)).collect::<Vec<u8>>();
        for data in [
            TEXT.as_bytes().to_vec(),
            marked.as_bytes().to_vec(),
            utf16(TEXT, u16::to_le_bytes),
            utf16(TEXT, u16::to_be_bytes),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            wide32(u32::to_le_bytes, TEXT),
            wide32(u32::to_be_bytes, TEXT),
            wide32(u32::to_le_bytes, &marked),
            wide32(u32::to_be_bytes, &marked),
        ] {
            assert_eq!(decode_text(&data), TEXT, "{:?}", &data[..8]);
        }
    }

    #[test]
    fn old_encodings_are_guessed_or_declared() {
        let (latin, ..) = WINDOWS_1252.encode("Die Straße führt über die Brücke zum Café.");
        assert_eq!(decode_text(&latin), "Die Straße führt über die Brücke zum Café.");
        let russian = "Привет, это обычный русский текст без разметки.";
        let (koi, ..) = encoding_rs::KOI8_R.encode(russian);
        assert_eq!(decode_text(&koi), russian);
        let page = r#"<html><head><meta charset="iso-8859-2"></head><body>łódź</body></html>"#;
        let (data, ..) = encoding_rs::ISO_8859_2.encode(page);
        assert_eq!(decode_markup(&data), page);
        let xml = r#"<?xml version="1.0" encoding="Shift_JIS"?><a>日本語</a>"#;
        let (data, ..) = encoding_rs::SHIFT_JIS.encode(xml);
        assert_eq!(decode_markup(&data), xml);
    }

    #[test]
    fn a_few_broken_bytes_dont_change_the_encoding() {
        let mut data = TEXT.repeat(20).into_bytes();
        data.insert(5, 0xff);
        let page = [b"<meta charset=utf-8>".as_slice(), &data].concat();
        assert!(decode_markup(&page).contains("čeština"));
    }

    #[test]
    fn binary_is_not_wide() {
        assert_eq!(wide(b""), None);
        assert_eq!(wide(b"plain text here"), None);
        assert_eq!(wide(&[0; 64]), None);
        assert_eq!(wide(&[0, 1, 2, 3, 0, 0, 7, 9, 0, 0, 0, 0, 5, 5, 5, 5]), None);
    }
}
