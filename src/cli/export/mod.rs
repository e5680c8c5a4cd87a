//! `ragstone export`: the points of a collection as Parquet or Arrow files.

mod files;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::ValueEnum;
use ragstone_proto::v1::{ExportPointsRequest, ExportPointsResponse};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use self::files::{Destination, Written};
use super::connection::{Connection, Target};
use super::failure::{Failure, Outcome};
use super::interrupt;
use super::output::{count, print_json};
use super::progress::Progress;
use crate::filter_language;

/// Messages between the network and the disk.
const QUEUE: usize = 2;
/// Points of a file of a folder when nothing is said.
const ROWS_PER_FILE: u64 = 1_000_000;

/// Export the points of a collection to Parquet or Arrow files
///
/// Points come with everything they have: ids, texts, payload, where they come from, and vectors as typed lists. All are
/// of one moment, whatever is written meanwhile. A file appears when it is complete and on disk; an export that failed
/// leaves nothing. `ragstone import` of the files gives an equal collection.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Collection to read
    #[arg(long, short, value_name = "NAME")]
    collection: String,
    /// File to write, or a folder (one that is there, or a name that ends with /) for several
    #[arg(long, value_name = "FILE|FOLDER")]
    to: PathBuf,
    /// Format [default: by the extension, parquet for a folder]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Only the points that pass this (docs/filter-language.md)
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Points of each file of a folder
    #[arg(long, value_name = "N", default_value_t = ROWS_PER_FILE, value_parser = clap::value_parser!(u64).range(1..))]
    rows_per_file: u64,
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Apache Parquet, compressed with zstd
    Parquet,
    /// Arrow IPC file (also called Feather 2), not compressed
    Arrow,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Self::Parquet),
            "arrow" | "ipc" | "feather" => Some(Self::Arrow),
            _ => None,
        }
    }
}

pub(super) async fn run(args: Args) -> Outcome {
    let interrupted = interrupt::listen();
    let filter = args.filter.as_deref().map(filter_language::parse).transpose()?;
    let destination = destination(&args)?;
    let connection = Connection::open(&args.target).await?;
    let request = ExportPointsRequest { collection: args.collection.clone(), filter };
    let outcome = async {
        let stream = connection.points().export_points(request).await?.into_inner();
        receive(stream, destination, &interrupted).await
    };
    let outcome = outcome.await;
    connection.close().await?;
    told(&args, outcome?)
}

/// Where the points go, as far as it can be known before the first.
fn destination(args: &Args) -> Outcome<Destination> {
    let is_folder = args.to.is_dir() || args.to.as_os_str().as_encoded_bytes().ends_with(b"/");
    let format = args.format.or_else(|| if is_folder { Some(Format::Parquet) } else { Format::of(&args.to) });
    let format = format.ok_or_else(|| {
        let to = args.to.display();
        Failure::usage(format!("--to {to}: expected .parquet or .arrow, a folder, or --format"))
    })?;
    let destination = Destination {
        path: args.to.clone(),
        format,
        parts: is_folder.then(|| (args.collection.clone(), args.rows_per_file)),
        overwrite: args.overwrite,
    };
    destination.check().map_err(Failure::Failed)?;
    Ok(destination)
}

enum Step {
    /// An IPC stream.
    Rows(Bytes),
    /// That was all: files get their names.
    Finish,
}

async fn receive(
    mut stream: Streaming<ExportPointsResponse>,
    destination: Destination,
    interrupted: &CancellationToken,
) -> Outcome<Written> {
    let (sender, mut steps) = mpsc::channel(QUEUE);
    let writer: JoinHandle<anyhow::Result<Option<Written>>> = tokio::task::spawn_blocking(move || {
        let mut files = destination.open();
        while let Some(step) = steps.blocking_recv() {
            match step {
                Step::Rows(ipc) => files.write(&ipc)?,
                Step::Finish => return files.finish().map(Some),
            }
        }
        // Whoever sent gave up; so do the files.
        Ok(None)
    });
    let mut progress = Progress::new("exporting", "points", None);
    loop {
        let message = tokio::select! {
            message = stream.message() => message?,
            () = interrupted.cancelled() => {
                drop(sender);
                writer.await.map_err(|error| Failure::failed(error.to_string()))?.map_err(Failure::Failed)?;
                return Err(Failure::failed("stopped; nothing was left behind"));
            }
        };
        let end = message.is_none();
        let step = match message {
            Some(message) => {
                progress.set_total(Some(message.rows_total));
                progress.set_done(message.rows_done);
                Step::Rows(message.ipc)
            }
            None => Step::Finish,
        };
        // A writer that is gone says below why.
        if sender.send(step).await.is_err() || end {
            break;
        }
    }
    let written = writer.await.map_err(|error| Failure::failed(error.to_string()))?;
    written.map_err(Failure::Failed)?.ok_or_else(|| Failure::failed("the export ended early"))
}

fn told(args: &Args, written: Written) -> Outcome {
    if args.json {
        let files: Vec<_> = written.files.iter().map(|file| file.display().to_string()).collect();
        print_json(&json!({"points": written.rows, "bytes": written.bytes, "files": files}))?;
    } else {
        let files = match written.files.as_slice() {
            [one] => one.display().to_string(),
            many => format!("{} in {}", count(many.len() as u64, "file"), args.to.display()),
        };
        eprintln!("exported {} to {files}, {} bytes", count(written.rows, "point"), written.bytes);
    }
    Ok(())
}
