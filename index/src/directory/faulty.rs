//! A directory that fails on request, and a model of what a disk holds after a power cut.
//!
//! The model: what was synced is there. Bytes that were written and not synced are there, or not, or cut short, or
//! hold zeros in some sectors. A file that was being made is missing, or half there under its temporary name. A
//! replacement or rename that was under way happened or did not. A deletion may have come undone. After a sync that
//! failed, the bytes it was for are zeros: the system dropped the pages, and syncing again does not bring them back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    AppendFile, Directory, DirectoryLock, FileWriter, MemDirectory, Residency, UNFINISHED_SUFFIX, join,
};
use crate::error::{Error, Result};

/// Sectors of the model: unsynced bytes are lost in pieces of this size.
const SECTOR_BYTES: usize = 512;

/// What can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Bytes go to a file or log.
    Write,
    /// A file, log or folder is synced.
    Sync,
    /// A file gets its name: the last step of a new, replaced or renamed file.
    Rename,
    /// A file or folder is deleted.
    Delete,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens but the error.
    Error,
    /// Half of the bytes are written, then the error. The same as `Error` for other operations.
    ShortWrite,
    /// This operation happens in part and nothing after it: see [`FaultyDirectory::power_cut`].
    PowerCut,
}

/// Wraps a directory and counts its operations; see the module.
#[derive(Debug, Clone)]
pub struct FaultyDirectory<D> {
    inner: D,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    of_kind: BTreeMap<u8, u64>,
    faults: Vec<(Option<Operation>, u64, Fault)>,
    power_is_off: bool,
    disk: BTreeMap<String, OnDisk>,
    folders: BTreeSet<String>,
    under_way: Option<UnderWay>,
}

/// A file as the disk knows it.
#[derive(Debug, Clone, Default)]
struct OnDisk {
    synced: Vec<u8>,
    unsynced: Vec<u8>,
    deleted: bool,
}

/// A step that the power cut hit.
#[derive(Debug, Clone)]
enum UnderWay {
    Replace { path: String, data: Vec<u8> },
    Rename { from: String, to: String },
}

impl State {
    /// Counts an operation and says how it fails, if it does.
    fn step(&mut self, operation: Operation) -> Option<Fault> {
        if self.power_is_off {
            return Some(Fault::PowerCut);
        }
        self.operations += 1;
        let of_kind = self.of_kind.entry(operation as u8).or_default();
        *of_kind += 1;
        let (total, of_kind) = (self.operations, *of_kind);
        let due = |(kind, nth, _): &(Option<Operation>, u64, Fault)| match kind {
            Some(kind) => *kind == operation && *nth == of_kind,
            None => *nth == total,
        };
        let position = self.faults.iter().position(due)?;
        let (_, _, fault) = self.faults.swap_remove(position);
        if fault == Fault::PowerCut {
            self.power_is_off = true;
        }
        Some(fault)
    }

    fn check_power(&self, path: &str) -> Result<()> {
        if self.power_is_off { Err(injected(path)) } else { Ok(()) }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let moved = |path: &str| match path.strip_prefix(from) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Some(format!("{to}{rest}")),
            _ => None,
        };
        let disk = std::mem::take(&mut self.disk);
        let (stay, go): (Vec<_>, Vec<_>) = disk.into_iter().partition(|(path, _)| moved(path).is_none());
        self.disk = stay.into_iter().collect();
        self.disk.extend(go.into_iter().filter_map(|(path, file)| Some((moved(&path)?, file))));
        let folders = std::mem::take(&mut self.folders);
        self.folders = folders.into_iter().map(|path| moved(&path).unwrap_or(path)).collect();
    }
}

fn injected(path: &str) -> Error {
    Error::io(path, io::Error::other("injected fault"))
}

impl<D: Directory> FaultyDirectory<D> {
    /// Wraps a directory; what is in it counts as synced.
    pub fn new(inner: D) -> Result<Self> {
        let mut state = State::default();
        let mut open = vec![String::new()];
        while let Some(folder) = open.pop() {
            for name in inner.list(&folder)? {
                let path = join(&folder, &name);
                let synced = inner.read(&path)?.to_vec();
                state.disk.insert(path, OnDisk { synced, ..OnDisk::default() });
            }
            for name in inner.list_dirs(&folder)? {
                let path = join(&folder, &name);
                state.folders.insert(path.clone());
                open.push(path);
            }
        }
        Ok(Self { inner, state: Arc::new(Mutex::new(state)) })
    }

    /// Makes an operation fail: the `nth` (from 1, counted from the start) of its kind.
    pub fn fail(&self, operation: Operation, nth: u64, fault: Fault) {
        self.state.lock().faults.push((Some(operation), nth, fault));
    }

    /// Makes the `nth` operation of any kind fail (from 1, counted from the start).
    pub fn fail_any(&self, nth: u64, fault: Fault) {
        self.state.lock().faults.push((None, nth, fault));
    }

    /// Forgets the faults that are still to come.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// How many operations of any kind there were: a sweep over all points of failure ends here.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// How many operations of one kind there were.
    pub fn operations_of(&self, operation: Operation) -> u64 {
        self.state.lock().of_kind.get(&(operation as u8)).copied().unwrap_or(0)
    }

    /// Cuts the power now, or uses the cut that an injected [`Fault::PowerCut`] made, and returns what the disk holds
    /// then. `seed` chooses what became of unsynced data. Every later operation on `self` fails.
    pub fn power_cut(&self, seed: u64) -> Result<MemDirectory> {
        let mut state = self.state.lock();
        state.power_is_off = true;
        let mut dice = Dice(seed);
        match state.under_way.take() {
            Some(UnderWay::Replace { path, data }) if dice.coin() => {
                state.disk.insert(path, OnDisk { synced: data, ..OnDisk::default() });
            }
            Some(UnderWay::Replace { path, data }) => {
                let half = OnDisk { unsynced: data, ..OnDisk::default() };
                state.disk.insert(format!("{path}{UNFINISHED_SUFFIX}"), half);
            }
            Some(UnderWay::Rename { from, to }) if dice.coin() => state.rename(&from, &to),
            _ => {}
        }
        let after = MemDirectory::new();
        for folder in &state.folders {
            after.create_dir(folder)?;
        }
        for (path, file) in &state.disk {
            if file.deleted && dice.coin() {
                continue;
            }
            let mut data = file.synced.clone();
            data.extend(dice.survivors(&file.unsynced));
            after.plant(path, &data)?;
        }
        Ok(after)
    }

    fn step(&self, operation: Operation, path: &str) -> Result<()> {
        match self.state.lock().step(operation) {
            Some(_) => Err(injected(path)),
            None => Ok(()),
        }
    }

    /// The steps from written bytes to a finished file.
    fn put(&self, path: &str, data: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        for operation in [Operation::Sync, Operation::Rename] {
            if let Some(fault) = state.step(operation) {
                if fault == Fault::PowerCut {
                    state.under_way.get_or_insert(UnderWay::Replace { path: path.into(), data: data.into() });
                }
                return Err(injected(path));
            }
        }
        self.inner.write_atomic(path, data)?;
        state.disk.insert(path.into(), OnDisk { synced: data.into(), ..OnDisk::default() });
        Ok(())
    }
}

impl<D: Directory + Clone + 'static> Directory for FaultyDirectory<D> {
    fn read(&self, path: &str) -> Result<Bytes> {
        self.state.lock().check_power(path)?;
        self.inner.read(path)
    }

    fn map(&self, path: &str) -> Result<(Bytes, Residency)> {
        self.state.lock().check_power(path)?;
        self.inner.map(path)
    }

    fn stream(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        self.state.lock().check_power(path)?;
        self.inner.stream(path)
    }

    fn write_atomic(&self, path: &str, data: &[u8]) -> Result<()> {
        self.step(Operation::Write, path)?;
        self.put(path, data)
    }

    fn create(&self, path: &str) -> Result<Box<dyn FileWriter>> {
        self.state.lock().check_power(path)?;
        // Asks the inner directory whether the file may be made; the bytes go to it when they are complete.
        drop(self.inner.create(path)?);
        Ok(Box::new(FaultyWriter { directory: self.clone(), path: path.to_owned(), data: Vec::new() }))
    }

    fn append(&self, path: &str) -> Result<Box<dyn AppendFile>> {
        let mut state = self.state.lock();
        state.check_power(path)?;
        let inner = self.inner.append(path)?;
        let file = state.disk.entry(path.to_owned()).or_default();
        if file.deleted {
            *file = OnDisk::default();
        }
        Ok(Box::new(FaultyAppendFile { inner, path: path.to_owned(), state: Arc::clone(&self.state) }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(fault) = state.step(Operation::Rename) {
            if fault == Fault::PowerCut {
                state.under_way.get_or_insert(UnderWay::Rename { from: from.into(), to: to.into() });
            }
            return Err(injected(from));
        }
        self.inner.rename(from, to)?;
        state.rename(from, to);
        Ok(())
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.step(Operation::Delete, path)?;
        self.inner.delete(path)?;
        if let Some(file) = self.state.lock().disk.get_mut(path) {
            file.deleted = true;
        }
        Ok(())
    }

    fn exists(&self, path: &str) -> Result<bool> {
        self.state.lock().check_power(path)?;
        self.inner.exists(path)
    }

    fn len(&self, path: &str) -> Result<u64> {
        self.state.lock().check_power(path)?;
        self.inner.len(path)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.state.lock().check_power(folder)?;
        self.inner.list(folder)
    }

    fn list_dirs(&self, folder: &str) -> Result<Vec<String>> {
        self.state.lock().check_power(folder)?;
        self.inner.list_dirs(folder)
    }

    fn create_dir(&self, path: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.check_power(path)?;
        self.inner.create_dir(path)?;
        state.folders.insert(path.to_owned());
        Ok(())
    }

    fn delete_dir(&self, path: &str) -> Result<()> {
        self.step(Operation::Delete, path)?;
        self.inner.delete_dir(path)?;
        let mut state = self.state.lock();
        let below = format!("{path}/");
        for (file, on_disk) in &mut state.disk {
            on_disk.deleted |= file.starts_with(&below);
        }
        Ok(())
    }

    fn lock(&self) -> Result<DirectoryLock> {
        self.inner.lock()
    }

    fn full_path(&self, path: &str) -> PathBuf {
        self.inner.full_path(path)
    }
}

#[derive(Debug)]
struct FaultyWriter<D> {
    directory: FaultyDirectory<D>,
    path: String,
    data: Vec<u8>,
}

impl<D: Directory> Write for FaultyWriter<D> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.directory.state.lock().step(Operation::Write).is_some() {
            return Err(io::Error::other("injected fault"));
        }
        self.data.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D: Directory> FileWriter for FaultyWriter<D> {
    fn finish(self: Box<Self>) -> Result<u64> {
        self.directory.put(&self.path, &self.data)?;
        Ok(self.data.len() as u64)
    }
}

impl<D> Drop for FaultyWriter<D> {
    fn drop(&mut self) {
        let mut state = self.directory.state.lock();
        // When the power is off nothing tidies up: half a file may stay under the temporary name.
        if state.power_is_off && state.under_way.is_none() {
            let half = OnDisk { unsynced: std::mem::take(&mut self.data), ..OnDisk::default() };
            state.disk.insert(format!("{}{UNFINISHED_SUFFIX}", self.path), half);
        }
    }
}

#[derive(Debug)]
struct FaultyAppendFile {
    inner: Box<dyn AppendFile>,
    path: String,
    state: Arc<Mutex<State>>,
}

impl AppendFile for FaultyAppendFile {
    fn write_all(&mut self, data: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        let was_off = state.power_is_off;
        let fault = state.step(Operation::Write);
        let written = match fault {
            None => data,
            Some(Fault::ShortWrite | Fault::PowerCut) if !was_off => {
                data.get(..data.len() / 2).unwrap_or_default()
            }
            Some(_) => &[],
        };
        self.inner.write_all(written)?;
        state.disk.entry(self.path.clone()).or_default().unsynced.extend_from_slice(written);
        if fault.is_some() { Err(injected(&self.path)) } else { Ok(()) }
    }

    fn sync_data(&mut self) -> Result<()> {
        let mut state = self.state.lock();
        let fault = state.step(Operation::Sync);
        let file = state.disk.entry(self.path.clone()).or_default();
        match fault {
            None => {
                self.inner.sync_data()?;
                let unsynced = std::mem::take(&mut file.unsynced);
                file.synced.extend(unsynced);
                Ok(())
            }
            // Whether it reached the disk before the power went is the dice's choice.
            Some(Fault::PowerCut) => Err(injected(&self.path)),
            Some(_) => {
                file.unsynced.fill(0);
                Err(injected(&self.path))
            }
        }
    }

    fn len(&self) -> Result<u64> {
        self.state.lock().check_power(&self.path)?;
        self.inner.len()
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        let mut state = self.state.lock();
        if state.step(Operation::Sync).is_some() {
            return Err(injected(&self.path));
        }
        self.inner.truncate(len)?;
        let file = state.disk.entry(self.path.clone()).or_default();
        let unsynced = std::mem::take(&mut file.unsynced);
        file.synced.extend(unsynced);
        file.synced.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): enough chance for a model, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.roll(2) == 0
    }

    /// What is left of bytes that were not synced.
    fn survivors(&mut self, unsynced: &[u8]) -> Vec<u8> {
        let mut left = unsynced.to_vec();
        match self.roll(4) {
            0 => left.clear(),
            1 => {}
            2 => left.truncate(self.roll(left.len() + 1)),
            _ => {
                // Pages reach the disk in any order: some are there, others were only allocated.
                let sector = 1 + self.roll(SECTOR_BYTES);
                for part in left.chunks_mut(sector) {
                    if self.coin() {
                        part.fill(0);
                    }
                }
            }
        }
        left
    }
}
