//! Where log lines go and how they look. Lines go to stderr: stdout belongs to data.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the whole process. A second call changes nothing: the first setting stays.
///
/// `log.level` is a level (`info`) or a list of directives (`info,ragstone_index=debug`).
pub fn init(config: &LogConfig) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(&config.level).map_err(|e| format!("log.level: {:?}: {e}", config.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // An error means that someone has set a subscriber before, which is theirs to do.
    let _already_set = match config.format {
        LogFormat::Text => builder.with_ansi(colour).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_an_error_that_names_the_key() {
        let config = LogConfig { level: "info,=".into(), format: LogFormat::Text };
        let error = init(&config).err().unwrap_or_default();
        assert!(error.starts_with("log.level"), "{error}");
    }
}
