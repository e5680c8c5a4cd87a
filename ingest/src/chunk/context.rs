//! What is embedded of a chunk: title and headings, then its text. A sentence cut out of a report says little of what
//! it is about; these words do.

use super::settings::Context;

/// Cost of title and headings together, about tokens: a quarter of the built-in embedder's 256.
const MAX_COST: usize = 60;
/// What the title may take of it when there are headings.
const MAX_TITLE_COST: usize = 36;
/// Letters that one token of a plain word has at least, on average.
const LETTERS_PER_TOKEN: usize = 3;

/// The text that is embedded for a chunk: `title`, a line of headings, an empty line, `text`. Parts that the text
/// itself starts with are not repeated; long titles and outer headings are shortened, `text` never is.
pub fn embedding_text(title: &str, heading_path: &[String], text: &str) -> String {
    text_in_context(title, heading_path, text, Context::TitleAndHeadings)
}

/// As [`embedding_text`], with as much of the context as `context` says.
pub fn text_in_context(title: &str, heading_path: &[String], text: &str, context: Context) -> String {
    let mut embedded = prefix(title, heading_path, text, context);
    if !embedded.is_empty() {
        embedded.push_str("\n\n");
    }
    embedded.push_str(text);
    embedded
}

/// Title and headings as they stand before `text`.
pub(super) fn prefix(title: &str, heading_path: &[String], text: &str, context: Context) -> String {
    let heading_path = match context {
        Context::TitleAndHeadings => heading_path,
        Context::Title => &[],
        Context::None => return String::new(),
    };
    let opening = text.lines().next().unwrap_or_default().trim_start_matches('#').trim();
    let mut headings: Vec<&str> =
        heading_path.iter().map(|heading| heading.trim()).filter(|h| !h.is_empty()).collect();
    let title = title.trim();
    if headings.first() == Some(&title) {
        headings.remove(0);
    }
    if headings.last() == Some(&opening) {
        headings.pop();
    }
    let title = if title == opening { "" } else { title };
    let mut prefix = shortened(title, if headings.is_empty() { MAX_COST } else { MAX_TITLE_COST });
    let path = innermost(&headings, MAX_COST.saturating_sub(cost(&prefix)));
    if !prefix.is_empty() && !path.is_empty() {
        prefix.push('\n');
    }
    prefix.push_str(&path);
    prefix
}

/// As many headings as fit, the innermost first, joined with ` > `.
fn innermost(headings: &[&str], mut left: usize) -> String {
    let mut kept = Vec::new();
    for heading in headings.iter().rev() {
        let heading = shortened(heading, left);
        let taken = cost(&heading) + 1;
        if heading.is_empty() {
            break;
        }
        kept.push(heading);
        left = left.saturating_sub(taken);
    }
    kept.reverse();
    kept.join(" > ")
}

/// The words of `text` that cost at most `most`; of a first word that costs more, its start.
fn shortened(text: &str, most: usize) -> String {
    let mut short = String::new();
    let mut spent = 0;
    for word in text.split_whitespace() {
        let word_cost = cost(word);
        if spent + word_cost > most {
            if short.is_empty() {
                short.extend(word.chars().take(most / 2));
            }
            break;
        }
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
        spent += word_cost;
    }
    short
}

/// Tokens that a text is likely to have, without asking an embedder, so that the same chunk gives the same text with
/// each of them: runs of letters cost by length, all else by the character.
fn cost(text: &str) -> usize {
    let mut cost = 0;
    let mut letters = 0usize;
    for character in text.chars() {
        if character.is_ascii_alphabetic() {
            letters += 1;
            continue;
        }
        cost += letters.div_ceil(LETTERS_PER_TOKEN);
        letters = 0;
        cost += match character {
            c if c.is_whitespace() => 0,
            c if c.is_ascii() => 1,
            c if (c as u32) < 0x1_0000 => 1,
            _ => 2,
        };
    }
    cost + letters.div_ceil(LETTERS_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn check(title: &str, path: &[&str], text: &str, expect: &str) {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        assert_eq!(embedding_text(title, &path, text), expect);
    }

    #[test]
    fn title_headings_text() {
        check("", &[], "text", "text");
        check("Title", &[], "text", "Title\n\ntext");
        check("", &["A", "B"], "text", "A > B\n\ntext");
        check("Title", &["A", "B"], "text", "Title\nA > B\n\ntext");
    }

    #[test]
    fn nothing_is_said_twice() {
        check("A", &["A", "B"], "text", "A\nB\n\ntext");
        check("Title", &["A", "B"], "## B\n\ntext", "Title\nA\n\n## B\n\ntext");
        check("A", &["A"], "# A\n\ntext", "# A\n\ntext");
    }

    #[test]
    fn long_prefixes_are_shortened_and_the_innermost_heading_stays() {
        let long = "interesting words ".repeat(200);
        let prefix = prefix(&long, &[long.clone(), "inner".into()], "text", Context::TitleAndHeadings);
        assert!(cost(&prefix) <= MAX_COST + 4, "{prefix}");
        assert!(prefix.ends_with("\ninner"), "{prefix}");
        assert!(prefix.starts_with("interesting words"));
        for hostile in ["A1".repeat(5_000), "日本".repeat(5_000), "👩‍👩‍👧".repeat(5_000), "x".repeat(50_000)]
        {
            let prefix =
                super::prefix(&hostile, std::slice::from_ref(&hostile), "text", Context::TitleAndHeadings);
            assert!(!prefix.is_empty() && cost(&prefix) <= MAX_COST + 4, "{}: {prefix}", cost(&prefix));
        }
    }
}
