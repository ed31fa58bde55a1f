//! The bytes of files: fetched, read, evicted. One set for all that reads through a cache in this process.

use super::counter::Counter;

/// What goes into a cache and out of it.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    /// Bytes of files that servers have sent, whether they were used or not.
    pub fetched_bytes: Counter,
    /// Those of them that a reader has read since, each once. Counted in blocks ([`UnreadBlocks`](super::UnreadBlocks)).
    /// The rest of [`Self::fetched_bytes`] is what was fetched too much so far.
    pub used_bytes: Counter,
    /// Files of which evictions have taken the last chunk.
    pub evicted_files: Counter,
    /// Bytes of the disk that evictions have freed.
    pub evicted_bytes: Counter,
}
