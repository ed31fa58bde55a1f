//! Every wait ends: a process that waits for a silent server can be killed and interrupted, and delays no other.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::black_hole::BlackHole;
use crate::common::files::{assert_same, errno_of, open_direct, pread, read_direct, try_pread};
use crate::common::mount::{Mount, Plan, fetchfs, is_mounted};
use crate::common::mute::{Mute, Says};
use crate::common::process::{self, Pidfd};
use crate::common::{PATIENCE, is_root};
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;

/// Maximum time until an interrupted process is gone. It must not be in state D meanwhile, because such a process
/// can't end.
const SOON: Duration = Duration::from_secs(1);

/// Attempts of something that must be quick. A busy machine may delay one or two; a wait without an end is late each
/// time.
const TRIES: usize = 5;

/// How a server stays silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// It accepts the request.
    AfterTheQuestion,
    /// No connection can be made.
    BlackHole,
    /// The connection is made, but the TLS handshake does not proceed.
    InTheHandshake,
}

/// An origin that has shown `file` and `directory/`, and answers no request for their contents.
struct Silent {
    _origin: Origin,
    gate: Gate,
    hole: Option<BlackHole>,
    mute: Option<Mute>,
    mount: Mount,
}

impl Silent {
    fn new() -> Silent {
        Silent::by(Silence::AfterTheQuestion)
    }

    fn by(silence: Silence) -> Silent {
        Silent::planned(silence, |plan| plan)
    }

    fn planned(silence: Silence, plan: impl FnOnce(Plan) -> Plan) -> Silent {
        let (origin, gate) = (Origin::start(), Gate::new());
        origin.add("/file", Content::noise(8 * MIB, 71));
        origin.add("/directory/name", "x");
        let mute = (silence == Silence::InTheHandshake).then(|| Mute::start(Says::Nothing));
        let fault = match &mute {
            None => Fault::Hold(gate.clone()),
            Some(mute) => Fault::Redirect(302, mute.url("https")),
        };
        origin.on("/file").data().fault(fault.clone());
        origin.on("/directory/").fault(fault);
        // Only a signal ends a wait within the patience of a test.
        let patient = (PATIENCE * 10).as_secs().to_string();
        let mount = ["--timeout", "--read-timeout", "--connect-timeout"]
            .into_iter()
            .fold(plan(Mount::of(&origin.url("/"))), |plan, option| {
                plan.with(option, &patient)
            })
            .start();
        let hole = (silence == Silence::BlackHole).then(|| {
            origin.go_down();
            BlackHole::at(origin.address())
        });
        Silent {
            _origin: origin,
            gate,
            hole,
            mute,
            mount,
        }
    }

    /// Waits until this many requests have arrived or have been attempted.
    fn wait_for(&self, arrivals: usize) {
        match (&self.hole, &self.mute) {
            (Some(hole), _) => hole.wait_for_attempt(),
            (None, Some(mute)) => mute.wait_for_connections(arrivals),
            (None, None) => self.gate.wait_for_arrivals(arrivals),
        }
    }

    /// Starts a program that waits, sends it a signal, and waits for its end. Returns how long that took.
    fn ends(&self, arrivals: usize, signal: Signal, command: &mut Command) -> Duration {
        let mut child: Child = process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        self.wait_for(arrivals);
        let begun = Instant::now();
        Pidfd::open(child.id()).expect("it waits").signal(signal);
        let ended = process::wait(&mut child, PATIENCE);
        let took = begun.elapsed();
        if ended.is_none() {
            self.gate.open();
            child.kill().expect("to kill it");
            child.wait().expect("it was killed");
        }
        assert!(ended.is_some(), "{command:?} does not end on {signal}");
        took
    }
}

/// Asserts that each program that waits for a server with this silence ends soon after this signal.
#[track_caller]
fn all_end_soon(silence: Silence, signal: Signal) {
    all_end_soon_at(|| Silent::by(silence), signal);
}

#[track_caller]
fn all_end_soon_at(server: impl Fn() -> Silent, signal: Signal) {
    for index in 0..5 {
        let mut took = Vec::new();
        while took.iter().all(|&time| time > SOON) {
            assert!(took.len() < TRIES, "reader {index}, {signal}: it took {took:?}");
            let silent = server();
            took.push(silent.ends(1, signal, &mut readers(&silent)[index]));
        }
    }
}

/// A program that reads a file through a mapping. (With a handler for Ctrl-C, Python could not leave the instruction
/// that waits for the page.)
const MAP: &str = "import mmap, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
f = open(sys.argv[1], 'rb')
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
m.madvise(mmap.MADV_RANDOM)
m[4 << 20]";

fn readers(silent: &Silent) -> Vec<Command> {
    let (file, directory) = (silent.mount.path("file"), silent.mount.path("directory"));
    let command = |program: &str, arguments: &[&str], path: &Path| {
        let mut command = Command::new(program);
        command.args(arguments).arg(path);
        command
    };
    let mut direct = Command::new("dd");
    let input = format!("if={}", file.display());
    direct.args([&input, "of=/dev/null", "bs=64k", "count=1", "iflag=direct"]);
    vec![
        command("cat", &[], &file),
        direct,
        command("python3", &["-c", MAP], &file),
        command("ls", &[], &directory),
        command("stat", &[], &directory.join("name")),
    ]
}

#[test]
fn kill_works_while_the_server_is_silent() {
    all_end_soon(Silence::AfterTheQuestion, Signal::SIGKILL);
}

#[test]
fn ctrl_c_works_while_the_server_is_silent() {
    all_end_soon(Silence::AfterTheQuestion, Signal::SIGINT);
}

#[test]
fn kill_works_while_packets_are_dropped() {
    all_end_soon(Silence::BlackHole, Signal::SIGKILL);
}

#[test]
fn ctrl_c_works_while_packets_are_dropped() {
    all_end_soon(Silence::BlackHole, Signal::SIGINT);
}

#[test]
fn kill_works_during_a_tls_handshake() {
    all_end_soon(Silence::InTheHandshake, Signal::SIGKILL);
}

#[test]
fn ctrl_c_works_during_a_tls_handshake() {
    all_end_soon(Silence::InTheHandshake, Signal::SIGINT);
}

/// A silent server, and a daemon in a new pid namespace, as in a container: its readers are outside of it.
fn silent_in_container() -> Silent {
    Silent::planned(Silence::AfterTheQuestion, Plan::in_pid_namespace)
}

#[test]
fn kill_works_from_outside_the_container() {
    if is_root() {
        all_end_soon_at(silent_in_container, Signal::SIGKILL);
    }
}

#[test]
fn ctrl_c_works_from_outside_the_container() {
    if is_root() {
        all_end_soon_at(silent_in_container, Signal::SIGINT);
    }
}

/// Also if one reader was interrupted while another waits for the same bytes.
#[test]
fn container_mount_survives_an_interrupt() {
    if !is_root() {
        return;
    }
    let silent = silent_in_container();
    let content = Content::noise(8 * MIB, 71);
    std::thread::scope(|scope| {
        let other = open_direct(&silent.mount.path("file"));
        let reading = scope.spawn(move || read_direct(&other, 0, 64 << 10));
        silent.wait_for(1);
        for (index, arrivals) in [(1, 1), (3, 2)] {
            let mut reader = readers(&silent).swap_remove(index);
            silent.ends(arrivals, Signal::SIGINT, &mut reader);
        }
        silent.gate.open();
        let read = reading.join().expect("no panic").expect("to read");
        assert_same(&read, &content.read(0..64 << 10), "that was not interrupted");
    });
    let whole = std::fs::read(silent.mount.path("file")).expect("to read");
    assert_same(&whole, &content.read(0..8 * MIB), "afterwards");
    let names: Vec<_> = std::fs::read_dir(silent.mount.path("directory"))
        .expect("to list")
        .map(|entry| entry.expect("a name").file_name())
        .collect();
    assert_eq!(names, ["name"]);
}

/// The state of a waiting process, as `ps` shows it.
fn state_of(child: &Child) -> char {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it is there");
        let (_, after_its_name) = stat.rsplit_once(") ").expect("a name in parentheses");
        match after_its_name.chars().next() {
            Some('R') => assert!(Instant::now() < deadline, "it never waits"),
            state => return state.expect("a state"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn listing_wait_is_interruptible_sleep() {
    // The kernel itself shows D for processes that wait for bytes.
    for index in [3, 4] {
        let silent = Silent::new();
        let mut command = readers(&silent).swap_remove(index);
        let mut child = process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        silent.wait_for(1);
        let state = state_of(&child);
        child.kill().expect("to kill it");
        child.wait().expect("it was killed");
        assert_eq!(state, 'S', "{command:?}");
    }
}

#[test]
fn stalled_handshake_or_head_times_out() {
    let content = Content::noise(8 * MIB, 74);
    for (says, scheme) in [
        (Says::Nothing, "https"),
        (Says::ABeginning, "http"),
        (Says::AByteAtATime, "http"),
    ] {
        let (origin, mute) = (Origin::start(), Mute::start(says));
        origin.add("/file", content.clone());
        let stalls = origin.on("/file").data().fault(Fault::Redirect(302, mute.url(scheme)));
        let plan = || {
            Mount::of(&origin.url("/"))
                .with("--timeout", "1s")
                .with("--connect-timeout", "1s")
        };
        let impatient = plan().with("--read-timeout", "5s").start();
        let file = open_direct(&impatient.path("file"));
        assert_eq!(errno_of(read_direct(&file, 0, 4096)), libc::ETIMEDOUT, "{says:?}");
        drop(impatient);
        let mount = plan().start();
        let file = open_direct(&mount.path("file"));
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| read_direct(&file, 0, 4096));
            // Each abandoned connection is followed by another: at least the third is of this mount.
            mute.wait_for_connections(mute.connections() + 2);
            stalls.lift();
            let read = reading.join().expect("no panic").expect("to read");
            assert_same(&read, &content.read(0..4096), "once it is back");
        });
    }
}

#[test]
fn killed_reader_does_not_affect_other_readers() {
    let silent = Silent::new();
    let content = Content::noise(8 * MIB, 71);
    std::thread::scope(|scope| {
        silent.ends(1, Signal::SIGKILL, &mut readers(&silent)[1]);
        let other = File::open(silent.mount.path("file")).expect("to open");
        let reading = scope.spawn(move || try_pread(&other, 0..64 << 10));
        silent.gate.open();
        let read = reading.join().expect("no panic").expect("to read");
        assert_eq!(read, content.read(0..64 << 10));
    });
}

/// Number of concurrent waiting readers.
const READERS: usize = 200;

/// Limit for quick operations, on the median of [`LOOKS`].
const PROMPT: Duration = Duration::from_millis(100);

/// Limit for the unmount of a mount with blocked readers.
const UNMOUNTED: Duration = Duration::from_secs(2);

/// Number of measurements. The median counts: a busy machine delays some, but a process behind a blocked reader is
/// late each time.
const LOOKS: usize = 20;

/// Runs `work` [`LOOKS`] times, half of which must be prompt.
#[track_caller]
fn is_prompt(what: &str, mut work: impl FnMut()) {
    let mut times: Vec<_> = (0..LOOKS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[LOOKS / 2] < PROMPT, "{what} takes {times:?}");
}

#[test]
fn two_hundred_blocked_readers_block_no_other() {
    let mut took = Vec::new();
    while took.iter().all(|&time| time > UNMOUNTED) {
        assert!(took.len() < TRIES, "unmounting took {took:?}");
        took.push(unmounting_takes_under_blocked_readers());
    }
}

/// Runs quick operations while readers are blocked, and unmounts. Returns the time of the unmount.
fn unmounting_takes_under_blocked_readers() -> Duration {
    let (origin, gate) = (Origin::start(), Gate::new());
    origin.add("/cached", Content::noise(MIB, 72));
    for number in 0..READERS {
        let path = format!("/blocked/{number}");
        origin.add(&path, Content::noise(8 * MIB, 73));
        origin.on(&path).data().fault(Fault::Hold(gate.clone()));
    }
    // The daemon is asked for cached bytes then, and attributes are never stale.
    let plan = Mount::of(&origin.url("/")).with("--no-passthrough", "");
    let mut mount = plan.with("--attr-ttl", "1h").start();
    let cached = mount.path("cached");
    let bytes = Content::noise(MIB, 72).read(0..MIB);
    assert_eq!(pread(&cached, 0..MIB), bytes);
    let took = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let file = File::open(mount.path(format!("blocked/{number}"))).expect("to open");
                scope.spawn(move || try_pread(&file, 0..10))
            })
            .collect();
        gate.wait_for_arrivals(16);
        is_prompt("a cached read", || {
            let file = open_direct(&cached);
            assert_eq!(read_direct(&file, 0, MIB as usize).expect("to read"), bytes);
        });
        is_prompt("ls", || {
            let names = std::fs::read_dir(mount.path("blocked")).expect("to list");
            assert_eq!(names.count(), READERS);
        });
        is_prompt("stat", || {
            // Each open reaches the daemon.
            let file = File::open(&cached).expect("to open");
            assert_eq!(file.metadata().expect("to stat").len(), MIB);
        });
        is_prompt("df", || {
            nix::sys::statvfs::statvfs(&mount.root()).expect("df");
        });
        let begun = Instant::now();
        process::run(fetchfs().args(["unmount", "--lazy"]).arg(mount.root())).succeeded();
        assert!(!is_mounted(&mount.root()));
        mount.signal(Signal::SIGTERM);
        assert!(mount.wait().success());
        for reader in readers {
            reader.join().expect("no panic").expect_err("it had to go");
        }
        begun.elapsed()
    });
    gate.open();
    took
}

/// Number of open files and of waiting reads.
const FILES: usize = 256;
const WAITING: usize = 1000;

/// A descriptor limit as on old systems and in careful units: fewer than the files to be read.
const DESCRIPTORS: u64 = 256;

/// Memory that the daemon may use in addition: for each read one chunk in flight, at most.
const MOST_MEMORY: u64 = 300 << 20;

#[test]
fn thousand_waiting_reads_stay_within_256_descriptors() {
    let (origin, gate) = (Origin::start(), Gate::new());
    let content = |file: usize| Content::noise(8 * MIB + file as u64, 300 + file as u64);
    for file in 0..FILES {
        origin.add(&format!("/{file}"), content(file));
    }
    origin.on_any().data().fault(Fault::Hold(gate.clone()));
    let patient = PATIENCE.as_secs().to_string();
    let mount = Mount::of(&origin.url("/"))
        .with("--read-timeout", &patient)
        .with("--timeout", &patient)
        .with_descriptors(DESCRIPTORS)
        .start();
    let files: Vec<_> = (0..FILES)
        .map(|file| open_direct(&mount.path(file.to_string())))
        .collect();
    std::thread::scope(|scope| {
        let reads: Vec<_> = (0..WAITING)
            .map(|number| {
                let (file, offset) = (number % FILES, (number / FILES) as u64 * 2 * MIB);
                let open = &files[file];
                let read = move || (file, offset, read_direct(open, offset, 4096));
                let thread = std::thread::Builder::new().stack_size(256 << 10);
                thread.spawn_scoped(scope, read).expect("a thread")
            })
            .collect();
        gate.wait_for_arrivals(16);
        // All of them wait, or will: while the gate is closed, none can be answered.
        let open = std::fs::read_dir(format!("/proc/{}/fd", mount.pid())).expect("its descriptors");
        assert!(open.count() as u64 <= DESCRIPTORS);
        gate.open();
        for read in reads {
            let (file, offset, read) = read.join().expect("no panic");
            let read = read.unwrap_or_else(|error| panic!("file {file} at {offset}: {error}"));
            assert_same(&read, &content(file).read(offset..offset + 4096), "a read that waited");
        }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", mount.pid())).expect("it runs");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.expect("a number").trim().parse().expect("a number");
    assert!(peak << 10 <= MOST_MEMORY, "{peak} kB of memory at most");
}
