//! Payload fields that follow from where a file lies: `{team}/{project}/{year:integer}-*`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1_024;
/// Most fields of a pattern.
const MAX_FIELDS: usize = 32;

/// A pattern for the beginning of a path below its folder. Each segment holds words that must be there, `*` for anything,
/// and fields: `{name}` takes what stands there as a string, `{name:integer}` as a number. What follows behind the pattern
/// is free; `**` or `…` at its end says so to readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathFields {
    pattern: String,
    segments: Vec<Vec<Piece>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Words(String),
    Any,
    Field { name: String, integer: bool },
}

impl PathFields {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `InvalidArgument` on `path_fields` that says what is wrong with it.
    pub fn parse(pattern: &str) -> Result<Self> {
        let wrong = |message: String| Error::invalid("path_fields", message);
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(wrong(format!("the pattern is longer than {MAX_PATTERN_BYTES} bytes")));
        }
        let mut segments = Vec::new();
        let mut names: Vec<String> = Vec::new();
        let mut parts = pattern.trim_matches('/').split('/').filter(|_| !pattern.is_empty()).peekable();
        while let Some(part) = parts.next() {
            if matches!(part, "**" | "…" | "...") {
                if parts.peek().is_some() {
                    return Err(wrong(format!("{part:?} only stands at the end of {pattern:?}")));
                }
                break;
            }
            segments
                .push(pieces(part, &mut names).map_err(|message| wrong(format!("{pattern:?}: {message}")))?);
        }
        if names.is_empty() {
            return Err(wrong(format!(
                "{pattern:?} names no field; expected a pattern as in {{team}}/{{project}}"
            )));
        }
        if names.len() > MAX_FIELDS {
            return Err(wrong(format!("{pattern:?} names more than {MAX_FIELDS} fields")));
        }
        Ok(Self { pattern: pattern.to_owned(), segments })
    }

    /// As [`Self::parse`]; an empty pattern is none.
    pub fn parse_optional(pattern: &str) -> Result<Option<Self>> {
        if pattern.is_empty() { Ok(None) } else { Self::parse(pattern).map(Some) }
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The fields of a path with `/` between its parts; none where it does not match.
    pub fn of(&self, path: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut parts = path.trim_start_matches('/').split('/');
        for segment in &self.segments {
            let matched = parts.next().is_some_and(|part| matches(segment, part, &mut fields));
            if !matched {
                return Map::new();
            }
        }
        fields
    }
}

impl std::str::FromStr for PathFields {
    type Err = Error;

    fn from_str(pattern: &str) -> Result<Self> {
        Self::parse(pattern)
    }
}

impl TryFrom<String> for PathFields {
    type Error = Error;

    fn try_from(pattern: String) -> Result<Self> {
        Self::parse(&pattern)
    }
}

impl From<PathFields> for String {
    fn from(fields: PathFields) -> Self {
        fields.pattern
    }
}

fn pieces(segment: &str, names: &mut Vec<String>) -> std::result::Result<Vec<Piece>, String> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut rest = segment;
    while !rest.is_empty() {
        let open = |piece: &Piece| !matches!(piece, Piece::Words(_));
        if let Some(tail) = rest.strip_prefix('{') {
            let (field, after) = tail.split_once('}').ok_or("a { without its }")?;
            let (name, integer) = match field.split_once(':') {
                None => (field, false),
                Some((name, "integer")) => (name, true),
                Some((_, kind)) => return Err(format!("{kind:?} is no type here; there is: integer")),
            };
            let valid = !name.is_empty()
                && !name.starts_with(|c: char| c == '_' || c.is_ascii_digit())
                && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !valid || names.iter().any(|known| known == name) {
                return Err(format!("{name:?} is no name of a field, or comes twice"));
            }
            if pieces.last().is_some_and(open) {
                return Err(format!("nothing parts {{{name}}} from what stands before it"));
            }
            names.push(name.to_owned());
            pieces.push(Piece::Field { name: name.to_owned(), integer });
            rest = after;
        } else if let Some(after) = rest.strip_prefix('*') {
            if pieces.last().is_some_and(open) {
                return Err("nothing parts * from what stands before it".into());
            }
            pieces.push(Piece::Any);
            rest = after;
        } else {
            let end = rest.find(['{', '*']).unwrap_or(rest.len());
            pieces.push(Piece::Words(rest.get(..end).unwrap_or_default().to_owned()));
            rest = rest.get(end..).unwrap_or_default();
        }
    }
    if pieces.is_empty() { Err("an empty part".into()) } else { Ok(pieces) }
}

/// Whether a part of a path is as the pattern says. What is open takes as little as it can, the last one all.
fn matches(pieces: &[Piece], part: &str, fields: &mut Map<String, Value>) -> bool {
    let mut rest = part;
    let mut pieces = pieces.iter().peekable();
    while let Some(piece) = pieces.next() {
        if let Piece::Words(words) = piece {
            match rest.strip_prefix(words.as_str()) {
                Some(after) => rest = after,
                None => return false,
            }
            continue;
        }
        let end = match pieces.peek() {
            Some(Piece::Words(words)) => match rest
                .char_indices()
                .skip(1)
                .map(|(at, _)| at)
                .find(|at| rest.get(*at..).is_some_and(|tail| tail.starts_with(words.as_str())))
            {
                Some(at) => at,
                None => return false,
            },
            _ => rest.len(),
        };
        let (taken, after) = rest.split_at(end);
        if taken.is_empty() {
            return false;
        }
        match piece {
            Piece::Field { name, integer: true } => match taken.parse::<i64>() {
                Ok(number) => _ = fields.insert(name.clone(), number.into()),
                Err(_) => return false,
            },
            Piece::Field { name, integer: false } => _ = fields.insert(name.clone(), taken.into()),
            Piece::Any | Piece::Words(_) => {}
        }
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn check(pattern: &str, path: &str, expect: Value) {
        assert_eq!(
            Value::Object(PathFields::parse(pattern).unwrap().of(path)),
            expect,
            "{pattern} on {path}"
        );
    }

    #[test]
    fn fields_are_taken_from_their_places() {
        check("{team}/{project}/…", "ops/backup/a/b.md", json!({"team": "ops", "project": "backup"}));
        check("{team}/{project}", "ops/backup.md", json!({"team": "ops", "project": "backup.md"}));
        check("{team}/{project}/**", "ops", json!({}));
        check("*/{year:integer}-{month:integer}/", "x/2024-05/a", json!({"year": 2024, "month": 5}));
        check("*/{year:integer}-*", "x/soon-05/a", json!({}));
        check("src/{name}.rs", "src/main.rs", json!({"name": "main"}));
        check("src/{name}.rs", "lib/main.rs", json!({}));
        check("{a}-{b}", "x-y-z", json!({"a": "x", "b": "y-z"}));
        check("{a}", "ä/ö", json!({"a": "ä"}));
        check("{a}.{b}", "x.", json!({}));
    }

    #[test]
    fn wrong_patterns_say_why() {
        for (pattern, reason) in [
            ("", "names no field"),
            ("a/b", "names no field"),
            ("{a", "without its }"),
            ("{a}{b}", "nothing parts"),
            ("{a}*", "nothing parts"),
            ("{a}/{a}", "comes twice"),
            ("{_id}", "no name"),
            ("{a:date}", "no type"),
            ("**/{a}", "only stands at the end"),
            ("{a}//{b}", "an empty part"),
        ] {
            let error = PathFields::parse(pattern).unwrap_err();
            assert_eq!(error.field(), Some("path_fields"));
            assert!(error.message().contains(reason), "{pattern}: {error}");
        }
        assert!(PathFields::parse(&"{a}/".repeat(500)).is_err());
    }

    #[test]
    fn stored_as_it_was_written() {
        let fields = PathFields::parse("{team}/**").unwrap();
        assert_eq!(serde_json::to_string(&fields).unwrap(), "\"{team}/**\"");
        assert_eq!(serde_json::from_str::<PathFields>("\"{team}/**\"").unwrap(), fields);
        assert!(serde_json::from_str::<PathFields>("\"{\"").is_err());
    }
}
