//! Exports: everything that points have, through files and back.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::ipc::reader::StreamReader;
use ragstone_proto::v1;
use ragstone_proto::v1::value::Kind;
use tonic::Code;

use crate::harness::{TestServer, field, must, numbers, payload, refused, value, word};

/// A collection of two vector spaces.
async fn create(server: &TestServer, name: &str) {
    let space = |name: &str, dimension, distance: v1::Distance| v1::VectorSpace {
        name: name.into(),
        dimension,
        distance: distance.into(),
        ..Default::default()
    };
    let vectors = vec![space("v", 3, v1::Distance::Cosine), space("image", 2, v1::Distance::Euclidean)];
    let schema = v1::CollectionSchema { vectors, dynamic_payload: Some(true), ..Default::default() };
    let request =
        v1::CreateCollectionRequest { name: name.into(), schema: Some(schema), ..Default::default() };
    server.collections().create_collection(request).await.unwrap();
}

/// A point whose content differs in kind from its neighbours'.
fn varied(i: usize) -> v1::Point {
    let mut vectors = BTreeMap::new();
    if !i.is_multiple_of(3) {
        vectors.insert("v".to_owned(), numbers(&[1.0, i as f32, -0.5]));
    }
    if !i.is_multiple_of(4) {
        vectors.insert("image".to_owned(), numbers(&[i as f32, 0.1]));
    }
    let list = |values| value(Kind::ListValue(v1::ListValue { values }));
    let inner =
        payload([("deep", value(Kind::BoolValue(i.is_multiple_of(2)))), ("näme", word("größe \"q\"\n"))])
            .unwrap();
    let content = payload([
        ("string", word(&format!("s{i}"))),
        ("integer", value(Kind::IntegerValue(i64::MAX - i as i64))),
        ("float", value(Kind::FloatValue(i as f64 + 0.1))),
        ("bool", value(Kind::BoolValue(i.is_multiple_of(2)))),
        ("date", word("2024-02-29T12:00:00.123456Z")),
        ("tags", list(vec![word("a"), word("b")])),
        ("empty", list(Vec::new())),
        ("null", value(Kind::NullValue(0))),
        ("object", value(Kind::StructValue(inner))),
    ]);
    let origin = v1::Origin {
        document_id: format!("doc{}", i / 10),
        uri: "file:///doc".into(),
        title: "Title, with \u{1F600}".into(),
        media_type: "text/plain".into(),
        page: (i.is_multiple_of(2)).then_some(i as u32),
        heading_path: if i.is_multiple_of(5) { Vec::new() } else { vec!["A".into(), format!("B{i}")] },
        chunk_index: Some(i as u32 % 10),
        span_start: Some(u64::MAX - i as u64),
        span_end: Some(u64::MAX),
        part: if i.is_multiple_of(4) { format!("sheet {i}") } else { String::new() },
        parent: (i.is_multiple_of(3)).then_some(i as u32),
    };
    v1::Point {
        id: format!("p{i}"),
        vectors: vectors.into_iter().collect(),
        text: if i.is_multiple_of(7) { String::new() } else { format!("text {i}\r\nsecond line") },
        payload: if i.is_multiple_of(11) { None } else { content },
        origin: (!i.is_multiple_of(13)).then_some(origin),
        // Far from now, and some milliseconds apart.
        expires_at_ms: (i.is_multiple_of(6)).then_some(32_503_680_000_000 + i as i64),
    }
}

/// All points of a collection with everything they have.
async fn all(server: &TestServer, collection: &str) -> BTreeMap<String, v1::Point> {
    let mut points = BTreeMap::new();
    let mut page = String::new();
    loop {
        let request = v1::ScrollPointsRequest {
            collection: collection.into(),
            limit: Some(1_000),
            page,
            with_vectors: Some(v1::VectorSelector { enable: true, names: Vec::new() }),
            ..Default::default()
        };
        let reply = server.points().scroll_points(request).await.unwrap().into_inner();
        points.extend(reply.points.into_iter().map(|point| (point.id.clone(), point)));
        page = reply.next_page;
        if page.is_empty() {
            return points;
        }
    }
}

fn floats(vector: &v1::Vector) -> Vec<f32> {
    vector.f32.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// The same points; vectors of unit length are scaled again when they are written, which may round.
#[track_caller]
fn assert_equal(found: &BTreeMap<String, v1::Point>, expected: &BTreeMap<String, v1::Point>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (id, expected) in expected {
        let found = &found[id];
        let spaces =
            |point: &v1::Point| point.vectors.keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(spaces(found), spaces(expected), "{id}");
        for (space, vector) in &expected.vectors {
            let (a, b) = (floats(&found.vectors[space]), floats(vector));
            assert_eq!(a.len(), b.len());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6), "{id}: {a:?} {b:?}");
        }
        let rest = |point: &v1::Point| v1::Point { vectors: Default::default(), ..point.clone() };
        assert_eq!(rest(found), rest(expected), "{id}");
    }
}

/// Runs the binary beside the server.
async fn command(arguments: &[&str]) -> (bool, String) {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || std::process::Command::new(env!("CARGO_BIN_EXE_ragstone")).args(arguments).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_exported_comes_back_equal() {
    let server = TestServer::start().await;
    create(&server, "c").await;
    // In segments, in the memtable, replaced and deleted.
    server.upsert("c", (0..200).map(varied).collect()).await;
    server.admin().flush(v1::FlushRequest { collection: "c".into() }).await.unwrap();
    server.upsert("c", (150..300).map(varied).collect()).await;
    let ids = v1::IdList { ids: (40..60).map(|i| format!("p{i}")).collect() };
    let selector = Some(v1::delete_points_request::Selector::Ids(ids));
    server
        .points()
        .delete_points(v1::DeletePointsRequest { collection: "c".into(), selector })
        .await
        .unwrap();
    let expected = all(&server, "c").await;
    assert_eq!(expected.len(), 280);

    let (address, out) = (server.address(), server.dir.path().join("out"));
    std::fs::create_dir(&out).unwrap();
    for (at, (to, format)) in
        [("all.parquet", "parquet"), ("all.arrow", "arrow"), ("parts", "parquet"), ("more", "arrow")]
            .into_iter()
            .enumerate()
    {
        let to = out.join(to);
        let is_folder = to.extension().is_none();
        if is_folder {
            std::fs::create_dir(&to).unwrap();
        }
        let path = to.to_str().unwrap();
        let export = ["export", "-c", "c", "--to", path, "--format", format, "--server", &address];
        let (done, message) = command(&[&export[..], &["--rows-per-file", "100"]].concat()).await;
        assert!(done, "{message}");
        if is_folder {
            let expected: Vec<_> = (0..3).map(|part| format!("c-{part:05}.{format}")).collect();
            assert_eq!(names(&to), expected);
        }
        let (done, message) = command(&export).await;
        assert!(!done && message.contains("--overwrite"), "{message}");
        let copy = format!("copy{at}");
        create(&server, &copy).await;
        let (done, message) = command(&["import", path, "-c", &copy, "--strict", "--server", &address]).await;
        assert!(done, "{message}");
        assert_equal(&all(&server, &copy).await, &expected);
    }
    // Fewer files than before: none of the old ones stays.
    let parts = out.join("parts");
    let export = ["export", "-c", "c", "--to", parts.to_str().unwrap(), "--overwrite", "--server", &address];
    assert!(command(&export).await.0);
    assert_eq!(names(&parts), ["c-00000.parquet"]);
    assert_eq!(names(&out), ["all.arrow", "all.parquet", "more", "parts"]);
}

/// Rows of all messages, and of the counts that the last one tells.
async fn streamed(server: &TestServer, request: v1::ExportPointsRequest) -> (usize, u64, u64) {
    let mut stream = server.points().export_points(request).await.unwrap().into_inner();
    let (mut rows, mut told) = (0, (0, 0));
    while let Some(message) = stream.message().await.unwrap() {
        let reader = StreamReader::try_new(&message.ipc[..], None).unwrap();
        assert!(reader.schema().index_of("vector:v").is_ok());
        rows += reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>();
        told = (message.rows_done, message.rows_total);
    }
    (rows, told.0, told.1)
}

#[tokio::test]
async fn an_export_is_of_one_moment_and_heeds_its_filter() {
    let server = TestServer::start().await;
    create(&server, "c").await;
    let request = || v1::ExportPointsRequest { collection: "c".into(), filter: None };
    // No points: still a stream with the columns.
    assert_eq!(streamed(&server, request()).await, (0, 0, 0));
    // Some 6 MB in messages of 2.
    let long = |i: usize| v1::Point { text: "x".repeat(20_000), ..varied(i) };
    server.upsert("c", (0..300).map(long).collect()).await;
    let mut stream = server.points().export_points(request()).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.rows_done < 300 && first.rows_total == 300, "{}", first.rows_done);
    let all = v1::IdList { ids: (0..300).map(|i| format!("p{i}")).collect() };
    let selector = Some(v1::delete_points_request::Selector::Ids(all));
    server
        .points()
        .delete_points(v1::DeletePointsRequest { collection: "c".into(), selector })
        .await
        .unwrap();
    server.admin().flush(v1::FlushRequest { collection: "c".into() }).await.unwrap();
    let mut last = first;
    while let Some(message) = stream.message().await.unwrap() {
        last = message;
    }
    assert_eq!(last.rows_done, 300);
    assert_eq!(streamed(&server, request()).await, (0, 0, 0));

    server.upsert("c", (1..11).map(varied).collect()).await;
    let even = field("bool", v1::field_condition::Test::Equals(value(Kind::BoolValue(true))));
    let filtered = v1::ExportPointsRequest { filter: must(vec![even]), ..request() };
    assert_eq!(streamed(&server, filtered).await, (5, 5, 5));
    let elsewhere = v1::ExportPointsRequest { collection: "nosuch".into(), filter: None };
    refused(server.points().export_points(elsewhere).await, Code::NotFound, "");
}

#[tokio::test]
async fn exports_that_nobody_reads_are_bounded_and_given_up() {
    let server = TestServer::start().await;
    create(&server, "c").await;
    let long = |i: usize| v1::Point { text: "x".repeat(500_000), ..varied(i) };
    for chunk in 0..10 {
        server.upsert("c", (chunk * 10..chunk * 10 + 10).map(long).collect()).await;
    }
    let request = || v1::ExportPointsRequest { collection: "c".into(), filter: None };
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(server.points().export_points(request()).await.unwrap().into_inner());
    }
    refused(server.points().export_points(request()).await, Code::ResourceExhausted, "");
    drop(streams);
    crate::harness::eventually("there is room again", async || {
        server.points().export_points(request()).await.is_ok()
    })
    .await;
}
