//! The filter language: meaning, precedence, errors with their place, bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use ragstone_proto::v1::condition::Kind;
use ragstone_proto::v1::field_condition::Test;
use ragstone_proto::v1::value::Kind as ValueKind;
use ragstone_proto::v1::{Condition, Filter, Value};

use super::parse;

/// A filter as one line: `+` must, `|` should, `-` must_not.
fn show(filter: &Filter) -> String {
    let group = |sign: char, conditions: &[Condition]| -> Vec<String> {
        conditions.iter().map(|condition| format!("{sign}{}", show_condition(condition))).collect()
    };
    let parts = [group('+', &filter.must), group('|', &filter.should), group('-', &filter.must_not)].concat();
    format!("{{{}}}", parts.join(" "))
}

fn show_condition(condition: &Condition) -> String {
    match condition.kind.as_ref().unwrap() {
        Kind::Filter(filter) => show(filter),
        Kind::HasId(list) => format!("ids({})", list.ids.join(",")),
        Kind::Field(field) => {
            let name = &field.field;
            match field.test.as_ref().unwrap() {
                Test::Equals(value) => format!("{name}={}", show_value(value)),
                Test::AnyOf(list) => {
                    format!(
                        "{name}:any({})",
                        list.values.iter().map(show_value).collect::<Vec<_>>().join(",")
                    )
                }
                Test::Exists(wanted) => format!("{name}:exists({wanted})"),
                Test::Prefix(prefix) => format!("{name}:prefix({prefix})"),
                Test::MatchText(words) => format!("{name}:match({words})"),
                Test::Range(range) => {
                    let bound = |sign: &str, value: &Option<Value>| {
                        value.as_ref().map(|value| format!("{name}{sign}{}", show_value(value)))
                    };
                    let bounds = [
                        bound(">", &range.gt),
                        bound(">=", &range.gte),
                        bound("<", &range.lt),
                        bound("<=", &range.lte),
                    ];
                    bounds.into_iter().flatten().collect::<Vec<_>>().join("&")
                }
            }
        }
    }
}

fn show_value(value: &Value) -> String {
    match value.kind.as_ref().unwrap() {
        ValueKind::StringValue(text) => format!("{text:?}"),
        ValueKind::IntegerValue(number) => number.to_string(),
        ValueKind::FloatValue(number) => format!("{number:?}"),
        ValueKind::BoolValue(flag) => flag.to_string(),
        other => panic!("the language has no {other:?}"),
    }
}

#[track_caller]
fn check(expression: &str, expected: &str) {
    match parse(expression) {
        Ok(filter) => assert_eq!(show(&filter), expected, "{expression}"),
        Err(error) => panic!("{expression}: {error}"),
    }
}

#[track_caller]
fn fails(expression: &str, column: usize, part: &str) {
    let error = parse(expression).expect_err(expression);
    assert_eq!(error.column, column, "{error}");
    assert!(error.message.contains(part), "{error}");
}

#[test]
fn one_test_of_each_kind() {
    check(r#"lang = "en""#, r#"{+lang="en"}"#);
    check(r#"lang == 'en'"#, r#"{+lang="en"}"#);
    check("year != 2020", "{-year=2020}");
    check("year <> 2020", "{-year=2020}");
    check("year>2020", "{+year>2020}");
    check("year >=2020", "{+year>=2020}");
    check("price< -1.5", "{+price<-1.5}");
    check("price <= 1e3", "{+price<=1000.0}");
    check("draft = false", "{+draft=false}");
    check(r#"tag in ["a", 'b', 3, true,]"#, r#"{+tag:any("a","b",3,true)}"#);
    check(r#"tag in ("a","b")"#, r#"{+tag:any("a","b")}"#);
    check(r#"tag not in ["a"]"#, r#"{-tag:any("a")}"#);
    check("exists(author.name)", "{+author.name:exists(true)}");
    check("not exists ( author )", "{-author:exists(true)}");
    check(r#"title starts_with "foo""#, "{+title:prefix(foo)}");
    check(r#"body matches "some words""#, "{+body:match(some words)}");
    check("year between 2000 and 2010", "{+year>=2000&year<=2010}");
    check(r#"when >= "2024-05-01T00:00:00Z""#, r#"{+when>="2024-05-01T00:00:00Z"}"#);
}

#[test]
fn point_ids() {
    check(r#"_id = "a""#, "{+ids(a)}");
    check(r#"_id in ["a", 7]"#, "{+ids(a,7)}");
    check(r#"_id != "a" and _page = 3"#, "{+_page=3 -ids(a)}");
    fails("_id > 3", 1, "= != and in only");
}

#[test]
fn and_binds_tighter_than_or_and_not_tightest() {
    check("a = 1 or b = 2 and c = 3", "{|a=1 |{+b=2 +c=3}}");
    check("(a = 1 or b = 2) and c = 3", "{+{|a=1 |b=2} +c=3}");
    check("not a = 1 and b = 2", "{+b=2 -a=1}");
    check("not (a = 1 and b = 2)", "{-{+a=1 +b=2}}");
    check("not (a = 1 or b = 2)", "{-a=1 -b=2}");
    check("a = 1 or not b = 2", "{|a=1 |{-b=2}}");
    check("not not a = 1", "{+a=1}");
    check("not a != 1", "{+a=1}");
    check("((a = 1))", "{+a=1}");
    check("a between 1 and 2 and b = 3", "{+a>=1&a<=2 +b=3}");
}

#[test]
fn the_documented_example() {
    check(
        r#"lang = "en" and year >= 2020 and (tag in ["a","b"] or not exists(author)) and title starts_with "foo" and body matches "words""#,
        r#"{+lang="en" +year>=2020 +{|tag:any("a","b") |{-author:exists(true)}} +title:prefix(foo) +body:match(words)}"#,
    );
}

#[test]
fn names_and_quoting() {
    check("author.first-name_2 = 1", "{+author.first-name_2=1}");
    check("größe = 1", "{+größe=1}");
    check("`or` = 1 OR `a b` = 2", "{|or=1 |a b=2}");
    check(
        r#"a = "x\"y\\z\n" AND b = 'it''s'"#.replace("''", r"\'").as_str(),
        r#"{+a="x\"y\\z\n" +b="it's"}"#,
    );
    check("orange = 1 and android = 2 and notes = 3", "{+orange=1 +android=2 +notes=3}");
    check(
        "a = 9223372036854775807 and b = -9223372036854775808",
        "{+a=9223372036854775807 +b=-9223372036854775808}",
    );
    check("a\n=\t1", "{+a=1}");
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    fails("", 1, "empty");
    fails("   ", 1, "empty");
    fails("year >=", 8, "expected a value after \">=\", not the end");
    fails("year >= and", 9, "strings stand in quotes");
    fails("lang = en", 8, "strings stand in quotes: \"en\"");
    fails("lang = \"en", 8, "not closed");
    fails("lang", 5, "expected an operator");
    fails("lang like \"x\"", 6, "expected an operator after the field \"lang\"");
    fails("\"lang\" = 1", 1, "expected a field, not a string");
    fails("or = 1", 1, "`or`");
    fails("a = 1 b = 2", 7, "expected \"and\", \"or\" or the end");
    fails("(a = 1", 7, "expected \")\"");
    fails("a = 1)", 6, "without");
    fails("a = 1 && b = 2", 7, "write \"and\"");
    fails("a = 1 || b = 2", 7, "write \"or\"");
    fails("!a", 1, "write \"not\"");
    fails("a in \"x\"", 6, "expected a list");
    fails("a in [1 2]", 9, "expected \",\" or \"]\"");
    fails("a in [", 7, "expected a value");
    fails("a not = 1", 7, "expected \"in\" after \"not\"");
    fails("a = null", 5, "not exists(field)");
    fails("a starts_with 3", 15, "expected a string");
    fails("a between 1 or 2", 13, "expected \"and\" between");
    fails("exists author", 8, "expected \"(\"");
    fails("a = 2020-01-01", 5, "dates stand in quotes");
    fails("a = 9223372036854775808", 5, "64-bit integer");
    fails("a = 1e999", 5, "64-bit float");
    fails("a = -inf", 5, "not a number");
    fails(r#"a = "\q""#, 6, "unknown escape");
    fails("`` = 1", 1, "empty");
    fails("a = 1 ; b", 7, "unexpected ';'");
    // Columns count characters, not bytes.
    fails("größe = ü", 9, "strings stand in quotes");
}

#[test]
fn the_caret_stands_under_the_place() {
    let error = parse("lang = \"en\" and year >= ").unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "filter, column 25: expected a value after \">=\", not the end");
    assert_eq!(lines[1], "  lang = \"en\" and year >= ");
    assert_eq!(lines[2], format!("  {}^", " ".repeat(24)));
}

#[test]
fn the_caret_of_a_long_expression_stays_in_sight() {
    let expression =
        format!("{} and year ~ 3 and {}", "a = 1 and ".repeat(50) + "b = 2", "c = 3 and ".repeat(50));
    let error = parse(&expression).unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert!(lines[1].chars().count() <= super::EXCERPT_WIDTH + 2, "{error}");
    let caret = lines[2].chars().count() - 1;
    assert_eq!(lines[1].chars().nth(caret), Some('~'), "{error}");
}

#[test]
fn nesting_has_a_bound_and_no_depth_overflows_the_stack() {
    let nested = |depth: usize| format!("{}a = 1{}", "(".repeat(depth), ")".repeat(depth));
    check(&nested(super::MAX_NESTING), "{+a=1}");
    fails(&nested(super::MAX_NESTING + 1), super::MAX_NESTING + 2, "nested more than 32 deep");
    assert!(parse(&nested(100_000)).is_err());
    assert!(parse(&format!("{}a = 1", "not ".repeat(60_000))).is_err());
    // Alternating operators need two filters a parenthesis.
    let alternating = format!("{}a = 1{}", "a = 1 or b = 2 and (".repeat(20), ")".repeat(20));
    fails(&alternating, 1, "deep; at most 32");
}

#[test]
fn conditions_and_lists_have_bounds() {
    let many = |count: usize| vec!["a = 1"; count].join(" or ");
    assert!(parse(&many(1_024)).is_ok());
    fails(&many(1_025), 1, "1025 conditions; at most 1024");
    let list = |count: usize| format!("a in [{}]", vec!["1"; count].join(","));
    assert!(parse(&list(10_000)).is_ok());
    fails(&list(10_001), 1, "at most 10000");
    let long = format!("a = \"{}\"", "x".repeat(super::MAX_EXPRESSION_BYTES));
    fails(&long, 1, "bytes long");
}

#[test]
fn no_input_panics() {
    let pieces = [
        "a", "(", ")", "[", "]", "not", "and", "or", "in", "exists", "=", "!=", "'", "\"", "`", "\\", "1",
        "-", "é", ",", " ",
    ];
    let mut seed = 0x9E37_79B9_u64;
    for _ in 0..20_000 {
        let mut expression = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            expression.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            if seed & 1 << 20 != 0 {
                expression.push(' ');
            }
        }
        if let Err(error) = parse(&expression) {
            assert!(error.column <= expression.chars().count() + 1, "{expression:?}: {error}");
        }
    }
}
