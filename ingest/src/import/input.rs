//! The bytes of a file of a job, from any place on, wherever the file is. It knows no formats.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};

#[cfg(feature = "object-store")]
use super::objects::{ObjectInput, ObjectReader};
use super::plan::{PlannedFile, Source};
use crate::error::{Error, ErrorKind, Result};

/// A file that is open.
#[derive(Debug)]
pub(super) enum Input {
    File(LocalFile),
    #[cfg(feature = "object-store")]
    Object(ObjectInput),
}

/// A file of this machine.
#[derive(Debug)]
pub(super) struct LocalFile {
    file: File,
    len: u64,
}

/// Reads from a place on.
pub(super) enum InputReader {
    File(BufReader<File>),
    #[cfg(feature = "object-store")]
    Object(ObjectReader),
}

impl Input {
    /// Opens a file.
    pub fn open(file: &PlannedFile) -> Result<Self> {
        match &file.source {
            Source::Local => LocalFile::open(&file.path).map(Self::File),
            #[cfg(feature = "object-store")]
            Source::Object(object) => Ok(Self::Object(ObjectInput::new(object.clone()))),
            #[cfg(feature = "object-store")]
            Source::Unreachable(why) => Err(Error::bad_content(why.clone())),
        }
    }

    /// Its bytes from a place on.
    pub fn read_from(&self, start: u64) -> Result<InputReader> {
        Ok(match self {
            Self::File(local) => InputReader::File(BufReader::new(local.read_from(start)?)),
            #[cfg(feature = "object-store")]
            Self::Object(object) => InputReader::Object(object.read_from(start)),
        })
    }

    /// Some of its bytes. They have to be within the file; how many they are is the caller's to bound.
    pub fn read_at(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(Error::bad_content("the file is shorter than it says"));
        }
        match self {
            Self::File(local) => {
                let mut bytes = vec![0; length];
                local.read_from(start)?.read_exact(&mut bytes).map_err(|error| unreadable(&error))?;
                Ok(bytes.into())
            }
            #[cfg(feature = "object-store")]
            Self::Object(object) => object.read_at(start, length),
        }
    }

    /// Another handle of the same file, which is going to read these ranges side by side, each from its front to its back.
    #[cfg_attr(
        not(feature = "object-store"),
        expect(unused_variables, reason = "files of this machine need no windows")
    )]
    pub fn for_columns(&self, columns: impl IntoIterator<Item = Range<u64>>) -> Result<Self> {
        match self {
            Self::File(LocalFile { file, len }) => {
                let file = file.try_clone().map_err(|error| unreadable(&error))?;
                Ok(Self::File(LocalFile { file, len: *len }))
            }
            #[cfg(feature = "object-store")]
            Self::Object(object) => object.with_columns(columns).map(Self::Object),
        }
    }

    /// What is behind an error of a reader: that of the bytes, when they could not be had, else `of_content`.
    pub fn fault(&self, of_content: Error) -> Error {
        match self {
            Self::File(_) => of_content,
            #[cfg(feature = "object-store")]
            Self::Object(object) => object.failure().unwrap_or(of_content),
        }
    }
}

impl LocalFile {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(&error))?;
        let len = file.metadata().map_err(|error| unreadable(&error))?.len();
        Ok(Self { file, len })
    }

    fn read_from(&self, start: u64) -> Result<File> {
        let mut file = self.file.try_clone().map_err(|error| unreadable(&error))?;
        file.seek(SeekFrom::Start(start)).map_err(|error| unreadable(&error))?;
        Ok(file)
    }
}

impl Read for InputReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            #[cfg(feature = "object-store")]
            Self::Object(object) => object.read(buffer),
        }
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        match self {
            Self::File(local) => local.len,
            #[cfg(feature = "object-store")]
            Self::Object(object) => object.len(),
        }
    }
}

impl ChunkReader for Input {
    type T = InputReader;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        match self {
            Self::File(local) => local.file.get_read(start).map(InputReader::File),
            #[cfg(feature = "object-store")]
            Self::Object(object) => Ok(InputReader::Object(object.read_from(start))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Self::File(local) => local.file.get_bytes(start, length),
            #[cfg(feature = "object-store")]
            Self::Object(object) => {
                let failed = |error| parquet::errors::ParquetError::External(Box::new(error));
                object.read_at(start, length).map_err(failed)
            }
        }
    }
}

/// A file that can't be read now; another time it may be.
pub(super) fn unreadable(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the file can't be read: {error}"))
}
