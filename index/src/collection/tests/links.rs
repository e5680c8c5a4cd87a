//! Documents of the same content that are stored once.

use arrow::array::Array as _;

use super::*;
use crate::filter::{FieldTest, Scalar};

/// A version of 64 digits, and the content behind them.
fn version(content: u128) -> String {
    format!("{:064x}{content:032x}", 7)
}

fn chunks(document: &str, content: u128, count: usize) -> Vec<Point> {
    let mut rng = StdRng::seed_from_u64(content as u64);
    let of = |chunk| point(&mut rng, format!("{document}#{chunk}"), Some(document.to_owned()));
    (0..count).map(of).collect()
}

fn holder(id: &str, content: u128) -> Change {
    let points = chunks(id, content, 2);
    let document = DocumentRecord { version: version(content), ..record(id, 2) };
    Change::PutDocument { document, points: Some(rows(&points)) }
}

fn link(id: &str, content: u128) -> Change {
    let state = DocumentState::Linked {
        to: String::new(),
        payload_patch: format!(r#"{{"path":"{id}","year":null}}"#),
    };
    let document = DocumentRecord { version: version(content), state, chunks: 0, ..record(id, 2) };
    Change::PutDocument { document, points: None }
}

fn delete(ids: &[&str]) -> Change {
    Change::DeleteDocuments(ids.iter().map(ToString::to_string).collect())
}

fn write(collection: &Collection, change: Change) -> Result<WriteReceipt> {
    collection.write(WriteRequest { changes: vec![change], skip_bad_rows: false })
}

fn texts(collection: &Collection, document: &str) -> Vec<String> {
    let points = collection.document_points(document).unwrap();
    let rows = crate::rows::Rows::new(&points).unwrap();
    (0..points.num_rows()).map(|row| rows.text(row).unwrap().to_owned()).collect()
}

/// The texts that a document stands for.
fn content_of(collection: &Collection, id: &str) -> Option<Vec<String>> {
    let record = collection.document(id)?;
    let holder = record.linked_to().unwrap_or(id).to_owned();
    assert!(record.linked_to().is_none() || texts(collection, id).is_empty(), "{id} has points of its own");
    Some(texts(collection, &holder))
}

fn expected(content: u128) -> Vec<String> {
    chunks("any", content, 2).into_iter().map(|point| point.text).collect()
}

#[test]
fn a_link_takes_over_when_its_document_goes_or_changes() {
    let directory = memory();
    let (store, collection) = open(&directory, StoreOptions::default());
    write(&collection, holder("a", 1)).unwrap();
    for id in ["b", "c", "d"] {
        write(&collection, link(id, 1)).unwrap();
    }
    assert_eq!(collection.count(None).unwrap(), 2);
    let linked = collection.document("b").unwrap();
    assert_eq!((linked.linked_to(), linked.chunks, linked.media_type.as_str()), (Some("a"), 2, "text/plain"));
    let copies = collection.copies(["a", "b"], 2);
    assert_eq!((copies[0].total, copies[0].first.len(), copies[1].total), (3, 2, 0));
    assert_eq!(collection.linked_of_source("source"), 3);

    let receipt = write(&collection, delete(&["a"])).unwrap();
    assert_eq!(receipt.deleted_documents, 1);
    assert!(collection.document("a").is_none());
    assert_eq!(collection.document("b").unwrap().state, DocumentState::Indexed);
    let found = collection.get(&["b#0".into()], &Select::default(), None).unwrap().remove(0);
    assert_eq!((found.origin.document_id.as_str(), found.origin.uri.as_str()), ("b", "file:///b"));
    // Its own place, no more that of the other.
    let payload = found.payload.unwrap();
    assert_eq!((payload.get("path").unwrap().as_str(), payload.get("year")), (Some("b"), None));
    let test = FieldTest::Equals(Scalar::String("b".into()));
    let by_path = Filter { must: vec![Condition::Field { field: "path".into(), test }], ..Filter::default() };
    assert_eq!(collection.count(Some(&by_path)).unwrap(), 2);

    // Changed content: the next one takes over, while the changed one has its new points.
    write(&collection, holder("b", 2)).unwrap();
    assert_eq!(content_of(&collection, "b"), Some(expected(2)));
    assert_eq!(collection.document("d").unwrap().linked_to(), Some("c"));
    store.close();
    drop((store, collection));
    let (store, collection) = open(&directory, StoreOptions::default());
    assert_eq!(content_of(&collection, "d"), Some(expected(1)));
    assert_eq!((collection.count(None).unwrap(), collection.linked_of_source("source")), (4, 1));

    // The link goes, then what it was linked to.
    write(&collection, delete(&["d"])).unwrap();
    assert_eq!(content_of(&collection, "c"), Some(expected(1)));
    write(&collection, delete(&["c"])).unwrap();
    assert_eq!(collection.count(None).unwrap(), 2);
    store.close();
}

#[test]
fn a_link_without_its_content_is_refused_and_leaves_what_was_there() {
    let (_store, collection) = open(&memory(), StoreOptions::default());
    write(&collection, holder("a", 1)).unwrap();
    write(&collection, holder("b", 2)).unwrap();
    let refused = |change: Change| {
        assert_eq!(
            write(&collection, change).unwrap_err().kind(),
            crate::error::ErrorKind::FailedPrecondition
        )
    };
    refused(link("b", 3));
    refused(link("a", 1));
    // Without a hash of its content nothing is linked.
    let state = DocumentState::Linked { to: "a".into(), payload_patch: String::new() };
    refused(Change::PutDocument { document: DocumentRecord { state, ..record("x", 1) }, points: None });
    assert_eq!(content_of(&collection, "b"), Some(expected(2)));
    // A document that had points of its own loses them as it is linked.
    write(&collection, link("b", 1)).unwrap();
    assert_eq!((content_of(&collection, "b"), collection.count(None).unwrap()), (Some(expected(1)), 2));
    // What failed keeps the points of its older version for those that are linked to it.
    let failed = DocumentRecord { state: DocumentState::Failed { reason: "no".into() }, ..record("a", 2) };
    write(&collection, Change::PutDocument { document: failed, points: None }).unwrap();
    assert_eq!(content_of(&collection, "b"), Some(expected(1)));
    refused(link("c", 1));
    write(&collection, holder("a", 5)).unwrap();
    assert_eq!((content_of(&collection, "b"), collection.count(None).unwrap()), (Some(expected(1)), 4));
}

#[test]
fn documents_that_go_together_leave_nothing_and_points_that_are_gone_leave_no_links() {
    let (_store, collection) = open(&memory(), StoreOptions::default());
    let all = |collection: &Collection| {
        for (id, change) in [("a", holder("a", 1)), ("b", link("b", 1)), ("c", link("c", 1))] {
            write(collection, change).unwrap_or_else(|error| panic!("{id}: {error}"));
        }
    };
    all(&collection);
    write(&collection, delete(&["b", "a", "c", "b"])).unwrap();
    assert_eq!((collection.count(None).unwrap(), collection.documents("", None, 9).len()), (0, 0));
    all(&collection);
    write(&collection, delete(&["a", "b"])).unwrap();
    assert_eq!(content_of(&collection, "c"), Some(expected(1)));
    write(&collection, delete(&["c"])).unwrap();
    // Renamed: the old name goes, the new one comes with the same points, in one write.
    all(&collection);
    let changes = vec![delete(&["a"]), holder("z", 1)];
    collection.write(WriteRequest { changes, skip_bad_rows: false }).unwrap();
    for id in ["b", "c", "z"] {
        assert_eq!(content_of(&collection, id), Some(expected(1)), "{id}");
    }
    write(&collection, delete(&["b", "c", "z"])).unwrap();
    all(&collection);
    let points = ["a#0", "a#1"].map(str::to_owned).to_vec();
    write(&collection, Change::DeletePoints(points)).unwrap();
    write(&collection, delete(&["a"])).unwrap();
    assert!(collection.documents("", None, 9).is_empty());
}

#[test]
fn a_payload_that_does_not_fit_keeps_no_document_from_going() {
    let (_store, collection) = open(&memory(), StoreOptions::default());
    write(&collection, holder("a", 1)).unwrap();
    let state = DocumentState::Linked { to: String::new(), payload_patch: r#"{"year":"words"}"#.into() };
    let document = DocumentRecord { version: version(1), state, ..record("b", 2) };
    write(&collection, Change::PutDocument { document, points: None }).unwrap();
    write(&collection, delete(&["a"])).unwrap();
    assert_eq!(content_of(&collection, "b"), Some(expected(1)));
}

/// Random documents of few contents, written, linked, changed and deleted from several threads' groups, with power cuts: at
/// each look every document stands for its content, and no content is stored more often than it was asked to be.
#[test]
fn no_content_is_lost_whatever_happens() {
    for seed in 0..10u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let faulty = Arc::new(FaultyDirectory::new(MemDirectory::new()).unwrap());
        let directory: Arc<dyn Directory> = Arc::clone(&faulty) as Arc<dyn Directory>;
        let (store, collection) = open(&directory, small_memtables());
        faulty.fail_any(faulty.operations() + rng.random_range(50..700), Fault::Error);
        let mut acknowledged: BTreeMap<String, u128> = BTreeMap::new();
        let mut maybe: BTreeMap<String, Vec<Option<u128>>> = BTreeMap::new();
        for _ in 0..250 {
            let (id, content) = (format!("d{}", rng.random_range(0..12)), rng.random_range(0..4u128));
            let becomes = (!rng.random_bool(0.3)).then_some(content);
            let outcome = match becomes {
                None => write(&collection, delete(&[&id])),
                Some(_) => write(&collection, link(&id, content)).or_else(|error| match error {
                    Error::FailedPrecondition(_) => write(&collection, holder(&id, content)),
                    error => Err(error),
                }),
            };
            match (outcome, becomes) {
                (Ok(_), Some(content)) => {
                    acknowledged.insert(id.clone(), content);
                    maybe.remove(&id);
                }
                (Ok(_), None) => {
                    acknowledged.remove(&id);
                    maybe.remove(&id);
                }
                (Err(_), becomes) => maybe.entry(id).or_default().push(becomes),
            }
            if rng.random_bool(0.02) {
                let _ = collection.flush();
            }
        }
        let check = |collection: &Collection, at: &str| {
            for number in 0..12 {
                let id = format!("d{number}");
                let found = content_of(collection, &id);
                let mut may_be = vec![acknowledged.get(&id).copied()];
                may_be.extend(maybe.get(&id).into_iter().flatten());
                let fits = may_be.iter().any(|content| found == content.map(expected));
                assert!(fits, "seed {seed}, {at}: {id} is {found:?}, not one of {may_be:?}");
            }
        };
        check(&collection, "before");
        let survived: Arc<dyn Directory> = Arc::new(faulty.power_cut(seed).unwrap());
        store.close();
        let (_store, collection) = open(&survived, small_memtables());
        check(&collection, "after the power cut");
        let holders =
            collection.documents("", None, 99).into_iter().filter(|d| d.linked_to().is_none()).count();
        assert_eq!(collection.count(None).unwrap(), 2 * holders as u64, "seed {seed}");
    }
}

/// All that an export gives.
fn exported(collection: &Collection) -> Vec<RecordBatch> {
    let mut export = collection.export(None).unwrap();
    assert_eq!(*export.schema(), collection.export_schema());
    let mut batches = Vec::new();
    while let Some(batch) = export.next_batch().unwrap() {
        batches.push(batch);
    }
    batches
}

fn upsert_all(collection: &Collection, batches: &[RecordBatch]) {
    for batch in batches {
        write(collection, Change::UpsertPoints(batch.clone())).unwrap();
    }
}

fn copy(store: &Store, name: &str) -> Arc<Collection> {
    store.create_collection(name, schema()).unwrap()
}

#[test]
fn links_go_out_with_rows_and_come_back_with_them() {
    let directory = memory();
    let (store, collection) = open(&directory, small_memtables());
    write(&collection, holder("a", 1)).unwrap();
    assert_eq!(exported(&collection)[0].num_columns(), batch::arrow_schema(&schema()).fields().len());
    write(&collection, link("b", 1)).unwrap();
    write(&collection, link("c", 1)).unwrap();
    write(&collection, holder("x", 2)).unwrap();
    write(&collection, link("y", 2)).unwrap();
    // Its present content could not be read; what it was holds for the one that is linked to it.
    let failed = DocumentRecord { state: DocumentState::Failed { reason: "no".into() }, ..record("x", 2) };
    write(&collection, Change::PutDocument { document: failed, points: None }).unwrap();
    write(&collection, holder("alone", 3)).unwrap();
    let batches = exported(&collection);
    let links: usize = batches
        .iter()
        .map(|rows| rows.column_by_name(batch::ALSO_AT).unwrap())
        .map(|c| c.len() - c.null_count())
        .sum();
    assert_eq!(links, 2, "once for each document");

    let other = copy(&store, "other");
    upsert_all(&other, &batches);
    let check = |other: &Collection| {
        for (id, content) in [("b", 1), ("c", 1), ("y", 2)] {
            assert_eq!(content_of(other, id), Some(expected(content)), "{id}");
        }
        assert_eq!(other.copies(["a", "x"], 9).iter().map(|copies| copies.total).collect::<Vec<_>>(), [2, 1]);
        let (here, there) = (collection.document("b").unwrap(), other.document("b").unwrap());
        assert_eq!(
            there,
            DocumentRecord {
                source_id: String::new(),
                title: String::new(),
                media_type: String::new(),
                ..here
            }
        );
        assert_eq!(other.document("a").unwrap().version, version(1));
        assert!(other.document("alone").is_none(), "only what is linked needs a record");
        assert_eq!(other.count(None).unwrap(), 6);
    };
    check(&other);
    // Again, and after a restart: nothing changes.
    upsert_all(&other, &batches);
    check(&other);
    store.close();
    drop((store, other));
    let (store, _) = open(&directory, small_memtables());
    let other = store.collection("other").unwrap();
    check(&other);
    // And they are worth what they were.
    write(&other, delete(&["a"])).unwrap();
    assert_eq!(content_of(&other, "b"), Some(expected(1)));
    let found = other.get(&["b#0".into()], &Select::default(), None).unwrap().remove(0);
    assert_eq!(found.origin.uri, "file:///b");
    store.close();
}

#[test]
fn links_that_come_with_rows_replace_nothing_and_bad_ones_are_told() {
    let (store, collection) = open(&memory(), StoreOptions::default());
    write(&collection, holder("a", 1)).unwrap();
    for id in ["b", "c", "d"] {
        write(&collection, link(id, 1)).unwrap();
    }
    let batches = exported(&collection);
    let other = copy(&store, "other");
    write(&other, holder("b", 9)).unwrap();
    let loose = chunks("c", 8, 1);
    write(&other, Change::UpsertPoints(batch_of_document(&loose, "c"))).unwrap();
    upsert_all(&other, &batches);
    assert_eq!(content_of(&other, "b"), Some(expected(9)));
    assert!(other.document("c").is_none(), "it has points of its own");
    assert_eq!(content_of(&other, "d"), Some(expected(1)));
    // Where the document is another one by now, nothing is linked to it.
    let third = copy(&store, "third");
    write(&third, holder("a", 5)).unwrap();
    upsert_all(&third, &batches);
    assert!(third.document("d").is_none());
    assert_eq!(third.document("a").unwrap().version, version(5));

    let rows = &batches[0];
    let place = rows.schema().index_of(batch::ALSO_AT).unwrap();
    let json = rows.column(place).as_any().downcast_ref::<StringArray>().unwrap().value(0).to_owned();
    let with = |json: &str| {
        let mut columns = rows.columns().to_vec();
        columns[place] = Arc::new(StringArray::from(vec![Some(json), None]));
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    let other_content = json.replacen(&version(1), &version(7), 1);
    let many = vec![r#"{"document_id":"z"}"#; MAX_COPIES + 1].join(",");
    let bad = [
        "no json".to_owned(),
        "{}".into(),
        json.replace("\"1\"", "\"2\""),
        other_content,
        json.replace("\"b\"", "\"\""),
        json.replace("\"b\"", "\"a\""),
        json.replace("\"chunks\":2", "\"chunks\":0"),
        json.replace(&version(1), "abc"),
        format!("{{\"version\":\"1\",\"also_at\":[{many}]}}"),
        json.replace("file:///b", &"x".repeat(batch::MAX_ORIGIN_BYTES + 1)),
    ];
    let fourth = copy(&store, "fourth");
    for json in bad {
        let error = write(&fourth, Change::UpsertPoints(with(&json))).unwrap_err();
        assert!(error.to_string().contains("points[0].also_at"), "{json}: {error}");
        let lenient = WriteRequest { changes: vec![Change::UpsertPoints(with(&json))], skip_bad_rows: true };
        let receipt = fourth.write(lenient).unwrap();
        assert_eq!((receipt.upserted, receipt.rejected.len()), (2, 1), "{json}");
        assert_eq!(receipt.rejected[0].column, batch::ALSO_AT);
        assert!(fourth.documents("", None, 9).is_empty());
    }
    store.close();
}

/// Rows of a document without a record.
fn batch_of_document(points: &[Point], id: &str) -> RecordBatch {
    let rows = rows(points);
    let ids: ArrayRef = Arc::new(StringArray::from(vec![id; points.len()]));
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(arrow::datatypes::Field::new(batch::DOCUMENT_ID, DataType::Utf8, true)));
    let columns = rows.columns().iter().cloned().chain([ids]).collect();
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).unwrap()
}
