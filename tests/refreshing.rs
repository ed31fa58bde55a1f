//! `fetchfs refresh`: the mount shows what the server has now, however long it may show what it knows.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::files::{assert_same, names_in};
use crate::common::process::{self, Pidfd, Ran, assert_refuses};
use crate::common::{Mount, PATIENCE, run};
use crate::origin::{Content, Fault, Gate, Origin, Requests};
use crate::prefetching::fetchfs_with;

/// A mount that asks for nothing twice within a test.
fn mount_of(origin: &Origin) -> Mount {
    Mount::of(&origin.url("/")).with("--attr-ttl", "1h").start()
}

fn refresh(words: &[&str], paths: &[PathBuf]) -> Ran {
    run(fetchfs_with(&["refresh"], &[]).args(words).args(paths))
}

/// Three files and a directory in `/d`.
fn site() -> Origin {
    Origin::with_files(&["/d/stays", "/d/goes", "/d/changes", "/d/old/leaf"])
}

fn is_absent(mount: &Mount, name: &str) -> bool {
    match fs::symlink_metadata(mount.path(name)) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => panic!("{name}: {error}"),
    }
}

/// The kernel keeps names, their attributes and pages for the whole test, unless it is told.
#[test]
fn refresh_shows_new_gone_and_changed_names() {
    let origin = site();
    let mount = mount_of(&origin);
    for name in ["d/stays", "d/goes", "d/changes", "d/old/leaf"] {
        assert_same(
            &fs::read(mount.path(name)).expect("to read"),
            &Content::noise(1000, 1).whole(),
            name,
        );
    }
    assert!(is_absent(&mount, "d/comes"));
    let stays = fs::metadata(mount.path("d/stays")).expect("a file");
    origin.add("/d/comes", Content::noise(500, 2));
    origin.remove("/d/goes");
    origin.add("/d/changes", Content::noise(700, 3));
    let mark = origin.log().mark();
    let ran = refresh(&[], &[mount.path("d")]).succeeded();
    assert_eq!(ran.out, "1 directory: 1 new, 1 gone, 1 changed\n");
    assert_eq!(origin.log().since(mark).0.len(), 1, "one request");

    assert!(is_absent(&mount, "d/goes"));
    assert_eq!(fs::metadata(mount.path("d/comes")).expect("a file").len(), 500);
    assert_eq!(fs::metadata(mount.path("d/changes")).expect("a file").len(), 700);
    assert_same(
        &fs::read(mount.path("d/changes")).expect("to read"),
        &Content::noise(700, 3).whole(),
        "the new version",
    );
    assert_eq!(names_in(&mount.path("d")), ["changes", "comes", "old", "stays"]);
    let still = fs::metadata(mount.path("d/stays")).expect("a file");
    assert_eq!(still.ino(), stays.ino());
    let ran = refresh(&["--json"], &[mount.path("d")]).succeeded();
    let counts: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let expected = serde_json::json!({
        "directories": 1, "files": 0, "new": 0, "gone": 0, "changed": 0, "failed": 0,
    });
    assert_eq!(counts, expected);
}

/// An open file is read to its end, and keeps its attributes.
#[test]
fn replaced_file_stays_readable_while_open() {
    let origin = site();
    let mount = mount_of(&origin);
    let mut open = fs::File::open(mount.path("d/goes")).expect("to open");
    let mut first = [0; 10];
    open.read_exact(&mut first).expect("to read");
    origin.remove("/d/goes");
    refresh(&[], &[mount.path("d")]).succeeded();
    assert_eq!(names_in(&mount.path("d")), ["changes", "old", "stays"]);
    assert_eq!(open.metadata().expect("its attributes").len(), 1000);
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).expect("to read what is cached");
    assert_same(&rest, &Content::noise(1000, 1).whole()[10..], "the rest");
}

#[test]
fn refresh_of_a_file_finds_its_new_version() {
    let origin = site();
    let mount = mount_of(&origin);
    fs::read(mount.path("d/changes")).expect("to read");
    let ran = refresh(&[], &[mount.path("d/changes")]).succeeded();
    assert_eq!(ran.out, "1 file: 0 new, 0 gone, 0 changed\n");
    origin.add("/d/changes", Content::noise(1000, 4));
    let ran = refresh(&[], &[mount.path("d/changes"), mount.path("d/stays")]).succeeded();
    assert_eq!(ran.out, "2 files: 0 new, 0 gone, 1 changed\n");
    assert_same(
        &fs::read(mount.path("d/changes")).expect("to read"),
        &Content::noise(1000, 4).whole(),
        "the new version",
    );
    origin.remove("/d/changes");
    let ran = refresh(&[], &[mount.path("d/changes")]).succeeded();
    assert_eq!(ran.out, "1 file: 0 new, 1 gone, 0 changed\n");
    assert!(is_absent(&mount, "d/changes"));
}

#[test]
fn recursive_refresh_asks_for_what_is_known() {
    let origin = Origin::start();
    for outer in 0..6 {
        for inner in 0..4 {
            origin.add(&format!("/t/d{outer}/s{inner}/leaf"), Content::noise(10, 1));
        }
    }
    let mount = mount_of(&origin);
    for outer in 0..6 {
        // Of the directories below, one each is listed.
        assert_eq!(names_in(&mount.path(format!("t/d{outer}"))).len(), 4);
        assert_eq!(names_in(&mount.path(format!("t/d{outer}/s1"))).len(), 1);
        origin.add(&format!("/t/d{outer}/s1/more"), Content::noise(10, 2));
    }
    // A walk may have asked for others ahead.
    let listed = |requests: &Requests| -> BTreeSet<String> {
        let paths = requests.0.iter().map(|request| request.path.clone());
        paths.filter(|path| path != "/").collect()
    };
    let known = listed(&origin.log().all());
    assert!(known.len() >= 13 && known.contains("/t/d5/s1/"));
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    let mark = origin.log().mark();
    let ran = refresh(&["-r"], &[mount.path("t"), mount.path("t/d3")]).succeeded();
    let expected = format!("{} directories: 6 new, 0 gone, 0 changed\n", known.len());
    assert_eq!(ran.out, expected);
    let asked = origin.log().since(mark);
    assert_eq!((listed(&asked), asked.0.len()), (known.clone(), known.len()));
    assert!(asked.max_in_flight() >= 4, "{} side by side", asked.max_in_flight());
    let mark = origin.log().mark();
    assert_eq!(names_in(&mount.path("t/d5/s1")), ["leaf", "more"]);
    assert_eq!(origin.log().since(mark).0.len(), 0);
}

#[test]
fn refresh_finds_a_path_that_is_not_shown_yet() {
    let origin = site();
    let mount = mount_of(&origin);
    assert_eq!(names_in(&mount.path("")).len(), 1);
    origin.add("/e/f/new", Content::noise(5, 1));
    let ran = refresh(&[], &[mount.path("e/f")]).succeeded();
    assert_eq!(ran.out, "1 directory: 1 new, 0 gone, 0 changed\n");
    assert_eq!(names_in(&mount.path("e/f")), ["new"]);
    let ran = refresh(&[], &[mount.path("e/nowhere")]);
    assert_refuses(&ran, &["e/nowhere", "no such file"]);
    let ran = refresh(&[], &[mount.home()]);
    assert_refuses(&ran, &["is not in a fetchfs mount"]);
}

#[test]
fn refresh_of_a_directory_that_is_gone_hides_it() {
    let origin = Origin::start();
    origin.add("/keep", Content::noise(5, 1));
    origin.add("/gone/leaf", Content::noise(5, 1));
    let mount = mount_of(&origin);
    assert_eq!(names_in(&mount.path("gone")), ["leaf"]);
    origin.on("/gone/").fault(Fault::Status(404));
    let ran = refresh(&[], &[mount.path("gone")]);
    assert_refuses(&ran, &["/gone: no such file"]);
    origin.hide("/gone");
    let ran = refresh(&[], &[mount.path("gone")]).succeeded();
    assert_eq!(ran.out, "0 new, 1 gone, 0 changed\n");
    assert!(is_absent(&mount, "gone"));
}

#[test]
fn refresh_without_the_server_fails_and_changes_nothing() {
    let origin = site();
    let mount = mount_of(&origin);
    let before = names_in(&mount.path("d"));
    origin.go_down();
    let ran = refresh(&[], &[mount.path("d")]);
    assert_refuses(&ran, &["/d: "]);
    assert_eq!(names_in(&mount.path("d")), before);
    origin.come_back();
}

/// A refresh that waits for the first answer, and the gate that holds it.
fn refresh_that_is_held(origin: &Origin, mount: &Mount) -> (Child, Gate) {
    let gate = Gate::new();
    origin.on_any().fault(Fault::Hold(gate.clone()));
    let mut command = fetchfs_with(&["refresh", "-r"], &[mount.root()]);
    let running = process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    gate.wait_for_arrivals(1);
    (running, gate)
}

#[test]
fn ctrl_c_cancels_a_refresh() {
    let origin = site();
    let mount = mount_of(&origin);
    assert_eq!(names_in(&mount.path("d")).len(), 4);
    let (mut running, gate) = refresh_that_is_held(&origin, &mount);
    Pidfd::open(running.id()).expect("it runs").signal(Signal::SIGINT);
    let status = process::wait(&mut running, PATIENCE).expect("it ends");
    assert!(!status.success());
    // The held request is abandoned, and the directories below are not asked for.
    origin
        .log()
        .wait_for("the end of the held request", |log| log.all_ended());
    gate.open();
    assert_eq!(origin.log().all().gets("/d/").len(), 1);
}
