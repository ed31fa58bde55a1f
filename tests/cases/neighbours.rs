//! One bad file costs its neighbours nothing: silence, drips, refusals and resets of one file, and what others get meanwhile.
//!
//! All times that end a wait are longer than the tests may take. So what is read here was read because a bad file made room for it.

use std::fs::File;

use crate::common::Mount;
use crate::common::files::{assert_same, try_pread};
use crate::common::mount::Plan;
use crate::origin::{Content, Fault, Gate, Origin};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A mount in which nothing but an answer ends a wait.
fn patient(origin: &Origin) -> Plan {
    ["--timeout", "--read-timeout", "--connect-timeout"]
        .into_iter()
        .fold(Mount::of(&origin.url("/")), |plan, option| plan.with(option, "1h"))
}

/// Begins to read each of these files, and goes on with `then` while they are read; they need not come to an end.
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

/// Files that no byte comes of until the gate opens.
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

/// They go on from the byte that they have reached, so all of them come to their end, however often others are served between.
#[test]
fn slow_files_that_take_turns_lose_no_byte() {
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
