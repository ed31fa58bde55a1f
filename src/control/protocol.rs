//! The protocol of the control socket: one JSON value a line (docs/operations.md has examples).
//!
//! The server greets with a [`Hello`]. The client sends one [`Request`]. The server sends [`Reply`]s; the last one
//! gives the result. A client that closes the connection cancels its request. Both sides use these types, and the
//! greeting's number reveals another version of fetchfs.

mod path;

use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};

pub(crate) use path::TreePath;

/// Version of the protocol. Both sides refuse any other version.
pub(crate) const PROTOCOL: u32 = 1;

/// Longest request in bytes: some thousand paths. Longer lines are not read to their end.
pub(crate) const LONGEST_REQUEST: u64 = 1 << 20;

/// Longest reply in bytes. Lists of jobs and pins are the longest.
pub(crate) const LONGEST_REPLY: u64 = 64 << 20;

/// The server's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The program's version.
    pub fetchfs: String,
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Whether the process goes on when the mount has ended: a Rust program serves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outlives_mount: bool,
}

impl Hello {
    /// The greeting of this version.
    pub(crate) fn of(outlives_mount: bool) -> Hello {
        Hello {
            fetchfs: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            outlives_mount,
        }
    }
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ByteRange {
    /// From one byte to another, exclusive, or to the end of the file.
    From {
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: Option<u64>,
    },
    /// The last bytes of the file, as many as given.
    Last(u64),
}

impl ByteRange {
    /// The range's byte positions in a file of `size` bytes.
    pub(crate) fn of(&self, size: u64) -> Range<u64> {
        match *self {
            ByteRange::From { start, end } => {
                let end = end.unwrap_or(size).min(size);
                start.min(end)..end
            }
            ByteRange::Last(bytes) => size.saturating_sub(bytes)..size,
        }
    }
}

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Files and directories.
    pub paths: Vec<TreePath>,
    /// Ranges of each file; empty means the whole file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<ByteRange>,
    /// Whether sub-directories are included.
    #[serde(default)]
    pub recursive: bool,
}

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Fetch into the cache. Answered by repeated [`Reply::Progress`], then [`Reply::Fetched`].
    Prefetch {
        /// The files to fetch.
        wanted: Wanted,
    },
    /// The same as a job that outlives the connection and the mount. Answered by [`Reply::Started`].
    PrefetchInBackground {
        /// The files to fetch.
        wanted: Wanted,
    },
    /// List the background jobs. Answered by [`Reply::Jobs`].
    ListJobs,
    /// Cancel a job. Answered by [`Reply::Done`].
    CancelJob {
        /// The job's number in this mount.
        job: u64,
    },
    /// Pin files, and everything below directories. Answered by [`Reply::Pinned`].
    Pin {
        /// The files and directories to pin.
        paths: Vec<TreePath>,
        /// Whether a job fetches what is not cached yet.
        fetch: bool,
    },
    /// Remove pins. Answered by [`Reply::Unpinned`].
    Unpin {
        /// The pinned files and directories.
        paths: Vec<TreePath>,
    },
    /// List the pins. Answered by [`Reply::Pins`].
    ListPins,
    /// Delete from the cache. Answered by [`Reply::Evicted`].
    Evict {
        /// The files and directories to evict.
        paths: Vec<TreePath>,
        /// Whether directories stand for everything below them; otherwise they are refused.
        recursive: bool,
        /// Whether pinned files are evicted too.
        force: bool,
    },
    /// Report which parts of files are cached, in flight and waited for. Answered by [`Reply::Maps`].
    Map {
        /// The files.
        paths: Vec<TreePath>,
    },
    /// Report the slowest recent reads of files, or of the files in directories. Answered by [`Reply::Explained`].
    Explain {
        /// The files and directories.
        paths: Vec<TreePath>,
    },
    /// Ask the servers what is there now. Answered by repeated [`Reply::Refreshing`], then [`Reply::Refreshed`].
    Refresh {
        /// The files and directories to refresh.
        paths: Vec<TreePath>,
        /// Whether everything that is known below directories is refreshed too.
        #[serde(default)]
        recursive: bool,
    },
    /// Report the state of the mount. Answered by [`Reply::Status`].
    Status {
        /// Whether to leave out the rate, which takes 0.4 s to measure.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        at_once: bool,
    },
    /// Report the options of the mount. Answered by [`Reply::Options`].
    GetOptions {
        /// Only this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Change options: all of them or none. Answered by [`Reply::Options`] with the new values.
    SetOptions {
        /// Each as `KEY=VALUE`.
        assignments: Vec<String>,
    },
    /// Change options as `mount -o remount` does: all of them or none, except for those that are so already. Answered by
    /// [`Reply::Options`] with those that have changed.
    Remount {
        /// The source in the user's words; another one is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Each as `KEY=VALUE`, or `KEY` alone for a switch.
        options: Vec<String>,
    },
    /// Report whether the mount does its work. No disk and no server is asked. Answered by [`Reply::Checked`].
    Check,
    /// Read the file of the library again. Answered by [`Reply::Reloaded`].
    Reload,
    /// Wait for the end of the mount. Answered by the end of the connection.
    AwaitEnd,
}

/// A reply of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Progress of a prefetch. More replies follow.
    Progress(Progress),
    /// The prefetch has ended.
    Fetched(Fetched),
    /// The job runs in the background.
    Started {
        /// The job's number in this mount.
        job: u64,
    },
    /// All jobs of this mount.
    Jobs {
        /// Ordered by their numbers.
        jobs: Vec<JobState>,
    },
    /// Pinned, except for the failures.
    Pinned {
        /// The job that fetches, if one was needed.
        job: Option<u64>,
        /// What could not be pinned.
        failures: Vec<Failure>,
    },
    /// Unpinned, except for the failures.
    Unpinned {
        /// Paths that are still pinned, or were not pinned.
        failures: Vec<Failure>,
    },
    /// The pins in the cache of this mount.
    Pins {
        /// URLs without secrets; those of directories end in `/`.
        urls: Vec<String>,
    },
    /// Evicted, except for the failures.
    Evicted {
        /// Number of evicted files; each version counts.
        files: u64,
        /// Number of evicted bytes.
        bytes: u64,
        /// What was not evicted, and why. A directory has one failure for each reason.
        failures: Vec<Failure>,
    },
    /// The maps of the files, except for the failures.
    Maps {
        /// In the order of the request.
        files: Vec<FileMap>,
        /// What has no map, and why.
        failures: Vec<Failure>,
    },
    /// How the reads of the files went, except for the failures.
    Explained {
        /// In the order of the request.
        files: Vec<super::explain::Explained>,
        /// What is not there, and why.
        failures: Vec<Failure>,
    },
    /// Progress of a refresh. More replies follow.
    Refreshing(Refreshed),
    /// The refresh has ended.
    Refreshed {
        /// What was found.
        counts: Refreshed,
        /// The first failures.
        failures: Vec<Failure>,
    },
    /// Options of the mount.
    Options {
        /// Ordered by their names. An option with several values has an element for each.
        options: Vec<OptionShown>,
    },
    /// The library has these sources now.
    Reloaded(Reloaded),
    /// The mount does its work.
    Checked {
        /// What it has to do without: one sentence each, without its full stop.
        notes: Vec<String>,
    },
    /// The state of the mount.
    Status(Box<super::status::Status>),
    /// The request was carried out.
    Done,
    /// The request was refused.
    Refused {
        /// The reason: one sentence.
        reason: String,
    },
}

/// An option of the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OptionShown {
    /// Its name, with `_`.
    pub key: String,
    /// Its value in the notation of the config file, without secrets; `None` if it has none.
    pub value: Option<String>,
    /// Where it comes from: `default`, `config_file`, `library`, `environment`, `mount_option`, `flag`, `set` or `program`.
    pub from: String,
    /// The file and line there, or the variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Whether `set` can change it.
    pub can_change: bool,
    /// Why its value has less effect than it says: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What is different after the file of a library was read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// Number of sources.
    pub sources: usize,
    /// The new ones: their URLs, without secrets.
    pub added: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
    /// Those with other options.
    pub changed: Vec<String>,
    /// Whether options of the mount have changed, which take effect at the next mount.
    pub needs_mount: bool,
}

/// The progress of a prefetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Files found so far.
    pub files: u64,
    /// Files done, including failed ones.
    pub files_done: u64,
    /// Files and directories that failed.
    pub failed: u64,
    /// Wanted bytes of the files found so far, by the best known sizes.
    pub bytes: u64,
    /// Wanted bytes that were cached before, counted by chunks.
    pub bytes_had: u64,
    /// Wanted bytes that were fetched, counted by chunks.
    pub bytes_fetched: u64,
    /// Whether more files may be found.
    pub is_searching: bool,
    /// Number of sub-directories left out, without `recursive`.
    #[serde(default)]
    pub left_out: u64,
}

/// The result of a prefetch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fetched {
    /// The final progress.
    pub progress: Progress,
    /// The first failures.
    pub failures: Vec<Failure>,
}

/// What a refresh has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refreshed {
    /// Directories that were listed.
    pub directories: u64,
    /// Files whose version was asked for.
    pub files: u64,
    /// Names that were not known before.
    pub new: u64,
    /// Names that the server has no more.
    pub gone: u64,
    /// Names whose file or directory is another one than before.
    pub changed: u64,
    /// Paths that could not be refreshed.
    pub failed: u64,
}

impl AddAssign for Refreshed {
    fn add_assign(&mut self, other: Refreshed) {
        self.directories += other.directories;
        self.files += other.files;
        self.new += other.new;
        self.gone += other.gone;
        self.changed += other.changed;
        self.failed += other.failed;
    }
}

/// A file or directory that could not be fetched, pinned, evicted or refreshed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The path, below the mountpoint.
    pub path: TreePath,
    /// The reason: one sentence without the path.
    pub reason: String,
}

/// Which parts of a file are cached, in flight and waited for. All positions are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileMap {
    /// The path, below the mountpoint.
    pub path: TreePath,
    /// Its URL, without credentials and query values.
    pub url: String,
    /// Its size, as `stat` shows it.
    pub size: u64,
    /// Size of its chunks.
    pub chunk_size: u64,
    /// The cached ranges, in order.
    pub cached: Vec<Range<u64>>,
    /// What fetches in flight will bring.
    pub in_flight: Vec<Range<u64>>,
    /// What is wanted, in flight or not.
    pub wanted: Vec<Range<u64>>,
    /// First missing byte of each read or prefetch that waits.
    pub waiting: Vec<u64>,
}

/// A background job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobState {
    /// The job's number in this mount.
    pub job: u64,
    /// What it fetches.
    pub wanted: Wanted,
    /// Progress since the mount began or the job was requested.
    pub progress: Progress,
    /// Why it waits, if it does: for a retry, for another mount that runs it, or for the next mount.
    pub waits_for: Option<Failure>,
    /// Seconds since it was done. Such jobs are listed for a while, after the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_for: Option<u64>,
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
        let status = Request::Status { at_once: false };
        assert_eq!(parse(r#"{"do":"status"}"#).unwrap(), status);
        assert_eq!(serde_json::to_string(&status).unwrap(), r#"{"do":"status"}"#);
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
