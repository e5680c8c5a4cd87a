//! Loads the ONNX Runtime library, once in a process. Everything that can go wrong there is an error that says how to
//! get the library; nothing of `ort` may be called before [`environment`] succeeded, because `ort` panics without it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};

/// Names the library when the configuration does not.
pub(super) const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The process's ONNX Runtime. `library` is the configured path; without it the variable `ORT_DYLIB_PATH` counts, then
/// the system's search path. The first library that loads serves all; a failed try may be repeated.
pub(super) fn environment(library: Option<&Path>) -> Result<Environment> {
    let mut loaded = ENVIRONMENT.lock();
    if let Some(environment) = loaded.as_ref() {
        return Ok(environment.clone());
    }
    let path = library_path(library);
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let builder = ort::init_from(&path).map_err(|error| error.to_string())?;
        builder.with_name("ragstone").with_telemetry(false).build().map_err(|error| error.to_string())
    }));
    let environment = attempt
        .unwrap_or_else(|_| Err("it is not a library of ONNX Runtime that can be used".to_owned()))
        .map_err(|reason| missing(&path, &reason))?;
    *loaded = Some(environment.clone());
    Ok(environment)
}

fn library_path(configured: Option<&Path>) -> PathBuf {
    if let Some(path) = configured {
        return path.to_owned();
    }
    match std::env::var_os(LIBRARY_VARIABLE) {
        Some(path) if !path.is_empty() => path.into(),
        _ => format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX).into(),
    }
}

fn missing(path: &Path, reason: &str) -> Error {
    Error::new(
        ErrorKind::FailedPrecondition,
        format!(
            "the ONNX Runtime library can't be loaded from {}: {reason}. This embedder needs it: get version 1.{} or \
             newer from https://github.com/microsoft/onnxruntime/releases and name the file in the setting \
             onnxruntime or in {LIBRARY_VARIABLE}; the built-in embedder \"minilm\" works without it",
            path.display(),
            ort::MINOR_VERSION,
        ),
    )
    .at("onnxruntime")
}
