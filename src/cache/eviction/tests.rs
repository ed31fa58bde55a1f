//! The quota with the store and the index, without a network.

mod index;
mod losses;
mod records;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::audit;
use super::evictor::{Evictor, evict_older, round};
use crate::cache::chunk::ChunkSize;
use crate::cache::entry::cache_entry::Settled;
use crate::cache::entry::cached_files::CachedFiles;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::error::ReadError;
use crate::cache::index::{ChunkIndex, Record};
use crate::cache::key::EntryKey;
use crate::cache::quota::config::free_bytes;
use crate::cache::quota::policy::Moment;
use crate::cache::quota::reservation::Reservation;
use crate::cache::quota::room::Mark;
use crate::cache::quota::rounds::Outcome;
use crate::cache::quota::*;
use crate::cache::sharing::Bell;
use crate::cache::storage::chunk_store::{ChunkStore, allocated_at};
use crate::cache::storage::disk_health::DiskHealth;
use crate::http::{Validator, Version};
use crate::origin::{Content, ListedSize};

/// The size of the chunks of these tests, in bytes.
const C: u64 = 64 << 10;

const MIB: u64 = 1 << 20;

/// One mount's part of a cache directory.
fn versions(folder: &Path, size: u64) -> Arc<VersionStore> {
    Arc::new(parts(folder, size))
}

fn parts(folder: &Path, size: u64) -> VersionStore {
    let index = Arc::new(ChunkIndex::open(folder).unwrap());
    let config = QuotaConfig {
        size: Some(Share::Bytes(size)),
        min_free: Some(Share::Bytes(0)),
        max_age: None,
    };
    let quota = Quota::open(folder, &config, index.cached_bytes()).unwrap();
    VersionStore {
        counters: Arc::default(),
        store: ChunkStore::open(folder).unwrap(),
        index,
        cached_files: CachedFiles::default(),
        restoring: parking_lot::Mutex::default(),
        quota,
        disk_health: Arc::new(DiskHealth::none_in(folder)),
        has_holes: true,
        is_fallback: false,
        logins: crate::origin::Logins::default(),
        checks: Default::default(),
    }
}

fn url(number: u64) -> Url {
    Url::parse(&format!("http://h/{number}")).unwrap()
}

fn content(number: u64) -> Content {
    Content::at(url(number), ListedSize::Unknown)
}

fn open(versions: &VersionStore, number: u64, chunks: u64) -> Settled {
    let version = Version {
        size: chunks * C,
        validator: Validator::None,
    };
    versions
        .open(&content(number), ChunkSize::new(C).unwrap(), &version, None)
        .unwrap()
}

/// What [`write`] writes as a chunk.
fn bytes_of(chunk: u64) -> Vec<u8> {
    vec![chunk as u8 + 1; C as usize]
}

/// Writes bytes to the file that are not recorded.
fn write_unrecorded(versions: &VersionStore, settled: &Settled, chunks: std::ops::Range<u64>) {
    let room = versions.quota.reserve((chunks.end - chunks.start) * C).unwrap();
    let unrecorded = vec![7; ((chunks.end - chunks.start) * C) as usize];
    settled
        .cached_file
        .write(room, |data| data.write_all_at(&[unrecorded], chunks.start * C))
        .unwrap();
}

/// Writes a chunk as the file writer does.
fn write(versions: &VersionStore, settled: &Settled, chunk: u64) -> Result<(), ReadError> {
    write_through(&RwLock::new(()), versions, settled, chunk)
}

/// Writes only while the gate is open.
fn write_through(gate: &RwLock<()>, versions: &VersionStore, settled: &Settled, chunk: u64) -> Result<(), ReadError> {
    let room = versions.quota.reserve(C)?;
    let cached_file = &settled.cached_file;
    let _filling = cached_file.fill(chunk..chunk + 1, &versions.quota);
    let bytes = [&bytes_of(chunk)];
    let _open = gate.read();
    cached_file
        .write(room, |data| data.write_all_at(&bytes, chunk * C))
        .unwrap();
    cached_file.recency.came(chunk, &versions.quota.moment(0));
    cached_file.presence.insert(chunk);
    let key = cached_file.key.clone();
    let record = Record::Chunk {
        key,
        index: chunk,
        checksum: xxh3_64(bytes[0]),
    };
    versions.record_contents(cached_file, record);
    Ok(())
}

fn assert_is_what_was_written(settled: &Settled, chunk: u64) {
    let mut back = vec![0; C as usize];
    settled.cached_file.read_exact_at(&mut back, chunk * C).unwrap();
    assert!(back == bytes_of(chunk), "chunk {chunk}");
}

/// Bytes of everything in a directory on disk.
fn on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| allocated_at(&entry.path()) + on_disk(&entry.path()))
        .sum()
}

/// Measures the directory repeatedly until `is_over`; returns the maximum. Writers are held up
/// meanwhile: otherwise one file would be counted before its bytes were freed, and another after
/// they were written there.
fn watch(folder: &Path, gate: &RwLock<()>, is_over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !is_over.load(Ordering::Relaxed) {
        let _closed = gate.write();
        most = most.max(on_disk(folder));
    }
    most
}

/// Ends the watching, even if a writer panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The recorded chunks of an entry.
fn recorded(versions: &VersionStore, key: &EntryKey) -> Vec<u64> {
    let recorded = versions.index.recorded(key).unwrap();
    recorded.chunks.into_iter().map(|(chunk, _)| chunk).collect()
}

#[test]
fn quota_holds_and_all_writers_proceed() {
    const SIZE: u64 = 8 * MIB;
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), SIZE);
    let _evictor = Evictor::start(Arc::clone(&versions), || {}).unwrap();
    let (gate, is_over) = (RwLock::new(()), AtomicBool::new(false));
    let most = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(dir.path(), &gate, &is_over));
        let over = Over(&is_over);
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (versions, gate) = (&versions, &gate);
                scope.spawn(move || {
                    for file in 0..10 {
                        let settled = open(versions, writer * 100 + file, 10 * MIB / C);
                        (0..10 * MIB / C).for_each(|chunk| write_through(gate, versions, &settled, chunk).unwrap());
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        drop(over);
        watching.join().unwrap()
    });
    assert!(most <= SIZE, "{most} bytes");
    assert!(most > SIZE / 2, "{most} bytes: it is there to be used");
}

#[test]
fn two_mounts_share_the_smaller_size() {
    const SIZE: u64 = 8 * MIB;
    let dir = tempfile::tempdir().unwrap();
    let mounts = [2 * SIZE, SIZE].map(|size| versions(dir.path(), size));
    let _evictors = mounts
        .each_ref()
        .map(|versions| Evictor::start(Arc::clone(versions), || {}).unwrap());
    let (gate, is_over) = (RwLock::new(()), AtomicBool::new(false));
    let most = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(dir.path(), &gate, &is_over));
        let over = Over(&is_over);
        let writers: Vec<_> = mounts
            .iter()
            .enumerate()
            .map(|(mount, versions)| {
                let gate = &gate;
                scope.spawn(move || {
                    for file in 0..20 {
                        // The two mounts share every other file.
                        let number = if file % 2 == 0 {
                            file
                        } else {
                            100 * (mount as u64 + 1) + file
                        };
                        let settled = open(versions, number, 2 * MIB / C);
                        (0..2 * MIB / C).for_each(|chunk| write_through(gate, versions, &settled, chunk).unwrap());
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        drop(over);
        watching.join().unwrap()
    });
    assert!(most <= SIZE, "{most} bytes");
}

#[test]
fn pinned_chunks_stay_even_if_space_runs_out() {
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), 8 * MIB);
    let _evictor = Evictor::start(Arc::clone(&versions), || {}).unwrap();
    let pinned = open(&versions, 1, 64);
    (0..64).for_each(|chunk| write(&versions, &pinned, chunk).unwrap());
    versions.index.sync();
    versions.index.pin(&pinned.cached_file.key);
    let other = open(&versions, 2, 1000);
    for chunk in 0..200 {
        write(&versions, &other, chunk).unwrap();
    }
    assert!(pinned.presence.is_complete());
    versions.index.sync();
    versions.index.pin(&other.cached_file.key);
    let refused = (200..1000).find_map(|chunk| write(&versions, &other, chunk).err());
    assert!(matches!(refused, Some(ReadError::NoRoom)));
    assert!(pinned.presence.is_complete());
}

#[test]
fn full_disk_fails_reservations_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = QuotaConfig {
        min_free: Some(Share::Bytes(u64::MAX)),
        ..QuotaConfig::default()
    };
    let quota = Quota::open(dir.path(), &config, 0).unwrap();
    assert!(matches!(quota.reserve(1), Err(ReadError::NoRoom)));
    assert_eq!(quota.rounds.asked(), 0, "a round could free nothing");
}

#[test]
fn evicted_chunks_free_records_and_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), 9 * MIB);
    let (first, second) = (open(&versions, 1, 60), open(&versions, 2, 60));
    for settled in [&first, &second] {
        (0..50).for_each(|chunk| write(&versions, settled, chunk).unwrap());
    }
    let before = versions.quota.peers.space().used;
    let closed = first.cached_file.key.clone();
    versions.note_use(&first.cached_file);
    drop(first);
    assert_eq!(round(&versions, &|| {}), Outcome::Relieved);
    let freed = before - versions.quota.peers.space().used;
    assert!(freed > 0);
    let left: u64 =
        recorded(&versions, &closed).len() as u64 + recorded(&versions, &second.cached_file.key).len() as u64;
    assert_eq!((100 - left) * C, freed);
    assert_eq!(
        second.presence.len(),
        recorded(&versions, &second.cached_file.key).len() as u64
    );
    let on_disk = versions.store.allocated(&closed) + versions.store.allocated(&second.cached_file.key);
    assert_eq!(versions.quota.peers.space().used, on_disk);
}

#[test]
fn max_age_evicts_chunks_and_empty_files() {
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), 64 * MIB);
    let at = |seconds| Moment {
        seconds,
        ..versions.quota.moment(1)
    };
    let (old, mixed) = (open(&versions, 1, 10), open(&versions, 2, 2 * SEGMENT));
    (0..10).for_each(|chunk| write(&versions, &old, chunk).unwrap());
    (0..2 * SEGMENT).for_each(|chunk| write(&versions, &mixed, chunk).unwrap());
    old.cached_file.recency.note(&(0..10), &at(1000));
    mixed.cached_file.recency.note(&(0..1), &at(1000));
    mixed.cached_file.recency.note(&(SEGMENT..SEGMENT + 1), &at(3000));
    let keys = [&old, &mixed].map(|settled| settled.cached_file.key.clone());
    [&old, &mixed]
        .into_iter()
        .for_each(|settled| versions.note_use(&settled.cached_file));
    drop(old);
    assert_eq!(evict_older(&versions, 1000), 0);
    assert_eq!(evict_older(&versions, 1001), (10 + SEGMENT) * C);
    assert!(versions.store.lacks(&keys[0]) && versions.index.candidate(&keys[0]).is_none());
    assert_eq!(
        recorded(&versions, &keys[1]),
        (SEGMENT..2 * SEGMENT).collect::<Vec<_>>()
    );
    drop(mixed);
    assert_eq!(evict_older(&versions, 3001), SEGMENT * C);
    assert!(versions.store.lacks(&keys[1]));
}

#[test]
fn audit_counts_files_and_deletes_orphans() {
    let dir = tempfile::tempdir().unwrap();
    let first = versions(dir.path(), 64 * MIB);
    let settled = open(&first, 1, 20);
    (0..10).for_each(|chunk| write(&first, &settled, chunk).unwrap());
    let key = settled.cached_file.key.clone();
    // As after a crash: unrecorded bytes, an unrecorded file, and a wrong count.
    write_unrecorded(&first, &settled, 12..17);
    let stray = dir.path().join("data/ab");
    std::fs::create_dir_all(&stray).unwrap();
    std::fs::write(stray.join("c".repeat(30)), vec![1; C as usize]).unwrap();
    drop(settled);
    first.quota.adjust(12_345);
    first.index.sync();
    drop(first);
    let next = versions(dir.path(), 64 * MIB);
    audit::run(&next);
    assert_eq!(std::fs::read_dir(&stray).unwrap().count(), 0);
    assert_eq!(next.store.allocated(&key), 10 * C);
    assert_eq!(next.quota.peers.space().used, 10 * C);
    let settled = open(&next, 1, 20);
    assert_eq!(settled.presence.len(), 10);
    let mut back = vec![0; C as usize];
    settled.cached_file.read_exact_at(&mut back, 9 * C).unwrap();
    assert!(back == bytes_of(9));
}

#[test]
fn the_free_space_of_the_disk_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = nix::sys::statvfs::statvfs(dir.path()).unwrap();
    let config = QuotaConfig {
        size: Some(Share::Percent(100)),
        // More than is free: other files have filled the disk.
        min_free: Some(Share::Bytes(free_bytes(&disk) + (1 << 40))),
        max_age: None,
    };
    let quota = Quota::open(dir.path(), &config, 0).unwrap();
    assert!(!quota.try_reserve(1).unwrap());
    assert_eq!(quota.shortfall(Mark::Low), 0, "nothing of it is ours");
    assert!(quota.peers.try_reserve(MIB, u64::MAX).unwrap());
    assert_eq!(quota.shortfall(Mark::High), MIB);
}
