//! What is said over the control socket: one JSON value a line (docs/operations.md has examples).
//!
//! The server greets with a [`Hello`]; the client sends one [`Request`]; the server answers with [`Reply`]s, of which the
//! last says how it ended. A client that closes the connection takes its request back. Both sides use these types, so they
//! can't come to disagree; another version of fetchfs is known by the number in the greeting.

mod path;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use path::TreePath;

/// The version of all that is in this module. Another one is not spoken with.
pub const PROTOCOL: u32 = 1;

/// A request is not longer than this, in bytes: some thousand paths. Longer lines are not read to their end.
pub const LONGEST_REQUEST: u64 = 1 << 20;

/// A reply is not longer than this, in bytes. Lists of jobs and pins are the longest.
pub const LONGEST_REPLY: u64 = 64 << 20;

/// The server's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the program.
    pub fetchfs: String,
    /// [`PROTOCOL`].
    pub protocol: u32,
}

impl Hello {
    /// This program's.
    pub fn ours() -> Hello {
        Hello {
            fetchfs: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
        }
    }
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ByteRange {
    /// From one byte to another, exclusive; without an end, to the file's.
    From {
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: Option<u64>,
    },
    /// So many bytes at the end.
    Last(u64),
}

impl ByteRange {
    /// The bytes that it means in a file of `size` bytes.
    pub fn of(&self, size: u64) -> Range<u64> {
        match *self {
            ByteRange::From { start, end } => {
                let end = end.unwrap_or(size).min(size);
                start.min(end)..end
            }
            ByteRange::Last(bytes) => size.saturating_sub(bytes)..size,
        }
    }
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Files and directories.
    pub paths: Vec<TreePath>,
    /// Parts of the files; none means all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<ByteRange>,
    /// Whether directories in directories are gone into.
    #[serde(default)]
    pub recursive: bool,
}

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Fetch into the cache. Answered by [`Reply::Progress`] again and again, then [`Reply::Fetched`].
    Prefetch {
        /// What.
        wanted: Wanted,
    },
    /// The same as a job that outlives the connection and the mount. Answered by [`Reply::Started`].
    PrefetchInBackground {
        /// What.
        wanted: Wanted,
    },
    /// Answered by [`Reply::Jobs`].
    ListJobs,
    /// End a job. Answered by [`Reply::Done`].
    CancelJob {
        /// Its number in this mount.
        job: u64,
    },
    /// Keep files, and all that is below directories. Answered by [`Reply::Pinned`].
    Pin {
        /// What.
        paths: Vec<TreePath>,
        /// Whether what is not in the cache yet is fetched, by a job.
        fetch: bool,
    },
    /// Take pins back. Answered by [`Reply::Unpinned`].
    Unpin {
        /// What.
        paths: Vec<TreePath>,
    },
    /// Answered by [`Reply::Pins`].
    ListPins,
    /// Delete from the cache. Answered by [`Reply::Evicted`].
    Evict {
        /// What.
        paths: Vec<TreePath>,
        /// Whether directories stand for all that is below them; otherwise they are refused.
        recursive: bool,
        /// Whether pinned files go too.
        force: bool,
    },
    /// How the mount is. Answered by [`Reply::Status`].
    Status,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// How far it has come. More replies follow.
    Progress(Progress),
    /// It is over.
    Fetched(Fetched),
    /// The job goes on by itself.
    Started {
        /// Its number in this mount.
        job: u64,
    },
    /// All jobs of this mount.
    Jobs {
        /// In the order of their numbers.
        jobs: Vec<JobState>,
    },
    /// It is pinned, but for failures.
    Pinned {
        /// The job that fetches, if there is one.
        job: Option<u64>,
        /// What could not be pinned.
        failures: Vec<Failure>,
    },
    /// It is no longer pinned, but for failures.
    Unpinned {
        /// What is still pinned, or was not.
        failures: Vec<Failure>,
    },
    /// What is pinned in the cache of this mount.
    Pins {
        /// URLs without secrets; those of directories end in `/`.
        urls: Vec<String>,
    },
    /// It is gone from the cache, but for failures.
    Evicted {
        /// Files that are gone, each version counted.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// What stays, and why. What stays of a directory is one failure for each reason.
        failures: Vec<Failure>,
    },
    /// How the mount is.
    Status(Box<super::status::Status>),
    /// It is done.
    Done,
    /// It was not done.
    Refused {
        /// One sentence.
        reason: String,
    },
}

/// How far a prefetch has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Files that were found so far.
    pub files: u64,
    /// Files that are done, failed ones among them.
    pub files_done: u64,
    /// Files and directories that failed.
    pub failed: u64,
    /// Bytes that are wanted of the files found so far, by the best that is known of their sizes.
    pub bytes: u64,
    /// Of these, bytes that were in the cache before. Counted by chunks, as the next.
    pub bytes_had: u64,
    /// Of these, bytes that were fetched.
    pub bytes_fetched: u64,
    /// Whether more files may be found.
    pub is_searching: bool,
    /// Directories in directories that were left out, as it is not `recursive`.
    #[serde(default)]
    pub left_out: u64,
}

/// How a prefetch ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The last state.
    pub progress: Progress,
    /// The first failures.
    pub failures: Vec<Failure>,
}

/// A file or directory that could not be fetched, pinned or evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which.
    pub path: TreePath,
    /// Why: one sentence without its path.
    pub reason: String,
}

/// A job that goes on in the background.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// Its number in this mount.
    pub job: u64,
    /// What it fetches.
    pub wanted: Wanted,
    /// How far it has come since the mount was made or it was asked for.
    pub progress: Progress,
    /// Why it waits, if it does: for a new try, for another mount that does it, or for the next mount.
    pub waits_for: Option<Failure>,
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Request, serde_json::Error> {
        serde_json::from_str(line)
    }

    #[test]
    fn a_request_reads_as_it_is_documented() {
        let wanted = Wanted {
            paths: vec![TreePath::new("films/a b.mkv".into()).unwrap()],
            ranges: vec![
                ByteRange::From {
                    start: 0,
                    end: Some(65536),
                },
                ByteRange::Last(1024),
            ],
            recursive: false,
        };
        let line = r#"{"do":"prefetch","wanted":{"paths":["films/a b.mkv"],"ranges":[{"from":{"start":0,"end":65536}},{"last":1024}],"recursive":false}}"#;
        let request = Request::Prefetch { wanted };
        assert_eq!(parse(line).unwrap(), request);
        assert_eq!(serde_json::to_string(&request).unwrap(), line);
        assert_eq!(parse(r#"{"do":"status"}"#).unwrap(), Request::Status);
    }

    #[test]
    fn a_path_that_leads_out_or_is_no_name_is_refused() {
        for path in [
            r#""../x""#,
            r#""a/../b""#,
            r#""/etc""#,
            r#""a\u0000b""#,
            "[46,46]",
            "7",
            "[300]",
        ] {
            let line = format!(r#"{{"do":"prefetch","wanted":{{"paths":[{path}]}}}}"#);
            assert!(parse(&line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_range_is_clipped_to_the_file() {
        let from = |start, end| ByteRange::From { start, end };
        assert_eq!(from(10, Some(20)).of(100), 10..20);
        assert_eq!(from(10, None).of(100), 10..100);
        assert_eq!(from(90, Some(u64::MAX)).of(100), 90..100);
        assert!(from(200, Some(10)).of(100).is_empty());
        assert_eq!(ByteRange::Last(30).of(100), 70..100);
        assert_eq!(ByteRange::Last(300).of(100), 0..100);
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_panics(line in ".{0,60}") {
            let _ = parse(&line);
        }

        #[test]
        fn a_request_that_was_tampered_with_is_read_or_refused(at in 0usize..80, byte in any::<u8>()) {
            let mut line = br#"{"do":"prefetch","wanted":{"paths":["a/b",[255]],"ranges":[{"last":9}],"recursive":true}}"#.to_vec();
            let at = at % line.len();
            line[at] = byte;
            if let Ok(Request::Prefetch { wanted }) = serde_json::from_slice(&line) {
                let is_name = |part| matches!(part, Component::Normal(_));
                prop_assert!(wanted.paths.iter().all(|path| path.as_path().components().all(is_name)));
            }
        }

        #[test]
        fn a_range_never_leaves_the_file(start: u64, end: Option<u64>, last: u64, size: u64) {
            for range in [ByteRange::From { start, end }, ByteRange::Last(last)] {
                let bytes = range.of(size);
                prop_assert!(bytes.start <= bytes.end && bytes.end <= size);
            }
        }
    }
}
