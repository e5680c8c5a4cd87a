//! Hands folders to the server to watch, and waits until it has read what is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ragstone_proto::v1::{
    AddSourceRequest, Duplicates, FileState, ListSourceFilesRequest, ListSourcesRequest, Source, SourceState,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Args, Reading};
use crate::cli::connection::Connection;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{count, one_line, print_json};
use crate::cli::progress::Progress;

/// Time between two looks at the server's progress.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Files whose failure is told; the rest is counted.
const MAX_TOLD_FAILURES: usize = 20;
/// Files of one page of the list.
const PAGE: u32 = 1_000;

pub(super) async fn run(
    args: &Args,
    reading: &Reading,
    connection: &Connection,
    interrupted: &CancellationToken,
) -> Outcome {
    let mut folders = Vec::new();
    for path in &args.paths {
        folders.push(folder(path)?);
    }
    let mut ids = Vec::new();
    for folder in &folders {
        ids.push(add_source(connection, &args.collection, folder, &args.ignore, reading).await?.id);
    }
    let sources = wait_until_read(connection, &ids, interrupted).await?;
    if interrupted.is_cancelled() {
        return Err(Failure::failed(stopped_message(connection)));
    }
    for source in &sources {
        tell_failures(connection, source).await?;
    }
    report(args, &sources)?;
    if connection.is_embedded() {
        eprintln!("watching; ctrl-c stops");
        interrupted.cancelled().await;
    } else {
        eprintln!("the server goes on watching");
    }
    Ok(())
}

/// Lets the server watch a folder, unless it does so already.
pub(in crate::cli) async fn add_source(
    connection: &Connection,
    collection: &str,
    folder: &Path,
    ignore: &[String],
    reading: &Reading,
) -> Outcome<Source> {
    let path = folder
        .to_str()
        .ok_or_else(|| Failure::usage(format!("{}: the name is not UTF-8", folder.display())))?;
    let mut ingest = connection.ingest();
    let known =
        ingest.list_sources(ListSourcesRequest { collection: collection.to_owned() }).await?.into_inner();
    let asks_for_nothing = ignore.is_empty()
        && reading.path_fields.is_none()
        && reading.chunk.is_none()
        && !reading.poll
        && reading.duplicates == Duplicates::Unspecified
        && reading.near_duplicates.is_none()
        && reading.near_duplicate_threshold.is_none()
        && reading.password_file.is_none()
        && reading.ttl_seconds.is_none();
    let known = known.sources.into_iter().find(|source| source.path == path);
    if let Some(source) = known.filter(|_| asks_for_nothing) {
        return Ok(source);
    }
    let request = AddSourceRequest {
        collection: collection.to_owned(),
        path: path.to_owned(),
        ignore: ignore.to_vec(),
        path_fields: reading.path_fields.as_ref().map(|rule| rule.pattern().to_owned()).unwrap_or_default(),
        chunk: reading.chunk.clone(),
        poll: reading.poll,
        duplicates: reading.duplicates.into(),
        near_duplicates: reading.near_duplicates,
        near_duplicate_threshold: reading.near_duplicate_threshold,
        ttl_seconds: reading.ttl_seconds,
        password_file: reading.password_file.clone().unwrap_or_default(),
    };
    Ok(ingest.add_source(request).await?.into_inner().source.unwrap_or_default())
}

/// Waits until the first scan of the sources is over, or the command is stopped.
pub(in crate::cli) async fn wait_until_read(
    connection: &Connection,
    ids: &[String],
    interrupted: &CancellationToken,
) -> Outcome<Vec<Source>> {
    let mut progress = Progress::new("ingesting", "files", None);
    loop {
        let listed =
            connection.ingest().list_sources(ListSourcesRequest::default()).await?.into_inner().sources;
        let mut by_id: HashMap<String, Source> =
            listed.into_iter().map(|source| (source.id.clone(), source)).collect();
        let sources: Vec<Source> = ids.iter().filter_map(|id| by_id.remove(id)).collect();
        if let Some(source) = sources.iter().find(|source| source.state() == SourceState::Unavailable) {
            return Err(Failure::failed(format!("{}: {}", source.path, source.error)));
        }
        let done: u64 = sources.iter().map(|s| s.files_indexed + s.files_failed + s.files_skipped).sum();
        let pending: u64 = sources.iter().map(|source| source.files_pending).sum();
        progress.set_total(Some(done + pending));
        progress.set_done(done);
        let read = |source: &Source| source.state() == SourceState::Watching && source.files_pending == 0;
        if sources.iter().all(read) {
            return Ok(sources);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = interrupted.cancelled() => return Ok(sources),
        }
    }
}

fn folder(path: &Path) -> Outcome<PathBuf> {
    let path =
        path.canonicalize().map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    if !path.is_dir() {
        let message =
            format!("{}: not a folder; --watch takes folders, leave it out for a file", path.display());
        return Err(Failure::usage(message));
    }
    Ok(path)
}

fn stopped_message(connection: &Connection) -> &'static str {
    if connection.is_embedded() {
        "stopped; what was indexed is durable, and the same command goes on from there"
    } else {
        "stopped looking; the server goes on reading and watching the folders"
    }
}

async fn tell_failures(connection: &Connection, source: &Source) -> Outcome {
    if source.files_failed == 0 {
        return Ok(());
    }
    let mut told = 0;
    let mut page = String::new();
    loop {
        let request = ListSourceFilesRequest {
            source_id: source.id.clone(),
            limit: Some(PAGE),
            page,
            states: vec![FileState::Failed.into()],
        };
        let reply = connection.ingest().list_source_files(request).await?.into_inner();
        for file in &reply.files {
            if told == MAX_TOLD_FAILURES {
                eprintln!("failed: and more; {} in all", source.files_failed);
                return Ok(());
            }
            told += 1;
            eprintln!("failed: {}: {}", one_line(&file.path), one_line(&file.reason));
        }
        if reply.next_page.is_empty() {
            return Ok(());
        }
        page = reply.next_page;
    }
}

fn report(args: &Args, sources: &[Source]) -> Outcome {
    if args.json {
        let sources: Vec<_> = sources
            .iter()
            .map(|source| {
                json!({
                    "id": source.id, "path": source.path, "files_indexed": source.files_indexed,
                    "files_failed": source.files_failed, "files_skipped": source.files_skipped,
                })
            })
            .collect();
        print_json(&json!({ "sources": sources }))?;
        return Ok(());
    }
    for source in sources {
        let (path, files) = (&source.path, count(source.files_indexed, "file"));
        eprintln!(
            "{path}: {files} indexed, {} failed, {} skipped",
            source.files_failed, source.files_skipped
        );
    }
    Ok(())
}
