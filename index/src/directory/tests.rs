//! The real and the in-memory directory must behave alike; the faulty one as its model says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{Read, Write};
use std::sync::Arc;

use super::*;
use crate::error::ErrorKind;

/// Runs a test on every sort of directory, in the root and in a folder of one.
fn on_each(test: impl Fn(&dyn Directory)) {
    let temporary = tempfile::tempdir().unwrap();
    test(&FsDirectory::open(temporary.path().join("a/b")).unwrap());
    test(&MemDirectory::new());
    test(&FaultyDirectory::new(MemDirectory::new()).unwrap());
    test(&SubDirectory::open(Arc::new(FsDirectory::open(temporary.path()).unwrap()), "x/y").unwrap());
    test(&SubDirectory::open(Arc::new(MemDirectory::new()), "x/y").unwrap());
}

fn streamed(directory: &dyn Directory, path: &str) -> Vec<u8> {
    let mut data = Vec::new();
    directory.stream(path).unwrap().read_to_end(&mut data).unwrap();
    data
}

#[test]
fn files_are_made_replaced_and_deleted() {
    on_each(|directory| {
        assert!(!directory.exists("file").unwrap());
        assert_eq!(directory.read("file").unwrap_err().kind(), ErrorKind::Unavailable);
        directory.write_atomic("file", b"one").unwrap();
        let one = directory.read("file").unwrap();
        directory.write_atomic("file", b"second").unwrap();
        assert_eq!(one, b"one".as_slice(), "a reader keeps what it opened");
        assert_eq!(
            (directory.read("file").unwrap().as_ref(), directory.len("file").unwrap()),
            (&b"second"[..], 6)
        );
        assert_eq!(streamed(directory, "file"), b"second");
        let slice = directory.read("file").unwrap().slice(1..3);
        directory.delete("file").unwrap();
        directory.delete("file").unwrap();
        assert!(!directory.exists("file").unwrap());
        assert_eq!(slice, b"ec".as_slice());
        directory.write_atomic("empty", b"").unwrap();
        assert!(directory.read("empty").unwrap().is_empty());
    });
}

#[test]
fn a_new_file_appears_when_it_is_finished() {
    on_each(|directory| {
        let mut writer = directory.create("file").unwrap();
        writer.write_all(b"hello ").unwrap();
        assert!(!directory.exists("file").unwrap());
        writer.write_all(b"world").unwrap();
        assert_eq!(writer.finish().unwrap(), 11);
        assert_eq!(directory.read("file").unwrap(), b"hello world".as_slice());
        assert!(directory.create("file").is_err(), "a finished file does not change");

        let mut writer = directory.create("dropped").unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert_eq!(directory.list("").unwrap(), ["file"]);
    });
}

#[test]
fn logs_grow_and_can_be_cut() {
    on_each(|directory| {
        let mut log = directory.append("a.log").unwrap();
        assert!(log.is_empty().unwrap());
        log.write_all(b"one").unwrap();
        log.write_all(b"two").unwrap();
        log.sync_data().unwrap();
        assert_eq!(log.len().unwrap(), 6);
        let before = directory.read("a.log").unwrap();
        log.truncate(2).unwrap();
        assert_eq!(
            before,
            b"onetwo".as_slice(),
            "a log is not mapped: cutting it can't pull bytes from under a reader"
        );
        drop(log);
        let mut log = directory.append("a.log").unwrap();
        log.write_all(b"x").unwrap();
        assert_eq!(streamed(directory, "a.log"), b"onx");
        assert!(directory.append("not-a-log").is_err());
        assert!(directory.create("b.log").is_err());
        directory.write_atomic("file", b"x").unwrap();
        assert!(directory.rename("file", "file.log").is_err());
        assert!(directory.rename("a.log", "file").is_err());
    });
}

#[test]
fn folders_are_listed_renamed_and_deleted_with_all_in_them() {
    on_each(|directory| {
        assert!(
            directory.list("none").unwrap().is_empty() && directory.list_dirs("none").unwrap().is_empty()
        );
        assert!(directory.write_atomic("a/file", b"").is_err(), "the folder isn't there");
        directory.create_dir("a/b").unwrap();
        directory.create_dir("a/b").unwrap();
        directory.create_dir("ab").unwrap();
        for file in ["z", "a/2", "a/1", "a/b/3", "ab/4"] {
            directory.write_atomic(file, file.as_bytes()).unwrap();
        }
        assert_eq!(directory.list("").unwrap(), ["z"]);
        assert_eq!(directory.list_dirs("").unwrap(), ["a", "ab"]);
        assert_eq!(
            (directory.list("a").unwrap(), directory.list_dirs("a").unwrap()),
            (vec!["1".into(), "2".into()], vec!["b".into()])
        );
        assert!(!directory.exists("a").unwrap(), "a folder is no file");
        directory.rename("a", "c").unwrap();
        assert_eq!(directory.read("c/b/3").unwrap(), b"a/b/3".as_slice());
        assert_eq!(directory.list_dirs("").unwrap(), ["ab", "c"]);
        directory.rename("z", "c/1").unwrap();
        assert_eq!(directory.read("c/1").unwrap(), b"z".as_slice());
        assert!(directory.rename("none", "c/2").is_err());
        directory.delete_dir("c").unwrap();
        directory.delete_dir("c").unwrap();
        assert_eq!(
            (directory.list("c").unwrap().len(), directory.list_dirs("").unwrap()),
            (0, vec!["ab".into()])
        );
        assert!(directory.exists("ab/4").unwrap());
    });
}

#[test]
fn no_path_leaves_the_directory() {
    let long = "a".repeat(MAX_PATH_BYTES + 1);
    let bad =
        ["", "/etc/passwd", "..", "a/../../b", "a//b", "a/", "./a", "a\\b", "c:x", "a\0b", "a\nb", &long];
    on_each(|directory| {
        for path in bad {
            assert_eq!(directory.read(path).unwrap_err().kind(), ErrorKind::Internal, "{path:?}");
            assert!(directory.write_atomic(path, b"").is_err());
            assert!(directory.create(path).is_err());
            assert!(directory.delete(path).is_err());
            assert!(directory.delete_dir(path).is_err());
            assert!(directory.create_dir(path).is_err());
            assert!(directory.rename("a", path).is_err());
            assert!(path.is_empty() || directory.list(path).is_err());
        }
    });
}

#[test]
fn a_directory_has_one_owner() {
    let temporary = tempfile::tempdir().unwrap();
    let name = temporary.path().join("data");
    let first = FsDirectory::open(&name).unwrap();
    let lock = first.lock().unwrap();
    let error = FsDirectory::open(&name).unwrap().lock().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains(&*name.to_string_lossy()), "{error}");
    drop(lock);
    FsDirectory::open(&name).unwrap().lock().unwrap();
    on_each(|directory| {
        let lock = directory.lock().unwrap();
        assert_eq!(directory.lock().unwrap_err().kind(), ErrorKind::FailedPrecondition);
        drop(lock);
        directory.lock().unwrap();
    });
}

#[test]
fn unfinished_files_are_swept() {
    let directory = MemDirectory::new();
    directory.create_dir("a/b").unwrap();
    for path in ["x.tmp", "a/b/y.tmp", "a/b/y", "tmp"] {
        directory.plant(path, b"").unwrap();
    }
    assert_eq!(remove_unfinished(&directory, "").unwrap(), 2);
    assert_eq!(
        (directory.list("").unwrap(), directory.list("a/b").unwrap()),
        (vec!["tmp".into()], vec!["y".into()])
    );
}

#[test]
fn a_replacement_is_all_or_nothing_at_every_point_of_a_power_cut() {
    let (mut old, mut new, mut unfinished) = (0, 0, 0);
    for nth in 1..=3 {
        for seed in 0..50 {
            let disk = MemDirectory::new();
            disk.write_atomic("file", b"old").unwrap();
            let directory = FaultyDirectory::new(disk).unwrap();
            directory.fail_any(nth, Fault::PowerCut);
            directory.write_atomic("file", b"newer").unwrap_err();
            assert!(directory.read("file").is_err(), "the power is off");
            let after = directory.power_cut(seed).unwrap();
            match after.read("file").unwrap().as_ref() {
                b"old" => old += 1,
                b"newer" => new += 1,
                other => panic!("{other:?}"),
            }
            unfinished += after.list("").unwrap().len() - 1;
        }
    }
    assert!(old > 0 && new > 0 && unfinished > 0, "{old} {new} {unfinished}");
}

#[test]
fn what_is_synced_survives_and_the_rest_may_not() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let directory = FaultyDirectory::new(MemDirectory::new()).unwrap();
        let mut log = directory.append("a.log").unwrap();
        log.write_all(b"synced").unwrap();
        log.sync_data().unwrap();
        log.write_all(b"-tail").unwrap();
        directory.write_atomic("gone", b"x").unwrap();
        directory.delete("gone").unwrap();
        let after = directory.power_cut(seed).unwrap();
        let data = after.read("a.log").unwrap();
        assert!(data.starts_with(b"synced"));
        outcomes.insert((data.len(), after.exists("gone").unwrap()));
    }
    for (len, undeleted) in [(6, false), (6, true), (11, false), (11, true)] {
        assert!(outcomes.contains(&(len, undeleted)), "{outcomes:?}");
    }
}

#[test]
fn a_failed_sync_loses_what_it_was_for() {
    let directory = FaultyDirectory::new(MemDirectory::new()).unwrap();
    let mut log = directory.append("a.log").unwrap();
    log.write_all(b"lost").unwrap();
    directory.fail(Operation::Sync, 1, Fault::Error);
    log.sync_data().unwrap_err();
    log.sync_data().unwrap();
    assert_eq!(directory.power_cut(0).unwrap().read("a.log").unwrap(), b"\0\0\0\0".as_slice());
}

#[test]
fn a_short_write_leaves_half() {
    let directory = FaultyDirectory::new(MemDirectory::new()).unwrap();
    let mut log = directory.append("a.log").unwrap();
    directory.fail(Operation::Write, 2, Fault::ShortWrite);
    log.write_all(b"abcd").unwrap();
    log.write_all(b"efgh").unwrap_err();
    assert_eq!(directory.read("a.log").unwrap(), b"abcdef".as_slice());
}

#[test]
fn what_is_released_reads_the_same_again() {
    let temporary = tempfile::tempdir().unwrap();
    let real = Arc::new(FsDirectory::open(temporary.path()).unwrap());
    let content: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    real.write_atomic("folder-file", &content).unwrap();
    let part = SubDirectory::open(Arc::clone(&real) as Arc<dyn Directory>, "part").unwrap();
    part.write_atomic("file", &content).unwrap();
    let memory = MemDirectory::new();
    memory.write_atomic("file", &content).unwrap();
    let faulty = FaultyDirectory::new(MemDirectory::new()).unwrap();
    faulty.write_atomic("file", &content).unwrap();
    for (directory, path) in [
        (&*real as &dyn Directory, "folder-file"),
        (&part as &dyn Directory, "file"),
        (&memory as &dyn Directory, "file"),
        (&faulty as &dyn Directory, "file"),
    ] {
        let (bytes, residency) = directory.map(path).unwrap();
        assert_eq!(bytes, content);
        residency.at_random();
        // Ranges that are odd, empty, backwards, and behind the end.
        for (start, end) in
            [(5_000, 700_001), (9, 9), (700, 30), (999_999, 2_000_000), (2_000_000, usize::MAX)]
        {
            residency.release(start..end);
            assert_eq!(bytes, content, "{directory:?} {start}..{end}");
        }
        residency.release_all();
        residency.wanted();
        assert_eq!(bytes.slice(4_000..900_000), content[4_000..900_000]);
        drop(directory.delete(path));
        residency.release_all();
        assert_eq!(bytes, content, "{directory:?}");
        assert!(directory.map(path).is_err());
        assert!(directory.map("other.log").is_err(), "logs are never mapped");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_released_does_not_count_as_memory() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = FsDirectory::open(temporary.path()).unwrap();
    directory.write_atomic("file", &vec![7; 64 << 20]).unwrap();
    let (bytes, residency) = directory.map("file").unwrap();
    // Of this mapping alone: other tests run beside this one.
    let resident = || -> u64 {
        let start = format!("{:x}-", bytes.as_ptr().addr());
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = maps.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
        let line = mapping.take(24).find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    assert_eq!(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 7 * (64 << 20));
    assert!(resident() > 60 << 10, "{} KiB", resident());
    residency.release(0..32 << 20);
    let left = resident();
    assert!((30 << 10..34 << 10).contains(&left), "{left} KiB");
    residency.release_all();
    assert_eq!(resident(), 0);
}
