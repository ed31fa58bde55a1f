//! A server that misbehaves at random. A successful read is right, a failed read has an allowed errno, and nothing
//! hangs. When the server behaves again, everything can be read.
//!
//! `FETCHFS_CHAOS_SECONDS` sets a duration other than a minute. `FETCHFS_CHAOS_SEED` repeats a run's choices, but not
//! its timing.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::common::files::{assert_same, pread, sha256, sha256_of, try_pread};
use crate::common::{Mount, PATIENCE};
use crate::origin::{Content, Fault, Framing, Gate, Origin};

const MIB: u64 = 1 << 20;
const READERS: u64 = 8;

/// Files of all sizes: one byte, less than a chunk, many chunks and a few bytes. Some are so large that a part is
/// always uncached.
const SIZES: [u64; 9] = [
    1,
    1000,
    256 << 10,
    MIB + 1,
    5 * MIB + 77,
    24 * MIB,
    HUGE,
    HUGE + 1,
    HUGE + 12345,
];
const HUGE: u64 = 1 << 30;

/// The errors that a reader may get. The server is away or sends nonsense, the file seems to be another, or access is
/// denied. A file of unknown size can only be read in sequence.
const ALLOWED: [i32; 6] = [
    libc::EIO,
    libc::ETIMEDOUT,
    libc::ESTALE,
    libc::EACCES,
    libc::ENOENT,
    libc::ESPIPE,
];

/// Longest time for a read or an open: four times `--read-timeout`, because the kernel may split it into four
/// requests (read-ahead and pieces), and reserve for a busy machine. A hanging read takes for ever.
const LONGEST: Duration = Duration::from_secs(4 * 3 + 30);

#[derive(Default)]
struct Tally {
    right: AtomicU64,
    failed: AtomicU64,
}

/// The result of `work`, which must not take longer than [`LONGEST`].
fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    let took = begun.elapsed();
    assert!(took <= LONGEST, "{what} took {took:?}");
    done
}

#[test]
fn random_server_faults_cause_no_wrong_byte_or_hang() {
    let seed = number_from("FETCHFS_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(number_from("FETCHFS_CHAOS_SECONDS").unwrap_or(60));
    println!("FETCHFS_CHAOS_SEED={seed}");
    let origin = Origin::start();
    for (number, size) in SIZES.into_iter().enumerate() {
        origin.add(&format!("/{number}"), content(number, size));
    }
    let mount = Mount::of(&origin.url("/"))
        .with("--retries", "1")
        .with("--timeout", "1s")
        .with("--read-timeout", "3s")
        .with("--attr-ttl", "0")
        .living_for(time)
        .start();
    // The same bytes at another URL, as another version.
    let elsewhere = Origin::start();
    for (number, size) in SIZES.into_iter().enumerate() {
        elsewhere.add(&format!("/{number}"), content(number, size));
    }
    let (tally, is_over) = (Tally::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let (mount, tally, is_over) = (&mount, &tally, &is_over);
                let random = Rng::with_seed(seed ^ (number + 1));
                scope.spawn(move || read_at_random(mount, random, tally, is_over))
            })
            .collect();
        misbehave(&origin, &elsewhere, Rng::with_seed(seed), time);
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("no reader found anything wrong");
        }
    });
    let (right, failed) = (tally.right.into_inner(), tally.failed.into_inner());
    println!("{right} reads were right, {failed} failed");
    assert!(
        right > 0 && failed > 0,
        "{right} right, {failed} failed: that was no chaos"
    );
    for (number, size) in SIZES.into_iter().enumerate() {
        let path = mount.path(number.to_string());
        let deadline = Instant::now() + PATIENCE;
        // A recent listing or refusal may stay valid for a little longer.
        while File::open(&path).and_then(|file| try_pread(&file, 0..1)).is_err() {
            assert!(
                Instant::now() < deadline,
                "{number} can't be read although the server behaves"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        let expected = content(number, size);
        if size < HUGE {
            assert_eq!(sha256(&path), sha256_of(&expected), "file {number}");
        } else {
            let place = HUGE - 3 * MIB..size;
            assert_same(&pread(&path, place.clone()), &expected.read(place), "its end");
        }
    }
}

fn content(number: usize, size: u64) -> Content {
    Content::noise(size, 90 + number as u64)
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Opens files and reads from them, at random places or in sequence, until `is_over`.
fn read_at_random(mount: &Mount, mut random: Rng, tally: &Tally, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let number = random.usize(..SIZES.len());
        let outcome = in_time("an open", || File::open(mount.path(number.to_string())))
            .and_then(|file| read_some(&file, &content(number, SIZES[number]), &mut random, tally, is_over));
        if let Err(error) = outcome {
            let errno = error.raw_os_error().expect("an error of the kernel's");
            assert!(ALLOWED.contains(&errno), "file {number}: {error}");
            tally.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn read_some(file: &File, content: &Content, random: &mut Rng, tally: &Tally, is_over: &AtomicBool) -> io::Result<()> {
    let in_sequence = random.bool();
    let mut at = random.u64(..content.size());
    for _ in 0..random.u32(1..32) {
        let end = (at + random.u64(1..300_000)).min(content.size());
        if is_over.load(Ordering::Relaxed) || at == end {
            break;
        }
        assert_same(
            &in_time("a read", || try_pread(file, at..end))?,
            &content.read(at..end),
            "a read that succeeded",
        );
        tally.right.fetch_add(1, Ordering::Relaxed);
        at = if in_sequence { end } else { random.u64(..content.size()) };
    }
    Ok(())
}

/// Applies one fault after another, some at the same time, and none at the end.
fn misbehave(origin: &Origin, elsewhere: &Origin, mut random: Rng, time: Duration) {
    let end = Instant::now() + time;
    let mut moment = Duration::ZERO;
    while Instant::now() < end {
        let gate = Gate::new();
        let bad: Vec<_> = (0..random.u32(1..4))
            .map(|_| {
                let number = random.usize(..SIZES.len());
                let path = format!("/{number}");
                let is_any = random.u8(..4) == 0;
                let path = if is_any { "/nothing".to_owned() } else { path };
                let on = if is_any { origin.on_any() } else { origin.on(&path) };
                let on = if random.bool() { on.data() } else { on };
                let fault = any_fault(
                    &mut random,
                    &gate,
                    &elsewhere.url(&path),
                    is_any || SIZES[number] >= HUGE,
                );
                on.times(random.usize(1..20)).fault(fault)
            })
            .collect();
        let is_down = random.u8(..8) == 0;
        if is_down {
            origin.go_down();
        }
        std::thread::sleep(std::mem::replace(
            &mut moment,
            Duration::from_millis(random.u64(20..800)),
        ));
        bad.into_iter().for_each(|switch| switch.lift());
        gate.open();
        if is_down {
            origin.come_back();
        }
        std::thread::sleep(Duration::from_millis(random.u64(..200)));
    }
}

/// A fault at random. A huge file never gets ignored ranges: it would be downloaded from its beginning, however long
/// that takes.
fn any_fault(random: &mut Rng, gate: &Gate, elsewhere: &str, is_huge: bool) -> Fault {
    let bytes = random.u64(..400_000);
    match random.u8(if is_huge { 2 } else { 0 }..27) {
        0 => Fault::IgnoreRange(Framing::Length),
        1 => Fault::IgnoreRange(Framing::UntilClose),
        2 => Fault::Hold(gate.clone()),
        3 => Fault::HoldAfter(bytes, gate.clone()),
        4 | 5 => Fault::ResetAfter(bytes),
        6 | 7 => Fault::CloseAfter(bytes),
        8 => Fault::Excess(bytes),
        9 => Fault::Status(
            random
                .choice([
                    304, 400, 401, 403, 404, 408, 410, 412, 416, 418, 429, 500, 502, 503, 504,
                ])
                .expect("some"),
        ),
        10 => Fault::RetryAfter(1),
        11 => Fault::RefuseHead(405),
        12 => Fault::Latency(Duration::from_millis(random.u64(..1500))),
        13 => Fault::Rate(50_000 + bytes),
        14 => Fault::ShiftedRange(1 + bytes),
        15 => Fault::ShorterRange(1 + bytes),
        16 => Fault::WrongTotal(1 + bytes),
        17 => Fault::Multipart,
        18 => Fault::ClaimGzip,
        19 => Fault::Garbage,
        20 => Fault::Redirect(302, elsewhere.to_owned()),
        21 => Fault::Redirect(308, "/../..//\u{1}".to_owned()),
        22 => Fault::ContentRange(None),
        23 => Fault::ContentRange(random.choice(["bytes */*", "bytes 5-2/1", "chunks 0-9/10", ""])),
        24 => Fault::Framed(Framing::Chunked),
        25 => Fault::Framed(Framing::UntilClose),
        _ => Fault::LoginPage,
    }
}
