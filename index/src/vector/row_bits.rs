//! A set of rows with a bit each, for tests by the thousand in a walk.
//!
//! Compressed bitmaps answer each question with a search; unpacked row by row they cost as much as the walk. Their
//! serialised form (<https://github.com/RoaringBitmap/RoaringFormatSpec>) holds the bits of dense stretches as they are, so
//! it is copied together in whole words. It must not know graphs.

use roaring::RoaringBitmap;

/// First word of a serialised bitmap without runs.
const COOKIE_WITHOUT_RUNS: u32 = 12_346;
/// A stretch of at most so many rows of its 65,536 lists them; others have a bit for each.
const LISTED_AT_MOST: usize = 4_096;
/// Words of a stretch.
const STRETCH_WORDS: usize = 1_024;

/// A set of rows.
#[derive(Debug)]
pub(crate) struct RowBits(Vec<u64>);

impl RowBits {
    /// The rows of a bitmap below `count`.
    pub(crate) fn of(rows: &RoaringBitmap, count: usize) -> Self {
        let stretches = count.div_ceil(STRETCH_WORDS * 64);
        let mut bits = Self(vec![0; stretches * STRETCH_WORDS]);
        if bits.copy(rows).is_none() {
            // Runs, or a form of a later version.
            bits.0.fill(0);
            rows.iter().for_each(|row| bits.insert(row));
        }
        bits
    }

    #[inline]
    fn insert(&mut self, row: u32) {
        if let Some(word) = self.0.get_mut(row as usize / 64) {
            *word |= 1 << (row % 64);
        }
    }

    /// Copies all stretches from the serialised form; `None` when it is of another kind.
    fn copy(&mut self, rows: &RoaringBitmap) -> Option<()> {
        let mut bytes = Vec::with_capacity(rows.serialized_size());
        rows.serialize_into(&mut bytes).ok()?;
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        if word(0)? != COOKIE_WITHOUT_RUNS {
            return None;
        }
        let stretches = word(4)? as usize;
        // The number and the count of each stretch, the offset of each, then their rows.
        let (descriptions, offsets) = (8, 8 + 4 * stretches);
        for stretch in 0..stretches {
            let description = word(descriptions + 4 * stretch)?;
            let (key, count) = ((description & 0xFFFF) as usize, (description >> 16) as usize + 1);
            let content = bytes.get(word(offsets + 4 * stretch)? as usize..)?;
            let words = self.0.get_mut(key * STRETCH_WORDS..(key + 1) * STRETCH_WORDS);
            // A bitmap may reach behind the last row.
            let Some(words) = words else { continue };
            if count <= LISTED_AT_MOST {
                for row in content.get(..2 * count)?.as_chunks().0 {
                    let row = u16::from_le_bytes(*row);
                    *words.get_mut(usize::from(row / 64))? |= 1 << (row % 64);
                }
            } else {
                for (word, bytes) in words.iter_mut().zip(content.get(..8 * STRETCH_WORDS)?.as_chunks().0) {
                    *word = u64::from_le_bytes(*bytes);
                }
            }
        }
        Some(())
    }

    /// At most `most` rows, one of each of as many stretches of equal length in which there are any.
    pub(crate) fn spread(&self, most: usize) -> impl Iterator<Item = u32> + '_ {
        let stretch = self.0.len().div_ceil(most.max(1)).max(1);
        self.0.chunks(stretch).zip((0..).step_by(stretch)).filter_map(|(words, first)| {
            let (at, word) = words.iter().enumerate().find(|(_, word)| **word != 0)?;
            Some(((first + at) as u32) * 64 + word.trailing_zeros())
        })
    }

    #[inline]
    pub(crate) fn contains(&self, row: u32) -> bool {
        self.0.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_over_all() {
        let thirds = RowBits::of(&(0..300_000).filter(|row| row % 3 == 0).collect(), 300_000);
        let rows: Vec<u32> = thirds.spread(1_000).collect();
        // 4,688 words hold rows, of 5,120 in whole stretches, which are cut into a thousand pieces of at least six words.
        assert_eq!(rows.len(), 782);
        assert!(rows.iter().all(|row| row % 3 == 0));
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] < 1_000));
        let few = RowBits::of(&[7, 65_000, 299_999].into(), 300_000);
        assert_eq!(few.spread(1_000).collect::<Vec<_>>(), [7, 65_000, 299_999]);
        assert_eq!(few.spread(1).count(), 1);
        assert_eq!(RowBits::of(&RoaringBitmap::new(), 300_000).spread(10).count(), 0);
    }

    #[test]
    fn holds_what_the_bitmap_holds() {
        let count = 300_000;
        let sets: [RoaringBitmap; 7] = [
            RoaringBitmap::new(),
            [0, 65_535, 65_536, 299_999].into(),
            (0..count).filter(|row| row % 3 == 0).collect(),
            (0..count).filter(|row| row % 1_000 == 7).collect(),
            // Dense in one stretch, listed in another, none in a third.
            (0..65_536)
                .filter(|row| row % 2 == 0)
                .chain((140_000..150_000).filter(|row| row % 9 == 0))
                .collect(),
            // A run.
            (1_000..200_000).collect(),
            // Behind the last row.
            (0..4).chain(count..count + 200_000).collect(),
        ];
        for mut rows in sets {
            for _ in 0..2 {
                let bits = RowBits::of(&rows, count as usize);
                assert!((0..count).all(|row| bits.contains(row) == rows.contains(row)), "{rows:?}");
                assert!(!bits.contains(u32::MAX));
                rows.optimize();
            }
        }
    }
}
