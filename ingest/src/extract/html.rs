//! HTML to Markdown: headings, lists, tables and code keep their form; links and emphasis leave only their words;
//! scripts, navigation and controls go.
//!
//! The whole body is taken. Guessing which part of a page is the article loses text on short pages, and what it would
//! leave out here is mostly navigation.

use std::sync::{Arc, Mutex, PoisonError};

use htmd::element_handler::Handlers;
use htmd::options::{BrStyle, BulletListMarker, Options};
use htmd::{Element, HtmlToMarkdown};

use super::limits::ExtractLimits;
use super::markup::{first_heading, strip_tags};
use super::normalise::TextBuilder;
use super::tables::regroup;
use crate::document::{ExtractedDocument, Markup};
use crate::error::{Error, Result};

/// Elements that hold no text of the document.
const SKIPPED: &[&str] = &[
    "script", "style", "noscript", "template", "svg", "math-ml", "iframe", "object", "embed", "canvas",
    "audio", "video", "button", "select", "input", "textarea", "img", "link", "meta", "base", "dialog",
];
/// Parts of a page that repeat on each page of a site. Kept when nothing else is there.
const CHROME: &[&str] = &["nav", "footer"];
/// Elements that are only a style of their words.
const STYLES: &[&str] = &["a", "b", "strong", "i", "em"];
/// Deepest tree that is walked; browsers stop at the same order. Deeper pages only lose their structure.
const MAX_DEPTH: usize = 512;
/// Elements that may be left open, and so say nothing about depth.
const UNCLOSED: &[&str] = &[
    "area", "base", "body", "br", "col", "colgroup", "dd", "dt", "embed", "head", "hr", "html", "img",
    "input", "li", "link", "meta", "optgroup", "option", "p", "param", "path", "rect", "source", "tbody",
    "td", "tfoot", "th", "thead", "tr", "track", "use", "wbr",
];

/// Reads a page.
pub(super) fn read(html: &str, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    if nesting(html) > MAX_DEPTH {
        return flat(html, limits);
    }
    let (mut title, mut markdown) = convert(html, true)?;
    if markdown.trim().is_empty() {
        (title, markdown) = convert(html, false)?;
    }
    let markdown = regroup(&unescape(&markdown), |size| limits.check_text(size))?;
    let text = TextBuilder::whole(&markdown, limits)?;
    let title = if title.trim().is_empty() { first_heading(&text).unwrap_or_default() } else { title };
    Ok(ExtractedDocument { title, text, markup: Markup::Markdown, ..Default::default() })
}

/// The words of a page that nests too deep to be walked.
fn flat(html: &str, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    let text = TextBuilder::whole(&strip_tags(html), limits)?;
    Ok(ExtractedDocument { text, ..Default::default() })
}

/// Title and Markdown of a page.
fn convert(html: &str, without_chrome: bool) -> Result<(String, String)> {
    let title = Arc::new(Mutex::new(String::new()));
    let found = Arc::clone(&title);
    let mut skipped = SKIPPED.to_vec();
    if without_chrome {
        skipped.extend(CHROME);
    }
    let converter = HtmlToMarkdown::builder()
        .options(Options {
            br_style: BrStyle::Backslash,
            bullet_list_marker: BulletListMarker::Dash,
            ul_bullet_spacing: 1,
            ol_number_spacing: 1,
            ..Default::default()
        })
        // Text that a page shows when scripts are off is not its text.
        .scripting_enabled(true)
        .skip_tags(skipped)
        .add_handler(STYLES.to_vec(), |handlers: &dyn Handlers, element: Element<'_>| {
            Some(handlers.walk_children(element.node))
        })
        .add_handler(vec!["title"], move |handlers: &dyn Handlers, element: Element<'_>| {
            let mut title = found.lock().unwrap_or_else(PoisonError::into_inner);
            // Only the first one: drawings within the page have titles too.
            if title.is_empty() {
                *title = unescape(&handlers.walk_children(element.node).content);
            }
            None
        })
        .build();
    let markdown =
        converter.convert(html).map_err(|error| Error::bad_content(format!("broken HTML: {error}")))?;
    let title = title.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((title, markdown))
}

/// Deepest nesting of elements that have to be closed, by the tags alone. Quick, and an upper bound for well-formed
/// pages; the parser's work on pages beyond the limit would be quadratic.
fn nesting(html: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = rest.get(at + 1..).unwrap_or_default();
        let (closes, name) = match rest.strip_prefix('/') {
            Some(name) => (true, name),
            None => (false, rest),
        };
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(name.len());
        let tag = name.get(..end).unwrap_or_default();
        if tag.is_empty() || UNCLOSED.iter().any(|unclosed| tag.eq_ignore_ascii_case(unclosed)) {
            continue;
        }
        if closes {
            depth = depth.saturating_sub(1);
        } else {
            depth += 1;
            deepest = deepest.max(depth);
        }
        if tag.eq_ignore_ascii_case("script") || tag.eq_ignore_ascii_case("style") {
            // Their content is no markup.
            let end = if closes { Some(0) } else { find_end(rest, tag) };
            rest = end.and_then(|end| rest.get(end..)).unwrap_or(rest);
        }
    }
    deepest
}

/// Where `</tag` stands.
fn find_end(text: &str, tag: &str) -> Option<usize> {
    text.match_indices("</")
        .map(|(at, _)| at)
        .find(|at| text.get(at + 2..at + 2 + tag.len()).is_some_and(|name| name.eq_ignore_ascii_case(tag)))
}

/// Takes back what htmd escapes within lines: the text is for readers and search, not for a Markdown renderer.
/// Escapes at the start of a line stay, as they keep a line from turning into a heading or a list; code stays.
fn unescape(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let mut fenced = false;
    for line in markdown.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            out.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find(['\\', '&']) {
            let (before, tail) = rest.split_at(at);
            out.push_str(before);
            let entity = [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"), ("&quot;", "\""), ("&nbsp;", " ")];
            // A star at the start of a line would make it a list item.
            let starts_line = line.trim_start().len() == rest.len() && at == 0;
            let escaped = if starts_line { "\\_`[]<>" } else { "\\*_`[]<>" };
            let escape = tail.get(1..2).filter(|c| tail.starts_with('\\') && escaped.contains(c));
            if let Some(character) = escape {
                out.push_str(character);
                rest = tail.get(2..).unwrap_or_default();
            } else if let Some((code, text)) = entity.iter().find(|(code, _)| tail.starts_with(code)) {
                out.push_str(text);
                rest = tail.get(code.len()..).unwrap_or_default();
            } else if matches!(tail, "\\" | "\\\n") {
                // A line break.
                rest = tail.get(1..).unwrap_or_default();
            } else {
                out.push_str(tail.get(..1).unwrap_or_default());
                rest = tail.get(1..).unwrap_or_default();
            }
        }
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn page(html: &str) -> ExtractedDocument {
        read(html, &ExtractLimits::default()).unwrap()
    }

    #[test]
    fn structure_stays_and_decoration_goes() {
        let document = page(
            "<html><head><title>A &amp; B</title><style>p{}</style></head><body><nav><a href=/>Home</a></nav>\
             <h1>Main <em>point</em></h1><p>See <a href='http://x.y/z'>the <b>manual</b></a>: snake_case &lt;T&gt; \
             [1].</p><script>var x = '</p>';</script><ul><li>one</li><li>two</li></ul>\
             <pre><code>fn main() {\n    a_b();\n}</code></pre>\
             <table><tr><th>k</th><th>v</th></tr><tr><td>a</td><td>1</td></tr></table><footer>(c)</footer></body></html>",
        );
        assert_eq!(document.title, "A & B");
        assert!(
            document.text.starts_with("# Main point\n\nSee the manual: snake_case <T> [1]."),
            "{}",
            document.text
        );
        assert!(document.text.contains("- one\n- two"), "{}", document.text);
        assert!(document.text.contains("```\nfn main() {\n    a_b();\n}\n```"), "{}", document.text);
        assert!(document.text.contains("| a"), "{}", document.text);
        for gone in ["Home", "var x", "(c)", "http", "p{}"] {
            assert!(!document.text.contains(gone), "{gone}: {}", document.text);
        }
    }

    #[test]
    fn a_page_of_navigation_keeps_it() {
        assert_eq!(page("<body><nav>Home and away</nav></body>").text, "Home and away");
    }

    #[test]
    fn the_first_heading_is_the_title_of_an_untitled_page() {
        assert_eq!(page("<p>intro</p><h2>Second</h2><h1>First</h1>").title, "First");
        assert_eq!(page("<p>none").title, "");
    }

    #[test]
    fn depth_is_bounded_and_text_survives() {
        for tag in ["div", "b", "table", "blockquote", "x-y", "ul"] {
            let html =
                format!("{}core{}", format!("<{tag}>").repeat(200_000), format!("</{tag}>").repeat(200_000));
            assert_eq!(page(&html).text, "core", "{tag}");
        }
        assert_eq!(nesting("<p><p><br><li><div><span></span></div><DIV></DIV></p>"), 2);
        assert_eq!(nesting("<script>if (a<b && c<d) '<div><div>'</script><p>"), 1);
    }

    #[test]
    fn unclosed_elements_don_t_nest() {
        let html = "<p>x<li>y<td>".repeat(20_000);
        assert!(page(&html).text.len() > 20_000);
    }
}
