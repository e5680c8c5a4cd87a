//! Documents of the same content that are stored once: where else the content of a hit lies.

use std::collections::HashMap;

use ragstone_index::collection::{Collection, Copies};
use ragstone_index::search::Hit;

/// Most documents that are named for each hit; of the others only their number is told.
pub const MAX_SHOWN_COPIES: usize = 16;

/// The documents that are linked to those of the hits, by document id. Documents without any are left out.
pub(super) fn of_hits(collection: &Collection, hits: &[Hit]) -> HashMap<String, Copies> {
    let mut ids: Vec<&str> = hits.iter().map(|hit| hit.point.origin.document_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| !id.is_empty());
    if ids.is_empty() {
        return HashMap::new();
    }
    let copies = collection.copies(ids.iter().copied(), MAX_SHOWN_COPIES);
    let found = ids.into_iter().zip(copies).filter(|(_, copies)| copies.total > 0);
    found.map(|(id, copies)| (id.to_owned(), copies)).collect()
}
