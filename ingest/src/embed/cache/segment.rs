//! One file of the cache: vectors behind each other, and once it is full a list of them at its end, so that opening it
//! does not mean reading it. A file without a good list is read record by record up to the first one that is not whole.
//!
//! All numbers are little endian. File: magic (8 bytes), records, list. Record: CRC-32 of what follows (4), dimension (4),
//! key (32), components (4 each). List: for each record the first 8 bytes of its key and its offset (4), then the number
//! of records (4), where they end (4), CRC-32 of list and numbers (4), magic (8).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TextKey;

const MAGIC: &[u8; 8] = b"rsvecs01";
const LIST_MAGIC: &[u8; 8] = b"rslist01";
const RECORD_HEAD: usize = 40;
const LIST_ENTRY: usize = 12;
const LIST_TAIL: usize = 20;
const EXTENSION: &str = "vectors";

/// A file of the cache.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: Arc<File>,
    /// Where the records end.
    end: u64,
    /// The whole file.
    bytes: u64,
    /// What the list will say, while it grows.
    keys: Option<Vec<(u64, u32)>>,
}

/// Reads vectors of a segment, also of one that is removed meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    file: Arc<File>,
}

/// A vector as it is written.
pub(super) fn record(key: &TextKey, vector: &[f32]) -> Vec<u8> {
    let mut record = vec![0; 4];
    record.extend_from_slice(&u32::try_from(vector.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&key.0);
    vector.iter().for_each(|component| record.extend_from_slice(&component.to_le_bytes()));
    let crc = crc32fast::hash(record.get(4..).unwrap_or_default());
    if let Some(place) = record.first_chunk_mut::<4>() {
        *place = crc.to_le_bytes();
    }
    record
}

/// Files of a folder by their number.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_ours = path.extension().is_some_and(|extension| extension == EXTENSION);
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        files.extend(number.filter(|_| is_ours).map(|number| (number, path)));
    }
    files.sort_unstable();
    Ok(files)
}

/// Where a segment lies.
pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}.{EXTENSION}"))
}

/// Removes a file. If that fails, the next opening tries again.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(file = %path.display(), %error, "a file of the cache of vectors can't be removed");
    }
}

impl Segment {
    /// Begins one. What lay there is gone.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        write_at(&file, MAGIC, 0)?;
        let start = MAGIC.len() as u64;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            end: start,
            bytes: start,
            keys: Some(Vec::new()),
        })
    }

    /// Opens one, with the first bytes of the keys in it and their offsets. One that was not sealed grows on.
    ///
    /// # Errors
    /// `InvalidData` for a file of another kind or version.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<(u64, u32)>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        let mut magic = [0; 8];
        read_at(&file, &mut magic, 0)?;
        if &magic != MAGIC || u32::try_from(bytes).is_err() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file of this kind"));
        }
        let opened =
            |end, bytes, keys| Self { path: path.to_owned(), file: Arc::new(file), end, bytes, keys };
        if let Some((keys, end)) = read_list(path, bytes)? {
            return Ok((opened(end, bytes, None), keys));
        }
        let (keys, end) = scan(path, bytes)?;
        let segment = opened(end, end, Some(keys.clone()));
        segment.file.set_len(end)?;
        Ok((segment, keys))
    }

    /// Whether a record fits a segment at all.
    pub fn holds(record: u64, segment_bytes: u64) -> bool {
        Self::full(MAGIC.len() as u64, record, 1) <= segment_bytes
    }

    /// Whether `more` bytes of records fit, with a list of `records` more.
    pub fn has_room(&self, more: u64, records: usize, segment_bytes: u64) -> bool {
        let known = self.keys.as_ref().map_or(0, Vec::len);
        Self::full(self.end, more, known + records) <= segment_bytes
    }

    fn full(end: u64, more: u64, records: usize) -> u64 {
        end.saturating_add(more).saturating_add((records * LIST_ENTRY + LIST_TAIL) as u64)
    }

    /// Whether records may be added.
    pub fn is_growing(&self) -> bool {
        self.keys.is_some()
    }

    /// No record is added any more. Without a list: opening it means reading it.
    pub fn close(&mut self) {
        self.keys = None;
        self.bytes = self.file.metadata().map_or(self.bytes, |metadata| metadata.len());
    }

    /// The whole file, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where a record will lie that is `ahead` bytes behind what is written.
    pub fn offset_of(&self, ahead: usize) -> u32 {
        u32::try_from(self.end + ahead as u64).unwrap_or(u32::MAX)
    }

    /// Writes whole records, with the first bytes of their keys and their offsets.
    pub fn append(&mut self, records: &[u8], keys: &[(u64, u32)]) -> io::Result<()> {
        write_at(&self.file, records, self.end)?;
        self.end += records.len() as u64;
        self.bytes = self.end;
        if let Some(known) = &mut self.keys {
            known.extend_from_slice(keys);
        }
        Ok(())
    }

    /// Writes the list: it is full.
    pub fn seal(&mut self) -> io::Result<()> {
        let Some(keys) = self.keys.take() else { return Ok(()) };
        let mut list = Vec::with_capacity(keys.len() * LIST_ENTRY + LIST_TAIL);
        for (prefix, offset) in &keys {
            list.extend_from_slice(&prefix.to_le_bytes());
            list.extend_from_slice(&offset.to_le_bytes());
        }
        list.extend_from_slice(&u32::try_from(keys.len()).unwrap_or(u32::MAX).to_le_bytes());
        list.extend_from_slice(&u32::try_from(self.end).unwrap_or(u32::MAX).to_le_bytes());
        let crc = crc32fast::hash(&list);
        list.extend_from_slice(&crc.to_le_bytes());
        list.extend_from_slice(LIST_MAGIC);
        write_at(&self.file, &list, self.end)?;
        self.bytes = self.end + list.len() as u64;
        Ok(())
    }

    /// For reading beside the lock.
    pub fn reader(&self) -> Reader {
        Reader { file: Arc::clone(&self.file) }
    }

    /// Removes the file.
    pub fn remove(self) {
        remove(&self.path);
    }
}

impl Reader {
    /// The vector at an offset. `None`: it is the one of another key, or of another dimension.
    ///
    /// # Errors
    /// Of reading, and `InvalidData` where the bytes don't fit their checksum.
    pub fn vector(&self, offset: u32, key: &TextKey, dimension: u32) -> io::Result<Option<Vec<f32>>> {
        let mut record = vec![0; RECORD_HEAD + dimension as usize * 4];
        let head = record.get_mut(..RECORD_HEAD).unwrap_or_default();
        read_at(&self.file, head, u64::from(offset))?;
        if head.get(4..8) != Some(dimension.to_le_bytes().as_slice()) {
            return Ok(None);
        }
        read_at(&self.file, &mut record, u64::from(offset))?;
        let (crc, checked) = record.split_first_chunk::<4>().ok_or(io::ErrorKind::InvalidData)?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(checked) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if record.get(8..RECORD_HEAD) != Some(key.0.as_slice()) {
            return Ok(None);
        }
        let components = record.get(RECORD_HEAD..).unwrap_or_default().as_chunks::<4>().0;
        Ok(Some(components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }
}

type Keys = Vec<(u64, u32)>;

/// The list at the end of a file, and where the records end. `None`: there is none that can be trusted.
fn read_list(path: &Path, bytes: u64) -> io::Result<Option<(Keys, u64)>> {
    let tail_at = bytes.saturating_sub(LIST_TAIL as u64);
    let mut tail = [0; LIST_TAIL];
    let file = File::open(path)?;
    if tail_at < MAGIC.len() as u64 || read_at(&file, &mut tail, tail_at).is_err() {
        return Ok(None);
    }
    let number = |at: usize| {
        let bytes = tail.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let (count, end, crc) = (number(0) as usize, u64::from(number(4)), number(8));
    let listed = count as u64 * LIST_ENTRY as u64;
    if tail.get(12..) != Some(LIST_MAGIC.as_slice()) || end.checked_add(listed) != Some(tail_at) {
        return Ok(None);
    }
    let mut list = vec![0; count * LIST_ENTRY + 8];
    read_at(&file, &mut list, end)?;
    if crc32fast::hash(&list) != crc {
        return Ok(None);
    }
    let entries = list.as_chunks::<LIST_ENTRY>().0.iter().take(count);
    let keys = entries.map(|[a, b, c, d, e, f, g, h, offset @ ..]| {
        (u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), u32::from_le_bytes(*offset))
    });
    Ok(Some((keys.collect(), end)))
}

/// The records of a file up to the first that is not whole, and where they end.
fn scan(path: &Path, bytes: u64) -> io::Result<(Keys, u64)> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(path)?);
    input.read_exact(&mut [0; 8])?;
    let mut at = MAGIC.len() as u64;
    let mut keys = Vec::new();
    let mut head = [0; RECORD_HEAD];
    while at + (RECORD_HEAD as u64) <= bytes {
        input.read_exact(&mut head)?;
        let [c0, c1, c2, c3, d0, d1, d2, d3, k0, k1, k2, k3, k4, k5, k6, k7, ..] = head;
        let components = u64::from(u32::from_le_bytes([d0, d1, d2, d3])) * 4;
        let next = at + RECORD_HEAD as u64 + components;
        if next > bytes {
            break;
        }
        let mut vector = vec![0; usize::try_from(components).unwrap_or(0)];
        input.read_exact(&mut vector)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(head.get(4..).unwrap_or_default());
        crc.update(&vector);
        if crc.finalize() != u32::from_le_bytes([c0, c1, c2, c3]) {
            break;
        }
        let prefix = u64::from_le_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
        keys.push((prefix, u32::try_from(at).unwrap_or(u32::MAX)));
        at = next;
    }
    Ok((keys, at))
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(unix)]
fn write_at(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                buffer = buffer.get_mut(read..).unwrap_or_default();
                offset += read as u64;
            }
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, mut buffer: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !buffer.is_empty() {
        let written = file.seek_write(buffer, offset)?;
        buffer = buffer.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}
