//! Programs that look into every file: what they get, what is fetched for them, and what that costs the others.
//!
//! A scanner is a copy of a program of coreutils under the scanner's name. The origin's log is the evidence.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::cached::chunks;
use crate::common::files::{assert_same, drop_pages, on_disk, pread};
use crate::common::{Mount, run, temporary_directory};
use crate::origin::{Content, Fault, Framing, Origin};
use crate::prefetching::{content, fetchfs_with};

const MIB: u64 = 1 << 20;

/// The default chunk size.
const CHUNK: u64 = 256 << 10;

/// Programs under other names.
struct Programs(TempDir);

impl Programs {
    fn new() -> Programs {
        Programs(temporary_directory())
    }

    /// `program` under this name.
    fn named(&self, name: &str, program: &str) -> PathBuf {
        let path = self.0.path().join(program).join(name);
        if !path.exists() {
            fs::create_dir_all(self.0.path().join(program)).expect("a directory");
            fs::copy(format!("/bin/{program}"), &path).expect("a program of coreutils");
        }
        path
    }

    /// Reads a whole file under this name.
    fn cat(&self, name: &str, file: &Path) -> Output {
        let mut cat = Command::new(self.named(name, "cat"));
        cat.arg(file).env("LC_ALL", "C").output().expect("to run")
    }

    /// Reads so many bytes from the beginning under this name, past the kernel's cache.
    fn read_direct(&self, name: &str, file: &Path, bytes: u64) {
        let mut dd = Command::new(self.named(name, "dd"));
        dd.arg(format!("if={}", file.display()));
        dd.args(["of=/dev/null", "bs=64K", "iflag=direct"]);
        dd.arg(format!("count={}", bytes >> 16));
        run(&mut dd).succeeded();
    }
}

fn origin_with(files: &[(&str, u64)]) -> Origin {
    let origin = Origin::start();
    for &(path, size) in files {
        origin.add(path, content(path, size));
    }
    origin
}

/// Bytes of a file that the origin has sent, once all responses have ended.
fn sent(origin: &Origin, path: &str) -> u64 {
    let all = origin.log().wait_for("the end of all responses", |all| all.all_ended());
    all.body_bytes(path)
}

fn status_of(mount: &Mount) -> Value {
    let ran = run(&mut fetchfs_with(&["status", "--json"], &[mount.root()])).succeeded();
    let all: Value = serde_json::from_str(&ran.out).expect("JSON");
    all[0].clone()
}

/// The traffic of a program.
fn program(status: &Value, name: &str) -> Value {
    let all = status["programs"].as_array().expect("an array").iter();
    let found = all.clone().find(|program| program["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

#[track_caller]
fn assert_whole(read: &Output, path: &str, size: u64) {
    assert!(read.status.success(), "{read:?}");
    assert_same(&read.stdout, &content(path, size).read(0..size), path);
}

/// A read fails with EPERM, and what came before is right. The kernel reads ahead, and its requests may overtake each other;
/// so the read that fails may be a little before the limit.
#[track_caller]
fn assert_limited(read: &Output, path: &str, limit: u64) {
    assert!(!read.status.success());
    let errors = String::from_utf8_lossy(&read.stderr);
    assert!(errors.contains("Operation not permitted"), "{errors}");
    let len = read.stdout.len() as u64;
    assert!(len <= limit && len >= limit.saturating_sub(MIB), "{len} of {limit}");
    assert_same(&read.stdout, &content(path, limit).read(0..len), path);
}

#[test]
fn thumbnailer_gets_exactly_its_limit() {
    const SIZE: u64 = 32 * MIB;
    let (origin, programs) = (origin_with(&[("/film", SIZE), ("/photo", 3 * MIB)]), Programs::new());
    let mount = Mount::of(&origin.url("/")).with("--scan-limit", "4MiB").start();
    let film = mount.path("film");
    assert_limited(&programs.cat("tumblerd", &film), "/film", 4 * MIB);
    assert_eq!(sent(&origin, "/film"), 4 * MIB);

    // A second visit brings nothing more; another program has its own limit, and what is cached is free.
    drop_pages(&film);
    assert_limited(&programs.cat("tumblerd", &film), "/film", 4 * MIB);
    assert_eq!(sent(&origin, "/film"), 4 * MIB);
    assert_limited(&programs.cat("gdk-pixbuf-thumbnailer", &film), "/film", 8 * MIB);
    assert_eq!(sent(&origin, "/film"), 8 * MIB);

    // A smaller file is not limited.
    assert_whole(&programs.cat("tumblerd", &mount.path("photo")), "/photo", 3 * MIB);

    // Nor is an ordinary program, and then there is enough for all.
    assert_whole(&programs.cat("cat", &film), "/film", SIZE);
    drop_pages(&film);
    assert_whole(&programs.cat("tumblerd", &film), "/film", SIZE);
    assert_eq!(sent(&origin, "/film"), SIZE, "no byte was fetched twice");
    let status = status_of(&mount);
    assert_eq!(status["totals"]["failed_reads"], 0, "a refusal is no failure");
    assert_eq!(status["failures"], Value::Array(Vec::new()));
}

#[test]
fn limit_of_zero_refuses_what_is_not_cached() {
    let (origin, programs) = (origin_with(&[("/film", MIB), ("/note", 10)]), Programs::new());
    let mount = Mount::of(&origin.url("/")).with("--scan-limit", "0").start();
    for path in ["/film", "/note"] {
        assert_limited(&programs.cat("updatedb", &mount.path(&path[1..])), path, 0);
        assert_eq!(sent(&origin, path), 0, "{path}");
    }
    assert_whole(&programs.cat("cat", &mount.path("note")), "/note", 10);
    assert_whole(&programs.cat("updatedb", &mount.path("note")), "/note", 10);
}

#[test]
fn media_scanner_gets_everything_and_nothing_is_read_ahead() {
    const SIZE: u64 = 24 * MIB;
    let origin = origin_with(&[("/probed", SIZE), ("/read", SIZE)]);
    let programs = Programs::new();
    let mount = Mount::of(&origin.url("/")).with("--scan-limit", "1MiB").start();
    programs.read_direct("Plex Media Scanner", &mount.path("probed"), 5 * MIB);
    assert_eq!(sent(&origin, "/probed"), 5 * MIB);
    programs.read_direct("dd", &mount.path("read"), 5 * MIB);
    assert!(
        sent(&origin, "/read") > 5 * MIB,
        "an ordinary reader is fetched for ahead"
    );
    assert_whole(&programs.cat("ffprobe", &mount.path("probed")), "/probed", SIZE);
    assert_eq!(sent(&origin, "/probed"), SIZE);
}

#[test]
fn small_file_comes_in_one_request() {
    let (origin, programs) = (origin_with(&[("/picture", MIB)]), Programs::new());
    let mount = Mount::start_of(&origin.url("/"));
    assert_whole(&programs.cat("tumblerd", &mount.path("picture")), "/picture", MIB);
    assert_eq!(origin.log().all().data("/picture").len(), 1);
}

#[test]
fn walk_of_a_thumbnailer_fetches_nothing_ahead() {
    let origin = Origin::start();
    for number in 10..30 {
        origin.add(&format!("/{number}"), content("/xx", 1000));
    }
    let programs = Programs::new();
    let mount = Mount::start_of(&origin.url("/"));
    for number in 10..20 {
        assert_whole(&programs.cat("tumblerd", &mount.path(number.to_string())), "/xx", 1000);
    }
    let all = origin.log().wait_for("the end of all responses", |all| all.all_ended());
    for number in 20..30 {
        assert_eq!(all.data(&format!("/{number}")).len(), 0, "{number}");
    }
}

/// The scan of a file larger than the cache takes its free room only. What it took is evicted before anything that an
/// ordinary program has read.
#[test]
fn scan_evicts_nothing_and_is_evicted_first() {
    const FILM: u64 = 40 * MIB;
    const SONG: u64 = 12 * MIB;
    let origin = origin_with(&[("/film", FILM), ("/song", SONG), ("/book", 3 * MIB)]);
    let programs = Programs::new();
    let mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "20MiB")
        .with("--min-free", "0")
        .start();
    assert_whole(&programs.cat("cat", &mount.path("song")), "/song", SONG);
    assert_whole(&programs.cat("ffprobe", &mount.path("film")), "/film", FILM);
    assert!(on_disk(&mount.cache()) <= 20 * MIB);
    let kept = |path: &str| chunks(&mount.cache(), path).len() as u64;
    // The index is written at intervals.
    crate::common::wait_until("the index", || kept("/song") == SONG / CHUNK && kept("/film") > 0);
    let of_film = kept("/film");

    assert_whole(&programs.cat("cat", &mount.path("book")), "/book", 3 * MIB);
    crate::common::wait_until("room for the book", || {
        kept("/film") < of_film && kept("/book") == 3 * MIB / CHUNK
    });
    assert_eq!(kept("/song"), SONG / CHUNK, "the scan's go first");
    drop_pages(&mount.path("song"));
    let mark = origin.log().mark();
    assert_whole(&programs.cat("cat", &mount.path("song")), "/song", SONG);
    assert_eq!(origin.log().since(mark).data("/song").len(), 0);
}

/// With a full cache a thumbnailer is served from memory, and its limit holds too.
#[test]
fn limit_holds_without_room_in_the_cache() {
    const SONG: u64 = 30 * MIB;
    let origin = origin_with(&[("/film", 32 * MIB), ("/song", SONG)]);
    let programs = Programs::new();
    let mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--min-free", "0")
        .with("--scan-limit", "6MiB")
        .start();
    assert_whole(&programs.cat("cat", &mount.path("song")), "/song", SONG);
    let read = programs.cat("tumblerd", &mount.path("film"));
    assert!(!read.status.success());
    let got = read.stdout.len() as u64;
    assert_same(&read.stdout, &content("/film", got).read(0..got), "film");
    assert!(sent(&origin, "/film") <= 6 * MIB, "{}", sent(&origin, "/film"));
    assert!(got >= 3 * MIB, "{got}");
}

#[test]
fn table_and_policy_are_options() {
    const SIZE: u64 = 4 * MIB;
    let origin = origin_with(&[("/a", SIZE), ("/b", SIZE), ("/c", SIZE)]);
    let programs = Programs::new();
    let mount = Mount::of(&origin.url("/"))
        .with("--scan-limit", "1MiB")
        .with("--scanner", "indexd")
        .with("-o", "scanner=tumblerd=off,scanner=grep=gentle")
        .start();
    assert_limited(&programs.cat("indexd", &mount.path("a")), "/a", MIB);
    assert_whole(&programs.cat("tumblerd", &mount.path("a")), "/a", SIZE);
    programs.read_direct("grep", &mount.path("b"), 2 * MIB);
    assert_eq!(sent(&origin, "/b"), 2 * MIB);

    let set = |assignment: &str| {
        let mut set = fetchfs_with(&["set"], &[mount.root()]);
        run(set.arg(assignment)).succeeded();
    };
    set("scan_limit=2MiB");
    assert_limited(&programs.cat("indexd", &mount.path("c")), "/c", 2 * MIB);
    set("scan_policy=gentle");
    programs.read_direct("indexd", &mount.path("c"), 3 * MIB);
    assert_eq!(sent(&origin, "/c"), 3 * MIB);
    set("scan_policy=off");
    assert_whole(&programs.cat("indexd", &mount.path("c")), "/c", SIZE);
    let indexd = program(&status_of(&mount), "indexd");
    assert!(indexd["refused_reads"].as_u64() >= Some(2), "{indexd}");
}

#[test]
fn status_shows_bytes_by_program() {
    let origin = origin_with(&[("/film", 16 * MIB)]);
    let programs = Programs::new();
    let mount = Mount::of(&origin.url("/")).with("--scan-limit", "2MiB").start();
    let film = mount.path("film");
    assert_limited(&programs.cat("tumblerd", &film), "/film", 2 * MIB);
    programs.read_direct("ffprobe", &film, 3 * MIB);
    let status = status_of(&mount);
    let tumblerd = program(&status, "tumblerd");
    assert_eq!(
        (
            &tumblerd["read_bytes"],
            &tumblerd["fetched_bytes"],
            &tumblerd["scanner"]
        ),
        (&(2 * MIB).into(), &(2 * MIB).into(), &"limited".into())
    );
    assert!(tumblerd["refused_reads"].as_u64() >= Some(1));
    let ffprobe = program(&status, "ffprobe");
    assert_eq!(
        (&ffprobe["read_bytes"], &ffprobe["fetched_bytes"], &ffprobe["scanner"]),
        (&(3 * MIB).into(), &MIB.into(), &"gentle".into())
    );
    assert_whole(&programs.cat("cat", &film), "/film", 16 * MIB);
    let status = status_of(&mount);
    let cat = program(&status, "cat");
    assert_eq!(
        (&cat["fetched_bytes"], &cat["scanner"]),
        (&(13 * MIB).into(), &Value::Null)
    );
    assert_eq!(status["programs"][0]["name"], "cat", "most bytes first");
    assert_eq!(status["totals"]["fetched_bytes"], 16 * MIB);
}

/// The program that a shell starts with a file as its standard input, which the shell has opened, counts and not the shell.
#[test]
fn program_of_the_first_read_counts() {
    let (origin, programs) = (origin_with(&[("/film", 4 * MIB)]), Programs::new());
    let mount = Mount::of(&origin.url("/")).with("--scan-limit", "1MiB").start();
    let cat = programs.named("tumblerd", "cat");
    let script = "exec \"$1\" <\"$2\"";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(cat)
        .arg(mount.path("film"))
        .env("LC_ALL", "C");
    assert_limited(&shell.output().expect("to run"), "/film", MIB);
}

#[test]
fn program_outside_the_pid_namespace_is_ordinary() {
    if !crate::common::is_root() {
        return;
    }
    let (origin, programs) = (origin_with(&[("/film", 4 * MIB)]), Programs::new());
    let plan = Mount::of(&origin.url("/")).with("--scan-limit", "1MiB");
    let mount = plan.in_pid_namespace().start();
    assert_whole(&programs.cat("tumblerd", &mount.path("film")), "/film", 4 * MIB);
}

/// A server without ranges sends a file from its beginning, whatever is asked. What lies before the asked bytes counts too.
#[test]
fn limit_holds_for_a_server_without_ranges() {
    const SIZE: u64 = 64 * MIB;
    let (origin, programs) = (origin_with(&[("/film", SIZE)]), Programs::new());
    origin.on("/film").data().fault(Fault::IgnoreRange(Framing::Length));
    origin.on("/film").data().fault(Fault::Rate(4 * MIB));
    let mount = Mount::of(&origin.url("/")).with("--scan-limit", "2MiB").start();
    let mut dd = Command::new(programs.named("tumblerd", "dd"));
    dd.arg(format!("if={}", mount.path("film").display()));
    dd.args(["of=/dev/null", "bs=64K", "count=1"]);
    run(&mut dd).succeeded();
    dd.arg("skip=1000");
    assert_ne!(run(&mut dd).code, 0, "it is beyond the limit");
    assert!(sent(&origin, "/film") < SIZE / 2, "{}", sent(&origin, "/film"));
    assert_eq!(pread(&mount.path("film"), 0..10), content("/film", SIZE).read(0..10));
}

/// A file without a size is read in sequence.
#[test]
fn limit_holds_for_a_file_without_a_size() {
    let (origin, programs) = (Origin::start(), Programs::new());
    let report = Content::noise(8 * MIB, 7);
    origin.add("/report", report.clone());
    origin.on("/report").fault(Fault::IgnoreRange(Framing::Chunked));
    let mount = Mount::of(&origin.url("/report")).with("--scan-limit", "1MiB").start();
    let read = programs.cat("tumblerd", &mount.path("report"));
    assert!(!read.status.success());
    assert_same(&read.stdout, &report.read(0..MIB), "report");
    let read = programs.cat("cat", &mount.path("report"));
    assert_same(&read.stdout, &report.read(0..8 * MIB), "report");
    assert_eq!(program(&status_of(&mount), "cat")["fetched_bytes"], 8 * MIB);
}

/// `make install` has updatedb leave mounts of fetchfs alone, and `make uninstall` takes that back.
#[test]
fn installation_adds_the_mounts_to_prunefs() {
    let staged = temporary_directory();
    let conf = staged.path().join("etc/updatedb.conf");
    fs::create_dir(staged.path().join("etc")).expect("a directory");
    let make = |target: &str| {
        let mut make = Command::new("make");
        make.current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["--no-print-directory", target]);
        make.arg(format!("DESTDIR={}", staged.path().display()));
        make.arg(format!("BINARY={}", env!("CARGO_BIN_EXE_fetchfs")));
        run(&mut make).succeeded();
    };
    let cases = [
        (
            "PRUNEFS=\"nfs fuse.sshfs\"\n",
            "PRUNEFS=\"nfs fuse.sshfs fuse.fetchfs\"\n",
        ),
        (
            "# PRUNENAMES=\".git\"\nPRUNEFS = \"\"\nA=\"b\"\n",
            "# PRUNENAMES=\".git\"\nPRUNEFS = \"fuse.fetchfs\"\nA=\"b\"\n",
        ),
    ];
    for (before, after) in cases {
        fs::write(&conf, before).expect("to write");
        for target in ["install", "install"] {
            make(target);
            assert_eq!(fs::read_to_string(&conf).expect("to read"), after);
        }
        make("uninstall");
        assert_eq!(fs::read_to_string(&conf).expect("to read"), before);
    }
    fs::remove_file(&conf).expect("to remove");
    make("install");
    assert!(!conf.exists(), "without updatedb there is nothing to do");
}
