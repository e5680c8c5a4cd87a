//! What the pipeline did, as numbers for whoever shows them. It decides nothing by them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a pipeline did since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Documents that were stored already.
    pub unchanged: u64,
    /// Documents whose content was extracted, or tried to be.
    pub extracted: u64,
    /// Documents that were stored.
    pub indexed: u64,
    /// Documents that were linked to stored ones.
    pub linked: u64,
    /// Points of those that were stored.
    pub chunks: u64,
    /// Vectors that were asked of the embedding service; the others were taken from the stored version, or shared.
    pub embedded: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub unchanged: Counter,
    pub extracted: Counter,
    pub indexed: Counter,
    pub linked: Counter,
    pub chunks: Counter,
    pub embedded: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub fn read(&self) -> PipelineStats {
        PipelineStats {
            unchanged: self.unchanged.get(),
            extracted: self.extracted.get(),
            indexed: self.indexed.get(),
            linked: self.linked.get(),
            chunks: self.chunks.get(),
            embedded: self.embedded.get(),
        }
    }
}
