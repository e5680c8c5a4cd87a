//! The log in files: `log/<first sequence number>.log`, the last of which grows.
//!
//! **Invariants**: the files' numbers join without a gap; every file but the last is synced whole before the next one
//! exists; a file has its header from the moment it has its name.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Log;
use super::reader::{LogReader, Step};
use super::record::{FILE_HEADER_BYTES, FileHeader, MAX_RECORD_BYTES, MAX_SEQ, RecordHeader};
use crate::directory::{AppendFile, Directory, LOG_SUFFIX};
use crate::error::{Error, Result};

/// Folder of the log files.
pub const LOG_FOLDER: &str = "log";
/// Appended records are collected up to this size, then written; a larger record is written from where it lies.
const BUFFER_BYTES: usize = 1 << 20;

/// A log in the folder [`LOG_FOLDER`] of a directory.
#[derive(Debug)]
pub struct FileLog {
    directory: Arc<dyn Directory>,
    /// All files, oldest first; the last one is `active`.
    parts: VecDeque<Part>,
    active: Box<dyn AppendFile>,
    salt: u32,
    next_seq: u64,
    /// The highest number that is on disk.
    synced_seq: u64,
    buffer: Vec<u8>,
    /// Why no more records are taken.
    failed: Option<String>,
}

#[derive(Debug)]
struct Part {
    first_seq: u64,
    path: String,
    /// Bytes written; of the active part without the buffer.
    len: u64,
    /// Bytes that are on disk.
    synced_len: u64,
}

impl FileLog {
    /// Opens the log, or starts it at `start_seq`, the number behind the last one that segments hold. Files without a
    /// record from `start_seq` on are deleted. A torn tail is cut off, with a warning.
    ///
    /// [`Error::Corruption`] when a record that was synced is damaged or missing.
    pub fn open(directory: Arc<dyn Directory>, start_seq: u64) -> Result<Self> {
        if start_seq == 0 || start_seq > MAX_SEQ {
            return Err(Error::Internal(format!("sequence numbers are 1 to {MAX_SEQ}, not {start_seq}")));
        }
        directory.create_dir(LOG_FOLDER)?;
        let mut parts = find_parts(&*directory)?;
        drop_obsolete(&*directory, &mut parts, start_seq)?;
        let Some(last) = parts.back_mut() else {
            return Self::start(directory, parts, start_seq);
        };
        let (active, salt, next_seq) = recover(&*directory, last)?;
        if next_seq < start_seq {
            tracing::warn!(
                file = %directory.full_path(&last.path).display(),
                "the log ends at {} but segments hold everything up to {}: starting a new log file",
                next_seq - 1,
                start_seq - 1
            );
            drop(active);
            return Self::start(directory, parts, start_seq);
        }
        if let Some(first) = parts.front().filter(|part| part.first_seq > start_seq) {
            let message =
                format!("the log starts at {}, records from {start_seq} on are missing", first.first_seq);
            return Err(Error::corrupt(directory.full_path(&first.path), 0, message));
        }
        Ok(Self {
            directory,
            parts,
            active,
            salt,
            next_seq,
            synced_seq: next_seq - 1,
            buffer: Vec::new(),
            failed: None,
        })
    }

    /// Starts a new log; `old` files have nothing that is still wanted.
    fn start(directory: Arc<dyn Directory>, old: VecDeque<Part>, start_seq: u64) -> Result<Self> {
        let (part, active, salt) = new_part(&*directory, start_seq)?;
        for part in &old {
            directory.delete(&part.path)?;
        }
        Ok(Self {
            directory,
            parts: VecDeque::from([part]),
            active,
            salt,
            next_seq: start_seq,
            synced_seq: start_seq - 1,
            buffer: Vec::new(),
            failed: None,
        })
    }

    fn check_usable(&self, seq: u64) -> Result<()> {
        if let Some(reason) = &self.failed {
            return Err(Error::LogFailed(reason.clone()));
        }
        if seq != self.next_seq {
            return Err(Error::Internal(format!(
                "record {seq} is offered to a log that is at {}",
                self.next_seq
            )));
        }
        Ok(())
    }

    /// Runs a step that must not be tried again when it fails.
    fn or_poison<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        step(self).map_err(|error| {
            tracing::error!(%error, "the log failed and takes no more writes until it is opened again");
            let reason = error.to_string();
            self.failed = Some(reason.clone());
            Error::LogFailed(reason)
        })
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.active.write_all(data)?;
        if let Some(part) = self.parts.back_mut() {
            part.len += data.len() as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    fn sync_all(&mut self) -> Result<()> {
        self.flush()?;
        self.active.sync_data()?;
        self.synced_seq = self.next_seq - 1;
        if let Some(part) = self.parts.back_mut() {
            part.synced_len = part.len;
        }
        Ok(())
    }
}

impl Log for FileLog {
    fn append(&mut self, seq: u64, payload: &[u8]) -> Result<()> {
        self.check_usable(seq)?;
        let Some(header) = RecordHeader::new(self.salt, seq, self.synced_seq, payload) else {
            return Err(Error::LimitExceeded {
                what: "bytes of one write in the log",
                value: payload.len() as u64,
                limit: MAX_RECORD_BYTES as u64,
            });
        };
        let header = header.encode(self.salt);
        self.or_poison(|log| {
            if log.buffer.len() + header.len() + payload.len() > BUFFER_BYTES {
                log.flush()?;
            }
            log.buffer.extend_from_slice(&header);
            if log.buffer.len() + payload.len() > BUFFER_BYTES {
                log.flush()?;
                log.write(payload)?;
            } else {
                log.buffer.extend_from_slice(payload);
            }
            log.next_seq += 1;
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<()> {
        self.check_usable(self.next_seq)?;
        if self.synced_seq + 1 == self.next_seq {
            return Ok(());
        }
        self.or_poison(Self::sync_all)
    }

    fn rotate(&mut self, first_seq: u64) -> Result<()> {
        self.check_usable(first_seq)?;
        if self.parts.back().is_some_and(|part| part.first_seq == first_seq) {
            return Ok(());
        }
        self.or_poison(|log| {
            log.sync_all()?;
            let (part, active, salt) = new_part(&*log.directory, first_seq)?;
            log.parts.push_back(part);
            log.active = active;
            log.salt = salt;
            Ok(())
        })
    }

    fn remove_before(&mut self, seq: u64) -> Result<()> {
        drop_obsolete(&*self.directory, &mut self.parts, seq)
    }

    fn replay(&self, from_seq: u64, visit: &mut dyn FnMut(u64, Bytes) -> Result<()>) -> Result<()> {
        let parts = self.parts.iter();
        // Where each part must end: where the next one starts.
        let ends = self.parts.iter().skip(1).map(|part| part.first_seq).chain([self.synced_seq + 1]);
        for (part, end_seq) in parts.zip(ends).filter(|(_, end_seq)| *end_seq > from_seq) {
            let mut reader = LogReader::open(&*self.directory, &part.path, part.synced_len)?;
            check_first_seq(&*self.directory, part, reader.header())?;
            loop {
                match reader.next()? {
                    Step::Record { seq, payload } if seq >= from_seq => visit(seq, payload)?,
                    Step::Record { .. } => {}
                    Step::End if reader.next_seq() == end_seq => break,
                    Step::End => {
                        let message = format!("records {} to {} are missing", reader.next_seq(), end_seq - 1);
                        return Err(reader.corruption(message));
                    }
                    Step::Bad { message } => return Err(reader.corruption(message)),
                }
            }
        }
        Ok(())
    }

    fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum::<u64>() + self.buffer.len() as u64
    }
}

fn part_path(first_seq: u64) -> String {
    format!("{LOG_FOLDER}/{first_seq:020}{LOG_SUFFIX}")
}

/// All log files, oldest first.
fn find_parts(directory: &dyn Directory) -> Result<VecDeque<Part>> {
    let mut parts = VecDeque::new();
    for name in directory.list(LOG_FOLDER)? {
        let first_seq = name.strip_suffix(LOG_SUFFIX).and_then(|number| number.parse().ok());
        let Some(first_seq) =
            first_seq.filter(|seq| *seq > 0 && part_path(*seq) == format!("{LOG_FOLDER}/{name}"))
        else {
            tracing::warn!(file = %directory.full_path(LOG_FOLDER).join(&name).display(), "not a log file: ignored");
            continue;
        };
        let path = part_path(first_seq);
        let len = directory.len(&path)?;
        parts.push_back(Part { first_seq, path, len, synced_len: len });
    }
    Ok(parts)
}

/// Deletes the oldest files while all their records are below `seq`.
fn drop_obsolete(directory: &dyn Directory, parts: &mut VecDeque<Part>, seq: u64) -> Result<()> {
    while let (Some(first), Some(second)) = (parts.front(), parts.get(1)) {
        if second.first_seq > seq {
            break;
        }
        directory.delete(&first.path)?;
        parts.pop_front();
    }
    Ok(())
}

/// Makes the file whose first record will be `first_seq`.
fn new_part(directory: &dyn Directory, first_seq: u64) -> Result<(Part, Box<dyn AppendFile>, u32)> {
    let path = part_path(first_seq);
    let header = FileHeader::new(first_seq);
    directory.write_atomic(&path, &header.encode())?;
    let active = directory.append(&path)?;
    let len = FILE_HEADER_BYTES as u64;
    Ok((Part { first_seq, path, len, synced_len: len }, active, header.salt))
}

/// Checks the last file, cuts off a torn tail, and returns it open, with its salt and the next number.
fn recover(directory: &dyn Directory, part: &mut Part) -> Result<(Box<dyn AppendFile>, u32, u64)> {
    let mut reader = LogReader::open(directory, &part.path, part.len)?;
    check_first_seq(directory, part, reader.header())?;
    let torn = loop {
        match reader.next()? {
            Step::Record { .. } => {}
            Step::End => break None,
            Step::Bad { message } => break Some(message),
        }
    };
    let mut active = directory.append(&part.path)?;
    if let Some(message) = torn {
        if reader.bad_record_was_synced(directory, &part.path)? {
            return Err(reader.corruption(message));
        }
        tracing::warn!(
            file = %directory.full_path(&part.path).display(),
            offset = reader.offset(),
            bytes = part.len - reader.offset(),
            "cutting off a torn tail of the log, which was never acknowledged: {message}"
        );
        active.truncate(reader.offset())?;
    }
    // What was read may only be in the system's cache: it must be on disk before anyone sees it.
    active.sync_data()?;
    part.len = reader.offset();
    part.synced_len = reader.offset();
    Ok((active, reader.header().salt, reader.next_seq()))
}

fn check_first_seq(directory: &dyn Directory, part: &Part, header: FileHeader) -> Result<()> {
    if header.first_seq != part.first_seq {
        let message = format!("its header says that it starts at {}", header.first_seq);
        return Err(Error::corrupt(directory.full_path(&part.path), 16, message));
    }
    Ok(())
}
