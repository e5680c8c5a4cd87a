//! What a client should not send, each case with the code and the field of its refusal; the server stays up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, FixedSizeListArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use ragstone_ingest::extract::Isolation;
use ragstone_proto::v1;
use ragstone_proto::v1::field_condition::Test;
use ragstone_proto::v1::ingest_document_request::Content;
use ragstone_proto::v1::value::Kind;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::harness::{TestServer, field, must, numbers, payload, point, refused, value, word};

const UPSERT: &str = "/ragstone.v1.PointService/UpsertPoints";
const SEARCH: &str = "/ragstone.v1.SearchService/Search";

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let first =
        v1::Point { payload: payload([("year", value(Kind::IntegerValue(1)))]), ..point("a", &[1.0, 0.0]) };
    server.upsert("c", vec![first]).await;
    server
}

async fn upsert(
    server: &TestServer,
    points: Vec<v1::Point>,
) -> Result<Response<v1::UpsertPointsResponse>, Status> {
    let request = v1::UpsertPointsRequest { collection: "c".into(), points, atomic: true };
    server.points().upsert_points(request).await
}

/// Calls a method with a message of another type, as a client with other ideas of the schema would.
async fn call_with<M>(
    server: &TestServer,
    path: &'static str,
    message: M,
) -> Result<Response<v1::SearchResponse>, Status>
where
    M: prost::Message + Default + 'static,
{
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<M, v1::SearchResponse>::default();
    client.unary(Request::new(message), http::uri::PathAndQuery::from_static(path), codec).await
}

/// Sends a body as it is, frame header and all.
async fn send_raw(server: &TestServer, path: &str, body: &'static str) -> Status {
    let mut channel = server.channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body.to_owned()))
        .unwrap();
    let response = channel.call(request).await.unwrap();
    Status::from_header_map(response.headers()).expect("a status")
}

#[tokio::test]
async fn vectors_that_are_none() {
    let server = server().await;
    let at = "points[0].vectors[\"v\"]";
    for bad in
        [&[1.0][..], &[1.0; 3], &[f32::NAN, 0.0], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY, 0.0], &[]]
    {
        refused(upsert(&server, vec![point("b", bad)]).await, Code::InvalidArgument, at);
    }
    let odd = v1::Vector { f32: Bytes::from_static(&[0; 7]), values: Vec::new() };
    let odd = v1::Point { vectors: [("v".to_owned(), odd)].into(), ..Default::default() };
    refused(upsert(&server, vec![v1::Point { id: "b".into(), ..odd }]).await, Code::InvalidArgument, at);
    let both = v1::Vector { f32: Bytes::from_static(&[0; 8]), ..numbers(&[1.0, 2.0]) };
    let both = v1::Point { id: "b".into(), vectors: [("v".to_owned(), both)].into(), ..Default::default() };
    refused(upsert(&server, vec![both]).await, Code::InvalidArgument, at);
    let elsewhere =
        v1::Point { vectors: [("w".to_owned(), numbers(&[1.0, 2.0]))].into(), ..point("b", &[1.0, 0.0]) };
    refused(upsert(&server, vec![elsewhere]).await, Code::InvalidArgument, "points[0].vectors[\"w\"]");
    // A direction that is none has no cosine.
    refused(upsert(&server, vec![point("b", &[0.0, 0.0])]).await, Code::InvalidArgument, at);
    assert_eq!(server.count("c").await, 1);
}

#[tokio::test]
async fn batches_that_are_none() {
    let server = server().await;
    refused(upsert(&server, Vec::new()).await, Code::InvalidArgument, "points");
    refused(upsert(&server, vec![v1::Point::default()]).await, Code::InvalidArgument, "points[0].id");
    let long = v1::Point { id: "x".repeat(1_025), ..Default::default() };
    refused(upsert(&server, vec![long]).await, Code::InvalidArgument, "points[0].id");
    let text = v1::Point { text: "x".repeat((1 << 20) + 1), ..point("b", &[1.0, 0.0]) };
    refused(upsert(&server, vec![text]).await, Code::InvalidArgument, "points[0].text");
    let many = vec![v1::Point { id: "b".into(), ..Default::default() }; 65_537];
    refused(upsert(&server, many).await, Code::InvalidArgument, "points");
    assert!(server.is_up().await);
}

#[tokio::test]
async fn payloads_that_are_none() {
    let server = server().await;
    let with = |name: &str, value: v1::Value| v1::Point {
        payload: payload([(name, value)]),
        ..point("b", &[1.0, 0.0])
    };
    let nan = with("x", value(Kind::FloatValue(f64::NAN)));
    refused(upsert(&server, vec![nan]).await, Code::InvalidArgument, "points[0].payload.x");
    refused(
        upsert(&server, vec![with("year", word("x"))]).await,
        Code::InvalidArgument,
        "points[0].payload.year",
    );
    let mut deep = word("bottom");
    for _ in 0..40 {
        deep = value(Kind::ListValue(v1::ListValue { values: vec![deep] }));
    }
    let status = refused(upsert(&server, vec![with("x", deep)]).await, Code::InvalidArgument, "");
    assert!(status.message().contains("payload.x"), "{status:?}");
    let large = with("x", word(&"y".repeat(1 << 20)));
    refused(upsert(&server, vec![large]).await, Code::InvalidArgument, "points[0].payload");
    assert!(server.is_up().await);
}

#[tokio::test]
async fn a_message_of_a_gigabyte() {
    let server = server().await;
    // Five bytes of frame header that announce 1 GiB; no server should wait for it, or make room for it.
    let status = send_raw(&server, UPSERT, "\0@\0\0\0").await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    // And one that is really sent, over the limit of 64 MiB.
    let large = v1::Point { text: "x".repeat(65 << 20), ..point("b", &[1.0, 0.0]) };
    let error = upsert(&server, vec![large]).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    assert!(server.is_up().await);
}

#[tokio::test]
async fn bytes_that_are_no_message() {
    let server = server().await;
    for body in ["", "\0", "\0\0\0\0\u{5}ab", "\0\0\0\0\u{2}ab"] {
        let status = send_raw(&server, UPSERT, body).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{body:?}: {status:?}");
    }
    let status = send_raw(&server, "/ragstone.v1.PointService/NoSuchMethod", "").await;
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    assert!(server.is_up().await);
}

/// `SearchRequest` with bytes where its text is.
#[derive(Clone, PartialEq, prost::Message)]
struct SearchWithBytes {
    #[prost(string, tag = "1")]
    collection: String,
    #[prost(bytes = "vec", tag = "3")]
    text: Vec<u8>,
}

#[tokio::test]
async fn invalid_utf_8() {
    let server = server().await;
    let request = SearchWithBytes { collection: "c".into(), text: vec![0xff, 0xfe, b'x'] };
    refused(call_with(&server, SEARCH, request).await, Code::InvalidArgument, "text");
}

#[tokio::test]
async fn filters_without_end() {
    let server = server().await;
    let nested = |levels: usize| {
        let mut filter = must(vec![field("year", Test::Exists(true))]).unwrap();
        for _ in 1..levels {
            filter = must(vec![v1::Condition { kind: Some(v1::condition::Kind::Filter(filter)) }]).unwrap();
        }
        filter
    };
    let count = |filter| v1::CountPointsRequest { collection: "c".into(), filter: Some(filter) };
    assert_eq!(server.points().count_points(count(nested(32))).await.unwrap().into_inner().count, 1);
    let status = refused(server.points().count_points(count(nested(33))).await, Code::InvalidArgument, "");
    assert!(status.message().starts_with("filter.must[0].filter"), "{status:?}");
    // Dropping a thousand levels takes stack in this test, not in the server.
    let status = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let filter = nested(1_000);
        runtime.block_on(async move {
            let channel = server.channel.clone();
            let mut client = v1::point_service_client::PointServiceClient::new(channel);
            let status = client.count_points(count(filter)).await.unwrap_err();
            (status, server)
        })
    });
    let (status, server) = tokio::task::spawn_blocking(|| status.unwrap().join().unwrap()).await.unwrap();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with("filter"), "{status:?}");
    let wide = (0..2_000).map(|_| field("year", Test::Exists(true))).collect();
    refused(
        server.points().count_points(count(must(wide).unwrap())).await,
        Code::InvalidArgument,
        "filter.must",
    );
    let list = v1::ListValue { values: vec![value(Kind::IntegerValue(1)); 10_001] };
    let values = must(vec![field("year", Test::AnyOf(list))]).unwrap();
    refused(
        server.points().count_points(count(values)).await,
        Code::InvalidArgument,
        "filter.must[0].any_of",
    );
    assert!(server.is_up().await);
}

#[tokio::test]
async fn fields_that_the_schema_does_not_have() {
    let server = server().await;
    let unknown = must(vec![field("colour", Test::Equals(word("red")))]);
    let request = v1::CountPointsRequest { collection: "c".into(), filter: unknown };
    let status = refused(server.points().count_points(request).await, Code::InvalidArgument, "");
    assert!(status.message().contains("colour") && status.message().contains("year"), "{status:?}");
    let mistyped = must(vec![field("year", Test::Equals(word("red")))]);
    let request = v1::CountPointsRequest { collection: "c".into(), filter: mistyped };
    refused(server.points().count_points(request).await, Code::InvalidArgument, "filter.must[0].equals");
}

fn ipc(rows: &RecordBatch) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &rows.schema()).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes.into()
}

fn rows(name: &str, column: ArrayRef) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), (name, column, true)]).unwrap()
}

#[tokio::test]
async fn arrow_streams_that_are_none() {
    let server = server().await;
    let upload = async |ipc: Bytes| {
        let message = v1::UpsertArrowRequest { collection: "c".into(), ipc };
        server.points().upsert_arrow(tokio_stream::iter([message])).await
    };
    let vectors = |width: i32| -> ArrayRef {
        let vector = Some(vec![Some(1.0); width as usize]);
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [vector.clone(), vector],
            width,
        ))
    };
    let sound = ipc(&rows("vector:v", vectors(2)));
    let at = "messages[0].ipc";
    for length in [1, 8, sound.len() / 2, sound.len() - 9] {
        refused(upload(sound.slice(..length)).await, Code::InvalidArgument, at);
    }
    refused(upload(Bytes::new()).await, Code::InvalidArgument, at);
    refused(upload(Bytes::from_static(b"PAR1")).await, Code::InvalidArgument, at);
    let wide = upload(ipc(&rows("vector:v", vectors(3)))).await;
    refused(wide, Code::InvalidArgument, "messages[0].ipc.vector:v");
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let typed = upload(ipc(&rows("text", Arc::clone(&numbers)))).await;
    refused(typed, Code::InvalidArgument, "messages[0].ipc.text");
    refused(upload(ipc(&rows("colour", numbers))).await, Code::InvalidArgument, "messages[0].ipc.colour");
    let nothing = server.points().upsert_arrow(tokio_stream::iter(Vec::new())).await;
    refused(nothing, Code::InvalidArgument, "collection");
    assert_eq!(server.count("c").await, 1);
    assert_eq!(upload(sound).await.unwrap().into_inner().upserted, 2);
}

#[tokio::test]
async fn more_calls_than_fit() {
    let server = TestServer::with(|config| {
        config.server.max_in_flight = 2;
        config.server.request_timeout = Duration::from_secs(2);
    });
    let server = server.await;
    server.create_plain("c", 2).await;
    // A reader that waits for a write takes a place.
    let waiting = (0..8).map(|_| {
        let mut client = server.points();
        tokio::spawn(async move {
            let request = v1::GetPointsRequest {
                collection: "c".into(),
                ids: vec!["a".into()],
                min_seq_no: Some(1_000_000),
                ..Default::default()
            };
            client.get_points(request).await.unwrap_err().code()
        })
    });
    let mut codes = Vec::new();
    for call in waiting.collect::<Vec<_>>() {
        codes.push(call.await.unwrap());
    }
    let count = |code| codes.iter().filter(|found| **found == code).count();
    assert_eq!((count(Code::ResourceExhausted), count(Code::DeadlineExceeded)), (6, 2), "{codes:?}");
    assert!(server.is_up().await);
}

/// The folder of shared test data, if it is there.
fn test_data() -> Option<PathBuf> {
    let given = std::env::var_os("RAGSTONE_TEST_DATA").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    folder.join("data/docs").is_dir().then_some(folder)
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files_below(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_odd_file_is_indexed_or_refused_with_a_reason() {
    let Some(data) = test_data() else {
        println!("skipped: no test data");
        return;
    };
    let mut files = Vec::new();
    files_below(&data.join("data/docs"), &mut files);
    files.sort();
    // With parsers in processes of their own, as the binary runs them.
    let server = TestServer::with(|config| {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_ragstone"));
        let isolation = Isolation { program, args: vec!["extract-worker".into()], max_memory_bytes: 4 << 30 };
        config.pipeline.extract.isolation = Some(isolation);
    });
    let server = server.await;
    // Only words: what is asked here is what extraction does with them.
    let schema = v1::CollectionSchema::default();
    let request =
        v1::CreateCollectionRequest { name: "c".into(), schema: Some(schema), ..Default::default() };
    server.collections().create_collection(request).await.unwrap();
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let requests =
        names.clone().into_iter().zip(files).enumerate().map(|(i, (name, file))| v1::IngestDocumentRequest {
            collection: "c".into(),
            file_name: name,
            content: Some(Content::Data(std::fs::read(file).unwrap().into())),
            tag: i as u64,
            ..Default::default()
        });
    let requests: Vec<_> = requests.collect();
    let mut replies =
        server.ingest().ingest_documents(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut answered = 0;
    let mut indexed = 0;
    while let Some(reply) = replies.message().await.unwrap() {
        answered += 1;
        match reply.outcome() {
            v1::DocumentOutcome::Indexed => indexed += 1,
            v1::DocumentOutcome::Failed => {
                assert!(!reply.error.is_empty(), "{}", names[reply.tag as usize]);
                assert!(
                    !reply.error.contains("internal error"),
                    "{}: {}",
                    names[reply.tag as usize],
                    reply.error
                );
            }
            other => panic!("{other:?}"),
        }
    }
    println!("{indexed} of {answered} files indexed");
    assert_eq!(answered, names.len());
    assert!(indexed > answered / 2, "{indexed} of {answered}");
    assert!(server.is_up().await);
}
