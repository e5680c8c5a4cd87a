//! `SearchService`.

use ragstone_proto::v1;
use ragstone_proto::v1::field_condition::Test;
use ragstone_proto::v1::fusion::Method;
use tonic::Code;

use crate::harness::{TestServer, field, ids, must, numbers, payload, point, refused, text_point, word};

/// Sentences about different things.
const TEXTS: [(&str, &str); 6] = [
    ("river", "Water carries pebbles down the stream until they are round."),
    ("bread", "Knead the dough, let it rise, and bake it in a hot oven."),
    ("error", "The service failed with code E4217 after the upgrade."),
    ("stars", "A telescope gathers light from distant galaxies."),
    ("music", "The orchestra tuned its violins before the concert."),
    ("garden", "Prune the roses in early spring, before they flower."),
];

async fn filled() -> TestServer {
    let server = TestServer::start().await;
    server.create("c").await;
    let points = TEXTS.map(|(id, text)| v1::Point {
        payload: payload([("topic", word(id)), ("lang", word("en"))]),
        ..text_point(id, text)
    });
    server.upsert("c", points.into()).await;
    server
}

fn ask(text: &str) -> v1::SearchRequest {
    v1::SearchRequest { collection: "c".into(), text: Some(text.into()), ..Default::default() }
}

fn mode(mode: v1::SearchMode, request: v1::SearchRequest) -> v1::SearchRequest {
    v1::SearchRequest { mode: mode.into(), ..request }
}

#[tokio::test]
async fn each_leg_finds_what_it_can() {
    let server = filled().await;
    // No word in common: only the vector leg can.
    let paraphrase = "stones smoothed by a creek";
    let found = server.search(mode(v1::SearchMode::Vector, ask(paraphrase))).await;
    assert_eq!(found.hits[0].id, "river");
    assert!(found.hits[0].vector_score.is_some() && found.hits[0].keyword_score.is_none());
    let found = server.search(mode(v1::SearchMode::Keyword, ask("E4217"))).await;
    assert_eq!(ids(&found), ["error"]);
    assert!(found.hits[0].keyword_score.is_some() && found.hits[0].vector_score.is_none());
    let found = server.search(ask("E4217")).await;
    assert_eq!(found.hits[0].id, "error");
    assert!(found.hits[0].keyword_score.is_some() && found.hits[0].vector_score.is_some());
    let hit = &found.hits[0];
    let highlight = hit.highlight.as_ref().unwrap();
    let words: Vec<_> = highlight.spans.iter().map(|s| &hit.text[s.start as usize..s.end as usize]).collect();
    assert_eq!(words, ["E4217"]);
    let in_snippet = &highlight.snippet_spans[0];
    assert_eq!(&highlight.snippet[in_snippet.start as usize..in_snippet.end as usize], "E4217");
}

#[tokio::test]
async fn a_reply_carries_what_was_asked_for() {
    let server = filled().await;
    let full = server.search(v1::SearchRequest { limit: Some(2), explain: true, ..ask("bake bread") }).await;
    assert_eq!(full.hits.len(), 2);
    let (first, plan) = (&full.hits[0], full.plan.as_ref().unwrap());
    assert_eq!(first.id, "bread");
    assert!(first.payload.as_ref().unwrap().fields.contains_key("lang") && first.vectors.is_empty());
    assert!(!first.legs.is_empty() && !plan.steps.is_empty());
    assert!(plan.phases.iter().any(|phase| phase.phase == "embed"));
    let bare = server
        .search(v1::SearchRequest {
            with_payload: Some(v1::PayloadSelector { include: vec!["topic".into()], ..Default::default() }),
            with_vectors: Some(v1::VectorSelector { enable: true, names: Vec::new() }),
            with_text: Some(false),
            ..ask("bake bread")
        })
        .await;
    let first = &bare.hits[0];
    assert_eq!(first.payload.as_ref().unwrap().fields.keys().collect::<Vec<_>>(), ["topic"]);
    assert_eq!(first.vectors["text"].f32.len(), 384 * 4);
    assert!(
        first.text.is_empty() && first.highlight.is_none() && first.legs.is_empty() && bare.plan.is_none()
    );
}

#[tokio::test]
async fn filters_limits_and_thresholds() {
    let server = filled().await;
    let topic = |name: &str| must(vec![field("topic", Test::Equals(word(name)))]);
    let found = server.search(v1::SearchRequest { filter: topic("stars"), ..ask("bake bread") }).await;
    assert_eq!(ids(&found), ["stars"]);
    let all = server.search(mode(v1::SearchMode::Vector, ask("bake bread"))).await;
    assert_eq!(all.hits.len(), 6);
    let page = v1::SearchRequest { limit: Some(2), offset: 1, ..ask("bake bread") };
    let page = server.search(mode(v1::SearchMode::Vector, page)).await;
    assert_eq!(ids(&page), ids(&all)[1..3]);
    let score = all.hits[1].score;
    let best = v1::SearchRequest { score_threshold: Some(score), ..ask("bake bread") };
    assert_eq!(server.search(mode(v1::SearchMode::Vector, best)).await.hits.len(), 2);
    let unknown = must(vec![field("colour", Test::Exists(true))]);
    let request = v1::SearchRequest { filter: unknown, ..ask("x") };
    let status = refused(server.searches().search(request).await, Code::InvalidArgument, "");
    assert!(status.message().contains("colour") && status.message().contains("topic"), "{status:?}");
}

#[tokio::test]
async fn both_fusions_run() {
    let server = filled().await;
    let with = |method| v1::SearchRequest {
        fusion: Some(v1::Fusion { method: Some(method) }),
        ..ask("E4217 failed")
    };
    for method in
        [Method::MinMax(v1::MinMaxFusion { vector_weight: Some(0.3) }), Method::Rrf(v1::RrfFusion::default())]
    {
        assert_eq!(server.search(with(method)).await.hits[0].id, "error");
    }
}

#[tokio::test]
async fn vectors_of_clients() {
    let server = TestServer::start().await;
    server.create_plain("c", 2).await;
    server.upsert("c", vec![point("x", &[1.0, 0.0]), point("y", &[0.0, 1.0])]).await;
    let near = |vector: &[f32]| v1::SearchRequest {
        collection: "c".into(),
        vector: Some(numbers(vector)),
        ..Default::default()
    };
    let found = server.search(near(&[0.9, 0.1])).await;
    assert_eq!(ids(&found), ["x", "y"]);
    let check = async |request, field: &str| {
        refused(server.searches().search(request).await, Code::InvalidArgument, field);
    };
    check(near(&[1.0]), "vector").await;
    check(near(&[f32::NAN, 0.0]), "vector").await;
    check(v1::SearchRequest { using: "other".into(), ..near(&[1.0, 0.0]) }, "using").await;
    check(mode(v1::SearchMode::Vector, ask("x")), "vector").await;
    check(mode(v1::SearchMode::Hybrid, ask("x")), "vector").await;
    check(v1::SearchRequest { collection: "c".into(), ..Default::default() }, "text").await;
    check(ask("  "), "text").await;
    // Words alone still can be searched.
    assert!(server.search(ask("anything")).await.hits.is_empty());
}

#[tokio::test]
async fn a_batch_answers_in_order_and_names_the_query_at_fault() {
    let server = filled().await;
    let batch = |searches| v1::SearchBatchRequest { searches };
    let two = batch(vec![ask("E4217"), mode(v1::SearchMode::Keyword, ask("violins"))]);
    let replies = server.searches().search_batch(two).await.unwrap().into_inner().results;
    assert_eq!((replies[0].hits[0].id.as_str(), replies[1].hits[0].id.as_str()), ("error", "music"));
    // Of two collections, more than run on one thread, alike and not.
    server.create_plain("other", 2).await;
    let near = |i: usize| {
        let angle = i as f32 / 10.0;
        let params = v1::SearchParams { exact: Some(!i.is_multiple_of(3)), ..Default::default() };
        let vector = Some(numbers(&[angle.cos(), angle.sin()]));
        v1::SearchRequest { collection: "other".into(), vector, params: Some(params), ..Default::default() }
    };
    let angles = (0..90).map(|i| (i as f32 / 10.0, format!("{i:02}")));
    let points = angles.map(|(angle, id)| point(&id, &[angle.cos(), angle.sin()]));
    server.upsert("other", points.collect()).await;
    let many = (0..60).flat_map(|i| [near(i), ask("violins")]).collect();
    let replies = server.searches().search_batch(batch(many)).await.unwrap().into_inner().results;
    assert_eq!(replies.len(), 120);
    for (i, pair) in replies.chunks(2).enumerate() {
        assert_eq!(ids(&pair[0]), ids(&server.search(near(i)).await));
        assert_eq!((pair[0].hits[0].id.clone(), pair[1].hits[0].id.as_str()), (format!("{i:02}"), "music"));
    }
    let wrong = batch(vec![ask("x"), v1::SearchRequest { limit: Some(0), ..ask("x") }]);
    refused(server.searches().search_batch(wrong).await, Code::InvalidArgument, "searches[1].limit");
    refused(server.searches().search_batch(batch(Vec::new())).await, Code::InvalidArgument, "searches");
    let many = batch(vec![ask("x"); 257]);
    refused(server.searches().search_batch(many).await, Code::InvalidArgument, "searches");
}

#[tokio::test]
async fn a_collection_of_another_embedder_is_not_compared() {
    let mut server = filled().await;
    server.stop().await;
    // The same store, opened without the server, gets a collection that another model filled.
    let data = server.dir.path().join("data");
    let store = ragstone_index::store::Store::open(&data, Default::default()).unwrap();
    let mut schema = (*store.collection("c").unwrap().schema()).clone();
    schema.vectors[0].embedder.as_mut().unwrap().fingerprint = "another-model".into();
    store.create_collection("foreign", schema).unwrap();
    store.close();
    drop(store);
    server.restart().await;
    let request = v1::SearchRequest { collection: "foreign".into(), ..ask("x") };
    let status = refused(server.searches().search(request).await, Code::FailedPrecondition, "");
    assert!(status.message().contains("another-model") && status.message().contains("minilm"), "{status:?}");
    let points = vec![text_point("a", "words")];
    let request = v1::UpsertPointsRequest { collection: "foreign".into(), points, atomic: true };
    refused(server.points().upsert_points(request).await, Code::FailedPrecondition, "");
}
