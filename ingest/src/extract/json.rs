//! JSON, JSON lines and notebooks as people read them: names and values in the order of the source, records apart.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::limits::exhausted;
use super::markup::first_heading;
use super::normalise::TextBuilder;
use super::scope::Scope;
use super::tables::table;
use crate::document::{ExtractedDocument, Markup, Properties};
use crate::error::{Error, Result};

/// Largest JSON that is laid out; its tree takes about ten times the source. A larger one is kept as it is.
const MAX_TREE_BYTES: usize = 16 << 20;
/// Most bytes of one output of a notebook that are kept.
const MAX_OUTPUT_BYTES: usize = 10_000;
/// Fewest records that make a table.
const TABLE_RECORDS: usize = 3;
/// Longest scalar that may stand in a table.
const TABLE_CELL_BYTES: usize = 80;

/// A value with the order of its names.
#[derive(Debug)]
pub(super) enum Node {
    Scalar(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// Reads a document. What can't be parsed is kept as it is.
pub(super) fn read(source: &str, scope: &Scope) -> Result<ExtractedDocument> {
    let node = (source.len() <= MAX_TREE_BYTES).then(|| serde_json::from_str::<Node>(source).ok()).flatten();
    let Some(node) = node else {
        let text = TextBuilder::whole(source, &scope.limits)?;
        return Ok(ExtractedDocument { text, ..Default::default() });
    };
    if is_notebook(&node) {
        return notebook(source, scope);
    }
    let title = node.scalar("title").or_else(|| node.scalar("name")).unwrap_or_default().to_owned();
    let mut text = String::new();
    write_document(&node, &mut text, scope)?;
    let text = TextBuilder::whole(&text, &scope.limits)?;
    Ok(ExtractedDocument { title, text, markup: Markup::Markdown, ..Default::default() })
}

/// Reads one value a line. Lines that are none are kept as they are.
pub(super) fn lines(source: &str, scope: &Scope) -> Result<ExtractedDocument> {
    let mut text = TextBuilder::new(&scope.limits);
    for line in source.lines().map(str::trim).filter(|line| !line.is_empty()) {
        scope.deadline.check()?;
        let node = (line.len() <= MAX_TREE_BYTES).then(|| serde_json::from_str::<Node>(line).ok()).flatten();
        match node {
            Some(node) => {
                let mut record = String::new();
                write(&node, 0, &mut record, scope)?;
                text.push(&record)?;
            }
            None => text.push(line)?,
        }
    }
    Ok(ExtractedDocument { text: text.finish().0, ..Default::default() })
}

/// Whether a text is one JSON object or array.
pub(super) fn is_json(source: &str) -> bool {
    source.trim_start().starts_with(['{', '['])
        && source.len() <= MAX_TREE_BYTES
        && serde_json::from_str::<serde::de::IgnoredAny>(source).is_ok()
}

/// Whether the first lines of a text are a JSON object each.
pub(super) fn is_json_lines(head: &str) -> bool {
    let mut lines = head.lines().filter(|line| !line.trim().is_empty()).take(3);
    let is_object = |line: &str| {
        line.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok()
    };
    lines.next().is_some_and(is_object) && lines.next().is_some_and(is_object)
}

impl Node {
    fn get(&self, name: &str) -> Option<&Node> {
        match self {
            Self::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, node)| node),
            _ => None,
        }
    }

    fn scalar(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Self::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

fn is_notebook(node: &Node) -> bool {
    node.get("nbformat").is_some()
        && matches!(node.get("cells").or(node.get("worksheets")), Some(Node::List(_)))
}

/// The outermost value: its members stand apart, so that they can be told apart when the text is cut.
pub(super) fn write_document(node: &Node, out: &mut String, scope: &Scope) -> Result<()> {
    match node {
        Node::List(items) if as_table(items, out) => {}
        Node::List(items) if items.iter().any(|item| !matches!(item, Node::Scalar(_))) => {
            for item in items {
                write(item, 0, out, scope)?;
                out.push('\n');
            }
        }
        Node::Object(fields) => {
            for (name, value) in fields {
                let nested = !matches!(value, Node::Scalar(_));
                match value {
                    Node::List(items) if items.len() >= TABLE_RECORDS && is_tabular(items) => {
                        out.push_str(&format!("\n{name}:\n\n"));
                        as_table(items, out);
                    }
                    // Records below a name at the top are paragraphs, not one long block.
                    Node::List(items) if items.iter().any(|item| matches!(item, Node::Object(_))) => {
                        out.push_str(&format!("\n{name}:\n\n"));
                        for item in items {
                            write(item, 0, out, scope)?;
                            out.push('\n');
                        }
                    }
                    value => field(name, value, 0, out, scope)?,
                }
                if nested {
                    out.push('\n');
                }
            }
        }
        node => write(node, 0, out, scope)?,
    }
    Ok(())
}

fn write(node: &Node, indent: usize, out: &mut String, scope: &Scope) -> Result<()> {
    scope.limits.check_text(out.len())?;
    match node {
        Node::Scalar(text) => {
            pad(indent, out);
            out.push_str(text);
            out.push('\n');
        }
        Node::Object(fields) => {
            for (name, value) in fields {
                field(name, value, indent, out, scope)?;
            }
        }
        Node::List(items) => {
            for item in items {
                let start = out.len();
                write(item, indent + 2, out, scope)?;
                // The mark stands in the indentation of the item's first line.
                if let Some(place) = out.get(start..).filter(|item| item.len() > indent) {
                    let is_blank = place.as_bytes().iter().take(indent + 2).all(|byte| *byte == b' ');
                    if is_blank {
                        out.replace_range(start + indent..start + indent + 2, "- ");
                    }
                }
            }
        }
    }
    Ok(())
}

fn field(name: &str, value: &Node, indent: usize, out: &mut String, scope: &Scope) -> Result<()> {
    pad(indent, out);
    out.push_str(name);
    out.push(':');
    match value {
        Node::Scalar(text) if text.contains('\n') => {
            out.push('\n');
            for line in text.lines() {
                pad(indent + 2, out);
                out.push_str(line);
                out.push('\n');
            }
        }
        Node::Scalar(text) => {
            out.push(' ');
            out.push_str(text);
            out.push('\n');
        }
        Node::List(items)
            if items
                .iter()
                .all(|item| matches!(item, Node::Scalar(text) if text.len() <= TABLE_CELL_BYTES)) =>
        {
            let words: Vec<&str> = items
                .iter()
                .filter_map(|item| match item {
                    Node::Scalar(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            out.push(' ');
            out.push_str(&words.join(", "));
            out.push('\n');
        }
        nested => {
            out.push('\n');
            write(nested, indent + 2, out, scope)?;
        }
    }
    Ok(())
}

/// Deep nesting is told by indentation only so far.
fn pad(indent: usize, out: &mut String) {
    out.push_str(&" ".repeat(indent.min(40)));
}

/// Records of short values with mostly the same names.
fn is_tabular(items: &[Node]) -> bool {
    let names = columns(items);
    let fields = |item: &Node| match item {
        Node::Object(fields) => {
            let short = |(_, value): &(String, Node)| matches!(value, Node::Scalar(text) if text.len() <= TABLE_CELL_BYTES && !text.contains('\n'));
            fields.iter().all(short).then_some(fields.len())
        }
        _ => None,
    };
    let counts: Option<Vec<usize>> = items.iter().map(fields).collect();
    let filled: Option<usize> = counts.map(|counts| counts.iter().sum());
    (2..=12).contains(&names.len())
        && filled.is_some_and(|filled| filled * 4 >= names.len() * items.len() * 3)
}

fn columns(items: &[Node]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let Node::Object(fields) = item else { continue };
        for (name, _) in fields {
            // A list of that many names is no table anyway.
            if names.len() <= 12 && !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}

fn as_table(items: &[Node], out: &mut String) -> bool {
    if items.len() < TABLE_RECORDS || !is_tabular(items) {
        return false;
    }
    let names = columns(items);
    let mut rows = vec![names.clone()];
    rows.extend(items.iter().map(|item| {
        names.iter().map(|name| item.scalar(name).unwrap_or_default().to_owned()).collect::<Vec<_>>()
    }));
    out.push_str(&table(&rows));
    true
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_unit<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(String::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some(field) = fields.next_entry()? {
            object.push(field);
        }
        Ok(Node::Object(object))
    }
}

/// The cells of a Jupyter notebook: text, code, and what the code printed.
pub(super) fn notebook(source: &str, scope: &Scope) -> Result<ExtractedDocument> {
    if source.len() > MAX_TREE_BYTES {
        return Err(exhausted(format!("a notebook of {} bytes", source.len())));
    }
    let notebook: Value = serde_json::from_str(source)
        .map_err(|error| Error::bad_content(format!("broken notebook: {error}")))?;
    let cells =
        notebook.get("cells").or_else(|| notebook.pointer("/worksheets/0/cells")).and_then(Value::as_array);
    let cells = cells.ok_or_else(|| Error::bad_content("a notebook without cells"))?;
    let language = ["/metadata/kernelspec/language", "/metadata/language_info/name"];
    let language = language.iter().find_map(|path| notebook.pointer(path)?.as_str()).unwrap_or_default();
    let mut text = TextBuilder::new(&scope.limits);
    for cell in cells {
        let source = cell.get("source").or_else(|| cell.get("input")).map(joined).unwrap_or_default();
        if cell.get("cell_type").and_then(Value::as_str) == Some("code") {
            if !source.trim().is_empty() {
                text.push(&fenced(language, &source))?;
            }
            let outputs =
                cell.get("outputs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for output in outputs.iter().filter_map(output) {
                text.push(&fenced("", &output))?;
            }
        } else {
            text.push(&source)?;
        }
    }
    let (text, _) = text.finish();
    let declared = notebook.pointer("/metadata/title").and_then(Value::as_str).map(str::to_owned);
    let title = declared.or_else(|| first_heading(&text)).unwrap_or_default();
    let authors = notebook.pointer("/metadata/authors").and_then(Value::as_array);
    let authors =
        authors.into_iter().flatten().filter_map(|author| author.get("name")?.as_str()).map(str::to_owned);
    let properties = Properties { authors: authors.take(20).collect(), ..Default::default() };
    Ok(ExtractedDocument {
        media_type: "application/x-ipynb+json".into(),
        title,
        text,
        markup: Markup::Markdown,
        properties,
        ..Default::default()
    })
}

/// Text of an output: the plainest form that it has. Pictures have none.
fn output(output: &Value) -> Option<String> {
    let text = match output.get("output_type")?.as_str()? {
        "stream" => joined(output.get("text")?),
        "error" | "pyerr" => {
            let part = |name: &str| output.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            format!("{}: {}", part("ename"), part("evalue"))
        }
        _ => {
            let forms = output.get("data").unwrap_or(output);
            ["text/plain", "text/markdown", "text/latex", "text"]
                .iter()
                .find_map(|form| Some(joined(forms.get(form)?)))?
        }
    };
    let text = text.trim_matches('\n');
    let kept = text.get(..text.floor_char_boundary(MAX_OUTPUT_BYTES)).unwrap_or(text);
    (!kept.trim().is_empty()).then(|| kept.to_owned())
}

/// Lines of a notebook: one string, or one for each line.
fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

/// A code block whose fence is longer than any in it.
pub(super) fn fenced(language: &str, code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", code.trim_end())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::extract::ExtractLimits;

    fn scope() -> Scope {
        Scope::new(&ExtractLimits::default())
    }

    #[test]
    fn names_and_values_are_lines() {
        let source = r#"{"title": "T", "b": 1, "a": [1, 2.5, true, null], "deep": {"x": {"y": "one\ntwo"}, "list": [{"k": "v"}, "w"]}}"#;
        let document = read(source, &scope()).unwrap();
        assert_eq!(document.title, "T");
        assert_eq!(
            document.text,
            "title: T\nb: 1\na: 1, 2.5, true,\n\ndeep:\n  x:\n    y:\n      one\n      two\n  list:\n    - k: v\n    - w"
        );
    }

    #[test]
    fn records_are_rows_or_paragraphs() {
        let rows = r#"[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3}]"#;
        assert_eq!(
            read(rows, &scope()).unwrap().text,
            "| id | name |\n|---|---|\n| 1 | a |\n| 2 | b |\n| 3 |  |"
        );
        let records = r#"[{"id": 1, "tags": ["x", "y"]}, {"id": 2, "sub": {"z": 3}}]"#;
        assert_eq!(read(records, &scope()).unwrap().text, "id: 1\ntags: x, y\n\nid: 2\nsub:\n  z: 3");
    }

    #[test]
    fn what_is_no_json_is_text() {
        assert_eq!(read("{\"key\": oops", &scope()).unwrap().text, "{\"key\": oops");
        let deep = "[".repeat(500_000);
        assert_eq!(read(&deep, &scope()).unwrap().text, deep);
        let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert!(read(&nested, &scope()).unwrap().text.contains('1'));
    }

    #[test]
    fn lines_are_records() {
        let text = lines("{\"a\": 1}\n\nnot json\n{\"b\": [1, 2]}\n", &scope()).unwrap().text;
        assert_eq!(text, "a: 1\n\nnot json\n\nb: 1, 2");
        assert!(is_json_lines("{\"a\": 1}\n{\"a\": 2}\n"));
        assert!(!is_json_lines("{\"a\": 1}\nx"));
    }

    #[test]
    fn notebooks_give_cells_and_outputs() {
        let source = r##"{"nbformat": 4, "cells": [{"cell_type": "markdown", "source": ["# Intro\n", "text"]},
            {"cell_type": "code", "source": "print('```')", "outputs": [{"output_type": "stream", "text": ["one\n", "two"]},
              {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": "<Figure>"}},
              {"output_type": "error", "ename": "ValueError", "evalue": "bad", "traceback": ["x"]}]},
            {"cell_type": "raw"}], "metadata": {"kernelspec": {"language": "python"}}}"##;
        let document = read(source, &scope()).unwrap();
        assert_eq!(document.title, "Intro");
        assert_eq!(document.media_type, "application/x-ipynb+json");
        assert_eq!(
            document.text,
            "# Intro\ntext\n\n````python\nprint('```')\n````\n\n```\none\ntwo\n```\n\n```\n<Figure>\n```\n\n```\nValueError: bad\n```"
        );
        assert!(notebook("{}", &scope()).is_err());
        assert!(notebook("not json", &scope()).is_err());
    }
}
