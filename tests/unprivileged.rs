//! Ordinary users: what they may mount, and what they see of each other's mounts.
//!
//! As root, the tests switch to the user `nobody`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fetchfs::internals::events;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use crate::common::ground::{Ground, hello, in_namespace};
use crate::common::mount::mount_line;
use crate::common::process::{Pidfd, assert_refuses};
use crate::common::{Mount, PATIENCE, is_root, program, run};

/// The user id of `nobody`, an ordinary user on every system.
const NOBODY: u32 = 65534;

/// Runs the command as an ordinary user: as it is, unless the tests run as root.
fn as_ordinary_user(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/")
    } else {
        command
    }
}

/// A ground that belongs to an ordinary user, with a copy of fetchfs that the user can execute.
fn ordinary_users_ground() -> (Ground, PathBuf) {
    let ground = Ground::new();
    let copy = ground.home.path().join("fetchfs");
    // Not copied by this process: a child of another test, forked meanwhile, would inherit the open copy. A file open
    // for writing can't be executed (ETXTBSY).
    run(Command::new("cp").arg(env!("CARGO_BIN_EXE_fetchfs")).arg(&copy)).succeeded();
    if is_root() {
        // Distributions allow all users to open /dev/fuse; some containers and virtual machines have it with mode
        // 0600.
        fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666)).expect("/dev/fuse");
        for path in [ground.home.path(), &ground.mountpoint()] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("to give it away");
        }
    }
    (ground, copy)
}

#[test]
fn ordinary_user_mounts_reads_and_unmounts() {
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
    // The user's own unmount command works as well, also for a dead mount.
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
fn missing_passthrough_is_logged_once() {
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
    assert_eq!(ground.log().events(events::PASSTHROUGH_OFF), 1);
}

#[test]
fn other_users_need_allow_other() {
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

#[test]
fn inaccessible_dev_fuse_is_explained() {
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

/// A process limit (`ulimit -u`) between the need of a start and that of a service. Root has no limit, so the test
/// uses another user.
#[test]
fn process_limit_refuses_the_mount_or_it_works() {
    if !is_root() {
        return;
    }
    // The user `daemon`, who has no other processes: the limit is for all threads of a user. fusermount3 requires a
    // user with a name.
    const USER: u32 = 1;
    let origin = hello();
    let (ground, fetchfs) = ordinary_users_ground();
    for path in [ground.home.path(), &ground.mountpoint()] {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("to give it away");
    }
    let as_user = |command: &mut Command| run(command.uid(USER).gid(USER).current_dir("/"));
    let mut outcomes = Vec::new();
    for most in [1, 8, 14, 18, 22, 23, 24, 26, 60] {
        let mut command = Command::new(&fetchfs);
        ground.arguments(&mut command, &origin.url("/"), &[]);
        // SAFETY: setrlimit is a single system call.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NPROC, most, most)?)) };
        let ran = as_user(&mut command);
        outcomes.push(ran.code == 0);
        if ran.code == 0 {
            let read = as_user(Command::new("cat").arg(ground.mountpoint().join("hello.txt")));
            assert_eq!(read.succeeded().out, "hello\n", "with {most}");
            as_user(Command::new(&fetchfs).arg("unmount").arg(ground.mountpoint())).succeeded();
        } else {
            assert_refuses(&ran, &[]);
        }
        ground.wait_for_the_end();
        ground.assert_nothing_is_left();
    }
    assert!(!outcomes[0] && outcomes[outcomes.len() - 1], "{outcomes:?}");
}

/// What the file system denies is EACCES at once, and the rest of the directory stays readable.
#[test]
fn unreadable_file_of_a_local_directory_is_eacces() {
    let (ground, fetchfs) = ordinary_users_ground();
    let source = ground.home.path().join("source");
    fs::create_dir_all(source.join("closed")).expect("directories");
    for name in ["secret", "open", "closed/f"] {
        fs::write(source.join(name), name).expect("a file");
    }
    for name in ["secret", "closed"] {
        fs::set_permissions(source.join(name), Permissions::from_mode(0o000)).expect("to deny");
    }
    let mut command = Command::new(&fetchfs);
    ground.arguments(&mut command, source.to_str().expect("text"), &[]);
    run(as_ordinary_user(&mut command)).succeeded();
    let path = |name: &str| ground.mountpoint().join(name);
    let mut listed = Command::new("ls");
    let listed = run(as_ordinary_user(
        listed.args(["-l", "--time-style=+%s"]).arg(ground.mountpoint()),
    ))
    .succeeded();
    assert!(
        listed.out.contains(" 6 ") && listed.out.contains(" secret"),
        "{}",
        listed.out
    );
    for (program, name) in [("cat", "secret"), ("ls", "closed")] {
        let ran = run(as_ordinary_user(Command::new(program).arg(path(name))));
        assert!(ran.err.contains("Permission denied"), "{name}: {}", ran.err);
    }
    let read = run(as_ordinary_user(Command::new("cat").arg(path("open")))).succeeded();
    assert_eq!(read.out, "open");
    run(as_ordinary_user(
        Command::new(&fetchfs).arg("unmount").arg(ground.mountpoint()),
    ))
    .succeeded();
    ground.assert_nothing_is_left();
}
