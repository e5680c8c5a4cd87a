//! The structure of a text: pages, headings, blocks, and the seams within blocks.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::items;
use crate::document::{ExtractedDocument, Markup};

/// Most characters of a heading in a heading path.
const MAX_HEADING_CHARS: usize = 200;

/// A piece of text that is kept whole where it fits, with the headings that stand right before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Up to the start of the next block.
    pub span: Range<usize>,
    /// Index of its heading path.
    pub path: usize,
    /// Index of its region.
    pub region: usize,
}

/// A page, a part, or text outside of them. Chunks don't cross regions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub span: Range<usize>,
    pub page: Option<u32>,
    /// Index of the document's part.
    pub part: Option<usize>,
    pub markup: Markup,
}

/// The structure of a text.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub regions: Vec<Region>,
    pub blocks: Vec<Block>,
    /// Heading paths, outermost heading first. The first one is empty.
    pub paths: Vec<Vec<String>>,
    /// Starts of list items, rows and inner paragraphs, in order.
    pub seams: Vec<usize>,
}

impl Outline {
    /// The structure of a document. Nothing crosses the ends of `bounds`, which are in order.
    pub(super) fn of(document: &ExtractedDocument, bounds: &[Range<usize>]) -> Self {
        let mut outline =
            Self { regions: divided(regions(document), bounds), paths: vec![Vec::new()], ..Self::default() };
        let mut headings = Headings::default();
        let mut part = None;
        for region in 0..outline.regions.len() {
            let Some(Region { span, part: own, markup, .. }) = outline.regions.get(region) else { continue };
            let (span, markup) = (span.clone(), *markup);
            if part != *own {
                // Each part has headings of its own.
                part = *own;
                headings = Headings::default();
                outline.paths.push(Vec::new());
            }
            let text = document.text.get(span.clone()).unwrap_or_default();
            let starts = match markup {
                Markup::Markdown => outline.markdown(text, span.start, &mut headings),
                Markup::Plain => plain(text, span.start, outline.paths.len() - 1),
                Markup::Code => outline.code(text, span.start),
            };
            outline.add_blocks(&document.text, starts, &span, region);
        }
        outline.seams.sort_unstable();
        outline
    }

    /// Starts of the blocks of a Markdown text. A heading moves the path for what follows it.
    fn markdown(&mut self, text: &str, base: usize, headings: &mut Headings) -> Vec<Start> {
        let options = Options::ENABLE_TABLES
            | Options::ENABLE_FOOTNOTES
            | Options::ENABLE_STRIKETHROUGH
            | Options::ENABLE_TASKLISTS
            | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
        let mut starts = vec![Start { at: base, path: self.paths.len() - 1, heading: false }];
        let mut depth = 0usize;
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            let at = base + range.start;
            match event {
                Event::Start(tag) => {
                    if depth == 0 {
                        let is_heading = matches!(tag, Tag::Heading { .. });
                        heading = is_heading.then(String::new);
                        starts.push(Start { at, path: self.paths.len() - 1, heading: is_heading });
                    } else if matches!(tag, Tag::Item | Tag::TableRow | Tag::Paragraph | Tag::CodeBlock(_)) {
                        self.seams.push(at);
                    }
                    depth += 1;
                }
                Event::End(end) => {
                    depth = depth.saturating_sub(1);
                    let TagEnd::Heading(level) = end else { continue };
                    if let Some(words) = heading.take().filter(|_| depth == 0) {
                        self.paths.push(headings.enter(level as usize, &words));
                        if let Some(start) = starts.last_mut() {
                            start.path = self.paths.len() - 1;
                        }
                    }
                }
                Event::Text(words) | Event::Code(words) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&words);
                    }
                }
                Event::SoftBreak | Event::HardBreak => {
                    if let Some(heading) = &mut heading {
                        heading.push(' ');
                    }
                }
                Event::Rule if depth == 0 => {
                    starts.push(Start { at, path: self.paths.len() - 1, heading: false });
                }
                _ => {}
            }
        }
        starts
    }

    /// Starts of the items of source code. What a long item holds stands below its signature, as text below a heading.
    fn code(&mut self, text: &str, base: usize) -> Vec<Start> {
        let (items, paths) = items::items(text);
        let first = self.paths.len();
        self.paths.extend(paths);
        items
            .into_iter()
            .map(|item| Start { at: base + item.at, path: first + item.path, heading: false })
            .collect()
    }

    /// Blocks from one start to the next. Headings join the block that follows them, so that no chunk ends with one.
    fn add_blocks(&mut self, text: &str, starts: Vec<Start>, region_span: &Range<usize>, region: usize) {
        let mut from = None;
        let mut starts = starts.into_iter().peekable();
        while let Some(start) = starts.next() {
            let end = starts.peek().map_or(region_span.end, |next| next.at);
            let begin = from.unwrap_or(start.at);
            let own = text.get(start.at..end).unwrap_or_default();
            if (start.heading || own.trim().is_empty()) && starts.peek().is_some() {
                if start.heading || from.is_some() {
                    from = Some(begin);
                }
                continue;
            }
            if !text.get(begin..end).unwrap_or_default().trim().is_empty() {
                self.blocks.push(Block { span: begin..end, path: start.path, region });
            }
            from = None;
        }
    }
}

/// Where a block starts.
#[derive(Debug)]
struct Start {
    at: usize,
    path: usize,
    heading: bool,
}

/// Paragraphs of a plain text.
fn plain(text: &str, base: usize, path: usize) -> Vec<Start> {
    let first = std::iter::once(0);
    let others = text.match_indices("\n\n").map(|(at, blank)| at + blank.len());
    first.chain(others).map(|at| Start { at: base + at, path, heading: false }).collect()
}

/// The headings that are open at a place.
#[derive(Debug, Default)]
struct Headings(Vec<(usize, String)>);

impl Headings {
    fn enter(&mut self, level: usize, words: &str) -> Vec<String> {
        while self.0.last().is_some_and(|(open, _)| *open >= level) {
            self.0.pop();
        }
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        self.0.push((level, words.chars().take(MAX_HEADING_CHARS).collect()));
        self.0.iter().map(|(_, words)| words.clone()).filter(|words| !words.is_empty()).collect()
    }
}

/// Pages, parts and what is between them. Spans that don't fit the text are mended, never trusted.
fn regions(document: &ExtractedDocument) -> Vec<Region> {
    let text = &document.text;
    let pages = covering(text, document.pages.iter().map(|page| (&page.span, page.number)));
    let parts = covering(text, document.parts.iter().enumerate().map(|(index, part)| (&part.span, index)));
    let mut regions = Vec::new();
    let mut parts = parts.into_iter().peekable();
    for (page_span, page) in pages {
        let mut at = page_span.start;
        while at < page_span.end {
            let (end, part) = parts.peek().map_or((page_span.end, None), |(span, part)| (span.end, *part));
            let span = at..end.min(page_span.end);
            at = span.end;
            if end <= page_span.end {
                parts.next();
            }
            if !text.get(span.clone()).unwrap_or_default().trim().is_empty() {
                let markup = part
                    .and_then(|part| document.parts.get(part))
                    .map_or(document.markup, |part| part.markup);
                regions.push(Region { span, page, part, markup });
            }
        }
    }
    regions
}

/// Regions cut where bounds end.
fn divided(regions: Vec<Region>, bounds: &[Range<usize>]) -> Vec<Region> {
    let mut divided = Vec::with_capacity(regions.len() + bounds.len());
    let mut ends = bounds.iter().map(|bound| bound.end).peekable();
    for region in regions {
        let mut at = region.span.start;
        while let Some(end) = ends.next_if(|end| *end < region.span.end) {
            if end > at {
                divided.push(Region { span: at..end, ..region });
                at = end;
            }
        }
        divided.push(Region { span: at..region.span.end, ..region });
    }
    divided
}

/// Spans without gaps over the whole text: the given ones, and `None` between them.
fn covering<'a, T>(
    text: &str,
    spans: impl Iterator<Item = (&'a Range<usize>, T)>,
) -> Vec<(Range<usize>, Option<T>)> {
    let mut covering = Vec::new();
    let mut at = 0;
    for (span, value) in spans {
        let start = text.floor_char_boundary(span.start).max(at);
        let end = text.floor_char_boundary(span.end).max(start);
        if start > at {
            covering.push((at..start, None));
        }
        if end > start {
            covering.push((start..end, Some(value)));
        }
        at = end;
    }
    if at < text.len() {
        covering.push((at..text.len(), None));
    }
    covering
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::document::{Page, Part};

    fn blocks(text: &str, markup: Markup) -> Vec<(String, String)> {
        let outline =
            Outline::of(&ExtractedDocument { text: text.into(), markup, ..Default::default() }, &[]);
        let covered: String = outline.blocks.iter().map(|block| &text[block.span.clone()]).collect();
        let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        assert_eq!(words(&covered), words(text), "blocks cover the text");
        outline
            .blocks
            .iter()
            .map(|block| (outline.paths[block.path].join("/"), text[block.span.clone()].trim().to_string()))
            .collect()
    }

    fn check(text: &str, expect: &[(&str, &str)]) {
        let expect: Vec<_> = expect.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        assert_eq!(blocks(text, Markup::Markdown), expect);
    }

    #[test]
    fn headings_open_and_close() {
        check(
            "intro\n\n# A\n\n## B\n\nb1\n\nb2\n\n### C *c* `d`\nc\n\n## D\n\n# E\n",
            &[
                ("", "intro"),
                ("A/B", "# A\n\n## B\n\nb1"),
                ("A/B", "b2"),
                ("A/B/C c d", "### C *c* `d`\nc"),
                ("E", "## D\n\n# E"),
            ],
        );
    }

    #[test]
    fn what_looks_like_a_heading_is_none() {
        check("---\ntitle: x\n---\n\ntext", &[("", "---\ntitle: x\n---"), ("", "text")]);
        check("```\n# no\n\nx\n```", &[("", "```\n# no\n\nx\n```")]);
        check("> # quoted\n\nx", &[("", "> # quoted"), ("", "x")]);
    }

    #[test]
    fn text_without_a_block_is_kept() {
        check(
            "[a]: http://x.y\n\n[b]: http://z\n\nsee [a]",
            &[("", "[a]: http://x.y\n\n[b]: http://z"), ("", "see [a]")],
        );
        check("text\n\n[a]: http://x.y", &[("", "text\n\n[a]: http://x.y")]);
    }

    #[test]
    fn plain_text_has_paragraphs() {
        let found = blocks("# one\ntwo\n\nthree\n\n\nfour", Markup::Plain);
        let expect = [("", "# one\ntwo"), ("", "three"), ("", "four")];
        assert_eq!(found, expect.map(|(path, text)| (path.to_string(), text.to_string())));
    }

    #[test]
    fn code_has_items() {
        let source = "use a;\nuse b;\n\n/// Doc\nfn f() {\n    x();\n\n    y();\n}\n\nclass C:\n    def g(self):\n\n        pass\n\nx = [\n\n]\n";
        let found: Vec<_> = blocks(source, Markup::Code).into_iter().map(|(_, text)| text).collect();
        let expect = [
            "use a;\nuse b;",
            "/// Doc\nfn f() {\n    x();\n\n    y();\n}",
            "class C:\n    def g(self):\n\n        pass",
            "x = [\n\n]",
        ];
        assert_eq!(found, expect);
    }

    #[test]
    fn parts_have_their_own_headings_and_markup() {
        let text = "body\n\n# A\n\none\n\n# not a heading\n\ntwo".to_string();
        let at = |words: &str| text.find(words).unwrap();
        let part = |name: &str, markup, span| Part { name: name.into(), markup, span };
        let parts = vec![
            part("a.md", Markup::Markdown, at("# A")..at("\n\n# not")),
            part("b.txt", Markup::Plain, at("# not")..text.len()),
        ];
        let pages = vec![
            Page { number: 1, span: at("# A")..at("one") },
            Page { number: 2, span: at("one")..at("\n\n# not") },
        ];
        let outline =
            Outline::of(&ExtractedDocument { text: text.clone(), parts, pages, ..Default::default() }, &[]);
        let regions: Vec<_> =
            outline.regions.iter().map(|r| (r.page, r.part, text[r.span.clone()].trim())).collect();
        assert_eq!(
            regions,
            [
                (None, None, "body"),
                (Some(1), Some(0), "# A"),
                (Some(2), Some(0), "one"),
                (None, Some(1), "# not a heading\n\ntwo")
            ]
        );
        let paths: Vec<_> = outline.blocks.iter().map(|block| outline.paths[block.path].join("/")).collect();
        assert_eq!(paths, ["", "A", "A", "", ""]);
    }

    #[test]
    fn pages_that_lie_are_mended() {
        let text = "äöü page text".to_string();
        let page = |number, span| Page { number, span };
        let pages =
            vec![page(1, 1..3), page(2, 2..900), page(3, Range { start: 4, end: 2 }), page(4, 900..901)];
        let outline = Outline::of(&ExtractedDocument { text, pages, ..Default::default() }, &[]);
        let spans: Vec<_> = outline.regions.iter().map(|r| (r.page, r.span.clone())).collect();
        assert_eq!(spans, [(Some(1), 0..2), (Some(2), 2..16)]);
    }
}
