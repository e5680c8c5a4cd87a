//! Imports over gRPC: progress, errors of rows, resumption.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use parquet::arrow::ArrowWriter;
use ragstone_proto::v1;
use tonic::Code;

use crate::harness::{TestServer, refused};

fn write_parquet(path: &Path, rows: usize) {
    let ids: StringArray = (0..rows).map(|i| Some(format!("r{i}"))).collect();
    let years = Int64Array::from_iter_values((0..rows).map(|i| 2_000 + i as i64 % 20));
    let vectors = (0..rows).map(|i| Some(vec![Some(1.0), Some(i as f32)]));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("year", Arc::new(years) as ArrayRef, true),
        ("v", Arc::new(vectors) as ArrayRef, true),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn import(path: &Path) -> v1::ImportRequest {
    v1::ImportRequest {
        collection: "c".into(),
        paths: vec![path.to_str().unwrap().into()],
        ..Default::default()
    }
}

/// All progress of an import, and how it ended.
async fn run(
    server: &TestServer,
    request: v1::ImportRequest,
) -> (Vec<v1::ImportProgress>, Option<tonic::Status>) {
    let mut stream = server.ingest().import(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(progress)) => all.push(progress),
            Ok(None) => return (all, None),
            Err(status) => return (all, Some(status)),
        }
    }
}

#[tokio::test]
async fn rows_arrive_once_and_a_second_run_has_nothing_to_do() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let path = server.dir.path().join("rows.parquet");
    write_parquet(&path, 20_000);
    let (progress, status) = run(&server, import(&path)).await;
    assert!(status.is_none(), "{status:?}");
    let last = progress.last().unwrap();
    assert!(last.done && last.errors.is_empty(), "{last:?}");
    assert_eq!((last.rows_total, last.rows_written, last.rows_rejected), (20_000, 20_000, 0));
    assert_eq!(server.count("c").await, 20_000);
    let (again, status) = run(&server, import(&path)).await;
    assert!(status.is_none(), "{status:?}");
    let last = again.last().unwrap();
    assert_eq!((last.rows_written, last.rows_resumed), (0, 20_000));
}

#[tokio::test]
async fn bad_rows_are_named_and_the_others_go_in() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let path = server.dir.path().join("rows.jsonl");
    std::fs::write(&path, "{\"id\": \"a\", \"v\": [1, 2]}\n{\"id\": \"b\", \"v\": [1]}\nno json\n").unwrap();
    let (progress, status) = run(&server, import(&path)).await;
    assert!(status.is_none(), "{status:?}");
    let errors: Vec<_> =
        progress.iter().flat_map(|p| &p.errors).map(|e| (e.row, e.column.as_str())).collect();
    assert_eq!(errors.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [2, 3], "{errors:?}");
    assert_eq!(errors[0].1, "v");
    assert_eq!(server.count("c").await, 1);
    let strict = v1::ImportRequest { strict: true, restart: true, ..import(&path) };
    let (_, status) = run(&server, strict).await;
    assert_eq!(status.unwrap().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_can_not_be_imported_is_named() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let corrupt = server.dir.path().join("corrupt.parquet");
    std::fs::write(&corrupt, b"PAR1 this is no parquet file PAR1").unwrap();
    let (_, status) = run(&server, import(&corrupt)).await;
    let status = status.expect("a corrupt file is an error");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(format!("{status:?}").contains("corrupt.parquet"), "{status:?}");
    let (_, status) = run(&server, import(Path::new("/no/such/file.parquet"))).await;
    assert!(status.unwrap().message().contains("/no/such/file.parquet"));
    let none = v1::ImportRequest { paths: Vec::new(), ..import(&corrupt) };
    refused(server.ingest().import(none).await, Code::InvalidArgument, "paths");
    let elsewhere = v1::ImportRequest { collection: "nosuch".into(), ..import(&corrupt) };
    refused(server.ingest().import(elsewhere).await, Code::NotFound, "");
    assert!(server.is_up().await);
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_import() {
    let server = TestServer::start().await;
    server.create("c").await;
    let path = server.dir.path().join("many.jsonl");
    let lines: String =
        (0..20_000).map(|i| format!("{{\"id\": \"a{i}\", \"text\": \"sentence number {i}\"}}\n")).collect();
    std::fs::write(&path, lines).unwrap();
    let job = |i: usize| v1::ImportRequest { job_id: format!("job-{i}"), ..import(&path) };
    let mut streams = Vec::new();
    for i in 0..4 {
        streams.push(server.ingest().import(job(i)).await.unwrap().into_inner());
    }
    refused(server.ingest().import(job(4)).await, Code::ResourceExhausted, "");
    drop(streams);
    // One that went on in secret would keep its place for minutes.
    crate::harness::eventually("a place is free again", async || {
        server.ingest().import(job(4)).await.is_ok()
    })
    .await;
    assert!(server.count("c").await < 20_000);
}
