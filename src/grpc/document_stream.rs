//! Many documents over one stream: a bounded number in work at once, results as they finish. The stream is read only as
//! fast as documents find room, so a fast sender feels the pace of embedding.

use std::collections::HashSet;
use std::sync::Arc;

use ragstone_ingest::document::RawDocument;
use ragstone_ingest::pipeline::{Admission, document_id};
use ragstone_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::convert::document;
use super::status;
use crate::app::App;
use crate::app::error::{Error, Result};

/// Documents of one stream in work at the same time.
const MAX_IN_FLIGHT: usize = 32;
/// Replies that wait for a slow reader.
const REPLY_QUEUE: usize = 64;

type Reply = std::result::Result<v1::IngestDocumentResponse, Status>;

/// Takes in the documents of a stream; the replies come back as a stream. It ends with the requests, and with the
/// server.
pub fn run(app: Arc<App>, requests: Streaming<v1::IngestDocumentRequest>) -> Result<ReceiverStream<Reply>> {
    let Ok(permit) = Arc::clone(app.document_streams()).try_acquire_owned() else {
        return Err(Error::Busy { what: "streams of documents", limit: crate::app::MAX_DOCUMENT_STREAMS });
    };
    let (replies, receiver) = mpsc::channel(REPLY_QUEUE);
    tokio::spawn(async move {
        let _permit = permit;
        let stopping = app.stopping().clone();
        let mut work = Work { app, replies: replies.clone(), tasks: JoinSet::new(), ids: HashSet::new() };
        // Dropping the work ends what it started, when the caller goes away.
        tokio::select! {
            () = work.take_all(requests) => {}
            () = replies.closed() => {}
            () = stopping.cancelled() => {
                let _gone = replies.send(Err(status::status(&Error::ShuttingDown))).await;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

struct Work {
    app: Arc<App>,
    replies: mpsc::Sender<Reply>,
    tasks: JoinSet<(String, String)>,
    /// Collection and document id of what is in work: a document's next version waits for the one before it.
    ids: HashSet<(String, String)>,
}

impl Work {
    async fn take_all(&mut self, mut requests: Streaming<v1::IngestDocumentRequest>) {
        loop {
            match requests.message().await {
                Ok(Some(request)) => self.take(request).await,
                Ok(None) => break,
                Err(refused) => {
                    while self.finish_one().await {}
                    let _gone = self.replies.send(Err(status::refused(refused))).await;
                    return;
                }
            }
        }
        while self.finish_one().await {}
    }

    /// Starts a document, as soon as there is room for it.
    async fn take(&mut self, request: v1::IngestDocumentRequest) {
        let (collection, tag) = (request.collection.clone(), request.tag);
        let id = request.document_id.clone();
        match self.prepare(&collection, request).await {
            Ok((raw, admission)) => self.start(collection, raw, admission, tag),
            Err(error) => {
                let _gone = self.replies.send(Ok(document::failed(id, &error, tag))).await;
            }
        }
    }

    async fn prepare(
        &mut self,
        collection: &str,
        request: v1::IngestDocumentRequest,
    ) -> Result<(RawDocument, Admission)> {
        let mut raw = document::raw(request)?;
        raw.id = document_id(&raw)?;
        let key = (collection.to_owned(), raw.id.clone());
        while self.ids.contains(&key) || self.tasks.len() >= MAX_IN_FLIGHT {
            self.finish_one().await;
        }
        let admission = self.app.admit_document(raw.data.len()).await?;
        Ok((raw, admission))
    }

    fn start(&mut self, collection: String, raw: RawDocument, admission: Admission, tag: u64) {
        let (app, replies) = (Arc::clone(&self.app), self.replies.clone());
        let key = (collection, raw.id.clone());
        self.ids.insert(key.clone());
        self.tasks.spawn(async move {
            let reply = match app.ingest_admitted(&key.0, raw, admission).await {
                Ok(ingested) => document::ingested(ingested, tag),
                Err(error) => document::failed(key.1.clone(), &error, tag),
            };
            let _gone = replies.send(Ok(reply)).await;
            key
        });
    }

    /// Waits for a document in work; `false` when there is none.
    async fn finish_one(&mut self) -> bool {
        match self.tasks.join_next().await {
            None => false,
            Some(Ok(key)) => {
                self.ids.remove(&key);
                true
            }
            Some(Err(error)) => {
                // Which one it was is lost with it: nothing that runs may be taken for it.
                tracing::error!(%error, "a document's task died");
                let _gone = self.replies.send(Err(status::status(&Error::Panicked))).await;
                self.ids.clear();
                true
            }
        }
    }
}
