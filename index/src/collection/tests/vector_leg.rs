//! What each segment is asked for.

use super::*;

/// A point of which the angle to others of its group is small.
fn near(rng: &mut StdRng, group: usize, id: String) -> Point {
    let mut near = point(rng, id, None);
    near.vector.iter_mut().for_each(|component| *component *= 0.2);
    near.vector[group] += 1.0;
    near
}

#[test]
fn a_small_segment_with_most_of_the_hits_is_asked_again_in_full() {
    let directory: Arc<dyn Directory> = Arc::new(MemDirectory::new());
    let (_store, collection) = open(&directory, segments_stay());
    let mut rng = StdRng::seed_from_u64(14);
    let mut write = |rows: usize, group| {
        let points: Vec<Point> = (0..rows).map(|i| near(&mut rng, group, format!("{group}-{i}"))).collect();
        collection.write(upsert(&points)).unwrap();
        collection.flush().unwrap();
        points
    };
    let (old, new) = (write(20_000, 0), write(1_500, 1));
    // How segments were asked, in turn, and the best hit.
    let asked = |query: &Point| {
        let mut request =
            SearchRequest { explain: true, limit: 20, ..search(Some(query.vector.clone()), None) };
        request.vector.as_mut().unwrap().recall_target = Some(RecallTarget::new(0.999, "").unwrap());
        let found = collection.search(&request).unwrap();
        assert!(found.hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        let mut ids: Vec<_> = found.hits.iter().map(|hit| hit.point.id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 20, "none twice");
        let walks = found.plan.iter().filter(|step| step.starts_with("segment ")).cloned();
        (walks.collect::<Vec<_>>(), found.hits[0].point.id.clone())
    };
    let (steps, best) = asked(&old[7]);
    assert_eq!((steps.len(), best.as_str()), (2, "0-7"), "{steps:?}");
    let (steps, best) = asked(&new[7]);
    assert_eq!((steps.len(), best.as_str()), (3, "1-7"), "{steps:?}");
    assert!(steps[1].contains(", 1500 rows") && steps[2].contains(", 1500 rows"), "{steps:?}");
}
