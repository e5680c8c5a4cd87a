//! What the embedding threads do: queries one by one, documents in steps that take from all waiting callers. Knows
//! nothing of async callers but the channel to answer on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Embedder;
use super::queue::{Job, Queue};
use super::registry::EmbedderRegistry;
use crate::error::{Error, ErrorKind, Result};

/// Documents of one step, at least. Small enough that a new caller is soon served, large enough for the cores.
const STEP_TEXTS: usize = 32;

/// Answers queries until the queue is closed.
pub(super) fn serve_queries(name: &str, registry: &EmbedderRegistry, queue: &Queue) {
    while let Some(job) = queue.pop() {
        if job.abandoned() {
            continue;
        }
        let answer = registry.get(name).and_then(|embedder| {
            guarded(name, || job.texts.iter().map(|text| embedder.embed_query(text)).collect())
        });
        job.answer(answer);
    }
}

/// Embeds documents until the queue is closed.
pub(super) fn serve_documents(name: &str, registry: &EmbedderRegistry, queue: &Queue) {
    let step_texts =
        STEP_TEXTS.max(8 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let mut open: VecDeque<OpenJob> = VecDeque::new();
    loop {
        if open.is_empty() {
            match queue.pop() {
                Some(job) => open.push_back(OpenJob::new(job)),
                None => return,
            }
        }
        while let Some(job) = queue.try_pop() {
            open.push_back(OpenJob::new(job));
        }
        open.retain(|open| !open.job.abandoned());
        let shares = shares(open.iter().map(OpenJob::left), step_texts);
        match registry.get(name) {
            Ok(embedder) => step(name, embedder.as_ref(), &mut open, &shares),
            Err(error) => open.drain(..).for_each(|open| open.fail(error.clone())),
        }
        // Those that are done leave; the others keep their order.
        for _ in 0..open.len() {
            match open.pop_front() {
                Some(job) if job.left() == 0 => job.finish(),
                Some(job) => open.push_back(job),
                None => break,
            }
        }
    }
}

/// A caller's texts and the vectors made of them so far.
struct OpenJob {
    job: Job,
    vectors: Vec<Vec<f32>>,
    failed: Option<Error>,
}

impl OpenJob {
    fn new(job: Job) -> Self {
        Self { vectors: Vec::with_capacity(job.texts.len()), job, failed: None }
    }

    fn left(&self) -> usize {
        if self.failed.is_some() { 0 } else { self.job.texts.len().saturating_sub(self.vectors.len()) }
    }

    /// The next `count` texts.
    fn next(&self, count: usize) -> impl Iterator<Item = &str> {
        self.job.texts.iter().skip(self.vectors.len()).take(count).map(String::as_str)
    }

    fn finish(self) {
        let answer = match self.failed {
            Some(error) => Err(error),
            None => Ok(self.vectors),
        };
        self.job.answer(answer);
    }

    fn fail(mut self, error: Error) {
        self.failed = Some(error);
        self.finish();
    }
}

/// How many texts of each job the next step takes: the same for all, and what short jobs leave over goes to the first
/// ones. So a small job behind a large one waits for a step, not for the large job.
fn shares(left: impl Iterator<Item = usize>, step_texts: usize) -> Vec<usize> {
    let left: Vec<usize> = left.collect();
    let fair = (step_texts / left.len().max(1)).max(1);
    let mut budget = step_texts;
    let mut shares: Vec<usize> = left
        .iter()
        .map(|&left| {
            let share = left.min(fair).min(budget);
            budget -= share;
            share
        })
        .collect();
    for (share, left) in shares.iter_mut().zip(&left) {
        let more = (left - *share).min(budget);
        *share += more;
        budget -= more;
    }
    shares
}

/// Embeds each job's share. When the common call fails, each job is tried alone, so that only the one at fault fails.
fn step(name: &str, embedder: &dyn Embedder, open: &mut VecDeque<OpenJob>, shares: &[usize]) {
    let texts: Vec<&str> = open.iter().zip(shares).flat_map(|(job, &share)| job.next(share)).collect();
    match embed(name, embedder, &texts) {
        Ok(vectors) => {
            drop(texts);
            let mut vectors = vectors.into_iter();
            for (job, &share) in open.iter_mut().zip(shares) {
                job.vectors.extend(vectors.by_ref().take(share));
            }
        }
        Err(error) => {
            drop(texts);
            let alone = shares.iter().filter(|&&share| share > 0).count() <= 1;
            for (job, &share) in open.iter_mut().zip(shares).filter(|(_, share)| **share > 0) {
                let result = if alone {
                    Err(error.clone())
                } else {
                    embed(name, embedder, &job.next(share).collect::<Vec<_>>())
                };
                match result {
                    Ok(vectors) => job.vectors.extend(vectors),
                    Err(error) => job.failed = Some(error),
                }
            }
        }
    }
}

fn embed(name: &str, embedder: &dyn Embedder, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    let vectors = guarded(name, || embedder.embed_documents(texts))?;
    if vectors.len() != texts.len() {
        let message = format!("embedder \"{name}\" made {} vectors of {} texts", vectors.len(), texts.len());
        return Err(Error::new(ErrorKind::Internal, message));
    }
    Ok(vectors)
}

/// A panic of a model is an error of this call; the thread goes on.
fn guarded<T>(name: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Internal, format!("embedder \"{name}\" failed unexpectedly")))
    })
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn a_step_is_shared_fairly_and_used_up() {
        assert_eq!(shares([100].into_iter(), 32), [32]);
        assert_eq!(shares([100, 3].into_iter(), 32), [29, 3]);
        assert_eq!(shares([100, 100].into_iter(), 32), [16, 16]);
        assert_eq!(shares([2, 100, 5].into_iter(), 32), [2, 25, 5]);
        assert_eq!(shares([1, 1].into_iter(), 32), [1, 1]);
        assert_eq!(shares([9, 9, 9].into_iter(), 2), [1, 1, 0]);
        assert_eq!(shares(std::iter::empty(), 32), Vec::<usize>::new());
    }
}
