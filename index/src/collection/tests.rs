//! Tests of a collection: recovery, power cuts, seals and compactions. The model test is in `tests/model.rs` of the crate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod batch_search;
mod deletes;
mod expiry;
mod links;
mod notes;
mod scrub;
mod vector_leg;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::DataType;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::batch;
use crate::directory::{Fault, FaultyDirectory, MemDirectory};
use crate::document::DocumentState;
use crate::filter::Condition;
use crate::schema::{Distance, FieldType, VectorSpace};
use crate::search::{Fusion, Hit, KeywordLeg, SearchRequest, VectorLeg};
use crate::store::Store;
use crate::write::Change;

const DIMENSION: usize = 8;

fn schema() -> CollectionSchema {
    let space = |name: &str, distance| VectorSpace::new(name, DIMENSION as u32, distance);
    CollectionSchema {
        vectors: vec![space("text", Distance::Cosine), space("image", Distance::Euclidean)],
        payload: vec![PayloadField { name: "year".into(), field_type: FieldType::Integer }],
        dynamic_payload: true,
        description: String::new(),
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Point {
    id: String,
    vector: Vec<f32>,
    image: Vec<f32>,
    text: String,
    year: i64,
    document: Option<String>,
}

fn point(rng: &mut StdRng, id: String, document: Option<String>) -> Point {
    let words = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbor"];
    let text =
        (0..rng.random_range(3..9)).map(|_| words[rng.random_range(0..words.len())]).collect::<Vec<_>>();
    let mut vector = || (0..DIMENSION).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>();
    let (vector, image) = (vector(), vector());
    Point { id, vector, image, text: text.join(" "), year: rng.random_range(1990..2030), document }
}

fn vectors<'a>(points: &'a [Point], of: impl Fn(&'a Point) -> &'a Vec<f32>) -> ArrayRef {
    let values: Vec<f32> = points.iter().flat_map(|point| of(point).iter().copied()).collect();
    let DataType::FixedSizeList(item, length) = batch::vector_type(DIMENSION as u32) else { panic!() };
    Arc::new(FixedSizeListArray::new(item, length, Arc::new(Float32Array::from(values)), None))
}

fn rows(points: &[Point]) -> RecordBatch {
    let payloads: Vec<String> = points.iter().map(|point| format!("{{\"year\":{}}}", point.year)).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (batch::ID, Arc::new(StringArray::from_iter_values(points.iter().map(|point| &point.id)))),
        (batch::TEXT, Arc::new(StringArray::from_iter_values(points.iter().map(|point| &point.text)))),
        (batch::PAYLOAD, Arc::new(StringArray::from_iter_values(payloads))),
        (batch::CHUNK_INDEX, Arc::new(UInt32Array::from_iter_values(0..points.len() as u32))),
        ("vector:text", vectors(points, |point| &point.vector)),
        ("vector:image", vectors(points, |point| &point.image)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn upsert(points: &[Point]) -> WriteRequest {
    WriteRequest { changes: vec![Change::UpsertPoints(rows(points))], skip_bad_rows: false }
}

fn record(id: &str, chunks: u32) -> DocumentRecord {
    DocumentRecord {
        id: id.into(),
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
    }
}

fn put_document(id: &str, points: &[Point]) -> WriteRequest {
    let document = record(id, points.len() as u32);
    let points = (!points.is_empty()).then(|| rows(points));
    WriteRequest { changes: vec![Change::PutDocument { document, points }], skip_bad_rows: false }
}

fn search(vector: Option<Vec<f32>>, text: Option<&str>) -> SearchRequest {
    SearchRequest {
        vector: vector.map(|vector| VectorLeg {
            using: String::new(),
            vector,
            ef: None,
            recall_target: None,
            exact: false,
        }),
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

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.point.id.as_str()).collect()
}

fn small_memtables() -> StoreOptions {
    StoreOptions { memtable_max_rows: 150, build_threads: 1, ..StoreOptions::default() }
}

/// Segments come of flushes alone, and none is merged with another, neither as a compaction nor while somebody searches.
fn segments_stay() -> StoreOptions {
    StoreOptions { compact_max_segment_bytes: 1, ..StoreOptions::default() }
}

fn open(directory: &Arc<dyn Directory>, options: StoreOptions) -> (Store, Arc<Collection>) {
    let store = Store::open_in(Arc::clone(directory), options).unwrap();
    let collection = match store.collection("c") {
        Ok(collection) => collection,
        Err(_) => store.create_collection("c", schema()).unwrap(),
    };
    (store, collection)
}

fn memory() -> Arc<dyn Directory> {
    Arc::new(MemDirectory::new())
}

#[test]
fn a_power_cut_keeps_what_was_acknowledged_and_shows_no_half_writes() {
    for seed in 0..12u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let faulty = Arc::new(FaultyDirectory::new(MemDirectory::new()).unwrap());
        let directory: Arc<dyn Directory> = Arc::clone(&faulty) as Arc<dyn Directory>;
        let (store, collection) = open(&directory, small_memtables());
        faulty.fail_any(faulty.operations() + rng.random_range(20..400), Fault::Error);
        let mut acknowledged: BTreeMap<String, usize> = BTreeMap::new();
        let mut maybe: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for _ in 0..120 {
            let document = format!("d{}", rng.random_range(0..20));
            let chunks = rng.random_range(1..9);
            let points: Vec<Point> = (0..chunks)
                .map(|chunk| point(&mut rng, format!("{document}#{chunk}"), Some(document.clone())))
                .collect();
            match collection.write(put_document(&document, &points)) {
                Ok(_) => {
                    acknowledged.insert(document.clone(), chunks);
                    maybe.remove(&document);
                }
                // Whether a write that failed is on disk is open; both are right.
                Err(_) => maybe.entry(document).or_default().push(chunks),
            }
        }
        let survived: Arc<dyn Directory> = Arc::new(faulty.power_cut(seed).unwrap());
        store.close();
        let (_store, collection) = open(&survived, small_memtables());
        for (document, chunks) in &acknowledged {
            let found = collection.document_points(document).unwrap().num_rows();
            let others = maybe.get(document).cloned().unwrap_or_default();
            assert!(
                found == *chunks || others.contains(&found),
                "seed {seed}: {document} has {found} of {chunks}"
            );
            let recorded = collection.document(document).unwrap().chunks as usize;
            assert_eq!(recorded, found, "seed {seed}: {document}");
        }
    }
}

#[test]
fn a_sealed_row_scores_as_it_did_in_the_memtable() {
    let mut rng = StdRng::seed_from_u64(3);
    let directory = memory();
    let (_store, collection) = open(&directory, StoreOptions::default());
    let points: Vec<Point> = (0..300).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    collection.write(upsert(&points)).unwrap();
    let request = search(Some(points[5].vector.clone()), Some("garnet harbor"));
    let before = collection.search(&request).unwrap();
    collection.flush().unwrap();
    let after = collection.search(&request).unwrap();
    assert_eq!(ids(&before.hits), ids(&after.hits));
    for (a, b) in before.hits.iter().zip(&after.hits) {
        assert!((a.score - b.score).abs() < 1e-4, "{} {} {}", a.point.id, a.score, b.score);
        assert_eq!(a.keyword_score, b.keyword_score);
    }
}

#[test]
fn one_bad_row_is_refused_alone_or_with_its_batch() {
    let mut rng = StdRng::seed_from_u64(4);
    let (_store, collection) = open(&memory(), StoreOptions::default());
    let mut points: Vec<Point> = (0..3).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    points[1].vector[2] = f32::NAN;
    let error = collection.write(upsert(&points)).unwrap_err();
    assert_eq!(error.field(), Some("points[1].vector:text"), "{error}");
    assert_eq!(collection.count(None).unwrap(), 0);
    let receipt = collection.write(WriteRequest { skip_bad_rows: true, ..upsert(&points) }).unwrap();
    assert_eq!((receipt.upserted, receipt.rejected.len()), (2, 1));
    assert_eq!((receipt.rejected[0].row, receipt.rejected[0].id.as_str()), (1, "p1"));
    assert_eq!(collection.count(None).unwrap(), 2);
}

#[test]
fn unknown_columns_and_wrong_dimensions_name_what_is_expected() {
    let (_store, collection) = open(&memory(), StoreOptions::default());
    let write = |columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        collection
            .write(WriteRequest { changes: vec![Change::UpsertPoints(batch)], skip_bad_rows: true })
            .unwrap_err()
    };
    let id = || -> ArrayRef { Arc::new(StringArray::from(vec!["a"])) };
    let error = write(vec![("id", id()), ("colour", id())]);
    assert!(
        error.to_string().starts_with("colour: no column of this name; there are: id, document_id"),
        "{error}"
    );
    let DataType::FixedSizeList(item, _) = batch::vector_type(1) else { panic!() };
    let short = FixedSizeListArray::new(item, 3, Arc::new(Float32Array::from(vec![1.0; 3])), None);
    let error = write(vec![("id", id()), ("vector:text", Arc::new(short))]);
    assert_eq!(error.to_string(), "vector:text: vectors of 3 components, expected 8");
    assert_eq!(write(vec![("text", id())]).field(), Some("id"));
}

#[test]
fn new_payload_fields_join_the_schema_and_survive() {
    let directory = memory();
    let fields = |collection: &Collection| {
        collection
            .schema()
            .payload
            .iter()
            .map(|field| (field.name.clone(), field.field_type))
            .collect::<Vec<_>>()
    };
    let write = |collection: &Collection, id: &str, payload: &str| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(StringArray::from(vec![id]))),
            ("payload", Arc::new(StringArray::from(vec![payload]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        collection.write(WriteRequest { changes: vec![Change::UpsertPoints(batch)], skip_bad_rows: false })
    };
    let (store, collection) = open(&directory, StoreOptions::default());
    write(&collection, "a", r#"{"lang": "en", "size": 2.5}"#).unwrap();
    let known = fields(&collection);
    assert_eq!(known.len(), 3);
    assert!(
        known.contains(&("lang".into(), FieldType::Keyword))
            && known.contains(&("size".into(), FieldType::Float))
    );
    let error = write(&collection, "b", r#"{"size": "large"}"#).unwrap_err();
    assert!(error.to_string().contains("size"), "{error}");
    drop((store, collection));
    let (_store, collection) = open(&directory, StoreOptions::default());
    assert_eq!(fields(&collection), known);
    collection.flush().unwrap();
    collection
        .update_schema(SchemaUpdate { dynamic_payload: Some(false), ..SchemaUpdate::default() })
        .unwrap();
    assert!(write(&collection, "c", r#"{"new": 1}"#).unwrap_err().to_string().contains("new"));
}

#[test]
fn index_options_change_within_bounds_and_stay() {
    let directory = memory();
    let (store, collection) = open(&directory, StoreOptions::default());
    let update = |space: &str, change| {
        let index = vec![("text".to_owned(), IndexChange::default()), (space.to_owned(), change)];
        collection.update_schema(SchemaUpdate { index, ..SchemaUpdate::default() })
    };
    let wide = IndexChange { m: Some(64), ..IndexChange::default() };
    assert_eq!(update("sound", wide).unwrap_err().field(), Some("update_vectors[1].name"));
    let error = update("image", IndexChange { m: Some(2), ..wide }).unwrap_err();
    assert_eq!(error.field(), Some("update_vectors[1].hnsw.m"));
    assert_eq!(*collection.schema(), schema());
    let mut expected = schema();
    expected.vectors[1].index.hnsw.m = 64;
    assert_eq!(*update("image", wide).unwrap(), expected);
    drop((store, collection));
    let (_store, collection) = open(&directory, StoreOptions::default());
    assert_eq!(*collection.schema(), expected);
}

/// Searches one by one, each compared with the truth; returns what the statistics say of space "text" then.
fn sampled(collection: &Collection, requests: &[SearchRequest]) -> SampledRecall {
    let counted = || collection.stats().recall[0].sampled;
    for request in requests {
        let before = counted();
        collection.search(request).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while counted() == before {
            assert!(Instant::now() < deadline, "no sample came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    counted()
}

#[test]
fn sampled_recall_tells_bad_searches_from_good_ones() {
    let mut rng = StdRng::seed_from_u64(11);
    // Hard to navigate: no structure, and a graph with few links.
    let mut schema = schema();
    for space in &mut schema.vectors {
        space.index =
            space.index.changed(&IndexChange { m: Some(4), ef_construct: Some(8), ..IndexChange::default() });
    }
    let options = StoreOptions { sampled_recall_share: 1.0, ..StoreOptions::default() };
    let store = Store::open_in(memory(), options).unwrap();
    let collection = store.create_collection("c", schema).unwrap();
    let points: Vec<Point> = (0..4_000).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    collection.write(upsert(&points)).unwrap();
    let mut requests: Vec<SearchRequest> =
        (0..20).map(|_| search(Some(point(&mut rng, String::new(), None).vector), None)).collect();

    let scanned = sampled(&collection, &requests);
    assert_eq!((scanned.samples, scanned.recall()), (20, Some(1.0)), "a small memtable is scanned");
    collection.flush().unwrap();
    requests.iter_mut().for_each(|request| request.vector.as_mut().unwrap().ef = Some(1));
    let bad = sampled(&collection, &requests);
    assert!(bad.recall().unwrap() < 0.99, "{bad:?}");
    assert!(bad.recent.unwrap() < bad.recall().unwrap(), "{bad:?}");
    assert_eq!((bad.samples, bad.wanted), (40, 40 * 10));

    // With a filter and words beside the vectors, and not where the request is exact.
    let one = Condition::HasId(vec!["p7".into()]);
    let filtered = SearchRequest {
        filter: Some(Filter { must_not: vec![one], ..Filter::default() }),
        keyword: Some(KeywordLeg { text: "cedar".into() }),
        ..requests[0].clone()
    };
    let more = sampled(&collection, &[filtered]);
    assert_eq!((more.samples, more.wanted), (41, 500), "a hybrid search brings a hundred candidates");
    requests.iter_mut().for_each(|request| request.vector.as_mut().unwrap().exact = true);
    requests.iter().for_each(|request| drop(collection.search(request).unwrap()));
    store.close();
    let stats = collection.stats();
    assert_eq!(stats.recall[0].sampled, more);
    assert_eq!(stats.recall[1].sampled, SampledRecall::default(), "the other space");
}

#[test]
fn samples_that_miss_hits_make_searches_aim_higher_and_perfect_ones_lower() {
    let mut rng = StdRng::seed_from_u64(13);
    let options = StoreOptions { sampled_recall_share: 0.0, ..StoreOptions::default() };
    let store = Store::open_in(memory(), options).unwrap();
    let collection = store.create_collection("c", schema()).unwrap();
    let points: Vec<Point> = (0..20).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    collection.write(upsert(&points)).unwrap();
    let target = RecallTarget::new(0.9, "").unwrap();
    let mut request = search(Some(point(&mut rng, String::new(), None).vector), None);
    request.explain = true;
    request.vector.as_mut().unwrap().recall_target = Some(target);
    // What samples ask for, once they ask for anything else than the target.
    let aim = || {
        let plan = collection.search(&request).unwrap().plan;
        let step = plan.iter().find(|step| step.starts_with("vector leg aims at recall 0.9")).unwrap();
        step.split("samples ask beams of ").nth(1).map(|aim| aim.parse::<f32>().unwrap())
    };
    assert_eq!(aim(), None);
    (0..300).for_each(|_| collection.recall.record(1, 0, 10, Some(target)));
    assert_eq!(aim(), None, "the other space");
    (0..300).for_each(|_| collection.recall.record(0, 0, 10, None));
    assert_eq!(aim(), None, "the width was not the engine's choice");
    (0..300).for_each(|_| collection.recall.record(0, 0, 10, Some(target)));
    assert!(aim().unwrap() > 0.98, "{:?}", aim());
    (0..3_000).for_each(|_| collection.recall.record(0, 10, 10, Some(target)));
    assert!((0.79..0.85).contains(&aim().unwrap()), "{:?}", aim());
}

#[test]
fn statistics_tell_deleted_rows_and_indexes() {
    let mut rng = StdRng::seed_from_u64(12);
    let mut schema = schema();
    schema.vectors[1].index.hnsw.m = 24;
    let store = Store::open_in(memory(), StoreOptions::default()).unwrap();
    let collection = store.create_collection("c", schema).unwrap();
    let fresh = collection.stats();
    assert_eq!((fresh.tombstone_share(), fresh.space_amplification), (0.0, 1.0));
    let points: Vec<Point> = (0..1_200).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    collection.write(upsert(&points)).unwrap();
    collection.flush().unwrap();
    let ids = points.iter().take(150).map(|point| point.id.clone()).collect();
    collection
        .write(WriteRequest { changes: vec![Change::DeletePoints(ids)], ..WriteRequest::default() })
        .unwrap();
    let stats = collection.stats();
    assert_eq!((stats.deleted_rows, stats.tombstone_share()), (150, 0.125));
    assert!((stats.space_amplification - 1_200.0 / 1_050.0).abs() < 1e-6, "{}", stats.space_amplification);
    let [(text, first), (image, second)] = stats.segments[0].vector_indexes.as_slice() else {
        panic!("{stats:?}")
    };
    assert_eq!((text.as_str(), image.as_str()), ("text", "image"));
    let links = |report: &VectorIndexReport| report.graph.as_ref().unwrap().m;
    assert_eq!((links(first), links(second)), (16, 24), "as each space has it");

    let change = IndexChange { m: Some(6), ..IndexChange::default() };
    let index = vec![("text".to_owned(), change)];
    collection.update_schema(SchemaUpdate { index, ..SchemaUpdate::default() }).unwrap();
    let before = collection.compact().unwrap();
    assert_eq!((before.segments_before, before.reclaimed_rows), (1, 150));
    let stats = collection.stats();
    let [(_, first), (_, second)] = stats.segments[0].vector_indexes.as_slice() else { panic!("{stats:?}") };
    assert_eq!((links(first), links(second)), (6, 24));
    let compacted = stats.segments[0].id;
    collection.compact().unwrap();
    assert_eq!(collection.stats().segments[0].id, compacted, "nothing is left to do");
    let index = vec![("text".to_owned(), IndexChange { m: Some(7), ..change })];
    collection.update_schema(SchemaUpdate { index, ..SchemaUpdate::default() }).unwrap();
    collection.compact().unwrap();
    let stats = collection.stats();
    assert_eq!(links(&stats.segments[0].vector_indexes[0].1), 7, "without a row deleted");
}

#[test]
fn damaged_derived_files_are_built_again() {
    let mut rng = StdRng::seed_from_u64(5);
    let memory = Arc::new(MemDirectory::new());
    let directory: Arc<dyn Directory> = Arc::clone(&memory) as Arc<dyn Directory>;
    let points: Vec<Point> = (0..1_500).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    let request = search(Some(points[9].vector.clone()), Some("cedar"));
    let checked = || StoreOptions { verify_checksums: true, ..StoreOptions::default() };
    let (store, collection) = open(&directory, checked());
    collection.write(upsert(&points)).unwrap();
    collection.flush().unwrap();
    let before = collection.search(&request).unwrap();
    drop((store, collection));
    let folder = "collections/c/segments/000000000001";
    for name in ["ids", "documents", "keywords", "text.graph"] {
        let path = format!("{folder}/{name}");
        let mut damaged = directory.read(&path).unwrap().to_vec();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        memory.plant(&path, &damaged).unwrap();
        let (_store, collection) = open(&directory, checked());
        let after = collection.search(&request).unwrap();
        assert_eq!(ids(&before.hits), ids(&after.hits), "{name}");
    }
    let path = format!("{folder}/rows.arrow");
    let mut damaged = directory.read(&path).unwrap().to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    memory.plant(&path, &damaged).unwrap();
    let error = Store::open_in(Arc::clone(&directory), checked()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Corruption, "{error}");
}

#[test]
fn one_hit_a_document_when_asked() {
    let mut rng = StdRng::seed_from_u64(6);
    let (_store, collection) = open(&memory(), StoreOptions::default());
    for document in 0..12 {
        let id = format!("d{document}");
        let points: Vec<Point> =
            (0..40).map(|chunk| point(&mut rng, format!("{id}#{chunk}"), Some(id.clone()))).collect();
        collection.write(put_document(&id, &points)).unwrap();
    }
    let mut request = search(Some(vec![0.3; DIMENSION]), Some("amber delta"));
    request.max_per_document = Some(1);
    let hits = collection.search(&request).unwrap().hits;
    let documents: std::collections::BTreeSet<_> =
        hits.iter().map(|hit| hit.point.origin.document_id.clone()).collect();
    assert_eq!((hits.len(), documents.len()), (10, 10));
}

#[test]
fn a_query_that_waits_for_a_write_sees_it_or_says_so() {
    let mut rng = StdRng::seed_from_u64(8);
    let (_store, collection) = open(&memory(), StoreOptions::default());
    let receipt = collection.write(upsert(&[point(&mut rng, "a".into(), None)])).unwrap();
    let mut request = search(Some(vec![1.0; DIMENSION]), None);
    request.min_seq_no = Some(receipt.seq_no);
    assert_eq!(collection.search(&request).unwrap().hits.len(), 1);
    request.min_seq_no = Some(receipt.seq_no + 1);
    let error = collection.search(&request).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::DeadlineExceeded);
    assert!(collection.wait_for(receipt.seq_no + 1, Duration::from_millis(10)).is_err());
    collection.wait_for(receipt.seq_no, Duration::ZERO).unwrap();
}

#[test]
fn a_second_store_on_the_same_directory_is_refused() {
    let directory = memory();
    let (_store, _collection) = open(&directory, StoreOptions::default());
    let error = Store::open_in(Arc::clone(&directory), StoreOptions::default()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::FailedPrecondition);
}

#[test]
fn a_deleted_collection_is_gone_for_good() {
    let directory = memory();
    let (store, collection) = open(&directory, StoreOptions::default());
    drop(collection);
    store.delete_collection("c").unwrap();
    assert!(store.collection("c").is_err());
    drop(store);
    let store = Store::open_in(Arc::clone(&directory), StoreOptions::default()).unwrap();
    assert!(store.collections().is_empty());
    store.create_collection("c", schema()).unwrap();
}

#[test]
fn small_segments_are_gathered_while_somebody_searches() {
    let directory: Arc<dyn Directory> = Arc::new(MemDirectory::new());
    let options = StoreOptions { compact_fan_in: 100, ..StoreOptions::default() };
    let (_store, collection) = open(&directory, options);
    let mut rng = StdRng::seed_from_u64(11);
    let points: Vec<Point> = (0..1_000).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    for points in points.chunks(200) {
        collection.write(upsert(points)).unwrap();
        collection.flush().unwrap();
    }
    let segments = || collection.stats().segments.len();
    collection.gather_small_segments();
    assert_eq!(segments(), 5, "nobody searches");
    for wanted in [3, 4, 5] {
        let found = collection.search(&search(Some(points[wanted].vector.clone()), None)).unwrap();
        assert_eq!(found.hits[0].point.id, format!("p{wanted}"));
    }
    collection
        .write(WriteRequest {
            changes: vec![Change::DeletePoints(vec!["p7".into(), "p300".into()])],
            skip_bad_rows: false,
        })
        .unwrap();
    collection.gather_small_segments();
    assert_eq!(segments(), 1);
    assert_eq!(collection.count(None).unwrap(), 998);
    for (at, point) in points.iter().enumerate().step_by(50) {
        let found = collection.search(&search(Some(point.vector.clone()), None)).unwrap();
        let expected = at != 300;
        assert_eq!(found.hits[0].point.id == point.id, expected, "{}", point.id);
    }
}

#[test]
fn a_page_of_points_fits_a_message_whatever_their_size() {
    let directory: Arc<dyn Directory> = Arc::new(MemDirectory::new());
    let (_store, collection) = open(&directory, StoreOptions::default());
    let mut rng = StdRng::seed_from_u64(12);
    let mut points: Vec<Point> = (0..20).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    points.iter_mut().for_each(|point| point.text = "word ".repeat(100_000));
    points[7].text = "word ".repeat(1_000);
    collection.write(upsert(&points)).unwrap();
    let mut request = ScrollRequest { filter: None, limit: 10_000, after: None, select: Select::default() };
    let mut seen = Vec::new();
    loop {
        let page = collection.scroll(&request).unwrap();
        let bytes: usize = page.points.iter().map(|point| point.text.len()).sum();
        assert!(!page.points.is_empty() && bytes <= 3 << 20, "{} points of {bytes} bytes", page.points.len());
        seen.extend(page.points.into_iter().map(|point| point.id));
        request.after = page.next;
        if request.after.is_none() {
            break;
        }
    }
    seen.sort();
    let mut expected: Vec<String> = points.into_iter().map(|point| point.id).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn a_merge_may_run_while_new_fields_join_the_schema() {
    let directory = memory();
    let (store, collection) = open(&directory, StoreOptions::default());
    let mut rng = StdRng::seed_from_u64(13);
    let points: Vec<Point> = (0..100).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    collection.write(upsert(&points)).unwrap();
    collection.flush().unwrap();
    let fields = collection.schema().payload.len();
    // In the log only, when the merge of what is left begins.
    let columns: Vec<(&str, ArrayRef)> = vec![
        (batch::ID, Arc::new(StringArray::from(vec!["new"]))),
        (batch::PAYLOAD, Arc::new(StringArray::from(vec!["{\"colour\":\"red\"}"]))),
    ];
    let new = Change::UpsertPoints(RecordBatch::try_from_iter(columns).unwrap());
    let gone = Change::DeletePoints((0..40).map(|i| format!("p{i}")).collect());
    collection.write(WriteRequest { changes: vec![new, gone], skip_bad_rows: false }).unwrap();
    assert_eq!(collection.schema().payload.len(), fields + 1);
    collection.compact_where_due();
    let merged = |collection: &Collection| {
        let segments = collection.stats().segments;
        segments.iter().map(|segment| (segment.rows, segment.deleted_rows)).collect::<Vec<_>>()
    };
    assert_eq!(merged(&collection), [(60, 0)]);
    store.close();
    drop((store, collection));
    let (_store, collection) = open(&directory, StoreOptions::default());
    assert_eq!(collection.count(None).unwrap(), 61);
    assert_eq!(collection.schema().payload.len(), fields + 1);
    assert_eq!(merged(&collection), [(60, 0)]);
}
