//! The one place where an error becomes an errno, and the event of its log line.
//!
//! `docs/semantics.md` has the same table in the user's words.

use fuser::Errno;

use crate::cache::ReadError;
use crate::http::{HttpError, HttpErrorKind};
use crate::source::SourceErrorKind;
use crate::util::events::{self, Event};
use crate::vfs::TreeError;

/// The errno of a name operation.
pub(crate) fn of_tree(error: &TreeError) -> Errno {
    match error {
        TreeError::NotFound => Errno::ENOENT,
        TreeError::NotADirectory => Errno::ENOTDIR,
        TreeError::IsADirectory => Errno::EISDIR,
        // On this error the kernel looks the path up again.
        TreeError::Changed => Errno::ESTALE,
        TreeError::DeadlinePassed { .. } => Errno::ETIMEDOUT,
        // Never reaches a program: operations of programs use a more urgent request.
        TreeError::NotAsked => Errno::EIO,
        // For operations that need the size.
        TreeError::SizeUnknown(_) => Errno::EIO,
        TreeError::Source(error) => of_source(error.kind()),
        TreeError::Cache(error) => of_read(error),
    }
}

/// The errno of a read.
pub(crate) fn of_read(error: &ReadError) -> Errno {
    match error {
        // For an open file, removal counts as a change.
        ReadError::Changed
        | ReadError::Http(HttpError {
            kind: HttpErrorKind::NotFound(_),
            ..
        }) => Errno::ESTALE,
        ReadError::Http(error) => of_source(SourceErrorKind::of(&error.kind)),
        ReadError::DeadlinePassed(_) => Errno::ETIMEDOUT,
        ReadError::Cancelled => Errno::EINTR,
        ReadError::NoRoom => Errno::ENOSPC,
        // Nothing else is EPERM: it is no failure, and neither the file's permissions nor its server are the reason.
        ReadError::ScanLimit => Errno::EPERM,
        ReadError::Store(_) | ReadError::Lost | ReadError::Rejected | ReadError::ShuttingDown => Errno::EIO,
    }
}

/// The log event of a failed name operation.
pub(super) fn event_of_tree(error: &TreeError) -> Event {
    match error {
        TreeError::DeadlinePassed { .. } => events::TIMED_OUT,
        TreeError::Source(error) => event_of_source(error.kind()).unwrap_or(events::REQUEST_FAILED),
        TreeError::Cache(error) => event_of_read(error),
        _ => events::REQUEST_FAILED,
    }
}

/// The log event of a failed read.
pub(super) fn event_of_read(error: &ReadError) -> Event {
    let of_server = match error {
        ReadError::DeadlinePassed(_) => Some(events::TIMED_OUT),
        ReadError::Http(error) => event_of_source(SourceErrorKind::of(&error.kind)),
        _ => None,
    };
    of_server.unwrap_or(events::READ_FAILED)
}

/// The log event of a failure with a cause at the server that the user can do something about.
fn event_of_source(kind: SourceErrorKind) -> Option<Event> {
    match kind {
        SourceErrorKind::Denied => Some(events::ACCESS_DENIED),
        SourceErrorKind::TimedOut => Some(events::TIMED_OUT),
        SourceErrorKind::NotAListing | SourceErrorKind::BadAnswer => Some(events::BAD_RESPONSE),
        SourceErrorKind::NotFound
        | SourceErrorKind::Unavailable
        | SourceErrorKind::Offline
        | SourceErrorKind::NoDescriptors => None,
    }
}

fn of_source(kind: SourceErrorKind) -> Errno {
    match kind {
        SourceErrorKind::Denied => Errno::EACCES,
        SourceErrorKind::NotFound => Errno::ENOENT,
        SourceErrorKind::TimedOut => Errno::ETIMEDOUT,
        SourceErrorKind::Offline => Errno::ENETUNREACH,
        SourceErrorKind::Unavailable
        | SourceErrorKind::NoDescriptors
        | SourceErrorKind::NotAListing
        | SourceErrorKind::BadAnswer => Errno::EIO,
    }
}
