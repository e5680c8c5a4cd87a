//! What all readers of one document share: limits, the time left, and how much has been unpacked so far, over all
//! members of archives and attachments of mails, however deep they lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::limits::{Deadline, ExtractLimits, exhausted};
use crate::error::Result;

/// Containers in each other that are opened: an archive in an archive in an archive, or a mail with such.
const MAX_DEPTH: u32 = 3;
/// Most members of archives and attachments of mails, all containers together.
const MAX_MEMBERS: usize = 10_000;
/// Unpacked bytes of a member that are never a bomb, whatever the ratio.
const SMALL_MEMBER: u64 = 16 << 20;
/// Deflate reaches 1032 at most; XML of real documents reaches 100.
const MAX_RATIO: u64 = 400;

/// Limits of one extraction, and what is used up of them.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub limits: ExtractLimits,
    pub deadline: Deadline,
    /// Containers around the document that is read now.
    depth: u32,
    used: Arc<Used>,
}

#[derive(Debug, Default)]
struct Used {
    unpacked: AtomicU64,
    members: AtomicUsize,
    bomb: AtomicBool,
}

impl Scope {
    pub(super) fn new(limits: &ExtractLimits) -> Self {
        Self {
            limits: limits.clone(),
            deadline: Deadline::after(limits.timeout),
            depth: 0,
            used: Arc::default(),
        }
    }

    /// The scope of what lies within a container. `None`: containers are nested too deep, it is not opened.
    pub(super) fn within(&self) -> Option<Self> {
        (self.depth < MAX_DEPTH).then(|| Self { depth: self.depth + 1, ..self.clone() })
    }

    /// Counts a member.
    pub(super) fn member(&self) -> Result<()> {
        self.deadline.check()?;
        if self.used.members.fetch_add(1, Ordering::Relaxed) >= MAX_MEMBERS {
            return Err(exhausted(format!("more than {MAX_MEMBERS} members")));
        }
        Ok(())
    }

    /// Counts unpacked bytes: `part` of a member that has given `size` by now and takes `packed` bytes in its container.
    pub(super) fn unpacked(&self, part: usize, size: u64, packed: u64, name: &str) -> Result<()> {
        self.deadline.check()?;
        let total = self.used.unpacked.fetch_add(part as u64, Ordering::Relaxed) + part as u64;
        if total > self.limits.max_unpacked_bytes || (size > SMALL_MEMBER && size / packed.max(1) > MAX_RATIO)
        {
            self.used.bomb.store(true, Ordering::Relaxed);
            return Err(exhausted(format!(
                "unpacking it gives far more data than a document has (at {name:?})"
            )));
        }
        Ok(())
    }

    /// Whether a limit of the whole document has been reached, so that going on with other members is of no use.
    pub(super) fn is_used_up(&self) -> bool {
        self.deadline.check().is_err()
            || self.used.members.load(Ordering::Relaxed) > MAX_MEMBERS
            || self.used.bomb.load(Ordering::Relaxed)
    }
}
