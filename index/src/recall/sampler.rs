//! Which searches are compared with the truth, and the thread that does it.
//!
//! The thread works a small share of the time and rests for the remainder; how long a comparison takes on the clock is
//! what counts, so that reading vectors from a disk is bounded with it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::background::{Urgency, step_back};

/// Samples that may wait. Each holds its snapshot, so more would keep old data alive for longer.
const QUEUE: usize = 4;
/// Share of the time that comparisons may take: a twentieth of one core.
const BUSY_SHARE: f64 = 0.05;
/// Longest rest at once.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// A search to be compared with the truth.
pub(crate) trait Sample: Send {
    /// Compares and counts, in pieces with a rest between them. Given up when there is no more time to rest.
    fn compare(self: Box<Self>, pace: &mut Pace);

    /// Counts that there was no room for it.
    fn dropped(&self);
}

/// Picks searches and has them compared.
#[derive(Debug)]
pub(crate) struct RecallSampler {
    /// A search is picked when its number, hashed, is below it.
    below: u64,
    searches: AtomicU64,
    stopping: Arc<AtomicBool>,
    worker: Mutex<Option<Worker>>,
}

#[derive(Debug)]
struct Worker {
    samples: SyncSender<Box<dyn Sample>>,
    thread: JoinHandle<()>,
}

impl RecallSampler {
    /// Starts the thread for a share of 0 to 1; for 0 there is none.
    pub(crate) fn start(share: f32) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        // Saturates: 1 picks every search but one in 2^64.
        let below = (f64::from(share) * u64::MAX as f64) as u64;
        let worker = if below == 0 { None } else { Some(Worker::start(Arc::clone(&stopping))?) };
        Ok(Self { below, searches: AtomicU64::new(0), stopping, worker: Mutex::new(worker) })
    }

    /// Whether this search is a sample. By chance rather than every so many: searches may come in a rhythm.
    pub(crate) fn picks(&self) -> bool {
        self.below > 0 && mixed(self.searches.fetch_add(1, Ordering::Relaxed)) < self.below
    }

    /// Has a sample compared, if there is room.
    pub(crate) fn submit(&self, sample: Box<dyn Sample>) {
        let sent = match &*self.worker.lock() {
            Some(worker) => worker.samples.try_send(sample).map_err(|error| match error {
                std::sync::mpsc::TrySendError::Full(sample)
                | std::sync::mpsc::TrySendError::Disconnected(sample) => sample,
            }),
            None => Err(sample),
        };
        if let Err(sample) = sent {
            sample.dropped();
        }
    }

    /// Stops the thread in the middle of what it does, and waits for it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let Some(Worker { samples, thread }) = self.worker.lock().take() else { return };
        drop(samples);
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the thread that samples recall ended with a panic");
        }
    }
}

impl Drop for RecallSampler {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Worker {
    fn start(stopping: Arc<AtomicBool>) -> io::Result<Self> {
        let (samples, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("ragstone-recall".into())
            .spawn(move || work(&receiver, stopping))?;
        Ok(Self { samples, thread })
    }
}

fn work(samples: &Receiver<Box<dyn Sample>>, stopping: Arc<AtomicBool>) {
    step_back(Urgency::Whenever);
    // Scans spread over the threads of the pool that they run in: here that is this one alone.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    let Ok(_pool) = pool.inspect_err(|error| tracing::error!(%error, "recall is not sampled")) else {
        return;
    };
    let mut pace = Pace { stopping, since: Instant::now() };
    while let Ok(sample) = samples.recv() {
        pace.since = Instant::now();
        // A defect in a comparison must not end those of others.
        let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sample.compare(&mut pace)));
        if compared.is_err() {
            tracing::error!("a comparison of a search with the truth panicked");
        }
        pace.rest();
    }
}

/// Keeps a comparison to its share of the time.
#[derive(Debug)]
pub(crate) struct Pace {
    stopping: Arc<AtomicBool>,
    /// When the work behind the last rest began.
    since: Instant,
}

impl Pace {
    /// Rests for as long as the work since the last rest asks for. `false`: give up, there is no more time.
    pub(crate) fn rest(&mut self) -> bool {
        let rest = self.since.elapsed().mul_f64(1.0 / BUSY_SHARE - 1.0).min(LONGEST_REST);
        let until = Instant::now() + rest;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if self.stopping.load(Ordering::Acquire) {
                return false;
            }
            std::thread::park_timeout(left);
        }
        self.since = Instant::now();
        !self.stopping.load(Ordering::Acquire)
    }
}

/// Spreads consecutive numbers over all 64 bits (the finalizer of SplitMix64: Steele, Lea and Flood, 2014).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Says when it is compared or dropped, and waits in between until it may go on.
    struct Probe {
        number: usize,
        said: Sender<(&'static str, usize)>,
        go_on: Arc<Mutex<Receiver<()>>>,
    }

    impl Sample for Probe {
        fn compare(self: Box<Self>, pace: &mut Pace) {
            self.said.send(("compared", self.number)).unwrap();
            let _closed = self.go_on.lock().recv();
            assert!(self.number != 1, "a defect");
            pace.rest();
        }

        fn dropped(&self) {
            self.said.send(("dropped", self.number)).unwrap();
        }
    }

    #[test]
    fn samples_without_room_are_dropped_and_a_defect_ends_nothing() {
        let sampler = RecallSampler::start(1.0).unwrap();
        let (said, hear) = channel();
        let (go, go_on) = channel();
        let go_on = Arc::new(Mutex::new(go_on));
        let submit = |number| {
            sampler.submit(Box::new(Probe { number, said: said.clone(), go_on: Arc::clone(&go_on) }));
        };
        submit(0);
        assert_eq!(hear.recv().unwrap(), ("compared", 0));
        (1..=QUEUE + 2).for_each(submit);
        assert_eq!(hear.recv().unwrap(), ("dropped", QUEUE + 1));
        assert_eq!(hear.recv().unwrap(), ("dropped", QUEUE + 2));
        for number in 1..=QUEUE {
            go.send(()).unwrap();
            assert_eq!(hear.recv().unwrap(), ("compared", number));
        }
        drop(go);
        sampler.stop();
        submit(99);
        assert_eq!(hear.recv().unwrap(), ("dropped", 99), "after the end");
    }

    #[test]
    fn the_share_that_is_picked_is_the_one_that_was_set() {
        let picked = |share: f32| {
            let sampler = RecallSampler::start(share).unwrap();
            (0..100_000).filter(|_| sampler.picks()).count()
        };
        assert_eq!((picked(0.0), picked(1.0)), (0, 100_000));
        assert!((900..1_100).contains(&picked(0.01)), "{}", picked(0.01));
    }
}
