//! Search: runs a plan over one snapshot, leg by leg and part by part, and fetches the winners only.
//!
//! Searches of a batch share the snapshot, the rows that a filter passes, and the reading of vectors where they compare with
//! all of them. Walks share nothing: what they read has hardly anything in common.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use roaring::RoaringBitmap;

use crate::collection::Collection;
use crate::collection::read::PointReader;
use crate::collection::shadow::Shadow;
use crate::collection::snapshot::{PartView, Snapshot};
use crate::collection::vector_leg::{ExactSearches, FoundByVector, Place, VectorLegSearch, best_first};
use crate::error::{Error, Result};
use crate::fusion::{Fused, Ranking, fuse};
use crate::keyword::{CollectionTextStats, KeywordQuery, highlight};
use crate::payload::CheckedFilter;
use crate::plan::Plan;
use crate::recall::RecallMeter;
use crate::schema::RecallTarget;
use crate::search::{Hit, Leg, LegScore, SearchRequest, SearchResponse};
use crate::segment::Part;
use crate::vector::{PreparedQuery, SearchParams};

/// How often a query looks again with more candidates when too many of them were of the same documents.
const MAX_WIDENINGS: usize = 4;

impl Collection {
    /// Searches one snapshot.
    pub fn search(&self, request: &SearchRequest) -> Result<SearchResponse> {
        let snapshot = self.current();
        let search = self.prepare(&snapshot, request, &[])?;
        self.answer(&snapshot, search)
    }

    /// Searches one snapshot for each of several requests; their answers in order, each by itself.
    ///
    /// A filter that several have is looked up once, and what exact searches compare with is read once for those that differ
    /// by nothing but their vector.
    pub fn search_batch(&self, requests: &[SearchRequest]) -> Vec<Result<SearchResponse>> {
        let snapshot = self.current();
        let mut searches: Vec<Result<Search<'_>>> = Vec::with_capacity(requests.len());
        for request in requests {
            searches.push(self.prepare(&snapshot, request, &searches));
        }
        compare_together(&snapshot, &mut searches);
        searches.into_iter().map(|search| self.answer(&snapshot, search?)).collect()
    }

    /// A search of a snapshot, with what those `before` it, of the same snapshot, have looked up.
    fn prepare<'a>(
        &self,
        snapshot: &'a Snapshot,
        request: &'a SearchRequest,
        before: &[Result<Search<'a>>],
    ) -> Result<Search<'a>> {
        snapshot.check_visible(request.min_seq_no)?;
        let plan = Plan::new(request, &snapshot.schema)?;
        self.note_search(snapshot);
        let alike = before.iter().flatten().find(|other| other.request.filter == request.filter);
        let allowed = alike.map(|other| other.allowed.as_slice());
        let mut search = Search::prepare(snapshot, request, plan, &self.recall, allowed)?;
        search.observe =
            request.vector.as_ref().is_some_and(|leg| !leg.exact) && self.maintenance.recall.picks();
        Ok(search)
    }

    fn answer(&self, snapshot: &Arc<Snapshot>, mut search: Search<'_>) -> Result<SearchResponse> {
        let response = search.run()?;
        if let Some(shadow) = search.shadow(snapshot, self.this.clone()) {
            self.maintenance.recall.submit(Box::new(shadow));
        }
        Ok(response)
    }
}

/// Runs the vector legs that compare with all vectors ahead of their searches, those together that differ by nothing but
/// their vector.
fn compare_together(snapshot: &Snapshot, searches: &mut [Result<Search<'_>>]) {
    let mut left: Vec<&mut Search<'_>> =
        searches.iter_mut().flatten().filter(|search| search.compares_all()).collect();
    while let Some(first) = left.pop() {
        let (mut alike, others) = left.into_iter().partition::<Vec<_>, _>(|other| first.compares_same(other));
        left = others;
        let Some(space) = first.plan.space.filter(|_| !alike.is_empty()) else { continue };
        alike.push(first);
        let queries: Vec<&PreparedQuery> = alike.iter().filter_map(|search| search.vector.as_ref()).collect();
        let Some(first) = alike.first() else { continue };
        let together = ExactSearches {
            snapshot,
            allowed: &first.allowed,
            queries: &queries,
            space,
            count: first.plan.candidates,
            explain: alike.iter().any(|search| search.request.explain),
        };
        let started = Some(Instant::now());
        let found = together.run();
        for (search, found) in alike.into_iter().zip(found) {
            search.ahead = Some(found.scored);
            if search.request.explain {
                search.steps.extend(found.steps);
            }
            search.phase(Leg::Vector.name(), started);
        }
    }
}

/// A query under way.
struct Search<'a> {
    snapshot: &'a Snapshot,
    request: &'a SearchRequest,
    plan: Plan,
    vector: Option<PreparedQuery>,
    words: Option<KeywordQuery>,
    /// Rows that may be found, by part; `None`: all of the part.
    allowed: Vec<Option<RoaringBitmap>>,
    /// Recall that the vector leg is to reach...
    target: RecallTarget,
    /// ...and what it has to aim at for that.
    aim: RecallTarget,
    steps: Vec<String>,
    phases: Vec<(&'static str, u64)>,
    /// What the vector leg has found together with those of other searches.
    ahead: Option<Vec<(Place, f32)>>,
    /// Whether to keep what the vector leg finds...
    observe: bool,
    /// ...here.
    observed: Option<Observed>,
}

/// What a vector leg found.
struct Observed {
    /// Hits wanted.
    wanted: usize,
    scores: Vec<f32>,
    /// Whether a graph was walked.
    walked: bool,
}

impl<'a> Search<'a> {
    fn prepare(
        snapshot: &'a Snapshot,
        request: &'a SearchRequest,
        plan: Plan,
        recall: &RecallMeter,
        allowed: Option<&[Option<RoaringBitmap>]>,
    ) -> Result<Self> {
        let filter = snapshot.check(request.filter.as_ref())?;
        let space = plan.space.and_then(|space| snapshot.schema.vectors.get(space));
        let vector = match (&request.vector, space) {
            (Some(leg), Some(space)) => {
                Some(PreparedQuery::new(space.distance, space.dimension as usize, &leg.vector)?)
            }
            _ => None,
        };
        let of_request = request.vector.as_ref().and_then(|leg| leg.recall_target);
        let target = of_request.or(space.map(|space| space.index.recall_target)).unwrap_or_default();
        let aim = plan.space.map_or(target, |space| recall.aim(space, target));
        let words = request.keyword.as_ref().map(|leg| KeywordQuery::new(&leg.text));
        let started = request.explain.then(Instant::now);
        let allowed = match allowed {
            Some(known) => known.to_vec(),
            None => snapshot.parts.iter().map(|view| view.allowed(filter.as_ref())).collect::<Result<_>>()?,
        };
        let mut search = Self {
            snapshot,
            request,
            plan,
            vector,
            words,
            allowed,
            target,
            aim,
            steps: Vec::new(),
            phases: Vec::new(),
            ahead: None,
            observe: false,
            observed: None,
        };
        if request.explain {
            search.steps = search.plan.describe();
            search.explain_target();
            search.explain_filter(filter.as_ref());
            search.phase("filter", started);
        }
        Ok(search)
    }

    /// Whether the vector leg compares with all vectors that may be found.
    fn compares_all(&self) -> bool {
        self.vector.is_some() && self.request.vector.as_ref().is_some_and(|leg| leg.exact)
    }

    /// Whether the vector leg compares with the same vectors as another, and wants as many.
    fn compares_same(&self, other: &Self) -> bool {
        self.plan.space == other.plan.space
            && self.plan.candidates == other.plan.candidates
            && self.request.filter == other.request.filter
    }

    fn run(&mut self) -> Result<SearchResponse> {
        let wanted = self.plan.limit + self.plan.offset;
        let mut candidates = self.plan.candidates;
        let most = usize::try_from(self.snapshot.live_len()).unwrap_or(usize::MAX);
        let mut widenings = 0;
        let ranked = loop {
            let (fused, exhausted) = self.rank(candidates)?;
            let ranked = self.collapse(fused)?;
            let enough = ranked.len() >= wanted || exhausted || candidates >= most;
            if enough || self.plan.max_per_document.is_none() || widenings == MAX_WIDENINGS {
                break ranked;
            }
            widenings += 1;
            candidates *= 4;
        };
        let started = self.clock();
        let reader = PointReader::new(self.snapshot, &self.request.select)?;
        let places = ranked.iter().map(|fused| fused.key);
        reader.prefetch(places.skip(self.plan.offset).take(self.plan.limit));
        let winners = ranked.into_iter().skip(self.plan.offset).take(self.plan.limit);
        // One by one into their place: collected as results they would be moved about more often than they are read.
        let mut hits = Vec::with_capacity(winners.len());
        for fused in winners {
            hits.push(self.hit(&reader, fused)?);
        }
        self.phase("fetch", started);
        let (plan, phases) = (std::mem::take(&mut self.steps), std::mem::take(&mut self.phases));
        Ok(SearchResponse { hits, seq_no: self.snapshot.seq_no, plan, phases })
    }

    /// The ranking by `candidates` of each leg, best first, and whether no leg has more to give.
    fn rank(&mut self, candidates: usize) -> Result<(Vec<Fused<Place>>, bool)> {
        let mut rankings = Vec::with_capacity(self.plan.legs.len());
        for (leg, weight) in self.plan.legs.clone() {
            let scored = match self.ahead.take_if(|_| leg == Leg::Vector) {
                // As many as the plan has, which is what is asked for first.
                Some(scored) => scored,
                None => {
                    let started = self.clock();
                    let scored = match leg {
                        Leg::Vector => self.vector_leg(candidates)?,
                        Leg::Keyword => self.keyword_leg(candidates)?,
                    };
                    self.phase(leg.name(), started);
                    scored
                }
            };
            rankings.push((leg, weight, scored));
        }
        let exhausted = rankings.iter().all(|(.., scored)| scored.len() < candidates);
        let started = self.clock();
        let mut fused = match (self.plan.fusion, rankings.as_slice()) {
            (None, [(leg, _, scored)]) => alone(*leg, scored),
            (method, _) => {
                let views: Vec<_> = rankings
                    .iter()
                    .map(|(leg, weight, scored)| Ranking { leg: *leg, weight: *weight, scored })
                    .collect();
                fuse(method.unwrap_or_default(), &views, self.plan.candidates)
            }
        };
        if let Some(threshold) = self.request.score_threshold {
            fused.retain(|candidate| candidate.score >= threshold);
        }
        self.sort(&mut fused)?;
        if self.plan.fusion.is_some() {
            self.phase("fusion", started);
        }
        Ok((fused, exhausted))
    }

    fn vector_leg(&mut self, candidates: usize) -> Result<Vec<(Place, f32)>> {
        let (Some(query), Some(space), Some(leg)) = (&self.vector, self.plan.space, &self.request.vector)
        else {
            return Err(Error::Internal("a vector leg without a vector".into()));
        };
        let leg = VectorLegSearch {
            snapshot: self.snapshot,
            allowed: &self.allowed,
            query,
            space,
            count: candidates,
            params: SearchParams { ef: leg.ef, exact: leg.exact, recall_target: self.aim, floor: None },
            explain: self.request.explain,
        };
        let FoundByVector { scored, walked, mut steps } = leg.run();
        self.steps.append(&mut steps);
        if self.observe && self.observed.is_none() {
            let scores = scored.iter().map(|(_, score)| *score).collect();
            self.observed = Some(Observed { wanted: candidates, scores, walked });
        }
        Ok(scored)
    }

    /// What a comparison with the truth needs, if this search is to be compared.
    fn shadow(&mut self, snapshot: &Arc<Snapshot>, collection: Weak<Collection>) -> Option<Shadow> {
        let Observed { wanted, scores, walked } = self.observed.take()?;
        let chosen = walked && self.request.vector.as_ref().is_some_and(|leg| leg.ef.is_none());
        Some(Shadow {
            collection,
            snapshot: Arc::clone(snapshot),
            space: self.plan.space?,
            query: self.vector.take()?,
            allowed: std::mem::take(&mut self.allowed),
            wanted,
            found: scores,
            aimed: chosen.then_some(self.target),
        })
    }

    fn keyword_leg(&self, candidates: usize) -> Result<Vec<(Place, f32)>> {
        let Some(query) = self.words.as_ref().filter(|query| !query.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut stats = CollectionTextStats::default();
        for view in &self.snapshot.parts {
            match &view.part {
                Part::Segment(segment) => segment.keywords().add_stats(query, &mut stats)?,
                Part::Memtable(table) => table.postings().add_stats(query, &mut stats),
            }
        }
        let mut scored = Vec::new();
        for (part, (view, allowed)) in self.snapshot.parts.iter().zip(&self.allowed).enumerate() {
            let found = match &view.part {
                Part::Segment(segment) => {
                    segment.keywords().search(query, &stats, candidates, allowed.as_ref())?
                }
                Part::Memtable(table) => {
                    table.postings().search(query, &stats, candidates, allowed.as_ref(), view.rows)
                }
            };
            scored.extend(found.into_iter().map(|found| ((part, found.row), found.score)));
        }
        best_first(&mut scored, candidates);
        Ok(scored)
    }

    /// Best first; equal scores by the legs' own scores, then by id, so that the same data answers the same however it
    /// lies in segments.
    fn sort(&self, fused: &mut [Fused<Place>]) -> Result<()> {
        let raw = |candidate: &Fused<Place>| candidate.legs().map(|leg| leg.raw).sum::<f32>();
        let by_score =
            |a: &Fused<Place>, b: &Fused<Place>| b.score.total_cmp(&a.score).then(raw(b).total_cmp(&raw(a)));
        fused.sort_by(by_score);
        for run in fused.chunk_by_mut(|a, b| by_score(a, b).is_eq()) {
            if run.len() > 1 {
                let mut ids = HashMap::with_capacity(run.len());
                for candidate in run.iter() {
                    ids.insert(candidate.key, self.id_of(candidate.key)?);
                }
                run.sort_by(|a, b| ids.get(&a.key).cmp(&ids.get(&b.key)));
            }
        }
        Ok(())
    }

    /// Leaves out what a document has too many of.
    fn collapse(&self, fused: Vec<Fused<Place>>) -> Result<Vec<Fused<Place>>> {
        let Some(most) = self.plan.max_per_document else { return Ok(fused) };
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut kept = Vec::with_capacity(fused.len());
        for candidate in fused {
            let view = self.view(candidate.key.0)?;
            let found = view.row(candidate.key.1)?;
            let (rows, at) = found.get();
            let Some(document_id) = rows.document_id(at).filter(|id| !id.is_empty()) else {
                kept.push(candidate);
                continue;
            };
            let count = counts.entry(document_id.to_owned()).or_default();
            *count += 1;
            if *count <= most {
                kept.push(candidate);
            }
        }
        Ok(kept)
    }

    fn hit(&self, reader: &PointReader<'_>, fused: Fused<Place>) -> Result<Hit> {
        let (part, row) = fused.key;
        let point = reader.read(part, row)?;
        let raw = |leg: Option<LegScore>| leg.map(|leg| leg.raw);
        let highlights = match &self.words {
            Some(query) if self.request.select.highlights => highlight(&point.text, query),
            _ => Vec::new(),
        };
        Ok(Hit {
            score: fused.score,
            vector_score: raw(fused.vector),
            keyword_score: raw(fused.keyword),
            point,
            highlights,
            legs: if self.request.explain { fused.legs().copied().collect() } else { Vec::new() },
        })
    }

    fn view(&self, part: usize) -> Result<&'a PartView> {
        self.snapshot.parts.get(part).ok_or_else(|| Error::Internal(format!("part {part} is not there")))
    }

    fn id_of(&self, (part, row): Place) -> Result<String> {
        Ok(self.view(part)?.row(row)?.id().to_owned())
    }

    fn explain_target(&mut self) {
        if self.request.vector.as_ref().is_some_and(|leg| leg.ef.is_none() && !leg.exact) {
            let (target, aim) = (self.target.get(), self.aim.get());
            let as_sampled = if aim == target {
                String::new()
            } else {
                format!(", for which samples ask beams of {aim:.4}")
            };
            self.steps.push(format!("vector leg aims at recall {target}{as_sampled}"));
        }
    }

    fn explain_filter(&mut self, filter: Option<&CheckedFilter>) {
        if filter.is_none_or(CheckedFilter::is_empty) {
            return;
        }
        let passed: u64 = self.allowed.iter().flatten().map(RoaringBitmap::len).sum();
        self.steps.push(format!("filter: {passed} of {} points pass", self.snapshot.live_len()));
    }

    /// When a phase starts, if that is asked for.
    fn clock(&self) -> Option<Instant> {
        self.request.explain.then(Instant::now)
    }

    fn phase(&mut self, name: &'static str, started: Option<Instant>) {
        if let Some(started) = started.filter(|_| self.request.explain) {
            let elapsed = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.phases.push((name, elapsed));
        }
    }
}

/// The ranking of the only leg.
fn alone(leg: Leg, scored: &[(Place, f32)]) -> Vec<Fused<Place>> {
    let candidate = |(position, (key, raw)): (usize, &(Place, f32))| {
        let mut fused = Fused { score: *raw, ..Fused::new(*key) };
        fused.add(LegScore { leg, rank: position + 1, raw: *raw, normalized: *raw, weight: 1.0 });
        fused
    };
    scored.iter().enumerate().map(candidate).collect()
}
