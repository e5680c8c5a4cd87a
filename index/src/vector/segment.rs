//! The vectors of a sealed segment: f32 rows, and where there is one, a graph over them.
//!
//! A search plans ([`Situation`]), walks on codes, and gives the final order by f32. It must not know
//! where the bytes come from; they are usually mapped files.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::directory::Residency;
use crate::error::{Error, Result};
use crate::file_format::place_of_rows;
use crate::schema::{Distance, VectorStorage};
use crate::search::MAX_EF;
use crate::vector::bits::{BitCodes, ERRORS, ERRORS_OF_TRUTH, taking};
use crate::vector::calibrate::{NEAREST, beam_for};
use crate::vector::codes::{Floats, RowMap, Target};
use crate::vector::distance;
use crate::vector::exact;
use crate::vector::graph::filtered::search_among;
use crate::vector::graph::format::{FlatGraph, Measured, aligned};
use crate::vector::graph::walk::{
    Candidate, Scratch, Slack, beam_search, beam_search_to_widen, beam_search_with_slack, descend, widen_beam,
};
use crate::vector::kernels;
use crate::vector::plan::{ExactReason, Plan, Situation, Strategy};
use crate::vector::query::PreparedQuery;
use crate::vector::report::{CalibratedBeam, GraphReport, VectorIndexReport};
use crate::vector::row_bits::RowBits;
use crate::vector::walked::Walked;
use crate::vector::{Scored, SearchParams};

/// Candidates of a filtered walk that may be compared by vector, more than of others: the nearest allowed nodes may lie far
/// out, where distances differ by less than the error of a code.
const RESCORE_FILTERED: usize = 2_048;
/// A walk among allowed nodes starts from those that a walk with this beam meets...
const AMONG_START_EF: usize = 16;
/// ...and from so many spread over all...
const FILTER_SEEDS: u64 = 24;
/// ...or, when none of those that it meets is allowed, from the nearest of so many: then the filter goes against the query...
const FAR_SEEDS: usize = 2_048;
/// ...and the beam is wider by this.
const AMONG_FAR_FACTOR: usize = 2;

/// Plans that one search may try: a widened beam, then among, then a scan.
const MOST_PLANS: usize = 3;

thread_local! {
    /// Walks of one thread share their memory: a bit a node of the largest graph walked.
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// The vectors of a sealed segment in one vector space.
#[derive(Debug)]
pub struct SegmentVectors {
    distance: Distance,
    dimension: usize,
    rows: usize,
    vectors: Bytes,
    /// Rows with a vector; `None`: all.
    present: Option<RoaringBitmap>,
    graph: Option<FlatGraph>,
    storage: VectorStorage,
    residency: Residency,
}

impl SegmentVectors {
    /// Opens vectors (`rows` x `dimension` f32, little-endian) and the index that [`build_index`] made of them.
    ///
    /// Bytes that don't start at a multiple of four in memory are copied.
    ///
    /// # Errors
    /// [`Error::Corruption`] with `path` when lengths, rows or the index don't fit together.
    ///
    /// [`build_index`]: crate::vector::build_index
    pub fn open(
        path: &Path,
        distance: Distance,
        dimension: usize,
        rows: usize,
        vectors: Bytes,
        present: Option<RoaringBitmap>,
        index: Option<Bytes>,
    ) -> Result<Self> {
        let expected = rows.checked_mul(dimension).and_then(|count| count.checked_mul(size_of::<f32>()));
        if dimension == 0 || expected != Some(vectors.len()) || u32::try_from(rows).is_err() {
            let found = vectors.len();
            let message = format!("{found} bytes are not {rows} vectors of dimension {dimension}");
            return Err(Error::corrupt(path, found as u64, message));
        }
        if present.as_ref().and_then(RoaringBitmap::max).is_some_and(|last| last as usize >= rows) {
            return Err(Error::corrupt(
                path,
                0,
                format!("a vector is present behind the last of {rows} rows"),
            ));
        }
        let present = present.filter(|present| present.len() < rows as u64);
        let graph = match index {
            None => None,
            Some(bytes) => {
                let is_present = |row| present.as_ref().is_none_or(|present| present.contains(row));
                let graph = FlatGraph::open(path, bytes, distance, dimension, rows, is_present)?;
                let count = present.as_ref().map_or(rows as u64, RoaringBitmap::len);
                if graph.nodes() as u64 != count {
                    let message = format!("{} nodes, expected {count}", graph.nodes());
                    return Err(Error::corrupt(path, 0, message));
                }
                Some(graph)
            }
        };
        let (storage, residency) = (VectorStorage::default(), Residency::default());
        Ok(Self { distance, dimension, rows, vectors: aligned(vectors), present, graph, storage, residency })
    }

    /// The same vectors, kept as their owner wants; `residency` is that of the file they are mapped from.
    pub fn kept(self, storage: VectorStorage, residency: Residency) -> Self {
        match storage {
            VectorStorage::Memory => residency.wanted(),
            VectorStorage::Mapped => {
                // What checking it has read.
                residency.release_all();
                residency.at_random();
            }
        }
        Self { storage, residency, ..self }
    }

    /// Gives back the memory of these rows' original vectors: they have been copied and will hardly be asked for soon.
    pub fn release(&self, rows: Range<u32>) {
        let rows = rows.start as usize..rows.end as usize;
        self.residency.release(place_of_rows(rows, self.dimension.saturating_mul(size_of::<f32>())));
    }

    /// What is there, for statistics.
    pub fn report(&self) -> VectorIndexReport {
        let graph = self.graph.as_ref().map(|graph| {
            let Measured { ef_construction, code_recall, beams, inherited, generation, .. } =
                *graph.measured();
            let int8 = graph.codes().map_or(0, |(codes, _)| codes.len());
            let int4 = graph.int4().map_or(0, |int4| int4.codes.len());
            let bits = graph.bits().map_or(0, |bits| size_of_val(bits.records));
            let codes = int8 + int4 + bits;
            GraphReport {
                m: graph.links_per_node(),
                ef_construct: (ef_construction > 0).then_some(ef_construction),
                quantization: graph.walked_on(),
                code_bytes: codes as u64,
                graph_bytes: graph.len_bytes().saturating_sub(codes) as u64,
                code_recall: (code_recall > 0.0).then_some(code_recall),
                calibration: beams
                    .into_iter()
                    .take_while(|(ef, _)| *ef > 0)
                    .map(|(ef, recall)| CalibratedBeam { recall, ef })
                    .collect(),
                inherited: inherited.into(),
                generation,
            }
        });
        VectorIndexReport { vectors: self.len() as u64, vector_bytes: self.vectors.len() as u64, graph }
    }

    /// The graph, if there is one and it is of this shape.
    pub(crate) fn graph_of(&self, distance: Distance, dimension: usize) -> Option<&FlatGraph> {
        self.graph.as_ref().filter(|_| self.distance == distance && self.dimension == dimension)
    }

    /// Where the original vectors live.
    pub fn storage(&self) -> VectorStorage {
        self.storage
    }

    /// The vector of a row; `None` where there is none.
    pub fn vector(&self, row: u32) -> Option<&[f32]> {
        if self.present.as_ref().is_some_and(|present| !present.contains(row)) {
            return None;
        }
        let start = (row as usize).checked_mul(self.dimension)?;
        self.floats().get(start..start.checked_add(self.dimension)?)
    }

    /// Whether there is a graph; without one every search compares all rows.
    pub fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// Rows that have a vector.
    pub fn len(&self) -> usize {
        self.present.as_ref().map_or(self.rows, |present| present.len() as usize)
    }

    /// Rows of `allow` (`None`: of all) that have a vector.
    pub(crate) fn len_among(&self, allow: Option<&RoaringBitmap>) -> usize {
        match (allow, &self.present) {
            (None, _) => self.len(),
            (Some(allow), Some(present)) => allow.intersection_len(present) as usize,
            // A caller's bitmap may reach behind the last row.
            (Some(allow), None) => allow.range_cardinality(0..self.rows as u32) as usize,
        }
    }

    /// Whether no row has a vector.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `k` nearest rows among `allow` (`None`: all), best first, and how they were found.
    ///
    /// Fewer than `k` come back only when fewer have a vector, are allowed, and reach the floor, if there is one. A query
    /// made for another space finds nothing.
    pub fn search(
        &self,
        query: &PreparedQuery,
        k: usize,
        params: &SearchParams,
        allow: Option<&RoaringBitmap>,
    ) -> (Vec<Scored>, Strategy) {
        let (rows, allowed) = (self.len(), self.len_among(allow));
        let allow = allow.filter(|_| allowed < rows);
        let exact = |reason| {
            let strategy = Strategy::Exact { rows: allowed as u64, reason };
            (self.scan(query, k, allow), strategy)
        };
        if !self.fits(query) || k == 0 || allowed == 0 {
            return (Vec::new(), Strategy::Exact { rows: 0, reason: ExactReason::FewRows });
        }
        if params.exact {
            return exact(ExactReason::Requested);
        }
        let Some(graph) = &self.graph else { return exact(ExactReason::NoGraph) };
        // Under dot lengths differ, and how far four-bit codes of the longest, which score best, are off isn't known well.
        let floor = params.floor.filter(|_| self.distance != Distance::Dot);
        let floor = floor.map(|score| distance::of_score(self.distance, score));
        let search = Search { segment: self, graph, query, k, floor };
        let situation = Situation {
            k,
            ef: params.ef,
            calibrated: match params.ef {
                Some(_) => None,
                None => beam_for(params.recall_target, &graph.measured().beams),
            },
            rows,
            allowed,
            dimension: self.dimension,
            walked_on: graph.walked_on(),
            bits: graph.bits().is_some(),
        };
        let mut plan = situation.plan();
        let mut held = Vec::new();
        for _ in 0..MOST_PLANS {
            let (allowed, rows) = (allowed as u64, rows as u64);
            let (found, strategy) = match (plan, allow) {
                (Plan::Walk { ef }, _) => (search.walk(ef), Strategy::Graph { ef }),
                (Plan::ScanBits, allow) => match graph.bits() {
                    Some(bits) => (search.scan_bits(&bits, allow), Strategy::Codes { rows: allowed }),
                    None => return exact(ExactReason::FewRows),
                },
                (Plan::Widened { ef }, Some(allow)) => match search.walk_widening(ef, &situation, allow) {
                    Ok((found, ef)) => (found, Strategy::GraphSkipping { ef, allowed, rows }),
                    Err((next, met)) => {
                        (plan, held) = (next, met);
                        continue;
                    }
                },
                (Plan::Among { ef, budget }, Some(allow)) => {
                    match search.walk_among(ef, budget, allow, &held) {
                        Some((found, ef)) => (found, Strategy::GraphAmong { ef, allowed, rows }),
                        None => {
                            plan = situation.scan().0;
                            continue;
                        }
                    }
                }
                _ => return exact(ExactReason::FewRows),
            };
            if found.above_floor || found.nearest.len() as u64 >= (k as u64).min(allowed) {
                return (found.nearest, strategy);
            }
            break;
        }
        exact(ExactReason::WalkGivenUp)
    }

    /// The true `k` nearest of each query among `allow` (`None`: all), best first. Vectors are read once for all queries,
    /// which makes these faster together than one by one. Queries made for another space find nothing.
    pub fn nearest_exact(
        &self,
        queries: &[&PreparedQuery],
        k: usize,
        allow: Option<&RoaringBitmap>,
    ) -> Vec<Vec<Scored>> {
        if !queries.iter().all(|query| self.fits(query)) {
            return queries.iter().map(|_| Vec::new()).collect();
        }
        let both = allow.zip(self.present.as_ref()).map(|(allow, present)| allow & present);
        exact::scan_many(queries, self.floats(), both.as_ref().or(allow).or(self.present.as_ref()), k)
    }

    /// The true `k` nearest among `allow`, best first, without reading every vector: what lies beyond them by all that
    /// estimates are ever off is ruled out by its bits. `None` without bit codes.
    pub(crate) fn nearest_by_bounds(
        &self,
        query: &PreparedQuery,
        k: usize,
        allow: &RoaringBitmap,
    ) -> Option<Vec<Scored>> {
        let graph = self.graph.as_ref().filter(|_| self.fits(query))?;
        let bits = graph.bits()?;
        Some(Search { segment: self, graph, query, k, floor: None }.nearest_by_bounds(&bits, allow))
    }

    /// Whether [`Self::nearest_by_bounds`] gives an answer.
    pub(crate) fn has_bits(&self) -> bool {
        self.graph.as_ref().is_some_and(|graph| graph.bits().is_some())
    }

    /// Whether a query was made for this space.
    fn fits(&self, query: &PreparedQuery) -> bool {
        query.vector().len() == self.dimension && query.distance() == self.distance
    }

    fn scan(&self, query: &PreparedQuery, k: usize, allow: Option<&RoaringBitmap>) -> Vec<Scored> {
        match (allow, &self.present) {
            (Some(allow), Some(present)) => exact::scan(query, self.floats(), Some(&(allow & present)), k),
            (Some(rows), None) | (None, Some(rows)) => exact::scan(query, self.floats(), Some(rows), k),
            (None, None) => exact::scan(query, self.floats(), None, k),
        }
    }

    fn floats(&self) -> &[f32] {
        bytemuck::try_cast_slice(&self.vectors).unwrap_or_default()
    }
}

/// One search of one graph.
struct Search<'a> {
    segment: &'a SegmentVectors,
    graph: &'a FlatGraph,
    query: &'a PreparedQuery,
    k: usize,
    /// Distance of the last of `k` hits that are known from elsewhere.
    floor: Option<f32>,
}

/// What a search found.
struct Found {
    /// At most `k`, best first.
    nearest: Vec<Scored>,
    /// Whether more was held, all of it below the floor.
    above_floor: bool,
}

impl<'a> Search<'a> {
    /// Walks for the nearest of all.
    fn walk(&self, ef: usize) -> Found {
        self.with_target(|target, unit, scratch| {
            let links = self.graph.links();
            let near = descend(&links, target, self.graph.entry(), self.graph.highest_level(), 1, scratch);
            match self.slack(ef, unit) {
                Some(slack) => beam_search_with_slack(&links, target, near, ef, slack, scratch),
                None => beam_search(&links, target, near, ef, 0, scratch),
            }
            self.rescore((target, unit), scratch.pool.found(), 0)
        })
    }

    /// What a walk looks at behind its beam: as far as a beam reaches among neighbours that lie close together.
    fn slack(&self, ef: usize, unit: f32) -> Option<Slack> {
        let zero = distance::to_itself(self.segment.distance)? / unit;
        let hits = self.k.max(NEAREST);
        let factor = (ef as f32 / hits as f32).powf(self.graph.measured().spread);
        (factor > 1.0).then_some(Slack { hits, factor, zero })
    }

    /// Walks for the nearest of all, with a beam that is widened from `ef` on until it holds enough of `allow`, and keeps
    /// these; also, how wide it became. Another plan when a wider beam would cost more than that, and what it held.
    fn walk_widening(
        &self,
        ef: usize,
        situation: &Situation,
        allow: &RoaringBitmap,
    ) -> Result<(Found, usize), (Plan, Vec<Candidate>)> {
        self.with_target(|target, unit, scratch| {
            let (links, rows) = (self.graph.links(), self.graph.rows());
            let near = descend(&links, target, self.graph.entry(), self.graph.highest_level(), 1, scratch);
            let mut ef = ef;
            beam_search_to_widen(&links, target, near, ef, scratch);
            loop {
                let is_allowed = |found: &Candidate| allow.contains(rows.row(found.node));
                let held: Vec<Candidate> = scratch.pool.found().filter(is_allowed).collect();
                match situation.plan_held(ef, held.len()) {
                    None => {
                        return Ok((self.rescore((target, unit), held.into_iter(), RESCORE_FILTERED), ef));
                    }
                    Some(Plan::Widened { ef: wider }) => {
                        ef = wider;
                        widen_beam(&links, target, ef, scratch);
                    }
                    Some(other) => return Err((other, held)),
                }
            }
        })
    }

    /// Walks among `allow`, of which `held` are known to be near; also, how wide the beam was. `None` when the budget did not
    /// suffice.
    fn walk_among(
        &self,
        ef: usize,
        budget: usize,
        allow: &RoaringBitmap,
        held: &[Candidate],
    ) -> Option<(Found, usize)> {
        self.with_target(|target, unit, scratch| {
            let links = self.graph.links();
            let rows = self.graph.rows();
            let near = descend(&links, target, self.graph.entry(), self.graph.highest_level(), 1, scratch);
            beam_search(&links, target, near, AMONG_START_EF, 0, scratch);
            // Asked many times a node: a plain bit is cheaper than a compressed one.
            let bits = RowBits::of(allow, self.segment.rows);
            let allowed = |node| bits.contains(rows.row(node));
            let met = scratch.pool.found().chain(held.iter().copied()).map(|found| found.node);
            let mut starts: Vec<u32> = met.collect();
            let mut ef = ef;
            if scratch.pool.found().any(|found| allowed(found.node)) {
                starts.extend(spread(allow, FILTER_SEEDS).filter_map(|row| rows.node(row)));
            } else {
                let far: Vec<u32> = bits.spread(FAR_SEEDS).filter_map(|row| rows.node(row)).collect();
                starts.extend(target.nearest(&far, FILTER_SEEDS as usize));
                ef = ef.saturating_mul(AMONG_FAR_FACTOR).min(MAX_EF.max(self.k));
            }
            search_among(&links, target, &starts, ef, budget, allowed, scratch)
                .then(|| (self.rescore((target, unit), scratch.pool.found(), RESCORE_FILTERED), ef))
        })
    }

    /// Scans the bit codes of `allow` for what may be nearest, orders that by code, and the best of it by f32.
    fn scan_bits(&self, bits: &BitCodes<'_>, allow: Option<&RoaringBitmap>) -> Found {
        self.with_target(|target, unit, scratch| {
            let target = match target {
                Target::Bits(..) => &Target::Float(self.floats(), self.query.vector()),
                better => better,
            };
            let found = self.not_ruled_out(bits, ERRORS, allow, (target, unit), scratch);
            self.rescore((target, unit), found.into_iter(), RESCORE_FILTERED)
        })
    }

    /// Scans the bit codes of `allow` for whatever may be nearest, and orders that by f32.
    fn nearest_by_bounds(&self, bits: &BitCodes<'_>, allow: &RoaringBitmap) -> Vec<Scored> {
        let floats = Target::Float(self.floats(), self.query.vector());
        let mut scratch = SCRATCH.take();
        let judge = (&floats, 1.0);
        let found = self.not_ruled_out(bits, ERRORS_OF_TRUTH, Some(allow), judge, &mut scratch);
        SCRATCH.set(scratch);
        self.rescore(judge, found.into_iter(), 0).nearest
    }

    /// The rows of `allow` that may be among the nearest, as estimates tell that are off by `errors` standard errors; nearest
    /// first by the distances of `judge`, of which it says also what a unit is worth.
    fn not_ruled_out(
        &self,
        bits: &BitCodes<'_>,
        errors: f32,
        allow: Option<&RoaringBitmap>,
        judge: (&Target<'_>, f32),
        scratch: &mut Scratch,
    ) -> Vec<Candidate> {
        let nodes = self.graph.nodes() as u32;
        let Scratch { bit_query, scan, .. } = scratch;
        bits.prepare(self.query.rotated(), bit_query);
        let mut found = match allow {
            None => bits.scan(bit_query, errors, taking(0..nodes), self.k, judge, scan),
            Some(allow) => {
                let mut rows = allow.iter();
                let map = self.graph.rows();
                let next = |places: &mut [u32]| loop {
                    let rows = rows.next_many(places).len();
                    let nodes = map.to_nodes(places.get_mut(..rows).unwrap_or_default(), nodes);
                    // Rows without a node may fill a whole slice, which is not the end.
                    if nodes > 0 || rows == 0 {
                        return nodes;
                    }
                };
                bits.scan(bit_query, errors, next, self.k, judge, scan)
            }
        };
        found.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance));
        found
    }

    /// Runs a search with distances from the query, on codes if there are and they fit the query, and with what a unit of
    /// these is worth.
    fn with_target<T>(&self, search: impl FnOnce(&Target<'_>, f32, &mut Scratch) -> T) -> T {
        let walked = Walked {
            floats: self.floats(),
            int4: self.graph.int4(),
            int8: self.graph.codes(),
            bits: self.graph.bits(),
        };
        let mut scratch = SCRATCH.take();
        let mut memory = std::mem::take(&mut scratch.target);
        let (target, unit) = walked.target(self.query, &mut memory);
        let result = search(&target, unit, &mut scratch);
        scratch.target = memory;
        SCRATCH.set(scratch);
        result
    }

    /// The `k` best by f32 among the candidates that may belong to them. Codes misjudge a distance by a known error, so
    /// that only those within it of the k-th and of the floor need to be looked at; at most `at_least` or a multiple of `k`
    /// are.
    fn rescore(
        &self,
        (target, unit): (&Target<'_>, f32),
        found: impl Iterator<Item = Candidate>,
        at_least: usize,
    ) -> Found {
        let floats = self.floats();
        let most = target.most_rescored(self.k).max(at_least);
        let mut nodes: Vec<u32> = Vec::with_capacity(self.k.saturating_mul(2).min(most));
        let mut found = found.take(most).peekable();
        let floor = self.floor.zip(found.peek()).map(|(floor, first)| target.bound(floor, unit, first.node));
        let (mut farthest, mut above_floor) = (floor.unwrap_or(f32::INFINITY), false);
        for candidate in found {
            if candidate.distance > farthest {
                above_floor = floor.is_some();
                break;
            }
            nodes.push(candidate.node);
            kernels::prefetch(floats.vector(candidate.node));
            if nodes.len() == self.k {
                farthest =
                    farthest.min(candidate.distance + target.reach(candidate.node, candidate.distance));
            }
        }
        let score = |node: &u32| Scored {
            row: floats.rows.row(*node),
            score: distance::score(floats.distance, self.query.vector(), floats.vector(*node)),
        };
        let mut scored: Vec<Scored> = nodes.iter().map(score).collect();
        scored.sort_unstable_by(exact::best_first);
        scored.truncate(self.k);
        Found { nearest: scored, above_floor }
    }

    fn floats(&self) -> Floats<'a> {
        let SegmentVectors { distance, dimension, .. } = *self.segment;
        Floats { distance, dimension, vectors: self.segment.floats(), rows: self.row_map() }
    }

    fn row_map(&self) -> RowMap<'a> {
        self.graph.rows()
    }
}

/// At most `most` rows of a bitmap, evenly spread over it.
fn spread(rows: &RoaringBitmap, most: u64) -> impl Iterator<Item = u32> + '_ {
    let count = rows.len();
    let wanted = count.min(most);
    (0..wanted).filter_map(move |i| rows.select((i * count / wanted) as u32))
}
