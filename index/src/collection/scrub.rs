//! Scrubbing: in the background, every file of a collection that was opened is read once and compared with its checksum.
//!
//! Damage of a derived file is repaired by writing the segment anew; damage of rows or vectors is reported, and such a
//! segment is never copied: its copy would carry a checksum that says it is whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::schema::CollectionSchema;
use crate::segment::{Findings, verify_segment};

/// Bytes that scrubbing reads in a second, so that searches keep the disk.
const BYTES_PER_S: f64 = (128 << 20) as f64;
/// Longest sleep between two looks at whether the collection is closed.
const NAP: Duration = Duration::from_millis(50);

/// What is known of the content of segments.
#[derive(Debug, Default)]
pub(crate) struct Health {
    segments: Mutex<HashMap<u64, Condition>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// Written by this process, or read and found as written.
    Whole,
    /// Rows and vectors are as written, something derived from them is not.
    Derivable,
    /// Rows or vectors are not as written.
    Damaged(String),
}

impl Health {
    /// A segment that was just written, or checked while it was opened.
    pub(crate) fn is_whole(&self, segment: u64) {
        self.segments.lock().insert(segment, Condition::Whole);
    }

    fn note(&self, segment: u64, findings: &Findings) {
        let condition = match findings.truth.first() {
            Some(error) => Condition::Damaged(error.to_string()),
            None if !findings.derived.is_empty() => Condition::Derivable,
            None => Condition::Whole,
        };
        self.segments.lock().insert(segment, condition);
    }

    fn known(&self, segment: u64) -> Option<Condition> {
        self.segments.lock().get(&segment).cloned()
    }

    /// Whether every file of a segment is known to be as written, those that are derived included.
    pub(crate) fn is_known_whole(&self, segment: u64) -> bool {
        self.known(segment) == Some(Condition::Whole)
    }

    /// Forgets a segment that is gone.
    pub(crate) fn forget(&self, segment: u64) {
        self.segments.lock().remove(&segment);
    }

    /// Whether rows or vectors of a segment are known not to be as written.
    pub(crate) fn is_damaged(&self, segment: u64) -> bool {
        matches!(self.known(segment), Some(Condition::Damaged(_)))
    }
}

impl Collection {
    /// Checks every segment that was not checked yet; called by the scrubbing thread.
    pub(crate) fn scrub(&self) {
        let snapshot = self.snapshot.load_full();
        let ids: Vec<u64> =
            snapshot.parts.iter().filter_map(|view| view.segment().map(|segment| segment.id)).collect();
        let schema = Arc::clone(&snapshot.schema);
        drop(snapshot);
        for id in ids {
            if self.health.known(id).is_some() {
                continue;
            }
            let findings = match self.verify_slowly(id, &schema) {
                Ok(findings) => findings,
                Err(_) if self.closed.load(Ordering::Acquire) => return,
                // Compacted away meanwhile.
                Err(_) if !self.has_segment(id) => continue,
                Err(error) => {
                    tracing::warn!(collection = self.name, segment = id, %error, "a segment could not be checked");
                    continue;
                }
            };
            if !self.has_segment(id) {
                continue;
            }
            self.health.note(id, &findings);
            for error in &findings.truth {
                tracing::error!(collection = self.name, segment = id, %error, "rows or vectors are damaged: restore them from a backup");
            }
            for error in &findings.derived {
                tracing::warn!(collection = self.name, segment = id, %error, "a derived file is damaged: it is built again from the rows");
            }
            if findings.truth.is_empty() && !findings.derived.is_empty() {
                self.write_anew(id);
            }
        }
    }

    fn write_anew(&self, id: u64) {
        let _no_other = self.merge_alone();
        if !self.has_segment(id) {
            return;
        }
        if let Err(error) = self.merge(&[id])
            && !self.closed.load(Ordering::Acquire)
        {
            tracing::error!(collection = self.name, segment = id, %error, "a damaged segment could not be written anew");
        }
    }

    fn has_segment(&self, id: u64) -> bool {
        let snapshot = self.snapshot.load();
        snapshot.parts.iter().any(|view| view.segment().is_some_and(|segment| segment.id == id))
    }

    fn verify_slowly(&self, id: u64, schema: &CollectionSchema) -> Result<Findings> {
        let started = Instant::now();
        let mut read = 0usize;
        let mut each_piece = |bytes: usize| {
            read += bytes;
            let due = Duration::from_secs_f64(read as f64 / BYTES_PER_S);
            loop {
                if self.closed.load(Ordering::Acquire) {
                    return Err(Error::FailedPrecondition("the collection is closed".into()));
                }
                match due.checked_sub(started.elapsed()) {
                    Some(ahead) if !ahead.is_zero() => std::thread::sleep(ahead.min(NAP)),
                    _ => return Ok(()),
                }
            }
        };
        verify_segment(&*self.directory, id, schema, &mut each_piece)
    }

    /// Checks segments that are about to be copied, unless what they are is known. Damage of what is derived from rows and
    /// vectors is no error: they are copied, and the rest is made anew.
    pub(super) fn check_before_copy(&self, ids: &[u64], schema: &CollectionSchema) -> Result<()> {
        for id in ids {
            match self.health.known(*id) {
                Some(Condition::Whole | Condition::Derivable) => continue,
                Some(Condition::Damaged(message)) => {
                    return Err(Error::corrupt(crate::segment::segment_dir(*id), 0, message));
                }
                None => {}
            }
            let mut go_on = |_bytes: usize| match self.closed.load(Ordering::Acquire) {
                true => Err(Error::FailedPrecondition("the collection is closed".into())),
                false => Ok(()),
            };
            let mut findings = verify_segment(&*self.directory, *id, schema, &mut go_on)?;
            if !findings.truth.is_empty() {
                self.health.note(*id, &findings);
                return Err(findings.truth.swap_remove(0));
            }
            // Otherwise left to be found again, should what is about to replace it fail.
            if findings.derived.is_empty() {
                self.health.is_whole(*id);
            }
        }
        Ok(())
    }
}
