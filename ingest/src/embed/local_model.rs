//! Reads a user's model folder: the ONNX file, its tokenizer, its external weights. Runs nothing.

use std::path::Path;

use fastembed::TokenizerFiles;
use serde_json::{Value, json};

use super::config::OnnxConfig;
use crate::error::{Error, ErrorKind, Result};

/// Largest model, external weights included.
pub const MAX_MODEL_BYTES: u64 = 16 << 30;
/// Largest tokenizer or configuration file.
pub const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// What a folder held.
pub(super) struct LocalModel {
    pub onnx: Vec<u8>,
    /// File name and content of weights beside the model.
    pub external: Vec<(String, Vec<u8>)>,
    pub tokenizer: TokenizerFiles,
    /// First 16 hexadecimal digits of the BLAKE3 hash of model, external weights and tokenizer.
    pub hash: String,
}

impl LocalModel {
    /// Reads the folder of `config`. Errors name the file.
    pub fn read(config: &OnnxConfig, max_tokens: usize) -> Result<Self> {
        let folder = &config.path;
        let mut budget = MAX_MODEL_BYTES;
        let onnx = read_required(&folder.join(&config.model_file), &mut budget)?;
        let mut external = Vec::new();
        for suffix in ["_data", ".data"] {
            let name = format!("{}{suffix}", config.model_file);
            if let Some(content) = read_optional(&folder.join(&name), &mut budget)? {
                // The model names it relative to itself.
                let name = Path::new(&name).file_name().map(|name| name.to_string_lossy().into_owned());
                external.push((name.unwrap_or_default(), content));
            }
        }
        let tokenizer = read_tokenizer(folder, max_tokens)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&onnx);
        for (_, content) in &external {
            hasher.update(content);
        }
        hasher.update(&tokenizer.tokenizer_file);
        Ok(Self { onnx, external, hash: short_hash(&hasher.finalize()), tokenizer })
    }
}

/// First 16 hexadecimal digits of a hash: enough to tell models apart, short enough to be read.
pub(super) fn short_hash(hash: &blake3::Hash) -> String {
    hash.to_hex().chars().take(16).collect()
}

/// Whether a model quantises its activations by the range of the whole batch: then texts must run one by one for a
/// text's vector not to depend on its neighbours. The operator's name stands in the file as it is.
pub(super) fn quantises_dynamically(onnx: &[u8]) -> bool {
    const OPERATOR: &[u8] = b"DynamicQuantizeLinear";
    onnx.windows(OPERATOR.len()).any(|window| window == OPERATOR)
}

fn read_tokenizer(folder: &Path, max_tokens: usize) -> Result<TokenizerFiles> {
    let tokenizer_path = folder.join("tokenizer.json");
    let mut budget = MAX_TOKENIZER_BYTES;
    let tokenizer_file = read_required(&tokenizer_path, &mut budget)?;
    let tokenizer: Value =
        serde_json::from_slice(&tokenizer_file).map_err(|error| bad(&tokenizer_path, &error))?;
    let mut settings = read_json(&folder.join("tokenizer_config.json"), &mut budget)?;
    if !settings.is_object() {
        settings = json!({});
    }
    if let Some(settings) = settings.as_object_mut() {
        if !settings.get("model_max_length").is_some_and(Value::is_number) {
            settings.insert("model_max_length".to_owned(), json!(max_tokens));
        }
        let pad = settings.get("pad_token");
        if !pad.is_some_and(|pad| pad.is_string() || pad.get("content").is_some_and(Value::is_string)) {
            settings.insert("pad_token".to_owned(), json!(pad_token(&tokenizer)));
        }
    }
    let or_empty = |value: Value| if value.is_object() { value } else { json!({}) };
    let config = or_empty(read_json(&folder.join("config.json"), &mut budget)?);
    let special = or_empty(read_json(&folder.join("special_tokens_map.json"), &mut budget)?);
    Ok(TokenizerFiles {
        tokenizer_file,
        config_file: config.to_string().into_bytes(),
        special_tokens_map_file: special.to_string().into_bytes(),
        tokenizer_config_file: settings.to_string().into_bytes(),
    })
}

/// The padding token that a tokenizer file names, or the first added token that looks like one.
fn pad_token(tokenizer: &Value) -> String {
    let named = tokenizer.get("padding").and_then(|padding| padding.get("pad_token")).and_then(Value::as_str);
    let added = || {
        let tokens = tokenizer.get("added_tokens")?.as_array()?;
        let mut contents = tokens.iter().filter_map(|token| token.get("content")?.as_str());
        contents.find(|content| content.to_ascii_lowercase().contains("pad"))
    };
    named.or_else(added).unwrap_or("[PAD]").to_owned()
}

fn read_json(path: &Path, budget: &mut u64) -> Result<Value> {
    match read_optional(path, budget)? {
        Some(content) => serde_json::from_slice(&content).map_err(|error| bad(path, &error)),
        None => Ok(Value::Null),
    }
}

fn read_required(path: &Path, budget: &mut u64) -> Result<Vec<u8>> {
    read_optional(path, budget)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no {}", path.display()))
            .at(path.display().to_string())
    })
}

fn read_optional(path: &Path, budget: &mut u64) -> Result<Option<Vec<u8>>> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    };
    *budget = budget.checked_sub(size).ok_or_else(|| {
        Error::new(ErrorKind::ResourceExhausted, format!("{} is too large: {size} bytes", path.display()))
    })?;
    std::fs::read(path).map(Some).map_err(|error| unreadable(path, &error))
}

fn bad(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::bad_content(format!("{} can't be read: {error}", path.display())).at(path.display().to_string())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{} can't be read: {error}", path.display()))
        .at(path.display().to_string())
}
