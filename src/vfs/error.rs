//! Why the tree can't answer.

use std::time::Duration;

use url::Url;

use crate::cache::ReadError;
use crate::http::{HttpError, HttpErrorKind, redact};

/// See the module.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TreeError {
    /// There is no such name, by the listing or by the origin's word.
    #[error("no such file or directory")]
    NotFound,
    /// A listing was wanted of a file.
    #[error("not a directory")]
    NotADirectory,
    /// Bytes were wanted of a directory.
    #[error("is a directory")]
    IsADirectory,
    /// The node is of a version that is no longer the current one; looking the name up again
    /// gives the new one.
    #[error("the remote file has changed")]
    Changed,
    /// The server can't be brought to tell the file's size. It can be read in sequence: [`Cache::sequential`](crate::cache::Cache::sequential).
    #[error("{}: the server does not tell the file's size", redact(.0))]
    SizeUnknown(Url),
    /// The origin's answer, or the lack of one.
    #[error(transparent)]
    Http(HttpError),
    /// It was waited for until `--read-timeout`.
    #[error("{url}: no answer that can be used within {}{}", humantime::format_duration(*.waited), said_last(.last.as_ref()))]
    DeadlinePassed {
        /// The URL asked, without secrets.
        url: String,
        /// For so long.
        waited: Duration,
        /// Why the last try failed, if one did.
        last: Option<HttpErrorKind>,
    },
    /// It is not asked for now, because nobody needs it enough.
    #[error("the server is left alone")]
    NotAsked,
    /// The cache can't open the file.
    #[error(transparent)]
    Cache(#[from] ReadError),
}

impl From<HttpError> for TreeError {
    fn from(error: HttpError) -> TreeError {
        match error.kind {
            HttpErrorKind::NotFound(_) => TreeError::NotFound,
            _ => TreeError::Http(error),
        }
    }
}

fn said_last(last: Option<&HttpErrorKind>) -> String {
    last.map_or_else(String::new, |kind| format!("; the last time: {kind}"))
}
