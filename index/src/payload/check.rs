//! Filters checked against a schema: fields exist, tests fit types, everything is bounded. Errors name the place in the
//! caller's terms: `filter.must[0].should[1].range.gte`. It runs nothing.

use std::sync::Arc;

use super::checked::BuiltIn;
use super::{CheckedFilter, FieldRef, Group, Node, Test, datetime, infer, listed, shortened};
use crate::error::{Error, Result};
use crate::filter::{
    Condition, FieldTest, Filter, MAX_FILTER_CONDITIONS, MAX_FILTER_DEPTH, MAX_FILTER_VALUES, Range, Scalar,
};
use crate::keyword::analyzer;
use crate::schema::{CollectionSchema, FieldType};

/// Checks a filter. All faults are [`Error::InvalidArgument`] with the path of the condition at fault.
pub fn check_filter(filter: &Filter, schema: &CollectionSchema) -> Result<CheckedFilter> {
    let mut check = Check { schema, conditions: 0 };
    Ok(CheckedFilter { root: check.group(filter, "filter", 1)? })
}

struct Check<'a> {
    schema: &'a CollectionSchema,
    /// Conditions seen so far.
    conditions: usize,
}

impl Check<'_> {
    /// Recursion is bounded by [`MAX_FILTER_DEPTH`].
    fn group(&mut self, filter: &Filter, at: &str, depth: usize) -> Result<Group> {
        if depth > MAX_FILTER_DEPTH {
            return Err(Error::invalid(at, format!("filters are nested deeper than {MAX_FILTER_DEPTH}")));
        }
        Ok(Group {
            must: self.nodes(&filter.must, at, "must", depth)?,
            should: self.nodes(&filter.should, at, "should", depth)?,
            must_not: self.nodes(&filter.must_not, at, "must_not", depth)?,
        })
    }

    fn nodes(&mut self, conditions: &[Condition], at: &str, list: &str, depth: usize) -> Result<Vec<Node>> {
        self.conditions += conditions.len();
        if self.conditions > MAX_FILTER_CONDITIONS {
            return Err(Error::invalid(
                format!("{at}.{list}"),
                format!("the filter has more than {MAX_FILTER_CONDITIONS} conditions"),
            ));
        }
        let nodes = conditions.iter().enumerate();
        nodes.map(|(i, condition)| self.node(condition, &format!("{at}.{list}[{i}]"), depth)).collect()
    }

    fn node(&mut self, condition: &Condition, at: &str, depth: usize) -> Result<Node> {
        match condition {
            Condition::Nested(filter) => Ok(Node::Group(self.group(filter, at, depth + 1)?)),
            Condition::HasId(ids) => {
                check_count(ids.len(), &format!("{at}.has_id"))?;
                Ok(Node::HasId(sorted(ids.clone())))
            }
            Condition::Field { field, test } => {
                let field = self.field(field, at)?;
                let test = check_test(test, &field, at)?;
                Ok(Node::Field { field, test })
            }
        }
    }

    fn field(&self, name: &str, at: &str) -> Result<FieldRef> {
        if let Some(built_in) = BuiltIn::ALL.into_iter().find(|field| field.name() == name) {
            return Ok(FieldRef::BuiltIn(built_in));
        }
        if let Some(field) = self.schema.payload_field(name) {
            return Ok(FieldRef::Payload { name: Arc::from(name), field_type: field.field_type });
        }
        let mut known: Vec<&str> = self.schema.payload.iter().map(|field| field.name.as_str()).collect();
        known.extend(BuiltIn::ALL.map(BuiltIn::name));
        let known = listed(known.into_iter());
        Err(Error::invalid(
            format!("{at}.field"),
            format!("no field \"{}\"; there are: {known}", shortened(name)),
        ))
    }
}

fn check_test(test: &FieldTest, field: &FieldRef, at: &str) -> Result<Test> {
    let field_type = field.field_type();
    match test {
        FieldTest::Exists(wanted) => Ok(Test::Exists(*wanted)),
        FieldTest::Equals(value) => {
            one_of(std::slice::from_ref(value), field_type, |_| format!("{at}.equals"))
        }
        FieldTest::AnyOf(values) => {
            check_count(values.len(), &format!("{at}.any_of"))?;
            one_of(values, field_type, |i| format!("{at}.any_of[{i}]"))
        }
        FieldTest::Range(range) => check_range(range, field_type, &format!("{at}.range")),
        FieldTest::Prefix(prefix) => match field_type {
            FieldType::Keyword => Ok(Test::Prefix(prefix.clone())),
            other => Err(unfit(&format!("{at}.prefix"), "prefix", "a keyword field", other)),
        },
        FieldTest::MatchText(text) => match field_type {
            FieldType::Text => check_words(text, &format!("{at}.match_text")),
            other => Err(unfit(&format!("{at}.match_text"), "match_text", "a text field", other)),
        },
    }
}

fn check_count(count: usize, at: &str) -> Result<()> {
    if count > MAX_FILTER_VALUES {
        return Err(Error::invalid(at, format!("{count} values are over the limit of {MAX_FILTER_VALUES}")));
    }
    Ok(())
}

fn unfit(at: &str, test: &str, wanted: &str, found: FieldType) -> Error {
    let hint = match (test, found) {
        ("prefix", FieldType::Text) => "; use match_text",
        ("match_text", FieldType::Keyword) => "; use equals or prefix",
        _ => "",
    };
    Error::invalid(at, format!("{test} needs {wanted}, this one is {}{hint}", infer::name(found)))
}

fn check_words(text: &str, at: &str) -> Result<Test> {
    let mut words = Vec::new();
    analyzer::simple(text, |word| {
        words.push(word.to_owned());
        words.len() <= MAX_FILTER_VALUES
    });
    check_count(words.len(), at)?;
    if words.is_empty() {
        return Err(Error::invalid(at, "there is no word in it"));
    }
    Ok(Test::Words(sorted(words)))
}

/// The values of an equality or any-of, as the field's type. An empty list passes nothing.
fn one_of(values: &[Scalar], field_type: FieldType, at: impl Fn(usize) -> String) -> Result<Test> {
    let fault = |i: usize, message: String| Error::invalid(at(i), message);
    let mut each = values.iter().enumerate();
    match field_type {
        FieldType::Keyword => {
            let texts: Result<Vec<String>> = each
                .map(|(i, value)| match value {
                    Scalar::String(text) => Ok(text.clone()),
                    other => Err(fault(i, mismatch(other, field_type))),
                })
                .collect();
            Ok(Test::KeywordIn(sorted(texts?)))
        }
        FieldType::Integer | FieldType::Datetime => {
            let numbers: Result<Vec<i64>> = each
                .map(|(i, value)| match number(value, field_type).map_err(|message| fault(i, message))? {
                    Number::Integer(integer) => Ok(integer),
                    Number::Float(_) => Err(fault(i, mismatch(value, field_type))),
                })
                .collect();
            Ok(Test::IntegerIn(sorted(numbers?)))
        }
        FieldType::Float => {
            let numbers: Result<Vec<f64>> = each
                .map(|(i, value)| {
                    Ok(number(value, field_type).map_err(|message| fault(i, message))?.as_f64())
                })
                .collect();
            let mut numbers = numbers?;
            numbers.sort_by(f64::total_cmp);
            numbers.dedup();
            Ok(Test::FloatIn(numbers))
        }
        FieldType::Bool => {
            let (mut yes, mut no) = (false, false);
            each.try_for_each(|(i, value)| match value {
                Scalar::Bool(flag) => {
                    yes |= *flag;
                    no |= !*flag;
                    Ok(())
                }
                other => Err(fault(i, mismatch(other, field_type))),
            })?;
            Ok(Test::BoolIn { yes, no })
        }
        FieldType::Text => Err(fault(0, "a text field has words, not one value; use match_text".to_owned())),
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}

fn mismatch(value: &Scalar, expected: FieldType) -> String {
    let found = match value {
        Scalar::Bool(flag) => format!("bool {flag}"),
        Scalar::Integer(integer) => format!("integer {integer}"),
        Scalar::Float(float) => format!("float {float}"),
        Scalar::String(text) => format!("string {:?}", shortened(text)),
    };
    format!("expected {}, found {found}", infer::name(expected))
}

/// A value to compare with: floats stay floats until the field's type says how to round a bound.
#[derive(Clone, Copy)]
enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            // Without negative zero, as payload values are.
            Self::Float(float) => float + 0.0,
        }
    }
}

/// Reads a value for an integer, float or datetime field. A float without a fraction is an integer too.
fn number(value: &Scalar, field_type: FieldType) -> Result<Number, String> {
    match (field_type, value) {
        (FieldType::Datetime, Scalar::String(text)) => datetime::parse(text)
            .map(Number::Integer)
            .ok_or_else(|| format!("expected an RFC 3339 datetime, found {:?}", shortened(text))),
        (FieldType::Integer | FieldType::Float, Scalar::Integer(integer)) => Ok(Number::Integer(*integer)),
        (FieldType::Integer | FieldType::Float, Scalar::Float(float)) if !float.is_finite() => {
            Err(format!("{float} is not a finite number"))
        }
        (FieldType::Integer, Scalar::Float(float)) => {
            let fits = float.fract() == 0.0 && (I64_MIN..I64_END).contains(float);
            Ok(if fits { Number::Integer(*float as i64) } else { Number::Float(*float) })
        }
        (FieldType::Float, Scalar::Float(float)) => Ok(Number::Float(*float)),
        _ => Err(mismatch(value, field_type)),
    }
}

/// `i64::MIN` as a float, exactly.
const I64_MIN: f64 = i64::MIN as f64;
/// One more than `i64::MAX` as a float, exactly (2^63).
const I64_END: f64 = -I64_MIN;

fn check_range(range: &Range, field_type: FieldType, at: &str) -> Result<Test> {
    if !matches!(field_type, FieldType::Integer | FieldType::Float | FieldType::Datetime) {
        return Err(unfit(at, "range", "an integer, float or datetime field", field_type));
    }
    let read = |bound: &Option<Scalar>, name: &str| match bound {
        None => Ok(None),
        Some(value) => number(value, field_type)
            .map(Some)
            .map_err(|message| Error::invalid(format!("{at}.{name}"), message)),
    };
    let bounds = Bounds {
        gt: read(&range.gt, "gt")?,
        gte: read(&range.gte, "gte")?,
        lt: read(&range.lt, "lt")?,
        lte: read(&range.lte, "lte")?,
    };
    if bounds.gt.is_none() && bounds.gte.is_none() && bounds.lt.is_none() && bounds.lte.is_none() {
        return Err(Error::invalid(at, "give at least one of gt, gte, lt, lte"));
    }
    Ok(if field_type == FieldType::Float { bounds.floats() } else { bounds.integers() })
}

struct Bounds {
    gt: Option<Number>,
    gte: Option<Number>,
    lt: Option<Number>,
    lte: Option<Number>,
}

impl Bounds {
    /// Inclusive bounds among the floats.
    fn floats(&self) -> Test {
        let min = [self.gt.map(|bound| bound.as_f64().next_up()), self.gte.map(Number::as_f64)];
        let max = [self.lt.map(|bound| bound.as_f64().next_down()), self.lte.map(Number::as_f64)];
        Test::FloatRange {
            // Adding zero: the float below the smallest positive one is 0.0, never -0.0, in stored values.
            min: min.into_iter().flatten().fold(f64::NEG_INFINITY, f64::max) + 0.0,
            max: max.into_iter().flatten().fold(f64::INFINITY, f64::min) + 0.0,
        }
    }

    /// Inclusive bounds among the integers; 128 bits, so that no step past a bound can wrap.
    fn integers(&self) -> Test {
        let floor = |bound: Number| match bound {
            Number::Integer(integer) => i128::from(integer),
            Number::Float(float) => float.floor() as i128,
        };
        let ceil = |bound: Number| match bound {
            Number::Integer(integer) => i128::from(integer),
            Number::Float(float) => float.ceil() as i128,
        };
        let min = [self.gt.map(|bound| floor(bound).saturating_add(1)), self.gte.map(ceil)];
        let max = [self.lt.map(|bound| ceil(bound).saturating_sub(1)), self.lte.map(floor)];
        let min = min.into_iter().flatten().fold(i128::from(i64::MIN), i128::max);
        let max = max.into_iter().flatten().fold(i128::from(i64::MAX), i128::min);
        match (i64::try_from(min), i64::try_from(max)) {
            (Ok(min), Ok(max)) => Test::IntegerRange { min, max },
            // A bound beyond all integers: nothing can pass.
            _ => Test::IntegerRange { min: 1, max: 0 },
        }
    }
}
