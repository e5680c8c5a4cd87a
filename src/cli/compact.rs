//! `ragstone compact`: merges segments now.

use ragstone_proto::v1::{CompactRequest, CompactResponse};
use serde_json::json;

use super::connection::{Connection, Target};
use super::failure::Outcome;
use super::output::print_json;

/// Merge segments, reclaim the room of deleted rows, and index vectors as the collection asks by now
///
/// This happens by itself where it pays; the command does all of it at once and waits.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Collection to compact
    #[arg(long, short, value_name = "NAME")]
    collection: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> Outcome {
    let connection = Connection::open(&args.target).await?;
    let reply = connection.admin().compact(CompactRequest { collection: args.collection }).await;
    connection.close().await?;
    let CompactResponse { segments_before, segments_after, reclaimed_rows } = reply?.into_inner();
    if args.json {
        print_json(&json!({
            "segments_before": segments_before, "segments_after": segments_after, "reclaimed_rows": reclaimed_rows,
        }))?;
    } else {
        eprintln!(
            "segments: {segments_before} before, {segments_after} now; rows reclaimed: {reclaimed_rows}"
        );
    }
    Ok(())
}
