//! The engine in this process: a collection is filled through the durable log, and searched by threads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use ragstone_index::batch::{ID, PAYLOAD, vector_column};
use ragstone_index::collection::Collection;
use ragstone_index::filter::{Condition, FieldTest, Filter, Scalar};
use ragstone_index::schema::{
    CollectionSchema, FieldType, HnswOptions, IndexOptions, PayloadField, Quantization, VectorSpace,
    VectorStorage,
};
use ragstone_index::search::{Fusion, PayloadSelect, SearchRequest, SearchResponse, Select, VectorLeg};
use ragstone_index::store::{Store, StoreOptions};
use ragstone_index::write::{Change, WriteRequest};
use tokio_util::sync::CancellationToken;

use super::filters::RowFilter;
use super::measure::{Answers, Calls, Cell, Target};
use super::payloads::Payloads;
use super::process::Memory;
use super::truth::{Metric, Queries};
use super::vector_file::VectorFile;
use crate::cli::failure::Outcome;
use crate::cli::progress::Progress;

/// The collection that is measured, and its vector space.
pub(super) const COLLECTION: &str = "bench";
pub(super) const SPACE: &str = "vector";
/// Rows of a write, in process and through gRPC.
pub(super) const BATCH_ROWS: usize = 256;

/// Time between two looks at whether the command was told to stop.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How the collection is made.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) metric: Metric,
    pub(super) dimension: usize,
    pub(super) m: usize,
    pub(super) ef_construction: usize,
    pub(super) quantization: Quantization,
    pub(super) storage: VectorStorage,
    /// Merge everything into one segment.
    pub(super) compact: bool,
}

impl Settings {
    fn schema(&self, fields: Vec<String>) -> CollectionSchema {
        let space = VectorSpace {
            name: SPACE.to_owned(),
            dimension: self.dimension as u32,
            distance: self.metric.distance(),
            embedder: None,
            index: IndexOptions {
                hnsw: HnswOptions { m: self.m as u32, ef_construct: self.ef_construction as u32 },
                quantization: self.quantization,
                storage: self.storage,
                ..IndexOptions::default()
            },
        };
        let integer = |name| PayloadField { name, field_type: FieldType::Integer };
        CollectionSchema {
            vectors: vec![space],
            payload: fields.into_iter().map(integer).collect(),
            dynamic_payload: false,
            description: String::new(),
        }
    }
}

/// How long it took to fill a collection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    /// Until the last row was durable.
    pub(super) inserted: Duration,
    /// Until every row was indexed and nothing was left to merge.
    pub(super) indexed: Duration,
    /// The most memory that this process had until then, in bytes.
    pub(super) peak: u64,
}

/// An open data directory with the collection. Ctrl-C ends its background work.
#[derive(Debug)]
pub(super) struct Engine {
    store: Store,
    collection: Arc<Collection>,
}

impl Engine {
    /// Opens a data directory, and makes the collection when it is to be filled.
    pub(super) fn create(folder: &Path, settings: &Settings, payloads: &Payloads) -> Result<Self> {
        let store = Store::open(folder, StoreOptions::default())?;
        if store.collection(COLLECTION).is_ok() {
            bail!("{}: has been filled already; measure it with --reuse", folder.display());
        }
        let collection = store.create_collection(COLLECTION, settings.schema(payloads.fields()))?;
        Ok(Self { store, collection })
    }

    /// Opens one that was filled before, and checks that it fits.
    pub(super) fn reopen(
        folder: &Path,
        settings: &Settings,
        rows: usize,
        filters: &[RowFilter],
    ) -> Result<Self> {
        let named = || folder.display().to_string();
        ensure!(folder.is_dir(), "{}: no such folder", folder.display());
        let store = Store::open(folder, StoreOptions::default()).with_context(named)?;
        let collection = store.collection(COLLECTION).with_context(named)?;
        let checked = || -> Result<()> {
            let schema = collection.schema();
            let (_, space) = schema.vector_space(SPACE)?;
            ensure!(
                space.dimension as usize == settings.dimension
                    && space.distance == settings.metric.distance(),
                "was filled with {} components and {:?}",
                space.dimension,
                space.distance
            );
            let points = collection.stats().points;
            ensure!(points == rows as u64, "has {points} points, the base has {rows} rows");
            let missing = filters.iter().find(|filter| schema.payload_field(&filter.field).is_none());
            ensure!(missing.is_none(), "was filled without the field of {}", missing.map_or("", |f| &f.name));
            Ok(())
        };
        checked().with_context(named)?;
        Ok(Self { store, collection })
    }

    /// Writes all rows in batches, each durable before the next, and waits until they are indexed.
    pub(super) fn fill(
        &self,
        base: &VectorFile,
        payloads: &Payloads,
        settings: &Settings,
        stop: &CancellationToken,
    ) -> Result<Filled> {
        let mut progress = Progress::new("inserting", "rows", Some(base.rows() as u64));
        let has_payload = !payloads.fields().is_empty();
        let started = Instant::now();
        base.each_slice::<f32>(|first, slice| {
            for (at, vectors) in slice.chunks(BATCH_ROWS * base.width()).enumerate() {
                ensure!(!stop.is_cancelled(), "interrupted");
                let first = first + at * BATCH_ROWS;
                let rows = rows_of(first, vectors, base.width(), has_payload.then_some(payloads))?;
                let request =
                    WriteRequest { changes: vec![Change::UpsertPoints(rows)], skip_bad_rows: false };
                self.collection.write(request)?;
            }
            progress.set_done((first + slice.len() / base.width()) as u64);
            Ok(())
        })?;
        let inserted = started.elapsed();
        drop(progress);
        let _progress = Progress::new("indexing", "rows", None);
        if settings.compact {
            self.collection.compact()?;
        } else {
            self.collection.settle()?;
        }
        Ok(Filled { inserted, indexed: started.elapsed(), peak: Memory::own().peak })
    }

    /// Until the returned guard goes: closes the store when the command is told to stop, which ends what is being built.
    pub(super) fn close_when_cancelled<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        stop: &'scope CancellationToken,
    ) -> WatchGuard {
        let (guard, gone) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while gone.recv_timeout(WATCH_INTERVAL) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                if stop.is_cancelled() {
                    self.store.close();
                    return;
                }
            }
        });
        WatchGuard { _alive: guard }
    }

    /// Number of segments.
    pub(super) fn segments(&self) -> usize {
        self.collection.stats().segments.len()
    }

    /// Lets go of the data directory.
    pub(super) fn close(self) {
        self.store.close();
    }

    /// What asks it.
    pub(super) fn searcher(
        &self,
        queries: Arc<Queries>,
        filters: &[RowFilter],
        k: usize,
        calls: Calls,
    ) -> Searcher {
        let filters =
            std::iter::once(None).chain(filters.iter().map(|filter| Some(condition(filter)))).collect();
        Searcher { collection: Arc::clone(&self.collection), queries, filters, k, calls }
    }
}

/// See [`Engine::close_when_cancelled`].
#[derive(Debug)]
pub(super) struct WatchGuard {
    _alive: std::sync::mpsc::Sender<()>,
}

/// Searches in this process.
#[derive(Debug, Clone)]
pub(super) struct Searcher {
    collection: Arc<Collection>,
    queries: Arc<Queries>,
    /// The first is none.
    filters: Arc<[Option<Filter>]>,
    k: usize,
    calls: Calls,
}

impl Target for Searcher {
    const NAME: &'static str = "in_process";

    async fn ask(&self, cell: Cell) -> Outcome<Answers> {
        let searcher = self.clone();
        Ok(tokio::task::spawn_blocking(move || searcher.ask_all(cell)).await??)
    }

    fn server_cpu(&self) -> Option<Duration> {
        None
    }
}

impl Searcher {
    /// Asks the first query; tells whether the collection answers.
    pub(super) fn ask_one(&self) -> Result<()> {
        let cell = Cell { clients: 1, ef: None, filter: 0 };
        self.collection.search(&self.request(cell, 0))?;
        Ok(())
    }

    fn request(&self, cell: Cell, query: usize) -> SearchRequest {
        let vector = self.queries.get(query).to_vec();
        SearchRequest {
            vector: Some(VectorLeg {
                using: SPACE.to_owned(),
                vector,
                ef: cell.ef,
                exact: self.calls.exact,
                recall_target: None,
            }),
            keyword: None,
            filter: self.filters.get(cell.filter).cloned().flatten(),
            limit: self.k,
            offset: 0,
            score_threshold: None,
            max_per_document: None,
            fusion: Fusion::default(),
            candidates: None,
            select: Select {
                payload: PayloadSelect::None,
                vectors: Vec::new(),
                text: false,
                highlights: false,
            },
            min_seq_no: None,
            explain: false,
        }
    }

    fn ask_all(&self, cell: Cell) -> Result<Answers> {
        let queries = self.queries.len();
        let requests: Vec<SearchRequest> = (0..queries).map(|query| self.request(cell, query)).collect();
        let next = AtomicUsize::new(0);
        let client = || -> Result<Vec<_>> {
            let mut answered = Vec::with_capacity(queries);
            // Read at once, as a client would: thousands of kept replies would cost the searches the caches.
            let rows_of = |reply: SearchResponse| -> Result<Vec<u32>> {
                reply.hits.iter().map(|hit| row_of(&hit.point.id)).collect()
            };
            loop {
                let (from, searches) = self.calls.take(&requests, &next);
                let asked = Instant::now();
                match searches {
                    [] => return Ok(answered),
                    [request] => {
                        let reply = self.collection.search(request)?;
                        answered.push((from, asked.elapsed(), rows_of(reply)?));
                    }
                    searches => {
                        let replies = self.collection.search_batch(searches);
                        let time = asked.elapsed();
                        for (query, reply) in (from..).zip(replies) {
                            answered.push((query, time, rows_of(reply?)?));
                        }
                    }
                }
            }
        };
        let started = Instant::now();
        let parts = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..cell.clients).map(|_| scope.spawn(client)).collect();
            let failed = || Err(anyhow::anyhow!("a searching thread failed"));
            clients.into_iter().map(|client| client.join().unwrap_or_else(|_| failed())).collect::<Vec<_>>()
        });
        let elapsed = started.elapsed();
        let mut all = Vec::with_capacity(queries);
        for part in parts {
            all.extend(part?);
        }
        Ok(Answers::join(queries, elapsed, all))
    }
}

/// Id of a row's point.
pub(super) fn id_of(row: usize) -> String {
    row.to_string()
}

/// Row of a point's id.
pub(super) fn row_of(id: &str) -> Result<u32> {
    id.parse().with_context(|| format!("a search found the unknown point {id:?}"))
}

fn condition(filter: &RowFilter) -> Filter {
    let test = FieldTest::Equals(Scalar::Integer(filter.value));
    Filter { must: vec![Condition::Field { field: filter.field.clone(), test }], ..Filter::default() }
}

fn rows_of(first: usize, vectors: &[f32], width: usize, payloads: Option<&Payloads>) -> Result<RecordBatch> {
    let rows = first..first + vectors.len() / width;
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(vectors.to_vec()));
    let mut columns: Vec<(String, ArrayRef)> = vec![
        (ID.to_owned(), Arc::new(StringArray::from_iter_values(rows.clone().map(id_of)))),
        (vector_column(SPACE), Arc::new(FixedSizeListArray::try_new(item, width as i32, values, None)?)),
    ];
    if let Some(payloads) = payloads {
        let payload = StringArray::from_iter_values(rows.map(|row| payloads.json(row)));
        columns.push((PAYLOAD.to_owned(), Arc::new(payload)));
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}
