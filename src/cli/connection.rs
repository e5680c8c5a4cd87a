//! How a command reaches a server: one that runs already, or one that it starts in its own process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ragstone_proto::v1::admin_service_client::AdminServiceClient;
use ragstone_proto::v1::collection_service_client::CollectionServiceClient;
use ragstone_proto::v1::ingest_service_client::IngestServiceClient;
use ragstone_proto::v1::point_service_client::PointServiceClient;
use ragstone_proto::v1::search_service_client::SearchServiceClient;
use ragstone_proto::v1::{CollectionInfo, CreateCollectionRequest, GetCollectionRequest};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::extract_worker;
use super::failure::{Failure, Outcome, describe};
use crate::app::error::Error as AppError;
use crate::config::{Config, Overrides};
use crate::server::{RunningServer, Server, ServerError};
use crate::telemetry;

/// Where a server listens when nothing else is said.
const DEFAULT_SERVER: &str = "http://127.0.0.1:7700";
/// Environment variable that names another.
const SERVER_VARIABLE: &str = "RAGSTONE_SERVER";
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest reply that a command reads: a page of points with vectors can be large.
const MAX_REPLY_BYTES: usize = 512 << 20;

/// Options that say which server to talk to.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct Target {
    /// Address of a running server [default: $RAGSTONE_SERVER, else http://127.0.0.1:7700]
    #[arg(long, value_name = "ADDR", conflicts_with = "data_dir")]
    server: Option<String>,
    /// Run without a server, directly on this data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Target {
    /// A server in this process on a data directory.
    pub(super) fn embedded(data_dir: &Path) -> Self {
        Self { server: None, data_dir: Some(data_dir.to_owned()) }
    }

    /// Whether the options name a server or a directory.
    pub(super) fn is_given(&self) -> bool {
        self.server.is_some() || self.data_dir.is_some()
    }
}

/// An open connection, with the server behind it when that is ours.
pub(super) struct Connection {
    channel: Channel,
    address: String,
    embedded: Option<RunningServer>,
}

impl Connection {
    /// Connects as the options say.
    pub(super) async fn open(target: &Target) -> Outcome<Self> {
        match &target.data_dir {
            Some(data_dir) => Self::start(data_dir, None).await,
            None => {
                let address = target
                    .server
                    .clone()
                    .or_else(|| std::env::var(SERVER_VARIABLE).ok().filter(|v| !v.is_empty()));
                Self::to(&address.unwrap_or_else(|| DEFAULT_SERVER.to_owned())).await
            }
        }
    }

    /// Starts a server in this process and connects to it. `listen`: where, absent: a free port of this machine.
    pub(super) async fn start(data_dir: &Path, listen: Option<String>) -> Outcome<Self> {
        let overrides = Overrides {
            data_dir: Some(data_dir.to_owned()),
            listen: Some(listen.unwrap_or_else(|| "127.0.0.1:0".to_owned())),
            // A command tells what it does itself; of the server only what is wrong.
            log_level: Some("warn".to_owned()),
            ..Overrides::default()
        };
        let mut config = Config::load(None, overrides)?;
        telemetry::init(&config.log).map_err(Failure::failed)?;
        extract_worker::isolate(&mut config);
        let server = Server::start(config).await.map_err(|error| {
            let hint = match error {
                ServerError::App(AppError::Engine(ragstone_index::Error::FailedPrecondition(_))) => {
                    "\n  if that is a server, leave out --data-dir to talk to it"
                }
                _ => "",
            };
            Failure::failed(format!("{}{hint}", describe(&error.into())))
        })?;
        let address = format!("http://{}", server.addr);
        let mut connection = Self::to(&address).await?;
        connection.embedded = Some(server);
        Ok(connection)
    }

    async fn to(address: &str) -> Outcome<Self> {
        let address = normalised(address)?;
        let endpoint = Endpoint::from_shared(address.clone())
            .map_err(|error| {
                Failure::usage(format!("--server {address}: {error}; expected http://HOST:PORT"))
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_adaptive_window(true);
        let channel = endpoint.connect().await.map_err(|_| {
            Failure::failed(format!(
                "no server answers at {address}\n  start one:             ragstone serve\n  name another:          \
                 --server ADDR, or {SERVER_VARIABLE}\n  run without a server:  --data-dir DIR"
            ))
        })?;
        Ok(Self { channel, address, embedded: None })
    }

    /// Address of the server, `http://HOST:PORT`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether the server lives and ends with this process.
    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Ends an embedded server: what it acknowledged is durable anyway, this ends its background work.
    pub(super) async fn close(self) -> Outcome {
        let Self { channel, embedded, .. } = self;
        // The server's patience with open connections isn't tried.
        drop(channel);
        if let Some(server) = embedded {
            server.shutdown().await;
        }
        Ok(())
    }

    pub(super) fn collections(&self) -> CollectionServiceClient<Channel> {
        CollectionServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY_BYTES)
    }

    pub(super) fn points(&self) -> PointServiceClient<Channel> {
        PointServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY_BYTES)
    }

    pub(super) fn search(&self) -> SearchServiceClient<Channel> {
        SearchServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY_BYTES)
    }

    pub(super) fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY_BYTES)
    }

    pub(super) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY_BYTES)
    }

    /// Finds a collection, or creates it with the default schema when `create` says so.
    pub(super) async fn require_collection(&self, name: &str, create: bool) -> Outcome<CollectionInfo> {
        let found = self.collections().get_collection(GetCollectionRequest { name: name.to_owned() }).await;
        match found {
            Ok(reply) => Ok(reply.into_inner().collection.unwrap_or_default()),
            Err(status) if status.code() == Code::NotFound && create => {
                let request =
                    CreateCollectionRequest { name: name.to_owned(), schema: None, if_not_exists: true };
                let created = self.collections().create_collection(request).await?.into_inner();
                eprintln!("created collection {name}");
                Ok(created.collection.unwrap_or_default())
            }
            Err(status) if status.code() == Code::NotFound => Err(Failure::failed(format!(
                "there is no collection \"{name}\"; add --create, or create it with your own schema: ragstone collection \
                 create {name}"
            ))),
            Err(status) => Err(status.into()),
        }
    }
}

/// `127.0.0.1:7700` means `http://127.0.0.1:7700`.
fn normalised(address: &str) -> Outcome<String> {
    let address = address.trim().trim_end_matches('/');
    if address.starts_with("https://") {
        return Err(Failure::usage(format!("--server {address}: this version speaks plain http:// only")));
    }
    if address.starts_with("http://") {
        return Ok(address.to_owned());
    }
    match address.split_once("://") {
        Some((scheme, _)) => Err(Failure::usage(format!(
            "--server {address}: unknown scheme {scheme}://; expected http://HOST:PORT"
        ))),
        None => Ok(format!("http://{address}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(normalised("localhost:1").unwrap(), "http://localhost:1");
        assert_eq!(normalised("http://localhost:1/").unwrap(), "http://localhost:1");
        assert!(matches!(normalised("https://localhost"), Err(Failure::Usage(_))));
        assert!(matches!(normalised("ftp://localhost"), Err(Failure::Usage(_))));
    }

    #[tokio::test]
    async fn where_nothing_listens_the_message_names_every_way_out() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let Err(Failure::Failed(error)) = Connection::to(&format!("127.0.0.1:{port}")).await else {
            panic!("connected")
        };
        let message = error.to_string();
        for part in
            [&format!("127.0.0.1:{port}"), "ragstone serve", "--server", "RAGSTONE_SERVER", "--data-dir"]
        {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}
