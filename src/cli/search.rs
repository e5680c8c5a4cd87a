//! `ragstone search`: one question, ranked answers.

use clap::ValueEnum;
use ragstone_proto::v1::{
    Fusion, MinMaxFusion, RrfFusion, SearchMode, SearchParams, SearchRequest, SearchResponse, fusion,
};
use serde_json::{Value as Json, json};

use super::connection::{Connection, Target};
use super::failure::{Failure, Outcome};
use super::output::{Style, count, print_json, print_line};
use super::{hits, wire_json};
use crate::filter_language;

/// Ask a question and print the ranked answers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The question, as words or as a sentence
    text: String,
    /// Collection to search
    #[arg(long, short, value_name = "NAME")]
    collection: String,
    /// How to search [default: hybrid where the collection can, else what it can]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Answers at most
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Answers to leave out at the front
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    offset: u32,
    /// Only points that pass this, as in: lang = "en" and year >= 2020 (docs/filter-language.md)
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Vector space to search [default: the first of the collection]
    #[arg(long, value_name = "SPACE")]
    using: Option<String>,
    /// Leave out answers with a lower score
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    score_threshold: Option<f32>,
    /// Answers from one document at most
    #[arg(long, value_name = "N")]
    max_per_document: Option<u32>,
    /// How the two rankings of a hybrid search become one
    #[arg(long, value_enum)]
    fusion: Option<FusionName>,
    /// Share of the vector ranking in a hybrid search, 0 to 1
    #[arg(long, value_name = "SHARE")]
    vector_weight: Option<f32>,
    /// Beam width of the graph search: wider finds more and takes longer [default: chosen for --recall-target]
    #[arg(long, value_name = "N")]
    ef: Option<u32>,
    /// Share of the true nearest vectors to find, 0.5 to 0.999 [default: that of the vector space]
    #[arg(long, value_name = "SHARE", conflicts_with = "ef")]
    recall_target: Option<f32>,
    /// Compare with every vector instead of walking the graph
    #[arg(long)]
    exact: bool,
    /// Give the larger chunk around each answer, where documents were cut in parent mode
    #[arg(long)]
    parents: bool,
    /// Of documents that were marked as near-duplicates, show the best one only
    #[arg(long)]
    collapse: bool,
    /// Print how the query was run
    #[arg(long)]
    explain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// By meaning and by words
    Hybrid,
    /// By meaning
    Vector,
    /// By words
    Keyword,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Vector => "vector",
            Self::Keyword => "keyword",
        }
    }

    pub(super) fn to_wire(self) -> SearchMode {
        match self {
            Self::Hybrid => SearchMode::Hybrid,
            Self::Vector => SearchMode::Vector,
            Self::Keyword => SearchMode::Keyword,
        }
    }
}

/// A way to join rankings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FusionName {
    /// Mean of the scores, each ranking scaled to 0..1
    MinMax,
    /// Reciprocal rank fusion
    Rrf,
}

pub(super) async fn run(args: Args) -> Outcome {
    let request = request(&args)?;
    let connection = Connection::open(&args.target).await?;
    let reply = connection.search().search(request).await;
    let outcome = match reply {
        Ok(reply) => print(&args, &reply.into_inner()),
        Err(status) => Err(status.into()),
    };
    connection.close().await?;
    outcome
}

fn request(args: &Args) -> Outcome<SearchRequest> {
    let in_range = |share: &f32| (0.0..=1.0).contains(share);
    if let Some(share) = args.vector_weight.filter(|share| !in_range(share)) {
        return Err(Failure::usage(format!("--vector-weight {share} is not between 0 and 1")));
    }
    let filter = args.filter.as_deref().map(filter_language::parse).transpose()?;
    let params = SearchParams {
        hnsw_ef: args.ef,
        exact: args.exact.then_some(true),
        candidates: None,
        recall_target: args.recall_target,
    };
    Ok(SearchRequest {
        collection: args.collection.clone(),
        mode: args.mode.map_or(SearchMode::Unspecified, Mode::to_wire).into(),
        text: Some(args.text.clone()),
        using: args.using.clone().unwrap_or_default(),
        filter,
        limit: Some(args.limit),
        offset: args.offset,
        score_threshold: args.score_threshold,
        max_per_document: args.max_per_document,
        fusion: fusion(args.fusion, args.vector_weight),
        params: Some(params),
        explain: args.explain,
        with_parents: args.parents,
        collapse_near_duplicates: args.collapse,
        ..SearchRequest::default()
    })
}

fn fusion(name: Option<FusionName>, vector_weight: Option<f32>) -> Option<Fusion> {
    let method = match (name, vector_weight) {
        (None, None) => return None,
        (None | Some(FusionName::MinMax), vector_weight) => {
            fusion::Method::MinMax(MinMaxFusion { vector_weight })
        }
        (Some(FusionName::Rrf), vector_weight) => fusion::Method::Rrf(RrfFusion { k: None, vector_weight }),
    };
    Some(Fusion { method: Some(method) })
}

fn print(args: &Args, reply: &SearchResponse) -> Outcome {
    if args.json {
        print_json(&to_json(reply))?;
        return Ok(());
    }
    let style = Style::of_stdout();
    let base = std::env::current_dir().ok();
    for (rank, hit) in reply.hits.iter().enumerate() {
        print_line(&hits::render(rank + 1 + args.offset as usize, hit, base.as_deref(), style))?;
    }
    if let Some(plan) = &reply.plan {
        for step in &plan.steps {
            print_line(&style.faint(&format!("plan: {step}")))?;
        }
        for phase in &plan.phases {
            print_line(&style.faint(&format!(
                "time: {} {:.2} ms",
                phase.phase,
                phase.elapsed_us as f64 / 1000.0
            )))?;
        }
    }
    let answers = count(reply.hits.len() as u64, "answer");
    eprintln!("{answers} in {:.1} ms", reply.elapsed_us as f64 / 1000.0);
    Ok(())
}

fn to_json(reply: &SearchResponse) -> Json {
    let hits: Json = reply.hits.iter().map(wire_json::hit).collect();
    let mut object = json!({"hits": hits, "seq_no": reply.seq_no, "elapsed_us": reply.elapsed_us});
    if let (Some(plan), Some(object)) = (&reply.plan, object.as_object_mut()) {
        object.insert("plan".to_owned(), wire_json::plan(plan));
    }
    object
}
