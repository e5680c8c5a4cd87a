//! Operation: what the server is, how much it holds, sealing and compaction.

use std::time::Duration;

use ragstone_index::collection::{CollectionStats, CompactionReport};
use ragstone_ingest::embed::EmbedStats;
use ragstone_ingest::embed::registry::EmbedderStatus;

use super::App;
use super::error::Result;

impl App {
    /// The configured embedders.
    pub fn embedders(&self) -> Vec<EmbedderStatus> {
        self.embedding.list()
    }

    /// What was embedded since the start, and what did not have to be.
    pub fn embedding_stats(&self) -> EmbedStats {
        self.embedding.stats()
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts and sizes of one collection, or of all.
    pub async fn stats(&self, collection: Option<&str>) -> Result<Vec<(String, CollectionStats)>> {
        let collections = match collection {
            Some(name) => vec![self.collection(name)?],
            None => self.store.collections(),
        };
        let stats = move || Ok(collections.iter().map(|c| (c.name().to_owned(), c.stats())).collect());
        self.workers.read.run(stats).await
    }

    /// Seals the memtable and waits for its segment. Returns the sequence number and the number of segments.
    pub async fn flush(&self, collection: &str) -> Result<(u64, u64)> {
        let collection = self.collection(collection)?;
        self.workers.maintenance.run(move || Ok((collection.seq_no(), collection.flush()?))).await
    }

    /// Merges segments and waits for it.
    pub async fn compact(&self, collection: &str) -> Result<CompactionReport> {
        let collection = self.collection(collection)?;
        self.workers.maintenance.run(move || Ok(collection.compact()?)).await
    }
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1_024
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_has_some_memory() {
        assert!(super::resident_bytes() > 1 << 20);
    }
}
