//! Writes a segment: rows and vectors first, then what is derived from them, read back from the files just written so
//! that nothing has to be held twice in memory.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::file_format::{SealedWriter, map_file, open_file, place_of_rows, seal_bytes, seal_file};
use crate::keyword::{IndexedText, KeywordBuilder};
use crate::memtable::row_origin;
use crate::payload::{PayloadTyper, TypedRow};
use crate::rows::Rows;
use crate::schema::{CollectionSchema, IndexOptions, VectorSpace, VectorStorage};
use crate::segment::id_index::{encode, hash_id};
use crate::segment::rows_file::read_batches;
use crate::segment::{
    EXPIRY, GRAPH, IDS, KEYWORDS, LiveRows, PRESENT, ROWS, SegmentBatch, SegmentFiles, VECTORS, as_path,
};
use crate::vector::{Ancestor, VectorColumn, VectorsParams, grow_index};

/// What a new segment is made of, and how.
pub(crate) struct SegmentPlan<'a> {
    /// Where its folder goes.
    pub(crate) directory: &'a dyn Directory,
    /// Its number.
    pub(crate) id: u64,
    /// The schema now.
    pub(crate) schema: &'a CollectionSchema,
    /// Its rows.
    pub(crate) rows: &'a LiveRows,
    /// How graphs are built, where the schema leaves it open.
    pub(crate) vectors: &'a VectorsParams,
    /// Whether the graphs of the first part, if it is a segment, are known to be as written and may be grown.
    pub(crate) grow: bool,
    /// Set to give up between two steps.
    pub(crate) cancel: &'a AtomicBool,
}

/// Writes all files of a segment; on return they are on disk. Returns its number of rows.
pub(crate) fn write_segment(plan: &SegmentPlan<'_>) -> Result<u32> {
    let files = SegmentFiles::new(plan.id);
    plan.directory.create_dir(&files.dir)?;
    write_rows(plan, &files)?;
    let body = open_file(plan.directory, &files.rows(), ROWS, false)?;
    let batches = read_batches(&as_path(&files.rows()), &body)?;
    let count = super::rows_file::count_rows(&batches);
    if u64::from(count) != plan.rows.len() {
        return Err(Error::Internal(format!("{count} rows written, {} expected", plan.rows.len())));
    }
    write_ids(plan.directory, &files, &batches)?;
    write_expiry(plan.directory, &files, &batches)?;
    for (space, definition) in plan.schema.vectors.iter().enumerate() {
        let present = write_vectors(plan, &files, space, definition)?;
        let ancestor = plan
            .rows
            .first_segment()
            .filter(|_| plan.grow)
            .and_then(|(segment, live)| segment.vectors(space).map(|vectors| Ancestor { vectors, live }));
        let ancestor = ancestor.as_ref();
        write_graph(plan.directory, &files, definition, &present, ancestor, plan.vectors, plan.cancel)?;
    }
    write_keywords(plan.directory, &files, plan.schema, &batches)?;
    Ok(count)
}

fn write_rows(plan: &SegmentPlan<'_>, files: &SegmentFiles) -> Result<()> {
    let arrow = |error: arrow::error::ArrowError| match error {
        arrow::error::ArrowError::IoError(_, source) => Error::io(files.rows(), source),
        other => Error::Internal(other.to_string()),
    };
    let mut sink = Some(SealedWriter::create(plan.directory, &files.rows(), ROWS)?);
    let mut writer: Option<FileWriter<SealedWriter>> = None;
    plan.rows.each_batch(&mut |batch| {
        let writer = match (&mut writer, sink.take()) {
            (Some(writer), _) => writer,
            (empty @ None, Some(sink)) => {
                empty.insert(FileWriter::try_new(sink, &batch.schema()).map_err(arrow)?)
            }
            (None, None) => return Err(Error::Internal("the rows file has no writer".into())),
        };
        writer.write(&batch).map_err(arrow)
    })?;
    let mut writer = writer.ok_or_else(|| Error::Internal("a segment without rows".into()))?;
    writer.finish().map_err(arrow)?;
    writer.into_inner().map_err(arrow)?.finish()?;
    Ok(())
}

/// Writes both id files.
pub(super) fn write_ids(
    directory: &dyn Directory,
    files: &SegmentFiles,
    batches: &[SegmentBatch],
) -> Result<()> {
    let (mut ids, mut documents) = (Vec::new(), Vec::new());
    for batch in batches {
        let rows = &batch.decoded()?.rows;
        for (row, offset) in (batch.base..).zip(0..batch.count as usize) {
            ids.push((hash_id(rows.id(offset)), row));
            if let Some(document_id) = rows.document_id(offset) {
                documents.push((hash_id(document_id), row));
            }
        }
    }
    seal_bytes(directory, &files.ids(), IDS, &encode(ids))?;
    seal_bytes(directory, &files.documents(), IDS, &encode(documents))?;
    Ok(())
}

/// Writes which rows expire.
pub(super) fn write_expiry(
    directory: &dyn Directory,
    files: &SegmentFiles,
    batches: &[SegmentBatch],
) -> Result<()> {
    let mut entries = Vec::new();
    for batch in batches {
        let rows = &batch.decoded()?.rows;
        entries.extend(rows.expiring().map(|(time, offset)| (time, batch.base + offset as u32)));
    }
    seal_bytes(directory, &files.expiry(), EXPIRY, &super::expiry::encode(entries))?;
    Ok(())
}

/// Writes the vectors of a space (a row without one is zeros) and which rows have one.
fn write_vectors(
    plan: &SegmentPlan<'_>,
    files: &SegmentFiles,
    space: usize,
    definition: &VectorSpace,
) -> Result<RoaringBitmap> {
    let path = files.vectors(&definition.name);
    let zeros = vec![0f32; definition.dimension as usize];
    let mut present = RoaringBitmap::new();
    let mut row = 0u32;
    let writer = SealedWriter::create(plan.directory, &path, VECTORS)?;
    let mut writer = match definition.index.storage {
        VectorStorage::Memory => writer.in_large_pages(),
        // What is read of it counts as little as can be.
        VectorStorage::Mapped => writer,
    };
    plan.rows.each_vector(space, &mut |vector| {
        if vector.is_some() {
            present.insert(row);
        }
        row += 1;
        let bytes: &[u8] = bytemuck::cast_slice(vector.unwrap_or(&zeros));
        writer.put(bytes)
    })?;
    writer.finish()?;
    let mut body = Vec::new();
    present.serialize_into(&mut body).map_err(|error| Error::io(&path, error))?;
    seal_bytes(plan.directory, &files.present(&definition.name), PRESENT, &body)?;
    Ok(present)
}

/// Builds and writes the graph of a space from its vectors file, as the space wants it, from an older graph where that pays;
/// a small one gets none.
pub(super) fn write_graph(
    directory: &dyn Directory,
    files: &SegmentFiles,
    definition: &VectorSpace,
    present: &RoaringBitmap,
    ancestor: Option<&Ancestor<'_>>,
    params: &VectorsParams,
    cancel: &AtomicBool,
) -> Result<()> {
    let path = files.vectors(&definition.name);
    let (body, residency) = map_file(directory, &path, VECTORS, false)?;
    let data = floats(&path, &body)?;
    let column =
        VectorColumn { dimension: definition.dimension as usize, data: &data, present: Some(present) };
    let IndexOptions { hnsw, quantization, .. } = definition.index;
    let params = VectorsParams {
        m: hnsw.m as usize,
        ef_construction: hnsw.ef_construct as usize,
        quantization,
        ..*params
    };
    let row_bytes = column.dimension * size_of::<f32>();
    let read = |rows: Range<usize>| residency.release(place_of_rows(rows, row_bytes));
    if let Some(index) = grow_index(&column, ancestor, definition.distance, &params, cancel, &read)? {
        let path = files.graph(&definition.name);
        seal_file(directory, &path, GRAPH, |writer| {
            index.write_to(writer).map_err(|error| Error::io(&path, error))
        })?;
    }
    Ok(())
}

/// Views a vectors file as floats, without a copy where the bytes are aligned (a mapped file always is).
fn floats<'a>(path: &str, body: &'a Bytes) -> Result<std::borrow::Cow<'a, [f32]>> {
    match bytemuck::try_cast_slice(body) {
        Ok(floats) => Ok(std::borrow::Cow::Borrowed(floats)),
        Err(bytemuck::PodCastError::TargetAlignmentGreaterAndInputNotAligned) => {
            let floats = body.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            Ok(std::borrow::Cow::Owned(floats.collect()))
        }
        Err(error) => Err(Error::corrupt(path, 0, error.to_string())),
    }
}

/// Builds and writes words and payload fields.
pub(super) fn write_keywords(
    directory: &dyn Directory,
    files: &SegmentFiles,
    schema: &CollectionSchema,
    batches: &[SegmentBatch],
) -> Result<()> {
    let mut builder = KeywordBuilder::new(schema)?;
    let typer = PayloadTyper::new(schema);
    for batch in batches {
        let rows = &batch.decoded()?.rows;
        for row in 0..batch.count as usize {
            let typed = typed_row(&typer, rows, row);
            let headings = rows.heading_path(row);
            let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
            let text = IndexedText { title: rows.title(row), heading_path: &headings, text: rows.text(row) };
            builder.add_row(rows.id(row), &typed, &row_origin(rows, row), &text)?;
        }
    }
    seal_bytes(directory, &files.keywords(), KEYWORDS, &builder.finish()?)?;
    Ok(())
}

/// The payload was checked when the row was written; a row that no longer fits keeps its payload and loses its place in
/// filters, which beats refusing to seal.
fn typed_row(typer: &PayloadTyper, rows: &Rows, row: usize) -> TypedRow {
    let Some(json) = rows.payload(row).filter(|json| !json.is_empty()) else { return TypedRow::default() };
    let typed = serde_json::from_str(json)
        .map_err(|error| error.to_string())
        .and_then(|payload| typer.typed(&payload).map_err(|error| error.to_string()));
    typed.unwrap_or_else(|message| {
        tracing::error!(id = rows.id(row), message, "a stored payload does not fit the schema");
        TypedRow::default()
    })
}
