//! Files of vectors and of whole numbers, read slice by slice so that none is ever in memory as a whole.
//!
//! `.npy` (C order, little-endian), `.fvecs` and `.ivecs` (each row is its length as an i32 and so many numbers), and
//! `.parquet` with a column of lists. It knows nothing of what the numbers are for. Every mistake names the file.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use half::f16;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ragstone_index::schema::MAX_DIMENSION;

use super::npy::{Element, Header};

/// Rows that are read at a time.
pub(super) const SLICE_ROWS: usize = 2_048;
/// Most bytes of a slice; wide rows come in smaller slices.
const SLICE_BYTES: usize = 16 << 20;

/// A file whose header was checked.
#[derive(Debug)]
pub(super) struct VectorFile {
    path: PathBuf,
    format: Format,
    rows: usize,
    width: usize,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Npy(Header),
    Vecs(Element),
    /// Number of the column.
    Parquet(usize),
}

/// What is read from files: f32 from any float, i64 from any whole number.
pub(super) trait Number: Copy + Send {
    const KIND: &'static str;

    /// Whether elements can become this.
    fn takes(element: Element) -> bool;

    /// Appends the elements; a rest that is shorter than one is ignored.
    fn decode(element: Element, bytes: &[u8], into: &mut Vec<Self>);

    /// Appends the values of a Parquet column.
    fn from_column(values: &ArrayRef, into: &mut Vec<Self>) -> Result<()>;
}

impl Number for f32 {
    const KIND: &'static str = "floats";

    fn takes(element: Element) -> bool {
        matches!(element, Element::F16 | Element::F32 | Element::F64)
    }

    fn decode(element: Element, bytes: &[u8], into: &mut Vec<Self>) {
        match element {
            Element::F16 => into.extend(words(bytes).map(|word| f16::from_le_bytes(word).to_f32())),
            Element::F64 => into.extend(words(bytes).map(|word| f64::from_le_bytes(word) as f32)),
            _ => into.extend(words(bytes).map(f32::from_le_bytes)),
        }
    }

    fn from_column(values: &ArrayRef, into: &mut Vec<Self>) -> Result<()> {
        let floats = cast(values, &DataType::Float32)?;
        into.extend_from_slice(floats.as_primitive::<Float32Type>().values());
        Ok(())
    }
}

impl Number for i64 {
    const KIND: &'static str = "whole numbers";

    fn takes(element: Element) -> bool {
        matches!(element, Element::I32 | Element::I64)
    }

    fn decode(element: Element, bytes: &[u8], into: &mut Vec<Self>) {
        match element {
            Element::I64 => into.extend(words(bytes).map(i64::from_le_bytes)),
            _ => into.extend(words(bytes).map(|word| i64::from(i32::from_le_bytes(word)))),
        }
    }

    fn from_column(_: &ArrayRef, _: &mut Vec<Self>) -> Result<()> {
        bail!("whole numbers are read from .npy and .ivecs")
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

impl VectorFile {
    /// Opens a file of `T`. `column`: of a Parquet file; absent: its first column of float lists.
    pub(super) fn open<T: Number>(path: &Path, column: Option<&str>) -> Result<Self> {
        let named = || path.display().to_string();
        let file = File::open(path).with_context(named)?;
        let length = file.metadata().with_context(named)?.len();
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let opened = match extension.to_str() {
            Some("npy") => open_npy::<T>(file, length),
            Some("fvecs") => open_vecs::<T>(file, length, Element::F32),
            Some("ivecs") => open_vecs::<T>(file, length, Element::I32),
            Some("parquet") => guarded(|| open_parquet::<T>(file, column)),
            _ => Err(anyhow!("expected a file .npy, .parquet, .fvecs or .ivecs")),
        };
        let (format, rows, width) = opened.with_context(named)?;
        let checked = || -> Result<()> {
            ensure!(rows > 0 && width > 0, "is empty: {rows} rows of {width}");
            ensure!(u32::try_from(rows).is_ok(), "has {rows} rows; at most {} are possible", u32::MAX);
            ensure!(
                width <= MAX_DIMENSION as usize,
                "has {width} columns; at most {MAX_DIMENSION} are possible"
            );
            Ok(())
        };
        checked().with_context(named)?;
        Ok(Self { path: path.to_owned(), format, rows, width })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Calls with each slice: its first row, and its rows one behind the other.
    pub(super) fn each_slice<T: Number>(
        &self,
        mut visit: impl FnMut(usize, &mut [T]) -> Result<()>,
    ) -> Result<()> {
        let slice_rows = (SLICE_BYTES / (self.width * size_of::<T>())).clamp(1, SLICE_ROWS);
        match self.format {
            Format::Npy(header) => self.each_npy_slice(header, slice_rows, &mut visit),
            Format::Vecs(element) => self.each_vecs_slice(element, slice_rows, &mut visit),
            Format::Parquet(column) => guarded(|| self.each_parquet_slice(column, slice_rows, &mut visit)),
        }
        .with_context(|| self.path.display().to_string())
    }

    /// All of it; for files that are small.
    pub(super) fn read_all<T: Number>(&self) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(self.rows * self.width);
        self.each_slice(|_, slice| {
            all.extend_from_slice(slice);
            Ok(())
        })?;
        Ok(all)
    }

    fn each_npy_slice<T: Number>(
        &self,
        header: Header,
        slice_rows: usize,
        visit: &mut impl FnMut(usize, &mut [T]) -> Result<()>,
    ) -> Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(header.data))?;
        let (mut bytes, mut slice) = (Vec::new(), Vec::new());
        for first in (0..self.rows).step_by(slice_rows) {
            let rows = slice_rows.min(self.rows - first);
            bytes.resize(rows * self.width * header.element.width(), 0);
            file.read_exact(&mut bytes)?;
            slice.clear();
            T::decode(header.element, &bytes, &mut slice);
            visit(first, &mut slice)?;
        }
        Ok(())
    }

    fn each_vecs_slice<T: Number>(
        &self,
        element: Element,
        slice_rows: usize,
        visit: &mut impl FnMut(usize, &mut [T]) -> Result<()>,
    ) -> Result<()> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(&self.path)?);
        let (mut bytes, mut slice) = (vec![0; self.width * element.width()], Vec::new());
        for first in (0..self.rows).step_by(slice_rows) {
            slice.clear();
            for row in first..self.rows.min(first + slice_rows) {
                let mut length = [0; 4];
                file.read_exact(&mut length)?;
                let length = i32::from_le_bytes(length);
                ensure!(
                    usize::try_from(length) == Ok(self.width),
                    "row {row} has {length} numbers, the first has {}",
                    self.width
                );
                file.read_exact(&mut bytes)?;
                T::decode(element, &bytes, &mut slice);
            }
            visit(first, &mut slice)?;
        }
        Ok(())
    }

    fn each_parquet_slice<T: Number>(
        &self,
        column: usize,
        slice_rows: usize,
        visit: &mut impl FnMut(usize, &mut [T]) -> Result<()>,
    ) -> Result<()> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&self.path)?)?;
        let projection = ProjectionMask::roots(builder.parquet_schema(), [column]);
        let reader = builder.with_projection(projection).with_batch_size(slice_rows).build()?;
        let (mut first, mut slice) = (0, Vec::new());
        for batch in reader {
            let batch = batch?;
            let lists = batch.column(0);
            slice.clear();
            T::from_column(&values_of(lists, self.width, first)?, &mut slice)?;
            ensure!(slice.len() == lists.len() * self.width, "the rows from {first} on are not complete");
            visit(first, &mut slice)?;
            first += lists.len();
        }
        ensure!(first == self.rows, "has {first} rows; its footer says {}", self.rows);
        Ok(())
    }
}

/// The numbers of lists that all have to have the same length, without gaps.
fn values_of(lists: &ArrayRef, width: usize, first: usize) -> Result<ArrayRef> {
    ensure!(lists.null_count() == 0, "a row from {first} on has no vector");
    let values = match lists.data_type() {
        DataType::FixedSizeList(_, found) => {
            ensure!(usize::try_from(*found) == Ok(width), "rows have {found} numbers instead of {width}");
            let lists = lists.as_fixed_size_list();
            lists.values().slice(lists.offset() * width, lists.len() * width)
        }
        DataType::List(_) => {
            let lists = lists.as_list::<i32>();
            let offsets = lists.value_offsets();
            let wrong = offsets.windows(2).position(|pair| !matches!(pair, [a, b] if b - a == width as i32));
            if let Some(at) = wrong {
                bail!("row {} has another number of components than the {width} of the first", first + at);
            }
            let start = offsets.first().copied().unwrap_or_default().max(0) as usize;
            lists.values().slice(start, lists.len() * width)
        }
        other => bail!("its column is of type {other}, expected lists of floats"),
    };
    ensure!(values.null_count() == 0, "a vector from row {first} on has a null in it");
    Ok(values)
}

fn open_npy<T: Number>(file: File, length: u64) -> Result<(Format, usize, usize)> {
    let header = Header::read(&mut BufReader::new(file)).map_err(anyhow::Error::msg)?;
    ensure!(T::takes(header.element), "has elements of type {:?}, expected {}", header.element, T::KIND);
    let expected = [header.columns, header.element.width()]
        .iter()
        .try_fold(header.rows as u64, |bytes, &factor| bytes.checked_mul(factor as u64))
        .and_then(|bytes| bytes.checked_add(header.data));
    match expected {
        Some(expected) if expected <= length => Ok((Format::Npy(header), header.rows, header.columns)),
        _ => bail!(
            "is truncated: its header says {} rows of {}, which is more than its {length} bytes",
            header.rows,
            header.columns
        ),
    }
}

fn open_vecs<T: Number>(mut file: File, length: u64, element: Element) -> Result<(Format, usize, usize)> {
    ensure!(T::takes(element), "has elements of type {element:?}, expected {}", T::KIND);
    let mut first = [0; 4];
    file.read_exact(&mut first).context("is truncated")?;
    let width = i32::from_le_bytes(first);
    ensure!(
        width > 0 && width.unsigned_abs() <= MAX_DIMENSION,
        "its first row has {width} numbers, expected 1 to {MAX_DIMENSION}"
    );
    let row_bytes = 4 + u64::from(width.unsigned_abs()) * element.width() as u64;
    ensure!(
        length.is_multiple_of(row_bytes),
        "is truncated: {length} bytes are not a number of rows of {width} numbers"
    );
    Ok((Format::Vecs(element), usize::try_from(length / row_bytes)?, usize::try_from(width)?))
}

fn open_parquet<T: Number>(file: File, wanted: Option<&str>) -> Result<(Format, usize, usize)> {
    ensure!(T::takes(Element::F32), "whole numbers are read from .npy and .ivecs");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let holds_vectors = |data_type: &DataType| match data_type {
        DataType::List(item) | DataType::FixedSizeList(item, _) => item.data_type().is_floating(),
        _ => false,
    };
    let fields = builder.schema().fields();
    let found = match wanted {
        Some(name) => fields.iter().position(|field| field.name() == name),
        None => fields.iter().position(|field| holds_vectors(field.data_type())),
    };
    let Some((column, field)) = found.and_then(|column| Some((column, fields.get(column)?))) else {
        let names: Vec<_> =
            fields.iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect();
        let what = wanted.map_or("column of float lists".to_owned(), |name| format!("column {name:?}"));
        bail!("has no {what}; its columns: {}", names.join(", "));
    };
    ensure!(
        holds_vectors(field.data_type()),
        "its column {:?} is of type {}, expected lists of floats",
        field.name(),
        field.data_type()
    );
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
    let width = match field.data_type() {
        DataType::FixedSizeList(_, width) => usize::try_from(*width).unwrap_or_default(),
        _ => {
            let projection = ProjectionMask::roots(builder.parquet_schema(), [column]);
            let mut reader = builder.with_projection(projection).with_batch_size(1).build()?;
            let batch = reader.next().transpose()?;
            batch.map_or(0, |batch| batch.column(0).as_list::<i32>().values().len())
        }
    };
    Ok((Format::Parquet(column), rows, width))
}

/// A defect of the decoder that a broken file finds is an error as any other.
fn guarded<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(anyhow!("is broken: its reader gave up")))
}

#[cfg(test)]
mod tests;
