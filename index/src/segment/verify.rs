//! Checks the content of a segment's files against their checksums, reading each once from front to back.
//!
//! Opening a segment reads no content (see `open`), so that a large collection answers at once; what it relies on for safety,
//! lengths and numbers that lead somewhere, is checked there. Whether every byte is the one that was written is found out
//! here, in the background, and before rows are copied into a new segment with a checksum of its own.

use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::file_format::{FileKind, verify_file};
use crate::schema::CollectionSchema;
use crate::segment::{EXPIRY, GRAPH, IDS, KEYWORDS, PRESENT, ROWS, SegmentFiles, VECTORS};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Damage of rows or vectors: they can't be built again.
    pub(crate) truth: Vec<Error>,
    /// Damage of what can be built again.
    pub(crate) derived: Vec<Error>,
}

/// Checks a segment. `each_piece` hears of every piece that was read, with its length, and ends the check with an error.
pub(crate) fn verify_segment(
    directory: &dyn Directory,
    id: u64,
    schema: &CollectionSchema,
    each_piece: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Findings> {
    let files = SegmentFiles::new(id);
    let mut findings = Findings::default();
    let mut check = |path: String, kind: FileKind| -> Result<Option<Error>> {
        match verify_file(directory, &path, kind, each_piece) {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Corruption => Ok(Some(error)),
            Err(error) => Err(error),
        }
    };
    findings.truth.extend(check(files.rows(), ROWS)?);
    for space in &schema.vectors {
        findings.truth.extend(check(files.vectors(&space.name), VECTORS)?);
        findings.truth.extend(check(files.present(&space.name), PRESENT)?);
    }
    findings.derived.extend(check(files.ids(), IDS)?);
    findings.derived.extend(check(files.documents(), IDS)?);
    // Segments of an older version have none.
    if directory.exists(&files.expiry())? {
        findings.derived.extend(check(files.expiry(), EXPIRY)?);
    }
    findings.derived.extend(check(files.keywords(), KEYWORDS)?);
    for space in &schema.vectors {
        let graph = files.graph(&space.name);
        // A segment of few rows has none.
        if directory.exists(&graph)? {
            findings.derived.extend(check(graph, GRAPH)?);
        }
    }
    Ok(findings)
}
