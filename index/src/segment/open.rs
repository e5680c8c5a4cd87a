//! Opens a segment: checks what must be right, builds again what is only derived.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::batch::EXPIRES_AT;
use crate::directory::{Directory, huge_pages};
use crate::error::{Error, ErrorKind, Result};
use crate::file_format::{map_file, open_file, place_of_rows};
use crate::keyword::SegmentKeywords;
use crate::schema::{CollectionSchema, VectorSpace, VectorStorage};
use crate::segment::expiry::ExpiryIndex;
use crate::segment::id_index::IdIndex;
use crate::segment::rows_file::{count_rows, read_batches};
use crate::segment::write::{write_expiry, write_graph, write_ids, write_keywords};
use crate::segment::{
    EXPIRY, GRAPH, IDS, KEYWORDS, PRESENT, ROWS, Segment, SegmentBatch, SegmentFiles, VECTORS, as_path,
};
use crate::vector::{SegmentVectors, VectorsParams};

/// Opens a segment. `verify` checks every checksum, which reads the whole of every file.
pub(crate) fn open_segment(
    directory: &dyn Directory,
    id: u64,
    schema: &CollectionSchema,
    params: &VectorsParams,
    verify: bool,
) -> Result<Segment> {
    let files = SegmentFiles::new(id);
    let body = open_file(directory, &files.rows(), ROWS, verify)?;
    let batches = read_batches(&as_path(&files.rows()), &body)?;
    let rows = count_rows(&batches);

    let (ids, documents) = rebuilt_if_damaged(
        directory,
        &[files.ids(), files.documents()],
        || open_ids(directory, &files, rows, verify),
        || write_ids(directory, &files, &batches),
    )?;
    if ids.len() as u64 != u64::from(rows) {
        return Err(Error::corrupt(files.ids(), 0, format!("{} ids for {rows} rows", ids.len())));
    }
    let expiry = open_expiry(directory, &files, &batches, verify)?;
    let mut vectors = Vec::with_capacity(schema.vectors.len());
    let mut vector_bytes = Vec::with_capacity(schema.vectors.len());
    for space in &schema.vectors {
        let (opened, data) = open_vectors(directory, &files, space, rows, params, verify)?;
        vectors.push(opened);
        vector_bytes.push(data);
    }
    let keywords = open_keywords(directory, &files, schema, &batches, verify)?;
    let sizes = directory.list(&files.dir)?;
    let bytes = sizes.iter().filter_map(|name| directory.len(&format!("{}/{name}", files.dir)).ok()).sum();
    let bases = batches.iter().map(|batch| batch.base).collect();
    Ok(Segment { id, rows, bytes, batches, bases, ids, documents, expiry, vectors, vector_bytes, keywords })
}

/// Opens a derived file; one that is missing or damaged is built again, once.
fn rebuilt_if_damaged<T>(
    directory: &dyn Directory,
    paths: &[String],
    open: impl Fn() -> Result<T>,
    rebuild: impl FnOnce() -> Result<()>,
) -> Result<T> {
    match open() {
        Err(error) if is_damage(&error) => {
            tracing::warn!(?paths, %error, "a derived file is damaged: it is built again from the rows");
            for path in paths {
                directory.delete(path)?;
            }
            rebuild()?;
            open()
        }
        result => result,
    }
}

fn is_damage(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        other => matches!(other.kind(), ErrorKind::Corruption | ErrorKind::NotFound),
    }
}

fn open_ids(
    directory: &dyn Directory,
    files: &SegmentFiles,
    rows: u32,
    verify: bool,
) -> Result<(IdIndex, IdIndex)> {
    let open = |path: String| {
        let body = open_file(directory, &path, IDS, verify)?;
        IdIndex::open(&as_path(&path), &body, rows)
    };
    Ok((open(files.ids())?, open(files.documents())?))
}

/// Rows of an older version don't expire, and there is no file.
fn open_expiry(
    directory: &dyn Directory,
    files: &SegmentFiles,
    batches: &[SegmentBatch],
    verify: bool,
) -> Result<ExpiryIndex> {
    if !batches.first().is_some_and(|batch| batch.has_column(EXPIRES_AT)) {
        return Ok(ExpiryIndex::default());
    }
    let open = || {
        let body = open_file(directory, &files.expiry(), EXPIRY, verify)?;
        ExpiryIndex::open(&as_path(&files.expiry()), body, count_rows(batches))
    };
    rebuilt_if_damaged(directory, &[files.expiry()], open, || write_expiry(directory, files, batches))
}

fn open_vectors(
    directory: &dyn Directory,
    files: &SegmentFiles,
    space: &VectorSpace,
    rows: u32,
    params: &VectorsParams,
    verify: bool,
) -> Result<(SegmentVectors, Bytes)> {
    let present = open_file(directory, &files.present(&space.name), PRESENT, verify)?;
    let present = RoaringBitmap::deserialize_from(&present[..])
        .map_err(|error| Error::corrupt(files.present(&space.name), 0, error.to_string()))?;
    let (data, residency) = map_file(directory, &files.vectors(&space.name), VECTORS, verify)?;
    let open = || {
        let graph = open_graph(directory, files, space, verify)?;
        SegmentVectors::open(
            &as_path(&files.graph(&space.name)),
            space.distance,
            space.dimension as usize,
            rows as usize,
            data.clone(),
            Some(present.clone()),
            graph,
        )
        .map(|vectors| vectors.kept(space.index.storage, residency.clone()))
    };
    let rebuild = || write_graph(directory, files, space, &present, None, params, &AtomicBool::new(false));
    Ok((rebuilt_if_damaged(directory, &[files.graph(&space.name)], open, rebuild)?, data.clone()))
}

/// A segment of few rows has no graph, so a missing file is not damage in itself. Where vectors live in memory, the graph
/// and its codes do so in large pages.
fn open_graph(
    directory: &dyn Directory,
    files: &SegmentFiles,
    space: &VectorSpace,
    verify: bool,
) -> Result<Option<Bytes>> {
    let path = files.graph(&space.name);
    if !directory.exists(&path)? {
        return Ok(None);
    }
    let (mapped, residency) = map_file(directory, &path, GRAPH, verify)?;
    Ok(Some(match space.index.storage {
        VectorStorage::Memory => {
            let read = |bytes| residency.release(place_of_rows(bytes, 1));
            huge_pages::copied(&mapped, read).unwrap_or(mapped)
        }
        VectorStorage::Mapped => mapped,
    }))
}

fn open_keywords(
    directory: &dyn Directory,
    files: &SegmentFiles,
    schema: &CollectionSchema,
    batches: &[SegmentBatch],
    verify: bool,
) -> Result<SegmentKeywords> {
    let open = || {
        let bundle = open_file(directory, &files.keywords(), KEYWORDS, verify)?;
        SegmentKeywords::open(&as_path(&files.keywords()), bundle, schema, count_rows(batches))
    };
    rebuilt_if_damaged(directory, &[files.keywords()], open, || {
        write_keywords(directory, files, schema, batches)
    })
}
