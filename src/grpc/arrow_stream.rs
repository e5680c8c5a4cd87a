//! Arrow IPC as a client sends it -> batches of the collection's columns. The bytes are hostile until proven
//! otherwise: lengths are never believed before the bytes are there, types are checked by name, and a panic of the
//! reader is an error of the request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, OffsetSizeTrait, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use ragstone_index::batch;
use ragstone_index::schema::CollectionSchema;

use crate::app::error::{Error, Result};
use crate::app::points::{PointRows, RejectedRow};
use crate::app::workers::panic_message;

/// Most columns of a stream: those of the largest schema are far fewer.
const MAX_COLUMNS: usize = 1_024;
/// Most rows of one message, whatever its bytes say: columns without bytes can claim any number.
const MAX_ROWS: usize = 4 << 20;
/// About so many bytes go into one write: half of the engine's bound, since rows differ in size.
const PIECE_BYTES: usize = batch::MAX_BATCH_BYTES / 2;
/// Small batches are joined up to so many rows.
const JOINED_ROWS: usize = 16_384;

/// Reads one whole IPC stream. `at` is its path in the request, `first_row` the number of its first row. Batches are cut to
/// what one write takes.
pub fn decode(ipc: Bytes, schema: &CollectionSchema, at: &str, first_row: usize) -> Result<Vec<PointRows>> {
    if ipc.is_empty() {
        return Err(Error::invalid(at, "is empty: expected an Arrow IPC stream"));
    }
    guarded(at, || read(ipc, schema, at, first_row))
}

/// Runs the Arrow reader on bytes of a client; a panic that they cause is their error.
pub fn guarded<T>(at: &str, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let read = std::panic::catch_unwind(AssertUnwindSafe(read));
    read.unwrap_or_else(|panic| {
        tracing::warn!(panic = panic_message(&*panic), "the Arrow reader panicked");
        Err(Error::invalid(at, "is no valid Arrow IPC stream"))
    })
}

fn read(ipc: Bytes, schema: &CollectionSchema, at: &str, first_row: usize) -> Result<Vec<PointRows>> {
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
        let first = rows;
        rows = rows.saturating_add(found.num_rows());
        check_rows(rows, at)?;
        for (start, piece) in pieces(&found, PIECE_BYTES) {
            batches.push(conform(&piece, &full, at, first_row + first + start)?);
        }
    }
    decoder.finish().map_err(broken)?;
    match decoder.schema() {
        None => Err(Error::invalid(at, "ends before its schema")),
        // A stream of no batch is still held to its columns.
        Some(found) if batches.is_empty() => {
            conform(&RecordBatch::new_empty(found), &full, at, first_row).map(|_| Vec::new())
        }
        Some(_) => joined(batches, at),
    }
}

/// Refuses more rows than one message may have.
pub fn check_rows(rows: usize, at: &str) -> Result<()> {
    match rows > MAX_ROWS {
        true => Err(Error::invalid(at, format!("has more than {MAX_ROWS} rows"))),
        false => Ok(()),
    }
}

/// The same rows with exactly the types of the columns of `full`, the collection's; `first_row` is the number of the first
/// in the request. Rows with a vector of another length are left out and told.
pub fn conform(rows: &RecordBatch, full: &SchemaRef, at: &str, first_row: usize) -> Result<PointRows> {
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
    let mut bad = BadRows { first_row, keep: Vec::new(), rejected: Vec::new() };
    let also_at = batch::also_at_field();
    for (field, column) in given.fields().iter().zip(rows.columns()) {
        let at = format!("{at}.{}", field.name());
        let wanted = match field.name().as_str() {
            // No column of a collection: links that an export told.
            batch::ALSO_AT => Ok(&also_at),
            name => full.field_with_name(name),
        };
        let Ok(wanted) = wanted else {
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
        if let DataType::FixedSizeList(_, width) = wanted.data_type() {
            bad.find_lengths(column, field.name(), *width);
        }
        // The engine tells which row has no id; Arrow would only refuse the batch.
        fields.push(Arc::new(wanted.clone().with_nullable(true)));
    }
    let broken = |error: ArrowError| Error::invalid(at, error.to_string());
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(broken)?;
    let BadRows { keep, mut rejected, .. } = bad;
    let mut request_rows: Vec<usize> = (first_row..).take(batch.num_rows()).collect();
    if rejected.is_empty() {
        return Ok(PointRows { batch, request_rows, rejected });
    }
    let ids = batch.column_by_name(batch::ID).and_then(|ids| ids.as_string_opt::<i32>());
    for row in &mut rejected {
        let at = row.row - first_row;
        row.id = ids.filter(|ids| ids.is_valid(at)).map(|ids| ids.value(at).into()).unwrap_or_default();
    }
    let mut kept = keep.iter();
    request_rows.retain(|_| kept.next().copied().unwrap_or(true));
    let batch = filter_record_batch(&batch, &BooleanArray::from(keep)).map_err(broken)?;
    Ok(PointRows { batch, request_rows, rejected })
}

/// Rows whose vectors can't be brought to the length of their space. A conversion would only make them null.
struct BadRows {
    first_row: usize,
    /// Empty while there are none.
    keep: Vec<bool>,
    rejected: Vec<RejectedRow>,
}

impl BadRows {
    fn find_lengths(&mut self, column: &ArrayRef, name: &str, width: i32) {
        if let Some(lists) = column.as_list_opt::<i32>() {
            self.find(column, lists.value_offsets(), name, width);
        } else if let Some(lists) = column.as_list_opt::<i64>() {
            self.find(column, lists.value_offsets(), name, width);
        }
    }

    fn find<O: OffsetSizeTrait>(&mut self, column: &ArrayRef, offsets: &[O], name: &str, width: i32) {
        for (row, pair) in offsets.windows(2).enumerate() {
            let [start, end] = pair else { continue };
            let length = end.as_usize().saturating_sub(start.as_usize());
            if length == width as usize || column.is_null(row) {
                continue;
            }
            if self.keep.is_empty() {
                self.keep = vec![true; column.len()];
            }
            // One reason a row is enough.
            if self.keep.get_mut(row).is_some_and(|keep| std::mem::replace(keep, false)) {
                let message = format!("a vector of {length} components, expected {width}");
                let row = self.first_row + row;
                self.rejected.push(RejectedRow { row, id: String::new(), field: name.into(), message });
            }
        }
    }
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

/// Slices of what one write takes, in rows and in about so many bytes, with the row that each starts at.
pub fn pieces(rows: &RecordBatch, bytes: usize) -> impl Iterator<Item = (usize, RecordBatch)> + '_ {
    let bytes_per_row = slice_bytes(rows).div_ceil(rows.num_rows().max(1)).max(1);
    let most = (bytes / bytes_per_row).clamp(1, batch::MAX_BATCH_ROWS);
    let slice = move |start| (start, rows.slice(start, most.min(rows.num_rows() - start)));
    (0..rows.num_rows()).step_by(most).map(slice)
}

/// Small batches as fewer, larger ones: each is a write, and each write waits for the disk.
fn joined(batches: Vec<PointRows>, at: &str) -> Result<Vec<PointRows>> {
    let mut joined = Vec::new();
    let mut group: Vec<PointRows> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for batch in batches {
        let (more_rows, more_bytes) = (batch.batch.num_rows(), slice_bytes(&batch.batch));
        if rows + more_rows > JOINED_ROWS || bytes + more_bytes > PIECE_BYTES {
            joined.extend(one(std::mem::take(&mut group), at)?);
            (rows, bytes) = (0, 0);
        }
        rows += more_rows;
        bytes += more_bytes;
        group.push(batch);
    }
    joined.extend(one(group, at)?);
    Ok(joined)
}

/// Several batches with the same columns as one; `None` of none.
pub fn one(group: Vec<PointRows>, at: &str) -> Result<Option<PointRows>> {
    let mut group = group.into_iter();
    let Some(mut whole) = group.next() else { return Ok(None) };
    let mut batches = vec![whole.batch.clone()];
    for PointRows { batch, request_rows, rejected } in group {
        batches.push(batch);
        whole.request_rows.extend(request_rows);
        whole.rejected.extend(rejected);
    }
    if batches.len() > 1 {
        whole.batch = concat_batches(&whole.batch.schema(), &batches)
            .map_err(|error| Error::invalid(at, error.to_string()))?;
    }
    Ok(Some(whole))
}

/// Bytes of the rows alone: a batch of a stream shares its buffers with the whole message.
pub fn slice_bytes(rows: &RecordBatch) -> usize {
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
        decode(bytes, &schema(), "messages[0].ipc", 0).unwrap_err().to_string()
    }

    #[test]
    fn small_batches_are_joined_in_order() {
        let batches = decode(ipc(&sound(), 3), &schema(), "ipc", 10).unwrap();
        let [joined] = batches.as_slice() else { panic!("{batches:?}") };
        assert_eq!(joined.request_rows, [10, 11, 12, 13, 14, 15]);
        let ids: Vec<_> =
            joined.batch.column_by_name("id").unwrap().as_string::<i32>().iter().flatten().collect();
        assert_eq!(ids, ["a", "b", "a", "b", "a", "b"]);
        assert!(decode(ipc(&sound(), 0), &schema(), "ipc", 0).unwrap().is_empty());
    }

    #[test]
    fn a_vector_of_another_length_costs_its_row_and_no_other() {
        let vectors = ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(0.5)]),
            Some(vec![Some(0.5), Some(1.5)]),
        ]);
        let rows = batch_of(vec![("id", ids()), ("vector:text", Arc::new(vectors))]);
        let batches = decode(ipc(&rows, 2), &schema(), "ipc", 100).unwrap();
        let [joined] = batches.as_slice() else { panic!("{batches:?}") };
        assert_eq!(joined.request_rows, [101, 103]);
        let told: Vec<_> = joined.rejected.iter().map(|r| (r.row, r.id.as_str(), r.field.as_str())).collect();
        assert_eq!(told, [(100, "a", "vector:text"), (102, "a", "vector:text")]);
        assert!(joined.rejected[0].message.contains("1 components, expected 2"));
        assert_eq!(joined.batch.num_rows(), 2);
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
        let batches = decode(ipc(&rows, 1), &schema(), "ipc", 0).unwrap();
        let vectors = batches[0].batch.column_by_name("vector:text").unwrap().as_fixed_size_list();
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
            if let Ok(batches) = decode(bytes.slice(..length), &schema(), "ipc", 0) {
                // A cut exactly between two messages can't be told from the end of a shorter stream.
                assert!(
                    batches.iter().map(|rows| rows.batch.num_rows()).sum::<usize>() < 4,
                    "cut at {length}"
                );
            }
        }
        for i in 0..bytes.len() {
            let mut broken = bytes.to_vec();
            broken[i] ^= 0xff;
            let _no_panic = decode(broken.into(), &schema(), "ipc", 0);
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
        assert_eq!(decode(ipc(&short, 1), &schema(), "ipc", 0).unwrap()[0].batch.num_rows(), 1);
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
