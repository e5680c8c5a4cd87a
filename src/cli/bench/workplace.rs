//! The folders of a measurement: where the data is, and what becomes of it afterwards.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::cli::failure::Outcome;

/// A data directory, and a temporary folder beside it.
#[derive(Debug)]
pub(super) struct Workplace {
    data: PathBuf,
    scratch: PathBuf,
    /// The data is in the temporary folder and is to stay.
    keep: bool,
}

impl Workplace {
    /// `data`: where the data is or will be; absent: in the temporary folder.
    pub(super) fn new(data: Option<&Path>, keep: bool) -> Outcome<Self> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
        let scratch = std::env::temp_dir().join(format!("ragstone-bench-{}-{nanos}", std::process::id()));
        std::fs::create_dir(&scratch).with_context(|| scratch.display().to_string())?;
        let keep = keep && data.is_none();
        Ok(Self { data: data.map_or_else(|| scratch.join("data"), Path::to_owned), scratch, keep })
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Another data directory.
    pub(super) fn second(&self) -> PathBuf {
        self.scratch.join("inserts")
    }

    /// Says where data was kept.
    pub(super) fn tell(&self) {
        if self.keep {
            eprintln!("kept; measure it again with --reuse {}", self.data.display());
        }
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let gone = if self.keep { self.second() } else { self.scratch.clone() };
        match std::fs::remove_dir_all(&gone) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("could not remove {}: {error}", gone.display());
            }
            _ => {}
        }
    }
}
