//! The log reports each kind of failure once, and its count.

use std::fs::{self, File};

use crate::common::Mount;
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
    for said in ["using cached metadata", "showing the cached listing"] {
        let (lines, times) = said_in(&mount.log(), said);
        assert!(lines <= FEW, "{lines} lines say {said:?}");
        assert!(times >= TIMES / 2, "{said:?} was counted {times} times");
    }
}

/// The number of log lines with this text, and the number of occurrences that they count.
pub fn said_in(log: &str, text: &str) -> (usize, usize) {
    let lines: Vec<_> = log.lines().filter(|line| line.contains(text)).collect();
    let count = |line: &str| {
        let after = |word: &str| line.rsplit_once(word).map(|(_, rest)| rest.to_owned());
        let number = after("the last of ").or_else(|| after(" ("));
        let number = number.filter(|_| line.contains(" more time") || line.contains(" like it in "));
        number
            .and_then(|text| text.split(' ').next()?.parse().ok())
            .unwrap_or(1)
    };
    (lines.len(), lines.iter().map(|line| count(line)).sum())
}
