//! The hidden argument by which this program reads one risky document (PDF, Office) in a process of its own: a parser
//! that overflows its stack or asks for all memory ends the worker, not the server.

use std::process::ExitCode;

use ragstone_ingest::extract::{Isolation, serve};

use crate::config::Config;

/// The argument. Not a command of users: it speaks a protocol of its own on standard input and output.
const ARGUMENT: &str = "extract-worker";

/// Works and gives the exit code, if that is what this process was started for.
pub(super) fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT || arguments.next().is_some() {
        return None;
    }
    // Nobody reads the messages of a worker: the server sees that it ended without a reply.
    Some(serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

/// Lets a server of this process read risky documents in workers.
pub(super) fn isolate(config: &mut Config) {
    match Isolation::this_program([ARGUMENT]) {
        Ok(isolation) => config.pipeline.extract.isolation = Some(isolation),
        Err(error) => {
            tracing::warn!(%error, "the path of this program is unknown: documents are read in the server's own process");
        }
    }
}
