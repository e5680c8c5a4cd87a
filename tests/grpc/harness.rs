//! A server in a folder of its own, its clients, and what tests say often.

use std::time::{Duration, Instant};

use ragstone::config::Config;
use ragstone::server::{RunningServer, Server};
use ragstone_proto::v1;
use ragstone_proto::v1::admin_service_client::AdminServiceClient;
use ragstone_proto::v1::collection_service_client::CollectionServiceClient;
use ragstone_proto::v1::ingest_service_client::IngestServiceClient;
use ragstone_proto::v1::point_service_client::PointServiceClient;
use ragstone_proto::v1::search_service_client::SearchServiceClient;
use ragstone_proto::v1::value::Kind;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

/// A running server and the folder of its data.
pub struct TestServer {
    server: Option<RunningServer>,
    pub dir: TempDir,
    pub channel: Channel,
    change: fn(&mut Config),
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// A server whose configuration differs from the default.
    pub async fn with(change: fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, channel) = start(&dir, change).await;
        Self { server: Some(server), dir, channel, change }
    }

    /// Ends the server and starts it again on the same data.
    pub async fn restart(&mut self) {
        self.stop().await;
        let (server, channel) = start(&self.dir, self.change).await;
        self.server = Some(server);
        self.channel = channel;
    }

    /// Where it listens, for the command line.
    pub fn address(&self) -> String {
        self.server.as_ref().unwrap().addr.to_string()
    }

    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
    }

    pub fn collections(&self) -> CollectionServiceClient<Channel> {
        CollectionServiceClient::new(self.channel.clone())
    }

    pub fn points(&self) -> PointServiceClient<Channel> {
        PointServiceClient::new(self.channel.clone())
    }

    pub fn searches(&self) -> SearchServiceClient<Channel> {
        SearchServiceClient::new(self.channel.clone())
    }

    pub fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel.clone())
    }

    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// A collection with the default schema.
    pub async fn create(&self, name: &str) {
        let request = v1::CreateCollectionRequest { name: name.into(), ..Default::default() };
        self.collections().create_collection(request).await.unwrap();
    }

    /// A collection with one space "v" of so many dimensions that clients fill.
    pub async fn create_plain(&self, name: &str, dimension: u32) {
        let space = v1::VectorSpace { name: "v".into(), dimension, ..Default::default() };
        let schema = v1::CollectionSchema { vectors: vec![space], ..Default::default() };
        let request =
            v1::CreateCollectionRequest { name: name.into(), schema: Some(schema), ..Default::default() };
        self.collections().create_collection(request).await.unwrap();
    }

    pub async fn upsert(&self, collection: &str, points: Vec<v1::Point>) -> v1::UpsertPointsResponse {
        let request = v1::UpsertPointsRequest { collection: collection.into(), points, atomic: true };
        self.points().upsert_points(request).await.unwrap().into_inner()
    }

    pub async fn search(&self, request: v1::SearchRequest) -> v1::SearchResponse {
        self.searches().search(request).await.unwrap().into_inner()
    }

    pub async fn count(&self, collection: &str) -> u64 {
        let request = v1::CountPointsRequest { collection: collection.into(), filter: None };
        self.points().count_points(request).await.unwrap().into_inner().count
    }

    /// The server answers.
    pub async fn is_up(&self) -> bool {
        self.collections().list_collections(v1::ListCollectionsRequest {}).await.is_ok()
    }
}

async fn start(dir: &TempDir, change: fn(&mut Config)) -> (RunningServer, Channel) {
    let mut config = Config { data_dir: dir.path().join("data"), ..Config::default() };
    config.server.listen = "127.0.0.1:0".into();
    change(&mut config);
    let server = Server::start(config).await.unwrap();
    let address = format!("http://{}", server.addr);
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    (server, channel)
}

/// A point with a vector in space "v".
pub fn point(id: &str, vector: &[f32]) -> v1::Point {
    let vectors = [("v".to_owned(), numbers(vector))].into();
    v1::Point { id: id.into(), vectors, ..Default::default() }
}

/// A point with a text.
pub fn text_point(id: &str, text: &str) -> v1::Point {
    v1::Point { id: id.into(), text: text.into(), ..Default::default() }
}

pub fn numbers(values: &[f32]) -> v1::Vector {
    v1::Vector { values: values.to_vec(), ..Default::default() }
}

pub fn value(kind: Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

pub fn word(text: &str) -> v1::Value {
    value(Kind::StringValue(text.into()))
}

pub fn payload<const N: usize>(fields: [(&str, v1::Value); N]) -> Option<v1::Payload> {
    Some(v1::Payload { fields: fields.map(|(name, value)| (name.to_owned(), value)).into() })
}

pub fn must(conditions: Vec<v1::Condition>) -> Option<v1::Filter> {
    Some(v1::Filter { must: conditions, ..Default::default() })
}

pub fn field(name: &str, test: v1::field_condition::Test) -> v1::Condition {
    let field = v1::FieldCondition { field: name.into(), test: Some(test) };
    v1::Condition { kind: Some(v1::condition::Kind::Field(field)) }
}

pub fn ids(response: &v1::SearchResponse) -> Vec<&str> {
    response.hits.iter().map(|hit| hit.id.as_str()).collect()
}

/// The call was refused with a code, and the details name a field (empty: none is asked for).
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<Response<T>, Status>, code: Code, field: &str) -> Status {
    let status = result.expect_err("the call should be refused");
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(
        status.get_error_details().error_info().map(|info| info.domain.as_str()),
        Some("ragstone"),
        "{status:?}"
    );
    if !field.is_empty() {
        let details = status.get_error_details();
        let named: Vec<String> = details
            .bad_request()
            .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect())
            .unwrap_or_default();
        assert!(named.iter().any(|name| name == field), "{field} is not in {named:?}: {status:?}");
    }
    status
}

/// Asks until the answer is yes; fails after a generous time.
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut check: F) {
    let end = Instant::now() + Duration::from_secs(120);
    while !check().await {
        assert!(Instant::now() < end, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
