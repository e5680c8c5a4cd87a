//! Near-duplicates among hits: of documents that say almost the same only the best placed one stays.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ragstone_index::collection::Collection;
use ragstone_index::search::{Hit, Origin};
use ragstone_ingest::pipeline::near::Signature;

/// Documents whose hits were left out, by the document whose hits stay for them.
pub type Collapsed = HashMap<String, Vec<Origin>>;

/// Leaves out hits of documents that are near-duplicates of one with a better hit. Several hits of one document all stay.
pub(super) fn collapse(collection: &Collection, hits: &mut Vec<Hit>) -> Collapsed {
    let mut groups: HashMap<String, String> = HashMap::new();
    for hit in hits.iter() {
        let id = &hit.point.origin.document_id;
        if !id.is_empty() && !groups.contains_key(id) {
            let note = collection.note(id);
            let group = note.as_deref().and_then(Signature::read).map(|(_, group)| group.to_owned());
            groups.insert(id.clone(), group.unwrap_or_else(|| id.clone()));
        }
    }
    keep_best(hits, &groups)
}

/// `groups`: the group of each document.
fn keep_best(hits: &mut Vec<Hit>, groups: &HashMap<String, String>) -> Collapsed {
    let mut best: HashMap<&str, String> = HashMap::new();
    let mut collapsed = Collapsed::new();
    hits.retain(|hit| {
        let origin = &hit.point.origin;
        let Some(group) = groups.get(&origin.document_id) else { return true };
        match best.entry(group) {
            Entry::Vacant(place) => {
                place.insert(origin.document_id.clone());
                true
            }
            Entry::Occupied(first) if *first.get() == origin.document_id => true,
            Entry::Occupied(first) => {
                let others = collapsed.entry(first.get().clone()).or_default();
                if !others.iter().any(|other| other.document_id == origin.document_id) {
                    others.push(origin.clone());
                }
                false
            }
        }
    });
    collapsed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use ragstone_index::search::PointData;

    use super::*;

    #[test]
    fn the_best_document_of_a_group_stays_with_all_its_hits() {
        let hit = |document: &str, score: f32| Hit {
            score,
            vector_score: None,
            keyword_score: None,
            point: PointData {
                origin: Origin { document_id: document.into(), ..Origin::default() },
                ..PointData::default()
            },
            highlights: Vec::new(),
            legs: Vec::new(),
        };
        let groups = [("a", "a"), ("b", "a"), ("c", "a"), ("d", "d")];
        let groups = groups.map(|(id, group)| (id.to_owned(), group.to_owned())).into();
        let order = ["b", "a", "d", "", "b", "c", "a", ""];
        let mut hits: Vec<Hit> = order.iter().map(|id| hit(id, 1.0)).collect();
        let collapsed = keep_best(&mut hits, &groups);
        let left: Vec<&str> = hits.iter().map(|hit| hit.point.origin.document_id.as_str()).collect();
        assert_eq!(left, ["b", "d", "", "b", ""]);
        let others: Vec<&str> = collapsed["b"].iter().map(|other| other.document_id.as_str()).collect();
        assert_eq!((others, collapsed.len()), (vec!["a", "c"], 1));
    }
}
