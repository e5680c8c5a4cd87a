//! `IngestStream`: documents and rows in, acknowledgements and credit out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, FixedSizeListArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use ragstone_proto::v1;
use ragstone_proto::v1::ingest_document_request::Content;
use ragstone_proto::v1::ingest_stream_reply::Message as Reply;
use ragstone_proto::v1::ingest_stream_request::Message as Asked;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::harness::{TestServer, refused};

/// A stream under way.
struct Stream {
    requests: Option<mpsc::Sender<v1::IngestStreamRequest>>,
    replies: Streaming<v1::IngestStreamReply>,
    credit: v1::IngestCredit,
}

impl Stream {
    /// Opened, with its first credit.
    async fn open(server: &TestServer, collection: &str) -> Self {
        let open =
            v1::IngestStreamOpen { collection: collection.into(), wait_for: v1::IngestWait::Durable.into() };
        let (requests, receiver) = mpsc::channel(1);
        requests.send(message(Asked::Open(open))).await.unwrap();
        let replies =
            server.ingest().ingest_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let mut stream = Self { requests: Some(requests), replies, credit: v1::IngestCredit::default() };
        let first = stream.replies.message().await.unwrap().unwrap().message.unwrap();
        let Reply::Credit(credit) = first else { panic!("{first:?}") };
        assert!(credit.items > 0 && credit.bytes > 0);
        stream.credit = credit;
        stream
    }

    async fn send(&self, asked: Asked) {
        self.requests.as_ref().unwrap().send(message(asked)).await.unwrap();
    }

    /// The next reply that is no credit; `None` at the end.
    async fn reply(&mut self) -> Option<Reply> {
        loop {
            match self.replies.message().await.unwrap()?.message.unwrap() {
                Reply::Credit(credit) => {
                    assert!(credit.items >= self.credit.items && credit.bytes >= self.credit.bytes);
                    self.credit = credit;
                }
                other => return Some(other),
            }
        }
    }

    /// Ends the requests and reads the rest.
    async fn rest(mut self) -> Vec<Reply> {
        self.requests = None;
        let mut replies = Vec::new();
        while let Some(reply) = self.reply().await {
            replies.push(reply);
        }
        replies
    }
}

fn message(asked: Asked) -> v1::IngestStreamRequest {
    v1::IngestStreamRequest { message: Some(asked) }
}

fn document(tag: u64, text: &str) -> v1::IngestDocumentRequest {
    v1::IngestDocumentRequest {
        document_id: format!("d{tag}"),
        content: Some(Content::Text(text.into())),
        tag,
        ..Default::default()
    }
}

fn ipc(ids: &[&str], vectors: &[[f32; 2]]) -> Bytes {
    let vectors = vectors.iter().map(|vector| Some(vector.map(Some).to_vec()));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2);
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(ids.to_vec())) as ArrayRef),
        ("vector:v", Arc::new(vectors)),
    ])
    .unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap().into()
}

#[tokio::test]
async fn documents_are_acknowledged_one_by_one_and_resending_is_safe() {
    let mut server = TestServer::start().await;
    server.create("c").await;
    for round in 0..3 {
        let stream = Stream::open(&server, "c").await;
        for tag in 0..20 {
            stream.send(Asked::Document(document(tag, &format!("text of number {tag}")))).await;
        }
        let elsewhere = v1::IngestDocumentRequest { content: None, ..document(20, "") };
        stream.send(Asked::Document(elsewhere)).await;
        let mut by_tag = BTreeMap::new();
        for reply in stream.rest().await {
            let Reply::Document(reply) = reply else { panic!("{reply:?}") };
            assert!(by_tag.insert(reply.tag, reply).is_none());
        }
        assert_eq!(by_tag.len(), 21);
        assert_eq!(by_tag[&20].outcome(), v1::DocumentOutcome::Failed);
        assert!(by_tag[&20].error.contains("content"), "{:?}", by_tag[&20]);
        let expect = if round == 0 { v1::DocumentOutcome::Indexed } else { v1::DocumentOutcome::Unchanged };
        for tag in 0..20 {
            let reply = &by_tag[&tag];
            assert_eq!((reply.outcome(), reply.document_id.clone()), (expect, format!("d{tag}")));
            assert!(reply.seq_no > 0 && reply.chunks == 1);
        }
        assert_eq!(server.count("c").await, 20);
        if round == 1 {
            server.restart().await;
        }
    }
}

#[tokio::test]
async fn rows_and_documents_share_a_stream_and_rows_keep_their_order() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    let stream = Stream::open(&server, "c").await;
    for (tag, last) in (0..10).zip((0..10).map(|i| i as f32 + 1.0)) {
        let ipc = ipc(&["same", &format!("p{tag}")], &[[last, 0.0], [0.0, 1.0]]);
        stream.send(Asked::Arrow(v1::IngestArrowBatches { tag, ipc })).await;
    }
    let nan = ipc(&["good", "bad"], &[[1.0, 1.0], [f32::NAN, 0.0]]);
    stream.send(Asked::Arrow(v1::IngestArrowBatches { tag: 10, ipc: nan })).await;
    let broken = Bytes::from_static(b"no arrow");
    stream.send(Asked::Arrow(v1::IngestArrowBatches { tag: 11, ipc: broken })).await;
    stream.send(Asked::Document(document(12, "words beside the rows"))).await;
    let mut tags = BTreeSet::new();
    for reply in stream.rest().await {
        match reply {
            Reply::Arrow(reply) => {
                assert!(tags.insert(reply.tag));
                let result = reply.result.unwrap_or_default();
                match reply.tag {
                    10 => {
                        assert_eq!((result.upserted, result.rejected_total), (1, 1));
                        assert_eq!((result.rejected[0].id.as_str(), result.rejected[0].row), ("bad", 1));
                    }
                    11 => assert!(reply.error.contains("Arrow IPC"), "{}", reply.error),
                    _ => assert_eq!((result.upserted, reply.error.as_str()), (2, "")),
                }
            }
            Reply::Document(reply) => assert!(tags.insert(reply.tag)),
            Reply::Credit(_) => unreachable!(),
        }
    }
    assert_eq!(tags, (0..=12).collect());
    let request = v1::GetPointsRequest {
        collection: "c".into(),
        ids: vec!["same".into()],
        with_vectors: Some(v1::VectorSelector { enable: true, names: Vec::new() }),
        ..Default::default()
    };
    assert_eq!(server.points().get_points(request).await.unwrap().into_inner().points.len(), 1);
    assert_eq!(server.count("c").await, 1 + 10 + 1 + 1);
}

#[tokio::test]
async fn a_stream_opens_before_anything_else() {
    let server = TestServer::start().await;
    server.create("c").await;
    let ask = async |asked: Vec<v1::IngestStreamRequest>| -> Result<tonic::Response<()>, Status> {
        let mut replies = server.ingest().ingest_stream(tokio_stream::iter(asked)).await?.into_inner();
        while replies.message().await?.is_some() {}
        Ok(tonic::Response::new(()))
    };
    let open = |collection: &str, wait_for: i32| {
        message(Asked::Open(v1::IngestStreamOpen { collection: collection.into(), wait_for }))
    };
    let text = || message(Asked::Document(document(0, "x")));
    refused(ask(Vec::new()).await, Code::InvalidArgument, "open");
    refused(ask(vec![text()]).await, Code::InvalidArgument, "open");
    refused(ask(vec![open("nosuch", 0)]).await, Code::NotFound, "");
    refused(ask(vec![open("c", 9)]).await, Code::InvalidArgument, "open.wait_for");
    refused(ask(vec![open("c", 0), text(), open("c", 0)]).await, Code::InvalidArgument, "open");
    let empty = v1::IngestStreamRequest { message: None };
    refused(ask(vec![open("c", 0), empty]).await, Code::InvalidArgument, "message");
    let other = v1::IngestDocumentRequest { collection: "d".into(), ..document(0, "x") };
    let other = message(Asked::Document(other));
    refused(ask(vec![open("c", 0), other]).await, Code::InvalidArgument, "document.collection");
    ask(vec![open("c", 2), text()]).await.unwrap();
    assert_eq!(server.count("c").await, 1);
}

/// A page whose text is short and whose bytes are many.
fn heavy(tag: u64, bytes: usize) -> v1::IngestDocumentRequest {
    let page = format!("<html><!-- {} --><body><p>word{tag}</p></body></html>", "x".repeat(bytes));
    v1::IngestDocumentRequest {
        file_name: format!("{tag}.html"),
        content: Some(Content::Data(page.into())),
        ..document(tag, "")
    }
}

#[tokio::test]
async fn a_client_within_its_credit_is_never_far_ahead_and_is_never_stuck() {
    let server = TestServer::with(|config| config.pipeline.max_in_flight_bytes = 4 << 20).await;
    server.create_plain("c", 2).await;
    let mut stream = Stream::open(&server, "c").await;
    // Four MiB are less than the usual grant: the client hears that.
    assert!(stream.credit.slow_down && stream.credit.bytes <= 1 << 20, "{:?}", stream.credit);
    let size = 400 << 10;
    let (mut sent, mut answered, mut answered_bytes) = (v1::IngestCredit::default(), 0, 0);
    let mut sizes = Vec::new();
    while answered < 60 {
        let may = sent.items < stream.credit.items && sent.bytes < stream.credit.bytes;
        if sent.items < 60 && may {
            // One of them is larger than all that is ever granted at once.
            let request = heavy(sent.items, if sent.items == 30 { 6 << 20 } else { size });
            let Some(Content::Data(data)) = &request.content else { panic!() };
            sent.bytes += data.len() as u64;
            sizes.push(data.len() as u64);
            sent.items += 1;
            stream.send(Asked::Document(request)).await;
            continue;
        }
        let reply = tokio::time::timeout(Duration::from_secs(120), stream.replies.message());
        match reply.await.expect("no reply and no credit").unwrap().unwrap().message.unwrap() {
            Reply::Credit(credit) => {
                // A quarter of what the pipeline holds, beyond what was answered.
                assert!(credit.bytes <= answered_bytes + (1 << 20), "{credit:?}, answered {answered_bytes}");
                stream.credit = credit;
            }
            Reply::Document(reply) => {
                assert_eq!(reply.outcome(), v1::DocumentOutcome::Indexed, "{reply:?}");
                answered += 1;
                answered_bytes += sizes[reply.tag as usize];
            }
            Reply::Arrow(_) => unreachable!(),
        }
    }
    assert!(stream.rest().await.is_empty());
    assert_eq!(server.count("c").await, 60);
}

#[tokio::test]
async fn a_client_that_ignores_its_credit_is_held_back_and_loses_nothing() {
    let server = TestServer::with(|config| config.pipeline.max_in_flight_bytes = 4 << 20).await;
    server.create_plain("c", 2).await;
    let count = 150_u64;
    let Stream { requests, mut replies, .. } = Stream::open(&server, "c").await;
    let requests = requests.unwrap();
    let sending = tokio::spawn(async move {
        for tag in 0..count {
            requests.send(message(Asked::Document(heavy(tag, 512 << 10)))).await.unwrap();
        }
    });
    // Replies aren't read for a while either.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut answered = BTreeSet::new();
    let (mut answered_bytes, mut credit) = (0, v1::IngestCredit::default());
    while let Some(reply) = replies.message().await.unwrap() {
        match reply.message.unwrap() {
            Reply::Document(reply) => {
                assert_eq!(reply.outcome(), v1::DocumentOutcome::Indexed, "{reply:?}");
                assert!(answered.insert(reply.tag));
                answered_bytes += (512 << 10) + 100;
            }
            Reply::Credit(granted) => {
                assert!(granted.bytes <= answered_bytes + (1 << 20) && granted.bytes >= credit.bytes);
                credit = granted;
            }
            Reply::Arrow(_) => unreachable!(),
        }
    }
    sending.await.unwrap();
    assert_eq!(answered, (0..count).collect());
    assert_eq!(server.count("c").await, count);
}
