//! Search results as people read them: rank, scores, source, and the matched words in their surroundings.

use std::path::Path;

use ragstone_proto::v1::{Hit, Location, Origin, Span};

use super::output::{Style, one_line, printable, push_one_line};

/// Characters of text that are shown where the server gave no snippet.
const SHOWN_CHARACTERS: usize = 240;
/// Other places of the same content that are named.
const SHOWN_PLACES: usize = 3;

/// One hit on three lines. Paths under `base` are shown relative to it.
pub(super) fn render(rank: usize, hit: &Hit, base: Option<&Path>, style: Style) -> String {
    let origin = hit.origin.clone().unwrap_or_default();
    let scores = [("vector", hit.vector_score), ("keyword", hit.keyword_score), ("fused", Some(hit.score))]
        .map(|(leg, score)| match score {
            Some(score) => format!("{leg} {score:.3}"),
            None => format!("{leg} -"),
        })
        .join("  ");
    let place = place(&origin, &hit.id, base);
    let shown = match &hit.parent {
        Some(parent) => printable(&parent.text).replace('\n', "\n    "),
        None => excerpt(hit, style),
    };
    let elsewhere =
        elsewhere(hit, base).map(|line| format!("\n    {}", style.faint(&line))).unwrap_or_default();
    format!("{rank:>2}. {}{elsewhere}\n    {}\n    {shown}", style.heading(&place), style.faint(&scores))
}

/// Where else the same content lies.
fn elsewhere(hit: &Hit, base: Option<&Path>) -> Option<String> {
    let name = |at: &Location| match file_name(&at.uri, base) {
        name if name.is_empty() => one_line(&at.document_id),
        name => one_line(&name),
    };
    let named: Vec<String> = hit.also_at.iter().take(SHOWN_PLACES).map(name).collect();
    let more = (hit.also_at_total as usize).saturating_sub(named.len());
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| format!("also at {}{more}", named.join(", ")))
}

/// Where a hit comes from: file, page, headings.
fn place(origin: &Origin, id: &str, base: Option<&Path>) -> String {
    let mut parts = Vec::new();
    let file = file_name(&origin.uri, base);
    match [&file, &origin.document_id].into_iter().find(|name| !name.is_empty()) {
        Some(name) => parts.push(one_line(name)),
        None => parts.push(one_line(id)),
    }
    if !origin.part.is_empty() {
        parts.push(one_line(&origin.part));
    }
    if let Some(page) = origin.page {
        parts.push(format!("page {page}"));
    }
    if !origin.heading_path.is_empty() {
        parts.push(one_line(&origin.heading_path.join(" > ")));
    } else if !origin.title.is_empty() && !parts.iter().any(|part| part.ends_with(&origin.title)) {
        parts.push(one_line(&origin.title));
    }
    parts.join(" · ")
}

/// A `file://` address as a path, relative to `base` when it lies below; other addresses as they are.
fn file_name(uri: &str, base: Option<&Path>) -> String {
    let Some(path) = uri.strip_prefix("file://") else { return uri.to_owned() };
    let path = percent_decoded(path);
    let relative = base.and_then(|base| Path::new(&path).strip_prefix(base).ok());
    relative.map_or(path.clone(), |relative| relative.display().to_string())
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped =
            behind.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn excerpt(hit: &Hit, style: Style) -> String {
    match &hit.highlight {
        Some(highlight) if !highlight.snippet.is_empty() => {
            marked(&highlight.snippet, &highlight.snippet_spans, style)
        }
        _ => {
            let mut shown = one_line(&hit.text.chars().take(SHOWN_CHARACTERS).collect::<String>());
            if hit.text.chars().nth(SHOWN_CHARACTERS).is_some() {
                shown.push('…');
            }
            shown
        }
    }
}

/// Text with its spans marked. Spans that don't fit the text are left unmarked.
fn marked(text: &str, spans: &[Span], style: Style) -> String {
    let mut spans: Vec<_> = spans.iter().map(|span| (span.start as usize, span.end as usize)).collect();
    spans.sort_unstable();
    let mut line = String::new();
    let mut position = 0;
    for (start, end) in spans {
        let (Some(before), Some(word)) = (text.get(position..start), text.get(start..end)) else { continue };
        if word.trim().is_empty() {
            continue;
        }
        push_one_line(&mut line, before);
        line.push_str(&style.mark(&one_line(word)));
        position = end;
    }
    push_one_line(&mut line, text.get(position..).unwrap_or_default());
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ragstone_proto::v1::Highlight;

    fn span(start: u32, end: u32) -> Span {
        Span { start, end }
    }

    #[test]
    fn matched_words_are_marked_and_lines_joined() {
        let spans = [span(8, 11), span(0, 3)];
        assert_eq!(marked("hot\n\n  tea pot", &[span(7, 10), span(0, 3)], Style::Plain), "*hot* *tea* pot");
        assert_eq!(marked("hot and\n tea", &spans, Style::Terminal).matches("\x1b[1m").count(), 2);
    }

    #[test]
    fn spans_that_do_not_fit_mark_nothing() {
        for bad in [span(0, 99), span(2, 1), span(1, 2)] {
            assert_eq!(marked("ü tea", &[bad], Style::Plain), "ü tea");
        }
        assert_eq!(marked("a tea", &[span(0, 3), span(2, 5)], Style::Plain), "*a t*ea");
    }

    #[test]
    fn places_name_file_page_and_headings() {
        let origin = Origin {
            document_id: "x".into(),
            uri: "file:///data/notes/my%20file%zz.pdf".into(),
            title: "Notes".into(),
            page: Some(2),
            heading_path: vec!["One".into(), "Two".into()],
            ..Origin::default()
        };
        assert_eq!(
            place(&origin, "x#1", Some(Path::new("/data"))),
            "notes/my file%zz.pdf · page 2 · One > Two"
        );
        assert_eq!(place(&Origin { title: "T".into(), ..Origin::default() }, "x#1", None), "x#1 · T");
        assert_eq!(
            place(&Origin { uri: "https://a/b".into(), ..Origin::default() }, "x", None),
            "https://a/b"
        );
    }

    #[test]
    fn the_three_scores_are_always_named() {
        let hit = Hit {
            score: 0.5,
            vector_score: Some(0.25),
            highlight: Some(Highlight {
                snippet: "tea".into(),
                snippet_spans: vec![span(0, 3)],
                spans: Vec::new(),
            }),
            ..Hit::default()
        };
        let shown = render(1, &hit, None, Style::Plain);
        assert!(shown.contains("vector 0.250  keyword -  fused 0.500\n    *tea*"), "{shown}");
    }

    #[test]
    fn other_places_of_the_content_are_named() {
        let at = |uri: &str| Location { document_id: "d\n".into(), uri: uri.into() };
        let also_at = vec![at("file:///data/b.txt"), at(""), at("file:///else/c"), at("x")];
        let hit = Hit { text: "tea".into(), also_at, also_at_total: 20, ..Hit::default() };
        let shown = render(1, &hit, Some(Path::new("/data")), Style::Plain);
        let second = shown.lines().nth(1).unwrap_or_default().trim().to_owned();
        assert_eq!(second, "also at b.txt, d , /else/c, and 17 more");
        assert_eq!(elsewhere(&Hit::default(), None), None);
    }

    #[test]
    fn text_stands_in_for_a_missing_snippet() {
        let hit = Hit { text: "ä".repeat(500), ..Hit::default() };
        assert_eq!(excerpt(&hit, Style::Plain).chars().count(), SHOWN_CHARACTERS + 1);
    }
}
