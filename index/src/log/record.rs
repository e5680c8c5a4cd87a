//! The bytes of a log file: a file header, then records.
//!
//! ```text
//! file header    32 bytes  "RAGSTLOG", format version (u32), zeros (u32), first sequence number (u64),
//!                          salt (u32), CRC-32 of the 28 bytes before (u32)
//! record header  28 bytes  payload length (u32), CRC-32 of the payload (u32), sequence number (u64),
//!                          synced (u64), CRC-32 of the 24 bytes before (u32)
//! payload
//! ```
//!
//! Little endian. Checksums in records start from the file's random salt: bytes of another file, or bytes that a client
//! put into a payload to look like a record, don't pass for one. `synced` is the highest sequence number that was on
//! disk when the record was written. It is what tells a torn tail from lost data: see [`super::reader`].

use std::hash::{BuildHasher, RandomState};

/// Largest payload of a record, in bytes.
pub const MAX_RECORD_BYTES: usize = 512 << 20;
/// Largest sequence number: counting on from what a file says can't overflow.
pub const MAX_SEQ: u64 = i64::MAX as u64;
/// Bytes of a file header.
pub(super) const FILE_HEADER_BYTES: usize = 32;
/// Bytes of a record header.
pub(super) const RECORD_HEADER_BYTES: usize = 28;
/// Version of the format that is written and read.
pub(super) const FORMAT_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"RAGSTLOG";

/// The start of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub first_seq: u64,
    pub salt: u32,
}

/// Why a file header can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Corrupt(&'static str),
    NewerVersion(u32),
}

impl FileHeader {
    /// The header of a new file.
    pub fn new(first_seq: u64) -> Self {
        // The standard library's hash keys are random per process and differ per call.
        let salt = RandomState::new().hash_one(first_seq) as u32;
        Self { first_seq, salt }
    }

    pub fn encode(self) -> [u8; FILE_HEADER_BYTES] {
        let mut out = [0; FILE_HEADER_BYTES];
        let fields = [
            &MAGIC[..],
            &FORMAT_VERSION.to_le_bytes(),
            &[0; 4],
            &self.first_seq.to_le_bytes(),
            &self.salt.to_le_bytes(),
        ];
        let crc = crc_of(0, &fields.concat());
        fill(&mut out, &fields, crc);
        out
    }

    pub fn decode(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<Self, BadHeader> {
        let (magic, rest) = take::<8>(bytes);
        let (version, rest) = take::<4>(rest);
        let (zeros, rest) = take::<4>(rest);
        let (first_seq, rest) = take::<8>(rest);
        let (salt, rest) = take::<4>(rest);
        let (crc, _) = take::<4>(rest);
        if magic != *MAGIC {
            return Err(BadHeader::Corrupt("not a log of ragstone"));
        }
        let checked = bytes.get(..FILE_HEADER_BYTES - 4).unwrap_or_default();
        if crc_of(0, checked) != u32::from_le_bytes(crc) || zeros != [0; 4] {
            return Err(BadHeader::Corrupt("the checksum of the file header is wrong"));
        }
        match u32::from_le_bytes(version) {
            FORMAT_VERSION => {}
            0 => return Err(BadHeader::Corrupt("format version 0")),
            newer => return Err(BadHeader::NewerVersion(newer)),
        }
        let first_seq = u64::from_le_bytes(first_seq);
        if first_seq == 0 || first_seq > MAX_SEQ {
            return Err(BadHeader::Corrupt("no sequence number is that large"));
        }
        Ok(Self { first_seq, salt: u32::from_le_bytes(salt) })
    }
}

/// The start of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub len: u32,
    pub payload_crc: u32,
    pub seq: u64,
    pub synced: u64,
}

impl RecordHeader {
    /// The header of a payload; `None` when it is over [`MAX_RECORD_BYTES`].
    pub fn new(salt: u32, seq: u64, synced: u64, payload: &[u8]) -> Option<Self> {
        let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_RECORD_BYTES)?;
        Some(Self { len, payload_crc: crc_of(salt, payload), seq, synced })
    }

    pub fn encode(self, salt: u32) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        let fields = [
            &self.len.to_le_bytes()[..],
            &self.payload_crc.to_le_bytes(),
            &self.seq.to_le_bytes(),
            &self.synced.to_le_bytes(),
        ];
        let crc = crc_of(salt, &fields.concat());
        fill(&mut out, &fields, crc);
        out
    }

    /// `None` when these bytes are no record header of this file.
    pub fn decode(salt: u32, bytes: &[u8; RECORD_HEADER_BYTES]) -> Option<Self> {
        Self::decode_if(salt, bytes, |_| true)
    }

    /// [`RecordHeader::decode`] with a test that comes before the checksum, for many tries.
    pub fn decode_if(
        salt: u32,
        bytes: &[u8; RECORD_HEADER_BYTES],
        test: impl FnOnce(&Self) -> bool,
    ) -> Option<Self> {
        let header = Self::decode_unchecked(bytes);
        if header.len as usize > MAX_RECORD_BYTES || header.synced >= header.seq || !test(&header) {
            return None;
        }
        let (checked, crc) = bytes.split_at(RECORD_HEADER_BYTES - 4);
        let (crc, _) = take::<4>(crc);
        (crc_of(salt, checked) == u32::from_le_bytes(crc)).then_some(header)
    }

    fn decode_unchecked(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        let (len, rest) = take::<4>(bytes);
        let (payload_crc, rest) = take::<4>(rest);
        let (seq, rest) = take::<8>(rest);
        let (synced, _) = take::<8>(rest);
        Self {
            len: u32::from_le_bytes(len),
            payload_crc: u32::from_le_bytes(payload_crc),
            seq: u64::from_le_bytes(seq),
            synced: u64::from_le_bytes(synced),
        }
    }
}

/// CRC-32 that starts from a salt.
pub(super) fn crc_of(salt: u32, data: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(salt);
    crc.update(data);
    crc.finalize()
}

/// Joins fields and a checksum that together are as long as `out`.
fn fill(out: &mut [u8], fields: &[&[u8]], crc: u32) {
    let joined = fields.iter().flat_map(|field| field.iter().copied()).chain(crc.to_le_bytes());
    for (to, from) in out.iter_mut().zip(joined) {
        *to = from;
    }
}

/// The first `N` bytes, and the rest; zeros where there are fewer, which no caller lets happen.
fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes.split_first_chunk::<N>().map_or(([0; N], &[]), |(first, rest)| (*first, rest))
}
