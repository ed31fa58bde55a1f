//! Many machines that share a tier: `--tier`, with real nginx nodes. Each mount here has its own cache, as a machine has.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fetchfs::internals::events;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::files::{assert_same, open_direct, read_direct, sha256, sha256_of};
use crate::common::mount::{Mount, fetchfs};
use crate::common::tier::Tier;
use crate::common::{run, wait_until};
use crate::origin::{Content, Fault, Framing, Origin};

const MIB: u64 = 1 << 20;

/// Mounts that read in step.
const MOUNTS: u64 = 6;

fn origin_with(content: &Content) -> Origin {
    let origin = Origin::start();
    origin.add("/pub/f", content.clone());
    origin
}

fn mount(origin: &Origin, tier: &str) -> Mount {
    Mount::of(&origin.url("/pub/")).with("--tier", tier).start()
}

/// What `fetchfs status --json` says of the tier.
#[track_caller]
fn status(mount: &Mount) -> Value {
    let out = run(fetchfs().args(["status", "--json"]).arg(mount.root()))
        .succeeded()
        .out;
    let all: Value = serde_json::from_str(&out).expect("JSON");
    let one = if all.is_array() { all[0].clone() } else { all };
    one["tier"].clone()
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
    let late = |mount: &Mount| {
        let node = &status(mount)["nodes"][0];
        node["hedged_requests"].as_u64().expect("a count") + node["failed_requests"].as_u64().expect("a count")
    };
    // On a machine that is busy with something else, the origin is asked too.
    let most = match mounts.iter().map(late).sum::<u64>() {
        0 => content.size() * 105 / 100,
        _ => content.size() * MOUNTS / 2,
    };
    assert!(bytes <= most, "{bytes} bytes from the origin, {most} at most");
    let said = status(&mounts[0]);
    let node = &said["nodes"][0];
    assert_eq!(node["url"], tier.url());
    assert!(
        node["hits"].as_u64().expect("a count") + node["misses"].as_u64().expect("a count") > 0,
        "{said}"
    );
    assert!(
        said["received_bytes"].as_u64().expect("a count") >= content.size() * 9 / 10,
        "{said}"
    );
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
        assert_same(
            &read_direct(&file, place, 4096).expect("to read"),
            &content.read(place..place + 4096),
            "at a place",
        );
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
        .map(|_| {
            Mount::of(&origin.url("/pub/"))
                .with("--tier", &tier.url())
                .with("--attr-ttl", "1s")
                .start()
        })
        .collect();
    let files: Vec<File> = mounts.iter().map(|mount| open_direct(&mount.path("f"))).collect();
    for file in &files {
        assert_same(
            &read_direct(file, 0, 4096).expect("to read"),
            &old.read(0..4096),
            "before",
        );
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
    let private = Mount::of(&origin.url("/pub/"))
        .with("--tier", &tier.url())
        .with("--header", "X-Key: s3cret")
        .start();
    assert_eq!(sha256(&private.path("f")), sha256_of(&content));
    assert_eq!(status(&private)["nodes"][0]["requests"], 0);
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

/// Reads at places all over a file until `done`, and returns the longest wait and the number of reads.
fn read_all_over(file: &File, content: &Content, seed: u64, done: &AtomicBool) -> (Duration, usize) {
    let (mut longest, mut reads, mut state) = (Duration::ZERO, 0, seed);
    while !done.load(Ordering::Relaxed) {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let place = (state >> 33) % (content.size() / 4096) * 4096;
        let asked = Instant::now();
        let read = read_direct(file, place, 4096).expect("no reader gets an error");
        longest = longest.max(asked.elapsed());
        assert_same(&read, &content.read(place..place + 4096), "while nodes come and go");
        reads += 1;
    }
    (longest, reads)
}

#[test]
fn nodes_that_die_or_stop_cost_no_reader_an_error() {
    // Larger than what the mounts can have cached meanwhile.
    let content = Content::noise(2048 * MIB, 89);
    let origin = origin_with(&content);
    let mut nodes: Vec<Tier> = (2..=4)
        .map(|last| Tier::with(Ipv4Addr::new(127, 0, 0, last), &[&origin.url("")], &[]))
        .collect();
    let spec = nodes.iter().map(Tier::url).collect::<Vec<_>>().join("|");
    let mounts: Vec<Mount> = (0..4)
        .map(|_| {
            Mount::of(&origin.url("/pub/"))
                .with("--tier", &spec)
                .with("--cache-size", "64M")
                .start()
        })
        .collect();
    let files: Vec<File> = mounts.iter().map(|mount| open_direct(&mount.path("f"))).collect();
    let done = AtomicBool::new(false);
    let waits = std::thread::scope(|scope| {
        let readers: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(number, file)| {
                let (content, done) = (&content, &done);
                scope.spawn(move || read_all_over(file, content, number as u64, done))
            })
            .collect();
        let pass = |seconds| std::thread::sleep(Duration::from_secs(seconds));
        pass(3);
        nodes[0].kill();
        pass(3);
        nodes[1].signal(Signal::SIGSTOP);
        pass(4);
        nodes[0].start();
        nodes[1].signal(Signal::SIGCONT);
        pass(2);
        nodes[2].kill();
        std::fs::remove_dir_all(nodes[2].slices()).expect("to wipe it");
        nodes[2].start();
        pass(3);
        done.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().expect("no panic"))
            .collect::<Vec<_>>()
    });
    eprintln!("longest wait and reads of each reader: {waits:?}");
    for (_, reads) in &waits {
        assert!(*reads > 20, "{waits:?}");
    }
    // Each node is used again.
    let used = |number: usize| {
        status(&mounts[0])["nodes"][number]["hits"].as_u64().unwrap_or(0)
            + status(&mounts[0])["nodes"][number]["misses"].as_u64().unwrap_or(0)
    };
    for number in 0..3 {
        let before = used(number);
        let mut place = 0;
        wait_until("the node is used again", || {
            place = (place + 61 * MIB) % content.size();
            let read = read_direct(&files[0], place, 4096).expect("to read");
            assert_same(&read, &content.read(place..place + 4096), "afterwards");
            used(number) > before
        });
    }
}
