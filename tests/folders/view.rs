//! A server's folder as clients see it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ragstone_proto::v1 as api;
use tonic::transport::Channel;

use crate::server::Server;

/// A collection of a server that follows a folder.
pub(crate) struct View {
    collection: String,
    ingest: api::ingest_service_client::IngestServiceClient<Channel>,
    points: api::point_service_client::PointServiceClient<Channel>,
    admin: api::admin_service_client::AdminServiceClient<Channel>,
}

impl View {
    pub(crate) fn new(server: &Server, collection: &str) -> Self {
        let channel = || server.channel.clone();
        Self {
            collection: collection.to_owned(),
            ingest: api::ingest_service_client::IngestServiceClient::new(channel()),
            points: api::point_service_client::PointServiceClient::new(channel()),
            admin: api::admin_service_client::AdminServiceClient::new(channel()),
        }
    }

    pub(crate) async fn watch(&self, folder: &Path) {
        let request = api::AddSourceRequest {
            collection: self.collection.clone(),
            path: folder.to_str().unwrap().to_owned(),
            ..Default::default()
        };
        self.ingest.clone().add_source(request).await.unwrap();
    }

    /// Points in the collection.
    pub(crate) async fn points(&self) -> u64 {
        let request = api::CountPointsRequest { collection: self.collection.clone(), filter: None };
        self.points.clone().count_points(request).await.unwrap().into_inner().count
    }

    /// Waits until there are so many points, or for so long.
    pub(crate) async fn reaches(&self, points: u64, patience: Duration) {
        let end = Instant::now() + patience;
        while self.points().await < points && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Texts that were embedded since the server started.
    pub(crate) async fn embedded(&self) -> u64 {
        let stats = self.admin.clone().get_stats(api::GetStatsRequest::default()).await.unwrap();
        stats.into_inner().embedding.unwrap().embedded
    }

    /// Waits until the source has nothing to do: in two looks, as a change may not have been noticed yet.
    pub(crate) async fn settled(&self, patience: Duration) -> api::Source {
        let end = Instant::now() + patience;
        let mut quiet = 0;
        loop {
            let sources = self.ingest.clone().list_sources(api::ListSourcesRequest::default()).await.unwrap();
            let source = sources.into_inner().sources.remove(0);
            let is_quiet = source.state() == api::SourceState::Watching && source.files_pending == 0;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet == 3 {
                return source;
            }
            assert!(Instant::now() < end, "not settled: {source:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, mut check: impl FnMut() -> F) {
        let end = Instant::now() + Duration::from_secs(240);
        while !check().await {
            assert!(Instant::now() < end, "did not come true: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The chunks of a document, in order, as one call finds them.
    pub(crate) async fn document(&self, file: &Path, chunks: usize) -> Vec<String> {
        let ids = (0..=chunks).map(|i| format!("{}#{i}", file.display())).collect();
        let request =
            api::GetPointsRequest { collection: self.collection.clone(), ids, ..Default::default() };
        let points = self.points.clone().get_points(request).await.unwrap().into_inner().points;
        points.into_iter().map(|point| point.text).collect()
    }

    /// Whether a chunk of each long file has a word.
    pub(crate) async fn all_contain(&self, folder: &Path, files: usize, word: &str) -> bool {
        for file in 0..files {
            let chunks = self.document(&folder.join(crate::texts::name(file)), crate::texts::SECTIONS).await;
            if !chunks.iter().any(|text| text.split_whitespace().any(|found| found == word)) {
                return false;
            }
        }
        true
    }

    /// Everything in the folder is there once and whole, and nothing else. `exact`: every file is one that can be indexed.
    pub(crate) async fn agrees_with(&self, folder: &Path, exact: bool) {
        let mut on_disk = BTreeSet::new();
        walk(folder, &mut on_disk);
        let documents = self.documents().await;
        for id in documents.keys() {
            assert!(on_disk.contains(Path::new(id)), "{id} is not in the folder");
        }
        if exact {
            assert_eq!(documents.len(), on_disk.len());
        }
        let mut chunks: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for point in self.scroll().await {
            let origin = point.origin.unwrap();
            assert!(ids.insert(point.id.clone()), "{} is there twice", point.id);
            chunks.entry(origin.document_id).or_default().push((origin.chunk_index.unwrap_or(0), point.text));
        }
        for (id, expected) in &documents {
            let mut found = chunks.remove(id).unwrap_or_default();
            found.sort();
            let numbers: Vec<u32> = found.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, (0..*expected).collect::<Vec<_>>(), "the chunks of {id}");
            if exact {
                let text = words(&fs::read_to_string(id).unwrap());
                for (_, chunk) in &found {
                    assert!(text.contains(&words(chunk)), "{chunk:?} is not in {id}");
                }
            }
        }
        assert!(chunks.is_empty(), "points of no document: {:?}", chunks.keys().collect::<Vec<_>>());
    }

    /// Chunks of the indexed documents by id.
    async fn documents(&self) -> BTreeMap<String, u32> {
        let (mut documents, mut page) = (BTreeMap::new(), String::new());
        loop {
            let request = api::ListDocumentsRequest {
                collection: self.collection.clone(),
                limit: Some(1_000),
                page,
                prefix: String::new(),
            };
            let reply = self.ingest.clone().list_documents(request).await.unwrap().into_inner();
            let indexed = reply.documents.into_iter().filter(|d| d.state() == api::DocumentState::Indexed);
            documents.extend(indexed.map(|document| (document.id, document.chunks)));
            if reply.next_page.is_empty() {
                return documents;
            }
            page = reply.next_page;
        }
    }

    async fn scroll(&self) -> Vec<api::Point> {
        let (mut points, mut page) = (Vec::new(), String::new());
        loop {
            let request = api::ScrollPointsRequest {
                collection: self.collection.clone(),
                limit: Some(1_000),
                page,
                ..Default::default()
            };
            let reply = self.points.clone().scroll_points(request).await.unwrap().into_inner();
            points.extend(reply.points);
            if reply.next_page.is_empty() {
                return points;
            }
            page = reply.next_page;
        }
    }
}

/// A text without its line ends and double spaces.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), files);
        } else {
            files.insert(entry.path());
        }
    }
}
