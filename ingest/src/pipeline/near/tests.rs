//! Resemblance against what it is by definition.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::HashSet;
use std::io::Read;

use super::*;
use crate::test_data::test_data;

/// Real texts that are compared; without optimisation more take long.
const MOST_TEXTS: usize = 60;

/// Numbers that look like chance and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = mixed(self.0);
        (self.0 % bound as u64) as usize
    }
}

fn words(numbers: &mut Numbers, count: usize) -> Vec<String> {
    (0..count).map(|_| format!("w{}", numbers.below(2_000))).collect()
}

/// The text with so many of a thousand words replaced.
fn edited(text: &[String], per_mille: usize, numbers: &mut Numbers) -> Vec<String> {
    let edit = |word: &String| {
        if numbers.below(1_000) < per_mille { format!("x{}", numbers.below(100_000)) } else { word.clone() }
    };
    text.iter().map(edit).collect()
}

/// The Jaccard index of the sets of shingles.
fn resemblance(a: &str, b: &str) -> f32 {
    let shingles = |text: &str| -> HashSet<Vec<u64>> {
        let mut words = Vec::new();
        for_each_word(text, |word| words.push(word));
        words.windows(SHINGLE_WORDS).map(<[u64]>::to_vec).collect()
    };
    let (a, b) = (shingles(a), shingles(b));
    let common = a.intersection(&b).count();
    common as f32 / (a.len() + b.len() - common).max(1) as f32
}

#[test]
fn the_estimate_is_near_the_truth() {
    let mut numbers = Numbers(1);
    let mut worst = 0.0f32;
    for per_mille in [0, 5, 10, 20, 40, 80, 160, 1_000] {
        for _ in 0..8 {
            let text = words(&mut numbers, 600);
            let other = edited(&text, per_mille, &mut numbers).join(" ");
            let text = text.join(" ");
            let estimate =
                Signature::of([text.as_str()]).unwrap().similarity(&Signature::of([other.as_str()]).unwrap());
            worst = worst.max((estimate - resemblance(&text, &other)).abs());
        }
    }
    // Five standard errors where they are largest.
    assert!(worst < 5.0 * (0.25f32 / HASHES as f32).sqrt(), "{worst}");
}

#[test]
fn pieces_case_and_blanks_make_no_difference_and_short_texts_are_left_alone() {
    let text = words(&mut Numbers(2), 50).join(" ");
    let whole = Signature::of([text.as_str()]).unwrap();
    let (head, tail) = text.split_at(text.match_indices(' ').nth(20).unwrap().0);
    assert_eq!(Signature::of([head, tail]).unwrap(), whole);
    assert_eq!(Signature::of([text.to_uppercase().replace(' ', ",\n").as_str()]).unwrap(), whole);
    assert!(Signature::of(["only a few words"]).is_none() && Signature::of([]).is_none());
    // Without blanks, each character counts.
    let poem = "春眠不覺曉處處聞啼鳥夜來風雨聲花落知多少春眠不覺曉";
    assert!(Signature::of([poem]).is_some());
}

#[test]
fn a_note_comes_back_and_a_broken_one_does_not() {
    let signature = Signature::of([words(&mut Numbers(3), 30).join(" ").as_str()]).unwrap();
    let note = signature.note("a/ä");
    assert_eq!(Signature::read(&note), Some((signature.clone(), "a/ä")));
    for end in 0..note.len() {
        assert_eq!(Signature::read(&note[..end]), None);
    }
    let mut other = note.clone();
    other[0] = 9;
    assert_eq!(Signature::read(&other), None);
}

#[test]
fn the_nearest_is_found_as_long_as_it_is_there() {
    let mut numbers = Numbers(4);
    let mut index = NearIndex::default();
    let text = words(&mut numbers, 400);
    let sign = |text: &[String]| Signature::of([text.join(" ").as_str()]).unwrap();
    let (near, nearer) = (edited(&text, 20, &mut numbers), edited(&text, 4, &mut numbers));
    for number in 0..200 {
        index.insert(&format!("other{number}"), "g", sign(&words(&mut numbers, 100)));
    }
    index.insert("near", "first", sign(&near));
    index.insert("nearer", "first", sign(&nearer));
    let find = |index: &NearIndex| index.find("new", &sign(&text), 0.7);
    let found = find(&index).unwrap();
    assert_eq!((found.document_id.as_str(), found.group.as_str()), ("nearer", "first"));
    // A document is no duplicate of itself.
    assert_eq!(index.find("nearer", &sign(&nearer), 0.7).unwrap().document_id, "near");
    index.remove("nearer");
    assert_eq!(find(&index).unwrap().document_id, "near");
    // Changed: what it was is forgotten.
    index.insert("near", "near", sign(&words(&mut numbers, 100)));
    assert_eq!(find(&index), None);
    for number in 0..200 {
        index.remove(&format!("other{number}"));
    }
    index.remove("near");
    assert!(index.bands.is_empty() && index.by_id.is_empty());
    let mut again = NearIndex::default();
    again.restore("kept", &sign(&near).note("first"));
    again.restore("broken", &[1, 2, 3]);
    assert_eq!(find(&again).unwrap().document_id, "kept");
}

/// How well near-duplicates among real texts are told from others: each text, and the same with words replaced.
#[test]
fn edited_texts_are_found_and_others_are_not() {
    let texts = peps().unwrap_or_else(|| {
        println!("skipped: no test data; generated texts instead");
        let mut numbers = Numbers(5);
        (0..MOST_TEXTS).map(|_| words(&mut numbers, 500).join(" ")).collect()
    });
    let mut numbers = Numbers(6);
    let mut all: Vec<(usize, String)> = Vec::new();
    for (original, text) in texts.iter().enumerate() {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        all.push((original, text.clone()));
        for per_mille in [5, 15, 30, 60] {
            all.push((original, edited(&words, per_mille, &mut numbers).join(" ")));
        }
    }
    let threshold = 0.8;
    let (mut right, mut wrong, mut missed, mut clearly_missed) = (0, 0, 0, 0);
    let mut index = NearIndex::default();
    for (at, (original, text)) in all.iter().enumerate() {
        let Some(signature) = Signature::of([text.as_str()]) else { continue };
        let earlier = all[..at].iter().filter(|(of, _)| of == original);
        let truth = earlier.map(|(_, other)| resemblance(text, other)).fold(0.0, f32::max);
        let found = index.find(&at.to_string(), &signature, threshold);
        match found {
            Some(near) => {
                let other = &all[near.document_id.parse::<usize>().unwrap()].1;
                if resemblance(text, other) >= threshold { right += 1 } else { wrong += 1 }
            }
            None if truth >= threshold => {
                missed += 1;
                clearly_missed += usize::from(truth >= threshold + 0.1);
            }
            None => {}
        }
        index.insert(&at.to_string(), "", signature);
    }
    let precision = right as f32 / (right + wrong).max(1) as f32;
    let recall = right as f32 / (right + missed).max(1) as f32;
    println!(
        "{} texts, {} originals: precision {precision:.3}, recall {recall:.3} ({right} right, {wrong} wrong, {missed} missed)",
        all.len(),
        texts.len()
    );
    // Whoever is at the threshold may fall on either side.
    assert!(precision > 0.85 && recall > 0.85, "precision {precision}, recall {recall}");
    assert!(clearly_missed * 100 <= right, "{clearly_missed} of {right} that are far above the threshold");
}

/// Some proposals for Python, as people wrote them.
fn peps() -> Option<Vec<String>> {
    let file = std::fs::File::open(test_data("data/text/peps.tar.gz")?).ok()?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut texts = Vec::new();
    for entry in archive.entries().ok()? {
        let mut entry = entry.ok()?;
        let mut text = String::new();
        if entry.read_to_string(&mut text).is_ok() && (2_000..20_000).contains(&text.len()) {
            texts.push(text);
        }
        if texts.len() == MOST_TEXTS {
            break;
        }
    }
    Some(texts).filter(|texts| !texts.is_empty())
}
