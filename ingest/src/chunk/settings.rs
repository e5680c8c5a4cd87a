//! How documents are cut: what may be set for all, for a media type, for a source; and what follows for one document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Most settings by media type in one place.
pub const MAX_TYPES: usize = 100;
/// Most tokens of a parent. Its text comes back whole with each hit.
pub const MAX_PARENT_TOKENS: usize = 8_192;
/// Most tokens of a chunk that may be asked for.
pub const MAX_CHUNK_TOKENS: usize = 32_768;

/// Where text is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Along headings, pages, paragraphs and code items; small sections join, long ones are cut into even parts.
    #[default]
    Structure,
    /// Every so many tokens, wherever that is; only pages and parts keep apart.
    Tokens,
    /// Each sentence is a chunk.
    Sentences,
}

/// What stands before the text of a chunk when it is embedded. The stored text is the same in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// Title and headings.
    #[default]
    TitleAndHeadings,
    /// The title.
    Title,
    /// Nothing.
    None,
}

/// How one document is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkerParams {
    /// Where it is cut.
    pub strategy: Strategy,
    /// Most tokens of what is embedded, the model's own included; `None`, or more than that: the embedder's limit.
    pub max_tokens: Option<usize>,
    /// Tokens that a chunk repeats of the one before it, where a section had to be cut. At most a quarter of the limit.
    pub overlap_tokens: usize,
    /// Sections with fewer tokens than this join a neighbour, if the two fit.
    pub min_tokens: usize,
    /// Parent mode: chunks belong to parents of at most so many tokens, whose text a search can give back.
    pub parent_tokens: Option<usize>,
    /// What is embedded before the text.
    pub context: Context,
}

impl Default for ChunkerParams {
    /// No overlap: parts end with sentences and carry title and headings with them.
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            max_tokens: None,
            overlap_tokens: 0,
            min_tokens: 64,
            parent_tokens: None,
            context: Context::default(),
        }
    }
}

/// What is set of them. What is left out is as in the wider settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkSettings {
    /// Where text is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// 0: the embedder's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Tokens that a chunk repeats of the one before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_tokens: Option<usize>,
    /// Smaller sections join a neighbour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<usize>,
    /// Tokens of a parent; 0: no parents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_tokens: Option<usize>,
    /// What is embedded before the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// The same for media types: `text/markdown`, `text/*`. An exact type goes before a pattern.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_type: BTreeMap<String, ChunkSettings>,
}

impl ChunkSettings {
    /// # Errors
    /// `InvalidArgument` that names the key below `key`.
    pub fn check(&self, key: &str) -> Result<()> {
        let bounds = [
            ("max_tokens", self.max_tokens, MAX_CHUNK_TOKENS),
            ("overlap_tokens", self.overlap_tokens, MAX_CHUNK_TOKENS),
            ("min_tokens", self.min_tokens, MAX_CHUNK_TOKENS),
            ("parent_tokens", self.parent_tokens, MAX_PARENT_TOKENS),
        ];
        for (name, value, most) in bounds {
            if let Some(value) = value.filter(|value| *value > most) {
                return Err(Error::invalid(format!("{key}.{name}"), format!("{value} is more than {most}")));
            }
        }
        if self.by_type.len() > MAX_TYPES {
            return Err(Error::invalid(format!("{key}.by_type"), format!("more than {MAX_TYPES} types")));
        }
        for (pattern, settings) in &self.by_type {
            let key = format!("{key}.by_type.{pattern:?}");
            if !pattern.contains('/') || pattern.len() > 200 {
                return Err(Error::invalid(
                    key,
                    "is no media type; expected one as in text/markdown or text/*",
                ));
            }
            if !settings.by_type.is_empty() {
                return Err(Error::invalid(key, "by_type stands in by_type"));
            }
            settings.check(&key)?;
        }
        Ok(())
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts these settings over `params`, for a document of a type.
    pub fn apply(&self, params: &mut ChunkerParams, media_type: &str) {
        self.apply_to_all(params);
        let mut matching: Vec<_> =
            self.by_type.iter().filter(|(pattern, _)| matches(pattern, media_type)).collect();
        matching.sort_by_key(|(pattern, _)| (!pattern.contains('*'), pattern.len()));
        matching.into_iter().for_each(|(_, settings)| settings.apply_to_all(params));
    }

    /// Puts what is set for all types over `params`.
    pub fn apply_to_all(&self, params: &mut ChunkerParams) {
        params.strategy = self.strategy.unwrap_or(params.strategy);
        params.context = self.context.unwrap_or(params.context);
        params.overlap_tokens = self.overlap_tokens.unwrap_or(params.overlap_tokens);
        params.min_tokens = self.min_tokens.unwrap_or(params.min_tokens);
        if let Some(tokens) = self.max_tokens {
            params.max_tokens = Some(tokens).filter(|tokens| *tokens > 0);
        }
        if let Some(tokens) = self.parent_tokens {
            params.parent_tokens = Some(tokens).filter(|tokens| *tokens > 0);
        }
    }
}

/// `text/*` matches `text/html`; `application/*+xml` matches `application/rss+xml`.
fn matches(pattern: &str, media_type: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(media_type),
        Some((start, end)) => {
            let (media_type, start, end) =
                (media_type.to_ascii_lowercase(), start.to_ascii_lowercase(), end.to_ascii_lowercase());
            media_type.len() >= start.len() + end.len()
                && media_type.starts_with(&start)
                && media_type.ends_with(&end)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn settings(json: &str) -> ChunkSettings {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_narrowest_setting_wins() {
        let all = settings(
            r#"{"overlap_tokens": 8, "by_type": {"text/*": {"max_tokens": 64, "min_tokens": 5}, "text/markdown": {"max_tokens": 32}}}"#,
        );
        let source = settings(r#"{"context": "none", "max_tokens": 0}"#);
        let params = |media_type: &str, layers: &[&ChunkSettings]| {
            let mut params = ChunkerParams::default();
            layers.iter().for_each(|layer| layer.apply(&mut params, media_type));
            params
        };
        let markdown = params("text/markdown", &[&all]);
        assert_eq!((markdown.max_tokens, markdown.min_tokens, markdown.overlap_tokens), (Some(32), 5, 8));
        assert_eq!(params("text/html", &[&all]).max_tokens, Some(64));
        let pdf = params("application/pdf", &[&all]);
        assert_eq!((pdf.max_tokens, pdf.min_tokens), (None, 64));
        let own = params("text/markdown", &[&all, &source]);
        assert_eq!((own.max_tokens, own.context), (None, Context::None));
    }

    #[test]
    fn wrong_settings_name_their_key() {
        let check =
            |json: &str, key: &str| assert_eq!(settings(json).check("chunk").unwrap_err().field(), Some(key));
        check(r#"{"parent_tokens": 100000}"#, "chunk.parent_tokens");
        check(r#"{"by_type": {"pdf": {}}}"#, "chunk.by_type.\"pdf\"");
        check(r#"{"by_type": {"a/b": {"max_tokens": 99999}}}"#, "chunk.by_type.\"a/b\".max_tokens");
        check(r#"{"by_type": {"a/b": {"by_type": {"a/b": {}}}}}"#, "chunk.by_type.\"a/b\"");
        assert!(serde_json::from_str::<ChunkSettings>(r#"{"size": 3}"#).is_err());
        assert!(serde_json::from_str::<ChunkSettings>(r#"{"strategy": "magic"}"#).is_err());
    }

    #[test]
    fn patterns_of_types() {
        assert!(matches("application/*+xml", "application/rss+xml"));
        assert!(matches("Text/HTML", "text/html"));
        assert!(!matches("text/*", "application/pdf"));
        assert!(!matches("ab*ba/", "ab"));
    }
}
