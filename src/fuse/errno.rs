//! The one place where an error becomes an errno.
//!
//! `docs/semantics.md` has the same table in the user's words.

use fuser::Errno;

use crate::cache::ReadError;
use crate::http::{HttpError, HttpErrorKind};
use crate::vfs::TreeError;

/// For operations on names.
pub fn of_tree(error: &TreeError) -> Errno {
    match error {
        TreeError::NotFound => Errno::ENOENT,
        TreeError::NotADirectory => Errno::ENOTDIR,
        TreeError::IsADirectory => Errno::EISDIR,
        // The kernel looks the name up again by itself when it gets this for a path.
        TreeError::Changed => Errno::ESTALE,
        TreeError::DeadlinePassed { .. } => Errno::ETIMEDOUT,
        // Nobody hears of it: who needs an answer has it asked for.
        TreeError::NotAsked => Errno::EIO,
        // Where a size can't be done without.
        TreeError::SizeUnknown(_) => Errno::EIO,
        TreeError::Http(error) => of_http(error),
        TreeError::Cache(error) => of_read(error),
    }
}

/// For reads.
pub fn of_read(error: &ReadError) -> Errno {
    match error {
        // Gone is the strongest form of changed for who has the file open.
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
