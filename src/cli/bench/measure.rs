//! The grid of what is measured, closed loops of clients over it, and what of many runs is reported.
//!
//! Runs of all cells are interleaved, so that a noisy minute of the machine hits all of them. It knows no engine and no
//! network: a [`Target`] answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cli::failure::{Failure, Outcome};
use crate::cli::progress::Progress;

/// One combination that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    /// Searches at the same time.
    pub(super) clients: usize,
    /// Beam width; `None`: the engine's choice.
    pub(super) ef: Option<usize>,
    /// Index into the filters of the session, where 0 is none.
    pub(super) filter: usize,
}

/// How queries are put into calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Calls {
    /// Queries of a call, at least 1.
    pub(super) queries: usize,
    /// Compare with every vector in place of walking the graph.
    pub(super) exact: bool,
}

impl Calls {
    /// Takes the queries of the next call from those of a list that `next` counts; none at its end.
    pub(super) fn take<'a, T>(&self, queries: &'a [T], next: &AtomicUsize) -> (usize, &'a [T]) {
        let from = next.fetch_add(self.queries, Ordering::Relaxed);
        let to = queries.len().min(from.saturating_add(self.queries));
        (from, queries.get(from..to).unwrap_or_default())
    }
}

/// All queries asked once.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// From the first question to the last answer.
    pub(super) elapsed: Duration,
    /// Of each query, in any order.
    pub(super) times: Vec<Duration>,
    /// Rows found, by query.
    pub(super) hits: Vec<Vec<u32>>,
}

impl Answers {
    /// Joins what the clients bring: each the number of a query, its time and its hits.
    pub(super) fn join(
        queries: usize,
        elapsed: Duration,
        parts: impl IntoIterator<Item = (usize, Duration, Vec<u32>)>,
    ) -> Self {
        let mut answers =
            Self { elapsed, times: Vec::with_capacity(queries), hits: vec![Vec::new(); queries] };
        for (query, time, rows) in parts {
            answers.times.push(time);
            if let Some(hits) = answers.hits.get_mut(query) {
                *hits = rows;
            }
        }
        answers
    }
}

/// What answers queries.
pub(super) trait Target {
    /// As a report names it.
    const NAME: &'static str;

    /// Asks every query once.
    async fn ask(&self, cell: Cell) -> Outcome<Answers>;

    /// CPU time that a server behind it has used so far.
    fn server_cpu(&self) -> Option<Duration>;
}

/// What was measured of a cell.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) target: &'static str,
    pub(super) cell: Cell,
    pub(super) qps: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) server_cpu_us_per_query: Option<f64>,
    /// Rows found by the first run, by query.
    pub(super) hits: Vec<Vec<u32>>,
}

/// Measures all cells: one run to warm up, then `runs` that count. Each number is the median of its runs.
pub(super) async fn measure<T: Target>(
    target: &T,
    cells: &[Cell],
    runs: usize,
    stop: &CancellationToken,
) -> Outcome<Vec<Measured>> {
    let total = (cells.len() * (runs + 1)) as u64;
    let mut progress = Progress::new(&format!("searching {}", T::NAME), "runs", Some(total));
    let mut kept: Vec<Kept> = cells.iter().map(|_| Kept::default()).collect();
    for run in 0..=runs {
        for (at, (&cell, kept)) in cells.iter().zip(&mut kept).enumerate() {
            if stop.is_cancelled() {
                return Err(Failure::failed("interrupted"));
            }
            let cpu = target.server_cpu();
            let mut answers = target.ask(cell).await?;
            if run == 0 {
                kept.hits = std::mem::take(&mut answers.hits);
            } else {
                let used = target.server_cpu().zip(cpu).map(|(after, before)| after.saturating_sub(before));
                kept.add(answers, used);
            }
            progress.set_done((run * cells.len() + at + 1) as u64);
        }
    }
    Ok(cells.iter().zip(kept).map(|(&cell, kept)| kept.measured(T::NAME, cell)).collect())
}

#[derive(Default)]
struct Kept {
    qps: Vec<f64>,
    p50: Vec<f64>,
    p95: Vec<f64>,
    p99: Vec<f64>,
    queries: usize,
    cpu: Option<Duration>,
    hits: Vec<Vec<u32>>,
}

impl Kept {
    fn add(&mut self, answers: Answers, cpu: Option<Duration>) {
        let Answers { elapsed, mut times, .. } = answers;
        times.sort_unstable();
        self.qps.push(times.len() as f64 / elapsed.as_secs_f64().max(1e-9));
        self.p50.push(percentile_ms(&times, 0.5));
        self.p95.push(percentile_ms(&times, 0.95));
        self.p99.push(percentile_ms(&times, 0.99));
        self.queries += times.len();
        // The system counts in ticks: only the sum over all runs says something.
        self.cpu = cpu.map(|cpu| self.cpu.unwrap_or_default() + cpu);
    }

    fn measured(mut self, target: &'static str, cell: Cell) -> Measured {
        let per_query = |cpu: Duration| cpu.as_secs_f64() * 1e6 / self.queries.max(1) as f64;
        Measured {
            target,
            cell,
            qps: median(&mut self.qps),
            p50_ms: median(&mut self.p50),
            p95_ms: median(&mut self.p95),
            p99_ms: median(&mut self.p99),
            server_cpu_us_per_query: self.cpu.map(per_query),
            hits: self.hits,
        }
    }
}

/// The value below which a share of the sorted times lie (nearest rank), in milliseconds.
pub(super) fn percentile_ms(sorted: &[Duration], share: f64) -> f64 {
    let rank = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(below), Some(above)) if values.len().is_multiple_of(2) => f64::midpoint(*below, *above),
        (_, Some(value)) => *value,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!((percentile_ms(&times, 0.5), percentile_ms(&times, 0.99)), (100.0, 198.0));
        assert_eq!(percentile_ms(&[], 0.5), 0.0);
    }

    /// Answers at once, and remembers what it was asked.
    struct Fake(RefCell<Vec<Cell>>);

    impl Target for Fake {
        const NAME: &'static str = "fake";

        async fn ask(&self, cell: Cell) -> Outcome<Answers> {
            let asked = self.0.borrow().len() as u64;
            self.0.borrow_mut().push(cell);
            let time = Duration::from_millis(asked);
            Ok(Answers::join(2, time * 2, [(1, time, vec![asked as u32]), (0, time, vec![7])]))
        }

        fn server_cpu(&self) -> Option<Duration> {
            Some(Duration::from_millis(self.0.borrow().len() as u64))
        }
    }

    #[tokio::test]
    async fn runs_are_interleaved_and_the_first_only_warms_up() {
        let cell = |ef| Cell { clients: 1, ef: Some(ef), filter: 0 };
        let cells = [cell(10), cell(20)];
        let fake = Fake(RefCell::default());
        let stop = CancellationToken::new();
        let measured = measure(&fake, &cells, 3, &stop).await.map_err(|_| "fails").unwrap();
        assert_eq!(*fake.0.borrow(), [cells, cells, cells, cells].concat());
        // Runs of the first cell that count are numbers 2, 4 and 6.
        assert_eq!((measured[0].p50_ms, measured[0].qps), (4.0, 250.0));
        assert_eq!(measured[1].hits, [vec![7], vec![1]]);
        assert_eq!(measured[1].server_cpu_us_per_query, Some(500.0));
        stop.cancel();
        assert!(measure(&fake, &cells, 3, &stop).await.is_err());
    }
}
