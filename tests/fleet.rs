//! Many machines that share a tier: `--tier`, with real nginx nodes. Each mount here has its own cache, as a machine has.

use std::fs::File;
use std::os::unix::fs::FileExt;

use fetchfs::internals::events;

use crate::common::files::{assert_same, open_direct, read_direct, sha256, sha256_of, try_pread};
use crate::common::fleet::{count, mount, origin_with, plan, read_and_compare, served, status};
use crate::common::mount::Mount;
use crate::common::tier::Tier;
use crate::common::wait_until;
use crate::origin::{Content, Fault, Framing, Origin};

const MIB: u64 = 1 << 20;

/// Mounts that read in step.
const MOUNTS: usize = 6;

/// Mounts that start one after another.
const STAGGERED: usize = 16;

/// Asserts that the origin has sent these mounts one copy of a file.
#[track_caller]
fn assert_one_copy(bytes: u64, content: &Content, mounts: &[Mount]) {
    let late = |mount: &Mount| count(mount, 0, "hedged_requests") + count(mount, 0, "failed_requests");
    // On a machine that is busy with something else, the origin is asked too.
    let most = match mounts.iter().map(late).sum::<u64>() {
        0 => content.size() * 105 / 100,
        _ => content.size() * mounts.len() as u64 / 2,
    };
    assert!(bytes <= most, "{bytes} bytes from the origin, {most} at most");
}

#[test]
fn cold_mounts_cost_the_origin_one_copy() {
    let content = Content::noise(32 * MIB, 80);
    let origin = origin_with(&content);
    let tier = Tier::of(&[&origin.url("")]);
    let mounts: Vec<Mount> = (0..MOUNTS).map(|_| mount(&origin, &tier.url())).collect();
    let mark = origin.log().mark();
    std::thread::scope(|scope| {
        for mount in &mounts {
            scope.spawn(|| assert_eq!(sha256(&mount.path("f")), sha256_of(&content)));
        }
    });
    let bytes = origin.log().since(mark).body_bytes("/pub/f");
    assert_one_copy(bytes, &content, &mounts);
    let said = status(&mounts[0]);
    assert_eq!(said["nodes"][0]["url"], tier.url());
    assert!(served(&mounts[0], 0) > 0, "{said}");
    assert!(
        said["received_bytes"].as_u64().expect("a count") >= content.size() * 9 / 10,
        "{said}"
    );
}

/// Each mount starts when the one before has read a MiB, and each reads while the others do: the origin's connections
/// are slow.
#[test]
fn staggered_mounts_cost_the_origin_one_copy() {
    let content = Content::noise(24 * MIB, 86);
    let origin = origin_with(&content);
    origin.on("/pub/f").data().fault(Fault::Rate(4 * MIB));
    let tier = Tier::of(&[&origin.url("")]);
    let mark = origin.log().mark();
    let mounts: Vec<Mount> = std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for _ in 0..STAGGERED {
            let (next, begun) = std::sync::mpsc::channel();
            // Started here: a process ends with the thread that has started it.
            let mount = mount(&origin, &tier.url());
            let content = &content;
            readers.push(scope.spawn(move || {
                let file = File::open(mount.path("f")).expect("to open");
                for (number, start) in (0..content.size()).step_by(MIB as usize).enumerate() {
                    let range = start..start + MIB;
                    let read = try_pread(&file, range.clone()).expect("to read");
                    assert_same(&read, &content.read(range), "one of many");
                    if number == 0 {
                        next.send(()).expect("the test waits");
                    }
                }
                mount
            }));
            begun.recv().expect("no panic");
        }
        readers
            .into_iter()
            .map(|reader| reader.join().expect("no panic"))
            .collect()
    });
    let bytes = origin.log().since(mark).body_bytes("/pub/f");
    assert_one_copy(bytes, &content, &mounts);
}

#[test]
fn later_mount_costs_the_origin_next_to_nothing() {
    let content = Content::noise(16 * MIB, 81);
    let origin = origin_with(&content);
    let tier = Tier::of(&[&origin.url("")]);
    let first = mount(&origin, &tier.url());
    assert_eq!(sha256(&first.path("f")), sha256_of(&content));
    let later = mount(&origin, &tier.url());
    let mark = origin.log().mark();
    let file = open_direct(&later.path("f"));
    for place in [9 * MIB + 4096, 3 * MIB, 15 * MIB] {
        read_and_compare(&file, &content, place, "at a place");
    }
    let bytes = origin.log().since(mark).body_bytes("/pub/f");
    // The first request names no version, so its slice may be fetched under that key.
    assert!(bytes <= 2 * MIB, "{bytes} bytes from the origin");
}

#[test]
fn replaced_file_is_never_mixed() {
    let (old, new) = (Content::noise(32 * MIB, 82), Content::noise(32 * MIB, 83));
    let origin = origin_with(&old);
    let tier = Tier::of(&[&origin.url("")]);
    let mounts: Vec<Mount> = (0..3)
        .map(|_| plan(&origin, &tier.url()).with("--attr-ttl", "1s").start())
        .collect();
    let files: Vec<File> = mounts.iter().map(|mount| open_direct(&mount.path("f"))).collect();
    for file in &files {
        read_and_compare(file, &old, 0, "before");
    }
    origin.replace_keeping_date("/pub/f", new.clone());
    for (number, file) in files.iter().enumerate() {
        for slice in 0..32 {
            let place = slice * MIB + 512 * 1024;
            // What is neither cached nor in the tier is gone: that read fails.
            if let Ok(read) = read_direct(file, place, 4096) {
                assert_same(&read, &old.read(place..place + 4096), &format!("mount {number}"));
            }
        }
    }
    drop(files);
    for mount in &mounts {
        wait_until("the new version", || {
            let Ok(file) = File::open(mount.path("f")) else {
                return false;
            };
            let mut start = vec![0; 4096];
            if file.read_exact_at(&mut start, 0).is_err() || start == old.read(0..4096) {
                return false;
            }
            assert_same(&start, &new.read(0..4096), "the beginning");
            true
        });
        assert_eq!(sha256(&mount.path("f")), sha256_of(&new));
    }
}

#[test]
fn private_source_does_not_pass_through() {
    let content = Content::noise(2 * MIB, 84);
    let origin = origin_with(&content);
    let tier = Tier::of(&[&origin.url("")]);
    let private = plan(&origin, &tier.url()).with("--header", "X-Key: s3cret").start();
    assert_eq!(sha256(&private.path("f")), sha256_of(&content));
    assert_eq!(count(&private, 0, "requests"), 0);
    let asked = origin.log().all();
    assert!(
        asked
            .gets("/pub/f")
            .iter()
            .all(|get| get.header("X-Key") == Some("s3cret")),
        "{asked:?}"
    );
}

#[test]
fn wrong_tier_is_not_believed() {
    let faults = [
        ("the whole file", Fault::IgnoreRange(Framing::Length)),
        ("a login page", Fault::LoginPage),
        ("another total", Fault::WrongTotal(9)),
        ("another range", Fault::ShiftedRange(4096)),
        ("a short body", Fault::CloseAfter(1000)),
        ("an error", Fault::Status(500)),
        ("no HTTP", Fault::Garbage),
        ("a redirect", Fault::Redirect(302, "file:///etc/passwd".to_owned())),
    ];
    for (what, fault) in faults {
        let content = Content::noise(8 * MIB, 85);
        let (origin, evil) = (origin_with(&content), Origin::start());
        evil.add(&Tier::path_of(&origin.url("/pub/f")), content.clone());
        evil.on_any().fault(fault);
        let mount = mount(&origin, &format!("http://{}", evil.address()));
        assert_eq!(sha256(&mount.path("f")), sha256_of(&content), "{what}");
        let asked = evil.log().all().0.len();
        assert!((1..=30).contains(&asked), "{what}: asked {asked} times");
    }
}

#[test]
fn server_that_the_tier_does_not_allow_is_read_directly() {
    let content = Content::noise(4 * MIB, 87);
    let origin = origin_with(&content);
    let tier = Tier::of(&["http://127.0.0.1:1"]);
    let mount = mount(&origin, &tier.url());
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    mount.wait_for_event(events::TIER_LEFT_OUT, 1);
    assert_eq!(mount.events(events::TIER_LEFT_OUT), 1);
}

#[test]
fn origin_of_a_tier_that_is_down_is_asked_directly() {
    let content = Content::noise(4 * MIB, 88);
    let origin = origin_with(&content);
    let tier = Tier::of(&[&origin.url("")]);
    origin.on("/pub/f").data().times(2).fault(Fault::Status(502));
    let mount = mount(&origin, &tier.url());
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
}

#[test]
fn file_in_the_tier_is_read_while_its_server_is_down() {
    let content = Content::noise(16 * MIB, 90);
    let origin = origin_with(&content);
    let tier = Tier::of(&[&origin.url("")]);
    assert_eq!(sha256(&mount(&origin, &tier.url()).path("f")), sha256_of(&content));
    let other = mount(&origin, &tier.url());
    let file = open_direct(&other.path("f"));
    read_and_compare(&file, &content, 0, "before");
    origin.go_down();
    for slice in (0..16).rev() {
        read_and_compare(&file, &content, slice * MIB + 4096, "while the server is down");
    }
}
