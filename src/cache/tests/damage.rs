//! Crashes, failing disks and other programs: no wrong byte is served, and no more is fetched than
//! was lost.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use rusqlite::ffi;

use super::*;
use crate::cache::index::{Failing, Record};
use crate::cache::key::EntryKey;
use crate::cache::storage::disk::{FaultyDisk, WriteFault};

/// Number of chunks of the file of these tests; the last one is short.
const CHUNKS: u64 = 20;
const SIZE: u64 = CHUNKS * C - 100;

/// A cache that holds the whole file, and its server.
fn filled() -> (tempfile::TempDir, Vec<u8>, Server) {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(SIZE));
    let server = Server::start(file.clone(), |_, _| Honest);
    let mount = Mount::over(dir.path());
    assert_eq!(read(&mount.listed(&server, SIZE), 0, SIZE).unwrap(), file);
    mount.end();
    (dir, file, server)
}

/// The same directory after the machine went down.
fn after_a_power_cut(folder: &Path) -> Mount {
    static BOOT: AtomicUsize = AtomicUsize::new(0);
    let boot = format!("boot {}", BOOT.fetch_add(1, Ordering::SeqCst));
    let opened = Folder::open(folder).unwrap();
    let index = ChunkIndex::open_with(folder, &boot, |tables| tables).unwrap();
    Mount::of(folder, Folder { index, ..opened })
}

fn data_file(folder: &Path) -> File {
    let shard = std::fs::read_dir(folder.join("data")).unwrap().next().unwrap().unwrap();
    let name = std::fs::read_dir(shard.path()).unwrap().next().unwrap().unwrap();
    File::options().read(true).write(true).open(name.path()).unwrap()
}

/// Drops a chunk's blocks: it reads as zeros.
fn punch(file: &File, chunk: u64) {
    use nix::fcntl::{FallocateFlags, fallocate};
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, (chunk * C) as i64, C as i64).unwrap();
}

fn bytes_asked(server: &Server, since: usize) -> u64 {
    let asked = server.asked();
    asked[since..]
        .iter()
        .map(|range| range.end.min(SIZE) - range.start)
        .sum()
}

/// Reads all, and returns the number of bytes that were fetched for that.
fn fetched_for_all(mount: &Mount, server: &Server, file: &[u8]) -> u64 {
    let before = server.asked().len();
    let reader = mount.held(server);
    for offset in (0..SIZE).step_by(5000) {
        assert_eq!(
            read(&reader, offset, 5000).unwrap(),
            part(file, offset, 5000),
            "{offset}"
        );
    }
    bytes_asked(server, before)
}

#[test]
fn after_a_power_cut_good_chunks_cost_no_request() {
    let (dir, file, server) = filled();
    let mount = after_a_power_cut(dir.path());
    assert!(mount.held(&server).entry().settled().unwrap().presence.is_empty());
    assert_eq!(fetched_for_all(&mount, &server, &file), 0);
    let reader = mount.held(&server);
    let settled = reader.entry().settled().unwrap();
    assert!(settled.presence.is_complete());
    let key = settled.cached_file.key.clone();
    assert!(
        mount.cache.versions().index.recorded(&key).unwrap().is_certain,
        "verified once is enough"
    );
    drop(reader);
    mount.end();
}

/// If the unknown were taken for nothing, the records would be trusted from then on without
/// verification.
#[test]
fn unknown_chunks_are_verified_when_the_index_recovers() {
    let (dir, file, server) = filled();
    data_file(dir.path()).write_all_at(&[7; C as usize], 12 * C).unwrap();
    let mount = after_a_power_cut(dir.path());
    let held = mount.cache.newest(&server.url).expect("the cache holds a version");
    mount.cache.versions().index.fail_reads(true);
    let origin = Origin::of(&server.url).unwrap();
    let entry = mount.cache.entry(server.content(), origin, &held);
    let reader = mount.cache.reader(entry.unwrap());
    assert_eq!(read(&reader, 0, SIZE).unwrap(), file, "around the cache");
    drop(reader);
    mount.cache.versions().index.fail_reads(false);
    let key = EntryKey::new(&server.url, &held.version, held.chunk);
    assert!(!mount.cache.versions().index.recorded(&key).unwrap().is_certain);
    assert_eq!(fetched_for_all(&mount, &server, &file), C);
    mount.end();
}

/// It stays unverified by its record; an earlier verification does not make it good.
#[test]
fn undeleted_chunk_is_verified_by_the_next_mount() {
    let (dir, file, server) = filled();
    data_file(dir.path()).write_all_at(&[7; C as usize], 12 * C).unwrap();
    let failing = Arc::new(Mutex::new(None));
    let (opened, code) = (Folder::open(dir.path()).unwrap(), Arc::clone(&failing));
    let index = ChunkIndex::open_with(dir.path(), "boot", |tables| Failing { tables, code }).unwrap();
    let mount = Mount::of(dir.path(), Folder { index, ..opened });
    let reader = mount.held(&server);
    let index = &mount.cache.versions().index;
    index.sync();
    *failing.lock() = Some(ffi::SQLITE_BUSY);
    let settled = reader.entry().settled().unwrap();
    let all = 0..SIZE;
    // The bad chunk is the last one to be checked, and its deletion is lost.
    let versions = mount.cache.versions();
    assert_eq!(versions.verify(reader.entry(), settled, &all, |_| {}), 12 * C);
    assert_eq!(versions.verify(reader.entry(), settled, &(13 * C..SIZE), |_| {}), SIZE);
    index.sync();
    *failing.lock() = None;
    let key = settled.cached_file.key.clone();
    index.record(Record::Trust { key: key.clone() });
    assert!(!index.recorded(&key).unwrap().is_certain);
    drop(reader);
    mount.end();
    let mount = Mount::over(dir.path());
    assert_eq!(fetched_for_all(&mount, &server, &file), C);
    mount.end();
}

#[test]
fn after_a_power_cut_only_what_was_lost_is_fetched() {
    let (dir, file, server) = filled();
    let data = data_file(dir.path());
    [0, 7, 8].into_iter().for_each(|chunk| punch(&data, chunk));
    data.write_all_at(&[7; C as usize], 12 * C).unwrap();
    data.write_all_at(&[7], SIZE - 1).unwrap();
    let mount = after_a_power_cut(dir.path());
    assert_eq!(fetched_for_all(&mount, &server, &file), 4 * C + (C - 100));
    assert_eq!(mount.cache.cached_bytes(), SIZE);
    mount.end();
    let mount = Mount::over(dir.path());
    assert_eq!(fetched_for_all(&mount, &server, &file), 0);
    mount.end();
}

#[test]
fn power_cut_random_readers_get_correct_bytes() {
    let (dir, file, server) = filled();
    let data = data_file(dir.path());
    (0..CHUNKS).step_by(3).for_each(|chunk| punch(&data, chunk));
    let mount = after_a_power_cut(dir.path());
    thread::scope(|scope| {
        for seed in 0..8 {
            let (mount, server, file) = (&mount, &server, &file);
            scope.spawn(move || {
                let (reader, mut random) = (mount.held(server), fastrand::Rng::with_seed(seed));
                for _ in 0..30 {
                    let (offset, len) = (random.u64(0..SIZE), random.u64(0..20_000));
                    assert_eq!(
                        read(&reader, offset, len).unwrap(),
                        part(file, offset, len),
                        "{offset}+{len}"
                    );
                }
            });
        }
    });
    mount.end();
}

#[test]
fn another_file_under_the_same_name_is_verified() {
    let (dir, file, server) = filled();
    let data = data_file(dir.path());
    let path = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&data))).unwrap();
    let mut other = file.clone();
    other[3 * C as usize] ^= 1;
    std::fs::write(path.with_extension("new"), &other).unwrap();
    std::fs::rename(path.with_extension("new"), &path).unwrap();
    let mount = Mount::over(dir.path());
    assert_eq!(fetched_for_all(&mount, &server, &file), C);
    mount.end();
}

#[test]
fn hole_in_a_recorded_chunk_is_detected() {
    let (dir, file, server) = filled();
    let data = data_file(dir.path());
    [3, 4].into_iter().for_each(|chunk| punch(&data, chunk));
    let mount = Mount::over(dir.path());
    assert_eq!(fetched_for_all(&mount, &server, &file), 2 * C);
    mount.end();
}

#[test]
fn truncated_data_file_in_use_is_repaired() {
    let (dir, file, server) = filled();
    let mount = Mount::over(dir.path());
    let reader = mount.held(&server);
    data_file(dir.path()).set_len(10 * C + 5).unwrap();
    let before = server.asked().len();
    assert_eq!(read(&reader, 15 * C, C).unwrap(), part(&file, 15 * C, C));
    assert_eq!(read(&reader, 0, SIZE).unwrap(), file);
    assert_eq!(bytes_asked(&server, before), SIZE - 10 * C);
    drop(reader);
    mount.end();
}

#[test]
fn truncation_that_a_write_has_hidden_is_found() {
    let (dir, file, server) = filled();
    let mount = Mount::over(dir.path());
    let reader = mount.held(&server);
    let data = data_file(dir.path());
    data.set_len(0).unwrap();
    // As a write does that had begun before.
    data.set_len(12 * C).unwrap();
    assert_eq!(read(&reader, 15 * C, C).unwrap(), part(&file, 15 * C, C));
    assert_eq!(read(&reader, 0, SIZE).unwrap(), file);
    drop(reader);
    mount.end();
}

#[test]
fn write_past_a_truncation_leaves_no_zeros() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(SIZE));
    let server = Server::start(file.clone(), |_, _| Honest);
    let mount = Mount::over(dir.path());
    // Without a reader, which would fetch all of a small file: only its beginning is present.
    let reader = mount.listed(&server, SIZE);
    mount.cache.manager().wait_for_range(reader.entry(), 0..4 * C).unwrap();
    mount.cache.close();
    drop(reader);
    mount.end();
    let mount = Mount::over(dir.path());
    let reader = mount.held(&server);
    data_file(dir.path()).set_len(0).unwrap();
    // A write at the end extends the file, so that its beginning would read as zeros.
    mount
        .cache
        .manager()
        .wait_for_range(reader.entry(), SIZE - 10..SIZE)
        .unwrap();
    assert_eq!(read(&reader, 0, SIZE).unwrap(), file);
    drop(reader);
    mount.end();
}

/// The directory on a disk that fails on demand.
fn on_faulty_disk(folder: &Path) -> (Mount, Arc<FaultyDisk>) {
    let disk = Arc::new(FaultyDisk::default());
    let opened = Folder::open(folder).unwrap();
    let store = opened.store.on_disk(Arc::clone(&disk) as _);
    (Mount::of(folder, Folder { store, ..opened }), disk)
}

#[test]
fn chunks_that_the_disk_cannot_read_are_fetched_again() {
    let (dir, file, server) = filled();
    let (mount, disk) = on_faulty_disk(dir.path());
    let reader = mount.held(&server);
    let before = server.asked().len();
    disk.fail_reads(1, libc::EIO);
    assert_eq!(read(&reader, C + 10, C).unwrap(), part(&file, C + 10, C));
    assert_eq!((bytes_asked(&server, before), disk.is_spent()), (2 * C, true));
    drop(reader);
    mount.end();
}

#[test]
fn a_disk_that_cannot_read_at_all_is_bypassed_and_no_loop() {
    let (dir, file, server) = filled();
    let (mount, disk) = on_faulty_disk(dir.path());
    let reader = mount.held(&server);
    disk.fail_reads(3, libc::EIO);
    assert_eq!(read(&reader, 0, 10).unwrap(), part(&file, 0, 10));
    assert_eq!(read(&reader, 0, SIZE).unwrap(), file, "when it works again");
    drop(reader);
    mount.end();
}

#[test]
fn a_chunk_that_cannot_be_verified_is_fetched() {
    let (dir, file, server) = filled();
    let disk = Arc::new(FaultyDisk::default());
    let opened = Folder::open(dir.path()).unwrap();
    let folder = Folder {
        index: ChunkIndex::open_with(dir.path(), "after a power cut", |tables| tables).unwrap(),
        store: opened.store.on_disk(Arc::clone(&disk) as _),
        ..opened
    };
    let mount = Mount::of(dir.path(), folder);
    disk.fail_reads(1, libc::EIO);
    assert_eq!(fetched_for_all(&mount, &server, &file), C);
    mount.end();
}

#[test]
fn failed_write_is_not_recorded() {
    for fault in [libc::ENOSPC, libc::EDQUOT, libc::EROFS, libc::EIO] {
        let (dir, file) = (tempfile::tempdir().unwrap(), content(SIZE));
        let server = Server::start(file.clone(), |_, _| Honest);
        let (mount, disk) = on_faulty_disk(dir.path());
        let reader = mount.listed(&server, SIZE);
        disk.fail_writes([WriteFault::Short(100), WriteFault::Errno(fault)]);
        // Any result of this read is right: it ends, and none of its bytes counts as present.
        let _ = read(&reader, 0, SIZE);
        assert!(disk.is_spent());
        assert_eq!(read(&reader, 0, SIZE).unwrap(), file, "around the cache");
        let all = mount.cache.manager().wait_for_range(reader.entry(), 0..SIZE);
        all.expect("the disk works again");
        drop(reader);
        mount.end();
        let mount = Mount::over(dir.path());
        assert_eq!(fetched_for_all(&mount, &server, &file), 0);
        mount.end();
    }
}

fn code_of_damage(code: &Mutex<Option<i32>>) -> bool {
    *code.lock() == Some(ffi::SQLITE_CORRUPT)
}

#[test]
fn unwritable_index_delays_no_reader() {
    for code in [
        ffi::SQLITE_BUSY,
        ffi::SQLITE_FULL,
        ffi::SQLITE_IOERR,
        ffi::SQLITE_CORRUPT,
    ] {
        let (dir, file) = (tempfile::tempdir().unwrap(), content(SIZE));
        let server = Server::start(file.clone(), |_, _| Honest);
        let failing = Arc::new(Mutex::new(Some(code)));
        let opened = Folder::open(dir.path()).unwrap();
        let code = Arc::clone(&failing);
        let index = ChunkIndex::open_with(dir.path(), "boot", |tables| Failing { tables, code }).unwrap();
        let mount = Mount::of(dir.path(), Folder { index, ..opened });
        let reader = mount.listed(&server, SIZE);
        assert_eq!(read(&reader, 0, SIZE).unwrap(), file);
        assert!(mount.cache.newest(&server.url).is_none(), "it is not recorded");
        let is_marked = dir.path().join("index.is-damaged").exists();
        assert_eq!(is_marked, code_of_damage(&failing));
        drop(reader);
        // When SQLite works again, later records are kept.
        *failing.lock() = None;
        mount.cache.idle_files.let_go_of_all();
        let reader = mount.listed(&server, SIZE);
        assert_eq!(read(&reader, 0, SIZE).unwrap(), file);
        drop(reader);
        assert_eq!(mount.cache.cached_bytes(), SIZE);
        mount.end();
    }
}

#[test]
fn corrupted_index_counts_as_empty() {
    let (dir, file, server) = filled();
    let mount = Mount::over(dir.path());
    // The caches of the open connections would hide it.
    let index = File::options().write(true).open(dir.path().join("index.db")).unwrap();
    let len = index.metadata().unwrap().len();
    index.write_all_at(&vec![7; len as usize], 0).unwrap();
    let log = File::options().write(true).open(dir.path().join("index.db-wal"));
    log.and_then(|log| log.set_len(0)).unwrap();
    let reader = mount.listed(&server, SIZE);
    assert_eq!(read(&reader, 0, SIZE).unwrap(), file);
    let other = EntryKey::for_tests(1);
    let recorded = mount.cache.versions().index.recorded(&other);
    assert!(recorded.is_err(), "which is not the same as nothing");
    drop(reader);
    mount.end();
    // The next mount begins with a new index instead of one that can't be written.
    let mount = Mount::over(dir.path());
    assert_eq!(read(&mount.listed(&server, SIZE), 0, SIZE).unwrap(), file);
    assert_eq!(mount.cache.cached_bytes(), SIZE);
    assert!(dir.path().join("index.db.damaged").exists());
    mount.end();
}

#[test]
fn start_uses_the_saved_count_or_the_records() {
    let (dir, _, server) = filled();
    // So that a sum over the entries gives a tebibyte.
    let index = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    let sql = "UPDATE cache_entries SET size = 1 << 40, chunks_present = (1 << 40) / chunk_size";
    assert_eq!(index.execute(sql, []), Ok(1));
    drop(index);
    let mount = Mount::over(dir.path());
    let came = |mount: &Mount| mount.cache.versions().quota.moment(0).clock * quota::policy::TICK;
    assert!(came(&mount) < 1 << 30);
    mount.end();
    let mount = after_a_power_cut(dir.path());
    assert!(came(&mount) >= 1 << 40);
    mount.end();
    drop(server);
}

#[test]
fn disk_without_hole_punching_is_bypassed() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(SIZE));
    let server = Server::start(file.clone(), |_, _| Honest);
    let disk = Arc::new(FaultyDisk::default());
    disk.fail_punches(1, libc::EOPNOTSUPP);
    // Where a size is set by writing zeros, no space is reserved for them.
    disk.fail_set_len(libc::ENOSPC);
    let opened = Folder::open(dir.path()).unwrap();
    let store = opened.store.on_disk(Arc::clone(&disk) as _);
    let mount = Mount::of(dir.path(), Folder { store, ..opened });
    assert!(!mount.cache.versions().has_holes);
    let reader = mount.listed(&server, SIZE);
    // Any result of this read is right: it makes the version known.
    let _ = read(&reader, 0, SIZE);
    for _ in 0..2 {
        assert_eq!(read(&reader, 0, SIZE).unwrap(), file);
    }
    assert!(
        !mount.cache.is_disk_failing(),
        "it is as it is, and not to be tried again"
    );
    assert_eq!(std::fs::read_dir(dir.path().join("data")).unwrap().count(), 0);
    drop(reader);
    mount.end();
}

#[test]
fn a_cache_folder_that_is_replaced_is_left_alone() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(SIZE));
    let server = Server::start(file.clone(), |_, _| Honest);
    let folder = dir.path().join("cache");
    std::fs::create_dir(&folder).unwrap();
    let mount = Mount::over(&folder);
    let reader = mount.listed(&server, SIZE);
    assert_eq!(read(&reader, 0, 10).unwrap(), part(&file, 0, 10));
    let moved = dir.path().join("moved");
    std::fs::rename(&folder, &moved).unwrap();
    // Another mount begins a cache there.
    let other = Mount::over(&folder);
    assert_eq!(read(&other.listed(&server, SIZE), 0, SIZE).unwrap(), file);
    other.end();
    let files = || ChunkStore::open(&folder).unwrap().files();
    let theirs = files();
    assert_eq!(theirs.len(), 1);
    let again = Url::parse(&format!("{}2", server.url)).unwrap();
    let new = mount.listed_at(&again, SIZE);
    let _ = read(&new, 0, SIZE);
    assert_eq!(read(&new, 0, SIZE).unwrap(), file);
    assert!(mount.cache.is_disk_failing());
    drop(reader);
    mount.cache.evict(&server.url, false, true);
    assert_eq!(files(), theirs, "of the same name, and not ours");
    std::fs::remove_dir_all(&folder).unwrap();
    // What is missing now may come back.
    assert_eq!(eviction::evictor::evict_older(mount.cache.versions(), u32::MAX), 0);
    mount.cache.sync_index();
    assert!(mount.cache.newest(&server.url).is_some());
    std::fs::rename(&moved, &folder).unwrap();
    assert!(mount.cache.versions().is_in_place() && !mount.cache.is_disk_failing());
    drop(new);
    mount.end();
}
