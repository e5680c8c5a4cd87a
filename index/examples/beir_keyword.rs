//! How good is keyword search? Loads BEIR-form folders (`corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`), one row per
//! document, into one sealed keyword index each, asks every judged query and prints nDCG@10 and times.
//!
//! `cargo run -p ragstone-index --example beir_keyword -- FOLDER...`

#![expect(clippy::unwrap_used, reason = "a tool for developers; a bad folder may stop it")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ragstone_index::keyword::{
    CollectionTextStats, IndexedText, KeywordBuilder, KeywordQuery, SegmentKeywords,
};
use ragstone_index::payload::{RowOrigin, TypedRow};
use ragstone_index::schema::CollectionSchema;
use serde_json::Value;

/// Judgements by query, then document.
type Judgements = BTreeMap<String, HashMap<String, f64>>;

fn main() {
    for folder in std::env::args().skip(1) {
        let folder = Path::new(&folder);
        let started = Instant::now();
        let (ids, segment, bytes) = load(folder);
        let built = started.elapsed();
        let mut times = Vec::new();
        let mut total = 0.0;
        let judgements = judgements(folder);
        let queries = queries(folder);
        for (query, judged) in &judgements {
            let text = queries.get(query).unwrap();
            let started = Instant::now();
            let hits = ask(&segment, text);
            times.push(started.elapsed());
            let ranked: Vec<f64> =
                hits.iter().map(|row| judged.get(&ids[*row as usize]).copied().unwrap_or(0.0)).collect();
            total += ndcg_at_10(&ranked, judged);
        }
        times.sort();
        let mean: Duration = times.iter().sum::<Duration>() / times.len() as u32;
        println!(
            "{}: {} docs, {} queries, nDCG@10 {:.4}, index {} KiB in {built:.1?}, query mean {mean:.0?} p95 {:.0?}",
            folder.display(),
            ids.len(),
            judgements.len(),
            total / judgements.len() as f64,
            bytes >> 10,
            times[times.len() * 95 / 100],
        );
    }
}

fn ask(segment: &SegmentKeywords, text: &str) -> Vec<u32> {
    let query = KeywordQuery::new(text);
    let mut stats = CollectionTextStats::default();
    segment.add_stats(&query, &mut stats).unwrap();
    segment.search(&query, &stats, 100, None).unwrap().into_iter().map(|hit| hit.row).collect()
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn load(folder: &Path) -> (Vec<String>, SegmentKeywords, usize) {
    let schema = CollectionSchema {
        vectors: Vec::new(),
        payload: Vec::new(),
        dynamic_payload: false,
        description: String::new(),
    };
    let mut builder = KeywordBuilder::new(&schema).unwrap();
    let mut ids = Vec::new();
    for line in lines(&folder.join("corpus.jsonl")) {
        let document: Value = serde_json::from_str(&line).unwrap();
        let id = document["_id"].as_str().unwrap();
        let text = IndexedText {
            title: document["title"].as_str(),
            heading_path: &[],
            text: document["text"].as_str(),
        };
        builder.add_row(id, &TypedRow::default(), &RowOrigin::default(), &text).unwrap();
        ids.push(id.to_owned());
    }
    let bundle = builder.finish().unwrap();
    let bytes = bundle.len();
    let rows = ids.len() as u32;
    (ids, SegmentKeywords::open(folder, Bytes::from(bundle), &schema, rows).unwrap(), bytes)
}

fn queries(folder: &Path) -> HashMap<String, String> {
    let parse = |line: String| {
        let query: Value = serde_json::from_str(&line).unwrap();
        (query["_id"].as_str().unwrap().to_owned(), query["text"].as_str().unwrap().to_owned())
    };
    lines(&folder.join("queries.jsonl")).into_iter().map(parse).collect()
}

fn judgements(folder: &Path) -> Judgements {
    let mut all = Judgements::new();
    for line in lines(&folder.join("qrels/test.tsv")).into_iter().skip(1) {
        let mut fields = line.split('\t');
        let (query, document) = (fields.next().unwrap().to_owned(), fields.next().unwrap().to_owned());
        let grade: f64 = fields.next().unwrap().parse().unwrap();
        if grade > 0.0 {
            all.entry(query).or_default().insert(document, grade);
        }
    }
    all
}

/// Linear gain, as in trec_eval.
fn ndcg_at_10(ranked: &[f64], judged: &HashMap<String, f64>) -> f64 {
    let gain = |grades: &[f64]| -> f64 {
        grades.iter().take(10).enumerate().map(|(i, grade)| grade / (i as f64 + 2.0).log2()).sum()
    };
    let mut ideal: Vec<f64> = judged.values().copied().collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    gain(ranked) / gain(&ideal)
}
