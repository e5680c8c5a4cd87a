//! Which way a search goes: by scanning rows, or by walking the graph with or without a filter.
//!
//! A cost model over exact cardinalities, in units of one distance between codes. It must not know vectors or files; a plan
//! is plain data.

use crate::search::MAX_EF;

/// Beam of an unfiltered search when the request doesn't say, at least.
const DEFAULT_EF: usize = 64;
/// ...and a multiple of the hits wanted.
const EF_PER_HIT: usize = 2;
/// Distances computed per place of the beam in an unfiltered walk.
const DISTANCES_PER_BEAM: f64 = 20.0;
/// Cost of scanning a row: four bytes a component where a code has one, but in order.
const SCAN_COST: f64 = 3.0;
/// Cost of a distance in a walk without codes.
const FLOAT_COST: f64 = 4.0;
/// Price of expanding over two hops, against a plain walk of the same beam.
const TWO_HOP_FACTOR: f64 = 2.5;
/// Where fewer pass, two hops no longer hold the allowed nodes together.
const TWO_HOP_SELECTIVITY: f64 = 0.02;
/// Two hops need at least this part of the overall selectivity among the nearest: where the filter goes against the query,
/// the nearest allowed nodes lie scattered at the rim of their region, badly linked among each other.
const TWO_HOP_LOCAL_SHARE: f64 = 1.0 / 5.0;
/// The beam of a two-hop walk is wider: its graph is sparser.
const TWO_HOP_EF: usize = 2;
/// Where more pass, skipping costs little more than walking, and nothing needs to be probed.
const PROBE_SELECTIVITY: f64 = 0.5;
/// Allowed nodes that a probe should meet if the filter has nothing to do with the query.
const PROBE_EXPECTED: f64 = 10.0;
/// Beam of a probe.
const PROBE_BEAM: (usize, usize) = (64, 512);
/// A walk that spends this many times the cost of a scan is given up for the scan.
const BUDGET_FACTOR: f64 = 2.0;

/// What is known before a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// Hits wanted.
    pub(crate) k: usize,
    /// Beam asked for.
    pub(crate) ef: Option<usize>,
    /// Rows with a vector.
    pub(crate) rows: usize,
    /// Of these, the rows that may be returned.
    pub(crate) allowed: usize,
    /// Whether the graph has codes.
    pub(crate) codes: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Scan the allowed rows.
    Scan,
    /// Walk; every row may be returned.
    Walk { ef: usize },
    /// Find the `beam` nearest of all and count the allowed among them, then ask [`Situation::plan_probed`].
    Probe { beam: usize },
    /// Walk and skip, or over two hops; after `budget` distances, scan.
    Filtered { ef: usize, two_hops: bool, budget: usize },
}

impl Situation {
    /// Chooses the cheapest way that holds recall.
    pub(crate) fn plan(&self) -> Plan {
        if self.allowed <= self.k {
            return Plan::Scan;
        }
        if self.allowed >= self.rows {
            return if self.scan_cost() <= self.walk_cost() {
                Plan::Scan
            } else {
                Plan::Walk { ef: self.beam() }
            };
        }
        let selectivity = self.selectivity();
        if self.scan_cost() <= self.walk_cost() / selectivity.max(PROBE_SELECTIVITY) {
            return Plan::Scan;
        }
        if selectivity >= PROBE_SELECTIVITY {
            return self.filtered(self.beam(), false);
        }
        let beam = ((PROBE_EXPECTED / selectivity) as usize).clamp(PROBE_BEAM.0, PROBE_BEAM.1);
        Plan::Probe { beam }
    }

    /// Chooses once it is known how many of the `probed` nearest are allowed.
    pub(crate) fn plan_probed(&self, near_allowed: usize, probed: usize) -> Plan {
        let local = near_allowed as f64 / probed.max(1) as f64;
        let selectivity = self.selectivity();
        // Near the query the filter may pass more or less than elsewhere; a walk that skips meets both.
        let skip = self.walk_cost() / local.min(1.0);
        let apt = selectivity >= TWO_HOP_SELECTIVITY && local >= selectivity * TWO_HOP_LOCAL_SHARE;
        let hops = if apt { self.walk_cost() * TWO_HOP_FACTOR } else { f64::INFINITY };
        if self.scan_cost() <= skip.min(hops) {
            Plan::Scan
        } else if hops < skip {
            self.filtered((self.beam() * TWO_HOP_EF).min(MAX_EF.max(self.k)), true)
        } else {
            self.filtered(self.beam(), false)
        }
    }

    fn filtered(&self, ef: usize, two_hops: bool) -> Plan {
        let budget = (self.scan_cost() * BUDGET_FACTOR / self.distance_cost()) as usize;
        Plan::Filtered { ef, two_hops, budget }
    }

    fn beam(&self) -> usize {
        let chosen = self.ef.unwrap_or(DEFAULT_EF.max(self.k.saturating_mul(EF_PER_HIT)));
        chosen.clamp(1, MAX_EF).max(self.k)
    }

    fn selectivity(&self) -> f64 {
        self.allowed as f64 / self.rows.max(1) as f64
    }

    fn distance_cost(&self) -> f64 {
        if self.codes { 1.0 } else { FLOAT_COST }
    }

    fn scan_cost(&self) -> f64 {
        self.allowed as f64 * SCAN_COST
    }

    /// An unfiltered walk.
    fn walk_cost(&self) -> f64 {
        self.beam() as f64 * DISTANCES_PER_BEAM * self.distance_cost()
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
    GraphTwoHop {
        /// Width of the beam.
        ef: usize,
        /// Rows that may be returned.
        allowed: u64,
        /// Rows with a vector.
        rows: u64,
    },
    /// All rows that may be returned were compared by int8 codes, and the best of them by f32.
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
            Self::GraphTwoHop { ef, allowed, rows } => {
                format!("graph over two hops, ef {ef}, {allowed} of {rows} rows pass")
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
        Situation { k, ef: None, rows, allowed, codes: true }
    }

    #[test]
    fn the_way_changes_with_the_share_that_passes() {
        let plan = |rows, allowed| situation(rows, allowed, 10).plan();
        assert_eq!(plan(200_000, 200_000), Plan::Walk { ef: 64 });
        assert!(matches!(plan(200_000, 160_000), Plan::Filtered { ef: 64, two_hops: false, .. }));
        assert_eq!(plan(200_000, 20_000), Plan::Probe { beam: 100 });
        assert_eq!(plan(200_000, 5_000), Plan::Probe { beam: 400 });
        assert_eq!(plan(200_000, 500), Plan::Scan);
        assert_eq!(plan(200_000, 0), Plan::Scan);
    }

    #[test]
    fn a_probe_tells_whether_the_filter_goes_with_the_query_or_against_it() {
        let tenth = situation(200_000, 20_000, 10);
        let (scan, hops, skip) = (Plan::Scan, true, false);
        assert!(
            matches!(tenth.plan_probed(6, 64), Plan::Filtered { ef: 128, two_hops, .. } if two_hops == hops)
        );
        assert!(
            matches!(tenth.plan_probed(60, 64), Plan::Filtered { ef: 64, two_hops, .. } if two_hops == skip)
        );
        assert_eq!(tenth.plan_probed(0, 64), scan);
        // One in a thousand of very many: neither a scan nor two hops.
        let rare = situation(1 << 30, 1 << 20, 10);
        assert!(matches!(rare.plan_probed(1, 256), Plan::Filtered { two_hops: false, .. }));
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
        let line = Strategy::GraphTwoHop { ef: 128, allowed: 10, rows: 100 }.describe();
        assert_eq!(line, "graph over two hops, ef 128, 10 of 100 rows pass");
    }
}
