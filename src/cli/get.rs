//! `ragstone get`: points or documents by id.

use ragstone_proto::v1::{Document, GetDocumentRequest, GetPointsRequest, Point, VectorSelector};
use serde_json::Value as Json;

use super::connection::{Connection, Target};
use super::failure::{Failure, Outcome};
use super::output::{Style, print_json, print_line, printable};
use super::wire_json;

/// Print points, or the records of documents
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ids of points
    #[arg(required_unless_present = "document", conflicts_with = "document")]
    ids: Vec<String>,
    /// Id of a document, may be given several times: prints what is known about it
    #[arg(long, value_name = "ID")]
    document: Vec<String>,
    /// Collection to look in
    #[arg(long, short, value_name = "NAME")]
    collection: String,
    /// Print the vectors too
    #[arg(long)]
    vectors: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> Outcome {
    let connection = Connection::open(&args.target).await?;
    let outcome = if args.document.is_empty() {
        points(&args, &connection).await
    } else {
        documents(&args, &connection).await
    };
    connection.close().await?;
    outcome
}

async fn points(args: &Args, connection: &Connection) -> Outcome {
    let request = GetPointsRequest {
        collection: args.collection.clone(),
        ids: args.ids.clone(),
        with_vectors: Some(VectorSelector { enable: args.vectors, names: Vec::new() }),
        ..GetPointsRequest::default()
    };
    let found = connection.points().get_points(request).await?.into_inner().points;
    if args.json {
        print_json(&found.iter().map(wire_json::point).collect::<Json>())?;
    } else {
        for point in &found {
            print_line(&render(point))?;
        }
    }
    let missing: Vec<&str> = args
        .ids
        .iter()
        .filter(|id| !found.iter().any(|point| point.id == **id))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(format!("not found: {}", missing.join(", "))))
    }
}

async fn documents(args: &Args, connection: &Connection) -> Outcome {
    let mut found: Vec<Document> = Vec::new();
    for id in &args.document {
        let request = GetDocumentRequest { collection: args.collection.clone(), document_id: id.clone() };
        found.extend(connection.ingest().get_document(request).await?.into_inner().document);
    }
    if args.json {
        print_json(&found.iter().map(wire_json::document).collect::<Json>())?;
        return Ok(());
    }
    for document in &found {
        print_fields(&wire_json::document(document))?;
    }
    Ok(())
}

/// A JSON object as `name: value` lines; empty values are left out.
fn print_fields(object: &Json) -> Outcome {
    for (name, value) in object.as_object().into_iter().flatten() {
        match value {
            Json::String(text) if text.is_empty() => {}
            Json::String(text) => print_line(&printable(&format!("{name}: {text}")))?,
            other => print_line(&format!("{name}: {other}"))?,
        }
    }
    print_line("")?;
    Ok(())
}

fn render(point: &Point) -> String {
    let mut object = wire_json::point(point);
    let fields = object.as_object_mut();
    let text = fields.and_then(|fields| fields.remove("text"));
    let mut lines = vec![Style::of_stdout().heading(&printable(&point.id))];
    for (name, value) in object.as_object().into_iter().flatten().filter(|(name, _)| *name != "id") {
        match value {
            Json::String(text) => lines.push(format!("{name}: {}", printable(text))),
            other => lines.push(printable(&format!("{name}: {other}"))),
        }
    }
    lines.push(String::new());
    lines.push(printable(text.as_ref().and_then(Json::as_str).unwrap_or_default()));
    lines.push(String::new());
    lines.join("\n")
}
