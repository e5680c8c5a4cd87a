//! The configured embedders by name. Each is loaded when it is first needed; one that can't be loaded is an error of
//! its own and leaves the others alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::config::EmbedderConfig;
use super::fastembed::OnnxEmbedder;
use super::minilm::{MINILM, MiniLm};
use super::{Embedder, EmbedderInfo};
use crate::error::{Error, ErrorKind, Result};

/// Most configured embedders.
pub const MAX_EMBEDDERS: usize = 64;
/// Longest name of an embedder, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// An embedder that could not be loaded is not tried again before this.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What all embedders share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryOptions {
    /// The ONNX Runtime library; without it `ORT_DYLIB_PATH` counts, then the system's search path.
    pub onnxruntime: Option<PathBuf>,
    /// Where downloaded models are kept, unless an embedder says otherwise.
    pub cache_dir: PathBuf,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self { onnxruntime: None, cache_dir: PathBuf::from("ragstone-data/models") }
    }
}

/// The configured embedders by name; "minilm" is always among them.
#[derive(Debug)]
pub struct EmbedderRegistry {
    entries: BTreeMap<String, Entry>,
    options: RegistryOptions,
}

/// An embedder as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderStatus {
    /// Its configured name.
    pub name: String,
    /// `builtin`, `fastembed` or `onnx`; `given` for one that the program brought itself.
    pub provider: &'static str,
    /// Present when it is loaded, and always for the built-in one.
    pub info: Option<EmbedderInfo>,
    /// Why it could not be loaded when it was last tried.
    pub error: Option<String>,
}

#[derive(Debug)]
struct Entry {
    source: Source,
    /// Locked while it loads, so that it loads once.
    state: Mutex<State>,
}

#[derive(Debug)]
enum Source {
    Configured(EmbedderConfig),
    Given(Arc<dyn Embedder>),
}

impl Entry {
    fn new(source: Source) -> Self {
        Self { source, state: Mutex::default() }
    }

    /// What is known without loading it.
    fn info(&self, name: &str) -> Option<EmbedderInfo> {
        match &self.source {
            Source::Given(embedder) => Some(embedder.info().clone()),
            Source::Configured(EmbedderConfig::Builtin) => Some(MiniLm::describe(name)),
            Source::Configured(_) => match &*self.state.try_lock()? {
                State::Loaded(embedder) => Some(embedder.info().clone()),
                _ => None,
            },
        }
    }

    fn provider(&self) -> &'static str {
        match &self.source {
            Source::Given(_) => "given",
            Source::Configured(config) => config.provider(),
        }
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    NotLoaded,
    Loaded(Arc<dyn Embedder>),
    Failed(Error, Instant),
}

impl EmbedderRegistry {
    /// Checks the configurations and adds the built-in embedder. Loads nothing.
    pub fn new(configs: BTreeMap<String, EmbedderConfig>, options: RegistryOptions) -> Result<Self> {
        if configs.len() > MAX_EMBEDDERS {
            let message = format!("{} embedders: at most {MAX_EMBEDDERS}", configs.len());
            return Err(Error::invalid("embedders", message));
        }
        let mut entries = BTreeMap::new();
        for (name, config) in configs {
            let at = format!("embedders.{name}");
            check_name(&name, &at)?;
            config.validate(&at)?;
            if name == MINILM && config != EmbedderConfig::Builtin {
                return Err(Error::invalid(at, "this name belongs to the built-in embedder"));
            }
            entries.insert(name, Entry::new(Source::Configured(config)));
        }
        let builtin = || Entry::new(Source::Configured(EmbedderConfig::Builtin));
        entries.entry(MINILM.to_owned()).or_insert_with(builtin);
        Ok(Self { entries, options })
    }

    /// Only the built-in embedder.
    pub fn builtin() -> Self {
        let entry = Entry::new(Source::Configured(EmbedderConfig::Builtin));
        Self { entries: BTreeMap::from([(MINILM.to_owned(), entry)]), options: RegistryOptions::default() }
    }

    /// Adds an embedder that is already there, or replaces the one of that name.
    #[must_use]
    pub fn with(mut self, embedder: Arc<dyn Embedder>) -> Self {
        let name = embedder.info().name.clone();
        self.entries.insert(name, Entry::new(Source::Given(embedder)));
        self
    }

    /// The embedder that a text space gets when nothing is said.
    pub fn default_name(&self) -> &str {
        MINILM
    }

    /// Whether a name is configured.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The error for a name that is not configured; it lists those that are.
    pub fn unknown(&self, name: &str) -> Error {
        let known: Vec<_> = self.entries.keys().map(String::as_str).collect();
        let name: String = name.chars().take(MAX_NAME_BYTES).collect();
        Error::new(ErrorKind::NotFound, format!("no embedder {name:?}; there is: {}", known.join(", ")))
            .at("embedder")
    }

    /// An embedder, loaded. The first call reads files and may download: call it off the async threads.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Embedder>> {
        let entry = self.entries.get(name).ok_or_else(|| self.unknown(name))?;
        let config = match &entry.source {
            Source::Given(embedder) => return Ok(Arc::clone(embedder)),
            Source::Configured(config) => config,
        };
        let mut state = entry.state.lock();
        match &*state {
            State::Loaded(embedder) => return Ok(Arc::clone(embedder)),
            State::Failed(error, at) if at.elapsed() < RETRY_AFTER => return Err(error.clone()),
            State::Failed(..) | State::NotLoaded => {}
        }
        let started = Instant::now();
        match self.load(name, config) {
            Ok(embedder) => {
                tracing::info!(
                    embedder = name,
                    fingerprint = embedder.info().fingerprint,
                    elapsed_ms = started.elapsed().as_millis() as u64,
                    "embedder loaded"
                );
                *state = State::Loaded(Arc::clone(&embedder));
                Ok(embedder)
            }
            Err(error) => {
                let error = Error::new(error.kind(), format!("embedder \"{name}\": {}", error.message()))
                    .at(error.field().unwrap_or("embedder"));
                tracing::warn!(embedder = name, %error, "embedder can't be loaded");
                *state = State::Failed(error.clone(), Instant::now());
                Err(error)
            }
        }
    }

    /// What is known of an embedder. Loads it, unless it is the built-in one.
    pub fn info(&self, name: &str) -> Result<EmbedderInfo> {
        match self.known_info(name)? {
            Some(info) => Ok(info),
            None => self.get(name).map(|embedder| embedder.info().clone()),
        }
    }

    /// What is known of an embedder without loading it: `None` for one that has to be loaded first.
    pub fn known_info(&self, name: &str) -> Result<Option<EmbedderInfo>> {
        let entry = self.entries.get(name).ok_or_else(|| self.unknown(name))?;
        Ok(entry.info(name))
    }

    /// All configured embedders by name, without loading any.
    pub fn list(&self) -> Vec<EmbedderStatus> {
        let status = |(name, entry): (&String, &Entry)| {
            let error = entry.state.try_lock().and_then(|state| match &*state {
                State::Failed(error, _) => Some(error.message().to_owned()),
                _ => None,
            });
            EmbedderStatus { name: name.clone(), provider: entry.provider(), info: entry.info(name), error }
        };
        self.entries.iter().map(status).collect()
    }

    fn load(&self, name: &str, config: &EmbedderConfig) -> Result<Arc<dyn Embedder>> {
        let library = self.options.onnxruntime.as_deref();
        Ok(match config {
            EmbedderConfig::Builtin => Arc::new(MiniLm::load(name)?),
            EmbedderConfig::Fastembed(config) => {
                Arc::new(OnnxEmbedder::from_list(name, config, &self.options.cache_dir, library)?)
            }
            EmbedderConfig::Onnx(config) => Arc::new(OnnxEmbedder::from_folder(name, config, library)?),
        })
    }
}

impl Default for EmbedderRegistry {
    fn default() -> Self {
        Self::builtin()
    }
}

fn check_name(name: &str, at: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
        return Err(Error::invalid(
            at,
            format!("{name:?} is not a name: expected 1 to 128 of A-Z a-z 0-9 _ - ."),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
