//! `ragstone eval`: how well and how fast a labelled collection of documents is found.
//!
//! The folder has the form of the BEIR benchmark. Its documents go through the real pipeline into a real server, its
//! queries are asked over gRPC; nothing is measured that a client wouldn't see.

mod beir;
mod load;
mod measures;
mod queries;
mod report;

use std::path::PathBuf;

use ragstone_proto::v1::{CreateCollectionRequest, DeleteCollectionRequest, FlushRequest};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Target};
use super::failure::{Failure, Outcome};
use super::interrupt;
use super::output::{print_json, print_line};
use super::search::Mode;

/// Measure retrieval quality and speed on a labelled set in BEIR form
///
/// Loads corpus.jsonl into a fresh collection, asks every query of queries.jsonl that qrels/SPLIT.tsv judges, and prints
/// nDCG@10 and recall@100 (both as trec_eval computes them), latency as the client sees it, and the ingest rate. A
/// document of several chunks counts once, by its best chunk. Without --server or --data-dir it runs on a temporary
/// data directory.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder with corpus.jsonl, queries.jsonl and qrels/
    #[arg(long, value_name = "DIR")]
    beir: PathBuf,
    /// Which judgements: qrels/SPLIT.tsv
    #[arg(long, default_value = "test")]
    split: String,
    /// How to search
    #[arg(long, value_enum, value_delimiter = ',', default_value = "keyword,vector,hybrid")]
    modes: Vec<Mode>,
    /// Queries that are asked at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Seal what is in memory into a segment before the queries
    #[arg(long)]
    flush: bool,
    /// Keep the collection
    #[arg(long)]
    keep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> Outcome {
    let interrupted = interrupt::listen();
    let (folder, split) = (args.beir.clone(), args.split.clone());
    // Mistakes in the folder are told before anything is started.
    let set = tokio::task::spawn_blocking(move || beir::Judged::read(&folder, &split))
        .await?
        .map_err(Failure::failed)?;
    let scratch = if args.target.is_given() { None } else { Some(Scratch::create()?) };
    let target = scratch.as_ref().map_or(args.target.clone(), |scratch| Target::embedded(&scratch.0));
    let connection = Connection::open(&target).await?;
    let outcome = measure(&args, set, &connection, &interrupted).await;
    connection.close().await?;
    let report = outcome?;
    if args.json {
        print_json(&report.to_json())?
    } else {
        print_line(&report.to_table())?
    }
    Ok(())
}

async fn measure(
    args: &Args,
    set: beir::Judged,
    connection: &Connection,
    interrupted: &CancellationToken,
) -> Outcome<report::Report> {
    let collection = collection_name(&args.beir);
    let request = CreateCollectionRequest { name: collection.clone(), ..CreateCollectionRequest::default() };
    connection.collections().create_collection(request).await?;
    let outcome = fill_and_ask(args, set, connection, &collection, interrupted).await;
    if args.keep {
        eprintln!("kept the collection {collection}");
    } else {
        let request = DeleteCollectionRequest { name: collection, if_exists: true };
        connection.collections().delete_collection(request).await?;
    }
    outcome
}

async fn fill_and_ask(
    args: &Args,
    set: beir::Judged,
    connection: &Connection,
    collection: &str,
    interrupted: &CancellationToken,
) -> Outcome<report::Report> {
    let loaded =
        load::run(&args.beir.join("corpus.jsonl"), set.documents, connection, collection, interrupted)
            .await?;
    if args.flush {
        connection.admin().flush(FlushRequest { collection: collection.to_owned() }).await?;
    }
    let mut modes = Vec::new();
    let asker = queries::Asker {
        connection,
        collection,
        min_seq_no: loaded.seq_no,
        clients: usize::from(args.clients),
    };
    let queries = std::sync::Arc::new(set.queries);
    for &mode in &args.modes {
        modes.push((mode.name(), asker.ask_all(mode, &queries, interrupted).await?));
    }
    Ok(report::Report { documents: set.documents, queries: queries.len() as u64, loaded, modes })
}

/// A name that no collection has yet: the folder's, the process and the time.
fn collection_name(folder: &std::path::Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let set = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let set: String = set.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos());
    format!("eval-{set}-{}-{nanos}", std::process::id())
}

/// A folder that goes with the command.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Outcome<Self> {
        let path =
            std::env::temp_dir().join(format!("ragstone-{}", collection_name(std::path::Path::new("."))));
        std::fs::create_dir(&path)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("could not remove {}: {error}", self.0.display());
        }
    }
}
