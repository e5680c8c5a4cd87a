//! The error type of the pipeline. A failed file carries a reason for its owner, not a stack of library errors.

/// Result of the pipeline.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request or its settings are wrong.
    InvalidArgument,
    /// The content can't be read: broken, encrypted, of no known format. Trying again does not help.
    BadContent,
    /// A file, collection, source or job does not exist.
    NotFound,
    /// Right request, wrong state (another embedder filled the space, no embedder for the space).
    FailedPrecondition,
    /// A bound was reached.
    ResourceExhausted,
    /// Reading failed now; it is worth trying again.
    Unavailable,
    /// The caller went away or asked to stop.
    Cancelled,
    /// A defect.
    Internal,
}

/// An error of the pipeline.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    field: Option<String>,
    message: String,
}

impl Error {
    /// An error of a kind, with what was found and what was expected.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, field: None, message: message.into() }
    }

    /// Names the field, file or column at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Content that can't be read.
    pub fn bad_content(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadContent, message)
    }

    /// A wrong field of a request.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message).at(field)
    }

    /// Who is at fault.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The field, file or column at fault.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What was found and what was expected.
    pub fn message(&self) -> &str {
        &self.message
    }
}
