//! Records: what can be said to the index. Each is one step of the cache's, whole by itself; [`tables`](super::tables) knows what it does.

use super::catalog_update::CatalogUpdate;
use crate::cache::index::query::entries::EntryRow;
use crate::cache::index::query::pins::{JobRow, PinRow};
use crate::cache::key::{EntryKey, UrlKey};

/// Something to record.
#[derive(Debug, Clone)]
pub enum Record {
    /// A version of a remote file was opened and is the current one; the cache begins to hold it,
    /// or holds it already.
    Entry {
        /// Its row.
        row: EntryRow,
        /// Finds it by its URL.
        url_key: UrlKey,
        /// Its URL for people: without credentials and query values.
        url: String,
        /// The data file's number in its file system.
        inode: u64,
        /// Whether chunks that are recorded of it are still to be verified.
        is_suspect: bool,
        /// The rank that it begins with, until [`Record::Use`] tells better.
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
    /// The entry's number of chunks is to be counted anew.
    Recount {
        /// The entry.
        key: EntryKey,
    },
    /// All chunks that are recorded of the entry have been verified.
    Trust {
        /// The entry.
        key: EntryKey,
    },
    /// Something that is recorded of the entry is wrong: all of it is to be verified.
    Doubt {
        /// The entry.
        key: EntryKey,
    },
    /// Chunks whose bytes are gone, wrong, or about to go.
    ForgetChunks {
        /// Their entry.
        key: EntryKey,
        /// Their indices.
        chunks: Vec<u64>,
    },
    /// How the entry was used until now.
    Use {
        /// The entry.
        key: EntryKey,
        /// See the column `coldest`.
        coldest: u64,
        /// See the column `stalest`.
        stalest: u32,
        /// See the column `segments`.
        segments: Vec<u8>,
    },
    /// The entry's data file is gone, or about to go.
    Forget {
        /// The entry.
        key: EntryKey,
    },
    /// What an origin has said of a name.
    CatalogUpdate(CatalogUpdate),
    /// The user wants a job to be done, whatever comes between.
    Job(JobRow),
    /// It is done, or no longer wanted.
    JobDone {
        /// The job.
        key: String,
    },
    /// The user wants a file, or all files below a directory, to stay.
    Pin(PinRow),
    /// Not any more.
    Unpin {
        /// The URL that was pinned.
        url_key: UrlKey,
    },
}

impl Record {
    /// Bytes of what may be long in it.
    pub(in crate::cache::index) fn len(&self) -> usize {
        match self {
            Record::CatalogUpdate(CatalogUpdate::Listing { row, .. }) => row.names.len(),
            Record::Use { segments, .. } => segments.len(),
            _ => 0,
        }
    }
}
