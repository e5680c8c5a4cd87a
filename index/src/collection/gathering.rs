//! Gathering: while somebody searches, the small segments that come of sealing small memtables are merged as soon as there
//! are two, into one whose graph grows; a search then walks one more graph instead of a dozen. That goes on beside a
//! compaction, which may take minutes.
//!
//! Each row is written again a few times more than tiers alone would have it, which is why nothing is gathered while nobody
//! searches.

use crate::collection::Collection;
use crate::collection::compaction::Candidate;
use crate::collection::pacing::small_segment_rows;

impl Collection {
    /// Merges small segments while somebody searches; called by the gathering thread.
    pub(crate) fn gather_small_segments(&self) {
        let _one_at_a_time = self.gathering.lock();
        let rows = small_segment_rows(&self.schema(), self.options.memtable_max_rows) as u64;
        let bytes = self.options.compact_max_segment_bytes.min(self.options.memtable_max_bytes as u64);
        self.merge_while_due(|candidates| {
            if self.searches.searched_lately() { small_ones(candidates, rows, bytes) } else { Vec::new() }
        });
    }
}

/// The segments of less than `small_rows` rows that make one of hardly more, and of at most `bytes`, if they are two or more;
/// the smallest first, which keeps the one that has grown for the end.
fn small_ones(candidates: &[Candidate], small_rows: u64, bytes: u64) -> Vec<u64> {
    let mut found: Vec<&Candidate> =
        candidates.iter().filter(|candidate| candidate.live < small_rows).collect();
    found.sort_by_key(|candidate| candidate.live);
    let (mut rows_taken, mut bytes_taken) = (0, 0);
    let fits = |candidate: &&&Candidate| {
        let has_room = rows_taken < small_rows;
        rows_taken += candidate.live;
        bytes_taken += candidate.bytes;
        has_room && bytes_taken <= bytes
    };
    let chosen: Vec<u64> = found.iter().take_while(fits).map(|candidate| candidate.id).collect();
    if chosen.len() > 1 { chosen } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(rows: &[u64]) -> Vec<u64> {
        let candidates: Vec<Candidate> = (0..)
            .zip(rows)
            .map(|(id, rows)| Candidate { id, rows: *rows, live: *rows, bytes: *rows, outdated: false })
            .collect();
        small_ones(&candidates, 100, 180)
    }

    #[test]
    fn two_small_segments_are_enough() {
        assert!(gathered(&[]).is_empty());
        assert!(gathered(&[1_000, 10, 100]).is_empty(), "one by itself stays");
        assert_eq!(gathered(&[1_000, 90, 10]), [2, 1], "the one that has grown takes it in");
        assert_eq!(gathered(&[10, 20, 30]), [0, 1, 2]);
    }

    #[test]
    fn what_is_large_enough_is_left_to_the_tiers() {
        assert_eq!(gathered(&[55, 54, 53]), [2, 1], "two of these are large together");
        assert!(gathered(&[99, 98]).is_empty(), "they would take too many bytes");
    }
}
