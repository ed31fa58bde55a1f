//! What a mount has done, and what it is doing: totals, waiting reads, open files and failures.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::control::protocol::TreePath;
use crate::http::redact;
use crate::stats::{FailureRecord, Operation, Phase, Process};

/// What has happened since the mount began. **These only grow**, so the difference of two readings is what happened in
/// between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Reads that were answered from the cache without a wait. Reads that the kernel carries out by itself (passthrough)
    /// are counted nowhere.
    pub hit_reads: u64,
    /// Their bytes.
    pub hit_bytes: u64,
    /// Reads that waited for the network and got their bytes.
    pub miss_reads: u64,
    /// Their bytes.
    pub miss_bytes: u64,
    /// Reads that ended with an error. Interrupted reads do not count.
    pub failed_reads: u64,
    /// Bytes of files that servers have sent.
    pub fetched_bytes: u64,
    /// Those of them that a program has read since, each once: in blocks of 1/64 of a chunk. The rest was fetched ahead,
    /// or by a prefetch, and not read so far.
    pub used_bytes: u64,
    /// Files of which this process's evictions have taken the last chunk.
    pub evicted_files: u64,
    /// Bytes of the disk that this process's evictions have freed.
    pub evicted_bytes: u64,
}

impl Totals {
    /// Bytes that were fetched and not read so far.
    pub(crate) fn over_fetched_bytes(&self) -> u64 {
        self.fetched_bytes.saturating_sub(self.used_bytes)
    }
}

/// The reads and other operations that wait now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Number of reads by what they wait for.
    pub reads: BTreeMap<Phase, u64>,
    /// The reads that have waited longest, at most [`MOST_WAITING`].
    pub longest: Vec<WaitingRead>,
    /// Number of look-ups, listings and opens that wait for a server.
    pub names: u64,
}

/// Most waiting reads in a status, and most open files. All of them are counted.
pub(crate) const MOST_WAITING: usize = 64;
/// Most open files in a status.
pub(crate) const MOST_OPEN: usize = 256;

/// A read that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitingRead {
    /// The file's URL, without secrets.
    pub url: String,
    /// The first byte that it misses.
    pub offset: u64,
    /// What it waits for.
    pub phase: Phase,
    /// Milliseconds since it began to wait.
    pub waited_ms: u64,
}

impl From<&crate::cache::WaitingRead> for WaitingRead {
    fn from(waiting: &crate::cache::WaitingRead) -> WaitingRead {
        WaitingRead {
            url: redact(waiting.entry.url()).to_string(),
            offset: waiting.bytes.start,
            phase: waiting.phase,
            waited_ms: u64::try_from(waiting.waited.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A file that a program has open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenFile {
    /// Its path below the mountpoint; `None` if no listing in memory has it any more.
    pub path: Option<TreePath>,
    /// Its URL, without secrets.
    pub url: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of it in the cache; whole chunks.
    pub cached_bytes: u64,
    /// Byte offset at which the last read through this handle ended.
    pub position: u64,
    /// Bytes read through this handle.
    pub read_bytes: u64,
    /// Whether the kernel reads it by itself, so that neither position nor bytes are known.
    pub is_passthrough: bool,
    /// The process that read last, if it is known.
    pub process: Option<Process>,
}

/// A failure that programs saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenFailure {
    /// What the program did.
    pub operation: Operation,
    /// The URL that was asked, without secrets; empty if the failure is of none.
    pub url: String,
    /// The name of the errno that the program got, as `EIO`.
    pub errno: String,
    /// The status of the server's response, if that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The last reason: a sentence without its full stop and without the URL.
    pub reason: String,
    /// How often it was seen.
    pub count: u64,
    /// When it was first seen, in seconds since 1970.
    pub first: u64,
    /// When it was last seen, in seconds since 1970.
    pub last: u64,
}

impl From<FailureRecord> for SeenFailure {
    fn from(seen: FailureRecord) -> SeenFailure {
        SeenFailure {
            operation: seen.operation,
            url: seen.url,
            errno: format!("{:?}", Errno::from_raw(seen.errno)),
            http_status: seen.http_status,
            reason: seen.reason,
            count: seen.count,
            first: seconds(seen.first),
            last: seconds(seen.last),
        }
    }
}

/// How many errors programs got of one kind. Only grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorCount {
    /// What the programs did.
    pub operation: Operation,
    /// The name of the errno that they got, as `EIO`.
    pub errno: String,
    /// How often, since the mount began.
    pub count: u64,
}

impl ErrorCount {
    /// From the counts of a mount.
    pub(super) fn all(counts: BTreeMap<(Operation, i32), u64>) -> Vec<ErrorCount> {
        let counts = counts.into_iter();
        counts
            .map(|((operation, errno), count)| ErrorCount {
                operation,
                errno: format!("{:?}", Errno::from_raw(errno)),
                count,
            })
            .collect()
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
