//! `ragstone import`: rows of Parquet, Arrow and JSONL files into a collection.

use std::path::PathBuf;

use clap::ValueEnum;
use ragstone_ingest::import::is_url;
use ragstone_proto::v1::{ColumnMapping, ImportError, ImportFormat, ImportProgress, ImportRequest};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Target};
use super::failure::{Failure, Outcome};
use super::interrupt;
use super::output::{count, one_line, print_json};
use super::progress::Progress;

/// Rejected rows that are told; the rest is counted.
const MAX_TOLD_ERRORS: u64 = 100;

/// Import rows of Parquet, Arrow and JSONL files
///
/// The server reads the files, so the paths are those of its machine. An import that was stopped, or a server that
/// went down, goes on behind the last durable batch when the same command is run again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files, folders, or patterns in quotes: 'data/**/*.parquet'. URLs of object stores too: 's3://bucket/data/*.parquet',
    /// gs://, az://, abfss://; the server's environment says how they are opened
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Collection to write to
    #[arg(long, short, value_name = "NAME")]
    collection: String,
    /// Create the collection with the default schema where it is missing
    #[arg(long)]
    create: bool,
    /// Which column holds what, may be given several times: id=, text=, title=, document_id=, vector= (the first vector
    /// space), vector.SPACE=, expires_at=, payload= (then only these columns become payload). What isn't named is found by its name
    #[arg(long, value_name = "ROLE=COLUMN", value_parser = parse_column)]
    column: Vec<(Role, String)>,
    /// Format of the files [default: by their extension]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Stop at the first bad row
    #[arg(long)]
    strict: bool,
    /// Name of the job, by which it is resumed [default: made from collection, files and columns]
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Begin again at the first row
    #[arg(long)]
    restart: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Parquet,
    Arrow,
    Jsonl,
}

/// What a column is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Id,
    Text,
    Title,
    DocumentId,
    ExpiresAt,
    Payload,
    /// Empty: the first vector space.
    Vector(String),
}

pub(super) async fn run(args: Args) -> Outcome {
    let interrupted = interrupt::listen();
    let paths = absolute(&args.files)?;
    let connection = Connection::open(&args.target).await?;
    let outcome = import(&args, paths, &connection, &interrupted).await;
    connection.close().await?;
    outcome
}

async fn import(
    args: &Args,
    paths: Vec<String>,
    connection: &Connection,
    interrupted: &CancellationToken,
) -> Outcome {
    let collection = connection.require_collection(&args.collection, args.create).await?;
    let first_space =
        collection.schema.as_ref().and_then(|schema| schema.vectors.first()).map(|space| space.name.as_str());
    let request = ImportRequest {
        collection: args.collection.clone(),
        paths,
        format: match args.format {
            None => ImportFormat::Unspecified,
            Some(Format::Parquet) => ImportFormat::Parquet,
            Some(Format::Arrow) => ImportFormat::Arrow,
            Some(Format::Jsonl) => ImportFormat::Jsonl,
        }
        .into(),
        columns: Some(mapping(&args.column, first_space)?),
        strict: args.strict,
        job_id: args.job.clone().unwrap_or_default(),
        restart: args.restart,
    };
    let mut stream = connection.ingest().import(request).await?.into_inner();
    let mut seen = Seen::new(Progress::new("importing", "rows", None));
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = interrupted.cancelled() => return seen.stopped(args),
        };
        match message {
            Ok(Some(progress)) => seen.add(progress),
            Ok(None) => break,
            Err(status) => return Err(seen.failed(status)),
        }
    }
    seen.finish(args)
}

/// What the server has told so far.
struct Seen {
    last: ImportProgress,
    told: u64,
    errors: Vec<Json>,
    progress: Progress,
}

impl Seen {
    fn new(progress: Progress) -> Self {
        Self { last: ImportProgress::default(), told: 0, errors: Vec::new(), progress }
    }

    fn add(&mut self, mut message: ImportProgress) {
        for error in std::mem::take(&mut message.errors) {
            self.told += 1;
            if self.told <= MAX_TOLD_ERRORS {
                self.progress.note(&format!("rejected: {}", one_line(&describe(&error))));
                self.errors.push(to_json(&error));
            }
        }
        self.progress.set_total((message.rows_total > 0).then_some(message.rows_total));
        self.progress.set_done(message.rows_done);
        self.last = message;
    }

    /// One line for people: counts, and where to go on.
    fn summary(&self) -> String {
        let last = &self.last;
        format!(
            "{} written, {} rejected, {} durable from an earlier run (job {})",
            count(last.rows_written, "row"),
            last.rows_rejected,
            last.rows_resumed,
            last.job_id
        )
    }

    fn finish(self, args: &Args) -> Outcome {
        let summary = self.summary();
        let (last, errors) = (&self.last, self.errors);
        drop(self.progress);
        if args.json {
            print_json(&json!({
                "job_id": last.job_id, "rows_done": last.rows_done, "rows_total": last.rows_total,
                "rows_written": last.rows_written, "rows_rejected": last.rows_rejected,
                "rows_resumed": last.rows_resumed, "seq_no": last.seq_no, "errors": errors,
            }))?;
        } else {
            eprintln!("{summary}");
        }
        if !last.done {
            return Err(Failure::failed(
                "the server ended the import early; run the same command again to go on",
            ));
        }
        if args.strict && last.rows_rejected > 0 {
            return Err(Failure::failed("stopped at a bad row, as --strict asks"));
        }
        Ok(())
    }

    fn stopped(self, args: &Args) -> Outcome {
        let summary = self.summary();
        drop(self.progress);
        if args.json {
            print_json(
                &json!({"job_id": self.last.job_id, "rows_written": self.last.rows_written, "stopped": true}),
            )?;
        }
        Err(Failure::failed(format!("stopped; {summary}. run the same command again to go on")))
    }

    fn failed(self, status: tonic::Status) -> Failure {
        let summary = self.summary();
        drop(self.progress);
        let context = if self.last.rows_done == 0 { "import".to_owned() } else { format!("after {summary}") };
        Failure::Failed(anyhow::Error::from(status).context(context))
    }
}

fn describe(error: &ImportError) -> String {
    let mut place = error.path.clone();
    if let Some(row_group) = error.row_group {
        place.push_str(&format!(", row group {row_group}"));
    }
    place.push_str(&format!(", row {}", error.row));
    if !error.column.is_empty() {
        place.push_str(&format!(", column {}", error.column));
    }
    format!("{place}: {}", error.message)
}

fn to_json(error: &ImportError) -> Json {
    json!({
        "file": error.path, "row_group": error.row_group, "row": error.row, "column": error.column,
        "message": error.message,
    })
}

fn absolute(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let path = |file: &PathBuf| {
        if let Some(url) = file.to_str().filter(|text| is_url(text)) {
            return Ok(url.to_owned());
        }
        let path = std::path::absolute(file)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        path.into_os_string()
            .into_string()
            .map_err(|_| Failure::usage(format!("{}: the name is not UTF-8", file.display())))
    };
    files.iter().map(path).collect()
}

fn parse_column(text: &str) -> Result<(Role, String), String> {
    let roles = "id, text, title, document_id, vector, vector.SPACE, expires_at, payload";
    let (role, column) =
        text.split_once('=').ok_or(format!("expected ROLE=COLUMN with one of the roles {roles}"))?;
    if column.is_empty() {
        return Err(format!("the column of \"{role}\" is missing"));
    }
    let role = match role {
        "id" => Role::Id,
        "text" => Role::Text,
        "title" => Role::Title,
        "document_id" => Role::DocumentId,
        "expires_at" => Role::ExpiresAt,
        "payload" => Role::Payload,
        "vector" => Role::Vector(String::new()),
        other => match other.strip_prefix("vector.") {
            Some(space) if !space.is_empty() => Role::Vector(space.to_owned()),
            _ => return Err(format!("unknown role \"{other}\"; there are: {roles}")),
        },
    };
    Ok((role, column.to_owned()))
}

fn mapping(columns: &[(Role, String)], first_space: Option<&str>) -> Outcome<ColumnMapping> {
    let mut mapping = ColumnMapping::default();
    for (role, column) in columns {
        let column = column.clone();
        let (name, before) = match role {
            Role::Id => ("id", mapping.id.replace(column)),
            Role::Text => ("text", mapping.text.replace(column)),
            Role::Title => ("title", mapping.title.replace(column)),
            Role::DocumentId => ("document_id", mapping.document_id.replace(column)),
            Role::ExpiresAt => ("expires_at", mapping.expires_at.replace(column)),
            Role::Payload => {
                mapping.payload.push(column);
                continue;
            }
            Role::Vector(space) => {
                let space = match (space.is_empty(), first_space) {
                    (false, _) => space,
                    (true, Some(first)) => first,
                    (true, None) => {
                        return Err(Failure::failed("--column vector=: the collection has no vector space"));
                    }
                };
                ("vector", mapping.vectors.insert(space.to_owned(), column))
            }
        };
        if before.is_some() {
            return Err(Failure::usage(format!("--column {name}= was given twice")));
        }
    }
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn mapped(columns: &[&str], first: Option<&str>) -> Outcome<ColumnMapping> {
        let columns: Vec<_> = columns.iter().map(|text| parse_column(text).unwrap()).collect();
        mapping(&columns, first)
    }

    #[test]
    fn columns_find_their_place() {
        let columns =
            ["id=key", "text=body=x", "vector=emb", "vector.image=pixels", "payload=a", "payload=b"];
        let mapping = mapped(&columns, Some("text")).unwrap();
        assert_eq!((mapping.id.as_deref(), mapping.text.as_deref()), (Some("key"), Some("body=x")));
        assert_eq!((mapping.vectors["text"].as_str(), mapping.vectors["image"].as_str()), ("emb", "pixels"));
        assert_eq!((mapping.payload, mapping.title), (vec!["a".to_owned(), "b".to_owned()], None));
    }

    #[test]
    fn columns_that_make_no_sense_are_refused() {
        for bad in ["id", "id=", "vector.=x", "colour=x", "=x"] {
            assert!(parse_column(bad).is_err(), "{bad}");
        }
        assert!(matches!(mapped(&["id=a", "id=b"], None), Err(Failure::Usage(_))));
        assert!(matches!(mapped(&["vector=a", "vector.text=b"], Some("text")), Err(Failure::Usage(_))));
        assert!(matches!(mapped(&["vector=a"], None), Err(Failure::Failed(_))));
    }

    #[test]
    fn a_bad_row_is_named_by_file_row_group_and_row() {
        let error = ImportError {
            path: "/a.parquet".into(),
            row_group: Some(2),
            row: 17,
            column: "emb".into(),
            message: "3 components".into(),
        };
        assert_eq!(describe(&error), "/a.parquet, row group 2, row 17, column emb: 3 components");
    }
}
