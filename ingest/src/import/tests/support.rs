//! A sink over a map, an embedder that counts letters, and writers of files.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use async_trait::async_trait;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::document::DocumentEntry;
use crate::embed::{EmbedService, Embedder, EmbedderInfo, EmbedderRegistry, ServiceOptions};
use crate::error::{Error, Result};
use crate::import::{ImportJob, ImportProgress, ImportSummary, run};
use crate::sink::{BatchSink, RejectedRow, RowsWritten, Target, TargetSpace};

/// A stored point.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    pub document_id: Option<String>,
    pub text: Option<String>,
    pub title: Option<String>,
    pub payload: Option<serde_json::Value>,
    pub vectors: BTreeMap<String, Vec<f32>>,
    pub expires_at: Option<i64>,
    /// How often it was written.
    pub writes: usize,
}

/// A sink over a map. Points with the id "refuse" are refused.
#[derive(Default)]
pub struct MapSink {
    pub spaces: Vec<TargetSpace>,
    pub points: Mutex<BTreeMap<String, Point>>,
    pub checkpoints: Mutex<HashMap<String, Vec<u8>>>,
    pub writes: AtomicU64,
    /// Cancels the import after this many writes.
    pub cancel_after: Mutex<Option<(u64, CancellationToken)>>,
}

pub fn space(name: &str, dimension: u32, embedder: Option<&str>) -> TargetSpace {
    TargetSpace {
        name: name.to_owned(),
        dimension,
        embedder: embedder.map(str::to_owned),
        fingerprint: embedder.map(|_| "letters".to_owned()),
    }
}

impl MapSink {
    pub fn new(spaces: Vec<TargetSpace>) -> Arc<Self> {
        Arc::new(Self { spaces, ..Self::default() })
    }

    pub fn point(&self, id: &str) -> Point {
        self.points.lock().get(id).cloned().unwrap_or_else(|| panic!("no point {id:?}"))
    }

    pub fn len(&self) -> usize {
        self.points.lock().len()
    }
}

#[async_trait]
impl BatchSink for MapSink {
    async fn target(&self, _: &str) -> Result<Target> {
        Ok(Target { spaces: self.spaces.clone(), dynamic_payload: true, ..Target::default() })
    }

    async fn document(&self, _: &str, _: &str) -> Result<Option<DocumentEntry>> {
        unreachable!("imports have no documents")
    }

    async fn documents_of_source(&self, _: &str, _: &str) -> Result<Vec<DocumentEntry>> {
        unreachable!("imports have no documents")
    }

    async fn document_vectors(&self, _: &str, _: &str) -> Result<HashMap<(String, String), Vec<f32>>> {
        unreachable!("imports have no documents")
    }

    async fn put_document(&self, _: &str, _: DocumentEntry, _: Option<RecordBatch>) -> Result<u64> {
        unreachable!("imports have no documents")
    }

    async fn rename_document(&self, _: &str, _: &str, _: DocumentEntry) -> Result<bool> {
        unreachable!("imports have no documents")
    }

    async fn delete_documents(&self, _: &str, _: Vec<String>) -> Result<u64> {
        unreachable!("imports have no documents")
    }

    async fn write_rows(
        &self,
        _: &str,
        rows: RecordBatch,
        checkpoint: Option<(String, Vec<u8>)>,
        strict: bool,
    ) -> Result<RowsWritten> {
        assert!(rows.num_rows() > 0, "an empty write");
        tokio::task::yield_now().await;
        let text = |name: &str, row: usize| -> Option<String> {
            let column = rows.column_by_name(name)?.as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        let mut rejected = Vec::new();
        let mut points = self.points.lock();
        for row in 0..rows.num_rows() {
            let id = text("id", row).unwrap();
            if id == "refuse" {
                let (column, message) = ("id".to_owned(), "refused".to_owned());
                if strict {
                    return Err(Error::invalid(column, message));
                }
                rejected.push(RejectedRow { row, column, message });
                continue;
            }
            let point = points.entry(id).or_default();
            point.document_id = text("document_id", row);
            point.text = text("text", row);
            point.title = text("title", row);
            point.payload = text("payload", row).map(|json| serde_json::from_str(&json).unwrap());
            point.expires_at = rows.column_by_name("expires_at").and_then(|column| {
                let times = arrow::compute::cast(column, &arrow::datatypes::DataType::Int64).unwrap();
                let times = times.as_primitive::<arrow::datatypes::Int64Type>();
                times.is_valid(row).then(|| times.value(row))
            });
            point.writes += 1;
            for space in &self.spaces {
                let Some(column) = rows.column_by_name(&format!("vector:{}", space.name)) else { continue };
                let column = column.as_fixed_size_list();
                assert_eq!(column.value_length(), space.dimension as i32);
                if column.is_valid(row) {
                    let vector: ArrayRef = column.value(row);
                    point
                        .vectors
                        .insert(space.name.clone(), vector.as_primitive::<Float32Type>().values().to_vec());
                }
            }
        }
        drop(points);
        self.checkpoints.lock().extend(checkpoint);
        let writes = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((after, token)) = &*self.cancel_after.lock()
            && writes >= *after
        {
            token.cancel();
        }
        let upserted = (rows.num_rows() - rejected.len()) as u64;
        Ok(RowsWritten { seq_no: writes, upserted, rejected })
    }

    async fn checkpoint(&self, _: &str, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.checkpoints.lock().get(key).cloned())
    }
}

/// Makes (letters, 1). A token is a letter, and 20 of them fit.
#[derive(Debug)]
struct Letters(EmbedderInfo);

impl Embedder for Letters {
    fn info(&self) -> &EmbedderInfo {
        &self.0
    }

    fn token_spans(&self, text: &str) -> Result<Vec<Range<usize>>> {
        Ok(text.char_indices().map(|(at, c)| at..at + c.len_utf8()).collect())
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        texts.iter().map(|text| self.embed_query(text)).collect()
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>> {
        Ok(vec![text.chars().count() as f32, 1.0])
    }
}

pub fn embed_service() -> Arc<EmbedService> {
    let (name, fingerprint) = ("letters".to_owned(), "letters".to_owned());
    let letters = Letters(EmbedderInfo { name, dimension: 2, max_tokens: 22, fingerprint });
    let registry = EmbedderRegistry::builtin().with(Arc::new(letters));
    Arc::new(EmbedService::new(Arc::new(registry), ServiceOptions::default()).unwrap())
}

pub async fn import(sink: &Arc<MapSink>, job: ImportJob) -> Result<ImportSummary> {
    import_until(sink, job, CancellationToken::new()).await.0
}

/// Result and all progress messages.
pub async fn import_until(
    sink: &Arc<MapSink>,
    job: ImportJob,
    cancel: CancellationToken,
) -> (Result<ImportSummary>, Vec<ImportProgress>) {
    let (sender, mut receiver) = mpsc::channel(1_000);
    let sink = Arc::clone(sink) as Arc<dyn BatchSink>;
    let result = run(job, sink, embed_service(), sender, cancel).await;
    let mut messages = Vec::new();
    while let Ok(message) = receiver.try_recv() {
        messages.push(message);
    }
    (result, messages)
}

pub fn job(paths: &[&Path]) -> ImportJob {
    ImportJob::new("c", paths.iter().map(|path| path.to_path_buf()).collect())
}

pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

pub fn write_parquet(folder: &Path, name: &str, batch: &RecordBatch, row_group_rows: usize) -> PathBuf {
    let path = folder.join(name);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group_rows)).build();
    let mut writer =
        ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    path
}

pub fn write_arrow(folder: &Path, name: &str, batch: &RecordBatch, batch_rows: usize) -> PathBuf {
    let path = folder.join(name);
    let mut writer =
        arrow::ipc::writer::FileWriter::try_new(File::create(&path).unwrap(), &batch.schema()).unwrap();
    for from in (0..batch.num_rows()).step_by(batch_rows) {
        writer.write(&batch.slice(from, batch_rows.min(batch.num_rows() - from))).unwrap();
    }
    writer.finish().unwrap();
    path
}

pub fn write_lines(folder: &Path, name: &str, lines: &[&str]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}
