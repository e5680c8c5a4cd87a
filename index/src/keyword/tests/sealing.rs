//! A row keeps its score when it is sealed; segments hold what was put in and refuse what they can't hold.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

use super::{bundle, empty_schema, memtable, only_text, open, random_texts, random_word, segment, stats_of};
use crate::error::ErrorKind;
use crate::keyword::{
    CollectionTextStats, IndexedText, KeywordBuilder, KeywordQuery, MemPostings, SegmentKeywords,
};
use crate::payload::{RowOrigin, TypedRow};
use crate::schema::{FieldType, PayloadField};

fn random_query(random: &mut StdRng) -> KeywordQuery {
    let words = random.random_range(1..8);
    KeywordQuery::new(&(0..words).map(|_| random_word(random)).collect::<Vec<_>>().join(" "))
}

#[test]
fn a_row_has_the_same_score_before_and_after_it_is_sealed() {
    let texts = random_texts(1, 900);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (first, second) = texts.split_at(300);
    let (live_first, live_second) = (memtable(first), memtable(second));
    let (sealed_first, sealed_second) = (segment(first), segment(second));
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..100 {
        let query = random_query(&mut random);
        let stats = stats_of(&query, &[&sealed_first], &[&live_second]);
        assert_eq!(stats, stats_of(&query, &[&sealed_second], &[&live_first]));
        for (live, sealed) in [(&live_first, &sealed_first), (&live_second, &sealed_second)] {
            let all = live.search(&query, &stats, 1_000, None, u32::MAX);
            assert_eq!(all, sealed.search(&query, &stats, 1_000, None).unwrap());
            // Pruning loses nothing.
            let pruned = sealed.search(&query, &stats, 10, None).unwrap();
            assert_eq!(pruned, all[..all.len().min(10)]);
        }
    }
}

#[test]
fn a_long_posting_list_is_pruned_without_loss() {
    let texts = random_texts(3, 5_000);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (live, sealed) = (memtable(&texts), segment(&texts));
    for text in ["word1 word2", "the", "word1", "word1 the word3 id_1 v1.2", "word40 word1"] {
        let query = KeywordQuery::new(text);
        let stats = stats_of(&query, &[&sealed], &[]);
        for k in [1, 10, 100] {
            assert_eq!(
                live.search(&query, &stats, k, None, u32::MAX),
                sealed.search(&query, &stats, k, None).unwrap(),
                "{text}, k {k}"
            );
        }
    }
}

#[test]
fn only_allowed_rows_are_found_however_few() {
    let texts = random_texts(4, 2_000);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (live, sealed) = (memtable(&texts), segment(&texts));
    let mut random = StdRng::seed_from_u64(5);
    for share in [0, 1, 5, 50, 900] {
        let allow: RoaringBitmap = (0..2_100).filter(|_| random.random_range(0..1_000) < share).collect();
        for _ in 0..20 {
            let query = random_query(&mut random);
            let stats = stats_of(&query, &[&sealed], &[]);
            let found = sealed.search(&query, &stats, 10, Some(&allow)).unwrap();
            assert!(found.iter().all(|hit| allow.contains(hit.row)));
            assert_eq!(found, live.search(&query, &stats, 10, Some(&allow), u32::MAX), "{share} of 1000");
        }
    }
}

#[test]
fn appended_rows_are_found_at_once_and_hidden_rows_are_not() {
    let postings = MemPostings::new();
    let query = KeywordQuery::new("heron");
    for row in 0..3 {
        postings.append(&only_text("a grey heron"));
        let stats = stats_of(&query, &[], &[&postings]);
        assert_eq!(postings.search(&query, &stats, 10, None, u32::MAX).len(), row + 1);
        assert_eq!(postings.search(&query, &stats, 10, None, 1).len(), 1);
        assert_eq!(postings.search(&query, &stats, 10, None, 0).len(), 0);
    }
    assert_eq!(postings.len(), 3);
    assert!(postings.memory_bytes() > 0);
}

#[test]
fn readers_and_a_writer_do_not_disturb_each_other() {
    let postings = MemPostings::new();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..500).for_each(|_| postings.append(&only_text("heron id_1 the heron"))));
        for _ in 0..2 {
            scope.spawn(|| {
                let query = KeywordQuery::new("heron id_1");
                for _ in 0..200 {
                    // The rows of the search may be more than those of the statistics.
                    let stats = stats_of(&query, &[], &[&postings]);
                    let hits = postings.search(&query, &stats, 1_000, None, u32::MAX);
                    assert!(hits.iter().all(|hit| hit.score.is_finite() && hit.score > 0.0));
                }
            });
        }
    });
    assert_eq!(postings.len(), 500);
}

#[test]
fn title_headings_and_text_are_one_stream() {
    let text = IndexedText {
        title: Some("Wading birds"),
        heading_path: &["Europe", "Herons"],
        text: Some("They stand still."),
    };
    let postings = MemPostings::new();
    postings.append(&text);
    let mut builder = KeywordBuilder::new(&empty_schema()).unwrap();
    builder.add_row("p", &TypedRow::default(), &RowOrigin::default(), &text).unwrap();
    let sealed = open(builder.finish().unwrap(), 1).unwrap();
    for word in ["bird", "europe", "heron", "standing"] {
        let query = KeywordQuery::new(word);
        let stats = stats_of(&query, &[], &[&postings]);
        let live = postings.search(&query, &stats, 1, None, u32::MAX);
        assert_eq!(live.len(), 1, "{word}");
        assert_eq!(live, sealed.search(&query, &stats, 1, None).unwrap());
    }
}

#[test]
fn rows_without_text_and_empty_segments_hold() {
    for texts in [&[][..], &[""], &["", "x", ""]] {
        let (live, sealed) = (memtable(texts), segment(texts));
        let query = KeywordQuery::new("x");
        let stats = stats_of(&query, &[&sealed], &[]);
        assert_eq!(stats, stats_of(&query, &[], &[&live]));
        let found = sealed.search(&query, &stats, 5, None).unwrap();
        assert_eq!(found.len(), usize::from(texts.len() == 3));
        assert_eq!(found, live.search(&query, &stats, 5, None, u32::MAX));
        assert!(sealed.search(&query, &stats, 0, None).unwrap().is_empty());
        assert!(sealed.search(&query, &CollectionTextStats::default(), 5, None).unwrap().is_empty());
        assert!(sealed.search(&KeywordQuery::new(""), &stats, 5, None).unwrap().is_empty());
    }
}

#[test]
fn hostile_texts_are_indexed_alike() {
    let long = "x".repeat(1 << 20);
    let chain = "a_b.c/".repeat(20_000);
    let texts = [
        "\u{0}\u{1}\u{FEFF}",
        &long,
        &chain,
        "\u{AD}a\u{AD}",
        "🦀🦀 İstanbul ﬁn",
        "a\u{301}\u{301}\u{301}",
        "_-_ +++ ##",
    ];
    let (live, sealed) = (memtable(&texts), segment(&texts));
    for text in texts.iter().chain(&["fin", "istanbul", "a"]) {
        let query = KeywordQuery::new(text);
        let stats = stats_of(&query, &[&sealed], &[]);
        assert_eq!(stats, stats_of(&query, &[], &[&live]));
        let found = sealed.search(&query, &stats, 10, None).unwrap();
        assert_eq!(found, live.search(&query, &stats, 10, None, u32::MAX));
    }
}

#[test]
fn a_bundle_that_is_not_what_was_sealed_is_corruption() {
    let bytes = bundle(&["a heron", "a crane"]);
    let kind = |bytes: Vec<u8>, rows: u32| open(bytes, rows).unwrap_err().kind();
    assert_eq!(kind(bytes.clone(), 3), ErrorKind::Corruption);
    assert_eq!(kind(bytes.clone(), 1), ErrorKind::Corruption);
    for len in (0..bytes.len()).step_by(7) {
        assert_eq!(kind(bytes[..len].to_vec(), 2), ErrorKind::Corruption, "{len}");
    }
    let mut renamed = bytes.clone();
    let at = renamed.windows(9).position(|window| window == b"meta.json").unwrap();
    renamed[at] = b'n';
    assert_eq!(kind(renamed, 2), ErrorKind::Corruption);
    assert!(open(bytes, 2).is_ok());
}

#[test]
fn a_field_of_another_type_than_sealed_is_corruption() {
    let mut schema = empty_schema();
    schema.payload.push(PayloadField { name: "year".into(), field_type: FieldType::Integer });
    let bundle = KeywordBuilder::new(&schema).unwrap().finish().unwrap();
    schema.payload[0].field_type = FieldType::Float;
    let error = SegmentKeywords::open("s".as_ref(), bundle.into(), &schema, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
}

#[test]
fn pruning_holds_when_the_collection_is_longer_or_shorter_than_the_segment() {
    let texts = random_texts(9, 6_000);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (live, sealed) = (memtable(&texts), segment(&texts));
    let long: String = (0..3_000).map(|i| format!("other{i} ")).collect();
    let (longer, shorter) = (vec![long.as_str(); 300], vec!["short"; 30_000]);
    let mut random = StdRng::seed_from_u64(10);
    for others in [memtable(&longer), memtable(&shorter)] {
        for _ in 0..60 {
            let query = random_query(&mut random);
            let stats = stats_of(&query, &[&sealed], &[&others]);
            let all = live.search(&query, &stats, 10, None, u32::MAX);
            assert_eq!(all, sealed.search(&query, &stats, 10, None).unwrap(), "{query:?}");
        }
    }
}
