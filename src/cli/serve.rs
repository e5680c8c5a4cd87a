//! `ragstone serve`: the server itself.

use std::path::PathBuf;

use super::failure::{Failure, Outcome};
use super::{extract_worker, interrupt};
use crate::config::{Config, LogFormat, Overrides, WatchConfig};
use crate::server::Server;
use crate::telemetry;

/// Start the server
///
/// Options win over the environment (RAGSTONE_SERVER__LISTEN and so on), that over the file, that over the defaults.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file in TOML; config.sample.toml names every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of all data [default: ./ragstone-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Watch a folder and keep a collection equal to it, may be given several times: DIR=COLLECTION
    #[arg(long, value_name = "DIR=COLLECTION", value_parser = parse_watch)]
    watch: Vec<WatchConfig>,
    /// How much is logged: error, warn, info, debug or trace, or directives as in: info,ragstone_index=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How log lines look: text or json
    #[arg(long, value_name = "FORMAT", value_parser = parse_log_format)]
    log_format: Option<LogFormat>,
}

pub(super) async fn run(args: Args) -> Outcome {
    let overrides = Overrides {
        data_dir: args.data_dir,
        listen: args.listen,
        log_level: args.log_level,
        log_format: args.log_format,
        watch: args.watch,
    };
    let mut config = Config::load(args.config.as_deref(), overrides)?;
    telemetry::init(&config.log).map_err(Failure::failed)?;
    extract_worker::isolate(&mut config);
    let interrupted = interrupt::listen();
    let mut server = Server::start(config).await?;
    eprintln!("ragstone {} listens on {}", env!("CARGO_PKG_VERSION"), server.addr);
    tokio::select! {
        ended = server.wait() => ended?,
        () = interrupted.cancelled() => {}
    }
    server.shutdown().await;
    Ok(())
}

fn parse_watch(text: &str) -> Result<WatchConfig, String> {
    text.parse().map_err(|_| "expected DIR=COLLECTION, as in: ./notes=notes".to_owned())
}

fn parse_log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("unknown format \"{text}\"; there are: text, json")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn watched_folders() {
        let watch = parse_watch("/a=b/c=notes").unwrap();
        assert_eq!((watch.path.to_str().unwrap(), watch.collection.as_str()), ("/a=b/c", "notes"));
        for bad in ["notes", "=notes", "/a=", ""] {
            assert!(parse_watch(bad).is_err(), "{bad}");
        }
    }
}
