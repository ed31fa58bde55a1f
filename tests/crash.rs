//! Crashes of the process at any moment and of the machine, and damage to the files on disk.
//!
//! The process is really killed. A power cut is simulated: the data files lose what a kernel could have lost, and the
//! index is changed as if the machine had restarted since. `FETCHFS_CRASH_ROUNDS` sets the number of kills (10 by
//! default). `FETCHFS_CRASH_SEED` repeats the moments of an earlier run, which prints its seed.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fetchfs::internals::events;
use nix::fcntl::{FallocateFlags, fallocate};
use rusqlite::Connection;

use crate::common::files::{assert_same, drop_pages, on_disk, open_direct, read_direct, try_pread};
use crate::common::mount::fetchfs;
use crate::common::{Mount, PATIENCE, temporary_directory, wait_until};
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;
/// The default chunk size.
const CHUNK: u64 = 256 * 1024;

fn connect(cache: &Path) -> Connection {
    Connection::open(cache.join("index.db")).expect("the index")
}

/// Changes the index as if the machine had restarted since its last use.
fn machine_was_restarted(cache: &Path) {
    let changed = connect(cache).execute("UPDATE cache_state SET boot_id = 'an earlier one'", []);
    assert_eq!(changed, Ok(1));
}

/// The recorded chunks of the file at this path, as byte ranges.
pub fn recorded(cache: &Path, path: &str) -> Vec<Range<u64>> {
    let connection = connect(cache);
    let sql = "SELECT chunk_index * chunk_size, min((chunk_index + 1) * chunk_size, size)
               FROM cache_chunks JOIN cache_entries USING (entry_id) WHERE url LIKE '%' || ?1 ORDER BY 1";
    let mut query = connection.prepare(sql).expect("the tables");
    let rows = query.query_map([path], |row| {
        let (start, end): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(start as u64..end as u64)
    });
    rows.expect("to ask").map(|row| row.expect("a row")).collect()
}

/// All data files of a cache.
fn data_files(cache: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("to list").flatten();
        entries.map(|entry| entry.path()).collect()
    };
    list(&cache.join("data")).iter().flat_map(|shard| list(shard)).collect()
}

/// The data file of the file at this path.
fn data_file(cache: &Path, path: &str) -> PathBuf {
    let sql = "SELECT entry_key FROM cache_entries WHERE url LIKE '%' || ?1";
    let deadline = Instant::now() + PATIENCE;
    let key: String = loop {
        // It is recorded within a second of its open.
        match connect(cache).query_row(sql, [path], |row| row.get(0)) {
            Ok(key) => break key,
            Err(error) => assert!(Instant::now() < deadline, "no row of {path}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    cache.join("data").join(&key[..2]).join(&key[2..])
}

fn open_to_damage(path: &Path) -> File {
    File::options().read(true).write(true).open(path).expect("a data file")
}

/// Punches a hole: the range reads as zeros.
fn punch(file: &File, range: &Range<u64>) {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, range.start as i64, (range.end - range.start) as i64).expect("to punch a hole");
}

/// Reads all of the file past the kernel's pages. Fails the test at the first wrong byte.
#[track_caller]
fn assert_every_byte(path: &Path, content: &Content, what: &str) {
    let file = File::open(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop_pages(path);
    for start in (0..content.size()).step_by(MIB as usize) {
        let range = start..(start + MIB).min(content.size());
        let read = try_pread(&file, range.clone()).unwrap_or_else(|error| panic!("{what}: {range:?}: {error}"));
        assert_same(&read, &content.read(range.clone()), &format!("{what}, {range:?}"));
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text}: not a number")),
    )
}

/// Reads at random places until the mount dies. All bytes must be right. The kernel's pages stay readable after that,
/// so `is_over` ends the loop.
fn read_until_death(path: &Path, content: &Content, seed: u64, is_over: &AtomicBool) {
    let Ok(file) = File::open(path) else { return };
    let mut random = fastrand::Rng::with_seed(seed);
    let mut offset = 0;
    while !is_over.load(Ordering::Relaxed) {
        if random.u8(0..4) == 0 {
            offset = random.u64(0..content.size());
        }
        let range = offset..(offset + random.u64(1..500_000)).min(content.size());
        let Ok(read) = try_pread(&file, range.clone()) else {
            return;
        };
        assert_same(
            &read,
            &content.read(range.clone()),
            &format!("before the kill, {range:?}"),
        );
        offset = range.end % content.size();
    }
}

#[test]
fn random_kills_keep_recorded_chunks_and_correct_bytes() {
    const FILES: [(&str, u64); 4] = [("a", 3 * MIB), ("b", MIB + 123), ("c", 600_000), ("d", 6 * MIB)];
    let rounds = number_from("FETCHFS_CRASH_ROUNDS").unwrap_or(10);
    let seed = number_from("FETCHFS_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("FETCHFS_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let origin = Origin::start();
    let contents = FILES.map(|(name, size)| (name, Content::noise(size, size)));
    for round in 0..rounds {
        for (name, content) in &contents {
            origin.add(&format!("/{name}"), content.clone());
        }
        // Every other round has a small cache, so that kills also meet eviction.
        let is_small = round % 2 == 1;
        let mut plan = Mount::of(&origin.url("/"));
        if is_small {
            plan = plan.with("--cache-size", "6MiB").with("--min-free", "0");
            plan = plan.with("--max-connections", "4");
        }
        let mut mount = plan.start();
        let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
        let last = Duration::from_millis(random.u64(1..400));
        std::thread::scope(|scope| {
            for reader in 0..6 {
                let (name, content) = &contents[reader % contents.len()];
                let (path, seed) = (mount.path(name), random.u64(..));
                let is_over = &is_over;
                scope.spawn(move || read_until_death(&path, content, seed, is_over));
            }
            // The moment is random; nothing is waited for.
            std::thread::sleep(last.saturating_sub(begun.elapsed()));
            mount.kill();
            is_over.store(true, Ordering::Relaxed);
        });
        let known = contents
            .each_ref()
            .map(|(name, _)| recorded(&mount.cache(), &format!("/{name}")));
        let mark = origin.log().mark();
        mount.start();
        for (name, content) in &contents {
            assert_every_byte(
                &mount.path(name),
                content,
                &format!("seed {seed}, round {round}, {name}"),
            );
        }
        if is_small {
            // New chunks may have evicted recorded ones meanwhile.
            let taken = on_disk(&mount.cache());
            assert!(
                taken <= 6 * MIB,
                "seed {seed}, round {round}: the cache takes {taken} bytes"
            );
            continue;
        }
        let log = origin.log().since(mark);
        for ((name, _), known) in contents.iter().zip(known) {
            let asked = log.ranges(&format!("/{name}"));
            let again = known.iter().find(|chunk| {
                asked
                    .iter()
                    .any(|asked| asked.start < chunk.end && chunk.start < asked.end)
            });
            assert_eq!(
                again, None,
                "seed {seed}, round {round}: {name} was recorded and asked for again"
            );
        }
    }
}

#[test]
fn chunk_is_recorded_while_its_download_goes_on() {
    let origin = Origin::start();
    origin.add("/f", Content::noise(64 * MIB, 3));
    // The response stops behind its first chunk, so its end can't be what records the chunk.
    let gate = Gate::new();
    let held = Fault::HoldAfter(CHUNK + 1000, gate.clone());
    origin.on("/f").data().fault(held);
    let mount = Mount::start_of(&origin.url("/"));
    // One request of the kernel, so one response of several chunks.
    let file = open_direct(&mount.path("f"));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_direct(&file, 0, MIB as usize));
        wait_until("the chunk is recorded", || {
            recorded(&mount.cache(), "/f").contains(&(0..CHUNK))
        });
        assert!(!reader.is_finished());
        let asked = origin.log().all().ranges("/f");
        assert!(asked.contains(&(0..MIB)), "one response: {asked:?}");
        gate.open();
        let read = reader.join().expect("a reader");
        assert_eq!(read.expect("to read").len() as u64, MIB);
    });
}

/// A cache of one file that was read completely, after the mount's end by `end`.
fn read_and_gone(size: u64, end: impl FnOnce(&mut Mount)) -> (Origin, Content, Mount) {
    let (origin, content) = (Origin::start(), Content::noise(size, size));
    origin.add("/f", content.clone());
    let mut mount = Mount::start_of(&origin.url("/"));
    assert_every_byte(&mount.path("f"), &content, "the first time");
    // The crash must come after that.
    wait_until("the last chunk is recorded", || {
        recorded(&mount.cache(), "/f").len() as u64 == size.div_ceil(CHUNK)
    });
    end(&mut mount);
    (origin, content, mount)
}

/// Number of different bytes of `/f` that were sent since the mark.
fn sent_since(origin: &Origin, mark: usize) -> u64 {
    origin.log().since(mark).distinct_bytes("/f")
}

#[test]
fn power_cut_serves_no_wrong_byte_and_refetches_only_losses() {
    const SIZE: u64 = 12 * MIB + 1000;
    let chunk = |index: u64| index * CHUNK..((index + 1) * CHUNK).min(SIZE);
    type Damage = fn(&File, &Content);
    let damages: [(&str, Damage, u64); 4] = [
        ("nothing was lost", |_, _| {}, 0),
        (
            "blocks that never reached the disk",
            |file, _| {
                [0, 5, 6, 47]
                    .into_iter()
                    .for_each(|index| punch(file, &(index * CHUNK..(index + 1) * CHUNK)))
            },
            4 * CHUNK,
        ),
        (
            "a part of a chunk, and the file's last bytes",
            |file, _| {
                punch(file, &(3 * CHUNK + 8192..3 * CHUNK + 12288));
                file.write_all_at(&[0; 10], SIZE - 10).expect("to write");
            },
            CHUNK + 1000,
        ),
        (
            "older content",
            |file, _| {
                let older = Content::noise(SIZE, 99);
                for index in [1, 30] {
                    let bytes = older.read(index * CHUNK..(index + 1) * CHUNK);
                    file.write_all_at(&bytes, index * CHUNK).expect("to write");
                }
            },
            2 * CHUNK,
        ),
    ];
    assert_eq!(chunk(48), 12 * MIB..SIZE);
    for (what, damage, lost) in damages {
        let (origin, content, mut mount) = read_and_gone(SIZE, Mount::kill);
        damage(&open_to_damage(&data_file(&mount.cache(), "/f")), &content);
        machine_was_restarted(&mount.cache());
        let mark = origin.log().mark();
        mount.start();
        assert_every_byte(&mount.path("f"), &content, what);
        assert_eq!(sent_since(&origin, mark), lost, "{what}");
        // Verified and newly fetched chunks are trusted from then on.
        mount.remount();
        let mark = origin.log().mark();
        assert_every_byte(&mount.path("f"), &content, what);
        assert_eq!(sent_since(&origin, mark), 0, "{what}, the next time");
    }
}

#[test]
fn power_cut_cleanup_keeps_recorded_files() {
    const SIZE: u64 = 12 * MIB;
    const KEPT: u64 = 20;
    let (origin, content, mut mount) = read_and_gone(SIZE, Mount::kill);
    let data = data_file(&mount.cache(), "/f");
    // The last transactions never reached the disk, but their bytes did.
    let sql = "DELETE FROM cache_chunks WHERE chunk_index >= ?1";
    let lost = connect(&mount.cache()).execute(sql, [KEPT as i64]).expect("to delete");
    assert_eq!(lost as u64, SIZE / CHUNK - KEPT);
    machine_was_restarted(&mount.cache());
    let mark = origin.log().mark();
    mount.start();
    // Unrecorded bytes are freed automatically.
    let allocated = || fs::metadata(&data).expect("its data file").blocks() * 512;
    let deadline = Instant::now() + PATIENCE;
    while allocated() > KEPT * CHUNK + (64 << 10) {
        assert!(Instant::now() < deadline, "{} bytes", allocated());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_every_byte(&mount.path("f"), &content, "after the clearing up");
    assert_eq!(sent_since(&origin, mark), SIZE - KEPT * CHUNK);
}

#[test]
fn power_cut_intact_chunks_are_served_offline() {
    let (origin, content, mut mount) = read_and_gone(3 * MIB, Mount::kill);
    machine_was_restarted(&mount.cache());
    mount.start();
    fs::metadata(mount.path("f")).expect("to stat");
    origin.go_down();
    assert_every_byte(&mount.path("f"), &content, "offline");
}

#[test]
fn clean_unmount_and_reboot_need_no_verification() {
    let (_origin, content, mut mount) = read_and_gone(3 * MIB, Mount::unmount);
    let cache = mount.cache();
    let state = |sql: &str| -> rusqlite::Result<bool> { connect(&cache).query_row(sql, [], |row| row.get(0)) };
    // On a machine with many dirty pages the final sync is skipped and logged.
    let is_clean = mount.events(events::CACHE_NOT_FLUSHED) == 0;
    assert_eq!(state("SELECT clean FROM cache_state"), Ok(is_clean));
    machine_was_restarted(&cache);
    mount.start();
    let certain = "SELECT cache_entries.epoch = cache_state.epoch FROM cache_entries, cache_state";
    assert_eq!(state(certain), Ok(is_clean));
    assert_every_byte(&mount.path("f"), &content, "after the reboot");
}

#[test]
fn damaged_data_file_is_detected_at_the_next_mount() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage, u64); 5] = [
        ("missing", |path| fs::remove_file(path).expect("to delete"), 3 * MIB),
        (
            "cut",
            |path| open_to_damage(path).set_len(MIB).expect("to cut"),
            3 * MIB,
        ),
        (
            "emptied",
            |path| open_to_damage(path).set_len(0).expect("to cut"),
            3 * MIB,
        ),
        (
            "replaced by zeros of the same size",
            |path| {
                fs::remove_file(path).expect("to delete");
                File::create(path)
                    .and_then(|file| file.set_len(3 * MIB))
                    .expect("another file");
            },
            3 * MIB,
        ),
        (
            "replaced by a file that is wrong in one chunk",
            |path| {
                let mut bytes = fs::read(path).expect("to read");
                bytes[CHUNK as usize] ^= 1;
                fs::write(path.with_extension("new"), bytes).expect("to write");
                fs::rename(path.with_extension("new"), path).expect("to replace");
            },
            CHUNK,
        ),
    ];
    for (what, damage, lost) in damages {
        let (origin, content, mut mount) = read_and_gone(3 * MIB, Mount::unmount);
        damage(&data_file(&mount.cache(), "/f"));
        let mark = origin.log().mark();
        mount.start();
        assert_every_byte(&mount.path("f"), &content, what);
        assert_eq!(sent_since(&origin, mark), lost, "{what}");
    }
}

#[test]
fn truncated_data_file_in_use_never_reads_as_zeros() {
    let (origin, content) = (Origin::start(), Content::noise(8 * MIB, 8));
    origin.add("/f", content.clone());
    // As root, the kernel would read a complete file directly.
    let mount = Mount::of(&origin.url("/")).with("--no-passthrough", "").start();
    assert_every_byte(&mount.path("f"), &content, "before");
    let file = open_direct(&mount.path("f"));
    open_to_damage(&data_file(&mount.cache(), "/f"))
        .set_len(MIB)
        .expect("to cut");
    let read = read_direct(&file, 4 * MIB, CHUNK as usize).expect("to read");
    assert_same(
        &read,
        &content.read(4 * MIB..4 * MIB + CHUNK),
        "the same handle, after the cut",
    );
    assert_every_byte(&mount.path("f"), &content, "after the cut");
}

#[test]
fn invalid_index_is_moved_aside_and_orphans_are_deleted() {
    let other_program = |path: &Path| {
        let connection = Connection::open(path).expect("a database");
        connection
            .execute_batch("CREATE TABLE bookmarks (url TEXT)")
            .expect("a table");
    };
    let garbage = |path: &Path| fs::write(path, vec![7; 100_000]).expect("to write");
    let torn = |path: &Path| {
        // Its log would still restore the rows.
        let cache = path.parent().expect("the cache");
        recorded(cache, "/f");
        assert!(
            !path.with_extension("db-wal").exists(),
            "the last one to close it has cleared it"
        );
        let file = open_to_damage(path);
        let len = file.metadata().expect("its length").len();
        file.write_all_at(&vec![7; len as usize - 4096], 4096)
            .expect("to write");
    };
    type Make<'a> = &'a dyn Fn(&Path);
    let makers: [(&str, Make<'_>, bool); 3] = [
        ("another program's", &other_program, true),
        ("garbage", &garbage, true),
        ("torn", &torn, false),
    ];
    for (what, make, is_new) in makers {
        let (origin, content, mut mount) = read_and_gone(3 * MIB, Mount::unmount);
        let index = mount.cache().join("index.db");
        if is_new {
            fs::remove_file(&index).expect("to delete");
        }
        make(&index);
        let before = fs::read(&index).expect("to read");
        let orphan = mount.cache().join("data/ff/00000000000000000000000000000f");
        fs::create_dir_all(orphan.parent().expect("its shard")).expect("a shard");
        fs::write(&orphan, "of what, nobody knows").expect("to write");
        let mark = origin.log().mark();
        mount.start();
        assert_every_byte(&mount.path("f"), &content, what);
        let (begin, again) = (sent_since(&origin, 0), sent_since(&origin, mark));
        assert_eq!((begin, again), (3 * MIB, 3 * MIB), "{what}: fetched anew");
        let aside = fs::read(mount.cache().join("index.db.damaged")).expect("it was moved aside");
        assert!(!is_new || aside == before, "{what}: it was moved as it was");
        assert!(!orphan.exists() && data_files(&mount.cache()).len() == 1, "{what}");
        let said = mount.events_with(events::INDEX_DAMAGED, "index.db.damaged");
        assert_eq!(said, 1, "{what}");
    }
}

#[test]
fn newer_index_is_rejected_and_unchanged() {
    let (origin, _, mount) = read_and_gone(MIB, Mount::unmount);
    let index = mount.cache().join("index.db");
    connect(&mount.cache())
        .pragma_update(None, "user_version", 1000)
        .expect("to write");
    let before = fs::read(&index).expect("to read");
    let place = temporary_directory();
    let output = fetchfs()
        .args(["mount", "--cache-dir"])
        .arg(mount.cache())
        .arg(origin.url("/"))
        .arg(place.path())
        .output()
        .expect("to run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("newer fetchfs") && said.contains("1000"), "{said}");
    assert!(fs::read(&index).expect("to read") == before, "it was left untouched");
    assert_eq!(data_files(&mount.cache()).len(), 1, "and so was the data");
}
