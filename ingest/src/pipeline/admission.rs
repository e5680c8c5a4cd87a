//! Who may work now: bytes in flight, and one ingestion at a time for each document.
//!
//! **Invariant:** bytes are taken before a document's turn, never the other way round, so that nobody waits in a
//! circle.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorKind, Result};

/// Bytes are counted in pieces of this size, so that a permit count fits 32 bits.
const PIECE_BYTES: usize = 4_096;

/// The right to hold a document's bytes in memory. Given back on drop.
#[derive(Debug)]
pub struct Admission {
    _permit: OwnedSemaphorePermit,
}

/// A bound on the bytes of all documents in flight.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    pieces: Arc<Semaphore>,
    capacity: u32,
}

impl ByteBudget {
    pub fn new(bytes: usize) -> Self {
        let capacity = u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        Self { pieces: Arc::new(Semaphore::new(capacity as usize)), capacity }
    }

    /// Bytes that nobody holds now.
    pub fn free(&self) -> usize {
        self.pieces.available_permits().saturating_mul(PIECE_BYTES)
    }

    /// Waits, first come first served, until `bytes` may be held. More than the whole budget waits to be alone.
    pub async fn admit(&self, bytes: usize) -> Result<Admission> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX).clamp(1, self.capacity);
        let permit = Arc::clone(&self.pieces).acquire_many_owned(pieces).await;
        permit
            .map(|permit| Admission { _permit: permit })
            .map_err(|_| Error::new(ErrorKind::Cancelled, "the pipeline is closed"))
    }
}

type TurnKey = (String, String);

/// One ingestion at a time for each (collection, document), in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    locks: Arc<Mutex<HashMap<TurnKey, Arc<AsyncMutex<()>>>>>,
}

/// A document's turn. The next one waits for its drop.
pub(crate) struct Turn {
    locks: Arc<Mutex<HashMap<TurnKey, Arc<AsyncMutex<()>>>>>,
    key: TurnKey,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Whether a document is being worked on.
    pub fn is_taken(&self, collection: &str, id: &str) -> bool {
        self.locks.lock().contains_key(&(collection.to_owned(), id.to_owned()))
    }

    /// Waits for the document's turn.
    pub async fn take(&self, collection: &str, id: &str) -> Turn {
        let key = (collection.to_owned(), id.to_owned());
        let lock = Arc::clone(self.locks.lock().entry(key.clone()).or_default());
        // Made before the wait, so that a caller that goes away while waiting cleans up too.
        let mut turn = Turn { locks: Arc::clone(&self.locks), key, guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut locks = self.locks.lock();
        self.guard = None;
        // Whoever waits holds a clone; new ones can't join while the map is locked.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn bytes_over_the_budget_wait_and_an_oversized_document_waits_to_be_alone() {
        let budget = ByteBudget::new(10 * PIECE_BYTES);
        let first = budget.admit(6 * PIECE_BYTES).await.unwrap();
        assert!(budget.admit(5 * PIECE_BYTES).now_or_never().is_none());
        let second = budget.admit(4 * PIECE_BYTES).now_or_never().unwrap().unwrap();
        assert!(budget.admit(usize::MAX).now_or_never().is_none());
        drop((first, second));
        let all = budget.admit(usize::MAX).now_or_never().unwrap().unwrap();
        assert!(budget.admit(0).now_or_never().is_none());
        drop(all);
        assert!(budget.admit(0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_document_has_one_turn_at_a_time_and_leaves_nothing_behind() {
        let turns = Arc::new(Turns::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|i| {
                let (turns, inside) = (Arc::clone(&turns), Arc::clone(&inside));
                tokio::spawn(async move {
                    let _turn = turns.take("c", if i % 2 == 0 { "even" } else { "odd" }).await;
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let held = turns.take("c", "even").await;
        assert!(turns.take("c", "even").now_or_never().is_none());
        assert!(turns.take("d", "even").now_or_never().is_some());
        drop(held);
        assert!(turns.locks.lock().is_empty());
    }
}
