//! Redirects: a file's identity is the requested URL, and a redirect target is only a shortcut.

use std::fs::{self, File};

use super::versions::{ask, mount_of};
use crate::common::Mount;
use crate::common::files::{advise_random, assert_same, try_pread};
use crate::common::servers::WebServer;
use crate::common::wait_until;

/// A redirector that sends each request to another mirror, which has another validator for the version, or lacks the
/// file.
#[test]
fn rotating_redirect_targets_are_one_file() {
    for mode in ["tags", "dates", "lost"] {
        let server = WebServer::case("redirector.py", &[mode, "PORT"]);
        let mount = mount_of(&server);
        let first = fs::read(mount.path("f.bin")).unwrap_or_else(|error| panic!("{mode}: {error}"));
        for _ in 0..4 {
            let again = fs::read(mount.path("f.bin")).unwrap_or_else(|error| panic!("{mode}: {error}"));
            assert_same(&again, &first, mode);
        }
        assert_eq!(first.len(), 8 << 20, "{mode}");
        let fetched = |line: &str| {
            line.contains(" 206 ")
                .then(|| line.rsplit(' ').next()?.parse::<u64>().ok())?
        };
        let bytes = || -> u64 {
            let printed = server.printed();
            printed
                .lines()
                .filter_map(fetched)
                .filter(|&bytes| bytes >= 65536)
                .sum()
        };
        // The server prints it after it has sent them.
        wait_until("the server to print what it sent", || bytes() >= 8 << 20);
        assert_eq!(bytes(), 8 << 20, "{mode}: nothing is fetched twice");
    }
}

/// A directory redirects to a node that goes away, as those of archive.org do. An open file is read on from the next
/// node.
#[test]
fn failed_redirect_target_of_an_open_file_is_replaced() {
    let server = WebServer::case("node-moves.py", &["PORT", "OTHER", "OTHER", "post"]);
    let mount = Mount::of(&server.url("/item/")).with("--chunk-size", "64KiB").start();
    let file = File::open(mount.path("a")).expect("to open");
    advise_random(&file);
    assert_same(
        &try_pread(&file, 0..4096).expect("the first part"),
        &[0; 4096],
        "the first node",
    );
    ask(&server, "POST", "/");
    assert_same(
        &try_pread(&file, 2 << 20..(2 << 20) + 4096).expect("another part"),
        &[0; 4096],
        "the next node",
    );
    let names: Vec<_> = fs::read_dir(mount.root())
        .expect("a listing")
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["a"]);
}

/// The source redirects to a directory on another server and has nothing below its own URL. Without the server it is
/// remounted by the given URL.
#[test]
fn redirected_root_keeps_its_url_and_remounts_offline() {
    let server = WebServer::case("redirected-root.py", &["PORT", "OTHER"]);
    let mut mount = mount_of_top(&server);
    assert_eq!(fs::read(mount.path("a")).expect("its bytes"), b"hello\n");
    mount.remount();
    assert_eq!(fs::read(mount.path("a")).expect("its bytes, again"), b"hello\n");
    mount.add_option("--offline", "");
    mount.remount();
    assert_eq!(fs::read(mount.path("a")).expect("its bytes, offline"), b"hello\n");
}

/// Nothing of the file is cached at the remount, so its first request is made before the root's redirect is known.
#[test]
fn redirected_tree_is_found_after_a_remount() {
    let server = WebServer::case("redirected-root.py", &["PORT", "OTHER"]);
    let mut mount = mount_of_top(&server);
    fs::read_dir(mount.root()).expect("a listing");
    mount.remount();
    assert_eq!(fs::read(mount.path("a")).expect("its bytes"), b"hello\n");
}

fn mount_of_top(server: &WebServer) -> Mount {
    Mount::of(&server.url("/top")).with("--attr-ttl", "0").start()
}

/// Two logins over one cache, one of them without the server: each has its own bytes and names.
#[test]
fn two_logins_in_one_cache_are_separate() {
    for (mode, option) in [("plain", "--login"), ("tag", "--login"), ("plain", "--header")] {
        let server = WebServer::case("two-logins.py", &[mode, "PORT"]);
        let value = |user: &str| match option {
            "--header" => format!("X-User: {user}"),
            _ => format!("{user}:secret"),
        };
        let mut mount = Mount::of(&server.url("/"))
            .with("--chunk-size", "64KiB")
            .with(option, &value("ann"))
            .start();
        let ann = fs::read(mount.path("f.bin")).expect("the bytes of the one");
        let names = |mount: &Mount| {
            let names = fs::read_dir(mount.root())
                .expect("a listing")
                .map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        let of_ann = names(&mount);
        mount.unmount();
        mount.replace_option(option, &value("ben"));
        mount.start();
        let ben = fs::read(mount.path("f.bin")).expect("the bytes of the other one");
        assert!(
            ann.iter().zip(&ben).filter(|(one, other)| one == other).count() < ann.len() / 100,
            "{mode} {option}"
        );
        assert_ne!(of_ann, names(&mount), "{mode} {option}");
        mount.unmount();
        mount.replace_option(option, &value("ann"));
        mount.add_option("--offline", "");
        mount.start();
        assert_same(
            &fs::read(mount.path("f.bin")).expect("what was cached of the one"),
            &ann,
            mode,
        );
        assert_eq!(of_ann, names(&mount), "{mode} {option}");
    }
}
