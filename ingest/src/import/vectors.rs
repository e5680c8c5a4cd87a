//! Vector columns of any list type, or of packed floats, to `FixedSizeList<Float32>`. Where the numbers lie as they are
//! needed, they are not copied.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, GenericListArray, NullBufferBuilder,
    OffsetSizeTrait,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use half::f16;

use super::rows::{BadRows, defect, vector_item};
use crate::error::{Error, Result};

/// Whether a column can hold vectors.
pub(super) fn is_vector_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_numeric()
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            true
        }
        _ => false,
    }
}

/// Converts a column. Rows of another length than `dimension`, or with a null in them, are noted as bad; their content
/// here is null.
pub(super) fn convert(
    column: &ArrayRef,
    name: &str,
    dimension: u32,
    bad: &mut BadRows,
) -> Result<FixedSizeListArray> {
    let width = i32::try_from(dimension).map_err(|_| defect(&"dimension out of range"))?;
    match column.data_type() {
        DataType::FixedSizeList(_, found) => {
            let lists = column.as_fixed_size_list();
            let values = floats(lists.values(), name)?;
            if *found == width && values.null_count() == 0 {
                return FixedSizeListArray::try_new(
                    vector_item(),
                    width,
                    Arc::new(values),
                    lists.nulls().cloned(),
                )
                .map_err(|error| defect(&error));
            }
            let found = usize::try_from(*found).unwrap_or_default();
            let spans = (0..lists.len()).map(|row| (row * found, row * found + found));
            copy(&values, lists, spans, name, dimension, bad)
        }
        DataType::List(_) => from_lists::<i32>(column.as_list(), name, dimension, bad),
        DataType::LargeList(_) => from_lists::<i64>(column.as_list(), name, dimension, bad),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            from_bytes(column, name, dimension, bad)
        }
        other => Err(Error::bad_content(format!("column {name:?} of type {other} does not hold vectors"))),
    }
}

/// Packed little-endian floats; the length of a value tells how many bytes each has.
fn from_bytes(
    column: &ArrayRef,
    name: &str,
    dimension: u32,
    bad: &mut BadRows,
) -> Result<FixedSizeListArray> {
    let width = dimension as usize;
    let bytes = cast(column, &DataType::LargeBinary).map_err(|error| defect(&error))?;
    let bytes = bytes.as_binary::<i64>();
    let mut values: Vec<f32> = Vec::with_capacity(bytes.len() * width);
    let mut nulls = NullBufferBuilder::new(bytes.len());
    for (row, packed) in bytes.iter().enumerate() {
        let found = packed.unwrap_or_default();
        match found.len().checked_div(width).filter(|each| each * width == found.len()) {
            _ if packed.is_none() => nulls.append_null(),
            Some(2) => {
                unpack::<2>(found, &mut values, &mut nulls, |bytes| f16::from_le_bytes(bytes).to_f32())
            }
            Some(4) => unpack::<4>(found, &mut values, &mut nulls, f32::from_le_bytes),
            Some(8) => unpack::<8>(found, &mut values, &mut nulls, |bytes| f64::from_le_bytes(bytes) as f32),
            _ => {
                let message =
                    format!("has {} bytes, expected {dimension} floats of 2, 4 or 8 bytes", found.len());
                bad.add(row, name, message);
                nulls.append_null();
            }
        }
        values.resize((row + 1) * width, 0.0);
    }
    let values = Arc::new(Float32Array::from(values));
    FixedSizeListArray::try_new(vector_item(), dimension as i32, values, nulls.finish())
        .map_err(|error| defect(&error))
}

fn unpack<const N: usize>(
    packed: &[u8],
    values: &mut Vec<f32>,
    nulls: &mut NullBufferBuilder,
    float: impl Fn([u8; N]) -> f32,
) {
    values.extend(packed.as_chunks::<N>().0.iter().map(|bytes| float(*bytes)));
    nulls.append_non_null();
}

fn from_lists<O: OffsetSizeTrait>(
    lists: &GenericListArray<O>,
    name: &str,
    dimension: u32,
    bad: &mut BadRows,
) -> Result<FixedSizeListArray> {
    let width = dimension as usize;
    let offsets = lists.value_offsets();
    let first = offsets.first().map_or(0, |offset| offset.as_usize());
    let last = offsets.last().map_or(0, |offset| offset.as_usize());
    // Only what the rows of this slice use.
    let values = floats(&lists.values().slice(first, last - first), name)?;
    let regular =
        offsets.windows(2).all(|pair| matches!(pair, [a, b] if b.as_usize() - a.as_usize() == width));
    if regular && lists.null_count() == 0 && values.null_count() == 0 {
        return FixedSizeListArray::try_new(vector_item(), dimension as i32, Arc::new(values), None)
            .map_err(|error| defect(&error));
    }
    let spans = offsets.windows(2).map(|pair| match pair {
        [a, b] => (a.as_usize() - first, b.as_usize() - first),
        _ => (0, 0),
    });
    copy(&values, lists, spans, name, dimension, bad)
}

/// Copies row by row; `spans` are the rows' places in `values`.
fn copy(
    values: &Float32Array,
    rows: &dyn Array,
    spans: impl Iterator<Item = (usize, usize)>,
    name: &str,
    dimension: u32,
    bad: &mut BadRows,
) -> Result<FixedSizeListArray> {
    let width = dimension as usize;
    let mut copied: Vec<f32> = Vec::with_capacity(rows.len() * width);
    let mut nulls = NullBufferBuilder::new(rows.len());
    for (row, (from, to)) in spans.enumerate() {
        let found = values.values().get(from..to).unwrap_or_default();
        let null_at = || (from..to).find(|&at| values.is_null(at)).map(|at| at - from);
        if rows.is_null(row) {
            nulls.append_null();
        } else if found.len() != width {
            bad.add(row, name, format!("has {} components, expected {dimension}", found.len()));
            nulls.append_null();
        } else if let Some(at) = null_at() {
            bad.add(row, name, format!("component {at} is null"));
            nulls.append_null();
        } else {
            nulls.append_non_null();
            copied.extend_from_slice(found);
            continue;
        }
        copied.resize(copied.len() + width, 0.0);
    }
    let values = Arc::new(Float32Array::from(copied));
    FixedSizeListArray::try_new(vector_item(), dimension as i32, values, nulls.finish())
        .map_err(|error| defect(&error))
}

/// The numbers as f32; not copied when they are f32.
fn floats(values: &ArrayRef, name: &str) -> Result<Float32Array> {
    if let Some(values) = values.as_primitive_opt::<Float32Type>() {
        return Ok(values.clone());
    }
    let values = cast(values, &DataType::Float32).map_err(|error| {
        Error::bad_content(format!(
            "column {name:?} of {} can't be read as numbers: {error}",
            values.data_type()
        ))
    })?;
    values.as_primitive_opt::<Float32Type>().cloned().ok_or_else(|| defect(&"cast changed a type"))
}
