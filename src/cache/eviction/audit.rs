//! Putting the count right: what the data files take on disk, as the file system says, beside what the ledger has.
//!
//! They part when processes are killed between writing and counting, when two fill one file together (each counts its growth),
//! and by the file system's own records. The walk goes on beside writers, in this process and others, so what it finds is true only within
//! what came and went meanwhile. The ledger is corrected when it is outside of that: a quiet cache is counted exactly.
//!
//! On the way, what no longer belongs to anything is reclaimed: data files that the index does not know, and bytes in
//! files beside those of recorded chunks.

use std::collections::HashMap;

use crate::cache::entry::version_store::VersionStore;
use crate::cache::key::EntryKey;

/// Bytes that a file may take beyond its recorded chunks before that is looked into: the records of its extents.
const BESIDE: u64 = 64 << 10;

/// An audit is due when so much of the cache's size has come in since the last one, in fractions.
const EVERY: u64 = 2;

/// Makes an audit if it is time for one and nobody else makes it.
pub fn run_if_due(versions: &VersionStore) {
    let ledger = &versions.quota.ledger;
    if ledger.claim_audit((ledger.limit() / EVERY).max(1)) {
        run(versions);
    }
}

/// See the module.
pub(in crate::cache) fn run(versions: &VersionStore) {
    if !versions.is_in_place() {
        return;
    }
    let ledger = &versions.quota.ledger;
    ledger.agree_on_limit();
    versions.quota.measure_index();
    let (reserved, clock, freed) = (ledger.reserved(), ledger.clock(), ledger.freed());
    let recorded: HashMap<EntryKey, u64> = versions.index.recorded_bytes().into_iter().collect();
    let mut found = 0;
    for key in versions.store.keys() {
        found += match recorded.get(&key) {
            Some(&bytes) => beside(versions, &key, bytes),
            None => unknown(versions, &key),
        };
    }
    ledger.set_folders(versions.store.allocated_by_folders());
    let (came, went) = (ledger.clock() - clock, ledger.freed() - freed);
    let (least, most) = (found.saturating_sub(went), found + reserved + came);
    let counted = ledger.used();
    if counted != counted.clamp(least, most) {
        let by = counted.clamp(least, most).cast_signed() - counted.cast_signed();
        log::debug!("the cache's files take {found} bytes and were counted as {counted}");
        ledger.adjust(by);
    }
}

/// What a file takes that is recorded, after what is in it beside its chunks is given back.
fn beside(versions: &VersionStore, key: &EntryKey, recorded: u64) -> u64 {
    let allocated = versions.store.allocated(key);
    // Files that are open here know what is being filled, and lose the rest by themselves.
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

/// What a file takes that is not recorded: nothing, if nobody has it open.
fn unknown(versions: &VersionStore, key: &EntryKey) -> u64 {
    // Asked again once it is locked: it may have been made, and recorded, a moment ago.
    let gone = versions.store.remove_unused(key, || !versions.index.has_committed(key));
    if gone.is_some() {
        // Whether it was counted nobody can tell; the correction at the end does.
        return 0;
    }
    versions.store.allocated(key)
}
