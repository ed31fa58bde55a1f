//! The policy compared with plain LRU, on traces of typical use of remote files.

use std::collections::{BTreeSet, HashMap};

use super::*;

/// Segments that the simulated cache holds.
const CACHE: u64 = 400;

/// Ticks of a segment: 16 MiB.
const SEGMENT: u64 = (16 << 20) / TICK;

/// One read of a whole segment: its file, place and handle, and the seconds since the last one.
struct Access {
    file: u64,
    segment: u64,
    handle: u16,
    seconds: u32,
}

fn access(file: u64, segment: u64, handle: u16) -> Access {
    Access {
        file,
        segment,
        handle,
        seconds: 1,
    }
}

/// The fraction of accesses that hit, by ranks from `rank`, over the second half of the trace.
fn hit_rate(trace: &[Access], rank: impl Fn(Use, u64) -> u64) -> f64 {
    let mut held: HashMap<(u64, u64), Use> = HashMap::new();
    let mut order: BTreeSet<(u64, (u64, u64))> = BTreeSet::new();
    let (mut clock, mut seconds, mut hits) = (0, 0, 0);
    let cache = CACHE * SEGMENT;
    for (number, access) in trace.iter().enumerate() {
        seconds += access.seconds;
        let at = (access.file, access.segment);
        let place = place(&access.file.to_string(), access.segment);
        let before = held.get(&at).copied();
        if let Some(before) = before {
            order.remove(&(rank(before, place), at));
            hits += usize::from(number >= trace.len() / 2);
        } else {
            clock += SEGMENT;
        }
        let moment = Moment {
            clock,
            seconds,
            handle: access.handle,
            cache,
        };
        let after = before.unwrap_or_default().after(&moment);
        held.insert(at, after);
        order.insert((rank(after, place), at));
        if held.len() as u64 > CACHE {
            let (_, coldest) = order.pop_first().unwrap();
            held.remove(&coldest);
        }
    }
    hits as f64 / trace.len().div_ceil(2) as f64
}

/// A loop through one and a half times the cache, each iteration with a new handle.
fn a_loop() -> Vec<Access> {
    let turn = |turn: u16| (0..CACHE * 3 / 2).map(move |segment| access(1, segment, turn));
    (0..20).flat_map(turn).collect()
}

/// A hot set of half the cache, read at random by many handles, during a scan of everything else.
fn scan_and_hot_set() -> Vec<Access> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut scanned = 0;
    (0..40_000)
        .map(|_| {
            if random.bool() {
                access(1, random.u64(0..CACHE / 2), random.u16(..))
            } else {
                scanned += 1;
                access(2 + scanned / 100, scanned % 100, (scanned / 100) as u16)
            }
        })
        .collect()
}

/// A film each evening, with seeks back, every other time one of four favourites; meanwhile the
/// heads and tails of a library are read, each once.
fn film_and_library_scan() -> Vec<Access> {
    let mut random = fastrand::Rng::with_seed(2);
    let mut trace = Vec::new();
    let (mut scanned, mut handle) = (0, 1);
    for evening in 0..80_u64 {
        // A film has 60 segments (1 GiB).
        let film = 1 + if evening % 2 == 0 {
            random.u64(0..4)
        } else {
            100 + evening
        };
        handle += 1;
        for segment in 0..60_u64 {
            let watched = |segment| Access {
                seconds: 4,
                ..access(film, segment, handle)
            };
            trace.push(watched(segment));
            if random.u8(..20) == 0 {
                trace.push(watched(segment.saturating_sub(random.u64(1..10))));
            }
            if segment % 2 == 0 {
                scanned += 1;
                trace.push(access(10_000 + scanned / 2, (scanned % 2) * 59, (scanned / 2) as u16));
            }
        }
    }
    trace
}

/// The hot set changes after half of the trace: the old one must be evicted.
fn a_hot_set_that_moves() -> Vec<Access> {
    let mut random = fastrand::Rng::with_seed(3);
    let hot = |random: &mut fastrand::Rng, base: u64| access(1, base + random.u64(0..CACHE * 3 / 4), random.u16(..));
    let mut trace: Vec<_> = (0..20_000).map(|_| hot(&mut random, 0)).collect();
    trace.extend((0..20_000).map(|_| hot(&mut random, 10_000)));
    trace
}

#[test]
fn the_table_of_hit_rates() {
    let cache = CACHE * SEGMENT;
    let ours = |trace: &[Access]| 100.0 * hit_rate(trace, |used, place| used.rank(place, cache));
    let lru = |trace: &[Access]| 100.0 * hit_rate(trace, |used, _| used.clock);
    println!("{:<34} {:>6} {:>9}", "hit rate, %", "LRU", "fetchfs");
    let row = |name: &str, trace: Vec<Access>| {
        let (lru, ours) = (lru(&trace), ours(&trace));
        println!("{name:<34} {lru:>6.1} {ours:>9.1}");
        (lru, ours)
    };
    let turning = row("loop over 1.5 times the cache", a_loop());
    let scanned = row("scan + hot set of half the cache", scan_and_hot_set());
    let films = row("films + a library scan", film_and_library_scan());
    let moving = row("a hot set that moves", a_hot_set_that_moves());
    // An optimal cache would hit 67, 50 and, of the films that are seen again, all.
    assert!(turning.0 < 1.0 && turning.1 > 40.0);
    assert!(scanned.1 > 43.0 && scanned.1 > scanned.0 + 5.0);
    assert!(films.1 > films.0 + 1.0);
    assert!(moving.1 > 0.85 * moving.0);
}

#[test]
fn a_handle_that_goes_on_uses_once_and_another_one_uses_again() {
    let moment = |clock, seconds, handle| Moment {
        clock,
        seconds,
        handle,
        cache: 8000,
    };
    let first = Use::default().after(&moment(10, 10, 1));
    for (again, is_second) in [
        (moment(10, 11, 1), false),
        (moment(1010, 69, 1), false),
        (moment(1011, 11, 1), true),
        (moment(10, 70, 1), true),
        (moment(10, 10, 2), true),
    ] {
        let protected = first.after(&again).rank(0, 8000) >= 32_000;
        assert_eq!(protected, is_second, "{again:?}");
    }
}

#[test]
fn what_is_packed_comes_back() {
    let mut used = Use::default();
    for handle in [1, 2, u16::MAX] {
        used = used.after(&Moment {
            clock: (1 << 40) - 1,
            seconds: u32::MAX,
            handle,
            cache: 1,
        });
        let (packed, seconds) = used.pack();
        assert_eq!(Use::unpack(packed, seconds), used);
    }
}
