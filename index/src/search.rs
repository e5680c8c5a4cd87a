//! What a caller asks, and what it gets back. Pure data; [`crate::plan`] turns it into steps.

use std::ops::Range as ByteSpan;

use crate::filter::Filter;
use crate::schema::RecallTarget;

/// Most hits of one query, offset included.
pub const MAX_LIMIT: usize = 10_000;
/// Candidates that a leg brings to fusion when the request doesn't say.
pub const DEFAULT_CANDIDATES: usize = 100;
/// Widest beam of the graph search.
pub const MAX_EF: usize = 10_000;

/// A search over one collection. At least one leg must be given.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    /// The vector leg.
    pub vector: Option<VectorLeg>,
    /// The keyword leg.
    pub keyword: Option<KeywordLeg>,
    /// Passes the points that may be found.
    pub filter: Option<Filter>,
    /// Hits wanted, at most 10,000 together with the offset.
    pub limit: usize,
    /// Hits left out at the front.
    pub offset: usize,
    /// Hits with a lower final score are left out.
    pub score_threshold: Option<f32>,
    /// Hits of one document at the most.
    pub max_per_document: Option<usize>,
    /// How two legs become one ranking.
    pub fusion: Fusion,
    /// Candidates per leg of a hybrid query.
    pub candidates: Option<usize>,
    /// What the hits carry.
    pub select: Select,
    /// Fail unless this write is visible.
    pub min_seq_no: Option<u64>,
    /// Fill [`SearchResponse::plan`] and [`Hit::legs`].
    pub explain: bool,
}

/// Search by nearness.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorLeg {
    /// Vector space; empty: the first.
    pub using: String,
    /// Components, as many as the space's dimension.
    pub vector: Vec<f32>,
    /// Beam width of the graph search; `None`: chosen by the engine, for a recall.
    pub ef: Option<usize>,
    /// That recall; `None`: as the vector space has it.
    pub recall_target: Option<RecallTarget>,
    /// Brute force.
    pub exact: bool,
}

/// Search by words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeywordLeg {
    /// Words, in any order.
    pub text: String,
}

/// How the scores of two legs become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fusion {
    /// Each leg's scores scaled to 0..1 over its candidates, then the weighted mean; missing counts 0.
    MinMax {
        /// Share of the vector leg, 0 to 1.
        vector_weight: f32,
    },
    /// Reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009).
    Rrf {
        /// Usually 60.
        k: f32,
        /// Share of the vector leg, 0 to 1.
        vector_weight: f32,
    },
}

impl Default for Fusion {
    fn default() -> Self {
        Self::MinMax { vector_weight: 0.5 }
    }
}

/// What a returned point carries beside its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    /// Payload fields.
    pub payload: PayloadSelect,
    /// Vector spaces; `["*"]` means all.
    pub vectors: Vec<String>,
    /// The text.
    pub text: bool,
    /// Matched words (keyword leg only).
    pub highlights: bool,
}

impl Default for Select {
    fn default() -> Self {
        Self { payload: PayloadSelect::All, vectors: Vec::new(), text: true, highlights: true }
    }
}

/// Which top-level payload fields are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadSelect {
    /// All.
    All,
    /// None.
    None,
    /// Only these.
    Include(Vec<String>),
    /// All but these.
    Exclude(Vec<String>),
}

/// A point as read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PointData {
    /// Its id.
    pub id: String,
    /// Its text, when asked for.
    pub text: String,
    /// Its payload as a JSON object, when asked for.
    pub payload: Option<serde_json::Map<String, serde_json::Value>>,
    /// Where it comes from.
    pub origin: Origin,
    /// From when on it is no more, in milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// Vectors asked for, by space. Cosine vectors come back with unit length.
    pub vectors: Vec<(String, Vec<f32>)>,
}

/// Where a point comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the columns of crate::batch")]
pub struct Origin {
    pub document_id: String,
    pub uri: String,
    pub title: String,
    pub media_type: String,
    pub page: Option<u32>,
    pub chunk_index: Option<u32>,
    pub heading_path: Vec<String>,
    pub span_start: Option<u64>,
    pub span_end: Option<u64>,
    pub part: String,
    pub parent: Option<u32>,
}

/// A found point.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// What hits are sorted by, descending; equal scores by id.
    pub score: f32,
    /// Similarity in the vector leg, if it was found there.
    pub vector_score: Option<f32>,
    /// BM25 in the keyword leg, if it was found there.
    pub keyword_score: Option<f32>,
    /// The point.
    pub point: PointData,
    /// Byte spans of the matched words in the text.
    pub highlights: Vec<ByteSpan<usize>>,
    /// With explain.
    pub legs: Vec<LegScore>,
}

/// What one leg gave to a hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LegScore {
    /// Which leg.
    pub leg: Leg,
    /// From 1.
    pub rank: usize,
    /// The leg's own score.
    pub raw: f32,
    /// After scaling (min-max) or as reciprocal rank (RRF).
    pub normalized: f32,
    /// The leg's share.
    pub weight: f32,
}

/// One retriever of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leg {
    /// By nearness.
    Vector,
    /// By words.
    Keyword,
}

impl Leg {
    /// Its name in replies: "vector" or "keyword".
    pub fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Keyword => "keyword",
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchResponse {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Every write up to this one was visible.
    pub seq_no: u64,
    /// With explain: a line a step.
    pub plan: Vec<String>,
    /// With explain: phase and microseconds.
    pub phases: Vec<(&'static str, u64)>,
}
