//! The envelope of every file that is written once: who made it, which format, and a checksum over all of it.
//!
//! ```text
//! header  64 bytes  "RAGSTONE", kind (8 bytes), format version (u32), zeros
//! body    any       starts at a multiple of 64 in memory, so that it can be read as numbers in place
//! footer  24 bytes  length of the body (u64), CRC-32 of header and body (u32), zeros (u32), "RAGSEND\n"
//! ```
//!
//! All numbers are little endian. The envelope must not know what a body means; it is the same for all kinds and
//! versions, so that a newer file is told from a broken one.

use std::io::{self, Read as _, Write};
use std::ops::Range;

use bytes::Bytes;

use crate::directory::{Directory, FileWriter, Residency};
use crate::error::{Error, Result};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 64;
/// Bytes behind the body.
pub const FOOTER_BYTES: usize = 24;
const MAGIC: &[u8; 8] = b"RAGSTONE";
const FOOTER_MAGIC: &[u8; 8] = b"RAGSEND\n";
/// Bytes read or written at once.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes written at once, from a multiple of this on, of a file that is to lie in large pages.
const LARGE_PIECE_BYTES: usize = 2 << 20;

/// Where rows of `row_bytes` each lie in a file whose body is nothing else. No row is too many to be asked about.
pub(crate) fn place_of_rows(rows: Range<usize>, row_bytes: usize) -> Range<usize> {
    let at = |row: usize| row.saturating_mul(row_bytes).saturating_add(HEADER_BYTES);
    at(rows.start)..at(rows.end)
}

/// A kind of file and the newest version of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    /// Eight bytes that no other kind has.
    pub magic: [u8; 8],
    /// Written by this program; it reads this and older ones, from 1.
    pub version: u32,
    /// For messages: "segment rows".
    pub name: &'static str,
}

/// Writes a body through `write` and seals it. Returns the length of the file in bytes. On an error there is no file.
pub fn seal_file(
    directory: &dyn Directory,
    path: &str,
    kind: FileKind,
    write: impl FnOnce(&mut SealedWriter) -> Result<()>,
) -> Result<u64> {
    let mut writer = SealedWriter::create(directory, path, kind)?;
    write(&mut writer)?;
    writer.finish()
}

/// [`seal_file`] for a body in memory.
pub fn seal_bytes(directory: &dyn Directory, path: &str, kind: FileKind, body: &[u8]) -> Result<u64> {
    seal_file(directory, path, kind, |writer| writer.put(body))
}

/// The body of a sealed file, without a copy. `verify` reads the whole file for its checksum; without it only header,
/// footer and lengths are checked.
///
/// [`Error::Corruption`] says where the file is wrong; [`Error::FailedPrecondition`] means that a newer version of the
/// program wrote it.
pub fn open_file(directory: &dyn Directory, path: &str, kind: FileKind, verify: bool) -> Result<Bytes> {
    body_of(directory, path, kind, verify, &directory.read(path)?)
}

/// [`open_file`] with a say in which pages of it are in memory. In their numbering, the body starts at [`HEADER_BYTES`].
pub fn map_file(
    directory: &dyn Directory,
    path: &str,
    kind: FileKind,
    verify: bool,
) -> Result<(Bytes, Residency)> {
    let (file, residency) = directory.map(path)?;
    Ok((body_of(directory, path, kind, verify, &file)?, residency))
}

fn body_of(
    directory: &dyn Directory,
    path: &str,
    kind: FileKind,
    verify: bool,
    file: &Bytes,
) -> Result<Bytes> {
    let corrupt =
        |offset: usize, message: String| Error::corrupt(directory.full_path(path), offset as u64, message);
    if file.len() < HEADER_BYTES + FOOTER_BYTES {
        return Err(corrupt(file.len(), format!("too short for a {} file", kind.name)));
    }
    let (rest, footer) = file.split_at(file.len() - FOOTER_BYTES);
    let (header, body) = rest.split_at(HEADER_BYTES);
    let footer_at = rest.len();
    if !header.starts_with(MAGIC) {
        return Err(corrupt(0, "not a file of ragstone".into()));
    }
    if header.get(8..16) != Some(&kind.magic) {
        return Err(corrupt(8, format!("not a {} file", kind.name)));
    }
    if footer.get(16..) != Some(FOOTER_MAGIC) || read_u32(footer, 12) != 0 {
        return Err(corrupt(footer_at + 12, "the end of the file is missing".into()));
    }
    if read_u64(footer, 0) != body.len() as u64 {
        let message = format!("a body of {} bytes, the footer says {}", body.len(), read_u64(footer, 0));
        return Err(corrupt(footer_at, message));
    }
    if header.iter().skip(20).any(|byte| *byte != 0) {
        return Err(corrupt(20, "the header is not zero where it should be".into()));
    }
    if verify {
        let crc = crc32fast::hash(rest);
        let expected = read_u32(footer, 8);
        if crc != expected {
            return Err(corrupt(0, format!("checksum is {crc:08x}, the footer says {expected:08x}")));
        }
    }
    check_version(directory, path, kind, read_u32(header, 16))?;
    Ok(file.slice(HEADER_BYTES..footer_at))
}

/// Compares a sealed file with its checksum, reading it once from front to back without mapping it. `each_piece` hears of
/// every piece that was read, with its length, and ends the check with an error.
///
/// [`Error::Corruption`] also when the file isn't there.
pub fn verify_file(
    directory: &dyn Directory,
    path: &str,
    kind: FileKind,
    each_piece: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<()> {
    let full_path = || directory.full_path(path);
    if !directory.exists(path)? {
        return Err(Error::corrupt(full_path(), 0, format!("the {} file is not there", kind.name)));
    }
    let len = directory.len(path)?;
    let Some(mut left) = len.checked_sub(FOOTER_BYTES as u64) else {
        return Err(Error::corrupt(full_path(), len, format!("too short for a {} file", kind.name)));
    };
    let mut file = directory.stream(path)?;
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; PIECE_BYTES];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact(piece).map_err(|source| Error::io(full_path(), source))?;
        crc.update(piece);
        left -= piece.len() as u64;
        each_piece(piece.len())?;
    }
    let mut footer = [0; FOOTER_BYTES];
    file.read_exact(&mut footer).map_err(|source| Error::io(full_path(), source))?;
    let (found, expected) = (crc.finalize(), read_u32(&footer, 8));
    let whole = footer.ends_with(FOOTER_MAGIC) && found == expected;
    if whole {
        return Ok(());
    }
    Err(Error::corrupt(full_path(), 0, format!("checksum is {found:08x}, the footer says {expected:08x}")))
}

fn check_version(directory: &dyn Directory, path: &str, kind: FileKind, found: u32) -> Result<()> {
    if found == 0 {
        return Err(Error::corrupt(directory.full_path(path), 16, "format version 0"));
    }
    if found > kind.version {
        return Err(Error::FailedPrecondition(format!(
            "{} is a {} file of format version {found}; this program reads up to version {}: use the newer program \
             that wrote it",
            directory.full_path(path).display(),
            kind.name,
            kind.version
        )));
    }
    Ok(())
}

/// The `u32` at `at`; the caller has checked the length, a missing byte reads as zero.
fn read_u32(data: &[u8], at: usize) -> u32 {
    data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The `u64` at `at`; as [`read_u32`].
fn read_u64(data: &[u8], at: usize) -> u64 {
    data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Writes a sealed file from front to back; what is written is its body. Without [`SealedWriter::finish`] there is no
/// file.
#[derive(Debug)]
pub struct SealedWriter {
    file: Box<dyn FileWriter>,
    path: std::path::PathBuf,
    crc: crc32fast::Hasher,
    written: u64,
    /// What was written but not handed on, less than `piece_bytes`.
    piece: Vec<u8>,
    piece_bytes: usize,
}

impl SealedWriter {
    /// Starts a file; an error if it exists.
    pub fn create(directory: &dyn Directory, path: &str, kind: FileKind) -> Result<Self> {
        let file = directory.create(path)?;
        let path = directory.full_path(path);
        let (crc, piece) = (crc32fast::Hasher::new(), Vec::new());
        let mut writer = Self { file, path, crc, written: 0, piece, piece_bytes: PIECE_BYTES };
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&kind.magic);
        header.extend_from_slice(&kind.version.to_le_bytes());
        header.resize(HEADER_BYTES, 0);
        writer.put(&header)?;
        Ok(writer)
    }

    /// Lets the system's cache have the file in large pages, for one that will be mapped and read here and there all the time.
    ///
    /// Linux makes pages of its cache as large as what is written at once, and maps those of 2 MiB as one: a read then hardly
    /// ever has to look for its page. The price is that a mapping counts all of such a page as the reader's memory once any
    /// of it was read. Elsewhere nothing changes.
    pub fn in_large_pages(self) -> Self {
        Self { piece_bytes: LARGE_PIECE_BYTES, ..self }
    }

    /// Writes a piece of the body.
    pub fn put(&mut self, data: &[u8]) -> Result<()> {
        self.write_all(data).map_err(|source| Error::io(&self.path, source))
    }

    /// Writes zeros until the body's length is a multiple of `alignment` (at most 64).
    pub fn align(&mut self, alignment: usize) -> Result<()> {
        const ZEROS: [u8; HEADER_BYTES] = [0; HEADER_BYTES];
        let alignment = alignment.clamp(1, HEADER_BYTES) as u64;
        let missing = (alignment - self.body_len() % alignment) % alignment;
        self.put(ZEROS.get(..missing as usize).unwrap_or_default())
    }

    fn hand_on(&mut self) -> io::Result<()> {
        self.file.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    /// Bytes of the body so far.
    pub fn body_len(&self) -> u64 {
        self.written.saturating_sub(HEADER_BYTES as u64)
    }

    /// Writes the footer and puts everything on disk. Returns the length of the file in bytes.
    pub fn finish(mut self) -> Result<u64> {
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        footer.extend_from_slice(&self.body_len().to_le_bytes());
        footer.extend_from_slice(&self.crc.clone().finalize().to_le_bytes());
        footer.extend_from_slice(&[0; 4]);
        footer.extend_from_slice(FOOTER_MAGIC);
        self.put(&footer)?;
        self.flush().map_err(|source| Error::io(&self.path, source))?;
        self.file.finish()
    }
}

impl Write for SealedWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // The rest of the piece in which the file's end lies, also behind a flush.
        let room = self.piece_bytes - (self.written % self.piece_bytes as u64) as usize;
        let taken = data.get(..room).unwrap_or(data);
        self.piece.extend_from_slice(taken);
        self.crc.update(taken);
        self.written += taken.len() as u64;
        if taken.len() == room {
            self.hand_on()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_on()?;
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::directory::{Fault, FaultyDirectory, FsDirectory, MemDirectory, Operation};
    use crate::error::ErrorKind;

    const KIND: FileKind = FileKind { magic: *b"TESTFILE", version: 2, name: "test" };

    fn sealed(body: &[u8]) -> (MemDirectory, Vec<u8>) {
        let directory = MemDirectory::new();
        let len = seal_bytes(&directory, "file", KIND, body).unwrap();
        let file = directory.read("file").unwrap().to_vec();
        assert_eq!(len, file.len() as u64);
        (directory, file)
    }

    #[test]
    fn a_body_comes_back_aligned_and_unchanged() {
        let temporary = tempfile::tempdir().unwrap();
        let real = FsDirectory::open(temporary.path()).unwrap();
        for directory in [&real as &dyn Directory, &MemDirectory::new()] {
            for len in [0, 1, 63, 64, 4_096, 300_000] {
                let body: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                let path = format!("file-{len}");
                seal_bytes(directory, &path, KIND, &body).unwrap();
                let read = open_file(directory, &path, KIND, true).unwrap();
                assert_eq!(read, body);
                assert_eq!(read.as_ptr().align_offset(64), 0, "{directory:?} {len}");
            }
        }
    }

    #[test]
    fn pieces_can_be_aligned() {
        let directory = MemDirectory::new();
        seal_file(&directory, "file", KIND, |writer| {
            writer.put(b"abc")?;
            writer.align(16)?;
            assert_eq!(writer.body_len(), 16);
            writer.align(16)?;
            writer.put(b"def")
        })
        .unwrap();
        assert_eq!(
            open_file(&directory, "file", KIND, true).unwrap(),
            b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0def".as_slice()
        );
    }

    #[test]
    fn long_bodies_are_written_in_whole_pieces() {
        let directory = MemDirectory::new();
        let body: Vec<u8> = (0..LARGE_PIECE_BYTES + 777).map(|at| (at % 251) as u8).collect();
        let steps = [1_000, PIECE_BYTES - HEADER_BYTES, PIECE_BYTES, body.len()];
        for (step, large) in steps.into_iter().flat_map(|step| [(step, false), (step, true)]) {
            let path = format!("file-{step}-{large}");
            let writer = SealedWriter::create(&directory, &path, KIND).unwrap();
            let mut writer = if large { writer.in_large_pages() } else { writer };
            for piece in body.chunks(step) {
                writer.put(piece).unwrap();
                assert!(writer.piece.len() < writer.piece_bytes);
                if step == PIECE_BYTES {
                    writer.flush().unwrap();
                    assert!(writer.piece.is_empty());
                }
            }
            writer.finish().unwrap();
            assert!(open_file(&directory, &path, KIND, true).unwrap() == body, "{step}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (directory, file) = sealed(b"some body of a file");
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut broken = file.clone();
                broken[at] ^= 1 << bit;
                directory.plant("file", &broken).unwrap();
                let error = open_file(&directory, "file", KIND, true).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at} bit {bit}: {error}");
                // What the streamed check leaves out are the length and the zeros of the footer, which opening checks.
                let checked = verify_file(&directory, "file", KIND, &mut |_| Ok(()));
                let opened = open_file(&directory, "file", KIND, false);
                assert!(checked.is_err() || opened.is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_whole_file_passes_the_streamed_check_piece_by_piece() {
        let (directory, file) = sealed(&vec![5; 600_000]);
        let mut read = 0;
        verify_file(&directory, "file", KIND, &mut |bytes| {
            read += bytes;
            Ok(())
        })
        .unwrap();
        assert_eq!(read, file.len() - FOOTER_BYTES);
        let stop = || Error::FailedPrecondition("enough".into());
        assert!(verify_file(&directory, "file", KIND, &mut |_| Err(stop())).is_err());
        let missing = verify_file(&directory, "missing", KIND, &mut |_| Ok(())).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Corruption);
    }

    #[test]
    fn every_truncation_and_extension_is_found_without_reading_the_body() {
        let (directory, file) = sealed(&[7; 200]);
        for len in 0..file.len() {
            directory.plant("file", &file[..len]).unwrap();
            let error = open_file(&directory, "file", KIND, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{len} bytes: {error}");
        }
        directory.plant("file", &[&file[..], &[0]].concat()).unwrap();
        assert_eq!(open_file(&directory, "file", KIND, false).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn another_kind_and_a_newer_version_are_told_apart() {
        let (directory, _) = sealed(b"body");
        let other = FileKind { magic: *b"OTHERKND", ..KIND };
        assert_eq!(open_file(&directory, "file", other, true).unwrap_err().kind(), ErrorKind::Corruption);
        let older_program = FileKind { version: 1, ..KIND };
        let error = open_file(&directory, "file", older_program, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let message = error.to_string();
        assert!(message.contains("format version 2") && message.contains("up to version 1"), "{message}");
        let newer_program = FileKind { version: 3, ..KIND };
        assert_eq!(open_file(&directory, "file", newer_program, true).unwrap(), b"body".as_slice());
    }

    #[test]
    fn a_failed_write_leaves_no_file() {
        for operation in [Operation::Write, Operation::Sync, Operation::Rename] {
            let directory = FaultyDirectory::new(MemDirectory::new()).unwrap();
            directory.fail(operation, 1, Fault::Error);
            seal_bytes(&directory, "file", KIND, b"body").unwrap_err();
            assert!(!directory.exists("file").unwrap());
            seal_bytes(&directory, "file", KIND, b"body").unwrap();
        }
    }
}
