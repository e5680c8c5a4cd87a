//! `CollectionService`.

use std::sync::Arc;

use ragstone_index::collection::SchemaUpdate;
use ragstone_proto::v1;
use ragstone_proto::v1::collection_service_server::CollectionService;
use tonic::{Request, Response, Status};

use super::convert::schema;
use super::reply;
use crate::app::App;

pub(super) struct Collections(pub(super) Arc<App>);

#[tonic::async_trait]
impl CollectionService for Collections {
    async fn create_collection(
        &self,
        request: Request<v1::CreateCollectionRequest>,
    ) -> Result<Response<v1::CreateCollectionResponse>, Status> {
        let v1::CreateCollectionRequest { name, schema, if_not_exists } = request.into_inner();
        let create = async {
            let draft = schema.map(schema::draft).transpose()?;
            let (view, created) = self.0.create_collection(name, draft, if_not_exists).await?;
            Ok(v1::CreateCollectionResponse { collection: Some(schema::info(view)), created })
        };
        reply(create.await)
    }

    async fn get_collection(
        &self,
        request: Request<v1::GetCollectionRequest>,
    ) -> Result<Response<v1::GetCollectionResponse>, Status> {
        let view = self.0.get_collection(&request.get_ref().name).await;
        reply(view.map(|view| v1::GetCollectionResponse { collection: Some(schema::info(view)) }))
    }

    async fn list_collections(
        &self,
        _: Request<v1::ListCollectionsRequest>,
    ) -> Result<Response<v1::ListCollectionsResponse>, Status> {
        let views = self.0.list_collections().await;
        let collections = views.map(|views| views.into_iter().map(schema::info).collect());
        reply(collections.map(|collections| v1::ListCollectionsResponse { collections }))
    }

    async fn update_collection(
        &self,
        request: Request<v1::UpdateCollectionRequest>,
    ) -> Result<Response<v1::UpdateCollectionResponse>, Status> {
        let v1::UpdateCollectionRequest { name, add_payload, description, dynamic_payload, update_vectors } =
            request.into_inner();
        let update = async {
            let add_payload = schema::payload_fields(add_payload, "add_payload")?;
            let index = schema::index_changes(update_vectors)?;
            let update = SchemaUpdate { add_payload, description, dynamic_payload, index };
            let view = self.0.update_collection(&name, update).await?;
            Ok(v1::UpdateCollectionResponse { collection: Some(schema::info(view)) })
        };
        reply(update.await)
    }

    async fn delete_collection(
        &self,
        request: Request<v1::DeleteCollectionRequest>,
    ) -> Result<Response<v1::DeleteCollectionResponse>, Status> {
        let v1::DeleteCollectionRequest { name, if_exists } = request.into_inner();
        let deleted = self.0.delete_collection(name, if_exists).await;
        reply(deleted.map(|deleted| v1::DeleteCollectionResponse { deleted }))
    }
}
