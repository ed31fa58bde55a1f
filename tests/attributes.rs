//! Extended attributes show what is cached, and no tool takes what is not cached for a hole.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::common::files::{errno_of, open_direct, read_direct, sha256, sha256_of};
use crate::common::{Mount, fetchfs, run, temporary_directory, wait_until};
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;

/// An attribute of ours, by its name after the prefix.
fn attribute(path: &Path, name: &str) -> io::Result<String> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no zero byte");
    let name = CString::new(format!("user.fetchfs.{name}")).expect("no zero byte");
    let mut value = vec![0_u8; 4096];
    // SAFETY: two strings that end with zero, and a buffer with its length.
    let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    value.truncate(len.unsigned_abs());
    Ok(String::from_utf8(value).expect("text"))
}

fn value(path: &Path, name: &str) -> String {
    attribute(path, name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A mount of one file of 8 MiB, without read-ahead, so that exactly what is read is cached.
fn exact_mount(origin: &Origin) -> Mount {
    origin.add("/film", Content::noise(8 * MIB, 3));
    Mount::of(&origin.url("/"))
        .with("--read-ahead", "0")
        .with("--chunk-size", "256KiB")
        .with("--attr-ttl", "1h")
        .start()
}

fn read_second_mib(mount: &Mount) {
    let file = open_direct(&mount.path("film"));
    read_direct(&file, MIB, MIB as usize).expect("to read");
}

#[test]
fn attributes_show_what_is_cached() {
    let origin = Origin::start();
    let mount = exact_mount(&origin);
    let film = mount.path("film");
    fs::metadata(&film).expect("it is there");
    let mark = origin.log().mark();
    assert_eq!(
        (value(&film, "state"), value(&film, "cached")),
        ("none".into(), "0".into())
    );
    assert_eq!(
        (value(&film, "ranges"), value(&film, "percent")),
        (String::new(), "0".into())
    );
    assert_eq!(value(&film, "url"), origin.url("/film"));
    assert_eq!(value(&mount.root(), "url"), origin.url("/"));
    assert_eq!(
        (value(&film, "kind"), value(&mount.root(), "kind")),
        ("index".into(), "index".into())
    );
    assert!(origin.log().since(mark).0.is_empty(), "they cost no request");

    read_second_mib(&mount);
    let mark = origin.log().mark();
    assert_eq!(
        (value(&film, "state"), value(&film, "percent")),
        ("partial".into(), "12".into())
    );
    assert_eq!(value(&film, "cached"), MIB.to_string());
    assert_eq!(value(&film, "ranges"), format!("{MIB}-{}", 2 * MIB));
    assert!(value(&film, "etag").starts_with('"'));
    assert_eq!(value(&film, "pinned"), "0");
    run(fetchfs().args(["pin", "--no-fetch"]).arg(&film)).succeeded();
    assert_eq!(value(&film, "pinned"), "1");
    let all = value(&film, "all");
    for line in ["state=partial", "percent=12", "pinned=1", "kind=index"] {
        assert!(all.lines().any(|told| told == line), "{line} is missing: {all}");
    }
    assert_eq!(errno_of(attribute(&film, "other")), libc::ENODATA);
    assert_eq!(errno_of(attribute(&mount.root(), "state")), libc::ENODATA);
    assert!(origin.log().since(mark).0.is_empty(), "they cost no request");

    sha256(&film);
    assert_eq!(
        (value(&film, "state"), value(&film, "percent")),
        ("complete".into(), "100".into())
    );
}

#[test]
fn file_in_flight_is_fetching() {
    let (origin, gate) = (Origin::start(), Gate::new());
    let mount = exact_mount(&origin);
    origin.on("/film").data().fault(Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        scope.spawn(|| read_second_mib(&mount));
        gate.wait_for_arrivals(1);
        assert_eq!(value(&mount.path("film"), "state"), "fetching");
        gate.open();
    });
    wait_until("nothing is in flight", || {
        value(&mount.path("film"), "state") == "partial"
    });
}

/// The state of the cache is no part of a copy: a target without such attributes would be an error of `rsync -X`.
#[test]
fn copies_have_no_attributes_and_no_errors() {
    let (origin, home) = (Origin::start(), temporary_directory());
    let mount = exact_mount(&origin);
    read_second_mib(&mount);
    let copy = home.path().join("copy");
    let ran = run(Command::new("cp").arg("-a").arg(mount.path("film")).arg(&copy)).succeeded();
    assert_eq!(ran.err, "");
    assert_eq!(sha256(&copy), sha256_of(&Content::noise(8 * MIB, 3)));
    assert!(attribute(&copy, "state").is_err() && attribute(&copy, "url").is_err());
}

/// SEEK_HOLE must not report what is not cached: these tools would write zeros in its place.
#[test]
fn sparse_copies_of_a_partly_cached_file_are_right() {
    let (origin, home) = (Origin::start(), temporary_directory());
    let content = sha256_of(&Content::noise(8 * MIB, 3));
    for (number, options) in [&["cp", "--sparse=always"][..], &["cp", "--sparse=auto"], &["tar"]]
        .into_iter()
        .enumerate()
    {
        let mount = exact_mount(&origin);
        let copy = home.path().join(number.to_string());
        fs::create_dir(&copy).expect("a directory");
        read_second_mib(&mount);
        let file = File::open(mount.path("film")).expect("to open");
        // SAFETY: a system call with a descriptor and two numbers.
        let hole = unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_HOLE) };
        assert_eq!(hole, (8 * MIB).cast_signed(), "all of it is data");
        if options == ["tar"] {
            let archive = home.path().join("archive.tar");
            run(Command::new("tar")
                .arg("-C")
                .arg(mount.root())
                .arg("-cSf")
                .arg(&archive)
                .arg("film"))
            .succeeded();
            run(Command::new("tar").arg("-C").arg(&copy).arg("-xf").arg(&archive)).succeeded();
        } else {
            run(Command::new(options[0])
                .arg(options[1])
                .arg(mount.path("film"))
                .arg(copy.join("film")))
            .succeeded();
        }
        assert_eq!(sha256(&copy.join("film")), content, "{options:?}");
    }
}

/// There is no number of inodes that could be used up.
#[test]
fn df_never_shows_all_inodes_as_used() {
    let origin = Origin::start();
    let mount = exact_mount(&origin);
    fs::read_dir(mount.root()).expect("to list").for_each(drop);
    let out = run(Command::new("df").arg("-i").arg(mount.root())).succeeded().out;
    assert!(!out.contains("100%"), "{out}");
}

/// A read-only mount: the kernel refuses to set attributes before fetchfs is asked.
#[test]
fn attributes_can_not_be_set() {
    let origin = Origin::start();
    let mount = exact_mount(&origin);
    let path = CString::new(mount.path("film").as_os_str().as_bytes()).expect("no zero byte");
    let name = c"user.fetchfs.pinned";
    // SAFETY: two strings that end with zero, and one byte.
    let set = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), c"1".as_ptr().cast(), 1, 0) };
    let errno = io::Error::last_os_error().raw_os_error();
    assert_eq!((set, errno), (-1, Some(libc::EROFS)));
    assert_eq!(value(&mount.path("film"), "pinned"), "0");
}
