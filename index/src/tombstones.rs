//! Tombstones on disk: which rows of a segment are deleted or replaced, as a bitmap in a sealed file.
//!
//! It must not know segments; a file belongs to one by the manifest.

use roaring::RoaringBitmap;

use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::file_format::{FileKind, open_file, seal_file};

const KIND: FileKind = FileKind { magic: *b"TOMBSTON", version: 1, name: "tombstone" };

/// Writes the deleted rows of a segment. Returns the length of the file in bytes.
pub fn write_tombstones(directory: &dyn Directory, path: &str, deleted: &RoaringBitmap) -> Result<u64> {
    seal_file(directory, path, KIND, |writer| {
        deleted.serialize_into(writer).map_err(|source| Error::io(directory.full_path(path), source))
    })
}

/// Reads the deleted rows of a segment of `rows` rows.
pub fn read_tombstones(directory: &dyn Directory, path: &str, rows: u32) -> Result<RoaringBitmap> {
    let body = open_file(directory, path, KIND, true)?;
    let corrupt = |message: String| Error::corrupt(directory.full_path(path), 0, message);
    let mut rest = &body[..];
    let deleted =
        RoaringBitmap::deserialize_from(&mut rest).map_err(|error| corrupt(format!("no bitmap: {error}")))?;
    if !rest.is_empty() {
        return Err(corrupt(format!("{} bytes behind the bitmap", rest.len())));
    }
    if let Some(last) = deleted.max().filter(|last| *last >= rows) {
        return Err(corrupt(format!("row {last} is deleted in a segment of {rows} rows")));
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::directory::MemDirectory;
    use crate::error::ErrorKind;
    use crate::file_format::seal_bytes;

    #[test]
    fn bitmaps_come_back() {
        let directory = MemDirectory::new();
        let many: RoaringBitmap = (0..200_000).filter(|row| row % 3 != 1).collect();
        for (i, bitmap) in [RoaringBitmap::new(), [5].into_iter().collect(), many].into_iter().enumerate() {
            let path = format!("{i}.tombstones");
            write_tombstones(&directory, &path, &bitmap).unwrap();
            assert_eq!(read_tombstones(&directory, &path, 200_000).unwrap(), bitmap);
        }
    }

    #[test]
    fn a_row_behind_the_segment_is_refused() {
        let directory = MemDirectory::new();
        write_tombstones(&directory, "file", &[9].into_iter().collect()).unwrap();
        assert!(read_tombstones(&directory, "file", 10).is_ok());
        assert_eq!(read_tombstones(&directory, "file", 9).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn a_body_that_is_no_bitmap_is_refused_at_every_byte() {
        let bitmap: RoaringBitmap = [1, 2, 3, 70_000].into_iter().collect();
        let mut good = Vec::new();
        bitmap.serialize_into(&mut good).unwrap();
        // A right checksum around a wrong body: what a defect, not a disk, would leave.
        for at in 0..good.len() {
            let directory = MemDirectory::new();
            let mut bad = good.clone();
            bad[at] ^= 0xFF;
            seal_bytes(&directory, "flipped", KIND, &bad).unwrap();
            // Any answer but a panic or a row that doesn't exist.
            if let Ok(read) = read_tombstones(&directory, "flipped", 100_000) {
                assert!(read.max().is_none_or(|last| last < 100_000));
            }
            seal_bytes(&directory, "short", KIND, &good[..at]).unwrap();
            assert_eq!(
                read_tombstones(&directory, "short", 100_000).unwrap_err().kind(),
                ErrorKind::Corruption
            );
        }
    }
}
