//! The bytes of a file of a job, from any place on. It knows no formats.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{Error, ErrorKind, Result};

/// A file that is open.
#[derive(Debug)]
pub(super) struct Input {
    file: File,
    len: u64,
}

impl Input {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(&error))?;
        let len = file.metadata().map_err(|error| unreadable(&error))?.len();
        Ok(Self { file, len })
    }

    /// Its bytes from a place on.
    pub fn read_from(&self, start: u64) -> Result<impl Read + use<>> {
        let mut file = self.file.try_clone().map_err(|error| unreadable(&error))?;
        file.seek(SeekFrom::Start(start)).map_err(|error| unreadable(&error))?;
        Ok(file)
    }

    /// Some of its bytes. The length is the caller's: it has to be within the file.
    pub fn read_at(&self, start: u64, length: usize) -> Result<Vec<u8>> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(Error::bad_content("the file is shorter than it says"));
        }
        let mut bytes = vec![0; length];
        self.read_from(start)?.read_exact(&mut bytes).map_err(|error| unreadable(&error))?;
        Ok(bytes)
    }

    /// Another handle of the same file.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone().map_err(|error| unreadable(&error))?;
        Ok(Self { file, len: self.len })
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Input {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.file.get_bytes(start, length)
    }
}

/// A file that can't be read now; another time it may be.
pub(super) fn unreadable(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the file can't be read: {error}"))
}
