//! The whole cache, against a server whose behaviour each test sets.

mod damage;
mod leaving;
mod server;
mod tiers;
mod versions;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use url::Url;

use super::index::ChunkIndex;
use super::lifecycle::folder::Folder;
use super::storage::chunk_store::ChunkStore;
use super::*;
use crate::http::{HttpConfig, Origin, Validator, Version};
use crate::origin::{ChunkTier, Client, Content, ListedSize};
use server::Conduct::*;
use server::Server;

/// The size of the chunks of these tests, in bytes.
const C: u64 = 4096;

/// A cache over a directory, and its runtime.
struct Mount {
    cache: Arc<Cache>,
    runtime: Runtime,
    /// How often a file turned out to be longer than listed.
    resized: Arc<AtomicUsize>,
}

impl Mount {
    fn over(folder: &Path) -> Mount {
        Mount::of(folder, Folder::open(folder).unwrap())
    }

    fn of(path: &Path, folder: Folder) -> Mount {
        Mount::with_tiers(path, folder, Vec::new())
    }

    fn with_tiers(path: &Path, folder: Folder, tiers: Vec<Arc<dyn ChunkTier>>) -> Mount {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = CacheConfig {
            chunk_size: ChunkSize::new(C).unwrap(),
            tiers,
            ..CacheConfig::in_folder(path)
        };
        let client = Client::new(HttpConfig::default()).unwrap();
        let cache = Cache::over(folder, config, client, runtime.handle()).unwrap();
        Mount {
            cache,
            runtime,
            resized: Arc::default(),
        }
    }

    /// Opens the server's file as a listing gives it.
    fn listed(&self, server: &Server, size: u64) -> Arc<Reader> {
        self.listed_at(&server.url, size)
    }

    fn listed_at(&self, url: &Url, size: u64) -> Arc<Reader> {
        let resized = Arc::clone(&self.resized);
        let on_resize = Box::new(move || {
            resized.fetch_add(1, Ordering::Relaxed);
        });
        let origin = Origin::of(url).unwrap();
        let content = Content::at(url.clone(), ListedSize::Exact(size));
        self.cache.reader(self.cache.unsettled(content, origin, on_resize))
    }

    /// Opens the version that the cache holds.
    fn held(&self, server: &Server) -> Arc<Reader> {
        let held = self.cache.newest(&server.url).expect("the cache holds a version");
        let origin = Origin::of(&server.url).unwrap();
        let entry = self.cache.entry(server.content(), origin, &held);
        self.cache.reader(entry.unwrap())
    }

    /// Ends the mount as an unmount does.
    fn end(self) {
        self.cache.close();
        drop(self.cache);
        self.runtime.shutdown_timeout(Duration::from_secs(20));
    }
}

fn read(reader: &Arc<Reader>, offset: u64, len: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0; len as usize];
    let read = reader.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn content(size: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(size);
    (0..size).map(|_| random.u8(..)).collect()
}

/// The expected bytes of a read at `offset`.
fn part(content: &[u8], offset: u64, len: u64) -> Vec<u8> {
    let clip = |at: u64| at.min(content.len() as u64) as usize;
    content[clip(offset)..clip(offset + len)].to_vec()
}

#[test]
fn readers_at_random_places_get_the_file_s_bytes() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(3 * (1 << 20) + 123));
    let server = Server::start(file.clone(), |_, _| Honest);
    let mount = Mount::over(dir.path());
    thread::scope(|scope| {
        for seed in 0..8 {
            let (mount, server, file) = (&mount, &server, &file);
            scope.spawn(move || {
                let reader = mount.listed(server, file.len() as u64);
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..40 {
                    let (offset, len) = (random.u64(0..file.len() as u64 + 5000), random.u64(0..100_000));
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
fn a_sequential_reader_needs_no_byte_twice() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(8 << 20));
    let server = Server::start(file.clone(), |_, _| Honest);
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, file.len() as u64);
    for offset in (0..file.len() as u64).step_by(128 << 10) {
        assert_eq!(
            read(&reader, offset, 128 << 10).unwrap(),
            part(&file, offset, 128 << 10)
        );
    }
    let asked = server.asked();
    let bytes: u64 = asked.iter().map(|range| range.end - range.start).sum();
    assert_eq!(bytes, 8 << 20, "{asked:?}");
    drop(reader);
    mount.end();
}

#[test]
fn isolated_reads_one_after_the_other_share_connections() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(64 << 20));
    let server = Server::start(file.clone(), |_, _| Honest);
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, file.len() as u64);
    for read_number in 0..30 {
        read(&reader, (read_number * 7 % 30) << 21, C).unwrap();
    }
    assert_eq!(server.asked().len(), 30);
    // A reader is woken when its bytes are written; on a busy machine its next request may be sent
    // before the connection is back in the pool.
    let connections = server.connections.load(Ordering::SeqCst);
    assert!(connections <= 15, "{connections}");
    drop(reader);
    mount.end();
}

#[test]
fn a_connection_that_breaks_is_resumed_at_the_byte_reached() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(100_000));
    let server = Server::start(
        file.clone(),
        |before, _| if before == 0 { CutAfter(10_001) } else { Honest },
    );
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 100_000);
    assert_eq!(read(&reader, 0, 100_000).unwrap(), file);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].start, 10_001);
    drop(reader);
    mount.end();
}

#[test]
fn file_without_ranges_is_downloaded_once() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(2 << 20));
    let server = Server::start(file.clone(), |_, _| Whole(usize::MAX));
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 2 << 20);
    for offset in [3 << 19, 0, 1 << 20] {
        assert_eq!(read(&reader, offset, 5000).unwrap(), part(&file, offset, 5000));
    }
    assert_eq!(server.asked().len(), 1);
    drop(reader);
    mount.end();
}

#[test]
fn broken_download_without_ranges_restarts() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(2 << 20));
    let server = Server::start(file.clone(), |before, _| {
        Whole(if before == 0 { 1 << 20 } else { usize::MAX })
    });
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 2 << 20);
    assert_eq!(
        read(&reader, (2 << 20) - 10, 10).unwrap(),
        part(&file, (2 << 20) - 10, 10)
    );
    assert_eq!(server.asked().len(), 2);
    drop(reader);
    mount.end();
}

#[test]
fn what_was_read_is_there_after_a_restart_without_asking() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(300_000));
    let server = Server::start(file.clone(), |_, _| Honest);
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 300_000);
    read(&reader, 0, 300_000).unwrap();
    drop(reader);
    mount.end();
    let mount = Mount::over(dir.path());
    let reader = mount.held(&server);
    let before = server.asked().len();
    assert_eq!(read(&reader, 0, 300_000).unwrap(), file);
    assert_eq!(server.asked().len(), before);
    assert!(mount.cache.cached_bytes() == 300_000);
    drop(reader);
    mount.end();
}

#[test]
fn a_file_that_another_cache_is_filling_is_filled_together() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(3_000_000));
    let server = Server::start(file.clone(), |_, _| Honest);
    let (one, other) = (Mount::over(dir.path()), Mount::over(dir.path()));
    let first = one.listed(&server, 3_000_000);
    read(&first, 0, 3_000_000).unwrap();
    let second = other.listed(&server, 3_000_000);
    // What the first mount has recorded before the second opens or reads the file is not fetched
    // again.
    one.cache.cached_bytes();
    read(&second, 0, 1).unwrap();
    let asked = server.asked().len();
    assert_eq!(read(&second, 0, 3_000_000).unwrap(), file);
    assert_eq!(server.asked().len(), asked);
    assert!(read(&first, 100_000, 50_000).unwrap() == part(&file, 100_000, 50_000));
    drop((first, second));
    one.end();
    other.end();
}

#[test]
fn chunks_of_another_cache_are_not_refetched() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(64 * 1024 * 1024));
    let server = Server::start(file.clone(), |_, _| Honest);
    let (one, other) = (Mount::over(dir.path()), Mount::over(dir.path()));
    let (first, second) = (one.listed(&server, 64 << 20), other.listed(&server, 64 << 20));
    for reader in [&first, &second] {
        read(reader, 0, 1).unwrap();
    }
    for place in 1..8 {
        let (place, ours, theirs) = if place % 2 == 0 {
            (place << 22, &first, &second)
        } else {
            (place << 22, &second, &first)
        };
        read(ours, place, 10_000).unwrap();
        // Waits until it is recorded.
        one.cache.cached_bytes();
        other.cache.cached_bytes();
        let asked = server.asked().len();
        assert_eq!(read(theirs, place, 10_000).unwrap(), part(&file, place, 10_000));
        assert_eq!(server.asked().len(), asked, "at {place}");
    }
    drop((first, second));
    one.end();
    other.end();
}

#[test]
fn a_complete_file_is_shared_by_caches_over_the_same_folder() {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(300_000));
    let server = Server::start(file.clone(), |_, _| Honest);
    let (one, other) = (Mount::over(dir.path()), Mount::over(dir.path()));
    let first = one.listed(&server, 300_000);
    read(&first, 0, 300_000).unwrap();
    assert_eq!(
        one.cache.cached_bytes(),
        300_000,
        "this also waits until it is recorded"
    );
    let asked = server.asked().len();
    let second = other.held(&server);
    assert_eq!(read(&second, 0, 300_000).unwrap(), file);
    assert_eq!(read(&first, 0, 300_000).unwrap(), file);
    assert_eq!(server.asked().len(), asked, "nothing was fetched again");
    drop((first, second));
    one.end();
    other.end();
}

#[test]
fn a_damaged_index_is_set_aside_with_all_that_it_knew() {
    for garbage in [vec![7; 10_000], b"SQLite format 3\0 and then something else".to_vec()] {
        let (dir, file) = (tempfile::tempdir().unwrap(), content(300_000));
        let server = Server::start(file.clone(), |_, _| Honest);
        let shard = dir.path().join("data/ab");
        std::fs::create_dir_all(&shard).unwrap();
        std::fs::write(shard.join("cdef12".repeat(5)), "of what, nobody knows any more").unwrap();
        std::fs::write(dir.path().join("index.db"), &garbage).unwrap();
        let mount = Mount::over(dir.path());
        assert!(mount.cache.newest(&server.url).is_none());
        assert_eq!(std::fs::read(dir.path().join("index.db.damaged")).unwrap(), garbage);
        assert_eq!(std::fs::read_dir(&shard).unwrap().count(), 0);
        assert_eq!(read(&mount.listed(&server, 300_000), 0, 300_000).unwrap(), file);
        mount.end();
    }
}

#[test]
fn closing_wakes_a_reader_of_a_server_that_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (asked, is_asked) = crossbeam_channel::bounded(1);
    let server = Server::start(content(C), move |_, _| {
        asked.send(()).unwrap();
        loop {
            thread::park();
        }
    });
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, C);
    thread::scope(|scope| {
        let reading = scope.spawn(|| read(&reader, 0, C));
        is_asked.recv().unwrap();
        mount.cache.close();
        assert!(matches!(reading.join().unwrap(), Err(ReadError::ShuttingDown)));
    });
    drop(reader);
    mount.end();
}

#[test]
fn what_was_fetched_ahead_of_readers_is_noted_as_new() {
    const SEGMENT: u64 = quota::SEGMENT * C;
    let (dir, file) = (tempfile::tempdir().unwrap(), content(16 * SEGMENT));
    let server = Server::start(file, |_, _| Honest);
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 16 * SEGMENT);
    read(&reader, 0, 1).unwrap();
    let key = reader.entry().settled().unwrap().cached_file.key.clone();
    drop(reader);
    let reader = mount.held(&server);
    let entry = Arc::clone(reader.entry());
    let bringing = mount.cache.bringing(&entry);
    mount
        .cache
        .manager()
        .wait_for_range(&entry, 9 * SEGMENT..10 * SEGMENT)
        .unwrap();
    mount.cache.sync_index();
    let noted = |segment| {
        mount.cache.sync_index();
        let row = mount.cache.versions().index.candidate(&key).unwrap();
        let noted = quota::Recency::new(16 * quota::SEGMENT, &row.segments, quota::policy::Use::default());
        noted.of(segment)
    };
    assert_eq!(noted(9), quota::policy::Use::default(), "nobody has said anything yet");
    drop(bringing);
    assert!(noted(9).seconds > 0 && noted(0).seconds > 0);
    drop((reader, entry));
    mount.end();
}
