//! The memtable's postings, sealed segments and filters, held against each other and against plain arithmetic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod filters;
mod quality;
mod ranking;
mod sealing;

use std::path::Path;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{CollectionTextStats, IndexedText, KeywordBuilder, KeywordQuery, MemPostings, SegmentKeywords};
use crate::payload::{RowOrigin, TypedRow};
use crate::schema::CollectionSchema;

fn empty_schema() -> CollectionSchema {
    CollectionSchema {
        vectors: Vec::new(),
        payload: Vec::new(),
        dynamic_payload: false,
        description: String::new(),
    }
}

fn only_text(text: &str) -> IndexedText<'_> {
    IndexedText { text: Some(text), ..IndexedText::default() }
}

fn bundle(texts: &[&str]) -> Vec<u8> {
    let mut builder = KeywordBuilder::new(&empty_schema()).unwrap();
    for (row, text) in texts.iter().enumerate() {
        builder
            .add_row(&format!("p{row}"), &TypedRow::default(), &RowOrigin::default(), &only_text(text))
            .unwrap();
    }
    builder.finish().unwrap()
}

fn open(bundle: Vec<u8>, rows: u32) -> crate::Result<SegmentKeywords> {
    SegmentKeywords::open(Path::new("seg/words"), Bytes::from(bundle), &empty_schema(), rows)
}

fn segment(texts: &[&str]) -> SegmentKeywords {
    open(bundle(texts), texts.len() as u32).unwrap()
}

fn memtable(texts: &[&str]) -> MemPostings {
    let postings = MemPostings::new();
    for text in texts {
        postings.append(&only_text(text));
    }
    postings
}

fn stats_of(
    query: &KeywordQuery,
    segments: &[&SegmentKeywords],
    memtables: &[&MemPostings],
) -> CollectionTextStats {
    let mut stats = CollectionTextStats::default();
    segments.iter().for_each(|segment| segment.add_stats(query, &mut stats).unwrap());
    memtables.iter().for_each(|memtable| memtable.add_stats(query, &mut stats));
    stats
}

/// Texts of words whose frequencies fall as in language, some with compounds.
fn random_texts(seed: u64, count: usize) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let words = random.random_range(0..60);
            (0..words).map(|_| random_word(&mut random)).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

fn random_word(random: &mut StdRng) -> String {
    let rank = (1.0 / random.random_range(0.003..1.0_f64)) as u32;
    match random.random_range(0..20) {
        0 => format!("id_{rank}"),
        1 => format!("v{rank}.2"),
        2 => "the".to_owned(),
        _ => format!("word{rank}"),
    }
}
