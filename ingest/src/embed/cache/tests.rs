//! Bounds, crashes and damage of the cache, on a real disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;

use super::*;

const DIMENSION: u32 = 384;
const LIMIT: u64 = MIN_CACHE_BYTES;

fn key(i: usize) -> TextKey {
    TextKey::new("model", &i.to_string())
}

fn vector(i: usize) -> Vec<f32> {
    (0..DIMENSION).map(|d| i as f32 + d as f32 / 1_000.0).collect()
}

fn put(cache: &VectorCache, numbers: std::ops::Range<usize>) {
    let vectors: Vec<_> = numbers.map(|i| (key(i), vector(i))).collect();
    let borrowed: Vec<_> = vectors.iter().map(|(key, vector)| (*key, vector.as_slice())).collect();
    cache.put(&borrowed);
}

/// Which of the vectors are there; each that is has to be right.
fn known(cache: &VectorCache, numbers: std::ops::Range<usize>) -> Vec<usize> {
    let keys: Vec<_> = numbers.clone().map(key).collect();
    let found = cache.get(&keys, DIMENSION);
    let known = numbers.zip(found).filter_map(|(i, found)| {
        assert_eq!(*found.as_ref()?, vector(i), "a vector of another text");
        Some(i)
    });
    known.collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    segment::list(dir).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn what_was_put_is_found_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cache = VectorCache::open(dir.path(), LIMIT).unwrap();
    assert!(known(&cache, 0..3).is_empty());
    put(&cache, 0..100);
    put(&cache, 50..101);
    assert_eq!(known(&cache, 0..102), (0..101).collect::<Vec<_>>());
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.vectors), (101, 4, 101));
    // The same text of another model, and another dimension, are something else.
    assert_eq!(cache.get(&[TextKey::new("other", "1")], DIMENSION), [None]);
    assert_eq!(cache.get(&[key(1)], DIMENSION + 1), [None]);
    assert_eq!(cache.get(&[key(1)], DIMENSION - 1), [None]);
    drop(cache);
    let cache = VectorCache::open(dir.path(), LIMIT).unwrap();
    put(&cache, 101..120);
    assert_eq!(known(&cache, 0..120).len(), 120);
    assert_eq!(cache.stats().damaged, 0);
}

#[test]
fn the_oldest_go_and_the_bound_holds() {
    let dir = tempfile::tempdir().unwrap();
    let cache = VectorCache::open(dir.path(), LIMIT).unwrap();
    for i in 0..300 {
        put(&cache, i * 7..i * 7 + 7);
        let on_disk: u64 = files(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(on_disk <= LIMIT, "{on_disk}");
        assert_eq!(cache.stats().bytes, on_disk);
    }
    let left = known(&cache, 0..2_100);
    assert!(left.len() > 500, "{}", left.len());
    assert_eq!(left.last(), Some(&2_099));
    assert_eq!(left, (2_100 - left.len()..2_100).collect::<Vec<_>>(), "the oldest went first");
    assert_eq!(cache.stats().vectors, left.len() as u64);
    drop(cache);
    // A larger cache shrinks when it is opened with a smaller bound.
    let big = tempfile::tempdir().unwrap();
    put(&VectorCache::open(big.path(), 4 * LIMIT).unwrap(), 0..2_000);
    let cache = VectorCache::open(big.path(), LIMIT).unwrap();
    assert!(cache.stats().bytes <= LIMIT && !known(&cache, 1_900..2_000).is_empty());
}

#[test]
fn a_torn_tail_is_dropped_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    put(&VectorCache::open(dir.path(), 64 * LIMIT).unwrap(), 0..20);
    let [file] = &files(dir.path())[..] else { panic!("one file") };
    let whole = fs::read(file).unwrap();
    for cut in [8, 9, 47, 48, 1_583, 1_584, 1_585, whole.len() - 1] {
        fs::write(file, &whole[..cut]).unwrap();
        let cache = VectorCache::open(dir.path(), 64 * LIMIT).unwrap();
        let left = known(&cache, 0..20).len();
        assert_eq!(left, (cut - 8) / 1_576, "cut at {cut}");
        put(&cache, 0..20);
        assert_eq!(known(&cache, 0..20).len(), 20);
        drop(cache);
        assert_eq!(fs::read(file).unwrap(), whole);
    }
}

#[test]
fn no_flipped_bit_makes_a_wrong_vector() {
    let dir = tempfile::tempdir().unwrap();
    // Small files: sealed ones with a list, and one that grows.
    put(&VectorCache::open(dir.path(), LIMIT).unwrap(), 0..25);
    let files = files(dir.path());
    assert!(files.len() > 1);
    for file in &files {
        let whole = fs::read(file).unwrap();
        for at in (0..whole.len()).step_by(61).chain(whole.len().saturating_sub(140)..whole.len()) {
            let mut broken = whole.clone();
            broken[at] ^= 1 << (at % 8);
            fs::write(file, &broken).unwrap();
            let cache = VectorCache::open(dir.path(), LIMIT).unwrap();
            // `known` compares every vector that comes back.
            assert!(known(&cache, 0..25).len() <= 25);
            drop(cache);
            fs::write(file, &whole).unwrap();
        }
    }
}

#[test]
fn damage_is_counted_and_mended_by_the_next_put() {
    let dir = tempfile::tempdir().unwrap();
    let cache = VectorCache::open(dir.path(), 64 * LIMIT).unwrap();
    put(&cache, 0..10);
    let [file] = &files(dir.path())[..] else { panic!("one file") };
    let mut bytes = fs::read(file).unwrap();
    bytes[8 + 1_576 + 100] ^= 1;
    fs::write(file, bytes).unwrap();
    assert_eq!(known(&cache, 0..10).len(), 9);
    assert_eq!(cache.stats().damaged, 1);
    put(&cache, 0..10);
    assert_eq!(known(&cache, 0..10).len(), 10);
}

#[test]
fn files_of_others_are_left_alone_and_unreadable_ones_of_ours_go() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::write(segment::path(dir.path(), 7), "rsvecs99 of a later release").unwrap();
    fs::write(segment::path(dir.path(), 8), "").unwrap();
    let cache = VectorCache::open(dir.path(), LIMIT).unwrap();
    assert!(files(dir.path()).is_empty() && dir.path().join("notes.txt").exists());
    put(&cache, 0..1);
    assert_eq!(known(&cache, 0..1), [0]);
}

#[test]
fn a_cache_that_can_not_be_written_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let cache = VectorCache::open(&dir.path().join("sub"), LIMIT).unwrap();
    fs::remove_dir_all(dir.path().join("sub")).unwrap();
    put(&cache, 0..3);
    assert!(known(&cache, 0..3).is_empty());
    put(&cache, 0..3);
    // A vector that is larger than a file.
    let (cache, huge) = (VectorCache::open(dir.path(), LIMIT).unwrap(), vec![1.0; 5_000]);
    cache.put(&[(key(1), &huge)]);
    assert_eq!(cache.get(&[key(1)], 5_000), [None]);
    for bound in [0, LIMIT - 1, MAX_CACHE_BYTES + 1] {
        assert_eq!(VectorCache::open(dir.path(), bound).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
