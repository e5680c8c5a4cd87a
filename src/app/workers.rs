//! Where the synchronous engine runs: on blocking threads, never on the threads that serve the network, and never
//! more jobs of one kind at once than its bound.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::error::{Error, Result};

/// Jobs of one kind that may run at once. Others wait; how many can wait is bounded by the requests in flight.
#[derive(Debug, Clone)]
pub struct Lane {
    permits: Arc<Semaphore>,
}

impl Lane {
    /// A lane of so many jobs at once.
    pub fn new(width: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(width.max(1))) }
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
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(job)
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => {
                tracing::error!(panic = panic_message(&*error.into_panic()), "a job panicked");
                Err(Error::Panicked)
            }
            Err(_) => Err(Error::ShuttingDown),
        }
    }
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
    /// Reads by id, scrolls, counts.
    pub read: Lane,
    /// Writes. They mostly wait for the disk, and those that wait together share one flush.
    pub write: Lane,
    /// Conversions of large requests, and other work on memory alone.
    pub compute: Lane,
    /// Flush, compaction, creation and deletion of collections.
    pub maintenance: Lane,
}

impl Workers {
    /// Lanes for this machine.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            search: Lane::new((cores * 2).max(4)),
            read: Lane::new((cores * 2).max(4)),
            write: Lane::new(64),
            compute: Lane::new(cores.max(2)),
            maintenance: Lane::new(2),
        }
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_the_room_back() {
        let lane = Lane::new(1);
        let failed = lane.run::<(), _>(|| panic!("boom")).await;
        assert!(matches!(failed, Err(Error::Panicked)));
        assert_eq!(lane.run(|| Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn never_more_than_the_width_at_once() {
        let lane = Lane::new(2);
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
