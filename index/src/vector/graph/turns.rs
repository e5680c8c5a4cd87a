//! Work on many nodes, shared among the threads of a build. It must not know what is done.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::background::give_way;

/// Items that a thread takes at once.
const ITEMS_PER_TURN: usize = 16;

/// Does something for each item: by one thread, which keeps their order, or by those of the thread pool, each with memory of
/// its own, until `cancel` is true. The items lie in `shares` of equal size, and each thread begins with another, so that
/// what lies side by side is done by one thread, which has it in its caches.
pub(crate) fn in_turns<T: Sync, W: Default>(
    items: &[T],
    shares: usize,
    threads: usize,
    cancel: &AtomicBool,
    each: impl Fn(&T, &mut W) + Sync,
) {
    let shares: Vec<(&[T], AtomicUsize)> = items
        .chunks(items.len().div_ceil(shares.max(1)).max(1))
        .map(|share| (share, AtomicUsize::new(0)))
        .collect();
    let work = |thread: usize| {
        let mut worker = W::default();
        for (share, next) in shares.iter().cycle().skip(thread).take(shares.len()) {
            while !cancel.load(Ordering::Relaxed) {
                let start = next.fetch_add(ITEMS_PER_TURN, Ordering::Relaxed);
                let end = share.len().min(start.saturating_add(ITEMS_PER_TURN));
                let Some(turn) = share.get(start..end).filter(|turn| !turn.is_empty()) else { break };
                for item in turn {
                    each(item, &mut worker);
                    give_way();
                }
            }
        }
    };
    if threads == 1 {
        work(0);
    } else {
        rayon::broadcast(|context| work(context.index()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[test]
    fn everything_is_done_once_and_one_thread_keeps_the_order() {
        let never = AtomicBool::new(false);
        for (items, shares, threads) in
            [(0, 2, 2), (1, 3, 3), (100, 1, 4), (1_000, 7, 4), (1_000, 3, 1), (5, 0, 1)]
        {
            let items: Vec<usize> = (0..items).collect();
            let done = Mutex::new(Vec::new());
            in_turns(&items, shares, threads, &never, |item, _: &mut ()| done.lock().push(*item));
            let mut done = done.into_inner();
            if threads > 1 {
                done.sort_unstable();
            }
            assert_eq!(done, items);
        }
    }

    #[test]
    fn nothing_goes_on_when_it_is_cancelled() {
        let cancel = AtomicBool::new(false);
        let items: Vec<usize> = (0..1_000).collect();
        let done = AtomicUsize::new(0);
        in_turns(&items, 4, 1, &cancel, |_, _: &mut ()| {
            cancel.store(true, Ordering::Relaxed);
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), ITEMS_PER_TURN, "a turn is finished");
    }
}
