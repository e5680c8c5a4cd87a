//! Many callers, one commit: whoever comes while a commit runs waits, and the next commit takes all who wait.
//!
//! There is no thread of its own: the first in the queue commits for the others (leader and followers). It must not
//! know what a commit is.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::error::Error;

/// Joins the items of concurrent callers into batches, in the order of their arrival.
#[derive(Debug)]
pub struct GroupCommit<T, R> {
    state: Mutex<State<T, R>>,
    max_items: usize,
    max_bytes: usize,
}

/// The commit ended without a result for this caller: it unwound, or returned too few results. Whether the item was
/// committed is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the commit ended without a result; whether the write happened is not known")]
pub struct Abandoned;

impl From<Abandoned> for Error {
    fn from(abandoned: Abandoned) -> Self {
        Self::Internal(abandoned.to_string())
    }
}

#[derive(Debug)]
struct State<T, R> {
    /// In order of arrival. While someone leads, everyone in here waits.
    queue: VecDeque<Pending<T, R>>,
    someone_leads: bool,
}

#[derive(Debug)]
struct Pending<T, R> {
    item: T,
    bytes: usize,
    ticket: Arc<Ticket<R>>,
}

/// Where a caller waits for its result.
#[derive(Debug)]
struct Ticket<R> {
    news: Mutex<News<R>>,
    changed: Condvar,
}

#[derive(Debug)]
enum News<R> {
    None,
    /// The caller is first in the queue now, and commits.
    Lead,
    Done(R),
    Abandoned,
}

impl<R> Ticket<R> {
    fn tell(&self, news: News<R>) {
        *self.news.lock() = news;
        self.changed.notify_one();
    }

    /// `None`: the caller leads.
    fn wait(&self) -> Option<Result<R, Abandoned>> {
        let mut news = self.news.lock();
        loop {
            match std::mem::replace(&mut *news, News::None) {
                News::None => self.changed.wait(&mut news),
                News::Lead => return None,
                News::Done(result) => return Some(Ok(result)),
                News::Abandoned => return Some(Err(Abandoned)),
            }
        }
    }
}

impl<T, R> GroupCommit<T, R> {
    /// A batch has at most `max_items` items, and at most `max_bytes` bytes unless its first item alone is larger. The
    /// queue needs no bound of its own: each item in it has a caller that waits.
    pub fn new(max_items: usize, max_bytes: usize) -> Self {
        let state = State { queue: VecDeque::new(), someone_leads: false };
        Self { state: Mutex::new(state), max_items: max_items.max(1), max_bytes }
    }

    /// Commits an item of `bytes` bytes, alone or with others, and returns its result. `commit` gets a batch, is never
    /// run twice at a time, and returns one result per item, in order. All callers must give a `commit` that does the
    /// same: whichever caller is first runs its own for all.
    pub fn submit(
        &self,
        item: T,
        bytes: usize,
        commit: impl FnOnce(Vec<T>) -> Vec<R>,
    ) -> Result<R, Abandoned> {
        let ticket = Arc::new(Ticket { news: Mutex::new(News::None), changed: Condvar::new() });
        let must_wait = {
            let mut state = self.state.lock();
            state.queue.push_back(Pending { item, bytes, ticket: Arc::clone(&ticket) });
            std::mem::replace(&mut state.someone_leads, true)
        };
        if must_wait && let Some(result) = ticket.wait() {
            return result;
        }
        self.lead(commit);
        // The leader is the first in the queue, so that its own item was in the batch.
        ticket.wait().unwrap_or(Err(Abandoned))
    }

    /// Commits one batch from the front of the queue and hands the lead on.
    fn lead(&self, commit: impl FnOnce(Vec<T>) -> Vec<R>) {
        let (items, tickets) = self.take_batch();
        let mut reign = Reign { group: self, tickets: tickets.into() };
        let results = commit(items);
        for result in results {
            if let Some(ticket) = reign.tickets.pop_front() {
                ticket.tell(News::Done(result));
            }
        }
    }

    fn take_batch(&self) -> (Vec<T>, Vec<Arc<Ticket<R>>>) {
        let mut state = self.state.lock();
        let (mut items, mut tickets) = (Vec::new(), Vec::new());
        let mut bytes = 0_usize;
        while let Some(next) = state.queue.front() {
            bytes = bytes.saturating_add(next.bytes);
            if items.len() == self.max_items || (bytes > self.max_bytes && !items.is_empty()) {
                break;
            }
            if let Some(pending) = state.queue.pop_front() {
                items.push(pending.item);
                tickets.push(pending.ticket);
            }
        }
        (items, tickets)
    }
}

/// The time between taking a batch and handing the lead on. Ends in the right order also when the commit unwinds: those
/// without a result are told, then the next in the queue leads.
struct Reign<'a, T, R> {
    group: &'a GroupCommit<T, R>,
    tickets: VecDeque<Arc<Ticket<R>>>,
}

impl<T, R> Drop for Reign<'_, T, R> {
    fn drop(&mut self) {
        for ticket in self.tickets.drain(..) {
            ticket.tell(News::Abandoned);
        }
        let mut state = self.group.state.lock();
        match state.queue.front() {
            Some(next) => next.ticket.tell(News::Lead),
            None => state.someone_leads = false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_single_caller_commits_alone() {
        let group = GroupCommit::new(10, 100);
        for i in 0..5 {
            assert_eq!(group.submit(i, 1, |items| items.iter().map(|i| i * 2).collect()), Ok(i * 2));
        }
    }

    #[test]
    fn every_caller_gets_its_own_result_and_commits_never_overlap() {
        const THREADS: usize = 16;
        const WRITES: usize = 300;
        let group = GroupCommit::new(7, 50);
        let (running, committed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (group, running, committed) = (&group, &running, &committed);
                scope.spawn(move || {
                    for write in 0..WRITES {
                        let item = (thread, write);
                        let commit = |items: Vec<(usize, usize)>| {
                            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                            assert!(items.len() <= 7 && !items.is_empty());
                            thread::yield_now();
                            committed.lock().extend(items.iter().copied());
                            running.fetch_sub(1, Ordering::SeqCst);
                            items
                        };
                        assert_eq!(group.submit(item, 1 + write % 40, commit), Ok(item));
                    }
                });
            }
        });
        let committed = committed.into_inner();
        assert_eq!(committed.len(), THREADS * WRITES);
        for thread in 0..THREADS {
            let own: Vec<_> =
                committed.iter().filter(|(t, _)| *t == thread).map(|(_, write)| *write).collect();
            assert_eq!(own, (0..WRITES).collect::<Vec<_>>(), "order of thread {thread}");
        }
    }

    /// Starts a leader that waits in its commit, `followers` behind it, and lets it go on.
    fn with_followers(
        group: &GroupCommit<usize, usize>,
        followers: usize,
        lead: impl FnOnce(Vec<usize>) -> Vec<usize> + Send,
        follow: impl Fn(Vec<usize>) -> Vec<usize> + Sync,
    ) -> Vec<Result<usize, Abandoned>> {
        let (go, wait) = mpsc::channel();
        let (entered, has_entered) = mpsc::channel();
        thread::scope(|scope| {
            let leader = scope.spawn(move || {
                let commit = |items| {
                    entered.send(()).unwrap();
                    wait.recv().unwrap();
                    lead(items)
                };
                catch_unwind(AssertUnwindSafe(|| group.submit(0, 1, commit))).unwrap_or(Err(Abandoned))
            });
            has_entered.recv().unwrap();
            let follow = &follow;
            let others: Vec<_> = (1..=followers)
                .map(|item| {
                    let handle = scope.spawn(move || {
                        catch_unwind(AssertUnwindSafe(|| group.submit(item, 1, follow)))
                            .unwrap_or(Err(Abandoned))
                    });
                    while group.state.lock().queue.len() < item {
                        thread::yield_now();
                    }
                    handle
                })
                .collect();
            go.send(()).unwrap();
            [leader].into_iter().chain(others).map(|handle| handle.join().unwrap()).collect()
        })
    }

    #[test]
    fn those_who_wait_are_committed_together_within_the_bounds() {
        let group = GroupCommit::new(4, 100);
        let sizes = Mutex::new(Vec::new());
        let results = with_followers(
            &group,
            10,
            |items| items,
            |items| {
                sizes.lock().push(items.len());
                items
            },
        );
        assert_eq!(results, (0..=10).map(Ok).collect::<Vec<_>>());
        assert_eq!(sizes.into_inner(), [4, 4, 2]);
    }

    #[test]
    fn bytes_bound_a_batch_and_a_large_item_goes_alone() {
        let group: GroupCommit<usize, usize> = GroupCommit::new(100, 10);
        for bytes in [4, 4, 4, 50, 1] {
            let ticket = Arc::new(Ticket { news: Mutex::new(News::None), changed: Condvar::new() });
            group.state.lock().queue.push_back(Pending { item: bytes, bytes, ticket });
        }
        let batches: Vec<_> = (0..4).map(|_| group.take_batch().0).collect();
        assert_eq!(batches, [vec![4, 4], vec![4], vec![50], vec![1]]);
    }

    #[test]
    fn a_commit_that_unwinds_fails_its_batch_and_nobody_hangs() {
        let group = GroupCommit::new(100, 100);
        let results = with_followers(&group, 3, |_| panic!("the leader fails"), |items| items);
        assert_eq!(results, [Err(Abandoned), Ok(1), Ok(2), Ok(3)]);

        let results = with_followers(&group, 3, |items| items, |_| panic!("a follower fails as a leader"));
        assert_eq!(results, [Ok(0), Err(Abandoned), Err(Abandoned), Err(Abandoned)]);
        assert_eq!(group.submit(9, 1, |items| items), Ok(9));
    }

    #[test]
    fn too_few_results_abandon_those_without() {
        let group = GroupCommit::new(100, 100);
        let results = with_followers(
            &group,
            3,
            |items| items,
            |mut items| {
                items.truncate(2);
                items
            },
        );
        assert_eq!(results, [Ok(0), Ok(1), Ok(2), Err(Abandoned)]);
    }
}
