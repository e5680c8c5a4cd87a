//! Schemas and record batches as Flight messages.

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::Schema;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, SchemaAsIpc, SchemaResult};
use bytes::Bytes;

use crate::app::error::{Error, Result};

/// About so many bytes go into one message, unless a single row has more.
pub(super) const MESSAGE_BYTES: usize = 2 << 20;

/// The first message of a stream.
pub(super) fn schema(schema: &Schema) -> FlightData {
    SchemaAsIpc::new(schema, &IpcWriteOptions::default()).into()
}

/// A schema outside a stream.
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let result: std::result::Result<SchemaResult, _> =
        SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    Ok(result.map_err(|error| defect(&error))?.schema)
}

/// Rows as a message.
pub(super) fn batch(rows: &RecordBatch) -> Result<FlightData> {
    // The columns of points are of no dictionary type: there is nothing to be sent before the rows.
    let (_, rows) = IpcDataGenerator::default()
        .encode(
            rows,
            &mut DictionaryTracker::new(false),
            &IpcWriteOptions::default(),
            &mut IpcWriteContext::default(),
        )
        .map_err(|error| defect(&error))?;
    Ok(rows.into())
}

/// Rows in portions of a message each.
pub(super) fn portions(rows: RecordBatch) -> Vec<RecordBatch> {
    let bytes = |rows: &RecordBatch| -> usize {
        rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
    };
    let mut portions = Vec::new();
    let mut rest = vec![rows];
    // Halves of halves: rows differ in size.
    while let Some(rows) = rest.pop() {
        let count = rows.num_rows();
        if count > 1 && bytes(&rows) > MESSAGE_BYTES {
            rest.push(rows.slice(count / 2, count - count / 2));
            rest.push(rows.slice(0, count / 2));
        } else if count > 0 {
            portions.push(rows);
        }
    }
    portions
}

fn defect(error: &arrow::error::ArrowError) -> Error {
    ragstone_index::Error::Internal(format!("rows could not be encoded: {error}")).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray as _, StringArray};

    use super::*;

    #[test]
    fn portions_keep_the_order_and_fit_a_message() {
        let texts: StringArray = (0..100).map(|i| Some("x".repeat(i * 1_500))).collect();
        let rows = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap();
        let portions = portions(rows);
        assert!(portions.len() > 3);
        let lengths: Vec<usize> = portions
            .iter()
            .flat_map(|rows| rows.column(0).as_string::<i32>().iter().flatten().map(str::len))
            .collect();
        assert_eq!(lengths, (0..100).map(|i| i * 1_500).collect::<Vec<_>>());
        for rows in &portions {
            assert!(batch(rows).unwrap().data_body.len() <= MESSAGE_BYTES + 4_096);
        }
    }
}
