//! Id columns to strings, and ids for files that have none.

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::rows::{BadRows, defect};
use crate::error::{Error, Result};

/// Bytes of a UUID.
const UUID_BYTES: i32 = 16;

/// Whether a column can hold ids that are not strings.
pub(super) fn is_key_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_key_type(values),
        other => other.is_integer() || matches!(other, DataType::FixedSizeBinary(UUID_BYTES)),
    }
}

/// Strings as they are, integers in decimal, 16 bytes as a UUID. A null stays a null.
pub(super) fn to_strings(column: &ArrayRef, name: &str) -> Result<StringArray> {
    if let DataType::Dictionary(_, values) = column.data_type() {
        let plain = cast(column, values).map_err(|error| unreadable(name, &error))?;
        return to_strings(&plain, name);
    }
    if let DataType::FixedSizeBinary(UUID_BYTES) = column.data_type() {
        return Ok(column.as_fixed_size_binary().iter().map(|bytes| bytes.map(uuid)).collect());
    }
    let strings = cast(column, &DataType::Utf8).map_err(|error| unreadable(name, &error))?;
    strings.as_string_opt::<i32>().cloned().ok_or_else(|| defect(&"cast changed a type"))
}

/// Ids of a column: a null or empty one makes its row bad.
pub(super) fn convert(column: &ArrayRef, name: &str, bad: &mut BadRows) -> Result<StringArray> {
    let ids = to_strings(column, name)?;
    for row in 0..ids.len() {
        if ids.is_null(row) {
            bad.add(row, name, "the id is null");
        } else if ids.value(row).is_empty() {
            bad.add(row, name, "the id is empty");
        }
    }
    if ids.null_count() == 0 {
        return Ok(ids);
    }
    // The column is declared as never null; the bad rows leave before anyone looks.
    Ok(ids.iter().map(|id| Some(id.unwrap_or_default())).collect())
}

/// Names the points of a file without ids: file name, hash of the path, row. Stable from run to run.
pub(super) struct MadeIds {
    prefix: String,
}

impl MadeIds {
    pub fn new(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.get(..name.floor_char_boundary(200)).unwrap_or_default();
        let hash = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
        let hash: String = hash.chars().take(8).collect();
        Self { prefix: format!("{name}-{hash}-") }
    }

    /// The id of a row of the file (from 0; a line, from 1).
    pub fn id(&self, row: u64) -> String {
        format!("{}{row}", self.prefix)
    }
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn unreadable(name: &str, error: &dyn std::fmt::Display) -> Error {
    Error::bad_content(format!("column {name:?} can't be read as strings: {error}"))
}
