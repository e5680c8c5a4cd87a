//! Filters: wire form to the engine's. Depth and number of conditions are checked on the way down, so that a hostile
//! filter ends the conversion and not the stack. Whether fields exist is the engine's question.

use ragstone_index::filter::{
    Condition, FieldTest, Filter, MAX_FILTER_CONDITIONS, MAX_FILTER_DEPTH, MAX_FILTER_VALUES, Range, Scalar,
};
use ragstone_proto::v1;
use ragstone_proto::v1::condition::Kind;
use ragstone_proto::v1::field_condition::Test;
use ragstone_proto::v1::value::Kind as ValueKind;

use crate::app::error::{Error, Result};

/// A filter. `at` is its path in the request.
pub fn filter(filter: v1::Filter, at: &str) -> Result<Filter> {
    Converter { conditions: 0 }.filter(filter, at, 1)
}

struct Converter {
    conditions: usize,
}

impl Converter {
    fn filter(&mut self, filter: v1::Filter, at: &str, depth: usize) -> Result<Filter> {
        if depth > MAX_FILTER_DEPTH {
            return Err(Error::invalid(at, format!("is nested more than {MAX_FILTER_DEPTH} deep")));
        }
        Ok(Filter {
            must: self.conditions(filter.must, at, "must", depth)?,
            should: self.conditions(filter.should, at, "should", depth)?,
            must_not: self.conditions(filter.must_not, at, "must_not", depth)?,
        })
    }

    fn conditions(
        &mut self,
        list: Vec<v1::Condition>,
        at: &str,
        name: &str,
        depth: usize,
    ) -> Result<Vec<Condition>> {
        self.conditions += list.len();
        if self.conditions > MAX_FILTER_CONDITIONS {
            return Err(Error::invalid(
                format!("{at}.{name}"),
                format!("more than {MAX_FILTER_CONDITIONS} conditions in one filter"),
            ));
        }
        let list = list.into_iter().enumerate();
        list.map(|(i, condition)| self.condition(condition, &format!("{at}.{name}[{i}]"), depth)).collect()
    }

    fn condition(&mut self, condition: v1::Condition, at: &str, depth: usize) -> Result<Condition> {
        match condition.kind {
            None => Err(Error::invalid(at, "is empty: give a field, a filter or has_id")),
            Some(Kind::Filter(nested)) => {
                Ok(Condition::Nested(self.filter(nested, &format!("{at}.filter"), depth + 1)?))
            }
            Some(Kind::HasId(list)) => {
                check_count(list.ids.len(), &format!("{at}.has_id"))?;
                Ok(Condition::HasId(list.ids))
            }
            Some(Kind::Field(field)) => {
                if field.field.is_empty() {
                    return Err(Error::invalid(format!("{at}.field"), "is empty"));
                }
                let no_test = || Error::invalid(at, "has no test: give equals, any_of, range, …");
                let test = field_test(field.test.ok_or_else(no_test)?, at)?;
                Ok(Condition::Field { field: field.field, test })
            }
        }
    }
}

fn field_test(test: Test, at: &str) -> Result<FieldTest> {
    Ok(match test {
        Test::Equals(value) => FieldTest::Equals(scalar(value, &format!("{at}.equals"))?),
        Test::AnyOf(list) => {
            let at = format!("{at}.any_of");
            check_count(list.values.len(), &at)?;
            let values = list.values.into_iter().enumerate();
            FieldTest::AnyOf(values.map(|(i, v)| scalar(v, &format!("{at}[{i}]"))).collect::<Result<_>>()?)
        }
        Test::Range(range) => FieldTest::Range(bounds(range, &format!("{at}.range"))?),
        Test::Exists(exists) => FieldTest::Exists(exists),
        Test::Prefix(prefix) => FieldTest::Prefix(prefix),
        Test::MatchText(words) => FieldTest::MatchText(words),
    })
}

fn bounds(range: v1::Range, at: &str) -> Result<Range> {
    let bound =
        |value: Option<v1::Value>, name: &str| value.map(|v| scalar(v, &format!("{at}.{name}"))).transpose();
    let range = Range {
        gt: bound(range.gt, "gt")?,
        gte: bound(range.gte, "gte")?,
        lt: bound(range.lt, "lt")?,
        lte: bound(range.lte, "lte")?,
    };
    if range == Range::default() {
        return Err(Error::invalid(at, "has no bound: give gt, gte, lt or lte"));
    }
    Ok(range)
}

fn scalar(value: v1::Value, at: &str) -> Result<Scalar> {
    match value.kind {
        Some(ValueKind::BoolValue(value)) => Ok(Scalar::Bool(value)),
        Some(ValueKind::IntegerValue(value)) => Ok(Scalar::Integer(value)),
        Some(ValueKind::FloatValue(value)) if value.is_finite() => Ok(Scalar::Float(value)),
        Some(ValueKind::FloatValue(value)) => {
            Err(Error::invalid(at, format!("{value} is not a finite number")))
        }
        Some(ValueKind::StringValue(value)) => Ok(Scalar::String(value)),
        None | Some(ValueKind::NullValue(_)) => {
            Err(Error::invalid(at, "is null: use exists to ask whether there is a value"))
        }
        Some(ValueKind::ListValue(_) | ValueKind::StructValue(_)) => {
            Err(Error::invalid(at, "is a list or an object: a test compares with one value"))
        }
    }
}

fn check_count(count: usize, at: &str) -> Result<()> {
    if count > MAX_FILTER_VALUES {
        return Err(Error::invalid(at, format!("{count} values are more than {MAX_FILTER_VALUES}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn field(name: &str, test: Option<Test>) -> v1::Condition {
        v1::Condition { kind: Some(Kind::Field(v1::FieldCondition { field: name.into(), test })) }
    }

    fn must(conditions: Vec<v1::Condition>) -> v1::Filter {
        v1::Filter { must: conditions, ..v1::Filter::default() }
    }

    fn integer(value: i64) -> v1::Value {
        v1::Value { kind: Some(ValueKind::IntegerValue(value)) }
    }

    fn refused(wire: v1::Filter) -> String {
        filter(wire, "filter").unwrap_err().to_string()
    }

    #[test]
    fn every_test_arrives() {
        let range = v1::Range { gte: Some(integer(2020)), ..v1::Range::default() };
        let any = v1::ListValue { values: vec![integer(1), integer(2)] };
        let wire = v1::Filter {
            must: vec![
                field(
                    "lang",
                    Some(Test::Equals(v1::Value { kind: Some(ValueKind::StringValue("en".into())) })),
                ),
                field("year", Some(Test::Range(range))),
                v1::Condition { kind: Some(Kind::HasId(v1::IdList { ids: vec!["a".into()] })) },
            ],
            should: vec![field("n", Some(Test::AnyOf(any))), field("t", Some(Test::MatchText("w".into())))],
            must_not: vec![field("p", Some(Test::Prefix("x".into()))), field("e", Some(Test::Exists(true)))],
        };
        let plain = |name: &str, test: FieldTest| Condition::Field { field: name.into(), test };
        let expect = Filter {
            must: vec![
                plain("lang", FieldTest::Equals(Scalar::String("en".into()))),
                plain(
                    "year",
                    FieldTest::Range(Range { gte: Some(Scalar::Integer(2020)), ..Range::default() }),
                ),
                Condition::HasId(vec!["a".into()]),
            ],
            should: vec![
                plain("n", FieldTest::AnyOf(vec![Scalar::Integer(1), Scalar::Integer(2)])),
                plain("t", FieldTest::MatchText("w".into())),
            ],
            must_not: vec![plain("p", FieldTest::Prefix("x".into())), plain("e", FieldTest::Exists(true))],
        };
        assert_eq!(filter(wire, "filter").unwrap(), expect);
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            let mut wire = v1::Filter::default();
            for _ in 1..levels {
                wire = must(vec![v1::Condition { kind: Some(Kind::Filter(wire)) }]);
            }
            wire
        };
        assert!(filter(nested(MAX_FILTER_DEPTH), "filter").is_ok());
        assert!(refused(nested(MAX_FILTER_DEPTH + 1)).contains("32 deep"));
    }

    #[test]
    fn conditions_are_counted_over_all_levels() {
        let many = |n: usize| must((0..n).map(|_| field("a", Some(Test::Exists(true)))).collect());
        let inner = v1::Condition { kind: Some(Kind::Filter(many(1_000))) };
        let mut outer = many(24);
        outer.should.push(inner);
        assert!(refused(outer).contains("1024 conditions"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |wire: v1::Filter, expect: &str| {
            let message = refused(wire);
            assert!(message.starts_with(expect), "{message}");
        };
        check(must(vec![v1::Condition { kind: None }]), "filter.must[0]: is empty");
        check(must(vec![field("a", None)]), "filter.must[0]: has no test");
        check(must(vec![field("", Some(Test::Exists(true)))]), "filter.must[0].field: is empty");
        check(
            must(vec![field("a", Some(Test::Range(v1::Range::default())))]),
            "filter.must[0].range: has no bound",
        );
        check(
            must(vec![field("a", Some(Test::Equals(v1::Value { kind: None })))]),
            "filter.must[0].equals: is null",
        );
        let nan = v1::Value { kind: Some(ValueKind::FloatValue(f64::NAN)) };
        check(must(vec![field("a", Some(Test::Equals(nan)))]), "filter.must[0].equals: NaN");
        let ids = v1::IdList { ids: vec![String::new(); MAX_FILTER_VALUES + 1] };
        check(must(vec![v1::Condition { kind: Some(Kind::HasId(ids)) }]), "filter.must[0].has_id: 10001");
    }
}
