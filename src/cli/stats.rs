//! `ragstone stats`: what is stored and how.

use ragstone_proto::v1::{CollectionStats, GetStatsRequest, GetStatsResponse};
use serde_json::{Value as Json, json};

use super::connection::{Connection, Target};
use super::failure::Outcome;
use super::output::{bytes, print_json, print_line, table};
use super::wire_json;

/// Show what is stored and how: points, documents, segments, bytes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this collection
    #[arg(long, short, value_name = "NAME")]
    collection: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> Outcome {
    let connection = Connection::open(&args.target).await?;
    let request = GetStatsRequest { collection: args.collection.clone().unwrap_or_default() };
    let reply = connection.admin().get_stats(request).await;
    connection.close().await?;
    let stats = reply?.into_inner();
    if args.json {
        print_json(&to_json(&stats))?
    } else {
        print_line(&render(&stats))?
    }
    Ok(())
}

fn to_json(stats: &GetStatsResponse) -> Json {
    let collections: Json = stats.collections.iter().map(wire_json::collection_stats).collect();
    json!({"collections": collections, "rss_bytes": stats.rss_bytes, "uptime_s": stats.uptime_s})
}

fn render(stats: &GetStatsResponse) -> String {
    let header =
        ["collection", "points", "documents", "failed", "segments", "in memory", "log", "disk", "seq no"];
    let row = |stats: &CollectionStats| {
        vec![
            stats.name.clone(),
            stats.points.to_string(),
            stats.documents.to_string(),
            stats.documents_failed.to_string(),
            stats.segments.len().to_string(),
            stats.memtable_points.to_string(),
            bytes(stats.log_bytes),
            bytes(stats.disk_bytes),
            stats.seq_no.to_string(),
        ]
    };
    let rows: Vec<_> = stats.collections.iter().map(row).collect();
    let mut text = if rows.is_empty() { "no collections".to_owned() } else { table(&header, &rows, true) };
    text.push_str(&format!("\n\nserver: up {} s", stats.uptime_s));
    if stats.rss_bytes > 0 {
        text.push_str(&format!(", {} of memory", bytes(stats.rss_bytes)));
    }
    text
}
