//! Background work gives way: the threads that seal, compact and feed run at a lower priority than those that answer.
//!
//! On Linux a thread inherits the priority of the one that made it, so the pools in which graphs are built follow the
//! thread that asked for them. Where the system doesn't let it be lowered, and on Windows, the priority stays as it is. It
//! must not know what the work is.

#[cfg(unix)]
use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};

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

#[cfg(test)]
mod tests;
