//! A mount's beginning and its end: what the commands say and return, who may mount, and that nothing is left.
//!
//! Here `fetchfs mount` goes to the background, as users see it.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::common::files::{sha256, sha256_of, try_pread};
use crate::common::mount::{detach, is_mounted, mount_line};
use crate::common::process::{Pidfd, Ran, processes_about, spawn};
use crate::common::{Mount, PATIENCE, fetchfs, is_root, program, run, temporary_directory};
use crate::origin::{Content, Fault, Gate, Origin};

/// A mountpoint, and a cache beside it. Dropped, it ends whatever was mounted there and whoever served it.
struct Ground {
    home: TempDir,
}

impl Ground {
    fn new() -> Ground {
        let home = temporary_directory();
        fs::create_dir(home.path().join("mnt")).expect("a mountpoint");
        Ground { home }
    }

    fn mountpoint(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    /// `fetchfs mount` of a source, with options, into the background.
    fn command(&self, source: &str, options: &[&str]) -> Command {
        let mut command = fetchfs();
        self.arguments(&mut command, source, options);
        command
    }

    fn arguments(&self, command: &mut Command, source: &str, options: &[&str]) {
        let home = self.home.path();
        command
            .arg("mount")
            .arg("--cache-dir")
            .arg(home.join("cache"))
            .arg("--log-file")
            .arg(home.join("log"));
        command.args(options).arg(source).arg(self.mountpoint());
    }

    #[track_caller]
    fn mount(&self, source: &str, options: &[&str]) {
        run(&mut self.command(source, options)).succeeded();
    }

    fn unmount(&self, options: &[&str]) -> Ran {
        run(fetchfs().arg("unmount").args(options).arg(self.mountpoint()))
    }

    /// The processes that serve here.
    fn processes(&self) -> Vec<u32> {
        processes_about(self.home.path().to_str().expect("a path of the harness"))
    }

    /// Waits until nobody serves here any more.
    #[track_caller]
    fn wait_for_the_end(&self) {
        for process in self.processes().into_iter().filter_map(Pidfd::open) {
            assert!(process.wait(PATIENCE), "a daemon is left");
        }
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        assert!(!is_mounted(&self.mountpoint()), "{:?}", mount_line(&self.mountpoint()));
        assert!(self.processes().is_empty(), "left: {:?}", self.processes());
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for process in self.processes().into_iter().filter_map(Pidfd::open) {
            process.signal(Signal::SIGTERM);
            if !process.wait(Duration::from_secs(5)) {
                process.signal(Signal::SIGKILL);
                process.wait(PATIENCE);
            }
        }
        detach(&self.mountpoint());
        if std::thread::panicking() {
            let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            eprintln!("--- the daemon's log:\n{log}");
        }
    }
}

fn hello() -> Origin {
    let origin = Origin::start();
    origin.add("/hello.txt", "hello\n");
    origin.add("/large", Content::noise(64 << 20, 61));
    origin
}

/// The command fails with one sentence that holds these words.
#[track_caller]
fn assert_refuses(ran: &Ran, words: &[&str]) {
    assert_ne!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.err.trim_end().lines().count(), 1, "one sentence: {ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word:?} is missing: {ran:?}");
    }
    assert_eq!(ran.out, "", "errors go to standard error");
}

#[test]
fn mount_returns_when_the_files_are_there_and_unmount_when_nothing_is_left() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(&origin.url("/"), &[]);
    assert_eq!(
        fs::read(ground.mountpoint().join("hello.txt")).expect("to read"),
        b"hello\n"
    );
    assert_eq!(ground.processes().len(), 1, "one daemon");
    let ran = ground.unmount(&[]).succeeded();
    ground.assert_nothing_is_left();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "nothing to say");
    assert_eq!(
        fs::read_dir(ground.mountpoint()).expect("the mountpoint stays").count(),
        0
    );
}

#[test]
fn the_mount_table_names_the_source_without_its_secrets() {
    let (origin, ground) = (hello(), Ground::new());
    let with_secret = origin.url("/").replace("http://", "http://ann:s3cret@");
    ground.mount(&with_secret, &[]);
    let findmnt = run(Command::new("findmnt")
        .args(["-n", "-o", "FSTYPE,SOURCE,OPTIONS"])
        .arg(ground.mountpoint()));
    let line = findmnt.succeeded().out;
    assert!(line.starts_with("fuse.fetchfs "), "{line}");
    assert!(
        line.contains(&origin.address().to_string()) && line.contains("ro,"),
        "{line}"
    );
    fs::read(ground.mountpoint().join("hello.txt")).expect("to read");
    let log = fs::read_to_string(ground.home.path().join("log")).unwrap_or_default();
    assert!(!line.contains("s3cret") && !log.contains("s3cret"), "{line}{log}");
}

#[test]
fn options_can_be_given_as_mount_does() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(
        &origin.url("/"),
        &["-o", "uid=1234,umask=0037,_netdev,noauto,max_connections=2"],
    );
    let metadata = fs::metadata(ground.mountpoint().join("hello.txt")).expect("to stat");
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (1234, 0o440));
}

#[test]
fn what_prevents_a_mount_is_said_in_one_sentence() {
    let (origin, ground) = (hello(), Ground::new());
    let home = ground.home.path();
    let url = origin.url("/");
    let on = |mountpoint: &Path| {
        run(fetchfs()
            .arg("mount")
            .arg("--cache-dir")
            .arg(home.join("cache"))
            .arg(&url)
            .arg(mountpoint))
    };
    assert_refuses(&on(&home.join("nowhere")), &["does not exist", "nowhere"]);
    fs::write(home.join("file"), "").expect("a file");
    assert_refuses(&on(&home.join("file")), &["not a directory"]);
    fs::create_dir_all(home.join("full/of")).expect("a directory");
    assert_refuses(&on(&home.join("full")), &["not empty"]);
    ground.mount(&url, &[]);
    assert_refuses(&on(&ground.mountpoint()), &["busy", "fetchfs unmount"]);
    assert_eq!(
        fs::read(ground.mountpoint().join("hello.txt")).expect("the first is unharmed"),
        b"hello\n"
    );
}

#[test]
fn what_is_wrong_with_a_source_is_said_in_one_sentence() {
    let (origin, ground) = (hello(), Ground::new());
    let of = |source: &str| run(&mut ground.command(source, &["--retries", "0", "--timeout", "5s"]));
    assert_refuses(&of("ftp://example.org/"), &["ftp://example.org/", "http"]);
    assert_refuses(&of("http://[broken/"), &["http://[broken/"]);
    assert_refuses(&of("http://no-such-host.invalid/"), &["no-such-host.invalid"]);
    assert_refuses(&of(&origin.url("/nothing/")), &["404", "/nothing/"]);
    let with_login = origin.url("/").replace("http://", "http://ann:wrong@");
    for (status, url, advice) in [
        (401, origin.url("/"), "give a user name and password"),
        (401, with_login, "check the user name and password"),
        (403, origin.url("/"), "does not let you see"),
        (400, origin.url("/"), "https://"),
        (451, origin.url("/"), "check the URL"),
        (500, origin.url("/"), "try again later"),
    ] {
        let switch = origin.on("/").fault(Fault::Status(status));
        assert_refuses(&of(&url), &[&status.to_string(), advice]);
        switch.lift();
    }
    let no_tls = run(&mut ground.command(&speaks_no_tls(), &["--retries", "0"]));
    assert_refuses(&no_tls, &["does not speak TLS", "http://"]);
    let by_proxy = run(&mut ground.command(&origin.url("/"), &["--retries", "0", "--proxy", "http://127.0.0.1:9"]));
    assert_refuses(&by_proxy, &["refused the connection", "the proxy", "--proxy"]);
    let switch = origin.on("/").fault(Fault::LoginPage);
    assert_refuses(&of(&origin.url("/")), &["index"]);
    switch.lift();
    let switch = origin.on("/").fault(Fault::Hold(Gate::new()));
    assert_refuses(
        &run(&mut ground.command(&origin.url("/"), &["--retries", "0", "--timeout", "1s"])),
        &["no answer"],
    );
    switch.lift();
    origin.go_down();
    assert_refuses(&of(&origin.url("/")), &["refused"]);
    ground.assert_nothing_is_left();
}

/// The `https://` URL of a server that takes what comes for plain HTTP.
fn speaks_no_tls() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whatever it says, this is the answer, also when it has hung up.
            let _ = stream.read(&mut [0; 16 << 10]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    format!("https://{address}/")
}

#[test]
fn a_page_that_does_not_look_like_an_index_is_mounted_with_a_warning() {
    let (origin, ground) = (Origin::start(), Ground::new());
    origin.add("/", "<title>Welcome</title><a href=\"film.mkv\">The film</a>");
    origin.add("/film.mkv", "a film");
    let switch = origin.on("/").fault(Fault::Header("Content-Type", "text/html"));
    ground.mount(&origin.url("/"), &[]);
    assert_eq!(
        fs::read(ground.mountpoint().join("film.mkv")).expect("to read"),
        b"a film"
    );
    let log = fs::read_to_string(ground.home.path().join("log")).expect("the log");
    assert!(log.contains("nothing on this page says that it is the index"), "{log}");
    switch.lift();

    let (indexed, other) = (hello(), Ground::new());
    other.mount(&indexed.url("/"), &[]);
    let log = fs::read_to_string(other.home.path().join("log")).expect("the log");
    assert!(!log.contains("nothing on this page"), "{log}");
}

#[test]
fn several_mounts_are_ended_at_once_and_one_that_stays_keeps_no_other() {
    let origin = hello();
    let grounds = [Ground::new(), Ground::new(), Ground::new()];
    grounds.iter().for_each(|ground| ground.mount(&origin.url("/"), &[]));
    let held = File::open(grounds[1].mountpoint().join("hello.txt")).expect("to open");
    let end = || run(fetchfs().arg("unmount").args(grounds.iter().map(Ground::mountpoint)));
    let ran = end();
    assert_refuses(
        &ran,
        &["busy", grounds[1].mountpoint().to_str().expect("a path of the harness")],
    );
    grounds[0].assert_nothing_is_left();
    grounds[2].assert_nothing_is_left();
    drop(held);
    let ran = end();
    assert_eq!(ran.code, 1, "two of them are no mounts any more: {ran:?}");
    assert_eq!(ran.err.matches("is not a mountpoint").count(), 2, "{ran:?}");
    grounds[1].assert_nothing_is_left();
}

#[test]
fn a_command_line_that_is_not_understood_is_exit_code_2() {
    assert_eq!(run(fetchfs().args(["mount", "--no-such-option"])).code, 2);
    assert_eq!(
        run(fetchfs().args(["mount", "http://example.org/"])).code,
        2,
        "no mountpoint"
    );
    assert_eq!(run(fetchfs().args(["unmount"])).code, 2);
    let ran = run(fetchfs().args(["http://example.org/", "/mnt"]));
    assert_refuses(&ran, &["fetchfs mount URL"]);
    assert_eq!(ran.code, 2);
    for help in [
        vec!["--help"],
        vec!["mount", "--help"],
        vec!["unmount", "--help"],
        vec!["--version"],
    ] {
        assert!(!run(fetchfs().args(help)).succeeded().out.is_empty());
    }
}

#[test]
fn unmount_of_what_is_not_mounted_says_so() {
    let ground = Ground::new();
    assert_refuses(&ground.unmount(&[]), &["mnt", "not"]);
    assert_refuses(&run(fetchfs().args(["unmount", "/proc"])), &["/proc"]);
    assert_refuses(
        &run(fetchfs().arg("unmount").arg(ground.home.path().join("nowhere"))),
        &["nowhere"],
    );
}

/// A way to end a mount.
type End<'a> = &'a dyn Fn(&Mount);

#[test]
fn a_daemon_ends_well_by_umount_fusermount3_sigterm_and_sigint() {
    let origin = hello();
    let by_command = |command: &mut Command, mount: &Mount| drop(run(command.arg(mount.root())).succeeded());
    let umount = |mount: &Mount| by_command(Command::new(umount_command()).args(umount_flags()), mount);
    let fusermount = |mount: &Mount| by_command(Command::new(program("fusermount3", "fuse3")).arg("-u"), mount);
    let ways: [(&str, End<'_>); 4] = [
        ("umount", &umount),
        ("fusermount3 -u", &fusermount),
        ("SIGTERM", &|mount| mount.signal(Signal::SIGTERM)),
        ("SIGINT", &|mount| mount.signal(Signal::SIGINT)),
    ];
    for (way, end) in ways {
        let mut mount = Mount::start_of(&origin.url("/"));
        fs::read(mount.path("hello.txt")).expect("to read");
        end(&mount);
        let status = mount.wait();
        assert!(status.success(), "{way}: {status}");
        assert!(!is_mounted(&mount.root()), "{way}: a mount is left");
        let mark = origin.log().mark();
        mount.start();
        fs::read(mount.path("hello.txt")).expect("to read");
        assert_eq!(
            origin.log().since(mark).body_bytes("/hello.txt"),
            0,
            "{way}: what was downloaded was recorded"
        );
    }
}

/// An ordinary user's `umount` can't end a FUSE mount; `fusermount3` is theirs.
fn umount_command() -> PathBuf {
    if is_root() {
        program("umount", "mount")
    } else {
        program("fusermount3", "fuse3")
    }
}

fn umount_flags() -> &'static [&'static str] {
    if is_root() { &[] } else { &["-u"] }
}

#[test]
fn reads_that_wait_get_an_error_when_the_mount_ends() {
    let origin = hello();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let gate = Gate::new();
        let switch = origin.on("/large").data().fault(Fault::Hold(gate.clone()));
        let mut mount = Mount::start_of(&origin.url("/"));
        std::thread::scope(|scope| {
            let path = mount.path("large");
            let reader = scope.spawn(move || try_pread(&File::open(path).expect("to open"), 0..10));
            gate.wait_for_arrivals(1);
            mount.signal(signal);
            let outcome = reader.join().expect("the reader");
            assert!(outcome.is_err(), "{signal}: {outcome:?}");
        });
        let status = mount.wait();
        assert_eq!(status.success(), signal != Signal::SIGKILL, "{signal}: {status}");
        switch.lift();
    }
}

#[test]
fn a_busy_mount_says_who_holds_it_and_goes_when_it_is_let_go() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(&origin.url("/"), &[]);
    let file = File::open(ground.mountpoint().join("hello.txt")).expect("to open");
    let me = std::process::id().to_string();
    assert_refuses(&ground.unmount(&[]), &["busy", &me, "hello.txt"]);
    assert_eq!(try_pread(&file, 0..5).expect("it is still there"), b"hello");
    drop(file);
    ground.unmount(&[]).succeeded();
    ground.assert_nothing_is_left();
}

#[test]
fn a_mount_can_be_ended_the_moment_its_blocked_reader_was_killed_and_the_log_calls_neither_an_error() {
    let (origin, ground) = (hello(), Ground::new());
    let gate = Gate::new();
    origin.on("/large").data().fault(Fault::Hold(gate.clone()));
    // How far a killed process has come when the mount is taken away is chance.
    for round in 1..=10 {
        ground.mount(&origin.url("/"), &[]);
        let mut reader = spawn(
            Command::new("cat")
                .arg(ground.mountpoint().join("large"))
                .stdout(Stdio::null()),
        );
        gate.wait_for_arrivals(round);
        reader.kill().expect("to kill it");
        ground.unmount(&[]).succeeded();
        reader.wait().expect("it was killed");
    }
    gate.open();
    ground.assert_nothing_is_left();
    let log = fs::read_to_string(ground.home.path().join("log")).expect("the log");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn a_lazy_unmount_takes_the_mount_away_at_once_and_lets_open_files_finish() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(&origin.url("/"), &[]);
    let file = File::open(ground.mountpoint().join("large")).expect("to open");
    let ran = ground.unmount(&["--lazy"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!is_mounted(&ground.mountpoint()));
    let place = 30 << 20..(30 << 20) + 1000;
    let read = try_pread(&file, place.clone()).expect("an open file still reads");
    assert_eq!(read, Content::noise(64 << 20, 61).read(place));
    drop(file);
    ground.wait_for_the_end();
    ground.assert_nothing_is_left();
}

#[test]
fn a_dead_mount_is_cleaned_away_by_the_next_one() {
    let origin = hello();
    let mut mount = Mount::start_of(&origin.url("/"));
    mount.kill();
    assert!(is_mounted(&mount.root()), "the dead mount is there");
    mount.start();
    assert_eq!(fs::read(mount.path("hello.txt")).expect("to read"), b"hello\n");
    mount.unmount();
}

#[test]
fn a_dead_mount_can_be_unmounted() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(&origin.url("/"), &[]);
    for process in ground.processes().into_iter().filter_map(Pidfd::open) {
        process.signal(Signal::SIGKILL);
        assert!(process.wait(PATIENCE));
    }
    ground.unmount(&[]).succeeded();
    ground.assert_nothing_is_left();
}

#[test]
fn two_mounts_may_share_a_cache() {
    let (origin, first) = (hello(), Ground::new());
    let other = first.home.path().join("other");
    fs::create_dir(&other).expect("a mountpoint");
    first.mount(&origin.url("/"), &[]);
    let second =
        Mount::of(&origin.url("/")).with("--cache-dir", first.home.path().join("cache").to_str().expect("a path"));
    let second = second.start();
    let expected = sha256_of(&Content::noise(64 << 20, 61));
    std::thread::scope(|scope| {
        for path in [first.mountpoint().join("large"), second.path("large")] {
            scope.spawn(move || assert_eq!(sha256(&path), expected));
        }
    });
}

/// The number of `nobody`, an ordinary user who is everywhere.
const NOBODY: u32 = 65534;

/// Makes the command an ordinary user's: as it is, unless the tests run as root.
fn as_ordinary_user(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/")
    } else {
        command
    }
}

/// A ground that belongs to an ordinary user, with a copy of fetchfs that they can execute wherever it was built.
fn ordinary_users_ground() -> (Ground, PathBuf) {
    let ground = Ground::new();
    let copy = ground.home.path().join("fetchfs");
    // Not by this process: another test's child, forked while the copy is open for writing, would have it open too, and
    // nobody may execute a file that somebody writes to (ETXTBSY).
    run(Command::new("cp").arg(env!("CARGO_BIN_EXE_fetchfs")).arg(&copy)).succeeded();
    if is_root() {
        // Distributions ship /dev/fuse for everybody; some containers and virtual machines come with 0600.
        fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666)).expect("/dev/fuse");
        for path in [ground.home.path(), &ground.mountpoint()] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("to give it away");
        }
    }
    (ground, copy)
}

#[test]
fn an_ordinary_user_mounts_reads_and_unmounts() {
    let origin = hello();
    let (ground, fetchfs) = ordinary_users_ground();
    let mount = |options: &[&str]| {
        let mut command = Command::new(&fetchfs);
        ground.arguments(&mut command, &origin.url("/"), options);
        run(as_ordinary_user(&mut command))
    };
    let read = || {
        run(as_ordinary_user(
            Command::new("cat").arg(ground.mountpoint().join("hello.txt")),
        ))
        .succeeded()
        .out
    };
    let unmount = || {
        run(as_ordinary_user(
            Command::new(&fetchfs).arg("unmount").arg(ground.mountpoint()),
        ))
    };
    mount(&[]).succeeded();
    assert_eq!(read(), "hello\n");
    assert!(
        mount_line(&ground.mountpoint())
            .expect("a mount")
            .contains("fuse.fetchfs")
    );
    unmount().succeeded();
    ground.assert_nothing_is_left();
    // Their own way to end it works as well, and so does the end of a dead mount.
    mount(&[]).succeeded();
    let fusermount = program("fusermount3", "fuse3");
    run(as_ordinary_user(
        Command::new(fusermount).arg("-u").arg(ground.mountpoint()),
    ))
    .succeeded();
    ground.wait_for_the_end();
    ground.assert_nothing_is_left();
    mount(&[]).succeeded();
    for process in ground.processes().into_iter().filter_map(Pidfd::open) {
        process.signal(Signal::SIGKILL);
        assert!(process.wait(PATIENCE));
    }
    mount(&[]).succeeded();
    assert_eq!(read(), "hello\n");
    unmount().succeeded();
    ground.assert_nothing_is_left();
}

#[test]
fn an_ordinary_user_whose_files_the_kernel_will_not_read_is_told_so_once() {
    let origin = hello();
    let (ground, fetchfs) = ordinary_users_ground();
    let mut command = Command::new(&fetchfs);
    ground.arguments(&mut command, &origin.url("/"), &["-v"]);
    run(as_ordinary_user(&mut command)).succeeded();
    let file = ground.mountpoint().join("hello.txt");
    // Each open after the first read finds the file complete.
    for _ in 0..5 {
        let read = run(as_ordinary_user(Command::new("cat").arg(&file))).succeeded();
        assert_eq!(read.out, "hello\n");
    }
    run(as_ordinary_user(
        Command::new(&fetchfs).arg("unmount").arg(ground.mountpoint()),
    ))
    .succeeded();
    let log = fs::read_to_string(ground.home.path().join("log")).expect("a log");
    assert_eq!(log.matches("no FUSE passthrough").count(), 1, "{log}");
}

#[test]
fn others_see_nothing_unless_they_are_allowed_to() {
    if !is_root() {
        return; // Takes two users.
    }
    let origin = hello();
    let read = |mount: &Mount| run(as_ordinary_user(Command::new("cat").arg(mount.path("hello.txt"))));
    let refused = read(&Mount::start_of(&origin.url("/")));
    assert!(
        refused.code != 0 && refused.err.contains("Permission denied"),
        "{refused:?}"
    );
    let open = Mount::of(&origin.url("/")).with("--allow-other", "").start();
    assert_eq!(read(&open).succeeded().out, "hello\n");
}

/// A shell script in a mount namespace of its own, where it may put things over /dev and /sbin that nobody else sees.
fn in_namespace(script: &str, arguments: &[&Path]) -> Ran {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-eu", "-c", script, "sh"]).args(arguments);
    command.env("FETCHFS", env!("CARGO_BIN_EXE_fetchfs"));
    run(&mut command)
}

#[test]
fn without_dev_fuse_it_says_what_is_missing() {
    let (origin, ground) = (hello(), Ground::new());
    let script = r#"
        cd "$1"; mkdir dev; mount -t tmpfs none dev
        for device in null zero random urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
        mount --rbind dev /dev
        exec "$FETCHFS" mount --cache-dir cache "$2" mnt
    "#;
    let ran = in_namespace(script, &[ground.home.path(), Path::new(&origin.url("/"))]);
    assert_refuses(&ran, &["/dev/fuse", "modprobe fuse"]);
}

#[test]
fn an_ordinary_user_who_may_not_open_dev_fuse_is_told() {
    if !is_root() {
        return; // Takes two users.
    }
    let origin = hello();
    let (ground, _) = ordinary_users_ground();
    let script = r#"
        touch "$1/closed"; chmod 0600 "$1/closed"; mount --bind "$1/closed" /dev/fuse
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$1/fetchfs" mount --cache-dir "$1/cache" "$2" "$1/mnt"
    "#;
    let ran = in_namespace(script, &[ground.home.path(), Path::new(&origin.url("/"))]);
    assert_refuses(&ran, &["/dev/fuse", "ermission"]);
}

#[test]
fn mount_t_fetchfs_and_a_line_in_fstab_work() {
    let (origin, ground) = (hello(), Ground::new());
    let helpers = ground.home.path().join("helpers");
    fs::create_dir(&helpers).expect("a directory");
    let helper = Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-helpers/mount.fetchfs");
    fs::copy(&helper, helpers.join("mount.fetchfs")).expect("mount-helpers/mount.fetchfs");
    fs::set_permissions(helpers.join("mount.fetchfs"), Permissions::from_mode(0o755)).expect("to make it executable");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fetchfs"), helpers.join("fetchfs")).expect("a link");
    // mount(8) looks for helpers in /sbin, so that is where this one appears, for the script alone.
    let script = r#"
        cd "$1"; url=$2; sbin=$(readlink -f /sbin); PATH=$1/helpers:$PATH
        mount -t overlay overlay -o "lowerdir=$1/helpers:$sbin" "$sbin"
        mount -t fetchfs -o "ro,cache_dir=$1/cache,cache_size=1G,_netdev" "$url" "$1/mnt"
        findmnt -n -o FSTYPE,SOURCE "$1/mnt"; cat mnt/hello.txt
        umount "$1/mnt"
        echo "$url $1/mnt fetchfs noauto,_netdev,x-systemd.automount,cache_dir=$1/cache 0 0" >fstab
        mount --fstab fstab "$1/mnt"
        cat mnt/hello.txt
        umount "$1/mnt"
    "#;
    let url = origin.url("/");
    let ran = in_namespace(script, &[ground.home.path(), Path::new(&url)]).succeeded();
    let words: Vec<&str> = ran.out.split_whitespace().collect();
    assert_eq!(words[..2], ["fuse.fetchfs", &url], "{ran:?}");
    assert_eq!(words[2..], ["hello", "hello"], "{ran:?}");
    ground.wait_for_the_end();
    ground.assert_nothing_is_left();
}
