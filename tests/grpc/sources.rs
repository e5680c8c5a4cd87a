//! Watched folders over gRPC: followed, remembered over a restart, forgotten when removed.

use std::path::Path;

use ragstone_proto::v1;
use tonic::Code;

use crate::harness::{TestServer, eventually, refused};

async fn add(server: &TestServer, path: &Path) -> v1::Source {
    let request = v1::AddSourceRequest {
        collection: "c".into(),
        path: path.to_str().unwrap().into(),
        ignore: vec!["*.secret".into()],
        ..Default::default()
    };
    server.ingest().add_source(request).await.unwrap().into_inner().source.unwrap()
}

async fn sources(server: &TestServer) -> Vec<v1::Source> {
    let request = v1::ListSourcesRequest { collection: "c".into() };
    server.ingest().list_sources(request).await.unwrap().into_inner().sources
}

async fn documents(server: &TestServer) -> Vec<String> {
    let request = v1::ListDocumentsRequest { collection: "c".into(), ..Default::default() };
    let documents = server.ingest().list_documents(request).await.unwrap().into_inner().documents;
    documents.into_iter().map(|document| document.id.rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_folder_is_followed_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.txt", "the first note");
    write("b.secret", "a password");
    write("c.bin", "\0\x01\x02\u{fffd}\0\0\0");
    let mut server = TestServer::start().await;
    server.create("c").await;
    let source = add(&server, folder.path()).await;
    eventually("the first file is there", async || documents(&server).await.contains(&"a.txt".to_owned()))
        .await;
    // The same request again is no second source.
    assert_eq!(add(&server, folder.path()).await.id, source.id);
    assert_eq!(sources(&server).await.len(), 1);

    server.stop().await;
    write("d.md", "# While nobody looked\n\nA note was written.");
    std::fs::remove_file(folder.path().join("a.txt")).unwrap();
    server.restart().await;
    eventually("the folder is followed again", async || {
        let documents = documents(&server).await;
        documents.contains(&"d.md".to_owned()) && !documents.contains(&"a.txt".to_owned())
    })
    .await;
    write("e.txt", "written while the server runs");
    eventually("changes are noticed", async || documents(&server).await.contains(&"e.txt".to_owned())).await;
    eventually("it watches", async || sources(&server).await[0].state() == v1::SourceState::Watching).await;

    let request = v1::ListSourceFilesRequest { source_id: source.id.clone(), ..Default::default() };
    let files = server.ingest().list_source_files(request).await.unwrap().into_inner().files;
    let state = |name: &str| files.iter().find(|file| file.path == name).map(v1::SourceFile::state);
    assert_eq!(state("e.txt"), Some(v1::FileState::Indexed));
    assert_eq!(state("a.txt"), None);
    assert!(matches!(state("c.bin"), Some(v1::FileState::Failed | v1::FileState::Skipped)), "{files:?}");

    let remove = v1::RemoveSourceRequest { source_id: source.id.clone(), delete_documents: true };
    assert!(server.ingest().remove_source(remove).await.unwrap().into_inner().deleted_documents >= 2);
    server.restart().await;
    assert!(sources(&server).await.is_empty());
    assert_eq!(server.count("c").await, 0);
}

#[tokio::test]
async fn a_folder_of_the_configuration_makes_its_collection() {
    let server = TestServer::with(|config| {
        let folder = config.data_dir.with_file_name("notes");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.txt"), "a configured note").unwrap();
        config.watch = vec![ragstone::config::WatchConfig {
            path: folder,
            collection: "c".into(),
            ignore: Vec::new(),
            poll: false,
            options: Default::default(),
            password_file: None,
        }];
    });
    let mut server = server.await;
    eventually("it is indexed", async || documents(&server).await == ["a.txt"]).await;
    server.restart().await;
    assert_eq!(sources(&server).await.len(), 1);
}

#[tokio::test]
async fn folders_that_can_not_be_watched() {
    let server = TestServer::start().await;
    server.create("c").await;
    let check = async |collection: &str, path: &str, code, field: &str| {
        let request = v1::AddSourceRequest {
            collection: collection.into(),
            path: path.into(),
            ignore: Vec::new(),
            ..Default::default()
        };
        refused(server.ingest().add_source(request).await, code, field);
    };
    check("c", "", Code::InvalidArgument, "path").await;
    check("c", "relative/folder", Code::InvalidArgument, "path").await;
    check("c", "/no/such/folder", Code::InvalidArgument, "path").await;
    check("c", "/dev/null", Code::InvalidArgument, "path").await;
    check("nosuch", "/tmp", Code::NotFound, "").await;
    let request = v1::RemoveSourceRequest { source_id: "nosuch".into(), ..Default::default() };
    refused(server.ingest().remove_source(request).await, Code::NotFound, "");
    let request = v1::ListSourceFilesRequest { source_id: "nosuch".into(), ..Default::default() };
    refused(server.ingest().list_source_files(request).await, Code::NotFound, "");
}

#[tokio::test]
async fn what_failed_is_listed_retried_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.txt"), "a note that can be read").unwrap();
    std::fs::write(folder.path().join("bad.pdf"), "%PDF-1.4 and nothing more").unwrap();
    let mut server = TestServer::start().await;
    server.create("c").await;
    let source_id = add(&server, folder.path()).await.id;
    let failed = async |server: &TestServer| {
        let request = v1::ListSourceFilesRequest {
            source_id: source_id.clone(),
            states: vec![v1::FileState::Failed.into()],
            ..Default::default()
        };
        server.ingest().list_source_files(request).await.unwrap().into_inner().files
    };
    eventually("it fails", async || failed(&server).await.len() == 1).await;
    let file = failed(&server).await.remove(0);
    assert_eq!((file.path.as_str(), file.retry_at.as_str()), ("bad.pdf", ""));
    assert!(!file.reason.is_empty());

    let retry = |paths: &[&str]| v1::RetrySourceFilesRequest {
        source_id: source_id.clone(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    assert_eq!(server.ingest().retry_source_files(retry(&["good.txt"])).await.unwrap().into_inner().files, 0);
    assert_eq!(server.ingest().retry_source_files(retry(&["bad.pdf"])).await.unwrap().into_inner().files, 1);
    let clear = v1::ClearSourceFailuresRequest { source_id: source_id.clone(), paths: Vec::new() };
    // Not before it has failed again: one that is about to be tried stays listed.
    eventually("it is cleared", async || {
        server.ingest().clear_source_failures(clear.clone()).await.unwrap().into_inner().files == 1
    })
    .await;
    assert_eq!(server.ingest().clear_source_failures(clear).await.unwrap().into_inner().files, 0);
    server.restart().await;
    eventually("it watches", async || sources(&server).await[0].state() == v1::SourceState::Watching).await;
    assert!(failed(&server).await.is_empty());

    let scan = |reingest_outdated, accept_loss| v1::ScanSourceRequest {
        source_id: source_id.clone(),
        reingest_outdated,
        accept_loss,
    };
    assert_eq!(server.ingest().scan_source(scan(true, false)).await.unwrap().into_inner().outdated, 0);
    let refusal = server.ingest().scan_source(scan(false, true)).await;
    refused(refusal, Code::FailedPrecondition, "");
    let nosuch = v1::ScanSourceRequest { source_id: "nosuch".into(), ..Default::default() };
    refused(server.ingest().scan_source(nosuch).await, Code::NotFound, "");
    let too_many = v1::RetrySourceFilesRequest { source_id, paths: vec![String::new(); 65_537] };
    refused(server.ingest().retry_source_files(too_many).await, Code::InvalidArgument, "paths");
}

#[tokio::test]
async fn the_same_words_in_another_collection_are_not_embedded_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "words that are embedded once").unwrap();
    let mut server = TestServer::start().await;
    let embedding = async |server: &TestServer| {
        let stats = server.admin().get_stats(v1::GetStatsRequest::default()).await.unwrap();
        stats.into_inner().embedding.unwrap()
    };
    server.create("c").await;
    add(&server, folder.path()).await;
    eventually("it is indexed", async || server.count("c").await == 1).await;
    let first = embedding(&server).await;
    assert_eq!((first.embedded, first.cache.unwrap().vectors), (1, 1));
    server.restart().await;
    server.create("d").await;
    let request = v1::AddSourceRequest {
        collection: "d".into(),
        path: folder.path().to_str().unwrap().into(),
        poll: true,
        ..Default::default()
    };
    let source = server.ingest().add_source(request).await.unwrap().into_inner().source.unwrap();
    assert!(source.poll && !source.has_events);
    eventually("it is indexed there", async || server.count("d").await == 1).await;
    let second = embedding(&server).await;
    assert_eq!((second.embedded, second.cache.unwrap().hits), (0, 1));
}

#[tokio::test]
async fn files_expire_by_their_last_change() {
    use std::time::{Duration, SystemTime};
    const TTL: Duration = Duration::from_secs(1_800);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, age: Duration| {
        let file = std::fs::File::create(folder.path().join(name)).unwrap();
        std::io::Write::write_all(&mut &file, b"words for a while").unwrap();
        let modified = SystemTime::now() - age;
        file.set_modified(modified).unwrap();
        modified.duration_since(SystemTime::UNIX_EPOCH).unwrap() + TTL
    };
    let end = write("young.txt", Duration::from_secs(60));
    write("old.txt", TTL + Duration::from_secs(60));
    let mut server = TestServer::start().await;
    server.create("c").await;
    let request = |ttl| v1::AddSourceRequest {
        collection: "c".into(),
        path: folder.path().to_str().unwrap().into(),
        ttl_seconds: ttl,
        ..Default::default()
    };
    refused(server.ingest().add_source(request(Some(0))).await, Code::InvalidArgument, "ttl_seconds");
    let added = server.ingest().add_source(request(Some(TTL.as_secs()))).await.unwrap().into_inner();
    assert_eq!(added.source.unwrap().ttl_seconds, Some(TTL.as_secs()));
    let at_rest = async |server: &TestServer, indexed, skipped| {
        eventually("it is at rest", async || {
            let source = sources(server).await.remove(0);
            let counts = (source.files_indexed, source.files_skipped);
            counts == (indexed, skipped) && source.state() == v1::SourceState::Watching
        })
        .await;
    };
    at_rest(&server, 1, 1).await;
    let request = v1::ScrollPointsRequest { collection: "c".into(), ..Default::default() };
    let points = server.points().scroll_points(request).await.unwrap().into_inner().points;
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].expires_at_ms, Some(end.as_millis() as i64));
    assert!(!points[0].payload.as_ref().unwrap().fields.contains_key("_expires_at"));
    // It is not read again, also not after a restart, before it changes.
    server.restart().await;
    at_rest(&server, 1, 1).await;
    write("old.txt", Duration::ZERO);
    at_rest(&server, 2, 0).await;
    write("young.txt", TTL + Duration::from_secs(60));
    at_rest(&server, 1, 1).await;
    assert_eq!(server.count("c").await, 1);
}

/// A ZIP archive of one file, which says "a treasure of words"; encrypted with [`PASSWORD`].
const LOCKED: &[u8] =
    b"PK\x03\x04\x14\x00\x01\x00\x00\x00\x00\x00!\x00\xae\xe6\xc9\xed\x1f\x00\x00\x00\x13\x00\x00\x00\x05\
    \x00\x00\x00a.txt\xa4l\x8eS\x84?\xce\x97\xce\xdf\xe1\xe3\xb2\xc2\xd9\xa78>p,\x8b9H\xc5-\xb6\xa2\xe1\
    \xc9M\xfbPK\x01\x02\x14\x00\x14\x00\x01\x00\x00\x00\x00\x00!\x00\xae\xe6\xc9\xed\x1f\x00\x00\x00\x13\
    \x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00a.txtPK\x05\x06\
    \x00\x00\x00\x00\x01\x00\x01\x003\x00\x00\x00B\x00\x00\x00\x00\x00";
const PASSWORD: &str = "open sesame 4711";

#[tokio::test]
async fn passwords_of_a_source_stay_in_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("passwords");
    std::fs::write(folder.path().join("locked.zip"), LOCKED).unwrap();
    std::fs::write(&file, "wrong\n").unwrap();
    let mut server = TestServer::start().await;
    server.create("c").await;
    let request = |password_file: &str| v1::AddSourceRequest {
        collection: "c".into(),
        path: folder.path().to_str().unwrap().into(),
        password_file: password_file.into(),
        poll: true,
        ..Default::default()
    };
    for bad in ["passwords", elsewhere.path().join("missing").to_str().unwrap()] {
        refused(server.ingest().add_source(request(bad)).await, Code::InvalidArgument, "password_file");
    }
    server.ingest().add_source(request(file.to_str().unwrap())).await.unwrap();
    eventually("it needs a password", async || sources(&server).await[0].files_failed == 1).await;
    // What is added to the file is tried with the next scan, without a restart or another call.
    std::fs::write(&file, format!("wrong\n{PASSWORD}\n")).unwrap();
    eventually("it is opened", async || server.count("c").await == 1).await;
    server.restart().await;
    eventually("it watches", async || sources(&server).await[0].state() == v1::SourceState::Watching).await;
    let source = sources(&server).await.remove(0);
    assert_eq!((source.passwords, source.files_indexed, source.files_outdated), (2, 1, 0));
    assert_eq!(source.password_file, file.to_str().unwrap());
    assert!(!format!("{source:?}").contains("sesame"));
    // Without its file it does nothing rather than something else, and says so.
    std::fs::remove_file(&file).unwrap();
    eventually("it is unavailable", async || {
        let source = sources(&server).await.remove(0);
        source.state() == v1::SourceState::Unavailable && source.error.contains("passwords")
    })
    .await;
    assert_eq!(server.count("c").await, 1);

    server.stop().await;
    let mut folders = vec![server.dir.path().to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let data = std::fs::read(entry.path()).unwrap();
            assert!(!data.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()), "{entry:?}");
            seen += 1;
        }
    }
    assert!(seen > 3, "the data folder was looked through");
}
