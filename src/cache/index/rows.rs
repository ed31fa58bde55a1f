//! Rows of the tables, as they are recorded and found.

use std::time::SystemTime;

use crate::cache::chunk::ChunkSize;
use crate::cache::key::{EntryKey, UrlKey};
use crate::http::Version;

/// Maximum bytes by which the index grows for a file of one chunk; measured by
/// `index_growth_per_file_is_within_its_estimate`.
pub(crate) const ROWS_OF_FILE: u64 = 1 << 10;

/// A row of `listings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingRow {
    /// The names and their attributes, one per line, in the format of the directory tree.
    pub names: Vec<u8>,
    /// When the listing was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
}

/// A row of `remote_files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// The current version.
    pub version: Version,
    /// When the file was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
}

/// The columns of `cache_entries` that opening a file needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Names the data file.
    pub key: EntryKey,
    /// The version it holds.
    pub version: Version,
    /// When the remote file was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
    /// The size of its chunks.
    pub chunk: ChunkSize,
}

/// A recorded prefetch job. The index does not interpret what it fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Its unique key.
    pub key: String,
    /// The source of the mount that it was requested in: a hash, because URLs may hold secrets.
    pub source: String,
    /// What it fetches.
    pub wanted: String,
}

/// A recorded pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRow {
    /// The URL that is pinned.
    pub url_key: UrlKey,
    /// The same URL without secrets. A directory's ends in `/`.
    pub url: String,
    /// True if it covers everything below it.
    pub is_directory: bool,
}
