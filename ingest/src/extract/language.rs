//! The language of a text: told from its words where they suffice, else what the document declares.

use std::collections::HashSet;

use whatlang::Script;

/// Bytes of the text that are looked at.
const SAMPLE_BYTES: usize = 8 << 10;
/// Texts of fewer letters, or of fewer different words, say too little.
const MIN_LETTERS: usize = 60;
const MIN_WORDS: usize = 10;

/// Two letters of ISO 639-1, else three of ISO 639-3. Declarations are often those of a template, so the words win.
pub(super) fn of(text: &str, declared: Option<&str>) -> Option<String> {
    let sample = text.get(..text.floor_char_boundary(SAMPLE_BYTES)).unwrap_or(text);
    let enough = sample.chars().filter(|c| c.is_alphabetic()).take(MIN_LETTERS).count() == MIN_LETTERS;
    let told = whatlang::detect(sample).filter(|info| {
        let words = || sample.split(|c: char| !c.is_alphabetic()).collect::<HashSet<_>>().len();
        // Other scripts are shared by few languages, and some have no spaces.
        enough && info.is_reliable() && (info.script() != Script::Latin || words() >= MIN_WORDS)
    });
    match told {
        Some(info) => Some(short(info.lang().code()).to_owned()),
        None => declared.and_then(primary),
    }
}

/// `en-GB` -> `en`.
fn primary(declared: &str) -> Option<String> {
    let code = declared.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    let is_code = (2..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase());
    is_code.then(|| short(&code).to_owned())
}

/// The two-letter code of a language that has one.
fn short(code: &str) -> &str {
    CODES.iter().find(|(long, _)| *long == code).map_or(code, |(_, short)| short)
}

const CODES: &[(&str, &str)] = &[
    ("afr", "af"),
    ("aka", "ak"),
    ("amh", "am"),
    ("ara", "ar"),
    ("aze", "az"),
    ("bel", "be"),
    ("ben", "bn"),
    ("bul", "bg"),
    ("cat", "ca"),
    ("ces", "cs"),
    ("cmn", "zh"),
    ("cym", "cy"),
    ("dan", "da"),
    ("deu", "de"),
    ("ell", "el"),
    ("eng", "en"),
    ("epo", "eo"),
    ("est", "et"),
    ("fin", "fi"),
    ("fra", "fr"),
    ("guj", "gu"),
    ("heb", "he"),
    ("hin", "hi"),
    ("hrv", "hr"),
    ("hun", "hu"),
    ("hye", "hy"),
    ("ind", "id"),
    ("ita", "it"),
    ("jav", "jv"),
    ("jpn", "ja"),
    ("kan", "kn"),
    ("kat", "ka"),
    ("khm", "km"),
    ("kor", "ko"),
    ("lat", "la"),
    ("lav", "lv"),
    ("lit", "lt"),
    ("mal", "ml"),
    ("mar", "mr"),
    ("mkd", "mk"),
    ("mya", "my"),
    ("nep", "ne"),
    ("nld", "nl"),
    ("nob", "nb"),
    ("ori", "or"),
    ("pan", "pa"),
    ("pes", "fa"),
    ("pol", "pl"),
    ("por", "pt"),
    ("ron", "ro"),
    ("rus", "ru"),
    ("sin", "si"),
    ("slk", "sk"),
    ("slv", "sl"),
    ("sna", "sn"),
    ("spa", "es"),
    ("srp", "sr"),
    ("swe", "sv"),
    ("tam", "ta"),
    ("tel", "te"),
    ("tgl", "tl"),
    ("tha", "th"),
    ("tuk", "tk"),
    ("tur", "tr"),
    ("ukr", "uk"),
    ("urd", "ur"),
    ("uzb", "uz"),
    ("vie", "vi"),
    ("yid", "yi"),
    ("zul", "zu"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn words_go_before_declarations() {
        let german = "Die Straße führt über die Brücke zum Café am Markt, wo wir uns gestern getroffen haben und lange redeten.";
        assert_eq!(of(german, Some("en-US")).as_deref(), Some("de"));
        assert_eq!(of("short", Some("en-US")).as_deref(), Some("en"));
        assert_eq!(of("short", Some("deu")).as_deref(), Some("de"));
        assert_eq!(of("short", Some("English")), None);
        let counted = (0..30).map(|n| format!("Section {n} Paragraph {n}. ")).collect::<String>();
        assert_eq!(of(&counted, None), None);
        assert_eq!(of("", None), None);
        assert_eq!(of(&"1234 ".repeat(100), None), None);
    }
}
