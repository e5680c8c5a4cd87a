//! Asks every query of a set and measures what comes back and when.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ragstone_proto::v1::{Hit, PayloadSelector, SearchRequest};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::beir::Query;
use super::measures::{ndcg, percentile_ms, recall};
use crate::cli::connection::Connection;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::progress::Progress;
use crate::cli::search::Mode;

/// Depth of the rankings: what recall needs.
const DEPTH: u32 = 100;
/// Depth of nDCG.
const NDCG_DEPTH: usize = 10;

/// What one mode achieves, as means over the queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) ndcg_at_10: f64,
    pub(super) recall_at_100: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
}

/// Whom to ask and how.
pub(super) struct Asker<'a> {
    pub(super) connection: &'a Connection,
    pub(super) collection: &'a str,
    pub(super) min_seq_no: u64,
    pub(super) clients: usize,
}

struct Answer {
    ndcg: f64,
    recall: f64,
    elapsed: Duration,
}

impl Asker<'_> {
    /// Asks all queries in one mode.
    pub(super) async fn ask_all(
        &self,
        mode: Mode,
        queries: &Arc<Vec<Query>>,
        interrupted: &CancellationToken,
    ) -> Outcome<Measured> {
        let stage = format!("{} queries", mode.name());
        let mut progress = Progress::new(&stage, "queries", Some(queries.len() as u64));
        let next = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let (next, done, queries, stop) =
                (next.clone(), done.clone(), queries.clone(), interrupted.clone());
            let (mut search, template) = (self.connection.search(), self.request(mode));
            clients.spawn(async move {
                let mut answers = Vec::new();
                while let Some(query) = queries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.is_cancelled() {
                        break;
                    }
                    let request = SearchRequest { text: Some(query.text.clone()), ..template.clone() };
                    let started = Instant::now();
                    let reply =
                        search.search(request).await.with_context(|| format!("query {}", query.id))?;
                    let elapsed = started.elapsed();
                    answers.push(judge(query, reply.into_inner().hits, elapsed));
                    done.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(answers)
            });
        }
        let mut answers = Vec::new();
        while !clients.is_empty() {
            tokio::select! {
                Some(finished) = clients.join_next() => answers.extend(finished??),
                () = tokio::time::sleep(Duration::from_millis(250)) => {}
            }
            progress.set_done(done.load(Ordering::Relaxed) as u64);
        }
        if interrupted.is_cancelled() {
            return Err(Failure::failed("stopped"));
        }
        Ok(summarise(&answers))
    }

    fn request(&self, mode: Mode) -> SearchRequest {
        SearchRequest {
            collection: self.collection.to_owned(),
            mode: mode.to_wire().into(),
            limit: Some(DEPTH),
            max_per_document: Some(1),
            min_seq_no: Some(self.min_seq_no),
            with_payload: Some(PayloadSelector { enable: Some(false), ..PayloadSelector::default() }),
            with_text: Some(false),
            with_highlights: Some(false),
            ..SearchRequest::default()
        }
    }
}

fn judge(query: &Query, hits: Vec<Hit>, elapsed: Duration) -> Answer {
    let ranking = documents(hits);
    Answer {
        ndcg: ndcg(&ranking, &query.grades, NDCG_DEPTH),
        recall: recall(&ranking, &query.grades, DEPTH as usize),
        elapsed,
    }
}

/// The documents of the hits, each at the place of its best chunk.
fn documents(hits: Vec<Hit>) -> Vec<String> {
    let mut seen = HashSet::new();
    let ids = hits.into_iter().map(|hit| hit.origin.map_or(hit.id, |origin| origin.document_id));
    ids.filter(|id| seen.insert(id.clone())).collect()
}

fn summarise(answers: &[Answer]) -> Measured {
    let mean =
        |value: fn(&Answer) -> f64| answers.iter().map(value).sum::<f64>() / answers.len().max(1) as f64;
    let mut latencies: Vec<Duration> = answers.iter().map(|answer| answer.elapsed).collect();
    latencies.sort_unstable();
    Measured {
        ndcg_at_10: mean(|answer| answer.ndcg),
        recall_at_100: mean(|answer| answer.recall),
        p50_ms: percentile_ms(&latencies, 50.0),
        p95_ms: percentile_ms(&latencies, 95.0),
        p99_ms: percentile_ms(&latencies, 99.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ragstone_proto::v1::Origin;

    fn hit(document: &str) -> Hit {
        Hit { origin: Some(Origin { document_id: document.into(), ..Origin::default() }), ..Hit::default() }
    }

    #[test]
    fn a_document_counts_once_by_its_best_chunk() {
        assert_eq!(documents(vec![hit("b"), hit("a"), hit("b"), hit("c"), hit("a")]), ["b", "a", "c"]);
    }

    #[test]
    fn means_are_over_queries() {
        let answer = |ndcg, ms| Answer { ndcg, recall: 1.0, elapsed: Duration::from_millis(ms) };
        let measured = summarise(&[answer(1.0, 30), answer(0.5, 10), answer(0.0, 20)]);
        assert!((measured.ndcg_at_10 - 0.5).abs() < 1e-9 && (measured.recall_at_100 - 1.0).abs() < 1e-9);
        assert!((measured.p50_ms - 20.0).abs() < 1e-9 && (measured.p99_ms - 30.0).abs() < 1e-9);
    }
}
