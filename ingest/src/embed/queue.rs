//! The queue between async callers and the embedding threads: many senders, many receivers, closable. It has no bound of
//! its own: what may wait is bounded where it is admitted, in [`super::service`].

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::Result;

/// Texts of one caller.
pub(super) struct Job {
    pub texts: Vec<String>,
    pub reply: oneshot::Sender<Result<Vec<Vec<f32>>>>,
    /// Its share of the queue's bound; given back when the job is done or dropped.
    pub share: OwnedSemaphorePermit,
}

impl Job {
    /// Whether the caller went away.
    pub fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Gives its share back and answers. Nobody listens to an abandoned job's answer.
    pub fn answer(self, answer: Result<Vec<Vec<f32>>>) {
        drop(self.share);
        let _ = self.reply.send(answer);
    }
}

/// First in, first out.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    arrived: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// Adds a job; a closed queue drops it, and its caller is told.
    pub fn push(&self, job: Job) {
        let mut state = self.state.lock();
        if !state.closed {
            state.jobs.push_back(job);
            self.arrived.notify_one();
        }
    }

    /// The next job; waits for one. `None` when the queue is closed.
    pub fn pop(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            self.arrived.wait(&mut state);
        }
    }

    /// The next job, if there is one.
    pub fn try_pop(&self) -> Option<Job> {
        self.state.lock().jobs.pop_front()
    }

    /// Drops what waits and wakes every receiver for the last time.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.jobs);
        drop(state);
        self.arrived.notify_all();
        drop(dropped);
    }
}
