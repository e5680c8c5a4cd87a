//! Extraction in a process of its own, for parsers that may take their process down: a stack overflow or a failed
//! allocation can't be caught, a thread that never ends can't be stopped. A process can crash, be limited and be killed.
//!
//! The program is the caller's own: it calls [`serve`] when it is started as a worker. Request and reply travel through
//! its standard input and output, one document per process.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::limits::timed_out;
use super::{ExtractLimits, extract};
use crate::document::{ExtractedDocument, IngestOptions, Passwords, RawDocument};
use crate::error::{Error, ErrorKind, Result};

/// Starts a reply. What parsers print to standard output before it is skipped.
const MAGIC: &[u8] = b"\x01ragstone-extract-reply\x02";
/// Most bytes of a request's or reply's head.
const MAX_HEAD_BYTES: usize = 16 << 20;
/// What a worker may print beside its reply.
const MAX_NOISE_BYTES: u64 = 1 << 20;
/// Time beyond the document's own for starting and for sending data.
const GRACE: Duration = Duration::from_secs(5);

/// How to start a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// The program; it has to call [`serve`] when it gets `args`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Most address space of a worker, where the system has a shell that can limit it.
    pub max_memory_bytes: u64,
}

impl Isolation {
    /// Runs this program again with these arguments, with 4 GiB of address space.
    ///
    /// # Errors
    /// When the path of this program is unknown.
    pub fn this_program(args: impl IntoIterator<Item = impl Into<OsString>>) -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            args: args.into_iter().map(Into::into).collect(),
            max_memory_bytes: 4 << 30,
        })
    }

    fn command(&self) -> Command {
        let shell = PathBuf::from("/bin/sh");
        if cfg!(unix) && shell.exists() {
            let mut command = Command::new(shell);
            command.arg("-c").arg("ulimit -v \"$0\" 2>/dev/null; exec \"$@\"");
            command.arg((self.max_memory_bytes / 1024).to_string()).arg(&self.program).args(&self.args);
            return command;
        }
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }
}

#[derive(Serialize, Deserialize)]
struct Request {
    file_name: String,
    media_type: String,
    max_source_bytes: usize,
    max_unpacked_bytes: u64,
    max_text_bytes: usize,
    max_pages: usize,
    timeout: Duration,
    passwords: Passwords,
}

#[derive(Serialize, Deserialize)]
enum Reply {
    /// The document without its text, which follows.
    Document(Box<ExtractedDocument>),
    Refused {
        exhausted: bool,
        message: String,
    },
}

/// Extracts a document in a worker, for at most the time of `limits`.
pub(super) fn run(
    isolation: &Isolation,
    raw: &RawDocument,
    limits: &ExtractLimits,
) -> Result<ExtractedDocument> {
    let mut child = isolation
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("no process for reading a document: {error}"))
        })?;
    let reply = talk(&mut child, raw, limits);
    // A worker that has replied is done; one that hasn't is not waited for.
    let _ = child.kill();
    let _ = child.wait();
    decode_reply(&reply?, limits)
}

/// Sends the request and gives all that the worker prints.
fn talk(child: &mut Child, raw: &RawDocument, limits: &ExtractLimits) -> Result<Vec<u8>> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::new(ErrorKind::Internal, "a worker without pipes"));
    };
    let head = Request {
        file_name: raw.file_name.clone(),
        media_type: raw.media_type.clone(),
        max_source_bytes: limits.max_source_bytes,
        max_unpacked_bytes: limits.max_unpacked_bytes,
        max_text_bytes: limits.max_text_bytes,
        max_pages: limits.max_pages,
        timeout: limits.timeout,
        passwords: raw.options.passwords.clone(),
    };
    let head = frame(
        &serde_json::to_vec(&head).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?,
    );
    let data = raw.data.clone();
    let most = limits.max_text_bytes as u64 + MAX_HEAD_BYTES as u64 + MAX_NOISE_BYTES;
    let (sender, receiver) = sync_channel(1);
    // Both threads end with the worker: its death closes the pipes.
    std::thread::spawn(move || input.write_all(&head).and_then(|()| input.write_all(&data)));
    std::thread::spawn(move || {
        let mut reply = Vec::new();
        let read = output.take(most).read_to_end(&mut reply);
        sender.send(read.map(|_| reply))
    });
    match receiver.recv_timeout(limits.timeout.saturating_add(GRACE)) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
        Err(RecvTimeoutError::Timeout) => Err(timed_out(limits.timeout)),
    }
}

fn decode_reply(output: &[u8], limits: &ExtractLimits) -> Result<ExtractedDocument> {
    let crashed = || Error::bad_content("broken document: the parser crashed on it or ran out of memory");
    let at = output.windows(MAGIC.len()).position(|window| window == MAGIC).ok_or_else(crashed)?;
    let (head, body) = unframe(output.get(at + MAGIC.len()..).unwrap_or_default()).ok_or_else(crashed)?;
    let (text, _) = unframe(body).ok_or_else(crashed)?;
    limits.check_text(text.len())?;
    match serde_json::from_slice(head).map_err(|_| crashed())? {
        Reply::Refused { exhausted: true, message } => Err(Error::new(ErrorKind::ResourceExhausted, message)),
        Reply::Refused { exhausted: false, message } => Err(Error::bad_content(message)),
        Reply::Document(head) => {
            let text = String::from_utf8(text.to_vec()).map_err(|_| crashed())?;
            Ok(ExtractedDocument { text, ..*head })
        }
    }
}

/// The worker's side: reads a request from standard input, extracts it, writes the reply to standard output. The program
/// ends after it.
///
/// # Errors
/// When the pipes break or what comes is no request.
pub fn serve() -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not a request for extraction");
    let input = Bytes::from(input);
    let (head, data) = unframe(&input).ok_or_else(malformed)?;
    let request: Request = serde_json::from_slice(head).map_err(|_| malformed())?;
    let raw = RawDocument {
        file_name: request.file_name,
        media_type: request.media_type,
        data: input.slice_ref(data),
        options: Arc::new(IngestOptions { passwords: request.passwords, ..Default::default() }),
        ..Default::default()
    };
    let limits = ExtractLimits {
        max_source_bytes: request.max_source_bytes,
        max_unpacked_bytes: request.max_unpacked_bytes,
        max_text_bytes: request.max_text_bytes,
        max_pages: request.max_pages,
        timeout: request.timeout,
        isolation: None,
    };
    let (head, text) = match extract(&raw, &limits) {
        Ok(mut document) => {
            let text = std::mem::take(&mut document.text);
            (Reply::Document(Box::new(document)), text)
        }
        Err(error) => {
            let exhausted = error.kind() == ErrorKind::ResourceExhausted;
            (Reply::Refused { exhausted, message: error.message().to_string() }, String::new())
        }
    };
    let mut output = io::stdout().lock();
    output.write_all(MAGIC)?;
    output.write_all(&frame(&serde_json::to_vec(&head)?))?;
    output.write_all(&frame(text.as_bytes()))?;
    output.flush()
}

/// Length in eight bytes, then the bytes.
fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// A frame and what follows it.
fn unframe(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    /// Tells the tests' own program that it runs as a worker.
    const WORKER: &str = "--worker-of-tests";

    /// The worker: in an ordinary run of the tests it has nothing to do.
    #[test]
    fn worker() {
        if std::env::args().any(|argument| argument == WORKER) {
            serve().unwrap();
            std::process::exit(0);
        }
    }

    fn isolated(timeout: Duration) -> ExtractLimits {
        let args = ["--exact", "extract::isolate::tests::worker", "--nocapture", "--skip", WORKER];
        ExtractLimits {
            isolation: Some(Isolation::this_program(args).unwrap()),
            timeout,
            ..Default::default()
        }
    }

    fn read(data: &[u8], limits: &ExtractLimits) -> Result<ExtractedDocument> {
        extract(&RawDocument { data: Bytes::copy_from_slice(data), ..Default::default() }, limits)
    }

    #[test]
    fn a_worker_gives_the_same_as_a_thread() {
        let limits = isolated(Duration::from_secs(60));
        let pdf = crate::extract::tests::pdf("On stones", &["Granite is hard", "Talc is not"]);
        let document = read(&pdf, &limits).unwrap();
        assert_eq!(document, read(&pdf, &ExtractLimits::default()).unwrap());
        assert_eq!(document.pages.len(), 2);
        let error = read(b"%PDF-1.4 and nothing", &limits).unwrap_err();
        assert_eq!(
            error.message(),
            read(b"%PDF-1.4 and nothing", &ExtractLimits::default()).unwrap_err().message()
        );
    }

    #[test]
    fn a_crash_is_an_error() {
        // Arrays in arrays within a compressed stream, with noise between that keeps the ratio of a bomb away: no check
        // sees them before they are parsed, and no stack holds them.
        let mut state = 1u64;
        let nested: Vec<u8> = (0..2_000_000)
            .flat_map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                [b'[', b'0' + (state >> 60) as u8 % 10, b' ']
            })
            .collect();
        let pdf = crate::extract::tests::pdf_with_compressed_content(&nested);
        let error = read(&pdf, &isolated(Duration::from_secs(60))).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::BadContent | ErrorKind::ResourceExhausted), "{error}");
    }

    #[test]
    fn what_is_no_reply_is_a_crash() {
        let limits = ExtractLimits::default();
        let good = [MAGIC, &frame(br#"{"Refused":{"exhausted":false,"message":"m"}}"#), &frame(b"")].concat();
        assert_eq!(decode_reply(&[b"noise ", good.as_slice()].concat(), &limits).unwrap_err().message(), "m");
        for length in 0..good.len() {
            assert!(decode_reply(&good[..length], &limits).unwrap_err().message().contains("crashed"));
        }
        assert!(unframe(&[0xff; 20]).is_none());
    }

    #[test]
    fn a_program_that_can_t_be_started_is_unavailable_or_a_crash() {
        let mut limits = isolated(Duration::from_secs(60));
        limits.isolation.as_mut().unwrap().program = "/no/such/program".into();
        let pdf = crate::extract::tests::pdf("x", &["y"]);
        assert!(read(&pdf, &limits).is_err());
    }
}
