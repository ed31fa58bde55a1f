//! Outages: a reader waits through a short outage, gets an error in time from a dead server, and reads again once the
//! server is back, without any help.

use std::fs::{self, File};
use std::time::Duration;

use fetchfs::internals::events;

use crate::common::PATIENCE;
use crate::common::files::{
    advise_random, assert_same, errno_of, open_direct, read_direct, sha256, sha256_of, try_pread,
};
use crate::common::mount::{Mount, fetchfs};
use crate::common::process::run;
use crate::origin::{Content, Fault, IndexStyle, Origin, Validators};

const MIB: u64 = 1 << 20;

fn origin_with(size: u64) -> (Origin, Content) {
    let (origin, content) = (Origin::start(), Content::noise(size, 81));
    origin.add("/f", content.clone());
    (origin, content)
}

#[test]
fn restart_is_awaited_beyond_the_retries() {
    let (origin, content) = origin_with(32 * MIB);
    let mount = Mount::of(&origin.url("/"))
        .with("-vv", "")
        .with("--retries", "2")
        .start();
    // Reads at scattered places without read-ahead.
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    assert_same(
        &try_pread(&file, 0..4096).expect("to read"),
        &content.read(0..4096),
        "before",
    );
    origin.go_down();
    let place = 20 * MIB..21 * MIB;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| try_pread(&file, place.clone()));
        mount.wait_for_event(events::ORIGIN_STILL_DOWN, 2);
        origin.come_back();
        let read = reading.join().expect("no panic").expect("no error");
        assert_same(&read, &content.read(place.clone()), "over the outage");
    });
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
}

#[test]
fn dead_server_is_an_error_after_read_timeout() {
    let (origin, content) = origin_with(8 * MIB);
    let mount = Mount::of(&origin.url("/")).with("--read-timeout", "1s").start();
    let file = open_direct(&mount.path("f"));
    origin.go_down();
    for _ in 0..2 {
        assert_eq!(errno_of(read_direct(&file, 0, 4096)), libc::ETIMEDOUT);
    }
    assert_eq!(fs::metadata(mount.path("f")).expect("to stat").len(), 8 * MIB);
    assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), 1);
    origin.come_back();
    let deadline = std::time::Instant::now() + PATIENCE;
    // The recovery is detected within the pause between two probes.
    while let Err(error) = read_direct(&file, 0, 4096) {
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
        assert!(std::time::Instant::now() < deadline, "it is never read from again");
    }
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
}

#[test]
fn overloaded_server_is_probed_one_request_at_a_time() {
    const READERS: u64 = 64;
    let (origin, content) = origin_with(READERS * MIB);
    let mount = Mount::of(&origin.url("/")).with("-vv", "").start();
    let files: Vec<_> = (0..READERS).map(|_| open_direct(&mount.path("f"))).collect();
    let switch = origin.on("/f").data().fault(Fault::Status(429));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .zip(&files)
            .map(|(number, file)| scope.spawn(move || read_direct(file, number * MIB, 4096)))
            .collect();
        mount.wait_for_event(events::ORIGIN_STILL_DOWN, 2);
        // Sixteen requests were in flight when the refusals began; then there were two probes, and perhaps one more.
        assert!(switch.hits() <= 16 + 3, "asked {} times", switch.hits());
        switch.lift();
        for (number, reader) in (0..READERS).zip(readers) {
            let read = reader.join().expect("no panic").expect("no error");
            assert_same(&read, &content.read(number * MIB..number * MIB + 4096), "late");
        }
    });
}

/// An origin whose pages give no sizes, with a directory that contains a file of 3,000 bytes.
fn origin_without_sizes() -> Origin {
    let origin = Origin::start();
    origin.set_index_style(IndexStyle::NamesOnly);
    origin.add("/directory/file", Content::noise(3000, 82));
    origin
}

#[test]
fn temporary_listing_errors_are_retried() {
    for fault in [
        Fault::Status(429),
        Fault::Status(500),
        Fault::Status(503),
        Fault::ResetAfter(0),
    ] {
        let origin = origin_without_sizes();
        let mount = Mount::start_of(&origin.url("/"));
        origin.on("/directory/").times(2).fault(fault.clone());
        origin.on("/directory/file").times(2).fault(fault.clone());
        let names = fs::read_dir(mount.path("directory")).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(names.count(), 1, "{fault:?}");
        let size = fs::metadata(mount.path("directory/file")).map(|metadata| metadata.len());
        assert_eq!(size.map_err(|error| error.to_string()), Ok(3000), "{fault:?}");
    }
}

#[test]
fn retry_after_delays_listings() {
    let origin = origin_without_sizes();
    let mount = Mount::start_of(&origin.url("/"));
    origin.on("/directory/").times(1).fault(Fault::RetryAfter(2));
    assert_eq!(fs::read_dir(mount.path("directory")).expect("to list").count(), 1);
    let requests = origin.log().all();
    let came: Vec<_> = requests
        .gets("/directory/")
        .iter()
        .map(|request| request.came)
        .collect();
    assert_eq!(came.len(), 2);
    assert!(came[1] - came[0] >= Duration::from_secs(2), "{:?}", came[1] - came[0]);
}

#[test]
fn listing_waits_for_a_restart_and_fails_in_time() {
    let origin = origin_without_sizes();
    let mut mount = Mount::of(&origin.url("/")).with("--read-timeout", "1s").start();
    origin.go_down();
    assert_eq!(errno_of(fs::read_dir(mount.path("directory"))), libc::ETIMEDOUT);
    assert_eq!(errno_of(fs::metadata(mount.path("directory/file"))), libc::ETIMEDOUT);
    origin.come_back();
    mount.unmount();
    mount.add_option("--read-timeout", "10m");
    mount.start();
    let known = mount.events(events::ORIGIN_DOWN);
    origin.go_down();
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| fs::read_dir(mount.path("directory")).map(Iterator::count));
        mount.wait_for_event(events::ORIGIN_DOWN, known + 1);
        origin.come_back();
        assert_eq!(listing.join().expect("no panic").expect("to list"), 1);
    });
    assert_eq!(fs::metadata(mount.path("directory/file")).expect("to stat").len(), 3000);
}

#[test]
fn bad_gateway_is_retried_like_a_dead_server() {
    let (origin, content) = origin_with(8 * MIB);
    let mount = Mount::of(&origin.url("/"))
        .with("-vv", "")
        .with("--retries", "1")
        .start();
    let file = open_direct(&mount.path("f"));
    let away = origin.on_any().fault(Fault::NoAnswer);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_direct(&file, 4 * MIB, 4096));
        mount.wait_for_event(events::ORIGIN_STILL_DOWN, 3);
        away.lift();
        let read = reading.join().expect("no panic").expect("no error");
        assert_same(&read, &content.read(4 * MIB..4 * MIB + 4096), "over the outage");
    });
}

#[test]
fn retry_after_is_honoured_in_an_outage() {
    let (origin, content) = origin_with(8 * MIB);
    let mount = Mount::start_of(&origin.url("/"));
    let file = open_direct(&mount.path("f"));
    for (number, fault) in [Fault::RetryAfter(2), Fault::RetryAtDate(2)].into_iter().enumerate() {
        let (place, mark) = (number as u64 * 4 * MIB, origin.log().mark());
        let _refusal = origin.on("/f").data().times(1).fault(fault);
        let read = read_direct(&file, place, 4096).expect("to read");
        assert_same(&read, &content.read(place..place + 4096), "late");
        let log = origin.log().since(mark);
        let came: Vec<_> = log.gets("/f").iter().map(|request| request.came).collect();
        let pause = came[1] - came[0];
        assert!(pause >= Duration::from_secs(2), "it was asked again after {pause:?}");
    }
}

#[test]
fn dead_redirect_target_does_not_delay_others() {
    let (origin, alive, dead) = (Origin::start(), Origin::start(), Origin::start());
    let content = Content::noise(4 * MIB, 82);
    for (path, target) in [("/on-dead", &dead), ("/on-alive", &alive)] {
        origin.add(path, content.clone());
        target.add("/f", content.clone());
        target.set_validators("/f", Validators::None);
        origin.set_validators(path, Validators::None);
        origin.on(path).data().fault(Fault::Redirect(302, target.url("/f")));
    }
    let mount = Mount::of(&origin.url("/")).with("-vv", "").start();
    let files = ["on-dead", "on-alive"].map(|name| open_direct(&mount.path(name)));
    for file in &files {
        assert_same(
            &read_direct(file, 0, 4096).expect("to read"),
            &content.read(0..4096),
            "well",
        );
    }
    dead.go_down();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| read_direct(&files[0], 2 * MIB, 4096));
        mount.wait_for_event(events::ORIGIN_STILL_DOWN, 1);
        for place in (MIB..4 * MIB).step_by(MIB as usize) {
            let read = read_direct(&files[1], place, 4096).expect("to read");
            assert_same(&read, &content.read(place..place + 4096), "meanwhile");
        }
        assert!(!waiting.is_finished(), "nobody was there to answer it");
        let dead_one = mount.events_with(events::ORIGIN_DOWN, &dead.address().to_string());
        assert_eq!((dead_one, mount.events(events::ORIGIN_DOWN)), (1, 1));
        dead.come_back();
        let read = waiting.join().expect("no panic").expect("no error");
        assert_same(&read, &content.read(2 * MIB..2 * MIB + 4096), "over the outage");
    });
}

#[test]
fn read_waits_for_a_free_descriptor() {
    let (origin, content) = origin_with(8 * MIB);
    let mount = Mount::start_of(&origin.url("/"));
    let file = open_direct(&mount.path("f"));
    read_direct(&file, 0, 4096).expect("to read");
    // Its open connections are closed, and new ones are refused.
    origin.go_down();
    let allowed = mount.limit_descriptors(0);
    origin.come_back();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_direct(&file, 4 * MIB, 4096));
        mount.wait_for_event(events::DESCRIPTORS_EXHAUSTED, 1);
        mount.limit_descriptors(allowed);
        let read = reading.join().expect("no panic").expect("no error");
        assert_same(&read, &content.read(4 * MIB..4 * MIB + 4096), "when there is one");
    });
    assert_eq!(mount.events(events::ORIGIN_DOWN), 0, "the server is not to blame");
}

#[test]
fn permanently_failing_file_blocks_no_other() {
    let (origin, content) = origin_with(64 * MIB);
    origin.add("/bad", Content::noise(8 * MIB, 83));
    let mount = Mount::of(&origin.url("/")).with("-vv", "").start();
    let _refused = origin.on("/bad").fault(Fault::Status(503));
    let (file, bad) = (open_direct(&mount.path("f")), open_direct(&mount.path("bad")));
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| read_direct(&bad, 0, 4096));
        for place in (0..64).map(|number| number * MIB) {
            let read = read_direct(&file, place, 4096).expect("to read");
            assert_same(&read, &content.read(place..place + 4096), "beside it");
        }
        assert_eq!(errno_of(refused.join().expect("no panic")), libc::EIO);
    });
    assert_eq!(mount.events(events::ORIGIN_DOWN), 0);
    // No other request is sent now, and there is no deadline.
    let prefetch = run(fetchfs().arg("prefetch").arg(mount.path("bad")));
    assert_ne!(prefetch.code, 0, "{prefetch:?}");
    assert_eq!(mount.events(events::ORIGIN_DOWN), 0);
}

#[test]
fn permanently_failing_directory_blocks_no_reader() {
    let (origin, content) = origin_with(64 * MIB);
    origin.add("/directory/file", "x");
    let mount = Mount::of(&origin.url("/")).with("-vv", "").start();
    let file = open_direct(&mount.path("f"));
    let refused = origin.on("/directory/").fault(Fault::Status(503));
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| fs::read_dir(mount.path("directory")).map(Iterator::count));
        for place in (0..64).map(|number| number * MIB) {
            let read = read_direct(&file, place, 4096).expect("to read");
            assert_same(&read, &content.read(place..place + 4096), "beside it");
        }
        origin.log().wait_for("more than one try", |_| refused.hits() >= 3);
        refused.lift();
        assert_eq!(listing.join().expect("no panic").expect("to list"), 1);
    });
    assert_eq!(mount.events(events::ORIGIN_DOWN), 0);
}

#[test]
fn single_reader_waits_for_a_failing_gateway() {
    let (origin, content) = origin_with(8 * MIB);
    let mount = Mount::of(&origin.url("/"))
        .with("-vv", "")
        .with("--retries", "1")
        .start();
    let file = open_direct(&mount.path("f"));
    let refused = origin.on_any().fault(Fault::Status(502));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_direct(&file, 0, 4096));
        mount.wait_for_event(events::ORIGIN_STILL_DOWN, 2);
        refused.lift();
        let read = reading.join().expect("no panic").expect("no error");
        assert_same(&read, &content.read(0..4096), "over the outage");
    });
}
