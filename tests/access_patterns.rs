//! The cost of each way of reading: requests and bytes, counted at the origin.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::files::advise_random;
use crate::common::{Mount, process};
use crate::origin::{Content, Fault, Gate, Origin, Requests};
use crate::prefetching::prefetch;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Size of the kernel's reads.
const READ: u64 = 128 * KIB;
/// The default chunk size.
const CHUNK: u64 = 256 * KIB;
/// Far more than any window, so that needless read-ahead shows.
const SIZE: u64 = 512 * MIB;

struct Watched {
    origin: Origin,
    content: Content,
    mount: Mount,
}

impl Watched {
    fn new() -> Watched {
        let (origin, content) = (Origin::start(), Content::noise(SIZE, 5));
        origin.add("/f", content.clone());
        let mount = Mount::start_of(&origin.url("/"));
        Watched { origin, content, mount }
    }

    /// A server so slow that readers wait: 4 connections of 1 MiB/s. A grown window takes a minute to fill.
    fn slowly() -> Watched {
        let (origin, content) = (Origin::start(), Content::noise(SIZE, 5));
        origin.add("/f", content.clone());
        origin.on("/f").data().fault(Fault::Rate(MIB));
        let mount = Mount::of(&origin.url("/")).with("--max-connections", "4").start();
        Watched { origin, content, mount }
    }

    /// Opens the file without the kernel's read-ahead: only the test's reads reach the daemon.
    fn open(&self) -> File {
        let file = File::open(self.mount.path("f")).expect("to open");
        advise_random(&file);
        file
    }

    #[track_caller]
    fn read(&self, file: &File, offset: u64, len: u64) {
        let mut bytes = vec![0; usize::try_from(len).expect("a small read")];
        file.read_exact_at(&mut bytes, offset).expect("to read");
        assert!(
            bytes == self.content.read(offset..offset + len),
            "{len} bytes at {offset}"
        );
    }

    /// Reads in sequence, with reads of the kernel's size.
    #[track_caller]
    fn read_on(&self, file: &File, from: u64, len: u64) {
        (0..len / READ).for_each(|step| self.read(file, from + step * READ, READ));
    }

    /// Asserts that no further request is made for bytes before `place`, until all requests in flight have ended.
    #[track_caller]
    fn assert_nothing_more_is_asked_for_before(&self, place: u64) {
        let mark = self.origin.log().mark();
        let (_, sent) = self.cost();
        let mut ranges = self.origin.log().since(mark).ranges("/f");
        ranges.retain(|range| range.start < place);
        assert!(ranges.is_empty(), "{ranges:?} of {sent} bytes in all");
    }

    /// Data requests and bytes sent, once nothing is in flight.
    fn cost(&self) -> (usize, u64) {
        let log = self
            .origin
            .log()
            .wait_for("all answers to end", |requests| requests.all_ended());
        (log.data("/f").len(), log.body_bytes("/f"))
    }
}

#[test]
fn random_reads_fetch_only_their_chunks() {
    let it = Watched::new();
    let file = it.open();
    // In random order, far apart, and some across an edge of two chunks.
    let places: Vec<u64> = (0..20).map(|i| (i * 7 % 20) * 24 * MIB + i * 50 * KIB).collect();
    places.iter().for_each(|&place| it.read(&file, place, 64 * KIB));
    let touched: u64 = places.iter().map(|&p| (p + 64 * KIB - 1) / CHUNK - p / CHUNK + 1).sum();
    assert_eq!(it.cost(), (places.len(), touched * CHUNK));
}

#[test]
fn sequential_reads_use_long_fetches() {
    const PART: u64 = 64 * MIB;
    let it = Watched::new();
    let mut file = File::open(it.mount.path("f")).expect("to open");
    let mut bytes = vec![0; MIB as usize];
    for block in 0..PART / MIB {
        file.read_exact(&mut bytes).expect("to read");
        assert!(
            bytes == it.content.read(block * MIB..(block + 1) * MIB),
            "block {block}"
        );
    }
    drop(file);
    let (requests, sent) = it.cost();
    assert!(
        sent >= PART && sent / requests as u64 >= MIB * 9 / 10,
        "{requests} requests for {sent} bytes"
    );
}

#[test]
fn head_tail_head_is_three_requests() {
    let it = Watched::new();
    let file = it.open();
    it.read(&file, 0, 64 * KIB);
    it.read(&file, SIZE - 100 * KIB, 100 * KIB);
    it.read(&file, 64 * KIB, 64 * KIB);
    assert_eq!(it.cost(), (2, 2 * CHUNK), "the second look at the head finds its chunk");
}

#[test]
fn head_tail_head_with_kernel_read_ahead_fetches_little() {
    let it = Watched::new();
    // 128 KiB at the head, and then the next 128 KiB: enough to prove a sequence.
    let file = File::open(it.mount.path("f")).expect("to open");
    it.read(&file, 0, 64 * KIB);
    it.read(&file, SIZE - 100 * KIB, 100 * KIB);
    it.read(&file, 64 * KIB, 64 * KIB);
    let (requests, sent) = it.cost();
    assert!(
        requests <= 4 && sent <= 2 * CHUNK + 2 * CHUNK,
        "{requests} requests, {sent} bytes"
    );
}

#[test]
fn seek_after_a_sequence_fetches_one_mebibyte() {
    let it = Watched::new();
    let file = it.open();
    it.read_on(&file, 0, CHUNK);
    // A player: from the head to the index at the end, and to a place in the film. Then scattered reads.
    let places = [SIZE - 100 * KIB, 300 * MIB, 100 * MIB, 200 * MIB];
    places.iter().for_each(|&place| it.read(&file, place, 64 * KIB));
    let asked_at = |requests: &Requests, place: u64| {
        let ranges = requests.ranges("/f").into_iter();
        let here = ranges.filter(|range| (place - CHUNK..place + 8 * MIB).contains(&range.start));
        here.map(|range| range.end - range.start).sum::<u64>()
    };
    let window = MIB + CHUNK;
    let asked = it.origin.log().wait_for("the window", |requests| {
        asked_at(requests, places[1]) >= window && requests.all_ended()
    });
    assert_eq!(
        places.map(|place| asked_at(&asked, place)),
        [CHUNK, window, CHUNK, CHUNK]
    );
}

#[test]
fn strided_reads_fetch_one_chunk_per_step() {
    let it = Watched::new();
    let file = it.open();
    (0..32).for_each(|step| it.read(&file, step * 8 * MIB, 4 * KIB));
    assert_eq!(it.cost(), (32, 32 * CHUNK));
}

#[test]
fn medium_strides_fetch_only_their_chunks() {
    let it = Watched::new();
    for (number, stride) in (0..).zip([300, 512, 900].map(|kib| kib * KIB)) {
        let (file, from) = (it.open(), number * 128 * MIB);
        let before = it.cost();
        let places: Vec<u64> = (0..100).map(|step| from + step * stride).collect();
        places.iter().for_each(|&place| it.read(&file, place, 4 * KIB));
        let mut chunks: Vec<u64> = places
            .iter()
            .flat_map(|&place| [place / CHUNK, (place + 4 * KIB - 1) / CHUNK])
            .collect();
        chunks.dedup();
        let (requests, sent) = it.cost();
        assert_eq!(sent - before.1, chunks.len() as u64 * CHUNK, "steps of {stride}");
        assert!(requests - before.0 <= chunks.len(), "{requests} requests");
    }
}

#[test]
fn backward_reads_fetch_only_their_bytes() {
    let it = Watched::new();
    let file = it.open();
    let end = 100 * MIB;
    (1..=64).for_each(|step| it.read(&file, end - step * 64 * KIB, 64 * KIB));
    assert_eq!(it.cost(), (16, 4 * MIB));
}

#[test]
fn interleaved_streams_of_one_handle_are_read_ahead() {
    const STEPS: u64 = 256;
    let it = Watched::new();
    let file = it.open();
    for step in 0..STEPS {
        it.read(&file, step * 64 * KIB, 64 * KIB);
        it.read(&file, 256 * MIB + step * 64 * KIB, 64 * KIB);
    }
    drop(file);
    it.cost();
    let ranges = it.origin.log().all().ranges("/f");
    for stream in [0, 256 * MIB] {
        // The length of read-ahead depends on how long the reader waits, so only what was read counts.
        let read = stream..stream + STEPS * 64 * KIB;
        let requests = ranges.iter().filter(|range| read.contains(&range.start)).count() as u64;
        let chunks = STEPS * 64 * KIB / CHUNK;
        assert!(
            requests < chunks * 3 / 4,
            "{requests} requests for {chunks} chunks from {stream} on: nothing was read ahead"
        );
    }
}

#[test]
fn sparse_mmap_access_fetches_little() {
    let it = Watched::new();
    let file = it.open();
    // SAFETY: the mapping is read only, lives as long as `file`, and the mount's files don't shrink.
    let map = unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            SIZE as usize,
            libc::PROT_READ,
            libc::MAP_SHARED,
            std::os::fd::AsRawFd::as_raw_fd(&file),
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        std::slice::from_raw_parts(at.cast::<u8>(), SIZE as usize)
    };
    let places = [300 * MIB, 5 * MIB, 411 * MIB, 77 * MIB, 200 * MIB];
    for place in places {
        assert_eq!(map[place as usize], it.content.read(place..place + 1)[0]);
    }
    // SAFETY: nothing refers to the mapping any more.
    unsafe { libc::munmap(map.as_ptr().cast_mut().cast(), map.len()) };
    let (requests, sent) = it.cost();
    assert!(
        requests <= 2 * places.len() && sent <= places.len() as u64 * 2 * CHUNK,
        "{requests} requests, {sent} bytes"
    );
}

#[test]
fn gaps_between_cached_chunks_need_one_request() {
    let (origin, content) = (Origin::start(), Content::noise(SIZE, 5));
    origin.add("/f", content.clone());
    // So long that fetching a chunk in between is cheaper on any machine.
    origin.on("/f").data().fault(Fault::Latency(Duration::from_millis(300)));
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "1").start();
    let it = Watched { origin, content, mount };
    let file = it.open();
    (0..8).for_each(|pair| it.read(&file, (2 * pair + 1) * CHUNK, 4 * KIB));
    assert_eq!(it.cost().0, 8);
    prefetch(&["--range", "0-4M"], &[it.mount.path("f")]).succeeded();
    let requests = || {
        it.cost();
        let ranges = it.origin.log().all().ranges("/f");
        ranges.iter().filter(|range| range.start < 16 * CHUNK).count()
    };
    let all = requests();
    assert!(all - 8 <= 2, "{} requests for the other 8 chunks", all - 8);
    it.read_on(&file, 0, 16 * CHUNK);
    assert_eq!(requests(), all, "all of it is here");
}

#[test]
fn read_ahead_stops_when_the_reader_leaves() {
    let it = Watched::slowly();
    let mut file = File::open(it.mount.path("f")).expect("to open");
    let mut bytes = vec![0; 4 * MIB as usize];
    file.read_exact(&mut bytes).expect("to read");
    drop(file);
    let (_, sent) = it.cost();
    // The rest of the window would take a minute. The allowed part takes four seconds, for a busy machine.
    assert!(
        sent <= 4 * MIB + 16 * MIB,
        "{sent} bytes were sent, and 4 MiB were read"
    );
}

#[test]
fn read_ahead_stops_after_a_seek() {
    let it = Watched::slowly();
    let file = it.open();
    it.read_on(&file, 0, 8 * MIB);
    it.read_on(&file, 400 * MIB, 2 * MIB);
    it.assert_nothing_more_is_asked_for_before(300 * MIB);
    // It still has the file open, and may return.
    it.read_on(&file, 8 * MIB, MIB);
}

#[test]
fn closing_one_reader_ends_only_its_read_ahead() {
    let it = Watched::slowly();
    let stays = it.open();
    it.read(&stays, 300 * MIB, READ);
    let goes = it.open();
    it.read_on(&goes, 0, 8 * MIB);
    drop(goes);
    // Requested after everything that had begun for the other reader.
    it.read(&stays, 400 * MIB, READ);
    it.assert_nothing_more_is_asked_for_before(300 * MIB);
}

#[test]
fn abandoned_fetch_completes_its_chunk() {
    let (origin, content) = (Origin::start(), Content::noise(SIZE, 5));
    origin.add("/f", content.clone());
    // All fetches but the first stop early in their second chunk.
    let gate = Gate::new();
    let stops = Fault::HoldAfter(CHUNK + 44 * KIB, gate.clone());
    origin.on("/f").data().starting_at(1).fault(stops);
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "1").start();
    let it = Watched { origin, content, mount };
    let file = it.open();
    // A sequence, so that more is read ahead; it goes to where the second fetch has stopped.
    it.read_on(&file, 0, 2 * CHUNK);
    it.read(&file, 2 * CHUNK, 32 * KIB);
    drop(file);
    gate.open();
    it.cost();
    let starts = || {
        it.origin
            .log()
            .all()
            .ranges("/f")
            .iter()
            .map(|range| range.start)
            .collect::<Vec<_>>()
    };
    // The length of the second fetch depends on whether the reader was seen waiting.
    assert_eq!(starts(), [0, CHUNK]);
    let file = it.open();
    it.read(&file, 2 * CHUNK, CHUNK);
    assert_eq!(starts(), [0, CHUNK], "what had begun is here");
    it.read(&file, 3 * CHUNK, KIB);
    assert_eq!(starts(), [0, CHUNK, 3 * CHUNK], "and what had not did not come");
}

/// A program that a reader starts inherits its open files for a moment.
#[test]
fn child_process_does_not_end_read_ahead() {
    let (origin, content) = (Origin::start(), Content::noise(SIZE, 6));
    origin.add("/f", content.clone());
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "1").start();
    let it = Watched { origin, content, mount };
    let file = it.open();
    // A window of some MiB.
    it.read_on(&file, 0, 8 * MIB);
    let gate = Gate::new();
    let stops = Fault::HoldAfter(CHUNK + 44 * KIB, gate.clone());
    it.origin.on("/f").data().fault(stops);
    thread::scope(|scope| {
        scope.spawn(|| it.read_on(&file, 8 * MIB, 24 * MIB));
        gate.wait_for_arrivals(1);
        process::run(&mut Command::new("true")).succeeded();
        gate.open();
    });
    let ranges = it.origin.log().all().ranges("/f");
    let in_a_row = ranges.windows(2).all(|pair| pair[0].end == pair[1].start);
    assert!(in_a_row, "one was cut short: {ranges:?}");
}

#[test]
fn sixty_four_readers_use_bounded_memory() {
    // Slow bodies would pile up where they are kept; fast ones where writes are late.
    for rate in [None, Some(8 * MIB)] {
        sixty_four_readers(rate);
    }
}

fn sixty_four_readers(rate: Option<u64>) {
    const READERS: u64 = 64;
    let origin = Origin::start();
    if let Some(rate) = rate {
        origin.on_any().data().fault(Fault::Rate(rate));
    }
    for reader in 0..READERS {
        origin.add(&format!("/{reader}"), Content::noise(4 * MIB, reader));
    }
    let mount = Mount::start_of(&origin.url("/"));
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let path = mount.path(reader.to_string());
            scope.spawn(move || {
                let read = fs::read(path).expect("to read");
                assert!(
                    read == Content::noise(4 * MIB, reader).read(0..4 * MIB),
                    "reader {reader}"
                );
            });
        }
    });
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).expect("the daemon lives");
    let kib = |name: &str| -> u64 {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let value = value.expect("a line of its memory").trim().trim_end_matches(" kB");
        value.parse().expect("a number")
    };
    // The pages of the program itself are more without optimisation, and grow with its code.
    let peak = kib("VmHWM:").saturating_sub(kib("RssFile:"));
    assert!(peak <= 90 * 1024, "{peak} KiB at the peak, with {rate:?}");
}
