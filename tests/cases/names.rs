//! What `stat` and `ls` show: dates, types, inode numbers, and unlisted names.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::servers::WebServer;
use crate::common::{Mount, wait_until};
use crate::origin::{Content, Fault, Gate, IndexStyle, Origin};

/// The date of undated files in seconds since 1970: 1980-01-01.
const UNDATED: i64 = 315_532_800;

fn date(path: impl AsRef<Path>) -> i64 {
    fs::metadata(path).expect("to stat").mtime()
}

/// A mount that caches names and attributes for almost no time, so that each look-up asks the server.
fn impatient(url: &str) -> Mount {
    Mount::of(url).with("--attr-ttl", "1ms").start()
}

#[test]
fn undated_files_keep_a_fixed_date() {
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

#[test]
fn last_modified_is_used_without_a_listed_date() {
    const MODIFIED: i64 = 1_577_836_800;
    let server = WebServer::case("no-dates.py", &["PORT", "sized"]);
    let mut mount = Mount::start_of(&server.url("/"));
    for _ in 0..2 {
        assert_eq!(date(mount.path("a")), MODIFIED, "before it is read");
        assert_eq!(fs::read(mount.path("a")).expect("its bytes"), b"hello\n");
        assert_eq!(date(mount.path("a")), MODIFIED);
        mount.unmount();
        mount.start();
    }
}

/// 2024-05-01, 21:00 by the listing; 12:00:37 UTC by Last-Modified.
#[test]
fn last_modified_is_kept_over_remounts() {
    const LISTED: i64 = 1_714_597_200;
    const MODIFIED: i64 = 1_714_564_837;
    let server = WebServer::case("listed-date.py", &["PORT"]);
    let mut mount = Mount::start_of(&server.url("/"));
    assert_eq!(date(mount.path("a")), LISTED);
    assert_eq!(fs::read(mount.path("a")).expect("its bytes"), b"hello\n");
    assert_eq!(date(mount.path("a")), MODIFIED);
    mount.unmount();
    mount.start();
    assert_eq!(date(mount.path("a")), MODIFIED, "it is in the index");
}

#[test]
fn open_file_keeps_its_date() {
    let server = WebServer::case("listed-date.py", &["PORT"]);
    let mount = impatient(&server.url("/"));
    let before = date(mount.path("a"));
    let mut open = File::open(mount.path("a")).expect("to open");
    open.read_to_end(&mut Vec::new()).expect("its bytes");
    assert_eq!(open.metadata().expect("to stat").mtime(), before);
    drop(open);
    assert_ne!(date(mount.path("a")), before);
}

/// The listing is four hours behind UTC, and one of the two files must be requested: the index would look older than
/// its data. The same would happen to files of one minute once one of them was read.
#[test]
fn dates_of_a_directory_use_one_clock() {
    for kind in [&["PORT"][..], &["PORT", "minute"], &["PORT", "exact"]] {
        let server = WebServer::case("two-clocks.py", kind);
        let mut mount = Mount::start_of(&server.url("/"));
        for reads in [false, true, false] {
            let compare = || {
                let (index, data) = (date(mount.path("x.vcf.gz.tbi")), date(mount.path("x.vcf.gz")));
                assert!(index >= data, "{kind:?}: {index} is older than {data}");
            };
            compare();
            if reads {
                fs::read(mount.path("x.vcf.gz")).expect("its bytes");
                compare();
            }
            mount.unmount();
            mount.start();
        }
    }
}

#[test]
fn inode_numbers_survive_remounts_and_change_with_versions() {
    let origin = Origin::start();
    for name in ["/top", "/dir/file", "/dir/below/deep"] {
        origin.add(name, Content::noise(100, 1));
    }
    let mut mount = Mount::of(&origin.url("/")).with("--attr-ttl", "1ms").start();
    let numbers = |mount: &Mount| {
        ["top", "dir", "dir/file", "dir/below", "dir/below/deep"]
            .map(|name| fs::metadata(mount.path(name)).expect("to stat").ino())
    };
    let before = numbers(&mount);
    for name in ["top", "dir/file"] {
        fs::read(mount.path(name)).expect("its bytes");
    }
    assert_eq!(numbers(&mount), before, "after reading");
    mount.unmount();
    mount.start();
    assert_eq!(numbers(&mount), before, "after a remount");
    origin.replace_keeping_date("/top", Content::noise(100, 2));
    assert_eq!(
        fs::read(mount.path("top")).expect("its bytes"),
        Content::noise(100, 2).whole()
    );
    let replaced = numbers(&mount);
    assert_ne!(replaced[0], before[0], "a new version");
    assert_eq!(replaced[1..], before[1..]);
    mount.unmount();
    mount.start();
    assert_eq!(numbers(&mount), replaced, "after another remount");
}

/// Asserts the types that `find` shows, and the names that `ls` shows below.
fn assert_is_directory(mount: &Mount) {
    assert!(fs::metadata(mount.path("sub")).expect("to stat").is_dir());
    let kinds: Vec<_> = fs::read_dir(mount.root()).expect("to list").collect();
    assert_eq!(kinds.len(), 1);
    let sub = kinds[0].as_ref().expect("an entry");
    assert!(sub.file_name() == "sub" && sub.file_type().expect("a kind").is_dir());
    assert_eq!(fs::read(mount.path("sub/b.bin")).expect("its bytes"), b"hello\n");
}

/// The link has no `/`: the server redirects to the name with one, or has an index page there.
#[test]
fn file_found_to_be_a_directory_is_recorded_as_one() {
    for kind in ["301", "200"] {
        let server = WebServer::case("directory-without-slash.py", &["PORT", kind]);
        let mut mount = impatient(&server.url("/"));
        for _ in 0..3 {
            assert_is_directory(&mount);
        }
        mount.unmount();
        mount.add_option("--offline", "");
        mount.start();
        assert_is_directory(&mount);
    }
}

#[test]
fn source_without_trailing_slash_is_a_directory() {
    for kind in ["301", "200"] {
        let server = WebServer::case("directory-without-slash.py", &["PORT", kind]);
        let mount = Mount::start_of(&server.url("/sub"));
        assert_eq!(fs::read(mount.path("b.bin")).expect("its bytes"), b"hello\n", "{kind}");
    }
}

fn is_absent(path: impl AsRef<Path>) -> bool {
    fs::metadata(path).is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
}

#[test]
fn unlisted_name_is_found_by_lookup() {
    let origin = Origin::start();
    origin.add("/listed", Content::noise(10, 1));
    origin.add("/hidden", Content::noise(1000, 2));
    origin.add("/.git/config", Content::noise(100, 3));
    origin.hide("/hidden");
    origin.hide("/.git");
    let mut mount = Mount::start_of(&origin.url("/"));
    for _ in 0..2 {
        assert_eq!(
            fs::read(mount.path("hidden")).expect("its bytes"),
            Content::noise(1000, 2).whole()
        );
        assert_eq!(
            fs::read(mount.path(".git/config")).expect("its bytes"),
            Content::noise(100, 3).whole()
        );
        let names = fs::read_dir(mount.root()).expect("to list");
        assert_eq!(names.count(), 1, "ls shows what is listed");
        mount.unmount();
        mount.start();
    }
}

/// A scanner costs the server 64 requests, whatever names it tries.
#[test]
fn missing_names_cost_few_requests() {
    let origin = Origin::start();
    origin.add("/listed", Content::noise(10, 1));
    let mount = Mount::start_of(&origin.url("/"));
    let began = Instant::now();
    for number in 0..2000 {
        assert!(is_absent(mount.path(format!("nothing{number}"))));
        assert!(is_absent(mount.path("nothing")));
    }
    // One more request is allowed every ten seconds.
    let most = 64 + began.elapsed().as_secs() as usize / 10 + 1;
    let requests = origin.log().all();
    let asked = requests.0.iter().filter(|request| request.path != "/").count();
    assert!((1..=most).contains(&asked), "{asked} requests");
    assert_eq!(fs::read(mount.path("listed")).expect("its bytes").len(), 10);
}

#[test]
fn catch_all_server_has_only_listed_names() {
    for (mode, has_hidden) in [("page", false), ("anything", false), ("honest", true)] {
        let server = WebServer::case("unlisted-name.py", &[mode, "PORT"]);
        let mount = Mount::start_of(&server.url("/"));
        assert!(is_absent(mount.path("README")), "{mode}");
        if has_hidden {
            assert_eq!(
                fs::read(mount.path(".zgroup")).expect("its bytes"),
                b"{\"zarr_format\": 2}"
            );
        } else {
            assert!(is_absent(mount.path(".git")), "{mode}");
        }
        assert!(fs::metadata(mount.path("f.bin")).is_ok());
    }
}

#[test]
fn listed_but_missing_file_is_hidden() {
    let origin = Origin::start();
    origin.set_index_style(IndexStyle::NamesOnly);
    for name in ["/ghost", "/real"] {
        origin.add(name, Content::noise(10, 1));
    }
    origin.on("/ghost").fault(Fault::Status(404));
    let mount = impatient(&origin.url("/"));
    let names = || fs::read_dir(mount.root()).expect("to list").count();
    assert_eq!(names(), 2);
    assert!(is_absent(mount.path("ghost")));
    assert_eq!(names(), 1);
    assert!(is_absent(mount.path("ghost")));
    let asked = origin
        .log()
        .all()
        .0
        .iter()
        .filter(|request| request.path == "/ghost")
        .count();
    assert_eq!(asked, 1, "it is asked about once");
}

/// Earlier each look-up took two seconds once the listing was stale, and the server was taken for silent.
#[test]
fn lookup_does_not_wait_for_a_refreshed_listing() {
    let origin = Origin::start();
    for number in 0..10_000 {
        origin.add(&format!("/f{number}"), Content::noise(10, 1));
    }
    let mount = impatient(&origin.url("/"));
    // No newer listing arrives.
    let gate = Gate::new();
    origin.on("/").fault(Fault::Hold(gate.clone()));
    for _ in 0..3 {
        assert!(is_absent(mount.path("nothing")));
        assert_eq!(fs::metadata(mount.path("f9999")).expect("to stat").len(), 10);
        assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), 10_000);
    }
    origin.add("/new", Content::noise(10, 1));
    gate.open();
    wait_until("the new name", || {
        fs::read_dir(mount.root()).expect("to list").count() == 10_001
    });
}

/// Lists one open directory for each input line, as a program that keeps it open and rewinds it.
const LISTER: &str = "import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
for _ in sys.stdin: print(sorted(os.listdir(fd)), flush=True)";

#[test]
fn rewinddir_refreshes_the_directory() {
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
