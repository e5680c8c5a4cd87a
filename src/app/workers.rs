//! Where the synchronous engine runs: on blocking threads, never more jobs of one kind at once than its bound. Only what
//! is over in a moment runs on the threads that serve the network.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use super::error::{Error, Result};

/// A short job that took longer was none...
const LONG: Duration = Duration::from_millis(3);
/// ...and so many are run elsewhere after it.
const DETOURS: u32 = 256;
/// Tasks of a thread (connections, and calls that are under way) from which it shares its work with idle cores.
const BUSY_TASKS: usize = 24;

/// Jobs of one kind that may run at once. Others wait; how many can wait is bounded by the requests in flight.
#[derive(Debug, Clone)]
pub struct Lane {
    permits: Arc<Semaphore>,
    runtime: Handle,
}

impl Lane {
    /// A lane of so many jobs at once, on the blocking threads of a runtime.
    pub fn new(width: usize, runtime: &Handle) -> Self {
        Self { permits: Arc::new(Semaphore::new(width.max(1))), runtime: runtime.clone() }
    }

    /// Runs a job when there is room for it. The room stays taken until the job ends, also when the caller goes away
    /// before. A panic in the job is an error, and nothing else is harmed.
    pub async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return Err(Error::ShuttingDown);
        };
        let span = tracing::Span::current();
        let task = self.runtime.spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(job)
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(panicked(&*error.into_panic())),
            Err(_) => Err(Error::ShuttingDown),
        }
    }
}

/// Short jobs on the thread that asks for them: where handing a job to another thread and waking up again takes as long
/// as the job itself. Whether a job is short is the caller's promise, and is watched: after one that took long, as when
/// its data has to be read from disk, the next ones go to a lane.
#[derive(Debug, Clone)]
pub struct Short {
    lane: Lane,
    cores: usize,
    /// Jobs that run now on threads that asked.
    running: Arc<AtomicUsize>,
    /// Jobs that go to the lane before one is tried here again.
    detours: Arc<AtomicU32>,
}

impl Short {
    fn new(lane: &Lane, cores: usize) -> Self {
        Self { lane: lane.clone(), cores, running: Arc::default(), detours: Arc::default() }
    }

    /// Runs a job here or in the lane. A panic in it is an error.
    pub async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        if self.is_better_elsewhere() {
            return self.lane.run(job).await;
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        // What calls share is locks that don't poison and the engine.
        let result = catch_unwind(AssertUnwindSafe(job));
        self.running.fetch_sub(1, Ordering::Relaxed);
        if started.elapsed() > LONG {
            self.detours.store(DETOURS, Ordering::Relaxed);
        }
        result.unwrap_or_else(|panic| Err(panicked(&*panic)))
    }

    fn is_better_elsewhere(&self) -> bool {
        let detour = |left: u32| left.checked_sub(1);
        let asked = Handle::current();
        // The threads of a shared runtime have other work than connections.
        asked.runtime_flavor() != RuntimeFlavor::CurrentThread
            || self.detours.fetch_update(Ordering::Relaxed, Ordering::Relaxed, detour).is_ok()
            || (asked.metrics().num_alive_tasks() > BUSY_TASKS
                && self.running.load(Ordering::Relaxed) + 1 < self.cores)
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    tracing::error!(panic = panic_message(panic), "a job panicked");
    Error::Panicked
}

/// What a panic said.
pub fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// The lanes of the server.
#[derive(Debug, Clone)]
pub struct Workers {
    /// Searches: about as many as there are cores, so that the ones that run end soon.
    pub search: Lane,
    /// Searches that are over in a moment.
    pub short: Short,
    /// Reads by id, scrolls, counts.
    pub read: Lane,
    /// Writes. They mostly wait for the disk, and those that wait together share one flush.
    pub write: Lane,
    /// Conversions of large requests, and other work on memory alone.
    pub compute: Lane,
    /// Flush, compaction, creation and deletion of collections.
    pub maintenance: Lane,
    cores: usize,
}

impl Workers {
    /// Runs a search, one that is over in a moment where it is asked for.
    pub async fn run_search<T, F>(&self, short: bool, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        if short { self.short.run(job).await } else { self.search.run(job).await }
    }

    /// Threads that searches keep busy.
    pub fn search_width(&self) -> usize {
        self.cores
    }

    /// Lanes for this machine. All threads that they use belong to `runtime`, whichever thread asks.
    pub fn new(runtime: &Handle) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let search = Lane::new((cores * 2).max(4), runtime);
        Self {
            short: Short::new(&search, cores),
            search,
            read: Lane::new((cores * 2).max(4), runtime),
            write: Lane::new(64, runtime),
            compute: Lane::new(cores.max(2), runtime),
            maintenance: Lane::new(2, runtime),
            cores,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_the_room_back() {
        let lane = Lane::new(1, &Handle::current());
        let failed = lane.run::<(), _>(|| panic!("boom")).await;
        assert!(matches!(failed, Err(Error::Panicked)));
        assert_eq!(lane.run(|| Ok(7)).await.unwrap(), 7);
    }

    fn this_thread() -> Result<std::thread::ThreadId> {
        Ok(std::thread::current().id())
    }

    #[tokio::test]
    async fn a_short_job_runs_here_until_one_was_long() {
        let here = this_thread().unwrap();
        let short = Short::new(&Lane::new(1, &Handle::current()), 2);
        assert_eq!(short.run(this_thread).await.unwrap(), here);
        let long = || {
            std::thread::sleep(LONG * 2);
            Ok(())
        };
        short.run(long).await.unwrap();
        for _ in 0..DETOURS {
            assert_ne!(short.run(this_thread).await.unwrap(), here);
        }
        assert_eq!(short.run(this_thread).await.unwrap(), here);
        // Last: telling of a panic may take long.
        let failed = short.run::<(), _>(|| panic!("boom")).await;
        assert!(matches!(failed, Err(Error::Panicked)));
    }

    #[tokio::test]
    async fn a_busy_thread_shares_with_idle_cores() {
        let here = this_thread().unwrap();
        let lane = Lane::new(1, &Handle::current());
        let calls: Vec<_> = (0..=BUSY_TASKS).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        assert_ne!(Short::new(&lane, 2).run(this_thread).await.unwrap(), here);
        assert_eq!(Short::new(&lane, 1).run(this_thread).await.unwrap(), here);
        calls.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_shared_runtime_runs_nothing_itself() {
        let short = Short::new(&Lane::new(1, &Handle::current()), 2);
        let task = tokio::spawn(async move {
            let here = this_thread().unwrap();
            short.run(this_thread).await.unwrap() != here
        });
        assert!(task.await.unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn never_more_than_the_width_at_once() {
        let lane = Lane::new(2, &Handle::current());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs = (0..20).map(|_| {
            let (lane, now, most) = (lane.clone(), Arc::clone(&now), Arc::clone(&most));
            tokio::spawn(async move {
                lane.run(move || {
                    let running = now.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(running, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                })
                .await
            })
        });
        for job in jobs.collect::<Vec<_>>() {
            job.await.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }
}
