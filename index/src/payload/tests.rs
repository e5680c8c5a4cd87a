//! Payloads typed and filters checked, from the outside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::{Map, Value, json};

use super::{
    CheckedFilter, MAX_KEYWORD_BYTES, PayloadError, PayloadTyper, RowOrigin, TypedRow, TypedValue,
    check_filter,
};
use crate::error::{Error, ErrorKind};
use crate::filter::{Condition, FieldTest, Filter, Range, Scalar};
use crate::schema::{CollectionSchema, FieldType, MAX_PAYLOAD_FIELDS, PayloadField};

fn field(name: &str, field_type: FieldType) -> PayloadField {
    PayloadField { name: name.to_owned(), field_type }
}

fn schema(dynamic: bool) -> CollectionSchema {
    CollectionSchema {
        vectors: Vec::new(),
        payload: vec![
            field("lang", FieldType::Keyword),
            field("year", FieldType::Integer),
            field("price", FieldType::Float),
            field("open", FieldType::Bool),
            field("at", FieldType::Datetime),
            field("note", FieldType::Text),
            field("author.name", FieldType::Keyword),
        ],
        dynamic_payload: dynamic,
        description: String::new(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

fn typed(payload: Value) -> Result<TypedRow, PayloadError> {
    PayloadTyper::new(&schema(false)).typed(&object(payload))
}

fn typed_dynamic(payload: Value) -> Result<TypedRow, PayloadError> {
    PayloadTyper::new(&schema(true)).typed(&object(payload))
}

fn fault(payload: Value) -> String {
    typed(payload).unwrap_err().to_string()
}

fn values(row: &TypedRow, name: &str) -> Vec<TypedValue> {
    row.values(name).cloned().collect()
}

#[test]
fn values_get_the_type_of_their_field() {
    let row = typed(json!({
        "lang": "en", "year": 2026, "price": 3, "open": true, "at": "2026-01-31", "note": "a b", "author": {"name": "Ada"}
    }))
    .unwrap();
    assert_eq!(values(&row, "lang"), [TypedValue::Keyword("en".into())]);
    assert_eq!(values(&row, "year"), [TypedValue::Integer(2026)]);
    assert_eq!(values(&row, "price"), [TypedValue::Float(3.0)]);
    assert_eq!(values(&row, "open"), [TypedValue::Bool(true)]);
    assert_eq!(values(&row, "at"), [TypedValue::Datetime(1_769_817_600_000_000)]);
    assert_eq!(values(&row, "note"), [TypedValue::Text("a b".into())]);
    assert_eq!(values(&row, "author.name"), [TypedValue::Keyword("Ada".into())]);
    assert_eq!(values(&row, "author"), []);
}

#[test]
fn arrays_and_objects_are_flattened_and_nulls_are_absent() {
    let row = typed(
        json!({"lang": ["b", null, ["a"]], "author": [{"name": "x"}, {"name": "y"}], "year": null, "open": []}),
    );
    let row = row.unwrap();
    assert_eq!(values(&row, "lang"), [TypedValue::Keyword("b".into()), TypedValue::Keyword("a".into())]);
    assert_eq!(values(&row, "author.name").len(), 2);
    assert_eq!(values(&row, "year"), []);
    // A field without a value is not asked whether it exists.
    assert!(typed(json!({"nobody": null, "_x": [], "": {}})).is_ok());
}

#[test]
fn a_wrong_type_names_field_found_and_expected() {
    assert_eq!(fault(json!({"year": "x"})), "payload.year: expected integer, found string \"x\"");
    assert_eq!(fault(json!({"year": 2.5})), "payload.year: expected integer, found float 2.5");
    assert_eq!(
        fault(json!({"year": u64::MAX})),
        format!("payload.year: {} does not fit a signed 64-bit integer", u64::MAX)
    );
    assert_eq!(fault(json!({"lang": [1]})), "payload.lang: expected keyword, found integer 1");
    assert_eq!(fault(json!({"at": "noon"})), "payload.at: expected an RFC 3339 datetime, found \"noon\"");
    assert_eq!(fault(json!({"open": 1})), "payload.open: expected bool, found integer 1");
    let long = "x".repeat(MAX_KEYWORD_BYTES + 1);
    assert!(fault(json!({"lang": long})).contains("declare the field as text"));
    assert!(typed(json!({"note": long})).is_ok());
}

#[test]
fn an_unknown_field_lists_those_there_are() {
    assert_eq!(
        fault(json!({"author": {"nam": "x"}})),
        "payload.author.nam: no such field; there are: lang, year, price, open, at, note, author.name"
    );
    let none = CollectionSchema { payload: Vec::new(), ..schema(false) };
    let error = PayloadTyper::new(&none).typed(&object(json!({"a": 1}))).unwrap_err();
    assert_eq!(error.message, "no such field; the schema has none and is not dynamic");
    assert_eq!(Error::from(error).field(), Some("payload.a"));
}

#[test]
fn a_dynamic_schema_infers_new_fields() {
    let long = "x".repeat(257);
    let row = typed_dynamic(json!({
        "k": "2026-01-31", "d": "2026-01-31T00:00:00Z", "t": ["a", long], "i": 1, "f": [1, 2.5], "b": false,
        "m": ["2026-01-31T00:00:00Z", "soon"]
    }))
    .unwrap();
    assert_eq!(
        row.new_fields,
        [
            field("b", FieldType::Bool),
            field("d", FieldType::Datetime),
            field("f", FieldType::Float),
            field("i", FieldType::Integer),
            field("k", FieldType::Keyword),
            field("m", FieldType::Keyword),
            field("t", FieldType::Text),
        ]
    );
    assert_eq!(values(&row, "f"), [TypedValue::Float(1.0), TypedValue::Float(2.5)]);
}

#[test]
fn a_dynamic_schema_refuses_what_no_type_fits() {
    let message = |payload: Value| typed_dynamic(payload).unwrap_err().to_string();
    assert_eq!(message(json!({"x": [1, "a"]})), "payload.x: values of two types: integer and keyword");
    assert!(message(json!({"_x": 1})).contains("not starting with _"));
    assert!(message(json!({"": 1})).starts_with("payload.:"));
    assert!(message(json!({"a".repeat(200): 1})).contains("is not a field name"));
    assert!(message(json!({"year": "x"})).contains("expected integer"));
}

#[test]
fn new_fields_bind_the_rows_after_them() {
    let mut typer = PayloadTyper::new(&schema(true));
    let first = typer.typed(&object(json!({"x": 1}))).unwrap();
    typer.extend(&first.new_fields).unwrap();
    let error = typer.typed(&object(json!({"x": "a"}))).unwrap_err();
    assert_eq!(error.to_string(), "payload.x: expected integer, found string \"a\"");
    assert!(typer.extend(&[field("x", FieldType::Integer)]).is_ok());
    assert_eq!(
        typer.extend(&[field("x", FieldType::Bool)]).unwrap_err().message,
        "expected integer, found bool"
    );
}

#[test]
fn payloads_are_bounded() {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = Value::Array(vec![deep]);
    }
    assert!(fault(json!({ "lang": deep })).contains("nested deeper than 16"));
    assert!(fault(json!({"year": vec![1; 5_000]})).contains("more than 4096 values"));
    let many: Map<String, Value> = (0..=MAX_PAYLOAD_FIELDS).map(|i| (format!("n{i}"), json!(1))).collect();
    let error = PayloadTyper::new(&schema(true)).typed(&many).unwrap_err();
    assert!(error.message.contains("at most 1000 payload fields"), "{error}");
}

fn condition(field: &str, test: FieldTest) -> Condition {
    Condition::Field { field: field.to_owned(), test }
}

fn text(value: &str) -> Scalar {
    Scalar::String(value.to_owned())
}

fn must(condition: Condition) -> Filter {
    Filter { must: vec![condition], ..Filter::default() }
}

fn check(filter: &Filter) -> crate::Result<CheckedFilter> {
    check_filter(filter, &schema(false))
}

fn refused(test: FieldTest, name: &str) -> String {
    let error = check(&must(condition(name, test))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    error.to_string()
}

#[test]
fn faults_name_their_place_in_the_filter() {
    let inner = Filter {
        should: vec![
            condition("lang", FieldTest::Exists(true)),
            condition("year", FieldTest::Range(Range { gte: Some(text("x")), ..Range::default() })),
        ],
        ..Filter::default()
    };
    let error = check(&must(Condition::Nested(inner))).unwrap_err();
    assert_eq!(error.field(), Some("filter.must[0].should[1].range.gte"));
    assert_eq!(
        refused(FieldTest::Exists(true), "langs"),
        "filter.must[0].field: no field \"langs\"; there are: lang, year, price, open, at, note, author.name, \
         _document_id, _uri, _title, _media_type, _page, _chunk_index"
    );
    assert_eq!(
        refused(FieldTest::AnyOf(vec![text("en"), Scalar::Integer(1)]), "lang"),
        "filter.must[0].any_of[1]: expected keyword, found integer 1"
    );
}

#[test]
fn tests_must_fit_the_type() {
    let range = || FieldTest::Range(Range { gt: Some(Scalar::Integer(1)), ..Range::default() });
    assert!(
        refused(range(), "lang")
            .contains("range needs an integer, float or datetime field, this one is keyword")
    );
    assert!(refused(range(), "at").contains("expected datetime, found integer 1"));
    assert!(refused(FieldTest::Range(Range::default()), "year").contains("at least one of gt, gte, lt, lte"));
    assert!(refused(FieldTest::Prefix("a".into()), "note").contains("use match_text"));
    assert!(refused(FieldTest::Prefix("a".into()), "year").contains("prefix needs a keyword field"));
    assert!(refused(FieldTest::MatchText("a".into()), "lang").contains("match_text needs a text field"));
    assert!(refused(FieldTest::MatchText(" ?! ".into()), "note").contains("no word"));
    assert!(refused(FieldTest::Equals(text("a")), "note").contains("use match_text"));
    assert!(refused(FieldTest::Equals(Scalar::Float(f64::NAN)), "price").contains("not a finite number"));
    assert!(
        refused(FieldTest::Equals(Scalar::Float(2.5)), "year").contains("expected integer, found float 2.5")
    );
    assert!(refused(FieldTest::Equals(text("true")), "open").contains("expected bool"));
}

#[test]
fn filters_are_bounded() {
    let mut deep = Filter::default();
    for _ in 0..1_000 {
        deep = must(Condition::Nested(deep));
    }
    assert!(check(&deep).unwrap_err().to_string().contains("nested deeper than 32"));
    let wide = Filter { should: vec![Condition::HasId(Vec::new()); 1_025], ..Filter::default() };
    assert_eq!(
        check(&wide).unwrap_err().to_string(),
        "filter.should: the filter has more than 1024 conditions"
    );
    let ids = must(Condition::HasId(vec![String::new(); 10_001]));
    assert!(check(&ids).unwrap_err().to_string().starts_with("filter.must[0].has_id: 10001 values"));
    let values = FieldTest::AnyOf(vec![Scalar::Integer(1); 10_001]);
    assert!(refused(values, "year").contains("over the limit of 10000"));
}

fn passes(test: FieldTest, name: &str, payload: Value) -> bool {
    let row = typed(payload).unwrap();
    check(&must(condition(name, test))).unwrap().matches("id", &row, &RowOrigin::default())
}

#[test]
fn range_bounds_are_exact() {
    let range =
        |gt: Option<Scalar>, lt: Option<Scalar>| FieldTest::Range(Range { gt, lt, ..Range::default() });
    let float = |value: f64| Some(Scalar::Float(value));
    assert!(passes(range(float(2.5), None), "year", json!({"year": 3})));
    assert!(!passes(range(float(3.0), None), "year", json!({"year": 3})));
    assert!(passes(range(None, float(3.5)), "year", json!({"year": 3})));
    assert!(!passes(range(None, Some(Scalar::Integer(i64::MIN))), "year", json!({"year": i64::MIN})));
    assert!(!passes(range(Some(Scalar::Integer(i64::MAX)), None), "year", json!({"year": i64::MAX})));
    assert!(passes(range(float(-1e300), float(1e300)), "year", json!({"year": i64::MAX})));
    assert!(!passes(range(float(1e300), None), "year", json!({"year": i64::MAX})));
    assert!(passes(range(float(0.1), None), "price", json!({"price": 0.100_000_000_000_000_02})));
    assert!(!passes(range(float(-0.0), None), "price", json!({"price": 0.0})));
    assert!(passes(FieldTest::Equals(Scalar::Float(0.0)), "price", json!({"price": -0.0})));
    assert!(passes(FieldTest::Equals(Scalar::Float(3.0)), "year", json!({"year": 3})));
    let day = |value: &str| Some(text(value));
    assert!(!passes(
        range(day("2026-01-30"), day("2026-02-01")),
        "at",
        json!({"at": "2026-01-31T23:00:00-01:00"})
    ));
    assert!(passes(range(day("2026-01-30"), day("2026-02-01")), "at", json!({"at": "2026-01-31T23:00:00Z"})));
}

#[test]
fn one_of_several_values_is_enough_but_a_range_needs_one_value_within() {
    let range = FieldTest::Range(Range {
        gte: Some(Scalar::Integer(4)),
        lte: Some(Scalar::Integer(6)),
        ..Range::default()
    });
    assert!(passes(range.clone(), "year", json!({"year": [1, 5]})));
    assert!(!passes(range, "year", json!({"year": [1, 9]})));
    assert!(passes(FieldTest::MatchText("Two one".into()), "note", json!({"note": ["one", "TWO!"]})));
    assert!(!passes(FieldTest::MatchText("one three".into()), "note", json!({"note": ["one", "two"]})));
    assert!(passes(FieldTest::Prefix("e".into()), "lang", json!({"lang": ["de", "en"]})));
    assert!(!passes(FieldTest::AnyOf(Vec::new()), "lang", json!({"lang": "en"})));
}

#[test]
fn groups_combine_and_an_empty_filter_passes_all() {
    let row = typed(json!({"lang": "en", "year": 5})).unwrap();
    let origin = RowOrigin { uri: Some("a/b.txt"), page: Some(2), title: Some(""), ..RowOrigin::default() };
    let en = || condition("lang", FieldTest::Equals(text("en")));
    let de = || condition("lang", FieldTest::Equals(text("de")));
    let passes = |filter: Filter| check(&filter).unwrap().matches("p1", &row, &origin);
    assert!(check(&Filter::default()).unwrap().is_empty());
    assert!(passes(Filter::default()));
    assert!(passes(Filter { should: vec![de(), en()], ..Filter::default() }));
    assert!(!passes(Filter { must: vec![en()], should: vec![de()], ..Filter::default() }));
    assert!(!passes(Filter { must_not: vec![en()], ..Filter::default() }));
    assert!(passes(must(Condition::HasId(vec!["p0".into(), "p1".into()]))));
    assert!(passes(must(condition("_uri", FieldTest::Prefix("a/".into())))));
    assert!(passes(must(condition("_page", FieldTest::Equals(Scalar::Integer(2))))));
    assert!(passes(must(condition("_title", FieldTest::Exists(false)))));
    assert!(passes(must(condition("_chunk_index", FieldTest::Exists(false)))));
}
