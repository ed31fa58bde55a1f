//! What `stat` and `ls` show: dates, kinds, inode numbers, and names that no listing has.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::servers::WebServer;
use crate::common::{Mount, PATIENCE};
use crate::origin::{Content, Origin};

/// Seconds since 1970 of what has no date: 1980-01-01.
const UNDATED: i64 = 315_532_800;

fn date(path: impl AsRef<Path>) -> i64 {
    fs::metadata(path).expect("to stat").mtime()
}

/// Asks again until it is so.
#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Keeps names and attributes for no time worth mentioning, so that each look asks the server.
fn impatient(url: &str) -> Mount {
    Mount::of(url).with("--attr-ttl", "1ms").start()
}

#[test]
fn undated_files_have_one_fixed_date_over_remounts() {
    let server = WebServer::case("no-dates.py", &["PORT", "none"]);
    let mut mount = Mount::start_of(&server.url("/"));
    for _ in 0..2 {
        assert_eq!(date(mount.path("a")), UNDATED);
        assert_eq!(fs::read(mount.path("a")).expect("its bytes"), b"hello\n");
        assert_eq!((date(mount.path("a")), date(mount.root())), (UNDATED, UNDATED));
        mount.unmount();
        mount.start();
    }
}

#[test]
fn directories_have_the_date_of_the_newest_listing() {
    let server = WebServer::case("directory-date.py", &["PORT"]);
    let mount = impatient(&server.url("/"));
    let before = date(mount.path("film"));
    wait_until("a newer date", || date(mount.path("film")) > before);
    assert_eq!((date(mount.path("film")) - before) % 86_400, 0, "whole days");
}

/// Lists one open directory each time a line comes, as a program does that keeps it open and goes back to its beginning.
const LISTER: &str = "import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
for _ in sys.stdin: print(sorted(os.listdir(fd)), flush=True)";

#[test]
fn rewinddir_shows_the_directory_as_it_is_now() {
    let origin = Origin::start();
    origin.add("/a", Content::noise(10, 1));
    let mount = impatient(&origin.url("/"));
    let mut lister = Command::new("python3");
    lister.args(["-c", LISTER]).arg(mount.root());
    let mut lister = lister
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut answers = BufReader::new(lister.stdout.take().expect("a pipe")).lines();
    let mut ask = || {
        lister.stdin.as_ref().expect("a pipe").write_all(b"\n").expect("to ask");
        answers.next().expect("an answer").expect("a line")
    };
    assert_eq!(ask(), "['a']");
    origin.add("/b", Content::noise(10, 2));
    wait_until("the new name", || ask() == "['a', 'b']");
    drop(lister.stdin.take());
    assert!(lister.wait().expect("its end").success());
}
