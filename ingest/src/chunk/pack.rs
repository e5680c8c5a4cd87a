//! Atoms to chunks: the fewest chunks that fit, as even as can be, by dynamic programming (as paragraphs are broken into
//! lines by Knuth and Plass, "Breaking Paragraphs into Lines", 1981).

use std::ops::Range;

use super::measure::Measure;

/// What a chunk below the minimum costs; an empty one costs 1 by its slack.
const SMALL: f64 = 1.0;

/// Packs neighbouring atoms into spans of at most `room` tokens. Each atom fits by itself, or stands alone.
pub(super) fn pack(atoms: &[Range<usize>], measure: &Measure, room: usize, min: usize) -> Vec<Range<usize>> {
    let starts: Vec<usize> = atoms.iter().map(|atom| measure.before(atom.start)).collect();
    // best[j]: least cost of the first j atoms, and where its last chunk begins.
    let mut best: Vec<(f64, usize)> = vec![(0.0, 0)];
    for (end, last) in atoms.iter().enumerate() {
        let mut least = (f64::INFINITY, end);
        let tokens_to_end = measure.before(last.end);
        for (begin, tokens_to_begin) in starts.iter().enumerate().take(end + 1).rev() {
            let tokens = tokens_to_end.saturating_sub(*tokens_to_begin);
            if tokens > room && begin < end {
                break;
            }
            let before = best.get(begin).map_or(f64::INFINITY, |(cost, _)| *cost);
            let cost = before + cost(tokens, room, min);
            if cost < least.0 {
                least = (cost, begin);
            }
        }
        best.push(least);
    }
    let mut spans = Vec::new();
    let mut end = atoms.len();
    while let Some((begin, last)) = best.get(end).map(|best| best.1).zip(end.checked_sub(1)) {
        if let (Some(first), Some(last)) = (atoms.get(begin), atoms.get(last)) {
            spans.push(first.start..last.end);
        }
        end = begin;
    }
    spans.reverse();
    spans
}

#[expect(clippy::cast_precision_loss, reason = "token counts are small")]
fn cost(tokens: usize, room: usize, min: usize) -> f64 {
    let slack = 1.0 - (tokens.min(room) as f64 / room.max(1) as f64);
    slack * slack + if tokens < min.min(room) { SMALL } else { 0.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn check(sizes: &[usize], room: usize, expect: &[usize]) {
        let mut text = String::new();
        let mut atoms = Vec::new();
        for size in sizes {
            let start = text.len();
            text.push_str(&"w ".repeat(*size));
            atoms.push(start..text.len());
        }
        let measure = Measure::of(&text, None).unwrap();
        let spans = pack(&atoms, &measure, room, 20);
        assert_eq!(spans.iter().map(|span| measure.count(span)).collect::<Vec<_>>(), expect, "{sizes:?}");
        let ends: Vec<_> = spans.iter().map(|span| span.end).collect();
        assert_eq!(ends.last().copied().unwrap_or(0), text.len());
        assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start));
    }

    #[test]
    fn few_and_even() {
        check(&[], 100, &[]);
        check(&[30], 100, &[30]);
        check(&[50, 50], 100, &[100]);
        check(&[90, 10, 60], 100, &[90, 70]);
        check(&[25; 5], 100, &[75, 50]);
        check(&[60, 60, 60], 100, &[60, 60, 60]);
        check(&[95, 5, 95, 5], 100, &[100, 100]);
        check(&[100, 5, 96], 100, &[100, 5, 96]);
    }
}
