//! The end of a mount: the ways to end it, the output of the commands, and that nothing is left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::common::files::try_pread;
use crate::common::ground::{Ground, hello, in_namespace};
use crate::common::mount::is_mounted;
use crate::common::process::{Pidfd, assert_refuses, spawn};
use crate::common::{Mount, PATIENCE, fetchfs, is_root, program, run, temporary_directory};
use crate::origin::{Content, Fault, Gate};

#[test]
fn unmount_of_several_continues_after_a_failure() {
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
fn unmount_of_an_unmounted_path_is_an_error() {
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
fn umount_fusermount3_sigterm_and_sigint_end_the_daemon() {
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

/// An ordinary user's `umount` can't end a FUSE mount, but `fusermount3` can.
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
fn blocked_reads_fail_when_the_mount_ends() {
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
fn busy_mount_names_its_users() {
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
fn unmount_after_killing_a_blocked_reader_logs_no_error() {
    let (origin, ground) = (hello(), Ground::new());
    let gate = Gate::new();
    origin.on("/large").data().fault(Fault::Hold(gate.clone()));
    // Chance decides how far a killed process has come when the mount is taken away.
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
    assert_eq!(ground.log().errors(), 0);
}

#[test]
fn lazy_unmount_detaches_and_open_files_finish() {
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
fn next_mount_removes_a_dead_mount() {
    let origin = hello();
    let mut mount = Mount::start_of(&origin.url("/"));
    mount.kill();
    assert!(is_mounted(&mount.root()), "the dead mount is there");
    mount.start();
    assert_eq!(fs::read(mount.path("hello.txt")).expect("to read"), b"hello\n");
    mount.unmount();
}

#[test]
fn dead_mount_can_be_unmounted() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(&origin.url("/"), &[]);
    for process in ground.processes().into_iter().filter_map(Pidfd::open) {
        process.signal(Signal::SIGKILL);
        assert!(process.wait(PATIENCE));
    }
    ground.unmount(&[]).succeeded();
    ground.assert_nothing_is_left();
}

/// In a mount namespace of its own, because it would end the mounts of other tests.
#[test]
fn unmount_all_ends_every_mount_and_list_shows_them() {
    let (origin, home) = (hello(), temporary_directory());
    let script = r#"
export FETCHFS_CONFIG=/dev/null
for name in one two; do
    mkdir "$1/$name"
    "$FETCHFS" mount --cache-dir "$1/cache-$name" "$2" "$1/$name"
done
mkdir "$1/bound"
mount --bind "$1/one" "$1/bound"
"$FETCHFS" list --json > "$1/list"
"$FETCHFS" list
"$FETCHFS" unmount --all
echo "left: $(grep -c fuse.fetchfs /proc/self/mountinfo || :)"
"$FETCHFS" list
"$FETCHFS" unmount --all
"#;
    let source = origin.url("/");
    let ran = in_namespace(script, &[home.path(), Path::new(&source)]).succeeded();
    assert!(
        ran.out.contains("left: 0") && ran.out.ends_with("nothing is mounted\n"),
        "{ran:?}"
    );
    assert_eq!(ran.err, "", "{ran:?}");
    let list = std::fs::read_to_string(home.path().join("list")).expect("the list");
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let place = |name: &str| home.path().join(name).display().to_string();
    assert_eq!(list.as_array().expect("an array").len(), 2, "{list}");
    assert_eq!(list[0]["mountpoint"], place("one"));
    assert_eq!(list[0]["elsewhere"][0], place("bound"));
    assert_eq!(
        (&list[1]["mountpoint"], &list[1]["source"]),
        (&place("two").into(), &source.into())
    );
    for mount in list.as_array().expect("an array") {
        assert_eq!(mount["state"], "mounted", "{list}");
        assert!(
            mount["pid"]
                .as_u64()
                .is_some_and(|pid| ran.out.contains(&pid.to_string())),
            "{list} {ran:?}"
        );
    }
}
