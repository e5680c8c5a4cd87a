//! Near-duplicates: which earlier document of a collection says almost the same. It knows texts and ids only; where marks are
//! kept is the sink's affair.
//!
//! The resemblance of two texts is the Jaccard index of their sets of shingles, [`SHINGLE_WORDS`] words in a row (Broder, On
//! the resemblance and containment of documents, 1997). It is estimated from [`HASHES`] minima of hash functions over those
//! sets: each pair of minima is equal with the probability J, so the estimate has a standard error of sqrt(J(1-J)/128), 0.035
//! at 0.8. 16 bits of each minimum are kept (Li and König, b-bit minwise hashing, 2010), which adds less than 0.0001.
//!
//! Candidates are documents that agree in all [`ROWS`] minima of at least one of [`BANDS`] bands: with the probability
//! 1-(1-J^8)^16, which is 0.01 at J = 0.4, 0.61 at 0.7, 0.95 at 0.8 and more than 0.999 at 0.9. Their estimate decides.

use std::collections::HashMap;

use super::identity::MAX_DOCUMENT_ID_BYTES;

/// Words of a shingle.
pub const SHINGLE_WORDS: usize = 5;
/// Minima that are kept of a document.
pub const HASHES: usize = BANDS * ROWS;
/// Bands that candidates are found by.
pub const BANDS: usize = 16;
/// Minima of a band.
pub const ROWS: usize = 8;
/// Texts of fewer words are not compared: an address or a headline is alike too soon.
pub const MIN_WORDS: usize = 20;
/// Most documents of a collection that others are compared with, the first ones; about 1 KiB of memory each.
pub const MAX_DOCUMENTS: usize = 200_000;
/// Most documents of a band that are looked at, newest first.
const MAX_CANDIDATES: usize = 1_000;
/// No document.
const NONE: u32 = u32::MAX;
/// Version of a note.
const NOTE_VERSION: u8 = 1;

/// What is kept of a text to compare it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature([u16; HASHES]);

/// The earlier document that a text is a near-duplicate of.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// The document.
    pub document_id: String,
    /// The first document of all that hang together with it.
    pub group: String,
    /// Estimated resemblance, 0 to 1.
    pub similarity: f32,
}

impl Signature {
    /// Of the words of a text that comes in pieces. `None` where there are too few.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut minima = [u32::MAX; HASHES];
        let mut recent = [0u64; SHINGLE_WORDS];
        let mut words = 0;
        for piece in pieces {
            for_each_word(piece, |word| {
                recent.rotate_left(1);
                recent[SHINGLE_WORDS - 1] = word;
                words += 1;
                if words >= SHINGLE_WORDS {
                    let shingle = recent.iter().fold(0, |hash, word| mixed(hash ^ word));
                    // Multiply-shift hashing: a family of functions from one hash (Dietzfelbinger et al., 1997).
                    for (minimum, (factor, offset)) in minima.iter_mut().zip(FUNCTIONS) {
                        let hash = (shingle.wrapping_mul(factor).wrapping_add(offset) >> 32) as u32;
                        *minimum = (*minimum).min(hash);
                    }
                }
            });
        }
        (words >= MIN_WORDS).then(|| Self(minima.map(|minimum| mixed(u64::from(minimum)) as u16)))
    }

    /// Estimated resemblance of two texts.
    pub fn similarity(&self, other: &Self) -> f32 {
        let equal = self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count();
        equal as f32 / HASHES as f32
    }

    fn bands(&self) -> [u64; BANDS] {
        let mut bands = [0; BANDS];
        for (number, (band, rows)) in bands.iter_mut().zip(self.0.chunks(ROWS)).enumerate() {
            *band = rows.iter().fold(number as u64, |hash, row| mixed(hash ^ u64::from(*row)));
        }
        bands
    }

    /// The signature with the group of its document, to be kept beside the document.
    pub fn note(&self, group: &str) -> Vec<u8> {
        let length = u16::try_from(group.len()).unwrap_or(u16::MAX);
        let group = group.get(..usize::from(length)).unwrap_or_default();
        let mut note = vec![NOTE_VERSION];
        note.extend(length.to_le_bytes());
        note.extend(group.as_bytes());
        note.extend(self.0.iter().flat_map(|value| value.to_le_bytes()));
        note
    }

    /// Signature and group of a note; `None` for one of another form.
    pub fn read(note: &[u8]) -> Option<(Self, &str)> {
        let (version, rest) = note.split_first()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (group, values) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        if *version != NOTE_VERSION || values.len() != HASHES * 2 || group.len() > MAX_DOCUMENT_ID_BYTES {
            return None;
        }
        let mut signature = [0; HASHES];
        for (value, bytes) in signature.iter_mut().zip(values.as_chunks::<2>().0) {
            *value = u16::from_le_bytes(*bytes);
        }
        Some((Self(signature), std::str::from_utf8(group).ok()?))
    }
}

/// Factors (odd) and offsets of the hash functions. They are part of the form of a note.
const FUNCTIONS: [(u64, u64); HASHES] = {
    let mut functions = [(0, 0); HASHES];
    let mut at = 0;
    while at < HASHES {
        functions[at] = (mixed(2 * at as u64 + 1) | 1, mixed(2 * at as u64 + 2));
        at += 1;
    }
    functions
};

/// The finalizer of SplitMix64.
const fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The hash of each word: letters and digits in a row, in lower case. A character of a script without blanks between words
/// is a word.
fn for_each_word(text: &str, mut each: impl FnMut(u64)) {
    let mut word: Option<u64> = None;
    for character in text.chars() {
        if !character.is_alphanumeric() {
            word.take().into_iter().for_each(&mut each);
        } else if is_word_by_itself(character) {
            word.take().into_iter().for_each(&mut each);
            each(mixed(u64::from(character)));
        } else {
            let hash = character.to_lowercase().fold(word.unwrap_or(0), |hash, c| mixed(hash ^ u64::from(c)));
            word = Some(hash);
        }
    }
    word.into_iter().for_each(each);
}

/// Han, kana, Thai, Lao, Khmer, Burmese.
fn is_word_by_itself(character: char) -> bool {
    matches!(character,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}'
        | '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// The documents of a collection that others are compared with.
#[derive(Debug, Default)]
pub struct NearIndex {
    documents: Vec<Known>,
    by_id: HashMap<String, u32>,
    /// The newest document of each band.
    bands: HashMap<u64, u32>,
    /// Numbers of documents that are no more.
    free: Vec<u32>,
}

#[derive(Debug)]
struct Known {
    id: String,
    group: String,
    signature: Signature,
    /// The next older document of each band.
    older: [u32; BANDS],
}

impl NearIndex {
    /// Takes a document in, with what was kept of it.
    pub fn restore(&mut self, id: &str, note: &[u8]) {
        if let Some((signature, group)) = Signature::read(note) {
            self.insert(id, group, signature);
        }
    }

    /// The most similar of the other documents, at least as similar as `threshold`.
    pub fn find(&self, id: &str, signature: &Signature, threshold: f32) -> Option<Near> {
        let mut best: Option<(f32, u32)> = None;
        for (number, band) in signature.bands().into_iter().enumerate() {
            let mut next = self.bands.get(&band).copied().unwrap_or(NONE);
            for _ in 0..MAX_CANDIDATES {
                let Some(known) = self.documents.get(next as usize) else { break };
                let similarity = known.signature.similarity(signature);
                // Of equal ones the earlier.
                let is_better = best.is_none_or(|(most, at)| {
                    similarity > most || (similarity.total_cmp(&most).is_eq() && next < at)
                });
                if similarity >= threshold && known.id != id && is_better {
                    best = Some((similarity, next));
                }
                next = known.older.get(number).copied().unwrap_or(NONE);
            }
        }
        let (similarity, at) = best?;
        let known = self.documents.get(at as usize)?;
        Some(Near { document_id: known.id.clone(), group: known.group.clone(), similarity })
    }

    /// Takes a document in, in place of what was known of it. Where the index is full, it is left out: others are not
    /// compared with it.
    pub fn insert(&mut self, id: &str, group: &str, signature: Signature) {
        self.remove(id);
        if self.by_id.len() >= MAX_DOCUMENTS {
            return;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => match u32::try_from(self.documents.len()) {
                Ok(number) => number,
                Err(_) => return,
            },
        };
        let mut older = [NONE; BANDS];
        for (older, band) in older.iter_mut().zip(signature.bands()) {
            *older = self.bands.insert(band, number).unwrap_or(NONE);
        }
        let known = Known { id: id.to_owned(), group: group.to_owned(), signature, older };
        match self.documents.get_mut(number as usize) {
            Some(place) => *place = known,
            None => self.documents.push(known),
        }
        self.by_id.insert(id.to_owned(), number);
    }

    /// Forgets a document.
    pub fn remove(&mut self, id: &str) {
        let Some(number) = self.by_id.remove(id) else { return };
        let Some(known) = self.documents.get(number as usize) else { return };
        let bands: Vec<(u64, u32)> = known.signature.bands().into_iter().zip(known.older).collect();
        for (row, (band, older)) in bands.into_iter().enumerate() {
            self.unlink(row, band, number, older);
        }
        self.free.push(number);
    }

    /// Takes a document out of the row of a band.
    fn unlink(&mut self, row: usize, band: u64, number: u32, older: u32) {
        let mut at = match self.bands.get_mut(&band) {
            Some(newest) if *newest == number => {
                if older == NONE {
                    self.bands.remove(&band);
                } else {
                    *newest = older;
                }
                return;
            }
            Some(newest) => *newest,
            None => return,
        };
        while let Some(next) = self.documents.get_mut(at as usize).and_then(|known| known.older.get_mut(row))
        {
            if *next == number {
                *next = older;
                return;
            }
            at = *next;
        }
    }
}

#[cfg(test)]
mod tests;
