//! `CollectionService`.

use ragstone_proto::v1;
use tonic::Code;

use crate::harness::{TestServer, payload, refused, text_point, word};

fn named(name: &str) -> v1::CreateCollectionRequest {
    v1::CreateCollectionRequest { name: name.into(), ..Default::default() }
}

async fn get(server: &TestServer, name: &str) -> v1::CollectionInfo {
    let request = v1::GetCollectionRequest { name: name.into() };
    server.collections().get_collection(request).await.unwrap().into_inner().collection.unwrap()
}

#[tokio::test]
async fn the_default_schema_embeds_text() {
    let server = TestServer::start().await;
    let created = server.collections().create_collection(named("notes")).await.unwrap().into_inner();
    assert!(created.created);
    let schema = created.collection.unwrap().schema.unwrap();
    let [space] = schema.vectors.as_slice() else { panic!("{schema:?}") };
    assert_eq!((space.name.as_str(), space.dimension, space.embedder.as_str()), ("text", 384, "minilm"));
    assert_eq!(space.distance(), v1::Distance::Cosine);
    assert!(!space.embedder_fingerprint.is_empty());
    assert_eq!(schema.dynamic_payload, Some(true));
}

#[tokio::test]
async fn a_collection_lives_until_it_is_deleted() {
    let mut server = TestServer::start().await;
    server.create("b").await;
    server.create_plain("a", 4).await;
    server.restart().await;
    let list =
        server.collections().list_collections(v1::ListCollectionsRequest {}).await.unwrap().into_inner();
    assert_eq!(list.collections.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let delete = |if_exists| v1::DeleteCollectionRequest { name: "a".into(), if_exists };
    assert!(server.collections().delete_collection(delete(false)).await.unwrap().into_inner().deleted);
    assert!(!server.collections().delete_collection(delete(true)).await.unwrap().into_inner().deleted);
    refused(server.collections().delete_collection(delete(false)).await, Code::NotFound, "");
    server.restart().await;
    let request = v1::GetCollectionRequest { name: "a".into() };
    let status = refused(server.collections().get_collection(request).await, Code::NotFound, "");
    assert!(status.message().contains("ragstone collection create a"), "{status:?}");
}

#[tokio::test]
async fn creating_it_twice() {
    let server = TestServer::start().await;
    server.create("notes").await;
    refused(server.collections().create_collection(named("notes")).await, Code::AlreadyExists, "");
    let again = v1::CreateCollectionRequest { if_not_exists: true, ..named("notes") };
    assert!(!server.collections().create_collection(again).await.unwrap().into_inner().created);
    let space = v1::VectorSpace { name: "v".into(), dimension: 3, ..Default::default() };
    let other = v1::CollectionSchema { vectors: vec![space], ..Default::default() };
    let differing =
        v1::CreateCollectionRequest { if_not_exists: true, schema: Some(other), ..named("notes") };
    refused(server.collections().create_collection(differing).await, Code::FailedPrecondition, "");
}

#[tokio::test]
async fn schemas_that_make_no_sense() {
    let server = TestServer::start().await;
    let space = |name: &str, dimension, embedder: &str| v1::VectorSpace {
        name: name.into(),
        dimension,
        embedder: embedder.into(),
        ..Default::default()
    };
    let check = async |name: &str, schema: v1::CollectionSchema, code, field: &str| {
        let request = v1::CreateCollectionRequest { schema: Some(schema), ..named(name) };
        refused(server.collections().create_collection(request).await, code, field);
    };
    let vectors = |vectors| v1::CollectionSchema { vectors, ..Default::default() };
    check("_x", vectors(vec![]), Code::InvalidArgument, "name").await;
    check("", vectors(vec![]), Code::InvalidArgument, "name").await;
    check("../x", vectors(vec![]), Code::InvalidArgument, "name").await;
    check("c", vectors(vec![space("v", 0, "")]), Code::InvalidArgument, "schema.vectors[0].dimension").await;
    check("c", vectors(vec![space("v", 70_000, "")]), Code::InvalidArgument, "schema.vectors[0].dimension")
        .await;
    check("c", vectors(vec![space("v", 3, "minilm")]), Code::InvalidArgument, "schema.vectors[0].dimension")
        .await;
    check(
        "c",
        vectors(vec![space("v", 3, ""), space("v", 3, "")]),
        Code::InvalidArgument,
        "schema.vectors[1].name",
    )
    .await;
    check("c", vectors(vec![space("v", 0, "nosuch")]), Code::NotFound, "schema.vectors[0].embedder").await;
    let untyped = v1::PayloadField { name: "a".into(), r#type: 0 };
    let schema = v1::CollectionSchema { payload: vec![untyped], ..Default::default() };
    check("c", schema, Code::InvalidArgument, "schema.payload[0].type").await;
    let many = (0..17).map(|i| space(&format!("v{i}"), 3, "")).collect();
    check("c", vectors(many), Code::ResourceExhausted, "").await;
    assert!(server.is_up().await);
}

#[tokio::test]
async fn index_options_are_shown_and_change() {
    let server = TestServer::start().await;
    let space = v1::VectorSpace {
        name: "v".into(),
        dimension: 3,
        hnsw: Some(v1::HnswOptions { m: Some(24), ef_construct: None }),
        storage: v1::VectorStorage::Mapped.into(),
        ..Default::default()
    };
    let schema = v1::CollectionSchema { vectors: vec![space], ..Default::default() };
    let create = v1::CreateCollectionRequest { name: "c".into(), schema: Some(schema), if_not_exists: true };
    server.collections().create_collection(create.clone()).await.unwrap();
    let shown = |info: v1::CollectionInfo| info.schema.unwrap().vectors.remove(0);
    let space = shown(get(&server, "c").await);
    assert_eq!(space.hnsw, Some(v1::HnswOptions { m: Some(24), ef_construct: Some(128) }));
    assert_eq!((space.quantization(), space.storage()), (v1::Quantization::Auto, v1::VectorStorage::Mapped));
    assert_eq!(space.recall_target, Some(0.99));

    let change = v1::VectorSpaceUpdate {
        name: "v".into(),
        quantization: v1::Quantization::Int8.into(),
        recall_target: Some(0.9),
        ..Default::default()
    };
    let update = |change: v1::VectorSpaceUpdate| v1::UpdateCollectionRequest {
        name: "c".into(),
        update_vectors: vec![change],
        ..Default::default()
    };
    let reply = server.collections().update_collection(update(change.clone())).await.unwrap();
    let changed = shown(reply.into_inner().collection.unwrap());
    assert_eq!((changed.quantization(), changed.recall_target), (v1::Quantization::Int8, Some(0.9)));
    assert_eq!((&changed.hnsw, changed.storage()), (&space.hnsw, v1::VectorStorage::Mapped));
    // What it was made with and has not been changed still agrees.
    server.collections().create_collection(create.clone()).await.unwrap();

    let wrong = v1::VectorSpaceUpdate { recall_target: Some(1.0), ..change.clone() };
    let reply = server.collections().update_collection(update(wrong)).await;
    refused(reply, Code::InvalidArgument, "update_vectors[0].recall_target");
    let wrong = v1::VectorSpaceUpdate { name: "w".into(), ..change };
    let reply = server.collections().update_collection(update(wrong)).await;
    refused(reply, Code::InvalidArgument, "update_vectors[0].name");
    let mut other = create;
    other.schema.as_mut().unwrap().vectors[0].hnsw =
        Some(v1::HnswOptions { m: Some(25), ef_construct: None });
    refused(server.collections().create_collection(other).await, Code::FailedPrecondition, "");
}

#[tokio::test]
async fn payload_fields_join() {
    let server = TestServer::start().await;
    server.create_plain("c", 4).await;
    let field = v1::PayloadField { name: "year".into(), r#type: v1::FieldType::Integer.into() };
    let update = v1::UpdateCollectionRequest {
        name: "c".into(),
        add_payload: vec![field.clone()],
        description: Some("papers".into()),
        ..Default::default()
    };
    server.collections().update_collection(update).await.unwrap();
    let point = v1::Point { payload: payload([("lang", word("en"))]), ..text_point("a", "x") };
    server.upsert("c", vec![point]).await;
    let schema = get(&server, "c").await.schema.unwrap();
    let language = v1::PayloadField { name: "lang".into(), r#type: v1::FieldType::Keyword.into() };
    assert_eq!((schema.payload, schema.description.as_str()), (vec![field, language], "papers"));
    let retyped = v1::PayloadField { name: "year".into(), r#type: v1::FieldType::Text.into() };
    let update =
        v1::UpdateCollectionRequest { name: "c".into(), add_payload: vec![retyped], ..Default::default() };
    refused(server.collections().update_collection(update).await, Code::InvalidArgument, "add_payload");
}
