//! The log reports each kind of failure once, and its count.

use std::fs::{self, File};
use std::path::Path;

use fetchfs::internals::events;
use serde_json::Value;

use crate::common::ground::{Ground, hello, in_namespace};
use crate::common::{Mount, is_root};
use crate::origin::{Content, Fault, Origin};

/// How often each failure happens here.
pub const TIMES: usize = 100;

/// Most log lines for one place in the code: ten different ones, and a count of each, however slow the machine is.
pub const FEW: usize = 40;

#[test]
fn repeated_failures_are_logged_with_a_count() {
    let origin = Origin::start();
    for number in 0..TIMES {
        origin.add(&format!("/{number}"), Content::noise(1000, number as u64));
    }
    let mut mount = Mount::of(&origin.url("/"))
        .with("--attr-ttl", "0")
        .with("--retries", "0")
        .with("--read-timeout", "1s")
        .start();
    for number in 0..TIMES {
        fs::read(mount.path(number.to_string())).expect("to read");
    }
    origin.on_any().fault(Fault::Status(500));
    for number in 0..TIMES {
        // The last known answer of each is used, which is logged.
        File::open(mount.path(number.to_string())).expect("to open");
        assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), TIMES);
    }
    mount.unmount();
    for event in [events::METADATA_STALE, events::LISTING_STALE] {
        let (lines, times) = (mount.events(event), mount.log().occurrences(event));
        assert!(lines <= FEW, "{lines} lines of {event}");
        assert!(times >= TIMES / 2, "{event} was counted {times} times");
    }
}

#[test]
fn json_lines_name_their_events() {
    let origin = hello();
    let mut mount = Mount::of(&origin.url("/")).with("--log-format", "json").start();
    mount.unmount();
    let text = fs::read_to_string(mount.home().join("log")).expect("the log");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for event in ["mounted", "unmounting"] {
        assert!(lines.iter().any(|line| line["event"] == event), "{text}");
    }
    for line in &lines {
        assert!(
            line["time"].is_string() && line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
}

/// A machine without `/dev/log` and without a journal; `/var/log` is empty there.
#[test]
fn log_without_a_system_log_is_a_file() {
    if !is_root() {
        return;
    }
    let (origin, ground) = (hello(), Ground::new());
    let script = r#"
        mkdir "$1/dev"; mount -t tmpfs none "$1/dev"
        for device in null zero random urandom fuse; do
            touch "$1/dev/$device"; mount --bind "/dev/$device" "$1/dev/$device"
        done
        mount --rbind "$1/dev" /dev; mount -t tmpfs none /run
        "$FETCHFS" mount --cache-dir "$1/cache" "$2" "$1/mnt"
        "$FETCHFS" status --json "$1/mnt" >"$1/status"
        "$FETCHFS" unmount "$1/mnt"
        cat /var/log/fetchfs/*.log >"$1/log"
        ls /var/log/fetchfs
    "#;
    let ran = in_namespace(script, &[ground.home.path(), Path::new(&origin.url("/"))]).succeeded();
    let status = fs::read_to_string(ground.home.path().join("status")).expect("the status");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let shown = status[0]["log"].as_str().expect("text");
    assert_eq!(Path::new(shown), Path::new("/var/log/fetchfs").join(ran.out.trim()));
    let log = ground.log();
    assert_eq!((log.events(events::MOUNTED), log.events(events::UNMOUNTED)), (1, 1));
}
