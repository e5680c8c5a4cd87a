//! Arrow IPC as a client sends it -> batches of the collection's columns. The bytes are hostile until proven
//! otherwise: lengths are never believed before the bytes are there, types are checked by name, and a panic of the
//! reader is an error of the request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use ragstone_index::batch;
use ragstone_index::schema::CollectionSchema;

use crate::app::error::{Error, Result};
use crate::app::workers::panic_message;

/// Most columns of a stream: those of the largest schema are far fewer.
const MAX_COLUMNS: usize = 1_024;
/// Most rows of one message, whatever its bytes say: columns without bytes can claim any number.
const MAX_ROWS: usize = 4 << 20;
/// About so many bytes go into one write: half of the engine's bound, since rows differ in size.
const PIECE_BYTES: usize = batch::MAX_BATCH_BYTES / 2;
/// Small batches are joined up to so many rows.
const JOINED_ROWS: usize = 16_384;

/// Reads one whole IPC stream. `at` is its path in the request. Batches are cut to what one write takes.
pub fn decode(ipc: Bytes, schema: &CollectionSchema, at: &str) -> Result<Vec<RecordBatch>> {
    if ipc.is_empty() {
        return Err(Error::invalid(at, "is empty: expected an Arrow IPC stream"));
    }
    let read = std::panic::catch_unwind(AssertUnwindSafe(|| read(ipc, schema, at)));
    read.unwrap_or_else(|panic| {
        tracing::warn!(panic = panic_message(&*panic), "the Arrow reader panicked");
        Err(Error::invalid(at, "is no valid Arrow IPC stream"))
    })
}

fn read(ipc: Bytes, schema: &CollectionSchema, at: &str) -> Result<Vec<RecordBatch>> {
    let broken = |error: ArrowError| Error::invalid(at, format!("is no valid Arrow IPC stream: {error}"));
    let full = batch::arrow_schema(schema);
    let mut bytes = Buffer::from(ipc);
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    let mut rows = 0_usize;
    while !bytes.is_empty() {
        let Some(found) = decoder.decode(&mut bytes).map_err(broken)? else {
            break;
        };
        rows = rows.saturating_add(found.num_rows());
        if rows > MAX_ROWS {
            return Err(Error::invalid(at, format!("has more than {MAX_ROWS} rows")));
        }
        let conforming = conform(&found, &full, at)?;
        batches.extend(pieces(&conforming));
    }
    decoder.finish().map_err(broken)?;
    match decoder.schema() {
        None => Err(Error::invalid(at, "ends before its schema")),
        // A stream of no batch is still held to its columns.
        Some(found) if batches.is_empty() => {
            conform(&RecordBatch::new_empty(found), &full, at).map(|_| Vec::new())
        }
        Some(_) => joined(batches, at),
    }
}

/// The same rows with exactly the types of the collection's columns.
fn conform(rows: &RecordBatch, full: &SchemaRef, at: &str) -> Result<RecordBatch> {
    let given = rows.schema();
    if given.fields().len() > MAX_COLUMNS {
        return Err(Error::invalid(
            at,
            format!("has {} columns; at most {MAX_COLUMNS}", given.fields().len()),
        ));
    }
    if given.index_of(batch::ID).is_err() {
        return Err(Error::invalid(format!("{at}.{}", batch::ID), "the column is missing"));
    }
    let mut fields: Vec<Arc<Field>> = Vec::with_capacity(given.fields().len());
    let mut columns = Vec::with_capacity(given.fields().len());
    for (field, column) in given.fields().iter().zip(rows.columns()) {
        let at = format!("{at}.{}", field.name());
        let Ok(wanted) = full.field_with_name(field.name()) else {
            let known: Vec<&str> = full.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::invalid(at, format!("no such column; there is: {}", known.join(", "))));
        };
        if fields.iter().any(|seen| seen.name() == field.name()) {
            return Err(Error::invalid(at, "the column comes twice"));
        }
        if field.name() == batch::EXPIRES_AT {
            // The engine knows all that can be a point in time.
            columns.push(Arc::clone(column));
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
            continue;
        }
        columns.push(converted(column, wanted.data_type(), &at)?);
        // The engine tells which row has no id; Arrow would only refuse the batch.
        fields.push(Arc::new(wanted.clone().with_nullable(true)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Error::invalid(at, error.to_string()))
}

/// The column in the type wanted, if it is that or a near relative.
fn converted(column: &ArrayRef, wanted: &DataType, at: &str) -> Result<ArrayRef> {
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    let wrong = |why: &str| Error::invalid(at, format!("is {}, expected {wanted}{why}", column.data_type()));
    if !related(column.data_type(), wanted) {
        return Err(wrong(""));
    }
    // Views may all show the same long text: what they become is known before room is made for it.
    let shown = column.as_string_view_opt().map_or(0, |views| views.lengths().map(u64::from).sum());
    if shown > batch::MAX_BATCH_BYTES as u64 {
        return Err(Error::invalid(
            at,
            format!("shows {shown} bytes of text; at most {}", batch::MAX_BATCH_BYTES),
        ));
    }
    cast(column, wanted).map_err(|error| wrong(&format!(": {error}")))
}

/// Types that differ in layout but not in meaning. Dictionaries are none: a few bytes of keys can repeat a long value
/// without end.
fn related(given: &DataType, wanted: &DataType) -> bool {
    use DataType::{
        FixedSizeList, Float16, Float32, Float64, Int8, Int16, Int32, Int64, LargeList, LargeUtf8, List,
        UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    match (given, wanted) {
        (Utf8 | LargeUtf8 | Utf8View, Utf8) => true,
        (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64, UInt32 | UInt64) => true,
        (List(item) | LargeList(item), List(_)) => matches!(item.data_type(), Utf8 | LargeUtf8),
        (FixedSizeList(item, width), FixedSizeList(_, wanted)) => {
            width == wanted && matches!(item.data_type(), Float16 | Float32 | Float64)
        }
        (List(item) | LargeList(item), FixedSizeList(..)) => {
            matches!(item.data_type(), Float16 | Float32 | Float64)
        }
        _ => false,
    }
}

/// Slices of what one write takes, in rows and in bytes.
fn pieces(rows: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    let bytes_per_row = slice_bytes(rows).div_ceil(rows.num_rows().max(1)).max(1);
    let most = (PIECE_BYTES / bytes_per_row).clamp(1, batch::MAX_BATCH_ROWS);
    (0..rows.num_rows()).step_by(most).map(move |start| rows.slice(start, most.min(rows.num_rows() - start)))
}

/// Small batches as fewer, larger ones: each is a write, and each write waits for the disk.
fn joined(batches: Vec<RecordBatch>, at: &str) -> Result<Vec<RecordBatch>> {
    let mut joined = Vec::new();
    let mut group: Vec<RecordBatch> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    let concat = |group: &[RecordBatch]| match group {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, ..] => concat_batches(&first.schema(), group).map(Some),
    };
    let broken = |error: ArrowError| Error::invalid(at, error.to_string());
    for batch in batches {
        let (more_rows, more_bytes) = (batch.num_rows(), slice_bytes(&batch));
        if rows + more_rows > JOINED_ROWS || bytes + more_bytes > PIECE_BYTES {
            joined.extend(concat(&group).map_err(broken)?);
            group.clear();
            (rows, bytes) = (0, 0);
        }
        rows += more_rows;
        bytes += more_bytes;
        group.push(batch);
    }
    joined.extend(concat(&group).map_err(broken)?);
    Ok(joined)
}

/// Bytes of the rows alone: a batch of a stream shares its buffers with the whole message.
fn slice_bytes(rows: &RecordBatch) -> usize {
    rows.columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(usize::MAX / 64))
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use arrow::array::builder::StringViewBuilder;
    use arrow::array::{
        FixedSizeListArray, Int64Array, LargeStringArray, ListArray, NullArray, StringArray, StringViewArray,
    };
    use arrow::datatypes::{Float32Type, Float64Type};
    use arrow::ipc::writer::StreamWriter;
    use ragstone_index::schema::{Distance, VectorSpace};

    fn schema() -> CollectionSchema {
        let space = VectorSpace::new("text", 2, Distance::Cosine);
        CollectionSchema {
            vectors: vec![space],
            payload: Vec::new(),
            dynamic_payload: true,
            description: String::new(),
        }
    }

    fn ipc(rows: &RecordBatch, times: usize) -> Bytes {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &rows.schema()).unwrap();
        for _ in 0..times {
            writer.write(rows).unwrap();
        }
        writer.finish().unwrap();
        drop(writer);
        bytes.into()
    }

    fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    fn ids() -> ArrayRef {
        Arc::new(StringArray::from(vec!["a", "b"]))
    }

    fn sound() -> RecordBatch {
        let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some(vec![Some(1.0), Some(0.0)]), None],
            2,
        );
        batch_of(vec![("id", ids()), ("vector:text", Arc::new(vectors))])
    }

    fn refused(bytes: Bytes) -> String {
        decode(bytes, &schema(), "messages[0].ipc").unwrap_err().to_string()
    }

    #[test]
    fn small_batches_are_joined_in_order() {
        let batches = decode(ipc(&sound(), 3), &schema(), "ipc").unwrap();
        let [joined] = batches.as_slice() else { panic!("{batches:?}") };
        let ids: Vec<_> = joined.column_by_name("id").unwrap().as_string::<i32>().iter().flatten().collect();
        assert_eq!(ids, ["a", "b", "a", "b", "a", "b"]);
        assert!(decode(ipc(&sound(), 0), &schema(), "ipc").unwrap().is_empty());
    }

    #[test]
    fn near_types_are_converted() {
        let vectors =
            ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(0.5), Some(1.5)]), None]);
        let rows = batch_of(vec![
            ("id", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
            ("page", Arc::new(Int64Array::from(vec![Some(3), None]))),
            ("vector:text", Arc::new(vectors)),
        ]);
        let batches = decode(ipc(&rows, 1), &schema(), "ipc").unwrap();
        let vectors = batches[0].column_by_name("vector:text").unwrap().as_fixed_size_list();
        assert_eq!(vectors.value(0).as_primitive::<Float32Type>().values(), &[0.5, 1.5]);
        assert!(vectors.is_null(1));
    }

    #[test]
    fn the_column_at_fault_is_named() {
        let check = |columns: Vec<(&str, ArrayRef)>, expect: &str| {
            let message = refused(ipc(&batch_of(columns), 1));
            assert!(message.starts_with(&format!("messages[0].ipc.{expect}")), "{message}");
        };
        let wide = || -> ArrayRef {
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
                [Some(vec![Some(1.0); 3]), None],
                3,
            ))
        };
        check(vec![("text", ids())], "id: the column is missing");
        check(vec![("id", Arc::new(Int64Array::from(vec![1, 2])))], "id: is Int64");
        check(vec![("id", ids()), ("colour", ids())], "colour: no such column");
        check(vec![("id", ids()), ("vector:text", wide())], "vector:text: is FixedSizeList");
        check(vec![("id", ids()), ("vector:image", wide())], "vector:image: no such column");
        check(vec![("id", ids()), ("text", Arc::new(NullArray::new(2)))], "text: is Null");
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error_or_sound_rows() {
        let bytes = ipc(&sound(), 2);
        let end_marker = 8;
        for length in 0..bytes.len() - end_marker {
            if let Ok(batches) = decode(bytes.slice(..length), &schema(), "ipc") {
                // A cut exactly between two messages can't be told from the end of a shorter stream.
                assert!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() < 4, "cut at {length}");
            }
        }
        for i in 0..bytes.len() {
            let mut broken = bytes.to_vec();
            broken[i] ^= 0xff;
            let _no_panic = decode(broken.into(), &schema(), "ipc");
        }
    }

    #[test]
    fn views_of_one_long_text_are_counted_before_they_are_copied() {
        let mut texts = StringViewBuilder::new();
        let block = texts.append_block(Buffer::from(vec![b'x'; 1 << 20]));
        for _ in 0..1_000 {
            texts.try_append_view(block, 0, 1 << 20).unwrap();
        }
        let ids: StringArray = (0..1_000).map(|i| Some(i.to_string())).collect();
        let rows = batch_of(vec![("id", Arc::new(ids)), ("text", Arc::new(texts.finish()))]);
        assert!(refused(ipc(&rows, 1)).starts_with("messages[0].ipc.text: shows 1048576000 bytes"));
        let short = batch_of(vec![("id", Arc::new(StringViewArray::from(vec!["a"])))]);
        assert_eq!(decode(ipc(&short, 1), &schema(), "ipc").unwrap()[0].num_rows(), 1);
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        // Continuation marker and a metadata length of 2 GiB, then nothing.
        let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0];
        assert!(refused(Bytes::copy_from_slice(&bytes)).contains("Arrow IPC"));
        assert!(refused(Bytes::from_static(b"PAR1 not arrow at all")).contains("Arrow IPC"));
        assert!(refused(Bytes::new()).contains("is empty"));
    }
}
