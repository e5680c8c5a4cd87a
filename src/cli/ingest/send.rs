//! Sends files over the document stream and follows what became of each.

use std::sync::Arc;

use ragstone_proto::v1::{DocumentOutcome, IngestDocumentRequest, IngestDocumentResponse};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::files::{FoundFile, find, request};
use super::{Args, Reading};
use crate::cli::connection::Connection;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{count, one_line, print_json};
use crate::cli::progress::Progress;

/// Requests that are read ahead of the network.
const READ_AHEAD: usize = 4;

/// What became of the files.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    indexed: u64,
    unchanged: u64,
    chunks: u64,
    seq_no: u64,
    /// File and reason.
    failed: Vec<(String, String)>,
    /// Whether a file that was named itself is among them.
    named_failed: bool,
}

pub(super) async fn run(
    args: &Args,
    reading: Reading,
    connection: &Connection,
    interrupted: &CancellationToken,
) -> Outcome {
    let paths = args.paths.clone();
    let (files, unreadable) = tokio::task::spawn_blocking(move || find(&paths)).await?;
    let mut summary = Summary::default();
    for problem in unreadable {
        summary.fail(None, &problem.message, problem.named);
    }
    let files = Arc::new(files);
    let mut progress = Progress::new("ingesting", "files", Some(files.len() as u64));
    send_all((args, reading), connection, interrupted, &files, &mut summary, &mut progress).await?;
    drop(progress);
    report(args, &summary, files.len() as u64, interrupted.is_cancelled())
}

async fn send_all(
    (args, reading): (&Args, Reading),
    connection: &Connection,
    interrupted: &CancellationToken,
    files: &Arc<Vec<FoundFile>>,
    summary: &mut Summary,
    progress: &mut Progress,
) -> Outcome {
    let (requests, receiver) = mpsc::channel(READ_AHEAD);
    let (unsent, mut unsent_files) = mpsc::unbounded_channel();
    let feeder = Feeder {
        collection: args.collection.clone(),
        reading,
        files: files.clone(),
        stop: interrupted.clone(),
        requests,
        unsent,
    };
    let feeding = tokio::task::spawn_blocking(move || feeder.run());
    let mut ingest = connection.ingest();
    let mut replies = ingest.ingest_documents(ReceiverStream::new(receiver)).await?.into_inner();
    let mut finished = 0;
    loop {
        tokio::select! {
            reply = replies.message() => {
                let Some(reply) = reply? else { break };
                summary.add(&reply, files);
            }
            Some((file, reason)) = unsent_files.recv() => summary.fail_file(&file, &reason),
        }
        finished += 1;
        progress.set_done(finished);
    }
    while let Ok((file, reason)) = unsent_files.try_recv() {
        summary.fail_file(&file, &reason);
    }
    feeding.await?;
    Ok(())
}

/// Reads files and hands them to the stream until told to stop.
struct Feeder {
    collection: String,
    reading: Reading,
    files: Arc<Vec<FoundFile>>,
    stop: CancellationToken,
    requests: mpsc::Sender<IngestDocumentRequest>,
    /// Files that could not be read, with the reason.
    unsent: mpsc::UnboundedSender<(FoundFile, String)>,
}

impl Feeder {
    fn run(self) {
        for (tag, file) in self.files.iter().enumerate() {
            if self.stop.is_cancelled() {
                return;
            }
            let sent = match request(&self.collection, file, tag as u64, &self.reading) {
                Ok(request) => self.requests.blocking_send(request).is_ok(),
                Err(reason) => self.unsent.send((file.clone(), reason)).is_ok(),
            };
            // The stream is over; its error is told where it is read.
            if !sent {
                return;
            }
        }
    }
}

impl Summary {
    fn add(&mut self, reply: &IngestDocumentResponse, files: &[FoundFile]) {
        self.seq_no = self.seq_no.max(reply.seq_no);
        match reply.outcome() {
            DocumentOutcome::Indexed => {
                self.indexed += 1;
                self.chunks += u64::from(reply.chunks);
            }
            DocumentOutcome::Unchanged => self.unchanged += 1,
            DocumentOutcome::Failed | DocumentOutcome::Unspecified => {
                let file = usize::try_from(reply.tag).ok().and_then(|tag| files.get(tag));
                match file {
                    Some(file) => self.fail_file(file, &reply.error),
                    None => self.fail(Some(&reply.document_id), &reply.error, false),
                }
            }
        }
    }

    fn fail_file(&mut self, file: &FoundFile, reason: &str) {
        self.fail(Some(&file.path.display().to_string()), reason, file.named);
    }

    fn fail(&mut self, file: Option<&str>, reason: &str, named: bool) {
        self.named_failed |= named;
        self.failed.push((file.unwrap_or_default().to_owned(), one_line(reason)));
    }
}

fn report(args: &Args, summary: &Summary, found: u64, stopped: bool) -> Outcome {
    for (file, reason) in &summary.failed {
        eprintln!("failed: {}{}{reason}", one_line(file), if file.is_empty() { "" } else { ": " });
    }
    if args.json {
        let failed: Vec<_> =
            summary.failed.iter().map(|(file, reason)| json!({"file": file, "reason": reason})).collect();
        print_json(&json!({
            "files": found, "indexed": summary.indexed, "unchanged": summary.unchanged, "chunks": summary.chunks,
            "failed": failed, "seq_no": summary.seq_no, "stopped": stopped,
        }))?;
    } else {
        eprintln!(
            "{} indexed in {}, {} unchanged, {} failed, of {}",
            summary.indexed,
            count(summary.chunks, "chunk"),
            summary.unchanged,
            summary.failed.len(),
            count(found, "file")
        );
    }
    if stopped {
        let durable = summary.indexed + summary.unchanged;
        return Err(Failure::failed(format!("stopped; {durable} of {} are durable", count(found, "file"))));
    }
    if summary.named_failed {
        return Err(Failure::failed("not all the files that were named could be ingested"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, named: bool) -> FoundFile {
        FoundFile { path: name.into(), relative: name.into(), named }
    }

    fn reply(tag: u64, outcome: DocumentOutcome) -> IngestDocumentResponse {
        IngestDocumentResponse {
            tag,
            outcome: outcome.into(),
            chunks: 2,
            seq_no: tag,
            error: "bad".into(),
            ..Default::default()
        }
    }

    #[test]
    fn replies_are_matched_with_files_by_tag() {
        let files = [file("a", false), file("b", true), file("c", false)];
        let mut summary = Summary::default();
        for (tag, outcome) in
            [(2, DocumentOutcome::Indexed), (0, DocumentOutcome::Unchanged), (9, DocumentOutcome::Failed)]
        {
            summary.add(&reply(tag, outcome), &files);
        }
        assert!(!summary.named_failed);
        summary.add(&reply(1, DocumentOutcome::Failed), &files);
        assert!(summary.named_failed);
        assert_eq!((summary.indexed, summary.unchanged, summary.chunks, summary.seq_no), (1, 1, 2, 9));
        assert_eq!(summary.failed, [(String::new(), "bad".to_owned()), ("b".to_owned(), "bad".to_owned())]);
    }
}
