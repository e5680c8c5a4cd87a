//! Which way a search goes: by scanning rows, or by walking the graph with or without a filter.
//!
//! A cost model over exact cardinalities, in nanoseconds of one core; only the ratios matter. It must not know vectors or
//! files; a plan is plain data.

use crate::schema::Quantization;
use crate::search::MAX_EF;

/// Beam of an unfiltered search when neither the request nor a calibration says.
const DEFAULT_EF: usize = 64;
/// Places of the beam per hit wanted, at least, where the request doesn't say.
const EF_PER_HIT: usize = 2;
/// Distances computed in an unfiltered walk: so many...
const DISTANCES_OF_A_WALK: f64 = 100.0;
/// ...and so many per place of the beam.
const DISTANCES_PER_BEAM: f64 = 7.0;
/// A distance in a walk: so much for getting there...
const VISIT_COST: f64 = 40.0;
/// ...and so much per component of a code, which is fetched from anywhere in memory.
const CODE_COST: f64 = 0.13;
/// The same of a code of half the length.
const INT4_COST: f64 = 0.06;
/// The same of an f32 vector, four times as long.
const FLOAT_COST: f64 = 0.5;
/// Scanning a row by bits: so much a row and a component.
const BIT_SCAN_COST: (f64, f64) = (4.0, 0.02);
/// A scan by bits compares its candidates again.
const BIT_RESCORE_COST: f64 = 15_000.0;
/// With fewer rows per hit wanted, most would have to be compared again.
const BIT_SCAN_ROWS_PER_HIT: usize = 8;
/// Scanning a row by its vector, per component.
const FLOAT_SCAN_COST: f64 = 0.4;
/// A beam is widened by this beyond what the filter's share asks for: few more of the nearest pass than the share says.
const WIDENING: f64 = 1.25;
/// A beam has held enough when so many of the places wanted are allowed...
const HELD_SHARE: f64 = 0.95;
/// ...or so many, once it is as wide as the filter's share asks for.
const HELD_SHARE_WIDENED: f64 = 0.7;
/// A beam that will be widened has one place of so many at first.
const FIRST_PLACE_OF: usize = 4;
/// Of so many places at least one must be allowed for their share to be a guide: fewer say only that the filter goes against
/// the query.
const GUIDING_PLACE_OF: usize = 20;
/// A walk among allowed nodes has a beam narrower by this: of each node it looks at more neighbours.
const AMONG_EF: f64 = 0.75;
/// Distances computed in such a walk: so many to get there from rows spread over all, and so many per place of the beam.
const AMONG_DISTANCES: (f64, f64) = (1_100.0, 14.0);
/// Allowed nodes found in such a walk per place of the beam...
const AMONG_FOUND_PER_BEAM: f64 = 32.0;
/// ...and what looking at one node costs, of which those that are not allowed are the more the fewer are.
const LOOK_COST: f64 = 4.0;
/// Where fewer pass, two hops no longer hold the allowed nodes together.
const AMONG_SELECTIVITY: f64 = 0.08;
/// ...while against a query they may be tried as long as they are dense where they are.
const AMONG_SELECTIVITY_AGAINST: f64 = 0.04;
/// A walk that looks at more nodes than a scan by this factor is given up for the scan.
const BUDGET_FACTOR: f64 = 1.0;

/// What is known before a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// Hits wanted.
    pub(crate) k: usize,
    /// Beam asked for.
    pub(crate) ef: Option<usize>,
    /// Beam that should reach the recall aimed at.
    pub(crate) calibrated: Option<usize>,
    /// Rows with a vector.
    pub(crate) rows: usize,
    /// Of these, the rows that may be returned.
    pub(crate) allowed: usize,
    /// Components of a vector.
    pub(crate) dimension: usize,
    /// What the graph is walked on.
    pub(crate) walked_on: Quantization,
    /// Whether rows can be scanned by bits.
    pub(crate) bits: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Scan the allowed rows.
    Scan,
    /// Scan the bit codes of the allowed rows.
    ScanBits,
    /// Walk; every row may be returned.
    Walk { ef: usize },
    /// Walk with a beam of `ef`, and ask [`Situation::plan_held`] whether it holds enough allowed rows.
    Widened { ef: usize },
    /// Walk among allowed rows; after looking at `budget` nodes, scan.
    Among { ef: usize, budget: usize },
}

impl Situation {
    /// Chooses the cheapest way that holds recall.
    pub(crate) fn plan(&self) -> Plan {
        if self.allowed <= self.k {
            return Plan::Scan;
        }
        let (scan, scan_cost) = self.scan();
        if self.allowed >= self.rows {
            let walk = Plan::Walk { ef: self.beam() };
            return if scan_cost <= self.walk_cost(self.beam()) { scan } else { walk };
        }
        let ef = self.widened(self.selectivity());
        let widened = if ef > MAX_EF { f64::INFINITY } else { self.walk_cost(ef) };
        let (among, among_cost) = self.among(AMONG_SELECTIVITY, scan_cost);
        if scan_cost <= widened.min(among_cost) {
            scan
        } else if widened <= among_cost {
            // Narrow at first: the filter may go with the query, so that all of the nearest pass, or against it.
            Plan::Widened { ef: (self.beam() / FIRST_PLACE_OF).max(self.k) }
        } else {
            among
        }
    }

    /// Chooses once a beam of `ef` nodes held `held` allowed ones; `None`: they are enough.
    pub(crate) fn plan_held(&self, ef: usize, held: usize) -> Option<Plan> {
        let share = if ef < self.widened(self.selectivity()) { HELD_SHARE } else { HELD_SHARE_WIDENED };
        if held >= self.k && held as f64 >= self.beam() as f64 * share {
            return None;
        }
        let (scan, scan_cost) = self.scan();
        let against = held.saturating_mul(GUIDING_PLACE_OF) < ef;
        let wider = match held as f64 / ef as f64 {
            // With the query: as if there was no filter.
            share if share >= HELD_SHARE => self.beam(),
            share => self.widened(share),
        }
        .max(ef + 1);
        let wider_cost = if against || wider > MAX_EF {
            f64::INFINITY
        } else {
            self.walk_cost(wider) - self.walk_cost(ef)
        };
        let (among, among_cost) = self.among(AMONG_SELECTIVITY_AGAINST, scan_cost);
        Some(if scan_cost <= wider_cost.min(among_cost) {
            scan
        } else if wider_cost <= among_cost {
            Plan::Widened { ef: wider }
        } else {
            among
        })
    }

    /// A walk among allowed rows and its cost, which is infinite where fewer than `least` of all pass.
    fn among(&self, least: f64, scan_cost: f64) -> (Plan, f64) {
        let ef = ((self.beam() as f64 * AMONG_EF) as usize).clamp(self.k, MAX_EF.max(self.k));
        let budget = (scan_cost * BUDGET_FACTOR / self.distance_cost()) as usize;
        let (to_there, per_beam) = AMONG_DISTANCES;
        let looks = ef as f64 * AMONG_FOUND_PER_BEAM / self.selectivity();
        let cost = (to_there + ef as f64 * per_beam) * self.distance_cost() + looks * LOOK_COST;
        (Plan::Among { ef, budget }, if self.selectivity() < least { f64::INFINITY } else { cost })
    }

    /// The cheaper way to look at all allowed rows, and its cost.
    pub(crate) fn scan(&self) -> (Plan, f64) {
        let (allowed, dimension) = (self.allowed as f64, self.dimension as f64);
        let vectors = allowed * FLOAT_SCAN_COST * dimension;
        let (row, component) = BIT_SCAN_COST;
        let bits = BIT_RESCORE_COST + allowed * (row + component * dimension);
        // Bits choose a part of the rows, for which there have to be several times as many as hits.
        let many = self.allowed > self.k.saturating_mul(BIT_SCAN_ROWS_PER_HIT);
        if self.bits && many && bits < vectors { (Plan::ScanBits, bits) } else { (Plan::Scan, vectors) }
    }

    /// A beam that holds enough allowed rows when this share of the nearest is allowed.
    fn widened(&self, share: f64) -> usize {
        (self.beam() as f64 / share.clamp(f64::MIN_POSITIVE, 1.0) * WIDENING).min(f64::from(u32::MAX))
            as usize
    }

    /// Beam of an unfiltered search.
    pub(crate) fn beam(&self) -> usize {
        let least = self.k.saturating_mul(EF_PER_HIT);
        let chosen = self.ef.unwrap_or_else(|| self.calibrated.unwrap_or(DEFAULT_EF).max(least));
        chosen.clamp(1, MAX_EF).max(self.k)
    }

    fn selectivity(&self) -> f64 {
        self.allowed as f64 / self.rows.max(1) as f64
    }

    fn distance_cost(&self) -> f64 {
        let component = match self.walked_on {
            Quantization::None => FLOAT_COST,
            Quantization::Int4 => INT4_COST,
            Quantization::Auto | Quantization::Int8 | Quantization::Binary => CODE_COST,
        };
        VISIT_COST + self.dimension as f64 * component
    }

    fn walk_cost(&self, ef: usize) -> f64 {
        (DISTANCES_OF_A_WALK + ef as f64 * DISTANCES_PER_BEAM) * self.distance_cost()
    }
}

/// How a search went; part of `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All rows that may be returned were compared.
    Exact {
        /// How many.
        rows: u64,
        /// Why.
        reason: ExactReason,
    },
    /// The graph was walked; every row may be returned.
    Graph {
        /// Width of the beam.
        ef: usize,
    },
    /// The graph was walked through all rows; those that may not be returned were skipped.
    GraphSkipping {
        /// Width of the beam.
        ef: usize,
        /// Rows that may be returned.
        allowed: u64,
        /// Rows with a vector.
        rows: u64,
    },
    /// The graph was walked over rows that may be returned, looking through the others at their neighbours.
    GraphAmong {
        /// Width of the beam.
        ef: usize,
        /// Rows that may be returned.
        allowed: u64,
        /// Rows with a vector.
        rows: u64,
    },
    /// All rows that may be returned were compared by codes, and the best of them by f32.
    Codes {
        /// How many.
        rows: u64,
    },
    /// The live graph was walked and the rows that it has not reached were compared.
    Live {
        /// Width of the beam.
        ef: usize,
        /// Rows in the graph.
        graph_rows: u64,
        /// Rows compared.
        scanned_rows: u64,
    },
}

/// Why all rows were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExactReason {
    /// The request asked for it.
    Requested,
    /// There is no graph.
    NoGraph,
    /// So few rows may be returned that comparing them costs less than a walk.
    FewRows,
    /// A walk found too little, or cost more than comparing.
    WalkGivenUp,
}

impl Strategy {
    /// Whether the recall aimed at decided how wide to walk.
    pub(crate) fn follows_a_target(&self) -> bool {
        matches!(self, Self::Graph { .. } | Self::GraphSkipping { .. } | Self::GraphAmong { .. })
    }

    /// A line for `explain`.
    pub fn describe(&self) -> String {
        match self {
            Self::Exact { rows, reason } => {
                let reason = match reason {
                    ExactReason::Requested => "as requested",
                    ExactReason::NoGraph => "no graph",
                    ExactReason::FewRows => "few rows pass",
                    ExactReason::WalkGivenUp => "the graph walk was given up",
                };
                format!("exact scan of {rows} rows ({reason})")
            }
            Self::Graph { ef } => format!("graph, ef {ef}"),
            Self::GraphSkipping { ef, allowed, rows } => {
                format!("graph skipping filtered rows, ef {ef}, {allowed} of {rows} rows pass")
            }
            Self::GraphAmong { ef, allowed, rows } => {
                format!("graph among rows that pass, ef {ef}, {allowed} of {rows} rows pass")
            }
            Self::Codes { rows } => format!("scan of {rows} rows by code, the best compared exactly"),
            Self::Live { ef, graph_rows, scanned_rows } => {
                format!("live graph of {graph_rows} rows, ef {ef}, and scan of {scanned_rows} newer rows")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn situation(rows: usize, allowed: usize, k: usize) -> Situation {
        Situation {
            k,
            ef: None,
            calibrated: None,
            rows,
            allowed,
            dimension: 384,
            walked_on: Quantization::Int8,
            bits: true,
        }
    }

    #[test]
    fn the_way_changes_with_the_share_that_passes() {
        let plan = |rows, allowed| situation(rows, allowed, 10).plan();
        assert_eq!(plan(200_000, 200_000), Plan::Walk { ef: 64 });
        assert_eq!(plan(200_000, 160_000), Plan::Widened { ef: 16 });
        assert_eq!(plan(200_000, 100_000), Plan::Widened { ef: 16 });
        assert!(matches!(plan(200_000, 30_000), Plan::Among { ef: 48, .. }));
        assert_eq!(plan(200_000, 10_000), Plan::ScanBits);
        assert_eq!(plan(200_000, 2_000), Plan::ScanBits);
        assert_eq!(plan(200_000, 50), Plan::Scan);
        assert_eq!(plan(200_000, 0), Plan::Scan);
        // A tenth is scanned while it is small, and walked where it is many; of a hundredth the walk would hold too little.
        assert_eq!(plan(20_000, 2_000), Plan::ScanBits);
        assert!(matches!(plan(20_000_000, 2_000_000), Plan::Among { ef: 48, .. }));
        assert_eq!(plan(200_000_000, 2_000_000), Plan::Widened { ef: 16 });
        // Where beams are narrow, getting to the rows that pass costs most of a walk among them.
        let narrow = |allowed| {
            let beam = Situation { calibrated: Some(47), ..situation(100_000, allowed, 10) };
            Situation { walked_on: Quantization::Int4, ..beam }.plan()
        };
        assert_eq!([narrow(5_000), narrow(10_000)], [Plan::ScanBits; 2]);
        assert!(matches!(narrow(20_000), Plan::Among { ef: 35, .. }));
        assert_eq!(narrow(50_000), Plan::Widened { ef: 11 });
        let without_bits = |allowed| Situation { bits: false, ..situation(200_000, allowed, 10) }.plan();
        assert_eq!(without_bits(100), Plan::Scan);
        assert!(matches!(without_bits(20_000), Plan::Among { .. }));
    }

    #[test]
    fn what_a_beam_held_tells_whether_the_filter_goes_against_the_query() {
        let half = situation(200_000, 100_000, 10);
        // As wide as half of the rows ask for: what passes is enough, or tells how wide is.
        assert_eq!(half.plan_held(160, 80), None);
        assert_eq!(half.plan_held(160, 60), None);
        assert_eq!(half.plan_held(160, 40), Some(Plan::Widened { ef: 320 }));
        assert!(matches!(half.plan_held(160, 0), Some(Plan::Among { ef: 48, .. })));
        // Narrow: all pass, some, none.
        assert_eq!(half.plan_held(16, 16), Some(Plan::Widened { ef: 64 }));
        assert_eq!(half.plan_held(64, 63), None);
        assert_eq!(half.plan_held(16, 8), Some(Plan::Widened { ef: 160 }));
        assert!(matches!(half.plan_held(16, 0), Some(Plan::Among { ef: 48, .. })));
        let few = situation(200_000, 6_000, 10);
        assert_eq!(few.plan_held(160, 0), Some(Plan::ScanBits));
    }

    #[test]
    fn a_beam_is_widened_until_it_holds_the_hits_or_something_else_is_cheaper() {
        for (k, ef) in [(10, None), (100, Some(100)), (500, None), (10, Some(MAX_EF))] {
            let most = Situation { ef, ..situation(200_000, 190_000, k) };
            for held_of in [1, 2, 3, 20, 100] {
                let Plan::Widened { ef: mut beam } = most.plan() else { continue };
                while let Some(Plan::Widened { ef: wider }) = most.plan_held(beam, beam / held_of) {
                    assert!(wider > beam, "{k}, {ef:?}, {held_of}");
                    beam = wider;
                }
                let enough = most.plan_held(beam, beam / held_of).is_none();
                assert!(!enough || beam / held_of >= k, "{k}, {ef:?}, {held_of}");
            }
        }
    }

    #[test]
    fn an_aim_is_met_by_the_beam_that_met_it_before() {
        let plan = |calibrated, ef, k| Situation { calibrated, ef, ..situation(200_000, 200_000, k) }.plan();
        assert_eq!(plan(Some(40), None, 10), Plan::Walk { ef: 40 });
        assert_eq!(plan(Some(40), None, 100), Plan::Walk { ef: 200 }, "no less than twice the hits");
        assert_eq!(plan(Some(40), Some(100), 10), Plan::Walk { ef: 100 }, "what the request says");
    }

    #[test]
    fn beams_follow_the_request_within_bounds() {
        let ef = |k, ef| match (Situation { ef, ..situation(10_000_000, 10_000_000, k) }).plan() {
            Plan::Walk { ef } => ef,
            other => panic!("{other:?}"),
        };
        assert_eq!(ef(10, None), 64);
        assert_eq!(ef(100, None), 200);
        assert_eq!(ef(10, Some(20)), 20);
        assert_eq!(ef(10, Some(3)), 10);
        assert_eq!(ef(10, Some(usize::MAX)), MAX_EF);
        assert_eq!(ef(20_000, None), 20_000);
    }

    #[test]
    fn a_large_result_of_a_small_segment_is_scanned() {
        assert_eq!(situation(5_000, 5_000, 1_000).plan(), Plan::Scan);
        assert_eq!(situation(5, 5, 10).plan(), Plan::Scan);
    }

    #[test]
    fn every_strategy_reads_as_a_line() {
        let line = Strategy::Exact { rows: 12, reason: ExactReason::FewRows }.describe();
        assert_eq!(line, "exact scan of 12 rows (few rows pass)");
        let line = Strategy::GraphAmong { ef: 128, allowed: 10, rows: 100 }.describe();
        assert_eq!(line, "graph among rows that pass, ef 128, 10 of 100 rows pass");
    }
}
