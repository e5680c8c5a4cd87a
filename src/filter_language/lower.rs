//! A syntax tree to a filter of must, should and must_not, as flat as its meaning allows.

use ragstone_index::filter::{MAX_FILTER_CONDITIONS, MAX_FILTER_DEPTH, MAX_FILTER_VALUES};
use ragstone_proto::v1::condition::Kind;
use ragstone_proto::v1::field_condition::Test;
use ragstone_proto::v1::{Condition, Filter};

use super::parser::Expression;

pub(super) fn to_filter(expression: Expression) -> Filter {
    let mut filter = Filter::default();
    match expression {
        Expression::Any(members) => filter.should = members.into_iter().map(to_condition).collect(),
        Expression::All(members) => members.into_iter().for_each(|member| require(&mut filter, member)),
        other => require(&mut filter, other),
    }
    filter
}

/// Adds what must hold; conjunctions inside conjunctions and negations need no filter of their own.
fn require(filter: &mut Filter, expression: Expression) {
    match expression {
        Expression::All(members) => members.into_iter().for_each(|member| require(filter, member)),
        Expression::Not(inner) => match *inner {
            Expression::Not(inner) => require(filter, *inner),
            // De Morgan: none of the alternatives may hold.
            Expression::Any(members) => {
                members.into_iter().for_each(|member| require(filter, Expression::Not(Box::new(member))));
            }
            inner => filter.must_not.push(to_condition(inner)),
        },
        other => filter.must.push(to_condition(other)),
    }
}

fn to_condition(expression: Expression) -> Condition {
    match expression {
        Expression::Test(condition) => *condition,
        other => Condition { kind: Some(Kind::Filter(to_filter(other))) },
    }
}

/// The engine's own bounds, checked here because the mistake is then shown before anything runs.
pub(super) fn check_bounds(filter: &Filter) -> Result<(), String> {
    let size = measure(filter);
    if size.depth > MAX_FILTER_DEPTH {
        return Err(format!("\"and\" and \"or\" alternate {} deep; at most {MAX_FILTER_DEPTH}", size.depth));
    }
    if size.conditions > MAX_FILTER_CONDITIONS {
        return Err(format!(
            "{} conditions; at most {MAX_FILTER_CONDITIONS}. for many values of one field write \"in [...]\"",
            size.conditions
        ));
    }
    if size.values > MAX_FILTER_VALUES {
        return Err(format!("a list of {} values; at most {MAX_FILTER_VALUES}", size.values));
    }
    Ok(())
}

#[derive(Default)]
struct Size {
    depth: usize,
    conditions: usize,
    /// Of the longest list.
    values: usize,
}

fn measure(filter: &Filter) -> Size {
    let mut size = Size { depth: 1, ..Size::default() };
    for condition in filter.must.iter().chain(&filter.should).chain(&filter.must_not) {
        size.conditions += 1;
        match &condition.kind {
            Some(Kind::Filter(inner)) => {
                let inner = measure(inner);
                size.depth = size.depth.max(inner.depth + 1);
                size.conditions += inner.conditions;
                size.values = size.values.max(inner.values);
            }
            Some(Kind::Field(field)) => {
                if let Some(Test::AnyOf(list)) = &field.test {
                    size.values = size.values.max(list.values.len());
                }
            }
            Some(Kind::HasId(list)) => size.values = size.values.max(list.ids.len()),
            None => {}
        }
    }
    size
}
