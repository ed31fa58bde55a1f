//! Directories that are read while their listings are received: the first names come before the last ones, and only a complete
//! listing counts.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::fs::{self, DirEntry, File, ReadDir};
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::process::{Command, Stdio};

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::common::files::errno_of;
use crate::common::process::{self, Pidfd};
use crate::common::servers::WebServer;
use crate::common::{Mount, PATIENCE, temporary_directory};
use crate::origin::{Content, Fault, Gate, Origin};

/// Enough names for a page of half a mebibyte.
const NAMES: usize = 6_000;

/// Bytes of the page that are sent before it is held or cut: those of more names than [`FIRST`].
const BEGINNING: u64 = 300_000;

/// Names that are read before the rest is sent.
const FIRST: usize = 1_000;

/// A directory `/big` with many files and a directory.
fn site() -> Origin {
    let origin = Origin::start();
    for number in 0..NAMES - 1 {
        origin.add(&format!("/big/name-{number:06}"), Content::noise(10, 1));
    }
    origin.add("/big/a/leaf", "leaf");
    origin
}

/// Name, inode number, and whether it is a directory.
type Listed = (OsString, u64, bool);

fn facts(entry: &DirEntry) -> Listed {
    let is_directory = entry.file_type().expect("a type").is_dir();
    (entry.file_name(), entry.ino(), is_directory)
}

fn next(entries: &mut ReadDir) -> Option<Listed> {
    entries.next().map(|entry| facts(&entry.expect("an entry")))
}

fn open(mount: &Mount) -> ReadDir {
    fs::read_dir(mount.path("big")).expect("to open the directory")
}

/// What a whole reading of a directory with so many names shows; each name once.
#[track_caller]
fn whole_of(count: usize, entries: impl Iterator<Item = Listed>) -> BTreeSet<Listed> {
    let mut number = 0;
    let all: BTreeSet<Listed> = entries.inspect(|_| number += 1).collect();
    let names: BTreeSet<&OsString> = all.iter().map(|(name, ..)| name).collect();
    assert_eq!(
        (number, all.len(), names.len()),
        (count, count, count),
        "each name once"
    );
    all
}

#[track_caller]
fn whole(entries: impl Iterator<Item = Listed>) -> BTreeSet<Listed> {
    whole_of(NAMES, entries)
}

fn read_all(mount: &Mount) -> BTreeSet<Listed> {
    whole(open(mount).map(|entry| facts(&entry.expect("an entry"))))
}

#[test]
fn first_names_come_while_the_rest_is_held() {
    let origin = site();
    let mount = Mount::of(&origin.url("/")).with("--attr-ttl", "1h").start();
    let gate = Gate::new();
    origin.on("/big/").fault(Fault::HoldAfter(BEGINNING, gate.clone()));
    // Two programs read the one listing; the second comes when it is under way.
    let (mut one, mut other) = (open(&mount), open(&mount));
    let mut read = Vec::from_iter(std::iter::from_fn(|| next(&mut one)).take(FIRST));
    let mut also_read = Vec::from_iter(std::iter::from_fn(|| next(&mut other)).take(FIRST));
    // Names that are shown are there, and cost no request.
    for (name, ino, is_directory) in [&read[0], &read[1], &read[FIRST - 1]] {
        let metadata = fs::metadata(mount.path("big").join(name)).expect("its attributes");
        assert_eq!((metadata.ino(), metadata.is_dir()), (*ino, *is_directory));
    }

    gate.open();
    read.extend(std::iter::from_fn(|| next(&mut one)));
    also_read.extend(std::iter::from_fn(|| next(&mut other)));
    let read = whole(read.into_iter());
    assert_eq!(read, whole(also_read.into_iter()));
    assert_eq!(read, read_all(&mount), "as in the complete listing");
    let log = origin.log().all();
    let in_directory = log.0.iter().filter(|request| request.path.starts_with("/big/"));
    assert_eq!(in_directory.count(), 1, "one request for the listing, and no other");
}

#[test]
fn broken_listing_ends_in_an_error_and_does_not_count() {
    let origin = site();
    let mount = Mount::of(&origin.url("/"))
        .with("--attr-ttl", "1h")
        // Time for the first names on a loaded machine; the test takes as long.
        .with("--read-timeout", "15s")
        .start();
    let broken = origin.on("/big/").fault(Fault::CloseAfter(BEGINNING));
    let mut entries = open(&mount);
    let read: Vec<io::Result<Listed>> = std::iter::from_fn(|| entries.next())
        .map(|entry| entry.map(|entry| facts(&entry)))
        .take(NAMES)
        .collect();
    let (error, shown) = read.split_last().expect("names and an error");
    assert!(shown.len() >= FIRST && shown.len() < NAMES && shown.iter().all(Result::is_ok));
    let errno = errno_of(
        error
            .as_ref()
            .map_err(|error| io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0))),
    );
    assert!([libc::EIO, libc::ETIMEDOUT].contains(&errno), "{error:?}");
    broken.lift();
    // A name that was not shown is not absent.
    fs::metadata(mount.path("big/name-005990")).expect("it exists");
    read_all(&mount);
}

/// Mounts a directory of `held-listing.py` whose listing is held in its middle, and reads some names, then the rest.
#[track_caller]
fn comes_in_parts(kind: &str, source: &str, options: &[(&str, &str)]) {
    let home = temporary_directory();
    let gate = home.path().join("gate");
    let server = WebServer::case("held-listing.py", &[kind, gate.to_str().expect("text"), "PORT"]);
    let origin = server.url("/");
    let plan = Mount::of(&source.replace("ORIGIN/", &origin)).with("--attr-ttl", "1h");
    let plan = options.iter().fold(plan, |plan, (name, value)| {
        plan.with(name, &value.replace("ORIGIN/", &origin))
    });
    let mount = plan.start();
    let mut entries = open(&mount);
    let mut read = Vec::from_iter(std::iter::from_fn(|| next(&mut entries)).take(FIRST));
    assert_eq!(read.len(), FIRST);
    File::create(&gate).expect("to open the gate");
    read.extend(std::iter::from_fn(|| next(&mut entries)));
    let read = whole_of(3001, read.into_iter());
    assert_eq!(
        read,
        whole_of(3001, open(&mount).map(|entry| facts(&entry.expect("an entry"))))
    );
    assert!(read.iter().any(|(name, _, is_directory)| name == "d" && *is_directory));
    assert!(read.iter().any(|(name, ..)| name == "name 02999"), "{kind}");
}

#[test]
fn bucket_is_shown_page_by_page() {
    let options = [("--endpoint-url", "ORIGIN/"), ("--no-sign-request", "")];
    comes_in_parts("s3", "s3://bucket/", &options);
}

#[test]
fn webdav_collection_is_shown_while_it_is_received() {
    comes_in_parts("webdav", "ORIGIN/", &[("--type", "webdav")]);
}

#[test]
fn json_array_is_shown_while_it_is_received() {
    comes_in_parts("json", "ORIGIN/", &[]);
}

#[test]
fn page_of_names_is_shown_while_it_is_received() {
    comes_in_parts("names", "ORIGIN/", &[]);
}

#[test]
fn directory_of_a_library_is_shown_while_it_is_received() {
    let origin = site();
    let home = temporary_directory();
    let file = home.path().join("library.toml");
    let source =
        |url: &str, at: &str| format!("[[source]]\nurl = \"{url}\"\nat = \"{at}\"\nexclude = [\"name-00000?\"]\n");
    // One directory is below a place, the other is the place itself.
    let text = source(&origin.url("/"), "all") + &source(&origin.url("/big/"), "one");
    fs::write(&file, text).expect("to write");
    let mount = Mount::of(file.to_str().expect("text")).with("--attr-ttl", "1h").start();
    for path in ["all/big", "one"] {
        let gate = Gate::new();
        // The library has found out what its sources are when they are listed.
        let names: Vec<_> = fs::read_dir(mount.path("all")).expect("a directory").collect();
        assert_eq!(names.len(), 1);
        let held = origin.on("/big/").fault(Fault::HoldAfter(BEGINNING, gate.clone()));
        let mut entries = fs::read_dir(mount.path(path)).expect("to open the directory");
        let mut read = Vec::from_iter(std::iter::from_fn(|| next(&mut entries)).take(FIRST));
        assert_eq!(read.len(), FIRST, "{path}");
        gate.open();
        held.lift();
        read.extend(std::iter::from_fn(|| next(&mut entries)));
        let read = whole_of(NAMES - 10, read.into_iter());
        assert!(
            read.iter()
                .all(|(name, ..)| !name.to_string_lossy().starts_with("name-00000"))
        );
    }
}

#[test]
fn interrupted_program_leaves_the_listing_to_others() {
    let origin = site();
    let mount = Mount::of(&origin.url("/")).with("--attr-ttl", "1h").start();
    let gate = Gate::new();
    origin.on("/big/").fault(Fault::HoldAfter(BEGINNING, gate.clone()));
    let mut ls = process::spawn(
        Command::new("ls")
            .arg("-f")
            .arg(mount.path("big"))
            .stdout(Stdio::null()),
    );
    gate.wait_for_arrivals(1);
    let mut entries = open(&mount);
    let mut read = Vec::from_iter(std::iter::from_fn(|| next(&mut entries)).take(FIRST));
    Pidfd::open(ls.id()).expect("it waits").signal(Signal::SIGINT);
    process::wait(&mut ls, PATIENCE).expect("it ends while the listing is held");
    gate.open();
    read.extend(std::iter::from_fn(|| next(&mut entries)));
    whole(read.into_iter());
    let requests = origin.log().all().gets("/big/").len();
    assert_eq!(requests, 1, "the one listing went on");
}

#[test]
fn positions_stay_while_names_are_added() {
    let origin = site();
    let mount = Mount::of(&origin.url("/")).with("--attr-ttl", "1h").start();
    let gate = Gate::new();
    origin.on("/big/").fault(Fault::HoldAfter(BEGINNING, gate.clone()));
    let mut directory = Dir::open(&mount.path("big"), OFlag::O_RDONLY, Mode::empty()).expect("to open the directory");
    let names = |directory: &mut Dir, number: usize| -> Vec<CString> {
        let entries = directory.iter().take(number);
        entries
            .map(|entry| entry.expect("an entry").file_name().to_owned())
            .collect()
    };
    // Each iterator of `Dir` rewinds the directory when it is dropped.
    let before = names(&mut directory, FIRST);
    gate.open();
    let all = names(&mut directory, usize::MAX);
    assert_eq!(all.len(), NAMES + 2, "with the two dots");
    let again = names(&mut directory, usize::MAX);
    assert_eq!(all.len(), again.len());
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), FIRST);
    assert!(before.iter().all(|name| all.contains(name)));
}
