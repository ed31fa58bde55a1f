//! Errors of the tree. `fuse::errno` maps them to error numbers.

use std::time::Duration;

use url::Url;

use crate::cache::ReadError;
use crate::http::{HttpError, redact};
use crate::source::{SourceError, SourceErrorKind};

/// Why the tree can't answer a request.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum TreeError {
    /// The listing lacks the name, or the origin says that it does not exist.
    #[error("no such file or directory")]
    NotFound,
    /// A directory operation on a file.
    #[error("not a directory")]
    NotADirectory,
    /// A file operation on a directory.
    #[error("is a directory")]
    IsADirectory,
    /// The node is of an outdated version; a new look-up of the name gives the current one.
    #[error("the remote file has changed")]
    Changed,
    /// The server gives no size for the file. It can still be read in sequence:
    /// [`Cache::sequential`](crate::cache::Cache::sequential).
    #[error("{}: the server does not send the file's size", redact(.0))]
    SizeUnknown(Url),
    /// The source, or the origin of the file, gave no usable answer.
    #[error(transparent)]
    Source(SourceError),
    /// No usable answer came within `--read-timeout`.
    #[error("{url}: no usable response within {}{}", humantime::format_duration(*.waited), said_last(.last.as_ref()))]
    DeadlinePassed {
        /// The URL asked, without secrets.
        url: String,
        /// How long the request waited.
        waited: Duration,
        /// Why the last attempt failed, if one did.
        last: Option<SourceError>,
    },
    /// No request was sent: the origin is unhealthy or busy, and the caller can do without an answer.
    #[error("not requested, because the server is failing or busy")]
    NotAsked,
    /// The cache can't open the file.
    #[error(transparent)]
    Cache(#[from] ReadError),
}

impl TreeError {
    /// The URL that was asked, without secrets, the status of the server's response, and the reason without the URL. The
    /// URL is empty if the error is of none.
    pub(crate) fn parts(&self) -> (String, Option<u16>, String) {
        match self {
            TreeError::Source(error) => {
                let status = error.http().and_then(|error| error.kind.http_status());
                (error.url().to_string(), status, error.reason().to_string())
            }
            TreeError::DeadlinePassed { url, last, .. } => {
                let last = last.as_ref().and_then(SourceError::http);
                let reason = self.to_string();
                let reason = reason.strip_prefix(&format!("{url}: ")).unwrap_or(&reason).to_owned();
                (url.clone(), last.and_then(|error| error.kind.http_status()), reason)
            }
            TreeError::SizeUnknown(url) => (
                redact(url).to_string(),
                None,
                "the server does not send the file's size".to_owned(),
            ),
            TreeError::Cache(ReadError::Http(error)) => {
                (error.url.to_string(), error.kind.http_status(), error.kind.to_string())
            }
            other => (String::new(), None, other.to_string()),
        }
    }
}

impl From<SourceError> for TreeError {
    fn from(error: SourceError) -> TreeError {
        match error.kind() {
            SourceErrorKind::NotFound => TreeError::NotFound,
            _ => TreeError::Source(error),
        }
    }
}

impl From<HttpError> for TreeError {
    fn from(error: HttpError) -> TreeError {
        SourceError::from(error).into()
    }
}

fn said_last(last: Option<&SourceError>) -> String {
    last.map_or_else(String::new, |error| format!("; last error: {}", error.reason()))
}
