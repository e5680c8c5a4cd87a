//! A server's collection as clients see it, and imports into it.

use ragstone_proto::v1 as api;
use tonic::Status;
use tonic::transport::Channel;

use crate::rows::DIMENSION;
use crate::server::Server;

const COLLECTION: &str = "imported";

/// The collection of a server.
pub(crate) struct View {
    channel: Channel,
}

impl View {
    pub(crate) fn new(server: &Server) -> Self {
        Self { channel: server.channel.clone() }
    }

    /// Makes the collection, with vectors that are stored as they come.
    pub(crate) async fn create(&self) {
        let (name, distance) = ("v".to_owned(), api::Distance::Euclidean.into());
        let space = api::VectorSpace { name, dimension: DIMENSION, distance, ..Default::default() };
        let schema = api::CollectionSchema { vectors: vec![space], ..Default::default() };
        let request = api::CreateCollectionRequest {
            name: COLLECTION.into(),
            schema: Some(schema),
            ..Default::default()
        };
        let mut client = api::collection_service_client::CollectionServiceClient::new(self.channel.clone());
        client.create_collection(request).await.unwrap();
    }

    /// Begins an import of the columns `id`, `n` and `v`.
    pub(crate) async fn begin(
        &self,
        paths: &[String],
    ) -> Result<tonic::Streaming<api::ImportProgress>, Status> {
        let columns = api::ColumnMapping { payload: vec!["n".into()], ..Default::default() };
        let mut request = tonic::Request::new(api::ImportRequest {
            collection: COLLECTION.into(),
            paths: paths.to_vec(),
            columns: Some(columns),
            ..Default::default()
        });
        request.set_timeout(std::time::Duration::from_secs(120));
        let mut client = api::ingest_service_client::IngestServiceClient::new(self.channel.clone());
        Ok(client.import(request).await?.into_inner())
    }

    /// An import to its end: its last message, with the errors of all.
    pub(crate) async fn import(&self, paths: &[String]) -> Result<api::ImportProgress, Status> {
        let mut stream = self.begin(paths).await?;
        let (mut last, mut errors) = (api::ImportProgress::default(), Vec::new());
        while let Some(progress) = stream.message().await? {
            errors.extend(progress.errors.iter().cloned());
            last = progress;
        }
        assert!(last.done, "the import ended without its last message");
        Ok(api::ImportProgress { errors, ..last })
    }

    /// Points in the collection.
    pub(crate) async fn count(&self) -> u64 {
        let request = api::CountPointsRequest { collection: COLLECTION.into(), filter: None };
        let mut client = api::point_service_client::PointServiceClient::new(self.channel.clone());
        client.count_points(request).await.unwrap().into_inner().count
    }

    /// All points, with payload and vectors.
    pub(crate) async fn points(&self) -> Vec<api::Point> {
        let mut client = api::point_service_client::PointServiceClient::new(self.channel.clone());
        let (mut all, mut page) = (Vec::new(), String::new());
        loop {
            let request = api::ScrollPointsRequest {
                collection: COLLECTION.into(),
                limit: Some(5_000),
                page,
                with_vectors: Some(api::VectorSelector { enable: true, ..Default::default() }),
                ..Default::default()
            };
            let reply = client.scroll_points(request).await.unwrap().into_inner();
            all.extend(reply.points);
            page = reply.next_page;
            if page.is_empty() {
                return all;
            }
        }
    }

    /// Rows that a newer one with the same id replaced and that are not yet reclaimed.
    pub(crate) async fn replaced(&self) -> u64 {
        let mut client = api::admin_service_client::AdminServiceClient::new(self.channel.clone());
        let stats = client.get_stats(api::GetStatsRequest::default()).await.unwrap().into_inner();
        stats.collections.iter().map(|collection| collection.deleted_rows).sum()
    }
}
