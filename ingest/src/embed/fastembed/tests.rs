//! A missing or wrong library, a broken folder: errors that say what to do. With a real ONNX Runtime (its path in
//! `ORT_DYLIB_PATH`), the same model gives the same vectors as the built-in runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::embed::MINILM;
use crate::embed::minilm::MiniLm;

fn builtin_files(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/all-MiniLM-L6-v2");
    std::fs::copy(source.join("model_int8.onnx"), folder.join("model.onnx")).unwrap();
    std::fs::copy(source.join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
}

fn onnx(path: &Path) -> OnnxConfig {
    serde_json::from_value(serde_json::json!({"path": path, "max_tokens": 256})).unwrap()
}

fn real_library() -> Option<PathBuf> {
    std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|path| path.exists())
}

#[test]
fn without_the_library_the_error_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    builtin_files(folder.path());
    let missing = folder.path().join("libonnxruntime.so");
    let not_a_library = folder.path().join("tokenizer.json");
    // Once a real library is loaded it serves every embedder, whatever path is asked for.
    if real_library().is_some() {
        println!("skipped: ORT_DYLIB_PATH is set");
        return;
    }
    for library in [missing, not_a_library] {
        let error = OnnxEmbedder::from_folder("mine", &onnx(folder.path()), Some(&library)).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::FailedPrecondition, Some("onnxruntime")));
        assert!(error.message().contains(&library.display().to_string()), "{error}");
        assert!(error.message().contains("ORT_DYLIB_PATH"), "{error}");
    }
    let listed = FastembedConfig {
        model: "BGESmallENV15".into(),
        cache_dir: None,
        max_tokens: None,
        query_prefix: None,
        document_prefix: None,
        threads: None,
    };
    let library = folder.path().join("none.so");
    let error = OnnxEmbedder::from_list("bge", &listed, folder.path(), Some(&library)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
}

#[test]
fn a_broken_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = onnx(folder.path());
    let fails = |expected: &str| {
        let error = OnnxEmbedder::from_folder("mine", &config, None).unwrap_err();
        assert!(error.message().contains(expected), "{error}");
    };
    fails("there is no");
    std::fs::write(folder.path().join("model.onnx"), b"not a model").unwrap();
    fails("tokenizer.json");
    std::fs::write(folder.path().join("tokenizer.json"), b"{").unwrap();
    fails("tokenizer.json can't be read");
    std::fs::write(folder.path().join("tokenizer.json"), b"{}").unwrap();
    std::fs::write(folder.path().join("config.json"), b"[1,").unwrap();
    fails("config.json can't be read");
}

#[test]
fn onnx_runtime_and_the_builtin_runtime_agree() {
    let Some(library) = real_library() else {
        println!("skipped: ORT_DYLIB_PATH names no library");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    builtin_files(folder.path());
    let theirs = OnnxEmbedder::from_folder("mine", &onnx(folder.path()), Some(&library)).unwrap();
    let ours = MiniLm::load(MINILM).unwrap();
    assert_eq!(theirs.info().dimension, 384);
    assert_eq!(theirs.info().max_tokens, 256);
    assert!(theirs.info().fingerprint.ends_with("/d384/mean/l2/256"), "{}", theirs.info().fingerprint);
    let long = "retrieval of documents by meaning and by words ".repeat(60);
    let texts = ["That is a happy person", "Größe 5 µm, naïve café", "", &long, "x"];
    let (theirs, ours) = (theirs.embed_documents(&texts).unwrap(), ours.embed_documents(&texts).unwrap());
    for ((a, b), text) in theirs.iter().zip(&ours).zip(texts) {
        let cosine: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
        assert!(cosine > 0.999, "{cosine} for {text:?}");
    }
    // A model that is no model, with a library at hand.
    std::fs::write(folder.path().join("model.onnx"), b"not a model").unwrap();
    assert!(OnnxEmbedder::from_folder("mine", &onnx(folder.path()), Some(&library)).is_err());
}

#[test]
fn prefixes_are_part_of_the_identity() {
    assert_eq!(prefix_identity("", ""), "");
    assert_ne!(prefix_identity("query: ", ""), prefix_identity("", "query: "));
    assert_ne!(prefix_identity("a", "bc"), prefix_identity("ab", "c"));
}

#[test]
fn models_that_quantise_by_batch_are_recognised() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/all-MiniLM-L6-v2/model_int8.onnx");
    assert!(quantises_dynamically(&std::fs::read(source).unwrap()));
    assert!(!quantises_dynamically(b"MatMul DynamicQuantizeLinea"));
}
