//! The one error type of the library, with kinds that a program can act upon.

use std::fmt;
use std::io;

use crate::cache::{CacheError, ReadError};
use crate::http::{HttpError, HttpErrorKind, SetupError};
use crate::mount::mountpoint::MountError;
use crate::source::SourceErrorKind;
use crate::vfs::{TopError, TreeError};

/// Why something could not be done. Shown, it is one sentence without credentials.
///
/// Inside an [`std::io::Error`] of a read it is found by [`Error::of_io`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What the builder or the call was given can't be meant: a URL that is none, a size that is too small.
    InvalidInput,
    /// The server says that there is no such file (404, 410).
    NotFound,
    /// The server wants to know who asks, or does not let that one in (401, 403, 407).
    Denied,
    /// The remote file has another version than the one that was opened. Opening it again gives the new one.
    Changed,
    /// The URL is that of a directory.
    IsADirectory,
    /// The server does not tell the file's size, so that it can't be read at places.
    SizeUnknown,
    /// The server did not answer in time.
    TimedOut,
    /// There is no way to the server, or it fails (5xx). Trying again later may help.
    Unavailable,
    /// It would have had to be fetched, and the cache was opened with [`offline`](crate::CacheBuilder::offline).
    Offline,
    /// The server's answer can't be used, whenever it is asked.
    BadAnswer,
    /// The cache folder can't be used, or has no room.
    Cache,
    /// The mount can't be made.
    Mount,
    /// What was asked has ended: the cache was closed meanwhile.
    Closed,
    /// The system does not give what is needed, threads for example.
    System,
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error of this library that an I/O error was made of, if it was.
    pub fn of_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn closed() -> Error {
        Error::new(ErrorKind::Closed, "the cache is closed")
    }

    /// A failed read of this URL, which is shown.
    pub(super) fn of_read(url: &str, error: &ReadError) -> Error {
        let message = match error {
            // It says of which URL.
            ReadError::Http(error) => error.to_string(),
            ReadError::ShuttingDown => return Error::closed(),
            error => format!("{url}: {error}"),
        };
        Error::new(kind_of_read(error), message)
    }

    /// A file at this URL that can't be opened.
    pub(super) fn of_tree(url: &str, error: &TreeError) -> Error {
        let kind = match error {
            TreeError::NotFound => ErrorKind::NotFound,
            TreeError::IsADirectory | TreeError::NotADirectory => ErrorKind::IsADirectory,
            TreeError::Changed => ErrorKind::Changed,
            TreeError::SizeUnknown(_) => ErrorKind::SizeUnknown,
            TreeError::Source(error) => kind_of_source(error.kind()),
            TreeError::DeadlinePassed { .. } => ErrorKind::TimedOut,
            TreeError::NotAsked => ErrorKind::Unavailable,
            TreeError::Cache(error) => return Error::of_read(url, error),
        };
        let message = match error {
            // These say of which URL.
            TreeError::SizeUnknown(_) | TreeError::Source(_) | TreeError::DeadlinePassed { .. } => error.to_string(),
            error => format!("{url}: {error}"),
        };
        Error::new(kind, message)
    }
}

fn kind_of_read(error: &ReadError) -> ErrorKind {
    match error {
        ReadError::Changed
        | ReadError::Http(HttpError {
            // Gone is the strongest form of changed for a file that is open.
            kind: HttpErrorKind::NotFound(_),
            ..
        }) => ErrorKind::Changed,
        ReadError::Http(error) => kind_of_source(SourceErrorKind::of(&error.kind)),
        ReadError::DeadlinePassed(_) => ErrorKind::TimedOut,
        ReadError::Rejected => ErrorKind::BadAnswer,
        // Handles of a Rust program are nobody's scanner.
        ReadError::ScanLimit => ErrorKind::Denied,
        ReadError::Store(_) | ReadError::Lost | ReadError::NoRoom => ErrorKind::Cache,
        ReadError::Cancelled | ReadError::ShuttingDown => ErrorKind::Closed,
    }
}

fn kind_of_source(kind: SourceErrorKind) -> ErrorKind {
    match kind {
        SourceErrorKind::NotFound => ErrorKind::NotFound,
        SourceErrorKind::Denied => ErrorKind::Denied,
        SourceErrorKind::TimedOut => ErrorKind::TimedOut,
        SourceErrorKind::Unavailable => ErrorKind::Unavailable,
        SourceErrorKind::Offline => ErrorKind::Offline,
        SourceErrorKind::NoDescriptors => ErrorKind::System,
        SourceErrorKind::NotAListing | SourceErrorKind::BadAnswer => ErrorKind::BadAnswer,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// For the traits of `std::io`. [`Error::of_io`] gives back the error itself.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind {
            ErrorKind::InvalidInput => io::ErrorKind::InvalidInput,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::Denied => io::ErrorKind::PermissionDenied,
            ErrorKind::Changed => io::ErrorKind::StaleNetworkFileHandle,
            ErrorKind::IsADirectory => io::ErrorKind::IsADirectory,
            ErrorKind::SizeUnknown => io::ErrorKind::NotSeekable,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Unavailable => io::ErrorKind::HostUnreachable,
            ErrorKind::Offline => io::ErrorKind::NetworkUnreachable,
            ErrorKind::BadAnswer => io::ErrorKind::InvalidData,
            ErrorKind::Cache | ErrorKind::Mount | ErrorKind::Closed | ErrorKind::System => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// What the layers below report as one sentence.
impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Error {
        if let Some(error) = error.downcast_ref() {
            let kind = match error {
                SetupError::File { .. } | SetupError::Content { .. } | SetupError::Proxy => ErrorKind::InvalidInput,
                SetupError::Tls(_) => ErrorKind::System,
            };
            return Error::new(kind, error.to_string());
        }
        let kind = match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
            (Some(CacheError::TooSmall { .. }), ..) => ErrorKind::InvalidInput,
            (Some(_), ..) => ErrorKind::Cache,
            (None, Some(MountError::Missing(_) | MountError::NotADirectory(_) | MountError::NotEmpty(_)), _) => {
                ErrorKind::InvalidInput
            }
            (None, Some(_), _) => ErrorKind::Mount,
            (
                None,
                None,
                Some(
                    TopError::Source(error)
                    | TopError::Login(error)
                    | TopError::LoginHost(error)
                    | TopError::Proxied(error),
                ),
            ) => kind_of_source(error.kind()),
            (None, None, Some(TopError::SameName(_) | TopError::NoName(_))) => ErrorKind::InvalidInput,
            (None, None, None) => ErrorKind::System,
        };
        Error::new(kind, format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_in_the_io_error_made_of_it() {
        let error = Error::of_read("http://h/f", &ReadError::Changed);
        assert_eq!(error.kind(), ErrorKind::Changed);
        let io = io::Error::from(error.clone());
        assert_eq!(io.kind(), io::ErrorKind::StaleNetworkFileHandle);
        assert_eq!(Error::of_io(&io), Some(&error));
        assert_eq!(Error::of_io(&io::ErrorKind::NotFound.into()), None);
    }

    #[test]
    fn gone_is_not_found_at_open_and_changed_at_read() {
        let gone = || HttpError {
            kind: HttpErrorKind::NotFound(410),
            url: crate::http::redact(&url::Url::parse("http://h/f?secret=1").unwrap()),
        };
        assert_eq!(Error::of_tree("http://h/f", &gone().into()).kind(), ErrorKind::NotFound);
        let at_read = Error::of_read("http://h/f", &gone().into());
        assert_eq!(at_read.kind(), ErrorKind::Changed);
        assert!(!at_read.to_string().contains("=1"), "{at_read}");
    }
}
