//! `fetchfs doctor` and `fetchfs bugreport`: what is wrong is found, and named with what to do.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::mount::{detach, fetchfs};
use crate::common::process::Ran;
use crate::common::{Mount, run, temporary_directory};
use crate::origin::{Content, Fault, Framing, Origin};

/// A port where nobody listens (RFC 863, discard).
const NOBODY: &str = "http://127.0.0.1:9/";

fn doctor(words: &[&str]) -> Ran {
    run(fetchfs().arg("doctor").args(words))
}

/// The state of a subject in the section of this name: `good`, `note` or `bad`.
fn state(ran: &Ran, section: &str, subject: &str) -> Option<String> {
    let sections: Value = serde_json::from_str(&ran.out).expect("JSON");
    let sections = sections.as_array().expect("an array");
    let section = sections.iter().find(|found| found["of"] == section)?;
    let findings = section["findings"].as_array().expect("findings");
    let finding = findings.iter().find(|finding| finding["subject"] == subject)?;
    Some(finding["state"].as_str().expect("a state").to_owned())
}

fn cache_arguments(dir: &std::path::Path) -> [String; 2] {
    ["--cache-dir".to_owned(), dir.display().to_string()]
}

#[test]
fn doctor_finds_a_good_server_good() {
    let origin = Origin::start();
    origin.add("/d/f", Content::noise(1000, 1));
    let url = origin.url("/d/");
    let ran = doctor(&["--json", &url]).succeeded();
    for subject in ["name", "source", "versions", "ranges"] {
        assert_eq!(
            state(&ran, &url, subject).as_deref(),
            Some("good"),
            "{subject}: {}",
            ran.out
        );
    }
    assert_eq!(state(&ran, "this machine", "/dev/fuse").as_deref(), Some("good"));
}

#[test]
fn doctor_names_what_a_server_lacks() {
    let origin = Origin::start();
    origin.add("/f", Content::noise(1000, 1));
    origin.on("/f").fault(Fault::IgnoreRange(Framing::Length));
    let url = origin.url("/f");
    let ran = doctor(&["--json", &url]).succeeded();
    assert_eq!(state(&ran, &url, "ranges").as_deref(), Some("note"), "{}", ran.out);

    for (url, subject) in [
        (NOBODY.to_owned(), "source"),
        ("http://nothing.invalid/".to_owned(), "name"),
        (origin.url("/absent"), "source"),
    ] {
        let ran = doctor(&["--json", &url]);
        assert_eq!(ran.code, 1, "{url}");
        assert_eq!(state(&ran, &url, subject).as_deref(), Some("bad"), "{}", ran.out);
    }
}

#[test]
fn doctor_takes_the_options_of_a_mount() {
    let origin = Origin::start();
    origin.add("/d/f", Content::noise(1000, 1));
    origin.on("/d/f").fault(Fault::Demand("x-key", "1".to_owned()));
    let url = origin.url("/d/");
    let dir = temporary_directory();
    let cache = cache_arguments(&dir.path().join("cache"));
    let with_header = |header: &[&str]| {
        let words: Vec<&str> = ["--json", &cache[0], &cache[1]]
            .into_iter()
            .chain(header.iter().copied())
            .chain([url.as_str()])
            .collect();
        doctor(&words)
    };
    let ran = with_header(&["--header", "X-Key: 1"]).succeeded();
    assert_eq!(state(&ran, &url, "ranges").as_deref(), Some("good"), "{}", ran.out);
    let ran = with_header(&[]);
    assert_eq!(ran.code, 1);
    assert_eq!(state(&ran, &url, "file").as_deref(), Some("bad"), "{}", ran.out);
    assert!(!dir.path().join("cache").exists(), "nothing is made");
}

#[test]
fn doctor_examines_a_mount_by_its_socket() {
    let origin = Origin::start();
    origin.add("/f", Content::noise(1000, 1));
    let mut mount = Mount::start_of(&origin.url("/"));
    let root = mount.root();
    let path = root.to_str().expect("text");
    let ran = doctor(&["--json", path]).succeeded();
    assert_eq!(state(&ran, path, "mount").as_deref(), Some("good"), "{}", ran.out);
    assert_eq!(state(&ran, path, "server").as_deref(), Some("good"), "{}", ran.out);
    mount.kill();
    let ran = doctor(&["--json", path]);
    assert_eq!(ran.code, 1);
    assert_eq!(state(&ran, "a mount", "mount").as_deref(), Some("bad"), "{}", ran.out);
    detach(&root);
}

#[test]
fn bug_report_has_the_mounts_and_no_secret() {
    let origin = Origin::start();
    origin.add("/f", Content::noise(1000, 1));
    let url = origin.url("/").replace("http://", "http://ann:hunter2@");
    let mount = Mount::start_of(&url);
    let dir = temporary_directory();
    let file = dir.path().join("report");
    let report = |file: &std::path::Path| {
        let mut command = fetchfs();
        command.env("FETCHFS_BEARER_TOKEN", "hunter2");
        run(command.arg("bugreport").arg("--output").arg(file))
    };
    report(&file).succeeded();
    let text = std::fs::read_to_string(&file).expect("a report");
    assert!(text.contains(&mount.root().display().to_string()), "{text}");
    assert!(text.contains("FETCHFS_BEARER_TOKEN"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    // It does not replace what is there.
    assert_eq!(report(&file).code, 1);
    mount.signal(Signal::SIGTERM);
}
