//! The async front of the embedders: bounded, fair, and quick for queries.
//!
//! Each embedder in use has a lane: threads for queries and a thread for documents, with a queue each. Queries have
//! threads of their own, so they share the cores with documents but never stand behind them. Documents of all callers
//! are taken in small steps, each caller getting its share. A caller that goes away takes its waiting texts with it.
//!
//! It knows nothing of models: an [`EmbedderRegistry`] brings the embedders.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::EmbedderInfo;
use super::queue::{Job, Queue};
use super::registry::EmbedderRegistry;
use super::worker::{serve_documents, serve_queries};
use crate::error::{Error, ErrorKind, Result};

/// Most threads for the queries of one embedder.
const MAX_QUERY_THREADS: usize = 4;

/// What a text costs in the queue beside its bytes.
const TEXT_OVERHEAD: usize = 64;

/// Who waits for the vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A person; it gets a query's prefix and goes first.
    Query,
    /// The pipeline.
    Document,
}

/// Bounds of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Bytes of document texts that may wait or be in work; callers above it wait. 1 to 1 GiB.
    pub document_bytes: usize,
    /// Queries that may wait or be in work; callers above it get an error. 1 to 65,536.
    pub queries: usize,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { document_bytes: 32 << 20, queries: 1_024 }
    }
}

/// The async front of the embedders. Clones share queues and threads; the threads end with the last clone.
#[derive(Clone)]
pub struct EmbedService {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<EmbedderRegistry>,
    options: ServiceOptions,
    documents: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    lanes: Mutex<HashMap<String, Lane>>,
}

/// Queues of one embedder.
struct Lane {
    queries: Arc<Queue>,
    documents: Arc<Queue>,
}

impl EmbedService {
    /// A service without threads yet: they start with the first text of an embedder.
    pub fn new(registry: Arc<EmbedderRegistry>, options: ServiceOptions) -> Result<Self> {
        check_bound("document_bytes", options.document_bytes, 1 << 30)?;
        check_bound("queries", options.queries, 65_536)?;
        Ok(Self::within(registry, options))
    }

    /// A service of the built-in embedder with the default bounds.
    pub fn builtin() -> Self {
        Self::within(Arc::new(EmbedderRegistry::builtin()), ServiceOptions::default())
    }

    fn within(registry: Arc<EmbedderRegistry>, options: ServiceOptions) -> Self {
        let documents = Arc::new(Semaphore::new(options.document_bytes));
        let queries = Arc::new(Semaphore::new(options.queries));
        Self { inner: Arc::new(Inner { registry, options, documents, queries, lanes: Mutex::default() }) }
    }

    /// The embedders behind it.
    pub fn registry(&self) -> &Arc<EmbedderRegistry> {
        &self.inner.registry
    }

    /// A vector for each text, in order. Documents wait while the service is full; queries get an error instead.
    /// Dropping the future withdraws what has not started.
    pub async fn embed(
        &self,
        embedder: &str,
        texts: Vec<String>,
        priority: Priority,
    ) -> Result<Vec<Vec<f32>>> {
        if !self.inner.registry.contains(embedder) {
            return Err(self.inner.registry.unknown(embedder));
        }
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let share = match priority {
            Priority::Document => {
                let bytes: usize = texts.iter().map(|text| text.len().saturating_add(TEXT_OVERHEAD)).sum();
                // A job larger than the whole queue waits until it is alone.
                let bytes = u32::try_from(bytes.min(self.inner.options.document_bytes)).unwrap_or(u32::MAX);
                Arc::clone(&self.inner.documents).acquire_many_owned(bytes).await.map_err(|_| stopped())?
            }
            Priority::Query => Arc::clone(&self.inner.queries).try_acquire_owned().map_err(|_| {
                let message =
                    format!("{} queries wait to be embedded: try again later", self.inner.options.queries);
                Error::new(ErrorKind::ResourceExhausted, message)
            })?,
        };
        let (reply, answer) = oneshot::channel();
        self.inner.queue(embedder, priority)?.push(Job { texts, reply, share });
        answer.await.map_err(|_| stopped())?
    }

    /// The vector of one query.
    pub async fn embed_query(&self, embedder: &str, text: impl Into<String>) -> Result<Vec<f32>> {
        let vectors = self.embed(embedder, vec![text.into()], Priority::Query).await?;
        let none = || Error::new(ErrorKind::Internal, format!("embedder \"{embedder}\" made no vector"));
        vectors.into_iter().next().ok_or_else(none)
    }

    /// What is known of an embedder; loads it off the async threads when that is needed to know.
    pub async fn info(&self, embedder: &str) -> Result<EmbedderInfo> {
        if let Some(info) = self.inner.registry.known_info(embedder)? {
            return Ok(info);
        }
        let registry = Arc::clone(&self.inner.registry);
        let name = embedder.to_owned();
        let task = tokio::task::spawn_blocking(move || registry.info(&name)).await;
        task.map_err(|error| Error::new(ErrorKind::Internal, format!("loading failed: {error}")))?
    }

    /// Loads an embedder and starts its threads, so that the first query does not wait for it.
    pub async fn warm_up(&self, embedder: &str) -> Result<()> {
        self.embed_query(embedder, "warm up").await.map(drop)
    }
}

impl Inner {
    fn queue(&self, embedder: &str, priority: Priority) -> Result<Arc<Queue>> {
        let mut lanes = self.lanes.lock();
        if !lanes.contains_key(embedder) {
            lanes.insert(embedder.to_owned(), Lane::start(embedder, &self.registry)?);
        }
        let lane = lanes.get(embedder).ok_or_else(stopped)?;
        Ok(Arc::clone(match priority {
            Priority::Query => &lane.queries,
            Priority::Document => &lane.documents,
        }))
    }
}

impl Lane {
    fn start(embedder: &str, registry: &Arc<EmbedderRegistry>) -> Result<Self> {
        let lane = Self { queries: Arc::default(), documents: Arc::default() };
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..cores.min(MAX_QUERY_THREADS) {
            spawn("embed-query", embedder, registry, &lane.queries, serve_queries)?;
        }
        spawn("embed-doc", embedder, registry, &lane.documents, serve_documents)?;
        Ok(lane)
    }
}

/// The threads of a lane end with it.
impl Drop for Lane {
    fn drop(&mut self) {
        self.queries.close();
        self.documents.close();
    }
}

fn spawn(
    thread: &str,
    embedder: &str,
    registry: &Arc<EmbedderRegistry>,
    queue: &Arc<Queue>,
    serve: fn(&str, &EmbedderRegistry, &Queue),
) -> Result<()> {
    let (name, registry, queue) = (embedder.to_owned(), Arc::clone(registry), Arc::clone(queue));
    std::thread::Builder::new()
        .name(thread.to_owned())
        .spawn(move || serve(&name, &registry, &queue))
        .map(drop)
        .map_err(|error| {
            Error::new(ErrorKind::ResourceExhausted, format!("no thread for embedding: {error}"))
        })
}

impl std::fmt::Debug for EmbedService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbedService").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

fn check_bound(key: &str, value: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("embed.{key}"), format!("{value} is not between 1 and {most}")))
}

fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "the embedding service has stopped")
}

#[cfg(test)]
mod tests;
