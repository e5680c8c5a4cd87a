//! The async front of the embedders: bounded, fair, and quick for queries.
//!
//! Each embedder in use has a lane: threads for queries and a thread for documents, with a queue each. Queries have
//! threads of their own, so they share the cores with documents but never stand behind them. Documents of all callers
//! are taken in small steps, each caller getting its share. A caller that goes away takes its waiting texts with it.
//!
//! A text that was embedded before comes from the cache, and one that is being embedded for somebody else is embedded once
//! (`embed::flight`).
//!
//! It knows nothing of models: an [`EmbedderRegistry`] brings the embedders.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::EmbedderInfo;
use super::cache::{CacheStats, TextKey, VectorCache};
use super::flight::{Awaited, Flight, Flights};
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

/// What the service did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbedStats {
    /// Texts of documents that an embedder turned into vectors.
    pub embedded: u64,
    /// Texts of documents that waited for an equal one of another caller in place of being embedded.
    pub shared: u64,
    /// The cache, when there is one.
    pub cache: Option<CacheStats>,
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
    cache: Option<Arc<VectorCache>>,
    flights: Arc<Flights>,
    embedded: AtomicU64,
    shared: AtomicU64,
}

/// A text of a document whose vector is not there yet.
struct Open {
    /// Its place in what the caller gets.
    slot: usize,
    key: TextKey,
    text: String,
}

/// What is to be done about open texts.
struct Round {
    found: Vec<(usize, Vec<f32>)>,
    /// Those that were taken on, as `flight` has them.
    own: Vec<Open>,
    flight: Flight,
    others: Vec<(Open, Awaited)>,
}

/// Queues of one embedder.
struct Lane {
    queries: Arc<Queue>,
    documents: Arc<Queue>,
}

impl EmbedService {
    /// A service without threads yet: they start with the first text of an embedder.
    pub fn new(registry: Arc<EmbedderRegistry>, options: ServiceOptions) -> Result<Self> {
        Self::with_cache(registry, options, None)
    }

    /// As [`Self::new`], with a cache of what was embedded before.
    pub fn with_cache(
        registry: Arc<EmbedderRegistry>,
        options: ServiceOptions,
        cache: Option<Arc<VectorCache>>,
    ) -> Result<Self> {
        check_bound("document_bytes", options.document_bytes, 1 << 30)?;
        check_bound("queries", options.queries, 65_536)?;
        Ok(Self::within(registry, options, cache))
    }

    /// A service of the built-in embedder with the default bounds.
    pub fn builtin() -> Self {
        Self::within(Arc::new(EmbedderRegistry::builtin()), ServiceOptions::default(), None)
    }

    fn within(
        registry: Arc<EmbedderRegistry>,
        options: ServiceOptions,
        cache: Option<Arc<VectorCache>>,
    ) -> Self {
        let inner = Inner {
            documents: Arc::new(Semaphore::new(options.document_bytes)),
            queries: Arc::new(Semaphore::new(options.queries)),
            lanes: Mutex::default(),
            flights: Arc::default(),
            embedded: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            registry,
            options,
            cache,
        };
        Self { inner: Arc::new(inner) }
    }

    /// What was done since the service was made.
    pub fn stats(&self) -> EmbedStats {
        EmbedStats {
            embedded: self.inner.embedded.load(Ordering::Relaxed),
            shared: self.inner.shared.load(Ordering::Relaxed),
            cache: self.inner.cache.as_ref().map(|cache| cache.stats()),
        }
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
        match priority {
            Priority::Document if !texts.is_empty() => self.documents(embedder, texts).await,
            Priority::Document | Priority::Query => self.run(embedder, texts, priority).await,
        }
    }

    /// Vectors of documents: from the cache, from whoever embeds the same text now, or new ones.
    async fn documents(&self, embedder: &str, texts: Vec<String>) -> Result<Vec<Vec<f32>>> {
        let info = Arc::new(self.info(embedder).await?);
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut same: Vec<(usize, usize)> = Vec::new();
        let mut open: Vec<Open> = {
            let info = Arc::clone(&info);
            let (first, later) = blocking(move || distinct(&info, texts)).await?;
            same.extend(later);
            first
        };
        while !open.is_empty() {
            let (inner, info) = (Arc::clone(&self.inner), Arc::clone(&info));
            let round = blocking(move || inner.round(&info, open)).await?;
            open = Vec::new();
            for (slot, vector) in round.found {
                put(&mut vectors, slot, vector);
            }
            let (slots, own) = self.embed_own(embedder, round.own, round.flight).await?;
            for (slot, vector) in slots.into_iter().zip(own) {
                put(&mut vectors, slot, vector);
            }
            for (text, awaited) in round.others {
                match awaited.vector().await {
                    Some(vector) => {
                        self.inner.shared.fetch_add(1, Ordering::Relaxed);
                        put(&mut vectors, text.slot, vector);
                    }
                    None => open.push(text),
                }
            }
        }
        for (slot, of) in same {
            let vector = vectors.get(of).cloned().unwrap_or_default();
            put(&mut vectors, slot, vector);
        }
        Ok(vectors)
    }

    /// Embeds texts that were taken on, keeps their vectors, and tells those who wait for them.
    async fn embed_own(
        &self,
        embedder: &str,
        own: Vec<Open>,
        flight: Flight,
    ) -> Result<(Vec<usize>, Vec<Vec<f32>>)> {
        if own.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let (mut slots, mut keys, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for open in own {
            slots.push(open.slot);
            keys.push(open.key);
            texts.push(open.text);
        }
        let vectors = self.run(embedder, texts, Priority::Document).await?;
        self.inner.embedded.fetch_add(vectors.len() as u64, Ordering::Relaxed);
        let cache = self.inner.cache.clone();
        let vectors = blocking(move || {
            if let Some(cache) = cache {
                let kept: Vec<_> = keys.into_iter().zip(vectors.iter().map(Vec::as_slice)).collect();
                cache.put(&kept);
            }
            // Only then: whoever comes next finds it here or there.
            flight.land(&vectors);
            vectors
        });
        Ok((slots, vectors.await?))
    }

    /// Hands texts to an embedder.
    async fn run(&self, embedder: &str, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
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
        blocking(move || registry.info(&name)).await?
    }

    /// Loads an embedder and starts its threads, so that the first query does not wait for it. Does nothing when they run.
    pub async fn warm_up(&self, embedder: &str) -> Result<()> {
        if self.inner.lanes.lock().contains_key(embedder) {
            return Ok(());
        }
        self.embed_query(embedder, "warm up").await.map(drop)
    }
}

impl Inner {
    /// Looks for open texts in the cache, and takes on those that nobody embeds. Reads files.
    fn round(&self, info: &EmbedderInfo, open: Vec<Open>) -> Round {
        let keys: Vec<TextKey> = open.iter().map(|open| open.key).collect();
        let known = match &self.cache {
            Some(cache) => cache.get(&keys, info.dimension),
            None => Vec::new(),
        };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        let mut known = known.into_iter();
        for open in open {
            match known.next().flatten() {
                Some(vector) => found.push((open.slot, vector)),
                None => missing.push(open),
            }
        }
        let keys: Vec<TextKey> = missing.iter().map(|open| open.key).collect();
        let (flight, awaited) = self.flights.depart(&keys);
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (open, awaited) in missing.into_iter().zip(awaited) {
            match awaited {
                Some(awaited) => others.push((open, awaited)),
                None => own.push(open),
            }
        }
        Round { found, own, flight, others }
    }

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

/// The different ones of `texts`, and for each that repeats an earlier one its place and the place of that one.
fn distinct(info: &EmbedderInfo, texts: Vec<String>) -> (Vec<Open>, Vec<(usize, usize)>) {
    let mut first: HashMap<TextKey, usize> = HashMap::with_capacity(texts.len());
    let (mut open, mut same) = (Vec::with_capacity(texts.len()), Vec::new());
    for (slot, text) in texts.into_iter().enumerate() {
        let key = TextKey::new(&info.fingerprint, &text);
        match first.insert(key, slot) {
            None => open.push(Open { slot, key, text }),
            Some(of) => {
                first.insert(key, of);
                same.push((slot, of));
            }
        }
    }
    (open, same)
}

fn put(vectors: &mut [Vec<f32>], slot: usize, vector: Vec<f32>) {
    if let Some(place) = vectors.get_mut(slot) {
        *place = vector;
    }
}

/// Runs what hashes or reads files off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let lost = |error| Error::new(ErrorKind::Internal, format!("embedding failed: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(lost)
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
