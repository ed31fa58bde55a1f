//! Recorded chunks keep their bytes, and chunks without bytes do not count as present: with power
//! cuts, audits and an index that can't be written.

use std::fs::File;

use rusqlite::ffi;

use super::*;
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::eviction::evictor::{evict_all, make_room};
use crate::cache::index::Failing;
use crate::cache::lifecycle::fsck::{Dropped, Fsck};
use crate::cache::storage::disk::FaultyDisk;
use crate::http::Origin;
use crate::origin::{Content, ListedSize};

/// One mount's part of the directory after the machine went down.
fn after_a_power_cut(folder: &Path, size: u64) -> (VersionStore, Arc<FaultyDisk>) {
    let disk = Arc::new(FaultyDisk::default());
    let before = parts(folder, size);
    let versions = VersionStore {
        index: Arc::new(ChunkIndex::open_with(folder, "another boot", |tables| tables).unwrap()),
        store: before.store.on_disk(Arc::clone(&disk) as _),
        ..before
    };
    (versions, disk)
}

/// Verifies from the first chunk on. Returns the chunk that it reached.
fn verify(versions: &VersionStore, number: u64, settled: &Settled) -> u64 {
    let url = url(number);
    let (origin, size) = (Origin::of(&url).unwrap(), ListedSize::Exact(settled.size()));
    let entry = CacheEntry::unsettled(Content::at(url, size), origin, settled.cached_file.chunk);
    versions.verify(&entry, settled, &(0..settled.size()), |_| {}) / C
}

#[test]
fn a_chunk_that_is_to_go_while_it_is_verified_stays() {
    let dir = tempfile::tempdir().unwrap();
    let first = versions(dir.path(), 64 * MIB);
    let settled = open(&first, 1, 4);
    (0..4).for_each(|chunk| write(&first, &settled, chunk).unwrap());
    first.index.sync();
    drop((settled, first));
    let (next, disk) = after_a_power_cut(dir.path(), 64 * MIB);
    let next = Arc::new(next);
    let settled = open(&next, 1, 4);
    assert!(settled.presence.is_empty());
    let (evicting, cached_file) = (Arc::clone(&next), Arc::clone(&settled.cached_file));
    disk.after_next_read(move || {
        evict_all(&evicting, cached_file);
    });
    assert_eq!(verify(&next, 1, &settled), 1);
    assert!(disk.is_spent(), "it was to go in between");
    assert!(settled.presence.contains(0));
    assert_is_what_was_written(&settled, 0);
    assert_eq!(
        (settled.presence.len(), recorded(&next, &settled.cached_file.key)),
        (1, vec![0])
    );
}

#[test]
fn an_audit_leaves_alone_what_is_still_to_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let first = versions(dir.path(), 64 * MIB);
    let settled = open(&first, 1, 64);
    (0..20).for_each(|chunk| write(&first, &settled, chunk).unwrap());
    // Written and not recorded when the power failed.
    write_unrecorded(&first, &settled, 30..30 + MIB / C);
    first.index.sync();
    drop((settled, first));
    let (next, _disk) = after_a_power_cut(dir.path(), 64 * MIB);
    audit::run(&next);
    let settled = open(&next, 1, 64);
    let allocated = next.store.allocated(&settled.cached_file.key);
    assert_eq!(allocated, 20 * C, "what nobody knows is given back, and nothing else");
    assert_eq!(verify(&next, 1, &settled), 20);
    assert_eq!(settled.presence.len(), 20);
    (0..20).for_each(|chunk| assert_is_what_was_written(&settled, chunk));
}

#[test]
fn failed_deletion_restores_the_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Arc::new(Mutex::new(None));
    let code = Arc::clone(&failing);
    let index = ChunkIndex::open_with(dir.path(), "boot", |tables| Failing { tables, code }).unwrap();
    let versions = VersionStore {
        index: Arc::new(index),
        ..parts(dir.path(), 64 * MIB)
    };
    let settled = open(&versions, 1, 10);
    (0..10).for_each(|chunk| write(&versions, &settled, chunk).unwrap());
    versions.index.sync();
    *failing.lock() = Some(ffi::SQLITE_FULL);
    assert!(!evict_all(&versions, Arc::clone(&settled.cached_file)));
    *failing.lock() = None;
    // Freeing the leftovers of fetches finds nothing.
    let _ = round(&versions, &|| {});
    versions.learn(&settled.cached_file, &(0..10));
    assert_eq!(
        (
            settled.presence.len(),
            recorded(&versions, &settled.cached_file.key).len()
        ),
        (10, 10)
    );
    (0..10).for_each(|chunk| assert_is_what_was_written(&settled, chunk));
    assert!(evict_all(&versions, Arc::clone(&settled.cached_file)), "later it goes");
    assert_eq!(versions.store.allocated(&settled.cached_file.key), 0);
}

#[test]
fn failed_deletion_restores_unverified_state() {
    let dir = tempfile::tempdir().unwrap();
    let first = versions(dir.path(), 64 * MIB);
    let settled = open(&first, 1, 3);
    (0..3).for_each(|chunk| write(&first, &settled, chunk).unwrap());
    first.index.sync();
    drop((settled, first));
    let code = Arc::new(Mutex::new(Some(ffi::SQLITE_BUSY)));
    let failing = Arc::clone(&code);
    let index = ChunkIndex::open_with(dir.path(), "later", |tables| Failing { tables, code }).unwrap();
    let next = VersionStore {
        index: Arc::new(index),
        ..parts(dir.path(), 64 * MIB)
    };
    let settled = open(&next, 1, 3);
    assert!(!evict_all(&next, Arc::clone(&settled.cached_file)) && settled.presence.is_empty());
    *failing.lock() = None;
    assert_eq!(verify(&next, 1, &settled), 3);
    (0..3).for_each(|chunk| assert_is_what_was_written(&settled, chunk));
}

#[test]
fn unevictable_file_does_not_block_others() {
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), 9 * MIB);
    let (cold, warm) = (open(&versions, 1, 50), open(&versions, 2, 50));
    for (settled, chunks) in [(&cold, 50), (&warm, 50)] {
        (0..chunks).for_each(|chunk| write(&versions, settled, chunk).unwrap());
    }
    let at = |clock| Moment {
        clock,
        ..versions.quota.moment(1)
    };
    cold.cached_file.recency.note(&(0..50), &at(0));
    warm.cached_file.recency.note(&(0..50), &at(1 << 30));
    // As the kernel keeps it for a mapping through a passthrough handle that was closed.
    let (shard, rest) = cold.cached_file.key.as_str().split_at(2);
    let mapped = File::open(dir.path().join("data").join(shard).join(rest)).unwrap();
    assert_eq!(round(&versions, &|| {}), Outcome::Relieved);
    assert!(cold.presence.is_complete() && !warm.presence.is_complete());
    drop(mapped);
}

#[test]
fn replaced_version_is_evicted_first() {
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), 9 * MIB);
    let (old, other) = (open(&versions, 1, 50), open(&versions, 2, 50));
    for (settled, chunks) in [(&old, 50), (&other, 50)] {
        (0..chunks).for_each(|chunk| write(&versions, settled, chunk).unwrap());
    }
    let new = open(&versions, 1, 61);
    let hot = Moment {
        clock: 1 << 30,
        ..versions.quota.moment(7)
    };
    old.cached_file.recency.note(&(0..50), &hot);
    // Recorded last of all.
    let keys = [&old, &other, &new].map(|settled| settled.cached_file.key.clone());
    for settled in [&other, &new, &old] {
        versions.note_use(&settled.cached_file);
    }
    versions.index.sync();
    drop((old, other));
    assert_eq!(round(&versions, &|| {}), Outcome::Relieved);
    assert!(recorded(&versions, &keys[0]).len() < 50);
    assert_eq!(recorded(&versions, &keys[1]).len(), 50);
    // Current again, it is ranked like any other.
    drop(new);
    drop(open(&versions, 1, 50));
    versions.index.sync();
    assert!(versions.index.candidate(&keys[0]).unwrap().coldest > 0);
    assert_eq!(versions.index.candidate(&keys[2]).unwrap().coldest, 0);
}

#[test]
fn what_is_cleared_beside_a_mount_no_longer_counts_there() {
    let dir = tempfile::tempdir().unwrap();
    let mount = versions(dir.path(), 64 * MIB);
    audit::run_if_due(&mount);
    let settled = open(&mount, 1, 10);
    (0..10).for_each(|chunk| write(&mount, &settled, chunk).unwrap());
    let key = settled.cached_file.key.clone();
    drop(settled);
    mount.index.sync();
    audit::run_if_due(&mount);
    assert_eq!(mount.quota.peers.space().used, 10 * C);
    let wanted = mount.quota.peers.rung(Bell::Wanted);
    let fsck = Fsck::open(dir.path()).unwrap();
    assert_eq!(fsck.clear(&key), Dropped::Yes);
    fsck.close();
    assert_ne!(mount.quota.peers.rung(Bell::Wanted), wanted, "the evictor is woken");
    audit::run_if_due(&mount);
    assert_eq!(mount.quota.peers.space().used, 0);
}

#[test]
fn deleted_data_files_are_detected() {
    let dir = tempfile::tempdir().unwrap();
    let mount = versions(dir.path(), 8 * MIB);
    let mut looked = None;
    // At once, with nothing else to evict.
    mount.quota.adjust(8 * MIB as i64);
    assert_eq!(make_room(&mount, &|| {}, &mut looked), Outcome::Relieved);
    assert!(looked.is_some() && mount.quota.peers.space().used == 0);
    audit::run_if_due(&mount);
    for number in 1..3 {
        let settled = open(&mount, number, 5);
        (0..5).for_each(|chunk| write(&mount, &settled, chunk).unwrap());
        mount.index.sync();
        let (shard, rest) = settled.cached_file.key.as_str().split_at(2);
        std::fs::remove_file(dir.path().join("data").join(shard).join(rest)).unwrap();
    }
    // When one of them is opened again.
    drop(open(&mount, 1, 5));
    audit::run_if_due(&mount);
    assert_eq!(mount.quota.peers.space().used, 0);
}

#[test]
fn failed_hole_punch_is_logged_once_and_ends_the_round() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let before = parts(dir.path(), 9 * MIB);
    let versions = VersionStore {
        store: before.store.on_disk(Arc::clone(&disk) as _),
        ..before
    };
    let settled = open(&versions, 1, 200);
    (0..100).for_each(|chunk| write(&versions, &settled, chunk).unwrap());
    disk.fail_punches(1, libc::EIO);
    assert_eq!(round(&versions, &|| {}), Outcome::Busy);
    assert!(disk.is_spent() && versions.disk_health.is_on());
    assert_eq!(versions.store.allocated(&settled.cached_file.key), 100 * C);
    assert!(settled.presence.len() > 50, "no more is forgotten than was to go");
    assert_eq!(round(&versions, &|| {}), Outcome::Relieved);
    assert_eq!(
        versions.store.allocated(&settled.cached_file.key),
        settled.presence.len() * C
    );
}

/// The queued deletion by the creator of a data file had removed what another mount had recorded
/// meanwhile.
#[test]
fn records_of_two_mounts_for_a_new_file_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, other) = (parts(dir.path(), 64 * MIB), parts(dir.path(), 64 * MIB));
    let made = open(&maker, 1, 4);
    let shared = open(&other, 1, 4);
    write(&other, &shared, 3).unwrap();
    other.index.sync();
    maker.index.sync();
    assert_eq!(recorded(&maker, &made.cached_file.key).len(), 1);
    maker.learn(&made.cached_file, &(0..4));
    assert!(made.presence.contains(3));
}
