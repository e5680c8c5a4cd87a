//! Reads one log file from front to back, and says whether what can't be read is a torn tail or lost data.
//!
//! **Torn tail or corruption.** A power cut can leave the records written after the last sync in any state: cut short,
//! missing sectors, even a good record behind a bad one. Nobody was told that those are durable, so they may go. A
//! record that was synced must not. Each record says how far the log was synced when it was written (`synced`); so a
//! bad record of number `e` is *lost data* when a record header behind it says that `e` was synced, and a *torn tail*
//! when there is none.

use std::io::{ErrorKind, Read};
use std::path::PathBuf;

use bytes::Bytes;

use super::record::{
    BadHeader, FILE_HEADER_BYTES, FORMAT_VERSION, FileHeader, RECORD_HEADER_BYTES, RecordHeader, crc_of,
};
use crate::directory::Directory;
use crate::error::{Error, Result};

/// A bad tail is searched in pieces of this size.
const SEARCH_BYTES: usize = 1 << 20;

/// What comes next in a log file.
pub(super) enum Step {
    /// A good record.
    Record { seq: u64, payload: Bytes },
    /// The end, behind a good record or the header.
    End,
    /// No good record starts here.
    Bad { message: String },
}

/// Reads a log file.
pub(super) struct LogReader {
    stream: Box<dyn Read + Send>,
    path: PathBuf,
    header: FileHeader,
    /// Where the file ends for this reader.
    end: u64,
    /// Where the next record starts.
    offset: u64,
    /// The number of the next record.
    next_seq: u64,
}

impl LogReader {
    /// Opens a file and checks its header. The reader sees `end` bytes of it.
    pub fn open(directory: &dyn Directory, path: &str, end: u64) -> Result<Self> {
        let mut stream = directory.stream(path)?;
        let full = directory.full_path(path);
        if end < FILE_HEADER_BYTES as u64 {
            return Err(Error::corrupt(full, end, "too short for a log"));
        }
        let mut bytes = [0; FILE_HEADER_BYTES];
        stream.read_exact(&mut bytes).map_err(|source| Error::io(&full, source))?;
        let header = FileHeader::decode(&bytes).map_err(|bad| match bad {
            BadHeader::Corrupt(message) => Error::corrupt(&full, 0, message),
            BadHeader::NewerVersion(version) => Error::FailedPrecondition(format!(
                "{} is a log of format version {version}; this program reads up to version {FORMAT_VERSION}: use the \
                 newer program that wrote it",
                full.display()
            )),
        })?;
        let offset = FILE_HEADER_BYTES as u64;
        Ok(Self { stream, path: full, header, end, offset, next_seq: header.first_seq })
    }

    /// The file's header.
    pub fn header(&self) -> FileHeader {
        self.header
    }

    /// Where the next record starts, or the bad one.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of the next record.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Reads a record. After [`Step::Bad`] or an error only [`LogReader::corruption`] makes sense.
    pub fn next(&mut self) -> Result<Step> {
        let left = self.end - self.offset;
        let bad = |message: String| Ok(Step::Bad { message });
        if left == 0 {
            return Ok(Step::End);
        }
        if left < RECORD_HEADER_BYTES as u64 {
            return bad(format!("{left} bytes are too few for a record"));
        }
        let mut bytes = [0; RECORD_HEADER_BYTES];
        self.read(&mut bytes)?;
        let Some(header) = RecordHeader::decode(self.header.salt, &bytes) else {
            return bad("no record starts here".into());
        };
        if header.seq != self.next_seq {
            return bad(format!("record {} where {} was expected", header.seq, self.next_seq));
        }
        if u64::from(header.len) > left - RECORD_HEADER_BYTES as u64 {
            return bad(format!("a record of {} bytes, only {left} are left", header.len));
        }
        // Bounded: `decode` refuses lengths over MAX_RECORD_BYTES, and the file has as many bytes.
        let mut payload = vec![0; header.len as usize];
        self.read(&mut payload)?;
        let crc = crc_of(self.header.salt, &payload);
        if crc != header.payload_crc {
            return bad(format!("checksum is {crc:08x}, the record says {:08x}", header.payload_crc));
        }
        self.offset += RECORD_HEADER_BYTES as u64 + u64::from(header.len);
        self.next_seq += 1;
        Ok(Step::Record { seq: header.seq, payload: Bytes::from(payload) })
    }

    /// The error for the bad record that [`LogReader::next`] found.
    pub fn corruption(&self, message: impl Into<String>) -> Error {
        Error::corrupt(&self.path, self.offset, message)
    }

    /// After [`Step::Bad`]: whether a record behind says that the bad one was on disk. Reads the rest of the file.
    pub fn bad_record_was_synced(&self, directory: &dyn Directory, path: &str) -> Result<bool> {
        let mut stream = directory.stream(path)?;
        let failed = |source| Error::io(&self.path, source);
        let start = self.offset + 1;
        std::io::copy(&mut stream.by_ref().take(start), &mut std::io::sink()).map_err(failed)?;
        let mut rest = stream.take(self.end.saturating_sub(start));
        // A header may lie across two pieces: the end of one is kept in front of the next.
        let mut piece = Vec::new();
        loop {
            let before = piece.len();
            rest.by_ref().take(SEARCH_BYTES as u64).read_to_end(&mut piece).map_err(failed)?;
            if piece.len() == before {
                return Ok(false);
            }
            if piece.windows(RECORD_HEADER_BYTES).any(|bytes| self.vouches(bytes)) {
                return Ok(true);
            }
            let kept = piece.len().saturating_sub(RECORD_HEADER_BYTES - 1);
            piece.drain(..kept);
        }
    }

    /// Whether these bytes are a record header that says that the expected record was on disk.
    fn vouches(&self, bytes: &[u8]) -> bool {
        let Ok(bytes) = bytes.try_into() else { return false };
        // A later record has a number not far above: each takes a header's bytes. Cheaper to check than a checksum.
        let most = (self.end - self.offset) / RECORD_HEADER_BYTES as u64 + 1;
        let near =
            |header: &RecordHeader| header.synced >= self.next_seq && header.seq - self.next_seq <= most;
        RecordHeader::decode_if(self.header.salt, bytes, near).is_some()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.stream.read_exact(buffer).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => self.corruption("the file became shorter while it was read"),
            _ => Error::io(&self.path, source),
        })
    }
}
