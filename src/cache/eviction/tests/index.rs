//! The index counts towards the size: names and thousands of small files stay within it, too.

use std::collections::HashSet;

use super::*;
use crate::cache::catalog::{Catalog, StoredListing};
use crate::cache::entry::cache_dir::CacheDir;
use crate::cache::eviction::victims::coldest;

const SIZE: u64 = 8 * MIB;

/// Maximum bytes of the directory while `work` was done under the gate.
fn most_during(folder: &Path, work: impl FnOnce(&RwLock<()>)) -> u64 {
    let (gate, is_over) = (RwLock::new(()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(folder, &gate, &is_over));
        let over = Over(&is_over);
        work(&gate);
        drop(over);
        watching.join().unwrap()
    })
}

#[test]
fn listings_evict_only_other_listings() {
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), SIZE);
    let _evictor = Evictor::start(Arc::clone(&versions), || {}).unwrap();
    let file = open(&versions, 1, 2 * MIB / C);
    (0..2 * MIB / C).for_each(|chunk| write(&versions, &file, chunk).unwrap());
    let catalog = Catalog::new(CacheDir::new(Arc::clone(&versions)));
    let directory = |number: u64| Url::parse(&format!("http://h/{number}/")).unwrap();
    let listing = |number: u64| StoredListing {
        names: vec![number as u8; 20_000],
        modified: None,
    };
    let most = most_during(dir.path(), |gate| {
        for number in 0..600 {
            let _open = gate.read();
            catalog.keep_listing(&directory(number), listing(number));
            if number % 4 == 0 {
                // As a walk waits for its answers.
                versions.index.sync();
            }
        }
    });
    assert!(most <= SIZE, "{most} bytes");
    versions.index.sync();
    // For a moment there may have been no space for it; there is when it is listed again.
    let begun = Instant::now();
    while catalog.listing(&directory(599)) != Some(listing(599)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is never kept");
        catalog.keep_listing(&directory(599), listing(599));
        versions.index.sync();
        std::thread::sleep(Duration::from_millis(20));
    }
    let kept = (0..600)
        .filter(|&number| catalog.listing(&directory(number)).is_some())
        .count();
    assert!((2..30).contains(&kept), "{kept} are kept");
    assert!(file.presence.is_complete());
    // A listing that is too large removes the earlier one, which is outdated.
    let large = vec![1; MIB as usize];
    catalog.keep_listing(
        &directory(599),
        StoredListing {
            names: large,
            modified: None,
        },
    );
    versions.index.sync();
    assert_eq!(catalog.listing(&directory(599)), None);
}

/// On a busy machine, freeing space may take longer than a writer waits for it; here it must
/// succeed in the end.
fn room_in_the_end(versions: &VersionStore, bytes: u64) -> Reservation {
    let begun = Instant::now();
    loop {
        match versions.quota.reserve(bytes) {
            Ok(room) => return room,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
        }
    }
}

#[test]
fn thousands_of_small_files_keep_to_the_size() {
    const SMALL: u64 = 4096;
    // The smallest size with anything left beside what is held back.
    const SIZE: u64 = 5 * MIB;
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), SIZE);
    let _evictor = Evictor::start(Arc::clone(&versions), || {}).unwrap();
    let most = most_during(dir.path(), |gate| {
        for number in 0..1500 {
            let version = Version {
                size: SMALL,
                validator: Validator::None,
            };
            let room = room_in_the_end(&versions, SMALL);
            let _open = gate.read();
            let chunk = ChunkSize::new(C).unwrap();
            let settled = versions.open(&content(number), chunk, &version, None).unwrap();
            let cached_file = &settled.cached_file;
            let _filling = cached_file.fill(0..1, &versions.quota);
            cached_file
                .write(room, |data| data.write_all_at(&[[1; SMALL as usize]], 0))
                .unwrap();
            cached_file.recency.came(0, &versions.quota.moment(0));
            cached_file.presence.insert(0);
            let key = cached_file.key.clone();
            versions.index.record(Record::Chunk {
                key,
                index: 0,
                checksum: 0,
            });
            versions.note_use(cached_file);
        }
    });
    assert!(most <= SIZE, "{most} bytes");
    // It is used at all. The watcher sees few moments on a busy machine, and seldom the fullest one.
    assert!(most > SIZE / 4, "{most} bytes");
}

#[test]
fn eviction_batches_fit_the_wal() {
    let dir = tempfile::tempdir().unwrap();
    let versions = versions(dir.path(), SIZE);
    let other = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    let sql = "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 600)
               INSERT INTO cache_entries (entry_key, url_key, url, size, validator, chunk_size, chunk_count, confirmed, last_used)
               SELECT printf('%032x', number), number, number, 4096, 'none', 4096, 1, 0, 0 FROM numbers";
    assert_eq!(other.execute(sql, []), Ok(600));
    assert!(
        coldest(&versions, MIB, &HashSet::new()).is_empty(),
        "none of them has a file"
    );
    versions.index.sync();
    let left = other.query_row("SELECT count(*) FROM cache_entries", [], |row| row.get::<_, i64>(0));
    assert_eq!(left, Ok(600 - 256));
}
