//! Settings and bounds of watched folders.

use std::time::Duration;

/// Most watched folders of one server.
pub const MAX_SOURCES: usize = 1_000;
/// Most ignore patterns of one source.
pub const MAX_IGNORE_PATTERNS: usize = 1_000;
/// Longest ignore pattern, in bytes.
pub const MAX_IGNORE_PATTERN_BYTES: usize = 4_096;
/// Most paths that wait for their time; more become one scan of the folder.
pub(crate) const MAX_PENDING_PATHS: usize = 10_000;
/// Most hints between the watcher's thread and the source; more become one scan of the folder.
pub(crate) const HINT_QUEUE: usize = 16_384;
/// A folder with fewer stored files is never taken for a wrong disk, unless it is empty.
pub(crate) const MIN_GUARDED_FILES: usize = 10;
/// Documents deleted in one write.
pub(crate) const REMOVAL_GROUP: usize = 1_000;
/// Next tries of documents remembered, or forgotten, in one write.
pub(crate) const RETRY_GROUP: usize = 1_000;

/// Settings of watched folders.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// How often a folder is compared with the collection where changes are told by the system.
    pub scan_interval: Duration,
    /// How often where they are not.
    pub poll_interval: Duration,
    /// How often a folder that can't be read is tried again.
    pub unavailable_interval: Duration,
    /// A file whose size and time have been the same for so long is complete, where its closing can't be seen.
    pub settle: Duration,
    /// A file that a program holds open is read when it has been quiet for so long, where closing can be seen.
    pub open_settle: Duration,
    /// Paths whose time comes within this window are looked at together.
    pub gather: Duration,
    /// A file that is gone for so long is deleted: editors save by removing and creating again.
    pub removal_grace: Duration,
    /// Wait before a failed file is tried again; it doubles with every try.
    pub retry_first: Duration,
    /// The longest such wait.
    pub retry_last: Duration,
    /// Larger files are skipped.
    pub max_file_bytes: u64,
    /// Most files of one folder.
    pub max_files: usize,
    /// Files of one folder in work at the same time.
    pub concurrent_files: usize,
    /// Ask the system for events. Off: only scans.
    pub events: bool,
    /// Make documents of an outdated recipe again without being asked.
    pub reingest_outdated: bool,
}

impl SourceConfig {
    /// The wait before the next try of a file that failed `tries` times before.
    pub(crate) fn backoff(&self, tries: u32) -> Duration {
        self.retry_first.saturating_mul(1 << tries.min(16)).min(self.retry_last)
    }
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            scan_interval: Duration::from_secs(60),
            poll_interval: Duration::from_secs(5),
            unavailable_interval: Duration::from_secs(2),
            settle: Duration::from_millis(200),
            open_settle: Duration::from_secs(2),
            gather: Duration::from_millis(10),
            removal_grace: Duration::from_millis(250),
            retry_first: Duration::from_secs(1),
            retry_last: Duration::from_secs(300),
            max_file_bytes: 256 << 20,
            max_files: 1_000_000,
            concurrent_files: 16,
            events: true,
            reingest_outdated: false,
        }
    }
}
