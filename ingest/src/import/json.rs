//! Arrow values to JSON text for payloads. Points in time become RFC 3339; what JSON can't say (bytes, intervals, not
//! finite numbers) is left out.

use arrow::array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{Array, AsArray, StructArray, downcast_dictionary_array};
use arrow::datatypes::{
    ArrowPrimitiveType, ArrowTemporalType, DataType, Date32Type, Date64Type, DecimalType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::temporal_conversions::as_datetime;
use chrono::SecondsFormat;

/// Deepest nesting of a column that becomes payload.
const MAX_DEPTH: usize = 16;

/// Decimals up to this many digits are numbers; longer ones are strings, because a float would round them.
const MAX_NUMBER_DIGITS: u8 = 15;

/// Whether a column of this type can become payload.
pub(super) fn supported(data_type: &DataType) -> bool {
    supported_below(data_type, MAX_DEPTH)
}

fn supported_below(data_type: &DataType, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    match data_type {
        DataType::Null
        | DataType::Boolean
        | DataType::Date32
        | DataType::Date64
        | DataType::Timestamp(..) => true,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            supported_below(item.data_type(), depth)
        }
        DataType::Struct(fields) => fields.iter().all(|field| supported_below(field.data_type(), depth)),
        DataType::Dictionary(_, values) => supported_below(values, depth),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => match fields.iter().as_slice() {
                [key, value] => {
                    matches!(key.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
                        && supported_below(value.data_type(), depth)
                }
                _ => false,
            },
            _ => false,
        },
        other => other.is_numeric(),
    }
}

/// Appends the value of a row. `false` when there is none, or none that JSON can say: then nothing was appended.
pub(super) fn write(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> bool {
    if array.is_null(row) {
        return false;
    }
    match array.data_type() {
        DataType::Boolean => {
            out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" });
            true
        }
        DataType::Int8 => number(array.as_primitive::<Int8Type>().value(row), out),
        DataType::Int16 => number(array.as_primitive::<Int16Type>().value(row), out),
        DataType::Int32 => number(array.as_primitive::<Int32Type>().value(row), out),
        DataType::Int64 => number(array.as_primitive::<Int64Type>().value(row), out),
        DataType::UInt8 => number(array.as_primitive::<UInt8Type>().value(row), out),
        DataType::UInt16 => number(array.as_primitive::<UInt16Type>().value(row), out),
        DataType::UInt32 => number(array.as_primitive::<UInt32Type>().value(row), out),
        DataType::UInt64 => number(array.as_primitive::<UInt64Type>().value(row), out),
        DataType::Float16 => float32(array.as_primitive::<Float16Type>().value(row).to_f32(), out),
        DataType::Float32 => float32(array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => float64(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Decimal32(digits, _) => decimal::<Decimal32Type>(array, row, *digits, out),
        DataType::Decimal64(digits, _) => decimal::<Decimal64Type>(array, row, *digits, out),
        DataType::Decimal128(digits, _) => decimal::<Decimal128Type>(array, row, *digits, out),
        DataType::Decimal256(digits, _) => decimal::<Decimal256Type>(array, row, *digits, out),
        DataType::Utf8 => string(array.as_string::<i32>().value(row), out),
        DataType::LargeUtf8 => string(array.as_string::<i64>().value(row), out),
        DataType::Utf8View => string(array.as_string_view().value(row), out),
        DataType::Date32 => time::<Date32Type>(array, row, out),
        DataType::Date64 => time::<Date64Type>(array, row, out),
        DataType::Timestamp(TimeUnit::Second, _) => time::<TimestampSecondType>(array, row, out),
        DataType::Timestamp(TimeUnit::Millisecond, _) => time::<TimestampMillisecondType>(array, row, out),
        DataType::Timestamp(TimeUnit::Microsecond, _) => time::<TimestampMicrosecondType>(array, row, out),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => time::<TimestampNanosecondType>(array, row, out),
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref(), out),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row).as_ref(), out),
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row).as_ref(), out),
        DataType::Struct(_) => object(array.as_struct(), row, out),
        DataType::Map(..) => map(&array.as_map().value(row), out),
        DataType::Dictionary(..) => downcast_dictionary_array!(
            array => match array.key(row) {
                Some(key) if key < array.values().len() => write(array.values().as_ref(), key, out),
                _ => false,
            },
            _ => false
        ),
        _ => false,
    }
}

/// Appends a JSON string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) -> bool {
    serialized(text, out)
}

fn serialized(value: impl serde::Serialize, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let written = serde_json::to_writer(&mut *out, &value).is_ok();
    if !written {
        out.truncate(before);
    }
    written
}

fn number(value: impl std::fmt::Display, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value.to_string().as_bytes());
    true
}

fn float32(value: f32, out: &mut Vec<u8>) -> bool {
    value.is_finite() && serialized(value, out)
}

fn float64(value: f64, out: &mut Vec<u8>) -> bool {
    value.is_finite() && serialized(value, out)
}

fn decimal<T: DecimalType>(array: &dyn Array, row: usize, digits: u8, out: &mut Vec<u8>) -> bool {
    let text = array.as_primitive::<T>().value_as_string(row);
    if digits <= MAX_NUMBER_DIGITS {
        text.parse::<f64>().is_ok_and(|value| float64(value, out))
    } else {
        string(&text, out)
    }
}

/// Dates count as their first moment, times without a zone as UTC.
fn time<T: ArrowPrimitiveType + ArrowTemporalType>(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> bool
where
    i64: From<T::Native>,
{
    let value = i64::from(array.as_primitive::<T>().value(row));
    let Some(time) = as_datetime::<T>(value) else { return false };
    string(&time.and_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true), out)
}

fn list(items: &dyn Array, out: &mut Vec<u8>) -> bool {
    out.push(b'[');
    for row in 0..items.len() {
        if row > 0 {
            out.push(b',');
        }
        if !write(items, row, out) {
            out.extend_from_slice(b"null");
        }
    }
    out.push(b']');
    true
}

fn object(fields: &StructArray, row: usize, out: &mut Vec<u8>) -> bool {
    let names = fields.fields().iter().map(|field| field.name().as_str());
    members(names.zip(fields.columns().iter().map(|column| (column.as_ref(), row))), out);
    true
}

fn map(entries: &StructArray, out: &mut Vec<u8>) -> bool {
    let [keys, values] = entries.columns() else { return false };
    let mut names = Vec::with_capacity(entries.len());
    for row in 0..keys.len() {
        names.push(match keys.data_type() {
            DataType::Utf8 => keys.as_string::<i32>().value(row),
            DataType::LargeUtf8 => keys.as_string::<i64>().value(row),
            DataType::Utf8View => keys.as_string_view().value(row),
            _ => return false,
        });
    }
    members(names.into_iter().zip((0..values.len()).map(|row| (values.as_ref(), row))), out);
    true
}

/// Appends an object of the members that have a value. Tells how many there were.
pub(super) fn members<'a>(
    members: impl Iterator<Item = (&'a str, (&'a dyn Array, usize))>,
    out: &mut Vec<u8>,
) -> usize {
    let mut count = 0;
    out.push(b'{');
    for (name, (array, row)) in members {
        let before = out.len();
        if count > 0 {
            out.push(b',');
        }
        string(name, out);
        out.push(b':');
        if write(array, row, out) {
            count += 1;
        } else {
            out.truncate(before);
        }
    }
    out.push(b'}');
    count
}
