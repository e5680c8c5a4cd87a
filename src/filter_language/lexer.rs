//! Text to tokens. Knows quoting and numbers, not which words are operators.

use std::iter::Peekable;
use std::str::CharIndices;

use super::Problem;

/// The smallest meaningful piece of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A bare word: an operator, `true`, `false` or a field.
    Word(String),
    /// A field in backticks.
    Quoted(String),
    String(String),
    Integer(i64),
    Float(f64),
    /// `=`, `!=`, `>`, `>=`, `<`, `<=`.
    Comparison(Comparison),
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    End,
}

/// A comparing operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }
}

impl Token {
    /// The token in an error message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("\"{}\"", shorten(word)),
            Self::Quoted(name) => format!("`{}`", shorten(name)),
            Self::String(value) => format!("the string \"{}\"", shorten(value)),
            Self::Integer(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Comparison(comparison) => format!("\"{}\"", comparison.symbol()),
            Self::Open => "\"(\"".to_owned(),
            Self::Close => "\")\"".to_owned(),
            Self::OpenList => "\"[\"".to_owned(),
            Self::CloseList => "\"]\"".to_owned(),
            Self::Comma => "\",\"".to_owned(),
            Self::End => "the end".to_owned(),
        }
    }
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut short: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}

/// Splits an expression; each token comes with the byte it starts at, and the last is [`Token::End`].
pub(super) fn tokens(expression: &str) -> Result<Vec<(usize, Token)>, Problem> {
    let mut lexer = Lexer { text: expression, chars: expression.char_indices().peekable() };
    let mut tokens = Vec::new();
    while let Some((at, first)) = lexer.chars.next() {
        if !first.is_whitespace() {
            tokens.push((at, lexer.token(at, first)?));
        }
    }
    tokens.push((expression.len(), Token::End));
    Ok(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl Lexer<'_> {
    fn token(&mut self, at: usize, first: char) -> Result<Token, Problem> {
        match first {
            '(' => Ok(Token::Open),
            ')' => Ok(Token::Close),
            '[' => Ok(Token::OpenList),
            ']' => Ok(Token::CloseList),
            ',' => Ok(Token::Comma),
            '=' | '!' | '<' | '>' => self.comparison(at, first).map(Token::Comparison),
            '"' | '\'' => self.quoted(at, first).map(Token::String),
            '`' => match self.quoted(at, first)? {
                name if name.is_empty() => Err(Problem::new(at, "a field name is empty")),
                name => Ok(Token::Quoted(name)),
            },
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(at),
            c if is_word_start(c) => Ok(Token::Word(self.take_while(at, is_word_part).to_owned())),
            '&' => Err(Problem::new(at, "unexpected \"&\"; write \"and\"")),
            '|' => Err(Problem::new(at, "unexpected \"|\"; write \"or\"")),
            c => Err(Problem::new(
                at,
                format!("unexpected {c:?}; strings stand in quotes, unusual field names in backticks"),
            )),
        }
    }

    fn comparison(&mut self, at: usize, first: char) -> Result<Comparison, Problem> {
        let doubled = self.chars.next_if(|&(_, c)| c == '=').is_some();
        match (first, doubled) {
            // "==" is what many languages write, and means nothing else here.
            ('=', _) => Ok(Comparison::Equal),
            ('!', true) => Ok(Comparison::NotEqual),
            ('>', false) => Ok(Comparison::Greater),
            ('>', true) => Ok(Comparison::GreaterOrEqual),
            ('<', false) if self.chars.next_if(|&(_, c)| c == '>').is_some() => Ok(Comparison::NotEqual),
            ('<', false) => Ok(Comparison::Less),
            ('<', true) => Ok(Comparison::LessOrEqual),
            _ => Err(Problem::new(at, "unexpected \"!\"; write \"not\" or \"!=\"")),
        }
    }

    fn quoted(&mut self, at: usize, quote: char) -> Result<String, Problem> {
        let mut value = String::new();
        while let Some((here, c)) = self.chars.next() {
            match c {
                c if c == quote => return Ok(value),
                '\\' => match self.chars.next() {
                    Some((_, c @ ('\\' | '"' | '\'' | '`'))) => value.push(c),
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    _ => return Err(Problem::new(here, r#"unknown escape; there are \\ \" \' \` \n \t"#)),
                },
                c => value.push(c),
            }
        }
        Err(Problem::new(at, format!("the {quote} that opens here is not closed")))
    }

    fn number(&mut self, at: usize) -> Result<Token, Problem> {
        // Taken as far as a number or a word could go, so that "2020-01-01" and "12abc" are one mistake, not two tokens.
        let text = self.take_while(at, |c| is_word_part(c) || matches!(c, '+' | '-'));
        if let Ok(value) = text.parse::<i64>() {
            return Ok(Token::Integer(value));
        }
        let digits = text.trim_start_matches(['-', '+']);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Problem::new(at, format!("{text} does not fit into a 64-bit integer")));
        }
        // Rust's own parser would also take "inf" and "nan".
        let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
        match text.parse::<f64>() {
            Ok(value) if plain && value.is_finite() => Ok(Token::Float(value)),
            Ok(_) if plain => Err(Problem::new(at, format!("{text} does not fit into a 64-bit float"))),
            _ => Err(Problem::new(
                at,
                format!("\"{}\" is not a number; strings and dates stand in quotes", shorten(text)),
            )),
        }
    }

    /// The text from `at`, whose first character was taken already, as long as `accept` holds.
    fn take_while(&mut self, at: usize, accept: impl Fn(char) -> bool) -> &str {
        while self.chars.next_if(|&(_, c)| accept(c)).is_some() {}
        let end = self.chars.peek().map_or(self.text.len(), |&(end, _)| end);
        self.text.get(at..end).unwrap_or_default()
    }
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}
