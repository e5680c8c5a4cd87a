//! Points that expire: hidden from the moment on, by whoever reads or writes next, and gone at the next compaction.
//!
//! What has expired is a matter of the rows and the clock, so the log need not know: a collection that is opened again
//! comes to the same. Records of documents go with the last of their points; before the rows that tell it are dropped by a
//! compaction, that is written to the log.
//!
//! **Invariant:** a row that was hidden stays hidden, also when the clock is set back while the collection is open.

use std::sync::Arc;

use crate::collection::Collection;
use crate::collection::commit::Pending;
use crate::collection::snapshot::Snapshot;
use crate::collection::state::State;
use crate::error::Result;

impl Collection {
    /// The newest snapshot without what has expired. Costs a look at the clock, and that only where points expire at all.
    pub(super) fn current(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot.load_full();
        if !snapshot.is_outlived(&self.options.clock) {
            return snapshot;
        }
        match self.state.try_lock() {
            Some(mut state) => {
                self.expire_if_due(&mut state);
                drop(state);
                self.snapshot.load_full()
            }
            // A writer is at it, and will do it for good; no reader waits for the disk.
            None => Arc::new(snapshot.expired(self.options.clock.now_ms())),
        }
    }

    /// Ends what has expired, for all that read and write from here on.
    pub(super) fn expire_if_due(&self, state: &mut State) {
        if !self.snapshot.load().is_outlived(&self.options.clock) {
            return;
        }
        let now = self.options.clock.now_ms();
        match state.tables.expire(&mut self.ledger.write(), now) {
            Ok(documents) => state.expired_documents.extend(documents),
            Err(error) => {
                tracing::error!(collection = self.name, %error, "documents of expired points could not be found");
            }
        }
        self.publish(state);
    }

    /// Writes to the log which documents have expired, before the rows that tell it go.
    pub(super) fn purge_expired(&self) -> Result<()> {
        let documents = {
            let mut state = self.state.lock();
            self.expire_if_due(&mut state);
            std::mem::take(&mut state.expired_documents)
        };
        if documents.is_empty() {
            return Ok(());
        }
        let written = self.commit(Pending::purge(documents.clone(), self.schema()));
        if written.is_err() {
            self.state.lock().expired_documents.extend(documents);
        }
        written.map(|_| ())
    }
}
