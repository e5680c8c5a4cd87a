//! The load: points, documents and deletes, each id in the hands of one writer, so that what may be there after a kill is
//! known: the last acknowledged state, or that of the one write that was under way.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex};

use ragstone_proto::v1 as api;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::COLLECTION;
use crate::server::Server;

const POINTS: u32 = 600;
const DOCUMENTS: u32 = 40;
const DIMENSION: usize = 384;

/// What was acknowledged; for the test's own output.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) points: u64,
    pub(crate) documents: u64,
    pub(crate) deletes: u64,
    pub(crate) seals: u64,
    pub(crate) compactions: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.points += other.points;
        self.documents += other.documents;
        self.deletes += other.deletes;
        self.seals += other.seals;
        self.compactions += other.compactions;
    }
}

/// Versions that an id may have now; `None`: it may be absent. More than one only while the fate of a write is open.
pub(crate) type Possible = Vec<Option<u64>>;

/// What may be in the collection.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) points: BTreeMap<u32, Possible>,
    pub(crate) documents: BTreeMap<u32, Possible>,
}

/// The load and what it knows.
pub(crate) struct Load {
    pub(crate) expected: Mutex<Expected>,
    versions: Mutex<u64>,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self { expected: Mutex::default(), versions: Mutex::new(0) }
    }

    fn next_version(&self) -> u64 {
        let mut versions = self.versions.lock().unwrap();
        *versions += 1;
        *versions
    }

    /// Starts the writers; each ends when the server is gone.
    pub(crate) fn start(self: &Arc<Self>, server: &Server, seed: u64) -> Vec<JoinHandle<Totals>> {
        let mut writers = Vec::new();
        for number in 0..2 {
            let (load, channel) = (Arc::clone(self), server.channel.clone());
            writers.push(tokio::spawn(async move { load.write_points(channel, number, seed).await }));
        }
        let (load, channel) = (Arc::clone(self), server.channel.clone());
        writers.push(tokio::spawn(async move { load.write_documents(channel, seed).await }));
        let channel = server.channel.clone();
        writers.push(tokio::spawn(maintain(channel, seed)));
        writers
    }

    /// Says that ids may become these versions, runs the write, and settles what is known of it.
    async fn write<F>(&self, documents: bool, ids: &[u32], version: Option<u64>, write: F) -> bool
    where
        F: Future<Output = Result<(), tonic::Status>>,
    {
        self.change(documents, ids, |possible| possible.push(version));
        let done = write.await;
        if done.is_ok() {
            self.change(documents, ids, |possible| *possible = vec![version]);
        }
        done.is_ok()
    }

    fn change(&self, documents: bool, ids: &[u32], change: impl Fn(&mut Possible)) {
        let mut expected = self.expected.lock().unwrap();
        let map = if documents { &mut expected.documents } else { &mut expected.points };
        for id in ids {
            change(map.entry(*id).or_insert_with(|| vec![None]));
        }
    }

    async fn write_points(&self, channel: Channel, writer: u32, seed: u64) -> Totals {
        let mut rng = StdRng::seed_from_u64(seed ^ u64::from(writer));
        let mut client = api::point_service_client::PointServiceClient::new(channel);
        let mut totals = Totals::default();
        loop {
            let mut ids: Vec<u32> =
                (0..rng.random_range(1..25)).map(|_| rng.random_range(0..POINTS / 2) * 2 + writer).collect();
            ids.sort_unstable();
            ids.dedup();
            let done = if rng.random_bool(0.2) {
                ids.truncate(5);
                let names = ids.iter().map(|id| point_id(*id)).collect();
                let selector = Some(api::delete_points_request::Selector::Ids(api::IdList { ids: names }));
                let request = api::DeletePointsRequest { collection: COLLECTION.into(), selector };
                totals.deletes += 1;
                self.write(false, &ids, None, async { client.delete_points(request).await.map(drop) }).await
            } else {
                let version = self.next_version();
                let points = ids.iter().map(|id| point(*id, version)).collect();
                let request =
                    api::UpsertPointsRequest { collection: COLLECTION.into(), points, atomic: true };
                totals.points += ids.len() as u64;
                self.write(false, &ids, Some(version), async {
                    client.upsert_points(request).await.map(drop)
                })
                .await
            };
            if !done {
                return totals;
            }
        }
    }

    async fn write_documents(&self, channel: Channel, seed: u64) -> Totals {
        let mut rng = StdRng::seed_from_u64(seed ^ 0xd0c);
        let mut client = api::ingest_service_client::IngestServiceClient::new(channel);
        let mut totals = Totals::default();
        loop {
            let id = rng.random_range(0..DOCUMENTS);
            let done = if rng.random_bool(0.15) {
                let document_ids = vec![document_id(id)];
                let request = api::DeleteDocumentsRequest { collection: COLLECTION.into(), document_ids };
                totals.deletes += 1;
                self.write(true, &[id], None, async { client.delete_documents(request).await.map(drop) })
                    .await
            } else {
                let version = self.next_version();
                let request = api::IngestDocumentRequest {
                    collection: COLLECTION.into(),
                    document_id: document_id(id),
                    file_name: "note.md".into(),
                    content: Some(api::ingest_document_request::Content::Text(document_text(id, version))),
                    ..Default::default()
                };
                totals.documents += 1;
                let write = async { client.ingest_document(request).await.map(drop) };
                self.write(true, &[id], Some(version), write).await
            };
            if !done {
                return totals;
            }
        }
    }
}

async fn maintain(channel: Channel, seed: u64) -> Totals {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xf1);
    let mut client = api::admin_service_client::AdminServiceClient::new(channel);
    let mut totals = Totals::default();
    let collection = COLLECTION.to_owned();
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(rng.random_range(5..150))).await;
        let done = if rng.random_bool(0.6) {
            totals.seals += 1;
            client.flush(api::FlushRequest { collection: collection.clone() }).await.map(drop)
        } else {
            totals.compactions += 1;
            client.compact(api::CompactRequest { collection: collection.clone() }).await.map(drop)
        };
        if done.is_err() {
            return totals;
        }
    }
}

pub(crate) fn point_id(id: u32) -> String {
    format!("p{id}")
}

pub(crate) fn document_id(id: u32) -> String {
    format!("d{id}")
}

/// A word that only this version of this id has.
pub(crate) fn token(kind: &str, id: u32, version: u64) -> String {
    format!("{kind}{id}v{version}")
}

/// The vector of a version: nothing else is as near to it.
pub(crate) fn vector(id: u32, version: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64((u64::from(id) << 40) ^ version);
    (0..DIMENSION).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

fn point(id: u32, version: u64) -> api::Point {
    let f32 = vector(id, version).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into();
    let version_value = api::Value { kind: Some(api::value::Kind::IntegerValue(version as i64)) };
    api::Point {
        id: point_id(id),
        vectors: [("text".to_owned(), api::Vector { f32, values: vec![] })].into(),
        text: format!("a point with the word {}", token("point", id, version)),
        payload: Some(api::Payload { fields: [("version".to_owned(), version_value)].into() }),
        origin: None,
        expires_at_ms: None,
    }
}

/// One to five sections, each long enough to be a chunk of its own, each with the word of the version.
fn document_text(id: u32, version: u64) -> String {
    let word = token("document", id, version);
    let filler =
        "The quick brown fox jumps over the lazy dog while the river runs slowly to the sea. ".repeat(11);
    (0..=version % 5)
        .map(|section| format!("# Section {section}\n\n{word} begins here. {filler}\n\n"))
        .collect()
}
