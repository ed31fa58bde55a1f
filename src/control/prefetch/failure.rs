//! Why paths could not be fetched, and which of them are worth a retry.

use bytesize::ByteSize;

use crate::cache::ReadError;
use crate::control::protocol::{Failure, TreePath};
use crate::source::SourceErrorKind;
use crate::vfs::TreeError;

/// A path that could not be fetched.
#[derive(Debug, Clone)]
pub(in crate::control) struct Failed {
    pub(in crate::control) path: TreePath,
    pub(in crate::control) error: FetchError,
}

impl Failed {
    /// The failure for a reply.
    pub(in crate::control) fn told(&self) -> Failure {
        Failure {
            path: self.path.clone(),
            reason: self.error.to_string(),
        }
    }
}

/// Why a path could not be fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub(in crate::control) enum FetchError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("it is a directory, and byte ranges are for files")]
    RangeOfDirectory,
    #[error("the path is too long")]
    TooLong,
    #[error(
        "{} would be cached, but the cache holds {} at most; raise --cache-size, or prefetch less",
        shown(*.wanted), shown(*.kept)
    )]
    TooMuch {
        /// Bytes that the wanted files take on the disk, as far as known.
        wanted: u64,
        /// Bytes that the cache may keep.
        kept: u64,
    },
    #[error(
        "{} of it were evicted again, because the cache is too small; raise --cache-size, unpin files, or prefetch \
         less", shown(*.0)
    )]
    DoesNotStay(u64),
    #[error("the cache directory can't be used at the moment, so nothing would be cached; see the mount's log")]
    NoFolder,
    #[error("a bug in fetchfs; see the mount's log")]
    Bug,
}

fn shown(bytes: u64) -> impl std::fmt::Display {
    ByteSize(bytes).display().iec()
}

/// Whether a failure is worth a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Again {
    /// Never: the server's answer or the request itself rules it out.
    Never,
    /// Later, after a pause.
    Later,
    /// Only by another mount with other options.
    NextMount,
}

impl FetchError {
    /// Whether the failure is worth a retry. Only an authoritative answer is permanent: expired logins and
    /// certificates are renewed, and a portal's page goes away.
    pub(in crate::control) fn again(&self) -> Again {
        let of_source = |kind| match kind {
            SourceErrorKind::NotFound => Again::Never,
            _ => Again::Later,
        };
        match self {
            FetchError::Tree(TreeError::Source(error)) => of_source(error.kind()),
            FetchError::Tree(TreeError::Cache(error)) | FetchError::Read(error) => match error {
                ReadError::Http(error) => of_source(SourceErrorKind::of(&error.kind)),
                _ => Again::Later,
            },
            FetchError::Tree(TreeError::Changed | TreeError::DeadlinePassed { .. } | TreeError::NotAsked)
            | FetchError::NoFolder => Again::Later,
            FetchError::TooMuch { .. } | FetchError::DoesNotStay(_) => Again::NextMount,
            FetchError::Tree(_) | FetchError::RangeOfDirectory | FetchError::TooLong | FetchError::Bug => Again::Never,
        }
    }

    /// Whether it failed because the mount is shutting down.
    pub(in crate::control) fn is_end_of_mount(&self) -> bool {
        matches!(
            self,
            FetchError::Read(ReadError::ShuttingDown) | FetchError::Tree(TreeError::Cache(ReadError::ShuttingDown))
        )
    }
}
