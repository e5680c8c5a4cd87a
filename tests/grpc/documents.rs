//! Documents: one by one and as a stream.

use bytes::Bytes;
use ragstone_proto::v1;
use ragstone_proto::v1::ingest_document_request::Content;
use tonic::Code;

use crate::harness::{TestServer, payload, refused, word};

fn document(id: &str, text: &str) -> v1::IngestDocumentRequest {
    v1::IngestDocumentRequest {
        collection: "c".into(),
        document_id: id.into(),
        content: Some(Content::Text(text.into())),
        ..Default::default()
    }
}

async fn ingest(server: &TestServer, request: v1::IngestDocumentRequest) -> v1::IngestDocumentResponse {
    server.ingest().ingest_document(request).await.unwrap().into_inner()
}

async fn keyword(server: &TestServer, text: &str) -> v1::SearchResponse {
    let request = v1::SearchRequest {
        collection: "c".into(),
        text: Some(text.into()),
        mode: v1::SearchMode::Keyword.into(),
        ..Default::default()
    };
    server.search(request).await
}

#[tokio::test]
async fn a_document_is_replaced_whole() {
    let mut server = TestServer::start().await;
    server.create("c").await;
    let first = v1::IngestDocumentRequest {
        title: "Zebras".into(),
        uri: "https://example.org/z".into(),
        metadata: payload([("lang", word("en"))]),
        tag: 7,
        ..document("z", "The quagga was a zebra.\n\nIt lived in southern Africa.")
    };
    let reply = ingest(&server, first.clone()).await;
    assert_eq!(
        (reply.outcome(), reply.tag, reply.document_id.as_str()),
        (v1::DocumentOutcome::Indexed, 7, "z")
    );
    assert!(reply.chunks > 0 && reply.seq_no > 0);
    let again = ingest(&server, first).await;
    assert_eq!((again.outcome(), again.chunks), (v1::DocumentOutcome::Unchanged, reply.chunks));
    assert!(again.seq_no >= reply.seq_no);
    let found = keyword(&server, "quagga").await;
    let origin = found.hits[0].origin.as_ref().unwrap();
    assert_eq!((origin.document_id.as_str(), origin.title.as_str()), ("z", "Zebras"));
    assert_eq!(found.hits[0].payload.as_ref().unwrap().fields["lang"], word("en"));

    let second = ingest(&server, document("z", "Okapis are relatives of the giraffe.")).await;
    assert_eq!(second.outcome(), v1::DocumentOutcome::Indexed);
    for _ in 0..2 {
        assert!(keyword(&server, "quagga").await.hits.is_empty());
        assert_eq!(keyword(&server, "okapis").await.hits.len(), 1);
        assert_eq!(server.count("c").await, u64::from(second.chunks));
        server.restart().await;
    }
}

#[tokio::test]
async fn documents_are_listed_read_and_deleted() {
    let server = TestServer::start().await;
    server.create("c").await;
    for i in 0..5 {
        ingest(&server, document(&format!("a{i}"), &format!("number {i}"))).await;
    }
    ingest(&server, document("b", "another")).await;
    let list = async |page: &str| {
        let request = v1::ListDocumentsRequest {
            collection: "c".into(),
            limit: Some(3),
            page: page.into(),
            prefix: "a".into(),
        };
        server.ingest().list_documents(request).await.unwrap().into_inner()
    };
    let first = list("").await;
    let second = list(&first.next_page).await;
    let ids: Vec<_> = first.documents.iter().chain(&second.documents).map(|d| d.id.as_str()).collect();
    assert_eq!(ids, ["a0", "a1", "a2", "a3", "a4"]);
    assert!(second.next_page.is_empty());
    let get = |id: &str| v1::GetDocumentRequest { collection: "c".into(), document_id: id.into() };
    let a0 = server.ingest().get_document(get("a0")).await.unwrap().into_inner().document.unwrap();
    assert_eq!((a0.state(), a0.chunks), (v1::DocumentState::Indexed, 1));
    assert!(a0.indexed_at.ends_with('Z') && !a0.version.is_empty());
    let delete = v1::DeleteDocumentsRequest {
        collection: "c".into(),
        document_ids: vec!["a0".into(), "nosuch".into()],
    };
    assert_eq!(server.ingest().delete_documents(delete).await.unwrap().into_inner().deleted, 1);
    refused(server.ingest().get_document(get("a0")).await, Code::NotFound, "");
    assert!(keyword(&server, "0").await.hits.is_empty());
}

#[tokio::test]
async fn a_stream_answers_every_document() {
    let server = TestServer::start().await;
    server.create("c").await;
    let mut requests: Vec<_> = (0..60_u64)
        .map(|i| v1::IngestDocumentRequest {
            tag: i,
            ..document(&format!("d{i}"), &format!("text of document {i}"))
        })
        .collect();
    // A later version of the same document wins, also in one stream.
    requests.push(v1::IngestDocumentRequest { tag: 60, ..document("d0", "the final words") });
    requests.push(v1::IngestDocumentRequest { tag: 61, content: None, ..document("none", "") });
    let broken = Some(Content::Data(Bytes::from_static(b"%PDF-1.7 but not really")));
    requests.push(v1::IngestDocumentRequest {
        tag: 62,
        content: broken,
        file_name: "x.pdf".into(),
        ..document("pdf", "")
    });
    let elsewhere = v1::IngestDocumentRequest { tag: 63, collection: "nosuch".into(), ..document("x", "y") };
    requests.push(elsewhere);
    let mut replies =
        server.ingest().ingest_documents(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut by_tag = std::collections::BTreeMap::new();
    while let Some(reply) = replies.message().await.unwrap() {
        assert!(by_tag.insert(reply.tag, reply).is_none());
    }
    assert_eq!(by_tag.len(), 64);
    for tag in 0..=60 {
        assert_eq!(by_tag[&tag].outcome(), v1::DocumentOutcome::Indexed, "{:?}", by_tag[&tag]);
    }
    for (tag, expect) in [(61, "content"), (62, ""), (63, "nosuch")] {
        assert_eq!(by_tag[&tag].outcome(), v1::DocumentOutcome::Failed);
        assert!(!by_tag[&tag].error.is_empty() && by_tag[&tag].error.contains(expect), "{:?}", by_tag[&tag]);
    }
    assert_eq!(server.count("c").await, 60);
    assert_eq!(keyword(&server, "final").await.hits[0].origin.as_ref().unwrap().document_id, "d0");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let server = TestServer::start().await;
    server.create("c").await;
    let check = async |request, code, field: &str| {
        refused(server.ingest().ingest_document(request).await, code, field);
    };
    let request = document("d", "x");
    check(v1::IngestDocumentRequest { content: None, ..request.clone() }, Code::InvalidArgument, "content")
        .await;
    check(document("", "x"), Code::InvalidArgument, "document_id").await;
    check(document(&"x".repeat(1_001), "x"), Code::InvalidArgument, "document_id").await;
    check(document("d", " \n "), Code::InvalidArgument, "").await;
    let elsewhere = v1::IngestDocumentRequest { collection: "nosuch".into(), ..request };
    let status = refused(server.ingest().ingest_document(elsewhere).await, Code::NotFound, "");
    assert!(status.message().contains("ragstone collection create nosuch"), "{status:?}");
}
