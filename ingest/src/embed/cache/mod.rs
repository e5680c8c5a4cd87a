//! Vectors of texts that were embedded before, on disk, found by what was embedded and by which model. It knows no
//! collection and no document: whoever embeds the same words again, for whatever reason, gets the same vector.
//!
//! A cache may lose anything at any time and must never make anything up. So nothing here is synced, every vector is
//! compared with its checksum and its whole key when it is read, and what doesn't fit is a miss. It needs neither order
//! nor deletes, and the oldest vectors go first: files that are only appended to, and removed whole, are all of it.
//!
//! **Invariant:** its files together never take more than the bound.

mod segment;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::segment::{Reader, Segment, record};
use crate::error::{Error, ErrorKind, Result};

/// Smallest bound that makes sense, in bytes.
pub const MIN_CACHE_BYTES: u64 = 1 << 20;
/// Largest bound. What is in memory of it, about a fiftieth, is the reason.
pub const MAX_CACHE_BYTES: u64 = 64 << 30;
/// The bound is made of so many files: one of them goes at a time.
const SEGMENTS: u64 = 64;
/// After a failed write nothing is written for so long.
const WRITE_PAUSE: Duration = Duration::from_secs(60);

/// What was embedded, and by which model: BLAKE3 of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextKey([u8; 32]);

impl TextKey {
    /// The key of a text for the embedder of a fingerprint.
    pub fn new(fingerprint: &str, text: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(fingerprint.len() as u64).to_le_bytes());
        hasher.update(fingerprint.as_bytes());
        hasher.update(text.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// What the index in memory knows of it. Two texts may share it: the whole key is compared on disk.
    fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// What a cache did since it was opened, and how much it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Vectors found.
    pub hits: u64,
    /// Vectors looked for in vain.
    pub misses: u64,
    /// Vectors that were found and did not fit their checksum; they count as misses, too.
    pub damaged: u64,
    /// Vectors that are kept.
    pub vectors: u64,
    /// Their files.
    pub bytes: u64,
    /// Most bytes of files.
    pub limit_bytes: u64,
}

/// Where a vector lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u32,
    offset: u32,
}

/// Vectors of texts that were embedded before. All calls read or write files: off the async threads.
#[derive(Debug)]
pub struct VectorCache {
    dir: PathBuf,
    limit: u64,
    segment_bytes: u64,
    state: Mutex<State>,
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    index: HashMap<u64, Place>,
    /// By number, oldest first; only the last one grows.
    segments: BTreeMap<u32, Segment>,
    paused_until: Option<Instant>,
}

impl VectorCache {
    /// Opens the cache in a folder of its own, or begins one. Files that can't be read are removed, and the oldest ones
    /// until the others fit the bound.
    ///
    /// # Errors
    /// `InvalidArgument` for a bound outside of [`MIN_CACHE_BYTES`] to [`MAX_CACHE_BYTES`], `Unavailable` when the folder
    /// can't be used.
    pub fn open(dir: &Path, limit: u64) -> Result<Self> {
        if !(MIN_CACHE_BYTES..=MAX_CACHE_BYTES).contains(&limit) {
            let message = format!("{limit} is not between {MIN_CACHE_BYTES} and {MAX_CACHE_BYTES}");
            return Err(Error::invalid("embedding.cache_bytes", message));
        }
        let unusable = |error: io::Error| {
            let message = format!("the cache of vectors in {} can't be used: {error}", dir.display());
            Error::new(ErrorKind::Unavailable, message)
        };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let mut state = State::default();
        for (number, path) in segment::list(dir).map_err(unusable)? {
            state.load(number, &path);
        }
        let cache = Self {
            dir: dir.to_owned(),
            limit,
            segment_bytes: limit / SEGMENTS,
            state: Mutex::new(state),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        };
        cache.state.lock().evict(limit);
        Ok(cache)
    }

    /// The vectors of `keys`, in order, where they are known with `dimension` components.
    pub fn get(&self, keys: &[TextKey], dimension: u32) -> Vec<Option<Vec<f32>>> {
        let places: Vec<Option<(Place, Reader)>> = {
            let state = self.state.lock();
            keys.iter().map(|key| state.place(key)).collect()
        };
        let mut damaged = Vec::new();
        let vectors = keys.iter().zip(places).map(|(key, found)| {
            let (place, reader) = found?;
            match reader.vector(place.offset, key, dimension) {
                Ok(vector) => vector,
                Err(_) => {
                    damaged.push((*key, place));
                    None
                }
            }
        });
        let vectors: Vec<_> = vectors.collect();
        let hits = vectors.iter().flatten().count() as u64;
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(keys.len() as u64 - hits, Ordering::Relaxed);
        if !damaged.is_empty() {
            self.forget(&damaged);
        }
        vectors
    }

    /// Keeps vectors for later, as far as that works: a cache that can't be written is not an error of whoever embeds.
    pub fn put(&self, vectors: &[(TextKey, &[f32])]) {
        let mut state = self.state.lock();
        if state.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        if let Err(error) = self.append(&mut state, vectors) {
            tracing::warn!(dir = %self.dir.display(), %error, "the cache of vectors can't be written");
            state.paused_until = Some(Instant::now() + WRITE_PAUSE);
            // Its tail is not known: nothing is added to it any more.
            if let Some((_, last)) = state.segments.iter_mut().next_back() {
                last.close();
            }
        }
    }

    /// What was done, and what is there.
    pub fn stats(&self) -> CacheStats {
        let state = self.state.lock();
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            damaged: self.damaged.load(Ordering::Relaxed),
            vectors: state.index.len() as u64,
            bytes: state.bytes(),
            limit_bytes: self.limit,
        }
    }

    /// Writes what is new, in one piece for each segment.
    fn append(&self, state: &mut State, vectors: &[(TextKey, &[f32])]) -> io::Result<()> {
        let mut piece = Vec::new();
        let mut places = Vec::new();
        for (key, vector) in vectors {
            let record = record(key, vector);
            let bytes = record.len() as u64;
            let is_known = state.index.contains_key(&key.prefix())
                || places.iter().any(|(prefix, _)| *prefix == key.prefix());
            if is_known || !Segment::holds(bytes, self.segment_bytes) {
                continue;
            }
            let room = state.growing().is_some_and(|segment| {
                segment.has_room(piece.len() as u64 + bytes, places.len() + 1, self.segment_bytes)
            });
            if !room {
                state.flush(&mut piece, &mut places)?;
                self.begin_segment(state)?;
            }
            let Some(segment) = state.growing() else { continue };
            places.push((key.prefix(), segment.offset_of(piece.len())));
            piece.extend_from_slice(&record);
        }
        state.flush(&mut piece, &mut places)
    }

    /// Ends the segment that grows, makes room for another, and begins it.
    fn begin_segment(&self, state: &mut State) -> io::Result<()> {
        if let Some(segment) = state.growing() {
            segment.seal()?;
        }
        state.evict(self.limit.saturating_sub(self.segment_bytes));
        let number = state.segments.last_key_value().map_or(1, |(number, _)| number.saturating_add(1));
        let segment = Segment::create(&segment::path(&self.dir, number))?;
        state.segments.insert(number, segment);
        Ok(())
    }

    fn forget(&self, damaged: &[(TextKey, Place)]) {
        self.damaged.fetch_add(damaged.len() as u64, Ordering::Relaxed);
        let mut state = self.state.lock();
        for (key, place) in damaged {
            if state.index.get(&key.prefix()) == Some(place) {
                state.index.remove(&key.prefix());
            }
        }
    }
}

impl State {
    /// Takes over a file that lies in the folder.
    fn load(&mut self, number: u32, path: &Path) {
        match Segment::open(path) {
            Ok((segment, keys)) => {
                let place = |(prefix, offset)| (prefix, Place { segment: number, offset });
                self.index.extend(keys.into_iter().map(place));
                self.segments.insert(number, segment);
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a file of the cache of vectors is dropped");
                segment::remove(path);
            }
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.values().map(Segment::bytes).sum()
    }

    fn place(&self, key: &TextKey) -> Option<(Place, Reader)> {
        let place = *self.index.get(&key.prefix())?;
        Some((place, self.segments.get(&place.segment)?.reader()))
    }

    /// The newest segment, if it may grow.
    fn growing(&mut self) -> Option<&mut Segment> {
        let (_, last) = self.segments.iter_mut().next_back()?;
        last.is_growing().then_some(last)
    }

    /// Writes a piece to the segment that grows, and makes it known.
    fn flush(&mut self, piece: &mut Vec<u8>, places: &mut Vec<(u64, u32)>) -> io::Result<()> {
        let Some((number, segment)) = self.segments.iter_mut().next_back() else { return Ok(()) };
        if !piece.is_empty() {
            segment.append(piece, places)?;
            let number = *number;
            let place = |(prefix, offset)| (prefix, Place { segment: number, offset });
            self.index.extend(places.drain(..).map(place));
            piece.clear();
        }
        Ok(())
    }

    /// Removes the oldest segments until the others take at most `bytes`.
    fn evict(&mut self, bytes: u64) {
        let mut gone = Vec::new();
        while self.bytes() > bytes {
            let Some((number, segment)) = self.segments.pop_first() else { break };
            segment.remove();
            gone.push(number);
        }
        if !gone.is_empty() {
            self.index.retain(|_, place| !gone.contains(&place.segment));
        }
    }
}
