//! The plan of a query: what will run, decided from the request and the schema alone. Pure data.

use crate::error::{Error, Result};
use crate::schema::CollectionSchema;
use crate::search::{DEFAULT_CANDIDATES, Fusion, Leg, MAX_EF, MAX_LIMIT, SearchRequest};

/// What will run, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Legs that run, each with its share of the fused score.
    pub legs: Vec<(Leg, f32)>,
    /// Vector space of the vector leg.
    pub space: Option<usize>,
    /// Candidates that each leg brings.
    pub candidates: usize,
    /// Hits kept behind the offset.
    pub limit: usize,
    /// Hits left out at the front.
    pub offset: usize,
    /// How two legs become one.
    pub fusion: Option<Fusion>,
    /// Hits of one document at the most.
    pub max_per_document: Option<usize>,
}

impl Plan {
    /// Checks a request and plans it.
    pub fn new(request: &SearchRequest, schema: &CollectionSchema) -> Result<Self> {
        let wanted = request.limit.saturating_add(request.offset);
        if request.limit == 0 || wanted > MAX_LIMIT {
            return Err(Error::invalid(
                "limit",
                format!("limit and offset are {wanted} together, expected 1 to {MAX_LIMIT}"),
            ));
        }
        if request.score_threshold.is_some_and(f32::is_nan) {
            return Err(Error::invalid("score_threshold", "not a number"));
        }
        let space = match &request.vector {
            None => None,
            Some(leg) => {
                if leg.ef.is_some_and(|ef| ef == 0 || ef > MAX_EF) {
                    return Err(Error::invalid("params.hnsw_ef", format!("expected 1 to {MAX_EF}")));
                }
                Some(schema.vector_space(&leg.using)?.0)
            }
        };
        let weight = vector_weight(request.fusion)?;
        let legs = match (&request.vector, &request.keyword) {
            (None, None) => return Err(Error::invalid("text", "a query needs a text or a vector")),
            (Some(_), None) => vec![(Leg::Vector, 1.0)],
            (None, Some(_)) => vec![(Leg::Keyword, 1.0)],
            (Some(_), Some(_)) => vec![(Leg::Vector, weight), (Leg::Keyword, 1.0 - weight)],
        };
        let hybrid = legs.len() > 1;
        let candidates = match request.candidates {
            Some(0) => return Err(Error::invalid("params.candidates", "expected at least 1")),
            Some(given) => given.max(wanted).min(MAX_LIMIT),
            None if hybrid => wanted.max(DEFAULT_CANDIDATES),
            None => wanted,
        };
        Ok(Self {
            legs,
            space,
            candidates,
            limit: request.limit,
            offset: request.offset,
            fusion: hybrid.then_some(request.fusion),
            max_per_document: request.max_per_document.filter(|most| *most > 0),
        })
    }

    /// A line a step, for people.
    pub fn describe(&self) -> Vec<String> {
        let legs = self.legs.iter().map(|(leg, weight)| {
            format!("{} leg, weight {weight}, {} candidates", leg.name(), self.candidates)
        });
        let fusion = self.fusion.map(|fusion| match fusion {
            Fusion::MinMax { .. } => "fusion: weighted mean of scores scaled to 0..1".to_owned(),
            Fusion::Rrf { k, .. } => format!("fusion: reciprocal ranks, k {k}"),
        });
        let collapse = self.max_per_document.map(|most| format!("at most {most} of a document"));
        legs.chain(fusion)
            .chain(collapse)
            .chain([format!("offset {}, limit {}", self.offset, self.limit)])
            .collect()
    }
}

fn vector_weight(fusion: Fusion) -> Result<f32> {
    let (field, weight) = match fusion {
        Fusion::MinMax { vector_weight } => ("fusion.min_max.vector_weight", vector_weight),
        Fusion::Rrf { k, vector_weight } => {
            if !(0.0..=1e6).contains(&k) {
                return Err(Error::invalid("fusion.rrf.k", format!("{k} is not between 0 and 1,000,000")));
            }
            ("fusion.rrf.vector_weight", vector_weight)
        }
    };
    if !(0.0..=1.0).contains(&weight) {
        return Err(Error::invalid(field, format!("{weight} is not between 0 and 1")));
    }
    Ok(weight)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::schema::{Distance, VectorSpace};
    use crate::search::{KeywordLeg, Select, VectorLeg};

    fn schema() -> CollectionSchema {
        let space = VectorSpace::new("text", 2, Distance::Cosine);
        CollectionSchema {
            vectors: vec![space],
            payload: vec![],
            dynamic_payload: true,
            description: String::new(),
        }
    }

    fn request() -> SearchRequest {
        SearchRequest {
            vector: Some(VectorLeg {
                using: String::new(),
                vector: vec![1.0, 0.0],
                ef: None,
                recall_target: None,
                exact: false,
            }),
            keyword: Some(KeywordLeg { text: "words".into() }),
            filter: None,
            limit: 10,
            offset: 0,
            score_threshold: None,
            max_per_document: None,
            fusion: Fusion::default(),
            candidates: None,
            select: Select::default(),
            min_seq_no: None,
            explain: false,
        }
    }

    #[test]
    fn a_hybrid_query_brings_a_hundred_candidates_a_leg() {
        let plan = Plan::new(&request(), &schema()).unwrap();
        insta::assert_snapshot!(plan.describe().join("\n"), @r"
        vector leg, weight 0.5, 100 candidates
        keyword leg, weight 0.5, 100 candidates
        fusion: weighted mean of scores scaled to 0..1
        offset 0, limit 10
        ");
    }

    #[test]
    fn one_leg_needs_no_fusion_and_no_more_candidates_than_hits() {
        let plan = Plan::new(&SearchRequest { keyword: None, offset: 5, ..request() }, &schema()).unwrap();
        assert_eq!((plan.candidates, plan.fusion, plan.legs), (15, None, vec![(Leg::Vector, 1.0)]));
    }

    #[test]
    fn wrong_requests_name_their_field() {
        let field =
            |request: SearchRequest| Plan::new(&request, &schema()).unwrap_err().field().map(str::to_owned);
        assert_eq!(field(SearchRequest { limit: 0, ..request() }).as_deref(), Some("limit"));
        assert_eq!(field(SearchRequest { offset: 10_000, ..request() }).as_deref(), Some("limit"));
        assert_eq!(
            field(SearchRequest { vector: None, keyword: None, ..request() }).as_deref(),
            Some("text")
        );
        let fusion = Fusion::MinMax { vector_weight: f32::NAN };
        assert_eq!(
            field(SearchRequest { fusion, ..request() }).as_deref(),
            Some("fusion.min_max.vector_weight")
        );
        let leg =
            VectorLeg { using: "other".into(), vector: vec![], ef: None, recall_target: None, exact: false };
        assert_eq!(field(SearchRequest { vector: Some(leg), ..request() }).as_deref(), Some("using"));
    }
}
