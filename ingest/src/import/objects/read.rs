//! The bytes of an object, by ranges. What is read in one go comes through windows: as much ahead as the memory for it
//! allows, one window for each column, so that columns that are read side by side don't fetch the same bytes again.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use object_store::{GetOptions, GetRange, ObjectStore as _, coalesce_ranges};
use parking_lot::Mutex;

use super::Object;
use crate::error::{Error, Result};

/// Fetched with whatever is read near the end: most footers fit.
const TAIL_BYTES: u64 = 64 << 10;
/// Read ahead when a file is read from front to back, and most that is read ahead of a column.
const WINDOW_BYTES: u64 = 8 << 20;
/// Least that is read ahead of a column.
const MIN_WINDOW_BYTES: u64 = 4 << 10;
/// Memory for the windows of all columns, as long as each has its least; as much again for what lies between them.
const WINDOWS_BYTES: u64 = 64 << 20;
/// Ranges as near as this are fetched as one, unless the windows are smaller.
const GAP_BYTES: u64 = 64 << 10;
/// Most bytes that a file may ask for at once.
const MAX_REQUEST_BYTES: u64 = 2 << 30;

/// An object that is open.
#[derive(Debug, Clone)]
pub(in crate::import) struct ObjectInput {
    object: Arc<Object>,
    windows: Arc<Mutex<Windows>>,
    /// What the store said last, as the decoders in between keep no more than its text.
    failure: Arc<Mutex<Option<Error>>>,
}

#[derive(Debug)]
struct Windows {
    /// Columns in order of their places; a place in none of them has the last window.
    columns: Vec<Range<u64>>,
    held: Vec<Window>,
    /// Read ahead of a column.
    ahead: u64,
}

/// Bytes from a place on.
#[derive(Debug, Clone, Default)]
struct Window {
    start: u64,
    bytes: Bytes,
}

impl ObjectInput {
    /// Of the object nothing is read yet.
    pub fn new(object: Arc<Object>) -> Self {
        let windows = Windows { columns: Vec::new(), held: vec![Window::default()], ahead: 0 };
        Self { object, windows: Arc::new(Mutex::new(windows)), failure: Arc::default() }
    }

    /// Bytes of the object.
    pub fn len(&self) -> u64 {
        self.object.meta.size
    }

    /// What the store said last.
    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }

    /// The same object for reading these columns side by side, with the beginning of each already there.
    pub fn with_columns(&self, columns: impl IntoIterator<Item = Range<u64>>) -> Result<Self> {
        let mut columns: Vec<_> = columns
            .into_iter()
            .map(|column| column.start.min(self.len())..column.end.min(self.len()))
            .filter(|column| column.start < column.end)
            .collect();
        columns.sort_by_key(|column| column.start);
        let share = WINDOWS_BYTES / (columns.len() as u64).max(1);
        let ahead = share.clamp(MIN_WINDOW_BYTES, WINDOW_BYTES);
        let first = |column: &Range<u64>| column.start..column.end.min(column.start.saturating_add(ahead));
        let firsts: Vec<_> = columns.iter().map(first).collect();
        let fetched = self.fetch_all(&firsts, ahead.min(GAP_BYTES))?;
        let mut held: Vec<_> =
            firsts.iter().zip(fetched).map(|(range, bytes)| Window { start: range.start, bytes }).collect();
        held.push(Window::default());
        let windows = Arc::new(Mutex::new(Windows { columns, held, ahead }));
        Ok(Self { object: Arc::clone(&self.object), windows, failure: Arc::clone(&self.failure) })
    }

    /// Some of its bytes.
    pub fn read_at(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.ahead_of(start, length as u64, 0)?;
        Ok(bytes.slice(..length))
    }

    /// Its bytes from a place on, to be read one after the other.
    pub fn read_from(&self, start: u64) -> ObjectReader {
        ObjectReader { input: self.clone(), at: start, held: Bytes::new() }
    }

    /// At least `length` bytes from `start` on, and those behind them that are there. Where there are not enough,
    /// `ahead` and what a column has ahead are fetched too.
    fn ahead_of(&self, start: u64, length: u64, ahead: u64) -> Result<Bytes> {
        let end = start.checked_add(length).filter(|end| *end <= self.len());
        let end = end.ok_or_else(|| Error::bad_content("the file is shorter than it says"))?;
        if length > MAX_REQUEST_BYTES {
            let message = format!("the file asks for {length} bytes at once, at most {MAX_REQUEST_BYTES}");
            return Err(Error::bad_content(message));
        }
        let mut windows = self.windows.lock();
        let column = windows.column_of(start, end);
        let (slot, range) = match column.and_then(|at| Some((at, windows.columns.get(at)?))) {
            Some((at, column)) => {
                let ahead = start.saturating_add(windows.ahead);
                (at, start..end.max(ahead.min(column.end)))
            }
            None => {
                // Near the end, all of the end: what is read next lies before it.
                let tail = self.len().saturating_sub(TAIL_BYTES);
                let ahead =
                    if start >= tail { self.len() } else { start.saturating_add(ahead).min(self.len()) };
                (windows.columns.len(), start.min(tail)..end.max(ahead))
            }
        };
        let held = windows.held.get_mut(slot).ok_or_else(|| Error::bad_content("no window"))?;
        if let Some(bytes) = held.from(start, length) {
            return Ok(bytes);
        }
        *held = Window::default();
        let bytes = self.fetch(range.clone())?;
        *held = Window { start: range.start, bytes };
        held.from(start, length).ok_or_else(|| {
            Error::bad_content(format!("{} gave fewer bytes than asked for", self.object.name()))
        })
    }

    fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        Ok(self.fetch_all(&[range], 0)?.pop().unwrap_or_default())
    }

    /// Several ranges at once; those with no more than `gap` bytes between them by one request.
    fn fetch_all(&self, ranges: &[Range<u64>], gap: u64) -> Result<Vec<Bytes>> {
        let object = &*self.object;
        let fetched = object.store.wait(coalesce_ranges(ranges, |range| object.get(range), gap));
        if let Err(error) = &fetched {
            *self.failure.lock() = Some(error.clone());
        }
        fetched
    }
}

impl Object {
    fn name(&self) -> String {
        self.store.url(self.meta.location.as_ref())
    }

    /// The bytes of a range, if the object is still the one that was planned.
    async fn get(&self, range: Range<u64>) -> Result<Bytes> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.meta.e_tag.clone(),
            version: self.meta.version.clone(),
            ..GetOptions::default()
        };
        let key = &self.meta.location;
        let found = async {
            let found = self.store.inner.get_opts(key, options).await?;
            // Not every store heeds the condition.
            let tags = found.meta.e_tag.as_ref().zip(self.meta.e_tag.as_ref());
            if let Some((now, planned)) = tags.filter(|(now, planned)| now != planned) {
                let source = format!("its ETag is {now}, it was {planned}").into();
                return Err(object_store::Error::Precondition { path: key.to_string(), source });
            }
            found.bytes().await
        };
        found.await.map_err(|error| self.store.error(key.as_ref(), &error))
    }
}

impl Windows {
    /// The column that has these bytes.
    fn column_of(&self, start: u64, end: u64) -> Option<usize> {
        let behind = self.columns.partition_point(|column| column.start <= start);
        let at = behind.checked_sub(1)?;
        self.columns.get(at).filter(|column| end <= column.end && start < column.end).map(|_| at)
    }
}

impl Window {
    /// What it has from `start` on, if that are at least `length` bytes.
    fn from(&self, start: u64, length: u64) -> Option<Bytes> {
        let skipped = usize::try_from(start.checked_sub(self.start)?).ok()?;
        let rest = self.bytes.len().checked_sub(skipped)?;
        (rest as u64 >= length && rest > 0).then(|| self.bytes.slice(skipped..))
    }
}

/// Reads an object from front to back.
#[derive(Debug)]
pub(in crate::import) struct ObjectReader {
    input: ObjectInput,
    at: u64,
    held: Bytes,
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.held.is_empty() {
            if self.at >= self.input.len() || buffer.is_empty() {
                return Ok(0);
            }
            self.held = self.input.ahead_of(self.at, 1, WINDOW_BYTES).map_err(std::io::Error::other)?;
            self.at += self.held.len() as u64;
        }
        let length = buffer.len().min(self.held.len());
        if let Some(part) = buffer.get_mut(..length) {
            self.held.copy_to_slice(part);
        }
        Ok(length)
    }
}
