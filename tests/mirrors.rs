//! Mirrors: while the source's server is away, reads use another server with the same files, if its responses prove
//! the same version. Any other response of the mirror changes nothing. Names and sizes that the source never gave
//! come from the mirror while the source can't be asked.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fetchfs::internals::events;

use crate::common::PATIENCE;
use crate::common::files::{
    advise_random, assert_same, errno_of, open_direct, pread, read_direct, sha256, sha256_of, try_pread,
};
use crate::common::mount::{Mount, fetchfs};
use crate::common::run;
use crate::origin::{Content, Fault, Gate, IndexStyle, Origin, Validators};

const MIB: u64 = 1 << 20;

/// Two servers with the same two files of 32 MiB below different paths, and their content.
fn twins() -> (Origin, Origin, Content) {
    let (first, mirror, content) = (Origin::start(), Origin::start(), Content::noise(32 * MIB, 91));
    for name in ["f 1", "g"] {
        first.add(&format!("/pub/d/{name}"), content.clone());
        mirror.add(&format!("/copy/d/{name}"), content.clone());
    }
    (first, mirror, content)
}

/// Reads at a place of a file without read-ahead, and compares.
#[track_caller]
fn read_at(file: &File, place: u64, content: &Content) {
    let read = read_direct(file, place, 4096).expect("to read");
    assert_same(&read, &content.read(place..place + 4096), "at a place");
}

#[test]
fn mirror_is_used_while_the_server_is_down() {
    let (first, mirror, content) = twins();
    let mount = Mount::of(&first.url("/pub/"))
        .with("--mirror", &mirror.url("/copy"))
        .start();
    let file = File::open(mount.path("d/f 1")).expect("to open");
    advise_random(&file);
    let other = open_direct(&mount.path("d/g"));
    read_at(&other, 0, &content);
    assert_same(
        &try_pread(&file, 0..MIB).expect("to read"),
        &content.read(0..MIB),
        "well",
    );
    assert!(mirror.log().all().0.is_empty(), "the source answers");
    // One response breaks off, and no other server can continue it.
    let broken = first.on("/pub/d/f 1").data().times(1).fault(Fault::ResetAfter(100_000));
    let bytes = MIB..8 * MIB;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| try_pread(&file, bytes.clone()));
        first.log().wait_for("an answer that broke off", |_| broken.hits() > 0);
        first.go_down();
        let read = reading.join().expect("no panic").expect("no error");
        assert_same(&read, &content.read(bytes.clone()), "over the outage");
    });
    assert_eq!(sha256(&mount.path("d/f 1")), sha256_of(&content));
    assert!(mirror.log().all().body_bytes("/copy/d/f 1") >= 8 * MIB);

    first.come_back();
    let mark = first.log().mark();
    let deadline = std::time::Instant::now() + PATIENCE;
    // A reader of uncached bytes finds the source working again at the end of a pause.
    while first.log().since(mark).data("/pub/d/g").is_empty() {
        assert!(std::time::Instant::now() < deadline, "it is never read from again");
        run(fetchfs().arg("evict").arg(mount.path("d/g"))).succeeded();
        read_at(&other, 4 * MIB, &content);
    }
}

#[test]
fn mirror_with_another_version_is_rejected() {
    let cases: [fn(&Origin, &Origin, Content); 3] = [
        // Another ETag with the same date.
        |_, mirror, other| mirror.replace_keeping_date("/copy/d/f 1", other),
        // Another date, and no ETag to compare.
        |_, mirror, other| {
            mirror.add("/copy/d/f 1", other);
            mirror.set_validators("/copy/d/f 1", Validators::DateOnly);
        },
        // Nothing but the size.
        |first, mirror, other| {
            first.set_validators("/pub/d/f 1", Validators::None);
            mirror.add("/copy/d/f 1", other);
            mirror.set_validators("/copy/d/f 1", Validators::None);
        },
    ];
    for (number, make_different) in cases.into_iter().enumerate() {
        let (first, mirror, content) = twins();
        make_different(&first, &mirror, Content::noise(32 * MIB, 92));
        let mount = Mount::of(&first.url("/pub/"))
            .with("--mirror", &mirror.url("/copy/"))
            .with("--read-timeout", "1s")
            .start();
        let name = mount.path("d/f 1");
        let file = open_direct(&name);
        // More than one chunk, so that the first is complete.
        let read = read_direct(&file, 0, MIB as usize).expect("to read");
        assert_same(&read, &content.read(0..MIB), "well");
        let ino = fs::metadata(&name).expect("to stat").ino();
        first.go_down();
        for _ in 0..2 {
            assert_eq!(
                errno_of(read_direct(&file, 16 * MIB, 4096)),
                libc::ETIMEDOUT,
                "case {number}"
            );
        }
        // A read-ahead may have detected the outage together with the reader.
        let asked = mirror.log().all().ranges("/copy/d/f 1");
        let for_readers = asked.iter().filter(|range| range.contains(&(16 * MIB))).count();
        assert!(
            !asked.is_empty() && for_readers <= 1,
            "case {number}: it is left out: {asked:?}"
        );
        assert_eq!(mount.events(events::MIRROR_SKIPPED), 1, "case {number}");
        read_at(&file, 0, &content);
        assert_eq!(fs::metadata(&name).expect("to stat").ino(), ino, "the same version");
        first.come_back();
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Err(error) = read_direct(&file, 16 * MIB, 4096) {
            assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "case {number}");
            assert!(
                std::time::Instant::now() < deadline,
                "case {number}: it is never read from again"
            );
        }
        assert_eq!(sha256(&name), sha256_of(&content), "case {number}");
    }
}

#[test]
fn failing_mirror_is_skipped_for_the_next() {
    let (first, third, content) = twins();
    let (empty, dead) = (Origin::start(), Origin::start());
    third.set_validators("/copy/d/f 1", Validators::DateOnly);
    // Values of -o come before the flags.
    let mount = Mount::of(&first.url("/pub"))
        .with("--mirror", &third.url("/copy/"))
        .with("-o", &format!("mirror={},mirror={}", dead.url("/"), empty.url("/")))
        .start();
    let file = open_direct(&mount.path("d/f 1"));
    read_at(&file, 0, &content);
    dead.go_down();
    first.go_down();
    read_at(&file, 16 * MIB, &content);
    assert_eq!(sha256(&mount.path("d/f 1")), sha256_of(&content));
    assert_eq!(empty.log().all().gets("/d/f 1").len(), 1, "it said 404 once");
    assert_eq!(fs::read_dir(mount.path("d")).expect("to list").count(), 2);
}

#[test]
fn recovery_probes_delay_no_reader() {
    let (first, mirror, content) = twins();
    let mount = Mount::of(&first.url("/pub/"))
        .with("--mirror", &mirror.url("/copy/"))
        .with("--timeout", "5s")
        .with("--attr-ttl", "10m")
        .start();
    let file = open_direct(&mount.path("d/g"));
    read_at(&file, 0, &content);
    let (gate, mark) = (Gate::new(), first.log().mark());
    let _silent = first.on("/pub/d/g").fault(Fault::Hold(gate.clone()));
    let read_anew = || {
        run(fetchfs().arg("evict").arg(mount.path("d/g"))).succeeded();
        read_at(&file, 16 * MIB, &content);
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    let is_asked = || first.log().since(mark).ranges("/pub/d/g").contains(&(0..1));
    while !is_asked() {
        assert!(
            std::time::Instant::now() < deadline,
            "it is not asked whether it is back"
        );
        read_anew();
    }
    read_anew();
    let asked = first.log().since(mark).ranges("/pub/d/g");
    let for_readers = asked.iter().filter(|range| range.contains(&(16 * MIB)));
    // For one reader: on the kept connection, which might have been the cause, and on a new one.
    assert_eq!(for_readers.count(), 2, "{asked:?}");
    gate.open();
}

#[test]
fn mirror_is_used_for_errors_but_not_for_404() {
    let (first, mirror, content) = twins();
    let mount = Mount::of(&first.url("/pub/"))
        .with("--mirror", &mirror.url("/copy/"))
        .start();
    let file = open_direct(&mount.path("d/f 1"));
    read_at(&file, 0, &content);
    for (status, place) in [(500, 8 * MIB), (503, 12 * MIB)] {
        let fails = first.on("/pub/d/f 1").data().fault(Fault::Status(status));
        read_at(&file, place, &content);
        assert!(fails.hits() > 0, "{status}");
        fails.lift();
        let asked = mirror.log().all().ranges("/copy/d/f 1");
        assert!(asked.iter().any(|range| range.contains(&place)), "{status}: {asked:?}");
    }
    assert_eq!(mount.events(events::ORIGIN_DOWN), 0, "the server is well");
    let _gone = first.on("/pub/d/f 1").fault(Fault::Status(404));
    let asked = mirror.log().all().0.len();
    assert_eq!(errno_of(read_direct(&file, 24 * MIB, 4096)), libc::ESTALE);
    assert_eq!(mirror.log().all().0.len(), asked, "the source has said it");
}

#[test]
fn mirror_of_a_single_file_may_have_another_name() {
    let (first, _, content) = twins();
    let other = Origin::start();
    other.add("/elsewhere", content.clone());
    let mount = Mount::of(&first.url("/pub/d/f 1"))
        .with_env("FETCHFS_MIRROR", &other.url("/elsewhere"))
        .start();
    assert_same(&pread(&mount.path("f 1"), 0..4096), &content.read(0..4096), "well");
    first.go_down();
    assert_eq!(sha256(&mount.path("f 1")), sha256_of(&content));
}

#[test]
fn mirror_receives_no_credentials() {
    let (first, mirror, content) = twins();
    first
        .on_any()
        .fault(Fault::Demand("authorization", "Basic YW5uOmh1bnRlcjI=".to_owned()));
    first
        .on_any()
        .fault(Fault::Header("WWW-Authenticate", "Basic realm=\"r\""));
    let source = first.url("/pub/").replace("http://", "http://ann:hunter2@");
    let mount = Mount::of(&source)
        .with("--mirror", &mirror.url("/copy/"))
        .with("--header", "X-Key: battery")
        .start();
    let file = open_direct(&mount.path("d/f 1"));
    read_at(&file, 0, &content);
    first.go_down();
    read_at(&file, 8 * MIB, &content);
    // Even if the mirror asks for one.
    mirror.on_any().fault(Fault::Status(401));
    mirror
        .on_any()
        .fault(Fault::Header("WWW-Authenticate", "Basic realm=\"r\""));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_direct(&file, 16 * MIB, 4096));
        mount.wait_for_event(events::MIRROR_SKIPPED, 1);
        first.come_back();
        let read = reading.join().expect("no panic").expect("no error");
        assert_same(&read, &content.read(16 * MIB..16 * MIB + 4096), "from the source");
    });
    let asked = mirror.log().all().0;
    assert_eq!(asked.len(), 2);
    for request in asked {
        for name in ["authorization", "x-key", "cookie"] {
            assert_eq!(request.header(name), None, "{name}");
        }
    }
}

/// The names in a directory, in order.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("to list");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("a name").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn mount_starts_from_a_mirror_if_the_source_is_down() {
    for style in [IndexStyle::Nginx, IndexStyle::NamesOnly] {
        let (first, mirror, content) = twins();
        mirror.set_index_style(style);
        first.go_down();
        let mount = Mount::of(&first.url("/pub/"))
            .with("--mirror", &mirror.url("/copy"))
            .with("--attr-ttl", "0s")
            .start();
        assert_eq!(names(&mount.root()), ["d"]);
        assert_eq!(names(&mount.path("d")), ["f 1", "g"]);
        let name = mount.path("d/f 1");
        let metadata = fs::metadata(&name).expect("to stat");
        assert_eq!(metadata.len(), 32 * MIB);
        let file = open_direct(&name);
        read_at(&file, 20 * MIB, &content);
        assert_eq!(sha256(&mount.path("d/g")), sha256_of(&content), "{style:?}");

        // New names there appear as well, as long as the source has never answered.
        mirror.add("/copy/d/later", "x");
        let deadline = std::time::Instant::now() + PATIENCE;
        while names(&mount.path("d")).len() < 3 {
            assert!(
                std::time::Instant::now() < deadline,
                "{style:?}: it is never listed again"
            );
        }
        first.add("/pub/d/own", "y");
        first.come_back();
        while names(&mount.path("d")) != ["f 1", "g", "own"] {
            assert!(
                std::time::Instant::now() < deadline + PATIENCE,
                "{style:?}: the source does not count again"
            );
        }
        read_at(&file, 4 * MIB, &content);
        assert_eq!(sha256(&name), sha256_of(&content), "{style:?}");
    }
}

#[test]
fn unknown_directories_come_from_a_mirror_in_an_outage() {
    let (first, mirror, content) = twins();
    first.set_index_style(IndexStyle::NamesOnly);
    first.add("/pub/late/h", content.clone());
    mirror.add("/copy/late/h", content.clone());
    let mount = Mount::of(&first.url("/pub/"))
        .with("--mirror", &mirror.url("/copy/"))
        .with("--attr-ttl", "1h")
        .start();
    assert_eq!(names(&mount.path("d")), ["f 1", "g"]);
    assert!(mirror.log().all().0.is_empty(), "the source answers");
    mirror.add("/copy/d/e", "x");
    mirror.add("/copy/e/h", "x");
    first.on("/pub/d/g").fault(Fault::Status(500));
    assert_eq!(fs::metadata(mount.path("d/g")).expect("its size").len(), 32 * MIB);
    first.go_down();
    assert_eq!(sha256(&mount.path("d/f 1")), sha256_of(&content));
    assert_eq!(names(&mount.path("late")), ["h"]);
    assert_eq!(sha256(&mount.path("late/h")), sha256_of(&content));
    // Answers of the source are not replaced.
    assert_eq!(names(&mount.path("d")), ["f 1", "g"]);
    assert_eq!(names(&mount.root()), ["d", "late"]);
}

#[test]
fn denied_or_deleted_files_are_not_requested_from_mirrors() {
    for (status, errno) in [(404, libc::ENOENT), (410, libc::ENOENT), (403, libc::EACCES)] {
        let (first, mirror, _) = twins();
        let mount = Mount::of(&first.url("/pub/"))
            .with("--mirror", &mirror.url("/copy/"))
            .start();
        first.on("/pub/d/").fault(Fault::Status(status));
        assert_eq!(errno_of(fs::read_dir(mount.path("d"))), errno, "{status}");
        assert!(mirror.log().all().0.is_empty(), "{status}");
    }
}

#[test]
fn source_and_mirror_versions_are_never_mixed() {
    let (first, mirror, content) = twins();
    let other = Content::noise(32 * MIB, 93);
    mirror.add("/copy/d/f 1", other.clone());
    first.go_down();
    let mount = Mount::of(&first.url("/pub/"))
        .with("--mirror", &mirror.url("/copy/"))
        .with("--attr-ttl", "0s")
        .start();
    let name = mount.path("d/f 1");
    let file = open_direct(&name);
    read_at(&file, 0, &other);
    first.come_back();
    mirror.go_down();
    // The source has another version: the error says so once the source can be asked, and no other bytes come.
    let deadline = std::time::Instant::now() + PATIENCE;
    while let Ok(read) = read_direct(&file, 16 * MIB, 4096) {
        assert_same(&read, &other.read(16 * MIB..16 * MIB + 4096), "of the mirror's version");
        assert!(std::time::Instant::now() < deadline);
    }
    assert_eq!(errno_of(read_direct(&file, 24 * MIB, 4096)), libc::ESTALE);
    assert_eq!(sha256(&name), sha256_of(&content), "opened anew");
}

#[test]
fn mirror_without_validators_defines_no_version() {
    let (first, mirror, content) = twins();
    mirror.set_validators("/copy/d/f 1", Validators::None);
    first.go_down();
    let mount = Mount::of(&first.url("/pub/"))
        .with("--mirror", &mirror.url("/copy/"))
        .with("--read-timeout", "5s")
        .start();
    let file = open_direct(&mount.path("d/f 1"));
    assert_eq!(errno_of(read_direct(&file, 0, 4096)), libc::ETIMEDOUT);
    assert_eq!(mount.events(events::MIRROR_SKIPPED), 1);
    read_at(&open_direct(&mount.path("d/g")), 0, &content);
}

#[test]
fn single_file_mounts_from_its_mirror() {
    let (first, mirror, content) = twins();
    first.go_down();
    let mount = Mount::of(&first.url("/pub/d/f 1"))
        .with("--mirror", &mirror.url("/copy/d/g"))
        .start();
    assert_eq!(names(&mount.root()), ["f 1"]);
    assert_eq!(sha256(&mount.path("f 1")), sha256_of(&content));
}
