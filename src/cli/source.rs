//! `ragstone source`: watched folders and their files: what they are doing, what failed, and what to do about it.

use clap::Subcommand;
use ragstone_proto::v1::{
    ClearSourceFailuresRequest, FileState, ListSourceFilesRequest, ListSourcesRequest, RemoveSourceRequest,
    RetrySourceFilesRequest, ScanSourceRequest, Source, SourceFile, SourceState,
};
use serde_json::json;

use super::connection::{Connection, Target};
use super::failure::{Failure, Outcome};
use super::output::{count, one_line, print_json, print_line, table};

/// Files of one page of a list.
const PAGE: u32 = 1_000;

/// Show watched folders and their files, retry what failed, make outdated documents again
///
/// SOURCE is the id of a source, or the path of its folder. `ragstone ingest --watch` adds one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the watched folders
    List {
        /// Only of this collection
        #[arg(long, short, value_name = "NAME", default_value = "", hide_default_value = true)]
        collection: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List the files of a source and how they are
    Files {
        /// Id of a source, or its folder
        source: String,
        /// Only files in this state, may be given several times
        #[arg(long, value_name = "STATE", value_parser = parse_state)]
        state: Vec<FileState>,
        /// Print JSON, one file a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List the files of a source that failed, why, and when they are tried again
    Failures {
        /// Id of a source, or its folder
        source: String,
        /// Print JSON, one file a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Try files that failed again now
    Retry {
        /// Id of a source, or its folder
        source: String,
        /// Paths relative to the source [default: all that failed]
        paths: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Take files that failed for good off the list of failures
    ///
    /// They are left alone until they change. What is indexed of their older versions stays.
    Clear {
        /// Id of a source, or its folder
        source: String,
        /// Paths relative to the source [default: all that failed for good]
        paths: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Compare a source with its folder now
    Scan {
        /// Id of a source, or its folder
        source: String,
        /// Make documents again that were made with other settings of extraction, chunking or embedding
        #[arg(long)]
        reingest: bool,
        /// What is missing in the folder is meant to be gone: delete its documents
        ///
        /// Only for a source that is unavailable because most of its files are suddenly missing.
        #[arg(long)]
        accept_loss: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Stop watching a folder
    Remove {
        /// Id of a source, or its folder
        source: String,
        /// Delete the documents that it brought
        #[arg(long)]
        delete_documents: bool,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn run(args: Args) -> Outcome {
    let target = match &args.action {
        Action::List { target, .. }
        | Action::Files { target, .. }
        | Action::Failures { target, .. }
        | Action::Retry { target, .. }
        | Action::Clear { target, .. }
        | Action::Scan { target, .. }
        | Action::Remove { target, .. } => target,
    };
    let connection = Connection::open(target).await?;
    let outcome = act(args.action, &connection).await;
    connection.close().await?;
    outcome
}

async fn act(action: Action, connection: &Connection) -> Outcome {
    let mut ingest = connection.ingest();
    match action {
        Action::List { collection, json, .. } => list(connection, collection, json).await?,
        Action::Files { source, state, json, .. } => files(connection, &source, &state, json).await?,
        Action::Failures { source, json, .. } => {
            files(connection, &source, &[FileState::Failed], json).await?;
        }
        Action::Retry { source, paths, .. } => {
            let request = RetrySourceFilesRequest { source_id: id_of(connection, &source).await?, paths };
            let files = ingest.retry_source_files(request).await?.into_inner().files;
            eprintln!("{} tried again", count(files, "file"));
        }
        Action::Clear { source, paths, .. } => {
            let request = ClearSourceFailuresRequest { source_id: id_of(connection, &source).await?, paths };
            let files = ingest.clear_source_failures(request).await?.into_inner().files;
            eprintln!("{} taken off the list", count(files, "file"));
        }
        Action::Scan { source, reingest, accept_loss, .. } => {
            let source_id = id_of(connection, &source).await?;
            let request = ScanSourceRequest { source_id, reingest_outdated: reingest, accept_loss };
            let outdated = ingest.scan_source(request).await?.into_inner().outdated;
            if reingest {
                eprintln!("{} made again", count(outdated, "document"));
            }
        }
        Action::Remove { source, delete_documents, .. } => {
            let source_id = id_of(connection, &source).await?;
            let request = RemoveSourceRequest { source_id, delete_documents };
            let deleted = ingest.remove_source(request).await?.into_inner().deleted_documents;
            eprintln!("no longer watched; {} deleted", count(deleted, "document"));
        }
    }
    Ok(())
}

/// The id of a source that is named by id or folder.
async fn id_of(connection: &Connection, named: &str) -> Outcome<String> {
    let sources = connection.ingest().list_sources(ListSourcesRequest::default()).await?.into_inner().sources;
    let folder = std::path::absolute(named).unwrap_or_default();
    let real = std::fs::canonicalize(named).unwrap_or_default();
    let is_named = |source: &Source| {
        let path = std::path::Path::new(&source.path);
        source.id == named || path == folder || path == real
    };
    let mut ids = sources.into_iter().filter(is_named).map(|source| source.id);
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "{named}: the folder of several sources; name one by its id (ragstone source list)"
        ))),
        (None, _) => Err(Failure::failed(format!("{named}: no source of this id or folder"))),
    }
}

async fn list(connection: &Connection, collection: String, as_json: bool) -> Outcome {
    let sources =
        connection.ingest().list_sources(ListSourcesRequest { collection }).await?.into_inner().sources;
    if as_json {
        let sources: Vec<_> = sources.iter().map(source_json).collect();
        print_json(&json!({ "sources": sources }))?;
        return Ok(());
    }
    let row = |source: &Source| {
        let numbers = [
            source.files_indexed,
            source.files_linked,
            source.files_outdated,
            source.files_pending,
            source.files_failed,
            source.files_skipped,
        ];
        let noticing = if source.has_events { "events" } else { "scans" };
        let words = [&source.id, &source.collection, &one_line(&source.path)].map(String::clone);
        let state = [state_name(source.state()).to_owned(), noticing.to_owned()];
        words.into_iter().chain(state).chain(numbers.map(|number| number.to_string())).collect()
    };
    let header = [
        "id",
        "collection",
        "folder",
        "state",
        "changes by",
        "indexed",
        "linked",
        "outdated",
        "pending",
        "failed",
        "skipped",
    ];
    let rows: Vec<Vec<String>> = sources.iter().map(row).collect();
    print_line(&if rows.is_empty() { "no watched folders".into() } else { table(&header, &rows, false) })?;
    for source in &sources {
        if !source.error.is_empty() {
            eprintln!("{}: {}", source.id, one_line(&source.error));
        }
        if source.files_outdated > 0 {
            eprintln!(
                "{}: {} made with other settings; to make them again: ragstone source scan --reingest {}",
                source.id,
                if source.files_outdated == 1 {
                    "1 document was".into()
                } else {
                    format!("{} documents were", source.files_outdated)
                },
                source.id
            );
        }
    }
    Ok(())
}

fn source_json(source: &Source) -> serde_json::Value {
    json!({
        "id": source.id, "collection": source.collection, "path": source.path, "ignore": source.ignore,
        "state": state_name(source.state()), "error": source.error, "poll": source.poll,
        "has_events": source.has_events, "files_indexed": source.files_indexed,
        "files_linked": source.files_linked, "files_outdated": source.files_outdated, "files_pending": source.files_pending,
        "files_failed": source.files_failed, "files_skipped": source.files_skipped,
        "passwords": source.passwords, "password_file": source.password_file,
    })
}

async fn files(connection: &Connection, named: &str, states: &[FileState], as_json: bool) -> Outcome {
    let source_id = id_of(connection, named).await?;
    let states: Vec<i32> = states.iter().map(|state| i32::from(*state)).collect();
    let mut page = String::new();
    loop {
        let request = ListSourceFilesRequest {
            source_id: source_id.clone(),
            limit: Some(PAGE),
            page,
            states: states.clone(),
        };
        let reply = connection.ingest().list_source_files(request).await?.into_inner();
        for file in &reply.files {
            if as_json {
                print_line(&file_json(file).to_string())?;
            } else {
                print_line(&file_line(file))?;
            }
        }
        if reply.next_page.is_empty() {
            return Ok(());
        }
        page = reply.next_page;
    }
}

fn file_json(file: &SourceFile) -> serde_json::Value {
    json!({
        "path": file.path, "state": file_state_name(file.state()), "reason": file.reason,
        "document_id": file.document_id, "chunks": file.chunks, "tries": file.tries, "retry_at": file.retry_at,
        "linked_to": file.linked_to,
    })
}

fn file_line(file: &SourceFile) -> String {
    let mut line =
        format!("{:10}  {:>6}  {}", file_state_name(file.state()), file.chunks, one_line(&file.path));
    if !file.reason.is_empty() {
        line.push_str(": ");
        line.push_str(&one_line(&file.reason));
    }
    if !file.linked_to.is_empty() {
        line.push_str(&format!(": same content as {}", one_line(&file.linked_to)));
    }
    if !file.retry_at.is_empty() {
        line.push_str(&format!(" (try {}, next at {})", file.tries, file.retry_at));
    }
    line
}

fn state_name(state: SourceState) -> &'static str {
    match state {
        SourceState::Unspecified => "unknown",
        SourceState::Scanning => "scanning",
        SourceState::Watching => "watching",
        SourceState::Unavailable => "unavailable",
    }
}

const FILE_STATES: [(&str, FileState); 7] = [
    ("queued", FileState::Queued),
    ("extracting", FileState::Extracting),
    ("embedding", FileState::Embedding),
    ("indexed", FileState::Indexed),
    ("outdated", FileState::Outdated),
    ("failed", FileState::Failed),
    ("skipped", FileState::Skipped),
];

fn file_state_name(state: FileState) -> &'static str {
    FILE_STATES.iter().find(|(_, known)| *known == state).map_or("unknown", |(name, _)| name)
}

fn parse_state(text: &str) -> Result<FileState, String> {
    let known = FILE_STATES.iter().find(|(name, _)| *name == text).map(|(_, state)| *state);
    known.ok_or_else(|| format!("expected one of {}", FILE_STATES.map(|(name, _)| name).join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn a_file_is_a_line_with_its_reason_and_its_next_try() {
        let file = SourceFile {
            path: "a\x1b[31m.txt".into(),
            state: FileState::Failed.into(),
            reason: "permission\ndenied".into(),
            tries: 2,
            retry_at: "2026-01-01T00:00:00Z".into(),
            ..SourceFile::default()
        };
        let line = file_line(&file);
        assert_eq!(
            line,
            "failed           0  a[31m.txt: permission denied (try 2, next at 2026-01-01T00:00:00Z)"
        );
        assert_eq!(parse_state("embedding"), Ok(FileState::Embedding));
        assert!(parse_state("nonsense").unwrap_err().contains("outdated"));
    }
}
