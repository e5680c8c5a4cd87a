//! Single members of a document in a ZIP container, by name, unpacked within the limits.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::decode;
use super::scope::Scope;
use crate::error::{Error, Result};

/// A container that is read by name.
pub(super) struct ZipParts<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
}

impl<'a> ZipParts<'a> {
    pub(super) fn open(data: &'a [u8]) -> Result<Self> {
        let archive = ZipArchive::new(Cursor::new(data))
            .map_err(|error| Error::bad_content(format!("broken ZIP container: {error}")))?;
        Ok(Self { archive })
    }

    /// A member as text; `None` when there is none, or what there is can't be unpacked.
    ///
    /// # Errors
    /// When a limit is reached.
    pub(super) fn text(&mut self, name: &str, scope: &Scope) -> Result<Option<String>> {
        let Ok(mut member) = self.archive.by_name(name) else { return Ok(None) };
        let packed = member.compressed_size();
        let mut data = Vec::new();
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let Ok(count) = member.read(&mut buffer) else { return Ok(None) };
            let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
            data.extend_from_slice(part);
            scope.unpacked(part.len(), data.len() as u64, packed, name)?;
            scope.limits.check_markup(data.len())?;
        }
        Ok(Some(decode::decode_markup(&data).into_owned()))
    }
}
