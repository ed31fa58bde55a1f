//! The one place where an error becomes an errno.
//!
//! `docs/semantics.md` has the same table in the user's words.

use fuser::Errno;

use crate::cache::ReadError;
use crate::http::{HttpError, HttpErrorKind};
use crate::source::SourceErrorKind;
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
        ReadError::Store(_) | ReadError::Lost | ReadError::ShuttingDown => Errno::EIO,
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
