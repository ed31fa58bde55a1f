//! Records: the possible changes of the index. Each is one complete step; [`tables`](super::tables)
//! applies it.

use super::catalog_update::CatalogUpdate;
use crate::cache::index::rows::{EntryRow, JobRow, PinRow};
use crate::cache::key::{EntryKey, UrlKey};
use crate::origin::Hash;

/// A change to record.
#[derive(Debug, Clone)]
pub enum Record {
    /// A version of a remote file was opened and is the current one; the cache begins to hold it,
    /// or holds it already.
    Entry {
        /// Its row.
        row: EntryRow,
        /// The key of its URL.
        url_key: UrlKey,
        /// Its URL for display: without credentials and query values.
        url: String,
        /// The inode number of its data file.
        inode: u64,
        /// True if its recorded chunks still have to be verified.
        is_suspect: bool,
        /// Its initial rank, until [`Record::Use`] gives a better one.
        rank: u64,
    },
    /// A chunk whose bytes are in the data file.
    Chunk {
        /// Its entry.
        key: EntryKey,
        /// Its index.
        index: u64,
        /// XXH3 of its bytes.
        checksum: u64,
    },
    /// Recount the entry's chunks.
    Recount {
        /// The entry.
        key: EntryKey,
    },
    /// All chunks that are recorded of the entry have been verified.
    Trust {
        /// The entry.
        key: EntryKey,
    },
    /// A record of the entry is wrong: all its chunks have to be verified.
    Doubt {
        /// The entry.
        key: EntryKey,
    },
    /// The bytes of the complete entry have this hash, as its source publishes; or that is not known any more. Ignored
    /// if the entry is not complete, and void when a chunk is forgotten.
    Verified {
        /// The entry.
        key: EntryKey,
        /// The hash.
        hash: Option<Hash>,
    },
    /// The source of the entry publishes this hash of the whole file, or none any more.
    Published {
        /// The entry.
        key: EntryKey,
        /// The hash.
        hash: Option<Hash>,
    },
    /// Chunks whose bytes are gone, wrong, or about to be evicted.
    ForgetChunks {
        /// Their entry.
        key: EntryKey,
        /// Their indices.
        chunks: Vec<u64>,
    },
    /// The use of the entry until now.
    Use {
        /// The entry.
        key: EntryKey,
        /// The column `coldest`.
        coldest: u64,
        /// The column `stalest`.
        stalest: u32,
        /// The column `segments`.
        segments: Vec<u8>,
    },
    /// The entry's data file is gone, or about to be deleted.
    Forget {
        /// The entry.
        key: EntryKey,
    },
    /// What an origin has said of a name.
    CatalogUpdate(CatalogUpdate),
    /// A prefetch job that the user has requested, which outlives the mount.
    Job(JobRow),
    /// The job is done, or no longer wanted.
    JobDone {
        /// The job.
        key: String,
    },
    /// The user has pinned a file, or all files below a directory.
    Pin(PinRow),
    /// The user has removed a pin.
    Unpin {
        /// The URL that was pinned.
        url_key: UrlKey,
    },
}

impl Record {
    /// Bytes of its fields of variable length.
    pub(in crate::cache::index) fn len(&self) -> usize {
        match self {
            Record::CatalogUpdate(CatalogUpdate::Listing { row, .. }) => row.names.len(),
            Record::Use { segments, .. } => segments.len(),
            _ => 0,
        }
    }
}
