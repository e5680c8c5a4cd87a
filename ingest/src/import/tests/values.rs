//! Every column type arrives as what it means.

use std::path::Path;
use std::sync::Arc;

use arrow::array::types::{Float32Type, Float64Type, Int32Type};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int32Array,
    Int64Array, LargeListArray, LargeStringArray, ListArray, MapBuilder, StringArray, StringBuilder,
    StringViewArray, StructArray, Time32SecondArray, TimestampMicrosecondArray, TimestampSecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field};
use half::f16;
use serde_json::json;

use super::support::*;
use crate::error::ErrorKind;
use crate::import::ImportFormat;
use crate::import::rows::BadRows;
use crate::import::vectors;

fn ids(count: usize) -> ArrayRef {
    Arc::new((0..count).map(|i| Some(format!("p{i}"))).collect::<StringArray>())
}

fn lists(rows: Vec<Option<Vec<Option<f32>>>>) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
}

#[tokio::test]
async fn payload_columns_become_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_value("v");
    map.append(true).unwrap();
    map.append(false).unwrap();
    let inner = StructArray::from(vec![
        (
            Arc::new(Field::new("x", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("y", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["a\"\n", "b"])) as ArrayRef,
        ),
    ]);
    let tags: DictionaryArray<Int32Type> = vec![Some("red"), None].into_iter().collect();
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None, Some(3)]),
        None,
    ]));
    let decimal = |digits, values: Vec<i128>| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(digits, 2).unwrap())
    };
    let batch = batch(vec![
        ("id", ids(2)),
        ("bool", Arc::new(BooleanArray::from(vec![true, false]))),
        ("int", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        ("big", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("f32", Arc::new(Float32Array::from(vec![0.1, f32::NAN]))),
        ("f64", Arc::new(Float64Array::from(vec![f64::INFINITY, -2.5]))),
        ("large", Arc::new(LargeStringArray::from(vec!["größe", ""]))),
        ("view", Arc::new(StringViewArray::from(vec!["short", "longer than twelve bytes"]))),
        ("tag", Arc::new(tags)),
        ("list", list),
        ("inner", Arc::new(inner)),
        ("map", Arc::new(map.finish())),
        ("day", Arc::new(Date32Array::from(vec![0, 19_723]))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![1_700_000_000_123_456, -1]).with_timezone("+02:00"),
            ),
        ),
        ("sec", Arc::new(TimestampSecondArray::from(vec![Some(0), Some(i64::MAX)]))),
        ("price", decimal(9, vec![1_234, -5])),
        ("exact", decimal(38, vec![123_456_789_012_345_678_901_234, 0])),
        ("bytes", Arc::new(BinaryArray::from(vec![&b"x"[..], b"y"]))),
        ("clock", Arc::new(Time32SecondArray::from(vec![1, 2]))),
        ("__index_level_0__", Arc::new(Int64Array::from(vec![7, 8]))),
    ]);
    let path = write_parquet(folder.path(), "a.parquet", &batch, 100);
    let sink = MapSink::new(Vec::new());
    let summary = import(&sink, job(&[&path])).await.unwrap();
    assert_eq!((summary.rows_written, summary.rows_rejected), (2, 0));
    let first = json!({
        "bool": true, "int": i64::MIN, "big": u64::MAX, "f32": 0.1, "large": "größe", "view": "short", "tag": "red",
        "list": [1, null, 3], "inner": {"x": 1, "y": "a\"\n"}, "map": {"k": "v"}, "day": "1970-01-01T00:00:00Z",
        "at": "2023-11-14T22:13:20.123456Z", "sec": "1970-01-01T00:00:00Z", "price": 12.34,
        "exact": "1234567890123456789012.34",
    });
    assert_eq!(sink.point("p0").payload.unwrap(), first);
    let second = json!({
        "bool": false, "big": 0, "f64": -2.5, "large": "", "view": "longer than twelve bytes", "inner": {"y": "b"},
        "day": "2024-01-01T00:00:00Z", "at": "1969-12-31T23:59:59.999999Z", "price": -0.05, "exact": "0.00",
    });
    assert_eq!(sink.point("p1").payload.unwrap(), second);
    // What can't be payload is said once, not for each row.
    let mut left_out: Vec<_> = summary.errors.iter().map(|error| error.column.as_str()).collect();
    left_out.sort_unstable();
    assert_eq!(left_out, ["__index_level_0__", "bytes", "clock"]);
}

#[tokio::test]
async fn vectors_of_every_list_type_arrive_as_f32() {
    let folder = tempfile::tempdir().unwrap();
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let rows = || vec![Some(vec![Some(1.0), Some(2.0)]), Some(vec![Some(3.0), Some(4.5)])];
    let fixed = |values: ArrayRef| -> ArrayRef {
        Arc::new(FixedSizeListArray::try_new(item(values.data_type().clone()), 2, values, None).unwrap())
    };
    let columns: Vec<ArrayRef> = vec![
        lists(rows()),
        Arc::new(LargeListArray::from_iter_primitive::<Float32Type, _, _>(rows())),
        fixed(Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.5]))),
        fixed(Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 4.5]))),
        fixed(Arc::new(Float16Array::from([1.0, 2.0, 3.0, 4.5].map(f16::from_f32).to_vec()))),
    ];
    for (at, column) in columns.into_iter().enumerate() {
        let batch = batch(vec![("id", ids(2)), ("embedding", column)]);
        let path = write_parquet(folder.path(), &format!("{at}.parquet"), &batch, 100);
        let sink = MapSink::new(vec![space("v", 2, None)]);
        import(&sink, job(&[&path])).await.unwrap();
        assert_eq!(sink.point("p1").vectors["v"], [3.0, 4.5], "column {at}");
        assert_eq!(sink.point("p1").payload, None, "a vector is no payload");
    }
}

#[tokio::test]
async fn bad_vectors_are_reported_by_row_group_and_row_and_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let column = lists(vec![
        Some(vec![Some(1.0), Some(2.0)]),
        Some(vec![Some(1.0)]),
        None,
        Some(vec![Some(1.0), None]),
        Some(vec![Some(5.0), Some(6.0)]),
    ]);
    let path = write_parquet(folder.path(), "a.parquet", &batch(vec![("id", ids(5)), ("v", column)]), 2);
    let sink = MapSink::new(vec![space("v", 2, None)]);
    let summary = import(&sink, job(&[&path])).await.unwrap();
    assert_eq!((summary.rows_done, summary.rows_written, summary.rows_rejected), (5, 3, 2));
    let errors: Vec<_> =
        summary.errors.iter().map(|e| (e.row_group, e.row, e.column.as_str(), e.message.as_str())).collect();
    assert_eq!(
        errors,
        [(Some(0), 1, "v", "has 1 components, expected 2"), (Some(1), 1, "v", "component 1 is null"),]
    );
    assert_eq!(sink.point("p4").vectors["v"], [5.0, 6.0]);
    assert!(sink.point("p2").vectors.is_empty());

    let sink = MapSink::new(vec![space("v", 2, None)]);
    let mut strict = job(&[&path]);
    strict.strict = true;
    let error = import(&sink, strict).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadContent);
    let expected = "a.parquet, row group 0, row 1, column \"v\": has 1 components, expected 2";
    assert!(error.message().ends_with(expected), "{error}");
    assert_eq!(sink.len(), 0);
}

#[test]
fn f32_vectors_are_not_copied() {
    let values = Float32Array::from((0..40).map(|x| x as f32).collect::<Vec<_>>());
    let address = values.values().as_ptr();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let fixed: ArrayRef =
        Arc::new(FixedSizeListArray::try_new(item, 4, Arc::new(values.clone()), None).unwrap());
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([4; 10]);
    let item = Arc::new(Field::new("element", DataType::Float32, true));
    let list: ArrayRef = Arc::new(ListArray::try_new(item, offsets, Arc::new(values), None).unwrap());
    for column in [fixed, list] {
        // Also when the batch is a part of what was read.
        let part = column.slice(3, 5);
        let mut bad = BadRows::default();
        let vectors = vectors::convert(&part, "v", 4, &mut bad).unwrap();
        let floats = vectors.values().as_any().downcast_ref::<Float32Array>().unwrap();
        assert_eq!(floats.values().as_ptr(), address.wrapping_add(12));
        assert_eq!((vectors.len(), floats.len(), floats.value(0)), (5, 20, 12.0));
    }
}

#[tokio::test]
async fn lists_of_f64_keep_their_place_in_a_slice() {
    let column: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(
        (0..20).map(|i| (i % 3 != 0).then(|| vec![Some(f64::from(i)), Some(0.5)])),
    ));
    let mut bad = BadRows::default();
    let vectors = vectors::convert(&column.slice(7, 6), "v", 2, &mut bad).unwrap();
    let firsts: Vec<_> = (0..6)
        .map(|row| {
            vectors.is_valid(row).then(|| {
                let vector = vectors.value(row);
                vector.as_any().downcast_ref::<Float32Array>().unwrap().value(0)
            })
        })
        .collect();
    assert_eq!(firsts, [Some(7.0), Some(8.0), None, Some(10.0), Some(11.0), None]);
}

#[tokio::test]
async fn ids_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let uuids: ArrayRef =
        Arc::new(FixedSizeBinaryArray::try_from_iter([[0x12_u8; 16], [0xab; 16]].into_iter()).unwrap());
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![-1, 42]));
    let words: DictionaryArray<Int32Type> = vec!["a", "b"].into_iter().collect();
    for (name, column, expected) in [
        ("id", uuids, ["12121212-1212-1212-1212-121212121212", "abababab-abab-abab-abab-abababababab"]),
        ("_id", numbers, ["-1", "42"]),
        ("point_id", Arc::new(words) as ArrayRef, ["a", "b"]),
    ] {
        let path = write_parquet(folder.path(), &format!("{name}.parquet"), &batch(vec![(name, column)]), 9);
        let sink = MapSink::new(Vec::new());
        import(&sink, job(&[&path])).await.unwrap();
        assert_eq!(sink.points.lock().keys().cloned().collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn points_without_ids_get_stable_ones_that_differ_between_files() {
    let folder = tempfile::tempdir().unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    for name in ["one.parquet", "two.parquet"] {
        write_parquet(folder.path(), name, &batch(vec![("body", Arc::clone(&texts))]), 2);
    }
    write_lines(folder.path(), "three.jsonl", &[r#"{"body": "x"}"#, r#"{"body": "y"}"#]);
    let sink = MapSink::new(Vec::new());
    // The folder stands for its files.
    let summary = import(&sink, job(&[folder.path()])).await.unwrap();
    assert_eq!((summary.files, summary.rows_written, sink.len()), (3, 8, 8));
    let mut again = job(&[folder.path()]);
    again.restart = true;
    import(&sink, again).await.unwrap();
    assert_eq!(sink.len(), 8);
    assert!(sink.points.lock().values().all(|point| point.writes == 2));
}

#[tokio::test]
async fn texts_without_a_vector_are_embedded_and_long_ones_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_lines(
        folder.path(),
        "a.jsonl",
        &[
            r#"{"_id": "given", "text": "abc", "text_vector": [9, 9]}"#,
            r#"{"_id": "made", "text": "abc", "lang": "en", "_internal": 1, "nothing": null}"#,
            r#"{"_id": "titled", "text": "abc", "title": "ti"}"#,
            r#"{"_id": "long", "text": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
            r#"{"_id": "bare", "text_vector": [7, 7]}"#,
            r#"{"_id": "blank", "text": "  "}"#,
        ],
    );
    let sink = MapSink::new(vec![space("text", 2, Some("letters"))]);
    let mut mapped = job(&[&path]);
    mapped.columns.vectors.insert("text".to_owned(), "text_vector".to_owned());
    let summary = import(&sink, mapped).await.unwrap();
    assert_eq!((summary.rows_written, summary.texts_cut), (6, 1), "{:?}", summary.errors);
    assert_eq!(sink.point("given").vectors["text"], [9.0, 9.0]);
    assert_eq!(sink.point("made").vectors["text"], [3.0, 1.0]);
    assert_eq!(sink.point("made").payload, Some(json!({"lang": "en"})));
    assert_eq!(sink.point("titled").vectors["text"], ["ti\n\nabc".len() as f32, 1.0]);
    assert_eq!(sink.point("bare").vectors["text"], [7.0, 7.0]);
    assert!(sink.point("blank").vectors.is_empty());

    let column: ArrayRef = Arc::new(StringArray::from(vec![Some("four"), None, Some("seven77")]));
    let vectors = lists(vec![None, Some(vec![Some(1.0), Some(2.0)]), None]);
    let path = write_parquet(
        folder.path(),
        "a.parquet",
        &batch(vec![("id", ids(3)), ("text", column), ("vector", vectors)]),
        9,
    );
    let sink = MapSink::new(vec![space("text", 2, Some("letters"))]);
    import(&sink, job(&[&path])).await.unwrap();
    let found: Vec<_> = ["p0", "p1", "p2"].map(|id| sink.point(id).vectors["text"].clone()).to_vec();
    assert_eq!(found, [[4.0, 1.0], [1.0, 2.0], [7.0, 1.0]]);
}

#[tokio::test]
async fn an_embedder_that_did_not_fill_the_space_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_lines(folder.path(), "a.jsonl", &[r#"{"id": "a", "text": "abc"}"#]);
    let mut strange = space("text", 2, Some("letters"));
    strange.fingerprint = Some("other".to_owned());
    let error = import(&MapSink::new(vec![strange]), job(&[&path])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("other") && error.message().contains("letters"), "{error}");
    let wide = space("text", 3, Some("letters"));
    let error = import(&MapSink::new(vec![wide]), job(&[&path])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let unknown = space("text", 2, Some("nobody"));
    let error = import(&MapSink::new(vec![unknown]), job(&[&path])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn mappings_are_followed_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let column = |values: [&'static str; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let table = batch(vec![
        ("key", column(["k1", "k2"])),
        ("said", column(["s1", "s2"])),
        ("head", column(["h1", "h2"])),
        ("group", Arc::new(Int32Array::from(vec![5, 6]))),
        ("lang", column(["en", "de"])),
        ("rest", column(["r", "r"])),
    ]);
    let path = write_parquet(folder.path(), "a.parquet", &table, 9);
    let sink = MapSink::new(vec![space("v", 2, None)]);
    let mut mapped = job(&[&path]);
    mapped.format = Some(ImportFormat::Parquet);
    mapped.columns.id = Some("key".to_owned());
    mapped.columns.text = Some("said".to_owned());
    mapped.columns.title = Some("head".to_owned());
    mapped.columns.document_id = Some("group".to_owned());
    mapped.columns.payload = vec!["lang".to_owned(), "key".to_owned()];
    import(&sink, mapped.clone()).await.unwrap();
    let point = sink.point("k2");
    assert_eq!(
        (point.text.as_deref(), point.title.as_deref(), point.document_id.as_deref()),
        (Some("s2"), Some("h2"), Some("6"))
    );
    assert_eq!(point.payload, Some(json!({"lang": "de", "key": "k2"})));

    let mut missing = mapped.clone();
    missing.columns.text = Some("sad".to_owned());
    let error = import(&sink, missing).await.unwrap_err();
    assert!(error.message().contains("no column \"sad\"; there is: key, said, head"), "{error}");
    let mut wrong = mapped.clone();
    wrong.columns.vectors.insert("v".to_owned(), "lang".to_owned());
    let error = import(&sink, wrong).await.unwrap_err();
    assert!(error.message().contains("column \"lang\" does not hold lists of numbers"), "{error}");
    let mut unknown = mapped;
    unknown.columns.vectors.insert("w".to_owned(), "lang".to_owned());
    let error = import(&sink, unknown).await.unwrap_err();
    assert_eq!(error.message(), "no vector space \"w\"; there is: v");
}

#[tokio::test]
async fn rows_expire_by_a_column_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let times: ArrayRef = Arc::new(arrow::array::TimestampMillisecondArray::from(vec![Some(7_000), None]));
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(8), None]));
    let batch = batch(vec![("id", ids(2)), ("until", times), ("ms", numbers)]);
    let path = write_parquet(folder.path(), "a.parquet", &batch, 10);
    let lines = [
        r#"{"id": "p0", "until": "1970-01-01T00:00:09Z"}"#,
        r#"{"id": "p1", "until": null}"#,
        r#"{"id": "p2", "until": 10}"#,
        r#"{"id": "p3", "until": "soon"}"#,
    ];
    let lines = write_lines(folder.path(), "a.jsonl", &lines);
    let check = async |path: &Path, column: &str, expected: &[Option<i64>], rejected: u64| {
        let sink = MapSink::new(Vec::new());
        let mut job = job(&[path]);
        job.columns.expires_at = Some(column.to_owned());
        let summary = import(&sink, job).await.unwrap();
        assert_eq!(summary.rows_rejected, rejected, "{:?}", summary.errors);
        let found: Vec<_> = sink.points.lock().values().map(|point| point.expires_at).collect();
        assert_eq!(found, expected);
        assert!(
            sink.points
                .lock()
                .values()
                .all(|point| { point.payload.as_ref().is_none_or(|payload| payload.get(column).is_none()) })
        );
    };
    check(&path, "until", &[Some(7_000), None], 0).await;
    check(&path, "ms", &[Some(8), None], 0).await;
    check(&lines, "until", &[Some(9_000), None, Some(10)], 1).await;
    let mut wrong = job(&[&path]);
    wrong.columns.expires_at = Some("id".to_owned());
    assert!(import(&MapSink::new(Vec::new()), wrong).await.is_err());
}

#[tokio::test]
async fn packed_floats_of_every_width_are_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let rows: [Option<Vec<u8>>; 5] = [
        Some([1.0_f32, -2.5].iter().flat_map(|x| x.to_le_bytes()).collect()),
        Some([0.5_f64, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect()),
        Some([f16::from_f32(0.25), f16::from_f32(8.0)].iter().flat_map(|x| x.to_le_bytes()).collect()),
        None,
        Some(vec![0; 7]),
    ];
    let packed: BinaryArray = rows.iter().map(Option::as_deref).collect();
    let batch = batch(vec![("id", ids(5)), ("embedding", Arc::new(packed))]);
    let path = write_parquet(folder.path(), "a.parquet", &batch, 10);
    let sink = MapSink::new(vec![space("v", 2, None)]);
    let summary = import(&sink, job(&[&path])).await.unwrap();
    assert_eq!((summary.rows_written, summary.rows_rejected), (4, 1), "{:?}", summary.errors);
    assert!(summary.errors[0].message.contains("7 bytes"), "{:?}", summary.errors);
    let vector = |id: &str| sink.point(id).vectors.get("v").cloned();
    assert_eq!(vector("p0"), Some(vec![1.0, -2.5]));
    assert_eq!(vector("p1"), Some(vec![0.5, 4.0]));
    assert_eq!(vector("p2"), Some(vec![0.25, 8.0]));
    assert_eq!(vector("p3"), None);
}

#[tokio::test]
async fn columns_come_and_go_from_file_to_file() {
    let folder = tempfile::tempdir().unwrap();
    let words = |word: &str| -> ArrayRef { Arc::new(StringArray::from(vec![word])) };
    let id = |id: &str| words(id);
    std::fs::create_dir_all(folder.path().join("2024/a")).unwrap();
    std::fs::create_dir_all(folder.path().join("2025")).unwrap();
    let old = batch(vec![("id", id("old")), ("lang", words("en"))]);
    write_parquet(folder.path(), "2024/a/part.parquet", &old, 10);
    let new = batch(vec![
        ("id", id("new")),
        ("body2", words("text")),
        ("year", words("2025")),
        ("lang", words("de")),
    ]);
    write_arrow(folder.path(), "2025/part.arrow", &new, 10);
    write_parquet(folder.path(), "2025/other.parquet", &old, 10);
    write_lines(folder.path(), "2025/notes.txt", &["none of it"]);
    let sink = MapSink::new(Vec::new());
    let pattern = folder.path().join("**/part.*");
    let mut job = job(&[&pattern]);
    job.columns.text = Some("body2".to_owned());
    job.columns.payload = vec!["lang".to_owned(), "year".to_owned()];
    let summary = import(&sink, job.clone()).await.unwrap();
    assert_eq!(
        (summary.files, summary.files_failed, summary.rows_written),
        (2, 0, 2),
        "{:?}",
        summary.errors
    );
    assert_eq!(sink.point("old").payload, Some(json!({"lang": "en"})));
    assert_eq!((sink.point("old").text, sink.point("new").text), (None, Some("text".to_owned())));
    assert_eq!(sink.point("new").payload, Some(json!({"lang": "de", "year": "2025"})));
    // What no file has is a mistake.
    job.columns.text = Some("nowhere".to_owned());
    assert!(import(&MapSink::new(Vec::new()), job.clone()).await.is_err());
    job.paths = vec![folder.path().join("2024/*.parquet")];
    let error = import(&MapSink::new(Vec::new()), job).await.unwrap_err();
    assert!(error.message().contains("no files"), "{error}");
}
