//! Records, and which operations wait for them.

use url::Url;

use super::*;
use crate::cache::chunk::ChunkSize;
use crate::cache::index::{CatalogUpdate, EntryRow, Order};
use crate::cache::key::{EntryKey, UrlKey};
use crate::http::{Validator, Version};

fn version(size: u64) -> Version {
    Version {
        size,
        validator: Validator::Strong("\"abc\"".into()),
    }
}

fn entry(url: &str, size: u64) -> (Url, Record, EntryKey) {
    let url = Url::parse(url).unwrap();
    let chunk = ChunkSize::new(4096).unwrap();
    let key = EntryKey::new(&url, &version(size), chunk);
    let record = Record::Entry {
        row: EntryRow {
            key: key.clone(),
            version: version(size),
            modified: None,
            chunk,
        },
        url_key: UrlKey::new(&url),
        url: url.to_string(),
        inode: 7,
        is_suspect: false,
        rank: 0,
    };
    (url, record, key)
}

fn chunks(index: &ChunkIndex, key: &EntryKey) -> Vec<u64> {
    index
        .recorded(key)
        .unwrap()
        .chunks
        .into_iter()
        .map(|(chunk, _)| chunk)
        .collect()
}

fn chunk(key: &EntryKey, index: u64) -> Record {
    Record::Chunk {
        key: key.clone(),
        index,
        checksum: index ^ u64::MAX,
    }
}

#[test]
fn what_was_recorded_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let (url, record, key) = entry("http://h/a", 10_000);
    {
        let index = ChunkIndex::open(dir.path()).unwrap();
        index.record(record);
        for i in [2, 0] {
            index.record(chunk(&key, i));
        }
    }
    let index = ChunkIndex::open(dir.path()).unwrap();
    assert_eq!(index.newest(&UrlKey::new(&url)).unwrap().key, key);
    assert_eq!(chunks(&index, &key), [0, 2]);
    assert_eq!(index.cached_bytes(), 2 * 4096);
}

#[test]
fn query_after_recording_finds_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let (_, record, key) = entry("http://h/a", 1 << 30);
    let index = ChunkIndex::open(dir.path()).unwrap();
    index.record(record);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                index.sync();
            }
        });
        let all_found = (0..2000).all(|i| {
            index.record(chunk(&key, i));
            index.sync();
            let sql = "SELECT max(chunk_index) FROM cache_chunks";
            let last = index
                .connections
                .read(|reader| reader.query_row(sql, [], |row| row.get::<_, i64>(0)));
            last == Ok(i as i64)
        });
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(all_found);
    });
}

#[test]
fn power_cut_chunks_are_unverified() {
    let dir = tempfile::tempdir().unwrap();
    let (_, record, key) = entry("http://h/a", 10_000);
    let open = |boot: &str| ChunkIndex::open_with(dir.path(), boot, |tables| tables).unwrap();
    {
        let index = open("boot 1");
        index.record(record);
        index.record(chunk(&key, 0));
        assert!(index.recorded(&key).unwrap().is_certain);
    }
    assert!(
        open("boot 1").recorded(&key).unwrap().is_certain,
        "killed, in the same boot"
    );
    {
        let index = open("boot 2");
        assert!(!index.recorded(&key).unwrap().is_certain);
        index.record(Record::Trust { key: key.clone() });
        assert!(index.recorded(&key).unwrap().is_certain);
        let session = index.session().unwrap();
        index.finish();
        index.record(chunk(&key, 1));
        index.set_clean(session);
    }
    let recorded = open("boot 3").recorded(&key).unwrap();
    assert!(recorded.is_certain, "ended in good order");
    assert_eq!(
        (recorded.chunks.len(), recorded.inode),
        (1, 7),
        "nothing is recorded after the end"
    );
}

#[test]
fn rerecorded_chunk_has_the_new_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let (_, record, key) = entry("http://h/a", 10_000);
    let index = ChunkIndex::open(dir.path()).unwrap();
    index.record(record);
    for checksum in [1, 2] {
        index.record(Record::Chunk {
            key: key.clone(),
            index: 0,
            checksum,
        });
    }
    index.record(chunk(&key, 1));
    index.record(Record::ForgetChunks {
        key: key.clone(),
        chunks: vec![1],
    });
    assert_eq!(index.recorded(&key).unwrap().chunks, [(0, 2)]);
    assert_eq!(index.cached_bytes(), 4096);
}

#[test]
fn the_index_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (_, record, _) = entry("http://h/a", 10_000);
    let index = ChunkIndex::open(dir.path()).unwrap();
    index.record(record);
    index.sync();
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 3, "the database, its log, and the log's index");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn an_entry_becomes_complete_by_itself_with_its_last_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let (_, record, key) = entry("http://h/a", 10_000);
    let index = ChunkIndex::open(dir.path()).unwrap();
    index.record(record);
    let complete = || -> bool {
        index.sync();
        let sql = "SELECT complete FROM cache_entries";
        let complete = index
            .connections
            .read(|reader| reader.query_row(sql, [], |row| row.get(0)));
        complete.unwrap()
    };
    for i in [0, 2, 2] {
        index.record(chunk(&key, i));
    }
    assert!(!complete());
    index.record(chunk(&key, 1));
    assert!(complete());
}

#[test]
fn a_chunk_of_a_forgotten_entry_is_not_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (url, record, key) = entry("http://h/a", 10_000);
    let index = ChunkIndex::open(dir.path()).unwrap();
    index.record(record.clone());
    index.record(chunk(&key, 0));
    index.record(Record::Forget { key: key.clone() });
    index.record(chunk(&key, 1));
    assert!(index.newest(&UrlKey::new(&url)).is_none() && chunks(&index, &key).is_empty());
    index.record(record);
    assert!(index.newest(&UrlKey::new(&url)).is_some() && chunks(&index, &key).is_empty());
}

/// Tables that another program keeps locked until the test drops its end of the channel.
struct Locked {
    tables: Tables,
    until: crossbeam_channel::Receiver<()>,
}

impl Commit for Locked {
    fn commit(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        // An error: the other end is gone.
        let _ = self.until.recv();
        self.tables.commit(batch)
    }
}

#[test]
fn open_never_waits_for_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (url, record, key) = entry("http://h/a", 10_000);
    let (other_url, other_record, other_key) = entry("http://h/b", 10_000);
    {
        let index = ChunkIndex::open(dir.path()).unwrap();
        index.record(record);
        index.record(other_record);
        [0, 1].into_iter().for_each(|number| index.record(chunk(&key, number)));
        index.record(chunk(&other_key, 2));
    }
    let (lock, until) = crossbeam_channel::bounded(0);
    let index = ChunkIndex::open_with(dir.path(), "boot", |tables| Locked { tables, until }).unwrap();
    index.record(Record::ForgetChunks {
        key: key.clone(),
        chunks: vec![1],
    });
    index.note(CatalogUpdate::Outdated {
        url_key: UrlKey::new(&url),
        version: version(10_000),
    });
    // Without the time-out, each of these would wait forever.
    for _ in 0..100 {
        assert!(index.newest(&UrlKey::new(&url)).is_none() && index.file(&UrlKey::new(&url)).is_none());
        assert_eq!(index.recorded_soon(&key), None);
        assert_eq!(index.newest(&UrlKey::new(&other_url)).unwrap().key, other_key);
        assert_eq!(index.recorded_soon(&other_key).unwrap().chunks.len(), 1);
        assert_eq!(index.candidates(Order::ColdestFirst, None, 10).len(), 2);
    }
    drop(lock);
    index.sync();
    assert_eq!(chunks(&index, &key), [0]);
    assert_eq!(index.recorded_soon(&key).unwrap().chunks.len(), 1);
    assert!(
        index.newest(&UrlKey::new(&url)).is_none(),
        "it is not the current version"
    );
}
