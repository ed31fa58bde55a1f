//! A tree that changes during walks. All programs see and copy the names that stay. Names that come and go may be
//! seen or not. No program hangs or fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::common::files::assert_same;
use crate::common::process::Ran;
use crate::common::{Mount, PATIENCE, run};
use crate::origin::{Content, Origin};

const DIRECTORIES: u64 = 4;
const FILES: u64 = 6;

/// Number of walks during changes. Each takes some dozens of system calls for each name.
const ROUNDS: usize = 3;

/// Prefix of the names that do not stay, which identifies them in error messages.
const PASSING: &str = "passing-";

/// The files that stay.
fn lasting() -> impl Iterator<Item = (String, Content)> {
    (0..DIRECTORIES).flat_map(|outer| {
        (0..FILES).map(move |inner| {
            let number = outer * FILES + inner;
            (
                format!("d{outer}/s/f{inner}"),
                Content::noise(100 + 5000 * number, number),
            )
        })
    })
}

/// With each request of a walk, a name appears and another disappears or becomes a directory, until `is_over`.
fn change(origin: &Origin, is_over: &AtomicBool) {
    let (mut number, mut seen) = (0u64, origin.log().mark());
    loop {
        origin.log().wait_beyond(seen);
        seen = origin.log().mark();
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let directory = format!("/d{}/{}", number % DIRECTORIES, ["", "s/"][(number % 2) as usize]);
        let comes = format!("{directory}{PASSING}{number}");
        origin.add(&comes, Content::noise(2000 + number, number));
        if let Some(old) = number.checked_sub(DIRECTORIES) {
            let goes = format!(
                "/d{}/{}{PASSING}{old}",
                old % DIRECTORIES,
                ["", "s/"][(old % 2) as usize]
            );
            origin.remove(&goes);
            // Every third name is a directory from then on. The limit keeps their number low.
            if old % 3 == 0 && old < 60 {
                origin.add(&format!("{goes}/{PASSING}below"), Content::noise(10, old));
            }
        }
        number += 1;
    }
}

/// Asserts that the command has ended by itself, and reports errors only for names that do not stay.
#[track_caller]
fn complains_of_what_passes_alone(ran: &Ran) {
    assert!((0..=2).contains(&ran.code), "{ran:?}");
    let other = ran.err.lines().find(|line| !line.contains(PASSING));
    assert_eq!(other, None, "of all that it said: {}", ran.err);
}

/// All files below, with or without those that do not stay.
fn files_below(directory: &Path, with_passing: bool) -> BTreeSet<String> {
    let ran = run(Command::new("find")
        .arg(".")
        .args(["-type", "f"])
        .current_dir(directory));
    complains_of_what_passes_alone(&ran);
    let names = ran.out.lines().map(|line| line.trim_start_matches("./").to_owned());
    names.filter(|name| with_passing || !name.contains(PASSING)).collect()
}

#[test]
fn find_ls_and_cp_survive_a_changing_tree() {
    let origin = Origin::start();
    for (path, content) in lasting() {
        origin.add(&format!("/{path}"), content);
    }
    // Thousands of requests, which a busy machine answers slowly. Each command has a time limit.
    let mount = Mount::of(&origin.url("/"))
        .with("--attr-ttl", "0")
        .living_for(10 * PATIENCE)
        .start();
    let stays: BTreeSet<String> = lasting().map(|(path, _)| path).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| change(&origin, &is_over));
        // A failure must end the changes, too.
        let walking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| walk(&mount, &stays)));
        is_over.store(true, Ordering::Relaxed);
        // The last request that the loop waits for.
        let _ = fs::read_dir(mount.root());
        changing.join().expect("changes");
        walking.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    // The last names shown may have been requested before the last change.
    let deadline = Instant::now() + PATIENCE;
    let there = |path: &str| fs::read(mount.path(path)).is_ok();
    while !files_below(&mount.root(), true).iter().all(|path| there(path)) {
        assert!(Instant::now() < deadline, "names that are gone are shown for ever");
    }
    assert_eq!(files_below(&mount.root(), false), stays);
}

fn walk(mount: &Mount, stays: &BTreeSet<String>) {
    for round in 0..ROUNDS {
        assert_eq!(files_below(&mount.root(), false), *stays, "round {round}");
        let listed = run(Command::new("ls").arg("-lR").arg(mount.root()));
        complains_of_what_passes_alone(&listed);
        for inner in 0..FILES {
            let shown = listed.out.matches(&format!(" f{inner}\n")).count();
            assert_eq!(shown as u64, DIRECTORIES, "round {round}: {}", listed.out);
        }
        let copy = mount.home().join(format!("copy-{round}"));
        complains_of_what_passes_alone(&run(Command::new("cp").arg("-r").arg(mount.root()).arg(&copy)));
        for (path, content) in lasting() {
            assert_same(&fs::read(copy.join(&path)).expect("a copy"), &content.whole(), &path);
        }
        fs::remove_dir_all(copy).expect("to remove a copy");
    }
}
