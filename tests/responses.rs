//! No answer of a server puts a wrong byte into a file.
//!
//! Each response here is one that servers, proxies and portals have sent. fetchfs may find the right bytes in spite
//! of it, or return an error. When the server is honest again, reads work again. The cache holds only right bytes.

use std::fs::File;
use std::sync::Arc;

use crate::common::files::{advise_random, assert_same, open_direct, read_direct, sha256, sha256_of, try_pread};
use crate::common::{Mount, cached};
use crate::origin::{Content, Fault, Framing, Origin, Validators};

const MIB: u64 = 1 << 20;

/// The required result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The right bytes.
    Right,
    /// An error, because the right bytes can't be known.
    Error,
}

/// Errors that fit a file that can't be read. Each fits one of the responses below.
const REFUSALS: [i32; 5] = [libc::EIO, libc::ESTALE, libc::ENOENT, libc::EACCES, libc::EPERM];

fn small_chunks_and_no_patience(origin: &Origin) -> Mount {
    let plan = Mount::of(&origin.url("/"))
        .with("--retries", "1")
        .with("--timeout", "5s");
    plan.with("--chunk-size", "64KiB").with("--attr-ttl", "0").start()
}

/// Reads at several places from a server with this fault, checks the cache, and reads the whole file without the
/// fault.
#[track_caller]
fn with_fault(fault: Fault, outcome: Outcome) {
    let (origin, content) = (Origin::start(), Content::noise(3 * MIB + 11, 31));
    origin.add("/f", content.clone());
    let mut mount = small_chunks_and_no_patience(&origin);
    let switch = origin.on("/f").data().fault(fault.clone());
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    for place in [
        2 * MIB..2 * MIB + 1000,
        0..1000,
        3 * MIB..3 * MIB + 11,
        MIB - 10..MIB + 10,
    ] {
        match (try_pread(&file, place.clone()), outcome) {
            (Ok(read), Outcome::Right) => {
                assert_same(&read, &content.read(place.clone()), &format!("{fault:?}, {place:?}"))
            }
            (Err(error), Outcome::Error) => {
                let errno = error.raw_os_error().expect("an error of the kernel's");
                assert!(REFUSALS.contains(&errno), "{fault:?}, {place:?}: {error}");
            }
            (Ok(read), Outcome::Error) => panic!("{fault:?}, {place:?}: {} bytes were made of this answer", read.len()),
            (Err(error), Outcome::Right) => panic!("{fault:?}, {place:?}: {error}"),
        }
    }
    assert_ne!(switch.hits(), 0, "{fault:?} was never met");
    drop(file);
    mount.unmount();
    let landed = cached::chunks(&mount.cache(), "/f");
    assert_eq!(
        landed.is_empty(),
        outcome == Outcome::Error,
        "{fault:?}: {} chunks",
        landed.len()
    );
    for chunk in landed {
        let place = chunk.offset..chunk.offset + chunk.bytes.len() as u64;
        assert_same(&chunk.bytes, &content.read(place), &format!("{fault:?}: in the cache"));
    }
    cached::assert_sound(&mount.cache());
    switch.lift();
    mount.start();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content), "after {fault:?}");
}

#[test]
fn status_200_for_a_range_is_stored_at_its_offset() {
    with_fault(Fault::IgnoreRange(Framing::Length), Outcome::Right);
}

#[test]
fn status_200_without_a_length_is_stored_at_its_offset() {
    with_fault(Fault::IgnoreRange(Framing::UntilClose), Outcome::Right);
}

#[test]
fn file_is_fetched_once_if_ranges_are_ignored() {
    let (origin, content) = (Origin::start(), Content::noise(3 * MIB, 32));
    origin.add("/f", content.clone());
    origin.on("/f").data().fault(Fault::IgnoreRange(Framing::Length));
    let mount = Mount::start_of(&origin.url("/"));
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    let fetched = origin.log().all().body_bytes("/f");
    assert!(
        fetched <= 2 * content.size(),
        "{fetched} bytes were sent for a file of {}",
        content.size()
    );
}

#[test]
fn wrong_range_is_an_error() {
    with_fault(Fault::ShiftedRange(7), Outcome::Error);
}

#[test]
fn short_range_is_continued() {
    with_fault(Fault::ShorterRange(20_000), Outcome::Right);
}

#[test]
fn range_with_a_different_total_is_an_error() {
    let (origin, content) = (Origin::start(), Content::noise(3 * MIB + 11, 37));
    origin.add("/f", content.clone());
    let mount = small_chunks_and_no_patience(&origin);
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    assert_same(
        &try_pread(&file, 0..1000).expect("to read"),
        &content.read(0..1000),
        "while it is honest",
    );
    let switch = origin.on("/f").data().fault(Fault::WrongTotal(3 * MIB + 12));
    let errno = try_pread(&file, 2 * MIB..2 * MIB + 1000)
        .err()
        .and_then(|error| error.raw_os_error());
    assert!(
        [Some(libc::EIO), Some(libc::ESTALE)].contains(&errno),
        "errno {errno:?}"
    );
    switch.lift();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
}

#[test]
fn body_is_cut_at_its_announced_length() {
    with_fault(Fault::Excess(5000), Outcome::Right);
}

#[test]
fn multipart_response_is_an_error() {
    with_fault(Fault::Multipart, Outcome::Error);
}

/// Servers label stored `.gz` files like this. The length is the file's, so the bytes are too.
#[test]
fn content_encoding_on_the_right_bytes_is_ignored() {
    with_fault(Fault::ClaimGzip, Outcome::Right);
}

#[test]
fn login_page_instead_of_the_file_is_an_error() {
    with_fault(Fault::LoginPage, Outcome::Error);
}

#[test]
fn denied_request_is_an_error() {
    for status in [304, 400, 401, 403, 404, 407, 410, 412, 416, 451, 500] {
        with_fault(Fault::Status(status), Outcome::Error);
    }
}

#[test]
fn temporary_error_is_retried() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 40));
    let statuses = [408, 425, 429, 500, 502, 503, 504];
    for status in statuses {
        origin.add(&format!("/{status}"), content.clone());
        origin
            .on(&format!("/{status}"))
            .data()
            .times(1)
            .fault(Fault::Status(status));
    }
    let mount = Mount::start_of(&origin.url("/"));
    // In parallel, because each waits half a second.
    std::thread::scope(|scope| {
        for status in statuses {
            let path = mount.path(status.to_string());
            scope.spawn(move || assert_eq!(sha256(&path), sha256_of(&Content::noise(MIB, 40)), "{status}"));
        }
    });
}

#[test]
fn malformed_content_range_is_an_error() {
    let nonsense = [
        "bytes",
        "bytes 0-/5",
        "bytes 9-1/10",
        "chunks 0-1/2",
        "bytes */3145739",
        "bytes 0-99999999/5",
    ];
    with_fault(Fault::ContentRange(None), Outcome::Error);
    for text in nonsense {
        with_fault(Fault::ContentRange(Some(text)), Outcome::Error);
    }
}

#[test]
fn response_that_is_not_http_is_an_error() {
    with_fault(Fault::Garbage, Outcome::Error);
}

#[test]
fn range_without_content_length_is_accepted() {
    with_fault(Fault::Framed(Framing::Chunked), Outcome::Right);
    with_fault(Fault::Framed(Framing::UntilClose), Outcome::Right);
}

#[test]
fn chunked_status_200_is_stored_at_its_offset() {
    with_fault(Fault::IgnoreRange(Framing::Chunked), Outcome::Right);
}

#[test]
fn truncated_body_is_continued() {
    let (origin, content) = (Origin::start(), Content::noise(3 * MIB, 41));
    origin.add("/f", content.clone());
    let cut = origin.on("/f").data().times(3).fault(Fault::CloseAfter(100_000));
    let mount = Mount::of(&origin.url("/")).with("--retries", "5").start();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    assert_eq!(cut.hits(), 3);
}

#[test]
fn redirect_target_is_reused_until_it_fails() {
    let (origin, elsewhere, content) = (Origin::start(), Origin::start(), Content::noise(8 * MIB, 38));
    for (path, site) in [("/f", &origin), ("/first", &elsewhere), ("/second", &elsewhere)] {
        site.add(path, content.clone());
        // Otherwise each server would name its version in its own way.
        site.set_validators(path, Validators::None);
    }
    let to_first = origin.on("/f").fault(Fault::Redirect(302, elsewhere.url("/first")));
    let mount = small_chunks_and_no_patience(&origin);
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    let read = |place: std::ops::Range<u64>| {
        assert_same(
            &try_pread(&file, place.clone()).expect("to read"),
            &content.read(place),
            "",
        )
    };
    // Backwards, so that nothing is read ahead.
    let mut places = (1..16).rev().map(|place| place * MIB / 2);
    for place in places.by_ref().take(4) {
        read(place..place + 10);
    }
    assert_eq!(origin.log().all().gets("/f").len(), 1, "the first URL is asked once");
    for (place, refusal) in places.zip([401, 403, 404, 410, 500, 503]) {
        let _expired = elsewhere.on("/first").times(1).fault(Fault::Status(refusal));
        let asked = origin.log().all().gets("/f").len();
        read(place..place + 10);
        assert_eq!(origin.log().all().gets("/f").len() - asked, 1, "after {refusal}");
    }
    to_first.lift();
    let _gone = elsewhere.on("/first").fault(Fault::Status(403));
    origin.on("/f").fault(Fault::Redirect(307, elsewhere.url("/second")));
    read(10..20);
    assert!(!elsewhere.log().all().gets("/second").is_empty());
}

#[test]
fn expired_signed_urls_are_renewed_during_reads() {
    /// More than any of these readers can use up.
    const LINKS: usize = 2000;
    /// Responses until a link expires.
    const GOOD_FOR: usize = 3;
    let (origin, elsewhere, content) = (Origin::start(), Origin::start(), Content::noise(24 * MIB, 40));
    origin.add("/f", content.clone());
    origin.set_validators("/f", Validators::DateOnly);
    for number in 0..LINKS {
        let link = format!("/signed/{number}");
        elsewhere.add(&link, content.clone());
        // Otherwise each would be another version.
        elsewhere.set_validators(&link, Validators::DateOnly);
        elsewhere.on(&link).after(GOOD_FOR).fault(Fault::Status(403));
    }
    let sign = Fault::SignedLink(elsewhere.url("/signed/"), Arc::default());
    origin.on("/f").fault(sign);
    let mount = Mount::of(&origin.url("/")).with("--chunk-size", "64KiB").start();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(sha256(&mount.path("f")), sha256_of(&content), "in sequence"));
        for reader in 0..4 {
            let (mount, content) = (&mount, &content);
            scope.spawn(move || {
                let file = File::open(mount.path("f")).expect("to open");
                advise_random(&file);
                for step in 1..16 {
                    let place = (step * 7 + reader * 3) % 24 * MIB;
                    let read = try_pread(&file, place..place + 5000).expect("to read");
                    assert_same(&read, &content.read(place..place + 5000), "at random");
                }
            });
        }
    });
    let asked = elsewhere.log().all().0;
    let expired = asked.iter().filter(|request| request.status == Some(403)).count();
    assert!(expired > 0, "no link has expired");
    let signed = origin.log().all().gets("/f").len();
    assert!(signed < LINKS, "{signed} links were asked for");
}

#[test]
fn redirect_loop_is_an_error() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 39));
    origin.add("/f", content.clone());
    let circle = origin.on("/f").fault(Fault::Redirect(308, origin.url("/f")));
    let mount = small_chunks_and_no_patience(&origin);
    let errno = std::fs::read(mount.path("f"))
        .expect_err("the redirects form a loop")
        .raw_os_error();
    assert_eq!(errno, Some(libc::EIO));
    circle.lift();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
}

#[test]
fn server_with_intermittent_range_support_is_read_correctly() {
    let (origin, content) = (Origin::start(), Content::noise(16 << 20, 34));
    origin.add("/f", content.clone());
    let mount = Mount::start_of(&origin.url("/"));
    let file = open_direct(&mount.path("f"));
    // Some responses bring the whole file, which is then downloaded in sequence.
    for place in [0u64, 12 << 20, 6 << 20, 9 << 20, 3 << 20] {
        let whole = origin
            .on("/f")
            .data()
            .times(1)
            .fault(Fault::IgnoreRange(Framing::Length));
        for place in [place, place + (1 << 20)] {
            let read = read_direct(&file, place, 4096).expect("to read");
            assert_same(&read, &content.read(place..place + 4096), "now and then");
        }
        whole.lift();
    }
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
}

#[test]
fn redirects_to_other_paths_and_origins_are_followed() {
    let (origin, elsewhere) = (Origin::start(), Origin::start());
    let content = Content::noise(3 * MIB, 33);
    let targets = [
        ("/near", 301, origin.url("/moved")),
        ("/far", 303, elsewhere.url("/moved")),
    ];
    for (from, status, target) in targets {
        origin.add(from, content.clone());
        origin.on(from).fault(Fault::Redirect(status, target));
    }
    origin.add("/moved", content.clone());
    elsewhere.add("/moved", content.clone());
    let mount = Mount::start_of(&origin.url("/"));
    assert_eq!(sha256(&mount.path("near")), sha256_of(&content));
    assert_eq!(sha256(&mount.path("far")), sha256_of(&content));
}

#[test]
fn files_are_correct_with_any_validators() {
    let origin = Origin::start();
    let kinds = [
        Validators::Strong,
        Validators::Weak,
        Validators::DateOnly,
        Validators::None,
    ];
    let content = Content::noise(2 * MIB + 3, 34);
    for kind in kinds {
        origin.add(&format!("/{kind:?}"), content.clone());
        origin.set_validators(&format!("/{kind:?}"), kind);
    }
    let mount = Mount::of(&origin.url("/")).with("--chunk-size", "64KiB").start();
    for kind in kinds {
        assert_eq!(
            sha256(&mount.path(format!("{kind:?}"))),
            sha256_of(&content),
            "{kind:?}"
        );
    }
}

#[test]
fn wrong_listed_size_is_corrected_on_read() {
    let listed = Content::noise(300_000, 47);
    for size in [1000, 299_999, 300_000, 300_001, 900_000] {
        let (origin, sent) = (Origin::start(), Content::noise(size, 48));
        origin.add("/f", listed.clone());
        origin.on("/f").fault(Fault::MadeWhileSent(sent.clone()));
        let mount = small_chunks_and_no_patience(&origin);
        // The first open gives the kernel the listed size; a later open gives the true one.
        let read = |turn: &str| {
            let read = std::fs::read(mount.path("f")).unwrap_or_else(|error| panic!("{size}, {turn}: {error}"));
            assert_same(&read, &sent.read(0..size), &format!("{size}, {turn}"));
        };
        read("at first");
        read("then");
    }
}
