//! Retrieval quality on public test collections, so that a change of an analyzer or a weight can't lower it unseen.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::stats_of;
use crate::keyword::{IndexedText, KeywordQuery, MemPostings};

fn data() -> Option<PathBuf> {
    let folder = match std::env::var_os("RAGSTONE_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    let folder = folder.join("data/ir");
    folder.is_dir().then_some(folder)
}

fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// nDCG@10 of binary judgements.
fn ndcg_at_10(folder: &Path) -> f64 {
    let postings = MemPostings::new();
    let mut rows = HashMap::new();
    for (row, document) in (0_u32..).zip(json_lines(&folder.join("corpus.jsonl"))) {
        postings.append(&IndexedText {
            title: document["title"].as_str(),
            heading_path: &[],
            text: document["text"].as_str(),
        });
        rows.insert(document["_id"].as_str().unwrap().to_owned(), row);
    }
    let mut judged: HashMap<String, Vec<u32>> = HashMap::new();
    for line in std::fs::read_to_string(folder.join("qrels/test.tsv")).unwrap().lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields[2] != "0" {
            judged.entry(fields[0].to_owned()).or_default().push(rows[fields[1]]);
        }
    }
    let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let mut total = 0.0;
    for query in json_lines(&folder.join("queries.jsonl")) {
        let Some(relevant) = judged.get(query["_id"].as_str().unwrap()) else { continue };
        let query = KeywordQuery::new(query["text"].as_str().unwrap());
        let stats = stats_of(&query, &[], &[&postings]);
        let hits = postings.search(&query, &stats, 10, None, u32::MAX);
        let found = hits.iter().enumerate().filter(|(_, hit)| relevant.contains(&hit.row));
        let ideal: f64 = (0..relevant.len().min(10)).map(gain).sum();
        total += found.map(|(rank, _)| gain(rank)).sum::<f64>() / ideal;
    }
    total / judged.len() as f64
}

#[test]
fn reference_quality_is_reached() {
    let Some(data) = data() else {
        println!("skipped: no test data");
        return;
    };
    // BM25 in Lucene's form with English stemmer and stop words, on title and text.
    for (set, reference) in [("scifact", 0.679), ("cranfield", 0.385), ("cacm", 0.499), ("npl", 0.436)] {
        let found = ndcg_at_10(&data.join(set));
        println!("{set}: nDCG@10 {found:.4}, reference {reference}");
        assert!(found > reference - 0.005, "{set}: {found:.4}");
    }
}
