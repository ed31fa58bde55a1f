//! Errors of the cache layer: why a read has no bytes, and why a cache can't be opened.
//!
//! One enum for reads. It is `Clone`, because one failed fetch may fail many readers. Only
//! [`crate::fuse`] maps a kind to an errno.

use std::time::Duration;

use tokio::task::JoinError;

use crate::http::HttpError;

/// Why a range of a cache entry can't be served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The remote file has another version now than the one that was opened.
    #[error("the remote file has changed since it was opened")]
    Changed,
    /// The origin did not send the bytes, after all tries.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The read's own deadline expired first.
    #[error("the read timed out after {}", humantime::format_duration(*.0))]
    DeadlinePassed(Duration),
    /// The bytes could not be written to the cache directory, or read from it.
    #[error("cache directory: {0}")]
    Store(String),
    /// The wait was cancelled.
    #[error("the reader was interrupted")]
    Cancelled,
    /// The bytes were present and are lost: the data file was truncated, or can't be read there.
    /// Another read fetches them.
    #[error("cached data was lost")]
    Lost,
    /// There is no space for the bytes: the cache is full of chunks that can't be evicted
    /// (`--cache-size`), or the disk is full (`--min-free`).
    #[error("the cache is full, and everything in it is pinned or in use; raise --cache-size, or free disk space")]
    NoRoom,
    /// What its servers send contradicts a published hash.
    #[error("what its servers send contradicts the published hash of the file")]
    Rejected,
    /// A scanner has got as much of the file as it may (`--scan-limit`).
    #[error("this program gets no more of the file (--scan-policy, --scan-limit)")]
    ScanLimit,
    /// The mount is ending.
    #[error("the mount is shutting down")]
    ShuttingDown,
}

/// A task of the cache did not end by itself: the runtime is shutting down, or it panicked.
impl From<JoinError> for ReadError {
    fn from(error: JoinError) -> ReadError {
        if error.is_cancelled() {
            ReadError::ShuttingDown
        } else {
            ReadError::Store(error.to_string())
        }
    }
}

impl ReadError {
    /// Returns true if only the cache is the cause: a [bypass](super::handle::read_at) read can get the
    /// bytes.
    pub fn is_of_the_cache(&self) -> bool {
        matches!(self, ReadError::Store(_) | ReadError::NoRoom)
    }
}

/// Why the cache can't be used at all. Prevents a mount.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A directory or file of the cache can't be created or opened.
    #[error("the cache directory {path} can't be used: {reason}; choose another with --cache-dir")]
    Folder {
        /// The directory or file.
        path: String,
        /// The system's error.
        reason: String,
    },
    /// The configured size of the cache is below the minimum.
    #[error(
        "the cache size is {}, but at least {} is needed (two chunks for each connection); raise --cache-size, or \
         lower --chunk-size or --max-connections",
        bytesize::ByteSize(*.size), bytesize::ByteSize(*.least)
    )]
    TooSmall {
        /// The configured bytes.
        size: u64,
        /// The minimum in bytes.
        least: u64,
    },
    /// The index was written by a newer fetchfs.
    #[error(
        "the cache in {path} was made by a newer fetchfs (index version {found}; this one supports {known}); use \
         that version, or another --cache-dir"
    )]
    NewerIndex {
        /// The index file.
        path: String,
        /// `user_version` of the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// SQLite can't use the index file now: the disk is full, for example, or read-only.
    #[error("the cache index {path} {}", what_to_do(.reason, *.is_damaged))]
    Index {
        /// The index file.
        path: String,
        /// SQLite's error.
        reason: String,
        /// True if the file itself is the cause: it is no index, or no longer one.
        is_damaged: bool,
    },
}

impl CacheError {
    /// The error for a failure of the index file at `path`.
    pub(super) fn of_index(path: &str, error: &rusqlite::Error) -> CacheError {
        let reason = match error {
            // Its text would be all of the SQL.
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
            other => other.to_string(),
        };
        CacheError::Index {
            path: path.to_owned(),
            reason,
            is_damaged: is_damage(error),
        }
    }
}

/// Returns true if SQLite finds the file itself to be the cause.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    // An error in the SQL: a table exists already, or lacks a column. Then the file is a database, but not this one.
    is_corruption(error) || error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown)
}

/// Returns true if the content of the file is invalid, or shorter than it says itself. SQLite reports the latter among the
/// failures of the disk (<https://sqlite.org/rescode.html#ioerr_short_read>).
pub(super) fn is_corruption(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    error.sqlite_error().is_some_and(|error| {
        matches!(error.code, DatabaseCorrupt | NotADatabase)
            || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ
    })
}

fn what_to_do(reason: &str, is_damaged: bool) -> String {
    if is_damaged {
        format!(
            "is damaged, or not an index: {reason}; the next mount, or `fetchfs cache verify --repair`, moves it \
             aside and starts with an empty cache"
        )
    } else {
        format!("can't be used: {reason}; free disk space, or choose another --cache-dir")
    }
}
