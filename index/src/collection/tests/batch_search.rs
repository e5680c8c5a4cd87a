//! Searches of a batch find what each finds alone.

use super::*;
use crate::filter::{FieldTest, Filter, Scalar};

/// Points in two segments and a memtable, some of them deleted. They stay so: what keywords score depends on which of the
/// deleted rows are still counted.
fn filled() -> (Store, Arc<Collection>, Vec<Point>) {
    let directory: Arc<dyn Directory> = Arc::new(MemDirectory::new());
    let (store, collection) = open(&directory, segments_stay());
    let mut rng = StdRng::seed_from_u64(41);
    let points: Vec<Point> = (0..400).map(|i| point(&mut rng, format!("p{i}"), None)).collect();
    for (part, flushed) in [(&points[..150], true), (&points[150..300], true), (&points[300..], false)] {
        collection.write(upsert(part)).unwrap();
        if flushed {
            collection.flush().unwrap();
        }
    }
    let ids = (0..400).step_by(7).map(|i| format!("p{i}")).collect();
    collection
        .write(WriteRequest { changes: vec![Change::DeletePoints(ids)], skip_bad_rows: false })
        .unwrap();
    (store, collection, points)
}

fn exact(using: &str, vector: &[f32]) -> SearchRequest {
    let mut request = search(Some(vector.to_vec()), None);
    if let Some(leg) = &mut request.vector {
        (leg.exact, leg.using) = (true, using.into());
    }
    request
}

fn of_year(year: i64) -> Option<Filter> {
    let test = FieldTest::Equals(Scalar::Integer(year));
    Some(Filter { must: vec![Condition::Field { field: "year".into(), test }], ..Filter::default() })
}

#[test]
fn every_kind_of_search_finds_what_it_finds_alone() {
    let (_store, collection, points) = filled();
    let mut requests = Vec::new();
    for near in &points[..12] {
        requests.push(exact("text", &near.vector));
        requests.push(exact("image", &near.image));
        requests.push(SearchRequest { filter: of_year(near.year), ..exact("text", &near.vector) });
        requests.push(SearchRequest { filter: of_year(points[0].year), ..exact("text", &near.vector) });
        requests.push(SearchRequest { limit: 3, offset: 2, ..exact("", &near.vector) });
        requests.push(SearchRequest { max_per_document: Some(1), ..exact("text", &near.vector) });
        requests.push(search(Some(near.vector.clone()), None));
        requests.push(search(None, Some("basalt")));
        let hybrid = search(Some(near.vector.clone()), Some("fjord amber"));
        requests.push(SearchRequest { filter: of_year(near.year), ..hybrid.clone() });
        let both = exact("text", &near.vector);
        requests.push(SearchRequest { vector: both.vector, ..hybrid });
    }
    let answers = collection.search_batch(&requests);
    assert_eq!(answers.len(), requests.len());
    for (request, answer) in requests.iter().zip(answers) {
        let (answer, alone) = (answer.unwrap(), collection.search(request).unwrap());
        assert!(!alone.hits.is_empty() || request.filter.is_some());
        assert_eq!(answer, alone, "{request:?}");
    }
}

#[test]
fn one_that_is_wrong_harms_no_other() {
    let (_store, collection, points) = filled();
    let good = exact("text", &points[3].vector);
    let unknown = Filter {
        must: vec![Condition::Field { field: "colour".into(), test: FieldTest::Exists(true) }],
        ..Filter::default()
    };
    let newest = collection.stats().seq_no;
    let requests = [
        good.clone(),
        exact("text", &[0.5]),
        SearchRequest { limit: 0, ..good.clone() },
        SearchRequest { filter: Some(unknown.clone()), ..good.clone() },
        SearchRequest { min_seq_no: Some(newest + 1), ..good.clone() },
        exact("nowhere", &points[3].vector),
        good.clone(),
    ];
    let answers = collection.search_batch(&requests);
    let wrong: Vec<Option<&str>> =
        answers[1..6].iter().map(|answer| answer.as_ref().unwrap_err().field()).collect();
    assert_eq!(wrong[0], Some("vector"));
    assert_eq!(wrong[1], Some("limit"));
    assert!(matches!(answers[4], Err(Error::NotVisible { .. })));
    for (request, answer) in requests.iter().zip(&answers) {
        let alone = collection.search(request).map_err(|error| error.to_string());
        assert_eq!(answer.as_ref().map_err(ToString::to_string), alone.as_ref().map_err(Clone::clone));
    }
    assert!(collection.search_batch(&[]).is_empty());
}

#[test]
fn a_plan_tells_how_many_share_the_reading() {
    let (_store, collection, points) = filled();
    let asked = |request: SearchRequest| SearchRequest { explain: true, ..request };
    let near = |i: usize| asked(exact("text", &points[i].vector));
    let requests = [near(1), near(2), SearchRequest { limit: 4, ..near(3) }, near(4)];
    let answers = collection.search_batch(&requests);
    let scans = |plan: &[String]| {
        plan.iter().filter(|step| step.contains("vectors by exact scan")).cloned().collect::<Vec<_>>()
    };
    let steps = |i: usize| scans(&answers[i].as_ref().unwrap().plan);
    let alone = scans(&collection.search(&near(1)).unwrap().plan);
    let together: Vec<String> = alone.iter().map(|step| format!("{step}, for 3 searches at once")).collect();
    assert_eq!(steps(0), together);
    for i in [0, 1, 3] {
        assert_eq!(steps(i).len(), 3, "{:?}", steps(i));
        assert!(steps(i).iter().all(|step| step.ends_with("for 3 searches at once")), "{:?}", steps(i));
    }
    assert!(steps(2).iter().all(|step| !step.contains("at once")), "it wants fewer hits: {:?}", steps(2));
    let phases = &answers[0].as_ref().unwrap().phases;
    assert_eq!(phases.iter().filter(|(name, _)| *name == "vector").count(), 1, "{phases:?}");
}
