//! Scheduling: which reader is served first, over how many connections, and how fast.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::Mount;
use crate::common::files::{advise_random, assert_same, sha256, sha256_of, try_pread};
use crate::origin::{Content, End, Fault, Gate, Origin};

const KIB: u64 = 1024;
const MIB: u64 = 1 << 20;

#[test]
fn blocked_read_overtakes_background_fetches() {
    const STREAMS: u64 = 6;
    let origin = Origin::start();
    let stream = |number: u64| Content::noise(64 * MIB, number);
    let gate = Gate::new();
    for number in 0..STREAMS {
        let path = format!("/stream{number}");
        origin.add(&path, stream(number));
        // Read-ahead of the readers below is never answered, so the queue does not move by itself.
        origin
            .on(&path)
            .data()
            .starting_at(2 * MIB)
            .fault(Fault::Hold(gate.clone()));
    }
    let urgent = Content::noise(32 * MIB, 99);
    origin.add("/urgent", urgent.clone());
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "3").start();
    let mut files = Vec::new();
    for number in 0..STREAMS {
        let file = File::open(mount.path(format!("stream{number}"))).expect("to open");
        // The daemon can't tell the kernel's read-ahead from a waiting reader.
        advise_random(&file);
        for offset in (0..2 * MIB).step_by(64 * KIB as usize) {
            let range = offset..offset + 64 * KIB;
            let read = try_pread(&file, range.clone()).expect("to read");
            assert_same(
                &read,
                &stream(number).read(range.clone()),
                &format!("stream {number}, {range:?}"),
            );
        }
        files.push(file);
    }
    gate.wait_for_arrivals(1);
    let file = File::open(mount.path("urgent")).expect("to open");
    advise_random(&file);
    for place in [20 * MIB..20 * MIB + 64 * KIB, 0..64 * KIB, 31 * MIB..31 * MIB + 10] {
        assert_same(
            &try_pread(&file, place.clone()).expect("to read"),
            &urgent.read(place),
            "while the queue stands still",
        );
    }
    gate.open();
    for (number, file) in (0..STREAMS).zip(&files) {
        let range = 2 * MIB..4 * MIB;
        let read = try_pread(file, range.clone()).expect("to read");
        assert_same(&read, &stream(number).read(range), &format!("stream {number}, later"));
    }
}

#[test]
fn read_overtakes_read_ahead_of_its_file() {
    let (origin, content) = (Origin::start(), Content::noise(256 * MIB, 41));
    origin.add("/f", content.clone());
    let gate = Gate::new();
    origin
        .on("/f")
        .data()
        .starting_at(2 * MIB)
        .times(1)
        .fault(Fault::Hold(gate.clone()));
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "2").start();
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    std::thread::scope(|scope| {
        // Reads until it is blocked, wherever its read-ahead reaches a held request.
        let stream = scope.spawn(|| {
            for offset in (0..64 * MIB).step_by(64 * KIB as usize) {
                try_pread(&file, offset..offset + 64 * KIB).expect("to read");
            }
        });
        gate.wait_for_arrivals(1);
        let jump = 200 * MIB..200 * MIB + 64 * KIB;
        assert_same(
            &try_pread(&file, jump.clone()).expect("to read"),
            &content.read(jump),
            "the jump",
        );
        gate.open();
        stream.join().expect("the stream");
    });
}

#[test]
fn connection_limit_is_used_and_never_exceeded() {
    const LIMIT: usize = 4;
    let origin = Origin::start();
    let contents: Vec<Content> = (0..12).map(|seed| Content::noise(MIB + seed, seed)).collect();
    for (number, content) in contents.iter().enumerate() {
        origin.add(&format!("/{number}"), content.clone());
    }
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    let mount = Mount::of(&origin.url("/"))
        .with("--max-connections", &LIMIT.to_string())
        .start();
    std::thread::scope(|scope| {
        for (number, content) in contents.iter().enumerate() {
            let path = mount.path(number.to_string());
            scope.spawn(move || assert_eq!(sha256(&path), sha256_of(content), "{number}"));
        }
    });
    let log = origin.log().all();
    let most = log.max_in_flight();
    // An abandoned request counts until the origin notices.
    let abandoned = log
        .0
        .iter()
        .filter(|request| request.end == Some(End::ClientLeft))
        .count();
    assert!(
        (2..=LIMIT + abandoned).contains(&most),
        "{most} requests at one time, {abandoned} abandoned"
    );
}

#[test]
fn connections_are_reused() {
    const PLACES: u64 = 128;
    let (origin, content) = (Origin::start(), Content::noise(PLACES * 3 * MIB, 42));
    origin.add("/f", content.clone());
    let mount = Mount::start_of(&origin.url("/"));
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    // One request after another, each for a separate place.
    for place in (0..PLACES).map(|number| number * 3 * MIB) {
        let read = try_pread(&file, place..place + 4096).expect("to read");
        assert_same(&read, &content.read(place..place + 4096), "a place");
    }
    let log = origin.log().all();
    let connections = log.0.iter().map(|request| request.connection).max().expect("requests") + 1;
    let requests = log.data("/f").len();
    assert_eq!(requests as u64, PLACES);
    // More than one: on a busy machine a request may be made before the end of the last response was noticed.
    assert!(
        connections <= requests / 2,
        "{connections} connections for {requests} requests"
    );
}

/// This test measures time: 20 MiB at 2 MiB a second, from a slow server that could give 8.
#[test]
fn bandwidth_limit_holds_over_all_files() {
    const LIMIT: u64 = 2 * MIB;
    const FILES: u64 = 4;
    const SIZE: u64 = 5 * MIB;
    let origin = Origin::start();
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    for number in 0..FILES {
        origin.add(&format!("/{number}"), Content::noise(SIZE, number));
        origin.on(&format!("/{number}")).data().fault(Fault::Rate(2 * MIB));
    }
    let mount = Mount::of(&origin.url("/")).with("--bwlimit", "2MiB").start();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..FILES {
            let path = mount.path(number.to_string());
            scope.spawn(move || assert_eq!(sha256(&path), sha256_of(&Content::noise(SIZE, number))));
        }
    });
    let took = started.elapsed().as_secs_f64();
    let rate = (FILES * SIZE) as f64 / took;
    let share = rate / LIMIT as f64;
    // Only a busy machine can be below: a test with a simulated clock checks the rate itself.
    assert!(
        (0.3..=1.1).contains(&share),
        "{rate:.0} bytes a second over {took:.1} s"
    );
}

#[test]
fn listing_does_not_wait_for_a_blocked_read() {
    let (origin, content) = (Origin::start(), Content::noise(64 * MIB, 43));
    let gate = Gate::new();
    for number in 0..40 {
        let path = format!("/dir{number}/f");
        origin.add(&path, content.clone());
        origin.on(&path).data().fault(Fault::Hold(gate.clone()));
    }
    origin.add("/last/here", "x");
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "4").start();
    std::thread::scope(|scope| {
        for number in 0..40 {
            let path = mount.path(format!("dir{number}/f"));
            scope.spawn(move || {
                let file = File::open(path).expect("to open");
                assert_eq!(
                    try_pread(&file, 0..10).expect("to read"),
                    Content::noise(64 * MIB, 43).read(0..10)
                );
            });
        }
        // All connections except the reserved ones: at least one.
        gate.wait_for_arrivals(1);
        let names: Vec<_> = std::fs::read_dir(mount.path("last"))
            .expect("to list")
            .flatten()
            .collect();
        assert_eq!(names.len(), 1, "listed while forty reads are blocked");
        assert_eq!(std::fs::metadata(mount.path("last/here")).expect("to stat").len(), 1);
        nix::sys::statvfs::statvfs(&mount.root()).expect("df");
        gate.open();
    });
}

#[test]
fn two_readers_share_the_connections_fairly() {
    const SIZE: u64 = 24 * MIB;
    let origin = Origin::start();
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "4");
    for number in 0..2 {
        origin.add(&format!("/{number}"), Content::noise(SIZE, number));
        origin.on(&format!("/{number}")).data().fault(Fault::Rate(4 * MIB));
    }
    let mount = mount.start();
    let progress = [AtomicU64::new(0), AtomicU64::new(0)];
    let other_when_done: Vec<u64> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|number| {
                let (path, progress) = (mount.path(number.to_string()), &progress);
                scope.spawn(move || {
                    let mut file = File::open(path).expect("to open");
                    let mut buffer = vec![0; 64 * KIB as usize];
                    loop {
                        match file.read(&mut buffer).expect("to read") {
                            0 => return progress[1 - number].load(Ordering::SeqCst),
                            read => progress[number].fetch_add(read as u64, Ordering::SeqCst),
                        };
                    }
                })
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().expect("no panic"))
            .collect()
    });
    // The first reader to finish saw the other well advanced.
    let behind = other_when_done.into_iter().min().expect("two readers");
    assert!(
        behind >= SIZE / 3,
        "one had {behind} of {SIZE} bytes when the other was done"
    );
}
