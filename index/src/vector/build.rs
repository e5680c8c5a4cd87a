//! From a column of vectors to its index.
//!
//! It must not know files: a built index writes itself wherever the caller says, section by section, so that its bytes
//! never lie in memory a second time.

use std::io;
use std::sync::atomic::AtomicBool;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::schema::{Distance, HnswOptions, Quantization};
use crate::vector::bits::{EncodedBits, encode_bits};
use crate::vector::calibrate::{Column, calibrate};
use crate::vector::codes::{Encoded, Floats, Points, RowMap, encode};
use crate::vector::distance::CodeKernel;
use crate::vector::graph::builder::{BuildOptions, Graph, build_graph};
use crate::vector::graph::connect::connect;
use crate::vector::graph::format::{self, Header, Measured, Parts};
use crate::vector::kernels::Codes;

/// With fewer vectors a scan is as fast as a graph, and nothing is built.
pub const MIN_GRAPH_ROWS: usize = 1_000;

/// How a graph is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorsParams {
    /// Links of a node on upper levels, 4 to 128; twice as many on level 0.
    pub m: usize,
    /// Beam of an insertion.
    pub ef_construction: usize,
    /// Codes that the graph is walked on.
    pub quantization: Quantization,
    /// Threads; 0: one a core. With 1 the same input and seed make the same bytes.
    pub threads: usize,
    /// Seed of levels and insertion order.
    pub seed: u64,
}

impl Default for VectorsParams {
    fn default() -> Self {
        let HnswOptions { m, ef_construct } = HnswOptions::default();
        Self {
            m: m as usize,
            ef_construction: ef_construct as usize,
            quantization: Quantization::default(),
            threads: 0,
            seed: 0x7261_6773_746F_6E65,
        }
    }
}

/// The vectors of a segment's column.
#[derive(Debug, Clone, Copy)]
pub struct VectorColumn<'a> {
    /// Components of a vector.
    pub dimension: usize,
    /// Rows x dimension, row-major; what stands in rows without a vector is ignored.
    pub data: &'a [f32],
    /// Rows that have a vector; `None`: all.
    pub present: Option<&'a RoaringBitmap>,
}

/// Codes and graph of a column, built and not yet written.
#[derive(Debug)]
pub struct BuiltIndex {
    header: Header,
    graph: Graph,
    /// Row of each node; `None` when every row has a vector.
    rows: Option<Vec<u32>>,
    encoded: Option<Encoded>,
    bits: Option<EncodedBits>,
}

impl BuiltIndex {
    /// Writes the bytes that [`SegmentVectors::open`](crate::vector::SegmentVectors::open) reads.
    pub fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        format::write(&self.header, &self.parts(), out)
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            graph: &self.graph,
            rows: self.rows.as_deref(),
            encoded: self.encoded.as_ref(),
            bits: self.bits.as_ref(),
        }
    }
}

/// Builds codes and graph of a column; `None` when it has fewer than [`MIN_GRAPH_ROWS`] vectors.
///
/// Works in a pool of its own of `params.threads` threads. `cancel` is looked at between insertions.
///
/// # Errors
/// [`Error::FailedPrecondition`] when cancelled; [`Error::Internal`] when the column contradicts itself or no threads can
/// be had; [`Error::LimitExceeded`] over 2^31 vectors.
pub fn build_index(
    column: &VectorColumn<'_>,
    distance: Distance,
    params: &VectorsParams,
    cancel: &AtomicBool,
) -> Result<Option<BuiltIndex>> {
    let VectorColumn { dimension, data, present } = *column;
    if dimension == 0 || data.len() % dimension != 0 {
        let length = data.len();
        return Err(Error::Internal(format!("{length} components are no vectors of dimension {dimension}")));
    }
    let rows = data.len() / dimension;
    if present.and_then(RoaringBitmap::max).is_some_and(|last| last as usize >= rows) {
        return Err(Error::Internal(format!("a vector is present behind the last of {rows} rows")));
    }
    // A bitmap of all rows says no more than none.
    let partial: Option<Vec<u32>> =
        present.filter(|present| present.len() < rows as u64).map(|present| present.iter().collect());
    let nodes = partial.as_ref().map_or(rows, Vec::len);
    if nodes < MIN_GRAPH_ROWS {
        return Ok(None);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(params.threads)
        .thread_name(|i| format!("graph-build-{i}"))
        .build()
        .map_err(|error| Error::Internal(format!("threads for building a graph: {error}")))?;
    pool.install(|| {
        let row_map = partial.as_deref().map_or(RowMap::Identity, RowMap::Rows);
        let floats = Floats { distance, dimension, vectors: data, rows: row_map };
        // Building on codes is several times faster, and finds the same neighbours where codes keep them; what the graph is
        // walked on later is another question.
        let encoded = encode(distance, floats, nodes);
        let points = match &encoded {
            Some(encoded) => {
                Points::Codes(Codes { kernel: CodeKernel::of(distance), dimension, codes: &encoded.codes })
            }
            None => Points::Floats(floats),
        };
        let options = BuildOptions {
            m: params.m,
            ef_construction: params.ef_construction,
            threads: params.threads,
            seed: params.seed,
        };
        let mut graph = build_graph(&points, nodes, &options, cancel)?;
        let links = connect(&points, &mut graph);
        let bits = match params.quantization {
            Quantization::None => None,
            Quantization::Auto | Quantization::Int8 | Quantization::Binary => {
                encode_bits(distance, floats, nodes)
            }
        };
        let encoded = match params.quantization {
            Quantization::None => None,
            Quantization::Auto | Quantization::Int8 => encoded,
            // Where bits lose neighbours, bytes are the next best.
            Quantization::Binary => encoded.filter(|_| bits.is_none()),
        };
        tracing::debug!(
            nodes,
            dimension,
            links,
            codes = encoded.is_some(),
            bits = bits.is_some(),
            "vector graph built"
        );
        let column = Column {
            floats,
            present: present.filter(|_| partial.is_some()),
            encoded: encoded.as_ref(),
            bits: bits.as_ref(),
        };
        let measured = Measured {
            ef_construction: params.ef_construction as u32,
            code_recall: match (&encoded, &bits) {
                (Some(encoded), _) => encoded.recall,
                (None, Some(bits)) => bits.recall,
                (None, None) => 0.0,
            },
            beams: calibrate(&graph, &column, cancel),
        };
        let parts =
            Parts { graph: &graph, rows: partial.as_deref(), encoded: encoded.as_ref(), bits: bits.as_ref() };
        let header = Header::of(distance, dimension, &parts, measured)?;
        Ok(Some((header, graph, encoded, bits)))
    })
    .map(|built| {
        built.map(|(header, graph, encoded, bits)| BuiltIndex { header, graph, rows: partial, encoded, bits })
    })
}
