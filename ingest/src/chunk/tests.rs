#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
//! The chunker against a word-piece tokeniser of the usual kind, small enough to read.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::document::{Markup, Page};
use crate::embed::EmbedderInfo;

/// Splits at blanks and punctuation, words into pieces of four characters; a word of over 100 characters is one
/// unknown token.
#[derive(Debug)]
struct WordPieces(EmbedderInfo);

impl WordPieces {
    fn new(max_tokens: usize) -> Self {
        Self(EmbedderInfo { name: "test".into(), dimension: 1, max_tokens, fingerprint: String::new() })
    }
}

impl Embedder for WordPieces {
    fn info(&self) -> &EmbedderInfo {
        &self.0
    }

    fn token_spans(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let mut spans = Vec::new();
        let mut word: Vec<(usize, char)> = Vec::new();
        let mut close = |word: &mut Vec<(usize, char)>| {
            let pieces = if word.len() > 100 { word.len() } else { 4 };
            for piece in word.chunks(pieces) {
                let (first, (last, character)) = (piece[0].0, piece[piece.len() - 1]);
                spans.push(first..last + character.len_utf8());
            }
            word.clear();
        };
        for (at, character) in text.char_indices() {
            if character.is_alphanumeric() && !measure::is_ideograph(character) {
                word.push((at, character));
            } else {
                close(&mut word);
                if !character.is_whitespace() {
                    close(&mut vec![(at, character)]);
                }
            }
        }
        close(&mut word);
        Ok(spans)
    }

    fn embed_documents(&self, _: &[&str]) -> Result<Vec<Vec<f32>>> {
        unreachable!("the chunker embeds nothing")
    }

    fn embed_query(&self, _: &str) -> Result<Vec<f32>> {
        unreachable!("the chunker embeds nothing")
    }
}

fn document(text: &str, markup: Markup) -> ExtractedDocument {
    ExtractedDocument { text: text.into(), markup, ..Default::default() }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// Chunks a document and checks what holds for each.
fn checked(
    document: &ExtractedDocument,
    title: &str,
    max_tokens: usize,
    params: &ChunkerParams,
) -> Vec<Chunk> {
    let embedder = WordPieces::new(max_tokens);
    let chunks = chunk(document, title, Some(&embedder), params).unwrap();
    let mut covered = 0;
    for chunk in &chunks {
        assert_eq!(chunk.text, document.text[chunk.span.clone()]);
        assert_eq!(chunk.text, chunk.text.trim());
        assert!(!chunk.text.is_empty());
        let embedded = text_in_context(title, &chunk.heading_path, &chunk.text, params.context);
        let tokens = embedder.token_spans(&embedded).unwrap().len();
        assert!(tokens + SPECIAL_TOKENS <= max_tokens, "{tokens} tokens: {embedded}");
        assert!(embedded.ends_with(&chunk.text));
        if chunk.span.start > covered {
            assert_eq!(document.text[covered..chunk.span.start].trim(), "", "nothing is left out");
        } else if params.overlap_tokens == 0 {
            assert_eq!(chunk.span.start, covered, "nothing is repeated");
        }
        assert!(chunk.span.end > covered, "chunks advance");
        covered = chunk.span.end;
    }
    assert_eq!(document.text[covered..].trim(), "", "the end is there");
    chunks
}

fn plain(text: &str) -> Vec<Chunk> {
    checked(&document(text, Markup::Plain), "A title of five words", 256, &ChunkerParams::default())
}

fn markdown(text: &str) -> Vec<Chunk> {
    checked(&document(text, Markup::Markdown), "", 256, &ChunkerParams::default())
}

fn paragraph(words: usize, word: &str) -> String {
    format!("{}.", vec![word; words].join(" "))
}

#[test]
fn a_short_document_is_one_chunk() {
    assert_eq!(plain("Just a line.").len(), 1);
    assert_eq!(plain(&format!("{}\n\n{}", paragraph(100, "abc"), paragraph(100, "abc"))).len(), 1);
    let chunks = markdown("# A\n\nintro\n\n## B\n\ntext\n\n## C\n\nmore");
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0].heading_path, ["A"]);
    assert_eq!(plain(" \n ").len(), 0);
}

#[test]
fn a_little_too_long_becomes_two_halves() {
    let text = paragraph(9, "abc").repeat(30).replace('.', ". ");
    let sizes: Vec<_> = plain(&text).iter().map(|chunk| words(&chunk.text).count()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes[0].abs_diff(sizes[1]) < 20, "{sizes:?}");
}

#[test]
fn sections_keep_apart_and_know_their_headings() {
    let body = paragraph(120, "word");
    let text = format!("# Top\n\n{body}\n\n## Left\n\n{body}\n\n### Deep\n\n{body}\n\n## Right\n\n{body}");
    let chunks = markdown(&text);
    let paths: Vec<_> = chunks.iter().map(|chunk| chunk.heading_path.join("/")).collect();
    assert_eq!(paths, ["Top", "Top/Left", "Top/Left/Deep", "Top/Right"]);
    assert!(chunks[1].text.starts_with("## Left\n\nword"));
}

#[test]
fn small_sections_join_and_headings_never_stand_alone() {
    let body = paragraph(150, "word");
    let small = paragraph(10, "tiny");
    let text =
        format!("# A\n\n## B\n\n{body}\n\n## C\n\n{small}\n\n## D\n\n{small}\n\n# E\n\n{body}\n\n{body}");
    let chunks = markdown(&text);
    for chunk in &chunks {
        assert!(words(&chunk.text).count() > 20, "{}", chunk.text);
        assert!(!chunk.text.lines().last().unwrap().starts_with('#'), "{}", chunk.text);
    }
    let paths: Vec<_> = chunks.iter().map(|chunk| chunk.heading_path.join("/")).collect();
    assert_eq!(paths, ["A", "E", "E"]);
}

#[test]
fn blocks_that_fit_stay_whole() {
    let row = "| one | two |\n";
    let table = format!("| a | b |\n|---|---|\n{}", row.repeat(20));
    let code = format!("```rust\n{}```", "let x = 1;\n".repeat(20));
    let body = paragraph(140, "word");
    let text = format!("# T\n\n{body}\n\n{table}\n\n{body}\n\n{code}\n\n{body}");
    let chunks = markdown(&text);
    assert!(chunks.iter().any(|chunk| chunk.text.contains(table.trim())));
    assert!(chunks.iter().any(|chunk| chunk.text.contains(&code)));
}

#[test]
fn long_tables_and_lists_are_cut_between_rows() {
    let table = format!("| a | b |\n|---|---|\n{}", "| one one | two two |\n".repeat(200));
    for chunk in markdown(&table) {
        assert!(
            chunk.text.lines().all(|line| line.starts_with('|') && line.ends_with('|')),
            "{}",
            chunk.text
        );
    }
    let list = "- an item that is said in a few words\n  and goes on in a second line\n".repeat(100);
    for chunk in markdown(&list) {
        assert!(chunk.text.starts_with("- "), "{}", chunk.text);
    }
}

#[test]
fn chunks_keep_to_their_page() {
    let mut text = String::new();
    let mut pages = Vec::new();
    for (number, size) in [(1, 10), (2, 400), (3, 0), (4, 30)] {
        let start = text.len();
        text.push_str(&paragraph(size, &format!("p{number}")));
        pages.push(Page { number, span: start..text.len() });
        text.push_str("\n\n");
    }
    let document = ExtractedDocument { text, pages, ..Default::default() };
    let chunks = checked(&document, "", 256, &ChunkerParams::default());
    let found: Vec<_> = chunks.iter().map(|chunk| chunk.page.unwrap()).collect();
    assert_eq!(found, [1, 2, 2, 3, 4]);
    for chunk in &chunks {
        let page = format!("p{}", chunk.page.unwrap());
        assert!(
            words(&chunk.text).all(|word| word.trim_end_matches('.') == page || word == "."),
            "{}",
            chunk.text
        );
    }
}

#[test]
fn overlap_repeats_the_end_of_the_chunk_before() {
    let params = ChunkerParams { overlap_tokens: 20, ..Default::default() };
    let text: String = (0..900).map(|n| format!("w{n} ")).collect();
    let chunks = checked(&document(&text, Markup::Plain), "", 128, &params);
    for pair in chunks.windows(2) {
        let repeated = &text[pair[1].span.start..pair[0].span.end];
        let count = words(repeated).count();
        assert!((10..=20).contains(&count), "{repeated}");
    }
}

#[test]
fn tokens_are_stretches_of_one_length() {
    let text = format!("# A\n\n{}\n\n# B\n\n{}", paragraph(700, "word"), paragraph(30, "word"));
    let params = ChunkerParams { strategy: Strategy::Tokens, max_tokens: Some(102), ..Default::default() };
    let chunks = checked(&document(&text, Markup::Markdown), "", 256, &params);
    let (last, others) = chunks.split_last().unwrap();
    assert!(others.iter().all(|chunk| (95..=101).contains(&words(&chunk.text).count())));
    assert!(last.text.contains("# B"));
    let overlapping = ChunkerParams { overlap_tokens: 20, ..params };
    assert!(checked(&document(&text, Markup::Markdown), "", 256, &overlapping).len() > chunks.len());
}

#[test]
fn sentences_are_chunks() {
    let params = ChunkerParams { strategy: Strategy::Sentences, ..Default::default() };
    let chunks = checked(
        &document("# A\n\nOne is here. Two is there.\n\n## B\n\nThree.", Markup::Markdown),
        "T",
        256,
        &params,
    );
    let found: Vec<_> =
        chunks.iter().map(|chunk| (chunk.text.as_str(), chunk.heading_path.join("/"))).collect();
    let expect = [("# A\n\nOne is here.", "A"), ("Two is there.", "A"), ("## B\n\nThree.", "A/B")];
    assert_eq!(found, expect.map(|(text, path)| (text, path.to_string())));
    // A sentence that does not fit is cut, not lost.
    assert!(checked(&document(&paragraph(600, "word"), Markup::Plain), "", 256, &params).len() > 2);
}

#[test]
fn children_belong_to_parents() {
    let text: String = (0..40).map(|n| format!("# Chapter {n}\n\n{}\n\n", paragraph(100, "word"))).collect();
    let params = ChunkerParams {
        max_tokens: Some(64),
        parent_tokens: Some(500),
        min_tokens: 10,
        ..Default::default()
    };
    let chunks = checked(&document(&text, Markup::Markdown), "", 256, &params);
    let mut sizes: Vec<usize> = Vec::new();
    for chunk in &chunks {
        let parent = chunk.parent.unwrap() as usize;
        assert!(parent + 1 == sizes.len() || parent == sizes.len(), "parents are in order");
        if parent == sizes.len() {
            sizes.push(0);
        }
        sizes[parent] += words(&chunk.text).count();
    }
    assert!(sizes.len() >= 8, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size > 90 && *size <= 500), "{sizes:?}");
    assert!(chunks.iter().all(|chunk| words(&chunk.text).count() <= 62));
}

#[test]
fn context_is_what_it_is_set_to() {
    let text = format!("# Long heading of words\n\n{}", paragraph(400, "word"));
    let with = |context| {
        let params = ChunkerParams { context, ..Default::default() };
        checked(&document(&text, Markup::Markdown), "A title of some words", 256, &params)
    };
    assert_eq!(text_in_context("T", &["H".into()], "text", Context::None), "text");
    assert_eq!(text_in_context("T", &["H".into()], "text", Context::Title), "T\n\ntext");
    assert_eq!(with(Context::None)[0].heading_path, ["Long heading of words"]);
}

#[test]
fn limits_that_leave_no_room_are_errors() {
    let text = document("some text", Markup::Plain);
    let tiny = WordPieces::new(9);
    assert_eq!(
        chunk(&text, "", Some(&tiny), &ChunkerParams::default()).unwrap_err().field(),
        Some("max_tokens")
    );
    let small = WordPieces::new(20);
    let title = paragraph(50, "abc");
    assert_eq!(
        chunk(&text, &title, Some(&small), &ChunkerParams::default()).unwrap_err().field(),
        Some("title")
    );
    let asked = ChunkerParams { max_tokens: Some(64), ..Default::default() };
    let long = document(&paragraph(300, "abc"), Markup::Plain);
    assert!(chunk(&long, "", Some(&WordPieces::new(256)), &asked).unwrap().len() > 4);
}

#[test]
fn without_an_embedder_words_count() {
    let text = document(&paragraph(1_000, "word"), Markup::Plain);
    let chunks = chunk(&text, "", None, &ChunkerParams::default()).unwrap();
    let sizes: Vec<_> = chunks.iter().map(|chunk| words(&chunk.text).count()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| (300..=400).contains(size)), "{sizes:?}");
}

/// Pieces that go wrong in chunkers: no blanks, no ASCII, joined signs, markup that isn't closed.
const PIECES: &[&str] = &[
    "word",
    "antidisestablishmentarianism",
    "日本語の文章です。",
    "👩‍👩‍👧‍👦",
    "e\u{301}\u{302}",
    "🇩🇪🇫🇷",
    " ",
    "\n",
    "\n\n",
    "\t",
    "# Heading\n\n",
    "\n## Sub\n\n",
    "\n```\n",
    "- item\n",
    "| a | b |\n|---|---|\n",
    "| c | d |\n",
    "> quote\n",
    "===\n",
    "---\n",
    "1. one\n",
    "<div>",
    "Sentence one. ",
    "Is it? ",
    "[link](http://x.y) ",
    "\u{200b}",
    "ﷺ",
    "{",
    "}",
    "ภาษาไทย",
    "العربية؟ ",
    "\u{a0}",
    "[^1]: note\n",
    "    code\n",
    "***",
    "\\",
];

#[test]
fn any_text_is_covered_and_fits() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut text = String::new();
        for _ in 0..random.random_range(0..400) {
            if random.random_ratio(1, 40) {
                let length = random.random_range(1..3_000);
                text.extend((0..length).map(|_| char::from(random.random_range(b'0'..=b'z'))));
            } else {
                text.push_str(PIECES.choose(&mut random).unwrap());
                if random.random_bool(0.6) {
                    text.push(' ');
                }
            }
        }
        let markup = if random.random_bool(0.7) { Markup::Markdown } else { Markup::Plain };
        let mut document = document(&text, markup);
        if random.random_ratio(1, 4) {
            let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            document.pages =
                vec![Page { number: 1, span: 0..middle }, Page { number: 2, span: middle..text.len() }];
        }
        let params = ChunkerParams {
            strategy: *[Strategy::Structure, Strategy::Structure, Strategy::Tokens, Strategy::Sentences]
                .choose(&mut random)
                .unwrap(),
            overlap_tokens: random.random_range(0..2) * 16,
            parent_tokens: random.random_ratio(1, 3).then(|| random.random_range(100..1_500)),
            context: *[Context::TitleAndHeadings, Context::Title, Context::None].choose(&mut random).unwrap(),
            ..Default::default()
        };
        let limit = [128, 256, 512].choose(&mut random).copied().unwrap();
        println!("seed {seed}");
        checked(&document, "A title", limit, &params);
    }
}

#[test]
fn hostile_shapes_stay_within_bounds() {
    for text in [
        "x".repeat(1 << 20),
        " x".repeat(1 << 18),
        format!("a{}b", " ".repeat(1 << 20)),
        "#".repeat(1 << 18),
        "# h\n".repeat(1 << 14),
        "\n\n\u{301}".repeat(1 << 16),
        "> ".repeat(1 << 12),
        "- ".repeat(1 << 12),
        format!("# {}\n\ntext", "long heading ".repeat(1 << 14)),
    ] {
        let chunks = markdown(&text);
        for chunk in &chunks {
            assert!(chunk.text.len() < 16 << 10, "{} bytes", chunk.text.len());
        }
    }
}
