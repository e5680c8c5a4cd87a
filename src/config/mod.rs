//! The configuration: what was written (file, environment, flags) and what it means.
//!
//! Flags win over the environment, that over the file, that over the defaults. An environment variable is
//! `RAGSTONE_` and the key with `__` between its parts: `RAGSTONE_SERVER__LISTEN=0.0.0.0:7700`. Variables without
//! `__` belong to others. A key that doesn't exist is an error that names it.

mod raw;
pub(crate) mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ragstone_index::store::StoreOptions;
use ragstone_ingest::document::IngestOptions;
use ragstone_ingest::embed::config::EmbedderConfig;
use ragstone_ingest::pipeline::PipelineConfig;
use ragstone_ingest::source::SourceConfig;

pub use raw::LogFormat;

/// The only version of the file's layout that this release reads.
pub const VERSION: u32 = 1;

/// Everything that can be set, resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// The network side.
    pub server: ServerConfig,
    /// Folder of all data.
    pub data_dir: PathBuf,
    /// The engine's use of memory and cores.
    pub engine: StoreOptions,
    /// Extraction, chunking and the pipeline's bounds.
    pub pipeline: PipelineConfig,
    /// How folders are watched.
    pub sources: SourceConfig,
    /// What is kept of embedding.
    pub embedding: EmbeddingConfig,
    /// Embedders beside the built-in one, by name.
    pub embedders: BTreeMap<String, EmbedderConfig>,
    /// The ONNX Runtime library, for embedders that need it; absent: `ORT_DYLIB_PATH`, then the system's path.
    pub onnxruntime: Option<PathBuf>,
    /// Folders that are watched from the start.
    pub watch: Vec<WatchConfig>,
    /// Logging.
    pub log: LogConfig,
}

/// The network side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Largest message that is read.
    pub max_message_bytes: usize,
    /// Calls that may run at once; more are refused.
    pub max_in_flight: usize,
    /// Longest time of a call that isn't a stream, an upload or maintenance.
    pub request_timeout: Duration,
    /// Time that running calls have to end when the server goes down.
    pub shutdown_grace: Duration,
}

/// What is kept of embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingConfig {
    /// Bytes of vectors that are kept for texts that come again; 0: none are.
    pub cache_bytes: u64,
}

/// A folder that is watched from the start. Its collection is created when it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchConfig {
    /// The folder.
    pub path: PathBuf,
    /// Where its documents go.
    pub collection: String,
    /// Patterns in `.gitignore` form.
    pub ignore: Vec<String>,
    /// Changes are found by scans only.
    pub poll: bool,
    /// How its files are read.
    pub options: IngestOptions,
    /// A file with more passwords, one a line.
    pub password_file: Option<PathBuf>,
}

impl std::str::FromStr for WatchConfig {
    type Err = ConfigError;

    /// `DIR=COLLECTION`; a folder's name may hold "=", a collection's can't.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.rsplit_once('=') {
            Some((path, collection)) if !path.is_empty() && !collection.is_empty() => Ok(Self {
                path: path.into(),
                collection: collection.into(),
                ignore: Vec::new(),
                poll: false,
                options: IngestOptions::default(),
                password_file: None,
            }),
            _ => Err(ConfigError(format!("{text:?} is not DIR=COLLECTION"))),
        }
    }
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A level (`info`) or directives (`info,ragstone_index=debug`).
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// What flags set. `None` leaves the value of environment, file or default.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
    /// `--watch`, beside those of the file.
    pub watch: Vec<WatchConfig>,
}

/// Why a configuration is refused: the key, what was found, what was expected.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

impl Config {
    /// Reads a configuration. A `file` that is given has to exist.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let text = |os: std::ffi::OsString| os.into_string().ok();
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        Self::load_with(file, environment, overrides)
    }

    fn load_with(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<Self, ConfigError> {
        raw::load(file, environment)?.resolve(overrides)
    }
}

impl Default for Config {
    fn default() -> Self {
        raw::RawConfig::default().meaning()
    }
}

#[cfg(test)]
mod tests;
