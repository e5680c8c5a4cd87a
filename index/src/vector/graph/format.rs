//! The bytes of a graph with its codes: written once, checked whole when opened, then read in place.
//!
//! Little-endian. A header of 128 bytes, then sections that each start at a multiple of 64 bytes, in this order:
//!
//! | section | elements | what |
//! |---|---|---|
//! | rows | nodes x u32, or none | row of each node, ascending; none when every row has a vector |
//! | level 0 | nodes x 2m x u32 | neighbours, filled from the front, `u32::MAX` behind |
//! | starts | (nodes + 1) x u32 | upper lists of node i: `starts[i]..starts[i + 1]`, level 1 first |
//! | upper | lists x m x u32 | neighbours on upper levels |
//! | codes | nodes x dimension x i8, or none | what is walked on; none: half bytes, bits, or else the f32 vectors are |
//! | int4 | nodes x bytes, or none | half a byte a component, see [`int4`](crate::vector::int4); walked on before all others |
//! | centre | dimension x f32, or none | rotated mean of the column, for half bytes and bits |
//! | bits | nodes x words x u64, or none | what is scanned, see [`bits`](crate::vector::bits) |
//!
//! Sizes follow from the counts in the header, which carries its own checksum; that the bytes of a section are those that
//! were written is the file layer's to check. Opening checks all that a search relies on: after it, no neighbour number and
//! no list leads out of range. It must not know files: a path is only carried into errors.

use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::schema::{Distance, Quantization};
use crate::vector::bits::{BitCodes, EncodedBits, record_words};
use crate::vector::codes::{CodeScale, Encoded, RowMap};
use crate::vector::distance::CodeKernel;
use crate::vector::graph::builder::{Graph, MAX_LEVEL, MAX_LINKS, MIN_LINKS, level, slot};
use crate::vector::graph::walk::{Links, MAX_NODES, NO_NODE};
use crate::vector::int4::{EncodedInt4, Int4Codes, code_bytes};
use crate::vector::kernels;

const MAGIC: &[u8; 8] = b"RAGSGRPH";
const VERSION: u32 = 1;
/// Bytes of the header; the checksum is its last word.
const HEADER_BYTES: usize = 128;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
/// Sections start at multiples of this: a cache line, and the alignment of every element.
pub(crate) const SECTION_ALIGN: usize = 64;
const HAS_ROWS: u32 = 1;
const HAS_CODES: u32 = 2;
const HAS_BITS: u32 = 4;
const HAS_INT4: u32 = 8;

const _: () = assert!(cfg!(target_endian = "little"), "graphs are read in place, as little-endian numbers");

/// The numbers of a header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Header {
    distance: Distance,
    flags: u32,
    dimension: u32,
    nodes: u32,
    m: u32,
    entry: u32,
    upper_lists: u32,
    /// Of codes; where there are half bytes, the width of their step.
    scale: CodeScale,
    measured: Measured,
}

/// Beams that a header has room for.
pub(crate) const MAX_CALIBRATED: usize = 6;

/// Beams and the recall that they reached on a sample, by rising beam; zeros behind.
pub(crate) type CalibratedBeams = [(u32, f32); MAX_CALIBRATED];

/// How the graph was made, and what was measured then; zeros where nothing was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Measured {
    /// Beam of the construction.
    pub(crate) ef_construction: u32,
    /// Share of the nearest neighbours that were among the candidates by code on a sample.
    pub(crate) code_recall: f32,
    pub(crate) beams: CalibratedBeams,
    /// Nodes whose links were taken over from an older graph; 0 where it was built from nothing.
    pub(crate) inherited: u32,
    /// Older graphs that it goes back to, one after the other.
    pub(crate) generation: u32,
    /// The n-th neighbour of a vector lies `n.powf(spread)` times as far as the first, where they lie closest together (lower
    /// quartile of a sample); at least 0.
    pub(crate) spread: f32,
}

/// What the bytes are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) graph: &'a Graph,
    /// Row of each node; `None` when every row has a vector.
    pub(crate) rows: Option<&'a [u32]>,
    pub(crate) encoded: Option<&'a Encoded>,
    pub(crate) int4: Option<&'a EncodedInt4>,
    pub(crate) bits: Option<&'a EncodedBits>,
    /// The rotated mean of the column, if there are half bytes or bits.
    pub(crate) centre: &'a [f32],
}

impl Header {
    /// The header of a graph.
    pub(crate) fn of(
        distance: Distance,
        dimension: usize,
        parts: &Parts<'_>,
        measured: Measured,
    ) -> Result<Self> {
        let Parts { graph, rows, encoded, int4, bits, .. } = parts;
        let one = CodeScale { scale: 1.0, offset: 0.0 };
        let step = int4.map_or(one, |int4| CodeScale { scale: int4.step, ..one });
        let header = Self {
            distance,
            flags: rows.map_or(0, |_| HAS_ROWS)
                | encoded.map_or(0, |_| HAS_CODES)
                | int4.map_or(0, |_| HAS_INT4)
                | bits.map_or(0, |_| HAS_BITS),
            dimension: dimension as u32,
            nodes: graph.nodes() as u32,
            m: graph.m as u32,
            entry: graph.entry,
            upper_lists: graph.upper_starts.last().copied().unwrap_or_default(),
            scale: encoded.map_or(step, |encoded| encoded.scale),
            measured,
        };
        match Layout::of(&header) {
            Some(_) => Ok(header),
            None => Err(Error::Internal("a graph larger than memory".into())),
        }
    }

    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let Measured { ef_construction, code_recall, beams, inherited, generation, spread } = self.measured;
        let numbers = [
            VERSION,
            distance_number(self.distance),
            self.flags,
            self.dimension,
            self.nodes,
            self.m,
            self.entry,
            self.upper_lists,
            self.scale.scale.to_bits(),
            self.scale.offset.to_bits(),
            ef_construction,
            code_recall.to_bits(),
        ];
        let beams = beams.into_iter().flat_map(|(ef, recall)| [ef, recall.to_bits()]);
        let numbers = numbers.into_iter().chain(beams).chain([inherited, generation, spread.to_bits()]);
        let mut bytes = [0; HEADER_BYTES];
        let places = bytes.chunks_exact_mut(4).skip(MAGIC.len() / 4);
        for (place, number) in places.zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header; what is wrong with it, and where.
    fn parse(bytes: &[u8]) -> Result<Self, (usize, String)> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else {
            return Err((bytes.len(), format!("shorter than a header of {HEADER_BYTES} bytes")));
        };
        if !bytes.starts_with(MAGIC) {
            return Err((0, "not a vector graph".to_owned()));
        }
        let number = |index: usize| {
            let at = MAGIC.len() + 4 * index;
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        if number(0) != VERSION {
            return Err((8, format!("format version {}, expected {VERSION}", number(0))));
        }
        if crc32fast::hash(&bytes[..CHECKSUM_AT]).to_le_bytes() != bytes[CHECKSUM_AT..] {
            return Err((CHECKSUM_AT, "the header's checksum does not match".to_owned()));
        }
        let distance = distance_of(number(1)).ok_or_else(|| (12, format!("distance {}", number(1))))?;
        let scale = CodeScale { scale: f32::from_bits(number(8)), offset: f32::from_bits(number(9)) };
        Ok(Self {
            distance,
            flags: number(2),
            dimension: number(3),
            nodes: number(4),
            m: number(5),
            entry: number(6),
            upper_lists: number(7),
            scale,
            measured: Measured {
                ef_construction: number(10),
                code_recall: f32::from_bits(number(11)),
                beams: std::array::from_fn(|i| (number(12 + 2 * i), f32::from_bits(number(13 + 2 * i)))),
                inherited: number(12 + 2 * MAX_CALIBRATED),
                generation: number(13 + 2 * MAX_CALIBRATED),
                spread: f32::from_bits(number(14 + 2 * MAX_CALIBRATED)),
            },
        })
    }

    /// Checks each number by itself.
    fn check(&self) -> Result<(), String> {
        let header = self;
        if header.nodes == 0 || header.nodes as usize >= MAX_NODES {
            return Err(format!("{} nodes", header.nodes));
        }
        if !(MIN_LINKS..=MAX_LINKS).contains(&(header.m as usize)) {
            return Err(format!("{} links a node", header.m));
        }
        if header.entry >= header.nodes {
            return Err(format!("entry {} of {} nodes", header.entry, header.nodes));
        }
        if header.flags & !(HAS_ROWS | HAS_CODES | HAS_BITS | HAS_INT4) != 0 {
            return Err(format!("unknown flags {:#x}", header.flags));
        }
        let scale = header.scale;
        if header.flags & HAS_CODES != 0 && header.flags & HAS_INT4 != 0 {
            return Err("codes of a byte and of half a byte, expected one kind".to_owned());
        }
        let spread = header.measured.spread;
        if !(spread.is_finite() && spread >= 0.0) {
            return Err(format!("neighbours that spread by {spread}, expected a number of at least 0"));
        }
        let codes = header.flags & (HAS_CODES | HAS_INT4) != 0;
        if codes && !(scale.scale.is_normal() && scale.scale > 0.0 && scale.offset.is_finite()) {
            return Err(format!("code scale {} at {}", scale.scale, scale.offset));
        }
        Ok(())
    }
}

/// Where the sections lie.
#[derive(Debug, Clone, Copy)]
struct Layout {
    rows: (usize, usize),
    level0: (usize, usize),
    starts: (usize, usize),
    upper: (usize, usize),
    codes: (usize, usize),
    int4: (usize, usize),
    centre: (usize, usize),
    bits: (usize, usize),
    end: usize,
}

impl Layout {
    /// `None` when the sizes don't fit the address space.
    fn of(header: &Header) -> Option<Self> {
        let (nodes, m) = (header.nodes as usize, header.m as usize);
        let present = |flag: u32| usize::from(header.flags & flag != 0);
        let mut at = HEADER_BYTES;
        let mut section = |elements: Option<usize>, bytes: usize| -> Option<(usize, usize)> {
            let start = at.checked_next_multiple_of(SECTION_ALIGN)?;
            at = start.checked_add(elements?.checked_mul(bytes)?)?;
            Some((start, at))
        };
        let rows = section(Some(nodes * present(HAS_ROWS)), 4)?;
        let level0 = section(nodes.checked_mul(2 * m), 4)?;
        let starts = section(nodes.checked_add(1), 4)?;
        let upper = section((header.upper_lists as usize).checked_mul(m), 4)?;
        let codes = section(nodes.checked_mul(header.dimension as usize * present(HAS_CODES)), 1)?;
        let dimension = header.dimension as usize;
        let (mut int4, mut centre, mut bits) = ((0, 0), (0, 0), (0, 0));
        if header.flags & HAS_INT4 != 0 {
            int4 = section(nodes.checked_mul(code_bytes(dimension)), 1)?;
        }
        if header.flags & (HAS_INT4 | HAS_BITS) != 0 {
            centre = section(Some(dimension), size_of::<f32>())?;
        }
        if header.flags & HAS_BITS != 0 {
            bits = section(nodes.checked_mul(record_words(dimension)), size_of::<u64>())?;
        }
        Some(Self { rows, level0, starts, upper, codes, int4, centre, bits, end: at })
    }
}

/// Writes a graph under the header made for it, section by section.
pub(crate) fn write(header: &Header, parts: &Parts<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let Parts { graph, rows, encoded, int4, bits, centre } = parts;
    let layout = Layout::of(header).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut at = HEADER_BYTES;
    out.write_all(&header.to_bytes())?;
    let mut section = |(start, end): (usize, usize), content: &[u8]| {
        const ZEROS: [u8; SECTION_ALIGN] = [0; SECTION_ALIGN];
        let gap = ZEROS.get(..start.saturating_sub(at));
        out.write_all(gap.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?)?;
        out.write_all(content)?;
        at = start + content.len();
        debug_assert_eq!(at, end, "sections are as long as their counts say");
        Ok::<(), io::Error>(())
    };
    section(layout.rows, bytemuck::cast_slice(rows.unwrap_or_default()))?;
    section(layout.level0, bytemuck::cast_slice(&graph.level0))?;
    section(layout.starts, bytemuck::cast_slice(&graph.upper_starts))?;
    section(layout.upper, bytemuck::cast_slice(&graph.upper))?;
    section(layout.codes, bytemuck::cast_slice(encoded.map_or(&[][..], |encoded| &encoded.codes)))?;
    if let Some(int4) = int4 {
        section(layout.int4, &int4.codes)?;
    }
    if int4.is_some() || bits.is_some() {
        section(layout.centre, bytemuck::cast_slice(centre))?;
    }
    if let Some(bits) = bits {
        section(layout.bits, bytemuck::cast_slice(&bits.records))?;
    }
    Ok(())
}

/// An opened graph, read in place.
#[derive(Debug, Clone)]
pub(crate) struct FlatGraph {
    bytes: Bytes,
    header: Header,
    layout: Layout,
    highest: usize,
}

impl FlatGraph {
    /// Opens the bytes of a graph over a column of `rows` rows, whose nodes are the rows that `is_present`.
    ///
    /// # Errors
    /// [`Error::Corruption`] with `path` and the place of the first fault.
    pub(crate) fn open(
        path: &Path,
        bytes: Bytes,
        distance: Distance,
        dimension: usize,
        rows: usize,
        is_present: impl Fn(u32) -> bool,
    ) -> Result<Self> {
        let corrupt = |at: usize, message: String| Error::corrupt(path, at as u64, message);
        let header = Header::parse(&bytes).map_err(|(at, message)| corrupt(at, message))?;
        header.check().map_err(|message| corrupt(MAGIC.len(), message))?;
        if header.distance != distance || header.dimension as usize != dimension {
            let (found, length) = (header.distance, header.dimension);
            let message =
                format!("a {found:?} graph of dimension {length}, expected {distance:?} of {dimension}");
            return Err(corrupt(12, message));
        }
        let layout = Layout::of(&header).filter(|layout| layout.end == bytes.len());
        let Some(layout) = layout else {
            return Err(corrupt(bytes.len(), "the length does not match the counts in the header".into()));
        };
        let bytes = aligned(bytes);
        let mut graph = Self { bytes, header, layout, highest: 0 };
        graph.check_rows(rows, is_present).map_err(|message| corrupt(layout.rows.0, message))?;
        graph.highest = graph.check_starts().map_err(|message| corrupt(layout.starts.0, message))?;
        graph.check_links().map_err(|(at, message)| corrupt(at, message))?;
        Ok(graph)
    }

    fn check_rows(&self, rows: usize, is_present: impl Fn(u32) -> bool) -> Result<(), String> {
        let nodes = self.nodes();
        let RowMap::Rows(map) = self.rows() else {
            return if nodes == rows { Ok(()) } else { Err(format!("{nodes} nodes, expected {rows}")) };
        };
        let ascending = map.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let in_range = map.last().is_some_and(|last| (*last as usize) < rows);
        if !ascending || !in_range {
            return Err(format!("rows of nodes out of order or not below {rows}"));
        }
        match map.iter().find(|row| !is_present(**row)) {
            Some(row) => Err(format!("a node for row {row}, which has no vector")),
            None => Ok(()),
        }
    }

    /// Checks that the upper lists follow each other; returns the highest level.
    fn check_starts(&self) -> Result<usize, String> {
        let starts = self.starts();
        let mut highest = 0;
        for pair in starts.windows(2) {
            let level = match pair {
                [start, end] if start <= end => (end - start) as usize,
                _ => return Err("upper lists out of order".to_owned()),
            };
            if level > MAX_LEVEL {
                return Err(format!("a node of level {level}, expected at most {MAX_LEVEL}"));
            }
            highest = highest.max(level);
        }
        if starts.first() != Some(&0) || starts.last() != Some(&self.header.upper_lists) {
            return Err("upper lists are not as many as the header says".to_owned());
        }
        match self.level(self.header.entry) == highest {
            true => Ok(highest),
            false => Err("the entry is not on the highest level".to_owned()),
        }
    }

    /// Checks that links lead to nodes, and on upper levels to nodes of that level.
    fn check_links(&self) -> Result<(), (usize, String)> {
        let nodes = self.header.nodes;
        let valid = |neighbour: u32| neighbour < nodes || neighbour == NO_NODE;
        if let Some(at) = self.level0().iter().position(|neighbour| !valid(*neighbour)) {
            return Err((self.layout.level0.0 + 4 * at, format!("a link out of {nodes} nodes")));
        }
        for node in 0..nodes {
            for level in 1..=self.level(node) {
                let (start, width) = slot(self.starts(), self.header.m as usize, node, level);
                let list = self.upper().get(start..start + width).unwrap_or_default();
                let wrong = |neighbour: &u32| {
                    !valid(*neighbour) || (*neighbour != NO_NODE && self.level(*neighbour) < level)
                };
                if list.len() != width || list.iter().any(wrong) {
                    let at = self.layout.upper.0 + 4 * start;
                    return Err((at, format!("a link on level {level} to a node that is not there")));
                }
            }
        }
        Ok(())
    }

    /// Where searches start.
    pub(crate) fn entry(&self) -> u32 {
        self.header.entry
    }

    /// The highest level, where the entry is.
    pub(crate) fn highest_level(&self) -> usize {
        self.highest
    }

    /// Row of each node.
    pub(crate) fn rows(&self) -> RowMap<'_> {
        if self.header.flags & HAS_ROWS == 0 {
            RowMap::Identity
        } else {
            RowMap::Rows(self.words(self.layout.rows))
        }
    }

    /// Codes (nodes x dimension) and their scale, if the graph is walked on codes.
    pub(crate) fn codes(&self) -> Option<(&[i8], CodeScale)> {
        if self.header.flags & HAS_CODES == 0 {
            return None;
        }
        let (start, end) = self.layout.codes;
        let codes = self.bytes.get(start..end).unwrap_or_default();
        Some((bytemuck::cast_slice(codes), self.header.scale))
    }

    /// Four-bit codes of the nodes, if there are.
    pub(crate) fn int4(&self) -> Option<Int4Codes<'_>> {
        if self.header.flags & HAS_INT4 == 0 {
            return None;
        }
        let (start, end) = self.layout.int4;
        Some(Int4Codes {
            kernel: CodeKernel::of(self.header.distance),
            centre: self.centre(),
            step: self.header.scale.scale,
            codes: self.bytes.get(start..end).unwrap_or_default(),
        })
    }

    fn centre(&self) -> &[f32] {
        let (start, end) = self.layout.centre;
        bytemuck::try_cast_slice(self.bytes.get(start..end).unwrap_or_default()).unwrap_or_default()
    }

    /// Bit codes of the nodes, if there are.
    pub(crate) fn bits(&self) -> Option<BitCodes<'_>> {
        if self.header.flags & HAS_BITS == 0 {
            return None;
        }
        let (start, end) = self.layout.bits;
        let records = self.bytes.get(start..end).unwrap_or_default();
        Some(BitCodes {
            kernel: CodeKernel::of(self.header.distance),
            dimension: self.header.dimension as usize,
            centre: self.centre(),
            records: bytemuck::try_cast_slice(records).unwrap_or_default(),
        })
    }

    /// What it is walked on.
    pub(crate) fn walked_on(&self) -> Quantization {
        match self.header.flags {
            flags if flags & HAS_INT4 != 0 => Quantization::Int4,
            flags if flags & HAS_CODES != 0 => Quantization::Int8,
            flags if flags & HAS_BITS != 0 => Quantization::Binary,
            _ => Quantization::None,
        }
    }

    /// What was measured when it was built.
    pub(crate) fn measured(&self) -> &Measured {
        &self.header.measured
    }

    fn level(&self, node: u32) -> usize {
        level(self.starts(), node)
    }

    fn level0(&self) -> &[u32] {
        self.words(self.layout.level0)
    }

    fn starts(&self) -> &[u32] {
        self.words(self.layout.starts)
    }

    fn upper(&self) -> &[u32] {
        self.words(self.layout.upper)
    }

    fn words(&self, (start, end): (usize, usize)) -> &[u32] {
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        bytemuck::try_cast_slice(bytes).unwrap_or_default()
    }

    /// The neighbour lists, ready to be walked.
    pub(crate) fn links(&self) -> FlatLinks<'_> {
        FlatLinks {
            m: self.header.m as usize,
            level0: self.level0(),
            starts: self.starts(),
            upper: self.upper(),
        }
    }

    /// Links of a node on upper levels; twice as many on level 0.
    pub(crate) fn links_per_node(&self) -> u32 {
        self.header.m
    }

    /// Size of everything, codes included.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of nodes.
    pub(crate) fn nodes(&self) -> usize {
        self.header.nodes as usize
    }
}

/// The neighbour lists of an opened graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlatLinks<'a> {
    m: usize,
    level0: &'a [u32],
    starts: &'a [u32],
    upper: &'a [u32],
}

impl<'a> FlatLinks<'a> {
    /// The lists of a graph in memory.
    pub(crate) fn of(graph: &'a Graph) -> Self {
        Self { m: graph.m, level0: &graph.level0, starts: &graph.upper_starts, upper: &graph.upper }
    }

    /// Level of a node.
    pub(crate) fn level(&self, node: u32) -> usize {
        level(self.starts, node)
    }
}

impl Links for FlatLinks<'_> {
    fn nodes(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    #[inline]
    fn for_each(&self, node: u32, level: usize, visit: impl FnMut(u32)) {
        let (start, width) = slot(self.starts, self.m, node, level);
        let lists = if level == 0 { self.level0 } else { self.upper };
        let list = lists.get(start..start + width).unwrap_or_default();
        list.iter().copied().take_while(|neighbour| *neighbour != NO_NODE).for_each(visit);
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        let (start, width) = slot(self.starts, self.m, node, 0);
        kernels::prefetch(self.level0.get(start..start + width).unwrap_or_default());
    }
}

fn distance_number(distance: Distance) -> u32 {
    match distance {
        Distance::Cosine => 0,
        Distance::Dot => 1,
        Distance::Euclidean => 2,
    }
}

fn distance_of(number: u32) -> Option<Distance> {
    [Distance::Cosine, Distance::Dot, Distance::Euclidean].into_iter().nth(number as usize)
}

/// The same bytes where they start at a cache line: as they are, or copied. Then the code of a node lies on as few lines
/// as it has bytes for, and every number can be read in place.
pub(crate) fn aligned(bytes: Bytes) -> Bytes {
    let offset = |bytes: &[u8]| bytes.as_ptr().align_offset(SECTION_ALIGN);
    if bytes.is_empty() || offset(&bytes) == 0 {
        return bytes;
    }
    struct Placed(Vec<u8>, usize);
    impl AsRef<[u8]> for Placed {
        fn as_ref(&self) -> &[u8] {
            self.0.get(self.1..).unwrap_or_default()
        }
    }
    let mut room = Vec::with_capacity(bytes.len() + SECTION_ALIGN);
    let start = offset(&room).min(SECTION_ALIGN);
    room.resize(start, 0);
    room.extend_from_slice(&bytes);
    Bytes::from_owner(Placed(room, start))
}
