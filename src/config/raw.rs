//! The configuration as it is written: sections and keys, all optional, with their defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::error::Kind;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use ragstone_index::store::StoreOptions;
use ragstone_ingest::chunk::{ChunkSettings, ChunkerParams};
use ragstone_ingest::document::{Duplicates, IngestOptions, Passwords, PathFields, Resemblance, check_ttl};
use ragstone_ingest::embed::cache::{MAX_CACHE_BYTES, MIN_CACHE_BYTES};
use ragstone_ingest::embed::config::EmbedderConfig;
use ragstone_ingest::extract::ExtractLimits;
use ragstone_ingest::pipeline::PipelineConfig;
use ragstone_ingest::source::SourceConfig;
use serde::Deserialize;

use super::units::{ByteSize, Time};
use super::{Config, ConfigError, EmbeddingConfig, LogConfig, Overrides, ServerConfig, VERSION, WatchConfig};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    version: u32,
    server: RawServer,
    data: RawData,
    engine: RawEngine,
    search: RawSearch,
    ingest: RawIngest,
    embedding: RawEmbedding,
    embedders: BTreeMap<String, EmbedderConfig>,
    onnxruntime: RawOnnxRuntime,
    watch: Vec<RawWatch>,
    log: RawLog,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawServer {
    listen: String,
    max_message_bytes: ByteSize,
    max_in_flight: usize,
    request_timeout: Time,
    shutdown_grace: Time,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawData {
    dir: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawEngine {
    memtable_max_bytes: ByteSize,
    memtable_max_rows: usize,
    log_max_bytes: ByteSize,
    build_threads: usize,
    background_cpu_share: f32,
    compact_deleted_share: f32,
    compact_fan_in: usize,
    compact_max_segment_bytes: ByteSize,
    verify_checksums: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSearch {
    sampled_recall_share: f32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawIngest {
    duplicates: Duplicates,
    near_duplicates: bool,
    near_duplicate_threshold: f32,
    extract: RawExtract,
    chunk: ChunkSettings,
    pipeline: RawPipeline,
    folders: RawFolders,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawExtract {
    max_source_bytes: ByteSize,
    max_unpacked_bytes: ByteSize,
    max_text_bytes: ByteSize,
    max_pages: usize,
    timeout: Time,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPipeline {
    max_in_flight_bytes: Option<ByteSize>,
    /// 0: one a core.
    extract_threads: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawFolders {
    events: bool,
    reingest_outdated: bool,
    scan_interval: Time,
    poll_interval: Time,
    max_file_bytes: ByteSize,
    max_files: usize,
    concurrent_files: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawEmbedding {
    /// 0: no cache.
    cache_bytes: ByteSize,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawOnnxRuntime {
    /// Empty: looked for.
    library: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWatch {
    path: PathBuf,
    collection: String,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default)]
    poll: bool,
    #[serde(default)]
    passwords: Vec<String>,
    #[serde(default)]
    password_file: Option<PathBuf>,
    #[serde(default)]
    path_fields: String,
    #[serde(default)]
    chunk: ChunkSettings,
    #[serde(default)]
    duplicates: Option<Duplicates>,
    #[serde(default)]
    near_duplicates: Option<bool>,
    #[serde(default)]
    near_duplicate_threshold: Option<f32>,
    #[serde(default)]
    ttl: Option<Time>,
}

impl RawWatch {
    fn options(&self, key: &str) -> Result<IngestOptions, ragstone_ingest::Error> {
        let named = |error: ragstone_ingest::Error| {
            let field = error.field().unwrap_or_default().to_owned();
            if field.starts_with(key) { error } else { error.at(format!("{key}.{field}")) }
        };
        self.chunk.check(&format!("{key}.chunk")).map_err(named)?;
        let ttl_seconds = self.ttl.map(|ttl| ttl.0.as_secs());
        ttl_seconds.map_or(Ok(()), |seconds| check_ttl(seconds, &format!("{key}.ttl")))?;
        Ok(IngestOptions {
            passwords: Passwords::new(self.passwords.clone()).map_err(named)?,
            path_fields: PathFields::parse_optional(&self.path_fields).map_err(named)?,
            chunk: self.chunk.clone(),
            duplicates: self.duplicates,
            near_duplicates: self.near_duplicates,
            near_duplicate_threshold: self
                .near_duplicate_threshold
                .map(Resemblance::new)
                .transpose()
                .map_err(named)?,
            ttl_seconds,
        })
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLog {
    level: String,
    format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            version: VERSION,
            server: RawServer::default(),
            data: RawData::default(),
            engine: RawEngine::default(),
            search: RawSearch::default(),
            ingest: RawIngest::default(),
            embedding: RawEmbedding::default(),
            embedders: BTreeMap::new(),
            onnxruntime: RawOnnxRuntime::default(),
            watch: Vec::new(),
            log: RawLog::default(),
        }
    }
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7700".into(),
            max_message_bytes: ByteSize(64 << 20),
            max_in_flight: 256,
            request_timeout: Time(Duration::from_secs(30)),
            shutdown_grace: Time(Duration::from_secs(10)),
        }
    }
}

impl Default for RawData {
    fn default() -> Self {
        Self { dir: "./ragstone-data".into() }
    }
}

impl Default for RawEngine {
    fn default() -> Self {
        let engine = StoreOptions::default();
        Self {
            memtable_max_bytes: ByteSize(engine.memtable_max_bytes),
            memtable_max_rows: engine.memtable_max_rows,
            log_max_bytes: ByteSize(usize::try_from(engine.log_max_bytes).unwrap_or(usize::MAX)),
            build_threads: engine.build_threads,
            background_cpu_share: engine.background_cpu_share,
            compact_deleted_share: engine.compact_deleted_share,
            compact_fan_in: engine.compact_fan_in,
            compact_max_segment_bytes: ByteSize(
                usize::try_from(engine.compact_max_segment_bytes).unwrap_or(usize::MAX),
            ),
            verify_checksums: engine.verify_checksums,
        }
    }
}

impl Default for RawSearch {
    fn default() -> Self {
        Self { sampled_recall_share: StoreOptions::default().sampled_recall_share }
    }
}

impl Default for RawEmbedding {
    fn default() -> Self {
        Self { cache_bytes: ByteSize(1 << 30) }
    }
}

impl Default for RawIngest {
    fn default() -> Self {
        let pipeline = PipelineConfig::default();
        Self {
            duplicates: pipeline.duplicates,
            near_duplicates: pipeline.near_duplicates,
            near_duplicate_threshold: pipeline.near_duplicate_threshold,
            extract: RawExtract::default(),
            chunk: ChunkSettings::default(),
            pipeline: RawPipeline::default(),
            folders: RawFolders::default(),
        }
    }
}

impl Default for RawExtract {
    fn default() -> Self {
        let limits = ExtractLimits::default();
        Self {
            max_source_bytes: ByteSize(limits.max_source_bytes),
            max_unpacked_bytes: ByteSize(usize::try_from(limits.max_unpacked_bytes).unwrap_or(usize::MAX)),
            max_text_bytes: ByteSize(limits.max_text_bytes),
            max_pages: limits.max_pages,
            timeout: Time(limits.timeout),
        }
    }
}

impl Default for RawFolders {
    fn default() -> Self {
        let folders = SourceConfig::default();
        Self {
            events: folders.events,
            reingest_outdated: folders.reingest_outdated,
            scan_interval: Time(folders.scan_interval),
            poll_interval: Time(folders.poll_interval),
            max_file_bytes: ByteSize(usize::try_from(folders.max_file_bytes).unwrap_or(usize::MAX)),
            max_files: folders.max_files,
            concurrent_files: folders.concurrent_files,
        }
    }
}

impl RawExtract {
    fn meaning(self) -> ExtractLimits {
        ExtractLimits {
            max_source_bytes: self.max_source_bytes.0,
            max_unpacked_bytes: self.max_unpacked_bytes.0 as u64,
            max_text_bytes: self.max_text_bytes.0,
            max_pages: self.max_pages,
            timeout: self.timeout.0,
            // Whoever starts the server says whether it can start itself again.
            isolation: None,
        }
    }
}

impl RawIngest {
    fn pipeline(&self) -> PipelineConfig {
        let default = PipelineConfig::default();
        let threads = self.pipeline.extract_threads;
        let mut chunker = ChunkerParams::default();
        self.chunk.apply_to_all(&mut chunker);
        PipelineConfig {
            extract: self.extract.clone().meaning(),
            chunker,
            chunk: ChunkSettings { by_type: self.chunk.by_type.clone(), ..ChunkSettings::default() },
            max_in_flight_bytes: self
                .pipeline
                .max_in_flight_bytes
                .map_or(default.max_in_flight_bytes, |size| size.0),
            extract_parallelism: if threads == 0 { default.extract_parallelism } else { threads },
            duplicates: self.duplicates,
            near_duplicates: self.near_duplicates,
            near_duplicate_threshold: self.near_duplicate_threshold,
        }
    }

    fn sources(&self) -> SourceConfig {
        SourceConfig {
            events: self.folders.events,
            reingest_outdated: self.folders.reingest_outdated,
            scan_interval: self.folders.scan_interval.0,
            poll_interval: self.folders.poll_interval.0,
            max_file_bytes: self.folders.max_file_bytes.0 as u64,
            max_files: self.folders.max_files,
            concurrent_files: self.folders.concurrent_files,
            ..SourceConfig::default()
        }
    }

    /// Keys with their value and bounds.
    fn bounds(&self) -> [(&'static str, usize, usize, usize); 10] {
        let ms = |time: Time| usize::try_from(time.0.as_millis()).unwrap_or(usize::MAX);
        let (extract, folders) = (&self.extract, &self.folders);
        let in_flight = self.pipeline().max_in_flight_bytes;
        [
            ("ingest.extract.max_source_bytes", extract.max_source_bytes.0, 1, 4 << 30),
            ("ingest.extract.max_unpacked_bytes", extract.max_unpacked_bytes.0, 1, 16 << 30),
            ("ingest.extract.max_text_bytes", extract.max_text_bytes.0, 1, 1 << 30),
            ("ingest.extract.max_pages", extract.max_pages, 1, 1_000_000),
            ("ingest.extract.timeout", ms(extract.timeout), 10, 3_600_000),
            ("ingest.pipeline.max_in_flight_bytes", in_flight, 1 << 20, 64 << 30),
            ("ingest.pipeline.extract_threads", self.pipeline.extract_threads, 0, 1_024),
            ("ingest.folders.scan_interval", ms(folders.scan_interval), 100, 7 * 24 * 3_600_000),
            ("ingest.folders.poll_interval", ms(folders.poll_interval), 100, 7 * 24 * 3_600_000),
            ("ingest.folders.concurrent_files", folders.concurrent_files, 1, 1_024),
        ]
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Start of the environment variables that are read.
const ENV_PREFIX: &str = "RAGSTONE_";

/// An environment variable as a source of one key.
struct Variable {
    name: String,
    value: String,
}

impl Variable {
    /// `RAGSTONE_SERVER__LISTEN` -> `server.listen`; `None` for a variable that isn't a key.
    fn key(&self) -> Option<String> {
        let key = self.name.strip_prefix(ENV_PREFIX)?;
        key.contains("__").then(|| key.to_ascii_lowercase().replace("__", "."))
    }
}

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("environment variable {}", self.name))
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let value: Value = self.value.parse().unwrap_or_else(|never| match never {});
        let dict = self.key().map(|key| figment::util::nest(&key, value)).and_then(Value::into_dict);
        Ok(Profile::Default.collect(dict.unwrap_or_default()))
    }
}

/// Reads file and environment.
pub(super) fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<RawConfig, ConfigError> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        if !path.is_file() {
            return Err(ConfigError(format!("config file {}: there is no such file", path.display())));
        }
        figment = figment.merge(Toml::file_exact(path));
    }
    let variables = environment.map(|(name, value)| Variable { name, value });
    let figment = variables.filter(|v| v.key().is_some()).fold(figment, Figment::merge);
    figment.extract().map_err(explain)
}

/// One line for each thing that is wrong, with its key and where it was written.
fn explain(error: figment::Error) -> ConfigError {
    let lines = error.into_iter().map(|error| {
        let place = error.metadata.as_ref().map(|metadata| match &metadata.source {
            Some(source) => format!(" (in {source})"),
            None => format!(" (in {})", metadata.name),
        });
        let key = |last: Option<&str>| {
            let parts: Vec<&str> = error.path.iter().map(String::as_str).chain(last).collect();
            if parts.is_empty() { "config".into() } else { parts.join(".") }
        };
        let line = match &error.kind {
            Kind::UnknownField(name, known) => {
                let path_names_it = error.path.last().is_some_and(|last| last == name);
                let key = key((!path_names_it).then_some(name.as_str()));
                format!("{key}: there is no such key; known here: {}", known.join(", "))
            }
            kind => format!("{}: {kind}", key(None)),
        };
        line + &place.unwrap_or_default()
    });
    ConfigError(lines.collect::<Vec<_>>().join("\n"))
}

impl RawConfig {
    /// Puts the flags over it, checks it, and says what it means.
    pub(super) fn resolve(mut self, overrides: Overrides) -> Result<Config, ConfigError> {
        let set = |place: &mut String, value: Option<String>| {
            if let Some(value) = value {
                *place = value;
            }
        };
        set(&mut self.server.listen, overrides.listen);
        set(&mut self.log.level, overrides.log_level);
        if let Some(dir) = overrides.data_dir {
            self.data.dir = dir;
        }
        if let Some(format) = overrides.log_format {
            self.log.format = format;
        }
        self.check()?;
        let mut config = self.meaning();
        config.watch.extend(overrides.watch);
        for (i, watch) in config.watch.iter().enumerate() {
            ragstone_index::schema::check_name(&watch.collection, &format!("watch[{i}].collection"))
                .map_err(|e| ConfigError(e.to_string()))?;
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, message: String| Err(ConfigError(format!("{key}: {message}")));
        if self.version != VERSION {
            return refuse(
                "version",
                format!("{} is not known here; this release reads {VERSION}", self.version),
            );
        }
        let port = self
            .server
            .listen
            .rsplit_once(':')
            .and_then(|(host, port)| if host.is_empty() { None } else { port.parse::<u16>().ok() });
        if port.is_none() {
            return refuse("server.listen", format!("{:?} is not host:port", self.server.listen));
        }
        let bounds = [
            ("server.max_message_bytes", self.server.max_message_bytes.0, 1 << 10, 1 << 30),
            ("server.max_in_flight", self.server.max_in_flight, 1, 1 << 20),
            ("engine.memtable_max_bytes", self.engine.memtable_max_bytes.0, 1 << 20, 64 << 30),
            ("engine.memtable_max_rows", self.engine.memtable_max_rows, 100, 100_000_000),
            ("engine.log_max_bytes", self.engine.log_max_bytes.0, 1 << 20, 1 << 40),
            ("engine.build_threads", self.engine.build_threads, 0, 1_024),
            ("engine.compact_fan_in", self.engine.compact_fan_in, 2, 1_000),
        ];
        for (key, value, least, most) in bounds.into_iter().chain(self.ingest.bounds()) {
            if !(least..=most).contains(&value) {
                return refuse(key, format!("{value} is not between {least} and {most}"));
            }
        }
        let (cache, least) = (self.embedding.cache_bytes.0 as u64, MIN_CACHE_BYTES);
        if cache != 0 && !(least..=MAX_CACHE_BYTES).contains(&cache) {
            let message = format!("{cache} is neither 0 nor between {least} and {MAX_CACHE_BYTES}");
            return refuse("embedding.cache_bytes", message);
        }
        if self.server.request_timeout.0.is_zero() {
            return refuse("server.request_timeout", "is zero: no call could end in time".into());
        }
        for (key, share) in [
            ("engine.compact_deleted_share", self.engine.compact_deleted_share),
            ("engine.background_cpu_share", self.engine.background_cpu_share),
        ] {
            if !(share > 0.0 && share <= 1.0) {
                return refuse(key, format!("{share} is not above 0 and at most 1"));
            }
        }
        let share = self.search.sampled_recall_share;
        if !(0.0..=1.0).contains(&share) {
            return refuse("search.sampled_recall_share", format!("{share} is not between 0 and 1"));
        }
        if let Err(error) = Resemblance::new(self.ingest.near_duplicate_threshold) {
            return refuse("ingest.near_duplicate_threshold", error.message().to_owned());
        }
        for (name, embedder) in &self.embedders {
            let named =
                |e: ragstone_ingest::Error| ConfigError(format!("{}: {e}", e.field().unwrap_or("embedders")));
            embedder.validate(&format!("embedders.{name}")).map_err(named)?;
        }
        let named = |error: ragstone_ingest::Error| {
            ConfigError(format!("{}: {}", error.field().unwrap_or("watch"), error.message()))
        };
        self.ingest.chunk.check("ingest.chunk").map_err(named)?;
        for (i, watch) in self.watch.iter().enumerate() {
            watch.options(&format!("watch[{i}]")).map_err(named)?;
        }
        if self.data.dir.as_os_str().is_empty() {
            return refuse("data.dir", "is empty".into());
        }
        Ok(())
    }

    /// What it means, where nothing is left to check.
    pub(super) fn meaning(self) -> Config {
        let Self {
            version: _,
            server,
            data,
            engine,
            search,
            ingest,
            embedding,
            embedders,
            onnxruntime,
            watch,
            log,
        } = self;
        Config {
            server: ServerConfig {
                listen: server.listen,
                max_message_bytes: server.max_message_bytes.0,
                max_in_flight: server.max_in_flight,
                request_timeout: server.request_timeout.0,
                shutdown_grace: server.shutdown_grace.0,
            },
            data_dir: data.dir,
            engine: StoreOptions {
                memtable_max_bytes: engine.memtable_max_bytes.0,
                memtable_max_rows: engine.memtable_max_rows,
                log_max_bytes: engine.log_max_bytes.0 as u64,
                build_threads: engine.build_threads,
                background_cpu_share: engine.background_cpu_share,
                compact_deleted_share: engine.compact_deleted_share,
                compact_fan_in: engine.compact_fan_in,
                compact_max_segment_bytes: engine.compact_max_segment_bytes.0 as u64,
                verify_checksums: engine.verify_checksums,
                sampled_recall_share: search.sampled_recall_share,
                ..StoreOptions::default()
            },
            pipeline: ingest.pipeline(),
            sources: ingest.sources(),
            embedding: EmbeddingConfig { cache_bytes: embedding.cache_bytes.0 as u64 },
            embedders,
            onnxruntime: Some(onnxruntime.library).filter(|path| !path.as_os_str().is_empty()),
            watch: watch
                .into_iter()
                .map(|w| WatchConfig {
                    // What can't be resolved was refused before.
                    options: w.options("watch").unwrap_or_default(),
                    password_file: w.password_file,
                    path: w.path,
                    collection: w.collection,
                    ignore: w.ignore,
                    poll: w.poll,
                })
                .collect(),
            log: LogConfig { level: log.level, format: log.format },
        }
    }
}
