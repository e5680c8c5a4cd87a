//! Which sections go together: small ones with their neighbours, a short page or document as one.

use std::ops::Range;

use super::{Chunker, Strategy};
use crate::error::Result;

/// Blocks of one region that are cut together.
#[derive(Debug)]
pub(super) struct Run {
    pub span: Range<usize>,
    /// Indices of its blocks.
    pub blocks: Range<usize>,
    /// Headings above all of it.
    pub path: Vec<String>,
    pub page: Option<u32>,
    /// Index of the document's part.
    pub part: Option<usize>,
    /// Tokens that a chunk of it may have.
    pub room: usize,
    /// Index of its region.
    region: usize,
}

/// All runs of a document, in order.
pub(super) fn runs(chunker: &Chunker<'_>) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let blocks = &chunker.outline.blocks;
    let mut from = 0;
    for region in 0..chunker.outline.regions.len() {
        let count = blocks.iter().skip(from).take_while(|block| block.region == region).count();
        let (first, end) = (from, from + count);
        from = end;
        if first == end {
            continue;
        }
        let sections = sections(chunker, first..end)?;
        let place = chunker.outline.regions.get(region);
        let (page, part) = place.map_or((None, None), |region| (region.page, region.part));
        let all = sections.iter().skip(1).try_fold(sections.first().cloned(), |all, next| {
            Ok::<_, crate::Error>(match all {
                Some(all) => join(chunker, &all, next)?,
                None => None,
            })
        })?;
        let groups = match all {
            Some(all) if all.tokens <= all.room => vec![all],
            _ => merged(chunker, sections)?,
        };
        runs.extend(groups.into_iter().map(|group| Run {
            span: group.span,
            blocks: group.blocks,
            path: group.path,
            page,
            part,
            region,
            room: group.room,
        }));
    }
    Ok(runs)
}

/// Each region as one run, whatever its structure.
pub(super) fn regions(chunker: &Chunker<'_>) -> Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, block) in chunker.outline.blocks.iter().enumerate() {
        let path = chunker.outline.paths.get(block.path).cloned().unwrap_or_default();
        let region = chunker.outline.regions.get(block.region);
        let (page, part) = region.map_or((None, None), |region| (region.page, region.part));
        // Sentences keep to their headings; stretches of tokens run over them.
        let keeps = |open: &&mut Run| {
            let same_place = open.page == page && open.part == part && open.region == block.region;
            same_place && (chunker.params.strategy == Strategy::Tokens || open.path == path)
        };
        match runs.last_mut().filter(keeps) {
            Some(open) => {
                open.span.end = block.span.end;
                open.blocks.end = index + 1;
                if open.path != path {
                    // Only the headings that all of it shares are above it.
                    let shared = open.path.iter().zip(&path).take_while(|(a, b)| a == b).count();
                    open.path.truncate(shared);
                    open.room = chunker.room(&open.path)?;
                }
            }
            None => {
                let room = chunker.room(&path)?;
                let (span, blocks) = (block.span.clone(), index..index + 1);
                runs.push(Run { span, blocks, path, page, part, room, region: block.region });
            }
        }
    }
    Ok(runs)
}

/// Blocks below the same headings.
#[derive(Debug, Clone)]
struct Section {
    span: Range<usize>,
    blocks: Range<usize>,
    path: Vec<String>,
    tokens: usize,
    room: usize,
}

fn sections(chunker: &Chunker<'_>, range: Range<usize>) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut open = None;
    for index in range {
        let Some(block) = chunker.outline.blocks.get(index) else { continue };
        match sections.last_mut().filter(|_| open == Some(block.path)) {
            Some(section) => {
                section.span.end = block.span.end;
                section.blocks.end = index + 1;
                section.tokens += chunker.measure.count(&block.span);
            }
            None => {
                let path = chunker.outline.paths.get(block.path).cloned().unwrap_or_default();
                let room = chunker.room(&path)?;
                let tokens = chunker.measure.count(&block.span);
                sections.push(Section {
                    span: block.span.clone(),
                    blocks: index..index + 1,
                    path,
                    tokens,
                    room,
                });
            }
        }
        open = Some(block.path);
    }
    Ok(sections)
}

/// Joins small sections with their neighbours: the one before if they share a heading, else the one after.
fn merged(chunker: &Chunker<'_>, sections: Vec<Section>) -> Result<Vec<Section>> {
    let min = chunker.params.min_tokens;
    let mut groups: Vec<Section> = Vec::new();
    for section in sections {
        let Some(last) = groups.last() else {
            groups.push(section);
            continue;
        };
        // A small section under another chapter stays apart; text before the first heading has no chapter.
        let related = last.path.is_empty() || section.path.first() == last.path.first();
        let small = section.tokens < min || last.tokens < min;
        if related && small && last.tokens + section.tokens <= last.room.max(section.room) {
            let both = join(chunker, last, &section)?.filter(|both| both.tokens <= both.room);
            if let (Some(both), Some(last)) = (both, groups.last_mut()) {
                *last = both;
                continue;
            }
        }
        groups.push(section);
    }
    Ok(groups)
}

/// Two neighbours as one, below the headings that they share; `None` when they can't fit.
fn join(chunker: &Chunker<'_>, first: &Section, second: &Section) -> Result<Option<Section>> {
    let tokens = first.tokens + second.tokens;
    if tokens > chunker.limit {
        return Ok(None);
    }
    let shared = first.path.iter().zip(&second.path).take_while(|(a, b)| a == b);
    let path: Vec<String> = shared.map(|(heading, _)| heading.clone()).collect();
    let room = if path == first.path { first.room } else { chunker.room(&path)? };
    Ok(Some(Section {
        span: first.span.start..second.span.end,
        blocks: first.blocks.start..second.blocks.end,
        path,
        tokens,
        room,
    }))
}
