//! What a supervisor sees of a mount: systemd's status line and watchdog, the report after SIGUSR1, and mounts that it makes
//! itself, whose `/dev/fuse` it hands over.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use fetchfs::internals::events;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::ground::{Ground, hello, in_namespace};
use crate::common::process::{Pidfd, assert_refuses};
use crate::common::{Mount, PATIENCE, fetchfs, is_root, run};

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

/// A supervisor's `/dev/fuse`, which its children inherit.
fn device() -> File {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .expect("/dev/fuse");
    fcntl(&device, FcntlArg::F_SETFD(FdFlag::empty())).expect("a flag");
    device
}

/// Mounts as a supervisor does, before the process that will serve the mount runs.
fn mount_with(device: &File, mountpoint: &Path) {
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions",
        device.as_raw_fd()
    );
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("supervised"),
        mountpoint,
        Some("fuse.fetchfs"),
        flags,
        Some(options.as_str()),
    )
    .expect("mount(2)");
}

fn status_of(mountpoint: &Path) -> Value {
    let ran = run(fetchfs().args(["status", "--json"]).arg(mountpoint)).succeeded();
    serde_json::from_str(&ran.out).expect("JSON")
}

#[test]
fn handed_over_descriptor_is_served_and_unmounted() {
    if !is_root() {
        return;
    }
    let (origin, ground) = (hello(), Ground::new());
    let device = device();
    mount_with(&device, &ground.mountpoint());
    ground.mount(&origin.url("/"), &["--fd", &device.as_raw_fd().to_string()]);
    // The supervisor keeps none: the kernel ends a mount with its last descriptor.
    drop(device);
    assert_eq!(
        fs::read_to_string(ground.mountpoint().join("hello.txt")).expect("to read"),
        "hello\n"
    );
    let status = status_of(&ground.mountpoint());
    assert_eq!(
        status[0]["mountpoint"],
        ground.mountpoint().to_str().expect("text"),
        "{status}"
    );
    ground.unmount(&[]).succeeded();
    ground.wait_for_the_end();
    ground.assert_nothing_is_left();
}

/// `/dev/fd/N` in the place of the mountpoint, which only the supervisor knows.
#[test]
fn handed_over_descriptor_needs_no_mountpoint() {
    if !is_root() {
        return;
    }
    let (origin, ground) = (hello(), Ground::new());
    let device = device();
    mount_with(&device, &ground.mountpoint());
    let mut command = fetchfs();
    command
        .arg("mount")
        .arg("--cache-dir")
        .arg(ground.home.path().join("cache"));
    command.arg("--log-file").arg(ground.home.path().join("log"));
    command
        .arg(origin.url("/"))
        .arg(format!("/dev/fd/{}", device.as_raw_fd()));
    run(&mut command).succeeded();
    drop(device);
    assert_eq!(
        fs::read_to_string(ground.mountpoint().join("hello.txt")).expect("to read"),
        "hello\n"
    );
    let process = ground.processes()[0];
    let process = Pidfd::open(process).expect("the process that serves it");
    process.signal(Signal::SIGTERM);
    assert!(process.wait(PATIENCE), "the daemon is left");
    ground.assert_nothing_is_left();
}

/// A container that has no usable `/dev/fuse` and does not see the mount.
#[test]
fn handed_over_descriptor_works_without_dev_fuse() {
    if !is_root() {
        return;
    }
    let (origin, ground) = (hello(), Ground::new());
    let device = device();
    mount_with(&device, &ground.mountpoint());
    let script = r#"
        mount --bind /dev/null /dev/fuse
        "$FETCHFS" mount --cache-dir "$1/cache" --log-file "$1/log" "$2" "$3"
    "#;
    let (url, place) = (origin.url("/"), format!("/dev/fd/{}", device.as_raw_fd()));
    in_namespace(script, &[ground.home.path(), Path::new(&url), Path::new(&place)]).succeeded();
    drop(device);
    let hello = fs::read_to_string(ground.mountpoint().join("hello.txt"));
    assert_eq!(hello.expect("to read"), "hello\n");
    ground.unmount(&[]).succeeded();
    ground.wait_for_the_end();
    ground.assert_nothing_is_left();
}

#[test]
fn descriptor_of_something_else_is_refused() {
    let (origin, ground) = (hello(), Ground::new());
    let url = origin.url("/");
    let refused = |fd: i32, words: &[&str]| {
        assert_refuses(&run(&mut ground.command(&url, &["--fd", &fd.to_string()])), words);
    };
    let file = File::open("/dev/null").expect("/dev/null");
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).expect("a flag");
    let fd = file.as_raw_fd();
    refused(fd, &[&format!("file descriptor {fd} is /dev/null, not /dev/fuse")]);
    drop(file);
    refused(987, &["no open file descriptor 987"]);
    // Nothing is mounted with it.
    let unused = device();
    let fd = unused.as_raw_fd();
    refused(fd, &[&format!("no mount of file descriptor {fd}"), "mount(2)"]);
    ground.assert_nothing_is_left();
}
