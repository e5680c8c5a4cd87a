//! Objects of a store in memory that counts what it is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::Read as _;
use std::path::Path as LocalPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::import::ImportFormat;
use crate::import::location::{Location, ObjectUrl};

/// A store in memory, with counters.
#[derive(Debug, Clone, Default)]
struct Counted {
    memory: Arc<InMemory>,
    requests: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    lists: Arc<AtomicU64>,
}

impl Counted {
    fn asked(&self) -> (u64, u64) {
        (self.requests.swap(0, Ordering::SeqCst), self.bytes.swap(0, Ordering::SeqCst))
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store in memory")
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.memory.put_opts(to, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let is_head = options.head;
        let got = self.memory.get_opts(key, options).await?;
        if !is_head {
            self.requests.fetch_add(1, Ordering::SeqCst);
            self.bytes.fetch_add(got.range.end - got.range.start, Ordering::SeqCst);
        }
        Ok(got)
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.memory.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

fn url(text: &str) -> ObjectUrl {
    match Location::of(LocalPath::new(text), "paths[0]").unwrap() {
        Location::Object(url) => url,
        Location::Local(path) => panic!("{path:?} is no URL"),
    }
}

/// Runs on a thread that may block, over a store with these objects.
async fn over<T: Send + 'static>(
    objects: &[(&str, Vec<u8>)],
    cancel: CancellationToken,
    work: impl FnOnce(&mut Stores, Counted) -> T + Send + 'static,
) -> T {
    let store = Counted::default();
    for (key, bytes) in objects {
        store.put(&Path::parse(key).unwrap(), bytes.clone().into()).await.unwrap();
    }
    let work = move || {
        let mut stores = Stores::new(cancel).unwrap();
        stores.place(&url("s3://b"), Box::new(store.clone()));
        work(&mut stores, store)
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn names(found: Result<Vec<Found>>) -> Vec<String> {
    found.unwrap().into_iter().map(|found| found.url.trim_start_matches("s3://b/").to_owned()).collect()
}

fn input(stores: &mut Stores, key: &str) -> ObjectInput {
    let found = find(stores, &url(&format!("s3://b/{key}")), Some(ImportFormat::Jsonl), "paths[0]").unwrap();
    ObjectInput::new(Arc::clone(found[0].object.as_ref().unwrap()))
}

fn numbers(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7) as u8).collect()
}

#[tokio::test]
async fn keys_folders_and_patterns_find_what_they_would_on_a_disk() {
    let keys = [
        "a.parquet",
        "x/a.parquet",
        "x/b.jsonl",
        "x/c.txt",
        "x/y/d.parquet",
        "x/y/z/e.pq",
        "x2/f.parquet",
        "w/[1].pq",
    ];
    let objects: Vec<_> = keys.iter().map(|key| (*key, vec![1])).collect();
    over(&objects, CancellationToken::new(), |stores, store| {
        for (pattern, format, expected) in [
            ("x/a.parquet", None, &["x/a.parquet"][..]),
            ("x/c.txt", Some(ImportFormat::Jsonl), &["x/c.txt"]),
            ("x", None, &["x/a.parquet", "x/b.jsonl"]),
            ("x/", None, &["x/a.parquet", "x/b.jsonl"]),
            ("x/", Some(ImportFormat::Jsonl), &["x/b.jsonl"]),
            ("", None, &["a.parquet"]),
            ("x/*", None, &["x/a.parquet", "x/b.jsonl"]),
            ("x/*.parquet", None, &["x/a.parquet"]),
            ("x*/*.parquet", None, &["x/a.parquet", "x2/f.parquet"]),
            ("x/?/[a-d].parquet", None, &["x/y/d.parquet"]),
            ("*/y/*.parquet", None, &["x/y/d.parquet"]),
            ("**/*.parquet", None, &["a.parquet", "x/a.parquet", "x/y/d.parquet", "x2/f.parquet"]),
            ("x/**", None, &["x/a.parquet", "x/b.jsonl", "x/y/d.parquet", "x/y/z/e.pq"]),
            ("x/*.{parquet,jsonl}", None, &["x/a.parquet", "x/b.jsonl"]),
            ("w/[1].pq", None, &["w/[1].pq"]),
            ("x/none*", None, &[]),
        ] {
            let found = find(stores, &url(&format!("s3://b/{pattern}")), format, "paths[0]");
            assert_eq!(names(found), expected, "{pattern}");
        }
        store.lists.store(0, Ordering::SeqCst);
        names(find(stores, &url("s3://b/x/y/*.parquet"), None, "paths[0]"));
        assert_eq!(store.lists.load(Ordering::SeqCst), 1, "only the folder that can match is listed");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_told_with_its_url() {
    over(&[("x/a.txt", vec![1])], CancellationToken::new(), |stores, _| {
        for (key, kind, word) in [
            ("none.parquet", ErrorKind::NotFound, "expected an object"),
            ("none/", ErrorKind::NotFound, "expected an object"),
            ("x/a.txt", ErrorKind::InvalidArgument, "or a format"),
            ("x//a.parquet", ErrorKind::NotFound, "s3://b/x//a.parquet"),
            ("/a.parquet", ErrorKind::InvalidArgument, "begins with a slash"),
            ("x/../a.parquet", ErrorKind::InvalidArgument, "s3://b/x/../a.parquet"),
            ("x/[a.parquet", ErrorKind::InvalidArgument, "[a.parquet"),
        ] {
            let error = find(stores, &url(&format!("s3://b/{key}")), None, "paths[3]").unwrap_err();
            assert_eq!((error.kind(), error.field()), (kind, Some("paths[3]")), "{key}: {error}");
            assert!(error.message().contains(word), "{key}: {error}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_end_comes_with_one_request_and_a_whole_read_with_few() {
    let content = numbers(20 << 20);
    over(&[("a", content.clone())], CancellationToken::new(), move |stores, store| {
        let input = input(stores, "a");
        let length = content.len() as u64;
        assert_eq!(input.len(), length);
        // A trailer, then the footer before it.
        assert_eq!(input.read_at(length - 8, 8).unwrap(), content[content.len() - 8..]);
        assert_eq!(input.read_at(length - 5_008, 5_000).unwrap(), content[content.len() - 5_008..][..5_000]);
        assert_eq!(store.asked(), (1, 64 << 10));
        assert_eq!(input.read_at(77, 1_000).unwrap(), content[77..1_077]);
        assert_eq!(store.asked(), (1, 1_000));

        let mut read = Vec::new();
        input.read_from(1_000).read_to_end(&mut read).unwrap();
        assert!(read == content[1_000..], "another content");
        let (requests, bytes) = store.asked();
        assert!(requests <= 4 && bytes <= length + (64 << 10), "{requests} requests, {bytes} bytes");
        for (start, count) in [(length, 1), (length - 3, 4), (u64::MAX, 1), (0, content.len() + 1)] {
            assert_eq!(input.read_at(start, count).unwrap_err().kind(), ErrorKind::BadContent);
        }
        assert_eq!(input.read_from(length + 9).read(&mut [0; 4]).unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn columns_that_are_read_side_by_side_are_fetched_once() {
    const COLUMN: usize = 3 << 20;
    let content = numbers(12 * COLUMN);
    over(&[("a", content.clone())], CancellationToken::new(), move |stores, store| {
        // Every second one is needed. More columns than windows of full size.
        let starts: Vec<usize> = (0..12).step_by(2).map(|at| at * COLUMN).collect();
        let ranges = starts.iter().map(|&start| start as u64..(start + COLUMN) as u64);
        let input = input(stores, "a").with_columns(ranges).unwrap();
        let pages = COLUMN / 1_000;
        for page in 0..pages {
            for start in &starts {
                // As a reader of pages does: a few bytes of a header, then the page.
                let at = start + page * 1_000;
                let mut header = [0; 20];
                input.read_from(at as u64).read_exact(&mut header).unwrap();
                assert_eq!(header, content[at..at + 20]);
                assert_eq!(input.read_at(at as u64 + 20, 980).unwrap(), content[at + 20..at + 1_000]);
            }
        }
        let (requests, bytes) = store.asked();
        let needed = (starts.len() * COLUMN) as u64;
        assert!(
            requests <= 12 && bytes < needed + needed / 10,
            "{requests} requests, {bytes} of {needed} bytes"
        );
        // Between the columns too, and columns that lead out of the object.
        assert_eq!(input.read_at(COLUMN as u64 + 5, 9).unwrap(), content[COLUMN + 5..][..9]);
        let hostile = input.with_columns([5..u64::MAX, u64::MAX - 1..u64::MAX, 9..9]).unwrap();
        assert_eq!(hostile.read_at(5, 10).unwrap(), content[5..15]);
    })
    .await;
}

#[tokio::test]
async fn an_object_that_is_replaced_is_not_read_on() {
    over(&[("a", numbers(1_000))], CancellationToken::new(), |stores, store| {
        let input = input(stores, "a");
        let before = find(stores, &url("s3://b/a"), Some(ImportFormat::Jsonl), "").unwrap();
        tokio::runtime::Handle::current()
            .block_on(store.put(&Path::from("a"), Bytes::from(numbers(1_000)).into()))
            .unwrap();
        let error = input.read_at(0, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("s3://b/a") && error.message().contains("replaced"), "{error}");
        assert_eq!(input.failure().as_ref().map(Error::message), Some(error.message()));
        let after = find(stores, &url("s3://b/a"), Some(ImportFormat::Jsonl), "").unwrap();
        assert_ne!(
            before[0].object.as_ref().unwrap().identity(),
            after[0].object.as_ref().unwrap().identity(),
            "equal size, other content"
        );
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_import_waits_for_no_store() {
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    over(&[("a", numbers(10))], cancel, move |stores, _| {
        let input = input(stores, "a");
        token.cancel();
        assert_eq!(input.read_at(0, 10).unwrap_err().kind(), ErrorKind::Cancelled);
        let error = find(stores, &url("s3://b/a"), None, "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    })
    .await;
}
