//! reStructuredText and Org to Markdown: headings, code, field lists, links. Line by line; what is not known stays as it is,
//! so that nothing is lost.

use super::dates;
use super::json::fenced;
use super::normalise::TextBuilder;
use super::scope::Scope;
use crate::document::{ExtractedDocument, Markup, Properties};
use crate::error::Result;

/// Characters that underline a heading.
const ADORNMENTS: &str = "=-`:'\"~^_*+#<>.";
/// Directives whose content is code.
const CODE: &[&str] =
    &["code", "code-block", "sourcecode", "highlight", "parsed-literal", "literalinclude", "doctest", "math"];
/// Directives that show nothing.
const SILENT: &[&str] = &[
    "toctree",
    "image",
    "figure",
    "include",
    "index",
    "contents",
    "meta",
    "raw",
    "default-role",
    "currentmodule",
    "module",
    "highlight",
    "sectionauthor",
    "moduleauthor",
    "testsetup",
    "only-html",
    "target-notes",
    "sectnum",
];
/// Deepest heading of Markdown.
const MAX_LEVEL: usize = 6;

/// Reads reStructuredText.
pub(super) fn read(source: &str, scope: &Scope) -> Result<ExtractedDocument> {
    let mut reader = Rst { lines: source.lines().map(str::trim_end).collect(), ..Default::default() };
    while reader.at < reader.lines.len() {
        scope.deadline.check()?;
        reader.step();
    }
    let text = TextBuilder::whole(&reader.out, &scope.limits)?;
    let title = Some(reader.title).filter(|title| !title.is_empty());
    let title = title.or_else(|| super::markup::first_heading(&text)).unwrap_or_default();
    let properties = reader.properties;
    Ok(ExtractedDocument { title, text, markup: Markup::Markdown, properties, ..Default::default() })
}

#[derive(Default)]
struct Rst<'a> {
    lines: Vec<&'a str>,
    at: usize,
    out: String,
    /// Styles of headings in the order of their appearance: the line's character, and whether there is one above.
    levels: Vec<(char, bool)>,
    title: String,
    properties: Properties,
}

impl<'a> Rst<'a> {
    fn line(&self, at: usize) -> &'a str {
        self.lines.get(at).copied().unwrap_or_default()
    }

    fn step(&mut self) {
        let line = self.line(self.at);
        if self.heading() || self.table() || self.explicit(line) || self.field(line) {
            return;
        }
        self.at += 1;
        let literal = line.ends_with("::") && !line.trim_start().starts_with("..");
        let shown = match literal {
            // `::` alone only announces what follows; behind words one colon stays.
            true => line.strip_suffix("::").map(|words| {
                if words.trim().is_empty() { String::new() } else { format!("{}:", words.trim_end()) }
            }),
            false => None,
        };
        self.out.push_str(&inline(shown.as_deref().unwrap_or(line)));
        self.out.push('\n');
        if literal {
            self.code("", indent_of(line));
        }
    }

    /// A heading: words with a line of one character below, and perhaps above.
    fn heading(&mut self) -> bool {
        let over = adornment(self.line(self.at));
        let at = if over.is_some() { self.at + 1 } else { self.at };
        let words = self.line(at);
        let Some((under, length)) = adornment(self.line(at + 1)) else { return false };
        let is_heading = !words.trim().is_empty()
            && adornment(words).is_none()
            && length >= words.trim().chars().count().min(4)
            && (over.is_some() || !words.starts_with(' '))
            && over.is_none_or(|(character, _)| character == under);
        if !is_heading {
            return false;
        }
        let style = (under, over.is_some());
        let level = self.levels.iter().position(|known| *known == style).unwrap_or_else(|| {
            self.levels.push(style);
            self.levels.len() - 1
        });
        let words = inline(words.trim());
        if self.title.is_empty() && level == 0 {
            self.title.clone_from(&words);
        }
        self.out.push_str(&format!("\n{} {words}\n\n", "#".repeat((level + 1).min(MAX_LEVEL))));
        self.at = at + 2;
        true
    }

    /// A table drawn with characters stays as it is drawn.
    fn table(&mut self) -> bool {
        let line = self.line(self.at);
        let trimmed = line.trim_start();
        let grid = trimmed.starts_with("+-") && trimmed.ends_with('+');
        let simple = trimmed.contains("= ") && trimmed.chars().all(|c| matches!(c, '=' | ' '));
        if !grid && !simple {
            return false;
        }
        let start = self.at;
        let mut rules = 0;
        while self.at < self.lines.len() {
            let line = self.line(self.at).trim_start();
            let is_rule = line.len() > 1 && line.chars().all(|c| matches!(c, '=' | ' '));
            rules += usize::from(simple && is_rule);
            let ends = if grid {
                !line.starts_with(['+', '|'])
            } else {
                line.is_empty() && rules != 2 || rules >= 3
            };
            if ends && !(simple && is_rule) {
                break;
            }
            self.at += 1;
            if simple && rules >= 2 && self.line(self.at).trim().is_empty() && is_rule {
                break;
            }
        }
        let drawn = self.lines.get(start..self.at).unwrap_or_default().join("\n");
        self.out.push_str(&format!("\n{}\n\n", fenced("", &drawn)));
        self.at = self.at.max(start + 1);
        true
    }

    /// `.. directive::`, `.. _target:`, `.. [1] footnote`, `.. comment`.
    fn explicit(&mut self, line: &str) -> bool {
        let Some(rest) = line.trim_start().strip_prefix(".. ").or((line.trim() == "..").then_some("")) else {
            return false;
        };
        let indent = indent_of(line);
        self.at += 1;
        if let Some((name, argument)) = directive(rest) {
            self.directive(name, argument, indent);
        } else if rest.starts_with('[') {
            self.out.push_str(&inline(rest));
            self.out.push('\n');
        } else if !rest.starts_with('_') && !rest.starts_with('|') {
            // A comment, with what is indented below it.
            self.skip_block(indent);
        }
        true
    }

    fn directive(&mut self, name: &str, argument: &str, indent: usize) {
        if CODE.contains(&name) {
            let language = if name == "math" { "" } else { argument };
            self.code(language, indent);
        } else if SILENT.contains(&name) {
            self.skip_block(indent);
        } else {
            // Notes, warnings, descriptions of functions, tables: words that are seen. Their options are not.
            let label = match name {
                "note" | "warning" | "tip" | "important" | "caution" | "danger" | "hint" | "attention"
                | "seealso" | "deprecated" | "versionadded" | "versionchanged" | "todo" => {
                    format!("{}: ", name.to_ascii_uppercase())
                }
                _ => String::new(),
            };
            self.out.push_str(&format!("\n{label}{}\n", inline(argument)));
            while self.line(self.at).trim_start().starts_with(':') && indent_of(self.line(self.at)) > indent {
                self.at += 1;
            }
        }
    }

    /// An indented block as code.
    fn code(&mut self, language: &str, indent: usize) {
        let mut block: Vec<&str> = Vec::new();
        let mut options = !language.is_empty();
        while self.at < self.lines.len() {
            let line = self.line(self.at);
            if !line.is_empty() && indent_of(line) <= indent {
                break;
            }
            options &= block.is_empty();
            // Options such as `:linenos:` come first.
            if !(options && line.trim_start().starts_with(':')) {
                block.push(line);
            }
            self.at += 1;
        }
        let margin =
            block.iter().filter(|line| !line.is_empty()).map(|line| indent_of(line)).min().unwrap_or(0);
        let code: Vec<&str> = block.iter().map(|line| line.get(margin..).unwrap_or_default()).collect();
        let code = code.join("\n");
        let code = code.trim_matches('\n');
        if !code.is_empty() {
            self.out.push_str(&format!("\n{}\n\n", fenced(language, code)));
        }
    }

    fn skip_block(&mut self, indent: usize) {
        while self.at < self.lines.len() {
            let line = self.line(self.at);
            if !line.is_empty() && indent_of(line) <= indent {
                break;
            }
            self.at += 1;
        }
    }

    /// `:Author: Ada`: kept, and read where it says something of the document.
    fn field(&mut self, line: &str) -> bool {
        let Some((name, value)) = line.strip_prefix(':').and_then(|rest| rest.split_once(": ")) else {
            return false;
        };
        if name.is_empty() || name.contains(['`', ':', ' ']) && name.len() > 40 {
            return false;
        }
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "author" | "authors" if self.properties.authors.is_empty() => {
                self.properties.authors =
                    value.split(';').map(|one| one.trim().to_owned()).take(20).collect();
            }
            "date" | "created" if self.properties.created.is_none() => {
                self.properties.created = dates::parse(value)
            }
            _ => {}
        }
        self.out.push_str(&format!("{name}: {}\n", inline(value)));
        self.at += 1;
        true
    }
}

/// The character and length of a line that is made of one character only.
fn adornment(line: &str) -> Option<(char, usize)> {
    let first = line.chars().next().filter(|first| ADORNMENTS.contains(*first))?;
    let length = line.chars().count();
    (length >= 2 && line.chars().all(|c| c == first)).then_some((first, length))
}

fn directive(rest: &str) -> Option<(&str, &str)> {
    let (name, argument) = rest.split_once("::")?;
    let named = !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ':' | '.' | '+'));
    // A directive of a domain: `py:function`.
    let name = name.rsplit(':').next().unwrap_or(name);
    named.then(|| (name, argument.trim()))
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// Roles, links and literals of a line as their words.
fn inline(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let (before, tail) = rest.split_at(at);
        if let Some((code, after)) = tail.strip_prefix("``").and_then(|literal| literal.split_once("``")) {
            out.push_str(before);
            out.push_str(&format!("`{code}`"));
            rest = after;
            continue;
        }
        let Some((content, after)) = tail.strip_prefix('`').and_then(|role| role.split_once('`')) else {
            out.push_str(before);
            out.push_str(tail);
            return out;
        };
        out.push_str(without_role(before));
        // `words <target>`: the target is for machines; `!name` and `~name` only say how to show it.
        let words =
            content.split_once(" <").filter(|_| content.ends_with('>')).map_or(content, |(words, _)| words);
        out.push_str(words.trim_start_matches(['!', '~']));
        rest = after.trim_start_matches('_');
    }
    out.push_str(rest);
    out
}

/// Text without the role at its end: `see :ref:`.
fn without_role(before: &str) -> &str {
    let Some(inner) = before.strip_suffix(':') else { return before };
    let start = inner.rfind(|c: char| c.is_whitespace() || c == '(').map_or(0, |at| at + 1);
    match inner.get(start..) {
        Some(role) if role.starts_with(':') && role.len() > 1 => before.get(..start).unwrap_or(before),
        _ => before,
    }
}

/// Reads Org.
pub(super) fn org(source: &str, scope: &Scope) -> Result<ExtractedDocument> {
    let mut out = String::new();
    let mut title = String::new();
    let mut properties = Properties::default();
    let mut block: Option<(String, String)> = None;
    let mut drawer = false;
    for line in source.lines() {
        scope.deadline.check()?;
        let trimmed = line.trim();
        let lower = trimmed.to_ascii_lowercase();
        if let Some((language, code)) = &mut block {
            if lower.starts_with("#+end_") {
                out.push_str(&format!("\n{}\n\n", fenced(language, code)));
                block = None;
            } else {
                code.push_str(line);
                code.push('\n');
            }
            continue;
        }
        if drawer {
            drawer = lower != ":end:";
            continue;
        }
        if lower.starts_with("#+begin_src") || lower.starts_with("#+begin_example") {
            let language = trimmed.split_whitespace().nth(1).unwrap_or_default().to_owned();
            block = Some((language, String::new()));
        } else if let Some((name, value)) = keyword(trimmed) {
            match name.as_str() {
                "title" if title.is_empty() => value.clone_into(&mut title),
                "author" if properties.authors.is_empty() => properties.authors = vec![value.to_owned()],
                "date" => {
                    properties.created =
                        dates::parse(value.trim_matches(['<', '>', '[', ']']).get(..10).unwrap_or(value))
                }
                "caption" => out.push_str(&format!("{value}\n")),
                _ => {}
            }
        } else if lower == ":properties:" || lower == ":logbook:" {
            drawer = true;
        } else if let Some(heading) = org_heading(line) {
            out.push_str(&format!("\n{heading}\n\n"));
        } else if trimmed.starts_with("# ") || trimmed == "#" || lower.starts_with("#+") {
            // Comments, and settings for export.
        } else if trimmed.starts_with("|-") {
            out.push_str(&trimmed.replace('+', "|"));
            out.push('\n');
        } else {
            out.push_str(&org_links(line));
            out.push('\n');
        }
    }
    if let Some((language, code)) = block {
        out.push_str(&format!("\n{}\n", fenced(&language, &code)));
    }
    let out = super::tables::regroup(&out, |size| scope.limits.check_text(size))?;
    let text = TextBuilder::whole(&out, &scope.limits)?;
    let title = Some(title).filter(|title| !title.is_empty());
    let title = title.or_else(|| super::markup::first_heading(&text)).unwrap_or_default();
    Ok(ExtractedDocument { title, text, markup: Markup::Markdown, properties, ..Default::default() })
}

/// `#+TITLE: words`.
fn keyword(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix("#+")?.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim()))
}

/// `** TODO Words :tag:` as a heading of Markdown.
fn org_heading(line: &str) -> Option<String> {
    let stars = line.bytes().take_while(|byte| *byte == b'*').count();
    let words = line.get(stars..).filter(|_| stars > 0)?.strip_prefix(' ')?.trim();
    // Tags stand at the end between colons.
    let words = match words.rsplit_once(' ') {
        Some((words, tags)) if tags.len() > 2 && tags.starts_with(':') && tags.ends_with(':') => {
            words.trim_end()
        }
        _ => words,
    };
    Some(format!("{} {}", "#".repeat(stars.min(MAX_LEVEL)), org_links(words)))
}

/// `[[target][words]]` as its words.
fn org_links(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, tail)) = rest.split_once("[[") {
        out.push_str(before);
        let Some((link, after)) = tail.split_once("]]") else {
            out.push_str("[[");
            rest = tail;
            continue;
        };
        out.push_str(link.split_once("][").map_or(link, |(_, words)| words));
        rest = after;
    }
    out.push_str(rest);
    out
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
    fn headings_get_levels_by_appearance() {
        let source = "=====\nStones\n=====\n:Author: Ada; Bob\n\nIntro to :ref:`stones <s>` and ``code``.\n\nHard\n----\n\nGranite_ `x\n\
                      <http://y>`_.\n\nVery\n~~~~\n\ntext\n\nSoft\n----\n\nTalc";
        let document = read(source, &scope()).unwrap();
        assert_eq!(document.title, "Stones");
        assert_eq!(document.properties.authors, ["Ada", "Bob"]);
        for expected in [
            "# Stones\n\nAuthor: Ada; Bob\n\nIntro to stones and `code`.",
            "## Hard\n",
            "### Very\n\ntext",
            "## Soft\n\nTalc",
        ] {
            assert!(document.text.contains(expected), "{expected}: {}", document.text);
        }
    }

    #[test]
    fn code_is_code_and_comments_go() {
        let source = "Run this::\n\n    make\n      all\n\n.. code-block:: python\n   :linenos:\n\n   # not a heading\n   x = 1\n\n.. a comment\n   \
                      of two lines\n\n.. note:: Mind\n   the gap.\n\n.. image:: a.png\n   :alt: x\n\n.. py:function:: f(x)\n\n   Does it.\n\nEnd";
        let text = read(source, &scope()).unwrap().text;
        for expected in [
            "Run this:\n\n```\nmake\n  all\n```",
            "```python\n# not a heading\nx = 1\n```",
            "NOTE: Mind\n   the gap.",
            "f(x)\n\n   Does it.",
            "End",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        for gone in ["comment", "a.png", "linenos", "alt"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
    }

    #[test]
    fn drawn_tables_stay_drawn() {
        let source = "=====  =====\nA      B\n=====  =====\n1      2\n3      4\n=====  =====\n\nafter\n\n+---+---+\n| a | b |\n+---+---+\n\nend";
        let text = read(source, &scope()).unwrap().text;
        assert!(
            text.contains(
                "```\n=====  =====\nA      B\n=====  =====\n1      2\n3      4\n=====  =====\n```\n\nafter"
            ),
            "{text}"
        );
        assert!(text.contains("```\n+---+---+\n| a | b |\n+---+---+\n```\n\nend"), "{text}");
    }

    #[test]
    fn any_text_ends() {
        for source in [
            "::",
            "..",
            ".. ::",
            "=====",
            "==\n==\n==",
            "+-+",
            "= =",
            "`",
            "``",
            ":a: `b",
            "* ",
            ".. x::\n\n\n",
        ] {
            let _ = read(source, &scope()).unwrap();
            let _ = org(source, &scope()).unwrap();
        }
    }

    #[test]
    fn org_documents() {
        let source = "#+TITLE: Stones\n#+AUTHOR: Ada\n#+DATE: <2020-05-06 Wed>\n* Hard :rock:\n:PROPERTIES:\n:ID: 1\n:END:\nSee [[http://x][granite]].\n# \
                      comment\n** Code\n#+BEGIN_SRC rust\n* no heading\n#+END_SRC\n| a | b |\n|---+---|\n| 1 | 2 |\n";
        let document = org(source, &scope()).unwrap();
        assert_eq!(
            (document.title.as_str(), document.properties.created.as_deref()),
            ("Stones", Some("2020-05-06T00:00:00Z"))
        );
        assert_eq!(
            document.text,
            "# Hard\n\nSee granite.\n\n## Code\n\n```rust\n* no heading\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        );
    }
}
