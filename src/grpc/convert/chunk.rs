//! Settings of chunks.

use ragstone_ingest::chunk::{ChunkSettings, Context, MAX_TYPES, Strategy};
use ragstone_proto::v1;

use crate::app::error::{Error, Result};

/// What a client sets, checked. Absent: nothing is set.
pub fn settings(settings: Option<v1::ChunkSettings>) -> Result<ChunkSettings> {
    let settings = settings.map(|settings| one(settings, "chunk")).transpose()?.unwrap_or_default();
    settings.check("chunk")?;
    Ok(settings)
}

fn one(settings: v1::ChunkSettings, at: &str) -> Result<ChunkSettings> {
    if settings.by_type.len() > MAX_TYPES {
        return Err(Error::invalid(format!("{at}.by_type"), format!("more than {MAX_TYPES} types")));
    }
    let strategy = settings.strategy.map(|strategy| match v1::ChunkStrategy::try_from(strategy) {
        Ok(v1::ChunkStrategy::Unspecified | v1::ChunkStrategy::Structure) => Ok(Strategy::Structure),
        Ok(v1::ChunkStrategy::Tokens) => Ok(Strategy::Tokens),
        Ok(v1::ChunkStrategy::Sentences) => Ok(Strategy::Sentences),
        Err(_) => Err(Error::invalid(format!("{at}.strategy"), format!("{strategy} is not known here"))),
    });
    let context = settings.context.map(|context| match v1::ChunkContext::try_from(context) {
        Ok(v1::ChunkContext::Unspecified | v1::ChunkContext::TitleAndHeadings) => {
            Ok(Context::TitleAndHeadings)
        }
        Ok(v1::ChunkContext::Title) => Ok(Context::Title),
        Ok(v1::ChunkContext::None) => Ok(Context::None),
        Err(_) => Err(Error::invalid(format!("{at}.context"), format!("{context} is not known here"))),
    });
    let tokens = |tokens: Option<u32>| tokens.map(|tokens| tokens as usize);
    let by_type = settings.by_type.into_iter().map(|(pattern, settings)| {
        // Only one level is allowed; a deeper one is found by the check, without going down here.
        let inner = v1::ChunkSettings { by_type: Default::default(), ..settings };
        if !settings.by_type.is_empty() {
            return Err(Error::invalid(format!("{at}.by_type.{pattern:?}"), "by_type stands in by_type"));
        }
        let converted = one(inner, &format!("{at}.by_type.{pattern:?}"))?;
        Ok((pattern, converted))
    });
    Ok(ChunkSettings {
        strategy: strategy.transpose()?,
        max_tokens: tokens(settings.max_tokens),
        overlap_tokens: tokens(settings.overlap_tokens),
        min_tokens: tokens(settings.min_tokens),
        parent_tokens: tokens(settings.parent_tokens),
        context: context.transpose()?,
        by_type: by_type.collect::<Result<_>>()?,
    })
}

/// The settings of a source, as they go over the wire. Absent: nothing is set.
pub fn to_wire(settings: &ChunkSettings) -> Option<v1::ChunkSettings> {
    (!settings.is_empty()).then(|| wire(settings))
}

fn wire(settings: &ChunkSettings) -> v1::ChunkSettings {
    let strategy = settings.strategy.map(|strategy| match strategy {
        Strategy::Structure => v1::ChunkStrategy::Structure,
        Strategy::Tokens => v1::ChunkStrategy::Tokens,
        Strategy::Sentences => v1::ChunkStrategy::Sentences,
    });
    let context = settings.context.map(|context| match context {
        Context::TitleAndHeadings => v1::ChunkContext::TitleAndHeadings,
        Context::Title => v1::ChunkContext::Title,
        Context::None => v1::ChunkContext::None,
    });
    let tokens = |tokens: Option<usize>| tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    v1::ChunkSettings {
        strategy: strategy.map(i32::from),
        max_tokens: tokens(settings.max_tokens),
        overlap_tokens: tokens(settings.overlap_tokens),
        min_tokens: tokens(settings.min_tokens),
        parent_tokens: tokens(settings.parent_tokens),
        context: context.map(i32::from),
        by_type: settings
            .by_type
            .iter()
            .map(|(pattern, settings)| (pattern.clone(), wire(settings)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn settings_survive_the_wire() {
        let inner = v1::ChunkSettings { context: Some(v1::ChunkContext::None.into()), ..Default::default() };
        let wire = v1::ChunkSettings {
            strategy: Some(v1::ChunkStrategy::Tokens.into()),
            max_tokens: Some(100),
            parent_tokens: Some(0),
            by_type: [("text/*".to_owned(), inner)].into(),
            ..Default::default()
        };
        assert_eq!(to_wire(&settings(Some(wire.clone())).unwrap()), Some(wire));
        assert_eq!(to_wire(&settings(None).unwrap()), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |wire: v1::ChunkSettings, field: &str| {
            let violations = settings(Some(wire)).unwrap_err().violations();
            assert_eq!(violations.first().map(|violation| violation.field.as_str()), Some(field));
        };
        check(v1::ChunkSettings { strategy: Some(9), ..Default::default() }, "chunk.strategy");
        check(v1::ChunkSettings { context: Some(9), ..Default::default() }, "chunk.context");
        check(v1::ChunkSettings { max_tokens: Some(u32::MAX), ..Default::default() }, "chunk.max_tokens");
        let nested = v1::ChunkSettings {
            by_type: [("a/b".to_owned(), Default::default())].into(),
            ..Default::default()
        };
        check(
            v1::ChunkSettings { by_type: [("a/b".to_owned(), nested)].into(), ..Default::default() },
            "chunk.by_type.\"a/b\"",
        );
    }
}
