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
