//! What a user writes to configure an embedder. Pure data: nothing is opened or checked against the machine here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Fewest tokens that a text may be cut to.
pub const MIN_MAX_TOKENS: usize = 8;
/// Most tokens of a text.
pub const MAX_MAX_TOKENS: usize = 32_768;
/// Longest prefix, in bytes.
pub const MAX_PREFIX_BYTES: usize = 1_024;

/// How to get an embedder. `provider` tells which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "provider", rename_all = "snake_case")]
pub enum EmbedderConfig {
    /// all-MiniLM-L6-v2, which is in the binary.
    Builtin,
    /// A model of fastembed's list, downloaded when it is first used.
    Fastembed(FastembedConfig),
    /// An ONNX model in a folder of this machine.
    Onnx(OnnxConfig),
}

/// A model of fastembed's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FastembedConfig {
    /// `BGESmallENV15` or `Xenova/bge-small-en-v1.5`: the name or the repository, in any case.
    pub model: String,
    /// Where downloaded models are kept; by default a folder that all embedders share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
    /// Most tokens of a text; by default 512, or less where the model says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Put before queries; by default what the model's authors ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_prefix: Option<String>,
    /// Put before documents; by default what the model's authors ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_prefix: Option<String>,
    /// Threads of ONNX Runtime; by default all cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

/// An ONNX model in a folder: `model.onnx`, `tokenizer.json`, and where there are any `config.json`,
/// `tokenizer_config.json`, `special_tokens_map.json` and external weights (`model.onnx_data`, `model.onnx.data`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxConfig {
    /// The folder.
    pub path: PathBuf,
    /// Name of the model in the folder.
    #[serde(default = "default_model_file")]
    pub model_file: String,
    /// How token vectors become the text's vector.
    #[serde(default)]
    pub pooling: Pooling,
    /// Most tokens of a text; by default 512, or less where the tokenizer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Put before queries.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query_prefix: String,
    /// Put before documents.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub document_prefix: String,
    /// Threads of ONNX Runtime; by default all cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

/// How token vectors become the text's vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The first one.
    Cls,
}

fn default_model_file() -> String {
    "model.onnx".to_owned()
}

impl EmbedderConfig {
    /// Checks what can be checked without looking at the machine. `at` names the setting in errors.
    pub fn validate(&self, at: &str) -> Result<()> {
        match self {
            Self::Builtin => Ok(()),
            Self::Fastembed(config) => {
                super::fastembed::find_model(&config.model)
                    .map_err(|error| error.at(format!("{at}.model")))?;
                check_max_tokens(config.max_tokens, at)?;
                check_threads(config.threads, at)?;
                check_prefix(config.query_prefix.as_deref(), at, "query_prefix")?;
                check_prefix(config.document_prefix.as_deref(), at, "document_prefix")
            }
            Self::Onnx(config) => {
                if config.path.as_os_str().is_empty() {
                    return Err(Error::invalid(format!("{at}.path"), "is empty: expected a folder"));
                }
                if config.model_file.is_empty() {
                    return Err(Error::invalid(format!("{at}.model_file"), "is empty: expected a file name"));
                }
                check_max_tokens(config.max_tokens, at)?;
                check_threads(config.threads, at)?;
                check_prefix(Some(&config.query_prefix), at, "query_prefix")?;
                check_prefix(Some(&config.document_prefix), at, "document_prefix")
            }
        }
    }

    /// Name of the provider, as written in the configuration.
    pub fn provider(&self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Fastembed(_) => "fastembed",
            Self::Onnx(_) => "onnx",
        }
    }
}

fn check_max_tokens(max_tokens: Option<usize>, at: &str) -> Result<()> {
    match max_tokens {
        Some(n) if !(MIN_MAX_TOKENS..=MAX_MAX_TOKENS).contains(&n) => Err(Error::invalid(
            format!("{at}.max_tokens"),
            format!("{n} is not between {MIN_MAX_TOKENS} and {MAX_MAX_TOKENS}"),
        )),
        _ => Ok(()),
    }
}

fn check_threads(threads: Option<usize>, at: &str) -> Result<()> {
    match threads {
        Some(n) if !(1..=1_024).contains(&n) => {
            Err(Error::invalid(format!("{at}.threads"), format!("{n} is not between 1 and 1024")))
        }
        _ => Ok(()),
    }
}

fn check_prefix(prefix: Option<&str>, at: &str, key: &str) -> Result<()> {
    match prefix {
        Some(prefix) if prefix.len() > MAX_PREFIX_BYTES => Err(Error::invalid(
            format!("{at}.{key}"),
            format!("has {} bytes: at most {MAX_PREFIX_BYTES}", prefix.len()),
        )),
        _ => Ok(()),
    }
}
