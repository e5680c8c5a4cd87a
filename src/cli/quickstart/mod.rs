//! `ragstone quickstart`: from nothing to answers, then a server that goes on.

mod samples;

use std::path::PathBuf;

use ragstone_proto::v1::{SearchRequest, Source};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::failure::{Failure, Outcome};
use super::ingest::Reading;
use super::ingest::watching::{add_source, wait_until_read};
use super::output::{Style, count, print_line};
use super::{hits, interrupt};

/// The collection of the samples.
const COLLECTION: &str = "quickstart";
/// Answers to each question.
const ANSWERS: u32 = 2;
/// Where the server listens: the address that clients try first.
const LISTEN: &str = "127.0.0.1:7700";

/// A question and what it shows.
struct Question {
    text: &'static str,
    shows: &'static str,
}

const QUESTIONS: [Question; 5] = [
    Question {
        text: "my espresso tastes bitter",
        shows: "by meaning: the answer speaks of harsh cups and extraction",
    },
    Question { text: "E4217", shows: "by words: a code that no model has ever seen" },
    Question { text: "will my data survive if someone pulls the plug?", shows: "by meaning" },
    Question { text: "why look to the side of a nebula at night?", shows: "words and meaning together" },
    Question {
        text: "can I claim a train ticket that I only have on my phone?",
        shows: "a Word file answers",
    },
];

/// Try ragstone: start a server, ingest sample documents, ask a few questions, go on serving
///
/// Everything lives in the data directory; the samples are written to its folder "samples", which is watched: change a
/// file there, and the next search sees it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after the answers instead of serving on
    #[arg(long)]
    no_serve: bool,
    /// Folder of all data
    #[arg(long, value_name = "DIR", default_value = "./ragstone-data")]
    data_dir: PathBuf,
    /// Address to serve on [default: 127.0.0.1:7700, or a free port where that is taken]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

pub(super) async fn run(args: Args) -> Outcome {
    let interrupted = interrupt::listen();
    let style = Style::of_stdout();
    let data_dir = args.data_dir.clone();
    let folder = tokio::task::spawn_blocking(move || samples::write(&data_dir)).await??;
    let connection = Connection::start(&args.data_dir, Some(listen(&args))).await?;
    eprintln!(
        "ragstone {} serves {} on {}",
        env!("CARGO_PKG_VERSION"),
        args.data_dir.display(),
        connection.address()
    );
    let outcome = demonstrate(&connection, &folder, &interrupted, style).await;
    if outcome.is_ok() && !args.no_serve && !interrupted.is_cancelled() {
        invite(&connection, &folder, style)?;
        interrupted.cancelled().await;
    }
    connection.close().await?;
    outcome
}

/// The usual address where it is free, so that other commands find this server; a free port otherwise, or where nobody
/// stays to serve.
fn listen(args: &Args) -> String {
    let usual_is_free = || std::net::TcpListener::bind(LISTEN).is_ok();
    match &args.listen {
        Some(listen) => listen.clone(),
        None if !args.no_serve && usual_is_free() => LISTEN.to_owned(),
        None => "127.0.0.1:0".to_owned(),
    }
}

async fn demonstrate(
    connection: &Connection,
    folder: &std::path::Path,
    interrupted: &CancellationToken,
    style: Style,
) -> Outcome {
    connection.require_collection(COLLECTION, true).await?;
    let source = add_source(connection, COLLECTION, folder, &[], &Reading::default()).await?;
    let sources = wait_until_read(connection, &[source.id], interrupted).await?;
    if interrupted.is_cancelled() {
        return Err(Failure::failed("stopped"));
    }
    let indexed: u64 = sources.iter().map(|source: &Source| source.files_indexed).sum();
    eprintln!("{} of {} searchable", count(indexed, "file"), folder.display());
    for question in &QUESTIONS {
        ask(connection, question, folder, style).await?;
    }
    Ok(())
}

async fn ask(
    connection: &Connection,
    question: &Question,
    folder: &std::path::Path,
    style: Style,
) -> Outcome {
    let request = SearchRequest {
        collection: COLLECTION.to_owned(),
        text: Some(question.text.to_owned()),
        limit: Some(ANSWERS),
        ..SearchRequest::default()
    };
    let reply = connection.search().search(request).await?.into_inner();
    print_line(&format!(
        "\n{}  {}",
        style.heading(&format!("? {}", question.text)),
        style.faint(&format!("({})", question.shows))
    ))?;
    if reply.hits.is_empty() {
        return Err(Failure::failed(format!("the question \"{}\" found nothing", question.text)));
    }
    for (rank, hit) in reply.hits.iter().enumerate() {
        print_line(&hits::render(rank + 1, hit, Some(folder), style))?;
    }
    Ok(())
}

fn invite(connection: &Connection, folder: &std::path::Path, style: Style) -> Outcome {
    // The usual address needs no option.
    let server = match connection.address().strip_prefix("http://") {
        Some(LISTEN) => String::new(),
        _ => format!(" --server {}", connection.address()),
    };
    print_line(&format!("\n{}", style.heading("Now you")))?;
    print_line(&format!("  ragstone search \"when do bees swarm\" --collection {COLLECTION}{server}"))?;
    print_line(&format!(
        "  echo 'The spare key is under the blue pot.' > {}",
        folder.join("note.txt").display()
    ))?;
    print_line(&format!("  ragstone search \"where is the key\" --collection {COLLECTION}{server}"))?;
    print_line("")?;
    eprintln!("serving and watching; ctrl-c stops");
    Ok(())
}
