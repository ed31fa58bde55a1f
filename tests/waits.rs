//! Every wait ends: whoever waits for a silent server can be killed, and told to end, and holds nobody else up.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::common::PATIENCE;
use crate::common::files::{pread, try_pread};
use crate::common::mount::{Mount, fetchfs, is_mounted};
use crate::common::process::{self, Pidfd};
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;

/// An origin that has shown `file` and `directory/`, and answers nothing that is asked about their insides.
struct Silent {
    _origin: Origin,
    gate: Gate,
    mount: Mount,
}

impl Silent {
    fn new() -> Silent {
        let (origin, gate) = (Origin::start(), Gate::new());
        origin.add("/file", Content::noise(8 * MIB, 71));
        origin.add("/directory/name", "x");
        origin.on("/file").data().fault(Fault::Hold(gate.clone()));
        origin.on("/directory/").fault(Fault::Hold(gate.clone()));
        // Nothing but a signal ends a wait within the patience of a test.
        let patient = (PATIENCE * 10).as_secs().to_string();
        let mount = Mount::of(&origin.url("/"))
            .with("--timeout", &patient)
            .with("--read-timeout", &patient)
            .start();
        Silent {
            _origin: origin,
            gate,
            mount,
        }
    }

    /// Starts a program that comes to wait, sends it a signal, and sees it go.
    fn ends(&self, arrivals: usize, signal: Signal, command: &mut Command) {
        let mut child: Child = process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        self.gate.wait_for_arrivals(arrivals);
        Pidfd::open(child.id()).expect("it waits").signal(signal);
        let ended = process::wait(&mut child, PATIENCE);
        if ended.is_none() {
            self.gate.open();
            child.kill().expect("to kill it");
            child.wait().expect("it was killed");
        }
        assert!(ended.is_some(), "{command:?} does not end on {signal}");
    }
}

/// What a program that reads a file through a mapping does. (A handler of its own for Ctrl-C could not make Python leave
/// the instruction that waits for the page.)
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
fn every_program_that_waits_for_a_silent_server_can_be_killed() {
    for index in 0..5 {
        let silent = Silent::new();
        silent.ends(1, Signal::SIGKILL, &mut readers(&silent)[index]);
    }
}

#[test]
fn every_program_that_waits_for_a_silent_server_ends_on_ctrl_c_also_where_it_handles_that_itself() {
    for index in 0..5 {
        let silent = Silent::new();
        silent.ends(1, Signal::SIGINT, &mut readers(&silent)[index]);
    }
}

#[test]
fn who_waits_for_the_same_bytes_as_one_who_was_killed_gets_them() {
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

#[test]
fn two_hundred_blocked_readers_hold_nobody_up_and_go_with_the_mount() {
    const READERS: usize = 200;
    let (origin, gate) = (Origin::start(), Gate::new());
    origin.add("/cached", Content::noise(MIB, 72));
    for number in 0..READERS {
        let path = format!("/blocked/{number}");
        origin.add(&path, Content::noise(8 * MIB, 73));
        origin.on(&path).data().fault(Fault::Hold(gate.clone()));
    }
    let mut mount = Mount::start_of(&origin.url("/"));
    pread(&mount.path("cached"), 0..MIB);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let file = File::open(mount.path(format!("blocked/{number}"))).expect("to open");
                scope.spawn(move || try_pread(&file, 0..10))
            })
            .collect();
        gate.wait_for_arrivals(16);
        assert_eq!(
            pread(&mount.path("cached"), 0..MIB),
            Content::noise(MIB, 72).read(0..MIB)
        );
        let names = std::fs::read_dir(mount.path("blocked")).expect("to list");
        assert_eq!(names.count(), READERS);
        assert_eq!(std::fs::metadata(mount.path("cached")).expect("to stat").len(), MIB);
        nix::sys::statvfs::statvfs(&mount.root()).expect("df");
        process::run(fetchfs().args(["unmount", "--lazy"]).arg(mount.root())).succeeded();
        assert!(!is_mounted(&mount.root()));
        mount.signal(Signal::SIGTERM);
        assert!(mount.wait().success());
        for reader in readers {
            reader.join().expect("no panic").expect_err("it had to go");
        }
    });
    gate.open();
}
