//! The one error type of the engine. What went wrong is told first by whose fault it is.

use std::path::PathBuf;

/// Result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who is at fault, and what a caller can do about it. The server maps each kind to one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong; sending it again will fail again.
    InvalidArgument,
    /// The collection, point or document named does not exist.
    NotFound,
    /// The collection named exists already.
    AlreadyExists,
    /// The request is right, but not for the present state (wrong embedder, collection being deleted).
    FailedPrecondition,
    /// A bound was reached (queue, memtable, batch size); the same request may succeed later or in smaller pieces.
    ResourceExhausted,
    /// The awaited write is not visible yet.
    DeadlineExceeded,
    /// The log or a file cannot be read or written now; no write is accepted until a restart.
    Unavailable,
    /// Data on disk is not what was written.
    Corruption,
    /// A defect in the engine.
    Internal,
}

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the request is wrong.
    #[error("{field}: {message}")]
    InvalidArgument {
        /// Path of the field at fault, in the caller's terms: `vector`, `filter.must[2].field`.
        field: String,
        /// What was found and what was expected.
        message: String,
    },
    /// Something named does not exist.
    #[error("{what} \"{name}\" does not exist")]
    NotFound {
        /// "collection", "document", ...
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something named exists already.
    #[error("{what} \"{name}\" exists already")]
    AlreadyExists {
        /// "collection".
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The present state does not allow the request.
    #[error("{0}")]
    FailedPrecondition(String),
    /// A bound was reached.
    #[error("{what}: {value} is over the limit of {limit}")]
    LimitExceeded {
        /// What is bounded.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// The bound.
        limit: u64,
    },
    /// The write that was awaited did not become visible in time.
    #[error("write {wanted} is not visible yet: the collection is at {visible}")]
    NotVisible {
        /// The `min_seq_no` of the request.
        wanted: u64,
        /// The newest visible write.
        visible: u64,
    },
    /// The log failed; the collection only reads until it is opened again.
    #[error("the collection accepts no writes since its log failed: {0}")]
    LogFailed(String),
    /// Reading or writing a file failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what was written.
    #[error("{path} is corrupt at byte {offset}: {message}")]
    Corruption {
        /// The file.
        path: PathBuf,
        /// Where the first bad byte or structure was seen.
        offset: u64,
        /// What was found.
        message: String,
    },
    /// A defect in the engine.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Who is at fault.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidArgument { .. } => ErrorKind::InvalidArgument,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::FailedPrecondition(_) => ErrorKind::FailedPrecondition,
            Self::LimitExceeded { .. } => ErrorKind::ResourceExhausted,
            Self::NotVisible { .. } => ErrorKind::DeadlineExceeded,
            Self::LogFailed(_) | Self::Io { .. } => ErrorKind::Unavailable,
            Self::Corruption { .. } => ErrorKind::Corruption,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// The field at fault, when the request is wrong.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::InvalidArgument { field, .. } => Some(field),
            _ => None,
        }
    }

    /// A wrong field of the request.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidArgument { field: field.into(), message: message.into() }
    }

    /// A failed file operation.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// A file that is not what was written.
    pub fn corrupt(path: impl Into<PathBuf>, offset: u64, message: impl Into<String>) -> Self {
        Self::Corruption { path: path.into(), offset, message: message.into() }
    }
}
