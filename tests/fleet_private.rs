//! Many machines that share a tier for a source with credentials: `--tier-private`, with real nginx nodes that have the
//! configuration of `fetchfs tier config --private`.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use fetchfs::internals::events;

use crate::common::files::{sha256, sha256_of, write_file};
use crate::common::fleet::{self, count, served};
use crate::common::mount::{Mount, Plan};
use crate::common::servers::{Certificates, WebServer};
use crate::common::tier::Tier;
use crate::common::{temporary_directory, wait_until};
use crate::origin::{Content, Fault, Origin};

const MIB: u64 = 1 << 20;

/// A token that must not be found anywhere.
const TOKEN: &str = "s3cret-t0ken";

/// An origin whose file of 8 MiB needs the token.
fn guarded_origin() -> (Origin, Content) {
    let (origin, content) = (Origin::start(), Content::noise(8 * MIB, 90));
    origin.add("/pub/f", content.clone());
    origin
        .on_any()
        .fault(Fault::Demand("Authorization", format!("Bearer {TOKEN}")));
    (origin, content)
}

fn node(origin: &Origin, more: &[&str]) -> Tier {
    Tier::with(Ipv4Addr::LOCALHOST, &[&origin.url("")], more)
}

/// A mount of the origin that lets the tier pass its credentials on.
fn plan(origin: &Origin, tier: &str) -> Plan {
    fleet::plan(origin, tier).with("--tier-private", "")
}

/// The files below a directory that have this text in them.
fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("to list") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if has(&fs::read(&path).expect("to read"), text) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// The hashes of credentials in the keys of slices.
fn hashes_in(slices: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files_with(slices, "KEY: private|") {
        let bytes = fs::read(file).expect("to read");
        let text = String::from_utf8_lossy(&bytes);
        let (_, rest) = text.split_once("KEY: private|").expect("a key");
        found.insert(rest[..64].to_owned());
    }
    found
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn mounts_with_the_same_credentials_share_one_copy() {
    let (origin, content) = guarded_origin();
    let home = temporary_directory();
    let log = home.path().join("access.log");
    let tier = node(
        &origin,
        &[
            "--private",
            "--access-log",
            log.to_str().expect("a path of the harness"),
        ],
    );
    let mount = || plan(&origin, &tier.url()).with("--bearer-token", TOKEN).start();
    let first = mount();
    assert_eq!(sha256(&first.path("f")), sha256_of(&content));
    let second = mount();
    let mark = origin.log().mark();
    assert_eq!(sha256(&second.path("f")), sha256_of(&content));
    let bytes = origin.log().since(mark).body_bytes("/pub/f");
    // The slice of the first request, which names no version, is fetched again after 5 s.
    // On a machine that is busy with something else, the origin is asked too.
    let late = count(&second, 0, "hedged_requests") + count(&second, 0, "failed_requests");
    assert!(late > 0 || bytes <= 2 * MIB, "{bytes} bytes from the origin");
    for mount in [&first, &second] {
        assert!(served(mount, 0) > 0);
        assert_eq!(mount.events(events::TIER_PLAINTEXT), 0, "this is loopback");
    }
    for request in &origin.log().all().0 {
        let ours = |name: &str| name.to_ascii_lowercase().starts_with("x-fetchfs");
        assert!(!request.headers.iter().any(|(name, _)| ours(name)), "{request:?}");
    }
    // The node keeps and logs no secret. Its log is written every 5 s.
    wait_until("the access log", || fs::metadata(&log).is_ok_and(|log| log.len() > 0));
    assert_eq!(files_with(home.path(), "/pub/f").len(), 1, "the log");
    assert_eq!(files_with(home.path(), TOKEN), Vec::<String>::new());
    assert!(files_with(&tier.slices(), "/pub/f").len() >= 8, "the keys");
    assert_eq!(files_with(&tier.slices(), TOKEN), Vec::<String>::new());
    assert!(!tier.output().contains(TOKEN));
}

#[test]
fn different_credentials_never_share_bytes() {
    let origin = Origin::start();
    let contents = [91, 92, 93].map(|seed| Content::noise(4 * MIB, seed));
    let [of_anyone, of_one, of_two] = &contents;
    origin.add("/pub/f", of_anyone.clone());
    // All of them under the same ETag.
    for (key, content) in [("one", of_one), ("two", of_two)] {
        origin
            .on("/pub/f")
            .fault(Fault::ContentFor("X-Key", key, content.clone()));
    }
    let tier = node(&origin, &["--private", "--private-header", "X-Key"]);
    let mount = |key: &str| {
        let plan = plan(&origin, &tier.url());
        match key {
            "" => plan.start(),
            _ => plan.with("--header", &format!("X-Key: {key}")).start(),
        }
    };
    for round in 0..2 {
        let cases = [("one", of_one), ("", of_anyone), ("two", of_two)];
        let mounts: Vec<_> = cases.iter().map(|(key, content)| (mount(key), *content)).collect();
        std::thread::scope(|scope| {
            for (mount, content) in &mounts {
                scope.spawn(move || assert_eq!(sha256(&mount.path("f")), sha256_of(content), "round {round}"));
            }
        });
        for (mount, _) in &mounts {
            assert!(served(mount, 0) > 0);
        }
    }
}

#[test]
fn node_that_passes_no_credentials_on_is_not_used() {
    let (origin, content) = (Origin::start(), Content::noise(4 * MIB, 94));
    origin.add("/pub/f", content.clone());
    origin.on_any().fault(Fault::Demand("X-Key", "s3cret".to_owned()));
    let without: [&[&str]; 3] = [&[], &["--private"], &["--private", "--private-header", "X-Keys"]];
    for more in without {
        let tier = node(&origin, more);
        let mark = origin.log().mark();
        let mount = plan(&origin, &tier.url()).with("--header", "X-Key: s3cret").start();
        assert_eq!(sha256(&mount.path("f")), sha256_of(&content), "{more:?}");
        mount.wait_for_event(events::TIER_LEFT_OUT, 1);
        assert_eq!(mount.events(events::TIER_LEFT_OUT), 1, "{more:?}");
        assert!(!origin.log().since(mark).statuses("/pub/f").contains(&401), "{more:?}");
    }
}

#[test]
fn node_of_another_configuration_is_not_believed() {
    // It drops credentials and has the response to a request without any: an older configuration, for example.
    let (origin, evil) = (Origin::start(), Origin::start());
    let (content, of_anyone) = (Content::noise(4 * MIB, 95), Content::noise(4 * MIB, 96));
    origin.add("/pub/f", content.clone());
    evil.add(&Tier::path_of(&origin.url("/pub/f")), of_anyone);
    let mount = plan(&origin, &format!("http://{}", evil.address()))
        .with("--header", "X-Key: s3cret")
        .start();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    assert!(!evil.log().all().0.is_empty());
    assert_eq!(mount.events(events::TIER_LEFT_OUT), 1);
}

#[test]
fn refusal_of_the_origin_is_not_the_node_s() {
    let (origin, content) = guarded_origin();
    let tier = node(&origin, &["--private"]);
    let mount = plan(&origin, &tier.url())
        .with("--bearer-token", TOKEN)
        .with("--user-agent", "of-a-mount")
        .start();
    // It refuses the requests of the node.
    origin
        .on_any()
        .fault(Fault::Demand("User-Agent", "of-a-mount".to_owned()));
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    assert!(count(&mount, 0, "failed_requests") > 0);
    assert_eq!(served(&mount, 0), 0);
    for event in [events::TIER_LEFT_OUT, events::TIER_RESTS] {
        assert_eq!(mount.events(event), 0);
    }
}

#[test]
fn bucket_is_signed_through_a_node() {
    const SECRET: &str = "s3cret/Key+";
    let server = WebServer::case("s3.py", &["AKIDEXAMPLE", SECRET, "eu-test-1", "PORT"]);
    let origin = server.url("");
    let tier = Tier::with(Ipv4Addr::LOCALHOST, &[origin.trim_end_matches('/')], &["--private"]);
    let mount = || {
        Mount::of("s3://bucket/")
            .with("--endpoint-url", &server.url("/"))
            .with("--region", "eu-test-1")
            .with("--tier", &tier.url())
            .with("--tier-private", "")
            .with_env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .with_env("AWS_SECRET_ACCESS_KEY", SECRET)
            .start()
    };
    let mounts = [mount(), mount()];
    for mount in &mounts {
        assert_eq!(fs::read(mount.path("big.bin")).expect("to read").len(), 640_000);
        let name = "[x] {y}@~!$'()*,=:;";
        let read = fs::read(mount.path("names").join(name)).expect("to read");
        assert_eq!(String::from_utf8(read).expect("text"), name.repeat(3));
        assert!(served(mount, 0) > 0);
    }
    // Both have the same hash, whatever their signatures.
    assert_eq!(hashes_in(&tier.slices()).len(), 1);
    for text in [SECRET, "AWS4-HMAC"] {
        assert_eq!(files_with(&tier.slices(), text), Vec::<String>::new());
    }
}

#[test]
fn credentials_reach_a_node_over_tls() {
    let (origin, content) = guarded_origin();
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let tier = node(
        &origin,
        &["--private", "--certificate", &certificate, "--certificate-key", &key],
    );
    let mount = plan(&origin, &tier.tls_url())
        .with("--ca-cert", &certificates.path("ca.pem"))
        .with("--bearer-token", TOKEN)
        .start();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    assert!(served(&mount, 0) > 0);
    // A node whose certificate is not trusted gets nothing.
    let wary = plan(&origin, &tier.tls_url()).with("--bearer-token", TOKEN).start();
    assert_eq!(sha256(&wary.path("f")), sha256_of(&content));
    assert!(count(&wary, 0, "requests") > 0);
    assert_eq!(served(&wary, 0), 0);
}

#[test]
fn node_without_tls_elsewhere_is_warned_of() {
    let (origin, content) = guarded_origin();
    // TEST-NET-1: nothing answers there.
    let mount = plan(&origin, "http://192.0.2.1:9")
        .with("--bearer-token", TOKEN)
        .start();
    assert_eq!(mount.events_with(events::TIER_PLAINTEXT, "WARN"), 1);
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
}

#[test]
fn client_certificate_stays_between_mount_and_server() {
    let (root, content, certificates) = (temporary_directory(), Content::noise(2 * MIB, 97), Certificates::new());
    write_file(&root.path().join("f"), &content);
    let server = WebServer::nginx_for_certified_clients(root.path(), &certificates);
    let tier = Tier::with(
        Ipv4Addr::LOCALHOST,
        &[server.url("").trim_end_matches('/')],
        &["--private"],
    );
    let mount = Mount::of(&server.url("/"))
        .with("--tier", &tier.url())
        .with("--tier-private", "")
        .with("--ca-cert", &certificates.path("ca.pem"))
        .with("--client-cert", &certificates.path("client.pem"))
        .with("--client-key", &certificates.path("client.key"))
        .start();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    assert_eq!(count(&mount, 0, "requests"), 0);
    assert_eq!(mount.events(events::TIER_BYPASSED), 1);
}

#[test]
fn cookies_of_the_user_pass_and_those_of_the_server_do_not() {
    let (origin, content) = (Origin::start(), Content::noise(2 * MIB, 98));
    origin.add("/pub/f", content.clone());
    let home = temporary_directory();
    let cookies = home.path().join("cookies");
    fs::write(&cookies, "127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\ts3cret\n").expect("to write");
    let tier = node(&origin, &["--private"]);
    let mount = || plan(&origin, &tier.url()).with("--cookie-file", cookies.to_str().expect("a path of the harness"));
    let given = mount().start();
    let mark = origin.log().mark();
    assert_eq!(sha256(&given.path("f")), sha256_of(&content));
    assert!(served(&given, 0) > 0);
    for get in origin.log().since(mark).gets("/pub/f") {
        assert_eq!(get.header("Cookie"), Some("session=s3cret"));
    }
    // A server that sets one has sessions, and each mount has its own.
    origin.on_any().fault(Fault::Header("Set-Cookie", "visit=1; Path=/"));
    let visiting = mount().start();
    assert_eq!(sha256(&visiting.path("f")), sha256_of(&content));
    assert_eq!(count(&visiting, 0, "requests"), 0);
}
