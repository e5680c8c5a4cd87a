//! Parents of found chunks: the text around a hit, put together from the chunks that the document was cut into. Small
//! chunks are found well, large ones are read well.

use std::collections::HashMap;

use ragstone_index::collection::Collection;
use ragstone_index::search::{Hit, Origin, PayloadSelect, PointData, Select};

use super::error::Result;

/// Chunks on each side of a hit that are looked at: few first, more while the parent goes on. Each time all are read
/// again, at one moment of the collection: chunks of a document before and after its replacement never meet.
const SIBLINGS: [u32; 3] = [16, 100, 499];

/// The larger chunk that a hit is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its text.
    pub text: String,
    /// Bytes of the document's text.
    pub span: std::ops::Range<u64>,
}

/// Which larger chunk of which document.
type Key = (String, u32);

fn key(origin: &Origin) -> Option<Key> {
    Some((origin.document_id.clone(), origin.parent?)).filter(|(document, _)| !document.is_empty())
}

/// Keeps the best hit of each parent. Hits without one are kept all.
pub(super) fn collapse(hits: &mut Vec<Hit>) {
    let mut seen = std::collections::HashSet::new();
    hits.retain(|hit| key(&hit.point.origin).is_none_or(|key| seen.insert(key)));
}

/// The parent of each hit, in their order; `None` for a hit without one.
///
/// A document may be replaced between the search and this reading: then the chunks around the hit are not those that it was
/// found among, and its own text is its parent.
pub(super) fn parents(collection: &Collection, hits: &[Hit]) -> Result<Vec<Option<Parent>>> {
    hits.iter().map(|hit| parent(collection, &hit.point)).collect()
}

fn parent(collection: &Collection, found: &PointData) -> Result<Option<Parent>> {
    let origin = &found.origin;
    let (Some(key), Some(index)) = (key(origin), origin.chunk_index) else { return Ok(None) };
    let select = Select { payload: PayloadSelect::None, vectors: Vec::new(), text: true, highlights: false };
    let mut text = None;
    for reach in SIBLINGS {
        let range = index.saturating_sub(reach)..=index.saturating_add(reach);
        let ids: Vec<String> = range.clone().map(|index| format!("{}#{index}", origin.document_id)).collect();
        let siblings: HashMap<u32, PointData> = collection
            .get(&ids, &select, None)?
            .into_iter()
            .filter(|point| self::key(&point.origin).as_ref() == Some(&key))
            .filter_map(|point| Some((point.origin.chunk_index?, point)))
            .collect();
        if siblings.get(&index).is_none_or(|now| now.origin != *origin) {
            break;
        }
        let belongs = |index: &u32| siblings.contains_key(index);
        let first = (0..=index).rev().take_while(belongs).last().unwrap_or(index);
        let chunks: Vec<&PointData> =
            (first..).take_while(belongs).filter_map(|index| siblings.get(&index)).collect();
        text = Some(joined(&chunks));
        let goes_on = |end: u32| end > 0 && siblings.contains_key(&end);
        if !goes_on(*range.start()) && !goes_on(*range.end()) {
            break;
        }
    }
    let own = || Parent {
        text: found.text.clone(),
        span: origin.span_start.unwrap_or(0)..origin.span_end.unwrap_or(0),
    };
    Ok(Some(text.unwrap_or_else(own)))
}

/// Neighbouring chunks as one text. What one repeats of the one before it comes once; of the blanks between two only
/// their number is known.
fn joined(chunks: &[&PointData]) -> Parent {
    let mut text = String::new();
    let mut end = 0;
    let mut start = None;
    for chunk in chunks {
        let origin = &chunk.origin;
        let (from, to) = (origin.span_start.unwrap_or(end), origin.span_end.unwrap_or(end));
        start.get_or_insert(from);
        if !text.is_empty() && from > end {
            text.push_str(match from - end {
                // One sentence behind the other, or one within a line.
                1 if text.ends_with(['.', '!', '?', '…', ':', ';', ','])
                    || chunk.text.starts_with(char::is_lowercase) =>
                {
                    " "
                }
                1 => "\n",
                _ => "\n\n",
            });
        }
        let repeated = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
        let repeated = if text.is_empty() { 0 } else { repeated };
        text.push_str(chunk.text.get(repeated..).unwrap_or_default());
        end = end.max(to);
    }
    Parent { text, span: start.unwrap_or(0)..end }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn chunk(text: &str, start: u64, parent: Option<u32>) -> PointData {
        let origin = Origin {
            document_id: "d".into(),
            parent,
            span_start: Some(start),
            span_end: Some(start + text.len() as u64),
            ..Origin::default()
        };
        PointData { text: text.into(), origin, ..PointData::default() }
    }

    #[test]
    fn chunks_are_joined_at_their_seams() {
        let check = |chunks: &[PointData], expect: &str, span: std::ops::Range<u64>| {
            let parent = joined(&chunks.iter().collect::<Vec<_>>());
            assert_eq!((parent.text.as_str(), parent.span), (expect, span));
        };
        check(
            &[chunk("One.", 10, None), chunk("Two.", 16, None), chunk("and three", 21, None)],
            "One.\n\nTwo. and three",
            10..30,
        );
        // The second repeats the end of the first.
        check(&[chunk("one two", 0, None), chunk("two three", 4, None)], "one two three", 0..13);
        check(&[chunk("one", 0, None), chunk("Two", 4, None)], "one\nTwo", 0..7);
        check(&[], "", 0..0);
    }

    #[test]
    fn hits_of_one_parent_become_one() {
        let hit = |parent: Option<u32>, score: f32| Hit {
            score,
            vector_score: None,
            keyword_score: None,
            point: chunk("x", 0, parent),
            highlights: Vec::new(),
            legs: Vec::new(),
        };
        let mut hits =
            vec![hit(Some(1), 5.0), hit(Some(2), 4.0), hit(Some(1), 3.0), hit(None, 2.0), hit(None, 1.0)];
        collapse(&mut hits);
        let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
        assert_eq!(scores, [5.0, 4.0, 2.0, 1.0]);
    }
}
