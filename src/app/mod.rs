//! The one application layer: everything that the services offer, in domain terms. It owns the engine, the embedders,
//! the pipeline and the watched folders, and glues ingestion to the engine. It knows no gRPC, so that other protocols
//! can stand beside it.
//!
//! **Invariant:** every call of the engine that takes time goes through [`workers`]; on an async thread it is called for
//! what is over in a moment only.

pub mod admin;
pub mod collapse;
pub mod collections;
pub mod copies;
pub mod documents;
pub mod embedding;
pub mod error;
pub mod exports;
pub mod imports;
pub mod parents;
pub mod points;
pub mod preview;
pub mod search;
pub mod sink;
pub mod snippet;
pub mod sources;
pub mod visibility;
pub mod workers;

use std::sync::Arc;
use std::time::Instant;

use ragstone_index::schema::CollectionSchema;
use ragstone_index::store::Store;
use ragstone_ingest::embed::VectorCache;
use ragstone_ingest::embed::registry::{EmbedderRegistry, RegistryOptions};
use ragstone_ingest::embed::service::{EmbedService, ServiceOptions};
use ragstone_ingest::pipeline::Pipeline;
use ragstone_ingest::sink::BatchSink;
use ragstone_ingest::source::SourceManager;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::embedding::Embedding;
use self::error::Result;
use self::sink::EngineSink;
use self::workers::{Lane, Workers};
use crate::config::Config;

/// Streams of documents at the same time.
pub const MAX_DOCUMENT_STREAMS: usize = 32;

/// The application.
#[derive(Debug)]
pub struct App {
    store: Arc<Store>,
    embedding: Embedding,
    workers: Workers,
    /// Where the application was opened.
    runtime: Handle,
    sink: Arc<EngineSink>,
    pipeline: Arc<Pipeline>,
    sources: Arc<SourceManager>,
    /// Held while a source is added or removed: manager and ledger change together.
    source_changes: tokio::sync::Mutex<()>,
    document_streams: Arc<Semaphore>,
    imports: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    started: Instant,
    /// Cancelled when the server goes down: long streams end.
    stopping: CancellationToken,
}

impl App {
    /// Opens the data directory, recovers what is in it, and watches the folders that it remembers and those of the
    /// configuration.
    pub async fn open(config: &Config) -> Result<Arc<Self>> {
        let runtime = Handle::current();
        let workers = Workers::new(&runtime);
        let options = RegistryOptions {
            onnxruntime: config.onnxruntime.clone(),
            cache_dir: config.data_dir.join("models"),
        };
        let registry = Arc::new(EmbedderRegistry::new(config.embedders.clone(), options)?);
        let (dir, engine) = (config.data_dir.clone(), config.engine.clone());
        let store = workers.maintenance.run(move || Ok(Arc::new(Store::open(&dir, engine)?))).await?;
        // Behind the store, whose lock makes this the only process in the directory.
        let cache = vector_cache(config, &workers).await?;
        let service = EmbedService::with_cache(Arc::clone(&registry), ServiceOptions::default(), cache)?;
        let service = Arc::new(service);
        let sink = Arc::new(EngineSink::new(Arc::clone(&store), workers.clone()));
        let shared_sink = || Arc::clone(&sink) as Arc<dyn BatchSink>;
        let pipeline = Pipeline::new(config.pipeline.clone(), registry, Arc::clone(&service), shared_sink());
        let pipeline = Arc::new(pipeline);
        let sources = SourceManager::new(Arc::clone(&pipeline), shared_sink(), config.sources.clone());
        let app = Arc::new(Self {
            store,
            embedding: Embedding::new(service),
            workers,
            runtime,
            sink,
            pipeline,
            sources: Arc::new(sources),
            source_changes: tokio::sync::Mutex::default(),
            document_streams: Arc::new(Semaphore::new(MAX_DOCUMENT_STREAMS)),
            imports: Arc::new(Semaphore::new(imports::MAX_IMPORTS)),
            exports: Arc::new(Semaphore::new(exports::MAX_EXPORTS)),
            started: Instant::now(),
            stopping: CancellationToken::new(),
        });
        match app.start_sources(&config.watch).await {
            Ok(()) => Ok(app),
            Err(error) => {
                app.close().await?;
                Err(error)
            }
        }
    }

    /// Where everything runs that takes longer than a moment.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Jobs on memory alone that are too long for an async thread.
    pub async fn compute<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.workers.compute.run(job).await
    }

    /// Room for one more stream of documents.
    pub fn document_streams(&self) -> &Arc<Semaphore> {
        &self.document_streams
    }

    /// Loads what the first query needs, in the background. Where clients bring all vectors, that is no model.
    pub fn warm_up(&self) {
        let schemas = self.store.collections().iter().map(|collection| collection.schema()).collect();
        self.warm_up_for(schemas);
    }

    /// Loads the embedders of these schemas, in the background.
    fn warm_up_for(&self, schemas: Vec<Arc<CollectionSchema>>) {
        let embedding = self.embedding.clone();
        self.runtime.spawn(async move { embedding.warm_up(&schemas).await });
    }

    /// Cancelled when the server goes down.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Ends what never ends by itself: streams, imports.
    pub fn begin_stop(&self) {
        self.stopping.cancel();
    }

    /// Ends background work and closes the data directory. Nothing acknowledged depends on it.
    pub async fn close(&self) -> Result<()> {
        self.begin_stop();
        self.sources.shutdown().await;
        let store = Arc::clone(&self.store);
        let close = move || {
            store.close();
            Ok(())
        };
        // Not behind a compaction that runs.
        Lane::new(1, &self.runtime).run(close).await
    }
}

/// The cache of vectors, if there is to be one. Where it can't be used, everything works without.
async fn vector_cache(config: &Config, workers: &Workers) -> Result<Option<Arc<VectorCache>>> {
    let limit = config.embedding.cache_bytes;
    if limit == 0 {
        return Ok(None);
    }
    let dir = config.data_dir.join("cache").join("vectors");
    let open = move || match VectorCache::open(&dir, limit) {
        Ok(cache) => Ok(Some(Arc::new(cache))),
        Err(error) if error.kind() == ragstone_ingest::ErrorKind::Unavailable => {
            tracing::warn!(%error, "texts are embedded without a cache");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    };
    workers.maintenance.run(open).await
}
