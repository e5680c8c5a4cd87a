//! The `.npy` format of NumPy: its header, read and written. It knows nothing of what the arrays mean.
//!
//! Described in <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>: magic, version, length of the
//! header, a Python dictionary with `descr`, `fortran_order` and `shape`, then the array.

use std::io::{self, Read, Write};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read, in bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// The data of an array begins at a multiple of this.
const ALIGNMENT: usize = 64;

/// Type of an array's elements; always little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    F32,
    F64,
    I32,
    I64,
}

impl Element {
    /// Bytes of an element.
    pub(super) fn width(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    fn of(descr: &str) -> Result<Self, String> {
        Ok(match descr {
            "<f2" => Self::F16,
            "<f4" => Self::F32,
            "<f8" => Self::F64,
            "<i4" | "<u4" => Self::I32,
            "<i8" | "<u8" => Self::I64,
            other if other.starts_with('>') => {
                return Err(format!("is big-endian ({other:?}); expected little-endian"));
            }
            other => {
                return Err(format!("has elements of type {other:?}; expected f2, f4, f8, i4 or i8"));
            }
        })
    }
}

/// What the header says of an array of one or two dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) element: Element,
    pub(super) rows: usize,
    /// 1 for an array of one dimension.
    pub(super) columns: usize,
    /// Where the data begins, in bytes.
    pub(super) data: u64,
}

impl Header {
    /// Reads a header. An error is what is wrong with the file, to be put behind its name.
    pub(super) fn read(file: &mut impl Read) -> Result<Self, String> {
        let short = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "ends within its header".to_owned(),
            _ => error.to_string(),
        };
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(short)?;
        let [magic @ .., major, _minor] = start;
        if magic != *MAGIC {
            return Err("is no .npy file".to_owned());
        }
        let (length, before) = match major {
            1 => {
                let mut bytes = [0; 2];
                file.read_exact(&mut bytes).map_err(short)?;
                (usize::from(u16::from_le_bytes(bytes)), 10)
            }
            2 | 3 => {
                let mut bytes = [0; 4];
                file.read_exact(&mut bytes).map_err(short)?;
                (u32::from_le_bytes(bytes) as usize, 12)
            }
            _ => return Err(format!("is of .npy version {major}; versions 1 to 3 are read")),
        };
        if length > MAX_HEADER_BYTES {
            return Err(format!("has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read"));
        }
        let mut text = vec![0; length];
        file.read_exact(&mut text).map_err(short)?;
        let text = std::str::from_utf8(&text).map_err(|_| "has a header that is not text".to_owned())?;
        Self::parse(text, before + length as u64)
    }

    fn parse(text: &str, data: u64) -> Result<Self, String> {
        let broken = |what: &str| format!("has a header without {what}");
        let descr = value_of(text, "descr").ok_or_else(|| broken("descr"))?;
        let descr = descr.strip_prefix(['\'', '"']).and_then(|rest| rest.split(['\'', '"']).next());
        let element = Element::of(descr.ok_or_else(|| "is an array of records".to_owned())?)?;
        let order = value_of(text, "fortran_order").ok_or_else(|| broken("fortran_order"))?;
        let shape = value_of(text, "shape").ok_or_else(|| broken("shape"))?;
        let shape = shape.strip_prefix('(').and_then(|rest| rest.split(')').next());
        let shape = shape.ok_or_else(|| broken("shape"))?;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let sizes: Vec<usize> = sizes
            .map(|size| size.parse().map_err(|_| format!("has the shape ({shape})")))
            .collect::<Result<_, String>>()?;
        let (rows, columns) = match sizes.as_slice() {
            [rows] => (*rows, 1),
            [rows, columns] => (*rows, *columns),
            _ => return Err(format!("has the shape ({shape}); expected one or two dimensions")),
        };
        if order.starts_with("True") && rows > 1 && columns > 1 {
            return Err("is in Fortran order; expected C order (numpy.ascontiguousarray)".to_owned());
        }
        Ok(Self { element, rows, columns, data })
    }
}

/// What stands behind a key of the dictionary, to the end of the text.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let at = quoted.iter().find_map(|quoted| text.find(quoted.as_str()).map(|at| at + quoted.len()))?;
    Some(text.get(at..)?.trim_start().strip_prefix(':')?.trim_start())
}

/// Writes the header of a two-dimensional f32 array; its data has to follow.
pub(super) fn write_header(file: &mut impl Write, rows: usize, columns: usize) -> io::Result<usize> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(io::Error::other)?;
    file.write_all(MAGIC)?;
    file.write_all(&[1, 0])?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(text.as_bytes())?;
    Ok(MAGIC.len() + 4 + text.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn file(text: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[track_caller]
    fn fails(bytes: &[u8], part: &str) {
        let error = Header::read(&mut &*bytes).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn headers_written_are_read() {
        let mut bytes = Vec::new();
        let length = write_header(&mut bytes, 7, 384).unwrap();
        assert_eq!((length, length % ALIGNMENT), (bytes.len(), 0));
        let header = Header::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(header, Header { element: Element::F32, rows: 7, columns: 384, data: length as u64 });
    }

    #[test]
    fn one_dimension_is_one_column() {
        let bytes = file("{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }\n");
        let header = Header::read(&mut bytes.as_slice()).unwrap();
        assert_eq!((header.element, header.rows, header.columns), (Element::I64, 5, 1));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |descr: &str, order: &str, shape: &str| {
            file(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"))
        };
        fails(b"", "ends within");
        fails(b"PK\x03\x04 something", "no .npy");
        fails(&with("'<f4'", "False", "(2, 3)")[..20], "ends within");
        fails(&with("'>f4'", "False", "(2, 3)"), "big-endian");
        fails(&with("'|S8'", "False", "(2, 3)"), "S8");
        fails(&with("[('a', '<f4')]", "False", "(2, 3)"), "records");
        fails(&with("'<f4'", "True", "(2, 3)"), "Fortran");
        fails(&with("'<f4'", "False", "(2, 3, 4)"), "two dimensions");
        fails(&with("'<f4'", "False", "(2, x)"), "shape (2, x)");
        fails(&with("'<f4'", "False", "()"), "two dimensions");
        fails(&with("'<f4'", "False", "(99999999999999999999999, 2)"), "shape");
        fails(&file("{'descr': '<f4'}"), "fortran_order");
        let mut long = MAGIC.to_vec();
        long.extend([2, 0, 0xff, 0xff, 0xff, 0xff]);
        fails(&long, "at most");
    }
}
