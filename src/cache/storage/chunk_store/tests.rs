//! Data files: sharing, hole punching, truncation and recovery.

use super::*;

fn store() -> (tempfile::TempDir, ChunkStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn data_file_is_sparse_and_full_size() {
    let (_dir, store) = store();
    let key = EntryKey::for_tests(1);
    let data = store.open_file(&key, 1 << 30, || true).unwrap();
    data.write_all_at(&[[7; 4096]], 1 << 20).unwrap();
    let mut back = [0; 4096];
    data.read_exact_at(&mut back, 1 << 20).unwrap();
    assert_eq!(back, [7; 4096]);
    let meta = std::fs::metadata(store.path_of(&key)).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(data.allocated() <= 64 << 10, "{}", data.allocated());
    assert_eq!(meta.mode() & 0o777, 0o600);
    assert_eq!(store.keys().collect::<Vec<_>>(), [key]);
}

#[test]
fn short_write_continues_and_errors_propagate() {
    use crate::cache::storage::disk::{FaultyDisk, WriteFault};
    let (_dir, store) = store();
    let disk = Arc::new(FaultyDisk::default());
    let store = store.on_disk(Arc::clone(&disk) as Arc<dyn Disk>);
    let data = store.open_file(&EntryKey::for_tests(6), 8192, || true).unwrap();
    disk.fail_writes([
        WriteFault::Short(1),
        WriteFault::Errno(libc::EINTR),
        WriteFault::Short(100),
    ]);
    data.write_all_at(&[[7; 4096], [8; 4096]], 0).unwrap();
    let mut back = [0; 8192];
    data.read_exact_at(&mut back, 0).unwrap();
    assert!(back[..4096] == [7; 4096] && back[4096..] == [8; 4096]);
    for errno in [libc::ENOSPC, libc::EIO] {
        disk.fail_writes([WriteFault::Short(1), WriteFault::Errno(errno)]);
        let error = data.write_all_at(&[[8; 10]], 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno));
    }
    assert!(disk.is_spent());
}

#[test]
fn a_file_of_another_size_is_emptied() {
    let (_dir, store) = store();
    let key = EntryKey::for_tests(2);
    let data = store.open_file(&key, 8192, || true).unwrap();
    assert_eq!(data.found, Found::Nothing);
    data.write_all_at(&[[7; 8192]], 0).unwrap();
    drop(data);
    assert_eq!(store.open_file(&key, 8192, || true).unwrap().found, Found::Intact);
    let other = store.open_file(&key, 4096, || true).unwrap();
    let mut back = [1; 4096];
    other.read_exact_at(&mut back, 0).unwrap();
    assert_eq!((other.found, back), (Found::Nothing, [0; 4096]));
}

#[test]
fn index_forgets_before_a_new_file_is_created() {
    let (_dir, store) = store();
    let key = EntryKey::for_tests(4);
    let mut size_then = None;
    let look = || {
        size_then = Some(std::fs::metadata(store.path_of(&key)).unwrap().len());
        true
    };
    drop(store.open_file(&key, 4096, look).unwrap());
    assert_eq!(size_then, Some(0));
    drop(store.open_file(&key, 4096, || panic!("it is intact")).unwrap());
}

#[test]
fn shared_data_file_is_not_deleted() {
    let (_dir, store) = store();
    let key = EntryKey::for_tests(3);
    let first = store.open_file(&key, 4096, || true).unwrap();
    let second = store.open_file(&key, 4096, || panic!("it is intact")).unwrap();
    second.write_all_at(&[[9; 4096]], 0).unwrap();
    let mut back = [1; 4096];
    first.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(back, [9; 4096]);
    assert!(first.exclusively().is_none());
    assert!(store.remove_unused(&key, || panic!("it is in use")).is_none());
    drop(first);
    assert!(second.exclusively().is_some());
    drop(second);
    assert_eq!(store.remove_unused(&key, || true), Some(4096));
    assert_eq!(store.remove_unused(&key, || true), Some(0));
}

#[test]
fn a_file_that_anybody_else_has_open_is_not_had_exclusively() {
    let (_dir, store) = store();
    let key = EntryKey::for_tests(5);
    let data = store.open_file(&key, 8192, || true).unwrap();
    data.write_all_at(&[[7; 8192]], 0).unwrap();
    // As the kernel keeps it for a mapping through a passthrough handle: without the cache's lock.
    let elsewhere = File::open(store.path_of(&key)).unwrap();
    assert!(data.exclusively().is_none());
    drop(elsewhere);
    data.exclusively().unwrap().punch(&(0..4096)).unwrap();
    assert_eq!(data.allocated(), 4096);
    let mut back = [1; 8192];
    data.read_exact_at(&mut back, 0).unwrap();
    assert!(back[..4096] == [0; 4096] && back[4096..] == [7; 4096]);
}

#[test]
fn open_waits_for_hole_punching() {
    let (_dir, store) = store();
    let key = EntryKey::for_tests(6);
    let data = store.open_file(&key, 4096, || true).unwrap();
    std::thread::scope(|scope| {
        let exclusive = data.exclusively().unwrap();
        let opening = scope.spawn(|| store.open_file(&key, 4096, || panic!("it is intact")).unwrap().found);
        assert!(
            store.open_recorded(&key, 4096).is_none(),
            "who can do without it does not wait"
        );
        drop(exclusive);
        assert_eq!(opening.join().unwrap(), Found::Intact);
    });
}

#[test]
fn of_two_threads_only_one_has_a_file_exclusively() {
    let (_dir, store) = store();
    let key = EntryKey::for_tests(8);
    let data = store.open_file(&key, 1 << 20, || true).unwrap();
    let first = data.exclusively().unwrap();
    // If a second one existed, its end would let other processes in beside the first.
    assert!(data.exclusively().is_none());
    assert!(store.open_recorded(&key, 1 << 20).is_none());
    let other = private_file().open(store.path_of(&key)).unwrap();
    assert!(!KernelLocks.try_exclusive(&other).unwrap(), "this thread has it");
    drop((first, other));
    assert!(data.exclusively().is_some());
}
