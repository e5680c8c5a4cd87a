//! The background threads of a store: one seals memtables, one compacts segments, one gathers small ones, one feeds live
//! graphs, one checks files.
//! They give way to threads that answer.
//!
//! Requests are hints: a worker looks itself at what is to be done, so a lost or repeated request does no harm.

use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::background::{Urgency, step_back};
use crate::collection::Collection;
use crate::recall::RecallSampler;

/// Requests that may wait for one worker; more are dropped, since each of those that wait does all there is to do.
const QUEUE: usize = 1_024;

/// How often the compacting thread looks for what has expired while nobody reads or writes.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What a worker is asked to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Memtables wait to be sealed.
    Seal,
    /// Segments changed.
    Compact,
    /// Small segments may lie about while somebody searches.
    Gather,
    /// The live graph is behind the memtable.
    Feed,
    /// Segments were opened without a look at their content.
    Scrub,
}

/// The background threads.
#[derive(Debug)]
pub(crate) struct Maintenance {
    /// Compares a share of the searches with the truth.
    pub(crate) recall: RecallSampler,
    workers: Mutex<Vec<Worker>>,
}

#[derive(Debug)]
struct Worker {
    task: Task,
    requests: SyncSender<Weak<Collection>>,
    thread: JoinHandle<()>,
}

impl Maintenance {
    /// Starts the threads; `recall_share` of the searches is compared with the truth.
    pub(crate) fn start(recall_share: f32) -> std::io::Result<Self> {
        let mut workers = Vec::new();
        let tasks = [
            (Task::Seal, "seal"),
            (Task::Compact, "compact"),
            (Task::Gather, "gather"),
            (Task::Feed, "feed"),
            (Task::Scrub, "scrub"),
        ];
        for (task, name) in tasks {
            let (requests, receiver) = sync_channel(QUEUE);
            let thread = std::thread::Builder::new()
                .name(format!("ragstone-{name}"))
                .spawn(move || work(task, &receiver))?;
            workers.push(Worker { task, requests, thread });
        }
        Ok(Self { recall: RecallSampler::start(recall_share)?, workers: Mutex::new(workers) })
    }

    /// Asks for a look at a collection.
    pub(crate) fn request(&self, task: Task, collection: Weak<Collection>) {
        let workers = self.workers.lock();
        if let Some(worker) = workers.iter().find(|worker| worker.task == task) {
            // A full queue holds enough requests already; a closed one means that the store closes.
            let _ = worker.requests.try_send(collection);
        }
    }

    /// Stops the threads behind what they are doing, and waits for them.
    pub(crate) fn stop(&self) {
        self.recall.stop();
        let workers = std::mem::take(&mut *self.workers.lock());
        for Worker { task, requests, thread } in workers {
            drop(requests);
            if thread.join().is_err() {
                tracing::error!(?task, "a background thread ended with a panic");
            }
        }
    }
}

fn work(task: Task, requests: &Receiver<Weak<Collection>>) {
    step_back(match task {
        Task::Seal | Task::Compact | Task::Gather => Urgency::Soon,
        Task::Feed | Task::Scrub => Urgency::Whenever,
    });
    let mut known: Vec<Weak<Collection>> = Vec::new();
    loop {
        let asked = match requests.recv_timeout(LOOK_AGAIN) {
            Ok(collection) => vec![collection],
            // Points expire without anybody asking for anything.
            Err(RecvTimeoutError::Timeout) if task == Task::Compact => known.clone(),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        known.retain(|other| other.strong_count() > 0 && !asked.iter().any(|asked| asked.ptr_eq(other)));
        known.extend(asked.iter().cloned());
        asked.iter().filter_map(Weak::upgrade).for_each(|collection| look(task, &collection));
    }
}

fn look(task: Task, collection: &Collection) {
    // A defect in one collection's background work must not stop that of the others.
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match task {
        Task::Seal => collection.seal_waiting(),
        Task::Compact => collection.compact_where_due(),
        Task::Gather => collection.gather_small_segments(),
        Task::Feed => collection.feed_live_graphs(),
        Task::Scrub => collection.scrub(),
    }));
    if done.is_err() {
        tracing::error!(collection = collection.name(), ?task, "background work panicked");
    }
}
