//! The last failures that programs saw: what `status` shows when a read has ended in an error.
//!
//! A failure that comes again is counted instead of listed again: one entry for each operation, URL, errno and HTTP
//! status. The list is bounded, and the failure that was seen longest ago makes way.

use std::collections::BTreeMap;
use std::time::SystemTime;

use parking_lot::Mutex;

/// Most failures that are remembered: more than a person reads, few enough for one screen of JSON.
const MOST: usize = 32;

/// What a program did when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// It looked up a name, or asked for the size and date of a file.
    Lookup,
    /// It listed a directory.
    List,
    /// It opened a file.
    Open,
    /// It read from a file.
    Read,
}

/// A failure, and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailureRecord {
    /// What the program did.
    pub operation: Operation,
    /// The URL that was asked, without secrets; empty if the failure is of none.
    pub url: String,
    /// The errno that the program got.
    pub errno: i32,
    /// The status of the server's response, if that is the reason.
    pub http_status: Option<u16>,
    /// The last reason: a sentence without its full stop and without the URL.
    pub reason: String,
    /// How often it was seen.
    pub count: u64,
    /// When it was first seen.
    pub first: SystemTime,
    /// When it was last seen.
    pub last: SystemTime,
}

/// The failures of one mount.
#[derive(Debug, Default)]
pub(crate) struct FailureLog {
    /// Locked for the moment of one failure, never on the path of a read that succeeds. The one seen longest ago is
    /// first.
    seen: Mutex<Vec<FailureRecord>>,
    /// The number of all failures, by operation and errno. Locked for the moment of one failure.
    counts: Mutex<BTreeMap<(Operation, i32), u64>>,
}

impl FailureLog {
    /// A program has got an error.
    pub(crate) fn note(&self, operation: Operation, url: &str, errno: i32, http_status: Option<u16>, reason: String) {
        *self.counts.lock().entry((operation, errno)).or_default() += 1;
        let now = SystemTime::now();
        let mut seen = self.seen.lock();
        let known = seen.iter().position(|known| {
            known.operation == operation && known.errno == errno && known.http_status == http_status && known.url == url
        });
        let failure = match known {
            Some(at) => {
                let known = seen.remove(at);
                FailureRecord {
                    count: known.count + 1,
                    last: now,
                    reason,
                    ..known
                }
            }
            None => FailureRecord {
                operation,
                url: url.to_owned(),
                errno,
                http_status,
                reason,
                count: 1,
                first: now,
                last: now,
            },
        };
        if seen.len() == MOST {
            seen.remove(0);
        }
        seen.push(failure);
    }

    /// The failures, the last one first.
    pub(crate) fn list(&self) -> Vec<FailureRecord> {
        self.seen.lock().iter().rev().cloned().collect()
    }

    /// The number of all failures, by operation and errno. Numbers only grow.
    pub(crate) fn counts(&self) -> BTreeMap<(Operation, i32), u64> {
        self.counts.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(log: &FailureLog, url: &str, errno: i32) {
        log.note(
            Operation::Read,
            url,
            errno,
            Some(500),
            "the server answered 500".to_owned(),
        );
    }

    #[test]
    fn repeated_failure_is_counted() {
        let log = FailureLog::default();
        for (url, errno) in [
            ("http://h/a", 5),
            ("http://h/b", 5),
            ("http://h/a", 5),
            ("http://h/a", 13),
        ] {
            note(&log, url, errno);
        }
        let seen = log.list();
        let short: Vec<_> = seen.iter().map(|seen| (&*seen.url, seen.errno, seen.count)).collect();
        assert_eq!(
            short,
            [("http://h/a", 13, 1), ("http://h/a", 5, 2), ("http://h/b", 5, 1)]
        );
        assert!(seen[1].first <= seen[1].last);
        let counts = log.counts();
        assert_eq!((counts[&(Operation::Read, 5)], counts[&(Operation::Read, 13)]), (3, 1));
    }

    #[test]
    fn list_is_bounded_and_forgets_the_oldest() {
        let log = FailureLog::default();
        (0..2 * MOST).for_each(|number| note(&log, &format!("http://h/{number}"), 5));
        let seen = log.list();
        assert_eq!(seen.len(), MOST);
        assert_eq!(seen[0].url, format!("http://h/{}", 2 * MOST - 1));
        assert_eq!(
            log.counts()[&(Operation::Read, 5)],
            2 * MOST as u64,
            "none is forgotten"
        );
    }
}
