//! `--chunk KEY=VALUE`: settings of chunks as words.

use ragstone_proto::v1::{ChunkContext, ChunkSettings, ChunkStrategy};

/// The settings that the words make; none without words.
pub(in crate::cli) fn parse(words: &[String]) -> Result<Option<ChunkSettings>, String> {
    let mut settings = ChunkSettings::default();
    for word in words {
        let (key, value) =
            word.split_once('=').ok_or_else(|| format!("--chunk {word}: expected KEY=VALUE"))?;
        let (place, key) = match key.rsplit_once(':') {
            Some((media_type, key)) => (settings.by_type.entry(media_type.to_owned()).or_default(), key),
            None => (&mut settings, key),
        };
        set(place, key, value).map_err(|problem| format!("--chunk {word}: {problem}"))?;
    }
    Ok((!words.is_empty()).then_some(settings))
}

fn set(settings: &mut ChunkSettings, key: &str, value: &str) -> Result<(), String> {
    let number = || value.parse::<u32>().map_err(|_| format!("{value:?} is no whole number"));
    match key {
        "max_tokens" => settings.max_tokens = Some(number()?),
        "overlap_tokens" => settings.overlap_tokens = Some(number()?),
        "min_tokens" => settings.min_tokens = Some(number()?),
        "parent_tokens" => settings.parent_tokens = Some(number()?),
        "strategy" => {
            let strategy = match value {
                "structure" => ChunkStrategy::Structure,
                "tokens" => ChunkStrategy::Tokens,
                "sentences" => ChunkStrategy::Sentences,
                _ => return Err("expected structure, tokens or sentences".into()),
            };
            settings.strategy = Some(strategy.into());
        }
        "context" => {
            let context = match value {
                "title_and_headings" => ChunkContext::TitleAndHeadings,
                "title" => ChunkContext::Title,
                "none" => ChunkContext::None,
                _ => return Err("expected title_and_headings, title or none".into()),
            };
            settings.context = Some(context.into());
        }
        _ => {
            return Err(format!(
                "there is no {key:?}; there are: strategy, max_tokens, overlap_tokens, min_tokens, parent_tokens, context"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<ChunkSettings>, String> {
        parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn words_make_settings() {
        assert_eq!(parsed(&[]), Ok(None));
        let settings =
            parsed(&["max_tokens=64", "text/html:strategy=sentences", "context=none"]).unwrap().unwrap();
        assert_eq!((settings.max_tokens, settings.context()), (Some(64), ChunkContext::None));
        assert_eq!(settings.by_type["text/html"].strategy(), ChunkStrategy::Sentences);
        for wrong in ["max_tokens", "max_tokens=x", "size=3", "strategy=magic", "context=all"] {
            assert!(parsed(&[wrong]).unwrap_err().starts_with(&format!("--chunk {wrong}: ")));
        }
    }
}
