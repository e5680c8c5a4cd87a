//! The built-in model gives the published similarities, the same vector every time, and bears any text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::OnceLock;

use super::*;

fn model() -> &'static MiniLm {
    static MODEL: OnceLock<MiniLm> = OnceLock::new();
    MODEL.get_or_init(|| MiniLm::load(MINILM).unwrap())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[test]
fn similarities_are_those_of_the_reference() {
    let texts = [
        "That is a happy person",
        "That is a happy dog",
        "That is a very happy person",
        "Today is a sunny day",
    ];
    let vectors = model().embed_documents(&texts).unwrap();
    // The f32 weights give 0.695, 0.943 and 0.257; int8 moves them this far.
    for (vector, expected) in vectors[1..].iter().zip([0.693, 0.917, 0.285]) {
        let found = dot(&vectors[0], vector);
        assert!((found - expected).abs() < 0.01, "{found} instead of {expected}");
    }
}

#[test]
fn a_text_has_one_vector_whatever_its_company() {
    let texts = ["one", "a rather longer text about the weather in the mountains", "", "three words here"];
    let together = model().embed_documents(&texts).unwrap();
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(&model().embed_query(text).unwrap(), vector, "{text:?}");
        assert_eq!(&model().embed_documents(&[text]).unwrap()[0], vector, "{text:?}");
        assert!((dot(vector, vector) - 1.0).abs() < 1e-5);
        assert_eq!(vector.len(), DIMENSION as usize);
    }
}

#[test]
fn order_is_kept_over_many_texts() {
    let texts: Vec<String> = (0..40).map(|i| format!("{} number {i}", "long ".repeat(i % 7))).collect();
    let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = model().embed_documents(&borrowed).unwrap();
    for at in [0, 13, 39] {
        assert_eq!(vectors[at], model().embed_query(&texts[at]).unwrap());
    }
    assert!(model().embed_documents(&[]).unwrap().is_empty());
}

#[test]
fn what_is_behind_the_token_limit_does_not_count() {
    let text = "lorem ipsum ".repeat(400);
    let longer = format!("{text} something entirely different");
    assert_eq!(model().embed_query(&text).unwrap(), model().embed_query(&longer).unwrap());
}

#[test]
fn any_text_has_a_vector() {
    let long = "a".repeat(1 << 20);
    let wide = "\u{1F642}".repeat(50_000);
    for text in ["", " \n\t ", "\0\u{1}\u{7f}", "\u{FFFD}\u{202E}\u{200B}", "[CLS][SEP][PAD]", &long, &wide] {
        let vector = model().embed_query(text).unwrap();
        assert!(vector.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn queries_and_documents_run_beside_each_other() {
    std::thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || {
                let text = format!("caller {worker}");
                let expected = model().embed_query(&text).unwrap();
                for _ in 0..5 {
                    assert_eq!(model().embed_query(&text).unwrap(), expected);
                    assert_eq!(model().embed_documents(&[&text, "x"]).unwrap()[0], expected);
                }
            });
        }
    });
}

#[test]
fn the_fingerprint_is_that_of_the_files_in_the_binary() {
    let mut hasher = blake3::Hasher::new();
    hasher.update(WEIGHTS);
    hasher.update(TOKENIZER);
    assert_eq!(&hasher.finalize().to_hex()[..16], WEIGHTS_HASH);
    let expected = format!("minilm-l6-v2-int8/blake3-{WEIGHTS_HASH}/d384/mean/l2/256");
    assert_eq!(model().info().fingerprint, expected);
}
