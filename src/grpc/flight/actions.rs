//! Actions: what a client that speaks only Flight needs beside its streams. Bodies and results are JSON.

use arrow_flight::ActionType;
use bytes::Bytes;
use ragstone_index::filter::Filter;
use ragstone_proto::v1;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::app::App;
use crate::app::error::{Error, Result};
use crate::app::points::Selector;
use crate::filter_language;
use crate::grpc::convert::{self, filter, schema};

/// Longest body, in bytes.
const MAX_BODY_BYTES: usize = 4 << 20;

const ACTIONS: [(&str, &str); 4] = [
    (
        "create_collection",
        "{\"name\", \"vectors\": [{\"name\", \"dimension\", \"distance\", \"embedder\"}], \"if_not_exists\"} -> \
         {\"created\", \"seq_no\"}; without vectors the default schema",
    ),
    ("delete_collection", "{\"name\", \"if_exists\"} -> {\"deleted\"}"),
    ("count", "{\"collection\", \"filter\"} -> {\"count\"}"),
    ("delete_points", "{\"collection\", \"ids\" or \"filter\"} -> {\"seq_no\", \"deleted\"}"),
];

/// What there is.
pub(super) fn list() -> Vec<ActionType> {
    let action = |(name, description): (&str, &str)| ActionType {
        r#type: name.into(),
        description: description.into(),
    };
    ACTIONS.into_iter().map(action).collect()
}

/// Does it.
pub(super) async fn run(app: &App, name: &str, body: &[u8]) -> Result<Bytes> {
    let result = match name {
        "create_collection" => create_collection(app, parse(body)?).await?,
        "delete_collection" => {
            let DeleteCollection { name, if_exists } = parse(body)?;
            json!({ "deleted": app.delete_collection(name, if_exists).await? })
        }
        "count" => {
            let Count { collection, filter } = parse(body)?;
            let filter = filter.as_deref().map(conditions).transpose()?;
            json!({ "count": app.count_points(&collection, filter).await? })
        }
        "delete_points" => {
            let DeletePoints { collection, ids, filter } = parse(body)?;
            let selector = match (ids, filter) {
                (Some(ids), None) => Selector::Ids(convert::ids(ids, convert::MAX_IDS, "body.ids")?),
                (None, Some(filter)) => Selector::Filter(conditions(&filter)?),
                _ => return Err(Error::invalid("body", "give either ids or a filter")),
            };
            let (seq_no, deleted) = app.delete_points(&collection, selector).await?;
            json!({ "seq_no": seq_no, "deleted": deleted })
        }
        other => {
            let known = ACTIONS.map(|(name, _)| name).join(", ");
            return Err(Error::invalid("type", format!("no action {other:?}; there is: {known}")));
        }
    };
    Ok(result.to_string().into())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Error::invalid("body", format!("{} bytes are more than {MAX_BODY_BYTES}", body.len())));
    }
    serde_json::from_slice(body)
        .map_err(|error| Error::invalid("body", format!("is not understood: {error}")))
}

fn conditions(expression: &str) -> Result<Filter> {
    let wire = filter_language::parse(expression)
        .map_err(|error| Error::invalid("body.filter", error.to_string()))?;
    filter::filter(wire, "body.filter")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateCollection {
    name: String,
    #[serde(default)]
    vectors: Vec<Space>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    if_not_exists: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Space {
    name: String,
    #[serde(default)]
    dimension: u32,
    #[serde(default)]
    distance: Distance,
    #[serde(default)]
    embedder: String,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Distance {
    #[default]
    Cosine,
    Dot,
    Euclidean,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteCollection {
    name: String,
    #[serde(default)]
    if_exists: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    collection: String,
    filter: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeletePoints {
    collection: String,
    ids: Option<Vec<String>>,
    filter: Option<String>,
}

async fn create_collection(app: &App, asked: CreateCollection) -> Result<serde_json::Value> {
    let CreateCollection { name, vectors, description, if_not_exists } = asked;
    let space = |space: Space| v1::VectorSpace {
        name: space.name,
        dimension: space.dimension,
        distance: match space.distance {
            Distance::Cosine => v1::Distance::Cosine,
            Distance::Dot => v1::Distance::Dot,
            Distance::Euclidean => v1::Distance::Euclidean,
        }
        .into(),
        embedder: space.embedder,
        ..v1::VectorSpace::default()
    };
    let draft = match vectors.is_empty() && description.is_empty() {
        true => None,
        false => Some(schema::draft(v1::CollectionSchema {
            vectors: vectors.into_iter().map(space).collect(),
            description,
            ..v1::CollectionSchema::default()
        })?),
    };
    let (view, created) = app.create_collection(name, draft, if_not_exists).await?;
    Ok(json!({ "created": created, "seq_no": view.seq_no }))
}
