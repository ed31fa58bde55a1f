//! `fetchfs get` and `fetchfs set`: options of a running mount are shown with their origins, and change at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fetchfs::internals::events;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::files::{self, errno_of, sha256, sha256_of};
use crate::common::process::{Ran, assert_refuses};
use crate::common::{Mount, fetchfs, run, temporary_directory, wait_until};
use crate::origin::{Content, Fault, Gate, Origin};
use crate::prefetch_jobs::wait_until_jobs;
use crate::prefetching::{prefetch, wait_until_no_job_is_left};

const MIB: u64 = 1 << 20;

fn origin_with(files: &[(&str, u64)]) -> Origin {
    let origin = Origin::start();
    for (number, (path, size)) in files.iter().enumerate() {
        origin.add(path, Content::noise(*size, number as u64));
    }
    origin
}

fn set(mount: &Mount, assignments: &[&str]) -> Ran {
    run(fetchfs().arg("set").arg(mount.root()).args(assignments))
}

/// What `fetchfs get --json` says of an option.
fn option(mount: &Mount, key: &str) -> Value {
    let ran = run(fetchfs().args(["get", "--json"]).arg(mount.root()).arg(key)).succeeded();
    let options: Value = serde_json::from_str(&ran.out).expect("JSON");
    options[0].clone()
}

fn value(mount: &Mount, key: &str) -> String {
    let ran = run(fetchfs().arg("get").arg(mount.root()).arg(key)).succeeded();
    ran.out.trim_end().to_owned()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("to write");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("to protect");
}

/// Each origin of an option, by one that has it; a secret is not shown.
#[test]
fn get_shows_values_and_their_origins() {
    let (origin, home) = (origin_with(&[("/a", 1000)]), temporary_directory());
    let config = home.path().join("config");
    write(&config, "# mine\nretries = 5\nheader = \"X-Key: hunter2\"\n");
    let mount = Mount::of(&origin.url("/"))
        .with("--config", config.to_str().expect("text"))
        .with("--cache-size", "1GiB")
        .with("-o", "attr_ttl=20s,allow_other")
        .with_env("FETCHFS_MAX_CONNECTIONS", "7")
        .start();
    let expect = |key: &str, value: &str, from: &str, place: Option<String>| {
        let option = option(&mount, key);
        assert_eq!(option["value"], value, "{option}");
        assert_eq!(option["from"], from, "{option}");
        assert_eq!(option["place"], place.map_or(Value::Null, Value::from), "{option}");
    };
    let line = |number: usize| Some(format!("{}:{number}", config.display()));
    expect("retries", "5", "config_file", line(2));
    expect("header", "***", "config_file", line(3));
    expect("cache_size", "1GiB", "flag", None);
    expect("attr_ttl", "20s", "mount_option", None);
    expect("allow_other", "true", "mount_option", None);
    expect(
        "max_connections",
        "7",
        "environment",
        Some("FETCHFS_MAX_CONNECTIONS".to_owned()),
    );
    expect("chunk_size", "256KiB", "default", None);
    set(&mount, &["cache_size=512MiB"]).succeeded();
    expect("cache_size", "512MiB", "set", None);
    let all = run(fetchfs().arg("get").arg(mount.root())).succeeded().out;
    assert!(all.lines().any(|line| line.starts_with("chunk_size ")), "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn a_mistake_changes_nothing() {
    let origin = origin_with(&[("/a", 1000)]);
    let mount = Mount::of(&origin.url("/")).with("--cache-size", "1GiB").start();
    let mistakes: [(&[&str], &[&str]); 8] = [
        (
            &["attr_ttl=1h", "bwlimitt=1MB"],
            &["`bwlimitt`", "did you mean `bwlimit`?"],
        ),
        (&["attr_ttl=1h", "bwlimit=10Mbit/s"], &["`bwlimit`", "bytes per second"]),
        (
            &["attr_ttl=1h", "chunk_size=1MiB"],
            &["`chunk_size`", "can't change", "bwlimit"],
        ),
        (&["attr_ttl=1h", "cache_size=1MiB"], &["at least"]),
        (&["attr_ttl=1h", "password_file=/none"], &["`password_file`"]),
        (&["attr_ttl=1h", "netrc_file=/none"], &["/none"]),
        (&["attr_ttl=1h", "attr_ttl=2h"], &["`attr_ttl`", "twice"]),
        (&["attr_ttl=1h", "offline"], &["`offline`", "a value is missing"]),
    ];
    for (assignments, words) in mistakes {
        assert_refuses(&set(&mount, assignments), words);
        assert_eq!(value(&mount, "attr_ttl"), "10s");
    }
    assert_eq!(mount.events(events::OPTION_CHANGED), 0);
    assert_refuses(
        &run(fetchfs().arg("get").arg(mount.root()).arg("cash_size")),
        &["`cash_size`", "did you mean `cache_size`?"],
    );
}

/// At the first rate, the read would take an hour.
#[test]
fn another_rate_frees_a_read_that_waits() {
    let origin = origin_with(&[("/a", 4 * MIB)]);
    let mount = Mount::of(&origin.url("/")).with("--bwlimit", "1KiB").start();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| sha256(&mount.path("a")));
        origin
            .log()
            .wait_for("a request for bytes", |all| !all.data("/a").is_empty());
        set(&mount, &["bwlimit=00:00-24:00=500MB"]).succeeded();
        assert_eq!(reader.join().expect("to read"), sha256_of(&Content::noise(4 * MIB, 0)));
    });
    mount.wait_for_event_with(events::OPTION_CHANGED, "bwlimit", 1);
}

#[test]
fn smaller_cache_evicts_at_once() {
    let origin = origin_with(&[("/a", 64 * MIB)]);
    let mount = Mount::of(&origin.url("/")).with("--cache-size", "1GiB").start();
    let content = sha256_of(&Content::noise(64 * MIB, 0));
    assert_eq!(sha256(&mount.path("a")), content);
    let cached = || {
        let ran = run(fetchfs().args(["status", "--json"]).arg(mount.root())).succeeded();
        let status: Value = serde_json::from_str(&ran.out).expect("JSON");
        (
            status[0]["cached_bytes"].as_u64().expect("a number"),
            status[0]["cache_limit"].as_u64().expect("a number"),
        )
    };
    assert_eq!(cached().1, 1 << 30);
    set(&mount, &["cache_size=32MiB"]).succeeded();
    wait_until("what is too much is evicted", || cached().0 <= 32 * MIB);
    assert_eq!(cached().1, 32 * MIB);
    files::drop_pages(&mount.path("a"));
    assert_eq!(sha256(&mount.path("a")), content);
}

#[test]
fn more_connections_are_used_at_once() {
    let files = [("/a", 1000), ("/b", 1000), ("/c", 1000)];
    let (origin, gate) = (origin_with(&files), Gate::new());
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "1").start();
    fs::read_dir(mount.root()).expect("to list").for_each(drop);
    for (path, _) in files {
        origin.on(path).data().fault(Fault::Hold(gate.clone()));
    }
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let path = mount.path(name);
            scope.spawn(move || fs::read(path).expect("to read"));
        }
        gate.wait_for_arrivals(1);
        set(&mount, &["max_connections=3"]).succeeded();
        gate.wait_for_arrivals(3);
        gate.open();
    });
}

#[test]
fn offline_and_back() {
    let origin = origin_with(&[("/a", 1000), ("/b", 1000)]);
    let mount = Mount::start_of(&origin.url("/"));
    sha256(&mount.path("a"));
    set(&mount, &["offline=true"]).succeeded();
    let mark = origin.log().mark();
    assert_eq!(errno_of(fs::read(mount.path("b"))), libc::ENETUNREACH);
    files::drop_pages(&mount.path("a"));
    sha256(&mount.path("a"));
    prefetch(&["--background"], &[mount.path("b")]).succeeded();
    wait_until_jobs(&mount, "it waits", |shown| shown.contains("this mount is offline"));
    assert_eq!(origin.log().mark(), mark, "nothing is asked");
    set(&mount, &["offline=false"]).succeeded();
    wait_until_no_job_is_left(&mount);
    assert_eq!(fs::read(mount.path("b")).expect("to read").len(), 1000);
}

#[test]
fn shorter_ttl_shows_new_names() {
    let origin = origin_with(&[("/a", 1000)]);
    let mount = Mount::of(&origin.url("/")).with("--attr-ttl", "1h").start();
    let names = || fs::read_dir(mount.root()).expect("to list").count();
    assert_eq!(names(), 1);
    origin.add("/b", Content::noise(1000, 1));
    assert_eq!(names(), 1);
    set(&mount, &["attr_ttl=0"]).succeeded();
    assert_eq!(names(), 2);
    origin.add("/c", Content::noise(1000, 2));
    assert_eq!(names(), 3);
}

#[test]
fn read_ahead_can_be_turned_off() {
    let origin = origin_with(&[("/a", 40 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    set(&mount, &["read_ahead=0"]).succeeded();
    let file = files::open_direct(&mount.path("a"));
    for step in 0..64 {
        files::read_direct(&file, step << 16, 1 << 16).expect("to read");
    }
    let ran = run(fetchfs().args(["map", "--json"]).arg(mount.path("a"))).succeeded();
    let map: Value = serde_json::from_str(&ran.out).expect("JSON");
    let cached = serde_json::json!([{ "start": 0, "end": 4 * MIB }]);
    assert_eq!(
        (&map[0]["cached"], &map[0]["wanted"]),
        (&cached, &serde_json::json!([])),
        "{map}"
    );
}

#[test]
fn password_file_is_read_again() {
    let (origin, home) = (origin_with(&[("/a", 1000), ("/b", 1000)]), temporary_directory());
    let password = home.path().join("password");
    // Base64 of ann:one and ann:two.
    let demand = |secret: &str| Fault::Demand("Authorization", format!("Basic {secret}"));
    let challenge = || Fault::Header("WWW-Authenticate", "Basic realm=\"r\"");
    let first = origin.on_any().fault(demand("YW5uOm9uZQ=="));
    let challenged = origin.on_any().fault(challenge());
    write(&password, "one\n");
    let mount = Mount::of(&origin.url("/"))
        .with("--login", "ann")
        .with("--password-file", password.to_str().expect("text"))
        .start();
    sha256(&mount.path("a"));
    first.lift();
    challenged.lift();
    origin.on_any().fault(demand("YW5uOnR3bw=="));
    origin.on_any().fault(challenge());
    assert_eq!(errno_of(fs::read(mount.path("b"))), libc::EACCES);
    write(&password, "two\n");
    set(&mount, &[&format!("password_file={}", password.display())]).succeeded();
    assert_eq!(fs::read(mount.path("b")).expect("to read").len(), 1000);
}

/// What only `-v` shows is shown, and is not.
#[test]
fn log_level_changes_at_once() {
    let origin = origin_with(&[("/a", 1000)]);
    let mount = Mount::of(&origin.url("/")).with("--retries", "0").start();
    fs::metadata(mount.path("a")).expect("it is there");
    origin.on("/a").data().fault(Fault::Status(403));
    let prefetch = || run(fetchfs().arg("prefetch").arg(mount.path("a")));
    set(&mount, &["verbose=0"]).succeeded();
    assert_ne!(prefetch().code, 0);
    set(&mount, &["verbose=1"]).succeeded();
    assert_eq!(mount.events(events::PREFETCH_FAILED), 0);
    assert_ne!(prefetch().code, 0);
    mount.wait_for_event(events::PREFETCH_FAILED, 1);
}

#[test]
fn hangup_reads_the_config_file_again() {
    let (origin, home) = (origin_with(&[("/a", 1000)]), temporary_directory());
    let config = home.path().join("config");
    write(&config, "bwlimit = \"1MB\"\nread_ahead = \"1MiB\"\nattr_ttl = \"1m\"\n");
    let mount = Mount::of(&origin.url("/"))
        .with("--config", config.to_str().expect("text"))
        .with("--attr-ttl", "5s")
        .start();
    set(&mount, &["read_ahead=2MiB"]).succeeded();
    write(
        &config,
        "\nbwlimit = \"2MB\"\nread_ahead = \"3MiB\"\nattr_ttl = \"2m\"\n",
    );
    mount.signal(Signal::SIGHUP);
    mount.wait_for_event_with(events::OPTION_CHANGED, "2MB", 1);
    let place = format!("{}:2", config.display());
    let limit = option(&mount, "bwlimit");
    assert_eq!(
        (&limit["value"], &limit["place"]),
        (&Value::from("2MB"), &Value::from(place))
    );
    // Both are stronger than the file.
    assert_eq!(
        (value(&mount, "read_ahead"), value(&mount, "attr_ttl")),
        ("2MiB".into(), "5s".into())
    );
    write(&config, "bwlimit = \"fast\"\n");
    mount.signal(Signal::SIGHUP);
    mount.wait_for_event(events::RELOAD_FAILED, 1);
    assert_eq!(value(&mount, "bwlimit"), "2MB");
    write(&config, "");
    mount.signal(Signal::SIGHUP);
    mount.wait_for_event_with(events::OPTION_CHANGED, "off", 1);
    assert_eq!(option(&mount, "bwlimit")["from"], "default");
}

/// What has less effect than it says is told: the smallest size of all mounts of a cache counts.
#[test]
fn set_says_what_another_mount_limits() {
    let origin = origin_with(&[("/a", 1000)]);
    let first = Mount::of(&origin.url("/")).with("--cache-size", "64MiB").start();
    let cache = first.cache();
    let second = Mount::of(&origin.url("/"))
        .with("--cache-dir", cache.to_str().expect("text"))
        .with("--cache-size", "64MiB")
        .start();
    let ran = set(&second, &["cache_size=1GiB"]).succeeded();
    assert!(
        ran.err.contains("cache_size") && ran.err.contains("64.0 MiB"),
        "{ran:?}"
    );
    assert!(option(&second, "cache_size")["note"].is_string());
    let ran = set(&first, &["cache_size=1GiB", "read_ahead=1GiB"]).succeeded();
    assert!(
        !ran.err.contains("cache_size:") && ran.err.contains("read_ahead: no more than 32.0 MiB"),
        "{ran:?}"
    );
    assert!(option(&second, "cache_size")["note"].is_null());
}

/// Each source has its own; the size of the cache is for all.
#[test]
fn options_of_sources_change_in_the_file_of_a_library() {
    let (origin, home) = (origin_with(&[("/a", 1000)]), temporary_directory());
    let library = home.path().join("library.toml");
    let source = format!("[[source]]\nurl = \"{}\"\n", origin.url("/"));
    write(&library, &format!("cache_size = \"1GiB\"\n{source}"));
    let mount = Mount::start_of(library.to_str().expect("text"));
    assert_eq!(option(&mount, "cache_size")["from"], "library");
    assert_refuses(
        &set(&mount, &["bwlimit=2MB", "attr_ttl=1m"]),
        &["`attr_ttl`", "fetchfs reload"],
    );
    assert_eq!(value(&mount, "bwlimit"), "off");
    write(
        &library,
        &format!("\ncache_size = \"512MiB\"\nbwlimit = \"2MB\"\n{source}"),
    );
    run(fetchfs().arg("reload").arg(mount.root())).succeeded();
    assert_eq!(
        (value(&mount, "bwlimit"), value(&mount, "cache_size")),
        ("2MB".into(), "512MiB".into())
    );
    assert_eq!(
        option(&mount, "cache_size")["place"],
        format!("{}:2", library.display())
    );
    set(&mount, &["bwlimit=3MB"]).succeeded();
    assert_eq!(value(&mount, "bwlimit"), "3MB");
}
