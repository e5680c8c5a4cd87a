//! Which rows of a segment expire, in order of time. A derived file: `u32` count is its length, then a record a row.
//!
//! ```text
//! record  12 bytes  milliseconds since 1970 (i64), row (u32); sorted
//! ```

use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Result};

/// Bytes of a record.
const RECORD: usize = 12;

/// The rows that expire.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExpiryIndex {
    body: Bytes,
}

/// The body of the file; sorts the entries.
pub(super) fn encode(mut entries: Vec<(i64, u32)>) -> Vec<u8> {
    entries.sort_unstable();
    let mut body = Vec::with_capacity(entries.len() * RECORD);
    for (time, row) in entries {
        body.extend_from_slice(&time.to_le_bytes());
        body.extend_from_slice(&row.to_le_bytes());
    }
    body
}

impl ExpiryIndex {
    /// Views the body of a file of a segment of `rows` rows.
    pub(super) fn open(path: &Path, body: Bytes, rows: u32) -> Result<Self> {
        if !body.len().is_multiple_of(RECORD) || body.len() / RECORD > rows as usize {
            return Err(Error::corrupt(path, 0, format!("{} bytes for {rows} rows", body.len())));
        }
        let index = Self { body };
        let mut before = None;
        for entry in 0..index.len() {
            let found = index.entry(entry);
            if before >= Some(found) || found.1 >= rows {
                return Err(Error::corrupt(path, (entry * RECORD) as u64, "entries out of order or range"));
            }
            before = Some(found);
        }
        Ok(index)
    }

    fn len(&self) -> usize {
        self.body.len() / RECORD
    }

    fn entry(&self, entry: usize) -> (i64, u32) {
        let record = self.body.get(entry * RECORD..(entry + 1) * RECORD).unwrap_or_default();
        let time = record.first_chunk::<8>().map_or(i64::MAX, |bytes| i64::from_le_bytes(*bytes));
        let row = record.last_chunk::<4>().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
        (time, row)
    }

    /// The first entry of a time behind `time`.
    fn behind(&self, time: i64) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle).0 <= time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Rows that expire behind `after` and not behind `until`.
    pub(crate) fn between(&self, after: i64, until: i64) -> Vec<u32> {
        (self.behind(after)..self.behind(until)).map(|entry| self.entry(entry).1).collect()
    }

    /// When the first row behind `after` expires.
    pub(crate) fn next(&self, after: i64) -> Option<i64> {
        let entry = self.behind(after);
        (entry < self.len()).then(|| self.entry(entry).0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn open(body: Vec<u8>, rows: u32) -> Result<ExpiryIndex> {
        ExpiryIndex::open(Path::new("expiry"), body.into(), rows)
    }

    #[test]
    fn rows_come_in_order_of_time() {
        let index = open(encode(vec![(30, 2), (-5, 7), (10, 1), (10, 0)]), 8).unwrap();
        assert_eq!(index.between(i64::MIN, i64::MAX), [7, 0, 1, 2]);
        assert_eq!(index.between(-5, 10), [0, 1]);
        assert_eq!((index.next(i64::MIN), index.next(10), index.next(30)), (Some(-5), Some(30), None));
        assert_eq!(ExpiryIndex::default().next(i64::MIN), None);
    }

    #[test]
    fn a_body_that_is_no_index_is_refused() {
        let good = encode(vec![(1, 0), (2, 1)]);
        assert!(open(good.clone(), 2).is_ok());
        assert!(open(good.clone(), 1).is_err(), "more entries than rows");
        assert!(open(good[..13].to_vec(), 2).is_err());
        assert!(open(encode(vec![(1, 5)]), 5).is_err(), "a row behind the segment");
        let mut backwards = good[RECORD..].to_vec();
        backwards.extend_from_slice(&good[..RECORD]);
        assert!(open(backwards, 2).is_err());
    }
}
