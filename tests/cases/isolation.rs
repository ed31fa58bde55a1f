//! One bad file costs its neighbours nothing: silence, drips, refusals and resets of one file, and what reads of
//! other files get meanwhile.
//!
//! All times that end a wait are longer than the tests may take. So a file that is read here was read because a bad
//! file gave up its connection.

use std::fs::File;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::common::Mount;
use crate::common::files::{advise_random, assert_same, try_pread};
use crate::common::mount::Plan;
use crate::common::mute::{Mute, Says};
use crate::common::servers::WebServer;
use crate::origin::{Content, Fault, Gate, IndexStyle, Origin};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A mount in which only a response ends a wait.
fn patient(origin: &Origin) -> Plan {
    ["--timeout", "--read-timeout", "--connect-timeout"]
        .into_iter()
        .fold(Mount::of(&origin.url("/")), |plan, option| plan.with(option, "1h"))
}

/// Starts a reader for each of these files, and runs `then` meanwhile. The readers need not finish.
fn beside_readers_of(mount: &Mount, names: &[String], then: impl FnOnce()) {
    let readers: Vec<_> = names
        .iter()
        .map(|name| {
            let file = File::open(mount.path(name)).expect("to open");
            std::thread::spawn(move || drop(try_pread(&file, 0..64 * KIB)))
        })
        .collect();
    then();
    drop(readers);
}

/// Files without any bytes until the gate opens.
fn add_held(origin: &Origin, count: usize, gate: &Gate) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|number| format!("held{number}")).collect();
    for name in &names {
        let path = format!("/{name}");
        origin.add(&path, Content::noise(8 * MIB, 1));
        origin.on(&path).data().fault(Fault::Hold(gate.clone()));
    }
    names
}

#[test]
fn silent_files_give_their_connections_to_a_healthy_one() {
    let (origin, gate, good) = (Origin::start(), Gate::new(), Content::noise(8 * MIB, 2));
    let held = add_held(&origin, 16, &gate);
    origin.add("/good", good.clone());
    let mount = patient(&origin).start();
    beside_readers_of(&mount, &held, || {
        gate.wait_for_arrivals(16);
        let file = File::open(mount.path("good")).expect("to open");
        assert_same(
            &try_pread(&file, 0..8 * MIB).expect("to read"),
            &good.whole(),
            "the healthy file",
        );
    });
    gate.open();
}

#[test]
fn dripping_files_give_their_connections_to_a_healthy_one() {
    let (origin, good) = (Origin::start(), Content::noise(4 * MIB, 3));
    let names: Vec<_> = (0..2).map(|number| format!("drips{number}")).collect();
    for name in &names {
        origin.add(&format!("/{name}"), Content::noise(MIB, 4));
        origin.on(&format!("/{name}")).data().fault(Fault::Rate(5));
    }
    origin.add("/good", good.clone());
    let mount = patient(&origin).with("--max-connections", "2").start();
    beside_readers_of(&mount, &names, || {
        origin.log().wait_for("both drip", |log| {
            names.iter().all(|name| !log.data(&format!("/{name}")).is_empty())
        });
        let file = File::open(mount.path("good")).expect("to open");
        assert_same(
            &try_pread(&file, 0..4 * MIB).expect("to read"),
            &good.whole(),
            "the healthy file",
        );
    });
}

/// Files of this origin that redirect to the same name at another URL.
fn add_led(origin: &Origin, names: impl Iterator<Item = String>, size: u64, to: &str) -> Vec<String> {
    let names: Vec<_> = names.collect();
    for name in &names {
        let path = format!("/{name}");
        origin.add(&path, Content::noise(size, 8));
        origin.on(&path).fault(Fault::Redirect(302, format!("{to}{name}")));
    }
    names
}

/// A URL whose connections are refused.
fn refusing_url() -> String {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}/", closed.local_addr().expect("its address"))
}

/// Each part of the healthy file needs a connection. A dead host's file would hold one for at least a second. So this
/// is many times faster than parts that each wait for that.
#[test]
fn redirects_to_a_dead_host_occupy_no_connection() {
    const PARTS: u64 = 40;
    for (most, is_silent) in [("1", true), ("4", true), ("1", false), ("4", false)] {
        let (origin, good) = (Origin::start(), Content::noise(PARTS * MIB, 9));
        let mute = Mute::start(Says::Nothing);
        let to = if is_silent { mute.url("http") } else { refusing_url() };
        let led = add_led(&origin, (0..40).map(|number| format!("led{number}")), MIB, &to);
        origin.add("/good", good.clone());
        let mount = patient(&origin)
            .with("--max-connections", most)
            .with("--chunk-size", "64KiB")
            .start();
        beside_readers_of(&mount, &led, || {
            origin.log().wait_for("all of them to be led away", |log| {
                led.iter().all(|name| !log.gets(&format!("/{name}")).is_empty())
            });
            let file = File::open(mount.path("good")).expect("to open");
            advise_random(&file);
            let began = Instant::now();
            for part in 0..PARTS {
                let bytes = part * MIB..part * MIB + 4 * KIB;
                let read = try_pread(&file, bytes.clone()).expect("to read");
                assert_same(&read, &good.read(bytes), "the healthy file");
            }
            let time = began.elapsed();
            assert!(
                time < Duration::from_millis(500) * PARTS as u32,
                "{time:?}, {most} {is_silent}"
            );
        });
    }
}

/// One target holds all its responses back. That costs neither the other target nor the redirecting origin a
/// connection.
#[test]
fn each_redirect_target_has_its_own_connections() {
    for most in [1, 3] {
        let (origin, gate) = (Origin::start(), Gate::new());
        let (holding, serving) = (Origin::start(), Origin::start());
        let held = add_held(&holding, most, &gate);
        add_led(&origin, held.iter().cloned(), 8 * MIB, &holding.url("/"));
        let served = (0..12).map(|number| format!("served{number}"));
        let served = add_led(&origin, served, 64 * KIB, &serving.url("/"));
        for name in &served {
            let path = format!("/{name}");
            serving.add(&path, Content::noise(64 * KIB, 8));
            // All requests that may be in flight are in flight together then.
            serving.on(&path).fault(Fault::Latency(Duration::from_millis(200)));
        }
        let mount = patient(&origin).with("--max-connections", &most.to_string()).start();
        beside_readers_of(&mount, &held, || {
            gate.wait_for_arrivals(most);
            std::thread::scope(|scope| {
                for name in &served {
                    let file = File::open(mount.path(name)).expect("to open");
                    scope.spawn(move || {
                        let read = try_pread(&file, 0..64 * KIB).expect("to read");
                        assert_same(&read, &Content::noise(64 * KIB, 8).whole(), "a file that is served");
                    });
                }
            });
        });
        let in_flight = |origin: &Origin| origin.log().all().max_in_flight();
        assert_eq!((in_flight(&holding), in_flight(&serving)), (most, most));
        assert!(in_flight(&origin) <= most);
        gate.open();
        for name in &held {
            let file = File::open(mount.path(name)).expect("to open");
            try_pread(&file, 0..64 * KIB).expect("to read what was held");
            let ranges = holding.log().all().ranges(&format!("/{name}"));
            let from_the_beginning = ranges.iter().filter(|range| range.start == 0).count();
            assert_eq!(from_the_beginning, 1, "it was not given up for another origin's file");
        }
    }
}

/// They continue from the byte that they have reached, so all of them finish, however often other files are served in
/// between.
#[test]
fn preempted_slow_files_lose_no_byte() {
    const SIZE: u64 = 192 * KIB;
    let origin = Origin::start();
    let names: Vec<_> = (0..4).map(|number| format!("slow{number}")).collect();
    for (name, seed) in names.iter().zip(10..) {
        origin.add(&format!("/{name}"), Content::noise(SIZE, seed));
        origin.on(&format!("/{name}")).data().fault(Fault::Rate(64 * KIB));
    }
    let mount = patient(&origin).with("--max-connections", "2").start();
    std::thread::scope(|scope| {
        for (name, seed) in names.iter().zip(10..) {
            let file = File::open(mount.path(name)).expect("to open");
            scope.spawn(move || {
                let read = try_pread(&file, 0..SIZE).expect("to read");
                assert_same(&read, &Content::noise(SIZE, seed).whole(), "a slow file");
            });
        }
    });
}

/// A denied file fails at once, or soon beside other requests, and does not delay those.
#[test]
fn denied_file_does_not_affect_others() {
    let (origin, good) = (Origin::start(), Content::noise(8 * MIB, 5));
    for name in ["good", "bad"] {
        origin.add(&format!("/{name}"), good.clone());
    }
    origin.on("/bad").fault(Fault::Status(403));
    origin.on("/good").data().fault(Fault::Rate(8 * MIB));
    let mount = patient(&origin).start();
    let bad = mount.path("bad");
    let denied = |_| {
        let read = std::fs::read(&bad).expect_err("it is denied");
        assert_eq!(read.raw_os_error(), Some(libc::EACCES));
    };
    denied(0);
    assert!(origin.log().all().gets("/bad").len() <= 2, "believed at once");
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let file = File::open(mount.path("good")).expect("to open");
            assert_same(
                &try_pread(&file, 0..8 * MIB).expect("to read"),
                &good.whole(),
                "its neighbour",
            );
        });
        (0..2).for_each(denied);
        reading.join().expect("no panic");
    });
}

#[test]
fn files_are_read_under_a_limit_of_two_requests() {
    let server = WebServer::case("limit-403.py", &["PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = mount.path(format!("f{number}.bin"));
            scope.spawn(move || assert_eq!(std::fs::read(path).expect("its bytes").len(), 4 << 20, "{number}"));
        }
    });
}

/// One stalled response, and refusals or resets of another file: neither lowers the connections of a third file.
#[test]
fn failing_file_lowers_no_connection_limit() {
    for fault in [Fault::Status(503), Fault::ResetAfter(1000)] {
        let (origin, gate, good) = (Origin::start(), Gate::new(), Content::noise(8 * MIB, 6));
        for name in ["stalled", "bad", "good"] {
            origin.add(&format!("/{name}"), good.clone());
        }
        origin
            .on("/stalled")
            .data()
            .fault(Fault::HoldAfter(100_000, gate.clone()));
        let bad = origin.on("/bad").data().fault(fault);
        let mount = patient(&origin).start();
        let names = ["stalled".to_owned(), "bad".to_owned()];
        beside_readers_of(&mount, &names, || {
            gate.wait_for_arrivals(1);
            origin.log().wait_for("a refusal", |_| bad.hits() > 0);
            let file = File::open(mount.path("good")).expect("to open");
            assert_same(
                &try_pread(&file, 0..8 * MIB).expect("to read"),
                &good.whole(),
                "the healthy file",
            );
        });
        gate.open();
    }
}

/// Eight hanging pages hold all metadata permits.
#[test]
fn hanging_listings_give_way_to_a_healthy_one() {
    let (origin, gate) = (Origin::start(), Gate::new());
    for number in 0..8 {
        origin.add(&format!("/hung{number}/name"), "x");
        origin.on(&format!("/hung{number}/")).fault(Fault::Hold(gate.clone()));
    }
    origin.add("/good/name", "x");
    let mount = patient(&origin).start();
    for number in 0..8 {
        let path = mount.path(format!("hung{number}"));
        std::thread::spawn(move || drop(std::fs::read_dir(path)));
    }
    gate.wait_for_arrivals(8);
    let names = std::fs::read_dir(mount.path("good")).expect("to list");
    assert_eq!(names.count(), 1);
    gate.open();
}

/// The server drops or ignores requests for this name, and answers all others.
#[test]
fn dropped_requests_fail_one_name_only() {
    for fault in [Fault::NoAnswer, Fault::Hold(Gate::new())] {
        let origin = Origin::start();
        origin.set_index_style(IndexStyle::NamesOnly);
        for name in ["good", "dropped"] {
            origin.add(&format!("/{name}"), Content::noise(MIB, 7));
        }
        origin.on("/dropped").fault(fault);
        let mount = patient(&origin).start();
        let dropped = mount.path("dropped");
        let asking = std::thread::spawn(move || std::fs::metadata(dropped).map(drop));
        assert_eq!(std::fs::metadata(mount.path("good")).expect("to stat").len(), MIB);
        asking.join().expect("no panic").expect_err("it is not answered");
    }
}
