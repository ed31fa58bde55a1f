//! Directories of this machine as a source.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use fetchfs::internals::events;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::common::files::{assert_same, sha256, sha256_of, write_file};
use crate::common::process::assert_refuses;
use crate::common::{Mount, fetchfs, run, temporary_directory, wait_until};
use crate::origin::Content;

const MIB: u64 = 1 << 20;

#[track_caller]
fn names(directory: &Path) -> BTreeSet<OsString> {
    let listed = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    listed.map(|entry| entry.expect("an entry").file_name()).collect()
}

/// A mount of a directory by its path, in which changes are seen at once.
#[track_caller]
fn mount(directory: &TempDir) -> Mount {
    Mount::of(directory.path().to_str().expect("text"))
        .with("--attr-ttl", "0")
        .start()
}

/// All names that the file system has, with their sizes, dates to the nanosecond and bytes; by path and by URL.
#[test]
fn directory_is_mounted_as_it_is() {
    let source = temporary_directory();
    let long = "n".repeat(255);
    let nasty: Vec<&[u8]> = vec![
        b"with space",
        b" ",
        b"100%",
        b"%41",
        b"a%2Fb",
        b"#",
        b"what?",
        b"a+b",
        b"&amp;",
        b"it's \"quoted\"",
        b"back\\slash",
        b"C|",
        b"...",
        b".hidden",
        b"trailing.",
        b"line\nbreak",
        b"\xff\xfe latin \xe4",
        "e\u{301}".as_bytes(),
        "\u{e9}".as_bytes(),
        long.as_bytes(),
    ];
    for (number, name) in nasty.iter().enumerate() {
        let name = OsStr::from_bytes(name);
        for path in [
            source.path().join(name),
            source.path().join("in").join(name).join("file"),
        ] {
            write_file(&path, &Content::noise(1000 + number as u64, number as u64));
            let date = UNIX_EPOCH + Duration::new(1_700_000_000 + number as u64, 123_456_789);
            File::options()
                .write(true)
                .open(&path)
                .expect("to open")
                .set_modified(date)
                .expect("a date");
        }
    }
    for source_name in [
        source.path().display().to_string(),
        format!("file://{}", source.path().display()),
    ] {
        let mount = Mount::start_of(&source_name);
        let mut expected: BTreeSet<OsString> = nasty.iter().map(|name| OsStr::from_bytes(name).to_owned()).collect();
        assert_eq!(names(&mount.path("in")), expected);
        expected.insert("in".into());
        assert_eq!(names(&mount.root()), expected);
        for name in &nasty {
            let name = OsStr::from_bytes(name);
            for path in [Path::new(name).to_owned(), Path::new("in").join(name).join("file")] {
                let (here, there) = (source.path().join(&path), mount.path(&path));
                let (here, there) = (fs::metadata(here), fs::metadata(there));
                let facts = |found: fs::Metadata| (found.len(), found.mtime(), found.mtime_nsec());
                assert_eq!(
                    facts(there.expect("to stat")),
                    facts(here.expect("to stat")),
                    "{path:?}"
                );
                let read = fs::read(mount.path(&path)).expect("to read");
                assert_same(
                    &read,
                    &fs::read(source.path().join(&path)).expect("to read"),
                    &format!("{path:?}"),
                );
            }
        }
        let copy = temporary_directory();
        run(Command::new("cp").arg("-r").arg(mount.root()).arg(copy.path())).succeeded();
        run(Command::new("diff")
            .arg("-r")
            .arg(source.path())
            .arg(copy.path().join("mnt")))
        .succeeded();
    }
}

#[test]
fn large_file_is_read_through_the_cache() {
    let source = temporary_directory();
    let content = Content::noise(30 * MIB, 3);
    let path = source.path().join("d/film.mkv");
    write_file(&path, &content);
    let mut mount = mount(&source);
    assert_eq!(sha256(&mount.path("d/film.mkv")), sha256_of(&content));
    // A second mount that may ask nothing has names and bytes.
    mount.add_option("--offline", "");
    mount.remount();
    let hidden = source.path().with_extension("away");
    fs::rename(source.path(), &hidden).expect("to rename");
    fs::create_dir(source.path()).expect("a directory");
    assert_eq!(sha256(&mount.path("d/film.mkv")), sha256_of(&content));
    fs::remove_dir(source.path()).expect("to remove");
    fs::rename(&hidden, source.path()).expect("to rename back");
}

#[test]
fn what_is_no_file_is_left_out() {
    let (source, other) = (temporary_directory(), temporary_directory());
    let path = |name: &str| source.path().join(name);
    fs::create_dir_all(path("d/sub")).expect("directories");
    fs::write(path("d/f"), "f").expect("a file");
    fs::write(other.path().join("secret"), "s").expect("a file");
    mkfifo(&path("pipe"), Mode::S_IRWXU).expect("a pipe");
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("a socket");
    for (target, name) in [
        ("d/f".into(), "to_file"),
        (path("d"), "to_dir"),
        ("../..".into(), "d/sub/up"),
        (".".into(), "d/here"),
        ("nowhere".into(), "dead"),
        ("itself".into(), "itself"),
        (other.path().join("secret"), "out"),
        (other.path().into(), "out_dir"),
    ] {
        symlink(target, path(name)).expect("a link");
    }
    let mount = mount(&source);
    let shown = |names: &[&str]| names.iter().map(OsString::from).collect::<BTreeSet<_>>();
    assert_eq!(names(&mount.root()), shown(&["d", "to_dir", "to_file"]));
    assert_eq!(names(&mount.path("d")), shown(&["f", "sub"]));
    assert_eq!(names(&mount.path("to_dir/sub")).len(), 0);
    assert_eq!(fs::read_to_string(mount.path("to_file")).expect("to read"), "f");
    assert_eq!(fs::read_to_string(mount.path("to_dir/f")).expect("to read"), "f");
    let status = run(fetchfs().arg("status").arg(mount.root())).succeeded();
    // Without its line breaks.
    let shown_status = status.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "7 names are not shown (neither",
        "2 links outside the directory are not shown",
    ] {
        assert!(shown_status.contains(line), "{shown_status}");
    }
    let all = Mount::of(source.path().to_str().expect("text"))
        .with("--external-links", "")
        .start();
    assert_eq!(fs::read_to_string(all.path("out")).expect("to read"), "s");
    assert_eq!(fs::read_to_string(all.path("out_dir/secret")).expect("to read"), "s");
}

/// The reader of the old version gets its bytes or an error, never a mix.
#[test]
fn changed_file_is_another_version() {
    let source = temporary_directory();
    let path = source.path().join("f");
    let (old, new) = (Content::noise(8 * MIB, 1), Content::noise(8 * MIB, 2));
    write_file(&path, &old);
    let mount = mount(&source);
    let open = File::open(mount.path("f")).expect("to open");
    let mut first = vec![0; 4096];
    open.read_exact_at(&mut first, 0).expect("to read");
    let date = fs::metadata(&path).and_then(|found| found.modified()).expect("a date");
    write_file(&path, &new);
    File::options()
        .write(true)
        .open(&path)
        .expect("to open")
        .set_modified(date)
        .expect("a date");
    let late = open.read_exact_at(&mut first, 7 * MIB);
    let failed = late.expect_err("its version is gone").raw_os_error();
    assert_eq!(failed, Some(libc::ESTALE));
    drop(open);
    wait_until("the new version is shown", || {
        sha256(&mount.path("f")) == sha256_of(&new)
    });
    fs::write(source.path().join("added"), "a").expect("a file");
    fs::remove_file(&path).expect("to remove");
    wait_until("names are new", || {
        names(&mount.root()) == BTreeSet::from([OsString::from("added")])
    });
    assert_eq!(mount.events(events::ORIGIN_DOWN), 0);
}

#[test]
fn mount_in_its_own_source_is_refused() {
    let source = temporary_directory();
    let inside = source.path().join("a/mnt");
    fs::create_dir_all(&inside).expect("directories");
    let refused = |from: &Path, to: &Path| {
        let mut command = fetchfs();
        command
            .arg("mount")
            .arg(from)
            .arg(to)
            .arg("--cache-dir")
            .arg(source.path().join("cache"));
        command
    };
    assert_refuses(
        &run(&mut refused(source.path(), &inside)),
        &["is inside the source", "choose"],
    );
    assert_refuses(&run(&mut refused(&inside, &inside)), &["is inside the source"]);
    let alias = temporary_directory();
    let link = alias.path().join("alias");
    symlink(source.path(), &link).expect("a link");
    assert_refuses(&run(&mut refused(&link, &inside)), &["is inside the source"]);
    assert_refuses(
        &run(&mut refused(Path::new("/no/such/directory"), alias.path())),
        &["/no/such/directory"],
    );
}
