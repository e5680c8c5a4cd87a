//! A third of the points deleted: recall stays, and compaction gives the space back.

use std::collections::HashMap;

use super::*;
use crate::search::Hit;

const DIMENSION: usize = 32;
const ROWS: usize = 20_000;

fn schema() -> CollectionSchema {
    let mut space = super::schema().vectors.swap_remove(0);
    (space.name, space.dimension) = ("v".into(), DIMENSION as u32);
    CollectionSchema { vectors: vec![space], ..super::schema() }
}

/// Vectors around some centres, so that their graph has regions.
fn vectors(rng: &mut StdRng, count: usize) -> Vec<Vec<f32>> {
    let centres: Vec<Vec<f32>> =
        (0..40).map(|_| (0..DIMENSION).map(|_| rng.random_range(-1.0f32..1.0)).collect()).collect();
    (0..count)
        .map(|_| {
            let centre = &centres[rng.random_range(0..centres.len())];
            centre.iter().map(|x| x + rng.random_range(-0.7f32..0.7)).collect()
        })
        .collect()
}

fn upsert(rows: &[(usize, &Vec<f32>)]) -> WriteRequest {
    let values: Vec<f32> = rows.iter().flat_map(|(_, vector)| vector.iter().copied()).collect();
    let DataType::FixedSizeList(item, length) = batch::vector_type(DIMENSION as u32) else { panic!() };
    let list = FixedSizeListArray::new(item, length, Arc::new(Float32Array::from(values)), None);
    let ids = StringArray::from_iter_values(rows.iter().map(|(row, _)| format!("p{row}")));
    let columns: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(ids)), ("vector:v", Arc::new(list))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    WriteRequest { changes: vec![Change::UpsertPoints(batch)], skip_bad_rows: false }
}

fn open(options: StoreOptions) -> (Store, Arc<Collection>) {
    let store = Store::open_in(memory(), options).unwrap();
    let collection = store.create_collection("c", schema()).unwrap();
    (store, collection)
}

fn recall(collection: &Collection, queries: &[Vec<f32>]) -> f64 {
    let find = |vector: &Vec<f32>, exact: bool| -> Vec<Hit> {
        let mut request = search(Some(vector.clone()), None);
        request.vector.as_mut().unwrap().exact = exact;
        collection.search(&request).unwrap().hits
    };
    let found: usize = queries
        .iter()
        .map(|query| {
            let worst = find(query, true).last().unwrap().score;
            find(query, false).iter().filter(|hit| hit.score >= worst).count()
        })
        .sum();
    found as f64 / (10 * queries.len()) as f64
}

#[test]
fn deleted_points_cost_no_recall_and_compaction_gives_their_space_back() {
    let mut rng = StdRng::seed_from_u64(17);
    let all = vectors(&mut rng, ROWS + 150);
    let (all, queries) = all.split_at(ROWS);
    // Nothing is compacted before it is asked for.
    let options =
        StoreOptions { compact_deleted_share: 0.95, compact_fan_in: 100, ..StoreOptions::default() };
    let (_store, collection) = open(options.clone());
    let numbered: Vec<(usize, &Vec<f32>)> = all.iter().enumerate().collect();
    for (part, rows) in numbered.chunks(4_000).enumerate() {
        collection.write(upsert(rows)).unwrap();
        if part == 3 {
            collection.flush().unwrap();
        }
    }
    collection.flush().unwrap();
    let (gone, left): (Vec<_>, Vec<_>) = numbered.into_iter().partition(|_| rng.random_bool(0.3));
    let ids = gone.iter().map(|(row, _)| format!("p{row}")).collect();
    let changes = vec![Change::DeletePoints(ids)];
    collection.write(WriteRequest { changes, skip_bad_rows: false }).unwrap();
    assert_eq!(collection.count(None).unwrap(), left.len() as u64);

    let (_fresh_store, fresh) = open(options);
    left.chunks(4_000).for_each(|rows| drop(fresh.write(upsert(rows)).unwrap()));
    fresh.flush().unwrap();
    let of_fresh = recall(&fresh, queries);
    let before = recall(&collection, queries);
    assert!(before >= of_fresh - 0.01, "recall with deleted rows {before}, fresh {of_fresh}");

    let holey = collection.stats().disk_bytes;
    let report = collection.compact().unwrap();
    assert_eq!((report.segments_after, report.reclaimed_rows), (1, gone.len() as u64));
    let after = recall(&collection, queries);
    assert!(after >= of_fresh - 0.01, "recall after compaction {after}, fresh {of_fresh}");
    let (left_over, wanted) = (collection.stats().disk_bytes as f64, fresh.stats().disk_bytes as f64);
    assert!(left_over <= wanted * 1.1, "{left_over} bytes after compaction of {holey}, fresh {wanted}");
}

#[test]
fn graphs_grow_through_deletes_compactions_and_reopening() {
    let mut rng = StdRng::seed_from_u64(19);
    let all = vectors(&mut rng, 10_150);
    let (all, queries) = all.split_at(10_000);
    let options =
        StoreOptions { compact_deleted_share: 0.95, compact_fan_in: 100, ..StoreOptions::default() };
    let directory = memory();
    let mut store = Store::open_in(Arc::clone(&directory), options.clone()).unwrap();
    let mut collection = store.create_collection("c", schema()).unwrap();
    let mut model: HashMap<String, &Vec<f32>> = HashMap::new();
    let mut next = all.iter();
    for round in 0..5 {
        let gone: Vec<String> = model.keys().filter(|_| rng.random_bool(0.2)).cloned().collect();
        model.retain(|id, _| !gone.contains(id));
        let before = model.len() as u64;
        let changes = vec![Change::DeletePoints(gone)];
        collection.write(WriteRequest { changes, skip_bad_rows: false }).unwrap();
        // Most are new; some take the place of others.
        let rows: Vec<(usize, &Vec<f32>)> = (0..if round == 0 { 4_000 } else { 1_500 })
            .map(|row| (if row < 100 { row } else { round * 10_000 + row }, next.next().unwrap()))
            .collect();
        collection.write(upsert(&rows)).unwrap();
        model.extend(rows.iter().map(|(row, vector)| (format!("p{row}"), *vector)));
        collection.flush().unwrap();
        if round % 2 == 1 {
            drop((collection, store));
            store = Store::open_in(Arc::clone(&directory), options.clone()).unwrap();
            collection = store.collection("c").unwrap();
        }
        collection.compact().unwrap();
        let stats = collection.stats();
        let [segment] = stats.segments.as_slice() else { panic!("{stats:?}") };
        let graph = segment.vector_indexes[0].1.graph.as_ref().unwrap();
        assert_eq!(graph.generation, round as u32);
        if round > 0 {
            assert!(graph.inherited <= before && graph.inherited + 100 >= before, "{graph:?} of {before}");
        }
        assert_eq!(collection.count(None).unwrap(), model.len() as u64);
        assert!(recall(&collection, queries) >= 0.97, "recall {}", recall(&collection, queries));
        for id in model.keys().take(50) {
            let hits = collection.search(&search(Some(model[id].clone()), None)).unwrap().hits;
            assert_eq!(&hits[0].point.id, id, "round {round}");
        }
    }
}

#[test]
fn many_deleted_rows_are_compacted_away_unasked() {
    let mut rng = StdRng::seed_from_u64(18);
    let all = vectors(&mut rng, 2_000);
    let (_store, collection) = open(StoreOptions::default());
    collection.write(upsert(&all.iter().enumerate().collect::<Vec<_>>())).unwrap();
    collection.flush().unwrap();
    let ids = (0..600).map(|row| format!("p{row}")).collect();
    let changes = vec![Change::DeletePoints(ids)];
    collection.write(WriteRequest { changes, skip_bad_rows: false }).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while collection.stats().segments.iter().any(|segment| segment.deleted_rows > 0) {
        assert!(std::time::Instant::now() < deadline, "deleted rows stay: {:?}", collection.stats().segments);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(collection.count(None).unwrap(), 1_400);
}
