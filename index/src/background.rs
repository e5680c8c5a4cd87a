//! Background work gives way: the threads that seal, compact and feed run at a lower priority than those that answer, and
//! let go of the core every so often.
//!
//! On Linux a thread inherits the priority of the one that made it, so the pools in which graphs are built follow the
//! thread that asked for them. Where the system doesn't let it be lowered, and on Windows, the priority stays as it is. It
//! must not know what the work is.

#[cfg(unix)]
use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};

/// Rows from which on a write is a large one.
const LARGE_WRITE_ROWS: usize = 64;

/// How much a background thread gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Writers may come to wait for it: beside busy threads it still gets a tenth of a core.
    Soon,
    /// Nobody waits for it.
    Whenever,
}

impl Urgency {
    /// Of 0 (the lowest, "nice 19") to 99.
    #[cfg(unix)]
    fn priority(self) -> u8 {
        match self {
            // "nice 10": a tenth of the weight of a thread that answers.
            Self::Soon => 22,
            Self::Whenever => 0,
        }
    }
}

/// Lowers the priority of this thread, for good: raising it again would need a privilege.
pub(crate) fn step_back(urgency: Urgency) {
    #[cfg(unix)]
    lower(urgency);
    #[cfg(not(unix))]
    tracing::debug!(?urgency, "a background thread keeps its priority");
}

#[cfg(unix)]
fn lower(urgency: Urgency) {
    let lowered = ThreadPriorityValue::try_from(urgency.priority())
        .map_err(|error| error.to_owned())
        .and_then(|value| {
            set_current_thread_priority(ThreadPriority::Crossplatform(value))
                .map_err(|error| error.to_string())
        });
    if let Err(error) = lowered {
        tracing::debug!(?urgency, error, "a background thread keeps its priority");
    }
}

/// Lets whoever waits for this core run now. Of two threads that are due the system lets one run until its next tick, 4 ms
/// on many, whatever their priorities: a search that is woken meanwhile, here or in a client, would wait that long.
///
/// For loops of background work, about every tenth of a millisecond: with nobody waiting it costs half a microsecond.
pub(crate) fn give_way() {
    std::thread::yield_now();
}

/// [`give_way`] between the steps of a write of so many rows, which take milliseconds; of few rows it is over in a moment.
pub(crate) fn give_way_within(rows: usize) {
    if rows >= LARGE_WRITE_ROWS {
        give_way();
    }
}

#[cfg(test)]
mod tests;
