//! Waiting until a write is visible: `min_seq_no`.

use std::time::{Duration, Instant};

use ragstone_index::collection::Collection;

use super::error::Result;

/// Longest wait for a write, whatever the caller's time.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// The answer needs this much of the caller's time after the wait.
const MARGIN: Duration = Duration::from_millis(5);

/// How long a caller can wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    deadline: Option<Instant>,
}

impl Patience {
    /// Until a deadline; `None`: for as long as the server allows.
    pub fn until(deadline: Option<Instant>) -> Self {
        Self { deadline }
    }

    /// Returns when the write is visible, or with `NotVisible` when the time is over. A write that was acknowledged is
    /// visible already; a wait is for those that know a number before its ack, as a second client may.
    pub async fn until_visible(self, collection: &Collection, min_seq_no: Option<u64>) -> Result<()> {
        let Some(wanted) = min_seq_no else {
            return Ok(());
        };
        let latest = Instant::now() + MAX_WAIT;
        let end =
            self.deadline.and_then(|deadline| deadline.checked_sub(MARGIN)).map_or(latest, |d| d.min(latest));
        let mut pause = Duration::from_millis(1);
        loop {
            let visible = collection.seq_no();
            if visible >= wanted {
                return Ok(());
            }
            let now = Instant::now();
            if now >= end {
                return Err(ragstone_index::Error::NotVisible { wanted, visible }.into());
            }
            tokio::time::sleep(pause.min(end - now)).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}
