//! Sends files over the ingest stream, no faster than the server grants, and follows what became of each.

use std::sync::Arc;

use ragstone_proto::v1::ingest_document_request::Content;
use ragstone_proto::v1::ingest_stream_reply::Message as Reply;
use ragstone_proto::v1::ingest_stream_request::Message as Request;
use ragstone_proto::v1::{
    DocumentOutcome, IngestCredit, IngestDocumentRequest, IngestDocumentResponse, IngestStreamOpen,
    IngestStreamRequest, IngestWait,
};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
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
    linked: u64,
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
    let (granted, credit) = watch::channel(IngestCredit::default());
    let feeder = Feeder {
        collection: args.collection.clone(),
        reading,
        files: files.clone(),
        stop: interrupted.clone(),
        requests,
        unsent,
        credit,
        sent: IngestCredit::default(),
    };
    let runtime = Handle::current();
    let feeding = tokio::task::spawn_blocking(move || feeder.run(&runtime));
    let mut ingest = connection.ingest();
    let mut replies = ingest.ingest_stream(ReceiverStream::new(receiver)).await?.into_inner();
    let mut finished = 0;
    loop {
        tokio::select! {
            reply = replies.message() => {
                match reply?.map(|reply| reply.message) {
                    None => break,
                    Some(Some(Reply::Document(reply))) => summary.add(&reply, files),
                    Some(Some(Reply::Credit(credit))) => {
                        granted.send_replace(credit);
                        continue;
                    }
                    // Nothing else was sent.
                    Some(Some(Reply::Arrow(_)) | None) => continue,
                }
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
    requests: mpsc::Sender<IngestStreamRequest>,
    /// Files that could not be read, with the reason.
    unsent: mpsc::UnboundedSender<(FoundFile, String)>,
    /// How far the server lets it go...
    credit: watch::Receiver<IngestCredit>,
    /// ...and how far it went.
    sent: IngestCredit,
}

impl Feeder {
    fn run(mut self, runtime: &Handle) {
        let open =
            IngestStreamOpen { collection: self.collection.clone(), wait_for: IngestWait::Searchable.into() };
        let mut going = self.send(Request::Open(open));
        let files = Arc::clone(&self.files);
        for (tag, file) in files.iter().enumerate() {
            // When the stream is over, its error is told where it is read.
            if !going || self.stop.is_cancelled() || !runtime.block_on(self.may_send()) {
                return;
            }
            going = match request(&self.collection, file, tag as u64, &self.reading) {
                Ok(request) => {
                    self.sent.items += 1;
                    self.sent.bytes += content_bytes(&request);
                    self.send(Request::Document(request))
                }
                Err(reason) => self.unsent.send((file.clone(), reason)).is_ok(),
            };
        }
    }

    fn send(&self, message: Request) -> bool {
        self.requests.blocking_send(IngestStreamRequest { message: Some(message) }).is_ok()
    }

    /// Waits until the server lets it send one more; `false` when that won't come.
    async fn may_send(&mut self) -> bool {
        let sent = self.sent;
        let enough = |credit: &IngestCredit| sent.items < credit.items && sent.bytes < credit.bytes;
        tokio::select! {
            granted = self.credit.wait_for(enough) => granted.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

fn content_bytes(request: &IngestDocumentRequest) -> u64 {
    match &request.content {
        Some(Content::Data(data)) => data.len() as u64,
        Some(Content::Text(text)) => text.len() as u64,
        None => 0,
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
            DocumentOutcome::Linked => self.linked += 1,
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
            "files": found, "indexed": summary.indexed, "linked": summary.linked, "unchanged": summary.unchanged, "chunks": summary.chunks,
            "failed": failed, "seq_no": summary.seq_no, "stopped": stopped,
        }))?;
    } else {
        eprintln!(
            "{} indexed in {}, {}{} unchanged, {} failed, of {}",
            summary.indexed,
            count(summary.chunks, "chunk"),
            if summary.linked > 0 { format!("{} linked, ", summary.linked) } else { String::new() },
            summary.unchanged,
            summary.failed.len(),
            count(found, "file")
        );
    }
    if stopped {
        let durable = summary.indexed + summary.linked + summary.unchanged;
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
