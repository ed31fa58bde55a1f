//! What a supervisor sees of a mount: systemd's status line and watchdog, and the report after SIGUSR1.

use std::fs;
use std::os::unix::net::UnixDatagram;

use fetchfs::internals::events;
use nix::sys::signal::Signal;

use crate::common::ground::hello;
use crate::common::{Mount, PATIENCE};

#[test]
fn signal_writes_a_report_to_the_log() {
    let origin = hello();
    let mount = Mount::start_of(&origin.url("/"));
    fs::read(mount.path("hello.txt")).expect("to read");
    mount.signal(Signal::SIGUSR1);
    mount.wait_for_event_with(events::STATUS_REPORT, "\"fetched_bytes\":6", 1);
    mount.wait_for_event_with(events::STATUS_REPORT, mount.root().to_str().expect("text"), 1);
}

#[test]
fn systemd_hears_of_the_mount() {
    let origin = hello();
    let mount = Mount::of(&origin.url("/")).with_env("WATCHDOG_USEC", "500000").start();
    // The path of the harness's socket, which is closed now.
    let path = mount.home().join("notify");
    fs::remove_file(&path).expect("its file");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    fs::read(mount.path("hello.txt")).expect("to read");
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    let is_told = |heard: &str| {
        heard.contains("STATUS=http") && heard.contains("6 B fetched") && heard.matches("WATCHDOG=1").count() >= 3
    };
    while !is_told(&heard) {
        let len = socket.recv(&mut buffer).expect("a message");
        heard.push_str(&String::from_utf8_lossy(&buffer[..len]));
        assert!(heard.len() < 1 << 20, "{heard}");
    }
}
