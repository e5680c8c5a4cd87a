//! A filter gives the same rows as a bitmap of a segment and tested row by row.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use serde_json::{Map, Value, json};

use crate::filter::{Condition, FieldTest, Filter, Range, Scalar};
use crate::keyword::{IndexedText, KeywordBuilder, SegmentKeywords};
use crate::payload::{PayloadTyper, RowOrigin, TypedRow, check_filter};
use crate::schema::{CollectionSchema, FieldType, PayloadField};

const NAMES: [(&str, FieldType); 7] = [
    ("key.with.dots", FieldType::Keyword),
    ("odd \"name\" ü", FieldType::Integer),
    ("float", FieldType::Float),
    ("flag", FieldType::Bool),
    ("at", FieldType::Datetime),
    ("text", FieldType::Text),
    ("rare", FieldType::Keyword),
];

fn schema() -> CollectionSchema {
    let payload = NAMES.map(|(name, field_type)| PayloadField { name: name.into(), field_type }).to_vec();
    CollectionSchema { vectors: Vec::new(), payload, dynamic_payload: false, description: String::new() }
}

struct Row {
    id: String,
    typed: TypedRow,
    document: Option<String>,
    page: Option<u32>,
}

impl Row {
    fn origin(&self) -> RowOrigin<'_> {
        RowOrigin {
            document_id: self.document.as_deref(),
            uri: Some("file:///a"),
            title: None,
            media_type: Some(""),
            page: self.page,
            chunk_index: Some(0),
        }
    }
}

fn seal(rows: &[Row], schema: &CollectionSchema) -> SegmentKeywords {
    let mut builder = KeywordBuilder::new(schema).unwrap();
    for row in rows {
        builder.add_row(&row.id, &row.typed, &row.origin(), &IndexedText::default()).unwrap();
    }
    let bundle = builder.finish().unwrap();
    SegmentKeywords::open(Path::new("s"), bundle.into(), schema, rows.len() as u32).unwrap()
}

const WORDS: [&str; 6] = ["", "a", "ab", "b c", "ü", "A b 東京"];

/// A value as a row has it (`stored`) or as a filter asks for it.
fn value(random: &mut StdRng, field_type: FieldType, stored: bool) -> Value {
    let small = random.random_range(-4..5_i64);
    match field_type {
        FieldType::Keyword | FieldType::Text => json!(WORDS[random.random_range(0..WORDS.len())]),
        FieldType::Integer => match random.random_range(0..10) {
            0 => json!(i64::MAX),
            1 => json!(i64::MIN),
            _ => json!(small),
        },
        FieldType::Float => match random.random_range(0..10) {
            0 => json!(-0.0),
            1 => json!(f64::MAX),
            2 => json!(5e-324),
            _ => json!(small as f64 / 2.0),
        },
        FieldType::Bool => json!(small > 0),
        // Even hours only in values: the column stores multiples, and bounds fall between them.
        FieldType::Datetime if stored => json!(format!("2026-01-02T{:02}:00:00Z", small * 2 + 10)),
        FieldType::Datetime => json!(format!("2026-01-02T{:02}:00:00Z", small + 10)),
    }
}

fn row(random: &mut StdRng, number: usize, typer: &PayloadTyper) -> Row {
    let mut payload = Map::new();
    for (name, field_type) in NAMES {
        let share = if name == "rare" { 30 } else { 2 };
        if random.random_range(0..share) == 0 {
            let count = random.random_range(0..4);
            payload.insert(name.into(), (0..count).map(|_| value(random, field_type, true)).collect());
        }
    }
    Row {
        id: format!("p{number}"),
        typed: typer.typed(&payload).unwrap(),
        document: (random.random_range(0..3) > 0).then(|| format!("d{}", number / 5)),
        page: (random.random_range(0..2) > 0).then(|| random.random_range(0..5)),
    }
}

fn scalar(random: &mut StdRng, field_type: FieldType) -> Scalar {
    match value(random, field_type, false) {
        Value::Bool(flag) => Scalar::Bool(flag),
        Value::String(text) => Scalar::String(text),
        number => number.as_i64().map_or_else(|| Scalar::Float(number.as_f64().unwrap()), Scalar::Integer),
    }
}

fn condition(random: &mut StdRng, depth: usize) -> Condition {
    match random.random_range(0..10) {
        0 | 1 if depth < 3 => return Condition::Nested(filter(random, depth + 1)),
        2 => return Condition::HasId((0..5).map(|_| format!("p{}", random.random_range(0..300))).collect()),
        _ => {}
    }
    let at = random.random_range(0..NAMES.len() + 3);
    let built_in =
        [("_document_id", FieldType::Keyword), ("_page", FieldType::Integer), ("_title", FieldType::Keyword)];
    let (field, field_type) = NAMES.iter().chain(&built_in).nth(at).copied().unwrap();
    let values = |random: &mut StdRng, count: usize| (0..count).map(|_| scalar(random, field_type)).collect();
    let bound = |random: &mut StdRng| (random.random_range(0..2) == 0).then(|| scalar(random, field_type));
    let test = match (random.random_range(0..4), field_type) {
        (0, _) => FieldTest::Exists(random.random_range(0..2) == 0),
        (1, FieldType::Keyword) => FieldTest::Prefix(WORDS[random.random_range(0..WORDS.len())].into()),
        (_, FieldType::Text) => FieldTest::MatchText(WORDS[random.random_range(1..WORDS.len())].into()),
        (1, FieldType::Integer | FieldType::Float | FieldType::Datetime) => FieldTest::Range(Range {
            gt: bound(random),
            gte: Some(scalar(random, field_type)),
            lt: bound(random),
            lte: bound(random),
        }),
        (2, _) => {
            let count = random.random_range(0..12);
            FieldTest::AnyOf(values(random, count))
        }
        _ => FieldTest::Equals(scalar(random, field_type)),
    };
    Condition::Field { field: field.into(), test }
}

fn filter(random: &mut StdRng, depth: usize) -> Filter {
    let mut list = |most: usize| {
        let count = random.random_range(0..=most);
        (0..count).map(|_| condition(random, depth)).collect()
    };
    Filter { must: list(2), should: list(3), must_not: list(1) }
}

#[test]
fn bitmaps_hold_the_rows_that_match() {
    let seed = std::env::var("RAGSTONE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("RAGSTONE_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let schema = schema();
    let typer = PayloadTyper::new(&schema);
    let rows: Vec<Row> = (0..300).map(|number| row(&mut random, number, &typer)).collect();
    let segment = seal(&rows, &schema);
    let mut proper = 0;
    for _ in 0..3_000 {
        let filter = filter(&mut random, 1);
        let checked = check_filter(&filter, &schema).unwrap();
        let passing = (0..).zip(&rows).filter(|(_, row)| checked.matches(&row.id, &row.typed, &row.origin()));
        let expected: RoaringBitmap = passing.map(|(number, _)| number).collect();
        proper += usize::from(!expected.is_empty() && expected.len() < 300);
        assert_eq!(segment.filter(&checked).unwrap(), expected, "{filter:?}");
    }
    assert!(proper > 1_000, "only {proper} filters passed some rows and not others");
}

#[test]
fn a_field_that_joined_after_the_seal_is_absent() {
    let old = schema();
    let mut random = StdRng::seed_from_u64(8);
    let typer = PayloadTyper::new(&old);
    let rows: Vec<Row> = (0..10).map(|number| row(&mut random, number, &typer)).collect();
    let segment = seal(&rows, &old);
    let mut new = old;
    new.payload.push(PayloadField { name: "new".into(), field_type: FieldType::Keyword });
    let count = |test: FieldTest| {
        let filter =
            Filter { must: vec![Condition::Field { field: "new".into(), test }], ..Filter::default() };
        segment.filter(&check_filter(&filter, &new).unwrap()).unwrap().len()
    };
    assert_eq!(count(FieldTest::Exists(true)), 0);
    assert_eq!(count(FieldTest::Exists(false)), 10);
    assert_eq!(count(FieldTest::Prefix(String::new())), 0);
}

#[test]
fn a_value_that_the_schema_does_not_have_is_refused_by_the_builder() {
    let typer = PayloadTyper::new(&CollectionSchema { dynamic_payload: true, ..schema() });
    let typed = typer.typed(&[("new".to_owned(), json!(1))].into_iter().collect()).unwrap();
    let mut builder = KeywordBuilder::new(&schema()).unwrap();
    assert!(builder.add_row("p", &typed, &RowOrigin::default(), &IndexedText::default()).is_err());
}
