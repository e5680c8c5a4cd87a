//! `ragstone collection`: create, list, show, update, delete.

pub(in crate::cli) mod index_flags;

use clap::Subcommand;
use ragstone_proto::v1::{
    CollectionInfo, CollectionSchema, CreateCollectionRequest, DeleteCollectionRequest, Distance, FieldType,
    GetCollectionRequest, ListCollectionsRequest, PayloadField, UpdateCollectionRequest, VectorSpace,
};
use serde_json::Value as Json;

use self::index_flags::IndexFlags;
use crate::cli::connection::{Connection, Target};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{print_json, print_line, table};
use crate::cli::wire_json;

/// Embedder of a space that is made without naming one.
const BUILT_IN_EMBEDDER: &str = "minilm";

/// Create, list, show, change and delete collections
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(CreateArgs),
    /// List the collections
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show the schema of a collection
    Show {
        /// Name of the collection
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    Update(UpdateArgs),
    /// Delete a collection and everything in it
    Delete {
        /// Name of the collection
        name: String,
        /// Succeed where there is none
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        target: Target,
    },
}

/// Create a collection
///
/// Without options it gets one vector space "text", which the built-in embedder fills from text, and takes any payload.
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// 1 to 128 of A-Z a-z 0-9 _ -
    name: String,
    /// A vector space "vector" of this many dimensions, for vectors that you bring
    #[arg(long, value_name = "N", conflicts_with_all = ["vector", "keyword_only"])]
    dimension: Option<u32>,
    /// How vectors of --dimension are compared: cosine, dot or euclidean
    #[arg(long, requires = "dimension", value_parser = parse_distance)]
    distance: Option<Distance>,
    /// A vector space, may be given several times: NAME:DIMENSION[:DISTANCE[:EMBEDDER]]. The dimension may be left
    /// empty where an embedder is named
    #[arg(long, value_name = "SPEC", value_parser = parse_vector_space)]
    vector: Vec<VectorSpace>,
    /// No vector space: search by words only
    #[arg(long, conflicts_with = "vector")]
    keyword_only: bool,
    /// A payload field, may be given several times: NAME:TYPE, with the type keyword, integer, float, bool, datetime or
    /// text
    #[arg(long, value_name = "SPEC", value_parser = parse_field)]
    field: Vec<PayloadField>,
    /// Refuse writes with payload fields that the schema doesn't have
    #[arg(long)]
    strict_payload: bool,
    #[command(flatten)]
    index: IndexFlags,
    /// What the collection is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Succeed where it exists with the same schema
    #[arg(long)]
    if_not_exists: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Change how the vectors of a collection are indexed, its payload fields or its description
///
/// A recall target holds from the next search on. Links, beam and quantization hold for segments that are made from then
/// on (`ragstone compact` makes the others anew), storage for segments opened from then on.
#[derive(Debug, clap::Args)]
struct UpdateArgs {
    /// Name of the collection
    name: String,
    /// Vector space whose index changes, may be given several times [default: all]
    #[arg(long, value_name = "NAME")]
    space: Vec<String>,
    #[command(flatten)]
    index: IndexFlags,
    /// A payload field that joins, may be given several times: NAME:TYPE
    #[arg(long, value_name = "SPEC", value_parser = parse_field)]
    field: Vec<PayloadField>,
    /// What the collection is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(in crate::cli) async fn run(args: Args) -> Outcome {
    match args.action {
        Action::Create(args) => create(args).await,
        Action::List { json, target } => {
            let connection = Connection::open(&target).await?;
            let reply = connection.collections().list_collections(ListCollectionsRequest {}).await;
            connection.close().await?;
            list(&reply?.into_inner().collections, json)
        }
        Action::Show { name, json, target } => {
            let connection = Connection::open(&target).await?;
            let reply = connection.collections().get_collection(GetCollectionRequest { name }).await;
            connection.close().await?;
            show(&reply?.into_inner().collection.unwrap_or_default(), json)
        }
        Action::Update(args) => update(args).await,
        Action::Delete { name, if_exists, target } => {
            let connection = Connection::open(&target).await?;
            let request = DeleteCollectionRequest { name: name.clone(), if_exists };
            let reply = connection.collections().delete_collection(request).await;
            connection.close().await?;
            let deleted = reply?.into_inner().deleted;
            eprintln!(
                "{}",
                if deleted {
                    format!("deleted {name}")
                } else {
                    format!("there was no collection \"{name}\"")
                }
            );
            Ok(())
        }
    }
}

async fn create(args: CreateArgs) -> Outcome {
    let request = CreateCollectionRequest {
        name: args.name.clone(),
        schema: schema(&args),
        if_not_exists: args.if_not_exists,
    };
    let connection = Connection::open(&args.target).await?;
    let reply = connection.collections().create_collection(request).await;
    connection.close().await?;
    let reply = reply?.into_inner();
    if args.json {
        print_json(&wire_json::collection(&reply.collection.unwrap_or_default()))?;
    } else {
        eprintln!("{} {}", if reply.created { "created" } else { "exists already:" }, args.name);
    }
    Ok(())
}

async fn update(args: UpdateArgs) -> Outcome {
    if !args.index.any() && args.field.is_empty() && args.description.is_none() {
        return Err(Failure::usage("nothing to change: give at least one option"));
    }
    if !args.space.is_empty() && !args.index.any() {
        return Err(Failure::usage("--space says whose index changes: give an index option, too"));
    }
    let connection = Connection::open(&args.target).await?;
    let reply = send_update(&args, &connection).await;
    connection.close().await?;
    let info = reply?;
    if args.json {
        print_json(&wire_json::collection(&info))?;
    } else {
        eprintln!("updated {}", args.name);
    }
    Ok(())
}

async fn send_update(args: &UpdateArgs, connection: &Connection) -> Outcome<CollectionInfo> {
    let spaces = if args.space.is_empty() && args.index.any() {
        let request = GetCollectionRequest { name: args.name.clone() };
        let info = connection.collections().get_collection(request).await?.into_inner().collection;
        let spaces = info.and_then(|info| info.schema).unwrap_or_default().vectors;
        spaces.into_iter().map(|space| space.name).collect()
    } else {
        args.space.clone()
    };
    let request = UpdateCollectionRequest {
        name: args.name.clone(),
        add_payload: args.field.clone(),
        description: args.description.clone(),
        dynamic_payload: None,
        update_vectors: spaces.iter().map(|space| args.index.update(space)).collect(),
    };
    let reply = connection.collections().update_collection(request).await?;
    Ok(reply.into_inner().collection.unwrap_or_default())
}

/// The schema that the options describe; `None` leaves it to the server.
fn schema(args: &CreateArgs) -> Option<CollectionSchema> {
    let mut vectors = match args.dimension {
        Some(dimension) => {
            let distance = args.distance.unwrap_or(Distance::Cosine).into();
            vec![VectorSpace { name: "vector".to_owned(), dimension, distance, ..VectorSpace::default() }]
        }
        None if args.vector.is_empty() && !args.keyword_only => {
            let default = args.field.is_empty() && !args.strict_payload && !args.index.any();
            if default && args.description.is_none() {
                return None;
            }
            let embedder = BUILT_IN_EMBEDDER.to_owned();
            vec![VectorSpace { name: "text".to_owned(), embedder, ..VectorSpace::default() }]
        }
        None => args.vector.clone(),
    };
    vectors.iter_mut().for_each(|space| args.index.apply(space));
    Some(CollectionSchema {
        vectors,
        payload: args.field.clone(),
        dynamic_payload: args.strict_payload.then_some(false),
        description: args.description.clone().unwrap_or_default(),
    })
}

fn parse_distance(text: &str) -> Result<Distance, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "cosine" => Ok(Distance::Cosine),
        "dot" => Ok(Distance::Dot),
        "euclidean" => Ok(Distance::Euclidean),
        _ => Err(format!("unknown distance \"{text}\"; there are: cosine, dot, euclidean")),
    }
}

fn parse_vector_space(text: &str) -> Result<VectorSpace, String> {
    let mut parts = text.split(':');
    let mut next = || parts.next().unwrap_or_default();
    let (name, dimension, distance, embedder) = (next(), next(), next(), next());
    if name.is_empty() || parts.next().is_some() {
        return Err("expected NAME:DIMENSION[:DISTANCE[:EMBEDDER]], as in: image:512:dot".to_owned());
    }
    let dimension = match (dimension, embedder) {
        ("", "") => return Err(format!("the space \"{name}\" needs a dimension or an embedder")),
        ("", _) => 0,
        (number, _) => number.parse().map_err(|_| format!("\"{number}\" is not a dimension (1 to 65535)"))?,
    };
    let distance = parse_distance(distance)?.into();
    Ok(VectorSpace {
        name: name.to_owned(),
        dimension,
        distance,
        embedder: embedder.to_owned(),
        ..VectorSpace::default()
    })
}

fn parse_field(text: &str) -> Result<PayloadField, String> {
    // The name may hold colons, the type can't.
    let (name, field_type) = text.rsplit_once(':').ok_or("expected NAME:TYPE, as in: year:integer")?;
    let field_type = match field_type.to_ascii_lowercase().as_str() {
        "keyword" => FieldType::Keyword,
        "integer" => FieldType::Integer,
        "float" => FieldType::Float,
        "bool" => FieldType::Bool,
        "datetime" => FieldType::Datetime,
        "text" => FieldType::Text,
        other => {
            return Err(format!(
                "unknown type \"{other}\"; there are: keyword, integer, float, bool, datetime, text"
            ));
        }
    };
    Ok(PayloadField { name: name.to_owned(), r#type: field_type.into() })
}

fn list(collections: &[CollectionInfo], json: bool) -> Outcome {
    if json {
        print_json(&collections.iter().map(wire_json::collection).collect::<Json>())?;
        return Ok(());
    }
    if collections.is_empty() {
        eprintln!("no collections; create one: ragstone collection create NAME");
        return Ok(());
    }
    let row = |info: &CollectionInfo| {
        let spaces = info.schema.iter().flat_map(|schema| &schema.vectors);
        let spaces: Vec<_> = spaces.map(|space| format!("{}:{}", space.name, space.dimension)).collect();
        vec![info.name.clone(), info.points.to_string(), info.documents.to_string(), spaces.join(" ")]
    };
    let rows: Vec<_> = collections.iter().map(row).collect();
    print_line(&table(&["collection", "points", "documents", "vectors"], &rows, false))?;
    Ok(())
}

fn show(info: &CollectionInfo, json: bool) -> Outcome {
    if json {
        print_json(&wire_json::collection(info))?;
        return Ok(());
    }
    if info.schema.is_none() {
        return Err(Failure::failed("the server sent no schema"));
    }
    let shown = wire_json::collection(info);
    for name in ["name", "description", "points", "documents", "seq_no", "dynamic_payload"] {
        match shown.get(name) {
            Some(Json::String(text)) if text.is_empty() => {}
            Some(Json::String(text)) => print_line(&format!("{name}: {text}"))?,
            Some(value) => print_line(&format!("{name}: {value}"))?,
            None => {}
        }
    }
    let text = |object: &Json, key: &str| {
        object.get(key).map_or(String::new(), |value| match value {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let rows = |list: &str, keys: &[&str]| -> Vec<Vec<String>> {
        let list = shown.get(list).and_then(Json::as_array).cloned().unwrap_or_default();
        list.iter().map(|object| keys.iter().map(|key| text(object, key)).collect()).collect()
    };
    let columns = ["name", "dimension", "distance", "embedder", "embedder_fingerprint"];
    let spaces = rows("vectors", &columns);
    if !spaces.is_empty() {
        print_line(&format!(
            "\n{}",
            table(&["vector space", "dimension", "distance", "embedder", "fingerprint"], &spaces, false)
        ))?;
        let columns = ["name", "m", "ef_construct", "quantization", "storage", "recall_target"];
        let header = ["vector space", "m", "ef_construct", "quantization", "storage", "recall target"];
        print_line(&format!("\n{}", table(&header, &rows("vectors", &columns), false)))?;
    }
    let fields = rows("payload", &["name", "type"]);
    if !fields.is_empty() {
        print_line(&format!("\n{}", table(&["payload field", "type"], &fields, false)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use clap::Parser as _;
    use ragstone_proto::v1::{HnswOptions, Quantization, VectorStorage};

    #[derive(Debug, clap::Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn parsed(options: &[&str]) -> Result<Option<CollectionSchema>, clap::Error> {
        Wrapper::try_parse_from(["create", "c"].iter().chain(options)).map(|wrapper| schema(&wrapper.args))
    }

    #[test]
    fn vector_spaces() {
        let space = parse_vector_space("image:512:dot").unwrap();
        assert_eq!((space.name.as_str(), space.dimension, space.distance()), ("image", 512, Distance::Dot));
        let space = parse_vector_space("text:::minilm").unwrap();
        assert_eq!(
            (space.dimension, space.distance(), space.embedder.as_str()),
            (0, Distance::Cosine, "minilm")
        );
        for bad in ["image", "image:", ":3", "image:x", "image:-1", "image:3:manhattan", "a:1:dot:e:more", ""]
        {
            assert!(parse_vector_space(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields() {
        let field = parse_field("a:b:integer").unwrap();
        assert_eq!((field.name.as_str(), field.r#type()), ("a:b", FieldType::Integer));
        assert!(parse_field("year").is_err());
        assert!(parse_field("year:number").unwrap_err().contains("integer"));
    }

    #[test]
    fn no_options_leave_the_schema_to_the_server() {
        assert_eq!(parsed(&[]).unwrap(), None);
    }

    #[test]
    fn fields_alone_keep_the_default_space() {
        let schema = parsed(&["--field", "year:integer"]).unwrap().unwrap();
        assert_eq!(
            (schema.vectors[0].name.as_str(), schema.vectors[0].embedder.as_str()),
            ("text", "minilm")
        );
        assert_eq!(schema.dynamic_payload, None);
    }

    #[test]
    fn index_options_reach_every_space() {
        let options = ["--vector", "a:3", "--vector", "b:4", "--hnsw-m", "32", "--storage", "mapped"];
        let schema = parsed(&options).unwrap().unwrap();
        for space in &schema.vectors {
            assert_eq!(space.hnsw, Some(HnswOptions { m: Some(32), ef_construct: None }));
            assert_eq!(
                (space.storage(), space.quantization()),
                (VectorStorage::Mapped, Quantization::Unspecified)
            );
        }
        // Of the default space, too.
        let schema = parsed(&["--recall-target", "0.95"]).unwrap().unwrap();
        assert_eq!(
            (schema.vectors[0].embedder.as_str(), schema.vectors[0].recall_target),
            ("minilm", Some(0.95))
        );
        for bad in [["--hnsw-m", "3"], ["--hnsw-ef-construct", "5000"], ["--quantization", "int2"]] {
            assert!(parsed(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn own_vectors_and_words_only() {
        let schema = parsed(&["--dimension", "8", "--distance", "euclidean"]).unwrap().unwrap();
        assert_eq!((schema.vectors[0].dimension, schema.vectors[0].distance()), (8, Distance::Euclidean));
        assert!(parsed(&["--keyword-only", "--strict-payload"]).unwrap().unwrap().vectors.is_empty());
        assert!(parsed(&["--dimension", "8", "--vector", "a:3"]).is_err());
        assert!(parsed(&["--distance", "dot"]).is_err());
    }
}
