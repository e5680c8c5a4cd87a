//! `ragstone bench vectors`: build time, memory, recall and speed on the user's own vectors.
//!
//! The engine runs in this process, then again behind gRPC in a process of its own. What is said of its memory is meant:
//! the base is read from disk in slices whenever it is needed, so that it is never part of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, Filled, Settings};
use super::filters::{Attributes, RowFilter, RowSet, correlated, uncorrelated};
use super::measure::{Calls, Cell, Measured, measure};
use super::payloads::Payloads;
use super::process::{Memory, folder_bytes};
use super::report::{Report, Row, Served};
use super::served::Server;
use super::truth::{Judge, Metric, Queries, Truth};
use super::vector_file::VectorFile;
use super::{inserts, workplace::Workplace};
use crate::cli::collection::index_flags::{QuantizationName, StorageName};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt;
use crate::cli::output::{print_json, print_line};

/// Largest beam that can be asked for.
const MAX_EF: usize = ragstone_index::search::MAX_EF;

/// Measure build time, memory, recall and speed on your own vectors
///
/// Reads .npy (f2, f4, f8; C order), .parquet (a column of float lists), .fvecs; ground truth and attributes as .npy (i4,
/// i8) or .ivecs. Fills a collection through the durable log in batches of 256, waits until everything is indexed, opens it
/// again, and asks every query: in this process by threads, then through gRPC, where a server runs as a process of its
/// own and the clients share the machine with it. Each number is the median of --runs interleaved runs behind one that
/// warms up. A hit is right when its exact score reaches that of the k-th nearest row.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Vectors to search in
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Vectors to search for
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Rows of the base that are nearest to each query, best first; absent: computed by exact search
    #[arg(long, value_name = "FILE")]
    ground_truth: Option<PathBuf>,
    /// Column of a Parquet file that has the vectors [default: the first of float lists]
    #[arg(long, value_name = "NAME")]
    vector_column: Option<String>,
    /// Whole numbers of each row of the base, stored as payload attr0, attr1, ...; a filter on the most typical value of
    /// each column is measured too
    #[arg(long, value_name = "FILE")]
    filter_attr: Option<PathBuf>,
    /// Further filters on these: attr0=7,attr1=3
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "filter_attr")]
    filter: Vec<String>,
    /// Made filters that pass these shares of the rows, whatever lies where: 0.001,0.01,0.1
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_share)]
    selectivity: Vec<f64>,
    /// The same shares again for filters whose matches all lie in one corner of the space
    #[arg(long, requires = "selectivity")]
    correlated: bool,
    /// Beam widths of the graph search; auto: chosen by the engine
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "16,32,64,128,256", value_parser = parse_ef)]
    ef: Vec<Beam>,
    /// Searches at the same time
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: Vec<u16>,
    /// Queries of a call; of more than one, each takes as long as its call
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: u16,
    /// Compare with every vector in place of walking the graph
    #[arg(long, conflicts_with = "ef")]
    exact: bool,
    /// Rows to find
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    k: u16,
    /// How vectors are compared
    #[arg(long, value_enum, default_value = "cosine")]
    distance: DistanceName,
    /// Links of a node of the graph; twice as many on the lowest level
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(4..=128))]
    m: u16,
    /// Beam of an insertion into the graph
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(8..=4_096))]
    ef_construct: u16,
    /// Codes that the graph is walked on
    #[arg(long, value_enum, default_value = "auto")]
    quantization: QuantizationName,
    /// Where the original vectors live
    #[arg(long, value_enum, default_value = "memory")]
    storage: StorageName,
    /// Merge everything into one segment, which counts as building
    #[arg(long)]
    compact: bool,
    /// Runs that count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: u16,
    /// Leave gRPC out
    #[arg(long)]
    in_process: bool,
    /// Most rows that are inserted through gRPC into a second collection; 0: none [default: all]
    #[arg(long, value_name = "N", conflicts_with = "in_process")]
    grpc_insert_rows: Option<usize>,
    /// Folder for the data; it is kept [default: a temporary one]
    #[arg(long, value_name = "DIR", conflicts_with = "reuse")]
    data_dir: Option<PathBuf>,
    /// Keep the temporary folder
    #[arg(long)]
    keep: bool,
    /// Measure what an earlier call with --data-dir or --keep has built
    #[arg(long, value_name = "DIR")]
    reuse: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DistanceName {
    Cosine,
    Dot,
    Euclidean,
}

/// A beam width, or the engine's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beam(Option<usize>);

fn parse_ef(text: &str) -> Result<Beam, String> {
    match text.trim().parse() {
        _ if text.trim() == "auto" => Ok(Beam(None)),
        Ok(ef) if (1..=MAX_EF).contains(&ef) => Ok(Beam(Some(ef))),
        _ => Err(format!("expected 1 to {MAX_EF}, or auto")),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a share between 0 and 1, as in 0.05".to_owned()),
    }
}

pub(super) async fn run(args: Args) -> Outcome {
    let stop = interrupt::listen();
    let args = Arc::new(args);
    let workplace = Workplace::new(args.reuse.as_deref().or(args.data_dir.as_deref()), args.keep)?;
    let (asked, token) = (Arc::clone(&args), stop.clone());
    let session = tokio::task::spawn_blocking(move || Session::read(&asked, token)).await??;
    let report = Arc::new(session).measure(&args, &workplace).await?;
    if args.json {
        print_json(&report.to_json())?;
    } else {
        print_line(&report.to_table())?;
    }
    workplace.tell();
    Ok(())
}

/// What is measured: files, filters, and what should be found.
struct Session {
    base: VectorFile,
    queries: Arc<Queries>,
    filters: Vec<RowFilter>,
    /// Of no filter, then of each.
    truths: Vec<Truth>,
    settings: Settings,
    k: usize,
    calls: Calls,
    stop: CancellationToken,
}

impl Session {
    /// Reads the files and computes the truth. Every mistake in them is told before anything is built.
    fn read(args: &Args, stop: CancellationToken) -> Outcome<Self> {
        let metric = match args.distance {
            DistanceName::Cosine => Metric::Cosine,
            DistanceName::Dot => Metric::Dot,
            DistanceName::Euclidean => Metric::Euclidean,
        };
        let base = VectorFile::open::<f32>(&args.base, args.vector_column.as_deref())?;
        let queries = VectorFile::open::<f32>(&args.queries, args.vector_column.as_deref())?;
        if base.width() != queries.width() {
            return Err(Failure::failed(format!(
                "{} has vectors of {} components, {} of {}",
                args.base.display(),
                base.width(),
                args.queries.display(),
                queries.width()
            )));
        }
        let given =
            args.ground_truth.as_deref().map(|path| VectorFile::open::<i64>(path, None)).transpose()?;
        let named = |error: anyhow::Error| error.context(args.queries.display().to_string());
        let queries = Queries::new(queries.read_all()?, queries.width(), metric).map_err(named)?;
        let filters = filters(args, &base, metric)?;
        let settings = Settings {
            metric,
            dimension: base.width(),
            m: usize::from(args.m),
            ef_construction: usize::from(args.ef_construct),
            quantization: args.quantization.into(),
            storage: args.storage.into(),
            compact: args.compact,
        };
        let k = usize::from(args.k);
        let queries = Arc::new(queries);
        let calls = Calls { queries: usize::from(args.batch), exact: args.exact };
        let mut session = Self { base, queries, filters, truths: Vec::new(), settings, k, calls, stop };
        session.truths = session.truths(given.as_ref())?;
        Ok(session)
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            base: &self.base,
            queries: &self.queries,
            metric: self.settings.metric,
            k: self.k,
            stop: &self.stop,
        }
    }

    /// None, and the rows that each filter passes.
    fn passing(&self) -> Vec<Option<&RowSet>> {
        std::iter::once(None).chain(self.filters.iter().map(|filter| Some(&filter.passing))).collect()
    }

    fn truths(&self, given: Option<&VectorFile>) -> Outcome<Vec<Truth>> {
        let judge = self.judge();
        let passing = self.passing();
        let Some(given) = given else { return Ok(judge.nearest(&passing)?) };
        let mut truths = vec![judge.given(given)?];
        if let Some(filtered) = passing.get(1..).filter(|filtered| !filtered.is_empty()) {
            truths.extend(judge.nearest(filtered)?);
        }
        Ok(truths)
    }

    async fn measure(self: Arc<Self>, args: &Args, workplace: &Workplace) -> Outcome<Report> {
        let filled = match args.reuse {
            Some(_) => None,
            None => Some(self.fill(args, workplace.data()).await?),
        };
        let (engine, searcher, opened) = self.open(workplace.data()).await?;
        let cells = cells(args, self.filters.len());
        let runs = usize::from(args.runs);
        let mut measured = measure(&searcher, &cells, runs, &self.stop).await?;
        let (memory, segments) = (Memory::own(), engine.segments());
        drop(searcher);
        tokio::task::spawn_blocking(move || engine.close()).await?;
        let disk_bytes = folder_bytes(workplace.data());
        let served = if args.in_process {
            None
        } else {
            Some(self.serve(args, workplace, &cells, runs, &mut measured).await?)
        };
        let rows = tokio::task::spawn_blocking({
            let session = Arc::clone(&self);
            move || session.rows(measured)
        });
        Ok(Report {
            points: self.base.rows(),
            dimension: self.base.width(),
            queries: self.queries.len(),
            k: self.k,
            calls: self.calls,
            segments,
            filled,
            opened,
            memory,
            disk_bytes,
            served,
            rows: rows.await??,
        })
    }

    /// Builds the collection.
    async fn fill(self: &Arc<Self>, args: &Args, folder: &Path) -> Outcome<Filled> {
        let session = Arc::clone(self);
        let (folder, attributes) = (folder.to_owned(), args.filter_attr.clone());
        let work = move || -> anyhow::Result<Filled> {
            let attributes = match attributes {
                Some(path) => Attributes::read(&VectorFile::open::<i64>(&path, None)?, session.base.rows())?,
                None => Attributes::default(),
            };
            let made = session.filters.iter().filter(|filter| !filter.field.starts_with("attr")).cloned();
            let payloads = Payloads::new(attributes, made.collect());
            let engine = Engine::create(&folder, &session.settings, &payloads)?;
            let filled = std::thread::scope(|scope| {
                let _guard = engine.close_when_cancelled(scope, &session.stop);
                engine.fill(&session.base, &payloads, &session.settings, &session.stop)
            });
            engine.close();
            if session.stop.is_cancelled() { Err(anyhow!("interrupted")) } else { filled }
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }

    /// Opens the collection; the time is that until it answers.
    async fn open(
        self: &Arc<Self>,
        folder: &Path,
    ) -> Outcome<(Engine, super::engine::Searcher, std::time::Duration)> {
        let (session, folder) = (Arc::clone(self), folder.to_owned());
        let work = move || -> anyhow::Result<_> {
            let started = Instant::now();
            let engine = Engine::reopen(&folder, &session.settings, session.base.rows(), &session.filters)?;
            let searcher =
                engine.searcher(Arc::clone(&session.queries), &session.filters, session.k, session.calls);
            searcher.ask_one()?;
            Ok((engine, searcher, started.elapsed()))
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }

    /// The same through gRPC, and inserts into a second collection.
    async fn serve(
        &self,
        args: &Args,
        workplace: &Workplace,
        cells: &[Cell],
        runs: usize,
        measured: &mut Vec<Measured>,
    ) -> Outcome<Served> {
        let started = Instant::now();
        let server = Server::start(workplace.data()).await?;
        let most_clients = cells.iter().map(|cell| cell.clients).max().unwrap_or(1);
        let searcher =
            server.searcher(&self.queries, &self.filters, self.k, self.calls, most_clients).await?;
        searcher.ask_one().await?;
        let opened = started.elapsed();
        measured.extend(measure(&searcher, cells, runs, &self.stop).await?);
        let memory = server.memory();
        drop((searcher, server));
        let rows = args.grpc_insert_rows.unwrap_or(usize::MAX);
        let inserted = if rows == 0 {
            None
        } else {
            let server = Server::start(&workplace.second()).await?;
            let base = VectorFile::open::<f32>(&args.base, args.vector_column.as_deref())?;
            Some(inserts::measure(&server, base, rows, self.settings.metric, &self.stop).await?)
        };
        Ok(Served { opened, memory, inserted })
    }

    /// Judges what was found.
    fn rows(&self, measured: Vec<Measured>) -> anyhow::Result<Vec<Row>> {
        let found: Vec<(usize, &[Vec<u32>])> =
            measured.iter().map(|measured| (measured.cell.filter, measured.hits.as_slice())).collect();
        let recalls = self.judge().recalls(&self.truths, &self.passing(), &found)?;
        let name = |filter: usize| Some(self.filters.get(filter.checked_sub(1)?)?.name.clone());
        let row = |(measured, recall): (Measured, f64)| Row {
            filter: name(measured.cell.filter),
            measured,
            recall,
        };
        Ok(measured.into_iter().zip(recalls).map(row).collect())
    }
}

/// Every filter, number of clients and beam width with every other.
fn cells(args: &Args, filters: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    let beams = if args.exact { &[Beam(None)] } else { args.ef.as_slice() };
    for filter in 0..=filters {
        for &clients in &args.clients {
            cells.extend(beams.iter().map(|ef| Cell { clients: usize::from(clients), ef: ef.0, filter }));
        }
    }
    cells
}

fn filters(args: &Args, base: &VectorFile, metric: Metric) -> anyhow::Result<Vec<RowFilter>> {
    let mut filters = Vec::new();
    if let Some(path) = &args.filter_attr {
        let attributes = Attributes::read(&VectorFile::open::<i64>(path, None)?, base.rows())?;
        filters.extend(attributes.typical()?);
        for text in &args.filter {
            let filter = attributes.parse(text)?;
            if filters.iter().all(|known: &RowFilter| known.name != filter.name) {
                filters.push(filter);
            }
        }
    }
    filters.extend(uncorrelated(base.rows(), &args.selectivity));
    if args.correlated {
        filters.extend(correlated(base, metric, &args.selectivity)?);
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn beams_and_shares() {
        assert_eq!((parse_ef("auto"), parse_ef(" 64")), (Ok(Beam(None)), Ok(Beam(Some(64)))));
        for bad in ["0", "10001", "-1", "", "wide"] {
            assert!(parse_ef(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_share("0.05"), Ok(0.05));
        for bad in ["0", "1", "5 %", "NaN"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}
