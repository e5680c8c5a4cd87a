//! Files as others write them, and broken ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use arrow::array::{FixedSizeListArray, Float16Array, Float32Array, Int64Array, ListArray, RecordBatch};
use arrow::datatypes::Field;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use super::*;

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

fn written(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn bytes<const N: usize>(words: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
    words.into_iter().flatten().collect()
}

#[track_caller]
fn reads<T: Number + PartialEq + std::fmt::Debug>(name: &str, content: &[u8], rows: usize, expect: &[T]) {
    let (_folder, path) = written(name, content);
    let file = VectorFile::open::<T>(&path, None).unwrap();
    assert_eq!((file.rows(), file.width()), (rows, expect.len() / rows));
    assert_eq!(file.read_all::<T>().unwrap(), expect);
}

#[track_caller]
fn fails<T: Number>(name: &str, content: &[u8], part: &str) {
    let (_folder, path) = written(name, content);
    let result = VectorFile::open::<T>(&path, None).and_then(|file| file.read_all::<T>().map(drop));
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains(part) && error.contains(name), "{error}");
}

#[test]
fn npy_of_every_type() {
    let values = [1.0_f32, -2.5, 0.0, 4.0, 5.5, 6.0];
    reads("a.npy", &npy("<f4", "(2, 3)", &bytes(values.map(f32::to_le_bytes))), 2, &values);
    let wide = values.map(|value| f64::from(value).to_le_bytes());
    reads("a.npy", &npy("<f8", "(3, 2)", &bytes(wide)), 3, &values);
    let halves = values.map(|value| f16::from_f32(value).to_le_bytes());
    reads("a.npy", &npy("<f2", "(2, 3)", &bytes(halves)), 2, &values);
    reads("a.npy", &npy("<i4", "(3,)", &bytes([7_i32, -1, 9].map(i32::to_le_bytes))), 3, &[7_i64, -1, 9]);
    reads(
        "a.npy",
        &npy("<i8", "(1, 2)", &bytes([1_i64 << 40, 2].map(i64::to_le_bytes))),
        1,
        &[1_i64 << 40, 2],
    );
}

#[test]
fn vecs() {
    let row = |values: [f32; 2]| [2_i32.to_le_bytes(), values[0].to_le_bytes(), values[1].to_le_bytes()];
    let content = bytes(row([1.0, 2.0]).into_iter().chain(row([3.0, 4.0])));
    reads("a.fvecs", &content, 2, &[1.0_f32, 2.0, 3.0, 4.0]);
    reads("a.ivecs", &bytes([1_i32, 5, 1, 6].map(i32::to_le_bytes)), 2, &[5_i64, 6]);
}

#[test]
fn slices_are_in_order_and_cover_everything() {
    let rows = SLICE_ROWS * 2 + 7;
    let values: Vec<f32> = (0..rows * 2).map(|value| value as f32).collect();
    let content = npy("<f4", &format!("({rows}, 2)"), &bytes(values.iter().map(|value| value.to_le_bytes())));
    let (_folder, path) = written("a.npy", &content);
    let file = VectorFile::open::<f32>(&path, None).unwrap();
    let (mut next, mut seen) = (0, Vec::new());
    file.each_slice::<f32>(|first, slice| {
        assert_eq!(first, next);
        next += slice.len() / 2;
        seen.extend_from_slice(slice);
        Ok(())
    })
    .unwrap();
    assert_eq!((next, seen), (rows, values));
}

#[test]
fn broken_files_are_errors_that_name_them() {
    fails::<f32>("a.npy", &npy("<f4", "(2, 3)", &[0; 23]), "truncated");
    fails::<f32>("a.npy", &npy("<f4", "(18446744073709551615, 18446744073709551615)", &[0; 24]), "truncated");
    fails::<f32>("a.npy", &npy("<f4", "(0, 3)", &[]), "empty");
    fails::<f32>("a.npy", &npy("<f4", "(1, 70000)", &[0; 280_000]), "70000 columns");
    fails::<f32>("a.npy", &npy("<i4", "(1, 2)", &[0; 8]), "expected floats");
    fails::<i64>("a.npy", &npy("<f4", "(1, 2)", &[0; 8]), "expected whole numbers");
    fails::<f32>("a.npy", b"", "header");
    fails::<f32>("a.fvecs", &[1, 0], "truncated");
    fails::<f32>("a.fvecs", &bytes([2_i32, 0, 0, 2, 0].map(i32::to_le_bytes)), "truncated");
    fails::<f32>("a.fvecs", &bytes([2_i32, 0, 0, 1, 0, 0].map(i32::to_le_bytes)), "row 1 has 1 numbers");
    fails::<f32>("a.fvecs", &bytes([-1_i32, 0].map(i32::to_le_bytes)), "-1 numbers");
    fails::<f32>("a.fvecs", &bytes([i32::MAX, 0].map(i32::to_le_bytes)), "expected 1 to");
    fails::<i64>("a.fvecs", &bytes([1_i32, 0].map(i32::to_le_bytes)), "expected whole numbers");
    fails::<f32>("a.csv", b"1,2", "expected a file .npy");
    fails::<f32>("a.parquet", b"PAR1 and nothing else PAR1", "a.parquet");
    fails::<f32>("a.parquet", &[0; 64], "a.parquet");
    let missing = VectorFile::open::<f32>(Path::new("/nowhere/a.npy"), None).unwrap_err();
    assert!(format!("{missing:#}").contains("/nowhere/a.npy"), "{missing:#}");
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn halves(values: &[f32]) -> ArrayRef {
    let values = Float16Array::from_iter_values(values.iter().map(|&value| f16::from_f32(value)));
    let item = Arc::new(Field::new("item", DataType::Float16, true));
    Arc::new(FixedSizeListArray::new(item, 2, Arc::new(values), None))
}

fn lists(rows: &[&[f32]]) -> ArrayRef {
    let rows = rows.iter().map(|row| Some(row.iter().map(|&value| Some(value)).collect::<Vec<_>>()));
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
}

#[test]
fn parquet_columns() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let names: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 0.5]));
    let content = parquet(vec![
        ("n", numbers),
        ("x", names),
        ("small", halves(&[1.0, 2.0, 3.0, 4.0])),
        ("v", lists(&[&[5.0, 6.0, 7.0], &[8.0, 9.0, 10.0]])),
    ]);
    reads("a.parquet", &content, 2, &[1.0_f32, 2.0, 3.0, 4.0]);
    let (_folder, path) = written("a.parquet", &content);
    let file = VectorFile::open::<f32>(&path, Some("v")).unwrap();
    assert_eq!((file.rows(), file.width()), (2, 3));
    assert_eq!(file.read_all::<f32>().unwrap(), [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    for (column, part) in [("x", "expected lists of floats"), ("none", "small")] {
        let error = format!("{:#}", VectorFile::open::<f32>(&path, Some(column)).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    let error = format!("{:#}", VectorFile::open::<i64>(&path, None).unwrap_err());
    assert!(error.contains(".ivecs"), "{error}");
    fails::<f32>("a.parquet", &parquet(vec![("v", lists(&[&[1.0, 2.0], &[3.0]]))]), "row 1");
    fails::<f32>(
        "a.parquet",
        &parquet(vec![("n", Arc::new(Int64Array::from(vec![1])))]),
        "no column of float lists",
    );
}
