//! Items of source code, told by layout alone, so that every language has them: what starts at the margin behind an empty
//! line, and within a long item what starts so at its inner margin. It knows no language and parses nothing.

/// An item that has more bytes is looked into: about what does not fit into one chunk of a small embedder.
const LONG_ITEM_BYTES: usize = 800;
/// Items within items that are told apart.
const MAX_DEPTH: usize = 4;
/// Most characters of a signature.
const MAX_SIGNATURE_CHARS: usize = 120;

/// Where an item starts, and the signatures of the long items around it, outermost first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Byte offset in the text.
    pub at: usize,
    /// Index into the paths that were found; 0 is the empty one.
    pub path: usize,
}

/// The items of a text, and their paths. The first item starts with the text.
pub(super) fn items(text: &str) -> (Vec<Item>, Vec<Vec<String>>) {
    let mut at = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let start = at;
        at += line.len();
        let words = line.trim_start_matches([' ', '\t']);
        Line { at: start, end: at, indent: line.len() - words.len(), words: words.trim_end() }
    });
    let mut found = Found { items: Vec::new(), paths: vec![Vec::new()], lines: lines.collect() };
    found.look(0..found.lines.len(), 0, 0);
    if found.items.first().is_none_or(|item| item.at > 0) {
        found.items.insert(0, Item { at: 0, path: 0 });
    }
    (found.items, found.paths)
}

#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    at: usize,
    end: usize,
    indent: usize,
    /// Without indentation and what is blank at its end.
    words: &'a str,
}

impl Line<'_> {
    /// Closes what stands before it.
    fn closes(&self) -> bool {
        self.words.starts_with(['}', ')', ']'])
            || matches!(self.words, "end" | "fi" | "done" | "esac" | "else")
    }

    /// A comment, an attribute, a decorator, a directive: it announces an item.
    fn announces(&self) -> bool {
        self.words.starts_with(['@', '#', '*', '%'])
            || self.words.starts_with("//")
            || self.words.starts_with("/*")
            || self.words.starts_with("--")
            || self.words.starts_with("\"\"\"")
    }
}

struct Found<'a> {
    items: Vec<Item>,
    paths: Vec<Vec<String>>,
    lines: Vec<Line<'a>>,
}

impl Found<'_> {
    /// Adds the items of some lines. The first one of inner lines belongs to the head of the item that they are in.
    fn look(&mut self, range: std::ops::Range<usize>, path: usize, depth: usize) {
        let lines = self.lines.get(range.clone()).unwrap_or_default();
        let full = lines.iter().filter(|line| !line.words.is_empty());
        let margin = full.map(|line| line.indent).min().unwrap_or(0);
        let mut starts = Vec::new();
        let mut after_blank = true;
        for (index, line) in lines.iter().enumerate() {
            if after_blank && line.indent == margin && !line.words.is_empty() && !line.closes() {
                starts.push(range.start + index);
            }
            after_blank = line.words.is_empty();
        }
        let ends: Vec<usize> = starts.iter().skip(1).copied().chain([range.end]).collect();
        for (nth, (start, end)) in starts.into_iter().zip(ends).enumerate() {
            let joins_head = nth == 0 && depth > 0;
            self.item(start..end, path, depth, margin, joins_head);
        }
    }

    fn item(
        &mut self,
        range: std::ops::Range<usize>,
        path: usize,
        depth: usize,
        margin: usize,
        joins_head: bool,
    ) {
        let lines = self.lines.get(range.clone()).unwrap_or_default();
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return };
        let (at, bytes) = (first.at, last.end - first.at);
        let head = (bytes > LONG_ITEM_BYTES && depth < MAX_DEPTH).then(|| head(lines, margin)).flatten();
        let Some((signature, inner)) = head else {
            if !joins_head {
                self.items.push(Item { at, path });
            }
            return;
        };
        let mut inner_path = self.paths.get(path).cloned().unwrap_or_default();
        inner_path.push(signature);
        self.paths.push(inner_path);
        let own = self.paths.len() - 1;
        self.items.push(Item { at, path: own });
        self.look(range.start + inner..range.end, own, depth + 1);
    }
}

/// The signature of an item, and where what it holds begins: the first line at its margin that deeper ones follow.
fn head(lines: &[Line<'_>], margin: usize) -> Option<(String, usize)> {
    let mut full = lines.iter().enumerate().filter(|(_, line)| !line.words.is_empty()).peekable();
    let mut before: Option<&Line<'_>> = None;
    while let Some((_, line)) = full.next() {
        let opens = full.peek().is_some_and(|(_, next)| next.indent > margin);
        if line.indent == margin && opens && !line.announces() {
            // A bracket on a line of its own belongs to the line above it.
            let named = if line.words.chars().any(char::is_alphanumeric) { Some(line) } else { before };
            let words = named?.words.trim_end_matches(['{', '(', '[', ':', ' ']).trim();
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            let signature: String = words.chars().take(MAX_SIGNATURE_CHARS).collect();
            let inner = full.peek().map(|(inner, _)| *inner)?;
            return (!signature.is_empty()).then_some((signature, inner));
        }
        if line.indent == margin && !line.announces() {
            before = Some(line);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn found(text: &str) -> Vec<(String, String)> {
        let (items, paths) = items(text);
        let ends = items.iter().skip(1).map(|item| item.at).chain([text.len()]);
        let pairs = items.iter().zip(ends);
        pairs
            .map(|(item, end)| {
                let first = text[item.at..end].trim().lines().next().unwrap_or_default().trim().to_owned();
                (paths[item.path].join(" > "), first)
            })
            .collect()
    }

    #[test]
    fn long_items_name_what_they_hold() {
        let body = |name: &str| {
            format!(
                "    def {name}(self):\n        first()\n\n        {}\n\n",
                "call(argument)\n        ".repeat(20).trim()
            )
        };
        let long =
            format!("    def long(self, a):\n{}", "        step(one)\n\n        step(two)\n\n".repeat(40));
        let text = format!(
            "import a\n\n@decorated\nclass Stone(Base):\n    hard = 1\n\n{}{}{long}x = 1\n",
            body("f"),
            body("g")
        );
        let found = found(&text);
        let expect = [
            ("", "import a"),
            ("class Stone(Base)", "@decorated"),
            ("class Stone(Base)", "def f(self):"),
            ("class Stone(Base)", "def g(self):"),
            ("class Stone(Base) > def long(self, a)", "def long(self, a):"),
            ("class Stone(Base) > def long(self, a)", "step(two)"),
        ];
        let expect: Vec<_> = expect.map(|(path, line)| (path.to_owned(), line.to_owned())).to_vec();
        assert_eq!(found[..expect.len()], expect);
        assert_eq!(found.last().unwrap(), &(String::new(), "x = 1".to_owned()));
    }

    #[test]
    fn brackets_and_parameters_on_lines_of_their_own() {
        let body = "    x += 1;\n\n".repeat(90);
        assert_eq!(found(&format!("/* c */\nint main(void)\n{{\n{body}}}\n"))[0].0, "int main(void)");
        assert_eq!(
            found(&format!("/// d\n#[a]\npub fn f(\n    a: u8,\n) -> u8 {{\n{body}}}\n"))[0].0,
            "pub fn f"
        );
        assert_eq!(found(&format!("{{\n{body}}}\n")).iter().filter(|(path, _)| !path.is_empty()).count(), 0);
    }

    #[test]
    fn shapes_that_are_no_code_end() {
        for text in [
            "",
            "\n\n\n",
            "    \n\t\n",
            &" x\n".repeat(2_000),
            &"{\n".repeat(5_000),
            &"\n\n a\n\n  b\n".repeat(3_000),
        ] {
            let (items, paths) = items(text);
            assert_eq!(items[0].at, 0);
            assert!(items.windows(2).all(|pair| pair[0].at < pair[1].at), "{text:.20}");
            assert!(items.iter().all(|item| item.path < paths.len()));
        }
    }
}
