//! What can go wrong in the application layer: the errors of the engine and of the pipeline, and those that only a
//! server has. It knows no gRPC; `grpc::status` holds the one table that maps these to codes.

/// Result of the application layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request: `points[3].vectors["text"]`.
    pub field: String,
    /// What was found and what was expected.
    pub message: String,
}

/// An error of the application layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From the engine.
    #[error(transparent)]
    Engine(#[from] ragstone_index::Error),
    /// From the pipeline.
    #[error(transparent)]
    Pipeline(#[from] ragstone_ingest::Error),
    /// Fields of the request are wrong. At least one is named.
    #[error("{}", describe(.0))]
    BadRequest(Vec<Violation>),
    /// There is no such collection.
    #[error("collection \"{0}\" does not exist; make it first: ragstone collection create {0}")]
    NoCollection(String),
    /// As many as may run at once are running; trying again a little later helps.
    #[error("{what}: all {limit} are busy; try again a little later")]
    Busy {
        /// What there is no more of.
        what: &'static str,
        /// How many there are.
        limit: usize,
    },
    /// The time that the caller gave, or the server allows, is over.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The server is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The caller went away.
    #[error("the call was cancelled")]
    Cancelled,
    /// A job panicked: a defect. The details are in the log of the server.
    #[error("internal error; the log of the server says more")]
    Panicked,
}

fn describe(violations: &[Violation]) -> String {
    match violations {
        [] => "bad request".into(),
        [one] => format!("{}: {}", one.field, one.message),
        [first, rest @ ..] => format!("{}: {} (and {} more)", first.field, first.message, rest.len()),
    }
}

impl Error {
    /// A wrong field of the request.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::BadRequest(vec![Violation { field: field.into(), message: message.into() }])
    }

    /// The fields at fault, when the request is wrong.
    pub fn violations(&self) -> Vec<Violation> {
        match self {
            Self::BadRequest(violations) => violations.clone(),
            Self::Engine(ragstone_index::Error::InvalidArgument { field, message }) => {
                vec![Violation { field: field.clone(), message: message.clone() }]
            }
            Self::Pipeline(error) => {
                let at = |field: &str| Violation { field: field.into(), message: error.message().into() };
                error.field().map(at).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The same error, with the field of the request named that led to it, unless it names one.
    #[must_use]
    pub fn at(self, field: &str) -> Self {
        match self {
            Self::Pipeline(error) => Self::Pipeline(error.at(field)),
            other => other,
        }
    }

    /// The same error in a larger request: `prefix` is put before the fields it names.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        let violations = match &self {
            Self::BadRequest(_) | Self::Engine(ragstone_index::Error::InvalidArgument { .. }) => {
                self.violations()
            }
            _ => return self,
        };
        let longer = |v: Violation| Violation { field: format!("{prefix}{}", v.field), message: v.message };
        Self::BadRequest(violations.into_iter().map(longer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_puts_the_prefix_before_every_field() {
        let engine: Error = ragstone_index::Error::invalid("filter.must[0].field", "unknown").into();
        assert_eq!(engine.within("searches[2].").to_string(), "searches[2].filter.must[0].field: unknown");
        let other: Error = ragstone_index::Error::Internal("x".into()).into();
        assert_eq!(other.within("searches[2].").to_string(), "internal error: x");
    }
}
