//! Damage that opening doesn't see is found in the background: derived files are built again, rows are never copied as if
//! they were whole.

use super::*;

const FOLDER: &str = "collections/c/segments/000000000001";

/// A store of one segment, and its points.
fn sealed() -> (Arc<MemDirectory>, Vec<Point>) {
    let mut rng = StdRng::seed_from_u64(21);
    let memory = Arc::new(MemDirectory::new());
    let directory: Arc<dyn Directory> = Arc::clone(&memory) as Arc<dyn Directory>;
    let points: Vec<Point> = (0..1_500).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    let (store, collection) = open(&directory, StoreOptions::default());
    collection.write(upsert(&points)).unwrap();
    collection.flush().unwrap();
    drop((store, collection));
    (memory, points)
}

fn damage(memory: &MemDirectory, path: &str, from_end: usize) {
    let mut bytes = memory.read(path).unwrap().to_vec();
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x01;
    memory.plant(path, &bytes).unwrap();
}

#[test]
fn a_derived_file_with_a_wrong_checksum_is_built_again_after_opening() {
    let (memory, points) = sealed();
    // A code of the graph: nothing that opening relies on.
    damage(&memory, &format!("{FOLDER}/text.graph"), 100);
    let directory: Arc<dyn Directory> = Arc::clone(&memory) as Arc<dyn Directory>;
    let (_store, collection) = open(&directory, StoreOptions::default());
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while memory.exists(&format!("{FOLDER}/text.graph")).unwrap() {
        assert!(std::time::Instant::now() < deadline, "the damaged segment stays");
        std::thread::sleep(Duration::from_millis(20));
    }
    let hits = collection.search(&search(Some(points[9].vector.clone()), None)).unwrap().hits;
    assert_eq!(ids(&hits)[0], "p9");
    assert_eq!(collection.count(None).unwrap(), 1_500);
    let stats = collection.stats();
    let graphs: Vec<_> =
        stats.segments[0].vector_indexes.iter().filter_map(|(_, index)| index.graph.as_ref()).collect();
    assert!(!graphs.is_empty() && graphs.iter().all(|graph| graph.inherited == 0), "grown from damage");
}

#[test]
fn damaged_vectors_are_never_copied_into_a_new_segment() {
    let (memory, points) = sealed();
    damage(&memory, &format!("{FOLDER}/text.vectors"), 5_000);
    let directory: Arc<dyn Directory> = Arc::clone(&memory) as Arc<dyn Directory>;
    let (_store, collection) = open(&directory, StoreOptions::default());
    // Something to merge with.
    collection.write(upsert(&points[..10])).unwrap();
    collection.flush().unwrap();
    let error = collection.compact().unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Corruption, "{error}");
    assert!(memory.exists(&format!("{FOLDER}/text.vectors")).unwrap(), "what is left of it stays");
    assert_eq!(collection.count(None).unwrap(), 1_500, "all else goes on");
}
