//! Rows whose content follows from their number, as Parquet files and as points.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use ragstone_proto::v1 as api;

/// Components of a vector.
pub(crate) const DIMENSION: u32 = 8;
/// Rows of a row group, and so of a batch at most.
const ROW_GROUP: usize = 500;

/// A Parquet file of these rows. `ballast` bytes a row are in a column that nobody asks for.
pub(crate) fn parquet(rows: Range<u64>, ballast: usize) -> Vec<u8> {
    let ids: StringArray = rows.clone().map(|row| Some(id(row))).collect();
    let numbers = Int64Array::from_iter_values(rows.clone().map(|row| row as i64));
    let vectors = rows.clone().map(|row| Some(vector(row).map(Some)));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, DIMENSION as i32);
    // Without a pattern that a dictionary would find.
    let ballast: StringArray = rows
        .map(|row| {
            let mut state = row + 1;
            let letter = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b'a' + (state >> 60) as u8)
            };
            Some((0..ballast).map(letter).collect::<String>())
        })
        .collect();
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("n", Arc::new(numbers) as ArrayRef),
        ("ballast", Arc::new(ballast) as ArrayRef),
        ("v", Arc::new(vectors) as ArrayRef),
    ])
    .unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROW_GROUP)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Checks that the points are exactly these rows, each once and with its content.
pub(crate) fn check(points: &[api::Point], rows: Range<u64>) {
    let mut missing: BTreeSet<u64> = rows.collect();
    for point in points {
        let row = point.id.strip_prefix("row-").and_then(|row| row.parse().ok()).unwrap_or(u64::MAX);
        assert!(missing.remove(&row), "{} is there twice, or should not be there", point.id);
        let payload = point.payload.as_ref().unwrap();
        assert_eq!(
            payload.fields["n"].kind,
            Some(api::value::Kind::IntegerValue(row as i64)),
            "{}",
            point.id
        );
        let stored = &point.vectors["v"];
        let stored: Vec<f32> =
            stored.f32.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(stored, vector(row), "{}", point.id);
    }
    assert!(missing.is_empty(), "{} rows are missing, the first is {:?}", missing.len(), missing.first());
}

fn id(row: u64) -> String {
    format!("row-{row}")
}

fn vector(row: u64) -> [f32; DIMENSION as usize] {
    std::array::from_fn(|at| (row % 1_000) as f32 + at as f32 / 8.0)
}
