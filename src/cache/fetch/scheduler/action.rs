//! The words between the scheduler and its caller: priorities, the numbers of fetches and waiters,
//! and the actions that the caller carries out.

use std::ops::Range;
use std::sync::Arc;

use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::error::ReadError;

/// How urgently a chunk is wanted, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A reader is blocked on it.
    Critical,
    /// Read-ahead of a live cursor.
    High,
    /// Requested by the user.
    Medium,
    /// Background fill.
    Low,
}

pub(super) const PRIORITIES: [Priority; 4] = [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];

/// The number of a fetch, unique within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// The number of a waiter, unique within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

/// One HTTP Range request to be made.
#[derive(Debug, Clone)]
pub struct FetchOrder {
    /// Its number.
    pub id: FetchId,
    /// The entry whose bytes are fetched.
    pub entry: Arc<CacheEntry>,
    /// Byte range in the file, from one chunk edge to another or to the end of the file. Before the
    /// entry is settled it always ends at a chunk edge, because the size that a listing gave may be
    /// wrong.
    pub bytes: Range<u64>,
}

/// What a blocked reader waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// For a fetch to begin.
    Slot,
    /// For the rest of its entry to end, after the server has refused or failed.
    Rest,
    /// For this fetch, which brings the first of the bytes that it misses.
    Fetch(FetchId),
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action {
    /// Begin a fetch.
    Start(FetchOrder),
    /// End a running fetch before this byte.
    Trim {
        /// The fetch.
        fetch: FetchId,
        /// Byte offset in the file, exclusive.
        end: u64,
    },
    /// End a running fetch now. The scheduler has forgotten it and ignores its later reports.
    Stop(FetchId),
    /// Wake a waiter: its bytes are in the data file, or will never be, for this reason.
    Wake(WaiterId, Result<(), ReadError>),
}
