//! Why a read can't have its bytes.
//!
//! One enum for the layer. It is `Clone`, because one failed fetch may fail many readers. The
//! errno that a kind becomes is chosen in [`crate::fuse`], nowhere else.

use std::time::Duration;

use tokio::task::JoinError;

use crate::http::HttpError;

/// Why a range of a cache entry can't be served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The remote file has another version now than the one that was opened.
    #[error("the remote file has changed since it was opened")]
    Changed,
    /// The origin did not bring the bytes, after all tries.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The read's own deadline ran out first.
    #[error("the read waited for {} without its bytes", humantime::format_duration(*.0))]
    DeadlinePassed(Duration),
    /// The bytes came and could not be written to the cache folder, or read from it.
    #[error("cache folder: {0}")]
    Store(String),
    /// Whoever waited for it does not any more.
    #[error("the reader was told to end")]
    Cancelled,
    /// The bytes were here and are not any more: the data file was cut off, or can't be read there. Asking again fetches them.
    #[error("the cache has lost bytes of it")]
    Lost,
    /// There is no room for the bytes: the cache is full of what can't go (`--cache-size`), or the disk (`--min-free`).
    #[error(
        "no room in the cache: all that is in it is pinned or in use; raise --cache-size, or free some of the disk"
    )]
    NoRoom,
    /// The mount is being ended.
    #[error("the mount is being ended")]
    ShuttingDown,
}

/// A task that was to do something with the cache did not end by itself: the runtime is going down, or it panicked.
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
    /// Whether only the cache is to blame: read [around](super::bypass) it, the bytes can be had.
    pub fn is_of_the_cache(&self) -> bool {
        matches!(self, ReadError::Store(_) | ReadError::NoRoom)
    }
}

/// Why the cache can't be used at all. Prevents a mount.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A folder or file of the cache can't be made or opened.
    #[error("the cache folder {path} can't be used: {reason}; choose another with --cache-dir")]
    Folder {
        /// The folder or file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The cache may not be as large as what comes at once.
    #[error(
        "the cache may take {}, and needs at least {}, two chunks for each connection; raise --cache-size, \
         or lower --chunk-size or --max-connections",
        bytesize::ByteSize(*.size), bytesize::ByteSize(*.least)
    )]
    TooSmall {
        /// Bytes that it may take.
        size: u64,
        /// Bytes that it needs.
        least: u64,
    },
    /// The index was written by a newer fetchfs.
    #[error(
        "the cache in {path} was made by a newer fetchfs (index version {found}, this one knows {known}); use that \
         version, or another --cache-dir"
    )]
    NewerIndex {
        /// The index file.
        path: String,
        /// `user_version` of the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// SQLite can't use the index file now: the disk is full, say, or read-only.
    #[error("the cache index {path} {}", what_to_do(.reason, *.is_damaged))]
    Index {
        /// The index file.
        path: String,
        /// What SQLite said.
        reason: String,
        /// Whether the file itself is to blame: it is no index, or no longer one.
        is_damaged: bool,
    },
}

impl CacheError {
    /// What a failure of the index file at `path` means.
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

/// Whether SQLite finds the file itself to blame.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    // "Unknown" is what SQLite calls an error in the SQL: a table is there already, or lacks a column. Then the
    // file is a database, but not this one.
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase | Unknown)
    )
}

fn what_to_do(reason: &str, is_damaged: bool) -> String {
    if is_damaged {
        format!(
            "is damaged, or none: {reason}; the next mount sets it aside and begins anew, and so does \
             `fetchfs cache verify --repair`"
        )
    } else {
        format!("can't be used: {reason}; make room, or choose another --cache-dir")
    }
}
