//! Readers use a cache that holds a quarter of what they read. Meanwhile files are replaced at the server, cached
//! bytes are evicted, readers are killed, and the daemon is killed or remounted. The server is healthy throughout.
//! So:
//!
//! - Each successful read has the bytes of one version.
//! - The only errors are those of a replaced file or a dead mount.
//! - No read waits long. A waiter whose missing chunk the scheduler has forgotten would wait until `--read-timeout`,
//!   twice as long as this test allows. A debug build also asserts that after each event.
//!
//! `FETCHFS_CHURN_SECONDS` sets a duration other than twenty seconds. `FETCHFS_CHURN_SEED` repeats a run's choices,
//! but not its timing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::sys::signal::Signal;

use crate::common::cached::assert_sound;
use crate::common::files::{advise_random, on_disk, read_direct, try_open_direct, try_pread};
use crate::common::process::{self, Pidfd};
use crate::common::{Mount, PATIENCE, fetchfs, run};
use crate::origin::{Content, Fault, Origin, Validators};

const MIB: u64 = 1 << 20;

/// `--cache-size`: a quarter of all files' bytes.
const CACHE: u64 = 64 * MIB;

/// Number of reading threads.
const READERS: u64 = 10;

/// Number of threads that start reading processes and kill them.
const KILLERS: u64 = 3;

/// Bytes per second on each connection. Slow enough that readers compete for the four connections, and that chunks of
/// a waiting read are evicted while others of it arrive.
const RATE: u64 = 4 * MIB;

/// Longest time for an open, a read or the end of a killed reader. Half of `--read-timeout`, and much more than a
/// busy machine needs.
const LONGEST: Duration = Duration::from_secs(60);

/// Errors from a mount that dies or is away. The request is aborted, the mount is dead, the mount ends in order, or
/// the path leads to the empty directory below.
const INTERRUPTED: [i32; 4] = [libc::ECONNABORTED, libc::ENOTCONN, libc::EIO, libc::ENOENT];

/// What happens to the mount and its server, one event after another.
#[derive(Clone, Copy)]
enum Event {
    Replace,
    Clear,
    Remount,
    Kill,
}

/// Each round has these events, in a random order.
const ROUND: [Event; 16] = {
    let mut round = [Event::Replace; 16];
    (round[0], round[1], round[2]) = (Event::Clear, Event::Remount, Event::Kill);
    round
};

/// One version of a file at the server.
#[derive(Clone)]
struct Version {
    content: Content,
    replaced: Option<Instant>,
}

/// A file with all its versions.
struct Served {
    name: String,
    /// Least size of each version in bytes.
    size: u64,
    versions: Mutex<Vec<Version>>,
}

impl Served {
    fn versions(&self) -> MutexGuard<'_, Vec<Version>> {
        self.versions.lock().expect("no thread panics while it holds the lock")
    }

    /// The versions that a handle opened at `opened` may have. A replaced version may appear while listings are
    /// fresh, and for the delay of a busy machine: together less than [`LONGEST`].
    fn since(&self, opened: Instant) -> Vec<Content> {
        let is_recent = |version: &&Version| version.replaced.is_none_or(|replaced| replaced + LONGEST > opened);
        self.versions()
            .iter()
            .filter(is_recent)
            .map(|version| version.content.clone())
            .collect()
    }

    /// The time when the last version but one was replaced.
    fn last_replaced(&self) -> Option<Instant> {
        self.versions().iter().filter_map(|version| version.replaced).max()
    }
}

/// Number of times that each thing happened.
#[derive(Default)]
struct Tally {
    opens: AtomicU64,
    reads: AtomicU64,
    bytes: AtomicU64,
    stale: AtomicU64,
    interrupted: AtomicU64,
    killed_readers: AtomicU64,
    finished_readers: AtomicU64,
    replaced: AtomicU64,
    evicted: AtomicU64,
    cleared: AtomicU64,
    remounted: AtomicU64,
    killed: AtomicU64,
    /// Longest open or read in milliseconds.
    longest: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// State shared by the threads.
struct Churn {
    seed: u64,
    root: PathBuf,
    files: Vec<Served>,
    /// Index of the file that was replaced last.
    latest: AtomicUsize,
    /// Even while the mount is up; odd from before it is taken down until it is up again.
    epoch: AtomicU64,
    is_over: AtomicBool,
    tally: Tally,
}

/// Guard: ends the readers, also if the event thread panics.
struct EndsReaders<'a>(&'a AtomicBool);

impl Drop for EndsReaders<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn churn_in_a_small_cache_loses_no_waiter() {
    let seed = number_from("FETCHFS_CHURN_SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(number_from("FETCHFS_CHURN_SECONDS").unwrap_or(20));
    println!("FETCHFS_CHURN_SEED={seed}");
    let origin = Origin::start();
    let slow = origin.on_any().data().fault(Fault::Rate(RATE));
    let files = files_of(&origin);
    let mut mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "64MiB")
        .with("--min-free", "0")
        .with("--chunk-size", "64KiB")
        .with("--max-connections", "4")
        .with("--no-passthrough", "")
        .with("--attr-ttl", "1s")
        .with("--read-timeout", "120s")
        .living_for(time)
        .start();
    let churn = Churn {
        seed,
        root: mount.root(),
        files,
        latest: AtomicUsize::new(0),
        epoch: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        tally: Tally::default(),
    };
    std::thread::scope(|scope| {
        let end_of_readers = EndsReaders(&churn.is_over);
        let churn = &churn;
        let readers = (0..READERS).map(|_| Churn::read as fn(&Churn, Rng));
        let killers = (0..KILLERS).map(|_| Churn::kill_readers as fn(&Churn, Rng));
        let works = readers.chain(killers).chain([Churn::evict as fn(&Churn, Rng)]);
        let threads: Vec<_> = works
            .zip(1..)
            .map(|(work, number)| scope.spawn(move || work(churn, Rng::with_seed(seed ^ number))))
            .collect();
        churn.make_events(&origin, &mut mount, Rng::with_seed(seed), time, &threads);
        drop(end_of_readers);
        for thread in threads {
            thread.join().expect("no reader found anything wrong");
        }
    });
    churn.report();
    slow.lift();
    churn.assert_all_can_be_read();
    mount.unmount();
    assert_sound(&mount.cache());
}

/// Files of about 32 MiB, with strong ETags or with dates only.
fn files_of(origin: &Origin) -> Vec<Served> {
    let served = |number: u64| {
        let (path, size) = (format!("/{number}"), (24 + 2 * number) * MIB + 77 * number);
        let content = Content::noise(size, number);
        origin.add(&path, content.clone());
        if number % 2 == 1 {
            origin.set_validators(&path, Validators::DateOnly);
        }
        let version = Version {
            content,
            replaced: None,
        };
        Served {
            name: number.to_string(),
            size,
            versions: Mutex::new(vec![version]),
        }
    };
    (0..8).map(served).collect()
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

impl Churn {
    /// Fails the test and prints the seed.
    fn fail(&self, what: &str) -> ! {
        panic!("FETCHFS_CHURN_SEED={}: {what}", self.seed)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// A file to read: often the one that was replaced last, whose version is new to the mount.
    fn any_file(&self, random: &mut Rng) -> &Served {
        let any = random.usize(..self.files.len());
        let number = if random.bool() {
            self.latest.load(Ordering::Relaxed)
        } else {
            any
        };
        &self.files[number]
    }

    fn path(&self, file: &Served) -> PathBuf {
        self.root.join(&file.name)
    }

    /// Runs `work`, which must not take longer than [`LONGEST`].
    fn in_time<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        let took = begun.elapsed();
        self.tally.longest.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
        if took > LONGEST {
            self.fail(&format!("{what} took {took:?}"));
        }
        done
    }

    /// Opens files and reads from them until the end of the test.
    fn read(&self, mut random: Rng) {
        // For each file: since when this reader has got only stale errors.
        let mut stale: HashMap<&str, Instant> = HashMap::new();
        while !self.is_over() {
            let file = self.any_file(&mut random);
            let epoch = self.epoch.load(Ordering::SeqCst);
            match self.read_one(file, &mut random) {
                Ok(()) => {
                    stale.remove(file.name.as_str());
                }
                Err(error) if error.raw_os_error() == Some(libc::ESTALE) => {
                    count(&self.tally.stale);
                    let since = stale.entry(&file.name).or_insert_with(Instant::now);
                    // A replaced file may be stale again.
                    *since = (*since).max(file.last_replaced().unwrap_or(*since));
                    if since.elapsed() > LONGEST {
                        self.fail(&format!("{} is stale for {:?}", file.name, since.elapsed()));
                    }
                }
                Err(error) => self.judge(&error, file, epoch),
            }
        }
    }

    /// Accepts an error that a dead mount explains, if the mount was taken down since `epoch`.
    fn judge(&self, error: &io::Error, file: &Served, epoch: u64) {
        let was_up = epoch.is_multiple_of(2) && self.epoch.load(Ordering::SeqCst) == epoch;
        let errno = error.raw_os_error();
        if was_up || !errno.is_some_and(|errno| INTERRUPTED.contains(&errno)) {
            self.fail(&format!("{}: {error} (the mount was up: {was_up})", file.name));
        }
        count(&self.tally.interrupted);
        // The mount is away for a while, and busy-waiting gives nothing.
        std::thread::sleep(Duration::from_millis(5));
    }

    /// Reads through one handle: in sequence or at random places, through the kernel's pages or past them.
    fn read_one(&self, file: &Served, random: &mut Rng) -> io::Result<()> {
        let (is_direct, is_in_sequence) = (random.bool(), random.bool());
        let opened = Instant::now();
        let path = self.path(file);
        let handle = self.in_time("an open", || match is_direct {
            true => try_open_direct(&path),
            false => File::open(&path),
        })?;
        count(&self.tally.opens);
        if !is_direct && !is_in_sequence {
            advise_random(&handle);
        }
        let mut candidates: Option<Vec<Content>> = None;
        let mut at = random.u64(..file.size) / 4096 * 4096;
        for _ in 0..random.u32(1..40) {
            let length = (1 + random.u64(..256)) * 4096;
            if self.is_over() || at >= file.size {
                break;
            }
            let range = at..at + length;
            let bytes = self.in_time("a read", || match is_direct {
                true => read_direct(&handle, at, length as usize),
                false => try_pread(&handle, range.clone()),
            })?;
            count(&self.tally.reads);
            self.tally.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            // A direct read that meets an error after some bytes returns those.
            let range = if is_direct { at..at + bytes.len() as u64 } else { range };
            let candidates = candidates.get_or_insert_with(|| file.since(opened));
            candidates.retain(|content| content.read(range.clone()) == bytes);
            if candidates.is_empty() {
                self.fail(&format!("{}, {range:?}: not the bytes of one version", file.name));
            }
            at = if is_in_sequence {
                range.end.next_multiple_of(4096)
            } else {
                random.u64(..file.size) / 4096 * 4096
            };
        }
        Ok(())
    }

    /// Starts reading processes and kills them after a moment. Their output must be of one version.
    fn kill_readers(&self, mut random: Rng) {
        while !self.is_over() {
            let file = self.any_file(&mut random);
            let skipped = random.u64(..file.size / MIB);
            let mut command = match random.u8(..3) {
                0 => {
                    let mut command = Command::new("cat");
                    command.arg(self.path(file));
                    command
                }
                kind => {
                    let mut command = Command::new("dd");
                    command
                        .args(["bs=1M", "status=none"])
                        .arg(format!("if={}", self.path(file).display()))
                        .arg(format!("skip={skipped}"));
                    if kind == 1 {
                        command.arg("iflag=direct");
                    }
                    command
                }
            };
            let start = if command.get_program() == "cat" {
                0
            } else {
                skipped * MIB
            };
            let opened = Instant::now();
            let bytes = self.output_until_killed(&mut command, Duration::from_millis(random.u64(..1500)));
            let range: Range<u64> = start..start + bytes.len() as u64;
            let versions = file.since(opened);
            if !versions.iter().any(|content| content.read(range.clone()) == bytes) {
                self.fail(&format!(
                    "{command:?}: {} bytes that are not those of one version",
                    bytes.len()
                ));
            }
        }
    }

    /// The output of a process until it was killed or ended.
    fn output_until_killed(&self, command: &mut Command, after: Duration) -> Vec<u8> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = process::spawn(command);
        let mut output = child.stdout.take().expect("it is piped");
        let collector = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            output.read_to_end(&mut bytes).map(|_| bytes)
        });
        let process = Pidfd::open(child.id()).expect("a child that was not waited for");
        if process.wait(after) {
            count(&self.tally.finished_readers);
        } else {
            process.signal(Signal::SIGKILL);
            count(&self.tally.killed_readers);
        }
        if process::wait(&mut child, LONGEST).is_none() {
            self.fail(&format!("{command:?} was killed and does not end"));
        }
        let bytes = collector.join().expect("no panic");
        bytes.expect("to read from a pipe")
    }

    /// Makes events for the given time, or until a thread has found a failure.
    fn make_events(
        &self,
        origin: &Origin,
        mount: &mut Mount,
        mut random: Rng,
        time: Duration,
        threads: &[ScopedJoinHandle<'_, ()>],
    ) {
        let end = Instant::now() + time;
        let mut seeds = self.files.len() as u64..;
        loop {
            let mut round = ROUND;
            random.shuffle(&mut round);
            for event in round {
                if Instant::now() >= end || threads.iter().any(ScopedJoinHandle::is_finished) {
                    return;
                }
                if mount.has_met_bug() {
                    self.fail("the daemon met a bug");
                }
                match event {
                    Event::Replace => {
                        let number = random.usize(..self.files.len());
                        let file = &self.files[number];
                        let size = file.size + random.choice([0, 0, 1, 9999]).expect("some");
                        let seed = seeds.next().expect("it has no end");
                        self.replace(origin, file, Content::noise(size, seed));
                        self.latest.store(number, Ordering::Relaxed);
                    }
                    Event::Clear => self.clear(mount),
                    Event::Remount => self.remount(mount, Mount::unmount, &self.tally.remounted),
                    Event::Kill => self.remount(mount, Mount::kill, &self.tally.killed),
                }
                std::thread::sleep(Duration::from_millis(random.u64(..800)));
            }
        }
    }

    /// Replaces a file at the server by its next version.
    fn replace(&self, origin: &Origin, file: &Served, content: Content) {
        let mut versions = file.versions();
        origin.add(&format!("/{}", file.name), content.clone());
        versions.last_mut().expect("it has a version").replaced = Some(Instant::now());
        versions.push(Version {
            content,
            replaced: None,
        });
        count(&self.tally.replaced);
    }

    /// Evicts everything that no read uses, by command: several times in a row, so that it happens while reads wait.
    /// Then it pauses, so that the cache fills up and evicts by itself.
    fn evict(&self, mut random: Rng) {
        while !self.is_over() {
            let ran = run(fetchfs().args(["evict", "--recursive"]).arg(&self.root));
            // Files in use stay, which is reported as an error; so is a mount that is away.
            if ran.code > 1 {
                self.fail(&format!("{ran:?}"));
            }
            count(&self.tally.evicted);
            let pause = if random.u8(..6) == 0 { 5000 } else { 300 };
            std::thread::sleep(Duration::from_millis(random.u64(..pause)));
        }
    }

    /// Clears the cache beside the mount: everything that the mount does not use.
    fn clear(&self, mount: &Mount) {
        let ran = run(fetchfs().args(["cache", "clear", "--cache-dir"]).arg(mount.cache()));
        if ran.code != 0 {
            self.fail(&format!("{ran:?}"));
        }
        count(&self.tally.cleared);
    }

    /// Takes the mount down under its readers, checks the size of its cache, and mounts again. The cache is cleared
    /// just before. Bytes that the mount uses stay, and the next mount does not know their version before its first
    /// response.
    fn remount(&self, mount: &mut Mount, take_down: fn(&mut Mount), counter: &AtomicU64) {
        self.clear(mount);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        take_down(mount);
        let taken = on_disk(&mount.cache());
        if taken > CACHE {
            self.fail(&format!("the cache takes {taken} bytes"));
        }
        mount.start();
        self.epoch.fetch_add(1, Ordering::SeqCst);
        count(counter);
    }

    fn report(&self) {
        let Tally {
            opens,
            reads,
            bytes,
            stale,
            interrupted,
            killed_readers,
            finished_readers,
            replaced,
            evicted,
            cleared,
            remounted,
            killed,
            longest,
        } = &self.tally;
        let mib = bytes.load(Ordering::Relaxed) / MIB;
        println!(
            "{opens:?} opens, {reads:?} reads of {mib} MiB, {stale:?} stale, {interrupted:?} interrupted, the longest took {longest:?} ms; \
             {killed_readers:?} readers killed, {finished_readers:?} ended; \
             {replaced:?} replaced, {evicted:?} evicted, {cleared:?} cleared, {remounted:?} remounted, {killed:?} daemons killed"
        );
        if [opens, reads, replaced]
            .into_iter()
            .any(|counter| counter.load(Ordering::Relaxed) == 0)
        {
            self.fail("that was no churn");
        }
    }

    /// After the last event, every file reads as its last version.
    fn assert_all_can_be_read(&self) {
        for file in &self.files {
            let last = file.versions().last().expect("it has a version").content.clone();
            let begun = Instant::now();
            // A version is fresh for a second, and the one before may be served meanwhile.
            while !self.reads_as(file, &last) {
                if begun.elapsed() > PATIENCE {
                    self.fail(&format!("{} never reads as its last version", file.name));
                }
            }
        }
    }

    /// Whether a file reads as this version. Returns false if it still is another.
    fn reads_as(&self, file: &Served, content: &Content) -> bool {
        let read = File::open(self.path(file)).and_then(|handle| {
            let mut pieces = (0..=file.size).step_by(MIB as usize).map(|at| at..at + MIB);
            pieces.try_fold(true, |is_same, piece| {
                let bytes = self.in_time("a read at the end", || try_pread(&handle, piece.clone()))?;
                Ok(is_same && bytes == content.read(piece))
            })
        });
        read.unwrap_or_else(|error| match error.raw_os_error() {
            Some(libc::ESTALE) => false,
            _ => self.fail(&format!("{}: {error}", file.name)),
        })
    }
}
