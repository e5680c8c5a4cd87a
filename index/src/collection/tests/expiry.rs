//! Points that expire: never seen once their time has come, whatever reads, and given back by a compaction.

use std::path::Path;

use arrow::array::{Int64Array, TimestampSecondArray};

use super::*;
use crate::clock::Clock;
use crate::search::SearchRequest;

/// Rows of which each has its own expiry.
fn expiring(points: &[Point], times: Vec<Option<i64>>) -> RecordBatch {
    let rows = rows(points);
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        columns.push((field.name().clone(), Arc::clone(column)));
    }
    columns.push((batch::EXPIRES_AT.into(), Arc::new(Int64Array::from(times))));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

fn write(collection: &Collection, change: Change) {
    collection.write(WriteRequest { changes: vec![change], skip_bad_rows: false }).unwrap();
}

fn points(count: usize, seed: u64) -> Vec<Point> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|i| point(&mut rng, format!("p{i}"), None)).collect()
}

fn with_clock(clock: &Clock) -> StoreOptions {
    StoreOptions { clock: clock.clone(), build_threads: 1, ..StoreOptions::default() }
}

/// What every way of reading finds.
fn check(collection: &Collection, all: &[Point], live: impl Fn(usize) -> bool) {
    let expected: Vec<usize> = (0..all.len()).filter(|i| live(*i)).collect();
    let names: std::collections::BTreeSet<String> = expected.iter().map(|i| format!("p{i}")).collect();
    assert_eq!(collection.count(None).unwrap(), names.len() as u64);
    let wanted: Vec<String> = all.iter().map(|point| point.id.clone()).collect();
    let got = collection.get(&wanted, &Select::default(), None).unwrap();
    assert_eq!(got.into_iter().map(|point| point.id).collect::<std::collections::BTreeSet<_>>(), names);
    let page = ScrollRequest { filter: None, limit: 10_000, after: None, select: Select::default() };
    let page = collection.scroll(&page).unwrap();
    assert_eq!(
        page.points.into_iter().map(|point| point.id).collect::<std::collections::BTreeSet<_>>(),
        names
    );
    let filter = Filter {
        must: vec![Condition::Field { field: "year".into(), test: crate::filter::FieldTest::Exists(true) }],
        ..Filter::default()
    };
    assert_eq!(collection.count(Some(&filter)).unwrap(), names.len() as u64);
    for (vector, text) in [(Some(all[0].vector.clone()), None), (None, Some("amber garnet"))] {
        let request = SearchRequest { limit: 10_000, ..search(vector, text) };
        let hits = collection.search(&request).unwrap().hits;
        assert!(hits.iter().all(|hit| names.contains(&hit.point.id)), "{:?}", ids(&hits));
        assert!(text.is_some() || hits.len() == names.len());
    }
    let mut export = collection.export(None).unwrap();
    assert_eq!(export.rows(), names.len() as u64);
    let mut exported = 0;
    while let Some(batch) = export.next_batch().unwrap() {
        exported += batch.num_rows();
    }
    assert_eq!(exported, names.len());
}

#[test]
fn a_point_is_gone_the_moment_it_expires_wherever_it_is() {
    let (clock, directory) = (Clock::manual(1_000), memory());
    let (store, collection) = open(&directory, with_clock(&clock));
    let all = points(300, 7);
    // The first hundred in a segment, the second in another, the third in the memtable; each third of them expires.
    let time = |i: usize| i.is_multiple_of(3).then_some(2_000 + i as i64);
    for chunk in 0..3 {
        let range = chunk * 100..chunk * 100 + 100;
        let times = range.clone().map(time).collect();
        write(&collection, Change::UpsertPoints(expiring(&all[range], times)));
        if chunk < 2 {
            collection.flush().unwrap();
        }
    }
    let alive = |now: i64| move |i: usize| time(i).is_none_or(|time| time > now);
    check(&collection, &all, alive(1_000));
    let found = collection.get(&["p3".into(), "p4".into()], &Select::default(), None).unwrap();
    assert_eq!((found[0].expires_at_ms, found[1].expires_at_ms), (Some(2_003), None));
    for now in [2_002, 2_003, 2_100, 2_250] {
        clock.set(now);
        check(&collection, &all, alive(now));
    }
    // Also for a server that starts later, and from the memtable once it is sealed.
    collection.flush().unwrap();
    check(&collection, &all, alive(2_250));
    drop(collection);
    store.close();
    drop(store);
    let (_store, collection) = open(&directory, with_clock(&clock));
    check(&collection, &all, alive(2_250));
    // A point that comes again lives again; one that comes too late never does.
    clock.set(3_000);
    write(&collection, Change::UpsertPoints(expiring(&all[3..4], vec![None])));
    write(&collection, Change::UpsertPoints(expiring(&all[6..7], vec![Some(2_999)])));
    let alive_again = |i: usize| i == 3 || time(i).is_none();
    check(&collection, &all, alive_again);
    // What has expired is nothing to delete.
    let gone = Change::DeletePoints(vec!["p0".into(), "p1".into()]);
    let receipt = collection.write(WriteRequest { changes: vec![gone], skip_bad_rows: false }).unwrap();
    assert_eq!(receipt.deleted_points, 1);
    collection.compact().unwrap();
    let stats = collection.stats();
    assert_eq!((stats.deleted_rows, stats.points), (0, 200));
    check(&collection, &all, |i| i != 1 && alive_again(i));
}

#[test]
fn a_document_ends_with_its_last_point_and_stays_gone() {
    let (clock, directory) = (Clock::manual(0), memory());
    let (store, collection) = open(&directory, with_clock(&clock));
    let all = points(4, 9);
    let put = |id: &str, times: Vec<Option<i64>>| Change::PutDocument {
        document: record(id, times.len() as u32),
        points: Some(expiring(
            &(0..times.len())
                .map(|i| Point { id: format!("{id}#{i}"), ..all[i].clone() })
                .collect::<Vec<_>>(),
            times,
        )),
    };
    write(&collection, put("whole", vec![Some(10), Some(20)]));
    write(&collection, put("half", vec![Some(10), None]));
    write(&collection, put("renewed", vec![Some(10)]));
    collection.flush().unwrap();
    let known = |collection: &Collection| {
        collection.documents("", None, 10).into_iter().map(|document| document.id).collect::<Vec<_>>()
    };
    clock.set(15);
    assert_eq!(known(&collection), ["half", "whole"]);
    write(&collection, put("renewed", vec![Some(100)]));
    clock.set(25);
    assert_eq!(known(&collection), ["half", "renewed"]);
    assert!(collection.document("whole").is_none());
    // The process ends before anything was written of it: the rows tell it again.
    drop(collection);
    store.close();
    drop(store);
    let (store, collection) = open(&directory, with_clock(&clock));
    assert_eq!(known(&collection), ["half", "renewed"]);
    // A compaction drops those rows, and what they told is in the log by then.
    collection.compact().unwrap();
    drop(collection);
    store.close();
    drop(store);
    let (_store, collection) = open(&directory, with_clock(&clock));
    assert_eq!(known(&collection), ["half", "renewed"]);
    assert_eq!(collection.count(None).unwrap(), 2);
}

#[test]
fn times_of_every_unit_are_understood() {
    let clock = Clock::manual(5_000);
    let (_store, collection) = open(&memory(), with_clock(&clock));
    let all = points(2, 1);
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![4, 6]).with_timezone("+02:00"));
    let rows = rows(&all);
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        columns.push((field.name().clone(), Arc::clone(column)));
    }
    columns.push((batch::EXPIRES_AT.into(), seconds));
    write(&collection, Change::UpsertPoints(RecordBatch::try_from_iter(columns).unwrap()));
    let found = collection.get(&["p0".into(), "p1".into()], &Select::default(), None).unwrap();
    assert_eq!(found.iter().map(|point| point.expires_at_ms).collect::<Vec<_>>(), [Some(6_000)]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["soon"]));
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let wrong = RecordBatch::try_from_iter([(batch::ID, ids), (batch::EXPIRES_AT, texts)]).unwrap();
    let request = WriteRequest { changes: vec![Change::UpsertPoints(wrong)], skip_bad_rows: false };
    assert!(collection.write(request).unwrap_err().to_string().contains("expires_at"));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

#[test]
fn a_collection_of_before_there_was_expiry_opens_and_goes_on() {
    // A segment of three rows with one that is replaced, and a log behind it.
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old/before-expiry");
    let folder = tempfile::tempdir().unwrap();
    copy(&old, folder.path());
    let clock = Clock::manual(1_000);
    for round in 0..3 {
        let store = Store::open(folder.path(), with_clock(&clock)).unwrap();
        let collection = store.collection("c").unwrap();
        let found =
            collection.get(&["a", "b", "c", "d", "e"].map(String::from), &Select::default(), None).unwrap();
        let texts: Vec<_> = found.iter().map(|point| point.text.as_str()).collect();
        assert_eq!(
            texts,
            ["an amber bead", "a second basalt column", "a cedar chest", "an ember"],
            "{round}"
        );
        assert!(found.iter().all(|point| point.expires_at_ms.is_none()));
        let hits = collection.search(&search(None, Some("basalt"))).unwrap().hits;
        assert_eq!(ids(&hits), ["b"], "{round}");
        let new: ArrayRef = Arc::new(StringArray::from(vec![format!("n{round}")]));
        let time: ArrayRef = Arc::new(Int64Array::from(vec![2_000]));
        let rows = RecordBatch::try_from_iter([(batch::ID, new), (batch::EXPIRES_AT, time)]).unwrap();
        write(&collection, Change::UpsertPoints(rows));
        // Old rows and new ones in one segment.
        if round == 1 {
            collection.compact().unwrap();
        }
        assert_eq!(collection.count(None).unwrap(), 5 + round);
        drop(collection);
        store.close();
    }
    clock.set(2_000);
    let store = Store::open(folder.path(), with_clock(&clock)).unwrap();
    assert_eq!(store.collection("c").unwrap().count(None).unwrap(), 4);
}

#[test]
fn reading_while_somebody_writes_never_shows_what_has_expired() {
    let clock = Clock::manual(0);
    let (_store, collection) = open(&memory(), with_clock(&clock));
    let all = points(200, 3);
    write(&collection, Change::UpsertPoints(expiring(&all, (0..200).map(|i| Some(i + 1)).collect())));
    // As if a writer were at it.
    let writer = collection.state.lock();
    clock.set(50);
    check(&collection, &all, |i| i >= 50);
    drop(writer);
    clock.set(150);
    check(&collection, &all, |i| i >= 150);
}
