//! Cached names and bytes stay available after remounts and without the server.
//!
//! The tree of a new mount comes from the cache's index; the origin's log proves that nothing else was requested.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use fetchfs::internals::events;

use crate::common::files::{advise_random, assert_same, errno_of, sha256, sha256_of, try_pread};
use crate::common::{Mount, PATIENCE, fetchfs, run, temporary_directory};
use crate::origin::{Content, Fault, Gate, IndexStyle, Origin};

const MIB: u64 = 1 << 20;
/// The chunk size of these mounts. A partially fetched chunk is not cached.
const CHUNK: u64 = 64 << 10;

/// What `ls -lR` shows: directory or file, bytes, date.
type Shown = BTreeMap<PathBuf, (bool, u64, SystemTime)>;

fn ls_lr(directory: &Path) -> io::Result<Shown> {
    let mut shown = Shown::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            shown.extend(ls_lr(&path)?);
            // A directory's own date and size come from the mount.
            shown.insert(path, (true, 0, SystemTime::UNIX_EPOCH));
        } else {
            shown.insert(path, (false, metadata.len(), metadata.modified()?));
        }
    }
    Ok(shown)
}

/// A tree with `/far`, noise of 64 MiB, and two files in sub-directories.
fn origin_with_a_tree() -> (Origin, Content) {
    let (origin, far) = (Origin::start(), Content::noise(64 * MIB, 41));
    origin.add("/far", far.clone());
    origin.add("/d/e/leaf", "a leaf");
    origin.add("/d/with space & more/100%", Content::noise(3000, 42));
    origin.add_directory("/empty");
    (origin, far)
}

/// Mounts the tree, walks all of it, and reads the leaf and the first bytes of `/far`.
fn mount_that_has_seen_all(origin: &Origin, far: &Content) -> (Mount, Shown) {
    let mount = Mount::of(&origin.url("/"))
        .with("--retries", "0")
        .with("--attr-ttl", "0")
        .with("--chunk-size", "64KiB")
        .start();
    let shown = ls_lr(&mount.root()).expect("to list");
    assert_eq!(fs::read(mount.path("d/e/leaf")).expect("to read"), b"a leaf");
    assert_same(
        &beginning_of_far(&mount).expect("to read"),
        &far.read(0..CHUNK),
        "while it is up",
    );
    (mount, shown)
}

fn beginning_of_far(mount: &Mount) -> io::Result<Vec<u8>> {
    read_far(mount, 0)
}

fn read_far(mount: &Mount, offset: u64) -> io::Result<Vec<u8>> {
    let file = File::open(mount.path("far"))?;
    advise_random(&file);
    try_pread(&file, offset..offset + CHUNK)
}

/// Polls until `is_so`. Background work of a mount has no event to wait for.
#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that everything is as it was shown, and that cached bytes can be read.
#[track_caller]
fn assert_all_is_there(mount: &Mount, shown: &Shown, far: &Content, when: &str) {
    assert_eq!(&ls_lr(&mount.root()).expect(when), shown, "{when}");
    assert_eq!(fs::read(mount.path("d/e/leaf")).expect(when), b"a leaf", "{when}");
    assert_same(&beginning_of_far(mount).expect(when), &far.read(0..CHUNK), when);
}

#[test]
fn remount_without_the_server_has_all_cached_data() {
    for style in [IndexStyle::Nginx, IndexStyle::NamesOnly] {
        let (origin, far) = origin_with_a_tree();
        origin.set_index_style(style);
        let (mut mount, shown) = mount_that_has_seen_all(&origin, &far);
        mount.unmount();
        origin.go_down();
        mount.start();
        assert_all_is_there(&mount, &shown, &far, "down");
        assert_eq!(errno_of(read_far(&mount, 50 * MIB)), libc::EIO, "{style:?}");
        assert_eq!(errno_of(fs::read(mount.path("none"))), libc::ENOENT, "{style:?}");
        assert_all_is_there(&mount, &shown, &far, "still down");
        origin.come_back();
        let place = 50 * MIB..50 * MIB + CHUNK;
        assert_same(
            &read_far(&mount, 50 * MIB).expect("it is back"),
            &far.read(place),
            "back",
        );
    }
}

#[test]
fn single_and_multiple_sources_remount_without_the_server() {
    let (origin, content) = (Origin::start(), Content::noise(300_000, 43));
    origin.add("/f", content.clone());
    origin.add("/pub/g", "hello");
    for sources in [vec!["/f"], vec!["/f", "/pub/"], vec!["/pub", "/f"]] {
        let plan = Mount::of(&origin.url(sources[0]));
        let plan = sources[1..].iter().fold(plan, |plan, path| plan.and(&origin.url(path)));
        let mut mount = plan.with("--retries", "0").start();
        let shown = ls_lr(&mount.root()).expect("to list");
        assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
        mount.unmount();
        origin.go_down();
        mount.start();
        assert_eq!(ls_lr(&mount.root()).expect("to list"), shown, "{sources:?}");
        assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
        origin.come_back();
    }
}

#[test]
fn silent_server_does_not_delay_a_remount() {
    let (origin, far) = origin_with_a_tree();
    let (mut mount, shown) = mount_that_has_seen_all(&origin, &far);
    mount.unmount();
    mount.add_option("--read-timeout", "1s");
    let gate = Gate::new();
    origin.on_any().fault(Fault::Hold(gate.clone()));
    let began = Instant::now();
    mount.start();
    assert_all_is_there(&mount, &shown, &far, "silent");
    let errno = errno_of(read_far(&mount, 50 * MIB));
    assert_eq!(errno, libc::ETIMEDOUT);
    // A single request timeout would take longer.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    origin.add("/new", "hello");
    gate.open();
    eventually("the new file is seen", || {
        fs::read(mount.path("new")).is_ok_and(|read| read == b"hello")
    });
}

#[test]
fn remount_shows_cached_then_new_listings() {
    let (origin, far) = origin_with_a_tree();
    let (mut mount, shown) = mount_that_has_seen_all(&origin, &far);
    mount.unmount();
    origin.remove("/d/e/leaf");
    origin.add("/d/e/younger", "younger");
    let gate = Gate::new();
    let switch = origin.on_any().fault(Fault::Hold(gate.clone()));
    mount.start();
    assert_eq!(ls_lr(&mount.root()).expect("to list"), shown, "what it has");
    switch.lift();
    gate.open();
    let names =
        || fs::read_dir(mount.path("d/e")).map(|entries| entries.flatten().map(|entry| entry.file_name()).collect());
    eventually("what is new", || {
        names().is_ok_and(|names: Vec<_>| names == ["younger"])
    });
}

#[test]
fn offline_sends_no_request_and_serves_the_cache() {
    for style in [IndexStyle::Nginx, IndexStyle::NamesOnly] {
        let (origin, far) = origin_with_a_tree();
        origin.set_index_style(style);
        let (mut mount, shown) = mount_that_has_seen_all(&origin, &far);
        mount.unmount();
        origin.add("/d/new/unseen", "unseen");
        let before = origin.log().mark();
        mount.add_option("--offline", "");
        mount.start();
        let began = Instant::now();
        for _ in 0..2 {
            assert_all_is_there(&mount, &shown, &far, "offline");
            assert_eq!(errno_of(read_far(&mount, 50 * MIB)), libc::ENETUNREACH, "{style:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        mount.unmount();
        assert!(
            origin.log().since(before).0.is_empty(),
            "{:?}",
            origin.log().since(before)
        );
    }
}

#[test]
fn offline_unknown_directory_is_an_error() {
    let (origin, _) = origin_with_a_tree();
    let mut mount = Mount::start_of(&origin.url("/"));
    fs::read_dir(mount.root()).expect("to list");
    mount.unmount();
    mount.add_option("--offline", "");
    mount.start();
    assert_eq!(errno_of(fs::read_dir(mount.path("d"))), libc::ENETUNREACH);
    assert_eq!(errno_of(fs::metadata(mount.path("d/e"))), libc::ENETUNREACH);
}

#[test]
fn offline_without_a_cache_fails_to_mount() {
    let home = temporary_directory();
    let mut command = fetchfs();
    command
        .args(["mount", "--offline", "--cache-dir"])
        .arg(home.path().join("cache"));
    let ran = run(command.arg("http://127.0.0.1:9/").arg(home.path()));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("without --offline"), "{}", ran.err);
}

#[test]
fn cache_clear_deletes_listings_too() {
    let (origin, far) = origin_with_a_tree();
    let (mut mount, _) = mount_that_has_seen_all(&origin, &far);
    mount.unmount();
    run(fetchfs().args(["cache", "clear", "--cache-dir"]).arg(mount.cache())).succeeded();
    let mut command = fetchfs();
    command.args(["mount", "--offline", "--cache-dir"]).arg(mount.cache());
    let ran = run(command.arg(origin.url("/")).arg(mount.root()));
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn unrelated_responses_do_not_change_the_tree() {
    for fault in [
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Status(503),
        Fault::LoginPage,
    ] {
        for style in [IndexStyle::Nginx, IndexStyle::NamesOnly] {
            let (origin, far) = origin_with_a_tree();
            origin.set_index_style(style);
            let (mut mount, shown) = mount_that_has_seen_all(&origin, &far);
            let switch = origin.on_any().fault(fault.clone());
            assert_all_is_there(&mount, &shown, &far, &format!("{fault:?}, {style:?}"));
            mount.remount();
            assert_all_is_there(&mount, &shown, &far, &format!("{fault:?}, {style:?}, after a remount"));
            assert_ne!(switch.hits(), 0, "{fault:?} was never met");
            switch.lift();
            origin.add("/d/e/leaf", "a new leaf");
            eventually("its word counts again", || {
                fs::read(mount.path("d/e/leaf")).is_ok_and(|read| read == b"a new leaf")
            });
        }
    }
}

/// A portal's page for users that have not accepted its terms.
const PORTAL: &str = "<html><title>Welcome</title><a href=\"terms.html\">terms</a> <a href=\"help/\">help</a></html>";

#[test]
fn captive_portal_page_is_not_a_directory() {
    let portal = Origin::start();
    portal.add("/login/", PORTAL);
    portal.on_any().fault(Fault::Header("Content-Type", "text/html"));
    for is_redirected in [true, false] {
        let (origin, far) = origin_with_a_tree();
        let (mut mount, shown) = mount_that_has_seen_all(&origin, &far);
        let redirect = is_redirected.then(|| origin.on_any().fault(Fault::Redirect(302, portal.url("/login/"))));
        let directories = ["/", "/d/", "/d/e/", "/d/with space & more/"];
        if !is_redirected {
            directories.iter().for_each(|path| origin.add(path, PORTAL));
        }
        assert_all_is_there(&mount, &shown, &far, "behind a portal");
        mount.remount();
        assert_all_is_there(&mount, &shown, &far, "after a remount");
        mount.wait_for_event(events::LISTING_STALE, 1);
        match redirect {
            Some(switch) => switch.lift(),
            None => directories.iter().for_each(|path| origin.remove(path)),
        }
        origin.add("/d/e/younger", "younger");
        eventually("its word counts again", || {
            fs::read(mount.path("d/e/younger")).is_ok_and(|read| read == b"younger")
        });
    }
}

#[test]
fn source_redirecting_to_a_portal_is_not_mounted() {
    let (portal, origin) = (Origin::start(), Origin::start());
    portal.add("/login/", PORTAL);
    origin.on_any().fault(Fault::Redirect(302, portal.url("/login/")));
    let home = temporary_directory();
    let mut command = fetchfs();
    command.args(["mount", "--cache-dir"]).arg(home.path().join("cache"));
    let mountpoint = home.path().join("mnt");
    fs::create_dir(&mountpoint).expect("a mountpoint");
    let ran = run(command.arg(origin.url("/pub/")).arg(&mountpoint));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("is a login needed?"), "{}", ran.err);
}

#[test]
fn deleted_files_stay_deleted_offline() {
    let (origin, far) = origin_with_a_tree();
    let (mut mount, _) = mount_that_has_seen_all(&origin, &far);
    for path in ["/far", "/d/e/"] {
        origin.on(path).fault(Fault::Status(410));
    }
    assert_eq!(errno_of(fs::read_dir(mount.path("d/e"))), libc::ENOENT);
    assert_eq!(errno_of(beginning_of_far(&mount)), libc::ENOENT);
    mount.unmount();
    mount.add_option("--offline", "");
    mount.start();
    assert_eq!(errno_of(fs::read_dir(mount.path("d/e"))), libc::ENETUNREACH);
    assert_eq!(errno_of(beginning_of_far(&mount)), libc::ENETUNREACH);
}

#[test]
fn ten_thousand_names_are_ready_after_a_remount() {
    let origin = Origin::start();
    for number in 0..10_000 {
        origin.add(&format!("/many/{number:05}"), Content::noise(number, number));
    }
    let mut mount = Mount::start_of(&origin.url("/"));
    let shown = ls_lr(&mount.root()).expect("to list");
    mount.unmount();
    origin.go_down();
    mount.start();
    assert_eq!(shown.len(), 10_001);
    assert!(ls_lr(&mount.root()).expect("to list") == shown);
}

#[test]
fn index_has_no_secrets_of_a_source() {
    let origin = Origin::start();
    origin.add("/pub/f", "hello");
    let source = origin.url("/pub/").replace("http://", "http://ann:hunter2@") + "?token=s3cret";
    let mut mount = Mount::start_of(&source);
    assert_eq!(fs::read(mount.path("f")).expect("to read"), b"hello");
    mount.unmount();
    for file in fs::read_dir(mount.cache()).expect("the cache").flatten() {
        let bytes = fs::read(file.path()).unwrap_or_default();
        for secret in [b"hunter2".as_slice(), b"s3cret"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} is in {:?}", String::from_utf8_lossy(secret), file.path());
        }
    }
}
