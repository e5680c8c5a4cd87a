//! From a column of vectors to its index.
//!
//! It must not know files: a built index writes itself wherever the caller says, section by section, so that its bytes
//! never lie in memory a second time.

use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use roaring::RoaringBitmap;

use crate::background::give_way;
use crate::error::{Error, Result};
use crate::schema::{Distance, HnswOptions, Quantization};
use crate::vector::bits::{EncodedBits, encode_bits};
use crate::vector::calibrate::{Calibration, Column, calibrate};
use crate::vector::codes::{CheckTruth, Encoded, Floats, Points, RowMap, encode};
use crate::vector::distance::CodeKernel;
use crate::vector::graph::builder::{BuildOptions, Graph, build_graph};
use crate::vector::graph::connect::connect;
use crate::vector::graph::format::{self, Header, Measured, Parts};
use crate::vector::graph::grow::Inherited;
use crate::vector::int4::{EncodedInt4, encode_int4};
use crate::vector::kernels::Codes;
use crate::vector::pass::Read;
use crate::vector::rotation::Frame;
use crate::vector::segment::SegmentVectors;
use crate::vector::walked::Walked;

/// With fewer vectors a scan is as fast as a graph, and nothing is built.
pub const MIN_GRAPH_ROWS: usize = 1_000;

/// Share of the rows of an older segment up to which they may have been deleted for its graph to be grown.
pub(crate) const GROWN_DELETED_SHARE: f64 = 0.3;
/// Share of the nodes of a graph that have to come from an older one for that to be grown.
const GROWN_LEAST_SHARE: f64 = 0.5;
/// How often graphs are grown from one that was grown: each time a few links are worse than they were.
const MOST_GENERATIONS: u32 = 8;

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

/// An older segment whose live rows are the first of a new column, in their order: its graph may be grown into the new one.
#[derive(Debug, Clone, Copy)]
pub struct Ancestor<'a> {
    /// Its vectors, of the same space.
    pub vectors: &'a SegmentVectors,
    /// Those of its rows that are in the new column.
    pub live: &'a RoaringBitmap,
}

/// Codes and graph of a column, built and not yet written.
#[derive(Debug)]
pub struct BuiltIndex {
    header: Header,
    graph: Graph,
    /// Row of each node; `None` when every row has a vector.
    rows: Option<Vec<u32>>,
    codes: ColumnCodes,
}

/// The codes of a column.
#[derive(Debug)]
struct ColumnCodes {
    encoded: Option<Encoded>,
    int4: Option<EncodedInt4>,
    bits: Option<EncodedBits>,
    /// The rotated mean of the column, if there are half bytes or bits.
    centre: Vec<f32>,
}

impl BuiltIndex {
    /// Writes the bytes that [`SegmentVectors::open`](crate::vector::SegmentVectors::open) reads.
    pub fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        format::write(&self.header, &self.parts(), out)
    }

    fn parts(&self) -> Parts<'_> {
        self.codes.parts(&self.graph, self.rows.as_deref())
    }
}

impl ColumnCodes {
    /// Makes the codes that searches will use, where they keep recall. `encoded` are those that the graph was built on.
    fn of(
        floats: Floats<'_>,
        nodes: usize,
        wanted: Quantization,
        encoded: Option<Encoded>,
        truth: &CheckTruth,
        read: &Read<'_>,
    ) -> Self {
        if wanted == Quantization::None {
            return Self { encoded: None, int4: None, bits: None, centre: Vec::new() };
        }
        let frame = Frame::of(floats, nodes, read);
        let int4_wanted = matches!(wanted, Quantization::Auto | Quantization::Int4);
        let had_codes = encoded.is_some();
        // One kind at a time: they are the most of what a build needs.
        let encoded = encoded.filter(|_| !int4_wanted);
        let int4 = int4_wanted.then(|| encode_int4(floats, nodes, &frame, truth, read)).flatten();
        let mut codes = Self { encoded, int4, bits: None, centre: frame.centre.clone() };
        codes.bits = encode_bits(&codes.walked(floats), nodes, &frame, truth, read);
        match wanted {
            Quantization::Auto | Quantization::Int4 if codes.int4.is_none() && had_codes => {
                codes.encoded = encode(floats, nodes, truth, read);
            }
            // Where bits lose neighbours, bytes are the next best.
            Quantization::Binary if codes.bits.is_some() => codes.encoded = None,
            _ => {}
        }
        codes
    }

    fn parts<'a>(&'a self, graph: &'a Graph, rows: Option<&'a [u32]>) -> Parts<'a> {
        let Self { encoded, int4, bits, centre } = self;
        Parts { graph, rows, encoded: encoded.as_ref(), int4: int4.as_ref(), bits: bits.as_ref(), centre }
    }

    /// The codes as searches will see them.
    fn walked<'a>(&'a self, floats: Floats<'a>) -> Walked<'a> {
        let Self { encoded, int4, bits, centre } = self;
        let kernel = CodeKernel::of(floats.distance);
        Walked {
            floats,
            int4: int4.as_ref().map(|int4| int4.codes(kernel, centre)),
            int8: encoded.as_ref().map(|encoded| (&encoded.codes[..], encoded.scale)),
            bits: bits.as_ref().map(|bits| bits.codes(kernel, centre)),
        }
    }

    /// Share of the nearest neighbours that the codes walked on kept in a sample; 0 where there are none.
    fn recall(&self) -> f32 {
        let int4 = self.int4.as_ref().map(|int4| int4.recall);
        let encoded = self.encoded.as_ref().map(|encoded| encoded.recall);
        let bits = self.bits.as_ref().map(|bits| bits.recall);
        int4.or(encoded).or(bits).unwrap_or_default()
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
    grow_index(column, None, distance, params, cancel, &|_| ())
}

/// [`build_index`] that grows the graph of an ancestor where that pays: where it was built with the same links and beam, at
/// least half of the column comes from it, and no more than three tenths of it were deleted.
///
/// Tells `read` which rows of the column were read and won't be for a while.
///
/// # Errors
/// As [`build_index`].
pub fn grow_index(
    column: &VectorColumn<'_>,
    ancestor: Option<&Ancestor<'_>>,
    distance: Distance,
    params: &VectorsParams,
    cancel: &AtomicBool,
    read: &(dyn Fn(Range<usize>) + Sync),
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
    let read = &|rows: Range<usize>| {
        read(rows);
        // Every pass tells what it has read piece by piece.
        give_way();
    };
    pool.install(|| {
        let row_map = partial.as_deref().map_or(RowMap::Identity, RowMap::Rows);
        let floats = Floats { distance, dimension, vectors: data, rows: row_map };
        // Building on codes is several times faster, and finds the same neighbours where codes keep them; what the graph is
        // walked on later is another question.
        let truth = CheckTruth::of(floats, nodes, read);
        let encoded = encode(floats, nodes, &truth, read);
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
        let inherited =
            ancestor.and_then(|ancestor| inherited(ancestor, distance, dimension, row_map, nodes, params));
        let generation = inherited.as_ref().map_or(0, |(_, generation)| generation + 1);
        let inherited = inherited.map(|(inherited, _)| inherited);
        let mut graph = build_graph(&points, nodes, inherited.as_ref(), &options, cancel)?;
        let inherited = inherited.map_or(0, |inherited| inherited.len() as u32);
        let links = connect(&points, &mut graph);
        let codes = ColumnCodes::of(floats, nodes, params.quantization, encoded, &truth, read);
        tracing::debug!(
            nodes,
            inherited,
            generation,
            dimension,
            links,
            int4 = codes.int4.is_some(),
            int8 = codes.encoded.is_some(),
            bits = codes.bits.is_some(),
            "vector graph built"
        );
        let column = Column {
            graph: &graph,
            walked: codes.walked(floats),
            present: present.filter(|_| partial.is_some()),
            read,
        };
        let Calibration { beams, spread } = calibrate(&column, cancel);
        let measured = Measured {
            ef_construction: params.ef_construction as u32,
            code_recall: codes.recall(),
            beams,
            spread,
            inherited,
            generation,
        };
        let parts = codes.parts(&graph, partial.as_deref());
        let header = Header::of(distance, dimension, &parts, measured)?;
        Ok(Some((header, graph, codes)))
    })
    .map(|built| built.map(|(header, graph, codes)| BuiltIndex { header, graph, rows: partial, codes }))
}

/// What a column of `nodes` nodes takes over from its ancestor's graph, and the generation of that; `None` where building
/// from nothing is better.
fn inherited<'a>(
    ancestor: &Ancestor<'a>,
    distance: Distance,
    dimension: usize,
    rows: RowMap<'_>,
    nodes: usize,
    params: &VectorsParams,
) -> Option<(Inherited<'a>, u32)> {
    let Ancestor { vectors, live } = *ancestor;
    let graph = vectors.graph_of(distance, dimension)?;
    let Measured { ef_construction, generation, .. } = *graph.measured();
    if graph.links_per_node() as usize != params.m
        || ef_construction as usize != params.ef_construction
        || generation >= MOST_GENERATIONS
    {
        return None;
    }
    let old_rows = graph.rows();
    let inherited = Inherited::new(graph.links(), |node| live.contains(old_rows.row(node)));
    let (kept, lost) = (inherited.len() as f64, inherited.lost() as f64);
    if kept < GROWN_LEAST_SHARE * nodes as f64 || lost > GROWN_DELETED_SHARE * (kept + lost) {
        return None;
    }
    // The nodes of the new graph are in the order of their rows, and so are those of the old one.
    let mut new_rows = (0_u32..).zip(live);
    let in_order = (0..inherited.len() as u32).all(|node| {
        let old = inherited.old(node).map(|old| old_rows.row(old));
        let new = new_rows.find(|(_, live)| Some(*live) == old).map(|(new, _)| new);
        new == Some(rows.row(node))
    });
    if !in_order {
        tracing::warn!(
            "the rows of an older segment are not the first of the new one; its graph is built from nothing"
        );
        return None;
    }
    Some((inherited, generation))
}
