//! `ragstone bench`: measurements that anybody can repeat on data of their own.
//!
//! The one command that knows engine and pipeline: it measures them without the network too.

mod embed;
mod engine;
mod filters;
mod inserts;
mod measure;
mod npy;
mod payloads;
mod process;
mod report;
mod served;
mod truth;
mod vector_file;
mod vectors;
mod workplace;

use clap::Subcommand;

use super::failure::Outcome;

/// Measure on your own data
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Vectors(Box<vectors::Args>),
    Embed(embed::Args),
}

pub(super) async fn run(args: Args) -> Outcome {
    match args.command {
        Command::Vectors(args) => Box::pin(vectors::run(*args)).await,
        Command::Embed(args) => embed::run(args).await,
    }
}
