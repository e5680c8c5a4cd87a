//! Configurations are read strictly, and an embedder that can't be loaded harms no other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use serde_json::json;

use super::*;
use crate::embed::{OnnxConfig, Pooling};

fn config(value: serde_json::Value) -> Result<EmbedderConfig, serde_json::Error> {
    serde_json::from_value(value)
}

fn registry(name: &str, value: serde_json::Value) -> Result<EmbedderRegistry> {
    let configs = BTreeMap::from([(name.to_owned(), config(value).unwrap())]);
    EmbedderRegistry::new(configs, RegistryOptions::default())
}

#[test]
fn the_builtin_is_always_there_and_loads_once() {
    let registry = EmbedderRegistry::new(BTreeMap::new(), RegistryOptions::default()).unwrap();
    assert_eq!(registry.default_name(), "minilm");
    let first = registry.get("minilm").unwrap();
    assert!(Arc::ptr_eq(&first, &registry.get("minilm").unwrap()));
    assert_eq!(registry.known_info("minilm").unwrap().as_ref(), Some(first.info()));
    let error = registry.get("mini").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.message(), "no embedder \"mini\"; there is: minilm");
}

#[test]
fn configurations_are_typed_and_strict() {
    let onnx = config(json!({"provider": "onnx", "path": "/models/e5", "pooling": "cls"})).unwrap();
    let EmbedderConfig::Onnx(onnx) = onnx else { panic!("not onnx") };
    let expected = OnnxConfig {
        path: "/models/e5".into(),
        model_file: "model.onnx".into(),
        pooling: Pooling::Cls,
        max_tokens: None,
        query_prefix: String::new(),
        document_prefix: String::new(),
        threads: None,
    };
    assert_eq!(onnx, expected);
    assert_eq!(config(json!({"provider": "builtin"})).unwrap(), EmbedderConfig::Builtin);
    for (bad, named) in [
        (json!({"provider": "onnx", "path": "/x", "poling": "cls"}), "poling"),
        (json!({"provider": "onnx"}), "path"),
        (json!({"provider": "magic"}), "magic"),
        (json!({"provider": "fastembed"}), "model"),
        (json!({}), "provider"),
    ] {
        let error = config(bad).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn wrong_settings_are_named() {
    for (name, value, field) in [
        ("a", json!({"provider": "fastembed", "model": "no such model"}), "embedders.a.model"),
        ("a", json!({"provider": "onnx", "path": ""}), "embedders.a.path"),
        ("a", json!({"provider": "onnx", "path": "/x", "max_tokens": 1}), "embedders.a.max_tokens"),
        ("a", json!({"provider": "onnx", "path": "/x", "threads": 0}), "embedders.a.threads"),
        (
            "a",
            json!({"provider": "onnx", "path": "/x", "query_prefix": "x".repeat(2_000)}),
            "embedders.a.query_prefix",
        ),
        ("minilm", json!({"provider": "onnx", "path": "/x"}), "embedders.minilm"),
        ("a b", json!({"provider": "builtin"}), "embedders.a b"),
    ] {
        let error = registry(name, value).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidArgument, Some(field)), "{error}");
    }
    for model in ["BGESmallENV15", "bgesmallenv15", "Xenova/BGE-small-en-v1.5"] {
        registry("a", json!({"provider": "fastembed", "model": model})).unwrap();
    }
}

#[test]
fn a_failure_is_kept_for_a_while_and_shown_in_the_list() {
    let registry = registry("mine", json!({"provider": "onnx", "path": "/does/not/exist"})).unwrap();
    let error = registry.get("mine").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("embedder \"mine\": there is no /does/not/exist/model.onnx"), "{error}");
    assert_eq!(registry.get("mine").unwrap_err().message(), error.message());
    registry.get("minilm").unwrap();
    let list = registry.list();
    assert_eq!(list.iter().map(|status| status.name.as_str()).collect::<Vec<_>>(), ["mine", "minilm"]);
    assert_eq!(list[0].error.as_deref(), Some(error.message()));
    assert!(list[0].info.is_none() && list[1].info.is_some());
}
