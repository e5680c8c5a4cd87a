//! Sends a corpus through the document stream and measures the rate.

use std::path::Path;
use std::time::{Duration, Instant};

use ragstone_proto::v1::ingest_document_request::Content;
use ragstone_proto::v1::{DocumentOutcome, IngestDocumentRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::beir::{CorpusDocument, each_line, parse_document};
use crate::cli::connection::Connection;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::one_line;
use crate::cli::progress::Progress;

/// Documents that are read ahead of the network.
const READ_AHEAD: usize = 256;
/// Documents whose failure is told; the rest is counted.
const MAX_TOLD_FAILURES: u64 = 5;

/// What became of the corpus.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loaded {
    pub(super) indexed: u64,
    /// Refused, for example because they have no text.
    pub(super) failed: u64,
    pub(super) chunks: u64,
    pub(super) seq_no: u64,
    /// From the first document sent to the last one durable.
    pub(super) elapsed: Duration,
}

pub(super) async fn run(
    corpus: &Path,
    documents: u64,
    connection: &Connection,
    collection: &str,
    interrupted: &CancellationToken,
) -> Outcome<Loaded> {
    let (requests, receiver) = mpsc::channel(READ_AHEAD);
    let (corpus, name, stop) = (corpus.to_owned(), collection.to_owned(), interrupted.clone());
    let started = Instant::now();
    let feeding = tokio::task::spawn_blocking(move || feed(&corpus, &name, &stop, &requests));
    let mut replies = connection.ingest().ingest_documents(ReceiverStream::new(receiver)).await?.into_inner();
    let mut progress = Progress::new("ingesting", "documents", Some(documents));
    let mut loaded = Loaded::default();
    while let Some(reply) = replies.message().await? {
        loaded.seq_no = loaded.seq_no.max(reply.seq_no);
        match reply.outcome() {
            DocumentOutcome::Indexed | DocumentOutcome::Unchanged | DocumentOutcome::Linked => {
                loaded.indexed += 1;
                loaded.chunks += u64::from(reply.chunks);
            }
            DocumentOutcome::Failed | DocumentOutcome::Unspecified => {
                loaded.failed += 1;
                if loaded.failed <= MAX_TOLD_FAILURES {
                    progress.note(&one_line(&format!("document {}: {}", reply.document_id, reply.error)));
                }
            }
        }
        progress.set_done(loaded.indexed + loaded.failed);
    }
    loaded.elapsed = started.elapsed();
    feeding.await?.map_err(Failure::failed)?;
    if interrupted.is_cancelled() {
        return Err(Failure::failed("stopped"));
    }
    if loaded.failed > 0 {
        progress.note(&format!("{} of {documents} documents could not be ingested", loaded.failed));
    }
    if loaded.indexed == 0 {
        return Err(Failure::failed("no document could be ingested"));
    }
    Ok(loaded)
}

fn feed(
    corpus: &Path,
    collection: &str,
    stop: &CancellationToken,
    requests: &mpsc::Sender<IngestDocumentRequest>,
) -> Result<(), String> {
    let mut open = true;
    each_line(corpus, |line| {
        let document = parse_document(line)?;
        // A stream that is over is told where its replies are read.
        open = open && !stop.is_cancelled() && requests.blocking_send(request(collection, document)).is_ok();
        Ok(())
    })
}

fn request(collection: &str, document: CorpusDocument) -> IngestDocumentRequest {
    IngestDocumentRequest {
        collection: collection.to_owned(),
        document_id: document.id,
        title: document.title,
        content: Some(Content::Text(document.text)),
        media_type: "text/plain".to_owned(),
        ..IngestDocumentRequest::default()
    }
}
