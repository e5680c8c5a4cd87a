//! Search: which legs run, the embedding of the query, the engine's answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use ragstone_index::collection::{Collection, Copies};
use ragstone_index::filter::Filter;
use ragstone_index::schema::{RecallTarget, VectorSpace};
use ragstone_index::search::{
    Fusion, Hit, KeywordLeg, MAX_LIMIT, SearchRequest, SearchResponse, Select, VectorLeg,
};

use super::App;
use super::collapse::{self, Collapsed};
use super::copies;
use super::error::{Error, Result};
use super::parents::{self, Parent};
use super::visibility::Patience;

/// Longest text of a query, in bytes.
pub const MAX_QUERY_BYTES: usize = 16 << 10;
/// Most hits of a search that gives back parents, or leaves near-duplicates out.
pub const MAX_PARENTS: usize = 1_000;
/// Hits that are looked at for each that is given.
const HITS_PER_PARENT: usize = 4;
/// Most searches of one batch...
pub const MAX_SEARCHES: usize = 256;
/// ...and most that run on one thread, one after the other: a client that goes away leaves no more behind.
const MAX_TOGETHER: usize = 32;

/// Vector components that a search compares at most to count as short: about half a millisecond.
const MAX_SHORT_WORK: usize = 4 << 20;

/// Which legs a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Both when both can run, else the one that can.
    Auto,
    /// Both.
    Hybrid,
    /// By nearness.
    Vector,
    /// By words.
    Keyword,
}

/// A search, its form already checked.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in ragstone_index::search::SearchRequest")]
pub struct Query {
    pub collection: String,
    pub mode: Mode,
    /// Embedded for the vector leg, read as words by the keyword leg.
    pub text: Option<String>,
    /// In place of the embedded text.
    pub vector: Option<Vec<f32>>,
    /// Vector space; empty: the first.
    pub using: String,
    pub filter: Option<Filter>,
    pub limit: usize,
    pub offset: usize,
    pub score_threshold: Option<f32>,
    pub max_per_document: Option<usize>,
    pub fusion: Fusion,
    pub ef: Option<usize>,
    pub recall_target: Option<RecallTarget>,
    pub exact: bool,
    pub candidates: Option<usize>,
    pub select: Select,
    pub min_seq_no: Option<u64>,
    pub explain: bool,
    /// Give the parent of each hit, and of each parent only the best hit.
    pub parents: bool,
    /// Of documents that are near-duplicates, give the hits of the best placed one only.
    pub collapse: bool,
}

/// The answer to a query.
#[derive(Debug)]
pub struct Answer {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Every write up to this one was visible.
    pub seq_no: u64,
    /// A line a step.
    pub plan: Vec<String>,
    /// Phase and microseconds.
    pub phases: Vec<(&'static str, u64)>,
    /// In the server.
    pub elapsed: Duration,
    /// Whether matched words were asked for.
    pub highlights: bool,
    /// Whether the plan was asked for.
    pub explain: bool,
    /// The parent of each hit; empty when they were not asked for.
    pub parents: Vec<Option<Parent>>,
    /// Documents that are linked to those of hits, by document id.
    pub copies: HashMap<String, Copies>,
    /// Near-duplicates whose hits were left out.
    pub collapsed: Collapsed,
}

/// Where the query vector comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VectorFrom {
    Request,
    Text,
}

/// The legs that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Legs {
    vector: Option<VectorFrom>,
    keyword: bool,
}

/// A query that the engine is asked: what its answer needs beside the hits.
struct Asked {
    collection: Arc<Collection>,
    started: Instant,
    /// What was done before the engine is asked.
    plan: Vec<String>,
    phases: Vec<(&'static str, u64)>,
    offset: usize,
    limit: usize,
    parents: bool,
    collapse: bool,
    highlights: bool,
    explain: bool,
}

impl App {
    /// Answers a query.
    pub async fn search(&self, query: Query, patience: Patience) -> Result<Answer> {
        let (asked, request) = self.asked(query, patience).await?;
        let found = self.run_search(Arc::clone(&asked.collection), request).await?;
        self.answer(asked, found).await
    }

    /// Answers several queries, in order. Those of a collection share what they read. An error names the query.
    pub async fn search_batch(&self, queries: Vec<Query>, patience: Patience) -> Result<Vec<Answer>> {
        let asked = queries.into_iter().map(|query| self.asked(query, patience)).enumerate();
        let asked =
            try_join_all(asked.map(|(i, asked)| async move { asked.await.map_err(of_query(i)) })).await?;
        let (asked, requests): (Vec<Asked>, Vec<SearchRequest>) = asked.into_iter().unzip();
        let work = asked.iter().zip(&requests).map(|(asked, request)| asked.collection.search_work(request));
        let short = work.sum::<Option<usize>>().is_some_and(|work| work <= MAX_SHORT_WORK);
        let threads = if short { 1 } else { self.workers.search_width() };
        let pieces = pieces(asked.iter().map(|asked| &asked.collection).zip(requests), threads);
        let found = try_join_all(pieces.into_iter().map(|piece| self.run_piece(piece, short))).await?;
        let mut found: Vec<(usize, SearchResponse)> = found.into_iter().flatten().collect();
        found.sort_unstable_by_key(|(i, _)| *i);
        let answers = asked
            .into_iter()
            .zip(found)
            .map(|(asked, (i, found))| async move { self.answer(asked, found).await.map_err(of_query(i)) });
        try_join_all(answers).await
    }

    /// Checks a query, embeds its text if that is needed, and waits until what it wants to see is there.
    async fn asked(&self, mut query: Query, patience: Patience) -> Result<(Asked, SearchRequest)> {
        let started = Instant::now();
        let collection = self.collection(&query.collection)?;
        let schema = collection.schema();
        let space = match schema.vector_space(&query.using) {
            Ok((_, space)) => Some(space),
            Err(_) if query.using.is_empty() => None,
            Err(error) => return Err(error.into()),
        };
        check_text(query.text.as_deref())?;
        check_dimension(query.vector.as_deref(), space)?;
        let legs = legs(
            query.mode,
            query.text.is_some(),
            query.vector.is_some(),
            space.is_some_and(|space| space.embedder.is_some()),
        )?;
        patience.until_visible(&collection, query.min_seq_no).await?;
        let (mut plan, mut phases) = (Vec::new(), Vec::new());
        let vector = match (legs.vector, space) {
            (Some(VectorFrom::Request), _) => query.vector.take(),
            (Some(VectorFrom::Text), Some(space)) => {
                let text = query.text.clone().unwrap_or_default();
                let embedding = Instant::now();
                let vector = self.embedding.query(space, text).await?;
                plan.push(format!("embed the text for space \"{}\"", space.name));
                phases.push(("embed", embedding.elapsed().as_micros() as u64));
                Some(vector)
            }
            _ => None,
        };
        let (offset, limit, parents, collapse) = (query.offset, query.limit, query.parents, query.collapse);
        if parents || collapse {
            // Some hits are left out: others have to take their places.
            query.limit = (offset + limit).saturating_mul(HITS_PER_PARENT).min(MAX_LIMIT);
            query.offset = 0;
        }
        let (highlights, explain) = (query.select.highlights, query.explain);
        let asked = Asked {
            collection,
            started,
            plan,
            phases,
            offset,
            limit,
            parents,
            collapse,
            highlights,
            explain,
        };
        Ok((asked, request(query, vector, legs.keyword)))
    }

    /// What the engine found, as the caller wants it.
    async fn answer(&self, asked: Asked, mut found: SearchResponse) -> Result<Answer> {
        let Asked { collection, started, mut plan, mut phases, offset, limit, highlights, explain, .. } =
            asked;
        let mut parents = Vec::new();
        let mut collapsed = Collapsed::new();
        if asked.collapse {
            let open = Arc::clone(&collection);
            let job = move || Ok::<_, Error>((collapse::collapse(&open, &mut found.hits), found));
            (collapsed, found) = self.workers.read.run(job).await?;
            found.plan.push("of near-duplicates, keep the best document".into());
        }
        if asked.parents {
            parents::collapse(&mut found.hits);
        }
        if asked.parents || asked.collapse {
            found.hits = found.hits.into_iter().skip(offset).take(limit).collect();
        }
        if asked.parents {
            let reading = Instant::now();
            let open = Arc::clone(&collection);
            let job = move || Ok::<_, Error>((parents::parents(&open, &found.hits)?, found));
            (parents, found) = self.workers.read.run(job).await?;
            found.plan.push("put the parents of the hits together".into());
            found.phases.push(("parents", reading.elapsed().as_micros() as u64));
        }
        let copies = copies::of_hits(&collection, &found.hits);
        let SearchResponse { hits, seq_no, plan: steps, phases: took } = found;
        plan.extend(steps);
        phases.extend(took);
        let elapsed = started.elapsed();
        Ok(Answer { hits, seq_no, plan, phases, elapsed, highlights, explain, parents, copies, collapsed })
    }

    async fn run_search(
        &self,
        collection: std::sync::Arc<Collection>,
        request: SearchRequest,
    ) -> Result<SearchResponse> {
        let short = collection.search_work(&request).is_some_and(|work| work <= MAX_SHORT_WORK);
        self.workers.run_search(short, move || Ok(collection.search(&request)?)).await
    }

    /// Runs searches of one collection on one thread; each answer with the number of its query.
    async fn run_piece(&self, piece: Piece, short: bool) -> Result<Vec<(usize, SearchResponse)>> {
        let Piece { collection, searches } = piece;
        let (numbers, requests): (Vec<usize>, Vec<SearchRequest>) = searches.into_iter().unzip();
        let search = move || {
            let answers = numbers.into_iter().zip(collection.search_batch(&requests));
            answers.map(|(i, answer)| Ok((i, answer.map_err(Error::from).map_err(of_query(i))?))).collect()
        };
        self.workers.run_search(short, search).await
    }
}

/// Searches of a batch that run on one thread.
struct Piece {
    collection: Arc<Collection>,
    /// Each with its number in the batch.
    searches: Vec<(usize, SearchRequest)>,
}

/// Deals the searches of a batch out to so many threads, those of a collection together.
fn pieces<'a>(
    requests: impl Iterator<Item = (&'a Arc<Collection>, SearchRequest)>,
    threads: usize,
) -> Vec<Piece> {
    let mut whole: Vec<Piece> = Vec::new();
    for (i, (collection, request)) in requests.enumerate() {
        match whole.iter_mut().find(|piece| Arc::ptr_eq(&piece.collection, collection)) {
            Some(piece) => piece.searches.push((i, request)),
            None => whole.push(Piece { collection: Arc::clone(collection), searches: vec![(i, request)] }),
        }
    }
    let mut pieces = Vec::new();
    for Piece { collection, mut searches } in whole {
        let size = searches.len().div_ceil(threads.max(1)).clamp(1, MAX_TOGETHER);
        while !searches.is_empty() {
            let rest = searches.split_off(size.min(searches.len()));
            pieces.push(Piece { collection: Arc::clone(&collection), searches });
            searches = rest;
        }
    }
    pieces
}

/// Has an error name the query of a batch.
fn of_query(i: usize) -> impl Fn(Error) -> Error {
    move |error| error.within(&format!("searches[{i}]."))
}

fn request(query: Query, vector: Option<Vec<f32>>, keyword: bool) -> SearchRequest {
    let vector = vector.map(|vector| VectorLeg {
        using: query.using,
        vector,
        ef: query.ef,
        recall_target: query.recall_target,
        exact: query.exact,
    });
    SearchRequest {
        vector,
        keyword: query.text.filter(|_| keyword).map(|text| KeywordLeg { text }),
        filter: query.filter,
        limit: query.limit,
        offset: query.offset,
        score_threshold: query.score_threshold,
        max_per_document: query.max_per_document,
        fusion: query.fusion,
        candidates: query.candidates,
        select: query.select,
        min_seq_no: query.min_seq_no,
        explain: query.explain,
    }
}

fn check_text(text: Option<&str>) -> Result<()> {
    match text {
        Some(text) if text.trim().is_empty() => {
            Err(Error::invalid("text", "is empty: leave it out or say something"))
        }
        Some(text) if text.len() > MAX_QUERY_BYTES => {
            Err(Error::invalid("text", format!("{} bytes are more than {MAX_QUERY_BYTES}", text.len())))
        }
        _ => Ok(()),
    }
}

fn check_dimension(vector: Option<&[f32]>, space: Option<&VectorSpace>) -> Result<()> {
    match (vector, space) {
        (Some(_), None) => Err(Error::invalid("vector", "the collection has no vector space")),
        (Some(vector), Some(space)) if vector.len() != space.dimension as usize => Err(Error::invalid(
            "vector",
            format!("has {} components; the space \"{}\" has {}", vector.len(), space.name, space.dimension),
        )),
        _ => Ok(()),
    }
}

/// Which legs run; an error says what is missing for those asked for.
fn legs(mode: Mode, text: bool, vector: bool, embedder: bool) -> Result<Legs> {
    let source = match (vector, text && embedder) {
        (true, _) => Some(VectorFrom::Request),
        (false, true) => Some(VectorFrom::Text),
        (false, false) => None,
    };
    let no_vector = || match text {
        true => Error::invalid("vector", "is missing, and the vector space has no embedder for the text"),
        false => Error::invalid("vector", "is missing: give a vector, or a text to embed"),
    };
    match mode {
        Mode::Auto if !text && !vector => Err(Error::invalid("text", "give a text, a vector or both")),
        Mode::Auto => Ok(Legs { vector: source, keyword: text }),
        Mode::Vector => Ok(Legs { vector: Some(source.ok_or_else(no_vector)?), keyword: false }),
        Mode::Hybrid | Mode::Keyword if !text => {
            Err(Error::invalid("text", "is missing: the keyword leg reads it"))
        }
        Mode::Keyword => Ok(Legs { vector: None, keyword: true }),
        Mode::Hybrid => Ok(Legs { vector: Some(source.ok_or_else(no_vector)?), keyword: true }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn every_mode_with_everything_that_can_be_given() {
        const REQUEST: Option<VectorFrom> = Some(VectorFrom::Request);
        const TEXT: Option<VectorFrom> = Some(VectorFrom::Text);
        // mode, text, vector, embedder -> legs, or the field that is missing
        let check = |mode, given: [bool; 3], expect: Result<(Option<VectorFrom>, bool), &str>| {
            let found = legs(mode, given[0], given[1], given[2]);
            match (found, expect) {
                (Ok(found), Ok((vector, keyword))) => {
                    assert_eq!(found, Legs { vector, keyword }, "{mode:?} {given:?}")
                }
                (Err(error), Err(field)) => {
                    assert_eq!(error.violations()[0].field, field, "{mode:?} {given:?}")
                }
                (found, expect) => panic!("{mode:?} {given:?}: {found:?}, expected {expect:?}"),
            }
        };
        let (t, f) = (true, false);
        check(Mode::Auto, [f, f, t], Err("text"));
        check(Mode::Auto, [t, f, t], Ok((TEXT, t)));
        check(Mode::Auto, [t, f, f], Ok((None, t)));
        check(Mode::Auto, [f, t, f], Ok((REQUEST, f)));
        check(Mode::Auto, [t, t, t], Ok((REQUEST, t)));
        check(Mode::Hybrid, [t, f, t], Ok((TEXT, t)));
        check(Mode::Hybrid, [t, t, f], Ok((REQUEST, t)));
        check(Mode::Hybrid, [t, f, f], Err("vector"));
        check(Mode::Hybrid, [f, t, t], Err("text"));
        check(Mode::Vector, [t, f, t], Ok((TEXT, f)));
        check(Mode::Vector, [t, t, t], Ok((REQUEST, f)));
        check(Mode::Vector, [t, f, f], Err("vector"));
        check(Mode::Vector, [f, f, t], Err("vector"));
        check(Mode::Keyword, [t, t, t], Ok((None, t)));
        check(Mode::Keyword, [f, t, t], Err("text"));
    }

    #[test]
    fn texts_are_bounded() {
        assert!(check_text(None).is_ok());
        assert!(check_text(Some("word")).is_ok());
        assert!(check_text(Some(" \n")).is_err());
        assert!(check_text(Some(&"x".repeat(MAX_QUERY_BYTES + 1))).is_err());
    }
}
