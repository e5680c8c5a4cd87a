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
/// The beam of a two-hop walk is wider: its graph is sparser.
const TWO_HOP_EF: usize = 2;
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
    /// Walk and skip, or over two hops; after `budget` distances, scan.
    Filtered { ef: usize, two_hops: bool, budget: usize },
}

/// Chooses the cheapest way that holds recall.
pub(crate) fn plan(situation: &Situation) -> Plan {
    let Situation { k, ef, rows, allowed, codes } = *situation;
    let ef = ef.unwrap_or(DEFAULT_EF.max(k.saturating_mul(EF_PER_HIT))).clamp(1, MAX_EF).max(k);
    if allowed <= k {
        return Plan::Scan;
    }
    let distance_cost = if codes { 1.0 } else { FLOAT_COST };
    let scan = allowed as f64 * SCAN_COST;
    let walk = ef as f64 * DISTANCES_PER_BEAM * distance_cost;
    if allowed >= rows {
        return if scan <= walk { Plan::Scan } else { Plan::Walk { ef } };
    }
    let selectivity = allowed as f64 / rows as f64;
    let skip = walk / selectivity;
    let hops = if selectivity < TWO_HOP_SELECTIVITY { f64::INFINITY } else { walk * TWO_HOP_FACTOR };
    if scan <= skip.min(hops) {
        return Plan::Scan;
    }
    let budget = (scan * BUDGET_FACTOR / distance_cost) as usize;
    let two_hops = hops < skip;
    let ef = if two_hops { (ef * TWO_HOP_EF).min(MAX_EF.max(k)) } else { ef };
    Plan::Filtered { ef, two_hops, budget }
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
            Self::Live { ef, graph_rows, scanned_rows } => {
                format!("live graph of {graph_rows} rows, ef {ef}, and exact scan of {scanned_rows} newer rows")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn plan_of(rows: usize, allowed: usize, k: usize) -> Plan {
        plan(&Situation { k, ef: None, rows, allowed, codes: true })
    }

    #[test]
    fn the_way_changes_with_the_share_that_passes() {
        assert_eq!(plan_of(200_000, 200_000, 10), Plan::Walk { ef: 64 });
        assert!(matches!(plan_of(200_000, 160_000, 10), Plan::Filtered { ef: 64, two_hops: false, .. }));
        assert!(matches!(plan_of(200_000, 20_000, 10), Plan::Filtered { ef: 128, two_hops: true, .. }));
        assert_eq!(plan_of(200_000, 500, 10), Plan::Scan);
        assert_eq!(plan_of(200_000, 0, 10), Plan::Scan);
        // One in a thousand of very many: neither a scan nor two hops.
        assert!(matches!(plan_of(1 << 30, 1 << 20, 10), Plan::Filtered { two_hops: false, .. }));
    }

    #[test]
    fn beams_follow_the_request_within_bounds() {
        let ef = |k, ef| match plan(&Situation {
            k,
            ef,
            rows: 10_000_000,
            allowed: 10_000_000,
            codes: true,
        }) {
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
        assert_eq!(plan_of(5_000, 5_000, 1_000), Plan::Scan);
        assert_eq!(plan_of(5, 5, 10), Plan::Scan);
    }

    #[test]
    fn every_strategy_reads_as_a_line() {
        let line = Strategy::Exact { rows: 12, reason: ExactReason::FewRows }.describe();
        assert_eq!(line, "exact scan of 12 rows (few rows pass)");
        let line = Strategy::GraphTwoHop { ef: 128, allowed: 10, rows: 100 }.describe();
        assert_eq!(line, "graph over two hops, ef 128, 10 of 100 rows pass");
    }
}
