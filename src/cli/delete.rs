//! `ragstone delete`: points by id or filter, or whole documents.

use ragstone_proto::v1::delete_points_request::Selector;
use ragstone_proto::v1::{DeleteDocumentsRequest, DeletePointsRequest, IdList};
use serde_json::json;

use super::connection::{Connection, Target};
use super::failure::Outcome;
use super::output::{count, print_json};
use crate::filter_language;

/// Delete points by id or by filter, or whole documents
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["ids", "document", "filter"])))]
pub(super) struct Args {
    /// Ids of points
    ids: Vec<String>,
    /// Id of a document whose points all go, may be given several times
    #[arg(long, value_name = "ID")]
    document: Vec<String>,
    /// Delete every point that passes this (docs/filter-language.md)
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Collection to delete from
    #[arg(long, short, value_name = "NAME")]
    collection: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> Outcome {
    let selector = match &args.filter {
        Some(expression) => Selector::Filter(filter_language::parse(expression)?),
        None => Selector::Ids(IdList { ids: args.ids.clone() }),
    };
    let connection = Connection::open(&args.target).await?;
    let outcome = delete(&args, selector, &connection).await;
    connection.close().await?;
    outcome
}

async fn delete(args: &Args, selector: Selector, connection: &Connection) -> Outcome {
    let collection = args.collection.clone();
    let (noun, deleted, seq_no) = if args.document.is_empty() {
        let request = DeletePointsRequest { collection, selector: Some(selector) };
        let reply = connection.points().delete_points(request).await?.into_inner();
        ("point", reply.deleted, reply.seq_no)
    } else {
        let request = DeleteDocumentsRequest { collection, document_ids: args.document.clone() };
        let reply = connection.ingest().delete_documents(request).await?.into_inner();
        ("document", reply.deleted, reply.seq_no)
    };
    if args.json {
        print_json(&json!({"deleted": deleted, "seq_no": seq_no}))?;
    } else {
        eprintln!("deleted {}", count(deleted, noun));
    }
    Ok(())
}
