//! A tier: an nginx that several machines share as a cache, with the configuration that `fetchfs tier config` prints.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use crate::common::files::assert_same;
use crate::common::servers::{Certificates, WebServer};
use crate::common::tier::{Answer, Tier};
use crate::common::{PATIENCE, fetchfs, run, temporary_directory, wait_until};
use crate::origin::{Content, Fault, Origin, Validators};

const MIB: u64 = 1 << 20;

/// An origin with a file of 8 MiB and its tier.
fn origin_and_tier() -> (Origin, Tier, Content) {
    let (origin, content) = (Origin::start(), Content::noise(8 * MIB, 70));
    origin.add("/pub/f", content.clone());
    let tier = Tier::of(&[&origin.url("")]);
    (origin, tier, content)
}

/// Asks a tier for 1000 bytes of the file, with more header lines.
#[track_caller]
fn ask_at(tier: &Tier, origin: &Origin, first: u64, headers: &[&str]) -> Answer {
    let range = format!("Range: bytes={first}-{}", first + 999);
    let headers: Vec<&str> = [range.as_str()].into_iter().chain(headers.iter().copied()).collect();
    tier.ask(&Tier::path_of(&origin.url("/pub/f")), &headers)
}

fn tag(answer: &Answer) -> String {
    format!("If-Match: {}", answer.header("ETag"))
}

#[test]
fn tier_fetches_each_slice_of_a_version_once() {
    let (origin, tier, content) = origin_and_tier();
    let first = ask_at(&tier, &origin, 0, &[]);
    let known = tag(&first);
    let dated = format!("If-Unmodified-Since: {}", first.header("Last-Modified"));
    for condition in [known.as_str(), dated.as_str()] {
        let mark = origin.log().mark();
        for (place, status) in [(5 * MIB + 7, "MISS"), (5 * MIB + 9, "HIT"), (5 * MIB + 7, "HIT")] {
            let answer = ask_at(&tier, &origin, place, &[condition]);
            assert_eq!(
                (answer.status, answer.header("X-Cache-Status")),
                (206, status),
                "{answer:?}"
            );
            assert_same(&answer.body, &content.read(place..place + 1000), condition);
        }
        let asked = origin.log().since(mark);
        assert_eq!(asked.ranges("/pub/f"), vec![5 * MIB..6 * MIB; 1], "{condition}");
        let (name, value) = condition.split_once(": ").expect("a header");
        assert_eq!(asked.gets("/pub/f")[0].header(name), Some(value));
    }
}

#[test]
fn random_read_of_a_known_version_costs_one_slice() {
    let (origin, tier, _) = origin_and_tier();
    let known = tag(&ask_at(&tier, &origin, 3 * MIB, &[]));
    let asked_for = |first, condition: &str| {
        let mark = origin.log().mark();
        ask_at(&tier, &origin, first, &[condition]);
        origin.log().since(mark).ranges("/pub/f")
    };
    assert_eq!(asked_for(5 * MIB, &known), vec![5 * MIB..6 * MIB; 1]);
    // Why fetchfs sends no If-Range: nginx begins with the first slice of the file then.
    let if_range = known.replacen("If-Match", "If-Range", 1);
    assert_eq!(asked_for(7 * MIB, &if_range), [0..MIB, 7 * MIB..8 * MIB]);
}

#[test]
fn versions_in_a_tier_never_mix() {
    let (origin, tier, old) = origin_and_tier();
    let known = tag(&ask_at(&tier, &origin, 0, &[]));
    ask_at(&tier, &origin, 3 * MIB, &[&known]);
    let new = Content::noise(8 * MIB, 71);
    origin.replace_keeping_date("/pub/f", new.clone());
    // A slice that the tier has is still that of the old version, and it fetches no other one under its name.
    let kept = ask_at(&tier, &origin, 3 * MIB, &[&known]);
    assert_same(&kept.body, &old.read(3 * MIB..3 * MIB + 1000), "the old version");
    assert_eq!(ask_at(&tier, &origin, 4 * MIB, &[&known]).status, 412);
    // A response over both ends before the first byte of the other one, and at once: with `aio threads`, nginx 1.22
    // leaves some of these open.
    let asked = Instant::now();
    let both = tier.ask(
        &Tier::path_of(&origin.url("/pub/f")),
        &["Range: bytes=3145728-5242879", &known],
    );
    assert_same(&both.body, &old.read(3 * MIB..4 * MIB), "a response over both");
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    let fresh = ask_at(&tier, &origin, 4 * MIB, &[]);
    assert_same(&fresh.body, &new.read(4 * MIB..4 * MIB + 1000), "the new version");
    let newer = ask_at(&tier, &origin, 3 * MIB, &[&tag(&fresh)]);
    assert_same(
        &newer.body,
        &new.read(3 * MIB..3 * MIB + 1000),
        "the new version by its tag",
    );
}

#[test]
fn origin_that_ignores_conditions_is_not_believed() {
    let (origin, tier, _) = origin_and_tier();
    let known = tag(&ask_at(&tier, &origin, 0, &[]));
    origin
        .on("/pub/f")
        .data()
        .fault(Fault::AnotherTag(AtomicUsize::new(7).into()));
    for _ in 0..2 {
        let answer = ask_at(&tier, &origin, 4 * MIB, &[&known]);
        assert_eq!(answer.status, 412, "{answer:?}");
    }
}

#[test]
fn tier_serves_what_it_has_while_the_origin_is_down() {
    let (origin, tier, content) = origin_and_tier();
    let known = tag(&ask_at(&tier, &origin, 0, &[]));
    ask_at(&tier, &origin, 3 * MIB, &[&known]);
    origin.go_down();
    for headers in [&[known.as_str()][..], &[]] {
        let place = if headers.is_empty() { 0 } else { 3 * MIB };
        let answer = ask_at(&tier, &origin, place, headers);
        assert_same(&answer.body, &content.read(place..place + 1000), "kept");
    }
    assert_eq!(ask_at(&tier, &origin, 6 * MIB, &[&known]).status, 502);
}

#[test]
fn tier_asks_no_other_server() {
    let (origin, tier, _) = origin_and_tier();
    let other = Origin::with_files(&["/pub/f", "/f"]);
    let (allowed, secret) = (origin.address(), other.address());
    for path in [
        format!("/http/{secret}/f"),
        format!("/https/{allowed}/pub/f"),
        format!("/http/{allowed}@{secret}/f"),
        format!("/http/ann@{secret}/f"),
        format!("/http/ann@{allowed}/pub/f"),
        format!("/http/{allowed}%40{secret}/f"),
        format!("/http/{allowed}/../{secret}/f"),
        format!("/http/{allowed}/%2e%2e/{secret}/f"),
        format!("/http/{allowed}/.%2E/.%2e/http/{secret}/f"),
        format!("/http/{allowed}%2f..%2f{secret}/f"),
        format!("/http/{allowed}\\@{secret}/f"),
        format!("/http/{allowed}?/@{secret}/f"),
        format!("/http/{allowed}#@{secret}/f"),
        format!("/http/{allowed}0/f"),
        format!("//http/{allowed}/pub/f"),
        format!("/x/../http/{allowed}/pub/f"),
        format!("http://{secret}/f"),
        format!("http://{secret}/http/{secret}/f"),
        "/http/127.0.0.1/f".to_owned(),
        "/first_touch".to_owned(),
        "/".to_owned(),
    ] {
        let answer = tier.ask(&path, &["Range: bytes=0-9"]);
        assert!(
            matches!(answer.status, 400 | 403 | 404),
            "{path}: {answer:?}\n{}",
            tier.output()
        );
    }
    assert!(other.log().all().0.is_empty());
    assert!(origin.log().all().0.is_empty());
}

#[test]
fn nothing_else_of_a_request_reaches_the_origin() {
    let (origin, tier, _) = origin_and_tier();
    ask_at(
        &tier,
        &origin,
        0,
        &[
            "Authorization: Basic YW5uOnMzY3JldA==",
            "Cookie: session=s3cret",
            "Proxy-Authorization: Basic YW5uOnMzY3JldA==",
            "X-Forwarded-For: 10.0.0.1",
            "Accept-Encoding: gzip",
        ],
    );
    let path = Tier::path_of(&origin.url("")) + "/a%0d%0aX-Evil:%201%0d%0a";
    tier.ask(&path, &["Range: bytes=0-9"]);
    let asked = origin.log().all();
    assert_eq!(asked.0.len(), 2, "{asked:?}");
    let may_be = [
        "host",
        "range",
        "accept-encoding",
        "user-agent",
        "if-match",
        "if-unmodified-since",
    ];
    for request in &asked.0 {
        for (name, value) in &request.headers {
            assert!(may_be.contains(&name.to_ascii_lowercase().as_str()), "{name}: {value}");
        }
        assert_eq!(
            request.header("Host"),
            Some(origin.address().to_string()).as_deref(),
            "{request:?}"
        );
        assert_eq!(request.header("Accept-Encoding"), Some("identity"));
    }
    assert_eq!(tier.ask(&path, &["Transfer-Encoding: x"]).status, 501);
}

#[test]
fn origin_does_not_direct_the_tier() {
    let (origin, tier, content) = origin_and_tier();
    origin
        .on("/pub/f")
        .data()
        .fault(Fault::Header("X-Accel-Redirect", "/status"));
    origin.on("/pub/f").data().fault(Fault::Header("Set-Cookie", "a=b"));
    origin
        .on("/pub/f")
        .data()
        .fault(Fault::Header("Cache-Control", "no-store"));
    for status in ["MISS", "HIT"] {
        let answer = ask_at(&tier, &origin, 0, &[]);
        assert_eq!(answer.header("X-Cache-Status"), status, "{answer:?}");
        assert_eq!(answer.header("Set-Cookie"), "");
        assert_same(&answer.body, &content.read(0..1000), status);
    }
}

#[test]
fn herd_costs_the_origin_one_request_per_slice() {
    let (origin, tier, content) = origin_and_tier();
    let known = tag(&ask_at(&tier, &origin, 0, &[]));
    let mark = origin.log().mark();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for slice in 0..8 {
                    let answer = ask_at(&tier, &origin, slice * MIB, &[&known]);
                    assert_same(
                        &answer.body,
                        &content.read(slice * MIB..slice * MIB + 1000),
                        "of a herd",
                    );
                }
            });
        }
    });
    assert_eq!(origin.log().since(mark).body_bytes("/pub/f"), 8 * MIB);
}

/// A node that passes credentials on, with more arguments.
fn private_tier(origin: &Origin, more: &[&str]) -> Tier {
    let more: Vec<&str> = ["--private"].iter().chain(more).copied().collect();
    Tier::with(Ipv4Addr::LOCALHOST, &[&origin.url("")], &more)
}

/// The header with a hash of this digit.
fn hash(digit: &str) -> String {
    format!("X-Fetchfs-Credentials: {}", digit.repeat(64))
}

const LOGIN: &str = "Authorization: Basic YW5uOnMzY3JldA==";

#[test]
fn slices_of_credentials_are_for_their_hash_alone() {
    let (origin, _, content) = origin_and_tier();
    let (_, login) = LOGIN.split_once(": ").expect("a header");
    origin.on_any().fault(Fault::Demand("Authorization", login.to_owned()));
    let tier = private_tier(&origin, &[]);
    let (one, other) = (hash("1"), hash("a"));
    let first = ask_at(&tier, &origin, 0, &[LOGIN, &one]);
    assert_same(&first.body, &content.read(0..1000), "the first request");
    let known = tag(&first);
    for status in ["MISS", "HIT"] {
        let answer = ask_at(&tier, &origin, 2 * MIB, &[LOGIN, &one, &known]);
        assert_eq!(answer.header("X-Cache-Status"), status, "{answer:?}");
        assert_eq!(answer.header("X-Fetchfs-Private"), "1");
        assert_same(&answer.body, &content.read(2 * MIB..2 * MIB + 1000), status);
    }
    // What has another hash, or none, gets what its own credentials give. Refusals are not kept.
    for hash in [&[other.as_str()][..], &[]] {
        for place in [0, 2 * MIB] {
            for conditions in [&[known.as_str()][..], &[]] {
                let answer = ask_at(&tier, &origin, place, &[hash, conditions].concat());
                assert_eq!((answer.status, answer.header("X-Cache-Status")), (401, "MISS"));
            }
        }
    }
    assert_eq!(ask_at(&tier, &origin, 2 * MIB, &[LOGIN, &other, &known]).status, 206);
    // The hash is as secret as the bytes.
    let kept = ask_at(&tier, &origin, 2 * MIB, &[&one, &known]);
    assert_eq!(kept.header("X-Cache-Status"), "HIT");
    assert_eq!(ask_at(&tier, &origin, 4 * MIB, &[&one, &known]).status, 401);
}

#[test]
fn node_refuses_credentials_that_it_does_not_pass_on() {
    let (origin, plain, _) = origin_and_tier();
    let (nothing_more, key) = (
        private_tier(&origin, &[]),
        private_tier(&origin, &["--private-header", "X-Key"]),
    );
    let (one, long) = (hash("1"), hash("12"));
    let cases: [(&Tier, &[&str], u16); 9] = [
        (&plain, &[&one], 421),
        (&nothing_more, &[&one], 206),
        (&nothing_more, &[&one, "X-Fetchfs-Headers: x-key"], 421),
        (&nothing_more, &["X-Fetchfs-Credentials: |"], 421),
        (&nothing_more, &[&long], 421),
        (&key, &[&one], 206),
        (&key, &[&one, "X-Fetchfs-Headers: x-key"], 206),
        (&key, &[&one, "X-Fetchfs-Headers: other,x-key"], 421),
        (&key, &["X-Fetchfs-Headers: x-key"], 421),
    ];
    for (number, (tier, headers, status)) in cases.into_iter().enumerate() {
        let mark = origin.log().mark();
        let answer = ask_at(tier, &origin, number as u64 * 1000, headers);
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
        assert!(status == 206 || origin.log().since(mark).0.is_empty(), "{headers:?}");
    }
}

#[test]
fn only_credentials_of_a_private_request_reach_the_origin() {
    let (origin, _, _) = origin_and_tier();
    let tier = private_tier(&origin, &["--private-header", "X-Key", "--private-header", "x-key"]);
    let given = [LOGIN, "Cookie: session=s3cret", "X-Key: k3y"];
    let more = [
        "X-Forwarded-For: 10.0.0.1",
        "X-HTTP-Method-Override: DELETE",
        "Accept: text/html",
    ];
    let head = [hash("1"), "X-Fetchfs-Headers: x-key".to_owned()];
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let known = tag(&ask_at(&tier, &origin, 0, &[&head[..], &given, &more].concat()));
    ask_at(&tier, &origin, MIB, &[&head[..], &given, &more, &[&known]].concat());
    let asked = origin.log().all();
    assert_eq!(asked.0.len(), 2, "{asked:?}");
    let may_be = [
        "host",
        "range",
        "accept-encoding",
        "user-agent",
        "if-match",
        "authorization",
        "cookie",
        "x-key",
    ];
    for request in &asked.0 {
        for (name, value) in &request.headers {
            assert!(may_be.contains(&name.to_ascii_lowercase().as_str()), "{name}: {value}");
        }
        for line in given {
            let (name, value) = line.split_once(": ").expect("a header");
            assert_eq!(request.header(name), Some(value), "{request:?}");
        }
        assert_eq!(request.header("Host"), Some(origin.address().to_string()).as_deref());
    }
}

#[test]
fn response_that_sets_a_cookie_for_credentials_is_not_kept() {
    let (origin, _, _) = origin_and_tier();
    let tier = private_tier(&origin, &[]);
    origin.on("/pub/f").fault(Fault::Header("Set-Cookie", "session=s3cret"));
    for _ in 0..2 {
        let answer = ask_at(&tier, &origin, 0, &[LOGIN, &hash("1")]);
        let head = (
            answer.status,
            answer.header("X-Cache-Status"),
            answer.header("Set-Cookie"),
        );
        assert_eq!(head, (206, "MISS", ""));
    }
    assert_eq!(origin.log().all().0.len(), 2);
}

#[test]
fn revoked_credentials_are_of_no_use_after_a_time() {
    let (origin, _, content) = origin_and_tier();
    let mut tier = private_tier(&origin, &[]);
    tier.restart_with("206 1h;", "206 1s;");
    let one = hash("1");
    let known = tag(&ask_at(&tier, &origin, 0, &[LOGIN, &one]));
    ask_at(&tier, &origin, MIB, &[LOGIN, &one, &known]);
    wait_until("the slice is confirmed", || {
        let answer = ask_at(&tier, &origin, MIB, &[LOGIN, &one, &known]);
        assert_same(&answer.body, &content.read(MIB..MIB + 1000), "a slice");
        answer.header("X-Cache-Status") == "REVALIDATED"
    });
    let sent = origin.log().all().body_bytes("/pub/f");
    assert_eq!(sent, 2 * MIB, "a confirmation has no body");
    origin.on_any().fault(Fault::Status(403));
    wait_until("the slice is refused", || {
        ask_at(&tier, &origin, MIB, &[LOGIN, &one, &known]).status == 403
    });
}

#[test]
fn tls_servers_are_verified() {
    let (folder, certificates) = (temporary_directory(), Certificates::new());
    fs::write(folder.path().join("f"), "bytes").expect("to write");
    let running = WebServer::nginx_with_tls(folder.path(), &certificates);
    // nginx compares names only, so a certificate for an address would not do.
    let server = running.url("").replace("127.0.0.1", "localhost");
    let path = Tier::path_of(&format!("{server}/f"));
    let trusting = Tier::with(
        "127.0.0.3".parse().expect("an address"),
        &[&server],
        &["--ca-file", &certificates.path("ca.pem")],
    );
    let answer = trusting.ask(&path, &["Range: bytes=0-9"]);
    assert_eq!((answer.status, answer.body.as_slice()), (206, &b"bytes"[..]));
    let answer = Tier::of(&[&server]).ask(&path, &["Range: bytes=0-9"]);
    assert_eq!(answer.status, 502);
}

#[test]
fn file_without_a_range_is_not_kept() {
    // The whole file would be kept once for each slice that is asked for.
    let (origin, tier, _) = origin_and_tier();
    origin
        .on("/pub/f")
        .data()
        .fault(Fault::IgnoreRange(crate::origin::Framing::Length));
    origin.set_validators("/pub/f", Validators::DateOnly);
    for _ in 0..2 {
        let answer = ask_at(&tier, &origin, 2 * MIB, &[]);
        assert_eq!((answer.status, answer.header("X-Cache-Status")), (200, "MISS"));
    }
}

#[test]
fn tier_without_allowed_servers_is_refused() {
    let config = |more: &[&str]| {
        let mut command = fetchfs();
        command.args([
            "tier",
            "config",
            "--listen",
            "127.0.0.1:1",
            "--cache-dir",
            "/c",
            "--cache-size",
            "1G",
        ]);
        run(command.args(more))
    };
    assert_eq!(config(&["--allow", "https://a.example"]).code, 0);
    let wrong: [&[&str]; 9] = [
        &[],
        &["--allow"],
        &["--allow", "*"],
        &["--allow", "https://a.example/pub"],
        &["--allow", "https://a.example", "--access-log", "/a\";}"],
        &["--allow", "https://a.example", "--ca-file", "relative"],
        &["--allow", "https://a.example", "--private-header", "X-Key"],
        &["--allow", "https://a.example", "--private", "--private-header", "Host"],
        &["--allow", "https://a.example", "--certificate", "/c.pem"],
    ];
    for more in wrong {
        let ran = config(more);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{more:?}");
    }
}
