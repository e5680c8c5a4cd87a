//! Tokens to a syntax tree. Recursion is bounded by [`MAX_NESTING`].

use ragstone_proto::v1::condition::Kind;
use ragstone_proto::v1::field_condition::Test;
use ragstone_proto::v1::value::Kind as ValueKind;
use ragstone_proto::v1::{Condition, FieldCondition, IdList, ListValue, Range, Value};

use super::lexer::{Comparison, Token, tokens};
use super::{MAX_NESTING, Problem};

/// Field that stands for the id of the point itself.
const POINT_ID: &str = "_id";
/// Words that a field name needs backticks for.
const RESERVED: [&str; 8] = ["and", "or", "not", "in", "exists", "starts_with", "matches", "between"];

/// An expression as written. `All` and `Any` have two members or more.
#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Test(Box<Condition>),
}

pub(super) fn parse(text: &str) -> Result<Expression, Problem> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0 };
    if *parser.peek() == Token::End {
        return Err(Problem::new(0, "the filter is empty"));
    }
    let expression = parser.any(0)?;
    match parser.peek() {
        Token::End => Ok(expression),
        Token::Close => Err(parser.problem("\")\" without \"(\"")),
        other => {
            Err(parser.problem(format!("expected \"and\", \"or\" or the end, not {}", other.describe())))
        }
    }
}

struct Parser {
    /// The last one is [`Token::End`].
    tokens: Vec<(usize, Token)>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(at, _)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn take_if(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == wanted;
        if found {
            self.next += 1;
        }
        found
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        if found {
            self.next += 1;
        }
        found
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.at(), message)
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), Problem> {
        if self.take_if(wanted) {
            return Ok(());
        }
        Err(self.problem(format!("expected {}, not {}", wanted.describe(), self.peek().describe())))
    }

    fn any(&mut self, depth: usize) -> Result<Expression, Problem> {
        let mut members = vec![self.all(depth)?];
        while self.take_word("or") {
            members.push(self.all(depth)?);
        }
        Ok(one_or(members, Expression::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, Problem> {
        let mut members = vec![self.one(depth)?];
        while self.take_word("and") {
            members.push(self.one(depth)?);
        }
        Ok(one_or(members, Expression::All))
    }

    fn one(&mut self, depth: usize) -> Result<Expression, Problem> {
        if depth > MAX_NESTING {
            return Err(self.problem(format!("nested more than {MAX_NESTING} deep")));
        }
        if self.take_word("not") {
            return Ok(Expression::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_if(&Token::Open) {
            let inner = self.any(depth + 1)?;
            self.expect(&Token::Close)?;
            return Ok(inner);
        }
        if self.take_word("exists") {
            self.expect(&Token::Open)?;
            let field = self.field()?;
            self.expect(&Token::Close)?;
            return Ok(field_test(field, Test::Exists(true)));
        }
        let at = self.at();
        let field = self.field()?;
        self.test(at, field)
    }

    fn field(&mut self) -> Result<String, Problem> {
        let problem = match self.peek() {
            Token::Quoted(_) => None,
            Token::Word(word) if RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved)) => {
                Some(format!(
                    "expected a field, not {}; a field of that name stands in backticks: `{word}`",
                    self.peek().describe()
                ))
            }
            Token::Word(_) => None,
            Token::String(_) => {
                Some("expected a field, not a string; field names stand bare or in backticks".to_owned())
            }
            other => Some(format!("expected a field, \"not\" or \"(\", not {}", other.describe())),
        };
        match (problem, self.peek()) {
            (None, Token::Word(name) | Token::Quoted(name)) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            (problem, _) => Err(self.problem(problem.unwrap_or_default())),
        }
    }

    fn test(&mut self, at: usize, field: String) -> Result<Expression, Problem> {
        if let Token::Comparison(comparison) = *self.peek() {
            self.next += 1;
            let value = self.value(comparison.symbol())?;
            return comparison_test(at, field, comparison, value);
        }
        if self.take_word("not") {
            if !self.take_word("in") {
                return Err(
                    self.problem(format!("expected \"in\" after \"not\", not {}", self.peek().describe()))
                );
            }
            return Ok(Expression::Not(Box::new(self.any_of(field)?)));
        }
        if self.take_word("in") {
            return self.any_of(field);
        }
        if self.take_word("starts_with") {
            let prefix = self.string("starts_with")?;
            return Ok(field_test(field, Test::Prefix(prefix)));
        }
        if self.take_word("matches") {
            let words = self.string("matches")?;
            return Ok(field_test(field, Test::MatchText(words)));
        }
        if self.take_word("between") {
            return self.between(field);
        }
        Err(self.problem(format!(
            "expected an operator after the field \"{field}\" (= != > >= < <= in between starts_with matches), not {}",
            self.peek().describe()
        )))
    }

    fn between(&mut self, field: String) -> Result<Expression, Problem> {
        let gte = Some(self.value("between")?);
        if !self.take_word("and") {
            return Err(
                self.problem(format!("expected \"and\" between the bounds, not {}", self.peek().describe()))
            );
        }
        let lte = Some(self.value("and")?);
        Ok(field_test(field, Test::Range(Range { gte, lte, ..Range::default() })))
    }

    fn any_of(&mut self, field: String) -> Result<Expression, Problem> {
        // Lists stand in brackets; SQL's parentheses are understood too.
        let close = match self.peek() {
            Token::OpenList => Token::CloseList,
            Token::Open => Token::Close,
            other => {
                return Err(self.problem(format!(
                    "expected a list like [\"a\", \"b\"] after \"in\", not {}",
                    other.describe()
                )));
            }
        };
        self.next += 1;
        let mut values = Vec::new();
        while !self.take_if(&close) {
            values.push(self.value("in")?);
            if !self.take_if(&Token::Comma) && *self.peek() != close {
                return Err(self.problem(format!(
                    "expected \",\" or {}, not {}",
                    close.describe(),
                    self.peek().describe()
                )));
            }
        }
        if field == POINT_ID {
            return Ok(has_id(values.into_iter().map(id_text).collect()));
        }
        Ok(field_test(field, Test::AnyOf(ListValue { values })))
    }

    fn value(&mut self, after: &str) -> Result<Value, Problem> {
        let at = self.at();
        let kind = match self.take() {
            Token::String(value) => ValueKind::StringValue(value),
            Token::Integer(value) => ValueKind::IntegerValue(value),
            Token::Float(value) => ValueKind::FloatValue(value),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => ValueKind::BoolValue(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => ValueKind::BoolValue(false),
            Token::Word(word) if word.eq_ignore_ascii_case("null") => {
                return Err(Problem::new(
                    at,
                    "there is no null; write \"exists(field)\" or \"not exists(field)\"",
                ));
            }
            Token::Word(word) => {
                return Err(Problem::new(
                    at,
                    format!("expected a value after \"{after}\"; strings stand in quotes: \"{word}\""),
                ));
            }
            other => {
                return Err(Problem::new(
                    at,
                    format!("expected a value after \"{after}\", not {}", other.describe()),
                ));
            }
        };
        Ok(Value { kind: Some(kind) })
    }

    fn string(&mut self, after: &str) -> Result<String, Problem> {
        let at = self.at();
        match self.take() {
            Token::String(value) => Ok(value),
            other => Err(Problem::new(
                at,
                format!("expected a string in quotes after \"{after}\", not {}", other.describe()),
            )),
        }
    }
}

fn one_or(mut members: Vec<Expression>, wrap: fn(Vec<Expression>) -> Expression) -> Expression {
    match members.pop() {
        Some(only) if members.is_empty() => only,
        Some(last) => {
            members.push(last);
            wrap(members)
        }
        None => wrap(members),
    }
}

fn comparison_test(
    at: usize,
    field: String,
    comparison: Comparison,
    value: Value,
) -> Result<Expression, Problem> {
    let range = |range| Ok(field_test(field.clone(), Test::Range(range)));
    let equal = || match field.as_str() {
        POINT_ID => has_id(vec![id_text(value.clone())]),
        _ => field_test(field.clone(), Test::Equals(value.clone())),
    };
    match comparison {
        Comparison::Equal => Ok(equal()),
        Comparison::NotEqual => Ok(Expression::Not(Box::new(equal()))),
        _ if field == POINT_ID => Err(Problem::new(at, "_id can be compared with = != and in only")),
        Comparison::Greater => range(Range { gt: Some(value), ..Range::default() }),
        Comparison::GreaterOrEqual => range(Range { gte: Some(value), ..Range::default() }),
        Comparison::Less => range(Range { lt: Some(value), ..Range::default() }),
        Comparison::LessOrEqual => range(Range { lte: Some(value), ..Range::default() }),
    }
}

fn field_test(field: String, test: Test) -> Expression {
    let condition = FieldCondition { field, test: Some(test) };
    Expression::Test(Box::new(Condition { kind: Some(Kind::Field(condition)) }))
}

fn has_id(ids: Vec<String>) -> Expression {
    Expression::Test(Box::new(Condition { kind: Some(Kind::HasId(IdList { ids })) }))
}

/// Ids are strings; a number that was written without quotes is meant as its digits.
fn id_text(value: Value) -> String {
    match value.kind {
        Some(ValueKind::StringValue(text)) => text,
        Some(ValueKind::IntegerValue(number)) => number.to_string(),
        Some(ValueKind::FloatValue(number)) => number.to_string(),
        Some(ValueKind::BoolValue(value)) => value.to_string(),
        _ => String::new(),
    }
}
