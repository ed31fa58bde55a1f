//! The audit: corrects the count of used space by what the data files take on disk.
//!
//! Count and disk diverge when processes are killed between writing and counting, when two
//! processes fill one file (each counts its growth), and by the file system's own metadata. The
//! audit runs beside writers of all processes, so its result is exact only up to what was written
//! and freed meanwhile. It corrects the count only beyond that margin; a quiet cache is counted
//! exactly.
//!
//! It also frees what no longer belongs to an entry: data files unknown to the index, and bytes in
//! files beside those of recorded chunks.

use std::collections::HashMap;

use crate::cache::entry::version_store::VersionStore;
use crate::cache::key::EntryKey;
use crate::cache::sharing::Overhead;

/// Bytes that a file may take beyond its recorded chunks without a closer look: its extents'
/// metadata.
const BESIDE: u64 = 64 << 10;

/// An audit is due after this fraction of the cache's size was added since the last one.
const EVERY: u64 = 2;

/// Runs an audit if it is due and no other process runs it.
pub(crate) fn run_if_due(versions: &VersionStore) {
    let quota = &versions.quota;
    if quota.peers.claim_audit((quota.size() / EVERY).max(1)) {
        run(versions);
    }
}

/// Runs an audit.
pub(in crate::cache) fn run(versions: &VersionStore) {
    if !versions.is_in_place() {
        return;
    }
    let peers = &versions.quota.peers;
    let before = peers.begin_audit();
    versions.quota.measure_index();
    let recorded: HashMap<EntryKey, u64> = versions.index.recorded_bytes().into_iter().collect();
    let mut found = 0;
    for key in versions.store.keys() {
        found += match recorded.get(&key) {
            Some(&bytes) => beside(versions, &key, bytes),
            None => unknown(versions, &key),
        };
    }
    peers.note_overhead(Overhead::Directories(versions.store.allocated_by_folders()));
    let now = peers.space();
    let (came, went) = (now.clock - before.clock, now.freed - before.freed);
    let (least, most) = (found.saturating_sub(went), found + before.reserved + came);
    let counted = now.used;
    if counted != counted.clamp(least, most) {
        let by = counted.clamp(least, most).cast_signed() - counted.cast_signed();
        log::debug!("cache usage corrected: {found} bytes found, {counted} bytes counted");
        versions.quota.adjust(by);
    }
}

/// Bytes of a recorded file, after the bytes beside its chunks were freed.
fn beside(versions: &VersionStore, key: &EntryKey, recorded: u64) -> u64 {
    let allocated = versions.store.allocated(key);
    // Files that are open here know what is being written, and free the rest by themselves.
    if allocated <= recorded + BESIDE || versions.cached_files.get(key).is_some() {
        return allocated;
    }
    let cached_file = versions
        .index
        .candidate(key)
        .and_then(|row| versions.open_recorded(&row));
    if let Some(cached_file) = cached_file {
        versions.trim(&cached_file, true);
    }
    versions.store.allocated(key)
}

/// Bytes of a file that is not recorded: 0, if it is unused and so deleted.
fn unknown(versions: &VersionStore, key: &EntryKey) -> u64 {
    // Queried again once it is locked: it may have been created and recorded a moment ago.
    let gone = versions.store.remove_unused(key, || !versions.index.has_committed(key));
    if gone.is_some() {
        // It may or may not have been counted; the correction at the end covers both.
        return 0;
    }
    versions.store.allocated(key)
}
