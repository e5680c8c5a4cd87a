//! The command line: one file per command, all of them clients of the gRPC service.
//!
//! Even a command that runs without a server (`--data-dir`) starts one in its own process and talks to it over
//! gRPC, so there is one way to do each thing. stdout carries data, stderr talk. Nothing here knows the engine or the
//! pipeline, but for `bench`, which measures them, and `extract`, which shows what the pipeline would do.

mod bench;
mod collection;
mod compact;
mod connection;
mod delete;
mod eval;
mod export;
mod extract;
mod extract_worker;
mod failure;
mod get;
mod hits;
mod import;
mod ingest;
mod interrupt;
mod output;
mod progress;
mod quickstart;
#[cfg(test)]
mod reference;
mod search;
mod serve;
mod source;
mod stats;
mod wire_json;

use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use failure::{Failure, Outcome};

/// Vector store and RAG ingestion service: durable, hybrid, offline, in one binary
#[derive(Debug, Parser)]
#[command(name = "ragstone", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::Args),
    Serve(serve::Args),
    Collection(collection::Args),
    Ingest(ingest::Args),
    Source(source::Args),
    Import(import::Args),
    Export(export::Args),
    Search(search::Args),
    Get(get::Args),
    Delete(delete::Args),
    Stats(stats::Args),
    Extract(extract::Args),
    Compact(compact::Args),
    Eval(eval::Args),
    Bench(bench::Args),
}

/// Runs the command that the process was called with. Exit codes: 0 done, 1 failed, 2 called wrongly.
pub fn run() -> ExitCode {
    if let Some(done) = extract_worker::run_if_asked() {
        return done;
    }
    let command = Arguments::command().color(if output::colour_is_unwanted() {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    });
    let arguments = command.try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let command = match arguments {
        Ok(arguments) => arguments.command,
        Err(error) => {
            // A closed pipe is all that can go wrong here, and nobody is left to hear of it.
            let _closed = error.print();
            return if error.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(),
    };
    let outcome = runtime.block_on(dispatch(command));
    // Blocking tasks that a command gave up on must not hold the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn dispatch(command: Command) -> Outcome {
    match command {
        Command::Quickstart(args) => Box::pin(quickstart::run(args)).await,
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Collection(args) => Box::pin(collection::run(args)).await,
        Command::Ingest(args) => Box::pin(ingest::run(args)).await,
        Command::Source(args) => Box::pin(source::run(args)).await,
        Command::Import(args) => Box::pin(import::run(args)).await,
        Command::Export(args) => Box::pin(export::run(args)).await,
        Command::Search(args) => Box::pin(search::run(args)).await,
        Command::Get(args) => Box::pin(get::run(args)).await,
        Command::Delete(args) => Box::pin(delete::run(args)).await,
        Command::Compact(args) => Box::pin(compact::run(args)).await,
        Command::Stats(args) => Box::pin(stats::run(args)).await,
        Command::Extract(args) => Box::pin(extract::run(args)).await,
        Command::Eval(args) => Box::pin(eval::run(args)).await,
        Command::Bench(args) => Box::pin(bench::run(args)).await,
    }
}
