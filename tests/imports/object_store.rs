//! Imports from a local S3 server.

use std::path::Path;

use tonic::Code;

use crate::rows;
use crate::s3::{DOTS, EMPTY, S3, SECRET};
use crate::server::Server;
use crate::view::View;

/// Bytes a row of a column that is not asked for.
const BALLAST: usize = 2_000;

fn put(store: &Path, key: &str, bytes: &[u8]) {
    let path = store.join(key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

async fn start(data: &Path, s3: &S3, secret: &str) -> Server {
    let mut endpoint = String::new();
    let environment = s3.environment(&mut endpoint, secret);
    Server::start_with(data, &environment).await
}

fn urls(urls: &[&str]) -> Vec<String> {
    urls.iter().map(|url| (*url).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_imported_by_ranges_and_changed_ones_anew() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let part = |rows| rows::parquet(rows, BALLAST);
    put(store.path(), "bucket/set/a.parquet", &part(0..2_000));
    put(store.path(), "bucket/set/b.parquet", &part(2_000..4_000));
    put(store.path(), "bucket/set/deep/c.parquet", &part(4_000..5_000));
    put(store.path(), "bucket/set/read.me", b"no rows");
    put(store.path(), "bucket/set2/other.parquet", &part(9_000..9_500));
    let size = |key: &str| std::fs::metadata(store.path().join(key)).unwrap().len();
    let all = size("bucket/set/a.parquet") + size("bucket/set/b.parquet");
    let s3 = S3::start(store.path()).await;
    let server = start(data.path(), &s3, SECRET).await;
    let view = View::new(&server);
    view.create().await;

    // A store that has too much to do is asked again.
    s3.fail(2);
    let imported = view.import(&urls(&["s3://bucket/set/*.parquet"])).await.unwrap();
    assert!(imported.errors.is_empty(), "{:?}", imported.errors);
    assert_eq!((imported.rows_total, imported.rows_written, imported.rows_resumed), (4_000, 4_000, 0));
    let (requests, bytes) = s3.asked();
    println!("two objects of {all} bytes together: {requests} requests, {bytes} bytes");
    assert!(bytes < all / 2, "{bytes} bytes of {all} were fetched, though most of them are of no use");
    rows::check(&view.points().await, 0..4_000);

    // The same again: nothing but lists and footers.
    let again = view.import(&urls(&["s3://bucket/set/*.parquet"])).await.unwrap();
    assert_eq!((again.rows_written, again.rows_resumed), (0, 4_000));
    let (requests, bytes) = s3.asked();
    println!("again: {requests} requests, {bytes} bytes");
    assert!(bytes < all / 10, "{bytes} bytes of {all} were fetched for nothing");

    // A folder is what lies right in it, `**` what lies below.
    let folder = view.import(&urls(&["s3://bucket/set/"])).await.unwrap();
    assert_eq!((folder.rows_total, folder.job_id == imported.job_id), (4_000, true));
    let below = view.import(&urls(&["s3://bucket/set/**/*.parquet", "s3://bucket/set2/other.parquet"])).await;
    assert_eq!(below.unwrap().rows_written, 5_500);
    assert_eq!(view.count().await, 5_500);

    // As long as before, so that only its content, or its time, is another.
    put(store.path(), "bucket/set/b.parquet", &part(6_000..8_000));
    assert_eq!(size("bucket/set/a.parquet") + size("bucket/set/b.parquet"), all);
    let changed = view.import(&urls(&["s3://bucket/set/*.parquet"])).await.unwrap();
    assert_ne!(changed.job_id, imported.job_id);
    assert_eq!((changed.rows_written, changed.rows_resumed), (4_000, 0));
    assert_eq!(view.count().await, 7_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_had_is_named() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(store.path(), "bucket/good.parquet", &rows::parquet(0..100, 1));
    put(store.path(), "bucket/no.parquet", b"PAR1 this is no Parquet file PAR1");
    let s3 = S3::start(store.path()).await;
    let server = start(data.path(), &s3, SECRET).await;
    let view = View::new(&server);
    view.create().await;
    let refused = async |url: &str, code: Code, words: &[&str]| {
        let status = view.import(&urls(&[url])).await.expect_err(url);
        println!("{url}: {:?}: {}", status.code(), status.message());
        assert_eq!(status.code(), code, "{url}: {status:?}");
        for word in words {
            assert!(status.message().contains(word), "{url}: no {word:?} in {:?}", status.message());
        }
    };
    refused("s3://nobucket/*.parquet", Code::NotFound, &["s3://nobucket", "no such bucket"]).await;
    refused("s3://nobucket/a.parquet", Code::NotFound, &["s3://nobucket", "no such bucket"]).await;
    refused("s3://bucket/none.parquet", Code::NotFound, &["s3://bucket/none.parquet", "expected"]).await;
    refused("s3://bucket/no.parquet", Code::InvalidArgument, &["s3://bucket/no.parquet", "Parquet"]).await;
    refused("s3://bucket/none*.parquet", Code::InvalidArgument, &["no files to import"]).await;
    refused("ftp://host/a.parquet", Code::InvalidArgument, &["ftp://host/a.parquet", "s3://"]).await;
    // A bad object does not keep the others out.
    let imported = view.import(&urls(&["s3://bucket/*.parquet"])).await.unwrap();
    assert_eq!(imported.rows_written, 100);
    let [error] = &imported.errors[..] else { panic!("{:?}", imported.errors) };
    assert_eq!(error.path, "s3://bucket/no.parquet");
    rows::check(&view.points().await, 0..100);

    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = start(elsewhere.path(), &s3, "a-wrong-secret").await;
    let view = View::new(&stranger);
    view.create().await;
    for url in ["s3://bucket/*.parquet", "s3://bucket/good.parquet"] {
        let status = view.import(&urls(&[url])).await.expect_err(url);
        println!("{url}: {:?}: {}", status.code(), status.message());
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        for word in ["s3://bucket", "credentials", "AWS_SECRET_ACCESS_KEY"] {
            assert!(status.message().contains(word), "no {word:?} in {:?}", status.message());
        }
        assert!(!status.message().contains("a-wrong-secret"), "{status:?}");
    }
    assert_eq!(view.count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_keys_are_read_or_named_and_keep_no_others_out() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let part = |rows| rows::parquet(rows, 1);
    put(store.path(), "bucket/set/a.parquet", &part(0..100));
    put(store.path(), &format!("bucket/set/{EMPTY}/b.parquet"), &part(100..200));
    put(store.path(), &format!("bucket/set/{EMPTY}/deep/{EMPTY}/c.parquet"), &part(200..300));
    put(store.path(), &format!("bucket/set/{DOTS}/d.parquet"), &part(300..400));
    put(store.path(), &format!("bucket/set/{DOTS}/read.me"), b"no rows");
    let s3 = S3::start_odd(store.path()).await;
    let mut endpoint = String::new();
    let server = Server::start_with(data.path(), &s3.open_environment(&mut endpoint)).await;
    let view = View::new(&server);
    view.create().await;
    let import = async |url: &str| view.import(&urls(&[url])).await.unwrap();

    let folder = import("s3://bucket/set/").await;
    assert_eq!((folder.rows_written, folder.errors.len()), (100, 0), "{:?}", folder.errors);
    assert_eq!(import("s3://bucket/set//b.parquet").await.rows_written, 100);
    let below = import("s3://bucket/set/**/*.parquet").await;
    assert_eq!(below.rows_written, 300);
    let [error] = &below.errors[..] else { panic!("{:?}", below.errors) };
    assert_eq!(error.path, "s3://bucket/set/../d.parquet");
    assert!(error.message.contains("a part of dots"), "{}", error.message);
    rows::check(&view.points().await, 0..300);

    // The folder without a name is one like others.
    let unnamed = import("s3://bucket/set//").await;
    assert_eq!((unnamed.rows_resumed, unnamed.errors.len()), (100, 0), "the same object as before");
    assert_eq!(import("s3://bucket/set//*.parquet").await.rows_resumed, 100);
    assert_eq!(import("s3://bucket/set//d*p//*.parquet").await.rows_written, 100);
    // A folder that can't be looked into is named, once it is looked for.
    let status = view.import(&urls(&["s3://bucket/set/*/*.parquet"])).await.unwrap_err();
    assert!(status.message().contains("s3://bucket/set/../"), "{status:?}");
    let status = view.import(&urls(&["s3://bucket//set/a.parquet"])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("begins with a slash"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_part_of_a_key_is_signed_as_it_is() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(store.path(), "bucket/set/a.parquet", &rows::parquet(0..100, 1));
    let s3 = S3::start(store.path()).await;
    let server = start(data.path(), &s3, SECRET).await;
    let view = View::new(&server);
    view.create().await;
    // The server behind the signature keeps objects on a disk, where both keys are one.
    assert_eq!(view.import(&urls(&["s3://bucket/set//a.parquet"])).await.unwrap().rows_written, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_urls_are_paths() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(folder.path(), "with space/a.parquet", &rows::parquet(0..10, 1));
    let server = Server::start(data.path()).await;
    let view = View::new(&server);
    view.create().await;
    let url = format!("file://{}/with%20space/*.parquet", folder.path().display());
    assert_eq!(view.import(&[url]).await.unwrap().rows_written, 10);
    rows::check(&view.points().await, 0..10);
}
