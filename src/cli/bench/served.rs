//! The engine behind gRPC: a server of our own as a process of its own, so that its memory and CPU time are told apart
//! from those of the clients.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use ragstone_proto::v1 as api;
use ragstone_proto::v1::search_service_client::SearchServiceClient;
use tonic::transport::{Channel, Endpoint};

use super::engine::{COLLECTION, SPACE, row_of};
use super::filters::RowFilter;
use super::measure::{Answers, Calls, Cell, Target};
use super::process::{Memory, cpu_time};
use super::truth::Queries;
use crate::cli::failure::{Failure, Outcome};
use crate::grpc::convert::vector::packed;

/// Longest time that a call may take: a flush of much data is slow.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// A running server. It ends with this.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    endpoint: Endpoint,
}

impl Server {
    /// Starts one over a data directory, and returns when it listens.
    pub(super) async fn start(folder: &Path) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--data-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the server can't be started")?;
        let stderr = child.stderr.take();
        let address = tokio::task::spawn_blocking(move || address(stderr?)).await?;
        let Some(address) = address else {
            let _ended = (child.kill(), child.wait());
            return Err(Failure::failed("the server ended before it listened"));
        };
        let endpoint =
            Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).timeout(PATIENCE);
        Ok(Self { child, endpoint })
    }

    pub(super) async fn connect(&self) -> Outcome<Channel> {
        Ok(self.endpoint.connect().await.context("connecting to the server")?)
    }

    pub(super) fn memory(&self) -> Memory {
        Memory::of(self.child.id())
    }

    /// What asks it, with as many connections as there will be clients.
    pub(super) async fn searcher(
        &self,
        queries: &Queries,
        filters: &[RowFilter],
        k: usize,
        calls: Calls,
        most_clients: usize,
    ) -> Outcome<Searcher> {
        let mut channels = Vec::with_capacity(most_clients);
        for _ in 0..most_clients.max(1) {
            channels.push(self.connect().await?);
        }
        let filters =
            std::iter::once(None).chain(filters.iter().map(|filter| Some(condition(filter)))).collect();
        let vectors = (0..queries.len()).map(|query| packed(queries.get(query))).collect();
        Ok(Searcher { process: self.child.id(), channels, vectors, filters, k: k as u32, calls })
    }
}

impl Drop for Server {
    /// Without ceremony: what it acknowledged is on disk.
    fn drop(&mut self) {
        let _ended = (self.child.kill(), self.child.wait());
    }
}

/// Waits for the address that a server tells, and passes on what else it says.
fn address(stderr: std::process::ChildStderr) -> Option<String> {
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    for line in lines.by_ref() {
        if let Some((_, address)) = line.split_once("listens on ") {
            let address = address.to_owned();
            std::thread::spawn(move || lines.for_each(|line| eprintln!("server: {line}")));
            return Some(address);
        }
        eprintln!("server: {line}");
    }
    None
}

/// Searches over gRPC.
#[derive(Debug)]
pub(super) struct Searcher {
    process: u32,
    channels: Vec<Channel>,
    vectors: Vec<api::Vector>,
    /// The first is none.
    filters: Vec<Option<api::Filter>>,
    k: u32,
    calls: Calls,
}

impl Target for Searcher {
    const NAME: &'static str = "grpc";

    async fn ask(&self, cell: Cell) -> Outcome<Answers> {
        let requests: Arc<Vec<api::SearchRequest>> =
            Arc::new(self.vectors.iter().map(|vector| self.request(cell, vector)).collect());
        let next = Arc::new(AtomicUsize::new(0));
        let started = Instant::now();
        let clients: Vec<_> = (self.channels.iter().take(cell.clients))
            .map(|channel| {
                let client = SearchServiceClient::new(channel.clone());
                tokio::spawn(ask_in_turn(client, Arc::clone(&requests), Arc::clone(&next), self.calls))
            })
            .collect();
        let mut replies = Vec::with_capacity(requests.len());
        for client in clients {
            replies.extend(client.await??);
        }
        let elapsed = started.elapsed();
        let mut all = Vec::with_capacity(replies.len());
        for (query, time, reply) in replies {
            let rows = reply.hits.iter().map(|hit| row_of(&hit.id)).collect::<anyhow::Result<_>>()?;
            all.push((query, time, rows));
        }
        Ok(Answers::join(requests.len(), elapsed, all))
    }

    fn server_cpu(&self) -> Option<Duration> {
        Some(cpu_time(self.process)).filter(|used| !used.is_zero())
    }
}

impl Searcher {
    /// Asks the first query; tells whether the collection answers.
    pub(super) async fn ask_one(&self) -> Outcome {
        let (Some(channel), Some(vector)) = (self.channels.first(), self.vectors.first()) else {
            return Err(anyhow!("there is no query").into());
        };
        let request = self.request(Cell { clients: 1, ef: None, filter: 0 }, vector);
        SearchServiceClient::new(channel.clone()).search(request).await?;
        Ok(())
    }

    /// A query that wants ids and scores, nothing else.
    fn request(&self, cell: Cell, vector: &api::Vector) -> api::SearchRequest {
        api::SearchRequest {
            collection: COLLECTION.to_owned(),
            mode: api::SearchMode::Vector as i32,
            vector: Some(vector.clone()),
            using: SPACE.to_owned(),
            filter: self.filters.get(cell.filter).cloned().flatten(),
            limit: Some(self.k),
            with_payload: Some(api::PayloadSelector { enable: Some(false), ..Default::default() }),
            with_text: Some(false),
            with_highlights: Some(false),
            params: Some(api::SearchParams {
                hnsw_ef: cell.ef.map(|ef| ef as u32),
                exact: Some(self.calls.exact),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// A client: asks the next queries when it has the answers to those before.
async fn ask_in_turn(
    mut client: SearchServiceClient<Channel>,
    requests: Arc<Vec<api::SearchRequest>>,
    next: Arc<AtomicUsize>,
    calls: Calls,
) -> Result<Vec<(usize, Duration, api::SearchResponse)>, tonic::Status> {
    let mut answered = Vec::new();
    loop {
        let (from, searches) = calls.take(&requests, &next);
        let asked = Instant::now();
        match searches {
            [] => return Ok(answered),
            [request] => {
                let reply = client.search(request.clone()).await?;
                answered.push((from, asked.elapsed(), reply.into_inner()));
            }
            searches => {
                let batch = api::SearchBatchRequest { searches: searches.to_vec() };
                let replies = client.search_batch(batch).await?.into_inner().results;
                let time = asked.elapsed();
                answered.extend((from..).zip(replies).map(|(query, reply)| (query, time, reply)));
            }
        }
    }
}

fn condition(filter: &RowFilter) -> api::Filter {
    let value = api::Value { kind: Some(api::value::Kind::IntegerValue(filter.value)) };
    let field = api::FieldCondition {
        field: filter.field.clone(),
        test: Some(api::field_condition::Test::Equals(value)),
    };
    api::Filter {
        must: vec![api::Condition { kind: Some(api::condition::Kind::Field(field)) }],
        ..Default::default()
    }
}
