//! How a command ends badly: what is printed and which exit code follows.

use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::filter_language::SyntaxError;

/// Exit code of a command that was called wrongly.
pub(super) const USAGE: u8 = 2;

/// What a command gives back.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The call itself is wrong.
    Usage(String),
    /// It was tried and failed.
    Failed(anyhow::Error),
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(message.into()))
    }

    /// Prints the failure and gives its exit code.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            Self::Usage(message) => {
                eprintln!("error: {message}");
                ExitCode::from(USAGE)
            }
            // `ragstone ... | head` is not a failure.
            Self::Failed(error) if is_broken_pipe(error) => ExitCode::SUCCESS,
            Self::Failed(error) => {
                eprintln!("error: {}", describe(error));
                ExitCode::FAILURE
            }
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast_ref::<SyntaxError>() {
            Some(syntax) => Self::Usage(syntax.to_string()),
            None => Self::Failed(error),
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The whole chain of causes on one line, each cause once.
pub(super) fn describe(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let (part, last) = match cause.downcast_ref::<Status>() {
            Some(status) => (describe_status(status), true),
            None => (cause.to_string(), false),
        };
        // Errors of libraries often repeat their cause.
        if !parts.last().is_some_and(|shown| shown.contains(&part)) {
            parts.push(part);
        }
        if last {
            break;
        }
    }
    parts.join(": ")
}

/// The server's answer in words: its message, and the fields at fault that the message doesn't name.
pub(super) fn describe_status(status: &Status) -> String {
    let mut text = match status.code() {
        Code::Internal | Code::Unknown => format!("internal error of the server: {}", status.message()),
        Code::Unavailable => format!("the server is not reachable (any more): {}", status.message()),
        Code::Unimplemented => {
            format!("the server doesn't know this call; is it an older version? {}", status.message())
        }
        _ if status.message().is_empty() => format!("the server answered {:?}", status.code()),
        _ => status.message().to_owned(),
    };
    let details = status.get_details_bad_request();
    for violation in details.map(|details| details.field_violations).unwrap_or_default() {
        if !text.contains(&violation.description) {
            text.push_str(&format!("; {}: {}", violation.field, violation.description));
        } else if !violation.field.is_empty() && !text.contains(&violation.field) {
            text.push_str(&format!(" (field {})", violation.field));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use anyhow::Context as _;

    fn as_failed(error: impl Into<anyhow::Error>) -> anyhow::Error {
        match Failure::from(error) {
            Failure::Failed(error) => error,
            Failure::Usage(message) => panic!("{message}"),
        }
    }

    fn status(code: Code, message: &str) -> Status {
        // Built from an HTTP header map, as a client receives it.
        let mut headers = tonic::metadata::MetadataMap::new().into_headers();
        headers.insert("grpc-status", (code as i32).into());
        headers.insert("grpc-message", message.replace(' ', "%20").parse().unwrap());
        Status::from_header_map(&headers).unwrap()
    }

    #[test]
    fn a_status_is_told_in_its_own_words_with_what_was_tried() {
        let error =
            Err::<(), _>(status(Code::NotFound, "no collection \"x\"")).context("search").unwrap_err();
        assert_eq!(describe(&as_failed(error)), "search: no collection \"x\"");
        let error = status(Code::Internal, "disk on fire");
        assert_eq!(describe(&as_failed(error)), "internal error of the server: disk on fire");
    }

    #[test]
    fn causes_that_repeat_are_told_once() {
        let error = anyhow::anyhow!("no such file").context("config.toml: no such file");
        assert_eq!(describe(&error), "config.toml: no such file");
    }

    #[test]
    fn a_bad_filter_is_a_usage_error() {
        let error = crate::filter_language::parse("a =").unwrap_err();
        assert!(matches!(Failure::from(error), Failure::Usage(_)));
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let error =
            anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("stdout");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
