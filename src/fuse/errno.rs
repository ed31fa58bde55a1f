//! The one place where an error becomes an errno.
//!
//! `docs/semantics.md` has the same table in the user's words.

use fuser::Errno;

use crate::cache::ReadError;
use crate::http::{HttpError, HttpErrorKind};
use crate::vfs::TreeError;

/// The errno of a name operation.
pub fn of_tree(error: &TreeError) -> Errno {
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
        TreeError::Http(error) => of_http(error),
        TreeError::Cache(error) => of_read(error),
    }
}

/// The errno of a read.
pub fn of_read(error: &ReadError) -> Errno {
    match error {
        // For an open file, removal counts as a change.
        ReadError::Changed
        | ReadError::Http(HttpError {
            kind: HttpErrorKind::NotFound(_),
            ..
        }) => Errno::ESTALE,
        ReadError::Http(error) => of_http(error),
        ReadError::DeadlinePassed(_) => Errno::ETIMEDOUT,
        ReadError::Cancelled => Errno::EINTR,
        ReadError::NoRoom => Errno::ENOSPC,
        ReadError::Store(_) | ReadError::Lost | ReadError::ShuttingDown => Errno::EIO,
    }
}

fn of_http(error: &HttpError) -> Errno {
    match error.kind {
        HttpErrorKind::Denied(_) | HttpErrorKind::NoCredentials(_) => Errno::EACCES,
        HttpErrorKind::NotFound(_) => Errno::ENOENT,
        HttpErrorKind::TimedOut(_) => Errno::ETIMEDOUT,
        HttpErrorKind::Offline => Errno::ENETUNREACH,
        HttpErrorKind::UnknownHost
        | HttpErrorKind::Refused
        | HttpErrorKind::Unreachable(_)
        | HttpErrorKind::NoTls
        | HttpErrorKind::Handshake(_)
        | HttpErrorKind::Untrusted(_)
        | HttpErrorKind::NoDescriptors
        | HttpErrorKind::Unanswered
        | HttpErrorKind::Interrupted
        | HttpErrorKind::AskAgain
        | HttpErrorKind::Status { .. }
        | HttpErrorKind::NotReady { .. }
        | HttpErrorKind::Contradiction(_)
        | HttpErrorKind::BadAnswer(_) => Errno::EIO,
    }
}
