//! The one table from kinds of errors to gRPC codes. No other file makes a `tonic::Status`.
//!
//! | code | when | what a client does |
//! |---|---|---|
//! | `INVALID_ARGUMENT` | the request, or content in it, is wrong; a `BadRequest` detail names the field | correct it |
//! | `NOT_FOUND`, `ALREADY_EXISTS` | a collection, document, source or job | - |
//! | `FAILED_PRECONDITION` | right request, wrong state | change the state |
//! | `RESOURCE_EXHAUSTED` | a bound was reached | later, or in smaller pieces |
//! | `DEADLINE_EXCEEDED` | the time of the call, or of `min_seq_no`, is over | again |
//! | `UNAVAILABLE` | the log or a file can't be used now, or the server goes down | later |
//! | `DATA_LOSS` | a file is not what was written | restore |
//! | `CANCELLED` | the caller went away | - |
//! | `UNIMPLEMENTED` | no such service or method | - |
//! | `INTERNAL` | a defect; the log says more | report it |
//!
//! Every status carries a `google.rpc.ErrorInfo` of domain `ragstone` whose reason is the kind in capitals.

use ragstone_index::ErrorKind as EngineKind;
use ragstone_ingest::ErrorKind as PipelineKind;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::app::error::{Error, Violation};

/// Domain of the `ErrorInfo` details.
pub const DOMAIN: &str = "ragstone";

/// Longest message and field path on the wire. A status travels in headers, which clients bound at 16 KiB together.
const MAX_MESSAGE_BYTES: usize = 1_024;
const MAX_FIELD_BYTES: usize = 256;
const MAX_DESCRIPTION_BYTES: usize = 384;
/// Most fields that a status names.
const MAX_VIOLATIONS: usize = 8;

/// The status of an error.
pub fn status(error: &Error) -> Status {
    let (code, reason) = code(error);
    if matches!(code, Code::Internal | Code::DataLoss) {
        tracing::error!(%error, "call failed");
    }
    build(code, reason, &error.to_string(), &error.violations())
}

/// The table.
fn code(error: &Error) -> (Code, &'static str) {
    match error {
        Error::Engine(error) => match error.kind() {
            EngineKind::InvalidArgument => (Code::InvalidArgument, "INVALID_ARGUMENT"),
            EngineKind::NotFound => (Code::NotFound, "NOT_FOUND"),
            EngineKind::AlreadyExists => (Code::AlreadyExists, "ALREADY_EXISTS"),
            EngineKind::FailedPrecondition => (Code::FailedPrecondition, "FAILED_PRECONDITION"),
            EngineKind::ResourceExhausted => (Code::ResourceExhausted, "LIMIT_EXCEEDED"),
            EngineKind::DeadlineExceeded => (Code::DeadlineExceeded, "NOT_VISIBLE_YET"),
            EngineKind::Unavailable => (Code::Unavailable, "STORAGE_UNAVAILABLE"),
            EngineKind::Corruption => (Code::DataLoss, "CORRUPTION"),
            EngineKind::Internal => (Code::Internal, "INTERNAL"),
        },
        Error::Pipeline(error) => match error.kind() {
            PipelineKind::InvalidArgument => (Code::InvalidArgument, "INVALID_ARGUMENT"),
            PipelineKind::BadContent => (Code::InvalidArgument, "BAD_CONTENT"),
            PipelineKind::NotFound => (Code::NotFound, "NOT_FOUND"),
            PipelineKind::FailedPrecondition => (Code::FailedPrecondition, "FAILED_PRECONDITION"),
            PipelineKind::ResourceExhausted => (Code::ResourceExhausted, "LIMIT_EXCEEDED"),
            PipelineKind::Unavailable => (Code::Unavailable, "UNAVAILABLE"),
            PipelineKind::Cancelled => (Code::Cancelled, "CANCELLED"),
            PipelineKind::Internal => (Code::Internal, "INTERNAL"),
        },
        Error::BadRequest(_) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        Error::NoCollection(_) => (Code::NotFound, "NO_COLLECTION"),
        Error::Busy { .. } => (Code::ResourceExhausted, "BUSY"),
        Error::DeadlineExceeded(_) => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        Error::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
        Error::Cancelled => (Code::Cancelled, "CANCELLED"),
        Error::Panicked => (Code::Internal, "PANIC"),
    }
}

/// The status of a call to a service or method that there isn't.
pub fn unimplemented(path: &str) -> Status {
    build(
        Code::Unimplemented,
        "NO_SUCH_METHOD",
        &format!("no method {path}; reflection lists those there are"),
        &[],
    )
}

/// The status for a request that the transport refused before a handler saw it. tonic blames the server for bytes that
/// a client got wrong; here they are `INVALID_ARGUMENT` with the field, and a message over the size limit is
/// `RESOURCE_EXHAUSTED`. Statuses that this table made, and all others, stay as they are.
pub fn refused(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    match status.code() {
        Code::OutOfRange => build(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", status.message(), &[]),
        Code::Internal => {
            let (field, message) = undecodable(status.message());
            build(
                Code::InvalidArgument,
                "UNDECODABLE",
                &format!("{field}: {message}"),
                &[Violation { field, message }],
            )
        }
        _ => status,
    }
}

/// Field and cause of a decoder's message `… Protobuf message: C.d: A.b: cause`; innermost fields first.
fn undecodable(message: &str) -> (String, String) {
    let Some((_, path_and_cause)) = message.split_once("Protobuf message: ") else {
        return ("request".into(), message.into());
    };
    let parts: Vec<&str> = path_and_cause.split(": ").collect();
    let fields: Vec<&str> = parts.iter().copied().map_while(field_of).collect();
    let cause = parts.get(fields.len()..).unwrap_or_default().join(": ");
    // A nested filter is named again at each level: the first levels say enough.
    let outermost: Vec<&str> = fields.into_iter().rev().take(4).collect();
    let path = if outermost.is_empty() { "request".into() } else { outermost.join(".") };
    (path, cause)
}

/// `Message.field` -> `field`; `None` for words.
fn field_of(part: &str) -> Option<&str> {
    part.split_once('.').map(|(_, field)| field).filter(|field| !field.contains(' '))
}

fn build(code: Code, reason: &str, message: &str, violations: &[Violation]) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::new());
    for violation in violations.iter().take(MAX_VIOLATIONS) {
        details.add_bad_request_violation(
            shortened(&violation.field, MAX_FIELD_BYTES),
            shortened(&violation.message, MAX_DESCRIPTION_BYTES),
        );
    }
    Status::with_error_details(code, shortened(message, MAX_MESSAGE_BYTES), details)
}

/// At most `limit` bytes of a text, cut at a character.
fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.into();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_in_the_details() {
        let status = status(&Error::invalid("points[3].id", "is empty"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "points[3].id: is empty");
        let details = status.get_error_details();
        let fields: Vec<_> = details
            .bad_request()
            .map(|b| b.field_violations.iter().map(|v| v.field.clone()).collect())
            .unwrap_or_default();
        assert_eq!(fields, ["points[3].id"]);
        assert_eq!(details.error_info().map(|i| i.domain.as_str()), Some(DOMAIN));
    }

    #[test]
    fn a_status_fits_into_headers_whatever_it_says() {
        let violation = Violation { field: "é".repeat(5_000), message: "ü".repeat(5_000) };
        let status = status(&Error::BadRequest(vec![violation; 500]));
        // Non-ASCII bytes take three in a header, details four for three.
        let size = status.message().len() * 3 + status.details().len() * 4 / 3;
        assert!(size < 14_000, "{size}");
    }

    #[test]
    fn the_decoder_s_words_become_a_field() {
        let check = |message: &str, field: &str, cause: &str| {
            assert_eq!(undecodable(message), (field.into(), cause.into()));
        };
        check(
            "failed to decode Protobuf message: SearchRequest.text: invalid string value: data is not UTF-8 encoded",
            "text",
            "invalid string value: data is not UTF-8 encoded",
        );
        check(
            "failed to decode Protobuf message: B.must: C.kind: B.must: C.kind: B.must: A.filter: recursion limit reached",
            "filter.must.kind.must",
            "recursion limit reached",
        );
        check("failed to decode Protobuf message: invalid varint", "request", "invalid varint");
        check("Unexpected EOF decoding stream.", "request", "Unexpected EOF decoding stream.");
    }

    #[test]
    fn what_the_transport_refuses_is_the_client_s_fault_and_our_own_defects_are_not() {
        let check = |status: Status, code: Code| assert_eq!(refused(status).code(), code);
        check(Status::internal("failed to decode Protobuf message: invalid varint"), Code::InvalidArgument);
        check(Status::out_of_range("decoded message length too large"), Code::ResourceExhausted);
        check(status(&Error::Panicked), Code::Internal);
        check(Status::unimplemented("x"), Code::Unimplemented);
    }
}
