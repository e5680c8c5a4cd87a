//! Order, bounds, fairness and cancellation of the service, over an embedder that tests can hold back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Condvar;

use super::*;
use crate::embed::Embedder;

/// A vector is the text's length; "bad" fails, "panic" panics. While shut, document calls and the query "held" wait.
#[derive(Debug)]
struct Gate {
    info: EmbedderInfo,
    shut: Mutex<bool>,
    opened: Condvar,
    embedded: AtomicUsize,
    calls: Mutex<Vec<usize>>,
}

impl Gate {
    fn new(shut: bool) -> Arc<Self> {
        let name = "gate".to_owned();
        let info = EmbedderInfo { name, dimension: 1, max_tokens: 8, fingerprint: "gate".to_owned() };
        let (embedded, calls) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { info, shut: Mutex::new(shut), opened: Condvar::new(), embedded, calls })
    }

    fn open(&self) {
        *self.shut.lock() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut shut = self.shut.lock();
        while *shut {
            self.opened.wait(&mut shut);
        }
    }
}

impl Embedder for Gate {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    fn token_spans(&self, _: &str) -> Result<Vec<Range<usize>>> {
        Ok(Vec::new())
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        self.calls.lock().push(texts.len());
        self.pass();
        texts.iter().map(|text| self.embed_query(text)).collect()
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>> {
        assert_ne!(text, "panic");
        if text == "held" {
            self.pass();
        }
        if text == "bad" {
            return Err(Error::bad_content("bad text"));
        }
        self.embedded.fetch_add(1, Ordering::SeqCst);
        Ok(vec![text.len() as f32])
    }
}

fn service(gate: &Arc<Gate>, document_bytes: usize, queries: usize) -> EmbedService {
    let registry = EmbedderRegistry::builtin().with(Arc::clone(gate) as Arc<dyn Embedder>);
    EmbedService::new(Arc::new(registry), ServiceOptions { document_bytes, queries }).unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn texts(count: usize, length: usize) -> Vec<String> {
    vec!["x".repeat(length); count]
}

#[tokio::test]
async fn many_callers_each_get_their_own_vectors_in_order() {
    let gate = Gate::new(false);
    let service = service(&gate, 1 << 20, 16);
    let callers = (1..30_usize).map(|caller| {
        let service = service.clone();
        tokio::spawn(async move {
            let texts: Vec<String> = (0..caller * 7).map(|i| "x".repeat(caller * 100 + i)).collect();
            let vectors = service.run("gate", texts, Priority::Document).await.unwrap();
            let expected: Vec<Vec<f32>> = (0..caller * 7).map(|i| vec![(caller * 100 + i) as f32]).collect();
            assert_eq!(vectors, expected);
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert!(service.run("gate", Vec::new(), Priority::Document).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_query_does_not_wait_for_documents() {
    let gate = Gate::new(true);
    let service = service(&gate, 1 << 20, 16);
    let documents = tokio::spawn({
        let service = service.clone();
        async move { service.run("gate", texts(500, 3), Priority::Document).await }
    });
    until(|| !gate.calls.lock().is_empty()).await;
    assert_eq!(service.embed_query("gate", "four").await.unwrap(), [4.0]);
    assert!(!documents.is_finished());
    gate.open();
    assert_eq!(documents.await.unwrap().unwrap().len(), 500);
}

#[tokio::test]
async fn a_small_caller_behind_a_large_one_is_served_soon() {
    let gate = Gate::new(true);
    let service = service(&gate, 1 << 24, 16);
    let large = tokio::spawn({
        let service = service.clone();
        async move { service.run("gate", texts(100_000, 1), Priority::Document).await }
    });
    until(|| !gate.calls.lock().is_empty()).await;
    let mut small = Box::pin(service.run("gate", texts(2, 2), Priority::Document));
    assert!(futures::poll!(&mut small).is_pending());
    gate.open();
    assert_eq!(small.await.unwrap(), [[2.0], [2.0]]);
    assert!(gate.embedded.load(Ordering::SeqCst) < 100_000);
    assert_eq!(large.await.unwrap().unwrap().len(), 100_000);
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_texts_along() {
    let gate = Gate::new(true);
    let service = service(&gate, 1 << 20, 16);
    let first = tokio::spawn({
        let service = service.clone();
        async move { service.run("gate", texts(1, 1), Priority::Document).await }
    });
    until(|| !gate.calls.lock().is_empty()).await;
    let mut leaver = Box::pin(service.run("gate", texts(1_000, 1), Priority::Document));
    assert!(futures::poll!(&mut leaver).is_pending());
    drop(leaver);
    gate.open();
    first.await.unwrap().unwrap();
    service.run("gate", texts(1, 1), Priority::Document).await.unwrap();
    assert_eq!(gate.embedded.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn documents_wait_when_the_queue_is_full_and_queries_are_refused() {
    let gate = Gate::new(true);
    let service = service(&gate, 10 * (TEXT_OVERHEAD + 10), 1);
    let mut first = Box::pin(service.run("gate", texts(8, 10), Priority::Document));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = Box::pin(service.run("gate", texts(8, 10), Priority::Document));
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(service.inner.documents.available_permits(), 0, "the second waits for its share");
    // Larger than the whole queue: it passes alone.
    let mut huge = Box::pin(service.run("gate", texts(1, 5_000), Priority::Document));
    assert!(futures::poll!(&mut huge).is_pending());
    gate.open();
    assert_eq!(first.await.unwrap().len(), 8);
    assert_eq!(second.await.unwrap().len(), 8);
    assert_eq!(huge.await.unwrap(), [[5_000.0]]);

    *gate.shut.lock() = true;
    let mut query = Box::pin(service.embed_query("gate", "held"));
    assert!(futures::poll!(&mut query).is_pending());
    let refused = service.embed_query("gate", "two").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
    gate.open();
    query.await.unwrap();
    assert_eq!(service.embed_query("gate", "three").await.unwrap(), [5.0]);
}

#[tokio::test]
async fn an_error_stays_with_the_caller_whose_text_caused_it() {
    let gate = Gate::new(true);
    let service = service(&gate, 1 << 20, 16);
    let mut plug = Box::pin(service.run("gate", texts(1, 1), Priority::Document));
    assert!(futures::poll!(&mut plug).is_pending());
    until(|| !gate.calls.lock().is_empty()).await;
    let mut bad = Box::pin(service.run("gate", vec!["bad".to_owned()], Priority::Document));
    let mut panics = Box::pin(service.run("gate", vec!["panic".to_owned()], Priority::Document));
    let mut good = Box::pin(service.run("gate", texts(3, 2), Priority::Document));
    assert!(futures::poll!(&mut bad).is_pending());
    assert!(futures::poll!(&mut panics).is_pending());
    assert!(futures::poll!(&mut good).is_pending());
    gate.open();
    plug.await.unwrap();
    assert_eq!(bad.await.unwrap_err().kind(), ErrorKind::BadContent);
    assert_eq!(panics.await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(good.await.unwrap().len(), 3);
    assert_eq!(service.embed_query("gate", "panic").await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(service.embed_query("gate", "fine").await.unwrap(), [4.0]);
}

#[tokio::test]
async fn an_unknown_embedder_is_named_with_those_that_exist() {
    let service = service(&Gate::new(false), 1 << 20, 16);
    let error = service.embed_query("nope", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("gate, minilm"), "{error}");
    assert_eq!(service.info("gate").await.unwrap().dimension, 1);
    assert_eq!(service.info("nope").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn threads_end_with_the_service() {
    let gate = Gate::new(false);
    let service = service(&gate, 1 << 20, 16);
    service.embed_query("gate", "x").await.unwrap();
    drop(service);
    // The registry, and with it the embedder, is held by the threads alone.
    until(|| Arc::strong_count(&gate) == 1).await;
}

#[test]
fn bounds_are_checked() {
    let registry = Arc::new(EmbedderRegistry::builtin());
    for (document_bytes, queries) in [(0, 1), (1, 0), (usize::MAX, 1), (1, usize::MAX)] {
        let options = ServiceOptions { document_bytes, queries };
        assert_eq!(
            EmbedService::new(Arc::clone(&registry), options).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
    }
}

/// A text of its own each time, and the vector that the gate makes of it.
fn numbered(range: Range<usize>) -> Vec<String> {
    range.map(|i| format!("{i:0>9}")).collect()
}

fn cached(gate: &Arc<Gate>, dir: &std::path::Path) -> EmbedService {
    let registry = EmbedderRegistry::builtin().with(Arc::clone(gate) as Arc<dyn Embedder>);
    let cache = VectorCache::open(dir, 1 << 20).unwrap();
    EmbedService::with_cache(Arc::new(registry), ServiceOptions::default(), Some(Arc::new(cache))).unwrap()
}

#[tokio::test]
async fn what_was_embedded_once_comes_from_the_cache_also_after_a_restart() {
    let (gate, dir) = (Gate::new(false), tempfile::tempdir().unwrap());
    let embedded = || gate.embedded.load(Ordering::SeqCst);
    let service = cached(&gate, dir.path());
    let mut texts = numbered(0..100);
    texts.extend(numbered(20..60));
    let vectors = service.embed("gate", texts, Priority::Document).await.unwrap();
    assert_eq!(vectors, vec![vec![9.0]; 140]);
    assert_eq!(embedded(), 100, "equal texts of a call are embedded once");
    drop(service);
    let service = cached(&gate, dir.path());
    let mut texts = numbered(90..110);
    texts.push("four".to_owned());
    let vectors = service.embed("gate", texts, Priority::Document).await.unwrap();
    assert_eq!((vectors.len(), vectors.last()), (21, Some(&vec![4.0])));
    assert_eq!(embedded(), 111);
    let stats = service.stats();
    let cache = stats.cache.unwrap();
    assert_eq!((stats.embedded, cache.hits, cache.misses, cache.vectors), (11, 10, 11, 111));
    // A query is embedded in another way: it is none of the cache's business.
    service.embed_query("gate", "four").await.unwrap();
    assert_eq!((embedded(), service.stats().embedded), (112, 11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_text_of_many_callers_is_embedded_once() {
    let gate = Gate::new(true);
    let service = service(&gate, 1 << 20, 16);
    let callers: Vec<_> = (0..20)
        .map(|caller| {
            let service = service.clone();
            tokio::spawn(async move {
                // Overlapping, and in another order for every other caller.
                let mut texts = numbered(caller..caller + 50);
                if caller % 2 == 0 {
                    texts.reverse();
                }
                service.embed("gate", texts, Priority::Document).await.unwrap()
            })
        })
        .collect();
    until(|| service.inner.flights.waiting() == 20 * 50 - 69).await;
    gate.open();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), vec![vec![9.0]; 50]);
    }
    assert_eq!(gate.embedded.load(Ordering::SeqCst), 69);
    let stats = service.stats();
    assert_eq!((stats.embedded, stats.shared), (69, 20 * 50 - 69));
    assert_eq!(service.inner.flights.len(), 0);
}

#[tokio::test]
async fn a_text_whose_embedder_went_away_is_taken_on_by_who_waits_for_it() {
    let gate = Gate::new(true);
    let service = service(&gate, 1 << 20, 16);
    let spawn = |texts: Vec<String>| {
        let service = service.clone();
        tokio::spawn(async move { service.embed("gate", texts, Priority::Document).await })
    };
    let leaver = spawn(numbered(0..10));
    until(|| service.inner.flights.len() == 10).await;
    let stayer = spawn(numbered(5..15));
    until(|| service.inner.flights.len() == 15).await;
    leaver.abort();
    gate.open();
    assert_eq!(stayer.await.unwrap().unwrap(), vec![vec![9.0]; 10]);
    // An error is told to everybody who has the text, and nobody waits for ever.
    *gate.shut.lock() = true;
    let bad = || spawn(vec!["bad".to_owned()]);
    let (first, second) = (bad(), bad());
    until(|| service.inner.flights.len() == 1).await;
    gate.open();
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::BadContent);
    assert_eq!(second.await.unwrap().unwrap_err().kind(), ErrorKind::BadContent);
}
