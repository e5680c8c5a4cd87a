//! The rows that lately asked filters pass. A segment never changes, so neither does what passes; programs ask with the
//! same few filters again and again, and to evaluate one costs more than the search behind it.
//!
//! It must not know how filters are evaluated.

use std::fmt::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::payload::CheckedFilter;

/// Filters kept of one segment. Each takes at most a bit a row, and its own text.
const MOST_FILTERS: usize = 16;
/// A filter that takes more bytes to write down, with a long list of ids for instance, is not kept.
const MOST_FILTER_BYTES: usize = 4 << 10;

/// Filters and what they pass, the latest asked last.
#[derive(Default)]
pub(super) struct FilterCache(Mutex<Vec<(CheckedFilter, Arc<RoaringBitmap>)>>);

impl FilterCache {
    /// What a filter passes, evaluated if that is not known.
    pub(super) fn get_or(
        &self,
        filter: &CheckedFilter,
        evaluate: impl FnOnce() -> Result<RoaringBitmap>,
    ) -> Result<Arc<RoaringBitmap>> {
        if let Some(known) = self.find(filter) {
            return Ok(known);
        }
        // Not under the lock: two that ask at once do the work twice rather than wait.
        let passed = Arc::new(evaluate()?);
        if is_short(filter) {
            let mut kept = self.0.lock();
            if kept.len() >= MOST_FILTERS {
                kept.remove(0);
            }
            kept.push((filter.clone(), Arc::clone(&passed)));
        }
        Ok(passed)
    }

    fn find(&self, filter: &CheckedFilter) -> Option<Arc<RoaringBitmap>> {
        let mut kept = self.0.lock();
        let at = kept.iter().rposition(|(known, _)| known == filter)?;
        if let Some(asked) = kept.get_mut(at..) {
            asked.rotate_left(1);
        }
        kept.last().map(|(_, passed)| Arc::clone(passed))
    }
}

/// Whether a filter can be written down in few bytes; a long one is left as soon as that shows.
fn is_short(filter: &CheckedFilter) -> bool {
    struct Room(usize);
    impl Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Room(MOST_FILTER_BYTES), "{filter:?}").is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::payload::{Group, Node};

    fn filter(ids: &[&str]) -> CheckedFilter {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        CheckedFilter { root: Group { must: vec![Node::HasId(ids)], ..Group::default() } }
    }

    fn evaluated(cache: &FilterCache, filter: &CheckedFilter, row: u32) -> bool {
        let mut evaluated = false;
        let passed = cache
            .get_or(filter, || {
                evaluated = true;
                Ok([row].into())
            })
            .unwrap();
        assert_eq!(*passed, [row].into(), "what was evaluated for this filter");
        evaluated
    }

    #[test]
    fn a_filter_is_evaluated_once_while_it_is_among_the_latest() {
        let cache = FilterCache::default();
        let names: Vec<String> = (0..20).map(|i| format!("id {i}")).collect();
        assert!(evaluated(&cache, &filter(&["first"]), 100));
        for (row, name) in names.iter().enumerate() {
            assert!(evaluated(&cache, &filter(&[name]), row as u32), "{name} is new");
            assert!(!evaluated(&cache, &filter(&["first"]), 100), "asked all the time");
            assert!(!evaluated(&cache, &filter(&[name]), row as u32));
        }
        assert!(evaluated(&cache, &filter(&[&names[0]]), 0), "long not asked");
    }

    #[test]
    fn a_long_filter_is_not_kept_and_a_failure_neither() {
        let cache = FilterCache::default();
        let long = "x".repeat(MOST_FILTER_BYTES);
        assert!(evaluated(&cache, &filter(&[&long]), 1) && evaluated(&cache, &filter(&[&long]), 1));
        let failed = cache.get_or(&filter(&["a"]), || Err(crate::Error::Internal("no".into())));
        assert!(failed.is_err());
        assert!(evaluated(&cache, &filter(&["a"]), 2));
    }
}
