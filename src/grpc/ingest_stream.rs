//! Many documents and record batches over one stream: a bounded number in work at once, results as they finish. The stream
//! is read only as fast as there is room, so a fast sender feels the pace of embedding; one that heeds its credit doesn't
//! even have to wait in the network.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt as _};
use ragstone_ingest::pipeline::document_id;
use ragstone_proto::v1;
use ragstone_proto::v1::ingest_stream_reply::Message as Reply;
use ragstone_proto::v1::ingest_stream_request::Message as Asked;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::convert::document;
use super::points::Upload;
use super::status;
use crate::app::App;
use crate::app::error::{Error, Result};

/// Items of one stream in work at the same time.
const MAX_IN_FLIGHT: usize = 32;
/// Bytes of one stream in work at the same time; a larger item waits to be alone.
const MAX_IN_FLIGHT_BYTES: u64 = 32 << 20;
/// Replies that wait for a slow reader.
const REPLY_QUEUE: usize = 64;
/// Items that a client may be ahead of its acknowledgements: as many as are in work, and the next ones on their way.
const WINDOW_ITEMS: u64 = 2 * MAX_IN_FLIGHT as u64;
/// Bytes that it may be ahead when there is room...
const WINDOW_BYTES: u64 = 16 << 20;
/// ...and when there is none.
const LEAST_WINDOW_BYTES: u64 = 256 << 10;
/// Share of the pipeline's free bytes that one stream is granted.
const SHARE: u64 = 4;

/// What becomes of replies: each service has its own form of them.
struct Replies<R> {
    sender: mpsc::Sender<std::result::Result<R, Status>>,
    form: fn(Reply) -> Option<R>,
}

impl<R> Clone for Replies<R> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), form: self.form }
    }
}

impl<R> Replies<R> {
    async fn send(&self, reply: Reply) {
        if let Some(reply) = (self.form)(reply) {
            let _gone = self.sender.send(Ok(reply)).await;
        }
    }

    async fn fail(&self, status: Status) {
        let _gone = self.sender.send(Err(status)).await;
    }
}

type ReplyStream<R> = ReceiverStream<std::result::Result<R, Status>>;

/// `IngestDocuments`: documents alone, each with its collection.
pub(super) fn documents(
    app: Arc<App>,
    requests: Streaming<v1::IngestDocumentRequest>,
) -> Result<ReplyStream<v1::IngestDocumentResponse>> {
    let permit = room(&app)?;
    let items = requests.map(|request| request.map(Item::Document).map_err(status::refused)).boxed();
    let form = |reply| match reply {
        Reply::Document(reply) => Some(reply),
        Reply::Credit(_) | Reply::Arrow(_) => None,
    };
    Ok(start(app, permit, items, form))
}

/// `IngestStream`: the first message names the collection.
pub(super) async fn open(
    app: Arc<App>,
    mut requests: Streaming<v1::IngestStreamRequest>,
) -> std::result::Result<ReplyStream<v1::IngestStreamReply>, Status> {
    let wrong = |error: Error| status::status(&error);
    let permit = room(&app).map_err(wrong)?;
    let first = requests.message().await.map_err(status::refused)?;
    let Some(Asked::Open(opened)) = first.and_then(|first| first.message) else {
        return Err(wrong(Error::invalid("open", "is missing: the first message opens the stream")));
    };
    let v1::IngestStreamOpen { collection, wait_for } = opened;
    // Whatever is waited for: a write is acknowledged when it is both.
    v1::IngestWait::try_from(wait_for)
        .map_err(|_| wrong(Error::invalid("open.wait_for", format!("{wait_for} is not known here"))))?;
    app.collection(&collection).map_err(wrong)?;
    let item = move |request: std::result::Result<v1::IngestStreamRequest, Status>| {
        let asked = request.map_err(status::refused)?.message;
        item(asked, &collection).map_err(|error| status::status(&error))
    };
    let form = |reply| Some(v1::IngestStreamReply { message: Some(reply) });
    Ok(start(app, permit, requests.map(item).boxed(), form))
}

fn room(app: &App) -> Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(app.document_streams()).try_acquire_owned();
    permit.map_err(|_| Error::Busy { what: "streams of documents", limit: crate::app::MAX_DOCUMENT_STREAMS })
}

/// What a stream brings.
enum Item {
    Document(v1::IngestDocumentRequest),
    Arrow { collection: String, batches: v1::IngestArrowBatches },
}

fn item(asked: Option<Asked>, collection: &str) -> Result<Item> {
    match asked {
        Some(Asked::Document(document))
            if document.collection.is_empty() || document.collection == collection =>
        {
            Ok(Item::Document(v1::IngestDocumentRequest { collection: collection.into(), ..document }))
        }
        Some(Asked::Document(other)) => {
            let message = format!("is {:?}; the stream was opened for {collection:?}", other.collection);
            Err(Error::invalid("document.collection", message))
        }
        Some(Asked::Arrow(batches)) => Ok(Item::Arrow { collection: collection.into(), batches }),
        Some(Asked::Open(_)) => Err(Error::invalid("open", "comes twice")),
        None => Err(Error::invalid("message", "is missing: give a document or arrow")),
    }
}

/// Takes in what comes; the replies are a stream. It ends with the requests, and with the server.
fn start<R: Send + 'static>(
    app: Arc<App>,
    permit: OwnedSemaphorePermit,
    items: BoxStream<'static, std::result::Result<Item, Status>>,
    form: fn(Reply) -> Option<R>,
) -> ReplyStream<R> {
    let (sender, receiver) = mpsc::channel(REPLY_QUEUE);
    let replies = Replies { sender, form };
    tokio::spawn(async move {
        let _permit = permit;
        let stopping = app.stopping().clone();
        let mut work = Work {
            app,
            replies: replies.clone(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            keys: HashSet::new(),
            bytes: 0,
            credit: Credit::default(),
        };
        // Dropping the work ends what it started, when the caller goes away.
        tokio::select! {
            () = work.take_all(items) => {}
            () = replies.sender.closed() => {}
            () = stopping.cancelled() => replies.fail(status::status(&Error::ShuttingDown)).await,
        }
    });
    ReceiverStream::new(receiver)
}

/// What may not be in work twice: a document's next version waits for the one before it, and so does the next message of
/// rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Document { collection: String, id: String },
    Arrow { collection: String },
}

struct Work<R> {
    app: Arc<App>,
    replies: Replies<R>,
    tasks: JoinSet<()>,
    /// What each task works on, and its bytes.
    running: HashMap<Id, (Key, u64)>,
    keys: HashSet<Key>,
    /// Bytes in work.
    bytes: u64,
    credit: Credit,
}

impl<R: Send + 'static> Work<R> {
    async fn take_all(&mut self, mut items: BoxStream<'static, std::result::Result<Item, Status>>) {
        self.grant().await;
        loop {
            let item = tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.finished(ended).await;
                    continue;
                }
                item = items.next() => item,
            };
            match item {
                Some(Ok(item)) => self.take(item).await,
                None => break,
                Some(Err(status)) => {
                    while self.finish_one().await {}
                    return self.replies.fail(status).await;
                }
            }
        }
        while self.finish_one().await {}
    }

    /// Starts an item, as soon as there is room for it.
    async fn take(&mut self, item: Item) {
        match item {
            Item::Document(request) => {
                let (bytes, tag, id) = (content_bytes(&request), request.tag, request.document_id.clone());
                if let Err(error) = self.document(request, bytes).await {
                    self.replies.send(Reply::Document(document::failed(id, &error, tag))).await;
                    self.done(bytes).await;
                }
            }
            Item::Arrow { collection, batches } => {
                let (bytes, tag) = (batches.ipc.len() as u64, batches.tag);
                if let Err(error) = self.arrow(collection, batches, bytes).await {
                    let error = error.to_string();
                    self.replies.send(Reply::Arrow(v1::IngestArrowReply { tag, result: None, error })).await;
                    self.done(bytes).await;
                }
            }
        }
    }

    async fn document(&mut self, request: v1::IngestDocumentRequest, bytes: u64) -> Result<()> {
        let (collection, tag) = (request.collection.clone(), request.tag);
        let mut raw = document::raw(request)?;
        raw.id = document_id(&raw)?;
        let key = Key::Document { collection: collection.clone(), id: raw.id.clone() };
        self.make_room(&key, bytes).await;
        let admission = self.app.admit_document(raw.data.len()).await?;
        let (app, replies, id) = (Arc::clone(&self.app), self.replies.clone(), raw.id.clone());
        self.spawn(key, bytes, async move {
            let reply = match app.ingest_admitted(&collection, raw, admission).await {
                Ok(ingested) => document::ingested(ingested, tag),
                Err(error) => document::failed(id, &error, tag),
            };
            replies.send(Reply::Document(reply)).await;
        });
        Ok(())
    }

    async fn arrow(&mut self, collection: String, batches: v1::IngestArrowBatches, bytes: u64) -> Result<()> {
        let v1::IngestArrowBatches { tag, ipc } = batches;
        let key = Key::Arrow { collection: collection.clone() };
        self.make_room(&key, bytes).await;
        // Twice: as it came, and as it is written.
        let admission = self.app.admit_document(ipc.len().saturating_mul(2)).await?;
        let (app, replies) = (Arc::clone(&self.app), self.replies.clone());
        self.spawn(key, bytes, async move {
            let mut upload = Upload::to(collection);
            let written = upload.message(&app, ipc, "ipc".into()).await;
            drop(admission);
            let error = written.err().map(|error| error.to_string()).unwrap_or_default();
            let reply = v1::IngestArrowReply { tag, result: Some(upload.reply), error };
            replies.send(Reply::Arrow(reply)).await;
        });
        Ok(())
    }

    /// Waits until the item may be in work.
    async fn make_room(&mut self, key: &Key, bytes: u64) {
        while self.keys.contains(key)
            || self.tasks.len() >= MAX_IN_FLIGHT
            || (self.bytes > 0 && self.bytes.saturating_add(bytes) > MAX_IN_FLIGHT_BYTES)
        {
            if !self.finish_one().await {
                break;
            }
        }
    }

    fn spawn(&mut self, key: Key, bytes: u64, task: impl Future<Output = ()> + Send + 'static) {
        self.keys.insert(key.clone());
        self.bytes += bytes;
        let id = self.tasks.spawn(task).id();
        self.running.insert(id, (key, bytes));
    }

    /// Waits for an item in work; `false` when there is none.
    async fn finish_one(&mut self) -> bool {
        match self.tasks.join_next_with_id().await {
            None => false,
            Some(ended) => {
                self.finished(ended).await;
                true
            }
        }
    }

    async fn finished(&mut self, ended: std::result::Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a document's task died");
                self.replies.fail(status::status(&Error::Panicked)).await;
                error.id()
            }
        };
        if let Some((key, bytes)) = self.running.remove(&id) {
            self.keys.remove(&key);
            self.bytes = self.bytes.saturating_sub(bytes);
            self.done(bytes).await;
        }
    }

    /// An item was answered: its room is the client's again.
    async fn done(&mut self, bytes: u64) {
        self.credit.done_items += 1;
        self.credit.done_bytes += bytes;
        self.grant().await;
    }

    async fn grant(&mut self) {
        let granted = self.credit.next(self.app.free_document_bytes() as u64, self.tasks.is_empty());
        if let Some(credit) = granted {
            self.replies.send(Reply::Credit(credit)).await;
        }
    }
}

fn content_bytes(request: &v1::IngestDocumentRequest) -> u64 {
    use v1::ingest_document_request::Content;
    match &request.content {
        Some(Content::Data(data)) => data.len() as u64,
        Some(Content::Text(text)) => text.len() as u64,
        None => 0,
    }
}

/// How far a client may go, and how far it was told.
#[derive(Debug, Default)]
struct Credit {
    done_items: u64,
    done_bytes: u64,
    told: Option<v1::IngestCredit>,
}

impl Credit {
    /// What to tell now, if it is worth a message. `free`: what the pipeline would take at once; `idle`: nothing is in work,
    /// so that a client without credit would wait for ever.
    fn next(&mut self, free: u64, idle: bool) -> Option<v1::IngestCredit> {
        let window = (free / SHARE).clamp(LEAST_WINDOW_BYTES, WINDOW_BYTES);
        let told = self.told.unwrap_or_default();
        let credit = v1::IngestCredit {
            items: self.done_items + WINDOW_ITEMS,
            // What was granted stays granted.
            bytes: (self.done_bytes + window).max(told.bytes),
            slow_down: window < WINDOW_BYTES,
        };
        let worth = credit.slow_down != told.slow_down
            || credit.items >= told.items + WINDOW_ITEMS / 4
            || credit.bytes >= told.bytes + window / 4
            || (idle && (credit.items > told.items || credit.bytes > told.bytes));
        (worth || self.told.is_none()).then(|| *self.told.insert(credit))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    const PLENTY: u64 = 256 << 20;

    #[test]
    fn credit_is_told_at_first_then_in_portions_and_whenever_nothing_is_in_work() {
        let mut credit = Credit::default();
        let first = credit.next(PLENTY, true).unwrap();
        assert_eq!((first.items, first.bytes, first.slow_down), (WINDOW_ITEMS, WINDOW_BYTES, false));
        credit.done_items = 1;
        assert_eq!(credit.next(PLENTY, false), None);
        assert_eq!(credit.next(PLENTY, true).unwrap().items, WINDOW_ITEMS + 1);
        assert_eq!(credit.next(PLENTY, true), None);
        credit.done_items += WINDOW_ITEMS / 4;
        assert_eq!(credit.next(PLENTY, false).unwrap().items, credit.done_items + WINDOW_ITEMS);
        credit.done_bytes = WINDOW_BYTES / 4;
        assert_eq!(credit.next(PLENTY, false).unwrap().bytes, credit.done_bytes + WINDOW_BYTES);
    }

    #[test]
    fn short_of_room_the_client_is_told_and_granted_less_but_nothing_is_taken_back() {
        let mut credit = Credit::default();
        credit.next(PLENTY, true).unwrap();
        let short = credit.next(0, false).unwrap();
        assert_eq!((short.bytes, short.slow_down), (WINDOW_BYTES, true));
        credit.done_bytes = WINDOW_BYTES;
        let next = credit.next(0, false).unwrap();
        assert_eq!((next.bytes, next.slow_down), (WINDOW_BYTES + LEAST_WINDOW_BYTES, true));
        let again = credit.next(PLENTY, false).unwrap();
        assert_eq!((again.bytes, again.slow_down), (2 * WINDOW_BYTES, false));
    }
}
