//! From an id to the rows of a segment that carry it: two parallel arrays sorted by the hash of the id.
//!
//! Body of the file, little-endian: `u64 n`, `n x u64` hashes ascending, `n x u32` rows. Equal hashes are in row order.
//! A reader compares the id in the row itself, so a collision costs one look and is never wrong.

use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Result};

/// The stable hash of an id: the first eight bytes of its BLAKE3 hash. Also the order in which points are scrolled.
pub(crate) fn hash_id(id: &str) -> u64 {
    let hash = blake3::hash(id.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Encodes the pairs of hash and row.
pub(crate) fn encode(mut entries: Vec<(u64, u32)>) -> Vec<u8> {
    entries.sort_unstable();
    let mut body = Vec::with_capacity(8 + entries.len() * 12);
    body.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for (hash, _) in &entries {
        body.extend_from_slice(&hash.to_le_bytes());
    }
    for (_, row) in &entries {
        body.extend_from_slice(&row.to_le_bytes());
    }
    body
}

/// A reader over the encoded form; holds the bytes, copies nothing.
#[derive(Debug, Clone)]
pub(crate) struct IdIndex {
    hashes: Bytes,
    rows: Bytes,
    len: usize,
}

impl IdIndex {
    /// Checks the lengths; `rows_of_segment` bounds the row numbers.
    pub(crate) fn open(path: &Path, body: &Bytes, rows_of_segment: u32) -> Result<Self> {
        let corrupt = |offset: usize, message: &str| Error::corrupt(path, offset as u64, message);
        let len = body.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        let len = len
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| len.checked_mul(12).and_then(|bytes| bytes.checked_add(8)) == Some(body.len()))
            .ok_or_else(|| corrupt(0, "the number of ids does not fit the length of the file"))?;
        let index = Self { hashes: body.slice(8..8 + len * 8), rows: body.slice(8 + len * 8..), len };
        if (0..len).any(|i| index.row(i) >= rows_of_segment) {
            return Err(corrupt(8 + len * 8, "a row number is out of range"));
        }
        if (1..len).any(|i| index.hash(i - 1) > index.hash(i)) {
            return Err(corrupt(8, "the hashes are not in order"));
        }
        Ok(index)
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Hash of an entry; `u64::MAX` behind the end.
    pub(crate) fn hash(&self, entry: usize) -> u64 {
        let bytes = self.hashes.get(entry * 8..).and_then(|bytes| bytes.first_chunk::<8>());
        bytes.map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Row of an entry; `u32::MAX` behind the end.
    pub(crate) fn row(&self, entry: usize) -> u32 {
        let bytes = self.rows.get(entry * 4..).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes))
    }

    /// First entry whose hash is not below `hash`.
    pub(crate) fn lower_bound(&self, hash: u64) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.hash(middle) < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Rows with this hash, in row order.
    pub(crate) fn rows_of(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        (self.lower_bound(hash)..self.len)
            .take_while(move |entry| self.hash(*entry) == hash)
            .map(|entry| self.row(entry))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn finds_every_row_of_a_hash() {
        let body = Bytes::from(encode(vec![(7, 2), (3, 0), (7, 1), (u64::MAX, 3)]));
        let index = IdIndex::open(Path::new("ids"), &body, 4).unwrap();
        assert_eq!(index.len(), 4);
        assert_eq!(index.rows_of(7).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(index.rows_of(u64::MAX).collect::<Vec<_>>(), [3]);
        assert_eq!(index.rows_of(4).count(), 0);
    }

    #[test]
    fn wrong_lengths_rows_and_order_are_corruption() {
        let body = encode(vec![(1, 0), (2, 1)]);
        for cut in 0..body.len() {
            assert!(
                IdIndex::open(Path::new("ids"), &Bytes::copy_from_slice(&body[..cut]), 2).is_err(),
                "cut {cut}"
            );
        }
        assert!(IdIndex::open(Path::new("ids"), &Bytes::from(body.clone()), 1).is_err());
        let mut swapped = body;
        swapped[8..24].rotate_left(8);
        assert!(IdIndex::open(Path::new("ids"), &Bytes::from(swapped), 2).is_err());
    }
}
