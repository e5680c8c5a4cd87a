//! The bounds of one extraction.

use std::time::{Duration, Instant};

use super::detect::Format;
use super::isolate::Isolation;
use crate::error::{Error, ErrorKind, Result};

/// Most bytes of HTML or XML: their trees take about twenty times the source.
const MAX_MARKUP_BYTES: usize = 32 << 20;
/// Most bytes of an Office file; undoc holds it, its parts and its model.
const MAX_OFFICE_BYTES: usize = 128 << 20;

/// Most bytes of RTF, which writes two characters for each byte of its pictures.
const MAX_RTF_BYTES: usize = 128 << 20;

/// What one extraction may cost.
#[derive(Debug, Clone)]
pub struct ExtractLimits {
    /// Most bytes of a source. Some formats have a lower bound of their own.
    pub max_source_bytes: usize,
    /// Most bytes of all members of a ZIP based format, unpacked.
    pub max_unpacked_bytes: u64,
    /// Most bytes of extracted text.
    pub max_text_bytes: usize,
    /// Most pages, slides or sheets.
    pub max_pages: usize,
    /// Longest time for one document. A parser that is stuck beyond it is left behind.
    pub timeout: Duration,
    /// Runs the parsers of PDF and Office files in processes of their own. `None`: on threads, where a document that
    /// overflows the stack or the memory ends the program.
    pub isolation: Option<Isolation>,
}

impl Default for ExtractLimits {
    fn default() -> Self {
        Self {
            max_source_bytes: 256 << 20,
            max_unpacked_bytes: 512 << 20,
            max_text_bytes: 64 << 20,
            max_pages: 10_000,
            timeout: Duration::from_secs(30),
            isolation: None,
        }
    }
}

impl ExtractLimits {
    pub(super) fn check_source(&self, bytes: usize) -> Result<()> {
        within(bytes, self.max_source_bytes, "the document")
    }

    pub(super) fn check_format_source(&self, format: Format, bytes: usize) -> Result<()> {
        let most = match format {
            Format::Html | Format::Xml | Format::FlatOpenDocument => MAX_MARKUP_BYTES,
            Format::Office(_) | Format::OpenDocument | Format::Epub | Format::Message => MAX_OFFICE_BYTES,
            Format::Rtf => MAX_RTF_BYTES,
            _ => return Ok(()),
        };
        within(bytes, most, format.name())
    }

    /// For markup within a container.
    pub(super) fn check_markup(&self, bytes: usize) -> Result<()> {
        within(bytes, MAX_MARKUP_BYTES, "markup")
    }

    pub(super) fn check_pages(&self, pages: usize) -> Result<()> {
        if pages > self.max_pages {
            return Err(exhausted(format!("{pages} pages; at most {} are read", self.max_pages)));
        }
        Ok(())
    }

    pub(super) fn check_text(&self, bytes: usize) -> Result<()> {
        within(bytes, self.max_text_bytes, "the extracted text")
    }
}

fn within(bytes: usize, most: usize, what: &str) -> Result<()> {
    if bytes > most {
        return Err(exhausted(format!("{what} has {bytes} bytes; at most {most} are read")));
    }
    Ok(())
}

/// A bound was reached.
pub(super) fn exhausted(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ResourceExhausted, message)
}

/// When an extraction has to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant, Duration);

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(time).unwrap_or(now), time)
    }

    /// The time that is left.
    pub(super) fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// An error once the time is over. Loops over pages and members ask it, so that few threads are ever left behind.
    pub(super) fn check(&self) -> Result<()> {
        if Instant::now() > self.0 { Err(timed_out(self.1)) } else { Ok(()) }
    }
}

pub(super) fn timed_out(time: Duration) -> Error {
    exhausted(format!("reading it took more than {} s", time.as_secs_f32()))
}
