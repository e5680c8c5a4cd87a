//! The folder of test data, which is not part of the project.

use std::path::{Path, PathBuf};

/// A file or folder of it, if it is there: below `RAGSTONE_TEST_DATA`, else beside the project.
pub(crate) fn test_data(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let found = std::env::var_os("RAGSTONE_TEST_DATA").map_or_else(beside, PathBuf::from).join(path);
    found.exists().then_some(found)
}
