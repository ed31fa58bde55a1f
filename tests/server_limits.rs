//! Servers with a limit on concurrent requests, and files that are refused for reasons of their own.

use std::fs;

use fetchfs::internals::events;

use crate::common::Mount;
use crate::common::files::{sha256, sha256_of};
use crate::common::mount::fetchfs;
use crate::common::process::run;
use crate::origin::{Content, Crowd, Fault, Origin, Requests};

const MIB: u64 = 1 << 20;

/// Number of requests that were answered with this status.
fn answered(log: &Requests, status: u16) -> usize {
    log.0.iter().filter(|request| request.status == Some(status)).count()
}

#[test]
fn server_limit_of_four_requests_is_learned() {
    const SIZE: u64 = 96 * MIB;
    let (origin, content) = (Origin::start(), Content::noise(SIZE, 91));
    origin.add("/f", content.clone());
    origin.on("/f").data().fault(Fault::Rate(8 * MIB));
    let mount = Mount::of(&origin.url("/")).with("-vv", "").start();
    origin.on("/f").data().fault(Fault::Crowd(Crowd::of(4)));
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    let log = origin.log().all();
    let refused = answered(&log, 503);
    // Sixteen at once, then eight, then four; and each number once more, for requests in flight when it was lowered.
    assert!((1..=2 * (16 + 8 + 4)).contains(&refused), "refused {refused} times");
    assert_eq!(mount.events(events::CONNECTIONS_REDUCED), 1, "said once");
    let halfway = log
        .0
        .iter()
        .rposition(|request| request.range.is_some_and(|range| range.first < SIZE / 2));
    let late = Requests(log.0[halfway.expect("requests")..].to_vec());
    assert!(answered(&late, 206) > 0, "{late:#?}");
    assert!(
        answered(&late, 503) <= 2,
        "what it bears is known by then, and it was refused {} times",
        answered(&late, 503)
    );
}

#[test]
fn more_readers_than_allowed_requests_all_finish() {
    let origin = Origin::start();
    let contents: Vec<Content> = (0..24).map(|seed| Content::noise(2 * MIB + seed, seed)).collect();
    for (number, content) in contents.iter().enumerate() {
        origin.add(&format!("/{number}"), content.clone());
        origin.on(&format!("/{number}")).data().fault(Fault::Rate(8 * MIB));
    }
    let mount = Mount::start_of(&origin.url("/"));
    let crowd = Crowd::of(2);
    for number in 0..contents.len() {
        origin
            .on(&format!("/{number}"))
            .data()
            .fault(Fault::Crowd(crowd.clone()));
    }
    std::thread::scope(|scope| {
        for (number, content) in contents.iter().enumerate() {
            let path = mount.path(number.to_string());
            scope.spawn(move || assert_eq!(sha256(&path), sha256_of(content), "{number}"));
        }
    });
}

#[test]
fn rejected_file_does_not_affect_other_files() {
    for status in [429, 502, 503, 504] {
        let (origin, content) = (Origin::start(), Content::noise(24 * MIB, 92));
        for name in ["good", "bad"] {
            origin.add(&format!("/d/{name}"), content.clone());
        }
        origin.on("/d/good").data().fault(Fault::Rate(4 * MIB));
        origin.on("/d/bad").data().fault(Fault::Status(status));
        let mount = Mount::of(&origin.url("/"))
            .with("--retries", "2")
            .with("--max-connections", "4")
            .with("-vv", "")
            .start();
        let mut command = fetchfs();
        let ran = run(command.arg("prefetch").arg(mount.path("d")));
        assert!(
            ran.code != 0 && ran.err.contains("bad") && !ran.err.contains("good"),
            "{ran:?}"
        );
        let mark = origin.log().mark();
        assert_eq!(
            fs::read(mount.path("d/good")).expect("to read"),
            content.whole(),
            "{status}"
        );
        assert_eq!(
            origin.log().since(mark).gets("/d/good").len(),
            0,
            "it was fetched already"
        );
    }
}
