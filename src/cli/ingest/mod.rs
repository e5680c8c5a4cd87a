//! `ragstone ingest`: files and folders into a collection, once or from now on.
//!
//! Without `--watch` the files are read here and sent; with it the server reads them itself, and goes on watching.

pub(super) mod chunk_settings;
pub(super) mod files;
mod send;
pub(super) mod watching;

use std::path::{Path, PathBuf};

use ragstone_ingest::document::{Passwords, PathFields, Resemblance};
use ragstone_proto::v1::{ChunkSettings, Duplicates};

use super::connection::{Connection, Target};
use super::failure::{Failure, Outcome};
use super::interrupt;
use crate::config::units::time;

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
    /// With --watch: find changes by scans only, for network folders and others where the system does not tell of them
    #[arg(long, requires = "watch")]
    poll: bool,
    /// Payload fields that follow from the path below the folder, as in: {team}/{year:integer}-*
    #[arg(long, value_name = "PATTERN")]
    path_fields: Option<PathFields>,
    /// How text is cut, may be given several times: strategy=structure|tokens|sentences, max_tokens=N, overlap_tokens=N,
    /// min_tokens=N, parent_tokens=N, context=title_and_headings|title|none; MEDIA/TYPE:KEY=VALUE for one type of document
    #[arg(long, value_name = "KEY=VALUE")]
    chunk: Vec<String>,
    /// Passwords for encrypted files, one per line
    ///
    /// With --watch the server reads the file by itself, now and with every scan: only its path is stored, and it has to stay.
    #[arg(long, value_name = "FILE")]
    passwords: Option<PathBuf>,
    /// What becomes of a document whose content is stored already under another name: keep (store it again) or link (store
    /// it once and name the others with its hits) [default: as the server is configured]
    #[arg(long, value_name = "WHAT", value_parser = parse_duplicates)]
    duplicates: Option<Duplicates>,
    /// Mark documents that say almost the same as an earlier one, for `ragstone search --collapse` [default: as the server is
    /// configured; alone: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    near_duplicates: Option<bool>,
    /// How much of their runs of five words such documents have in common, 0.5 to 1 [default: as the server is configured]
    #[arg(long, value_name = "SHARE", value_parser = parse_resemblance)]
    near_duplicate_threshold: Option<f32>,
    /// How long the documents live, as in 12h or 30d: from now on, with --watch from the last change of each file
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    ttl: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// How the files of a call are read.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Reading {
    pub(in crate::cli) path_fields: Option<PathFields>,
    pub(in crate::cli) chunk: Option<ChunkSettings>,
    pub(in crate::cli) passwords: Vec<String>,
    /// What the server reads passwords from, when it is to watch a folder.
    pub(in crate::cli) password_file: Option<String>,
    pub(in crate::cli) poll: bool,
    pub(in crate::cli) duplicates: Duplicates,
    pub(in crate::cli) near_duplicates: Option<bool>,
    pub(in crate::cli) near_duplicate_threshold: Option<f32>,
    pub(in crate::cli) ttl_seconds: Option<u64>,
}

impl Reading {
    fn of(args: &Args) -> Outcome<Self> {
        let (mut passwords, mut password_file) = (Passwords::default(), None);
        match &args.passwords {
            Some(path) if args.watch => {
                let path = path.canonicalize().map_err(|error| unreadable(path, &error))?;
                let name = path
                    .to_str()
                    .ok_or_else(|| Failure::usage(format!("{}: the name is not UTF-8", path.display())))?;
                password_file = Some(name.to_owned());
            }
            Some(path) => passwords = passwords_in(path)?,
            None => {}
        }
        Ok(Self {
            path_fields: args.path_fields.clone(),
            chunk: chunk_settings::parse(&args.chunk).map_err(Failure::usage)?,
            passwords: passwords.iter().map(str::to_owned).collect(),
            password_file,
            poll: args.poll,
            duplicates: args.duplicates.unwrap_or_default(),
            near_duplicates: args.near_duplicates,
            near_duplicate_threshold: args.near_duplicate_threshold,
            ttl_seconds: args.ttl,
        })
    }
}

/// The passwords that a file has, one a line.
pub(in crate::cli) fn passwords_in(path: &Path) -> Outcome<Passwords> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(Passwords::from_lines(&text)?)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// Whole seconds, at least one.
fn parse_ttl(text: &str) -> Result<u64, String> {
    let seconds = time(text).map(|time| time.as_secs()).filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "expected a time of at least 1s, such as 90s, 12h or 30d".into())
}

fn parse_resemblance(text: &str) -> Result<f32, String> {
    let share = text.parse().ok().and_then(|share| Resemblance::new(share).ok());
    share.map(Resemblance::get).ok_or_else(|| "expected a number from 0.5 to 1".into())
}

fn parse_duplicates(text: &str) -> Result<Duplicates, String> {
    match text {
        "keep" => Ok(Duplicates::Keep),
        "link" => Ok(Duplicates::Link),
        _ => Err("expected keep or link".into()),
    }
}

pub(super) async fn run(args: Args) -> Outcome {
    let reading = Reading::of(&args)?;
    let interrupted = interrupt::listen();
    let connection = Connection::open(&args.target).await?;
    let outcome = match connection.require_collection(&args.collection, args.create).await {
        Ok(_) if args.watch => watching::run(&args, &reading, &connection, &interrupted).await,
        Ok(_) => send::run(&args, reading, &connection, &interrupted).await,
        Err(failure) => Err(failure),
    };
    connection.close().await?;
    outcome
}
