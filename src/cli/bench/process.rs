//! What the system knows of a process: its memory and the CPU time that it has used. Zero where there is no `/proc`.

use std::path::Path;
use std::time::Duration;

/// Length of a tick of `/proc/PID/stat`: `USER_HZ` is 100 wherever Linux runs.
const TICK: Duration = Duration::from_millis(10);

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident, mapped files included.
    pub(super) resident: u64,
    /// The most that was ever resident.
    pub(super) peak: u64,
    /// Resident and its own: not mapped from a file, so the system can't take it back.
    pub(super) anonymous: u64,
    /// Resident and mapped from files: the system takes it back when it needs to.
    pub(super) mapped: u64,
}

impl Memory {
    /// That of this process.
    pub(super) fn own() -> Self {
        Self::of(std::process::id())
    }

    pub(super) fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        Self::parse(&status)
    }

    fn parse(status: &str) -> Self {
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0)
                * 1024
        };
        let anonymous = value("RssAnon");
        Self { resident: value("VmRSS"), peak: value("VmHWM"), anonymous, mapped: value("RssFile") }
    }
}

/// CPU time that a process has used so far, in the kernel included.
pub(super) fn cpu_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    parse_cpu_time(&stat)
}

fn parse_cpu_time(stat: &str) -> Duration {
    // The name in brackets may hold anything; the fields behind it are counted from 3.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK.saturating_mul(ticks)
}

/// Bytes of the files below a folder.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_stat_are_read() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\nRssFile:\t     256 kB\n";
        let expected = Memory { resident: 1 << 20, peak: 2 << 20, anonymous: 512 << 10, mapped: 256 << 10 };
        assert_eq!(Memory::parse(status), expected);
        assert_eq!(Memory::parse(""), Memory::default());
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(parse_cpu_time(stat), Duration::from_secs(2));
        assert_eq!(parse_cpu_time("nonsense"), Duration::ZERO);
    }
}
