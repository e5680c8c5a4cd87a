//! `PointService`.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, FixedSizeListArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use arrow::ipc::writer::StreamWriter;
use ragstone_proto::v1;
use ragstone_proto::v1::delete_points_request::Selector;
use ragstone_proto::v1::field_condition::Test;
use ragstone_proto::v1::value::Kind;
use tonic::Code;

use crate::harness::{TestServer, field, must, numbers, payload, point, refused, text_point, value, word};

#[tokio::test]
async fn points_and_documents_expire() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let at = |id: &str, expires_at_ms| v1::Point { expires_at_ms, ..point(id, &[1.0, 0.0]) };
    let far = Some(32_503_680_000_000);
    server.upsert("c", vec![at("past", Some(1)), at("future", far), at("never", None)]).await;
    assert_eq!(server.count("c").await, 2);
    let found = get(&server, &["past", "future", "never"]).await;
    let times: Vec<_> = found.iter().map(|point| (point.id.as_str(), point.expires_at_ms)).collect();
    assert_eq!(times, [("future", far), ("never", None)]);
    let document = |ttl_seconds| v1::IngestDocumentRequest {
        collection: "c".into(),
        document_id: "doc".into(),
        content: Some(v1::ingest_document_request::Content::Text("words that stay an hour".into())),
        metadata: payload([("lang", word("en"))]),
        ttl_seconds,
        ..Default::default()
    };
    refused(server.ingest().ingest_document(document(Some(0))).await, Code::InvalidArgument, "ttl_seconds");
    server.ingest().ingest_document(document(Some(3_600))).await.unwrap();
    let chunk = get(&server, &["doc#0"]).await.swap_remove(0);
    assert!(chunk.expires_at_ms.is_some_and(|time| time < 32_503_680_000_000), "{chunk:?}");
    assert_eq!(chunk.payload, payload([("lang", word("en"))]));
    // Ingested without, it stays.
    server.ingest().ingest_document(document(None)).await.unwrap();
    assert_eq!(get(&server, &["doc#0"]).await[0].expires_at_ms, None);
}

async fn get(server: &TestServer, ids: &[&str]) -> Vec<v1::Point> {
    let request = v1::GetPointsRequest {
        collection: "c".into(),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        with_vectors: Some(v1::VectorSelector { enable: true, names: Vec::new() }),
        ..Default::default()
    };
    server.points().get_points(request).await.unwrap().into_inner().points
}

#[tokio::test]
async fn what_is_written_is_read() {
    let mut server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let origin = v1::Origin {
        document_id: "doc".into(),
        uri: "file:///doc".into(),
        title: "Title".into(),
        media_type: "text/plain".into(),
        page: Some(3),
        heading_path: vec!["A".into(), "B".into()],
        chunk_index: Some(7),
        span_start: Some(10),
        span_end: Some(20),
        part: "inner/a.txt".into(),
        parent: Some(2),
    };
    let written = v1::Point {
        text: "some words".into(),
        payload: payload([
            ("lang", word("en")),
            ("n", value(Kind::IntegerValue(i64::MAX))),
            ("tags", value(Kind::ListValue(v1::ListValue { values: vec![word("a"), word("b")] }))),
        ]),
        origin: Some(origin),
        ..point("a", &[0.0, 1.0])
    };
    server.upsert("c", vec![written.clone(), point("b", &[1.0, 0.0])]).await;
    for _ in 0..2 {
        let read = get(&server, &["b", "missing", "a"]).await;
        assert_eq!(read.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        let a = &read[1];
        assert_eq!((&a.text, &a.payload, &a.origin), (&written.text, &written.payload, &written.origin));
        assert_eq!(a.vectors["v"].f32.as_ref(), [0.0_f32, 1.0].map(f32::to_le_bytes).concat());
        server.restart().await;
    }
}

#[tokio::test]
async fn good_points_go_in_and_bad_ones_are_named() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let points = || {
        vec![
            point("a", &[1.0, 0.0]),
            point("short", &[1.0]),
            point("nan", &[1.0, f32::NAN]),
            point("", &[1.0, 0.0]),
            v1::Point {
                payload: payload([("year", value(Kind::IntegerValue(1)))]),
                ..point("b", &[1.0, 1.0])
            },
            v1::Point { payload: payload([("year", word("old"))]), ..point("typed", &[1.0, 1.0]) },
        ]
    };
    let request = |atomic| v1::UpsertPointsRequest { collection: "c".into(), points: points(), atomic };
    refused(
        server.points().upsert_points(request(true)).await,
        Code::InvalidArgument,
        "points[1].vectors[\"v\"]",
    );
    assert_eq!(server.count("c").await, 0);
    let response = server.points().upsert_points(request(false)).await.unwrap().into_inner();
    assert_eq!(response.upserted, 2);
    let rejected: Vec<_> =
        response.rejected.iter().map(|r| (r.row, r.id.as_str(), r.field.as_str())).collect();
    let expect = [
        (1, "short", "points[1].vectors[\"v\"]"),
        (2, "nan", "points[2].vectors[\"v\"]"),
        (3, "", "points[3].id"),
        (5, "typed", "points[5].payload.year"),
    ];
    assert_eq!(rejected, expect);
    assert_eq!(server.count("c").await, 2);
}

#[tokio::test]
async fn an_atomic_write_names_what_only_the_engine_finds() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let first =
        v1::Point { payload: payload([("year", value(Kind::IntegerValue(1)))]), ..point("a", &[1.0, 0.0]) };
    server.upsert("c", vec![first]).await;
    let wrong = v1::Point { payload: payload([("year", word("old"))]), ..point("b", &[1.0, 0.0]) };
    let request = v1::UpsertPointsRequest {
        collection: "c".into(),
        points: vec![point("x", &[1.0, 0.0]), wrong],
        atomic: true,
    };
    refused(server.points().upsert_points(request).await, Code::InvalidArgument, "points[1].payload.year");
    assert_eq!(server.count("c").await, 1);
}

#[tokio::test]
async fn texts_without_a_vector_are_embedded() {
    let server = TestServer::start().await;
    server.create("c").await;
    server.upsert("c", vec![text_point("a", "a stone in the river"), text_point("b", "")]).await;
    let read = get(&server, &["a", "b"]).await;
    assert_eq!(read[0].vectors["text"].f32.len(), 384 * 4);
    assert!(read[1].vectors.is_empty());
}

#[tokio::test]
async fn the_three_ways_to_delete() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let of_document = |id: &str, document: &str| v1::Point {
        origin: Some(v1::Origin { document_id: document.into(), ..Default::default() }),
        payload: payload([("lang", word(if id < "c" { "en" } else { "de" }))]),
        ..point(id, &[1.0, 0.0])
    };
    server.upsert("c", ["a", "b", "c", "d", "e"].map(|id| of_document(id, "x")).into()).await;
    server.upsert("c", vec![of_document("f", "y"), of_document("g", "z")]).await;
    let delete = async |selector: Selector| {
        let request = v1::DeletePointsRequest { collection: "c".into(), selector: Some(selector) };
        server.points().delete_points(request).await.unwrap().into_inner().deleted
    };
    let list = |ids: &[&str]| v1::IdList { ids: ids.iter().map(|id| (*id).to_owned()).collect() };
    assert_eq!(delete(Selector::Ids(list(&["a", "nosuch"]))).await, 1);
    let english = must(vec![field("lang", Test::Equals(word("en")))]).unwrap();
    assert_eq!(delete(Selector::Filter(english)).await, 1);
    assert_eq!(delete(Selector::DocumentIds(list(&["x"]))).await, 3);
    assert_eq!(server.count("c").await, 2);
    let none = v1::DeletePointsRequest { collection: "c".into(), selector: None };
    refused(server.points().delete_points(none).await, Code::InvalidArgument, "selector");
    let everything = Some(Selector::Filter(v1::Filter::default()));
    let everything = v1::DeletePointsRequest { collection: "c".into(), selector: everything };
    refused(server.points().delete_points(everything).await, Code::InvalidArgument, "filter");
}

#[tokio::test]
async fn pages_cover_every_point_once() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let points = (0..25).map(|i| {
        let parity = payload([("odd", value(Kind::BoolValue(i % 2 == 1)))]);
        v1::Point { payload: parity, ..point(&format!("p{i:02}"), &[1.0, 0.0]) }
    });
    server.upsert("c", points.collect()).await;
    let all = async |filter: Option<v1::Filter>| {
        let mut found = Vec::new();
        let mut page = String::new();
        loop {
            let request = v1::ScrollPointsRequest {
                collection: "c".into(),
                filter: filter.clone(),
                limit: Some(4),
                page,
                ..Default::default()
            };
            let reply = server.points().scroll_points(request).await.unwrap().into_inner();
            assert!(reply.points.len() <= 4);
            found.extend(reply.points.into_iter().map(|point| point.id));
            page = reply.next_page;
            if page.is_empty() {
                return found;
            }
        }
    };
    let mut everything = all(None).await;
    everything.sort();
    assert_eq!(everything, (0..25).map(|i| format!("p{i:02}")).collect::<Vec<_>>());
    let odd = must(vec![field("odd", Test::Equals(value(Kind::BoolValue(true))))]);
    assert_eq!(all(odd.clone()).await.len(), 12);
    let request = v1::CountPointsRequest { collection: "c".into(), filter: odd };
    assert_eq!(server.points().count_points(request).await.unwrap().into_inner().count, 12);
}

fn ipc(rows: &RecordBatch) -> bytes::Bytes {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &rows.schema()).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes.into()
}

fn rows(from: usize, count: usize, bad: Option<usize>) -> RecordBatch {
    let ids: StringArray = (from..from + count).map(|i| Some(format!("r{i}"))).collect();
    let vectors = (0..count).map(|i| {
        let x = if bad == Some(i) { f32::INFINITY } else { 1.0 };
        Some(vec![Some(x), Some(i as f32)])
    });
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2);
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("vector:v", Arc::new(vectors) as ArrayRef, true),
    ])
    .unwrap()
}

#[tokio::test]
async fn arrow_batches_stream_in() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let message = |rows: &RecordBatch| v1::UpsertArrowRequest { collection: "c".into(), ipc: ipc(rows) };
    let messages = vec![message(&rows(0, 1_000, None)), message(&rows(1_000, 500, Some(7)))];
    let reply = server.points().upsert_arrow(tokio_stream::iter(messages)).await.unwrap().into_inner();
    assert_eq!((reply.upserted, reply.rejected_total), (1_499, 1));
    let [rejected] = reply.rejected.as_slice() else { panic!("{reply:?}") };
    assert_eq!((rejected.row, rejected.id.as_str(), rejected.field.as_str()), (1_007, "r1007", "vector:v"));
    assert_eq!(server.count("c").await, 1_499);
}

#[tokio::test]
async fn a_reader_may_wait_for_a_write() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let seq_no = server.upsert("c", vec![point("a", &[1.0, 0.0])]).await.seq_no;
    let request = |min_seq_no| v1::GetPointsRequest {
        collection: "c".into(),
        ids: vec!["a".into()],
        min_seq_no: Some(min_seq_no),
        ..Default::default()
    };
    assert_eq!(server.points().get_points(request(seq_no)).await.unwrap().into_inner().points.len(), 1);
    let (mut reader, mut writer) = (server.points(), server.points());
    let waiting = reader.get_points(request(seq_no + 1));
    let writing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let points = vec![v1::Point {
            vectors: [("v".to_owned(), numbers(&[0.0, 1.0]))].into(),
            ..point("b", &[1.0, 0.0])
        }];
        writer.upsert_points(v1::UpsertPointsRequest { collection: "c".into(), points, atomic: true }).await
    };
    let (read, written) = tokio::join!(waiting, writing);
    assert_eq!((read.is_ok(), written.is_ok()), (true, true));
    let mut far = tonic::Request::new(request(seq_no + 1_000));
    far.set_timeout(Duration::from_secs(1));
    let status = server.points().get_points(far).await.unwrap_err();
    // The client's own clock, which says "cancelled", may be faster than the answer.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}
