//! A running server: started from a configuration, by `ragstone serve` or inside another program, and ended without
//! cutting anybody off.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::app::App;
use crate::app::error::Error as AppError;
use crate::config::Config;
use crate::grpc;
use crate::network::Network;

/// Why a server doesn't start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address can't be used.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The data directory, an embedder or a watched folder can't be used.
    #[error(transparent)]
    App(#[from] AppError),
    /// The network side failed.
    #[error("the server ended: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// A defect.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A server that runs until [`RunningServer::shutdown`], or until this is dropped.
#[derive(Debug)]
pub struct RunningServer {
    /// Where it listens.
    pub addr: SocketAddr,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    task: Option<JoinHandle<Result<(), ServerError>>>,
}

impl Server {
    /// Starts a server: opens the data directory, recovers it, and listens. Returns when it answers.
    pub async fn start(config: Config) -> Result<RunningServer, ServerError> {
        let listen = |source| ServerError::Listen { address: config.server.listen.clone(), source };
        // The address first: a second server on it should fail before it touches data.
        let listener = TcpListener::bind(&config.server.listen).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let app = App::open(&config).await?;
        let (router, health) =
            grpc::router(&app, &config.server).map_err(|error| ServerError::Internal(error.to_string()))?;
        let stop = CancellationToken::new();
        let network = Network::start(&router, &stop).map_err(listen)?;
        drop(router);
        let serving = Serving { app, health, stop: stop.clone(), grace: config.server.shutdown_grace };
        tracing::info!(%addr, data_dir = %config.data_dir.display(), "serving");
        let task = tokio::spawn(serving.run(network, listener));
        Ok(RunningServer { addr, _stop_on_drop: stop.clone().drop_guard(), stop, task: Some(task) })
    }
}

impl RunningServer {
    /// Waits until the server has ended. A second call returns at once.
    pub async fn wait(&mut self) -> Result<(), ServerError> {
        let Some(task) = &mut self.task else {
            return Ok(());
        };
        let ended = task.await;
        self.task = None;
        ended.unwrap_or_else(|error| Err(ServerError::Internal(error.to_string())))
    }

    /// Ends the server: no new connections, running calls get their time, then the data directory is closed.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Err(error) = self.wait().await {
            tracing::error!(%error, "the server did not end well");
        }
    }
}

/// What a server holds while it runs.
struct Serving {
    app: Arc<App>,
    health: HealthReporter,
    stop: CancellationToken,
    grace: Duration,
}

impl Serving {
    async fn run(self, mut network: Network, listener: TcpListener) -> Result<(), ServerError> {
        self.app.warm_up();
        tokio::select! {
            () = network.accept(listener) => {}
            () = self.stop.cancelled() => {}
        }
        tracing::info!("shutting down");
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.app.begin_stop();
        // Calls that take longer than the grace are dropped with their connections.
        let ended = tokio::time::timeout(self.grace, network.ended()).await.unwrap_or(Ok(()));
        drop(network);
        self.app.close().await?;
        tracing::info!("stopped");
        Ok(ended?)
    }
}
