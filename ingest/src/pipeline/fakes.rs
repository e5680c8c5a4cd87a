//! A sink over a map and an embedder over words, for the tests of pipeline and sources.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Pipeline, PipelineConfig, chunk_key};
use crate::chunk::embedding_text;
use crate::document::{DocumentEntry, EntryState, Retry};
use crate::embed::registry::EmbedderRegistry;
use crate::embed::service::{EmbedService, ServiceOptions};
use crate::embed::{Embedder, EmbedderInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{BatchSink, RowsWritten, Target, TargetSpace};

pub(crate) const DIMENSION: u32 = 4;

/// Tokens are words; a vector is the word count and some of the text's hash.
#[derive(Debug)]
pub(crate) struct FakeEmbedder {
    info: EmbedderInfo,
    /// While set, every text fails.
    pub broken: AtomicBool,
    pub texts: Mutex<Vec<String>>,
}

impl FakeEmbedder {
    pub fn new() -> Arc<Self> {
        let info = EmbedderInfo {
            name: "fake".into(),
            dimension: DIMENSION,
            max_tokens: 64,
            fingerprint: "fake/1".into(),
        };
        Arc::new(Self { info, broken: AtomicBool::new(false), texts: Mutex::default() })
    }
}

impl Embedder for FakeEmbedder {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    fn token_spans(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
        Ok(text.split_whitespace().map(|word| start(word)..start(word) + word.len()).collect())
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the embedder is away"));
        }
        self.texts.lock().extend(texts.iter().map(|text| (*text).to_owned()));
        Ok(texts.iter().map(|text| vector_of(text)).collect())
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>> {
        Ok(vector_of(text))
    }
}

pub(crate) fn vector_of(text: &str) -> Vec<f32> {
    let hash = blake3::hash(text.as_bytes());
    hash.as_bytes().iter().take(DIMENSION as usize).map(|byte| f32::from(*byte)).collect()
}

#[derive(Debug, Clone)]
pub(crate) struct StoredDocument {
    pub entry: DocumentEntry,
    pub points: Option<RecordBatch>,
}

impl StoredDocument {
    /// The texts of its points.
    pub fn texts(&self) -> Vec<String> {
        let Some(points) = &self.points else { return Vec::new() };
        let texts = points.column_by_name("text").unwrap().as_string::<i32>();
        texts.iter().map(|text| text.unwrap().to_owned()).collect()
    }

    /// The payload of its first point.
    pub fn payload(&self) -> serde_json::Value {
        let points = self.points.as_ref().unwrap();
        serde_json::from_str(points.column_by_name("payload").unwrap().as_string::<i32>().value(0)).unwrap()
    }
}

/// What was asked of the sink.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub puts: usize,
    pub failures: usize,
    pub renames: usize,
    pub touches: usize,
    pub deletes: usize,
    pub deleted: usize,
}

#[derive(Debug)]
pub(crate) struct MapSink {
    pub documents: Mutex<BTreeMap<String, StoredDocument>>,
    pub target: Mutex<Result<Target>>,
    pub calls: Mutex<Calls>,
    pub put_delay: Mutex<Duration>,
    /// Kept as the engine keeps them.
    pub retries: Mutex<BTreeMap<String, Retry>>,
    writers: Mutex<HashMap<String, usize>>,
}

impl MapSink {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            documents: Mutex::default(),
            target: Mutex::new(Ok(target(Some("fake/1"), DIMENSION))),
            calls: Mutex::default(),
            put_delay: Mutex::default(),
            retries: Mutex::default(),
            writers: Mutex::default(),
        })
    }

    pub fn get(&self, id: &str) -> Option<StoredDocument> {
        self.documents.lock().get(id).cloned()
    }
}

pub(crate) fn target(fingerprint: Option<&str>, dimension: u32) -> Target {
    let space = TargetSpace {
        name: "text".into(),
        dimension,
        embedder: Some("fake".into()),
        fingerprint: fingerprint.map(str::to_owned),
    };
    let own = TargetSpace { name: "own".into(), dimension: 2, embedder: None, fingerprint: None };
    Target { spaces: vec![own, space], dynamic_payload: true, ..Target::default() }
}

/// A pipeline over both.
pub(crate) fn pipeline(sink: &Arc<MapSink>, embedder: &Arc<FakeEmbedder>) -> Arc<Pipeline> {
    let registry = Arc::new(EmbedderRegistry::builtin().with(Arc::clone(embedder) as Arc<dyn Embedder>));
    let service = Arc::new(EmbedService::new(Arc::clone(&registry), ServiceOptions::default()).unwrap());
    let sink = Arc::clone(sink) as Arc<dyn BatchSink>;
    Arc::new(Pipeline::new(PipelineConfig::default(), registry, service, sink))
}

#[async_trait]
impl BatchSink for MapSink {
    async fn target(&self, _collection: &str) -> Result<Target> {
        self.target.lock().clone()
    }

    async fn document(&self, _collection: &str, id: &str) -> Result<Option<DocumentEntry>> {
        Ok(self.documents.lock().get(id).map(|stored| stored.entry.clone()))
    }

    async fn documents_of_source(&self, _collection: &str, source_id: &str) -> Result<Vec<DocumentEntry>> {
        let documents = self.documents.lock();
        let entries = documents.values().map(|stored| &stored.entry);
        Ok(entries.filter(|entry| entry.source_id == source_id).cloned().collect())
    }

    async fn document_vectors(&self, _: &str, id: &str) -> Result<HashMap<(String, String), Vec<f32>>> {
        let documents = self.documents.lock();
        let Some(StoredDocument { points: Some(points), .. }) = documents.get(id) else {
            return Ok(HashMap::new());
        };
        let column = |name: &str| points.column_by_name(name).unwrap();
        let vectors = column("vector:text").as_fixed_size_list();
        let keys = (0..points.num_rows()).map(|row| {
            let title = column("title").as_string::<i32>();
            let title = if title.is_null(row) { "" } else { title.value(row) };
            let headings = column("heading_path").as_list::<i32>();
            let path: Vec<String> = if headings.is_null(row) {
                Vec::new()
            } else {
                headings.value(row).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
            };
            let text = column("text").as_string::<i32>().value(row);
            let vector = vectors.value(row).as_primitive::<Float32Type>().values().to_vec();
            (("text".to_owned(), chunk_key("fake/1", &embedding_text(title, &path, text))), vector)
        });
        Ok(keys.collect())
    }

    async fn put_document(&self, _: &str, entry: DocumentEntry, points: Option<RecordBatch>) -> Result<u64> {
        let writers = {
            let mut writers = self.writers.lock();
            let number = writers.entry(entry.id.clone()).or_default();
            *number += 1;
            *number
        };
        assert_eq!(writers, 1, "two writes of {} at the same time", entry.id);
        let delay = *self.put_delay.lock();
        tokio::time::sleep(delay).await;
        self.writers.lock().remove(&entry.id);
        let mut documents = self.documents.lock();
        let mut calls = self.calls.lock();
        assert_eq!(entry.state == EntryState::Indexed, points.is_some());
        match points {
            Some(_) => calls.puts += 1,
            None => calls.failures += 1,
        }
        self.retries.lock().remove(&entry.id);
        let older = documents.remove(&entry.id).and_then(|stored| stored.points);
        documents.insert(entry.id.clone(), StoredDocument { entry, points: points.or(older) });
        Ok((calls.puts + calls.failures) as u64)
    }

    async fn rename_document(&self, _: &str, from: &str, entry: DocumentEntry) -> Result<bool> {
        let mut documents = self.documents.lock();
        let Some(stored) = documents.remove(from) else { return Ok(false) };
        self.calls.lock().renames += 1;
        self.retries.lock().retain(|id, _| id != from && *id != entry.id);
        documents.insert(entry.id.clone(), StoredDocument { entry, points: stored.points });
        Ok(true)
    }

    async fn touch_document(&self, _: &str, entry: DocumentEntry) -> Result<()> {
        self.calls.lock().touches += 1;
        if let Some(stored) = self.documents.lock().get_mut(&entry.id) {
            stored.entry = entry;
        }
        Ok(())
    }

    async fn delete_documents(&self, _: &str, ids: Vec<String>) -> Result<u64> {
        let mut calls = self.calls.lock();
        calls.deletes += 1;
        calls.deleted += ids.len();
        self.documents.lock().retain(|id, _| !ids.contains(id));
        self.retries.lock().retain(|id, _| !ids.contains(id));
        Ok(0)
    }

    async fn put_retries(&self, _: &str, retries: Vec<(String, Retry)>) -> Result<()> {
        self.retries.lock().extend(retries);
        Ok(())
    }

    async fn retries(&self, _: &str, prefix: &str) -> Result<Vec<(String, Retry)>> {
        let retries = self.retries.lock().clone();
        Ok(retries.into_iter().filter(|(id, _)| id.starts_with(prefix)).collect())
    }

    async fn forget_retries(&self, _: &str, ids: Vec<String>) -> Result<()> {
        self.retries.lock().retain(|id, _| !ids.contains(id));
        Ok(())
    }

    async fn write_rows(
        &self,
        _: &str,
        _: RecordBatch,
        _: Option<(String, Vec<u8>)>,
        _: bool,
    ) -> Result<RowsWritten> {
        Err(Error::new(ErrorKind::Internal, "no rows are written here"))
    }

    async fn checkpoint(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
