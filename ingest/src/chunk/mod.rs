//! Extracted text to chunks that fit an embedder: whole blocks where they fit, balanced parts where they don't, never a
//! word lost.
//!
//! Outline (pages, headings, blocks) → measure (one tokenisation) → runs of sections → atoms that fit → packing →
//! a check of each chunk as it will be embedded. It doesn't know how documents were extracted or where chunks go.
//!
//! **Invariant:** a chunk never crosses a page; the chunks of a document cover all its text in order; with an embedder,
//! [`embedding_text`] of each chunk fits its token limit.

mod boundary;
mod context;
mod items;
mod measure;
mod outline;
mod pack;
mod runs;
mod sentences;
mod settings;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

pub use context::{embedding_text, text_in_context};
pub use settings::{
    ChunkSettings, ChunkerParams, Context, MAX_CHUNK_TOKENS, MAX_PARENT_TOKENS, MAX_TYPES, Strategy,
};

use crate::document::{Chunk, ExtractedDocument, Part};
use crate::embed::Embedder;
use crate::error::{Error, ErrorKind, Result};
use measure::Measure;
use outline::Outline;
use runs::Run;

/// The model's own start and end tokens.
const SPECIAL_TOKENS: usize = 2;
/// Words of a chunk when nothing embeds it.
const WORDS_WITHOUT_EMBEDDER: usize = 400;
/// Fewest tokens that title and headings have to leave to the text.
const MIN_ROOM: usize = 8;
/// Most bytes of a document's text; offsets are kept in 32 bits.
const MAX_TEXT_BYTES: usize = 1 << 30;

/// Cuts a document into chunks. `title` is the one that will be given to [`embedding_text`].
///
/// # Errors
/// `InvalidArgument` when the limit leaves no room for text beside title and headings; the embedder's own errors.
///
/// ```
/// use ragstone_ingest::chunk::{ChunkerParams, chunk};
/// use ragstone_ingest::document::{ExtractedDocument, Markup};
///
/// let text = "# Stones\n\nGranite is hard.\n\n## Soft ones\n\nTalc is not.".to_string();
/// let document = ExtractedDocument { text, markup: Markup::Markdown, ..Default::default() };
/// let chunks = chunk(&document, "Stones", None, &ChunkerParams::default())?;
/// assert_eq!(chunks.len(), 1);
/// assert_eq!(chunks[0].heading_path, ["Stones"]);
/// # Ok::<(), ragstone_ingest::Error>(())
/// ```
pub fn chunk(
    document: &ExtractedDocument,
    title: &str,
    embedder: Option<&dyn Embedder>,
    params: &ChunkerParams,
) -> Result<Vec<Chunk>> {
    if document.text.len() > MAX_TEXT_BYTES {
        let message = format!("{} bytes of text; at most {MAX_TEXT_BYTES} are chunked", document.text.len());
        return Err(Error::new(ErrorKind::ResourceExhausted, message));
    }
    let mut chunker = Chunker {
        text: &document.text,
        parts: &document.parts,
        title,
        embedder,
        params,
        limit: token_limit(embedder, params)?,
        embeds: true,
        outline: Outline::of(document, &[]),
        measure: Measure::of(&document.text, embedder)?,
    };
    let Some(parent_tokens) = params.parent_tokens else { return chunker.all() };
    let parents = parents(&mut chunker, parent_tokens.min(MAX_PARENT_TOKENS))?;
    chunker.outline = Outline::of(document, &parents);
    let mut chunks = chunker.all()?;
    for chunk in &mut chunks {
        let parent = parents.partition_point(|parent| parent.end <= chunk.span.start);
        chunk.parent = u32::try_from(parent).ok();
    }
    Ok(chunks)
}

/// The spans of the larger chunks that a document's chunks belong to. They are not embedded, so that the embedder's limit
/// does not bound them.
fn parents(chunker: &mut Chunker<'_>, tokens: usize) -> Result<Vec<Range<usize>>> {
    let params = chunker.params;
    let whole = ChunkerParams { strategy: Strategy::Structure, overlap_tokens: 0, ..params.clone() };
    let coarse = Chunker {
        params: &whole,
        limit: tokens.max(MIN_ROOM),
        embeds: false,
        outline: std::mem::take(&mut chunker.outline),
        measure: std::mem::take(&mut chunker.measure),
        ..*chunker
    };
    let parents = coarse.all()?.into_iter().map(|parent| parent.span).collect();
    chunker.measure = coarse.measure;
    Ok(parents)
}

/// Tokens that text, title and headings may have together.
fn token_limit(embedder: Option<&dyn Embedder>, params: &ChunkerParams) -> Result<usize> {
    let own = embedder.map(|embedder| embedder.info().max_tokens);
    let most = match (own, params.max_tokens) {
        (Some(own), Some(asked)) => own.min(asked),
        (Some(most), None) | (None, Some(most)) => most,
        (None, None) => return Ok(WORDS_WITHOUT_EMBEDDER),
    };
    let special = if embedder.is_some() { SPECIAL_TOKENS } else { 0 };
    match most.checked_sub(special) {
        Some(limit) if limit >= MIN_ROOM => Ok(limit),
        _ => Err(Error::invalid(
            "max_tokens",
            format!("{most} tokens; a chunk needs {} at least", MIN_ROOM + special),
        )),
    }
}

/// A document on its way to chunks.
struct Chunker<'a> {
    text: &'a str,
    parts: &'a [Part],
    title: &'a str,
    embedder: Option<&'a dyn Embedder>,
    params: &'a ChunkerParams,
    limit: usize,
    /// Whether chunks have to fit the embedder, with their context.
    embeds: bool,
    outline: Outline,
    measure: Measure,
}

impl Chunker<'_> {
    /// The chunks of the whole document.
    fn all(&self) -> Result<Vec<Chunk>> {
        let runs = match self.params.strategy {
            Strategy::Structure => runs::runs(self)?,
            Strategy::Tokens | Strategy::Sentences => runs::regions(self)?,
        };
        let chunks: Vec<Vec<Chunk>> = runs.par_iter().map(|run| self.cut(run)).collect::<Result<_>>()?;
        Ok(chunks.into_iter().flatten().collect())
    }

    /// Tokens left to the text below `path`.
    fn room(&self, path: &[String]) -> Result<usize> {
        let Some(embedder) = self.embedder.filter(|_| self.embeds) else { return Ok(self.limit) };
        let prefix = context::prefix(self.title, path, "", self.params.context);
        let taken = if prefix.is_empty() { 0 } else { embedder.token_spans(&prefix)?.len() };
        match self.limit.checked_sub(taken) {
            Some(room) if room >= MIN_ROOM => Ok(room),
            _ => Err(Error::invalid(
                "title",
                format!(
                    "title and headings take {taken} of the {} tokens that the embedder reads",
                    self.limit
                ),
            )),
        }
    }

    /// The chunks of a run.
    fn cut(&self, run: &Run) -> Result<Vec<Chunk>> {
        let overlap = self.params.overlap_tokens.min(self.limit / 4).min(run.room / 2);
        let room = run.room - overlap;
        let spans = match self.params.strategy {
            Strategy::Sentences => sentences::split(self.text, &run.span),
            _ if self.measure.count(&run.span) <= run.room => vec![run.span.clone()],
            Strategy::Tokens => self.evenly(&run.span, room),
            Strategy::Structure => {
                let atoms = self.atoms(run, room);
                pack::pack(&atoms, &self.measure, room, self.params.min_tokens)
            }
        };
        let mut chunks = Vec::with_capacity(spans.len());
        let mut before: Option<Range<usize>> = None;
        for span in spans {
            // Sentences say what they say; there is nothing to carry over.
            let carried = if self.params.strategy == Strategy::Sentences { 0 } else { overlap };
            let start = before.map_or(span.start, |before| self.overlap_start(&before, span.start, carried));
            before = Some(span.clone());
            self.emit(start..span.end, run, &mut chunks)?;
        }
        Ok(chunks)
    }

    /// Spans of `room` tokens each, cut between words.
    fn evenly(&self, span: &Range<usize>, room: usize) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let mut start = span.start;
        while start < span.end {
            let mut end = self.measure.forward(start, room.max(1), span.end);
            if end < span.end {
                let part = self.text.get(start..self.text.floor_char_boundary(end)).unwrap_or_default();
                let word = part.rfind(char::is_whitespace).filter(|at| *at > part.len() / 2);
                end = word.map_or(start + part.len(), |at| start + at);
                if end <= start {
                    end = span.end.min(self.text.ceil_char_boundary(start + 1));
                }
            }
            spans.push(start..end);
            start = end;
        }
        spans
    }

    /// The blocks of a run, those that don't fit cut into parts.
    fn atoms(&self, run: &Run, room: usize) -> Vec<Range<usize>> {
        let mut atoms = Vec::new();
        for block in self.outline.blocks.get(run.blocks.clone()).unwrap_or_default() {
            if self.measure.count(&block.span) <= room {
                atoms.push(block.span.clone());
            } else {
                atoms.extend(boundary::split(
                    self.text,
                    &block.span,
                    room,
                    &self.measure,
                    &self.outline.seams,
                ));
            }
        }
        atoms
    }

    /// Where a chunk starts that repeats the end of the one before it: at a word.
    fn overlap_start(&self, before: &Range<usize>, start: usize, overlap: usize) -> usize {
        let from = self.measure.back(start, overlap).max(before.start);
        let Some(repeated) = self.text.get(from..start).filter(|_| overlap > 0) else { return start };
        let word = repeated.find(char::is_whitespace).and_then(|at| {
            let rest = repeated.get(at..)?;
            Some(from + at + rest.len() - rest.trim_start().len())
        });
        word.filter(|at| *at < start).unwrap_or(start)
    }

    /// Adds the chunk of a span, or its halves where the measure was too optimistic.
    fn emit(&self, span: Range<usize>, run: &Run, chunks: &mut Vec<Chunk>) -> Result<()> {
        let span = trimmed(self.text, span);
        let text = self.text.get(span.clone()).unwrap_or_default();
        if text.is_empty() {
            return Ok(());
        }
        if let Some(embedder) = self.embedder.filter(|_| self.embeds) {
            let embedded = text_in_context(self.title, &run.path, text, self.params.context);
            let tokens = embedder.token_spans(&embedded)?.len();
            if tokens > self.limit {
                return self.emit_halves(span, run, tokens, chunks);
            }
        }
        let part = run.part.and_then(|part| self.parts.get(part)).map(|part| part.name.clone());
        chunks.push(Chunk {
            text: text.to_string(),
            span,
            heading_path: run.path.clone(),
            page: run.page,
            part: part.unwrap_or_default(),
            parent: None,
        });
        Ok(())
    }

    fn emit_halves(
        &self,
        span: Range<usize>,
        run: &Run,
        tokens: usize,
        chunks: &mut Vec<Chunk>,
    ) -> Result<()> {
        let half = (self.measure.count(&span) / 2).clamp(1, run.room);
        let mut parts = boundary::split(self.text, &span, half, &self.measure, &self.outline.seams);
        if parts.len() < 2 {
            parts = boundary::halves(self.text, &span);
        }
        if parts.len() < 2 {
            let message =
                format!("one character at byte {} has {tokens} tokens; the embedder reads fewer", span.start);
            return Err(Error::new(ErrorKind::FailedPrecondition, message));
        }
        parts.into_iter().try_for_each(|part| self.emit(part, run, chunks))
    }
}

/// A span without the whitespace at its ends.
fn trimmed(text: &str, span: Range<usize>) -> Range<usize> {
    let Some(part) = text.get(span.clone()) else { return span.start..span.start };
    let start = span.start + part.len() - part.trim_start().len();
    start..start + part.trim().len()
}
