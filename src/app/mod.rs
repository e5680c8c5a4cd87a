//! The one application layer: everything that the services offer, in domain terms. It owns the engine, the embedders,
//! the pipeline and the watched folders, and glues ingestion to the engine. It knows no gRPC, so that other protocols
//! can stand beside it.
//!
//! **Invariant:** the engine is never called on an async thread; every call goes through [`workers`].

pub mod admin;
pub mod collections;
pub mod embedding;
pub mod error;
pub mod points;
pub mod search;
pub mod snippet;
pub mod visibility;
pub mod workers;

use std::sync::Arc;
use std::time::Instant;

use ragstone_index::store::Store;
use ragstone_ingest::embed::registry::{EmbedderRegistry, RegistryOptions};
use ragstone_ingest::embed::service::{EmbedService, ServiceOptions};
use tokio_util::sync::CancellationToken;

use self::embedding::Embedding;
use self::error::{Error, Result};
use self::workers::Workers;
use crate::config::Config;

/// The application.
#[derive(Debug)]
pub struct App {
    store: Arc<Store>,
    embedding: Embedding,
    workers: Workers,
    started: Instant,
    /// Cancelled when the server goes down: long streams end.
    stopping: CancellationToken,
}

impl App {
    /// Opens the data directory and recovers what is in it.
    pub async fn open(config: &Config) -> Result<Arc<Self>> {
        let workers = Workers::new();
        let options = RegistryOptions {
            onnxruntime: config.onnxruntime.clone(),
            cache_dir: config.data_dir.join("models"),
        };
        let registry = EmbedderRegistry::new(config.embedders.clone(), options)?;
        let service = Arc::new(EmbedService::new(Arc::new(registry), ServiceOptions::default())?);
        let (dir, engine) = (config.data_dir.clone(), config.engine.clone());
        let store = workers.maintenance.run(move || Ok(Arc::new(Store::open(&dir, engine)?))).await?;
        let app = Self {
            store,
            embedding: Embedding::new(service),
            workers,
            started: Instant::now(),
            stopping: CancellationToken::new(),
        };
        Ok(Arc::new(app))
    }

    /// Jobs on memory alone that are too long for an async thread.
    pub async fn compute<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.workers.compute.run(job).await
    }

    /// Loads what the first query needs, in the background.
    pub fn warm_up(self: &Arc<Self>) {
        let embedding = self.embedding.clone();
        tokio::spawn(async move { embedding.warm_up().await });
    }

    /// Cancelled when the server goes down.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Ends what never ends by itself: streams.
    pub fn begin_stop(&self) {
        self.stopping.cancel();
    }

    /// Ends background work and closes the data directory. Nothing acknowledged depends on it.
    pub async fn close(&self) -> Result<()> {
        self.begin_stop();
        let store = Arc::clone(&self.store);
        self.workers
            .maintenance
            .run(move || {
                store.close();
                Ok(())
            })
            .await
    }

    async fn stop_sources_of(&self, _collection: &str) -> Result<()> {
        Ok::<(), Error>(())
    }
}
