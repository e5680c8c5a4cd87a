//! How much may lie unsealed, and how fast writers may go.
//!
//! A row costs every search a little until it is in a graph: a memtable is scanned. While nobody searches, memtables may
//! grow large, which makes fewer and better graphs; while somebody does, they are sealed as soon as scanning them would
//! be felt. Writers that are faster than sealing are slowed down little by little as the room for unsealed rows fills
//! up, rather than stopped when it is full. It must not know logs or segments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::schema::CollectionSchema;

/// A search this long ago still counts as "somebody searches".
const SEARCHED_LATELY: Duration = Duration::from_secs(2);
/// Vector components (rows x dimensions) that a memtable may hold while somebody searches: scanned by code they take
/// some 0.1 ms.
const SEARCHED_COMPONENTS: usize = 2 << 20;
/// Rows that a memtable may hold in any case: a smaller segment would get no graph.
const SEARCHED_MIN_ROWS: usize = 2_048;
/// Share of the room for unsealed rows from which writers are slowed down: while somebody searches...
const SLOW_FROM_SEARCHED: f64 = 0.6;
/// ...and otherwise.
const SLOW_FROM: f64 = 0.85;
/// Small segments that may wait to be gathered while somebody searches: each costs a search a walk of its own.
const SMALL_SEGMENTS: f64 = 2.0;
/// A segment of less than this many memtables is small. Gathering writes a row again half as many times.
const SMALL_SEGMENT_MEMTABLES: usize = 8;
/// Writers are slowed down at most to this part of the speed of sealing: merges catch up meanwhile.
const MOST_PRESSURE: f64 = 4.0;
/// A full room lets in rows at this share of the speed of sealing, so that it empties.
const SPEED_WHEN_FULL: f64 = 0.8;
/// Longest time that one write is held back here.
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// Weight of the newest seal in the mean speed of sealing.
const NEWEST: f64 = 0.4;

/// When a collection was searched last.
#[derive(Debug)]
pub(crate) struct SearchClock {
    started: Instant,
    /// Milliseconds after `started`, plus one; 0: never.
    last: AtomicU64,
}

impl SearchClock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Notes a search.
    pub(crate) fn searched(&self) {
        self.last.store(self.now() + 1, Ordering::Relaxed);
    }

    /// Whether somebody searches these days.
    pub(crate) fn searched_lately(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && self.now().saturating_sub(last - 1) < SEARCHED_LATELY.as_millis() as u64
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// Rows that a memtable may hold.
pub(crate) fn memtable_rows(schema: &CollectionSchema, most: usize, searched_lately: bool) -> usize {
    let dimensions: usize = schema.vectors.iter().map(|space| space.dimension as usize).sum();
    if !searched_lately || dimensions == 0 {
        return most;
    }
    (SEARCHED_COMPONENTS / dimensions).max(SEARCHED_MIN_ROWS).min(most)
}

/// Rows below which a segment is small: made of few of the memtables that are sealed while somebody searches. Without
/// vectors none is.
pub(crate) fn small_segment_rows(schema: &CollectionSchema, most: usize) -> usize {
    if schema.vectors.is_empty() {
        return 0;
    }
    memtable_rows(schema, most, true).saturating_mul(SMALL_SEGMENT_MEMTABLES)
}

/// Share of the small segments that a search puts up with, of segments of these numbers of rows; `small` rows are not
/// small.
pub(crate) fn small_segments(rows: impl Iterator<Item = u32>, small: usize) -> f64 {
    rows.filter(|rows| (*rows as usize) < small).count() as f64 / SMALL_SEGMENTS
}

/// The speed of sealing, and whose turn it is to write.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Rows a second, the newest seals counting most; 0 before the first.
    rows_per_s: f64,
    /// When all that was let in so far has had its time.
    free_at: Option<Instant>,
}

impl Pace {
    /// Notes a seal.
    pub(crate) fn sealed(&mut self, rows: u64, took: Duration) {
        let speed = rows as f64 / took.as_secs_f64().max(1e-3);
        // Of a few rows the time is that of the files, which says nothing of more rows.
        if rows >= SEARCHED_MIN_ROWS as u64 / 4 {
            let old = if self.rows_per_s > 0.0 { self.rows_per_s } else { speed };
            self.rows_per_s = old + NEWEST * (speed - old);
        }
    }

    /// How long a write of `rows` rows is held back at `now`, when this share of the room (for unsealed rows, or for small
    /// segments) is taken.
    pub(crate) fn delay(&mut self, rows: u64, taken: f64, searched_lately: bool, now: Instant) -> Duration {
        let from = if searched_lately { SLOW_FROM_SEARCHED } else { SLOW_FROM };
        let pressure = ((taken - from) / (1.0 - from)).clamp(0.0, MOST_PRESSURE);
        if pressure == 0.0 || self.rows_per_s <= 0.0 {
            self.free_at = None;
            return Duration::ZERO;
        }
        let turn = self.free_at.unwrap_or(now).clamp(now, now + LONGEST_DELAY);
        let seconds = rows as f64 * pressure / (self.rows_per_s * SPEED_WHEN_FULL);
        self.free_at = Some(turn + Duration::from_secs_f64(seconds.min(LONGEST_DELAY.as_secs_f64())));
        turn - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Distance, VectorSpace};

    #[test]
    fn memtables_are_smaller_while_somebody_searches() {
        let space = |dimension| VectorSpace {
            name: format!("v{dimension}"),
            dimension,
            distance: Distance::Cosine,
            embedder: None,
            index: Default::default(),
        };
        let mut schema = CollectionSchema {
            vectors: vec![space(384)],
            payload: vec![],
            dynamic_payload: true,
            description: String::new(),
        };
        assert_eq!(memtable_rows(&schema, 100_000, false), 100_000);
        assert_eq!(memtable_rows(&schema, 100_000, true), 5_461);
        assert_eq!(memtable_rows(&schema, 150, true), 150);
        schema.vectors.push(space(4_096));
        assert_eq!(memtable_rows(&schema, 100_000, true), 2_048);
        assert_eq!(small_segment_rows(&schema, 100_000), 16_384);
        schema.vectors.clear();
        assert_eq!(memtable_rows(&schema, 100_000, true), 100_000, "nothing is scanned");
        assert_eq!(small_segment_rows(&schema, 100_000), 0);
    }

    #[test]
    fn a_search_counts_for_a_while() {
        let clock = SearchClock::new();
        assert!(!clock.searched_lately());
        clock.searched();
        assert!(clock.searched_lately());
    }

    #[test]
    fn writers_slow_down_as_the_room_fills_up() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.delay(1_000, 1.0, true, now), Duration::ZERO, "no speed is known");
        pace.sealed(10, Duration::from_secs(1));
        assert_eq!(pace.delay(1_000, 1.0, true, now), Duration::ZERO, "so few rows say nothing");
        pace.sealed(10_000, Duration::from_secs(1));
        assert_eq!(pace.delay(1_000, 0.5, true, now), Duration::ZERO);
        // A full room: the first is let in at once, and has to be worked off before the next.
        assert_eq!(pace.delay(1_000, 1.0, true, now), Duration::ZERO);
        assert_eq!(pace.delay(1_000, 1.0, true, now), Duration::from_millis(125));
        assert_eq!(pace.delay(1_000, 1.0, true, now), Duration::from_millis(250));
        let later = now + Duration::from_secs(10);
        assert_eq!(pace.delay(1_000, 0.8, true, later), Duration::ZERO);
        let half = pace.delay(1_000, 0.8, true, later);
        assert!((half.as_secs_f64() - 0.0625).abs() < 1e-3, "{half:?}");
        assert_eq!(pace.delay(1_000, 0.8, false, later), Duration::ZERO, "nobody searches");
    }

    #[test]
    fn many_small_segments_slow_writers_down_further() {
        assert_eq!(small_segments([100, 19_999, 20_000, 1_000_000].into_iter(), 20_000), 1.0);
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.sealed(10_000, Duration::from_secs(1));
        for (taken, expected) in [(1.0, 0.125), (1.4, 0.25), (9.0, 0.5)] {
            pace.delay(1_000, 0.0, true, now);
            pace.delay(1_000, taken, true, now);
            let delay = pace.delay(1_000, taken, true, now).as_secs_f64();
            assert!((delay - expected).abs() < 1e-3, "{taken}: {delay}");
        }
    }

    #[test]
    fn a_write_is_never_held_back_for_long() {
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.sealed(10_000, Duration::from_secs(1_000));
        for _ in 0..5 {
            assert!(pace.delay(65_536, 1.0, true, now) <= LONGEST_DELAY);
        }
    }
}
