//! `ragstone ingest`: files and folders into a collection, once or from now on.
//!
//! Without `--watch` the files are read here and sent; with it the server reads them itself, and goes on watching.

mod files;
mod send;
pub(super) mod watching;

use std::path::PathBuf;

use super::connection::{Connection, Target};
use super::failure::Outcome;
use super::interrupt;

/// Ingest files and folders into a collection
///
/// Folders are walked; hidden files and what .gitignore excludes are left out, symbolic links are not followed. Files
/// that have not changed since they were ingested cost nothing. A file in a folder that can't be read is reported and
/// doesn't stop the others; a file that was named itself makes the command fail.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Collection to write to
    #[arg(long, short, value_name = "NAME")]
    collection: String,
    /// Create the collection with the default schema where it is missing
    #[arg(long)]
    create: bool,
    /// Let the server watch the folders from now on and keep the collection equal to them
    #[arg(long)]
    watch: bool,
    /// With --watch: leave out what matches, in .gitignore form, may be given several times
    #[arg(long, value_name = "PATTERN", requires = "watch")]
    ignore: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> Outcome {
    let interrupted = interrupt::listen();
    let connection = Connection::open(&args.target).await?;
    let outcome = match connection.require_collection(&args.collection, args.create).await {
        Ok(_) if args.watch => watching::run(&args, &connection, &interrupted).await,
        Ok(_) => send::run(&args, &connection, &interrupted).await,
        Err(failure) => Err(failure),
    };
    connection.close().await?;
    outcome
}
