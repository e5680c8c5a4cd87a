//! An import that was stopped goes on where its last durable batch ended, and writes every row once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use tokio_util::sync::CancellationToken;

use super::support::*;
use crate::error::ErrorKind;
use crate::import::ImportJob;

fn table(from: usize, rows: usize) -> arrow::array::RecordBatch {
    let ids: ArrayRef = Arc::new((from..from + rows).map(|i| Some(format!("p{i}"))).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new((from..from + rows).map(|i| Some(i as i64)).collect::<Int64Array>());
    batch(vec![("id", ids), ("n", numbers)])
}

/// Runs the job again and again, cancelling each time after `writes` batches, until it ends by itself.
async fn in_pieces(sink: &Arc<MapSink>, job: &ImportJob, writes: u64) -> usize {
    for attempt in 1..1_000 {
        let token = CancellationToken::new();
        let so_far = sink.writes.load(Ordering::SeqCst);
        *sink.cancel_after.lock() = Some((so_far + writes, token.clone()));
        match import_until(sink, job.clone(), token).await.0 {
            Ok(_) => return attempt,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
        }
    }
    panic!("never ends");
}

#[tokio::test]
async fn parquet_and_arrow_go_on_inside_of_a_row_group() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_parquet(folder.path(), "a.parquet", &table(0, 1_000), 300);
    let second = write_arrow(folder.path(), "b.arrow", &table(1_000, 777), 100);
    let sink = MapSink::new(Vec::new());
    let mut job = job(&[&first, &second]);
    job.batch_rows = 70;
    let attempts = in_pieces(&sink, &job, 3).await;
    assert!(attempts > 5, "{attempts}");
    assert_eq!(sink.len(), 1_777);
    for (id, point) in &*sink.points.lock() {
        assert_eq!(point.writes, 1, "{id}");
        assert_eq!(point.payload.as_ref().unwrap()["n"].as_i64().map(|n| format!("p{n}")).as_ref(), Some(id));
    }
}

#[tokio::test]
async fn json_lines_go_on_at_their_byte() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> =
        (0..500).map(|i| format!(r#"{{"id": "p{i}", "text": "größe {i}", "n": {i}}}"#)).collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.insert(100, "");
    lines.insert(201, "{broken");
    let path = write_lines(folder.path(), "a.jsonl", &lines);
    let sink = MapSink::new(Vec::new());
    let mut job = job(&[&path]);
    job.batch_rows = 33;
    in_pieces(&sink, &job, 2).await;
    assert_eq!(sink.len(), 500);
    assert!(sink.points.lock().values().all(|point| point.writes == 1));
}

#[tokio::test]
async fn texts_that_are_embedded_are_also_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let texts: ArrayRef = Arc::new((0..1_500).map(|i| Some("x".repeat(i % 50 + 1))).collect::<StringArray>());
    let path = write_parquet(folder.path(), "a.parquet", &batch(vec![("text", texts)]), 1_000);
    let sink = MapSink::new(vec![space("text", 2, Some("letters"))]);
    in_pieces(&sink, &job(&[&path]), 1).await;
    assert_eq!(sink.len(), 1_500);
    for point in sink.points.lock().values() {
        assert_eq!(point.writes, 1);
        assert_eq!(point.vectors["text"][0] as usize, point.text.as_ref().unwrap().len());
    }
}

#[tokio::test]
async fn a_finished_job_does_nothing_again_unless_asked_or_the_file_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_parquet(folder.path(), "a.parquet", &table(0, 100), 30);
    let sink = MapSink::new(Vec::new());
    let (first, messages) = import_until(&sink, job(&[&path]), CancellationToken::new()).await;
    let first = first.unwrap();
    assert_eq!((first.rows_written, first.rows_resumed), (100, 0));
    let last = messages.last().unwrap();
    assert!(last.done);
    assert_eq!((last.rows_done, last.rows_total, last.job_id.as_str()), (100, 100, first.job_id.as_str()));

    let again = import(&sink, job(&[&path])).await.unwrap();
    assert_eq!(
        (again.rows_written, again.rows_resumed, again.job_id.as_str()),
        (0, 100, first.job_id.as_str())
    );

    let mut restarted = job(&[&path]);
    restarted.restart = true;
    let restarted = import(&sink, restarted).await.unwrap();
    assert_eq!((restarted.rows_written, restarted.rows_resumed), (100, 0));

    // Other content, another job; a job that the user named starts anew.
    let mut named = job(&[&path]);
    named.job_id = Some("nightly".to_owned());
    assert_eq!(import(&sink, named.clone()).await.unwrap().rows_written, 100);
    assert_eq!(import(&sink, named.clone()).await.unwrap().rows_written, 0);
    write_parquet(folder.path(), "a.parquet", &table(0, 120), 30);
    let changed = import(&sink, job(&[&path])).await.unwrap();
    assert_ne!(changed.job_id, first.job_id);
    assert_eq!(import(&sink, named).await.unwrap().rows_written, 120);
}

#[tokio::test]
async fn a_file_that_failed_is_tried_again_from_where_it_got() {
    let folder = tempfile::tempdir().unwrap();
    let bad = write_parquet(folder.path(), "a.parquet", &table(0, 400), 100);
    let good = write_lines(folder.path(), "b.jsonl", &[r#"{"id": "g0"}"#, r#"{"id": "g1"}"#]);
    // The third row group begins with nonsense; the footer is whole.
    let bytes = std::fs::read(&bad).unwrap();
    let start = SerializedFileReader::new(Bytes::from(bytes.clone()))
        .unwrap()
        .metadata()
        .row_group(2)
        .column(0)
        .byte_range()
        .0;
    let mut broken = bytes;
    broken[start as usize..start as usize + 40].fill(0xff);
    std::fs::write(&bad, &broken).unwrap();

    let sink = MapSink::new(Vec::new());
    let mut job = job(&[&bad, &good]);
    job.batch_rows = 50;
    let summary = import(&sink, job.clone()).await.unwrap();
    assert_eq!((summary.files_failed, summary.rows_written), (1, 202), "{:?}", summary.errors);
    let again = import(&sink, job.clone()).await.unwrap();
    assert_eq!((again.files_failed, again.rows_written, again.rows_resumed), (1, 0, 202));
    assert!(sink.points.lock().values().all(|point| point.writes == 1));
}
