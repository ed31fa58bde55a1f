//! Errors of sources: why a listing, or what is known of a file, can't be had.
//!
//! The layers above act on the [kind](SourceErrorKind), whatever kind of source it comes from. Only the policy for
//! retries and mirrors looks at the HTTP request that failed, if it was one.

use std::{fmt, io};

use url::Url;

use crate::http::{HttpError, HttpErrorKind, Origin, RedactedUrl, redact};

/// Why a source has no answer. Shown, it is one sentence without credentials.
#[derive(Debug, Clone)]
pub(crate) struct SourceError {
    kind: SourceErrorKind,
    cause: Cause,
}

#[derive(Debug, Clone)]
enum Cause {
    Http(HttpError),
    Source { url: RedactedUrl, reason: String },
}

/// The kinds of failure that callers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceErrorKind {
    /// Authoritative: there is no such directory or file.
    NotFound,
    /// The server denies access, or there are no credentials for it.
    Denied,
    /// No answer in time.
    TimedOut,
    /// There is no way to the server, or it fails. Later it may answer.
    Unavailable,
    /// The network must not be used (`--offline`).
    Offline,
    /// This process or machine has no file descriptor left.
    NoDescriptors,
    /// The answer is no listing of this kind of source.
    NotAListing,
    /// The answer can't be used for another reason.
    BadAnswer,
}

impl SourceErrorKind {
    /// The kind of a failed HTTP request.
    pub(crate) fn of(kind: &HttpErrorKind) -> SourceErrorKind {
        match kind {
            HttpErrorKind::NotFound(_) => SourceErrorKind::NotFound,
            HttpErrorKind::Denied(_) | HttpErrorKind::NoCredentials(_) => SourceErrorKind::Denied,
            HttpErrorKind::TimedOut(_) => SourceErrorKind::TimedOut,
            HttpErrorKind::Offline => SourceErrorKind::Offline,
            HttpErrorKind::NoDescriptors => SourceErrorKind::NoDescriptors,
            HttpErrorKind::Untrusted(_) => SourceErrorKind::Unavailable,
            kind if kind.is_temporary() => SourceErrorKind::Unavailable,
            _ => SourceErrorKind::BadAnswer,
        }
    }
}

impl SourceError {
    /// What came from `url` is no listing, for this reason.
    pub(crate) fn not_a_listing(url: &Url, why: impl fmt::Display) -> SourceError {
        SourceError {
            kind: SourceErrorKind::NotAListing,
            cause: Cause::Source {
                url: redact(url),
                reason: match Origin::of(url) {
                    Some(origin) if !origin.is_local() => format!("the server's answer can't be used: {why}"),
                    _ => format!("it can't be used: {why}"),
                },
            },
        }
    }

    /// A document on this machine can't be read. That does not mean that its files are gone.
    pub(crate) fn unreadable(url: &Url, error: &io::Error) -> SourceError {
        SourceError {
            kind: SourceErrorKind::Unavailable,
            cause: Cause::Source {
                url: redact(url),
                reason: format!("it can't be read: {error}"),
            },
        }
    }

    /// An answer that was understood has no such directory.
    pub(crate) fn not_found(url: &Url) -> SourceError {
        SourceError {
            kind: SourceErrorKind::NotFound,
            cause: Cause::Source {
                url: redact(url),
                reason: "there is no such directory any more".to_owned(),
            },
        }
    }

    /// A source has no answer for `url`, for this reason.
    pub(crate) fn of(kind: SourceErrorKind, url: &Url, reason: impl Into<String>) -> SourceError {
        let (url, reason) = (redact(url), reason.into());
        let cause = Cause::Source { url, reason };
        SourceError { kind, cause }
    }

    /// The kind of failure.
    pub(crate) fn kind(&self) -> SourceErrorKind {
        self.kind
    }

    /// The URL that was asked, without secrets.
    pub(crate) fn url(&self) -> &RedactedUrl {
        match &self.cause {
            Cause::Http(error) => &error.url,
            Cause::Source { url, .. } => url,
        }
    }

    /// The failed HTTP request, if that is the cause.
    pub(crate) fn http(&self) -> Option<&HttpError> {
        match &self.cause {
            Cause::Http(error) => Some(error),
            Cause::Source { .. } => None,
        }
    }

    /// The sentence without the URL.
    pub(crate) fn reason(&self) -> &dyn fmt::Display {
        match &self.cause {
            Cause::Http(error) => &error.kind,
            Cause::Source { reason, .. } => reason,
        }
    }

    /// Returns true if the same request may succeed later without the user's intervention.
    pub(crate) fn is_temporary(&self) -> bool {
        match &self.cause {
            Cause::Http(error) => error.kind.is_temporary(),
            Cause::Source { .. } => matches!(self.kind, SourceErrorKind::TimedOut | SourceErrorKind::Unavailable),
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url(), self.reason())
    }
}

impl std::error::Error for SourceError {}

impl From<HttpError> for SourceError {
    fn from(error: HttpError) -> SourceError {
        SourceError {
            kind: SourceErrorKind::of(&error.kind),
            cause: Cause::Http(error),
        }
    }
}
