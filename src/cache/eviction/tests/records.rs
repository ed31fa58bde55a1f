//! Recorded chunks, and those about to be recorded, keep their bytes during evictions and audits by
//! this mount or another.

use super::*;
use crate::cache::index::{Commit, Tables, boot_id};
use crate::cache::lifecycle::fsck::{Finding, Fsck};
use crate::cache::storage::disk::{Disk, FaultyDisk, System};

/// A chunk that one mount left incomplete was completed by another meanwhile.
#[test]
fn chunk_recorded_by_another_mount_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (parts(dir.path(), 64 * MIB), parts(dir.path(), 64 * MIB));
    let (here, there) = (open(&one, 1, 4), open(&other, 1, 4));
    drop(here.cached_file.fill(1..3, &one.quota));
    write(&other, &there, 2).unwrap();
    other.index.sync();
    drop(there);
    assert_eq!(round(&one, &|| {}), Outcome::Relieved);
    one.learn(&here.cached_file, &(0..4));
    assert_eq!(recorded(&one, &here.cached_file.key), [2]);
    assert!(here.presence.contains(2) && !here.presence.contains(1));
    assert_is_what_was_written(&here, 2);
    assert!(!here.cached_file.is_busy(), "nothing is left behind");
}

#[test]
fn audit_keeps_records_newer_than_its_scan() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (parts(dir.path(), 64 * MIB), parts(dir.path(), 64 * MIB));
    let there = open(&other, 1, 4);
    write(&other, &there, 0).unwrap();
    other.index.sync();
    let key = there.cached_file.key.clone();
    drop(there);
    let looked_at = one.open_recorded(&one.index.candidate(&key).unwrap()).unwrap();
    let there = open(&other, 1, 4);
    write(&other, &there, 2).unwrap();
    other.index.sync();
    drop(there);
    one.trim(&looked_at, true);
    let here = open(&one, 1, 4);
    one.learn(&here.cached_file, &(0..4));
    assert_eq!(here.presence.len(), 2);
    [0, 2]
        .into_iter()
        .for_each(|chunk| assert_is_what_was_written(&here, chunk));
}

/// Tables that wait for the test before each change.
struct Gated {
    tables: Tables,
    gate: Arc<RwLock<()>>,
}

impl Commit for Gated {
    fn commit(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        let _open = self.gate.read();
        self.tables.commit(batch)
    }
}

/// Two mounts; the records of the first wait for as long as the gate is closed.
fn one_that_records_late_and_another(folder: &Path, gate: &Arc<RwLock<()>>) -> (VersionStore, VersionStore) {
    let gate = Arc::clone(gate);
    let other = parts(folder, 64 * MIB);
    let index = ChunkIndex::open_with(folder, &boot_id(), |tables| Gated { tables, gate }).unwrap();
    let late = VersionStore {
        index: Arc::new(index),
        ..parts(folder, 64 * MIB)
    };
    (late, other)
}

#[test]
fn closed_unrecorded_file_is_not_an_orphan() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::<RwLock<()>>::default();
    let (late, other) = one_that_records_late_and_another(dir.path(), &gate);
    let closed = gate.write();
    let settled = open(&late, 1, 4);
    write(&late, &settled, 2).unwrap();
    drop(settled);
    audit::run(&other);
    let here = open(&other, 1, 4);
    drop(closed);
    late.index.sync();
    other.learn(&here.cached_file, &(0..4));
    assert!(here.presence.contains(2));
    assert_is_what_was_written(&here, 2);
}

#[test]
fn pending_chunk_survives_another_mounts_audit() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::<RwLock<()>>::default();
    let (late, other) = one_that_records_late_and_another(dir.path(), &gate);
    let settled = open(&late, 1, 4);
    write(&late, &settled, 0).unwrap();
    late.index.sync();
    let closed = gate.write();
    // More than an audit ignores.
    [2, 3]
        .into_iter()
        .for_each(|chunk| write(&late, &settled, chunk).unwrap());
    drop(settled);
    audit::run(&other);
    let here = open(&other, 1, 4);
    drop(closed);
    late.index.sync();
    other.learn(&here.cached_file, &(0..4));
    assert_eq!(here.presence.len(), 3);
    [0, 2, 3]
        .into_iter()
        .for_each(|chunk| assert_is_what_was_written(&here, chunk));
    drop(here);
    assert_eq!(evict_older(&other, u32::MAX), 3 * C, "when it is recorded, it can go");
}

/// `fetchfs cache verify` beside a mount that evicts and refetches reports real faults only.
#[test]
fn chunk_replaced_during_verify_is_not_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mount = versions(dir.path(), 64 * MIB);
    let settled = open(&mount, 1, 3);
    (0..3).for_each(|chunk| write(&mount, &settled, chunk).unwrap());
    mount.index.sync();
    let disk = Arc::new(FaultyDisk::default());
    let fsck = Fsck::open_on(dir.path(), Arc::clone(&disk) as _).unwrap();
    let entry = fsck.index().entries().unwrap().remove(0);
    // The second chunk is evicted before it is read, and is back when its row is read.
    let (one, other) = (Arc::clone(&mount), open(&mount, 1, 3));
    let mut is_first = true;
    let path = mount.store.files().remove(0).0;
    let data_file = std::fs::File::options().write(true).open(path).unwrap();
    let found = fsck.verify(&entry, |_| {
        if std::mem::take(&mut is_first) {
            // As it is evicted where there are no leases.
            settled.cached_file.lose(1);
            let (key, chunks) = (settled.cached_file.key.clone(), vec![1]);
            assert!(mount.index.commit([Record::ForgetChunks { key, chunks }]));
            System.punch(&data_file, &(C..2 * C)).unwrap();
            let (one, other) = (Arc::clone(&one), Arc::clone(&other.cached_file));
            let again = Settled {
                presence: Arc::clone(&other.presence),
                cached_file: other,
                version: settled.version.clone(),
                modified: None,
                rejected: Default::default(),
                memory: None,
            };
            disk.after_next_read(move || {
                write(&one, &again, 1).unwrap();
                one.index.sync();
            });
        }
    });
    assert_eq!(found.unwrap(), []);
    assert!(disk.is_spent(), "it was read in between");
    // A real fault is found beside a mount, too.
    let room = mount.quota.reserve(10).unwrap();
    settled
        .cached_file
        .write(room, |data| data.write_all_at(&[[0; 10]], 2 * C))
        .unwrap();
    assert_eq!(fsck.verify(&entry, |_| {}).unwrap(), [Finding::WrongBytes(2)]);
}

#[test]
fn pending_file_is_not_an_orphan() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::<RwLock<()>>::default();
    let (late, other) = one_that_records_late_and_another(dir.path(), &gate);
    drop(other);
    let closed = gate.write();
    drop(open(&late, 1, 4));
    let fsck = Fsck::open(dir.path()).unwrap();
    assert!(fsck.orphans().is_empty());
    drop(closed);
    late.index.sync();
    assert!(fsck.orphans().is_empty());
    assert!(late.index.forget(&fsck.index().entries().unwrap()[0].key));
    assert_eq!(fsck.orphans().len(), 1);
}

#[test]
fn failed_deletion_restores_a_restarted_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), 64 * MIB);
    let settled = open(&versions, 1, 3);
    (0..3).for_each(|chunk| write(&versions, &settled, chunk).unwrap());
    versions.index.sync();
    let leaving = settled.cached_file.begin_eviction(&[1, 2]).unwrap();
    // A fetch that brings nothing.
    drop(settled.cached_file.fill(1..2, &versions.quota));
    leaving.give_up();
    assert_eq!(round(&versions, &|| {}), Outcome::Relieved);
    versions.learn(&settled.cached_file, &(0..3));
    assert_eq!(settled.presence.len(), 3);
    (0..3).for_each(|chunk| assert_is_what_was_written(&settled, chunk));
}
