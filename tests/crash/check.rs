//! What must hold after a restart.

use std::collections::BTreeSet;

use ragstone_proto::v1 as api;
use rand::Rng;
use rand::rngs::StdRng;

use crate::COLLECTION;
use crate::load::{Load, document_id, point_id, token, vector};
use crate::server::Server;

/// Ids that a round looks for by vector and by word.
const SAMPLE: usize = 25;

/// Compares the collection with what was acknowledged, and settles what a kill left open.
pub(crate) async fn check(server: &Server, load: &Load, rng: &mut StdRng, round: u64) {
    let all = scroll(server).await;
    let mut ids = BTreeSet::new();
    for point in &all {
        assert!(ids.insert(point.id.clone()), "round {round}: {} is there twice", point.id);
    }
    assert_eq!(count(server).await, all.len() as u64, "round {round}: count and scroll differ");
    let points = settle_points(load, &all, round);
    let documents = settle_documents(server, load, &all, round).await;
    for _ in 0..SAMPLE.min(points.len()) {
        let (id, version) = points[rng.random_range(0..points.len())];
        find_point(server, id, version, round).await;
    }
    for _ in 0..SAMPLE.min(documents.len()) {
        let (id, version, chunks) = documents[rng.random_range(0..documents.len())];
        find_document(server, id, version, chunks, round).await;
    }
}

/// Points: each has a version that it may have; what is there now is what counts from here on.
fn settle_points(load: &Load, all: &[api::Point], round: u64) -> Vec<(u32, u64)> {
    let mut expected = load.expected.lock().unwrap();
    let mut found = Vec::new();
    for (id, possible) in &mut expected.points {
        let name = point_id(*id);
        let version = all.iter().find(|point| point.id == name).map(version_of);
        assert!(
            possible.contains(&version),
            "round {round}: {name} is {version:?}, expected one of {possible:?}"
        );
        *possible = vec![version];
        found.extend(version.map(|version| (*id, version)));
    }
    found
}

/// Documents: all chunks of one version, as many as its record says, or none and no record.
async fn settle_documents(
    server: &Server,
    load: &Load,
    all: &[api::Point],
    round: u64,
) -> Vec<(u32, u64, usize)> {
    let mut client = api::ingest_service_client::IngestServiceClient::new(server.channel.clone());
    let ids: Vec<u32> = load.expected.lock().unwrap().documents.keys().copied().collect();
    let mut found = Vec::new();
    for id in ids {
        let name = document_id(id);
        let chunks: Vec<&api::Point> = all.iter().filter(|point| document_of(point) == name).collect();
        let versions: BTreeSet<u64> = chunks.iter().map(|chunk| word_version(&chunk.text, id)).collect();
        assert!(versions.len() <= 1, "round {round}: {name} has chunks of versions {versions:?}");
        let version = versions.first().copied();
        let request = api::GetDocumentRequest { collection: COLLECTION.into(), document_id: name.clone() };
        let record = client.get_document(request).await.ok().and_then(|reply| reply.into_inner().document);
        let recorded = record.map_or(0, |document| document.chunks as usize);
        assert_eq!(
            recorded,
            chunks.len(),
            "round {round}: {name} has another number of chunks than its record"
        );
        let mut expected = load.expected.lock().unwrap();
        let possible = expected.documents.get_mut(&id).unwrap();
        assert!(
            possible.contains(&version),
            "round {round}: {name} is {version:?}, expected one of {possible:?}"
        );
        *possible = vec![version];
        found.extend(version.map(|version| (id, version, chunks.len())));
    }
    found
}

async fn find_point(server: &Server, id: u32, version: u64, round: u64) {
    let f32 = vector(id, version).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into();
    let by_vector = search(server, |request| {
        request.mode = api::SearchMode::Vector as i32;
        request.vector = Some(api::Vector { f32, values: vec![] });
        request.limit = Some(1);
    });
    let hit = by_vector.await.into_iter().next().unwrap();
    assert_eq!(hit.id, point_id(id), "round {round}: not found by its vector");
    assert!(hit.score > 0.999, "round {round}: {} has the vector of another version", hit.id);
    let hits = by_word(server, token("point", id, version)).await;
    let ids: Vec<&str> = hits.iter().map(|hit| hit.id.as_str()).collect();
    assert_eq!(ids, [point_id(id)], "round {round}: not found by its word");
}

async fn find_document(server: &Server, id: u32, version: u64, chunks: usize, round: u64) {
    let hits = by_word(server, token("document", id, version)).await;
    assert!(
        hits.iter().all(|hit| hit.origin.as_ref().unwrap().document_id == document_id(id)),
        "round {round}"
    );
    assert_eq!(hits.len(), chunks, "round {round}: d{id} is not found whole by its word");
}

async fn by_word(server: &Server, word: String) -> Vec<api::Hit> {
    search(server, |request| {
        request.mode = api::SearchMode::Keyword as i32;
        request.text = Some(word);
        request.limit = Some(100);
    })
    .await
}

async fn search(server: &Server, fill: impl FnOnce(&mut api::SearchRequest)) -> Vec<api::Hit> {
    let mut request = api::SearchRequest { collection: COLLECTION.into(), ..Default::default() };
    fill(&mut request);
    let mut client = api::search_service_client::SearchServiceClient::new(server.channel.clone());
    client.search(request).await.unwrap().into_inner().hits
}

async fn count(server: &Server) -> u64 {
    let mut client = api::point_service_client::PointServiceClient::new(server.channel.clone());
    let request = api::CountPointsRequest { collection: COLLECTION.into(), filter: None };
    client.count_points(request).await.unwrap().into_inner().count
}

async fn scroll(server: &Server) -> Vec<api::Point> {
    let mut client = api::point_service_client::PointServiceClient::new(server.channel.clone());
    let mut points = Vec::new();
    let mut page = String::new();
    loop {
        let request = api::ScrollPointsRequest {
            collection: COLLECTION.into(),
            limit: Some(173),
            page: page.clone(),
            ..Default::default()
        };
        let reply = client.scroll_points(request).await.unwrap().into_inner();
        points.extend(reply.points);
        page = reply.next_page;
        if page.is_empty() {
            return points;
        }
    }
}

fn version_of(point: &api::Point) -> u64 {
    let value = point.payload.as_ref().and_then(|payload| payload.fields.get("version")).unwrap();
    match value.kind {
        Some(api::value::Kind::IntegerValue(version)) => version as u64,
        _ => panic!("{} has no version", point.id),
    }
}

fn document_of(point: &api::Point) -> &str {
    point.origin.as_ref().map_or("", |origin| origin.document_id.as_str())
}

/// The version in the word that every chunk of a document has.
fn word_version(text: &str, id: u32) -> u64 {
    let start = format!("document{id}v");
    let word = text.split_whitespace().find_map(|word| word.strip_prefix(&start));
    word.unwrap_or_else(|| panic!("no word of d{id} in {text:?}")).parse().unwrap()
}
