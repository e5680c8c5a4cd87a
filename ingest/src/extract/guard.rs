//! Runs parsers that we didn't write where they can do least harm: on a thread of their own with a deep stack, a time
//! limit, and their panics caught.
//!
//! What it can't do: stop a thread that never returns (it is left behind, counted, and only a few may be), or bound
//! the memory of a parser; the checks of sizes before a parser sees the data are there for that.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::limits::{Deadline, timed_out};
use crate::error::{Error, ErrorKind, Result};

/// Address space, not memory: pages of it are only used by a document that nests that deep.
const STACK_BYTES: usize = 256 << 20;
/// Parsers past their time that may still be running before new documents are refused.
const MAX_LEFT_BEHIND: usize = 8;

static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

/// Runs `work` on a thread of its own for at most `timeout`.
pub(super) fn run<T, F>(what: &'static str, timeout: Duration, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(Deadline) -> Result<T> + Send + 'static,
{
    let stuck = LEFT_BEHIND.load(Ordering::Acquire);
    if stuck >= MAX_LEFT_BEHIND {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("{stuck} earlier documents are still being read past their time limit; restart to free them"),
        ));
    }
    let deadline = Deadline::after(timeout);
    let (sender, receiver) = sync_channel(1);
    // Set by whoever comes second: the caller that gives up, or the worker that ends.
    let parted = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&parted);
    std::thread::Builder::new()
        .name(format!("extract {what}"))
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // The receiver may have gone: then nobody wants the result.
            let _ = sender.send(caught(what, || work(deadline)));
            if theirs.swap(true, Ordering::AcqRel) {
                LEFT_BEHIND.fetch_sub(1, Ordering::AcqRel);
            }
        })
        .map_err(|error| Error::new(ErrorKind::Unavailable, format!("no thread for reading a document: {error}")))?;
    match receiver.recv_timeout(timeout.saturating_add(GRACE)) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => Err(defect(what, "ended without a result")),
        Err(RecvTimeoutError::Timeout) => {
            LEFT_BEHIND.fetch_add(1, Ordering::AcqRel);
            if parted.swap(true, Ordering::AcqRel) {
                LEFT_BEHIND.fetch_sub(1, Ordering::AcqRel);
            }
            tracing::warn!(what, "a parser is past its time limit and was left behind");
            Err(timed_out(timeout))
        }
    }
}

/// Time for a worker to notice its deadline between two pages, before it is given up.
const GRACE: Duration = Duration::from_millis(500);

/// Runs `work`, making an error of a panic.
pub(super) fn caught<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(defect(what, &message(payload.as_ref()))))
}

fn defect(what: &str, message: &str) -> Error {
    tracing::warn!(what, message, "a parser failed on a document");
    Error::bad_content(format!("broken {what}: the parser gave up ({message})"))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_panic_becomes_bad_content() {
        let error = run::<(), _>("thing", Duration::from_secs(60), |_| panic!("index {} out of range", 7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadContent);
        assert!(error.message().contains("index 7 out of range"), "{error}");
    }

    #[test]
    fn a_stuck_parser_is_left_and_forgotten_when_it_ends() {
        let (release, wait) = channel::<()>();
        let (ended, end) = channel::<()>();
        let error = run("thing", Duration::from_millis(5), move |_| {
            let _ = wait.recv();
            drop(ended);
            Ok(())
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(LEFT_BEHIND.load(Ordering::Acquire) >= 1);
        drop(release);
        let _ = end.recv();
        while LEFT_BEHIND.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn deep_recursion_fits_the_stack() {
        fn depth(n: u32) -> u64 {
            let frame = std::hint::black_box([n; 64]);
            if n == 0 { 0 } else { depth(n - 1) + u64::from(frame[0] != u32::MAX) }
        }
        assert_eq!(run("thing", Duration::from_secs(60), |_| Ok(depth(200_000))).unwrap(), 200_000);
    }
}
