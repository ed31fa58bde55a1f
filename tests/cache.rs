//! Cached bytes are not fetched again.
//!
//! The logs of the servers are the evidence: nginx's own, and the origin's. A new mount forces cold reads, because
//! the kernel would answer a second read from its pages.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::files::{
    self, advise_random, assert_same, drop_pages, errno_of, on_disk, pread, sha256, sha256_of, try_pread,
};
use crate::common::servers::WebServer;
use crate::common::{Mount, PATIENCE, temporary_directory, wait_until};
use crate::crash::recorded;
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;
/// The default chunk size.
const CHUNK: u64 = 256 * 1024;

/// An origin with `/f`: noise of this size.
pub(crate) fn origin_with(size: u64) -> (Origin, Content) {
    let (origin, content) = (Origin::start(), Content::noise(size, 21));
    origin.add("/f", content.clone());
    (origin, content)
}

/// Asserts that the file has the origin's bytes.
#[track_caller]
pub(crate) fn assert_reads(path: &Path, content: &Content) {
    assert_eq!(sha256(path), sha256_of(content), "{}", path.display());
}

#[test]
fn second_mount_requests_no_data_from_nginx() {
    let root = temporary_directory();
    let files = [
        ("a", 0),
        ("b", 1),
        ("c", CHUNK),
        ("dir/d", 3 * CHUNK + 17),
        ("dir/e", 9 * MIB),
    ];
    let contents = files.map(|(name, size)| (name, Content::noise(size, size)));
    contents
        .iter()
        .for_each(|(name, content)| files::write_file(&root.path().join(name), content));
    let server = WebServer::nginx(root.path());
    let mut mount = Mount::start_of(&server.url("/"));
    let read_all = |mount: &Mount| {
        for (name, content) in &contents {
            assert_reads(&mount.path(name), content);
        }
    };
    read_all(&mount);
    for (name, content) in &contents {
        assert_eq!(
            server.data_bytes_for(&format!("/{name}")),
            content.size(),
            "{name} was fetched once, and no byte more: {:?}",
            server.requests()
        );
    }
    mount.remount();
    let before = server.requests().len();
    read_all(&mount);
    let later = &server.requests()[before..];
    let data: Vec<_> = later
        .iter()
        .filter(|line| line.method == "GET" && !line.path.ends_with('/') && line.bytes > 0)
        .collect();
    assert!(data.is_empty(), "fetched again: {data:?}");
}

#[test]
fn cached_data_is_not_fetched_by_later_mounts() {
    let (origin, content) = origin_with(4 * MIB);
    let mut mount = Mount::start_of(&origin.url("/"));
    let pieces = [2 * MIB..3 * MIB, 0..MIB, 3 * MIB..4 * MIB, MIB..2 * MIB];
    let mut asked_before = 0;
    for round in 0..pieces.len() {
        for piece in &pieces[..=round] {
            assert_same(
                &pread(&mount.path("f"), piece.clone()),
                &content.read(piece.clone()),
                &format!("{piece:?}"),
            );
        }
        // Prefetched bytes may be requested again after the end of a mount; bytes that were read may not.
        let asked = origin.log().since(asked_before).ranges("/f");
        let again = asked.iter().find(|asked| {
            pieces[..round]
                .iter()
                .any(|had| had.start < asked.end && asked.start < had.end)
        });
        assert_eq!(again, None, "round {round} asked for {asked:?}");
        mount.unmount();
        asked_before = origin.log().mark();
        mount.start();
    }
    assert_reads(&mount.path("f"), &content);
}

#[test]
fn read_in_the_middle_fetches_and_stores_little() {
    let (origin, content) = origin_with(1 << 30);
    let mount = Mount::start_of(&origin.url("/"));
    let place = 500 * MIB..500 * MIB + 64 * 1024;
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    assert_same(
        &try_pread(&file, place.clone()).expect("to read"),
        &content.read(place),
        "the middle",
    );
    let fetched = origin.log().all().body_bytes("/f");
    assert!(fetched <= 4 * CHUNK, "{fetched} bytes were fetched for 64 KiB");
    let stored = on_disk(&mount.cache());
    assert!(stored < 2 * MIB, "the cache takes {stored} bytes");
}

#[test]
fn two_readers_of_a_range_share_one_fetch() {
    // One chunk, so that no other range can be prefetched.
    let (origin, content) = origin_with(CHUNK);
    let gate = Gate::new();
    origin.on("/f").data().fault(Fault::Hold(gate.clone()));
    let mount = Mount::start_of(&origin.url("/"));
    std::thread::scope(|scope| {
        let read = || {
            // Past the kernel's pages, so that both reads reach the daemon.
            let file = files::open_direct(&mount.path("f"));
            files::read_direct(&file, 0, 64 * 1024).expect("to read")
        };
        let first = scope.spawn(read);
        gate.wait_for_arrivals(1);
        let (sender, receiver) = std::sync::mpsc::channel();
        let second = scope.spawn(move || {
            sender.send(nix::unistd::gettid()).expect("the test listens");
            read()
        });
        files::wait_until_blocked_in_pread(receiver.recv().expect("the second reader"));
        gate.open();
        for reader in [first, second] {
            assert_same(
                &reader.join().expect("a reader"),
                &content.read(0..64 * 1024),
                "what was read",
            );
        }
    });
    // Both reads wake before the rest of the chunk is sent.
    let log = origin
        .log()
        .wait_for("the answer to end", |requests| requests.all_ended());
    assert_eq!((log.data("/f").len(), log.body_bytes("/f")), (1, CHUNK));
}

#[test]
fn reader_wakes_when_its_own_bytes_arrive() {
    let (origin, content) = origin_with(CHUNK);
    let gate = Gate::new();
    origin.on("/f").data().fault(Fault::HoldAfter(100_000, gate.clone()));
    let mount = Mount::start_of(&origin.url("/"));
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    assert_same(
        &try_pread(&file, 0..4096).expect("to read"),
        &content.read(0..4096),
        "the first page",
    );
    assert!(
        !origin.log().all().all_ended(),
        "the rest of the chunk is still held back"
    );
    gate.open();
}

#[test]
fn cached_data_is_served_while_the_server_is_down() {
    let (origin, content) = origin_with(64 * MIB);
    let mount = Mount::of(&origin.url("/")).with("--retries", "0").start();
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    assert_same(
        &try_pread(&file, 0..CHUNK).expect("to read"),
        &content.read(0..CHUNK),
        "while it is up",
    );
    origin.go_down();
    drop_pages(&mount.path("f"));
    assert_same(
        &try_pread(&file, 0..CHUNK).expect("to read"),
        &content.read(0..CHUNK),
        "cached",
    );
    assert_eq!(errno_of(try_pread(&file, 60 * MIB..60 * MIB + 10)), libc::EIO);
    assert_eq!(fs::metadata(mount.path("f")).expect("to stat").len(), content.size());
    origin.come_back();
    let place = 60 * MIB..60 * MIB + 10;
    assert_same(
        &try_pread(&file, place.clone()).expect("to read"),
        &content.read(place),
        "when it is back",
    );
}

#[test]
fn warm_cache_is_served_after_the_server_goes_down() {
    let (origin, content) = origin_with(3 * MIB + 5);
    let mut mount = Mount::start_of(&origin.url("/"));
    assert_reads(&mount.path("f"), &content);
    mount.remount();
    fs::metadata(mount.path("f")).expect("to stat");
    origin.go_down();
    assert_reads(&mount.path("f"), &content);
}

#[test]
fn kill_9_keeps_recorded_chunks_and_trusts_no_others() {
    let (origin, first) = origin_with(5 * MIB);
    let second = Content::noise(32 * MIB, 25);
    origin.add("/slow", second.clone());
    origin.on("/slow").data().fault(Fault::Rate(MIB / 2));
    let mut mount = Mount::start_of(&origin.url("/"));
    assert_reads(&mount.path("f"), &first);
    // The crash comes during another download, when the first one is recorded.
    std::thread::scope(|scope| {
        let path = mount.path("slow");
        let reader = scope.spawn(move || File::open(path).and_then(|file| try_pread(&file, 0..32 * MIB)));
        origin
            .log()
            .wait_for("the middle of a download", |log| log.body_bytes("/slow") > MIB / 2);
        wait_until("the first file is recorded", || {
            recorded(&mount.cache(), "/f")
                .iter()
                .map(|chunk| chunk.end - chunk.start)
                .sum::<u64>()
                == 5 * MIB
        });
        mount.kill();
        let _ = reader.join().expect("the reader gets an answer");
    });
    let mark = origin.log().mark();
    mount.start();
    assert_reads(&mount.path("f"), &first);
    assert_eq!(
        origin.log().since(mark).body_bytes("/f"),
        0,
        "it was recorded before the crash"
    );
    origin.on("/slow").data().fault(Fault::Rate(1 << 40));
    assert_reads(&mount.path("slow"), &second);
}

#[test]
fn repeated_kills_never_cause_wrong_bytes() {
    let (origin, content) = origin_with(24 * MIB);
    let mut mount = Mount::start_of(&origin.url("/"));
    for round in 1..=4 {
        std::thread::scope(|scope| {
            let path = mount.path("f");
            let content = &content;
            let reader = scope.spawn(move || {
                let Ok(file) = File::open(path) else { return };
                let mut offset = 0;
                while let Ok(read) = try_pread(&file, offset..offset + 300_000)
                    && !read.is_empty()
                {
                    assert_same(
                        &read,
                        &content.read(offset..offset + 300_000),
                        &format!("round {round} at {offset}"),
                    );
                    offset += read.len() as u64;
                }
            });
            origin
                .log()
                .wait_for("a part of the file", |log| log.body_bytes("/f") > round * 5 * MIB);
            mount.kill();
            reader.join().expect("the reader");
        });
        mount.start();
    }
    assert_reads(&mount.path("f"), &content);
}

#[test]
fn small_and_partly_cached_files_survive_a_remount() {
    let origin = Origin::start();
    let contents: Vec<Content> = (0..200).map(|number| Content::noise(number * 37, number)).collect();
    for (number, content) in contents.iter().enumerate() {
        origin.add(&format!("/{number}"), content.clone());
    }
    let mut mount = Mount::start_of(&origin.url("/"));
    for round in 0..2 {
        for (number, content) in contents.iter().enumerate() {
            let mut bytes = vec![0; content.size() as usize];
            let file = File::open(mount.path(number.to_string())).expect("to open");
            file.read_exact_at(&mut bytes, 0)
                .unwrap_or_else(|error| panic!("{number}, round {round}: {error}"));
            assert_same(&bytes, &content.whole(), &format!("{number}, round {round}"));
        }
        mount.remount();
    }
    let total: u64 = contents.iter().map(Content::size).sum();
    let log = origin.log().all();
    let fetched: u64 = (0..contents.len())
        .map(|number| log.body_bytes(&format!("/{number}")))
        .sum();
    assert_eq!(fetched, total);
}

#[test]
fn silent_server_does_not_delay_cached_data() {
    let (origin, content) = origin_with(3 * MIB + 5);
    origin.add("/d/e/f/g", "deep");
    origin.add("/far", Content::noise(64 * MIB, 3));
    let mount = Mount::of(&origin.url("/"))
        .with("--attr-ttl", "0")
        .with("--timeout", "30s")
        .start();
    assert_reads(&mount.path("f"), &content);
    assert_eq!(fs::read(mount.path("d/e/f/g")).expect("to read"), b"deep");
    let gate = Gate::new();
    origin.on_any().fault(Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        for place in 0..8u64 {
            let mount = &mount;
            let read = move || files::pread(&mount.path("far"), place * 8 * MIB..place * 8 * MIB + 10);
            scope.spawn(read);
        }
        // Some of the readers wait for their bytes now, others for the listing.
        gate.wait_for_arrivals(1);
        let began = Instant::now();
        for _ in 0..3 {
            let names = fs::read_dir(mount.path("d/e/f")).expect("to list").count();
            assert_eq!(names, 1);
            let found = fs::metadata(mount.path("d/e/f/g")).expect("to stat");
            assert_eq!(found.len(), 4);
            drop_pages(&mount.path("f"));
            assert_reads(&mount.path("f"), &content);
            assert_eq!(fs::read(mount.path("d/e/f/g")).expect("to read"), b"deep");
            nix::sys::statvfs::statvfs(&mount.root()).expect("df");
        }
        // A single timeout would take longer.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        gate.open();
    });
    // Once the server responds again, its responses count again.
    origin.add("/new", "hello");
    let deadline = Instant::now() + PATIENCE;
    while fs::read(mount.path("new")).ok().as_deref() != Some(b"hello") {
        assert!(Instant::now() < deadline, "the new file should be seen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
