//! Embedders that ONNX Runtime runs, through the `fastembed` crate: models of its list, and a user's own ONNX folder.
//! They need the ONNX Runtime library at run time; nothing else in ragstone does.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fastembed::{
    EmbeddingModel, InitOptionsUserDefined, ModelInfo, Pooling as ModelPooling, QuantizationMode,
    TextEmbedding, TextInitOptions, UserDefinedEmbeddingModel,
};
use parking_lot::Mutex;

use super::config::{FastembedConfig, OnnxConfig, Pooling};
use super::local_model::{LocalModel, quantises_dynamically, short_hash};
use super::onnxruntime;
use super::prefixes;
use super::tokens::{MAX_EMBEDDED_BYTES, TextTokenizer};
use super::vector::unit;
use super::{Embedder, EmbedderInfo};
use crate::error::{Error, ErrorKind, Result};

/// Most tokens of a text where neither configuration nor tokenizer says less.
pub const DEFAULT_MAX_TOKENS: usize = 512;

/// Most tokens of one run of the model, padding included: bounds its memory.
const MAX_RUN_TOKENS: usize = 8_192;

/// A text model run by ONNX Runtime.
pub struct OnnxEmbedder {
    info: EmbedderInfo,
    tokenizer: TextTokenizer,
    /// One run at a time; ONNX Runtime uses the cores inside of a run.
    model: Mutex<TextEmbedding>,
    query_prefix: String,
    document_prefix: String,
    /// Texts run alone, because in a shared run their vectors would depend on each other.
    one_by_one: bool,
}

/// What is the same for listed and local models.
struct Parts {
    name: String,
    model: TextEmbedding,
    identity: String,
    pooling: &'static str,
    query_prefix: String,
    document_prefix: String,
    one_by_one: bool,
}

impl OnnxEmbedder {
    /// Loads a model of fastembed's list; downloads it when the cache does not have it.
    pub fn from_list(
        name: &str,
        config: &FastembedConfig,
        cache: &Path,
        library: Option<&Path>,
    ) -> Result<Self> {
        let info = find_model(&config.model)?;
        let environment = onnxruntime::environment(library)?;
        let cache = config.cache_dir.as_deref().unwrap_or(cache);
        let mut options = TextInitOptions::new(info.model.clone())
            .with_max_length(config.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS))
            .with_cache_dir(cache.to_owned())
            .with_show_download_progress(false)
            .with_environment(environment);
        if let Some(threads) = config.threads {
            options = options.with_intra_threads(threads);
        }
        let model = guarded(&config.model, || TextEmbedding::try_new(options))?;
        let (query, document) = prefixes::trained_with(&info.model);
        let pooling = match TextEmbedding::get_default_pooling_method(&info.model) {
            Some(ModelPooling::Mean) => "mean",
            Some(ModelPooling::Cls) => "cls",
            None => "own",
        };
        Self::new(Parts {
            name: name.to_owned(),
            model,
            identity: format!("fastembed-{}/{}", info.model, weights_identity(&info, cache)?),
            pooling,
            query_prefix: config.query_prefix.clone().unwrap_or_else(|| query.to_owned()),
            document_prefix: config.document_prefix.clone().unwrap_or_else(|| document.to_owned()),
            one_by_one: matches!(
                TextEmbedding::get_quantization_mode(&info.model),
                QuantizationMode::Dynamic
            ),
        })
    }

    /// Loads an ONNX model from a folder of this machine.
    pub fn from_folder(name: &str, config: &OnnxConfig, library: Option<&Path>) -> Result<Self> {
        let max_tokens = config.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        let files = LocalModel::read(config, max_tokens)?;
        let environment = onnxruntime::environment(library)?;
        let one_by_one = quantises_dynamically(&files.onnx);
        let (pooling, pooling_name) = match config.pooling {
            Pooling::Mean => (ModelPooling::Mean, "mean"),
            Pooling::Cls => (ModelPooling::Cls, "cls"),
        };
        let mut model = UserDefinedEmbeddingModel::new(files.onnx, files.tokenizer).with_pooling(pooling);
        for (file, content) in files.external {
            model = model.with_external_initializer(file, content);
        }
        let mut options =
            InitOptionsUserDefined::new().with_max_length(max_tokens).with_environment(environment);
        if let Some(threads) = config.threads {
            options = options.with_intra_threads(threads);
        }
        let path = config.path.display().to_string();
        let model = guarded(&path, || TextEmbedding::try_new_from_user_defined(model, options))?;
        Self::new(Parts {
            name: name.to_owned(),
            model,
            identity: format!("onnx/blake3-{}", files.hash),
            pooling: pooling_name,
            query_prefix: config.query_prefix.clone(),
            document_prefix: config.document_prefix.clone(),
            one_by_one,
        })
    }

    /// Embeds a probe to learn the dimension, and to fail now rather than at the first document.
    fn new(mut parts: Parts) -> Result<Self> {
        let limit = parts.model.tokenizer.get_truncation().map(|truncation| truncation.max_length);
        let max_tokens = limit.unwrap_or(DEFAULT_MAX_TOKENS);
        let tokenizer = TextTokenizer::new(parts.model.tokenizer.clone(), max_tokens)?;
        let probe = guarded(&parts.name, || parts.model.embed(["probe"], Some(1)))?;
        let dimension = probe.first().map_or(0, Vec::len);
        let dimension =
            u32::try_from(dimension).ok().filter(|&dimension| dimension > 0).ok_or_else(|| {
                Error::bad_content(format!(
                    "the model of embedder \"{}\" makes vectors of {dimension} components",
                    parts.name
                ))
            })?;
        let prefixes = prefix_identity(&parts.query_prefix, &parts.document_prefix);
        let fingerprint =
            format!("{}/d{dimension}/{}/l2/{max_tokens}{prefixes}", parts.identity, parts.pooling);
        Ok(Self {
            info: EmbedderInfo { name: parts.name, dimension, max_tokens, fingerprint },
            tokenizer,
            model: Mutex::new(parts.model),
            query_prefix: parts.query_prefix,
            document_prefix: parts.document_prefix,
            one_by_one: parts.one_by_one,
        })
    }

    fn run(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let vectors = guarded(&self.info.name, || self.model.lock().embed(texts, Some(texts.len())))?;
        if vectors.len() != texts.len() {
            let message = format!("the model made {} vectors of {} texts", vectors.len(), texts.len());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        vectors.into_iter().map(unit).collect()
    }

    /// Tokens that a text takes in a run.
    fn tokens(&self, text: &str) -> Result<usize> {
        self.tokenizer.ids(text).map(|ids| ids.len().max(1))
    }
}

impl Embedder for OnnxEmbedder {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    fn token_spans(&self, text: &str) -> Result<Vec<Range<usize>>> {
        self.tokenizer.spans(text)
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut order = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate() {
            let text = prefixed(&self.document_prefix, text);
            order.push((self.tokens(&text)?, at, text));
        }
        // Texts of like length share a run: little is padded.
        order.sort_by_key(|(tokens, at, _)| (*tokens, *at));
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (run, behind) = rest.split_at(self.run_length(rest));
            let run_texts: Vec<String> = run.iter().map(|(_, _, text)| text.clone()).collect();
            for (vector, (_, at, _)) in self.run(&run_texts)?.into_iter().zip(run) {
                if let Some(slot) = vectors.get_mut(*at) {
                    *slot = vector;
                }
            }
            rest = behind;
        }
        Ok(vectors)
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>> {
        let vectors = self.run(&[prefixed(&self.query_prefix, text)])?;
        let none = || Error::new(ErrorKind::Internal, "the model made no vector");
        vectors.into_iter().next().ok_or_else(none)
    }
}

impl OnnxEmbedder {
    /// How many of the texts, sorted by length, fit one run.
    fn run_length(&self, sorted: &[(usize, usize, String)]) -> usize {
        if self.one_by_one {
            return 1.min(sorted.len());
        }
        let fits = |(before, (tokens, _, _)): &(usize, &(usize, usize, String))| {
            (before + 1) * tokens <= MAX_RUN_TOKENS
        };
        sorted.iter().enumerate().take_while(fits).count().clamp(1, sorted.len().max(1))
    }
}

impl std::fmt::Debug for OnnxEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxEmbedder").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Finds a model of fastembed's list by its name or its repository, in any case.
pub(super) fn find_model(name: &str) -> Result<ModelInfo<EmbeddingModel>> {
    let models = TextEmbedding::list_supported_models();
    let matches = |info: &&ModelInfo<EmbeddingModel>| {
        info.model.to_string().eq_ignore_ascii_case(name) || info.model_code.eq_ignore_ascii_case(name)
    };
    models.iter().find(matches).cloned().ok_or_else(|| {
        let mut known: Vec<_> = models.iter().map(|info| info.model.to_string()).collect();
        known.sort();
        Error::invalid(
            "model",
            format!("no model {name:?} in the list of fastembed; there is: {}", known.join(", ")),
        )
    })
}

/// Runs a call of fastembed; a panic in it, or below it, is an error of this embedder and no more.
fn guarded<T>(what: &str, call: impl FnOnce() -> fastembed::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(translate(what, &error)),
        Err(_) => Err(Error::new(ErrorKind::Internal, format!("{what}: the model failed unexpectedly"))),
    }
}

fn translate(what: &str, error: &fastembed::Error) -> Error {
    use fastembed::Error as E;
    let kind = match error {
        E::ModelRetrieval { .. } | E::Io(_) => ErrorKind::Unavailable,
        E::TokenizerConfig(_) | E::OrtBuilder(_) | E::OutputKeyMissing { .. } | E::InvalidShape(_) => {
            ErrorKind::BadContent
        }
        _ => ErrorKind::Internal,
    };
    let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    Error::new(kind, format!("{what}: {error}{cause}"))
}

/// Hash of the downloaded weights. The cache keeps them as `models--OWNER--NAME/snapshots/REVISION/FILE`.
fn weights_identity(info: &ModelInfo<EmbeddingModel>, cache: &Path) -> Result<String> {
    let cache = std::env::var_os("HF_HOME").map_or_else(|| cache.to_owned(), PathBuf::from);
    let repository = cache.join(format!("models--{}", info.model_code.replace('/', "--")));
    let unreadable = |error: std::io::Error| {
        let message = format!("the downloaded model in {} can't be read: {error}", repository.display());
        Error::new(ErrorKind::Unavailable, message)
    };
    let revision = std::fs::read_to_string(repository.join("refs").join("main")).map_err(unreadable)?;
    let weights = repository.join("snapshots").join(revision.trim()).join(&info.model_file);
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(weights).map_err(unreadable)?;
    hasher.update_reader(file).map_err(unreadable)?;
    Ok(format!("blake3-{}", short_hash(&hasher.finalize())))
}

/// Part of the fingerprint; empty without prefixes.
fn prefix_identity(query: &str, document: &str) -> String {
    if query.is_empty() && document.is_empty() {
        return String::new();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(query.len() as u64).to_le_bytes());
    hasher.update(query.as_bytes());
    hasher.update(document.as_bytes());
    format!("/prefixes-{}", short_hash(&hasher.finalize()))
}

fn prefixed(prefix: &str, text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(MAX_EMBEDDED_BYTES)).unwrap_or(text);
    format!("{prefix}{text}")
}

#[cfg(test)]
mod tests;
