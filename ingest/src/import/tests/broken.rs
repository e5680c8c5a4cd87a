//! Broken files and rows are reported and stop nothing but themselves.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::support::*;
use crate::error::ErrorKind;
use crate::import::MAX_LINE_BYTES;

fn table(rows: usize) -> arrow::array::RecordBatch {
    let ids: ArrayRef = Arc::new((0..rows).map(|i| Some(format!("p{i}"))).collect::<StringArray>());
    let texts: ArrayRef =
        Arc::new((0..rows).map(|i| Some(format!("text {}", i % 7))).collect::<StringArray>());
    let vectors: ArrayRef =
        Arc::new(arrow::array::ListArray::from_iter_primitive::<arrow::array::types::Float32Type, _, _>(
            (0..rows).map(|i| Some(vec![Some(i as f32), Some(1.0)])),
        ));
    batch(vec![("id", ids), ("text", texts), ("vector", vectors)])
}

#[tokio::test]
async fn a_truncated_file_is_named_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let good = write_parquet(folder.path(), "good.parquet", &table(10), 4);
    let bad = folder.path().join("bad.parquet");
    let bytes = std::fs::read(&good).unwrap();
    for length in [0, 3, 4, 11, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&bad, &bytes[..length]).unwrap();
        let sink = MapSink::new(vec![space("v", 2, None)]);
        let summary = import(&sink, job(&[&bad, &good])).await.unwrap();
        assert_eq!((summary.files_failed, summary.rows_written), (1, 10), "{length}");
        let error = &summary.errors[0];
        assert!(
            error.path.ends_with("bad.parquet") && error.message.contains("not a readable Parquet"),
            "{error}"
        );

        let mut strict = job(&[&bad, &good]);
        strict.strict = true;
        let error = import(&sink, strict).await.unwrap_err();
        assert!(error.message().contains("bad.parquet"), "{error}");
        let alone = import(&sink, job(&[&bad])).await.unwrap_err();
        assert_eq!(alone.kind(), ErrorKind::BadContent);
    }
}

#[tokio::test]
async fn flipped_bits_never_do_more_than_fail_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let parquet = write_parquet(folder.path(), "good.parquet", &table(50), 20);
    let arrow = write_arrow(folder.path(), "good.arrow", &table(50), 20);
    for good in [parquet, arrow] {
        let bytes = std::fs::read(&good).unwrap();
        let bad = folder.path().join("bad").with_extension(good.extension().unwrap());
        let seed = 20;
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..150 {
            let mut broken = bytes.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..broken.len());
                broken[at] ^= 1 << random.random_range(0..8);
            }
            std::fs::write(&bad, &broken).unwrap();
            let sink = MapSink::new(vec![space("v", 2, None)]);
            let summary = import(&sink, job(&[&bad, &good])).await.unwrap();
            assert!(summary.files_failed <= 1, "seed {seed}, round {round}: {summary:?}");
            assert!(sink.points.lock().contains_key("p49"), "seed {seed}, round {round}");
        }
        for length in (0..bytes.len()).step_by(37) {
            std::fs::write(&bad, &bytes[..length]).unwrap();
            let sink = MapSink::new(vec![space("v", 2, None)]);
            let summary = import(&sink, job(&[&bad, &good])).await.unwrap();
            assert_eq!(summary.files_failed, 1, "{} bytes of {}", length, good.display());
        }
    }
}

#[tokio::test]
async fn each_bad_line_is_told_with_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!(r#"{{"id": "long", "text": "{}"}}"#, "x".repeat(MAX_LINE_BYTES));
    let deep = format!(r#"{{"id": "deep", "x": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let path = write_lines(
        folder.path(),
        "a.jsonl",
        &[
            r#"{"id": "a"}"#,
            "nonsense",
            "[1, 2]",
            r#"{"id": {"no": 1}, "text": "made id"}"#,
            r#"{"id": ""}"#,
            r#"{"id": "b", "vector": [1]}"#,
            r#"{"id": "c", "vector": [1, "x"]}"#,
            &long,
            &deep,
            r#"{"id": "refuse"}"#,
            "",
            r#"{"id": "z", "vector": [1e39, 2]}"#,
        ],
    );
    let sink = MapSink::new(vec![space("v", 2, None)]);
    let summary = import(&sink, job(&[&path])).await.unwrap();
    let mut lines: Vec<_> = summary.errors.iter().map(|error| (error.row, error.column.as_str())).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [(2, ""), (3, ""), (5, "id"), (6, "vector"), (7, "vector"), (8, ""), (9, ""), (10, "id")]
    );
    // A value that is no id is payload, and the row gets a made one. Numbers beyond f32 are the sink's to refuse.
    assert_eq!((summary.rows_written, summary.rows_rejected), (3, 8));
    assert!(sink.points.lock().contains_key("z"));
}

#[tokio::test]
async fn invalid_utf8_and_nul_bytes_are_bad_lines_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, b"{\"id\": \"a\"}\r\n{\"id\": \"\xff\xfe\"}\n\0\0\0\n{\"id\": \"b\"}").unwrap();
    let sink = MapSink::new(Vec::new());
    let summary = import(&sink, job(&[&path])).await.unwrap();
    assert_eq!((summary.rows_written, summary.rows_rejected), (2, 2));
}

#[tokio::test]
async fn null_and_empty_ids_are_bad_rows() {
    let folder = tempfile::tempdir().unwrap();
    let ids: ArrayRef =
        Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("refuse"), Some("b")]));
    let path = write_parquet(folder.path(), "a.parquet", &batch(vec![("id", ids)]), 9);
    let sink = MapSink::new(Vec::new());
    let summary = import(&sink, job(&[&path])).await.unwrap();
    let mut errors: Vec<_> = summary.errors.iter().map(|error| (error.row, error.message.as_str())).collect();
    errors.sort_unstable();
    // The sink's refusal carries the row of the file, not of the batch.
    assert_eq!(errors, [(1, "the id is null"), (2, "the id is empty"), (3, "refused")]);
    assert_eq!(sink.points.lock().keys().cloned().collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sink = MapSink::new(Vec::new());
    let odd = folder.path().join("a.csv");
    std::fs::write(&odd, b"a,b").unwrap();
    for (paths, kind, words) in [
        (vec![], ErrorKind::InvalidArgument, "no files"),
        (vec![Path::new("/no/such/file.parquet")], ErrorKind::NotFound, "/no/such/file.parquet"),
        (vec![odd.as_path()], ErrorKind::InvalidArgument, ".parquet, .arrow, .jsonl"),
        (vec![folder.path()], ErrorKind::InvalidArgument, "no files"),
        (vec![Path::new("/dev/null")], ErrorKind::InvalidArgument, "neither a file nor a folder"),
    ] {
        let error = import(&sink, job(&paths)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(words), "{error}");
    }
    let file = write_lines(folder.path(), "a.jsonl", &["{}"]);
    let mut rows = job(&[&file]);
    rows.batch_rows = 0;
    assert_eq!(import(&sink, rows).await.unwrap_err().field(), Some("batch_rows"));
    let mut named = job(&[&file]);
    named.job_id = Some("x".repeat(1_000));
    assert_eq!(import(&sink, named).await.unwrap_err().field(), Some("job_id"));
}
