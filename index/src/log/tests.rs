//! The log against torn tails, flipped bits, failing disks and power cuts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::record::{BadHeader, FILE_HEADER_BYTES, FileHeader, RECORD_HEADER_BYTES, RecordHeader, crc_of};
use super::*;
use crate::directory::{Directory, Fault, FaultyDirectory, FsDirectory, MemDirectory, Operation};
use crate::error::{Error, ErrorKind};

const FIRST: &str = "log/00000000000000000001.log";

/// A payload that tells its number.
fn payload(seq: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (seq as usize * 31 + i) as u8).collect()
}

fn replayed(log: &FileLog, from_seq: u64) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut records = Vec::new();
    log.replay(from_seq, &mut |seq, payload| {
        records.push((seq, payload.to_vec()));
        Ok(())
    })?;
    Ok(records)
}

fn open(directory: &MemDirectory) -> Result<FileLog> {
    FileLog::open(Arc::new(directory.clone()), 1)
}

/// A log of records 1 to `records`, each synced alone.
fn written(records: u64) -> MemDirectory {
    let directory = MemDirectory::new();
    let mut log = open(&directory).unwrap();
    for seq in 1..=records {
        log.append(seq, &payload(seq, 10 + seq as usize)).unwrap();
        log.sync().unwrap();
    }
    directory
}

fn expected(records: std::ops::RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    records.map(|seq| (seq, payload(seq, 10 + seq as usize))).collect()
}

/// Offsets where the records of [`written`] start, and the end.
fn offsets(records: u64) -> Vec<usize> {
    let mut at = FILE_HEADER_BYTES;
    let mut offsets = vec![at];
    for seq in 1..=records {
        at += RECORD_HEADER_BYTES + 10 + seq as usize;
        offsets.push(at);
    }
    offsets
}

#[test]
fn records_come_back_from_any_number_across_files() {
    let temporary = tempfile::tempdir().unwrap();
    let directory: Arc<dyn Directory> = Arc::new(FsDirectory::open(temporary.path()).unwrap());
    let mut log = FileLog::open(Arc::clone(&directory), 1).unwrap();
    for seq in 1..=50 {
        log.append(seq, &payload(seq, 10 + seq as usize)).unwrap();
        if seq % 10 == 0 {
            log.rotate(seq + 1).unwrap();
        }
    }
    log.sync().unwrap();
    let bytes = log.bytes();
    drop(log);
    let log = FileLog::open(Arc::clone(&directory), 1).unwrap();
    assert_eq!((log.next_seq(), log.bytes()), (51, bytes));
    for from_seq in [1, 2, 10, 11, 35, 50, 51] {
        assert_eq!(replayed(&log, from_seq).unwrap(), expected(from_seq..=50), "from {from_seq}");
    }
    assert_eq!(directory.list(LOG_FOLDER).unwrap().len(), 6);
}

#[test]
fn only_synced_records_are_replayed() {
    let directory = MemDirectory::new();
    let mut log = open(&directory).unwrap();
    log.append(1, b"one").unwrap();
    log.sync().unwrap();
    log.append(2, b"two").unwrap();
    assert_eq!(replayed(&log, 1).unwrap(), [(1, b"one".to_vec())]);
    log.sync().unwrap();
    assert_eq!(replayed(&log, 1).unwrap().len(), 2);
}

#[test]
fn large_and_empty_payloads_mix_with_the_buffer() {
    let directory = MemDirectory::new();
    let mut log = open(&directory).unwrap();
    let sizes = [0, 1, 3 << 20, 5, (1 << 20) - RECORD_HEADER_BYTES, 1 << 20, 0, 700_000, 700_000];
    for (seq, size) in (1..).zip(sizes) {
        log.append(seq, &payload(seq, size)).unwrap();
    }
    log.sync().unwrap();
    let log = open(&directory).unwrap();
    let read = replayed(&log, 1).unwrap();
    assert_eq!(read.len(), sizes.len());
    for ((seq, data), size) in read.into_iter().zip(sizes) {
        assert!(data == payload(seq, size), "record {seq}");
    }
}

#[test]
fn numbers_must_be_in_order() {
    let directory = written(3);
    let mut log = open(&directory).unwrap();
    for seq in [0, 3, 5, u64::MAX] {
        assert_eq!(log.append(seq, b"x").unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(log.rotate(seq).unwrap_err().kind(), ErrorKind::Internal);
    }
    log.append(4, b"x").unwrap();
}

#[test]
fn a_payload_over_the_limit_is_refused_and_the_log_goes_on() {
    let directory = written(1);
    let mut log = open(&directory).unwrap();
    // Zeroed pages that are never touched cost no memory.
    let too_long = vec![0; MAX_RECORD_BYTES + 1];
    assert_eq!(log.append(2, &too_long).unwrap_err().kind(), ErrorKind::ResourceExhausted);
    log.append(2, b"x").unwrap();
    log.sync().unwrap();
    assert_eq!(replayed(&log, 2).unwrap(), [(2, b"x".to_vec())]);
}

#[test]
fn old_files_are_removed_and_the_newest_stays() {
    let directory = written(0);
    let mut log = open(&directory).unwrap();
    for seq in 1..=9 {
        log.append(seq, b"x").unwrap();
        if seq % 3 == 0 {
            log.rotate(seq + 1).unwrap();
        }
    }
    log.rotate(10).unwrap();
    assert_eq!(directory.list(LOG_FOLDER).unwrap().len(), 4, "rotating an empty file makes none");
    log.remove_before(6).unwrap();
    assert_eq!(directory.list(LOG_FOLDER).unwrap().len(), 3, "4 to 6 are still wanted");
    log.remove_before(100).unwrap();
    assert_eq!(directory.list(LOG_FOLDER).unwrap(), ["00000000000000000010.log"]);
    log.append(10, b"x").unwrap();
    log.sync().unwrap();
    assert_eq!(FileLog::open(Arc::new(directory), 10).unwrap().next_seq(), 11);
}

#[test]
fn a_cut_at_any_length_leaves_the_records_before_it_and_the_log_goes_on() {
    let records = 6;
    let file = written(records).read(FIRST).unwrap();
    let offsets = offsets(records);
    assert_eq!(*offsets.last().unwrap(), file.len());
    for len in 0..file.len() {
        let directory = written(0);
        directory.plant(FIRST, &file[..len]).unwrap();
        let log = open(&directory);
        if len < FILE_HEADER_BYTES {
            assert_eq!(log.unwrap_err().kind(), ErrorKind::Corruption, "a header is written in one step");
            continue;
        }
        let whole = offsets.iter().filter(|offset| **offset <= len).count() as u64 - 1;
        let mut log = log.unwrap();
        assert_eq!(replayed(&log, 1).unwrap(), expected(1..=whole), "{len} bytes");
        log.append(whole + 1, b"next").unwrap();
        log.sync().unwrap();
        let again = replayed(&open(&directory).unwrap(), whole + 1).unwrap();
        assert_eq!(again, [(whole + 1, b"next".to_vec())]);
    }
}

#[test]
fn a_flipped_bit_is_corruption_but_in_the_last_record_which_is_cut_off() {
    let records = 4;
    let file = written(records).read(FIRST).unwrap();
    let last = offsets(records)[records as usize - 1];
    for at in 0..file.len() {
        for bit in [0, 5, 7] {
            let mut broken = file.to_vec();
            broken[at] ^= 1 << bit;
            let directory = written(0);
            directory.plant(FIRST, &broken).unwrap();
            match open(&directory) {
                Ok(log) => {
                    assert!(at >= last, "byte {at} of a synced record was changed and nothing was said");
                    assert_eq!(replayed(&log, 1).unwrap(), expected(1..=records - 1));
                }
                Err(error) => {
                    assert!(at < last, "byte {at}: {error}");
                    assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}: {error}");
                    assert_eq!(directory.read(FIRST).unwrap(), broken, "a corrupt log is left alone");
                }
            }
        }
    }
}

#[test]
fn damage_in_an_older_file_is_corruption() {
    let directory = written(3);
    let mut log = open(&directory).unwrap();
    log.rotate(4).unwrap();
    log.append(4, b"x").unwrap();
    log.sync().unwrap();
    drop(log);
    let file = directory.read(FIRST).unwrap();
    let offsets = offsets(3);
    // A whole record that is missing at the end looks like nothing in the file itself.
    for len in [offsets[2], offsets[2] + 5, offsets[3] - 1, offsets[0]] {
        directory.plant(FIRST, &file[..len]).unwrap();
        let error = replayed(&open(&directory).unwrap(), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{len} bytes: {error}");
    }
    directory.plant(FIRST, &file).unwrap();
    assert_eq!(replayed(&open(&directory).unwrap(), 1).unwrap().len(), 4);
}

#[test]
fn missing_files_are_corruption() {
    let directory = written(0);
    let mut log = open(&directory).unwrap();
    for seq in 1..=4 {
        log.append(seq, b"x").unwrap();
        log.rotate(seq + 1).unwrap();
    }
    drop(log);
    directory.delete("log/00000000000000000003.log").unwrap();
    assert_eq!(replayed(&open(&directory).unwrap(), 1).unwrap_err().kind(), ErrorKind::Corruption);
    // Behind the gap all is well.
    let log = FileLog::open(Arc::new(directory.clone()), 4).unwrap();
    assert_eq!(replayed(&log, 4).unwrap(), [(4, b"x".to_vec())]);
    assert_eq!(directory.list(LOG_FOLDER).unwrap().len(), 2, "files below the start are dropped");
    let error = open(&directory).unwrap_err();
    assert!(error.to_string().contains("records from 1 on are missing"), "{error}");
}

#[test]
fn a_log_that_ends_before_what_segments_hold_starts_anew() {
    let directory = written(3);
    let mut log = FileLog::open(Arc::new(directory.clone()), 10).unwrap();
    assert_eq!(log.next_seq(), 10);
    log.append(10, b"ten").unwrap();
    log.sync().unwrap();
    drop(log);
    let log = FileLog::open(Arc::new(directory.clone()), 10).unwrap();
    assert_eq!(replayed(&log, 10).unwrap(), [(10, b"ten".to_vec())]);
    assert_eq!(directory.list(LOG_FOLDER).unwrap(), ["00000000000000000010.log"]);
}

#[test]
fn a_group_that_was_never_synced_may_be_torn_in_the_middle() {
    let directory = written(1);
    let mut log = open(&directory).unwrap();
    let before = directory.len(FIRST).unwrap() as usize;
    log.append(2, &[2; 100]).unwrap();
    log.append(3, &[3; 100]).unwrap();
    log.sync().unwrap();
    drop(log);
    // Record 3 reached the disk and record 2 did not: both were of one sync, which did not return.
    let mut file = directory.read(FIRST).unwrap().to_vec();
    file[before..before + 60].fill(0);
    directory.plant(FIRST, &file).unwrap();
    assert_eq!(replayed(&open(&directory).unwrap(), 1).unwrap(), expected(1..=1));
    assert_eq!(directory.len(FIRST).unwrap() as usize, before);
}

#[test]
fn a_payload_can_not_pose_as_a_record() {
    // Headers that say that record 2 was synced, with the checksums of a log without a salt.
    let mut payload = Vec::new();
    for at in 0..2_000 {
        payload.extend(RecordHeader { len: 0, payload_crc: 0, seq: 3 + at % 5, synced: 2 }.encode(0));
    }
    let directory = written(1);
    let mut log = open(&directory).unwrap();
    log.append(2, &payload).unwrap();
    log.sync().unwrap();
    drop(log);
    let file = directory.read(FIRST).unwrap();
    directory.plant(FIRST, &file[..file.len() - 1]).unwrap();
    assert_eq!(
        replayed(&open(&directory).unwrap(), 1).unwrap(),
        expected(1..=1),
        "a torn tail, whatever is in it"
    );
}

#[test]
fn a_long_torn_tail_is_searched_across_pieces() {
    let directory = written(0);
    let mut log = open(&directory).unwrap();
    // The search starts behind the first byte of record 1, in pieces of 1 MiB: the first ends inside of record 2's header.
    let to_border = (1 << 20) + 1 - RECORD_HEADER_BYTES;
    log.append(1, &vec![1; to_border - RECORD_HEADER_BYTES / 2]).unwrap();
    log.sync().unwrap();
    log.append(2, b"two").unwrap();
    log.sync().unwrap();
    drop(log);
    let mut file = directory.read(FIRST).unwrap().to_vec();
    for at in [FILE_HEADER_BYTES, FILE_HEADER_BYTES + RECORD_HEADER_BYTES + 50] {
        file[at] ^= 1;
        directory.plant(FIRST, &file).unwrap();
        assert_eq!(open(&directory).unwrap_err().kind(), ErrorKind::Corruption);
    }
}

#[test]
fn foreign_and_newer_files_are_named() {
    let header = FileHeader { first_seq: 1, salt: 9 }.encode();
    assert_eq!(FileHeader::decode(&header), Ok(FileHeader { first_seq: 1, salt: 9 }));
    for first_seq in [0, MAX_SEQ + 1, u64::MAX] {
        let header = FileHeader { first_seq, salt: 9 }.encode();
        assert!(matches!(FileHeader::decode(&header), Err(BadHeader::Corrupt(_))), "{first_seq}");
        assert_eq!(
            FileLog::open(Arc::new(MemDirectory::new()), first_seq).unwrap_err().kind(),
            ErrorKind::Internal
        );
    }
    let mut newer = header;
    newer[8] = 2;
    let crc = crc_of(0, &newer[..28]);
    newer[28..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(FileHeader::decode(&newer), Err(BadHeader::NewerVersion(2)));
    let directory = written(0);
    directory.plant(FIRST, &newer).unwrap();
    let error = open(&directory).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("format version 2"), "{error}");

    let directory = written(1);
    directory.plant("log/notes.txt", b"not a log").unwrap();
    directory.plant("log/7.log", b"not a log's name").unwrap();
    assert_eq!(replayed(&open(&directory).unwrap(), 1).unwrap(), expected(1..=1));
    let file = directory.read(FIRST).unwrap();
    directory.plant("log/00000000000000000002.log", &file).unwrap();
    assert_eq!(open(&directory).unwrap_err().kind(), ErrorKind::Corruption, "a file under another's name");
}

#[test]
fn a_length_beyond_the_file_allocates_nothing() {
    let directory = written(1);
    let mut file = directory.read(FIRST).unwrap().to_vec();
    let header = FileHeader::decode(file[..FILE_HEADER_BYTES].try_into().unwrap()).unwrap();
    let huge = RecordHeader { len: MAX_RECORD_BYTES as u32, payload_crc: 0, seq: 2, synced: 1 };
    file.extend(huge.encode(header.salt));
    let over = RecordHeader { len: u32::MAX, ..huge }.encode(header.salt);
    assert_eq!(RecordHeader::decode(header.salt, &over), None);
    directory.plant(FIRST, &file).unwrap();
    assert_eq!(replayed(&open(&directory).unwrap(), 1).unwrap(), expected(1..=1));
}

#[test]
fn a_failed_write_or_sync_poisons_the_log() {
    for (operation, fault) in [
        (Operation::Write, Fault::Error),
        (Operation::Write, Fault::ShortWrite),
        (Operation::Sync, Fault::Error),
    ] {
        let disk = MemDirectory::new();
        let directory = FaultyDirectory::new(disk.clone()).unwrap();
        let mut log = FileLog::open(Arc::new(directory.clone()), 1).unwrap();
        log.append(1, b"one").unwrap();
        log.sync().unwrap();
        directory.fail(operation, directory.operations_of(operation) + 1, fault);
        log.append(2, b"two").unwrap();
        assert!(matches!(log.sync(), Err(Error::LogFailed(_))));
        for _ in 0..2 {
            assert!(matches!(log.append(2, b"two"), Err(Error::LogFailed(_))));
            assert!(matches!(log.append(3, b"three"), Err(Error::LogFailed(_))));
            assert!(matches!(log.sync(), Err(Error::LogFailed(_))));
            assert!(matches!(log.rotate(3), Err(Error::LogFailed(_))));
        }
        assert_eq!(replayed(&log, 1).unwrap(), [(1, b"one".to_vec())], "what was synced can still be read");
        // Opened again it has record 1, and record 2 whole or not at all.
        let log = FileLog::open(Arc::new(directory), 1).unwrap();
        let records = replayed(&log, 1).unwrap();
        assert!(
            records.len() as u64 + 1 == log.next_seq() && records[0] == (1, b"one".to_vec()),
            "{records:?}"
        );
    }
}

#[test]
fn a_failed_rotation_poisons_the_log() {
    for operation in [Operation::Sync, Operation::Write, Operation::Rename] {
        let directory = FaultyDirectory::new(written(3)).unwrap();
        let mut log = FileLog::open(Arc::new(directory.clone()), 1).unwrap();
        directory.fail(operation, directory.operations_of(operation) + 1, Fault::Error);
        assert!(matches!(log.rotate(4), Err(Error::LogFailed(_))));
        assert!(matches!(log.append(4, b"x"), Err(Error::LogFailed(_))));
        drop(log);
        assert_eq!(replayed(&FileLog::open(Arc::new(directory), 1).unwrap(), 1).unwrap(), expected(1..=3));
    }
}

#[test]
fn what_was_seen_after_a_kill_survives_a_power_cut() {
    for seed in 0..8 {
        let directory = FaultyDirectory::new(MemDirectory::new()).unwrap();
        let mut log = FileLog::open(Arc::new(directory.clone()), 1).unwrap();
        // Larger than the buffer: handed to the system, not synced. Then the process is killed.
        log.append(1, &payload(1, 2 << 20)).unwrap();
        drop(log);
        let log = FileLog::open(Arc::new(directory.clone()), 1).unwrap();
        assert_eq!(replayed(&log, 1).unwrap().len(), 1);
        let after = directory.power_cut(seed).unwrap();
        assert_eq!(replayed(&open(&after).unwrap(), 1).unwrap().len(), 1, "seed {seed}");
    }
}

#[test]
fn a_rotation_syncs_what_is_before_it() {
    for seed in 0..8 {
        let directory = FaultyDirectory::new(MemDirectory::new()).unwrap();
        let mut log = FileLog::open(Arc::new(directory.clone()), 1).unwrap();
        log.append(1, b"one").unwrap();
        log.rotate(2).unwrap();
        let after = directory.power_cut(seed).unwrap();
        assert_eq!(replayed(&open(&after).unwrap(), 1).unwrap(), [(1, b"one".to_vec())], "seed {seed}");
    }
}

/// Writes, syncs, rotates and removes until the power goes. Returns what was acknowledged (number and payload), all
/// that was ever offered, and up to where old parts were let go.
fn write_until_cut(
    directory: &FaultyDirectory<MemDirectory>,
    start: u64,
    random: &mut StdRng,
    acked: &mut Vec<Vec<u8>>,
    kept_from: &mut u64,
) -> Vec<Vec<u8>> {
    let mut offered = Vec::new();
    let Ok(mut log) = FileLog::open(Arc::new(directory.clone()), start) else { return offered };
    offered = acked.clone();
    offered.truncate(log.next_seq() as usize - 1);
    for _ in 0..40 {
        for _ in 0..random.random_range(1..4) {
            let mut data = vec![0; random.random_range(0..3_000)];
            random.fill(&mut data[..]);
            let seq = log.next_seq();
            offered.truncate(seq as usize - 1);
            offered.push(data.clone());
            if log.append(seq, &data).is_err() {
                return offered;
            }
        }
        if log.sync().is_err() {
            return offered;
        }
        acked.clone_from(&offered);
        if random.random_range(0..8) == 0 && log.rotate(log.next_seq()).is_err() {
            return offered;
        }
        if random.random_range(0..10) == 0 {
            *kept_from = random.random_range(*kept_from..=log.next_seq());
            if log.remove_before(*kept_from).is_err() {
                return offered;
            }
        }
    }
    offered
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut disk = MemDirectory::new();
        let (mut acked, mut kept_from) = (Vec::new(), 1);
        // Several lives of one log, each ended by a power cut at some operation.
        for life in 0..4 {
            let directory = FaultyDirectory::new(disk).unwrap();
            directory.fail_any(random.random_range(1..150), Fault::PowerCut);
            let offered = write_until_cut(&directory, kept_from, &mut random, &mut acked, &mut kept_from);
            disk = directory.power_cut(random.random()).unwrap();
            crate::directory::remove_unfinished(&disk, "").unwrap();

            let log = FileLog::open(Arc::new(disk.clone()), kept_from)
                .unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}"));
            let read =
                replayed(&log, kept_from).unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}"));
            assert!(
                log.next_seq() as usize > acked.len(),
                "seed {seed} life {life}: acknowledged writes are lost"
            );
            let all = if offered.len() >= acked.len() { offered } else { acked.clone() };
            for (seq, data) in &read {
                assert_eq!(*data, all[*seq as usize - 1], "seed {seed} life {life}: record {seq}");
            }
            assert_eq!(read.len() as u64, log.next_seq() - kept_from, "seed {seed} life {life}");
            // What was read after the crash is on disk now, whoever was told.
            acked = all;
            acked.truncate(log.next_seq() as usize - 1);
        }
    }
}
