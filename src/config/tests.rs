#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use ragstone_ingest::document::{Duplicates, Resemblance};

use super::*;

fn load(toml: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ragstone.toml");
    std::fs::write(&path, toml).unwrap();
    Config::load_with(Some(&path), std::iter::empty(), Overrides::default())
}

fn refused(toml: &str) -> String {
    load(toml).expect_err("refused").to_string()
}

#[test]
fn the_sample_says_the_defaults() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.sample.toml");
    let text = std::fs::read_to_string(&sample).unwrap();
    let written = load(&text).unwrap();
    assert_eq!(format!("{written:#?}"), format!("{:#?}", Config::default()));
    for section in ["[server]", "[data]", "[engine]", "[log]"] {
        assert!(text.contains(section), "{section} is missing in the sample");
    }
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(format!("{:?}", load("").unwrap()), format!("{:?}", Config::default()));
}

#[test]
fn unknown_keys_are_named() {
    let message = refused("[server]\nlisten = \"127.0.0.1:1\"\nlisen = \"x\"");
    assert!(message.contains("server.lisen") && message.contains("listen"), "{message}");
    let message = refused("[serve]\nlisten = \"127.0.0.1:1\"");
    assert!(message.starts_with("serve: there is no such key"), "{message}");
}

#[test]
fn wrong_values_are_named() {
    let check = |toml: &str, key: &str| {
        let message = refused(toml);
        assert!(message.starts_with(key), "{toml}: {message}");
    };
    check("version = 2", "version");
    check("[server]\nlisten = \"7700\"", "server.listen");
    check("[server]\nlisten = \"127.0.0.1:70000\"", "server.listen");
    check("[server]\nmax_message_bytes = \"lots\"", "server.max_message_bytes");
    check("[server]\nmax_in_flight = 0", "server.max_in_flight");
    check("[server]\nrequest_timeout = -1", "server.request_timeout");
    check("[engine]\ncompact_deleted_share = nan", "engine.compact_deleted_share");
    check("[log]\nformat = \"xml\"", "log.format");
    check("[[watch]]\npath = \"/x\"\ncollection = \"no/name\"", "watch[0].collection");
    check("[ingest]\nnear_duplicate_threshold = 0.1", "ingest.near_duplicate_threshold");
    let watch = |line: &str| format!("[[watch]]\npath = \"/x\"\ncollection = \"c\"\n{line}");
    check(&watch("near_duplicate_threshold = 2"), "watch[0].near_duplicate_threshold");
}

#[test]
fn a_watched_folder_has_settings_of_its_own() {
    let toml = "[[watch]]\npath = \"/x\"\ncollection = \"c\"\nduplicates = \"link\"\nnear_duplicates = true\n\
                near_duplicate_threshold = 0.9\npassword_file = \"secrets\"\npasswords = [\"open sesame\"]";
    let config = load(toml).unwrap();
    let watch = &config.watch[0];
    let threshold = watch.options.near_duplicate_threshold.map(Resemblance::get);
    assert_eq!((watch.options.near_duplicates, threshold), (Some(true), Some(0.9)));
    assert_eq!(watch.options.duplicates, Some(Duplicates::Link));
    assert_eq!(watch.password_file.as_deref(), Some(Path::new("secrets")));
    assert!(!format!("{config:?}").contains("sesame"));
}

#[test]
fn flags_win_over_environment_over_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.toml");
    std::fs::write(&path, "[server]\nlisten = \"a:1\"\nmax_in_flight = 5\nrequest_timeout = \"5s\"").unwrap();
    let environment = [
        ("RAGSTONE_SERVER__LISTEN", "b:2"),
        ("RAGSTONE_SERVER__MAX_IN_FLIGHT", "6"),
        ("RAGSTONE_ENGINE__MEMTABLE_MAX_BYTES", "8 MiB"),
        // The address that client commands use: not a key.
        ("RAGSTONE_SERVER", "http://elsewhere:7700"),
        ("HOME", "/"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let overrides = Overrides { listen: Some("c:3".into()), ..Overrides::default() };
    let config = Config::load_with(Some(&path), environment.into_iter(), overrides).unwrap();
    assert_eq!(config.server.listen, "c:3");
    assert_eq!(config.server.max_in_flight, 6);
    assert_eq!(config.engine.memtable_max_bytes, 8 << 20);
    assert_eq!(config.server.request_timeout, Duration::from_secs(5));
}

#[test]
fn a_wrong_environment_variable_is_named() {
    let environment = [("RAGSTONE_SERVER__PORT".to_owned(), "1".to_owned())];
    let error = Config::load_with(None, environment.into_iter(), Overrides::default()).expect_err("refused");
    let message = error.to_string();
    assert!(message.contains("server.port") && message.contains("RAGSTONE_SERVER__PORT"), "{message}");
}

#[test]
fn a_watched_folder_as_a_flag() {
    let watch: WatchConfig = "/home/me/a=b=notes".parse().unwrap();
    assert_eq!((watch.path.as_path(), watch.collection.as_str()), (Path::new("/home/me/a=b"), "notes"));
    assert!("/home/me".parse::<WatchConfig>().is_err());
    assert!("=notes".parse::<WatchConfig>().is_err());
}

#[test]
fn a_missing_file_is_an_error() {
    let error =
        Config::load(Some(Path::new("/no/such/file.toml")), Overrides::default()).expect_err("refused");
    assert!(error.to_string().contains("/no/such/file.toml"));
}
