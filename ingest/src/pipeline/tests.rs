//! The pipeline over a map and a fake embedder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float32Type;
use bytes::Bytes;
use futures::future::join_all;

use super::fakes::{DIMENSION, FakeEmbedder, MapSink, pipeline, target, vector_of};
use super::*;
use crate::document::IngestOptions;
use crate::embed::Embedder;
use crate::sink::Target;

struct Fixture {
    sink: Arc<MapSink>,
    embedder: Arc<FakeEmbedder>,
    pipeline: Arc<Pipeline>,
}

fn fixture() -> Fixture {
    let (sink, embedder) = (MapSink::new(), FakeEmbedder::new());
    let pipeline = pipeline(&sink, &embedder);
    Fixture { sink, embedder, pipeline }
}

fn text(id: &str, text: &str) -> RawDocument {
    RawDocument { id: id.into(), data: Bytes::from(text.to_owned()), is_text: true, ..RawDocument::default() }
}

/// A paragraph that fills a chunk of the fake embedder.
fn paragraph(word: &str) -> String {
    vec![word; 50].join(" ")
}

#[tokio::test]
async fn a_document_is_stored_with_its_vectors_and_then_unchanged() {
    let Fixture { sink, pipeline, .. } = fixture();
    let body = format!("{}\n\n{}", paragraph("one"), paragraph("two"));
    let done = pipeline.ingest("c", text("a", &body)).await.unwrap();
    assert_eq!((done.outcome, done.document_id.as_str()), (Outcome::Indexed, "a"));
    assert!(done.chunks >= 2 && done.seq_no > 0);

    let stored = sink.get("a").unwrap();
    assert_eq!(stored.entry.version, done.version);
    assert_eq!(stored.entry.chunks as usize, stored.texts().len());
    assert_eq!(recipe_of(&done.version), pipeline.recipe("c", &IngestOptions::default()).await.unwrap());
    let points = stored.points.clone().unwrap();
    assert!(points.column_by_name("vector:own").is_none());
    let vectors = points.column_by_name("vector:text").unwrap().as_fixed_size_list();
    assert_eq!(vectors.null_count(), 0);
    let text_of_first = crate::chunk::embedding_text("", &[], &stored.texts()[0]);
    assert_eq!(vectors.value(0).as_primitive::<Float32Type>().values().to_vec(), vector_of(&text_of_first));

    let again = pipeline.ingest("c", text("a", &body)).await.unwrap();
    assert_eq!((again.outcome, again.chunks, again.version), (Outcome::Unchanged, done.chunks, done.version));
    let stats = pipeline.stats();
    assert_eq!((stats.extracted, stats.unchanged, sink.calls.lock().puts), (1, 1, 1));
}

#[tokio::test]
async fn only_new_text_is_embedded_and_equal_text_once() {
    let Fixture { sink, embedder, pipeline } = fixture();
    let words = ["one", "two", "one", "three"];
    let body = |words: &[&str]| words.iter().map(|word| paragraph(word)).collect::<Vec<_>>().join("\n\n");
    pipeline.ingest("c", text("a", &body(&words))).await.unwrap();
    assert_eq!(sink.get("a").unwrap().texts().len(), 4);
    assert_eq!(embedder.texts.lock().len(), 3);

    embedder.texts.lock().clear();
    pipeline.ingest("c", text("a", &body(&["zero", "one", "two", "two"]))).await.unwrap();
    let embedded = embedder.texts.lock().clone();
    assert_eq!(embedded.len(), 1, "{embedded:?}");
    assert!(embedded[0].contains("zero"));
    let stored = sink.get("a").unwrap();
    let points = stored.points.clone().unwrap();
    let vectors = points.column_by_name("vector:text").unwrap().as_fixed_size_list();
    for (row, text) in stored.texts().iter().enumerate() {
        let expected = vector_of(&crate::chunk::embedding_text("", &[], text));
        assert_eq!(vectors.value(row).as_primitive::<Float32Type>().values().to_vec(), expected);
    }
}

#[tokio::test]
async fn another_embedder_is_refused_before_anything_is_done() {
    let Fixture { sink, embedder, pipeline } = fixture();
    for wrong in [target(Some("fake/0"), DIMENSION), target(None, DIMENSION + 1)] {
        *sink.target.lock() = Ok(wrong);
        let error = pipeline.ingest("c", text("a", "words")).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::FailedPrecondition, Some("text")));
        assert!(error.message().contains("fake"), "{error}");
    }
    assert!(embedder.texts.lock().is_empty() && sink.get("a").is_none());
    *sink.target.lock() = Err(Error::new(ErrorKind::NotFound, "no collection"));
    assert_eq!(pipeline.ingest("c", text("a", "words")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_collection_without_vectors_gets_points_without_vectors() {
    let Fixture { sink, embedder, pipeline } = fixture();
    *sink.target.lock() = Ok(Target::default());
    pipeline.ingest("c", text("a", "some words")).await.unwrap();
    assert!(embedder.texts.lock().is_empty());
    let points = sink.get("a").unwrap().points.unwrap();
    assert!(points.schema().fields().iter().all(|field| !field.name().starts_with("vector:")));
}

#[tokio::test]
async fn a_failure_leaves_the_older_version() {
    let Fixture { sink, embedder, pipeline } = fixture();
    pipeline.ingest("c", text("a", "old words")).await.unwrap();
    let before = sink.get("a").unwrap().entry;

    let binary = RawDocument {
        data: Bytes::from_static(b"\x7fELF\x02\x01\x01\0\0\0\0"),
        is_text: false,
        ..text("a", "")
    };
    assert_eq!(pipeline.ingest("c", binary).await.unwrap_err().kind(), ErrorKind::BadContent);
    assert_eq!(pipeline.ingest("c", text("a", " \n ")).await.unwrap_err().kind(), ErrorKind::BadContent);
    embedder.broken.store(true, Ordering::SeqCst);
    assert_eq!(
        pipeline.ingest("c", text("a", "new words")).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(sink.get("a").unwrap().entry, before);

    embedder.broken.store(false, Ordering::SeqCst);
    let done = pipeline.ingest("c", text("a", "new words")).await.unwrap();
    assert_eq!(done.outcome, Outcome::Indexed);
    assert_eq!(sink.get("a").unwrap().texts(), ["new words"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ingests_of_one_document_run_one_after_the_other_and_the_last_wins() {
    let Fixture { sink, pipeline, .. } = fixture();
    *sink.put_delay.lock() = Duration::from_millis(5);
    let mut calls = Vec::new();
    for i in 0..20 {
        let pipeline = Arc::clone(&pipeline);
        calls.push(tokio::spawn(
            async move { pipeline.ingest("c", text("a", &format!("version {i}"))).await },
        ));
        // Lets the call take its place in the row.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(sink.get("a").unwrap().texts(), ["version 19"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_documents_at_once() {
    let Fixture { sink, pipeline, .. } = fixture();
    let ids: Vec<String> = (0..200).map(|i| format!("document {i}")).collect();
    let calls = ids.iter().map(|id| pipeline.ingest("c", text(id, &format!("the text of {id}"))));
    for done in join_all(calls).await {
        assert_eq!(done.unwrap().outcome, Outcome::Indexed);
    }
    for id in &ids {
        assert_eq!(sink.get(id).unwrap().texts(), [format!("the text of {id}")]);
    }
}

#[tokio::test]
async fn a_touched_document_only_updates_its_entry() {
    let Fixture { sink, pipeline, .. } = fixture();
    let at = |ns| RawDocument { modified_ns: Some(ns), source_id: "s".into(), ..text("a", "words") };
    pipeline.ingest("c", at(1_000_000_000)).await.unwrap();
    assert_eq!(sink.get("a").unwrap().payload()["modified"], "1970-01-01T00:00:01.000000Z");
    let done = pipeline.ingest("c", at(2_000_000_000)).await.unwrap();
    assert_eq!(done.outcome, Outcome::Unchanged);
    assert_eq!(sink.get("a").unwrap().entry.modified_ns, Some(2_000_000_000));
    let calls = *sink.calls.lock();
    assert_eq!((calls.puts, calls.touches), (1, 1));
}

#[tokio::test]
async fn bounds_name_their_field() {
    let Fixture { sink, pipeline, .. } = fixture();
    let cases = [
        ("uri", RawDocument { uri: "u".repeat(MAX_URI_BYTES + 1), ..text("a", "x") }),
        ("title", RawDocument { title: "t".repeat(MAX_TITLE_BYTES + 1), ..text("a", "x") }),
        ("document_id", text(&"i".repeat(MAX_DOCUMENT_ID_BYTES + 1), "x")),
        ("document_id", text("", "x")),
    ];
    for (field, raw) in cases {
        let error = pipeline.ingest("c", raw).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidArgument, Some(field)));
    }
    let mut multiplied =
        text("a", &(0..2_000).map(|i| paragraph(&format!("w{i}"))).collect::<Vec<_>>().join("\n\n"));
    multiplied.metadata.insert("big".into(), "x".repeat(MAX_METADATA_BYTES / 2).into());
    let error = pipeline.ingest("c", multiplied).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(sink.documents.lock().is_empty());
}

#[tokio::test]
async fn a_write_that_has_begun_ends_without_its_caller() {
    let Fixture { sink, pipeline, .. } = fixture();
    *sink.put_delay.lock() = Duration::from_millis(300);
    let call = pipeline.ingest("c", text("a", "first"));
    // The caller goes away during the write.
    let _ = tokio::time::timeout(Duration::from_millis(200), call).await;
    pipeline.ingest("c", text("a", "second")).await.unwrap();
    assert_eq!(sink.get("a").unwrap().texts(), ["second"]);
}

#[tokio::test]
async fn the_tightest_embedder_decides_how_text_is_split() {
    let Fixture { pipeline, embedder, .. } = fixture();
    let longest = 200;
    let words: Vec<String> = (0..longest).map(|i| format!("word{i}")).collect();
    let done = pipeline.ingest("c", text("a", &words.join(" "))).await.unwrap();
    assert!(done.chunks as usize > longest / embedder.info().max_tokens);
    for text in embedder.texts.lock().iter() {
        assert!(embedder.token_spans(text).unwrap().len() <= embedder.info().max_tokens);
    }
}
