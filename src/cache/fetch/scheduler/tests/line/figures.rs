//! The figures by which a mechanism of the scheduler or of read-ahead is judged: what do they lose
//! without it?
//!
//! ```sh
//! cargo test --lib line::figures -- --ignored --nocapture
//! ```
//!
//! prints a line for each; switch the mechanism off in the code, and compare. The table is in
//! `docs/architecture.md`.

use super::*;

/// 1 ms, and 100 MB/s.
const NEAR: Connection = Connection {
    round_trip: 1_000,
    piece_time: 2_000,
    ..FAR
};

/// 50 ms, and 20 MB/s over all connections together.
const SHARED: Connection = Connection {
    in_all: Some(20_000_000),
    ..FAR
};

/// The first byte comes after 20 s.
const SILENT: Connection = Connection {
    round_trip: 20_000_000,
    ..FAR
};

/// 20 kB/s.
const DRIPPING: Connection = Connection {
    piece: 10_000,
    piece_time: 500_000,
    ..FAR
};

/// A film of 4 MB/s.
const FILM: Pace = Pace {
    pause: 31_000,
    step: READ,
};

/// Prints the time of the last program, and what was sent for `bytes` bytes.
fn print(name: &str, line: &Line, bytes: u64) {
    let end = line
        .programs
        .iter()
        .filter_map(|program| program.done_at)
        .max()
        .unwrap();
    println!(
        "{name}: {:.2} MB/s, {} requests, {} broken off, × {:.2} sent",
        bytes as f64 / end as f64,
        line.requests,
        line.broken_off,
        line.sent as f64 / bytes as f64
    );
}

/// Prints the median, the ninetieth percentile and the longest of times in microseconds.
fn print_times(name: &str, times: impl IntoIterator<Item = u64>) {
    let mut times: Vec<_> = times.into_iter().map(|time| time / 1000).collect();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!("{name}: {} ms, 90 % {}, longest {}", at(50), at(90), at(100));
}

fn streams(name: &str, connection: Connection, programs: u64, mib: u64, pace: Pace) {
    let mut line = Line::new(connection);
    for _ in 0..programs {
        line.reads(&Line::file(mib * MIB), 0..mib * MIB, pace);
    }
    line.run();
    let name = format!("{name}, {programs} × {mib} MiB");
    print(&name, &line, programs * mib * MIB);
    let longest = line.programs.iter().map(|program| *program.took.iter().max().unwrap());
    print_times(&format!("{name}, longest read of each"), longest);
}

/// Files of which `present` of each `of` chunks are present.
fn partly_present(programs: u64, present: u64, of: u64) {
    let (mut line, mut bytes) = (Line::new(FAR), 0);
    for _ in 0..programs {
        let entry = Line::file(32 * MIB);
        for chunk in 0..32 * MIB / CHUNK {
            if chunk % of < present {
                entry.settled().unwrap().presence.insert(chunk);
            } else {
                bytes += CHUNK;
            }
        }
        line.reads(&entry, 0..32 * MIB, IN_SEQUENCE);
    }
    line.run();
    print(
        &format!("{programs} files, {present} of {of} chunks present"),
        &line,
        bytes,
    );
}

/// One handle reads parts of a file.
fn parts(name: &str, connection: Connection, parts: impl IntoIterator<Item = Range<u64>>) {
    let (mut line, parts) = (Line::new(connection), Vec::from_iter(parts));
    let bytes = parts.iter().map(|part| part.end - part.start).sum();
    let reader = line.reads_all(&Line::file(4096 * MIB), parts, IN_SEQUENCE);
    line.run();
    print(name, &line, bytes);
    let program = &line.programs[reader];
    if let Some(last) = program.left_at.last() {
        println!(
            "{name}: {} ms at the last place",
            (program.done_at.unwrap() - last) / 1000
        );
    }
}

#[test]
#[ignore = "prints figures; `rates` asserts the most important of them"]
fn figures_of_streams() {
    for (programs, mib) in [
        (1, 16),
        (1, 64),
        (1, 256),
        (1, 1024),
        (4, 16),
        (4, 64),
        (16, 64),
        (20, 32),
        (32, 16),
        (64, 16),
        (64, 32),
        (200, 4),
    ] {
        streams("far", FAR, programs, mib, IN_SEQUENCE);
    }
    for (name, connection, programs, mib) in [
        ("near", NEAR, 1, 64),
        ("near", NEAR, 64, 16),
        ("slow", SLOW, 1, 64),
        ("slow", SLOW, 16, 16),
        ("slow", SLOW, 64, 4),
        ("shared", SHARED, 4, 64),
        ("shared", SHARED, 32, 4),
    ] {
        streams(name, connection, programs, mib, IN_SEQUENCE);
    }
    streams("films, far", FAR, 1, 128, FILM);
    streams("films, far", FAR, 30, 64, FILM);
    let step = 2 * READ;
    streams("every second read", FAR, 1, 64, Pace { step, ..IN_SEQUENCE });
    for (programs, present, of) in [(1, 1, 4), (4, 1, 4), (16, 1, 4), (32, 1, 4), (32, 1, 2)] {
        partly_present(programs, present, of);
    }
    for (programs, seconds) in [(32, 3), (120, 3)] {
        let round_trip = seconds * 1_000_000;
        let connection = Connection { round_trip, ..FAR };
        streams("first byte after 3 s", connection, programs, 2, IN_SEQUENCE);
    }
    // A film that begins in haste, and goes on at its rate.
    let (mut line, entry) = (Line::new(FAR), Line::file(4096 * MIB));
    let film = line.reads(&entry, 0..40 * MIB, IN_SEQUENCE);
    line.programs[film].then.push_back((40 * MIB..100 * MIB, FILM));
    line.run();
    print("film in haste at first", &line, 100 * MIB);
}

#[test]
#[ignore = "prints figures; `rates` asserts the most important of them"]
fn figures_of_seeks() {
    for skip in [8, 32, 100] {
        let after = 128 + skip;
        let both = [0..128 * MIB, after * MIB..(after + 128) * MIB];
        parts(&format!("skip of {skip} MiB"), FAR, both);
    }
    for (name, connection) in [("far", FAR), ("slow", SLOW), ("shared", SHARED)] {
        for before in [1, 24, 128] {
            let both = [0..before * MIB, 2048 * MIB..2064 * MIB];
            parts(&format!("seek after {before} MiB, {name}"), connection, both);
        }
        let ends = [0..MIB / 4, 2000 * MIB..2001 * MIB];
        let places = [100, 700, 300, 1200, 900].map(|place| place * MIB..(place + 3) * MIB);
        parts(
            &format!("viewer that seeks, {name}"),
            connection,
            ends.into_iter().chain(places),
        );
        for (piece, turns) in [(MIB / 2, 20), (2 * MIB, 8), (8 * MIB, 4)] {
            let turns = (0..turns).flat_map(|turn| [0, 1000 * MIB].map(|base| base + turn * piece));
            let turns = turns.map(|at| at..at + piece);
            parts(
                &format!("two streams, {} KiB in turn, {name}", piece >> 10),
                connection,
                turns,
            );
        }
    }
    for mib in [1, 2, 4] {
        let places = (0..10).map(|place| place * 100 * MIB..(place * 100 + mib) * MIB);
        parts(&format!("{mib} MiB at each of ten places"), FAR, places);
    }
}

#[test]
#[ignore = "prints figures; `rates` asserts the most important of them"]
fn figures_of_readers_beside_others() {
    for (name, connection, streams, mib) in [
        ("far", FAR, 1, 512),
        ("far", FAR, 16, 64),
        ("far", FAR, 32, 64),
        ("slow", SLOW, 32, 8),
        ("shared", SHARED, 1, 512),
        ("shared", SHARED, 16, 16),
    ] {
        let mut line = Line::new(connection);
        for _ in 0..streams {
            line.reads(&Line::file(mib * MIB), 0..mib * MIB, IN_SEQUENCE);
        }
        let jumps = Pace {
            pause: 200_000,
            step: 30 * MIB,
        };
        let jumper = line.reads(&Line::file(1 << 40), 0..1200 * MIB, jumps);
        line.run();
        let name = format!("jumps beside {streams} streams, {name}");
        print(&name, &line, streams * mib * MIB);
        print_times(&name, line.programs[jumper].took.clone());
    }
    // Reads in a file that is being prefetched.
    let (mut line, entry) = (Line::new(FAR), Line::file(512 * MIB));
    line.scheduler.request(&entry, 0..512 * MIB / CHUNK, Priority::Medium);
    line.carry_out();
    let places = (0..16u64).map(|step| (step * step * 40_503 + step * 17) % 500 * MIB);
    let reader = line.reads_all(&entry, places.map(|at| at..at + READ), FILM);
    line.run();
    print("reads in a file that is prefetched", &line, 512 * MIB);
    print_times("reads in a file that is prefetched", line.programs[reader].took.clone());
    // Files that a server does not send, or sends slowly.
    for (name, odd, bad, good) in [
        ("silent", SILENT, 16, 4),
        ("dripping", DRIPPING, 16, 4),
        ("slow", SLOW, 16, 4),
        ("silent", SILENT, 8, 32),
    ] {
        let mut line = Line::new(FAR);
        for _ in 0..bad {
            let entry = Line::file(4 * MIB);
            line.odd.insert(entry.id, odd);
            line.reads(&entry, 0..MIB, IN_SEQUENCE);
        }
        for _ in 0..good {
            line.reads(&Line::file(16 * MIB), 0..16 * MIB, IN_SEQUENCE);
        }
        line.run();
        let done = line.programs[bad..].iter().filter_map(|program| program.done_at);
        print_times(&format!("{good} files beside {bad} that are {name}"), done);
    }
}
