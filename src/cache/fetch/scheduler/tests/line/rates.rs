//! The rates that programs get over simulated lines.

use super::*;

/// Total MB/s of `programs` programs, each of which reads a file of its own of `mib` MiB.
fn rate_of(programs: u64, mib: u64) -> f64 {
    let mut line = Line::new(FAR);
    for _ in 0..programs {
        line.reads(&Line::file(mib * MIB), 0..mib * MIB, IN_SEQUENCE);
    }
    line.run();
    let rate = (programs * mib * MIB) as f64 / line.now as f64;
    println!(
        "{programs} × {mib} MiB: {rate:.0} MB/s, {} requests, {} broken off",
        line.requests, line.broken_off
    );
    rate
}

#[test]
fn sequential_reader_uses_all_connections() {
    for (mib, at_least) in [
        (4, 24.0),
        (16, 70.0),
        (64, 125.0),
        (128, 170.0),
        (1024, 270.0),
        (4096, 290.0),
    ] {
        let rate = rate_of(1, mib);
        assert!(rate >= at_least, "{rate} MB/s for {mib} MiB");
    }
}

#[test]
fn readers_share_the_connections_and_leave_none_idle() {
    for (programs, mib, at_least) in [
        (4, 16, 135.0),
        (16, 16, 255.0),
        (4, 64, 220.0),
        (16, 64, 292.0),
        (64, 16, 275.0),
        (64, 64, 285.0),
    ] {
        let rate = rate_of(programs, mib);
        assert!(rate >= at_least, "{rate} MB/s for {programs} readers of {mib} MiB");
    }
}

#[test]
fn seek_waits_one_round_trip_under_a_stream() {
    let mut line = Line::new(FAR);
    let entry = Line::file(2048 * MIB);
    let stream = line.reads(&entry, 0..900 * MIB, IN_SEQUENCE);
    let jumps = Pace {
        pause: 50_000,
        step: 30 * MIB + 4096,
    };
    let jumper = line.reads(&entry, 1024 * MIB..1900 * MIB, jumps);
    line.run();
    let longest = line.programs[jumper].took.iter().max();
    assert!(longest <= Some(&(FAR.round_trip + FAR.piece_time)), "{longest:?} µs");
    let rate = (900 * MIB) as f64 / line.programs[stream].done_at.unwrap() as f64;
    println!("stream beside jumps: {rate:.0} MB/s");
    assert!(rate >= 250.0, "{rate} MB/s for the stream");
}

#[test]
fn short_sequences_cause_little_overfetch() {
    for mib in [1, 2, 4] {
        let (mut line, entry) = (Line::new(FAR), Line::file(2048 * MIB));
        for place in 0..10 {
            let start = place * 100 * MIB;
            line.reads(&entry, start..start + mib * MIB, IN_SEQUENCE);
            line.run();
        }
        let times = line.sent as f64 / (10 * mib * MIB) as f64;
        println!("{mib} MiB at a place: × {times:.1} sent, {} ms each", line.now / 10_000);
        assert!(times <= 4.0, "{times} times {mib} MiB");
    }
}

/// MB/s of 16 MiB in sequence where each connection is slow, on a handle without earlier reads or
/// after 24 MiB elsewhere; and the total number of bytes sent.
fn after_a_seek(before: u64) -> (f64, u64) {
    let (mut line, entry) = (Line::new(SLOW), Line::file(4096 * MIB));
    let parts = [0..before, 2048 * MIB..2064 * MIB];
    let reader = line.reads_all(&entry, parts, IN_SEQUENCE);
    line.run();
    let program = &line.programs[reader];
    let time = program.done_at.unwrap() - program.left_at[0];
    let rate = (16 * MIB) as f64 / time as f64;
    println!(
        "16 MiB after {} MiB elsewhere: {rate:.1} MB/s, {} MB sent",
        before / MIB,
        line.sent / 1_000_000
    );
    (rate, line.sent)
}

#[test]
fn seek_is_as_fast_as_a_new_reader() {
    let (fresh, _) = after_a_seek(0);
    let (rate, sent) = after_a_seek(24 * MIB);
    assert!(rate >= fresh * 0.8, "{rate} MB/s, and {fresh} on a handle of its own");
    assert!(sent <= 3 * 40 * MIB, "{sent} bytes sent for 40 MiB");
}

#[test]
fn skip_within_the_window_keeps_it() {
    let (mut line, entry) = (Line::new(FAR), Line::file(4096 * MIB));
    let parts = [0..128 * MIB, 160 * MIB..288 * MIB];
    let reader = line.reads_all(&entry, parts, IN_SEQUENCE);
    line.run();
    let program = &line.programs[reader];
    let time = program.done_at.unwrap() - program.left_at[0];
    let rate = (128 * MIB) as f64 / time as f64;
    println!(
        "128 MiB after a skip of 32: {rate:.0} MB/s, {} requests, {} broken off, {} MB sent",
        line.requests,
        line.broken_off,
        line.sent / 1_000_000
    );
    // Fetches in flight at the new place continue. Broken off and requested again, this gave 156
    // MB/s, with 97 requests.
    assert!(rate >= 195.0, "{rate} MB/s");
    assert!(line.broken_off <= 16, "{} broken off", line.broken_off);
}

#[test]
fn player_has_its_picture_soon_after_index() {
    let (mut line, entry) = (Line::new(FAR), Line::file(180 * MIB));
    // The reads of mpv to show a picture of a film: the head, the end of the index, and the
    // picture's data.
    let parts = [
        0..256 << 10,
        180 * MIB - 1564..180 * MIB,
        135 * MIB + 34_678..135 * MIB + 900_000,
    ];
    let reader = line.reads_all(&entry, parts, IN_SEQUENCE);
    line.run();
    let program = &line.programs[reader];
    let time = (program.done_at.unwrap() - program.left_at[1]) / 1000;
    println!("900 kB at a place: {time} ms, {} kB sent in all", line.sent / 1000);
    // The round trip, and the time of one connection for the bytes.
    assert!(time <= 50 + 60, "{time} ms");
    assert!(line.sent <= 8_000_000, "{} bytes sent", line.sent);
}

/// Milliseconds that programs wait for the first bytes of a file, beside as many streams as
/// connections.
fn first_bytes_beside_streams(connection: Connection, mib: u64) -> Vec<u64> {
    let mut line = Line::new(connection);
    for _ in 0..CONNECTIONS {
        line.reads(&Line::file(mib * MIB), 0..mib * MIB, IN_SEQUENCE);
    }
    let looks = Pace {
        pause: 700_000,
        step: 100 * MIB,
    };
    let newcomer = line.reads(&Line::file(1 << 40), 50 * MIB..2000 * MIB, looks);
    line.run();
    let took = line.programs[newcomer].took.iter().map(|took| took / 1000);
    let took: Vec<_> = took.collect();
    println!("first bytes beside {CONNECTIONS} streams: {took:?} ms");
    took
}

#[test]
fn new_reader_waits_at_most_one_chunk() {
    // A chunk takes 650 ms, and the first 128 KiB of the next one 330.
    let slow = first_bytes_beside_streams(SLOW, 16);
    assert!(slow.iter().all(|&took| took <= 1_300), "{slow:?}");
    let far = first_bytes_beside_streams(FAR, 256);
    assert!(far.iter().all(|&took| took <= 500), "{far:?}");
}
