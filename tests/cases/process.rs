//! Signals, limits and the mount's process.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use nix::sys::resource::{Resource, setrlimit};

use fetchfs::internals::events;

use crate::common::ground::{Ground, hello, in_namespace};
use crate::common::mount::is_mounted;
use crate::common::process::{Pidfd, assert_refuses, spawn, wait};
use crate::common::{Mount, PATIENCE, fetchfs, is_root, run, wait_until};
use crate::origin::Content;

/// Signals that end a process by default but must not end a mount; SIGHUP, which reloads; and SIGTSTP, which would
/// stop it. SIGXCPU ends a mount only if its CPU time is limited.
const HARMLESS: [libc::c_int; 18] = [
    libc::SIGHUP,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGFPE,
    libc::SIGSYS,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGIO,
    libc::SIGPWR,
];

fn send(pid: u32, signal: libc::c_int) {
    // SAFETY: a system call with two numbers.
    let sent = unsafe { libc::kill(pid.cast_signed(), signal) };
    assert_eq!(sent, 0, "signal {signal}");
}

#[test]
fn no_signal_leaves_a_dead_mount() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(&origin.url("/"), &[]);
    let [background] = ground.processes()[..] else {
        panic!("one daemon");
    };
    let foreground = Mount::start_of(&origin.url("/"));
    let real_time = [libc::SIGRTMIN(), libc::SIGRTMAX()];
    for signal in HARMLESS.into_iter().chain(real_time) {
        send(background, signal);
        send(foreground.pid(), signal);
        for root in [ground.mountpoint(), foreground.root()] {
            assert_eq!(fs::read_dir(root).expect("to list").count(), 2, "after signal {signal}");
        }
    }
    for signal in [libc::SIGQUIT, libc::SIGABRT] {
        let ended = Mount::start_of(&origin.url("/"));
        let (root, process) = (ended.root(), Pidfd::open(ended.pid()).expect("it runs"));
        send(ended.pid(), signal);
        assert!(process.wait(PATIENCE), "signal {signal} ends it");
        assert!(!is_mounted(&root), "signal {signal}: a mount is left");
    }
    ground.unmount(&[]).succeeded();
}

/// As logrotate(8) does it. New names on the server appear, although the listing is fresh.
#[test]
fn hangup_reopens_the_log_and_refreshes_listings() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(&origin.url("/"), &["--attr-ttl", "1h"]);
    assert_eq!(fs::read_dir(ground.mountpoint()).expect("to list").count(), 2);
    origin.add("/new", "new\n");
    let [daemon] = ground.processes()[..] else {
        panic!("one daemon");
    };
    let log = ground.home.path().join("log");
    fs::rename(&log, ground.home.path().join("log.1")).expect("to rotate the log");
    send(daemon, libc::SIGHUP);
    let names = || fs::read_dir(ground.mountpoint()).expect("to list").count();
    wait_until("the new name", || log.exists() && names() == 3);
    ground.unmount(&[]).succeeded();
    assert_eq!(ground.log().events(events::UNMOUNTED), 1, "in the new log");
}

/// The two ends of a terminal: the window's, which closes it when dropped, and the programs' end. No other process
/// inherits them, even if another test starts it at this moment: it would keep the window open.
fn open_terminal() -> (OwnedFd, OwnedFd) {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes integers, returns a descriptor that has no other owner, or -1.
    let window = unsafe { libc::posix_openpt(flags) };
    assert!(window >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor without another owner, checked above.
    let window = unsafe { OwnedFd::from_raw_fd(window) };
    // SAFETY: a system call on a descriptor that was just made.
    assert_eq!(unsafe { libc::unlockpt(window.as_raw_fd()) }, 0);
    // SAFETY: a system call on a descriptor that was just made; returns a descriptor without another owner, or -1.
    let terminal = unsafe { libc::ioctl(window.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    assert!(terminal >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor without another owner, checked above.
    (window, unsafe { OwnedFd::from_raw_fd(terminal) })
}

/// A foreground mount whose terminal is closed, such as a window or an ssh session.
#[test]
fn closed_terminal_unmounts() {
    let (origin, ground) = (hello(), Ground::new());
    let (window, terminal) = open_terminal();
    let mut command = ground.command(&origin.url("/"), &["--foreground"]);
    let streams = || Stdio::from(terminal.try_clone().expect("its copy"));
    command.stdin(streams()).stdout(streams()).stderr(streams());
    // SAFETY: two system calls.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let mut child = spawn(&mut command);
    drop((command, terminal));
    wait_until("the mount", || is_mounted(&ground.mountpoint()));
    // A signal from another process does not mean a closed terminal.
    send(child.id(), libc::SIGHUP);
    assert_eq!(fs::read_dir(ground.mountpoint()).expect("to list").count(), 2);
    drop(window);
    let status = wait(&mut child, PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    ground.assert_nothing_is_left();
}

/// `ulimit -f`, `LimitFSIZE=`.
#[test]
fn file_size_limit_fails_no_read() {
    let (origin, ground) = (hello(), Ground::new());
    let mut command = ground.command(&origin.url("/"), &[]);
    let most = 1 << 20;
    // SAFETY: setrlimit is a single system call.
    unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_FSIZE, most, most)?)) };
    run(&mut command).succeeded();
    let large = fs::read(ground.mountpoint().join("large")).expect("to read");
    assert!(large == Content::noise(64 << 20, 61).read(0..64 << 20));
    assert_eq!(
        fs::read(ground.mountpoint().join("hello.txt")).expect("to read"),
        b"hello\n"
    );
    let mark = origin.log().mark();
    assert_eq!(
        fs::read(ground.mountpoint().join("hello.txt")).expect("to read"),
        b"hello\n"
    );
    assert_eq!(
        origin.log().since(mark).body_bytes("/hello.txt"),
        0,
        "a small file is cached"
    );
    ground.unmount(&[]).succeeded();
}

#[test]
fn unwritable_log_only_loses_lines() {
    let (origin, ground) = (hello(), Ground::new());
    run(&mut ground.command(&origin.url("/"), &["-vvv", "--log-file", "/dev/full"])).succeeded();
    assert_eq!(
        fs::read(ground.mountpoint().join("hello.txt")).expect("to read"),
        b"hello\n"
    );
    ground.unmount(&[]).succeeded();
}

/// A mount can be moved or bound (`mount --move`, `mount --bind`), and its process follows.
#[test]
fn moved_or_bind_mounted_mount_is_found_by_device() {
    let (origin, ground) = (hello(), Ground::new());
    origin.add("/sub/inner.txt", "inner\n");
    let script = r#"
        export FETCHFS_CONFIG=/dev/null
        cd "$1/mnt"; mount -t tmpfs none .; cd "$PWD"; mkdir old new bound part
        here() { "$FETCHFS" status --json "$1" | grep -q "\"$PWD/$1\""; }
        start() { "$FETCHFS" mount --cache-dir "$1/cache" --log-file "$1/log" "$2" old; }
        start "$@"
        mount --move old new; here new
        "$FETCHFS" prefetch new/hello.txt
        mount --bind new bound; mount --bind new/sub part; here bound; here part
        "$FETCHFS" prefetch part/inner.txt
        "$FETCHFS" status --json "$PWD/new" | grep -q "$PWD/bound"
        "$FETCHFS" unmount new 2>&1 | grep -q "remain on $PWD/bound and $PWD/part"
        cat bound/hello.txt part/inner.txt
        "$FETCHFS" unmount bound part
        start "$@"
        mount --move old new; mount --bind new/sub part
        kill -TERM $("$FETCHFS" status --json new | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
        while grep -q "$PWD/.* fuse.fetchfs" /proc/self/mountinfo; do sleep 0.1; done
    "#;
    let ran = in_namespace(script, &[ground.home.path(), origin.url("/").as_ref()]).succeeded();
    assert!(ran.out.contains("hello\ninner\n"), "{ran:?}");
    ground.wait_for_the_end();
}

/// logind removes a user's directory at the last logout; clean-up jobs remove old files in /tmp.
#[test]
fn deleted_run_directory_is_harmless() {
    let (origin, ground) = (hello(), Ground::new());
    // The runtime directory of an ordinary user, or of root at /run/fetchfs, hidden from other tests.
    let script = r#"
        export FETCHFS_CONFIG=/dev/null XDG_RUNTIME_DIR="$1/run"
        mkdir -p /run/fetchfs "$1/run"; mount -t tmpfs none /run/fetchfs
        "$FETCHFS" mount --cache-dir "$1/cache" --log-file "$1/log" "$2" "$1/mnt"
        mount -t tmpfs none /run/fetchfs; rm -rf "$1/run"
        "$FETCHFS" status --json "$1/mnt" | grep -q "\"$1/mnt\""
        "$FETCHFS" prefetch "$1/mnt/hello.txt"
        ! "$FETCHFS" mount --cache-dir "$1/cache" "$2" "$1/mnt"
        "$FETCHFS" unmount "$1/mnt"
    "#;
    in_namespace(script, &[ground.home.path(), origin.url("/").as_ref()]).succeeded();
    ground.assert_nothing_is_left();
}

/// An overlay would keep asking for the version of a file that it saw first.
#[test]
fn overlay_works_on_an_unchanging_tree() {
    if !is_root() {
        return;
    }
    let (origin, ground) = (hello(), Ground::new());
    let script = r#"
        export FETCHFS_CONFIG=/dev/null
        cd "$1"; mkdir up; mount -t tmpfs none up; mkdir up/upper up/work up/merged
        start() { "$FETCHFS" mount --cache-dir "$1/cache" --log-file "$1/log" --attr-ttl "$3" "$2" mnt; }
        stack() { mount -t overlay none -o lowerdir=mnt,upperdir=up/upper,workdir=up/work up/merged; }
        start "$@" 1m; ! stack 2>/dev/null; "$FETCHFS" unmount mnt
        start "$@" 1d; stack; cat up/merged/hello.txt; umount up/merged; "$FETCHFS" unmount mnt
    "#;
    let ran = in_namespace(script, &[ground.home.path(), origin.url("/").as_ref()]).succeeded();
    assert_eq!(ran.out, "hello\n");
}

/// The handle that an NFS server asks for before it exports a directory.
#[test]
fn mount_refuses_nfs_file_handles() {
    let origin = hello();
    let mount = Mount::start_of(&origin.url("/"));
    let root = CString::new(mount.root().into_os_string().into_encoded_bytes()).expect("a path of the harness");
    // A file_handle with room for 128 bytes (open_by_handle_at(2)).
    let (mut handle, mut id) = ([0u32; 34], 0);
    handle[0] = 128;
    // SAFETY: the handle gives its own size.
    let outcome =
        unsafe { libc::name_to_handle_at(libc::AT_FDCWD, root.as_ptr(), handle.as_mut_ptr().cast(), &mut id, 0) };
    let error = std::io::Error::last_os_error();
    assert_eq!((outcome, error.raw_os_error()), (-1, Some(libc::EOPNOTSUPP)));
}

/// A FUSE file system may also be used by another host: here it is a mount of fetchfs.
#[test]
fn cache_dir_on_a_network_file_system_is_rejected() {
    let origin = hello();
    let (ground, mount) = (Ground::new(), Mount::start_of(&origin.url("/")));
    let folder = mount.path("cache");
    let on = |options: &[&str]| {
        run(ground
            .command(&origin.url("/"), options)
            .arg("--cache-dir")
            .arg(&folder))
    };
    assert_refuses(&on(&[]), &["FUSE", "--cache-dir", "--unshared-cache"]);
    // This folder can't be written to, which the error says.
    let ran = on(&["--unshared-cache"]);
    assert!(!ran.err.contains("network file system"), "{ran:?}");
}

#[test]
fn cache_clear_keeps_pinned_files() {
    let (origin, ground) = (hello(), Ground::new());
    origin.add("/other.txt", "other\n");
    ground.mount(&origin.url("/"), &[]);
    let path = |name: &str| ground.mountpoint().join(name);
    fs::read(path("other.txt")).expect("to read");
    run(fetchfs().args(["pin"]).arg(path("hello.txt"))).succeeded();
    run(fetchfs().args(["prefetch"]).arg(path("hello.txt"))).succeeded();
    ground.unmount(&[]).succeeded();
    let cache = ground.home.path().join("cache");
    let clear = |options: &[&str]| {
        run(fetchfs()
            .args(["cache", "clear", "--cache-dir"])
            .arg(&cache)
            .args(options))
        .succeeded()
        .out
    };
    let out = clear(&[]);
    assert!(
        out.contains("1 pinned file kept") && out.contains("1 file with 6 B deleted"),
        "{out}"
    );
    ground.mount(&origin.url("/"), &["--offline"]);
    assert_eq!(fs::read(path("hello.txt")).expect("it is pinned"), b"hello\n");
    fs::read(path("other.txt")).expect_err("it was cleared");
    ground.unmount(&[]).succeeded();
    let out = clear(&["--pinned"]);
    assert!(out.contains("1 file with 6 B deleted"), "{out}");
}
