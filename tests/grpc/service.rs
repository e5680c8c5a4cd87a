//! What every gRPC service has: health, reflection, statistics, an orderly end.

use ragstone_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::harness::{TestServer, point, refused};

#[tokio::test]
async fn health_and_reflection_answer() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    let reply = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(reply.status(), ServingStatus::Serving);
    let mut reflection = ServerReflectionClient::new(server.channel.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies =
        reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let reply = replies.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = reply else { panic!("{reply:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["Collection", "Point", "Search", "Ingest", "Admin"] {
        let name = format!("ragstone.v1.{name}Service");
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()));
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    server.upsert("c", (0..200).map(|i| point(&format!("p{i}"), &[1.0, i as f32])).collect()).await;
    let info = server.admin().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.api, "ragstone.v1");
    assert!(info.embedders.iter().any(|e| e.name == "minilm" && e.dimension == 384), "{info:?}");
    let flush = v1::FlushRequest { collection: "c".into() };
    assert_eq!(server.admin().flush(flush).await.unwrap().into_inner().segments, 1);
    let stats = v1::GetStatsRequest { collection: "c".into() };
    let stats = server.admin().get_stats(stats).await.unwrap().into_inner();
    assert_eq!((stats.collections[0].points, stats.collections[0].memtable_points), (200, 0));
    let [segment] = stats.collections[0].segments.as_slice() else { panic!("{stats:?}") };
    let [index] = segment.vector_indexes.as_slice() else { panic!("{segment:?}") };
    assert_eq!((index.vectors, index.vector_bytes, &index.graph), (200, 200 * 2 * 4, &None));
    let [recall] = stats.collections[0].recall.as_slice() else { panic!("{stats:?}") };
    assert_eq!((recall.vector_space.as_str(), recall.recall_target, recall.recall), ("v", 0.99, None));
    assert_eq!((stats.collections[0].tombstone_share, stats.collections[0].space_amplification), (0.0, 1.0));
    let compact = v1::CompactRequest { collection: "c".into() };
    assert_eq!(server.admin().compact(compact).await.unwrap().into_inner().segments_after, 1);
    let missing = v1::FlushRequest { collection: "nosuch".into() };
    refused(server.admin().flush(missing).await, Code::NotFound, "");
}

#[tokio::test]
async fn a_call_carries_its_id() {
    let server = TestServer::start().await;
    let mut request = Request::new(v1::ListCollectionsRequest {});
    request.metadata_mut().insert("x-request-id", "abc-17".parse().unwrap());
    let response = server.collections().list_collections(request).await.unwrap();
    assert_eq!(response.metadata().get("x-request-id").unwrap(), "abc-17");
    let response = server.collections().list_collections(v1::ListCollectionsRequest {}).await.unwrap();
    assert!(!response.metadata().get("x-request-id").unwrap().is_empty());
}

#[tokio::test]
async fn an_open_stream_does_not_keep_the_server_from_ending() {
    let mut server = TestServer::start().await;
    server.create("c").await;
    let (requests, receiver) = tokio::sync::mpsc::channel(4);
    let mut replies =
        server.ingest().ingest_documents(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let first = v1::IngestDocumentRequest {
        collection: "c".into(),
        document_id: "a".into(),
        content: Some(v1::ingest_document_request::Content::Text("words".into())),
        ..Default::default()
    };
    requests.send(first).await.unwrap();
    assert_eq!(replies.message().await.unwrap().unwrap().outcome(), v1::DocumentOutcome::Indexed);
    server.stop().await;
    let end = replies.message().await;
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test]
async fn a_data_directory_has_one_server() {
    let server = TestServer::start().await;
    let mut config = ragstone::config::Config {
        data_dir: server.dir.path().join("data"),
        ..ragstone::config::Config::default()
    };
    config.server.listen = "127.0.0.1:0".into();
    let error = ragstone::server::Server::start(config).await.unwrap_err();
    assert!(error.to_string().contains("data"), "{error}");
    assert!(server.is_up().await);
}
