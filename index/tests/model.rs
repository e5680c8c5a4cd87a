//! A model test: seeded random operations on a collection, each answer compared with a map and brute force.
//!
//! It covers upserts, documents, deletes by id, document and filter, filters of every kind, three vector spaces (one of them
//! on some points only) indexed in all ways, also changed on the way, seals, compactions, reopening with other options, and
//! power cuts. Environment:
//! `RAGSTONE_MODEL_SEED` makes it another run, `RAGSTONE_MODEL_SECONDS` one of that length (with fresh collections and seeds,
//! one after the other).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use ragstone_index::batch;
use ragstone_index::collection::{Collection, SchemaUpdate, ScrollRequest};
use ragstone_index::directory::{Directory, FaultyDirectory, MemDirectory};
use ragstone_index::document::{DocumentRecord, DocumentState};
use ragstone_index::filter::{Condition, FieldTest, Filter, Range, Scalar};
use ragstone_index::schema::{
    CollectionSchema, Distance, FieldType, IndexChange, PayloadField, Quantization, VectorSpace,
    VectorStorage,
};
use ragstone_index::search::{Fusion, KeywordLeg, SearchRequest, Select, VectorLeg};
use ragstone_index::store::{Store, StoreOptions};
use ragstone_index::write::{Change, WriteRequest};

const WORDS: [&str; 8] = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbor"];
const LANGUAGES: [&str; 4] = ["en", "en-GB", "de", "fr"];
const SPACES: [(&str, usize, Distance); 3] =
    [("cosine", 96, Distance::Cosine), ("euclidean", 12, Distance::Euclidean), ("dot", 6, Distance::Dot)];
/// Ids of points without a document.
const IDS: u32 = 4_000;
const DOCUMENTS: u32 = 30;
/// Steps of a run in CI, and of each run of a long one.
const STEPS: usize = 220;
/// Recall@10 over all searches by graph and by code.
const RECALL: f64 = 0.97;

#[derive(Debug, Clone)]
struct Point {
    id: String,
    document: Option<String>,
    text: String,
    payload: Map<String, Value>,
    vectors: Vec<Option<Vec<f32>>>,
}

type Model = BTreeMap<String, Point>;

#[test]
fn random_operations_agree_with_a_map_and_brute_force() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("RAGSTONE_MODEL_SEED").unwrap_or(7);
    let time = number("RAGSTONE_MODEL_SECONDS").map(Duration::from_secs);
    let started = Instant::now();
    let (mut runs, mut operations, mut on_bits) = (0, 0, 0);
    for seed in first.. {
        println!("seed {seed}");
        let run = Run::new(seed).run();
        operations += STEPS;
        runs += 1;
        on_bits += usize::from(run.has_graph_on_bits());
        if time.is_none_or(|time| started.elapsed() >= time) {
            break;
        }
        if runs % 20 == 0 {
            println!("{runs} runs, {operations} operations, {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    println!(
        "{runs} runs from seed {first}, {operations} operations agree; {on_bits} ended with a graph on bits"
    );
}

/// One collection's life.
struct Run {
    seed: u64,
    rng: StdRng,
    disk: FaultyDirectory<MemDirectory>,
    store: Store,
    collection: Arc<Collection>,
    model: Model,
    documents: BTreeMap<String, usize>,
    /// Of searches that may miss something: hits found and hits there were.
    found: (usize, usize),
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = FaultyDirectory::new(MemDirectory::new()).unwrap();
        let store = Store::open_in(Arc::new(disk.clone()), options(&mut rng)).unwrap();
        let collection = store.create_collection("c", schema(&mut rng)).unwrap();
        let (model, documents) = (Model::new(), BTreeMap::new());
        Self { seed, rng, disk, store, collection, model, documents, found: (0, 0) }
    }

    fn run(mut self) -> Self {
        for step in 0..STEPS {
            let what = self.rng.random_range(0..100);
            if std::env::var_os("RAGSTONE_MODEL_TRACE").is_some() {
                println!("seed {} step {step}: {what}", self.seed);
            }
            self.step(what);
        }
        self.check_all();
        let recall = self.found.0 as f64 / self.found.1.max(1) as f64;
        assert!(recall >= RECALL, "seed {}: recall {recall}", self.seed);
        self
    }

    fn has_graph_on_bits(&self) -> bool {
        let segments = self.collection.stats().segments;
        let reports = segments.iter().flat_map(|segment| &segment.vector_indexes);
        let mut graphs = reports.filter_map(|(_, report)| report.graph.as_ref());
        graphs.any(|graph| graph.quantization == Quantization::Binary)
    }

    fn step(&mut self, what: u32) {
        match what {
            0..21 => self.upsert(1..20),
            21 => self.change_indexes(),
            22..27 => self.upsert(400..1_600),
            27..40 => self.put_document(),
            40..47 => self.delete_points(),
            47..50 => self.delete_document(),
            50..53 => self.delete_by_filter(),
            53..57 => drop(self.collection.flush().unwrap()),
            57..60 => drop(self.collection.compact().unwrap()),
            60..63 => self.reopen(),
            63..65 => self.cut_the_power(),
            65..70 => self.check_count(),
            70..75 => self.check_scroll(),
            75..78 => self.check_get(),
            78..84 => self.check_words(),
            84..90 => self.check_vectors(true),
            90..98 => self.check_vectors(false),
            _ => self.check_hybrid(),
        }
    }

    fn change_indexes(&mut self) {
        let space = SPACES[self.rng.random_range(0..SPACES.len())].0.to_owned();
        let index = vec![(space, index_change(&mut self.rng))];
        self.collection.update_schema(SchemaUpdate { index, ..SchemaUpdate::default() }).unwrap();
    }

    fn check_all(&mut self) {
        for what in 65..100 {
            self.step(what);
        }
    }

    fn write(&self, change: Change) {
        self.collection.write(WriteRequest { changes: vec![change], skip_bad_rows: false }).unwrap();
    }

    fn upsert(&mut self, count: std::ops::Range<u32>) {
        let mut points = Model::new();
        for _ in 0..self.rng.random_range(count) {
            let id = format!("p{}", self.rng.random_range(0..IDS));
            points.insert(id.clone(), point(&mut self.rng, id, None));
        }
        let points: Vec<Point> = points.into_values().collect();
        self.write(Change::UpsertPoints(rows(&points)));
        self.model.extend(points.into_iter().map(|point| (point.id.clone(), point)));
    }

    fn put_document(&mut self) {
        let id = format!("d{}", self.rng.random_range(0..DOCUMENTS));
        let chunks = self.rng.random_range(0..40);
        let points: Vec<Point> = (0..chunks)
            .map(|chunk| point(&mut self.rng, format!("{id}#{chunk}"), Some(id.clone())))
            .collect();
        let document = DocumentRecord {
            id: id.clone(),
            uri: format!("file:///{id}"),
            title: String::new(),
            media_type: "text/plain".into(),
            version: format!("v{chunks}"),
            size_bytes: 1,
            modified_ns: None,
            chunks,
            state: DocumentState::Indexed,
            indexed_at_us: 0,
            source_id: "source".into(),
        };
        let batch = (!points.is_empty()).then(|| rows(&points));
        self.write(Change::PutDocument { document, points: batch });
        self.model.retain(|_, point| point.document.as_ref() != Some(&id));
        self.model.extend(points.into_iter().map(|point| (point.id.clone(), point)));
        self.documents.insert(id, chunks as usize);
    }

    fn delete_points(&mut self) {
        let count = if self.rng.random_bool(0.2) { 800 } else { 5 };
        let ids: Vec<String> = (0..count).map(|_| format!("p{}", self.rng.random_range(0..IDS))).collect();
        self.write(Change::DeletePoints(ids.clone()));
        ids.iter().for_each(|id| drop(self.model.remove(id)));
    }

    fn delete_document(&mut self) {
        let id = format!("d{}", self.rng.random_range(0..DOCUMENTS));
        self.write(Change::DeleteDocuments(vec![id.clone()]));
        self.model.retain(|_, point| point.document.as_ref() != Some(&id));
        self.documents.remove(&id);
    }

    fn delete_by_filter(&mut self) {
        // Narrow, or little would ever be left.
        let year = i64::from(self.rng.random_range(1990..2030));
        let mut filter = a_filter(&mut self.rng, 1);
        filter.must.push(field("year", FieldTest::Equals(Scalar::Integer(year))));
        self.write(Change::DeleteByFilter(filter.clone()));
        self.model.retain(|_, point| !passes(&filter, point));
    }

    fn reopen(&mut self) {
        let disk = self.disk.clone();
        if self.rng.random_bool(0.5) {
            self.store.close();
        }
        self.open(disk);
    }

    /// All that was acknowledged survives, whatever became of the rest.
    fn cut_the_power(&mut self) {
        let survived = self.disk.power_cut(self.rng.random()).unwrap();
        self.store.close();
        self.open(FaultyDirectory::new(survived).unwrap());
    }

    fn open(&mut self, disk: FaultyDirectory<MemDirectory>) {
        // The lock of a directory goes with its store.
        let nothing = FaultyDirectory::new(MemDirectory::new()).unwrap();
        self.store = Store::open_in(Arc::new(nothing), StoreOptions::default()).unwrap();
        self.collection = self.store.create_collection("none", schema(&mut self.rng)).unwrap();
        self.disk = disk;
        let directory: Arc<dyn Directory> = Arc::new(self.disk.clone());
        self.store = Store::open_in(directory, options(&mut self.rng)).unwrap();
        self.collection = self.store.collection("c").unwrap();
        for (id, chunks) in &self.documents {
            assert_eq!(self.collection.document(id).unwrap().chunks as usize, *chunks, "seed {}", self.seed);
        }
        assert_eq!(self.collection.documents("", None, 1_000).len(), self.documents.len());
    }

    /// A filter, or none, and the points that pass.
    fn some(&mut self) -> (Option<Filter>, Vec<&Point>) {
        let filter = self.rng.random_bool(0.7).then(|| a_filter(&mut self.rng, 2));
        let passing = |point: &&Point| filter.as_ref().is_none_or(|filter| passes(filter, point));
        let points = self.model.values().filter(passing).collect();
        (filter, points)
    }

    fn check_count(&mut self) {
        let collection = Arc::clone(&self.collection);
        let seed = self.seed;
        let (filter, points) = self.some();
        assert_eq!(
            collection.count(filter.as_ref()).unwrap(),
            points.len() as u64,
            "seed {seed}: {filter:?}"
        );
    }

    fn check_scroll(&mut self) {
        let (seed, collection) = (self.seed, Arc::clone(&self.collection));
        let limit = self.rng.random_range(20..400);
        let (filter, points) = self.some();
        let mut scrolled = BTreeMap::new();
        let mut after = None;
        loop {
            let select = Select { vectors: vec!["*".into()], ..Select::default() };
            let request = ScrollRequest { filter: filter.clone(), limit, after, select };
            let page = collection.scroll(&request).unwrap();
            for point in page.points {
                assert!(scrolled.insert(point.id.clone(), point).is_none(), "seed {seed}: a point twice");
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(scrolled.len(), points.len(), "seed {seed}: {filter:?}");
        for wanted in points {
            let got =
                scrolled.get(&wanted.id).unwrap_or_else(|| panic!("seed {seed}: {} is missing", wanted.id));
            assert_eq!(
                (&got.text, got.payload.as_ref()),
                (&wanted.text, Some(&wanted.payload)),
                "seed {seed}"
            );
            assert_eq!(got.origin.document_id, wanted.document.clone().unwrap_or_default(), "seed {seed}");
            for ((name, _, distance), vector) in SPACES.iter().zip(&wanted.vectors) {
                let stored = got.vectors.iter().find(|(space, _)| space == name).map(|(_, vector)| vector);
                assert_eq!(stored.is_some(), vector.is_some(), "seed {seed}: {} {name}", wanted.id);
                if let (Some(stored), Some(vector)) = (stored, vector) {
                    let expected = prepared(*distance, vector);
                    let close = stored.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5);
                    assert!(close, "seed {seed}: {} {name}", wanted.id);
                }
            }
        }
    }

    fn check_get(&mut self) {
        let ids: Vec<String> = (0..50).map(|_| format!("p{}", self.rng.random_range(0..IDS))).collect();
        let wanted: BTreeSet<&String> = ids.iter().filter(|id| self.model.contains_key(*id)).collect();
        let got = self.collection.get(&ids, &Select::default(), None).unwrap();
        let found: BTreeSet<&String> = got.iter().map(|point| &point.id).collect();
        assert_eq!(found, wanted, "seed {}", self.seed);
        assert!(got.iter().all(|point| point.text == self.model[&point.id].text), "seed {}", self.seed);
    }

    fn check_words(&mut self) {
        let (seed, collection) = (self.seed, Arc::clone(&self.collection));
        let word = WORDS[self.rng.random_range(0..WORDS.len())];
        let (filter, points) = self.some();
        let request = SearchRequest { filter, limit: 10_000, ..search(None, Some(word)) };
        let hits = collection.search(&request).unwrap().hits;
        let found: BTreeSet<&str> = hits.iter().map(|hit| hit.point.id.as_str()).collect();
        let wanted: BTreeSet<&str> =
            points.iter().filter(|point| point.text.contains(word)).map(|point| point.id.as_str()).collect();
        assert_eq!(hits.len(), found.len(), "seed {seed}: a point twice");
        assert_eq!(found, wanted, "seed {seed}: {word} {:?}", request.filter);
    }

    /// Asks one question alone, or several at once, which share what they read.
    fn check_vectors(&mut self, exact: bool) {
        let (seed, collection) = (self.seed, Arc::clone(&self.collection));
        let (space, first) = a_query(&mut self.rng);
        let (name, dimension, distance) = SPACES[space];
        let others = if self.rng.random_bool(0.5) { 0 } else { self.rng.random_range(1..5) };
        let mut queries = vec![first];
        queries.extend((0..others).map(|_| vector(&mut self.rng, dimension)));
        let limit = self.rng.random_range(1..20);
        let offset = if self.rng.random_bool(0.3) { self.rng.random_range(0..30) } else { 0 };
        let (filter, points) = self.some();
        let request = |query: &Vec<f32>| {
            let (using, vector) = (name.into(), query.clone());
            let leg = VectorLeg { using, vector, ef: None, recall_target: None, exact };
            SearchRequest { vector: Some(leg), filter: filter.clone(), limit, offset, ..search(None, None) }
        };
        let requests: Vec<SearchRequest> = queries.iter().map(request).collect();
        let answers = match requests.as_slice() {
            [alone] => vec![collection.search(alone)],
            several => collection.search_batch(several),
        };
        assert_eq!(answers.len(), queries.len(), "seed {seed}");
        let (mut found, mut wanted) = (0, 0);
        for (query, answer) in queries.iter().zip(answers) {
            let hits = answer.unwrap().hits;
            let scored = |point: &&Point| Some(score(distance, query, point.vectors[space].as_ref()?));
            let scores: BTreeMap<&str, f32> =
                points.iter().filter_map(|point| Some((point.id.as_str(), scored(point)?))).collect();
            let mut best: Vec<f32> = scores.values().copied().collect();
            best.sort_by(|a, b| b.total_cmp(a));
            let expected = best.get(offset..).unwrap_or_default();
            assert_eq!(hits.len(), expected.len().min(limit), "seed {seed}: {name} {filter:?}");
            let ids: BTreeSet<&str> = hits.iter().map(|hit| hit.point.id.as_str()).collect();
            assert_eq!(ids.len(), hits.len(), "seed {seed}: a point twice");
            for (hit, best) in hits.iter().zip(expected) {
                let right = scores.get(hit.point.id.as_str());
                let right =
                    right.unwrap_or_else(|| panic!("seed {seed}: {} must not be found", hit.point.id));
                let near = |a: f32, b: f32| (a - b).abs() <= 1e-3 * (1.0 + b.abs());
                assert!(
                    near(hit.score, *right),
                    "seed {seed}: {} scored {}, is {right}",
                    hit.point.id,
                    hit.score
                );
                assert!(!exact || near(hit.score, *best), "seed {seed}: {name} {} for {best}", hit.score);
            }
            if !exact && !hits.is_empty() {
                let worst = expected[hits.len() - 1] - 1e-4;
                found += hits.iter().filter(|hit| hit.score >= worst).count();
                wanted += hits.len();
            }
        }
        self.found.0 += found;
        self.found.1 += wanted;
    }

    fn check_hybrid(&mut self) {
        let (seed, collection) = (self.seed, Arc::clone(&self.collection));
        let (space, query) = a_query(&mut self.rng);
        let (filter, points) = self.some();
        let live: BTreeSet<&str> = points.iter().map(|point| point.id.as_str()).collect();
        let using = SPACES[space].0.into();
        let leg = VectorLeg { using, vector: query, ef: None, recall_target: None, exact: false };
        let request = SearchRequest { vector: Some(leg), filter, ..search(None, Some("garnet harbor")) };
        let hits = collection.search(&request).unwrap().hits;
        assert!(hits.iter().all(|hit| live.contains(hit.point.id.as_str())), "seed {seed}");
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score), "seed {seed}");
        let could: usize = points
            .iter()
            .filter(|point| {
                point.vectors[space].is_some()
                    || point.text.contains("garnet")
                    || point.text.contains("harbor")
            })
            .count();
        assert_eq!(hits.len(), could.min(10), "seed {seed}");
    }
}

/// Small memtables and segments of all sorts, so that there is always something to seal and merge.
fn options(rng: &mut StdRng) -> StoreOptions {
    StoreOptions {
        memtable_max_rows: [30, 200, 1_500, 5_000][rng.random_range(0..4)],
        build_threads: 1,
        compact_deleted_share: [0.05, 0.2, 0.9][rng.random_range(0..3)],
        compact_fan_in: rng.random_range(2..6),
        compact_max_segment_bytes: [300 << 10, 1 << 30][rng.random_range(0..2)],
        verify_checksums: rng.random_bool(0.5),
        ..StoreOptions::default()
    }
}

fn index_change(rng: &mut StdRng) -> IndexChange {
    let quantizations = [
        Quantization::Auto,
        Quantization::None,
        Quantization::Int4,
        Quantization::Int8,
        Quantization::Binary,
    ];
    let storages = [VectorStorage::Memory, VectorStorage::Mapped];
    IndexChange {
        m: Some([8, 16, 40][rng.random_range(0..3)]),
        ef_construct: Some([64, 128][rng.random_range(0..2)]),
        quantization: Some(quantizations[rng.random_range(0..5)]),
        storage: Some(storages[rng.random_range(0..2)]),
        recall_target: None,
    }
}

fn schema(rng: &mut StdRng) -> CollectionSchema {
    let mut space = |(name, dimension, distance): &(&str, usize, Distance)| {
        let space = VectorSpace::new(*name, *dimension as u32, *distance);
        VectorSpace { index: space.index.changed(&index_change(rng)), ..space }
    };
    let field = |(name, field_type): (&str, FieldType)| PayloadField { name: name.into(), field_type };
    let fields = [
        ("year", FieldType::Integer),
        ("lang", FieldType::Keyword),
        ("price", FieldType::Float),
        ("fresh", FieldType::Bool),
    ];
    CollectionSchema {
        vectors: SPACES.iter().map(&mut space).collect(),
        payload: fields.into_iter().map(field).collect(),
        dynamic_payload: true,
        description: String::new(),
    }
}

fn point(rng: &mut StdRng, id: String, document: Option<String>) -> Point {
    let words: Vec<&str> =
        (0..rng.random_range(1..7)).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
    let mut payload = Map::new();
    payload.insert("year".into(), json!(rng.random_range(1990..2030)));
    if rng.random_bool(0.8) {
        payload.insert("lang".into(), json!(LANGUAGES[rng.random_range(0..LANGUAGES.len())]));
    }
    if rng.random_bool(0.8) {
        payload.insert("price".into(), json!(f64::from(rng.random_range(0..400)) / 4.0));
    }
    payload.insert("fresh".into(), json!(rng.random_bool(0.5)));
    let vectors = SPACES
        .iter()
        .enumerate()
        .map(|(space, (_, dimension, _))| {
            let there = space != 1 || rng.random_bool(0.7);
            there.then(|| vector(rng, *dimension))
        })
        .collect();
    Point { id, document, text: words.join(" "), payload, vectors }
}

/// Anywhere in a narrow space; in a wide one near a space of few dimensions, as embeddings are.
fn vector(rng: &mut StdRng, dimension: usize) -> Vec<f32> {
    const FEW: usize = 10;
    if dimension <= 2 * FEW {
        return (0..dimension).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    }
    let place: Vec<f32> = (0..FEW).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    let axis = |axis: usize, component: usize| ((component * (axis + 2)) as f32 * 0.71 + axis as f32).sin();
    (0..dimension)
        .map(|component| {
            let near: f32 = place.iter().enumerate().map(|(at, x)| x * axis(at, component)).sum();
            near + rng.random_range(-0.2f32..0.2)
        })
        .collect()
}

fn rows(points: &[Point]) -> RecordBatch {
    let strings = |of: &dyn Fn(&Point) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(points.iter().map(of)))
    };
    let mut columns: Vec<(String, ArrayRef)> = vec![
        (batch::ID.into(), strings(&|point| point.id.clone())),
        (batch::TEXT.into(), strings(&|point| point.text.clone())),
        (batch::PAYLOAD.into(), strings(&|point| Value::Object(point.payload.clone()).to_string())),
    ];
    for (space, (name, dimension, _)) in SPACES.iter().enumerate() {
        let DataType::FixedSizeList(item, length) = batch::vector_type(*dimension as u32) else { panic!() };
        let of = |point: &Point| point.vectors[space].clone().unwrap_or_else(|| vec![0.0; *dimension]);
        let values: Vec<f32> = points.iter().flat_map(of).collect();
        let there = NullBuffer::from_iter(points.iter().map(|point| point.vectors[space].is_some()));
        let list = FixedSizeListArray::new(item, length, Arc::new(Float32Array::from(values)), Some(there));
        columns.push((batch::vector_column(name), Arc::new(list)));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn field(name: &str, test: FieldTest) -> Condition {
    Condition::Field { field: name.into(), test }
}

fn a_filter(rng: &mut StdRng, depth: usize) -> Filter {
    let mut some = |most: usize| -> Vec<Condition> {
        (0..rng.random_range(0..=most)).map(|_| a_condition(rng, depth)).collect()
    };
    let (must, should, must_not) = (some(2), some(2), some(1));
    Filter { must, should, must_not }
}

fn a_condition(rng: &mut StdRng, depth: usize) -> Condition {
    let year = |rng: &mut StdRng| Scalar::Integer(rng.random_range(1990..2030));
    let language = |rng: &mut StdRng| Scalar::String(LANGUAGES[rng.random_range(0..4)].into());
    match rng.random_range(0..9) {
        0 => field("year", FieldTest::Range(Range { gte: Some(year(rng)), ..Range::default() })),
        1 => field("year", FieldTest::Range(Range { lt: Some(year(rng)), ..Range::default() })),
        2 => field("year", FieldTest::AnyOf((0..8).map(|_| year(rng)).collect())),
        3 => field("lang", FieldTest::Equals(language(rng))),
        4 => field("lang", FieldTest::Prefix("en".into())),
        5 => field("lang", FieldTest::Exists(rng.random_bool(0.5))),
        6 => {
            let price = Scalar::Float(f64::from(rng.random_range(0..100)));
            field("price", FieldTest::Range(Range { lte: Some(price), ..Range::default() }))
        }
        7 if depth > 0 => Condition::Nested(a_filter(rng, depth - 1)),
        7 => Condition::HasId((0..300).map(|_| format!("p{}", rng.random_range(0..IDS))).collect()),
        _ => field("fresh", FieldTest::Equals(Scalar::Bool(rng.random_bool(0.5)))),
    }
}

/// What a filter means, said a second time.
fn passes(filter: &Filter, point: &Point) -> bool {
    let holds = |condition: &Condition| holds(condition, point);
    filter.must.iter().all(holds)
        && (filter.should.is_empty() || filter.should.iter().any(holds))
        && !filter.must_not.iter().any(holds)
}

fn holds(condition: &Condition, point: &Point) -> bool {
    match condition {
        Condition::HasId(ids) => ids.contains(&point.id),
        Condition::Nested(filter) => passes(filter, point),
        Condition::Field { field, test } => {
            let value = point.payload.get(field);
            match test {
                FieldTest::Exists(wanted) => value.is_some() == *wanted,
                FieldTest::Equals(scalar) => value == Some(&json_of(scalar)),
                FieldTest::AnyOf(scalars) => scalars.iter().any(|scalar| value == Some(&json_of(scalar))),
                FieldTest::Prefix(prefix) => {
                    value.and_then(Value::as_str).is_some_and(|text| text.starts_with(prefix.as_str()))
                }
                FieldTest::Range(range) => value.and_then(Value::as_f64).is_some_and(|value| {
                    let bound = |bound: &Option<Scalar>| bound.as_ref().and_then(|b| json_of(b).as_f64());
                    bound(&range.gte).is_none_or(|least| value >= least)
                        && bound(&range.lt).is_none_or(|most| value < most)
                        && bound(&range.lte).is_none_or(|most| value <= most)
                }),
                FieldTest::MatchText(_) => panic!("not made here"),
            }
        }
    }
}

fn json_of(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Bool(flag) => json!(flag),
        Scalar::Integer(number) => json!(number),
        Scalar::Float(number) => json!(number),
        Scalar::String(text) => json!(text),
    }
}

fn a_query(rng: &mut StdRng) -> (usize, Vec<f32>) {
    let space = rng.random_range(0..SPACES.len());
    (space, vector(rng, SPACES[space].1))
}

fn prepared(distance: Distance, vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let by = if distance == Distance::Cosine { norm } else { 1.0 };
    vector.iter().map(|x| x / by).collect()
}

fn score(distance: Distance, query: &[f32], vector: &[f32]) -> f32 {
    let pairs = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    match distance {
        Distance::Cosine => pairs(&prepared(distance, query), &prepared(distance, vector)),
        Distance::Dot => pairs(query, vector),
        Distance::Euclidean => -query.iter().zip(vector).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt(),
    }
}

fn search(vector: Option<VectorLeg>, text: Option<&str>) -> SearchRequest {
    SearchRequest {
        vector,
        keyword: text.map(|text| KeywordLeg { text: text.into() }),
        filter: None,
        limit: 10,
        offset: 0,
        score_threshold: None,
        max_per_document: None,
        fusion: Fusion::default(),
        candidates: None,
        select: Select::default(),
        min_seq_no: None,
        explain: false,
    }
}
