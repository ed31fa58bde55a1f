//! The state of a mount at one moment.

use serde::{Deserialize, Serialize};

use crate::cache::OriginStatus;
use crate::source::library::{MemberState, MemberStatus};

/// What `fetchfs status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The mounted URLs, without secrets.
    pub source: String,
    /// The kinds of these sources, as `--type` has them, each once.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The sources of a library, in the order of its file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The mountpoint.
    pub mountpoint: String,
    /// Bind mounts of the mountpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
    /// The daemon's process id.
    pub pid: u32,
    /// The daemon's version.
    pub version: String,
    /// Seconds since the mount began.
    pub mounted_for: u64,
    /// The cache directory.
    pub cache_dir: String,
    /// Bytes in the cache, over all mounts that share it.
    pub cached_bytes: u64,
    /// Most bytes that the cache may take on the disk.
    pub cache_limit: u64,
    /// Why reads bypass the cache now, if they do: a sentence without its full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_trouble: Option<String>,
    /// Number of files in the listings fetched so far.
    pub known_files: u64,
    /// Sum of their sizes in bytes.
    pub known_bytes: u64,
    /// What the listings name and the mount does not show, if anything: a sentence without its full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Bytes fetched since the mount began.
    pub fetched_bytes: u64,
    /// Bytes per second now, from a short sample.
    pub fetching_rate: u64,
    /// Number of prefetch jobs in the background.
    pub jobs: usize,
    /// The origins that served data to this mount.
    pub origins: Vec<Origin>,
    /// The origins that are down, unreachable or overloaded, for data or metadata.
    #[serde(default)]
    pub down: Vec<Down>,
}

/// A source of a library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Its place in the mount, relative to the mountpoint; empty for the root.
    pub at: String,
    /// Its URL, without secrets.
    pub url: String,
    /// Its kind, as `--type` has it; `None` before that is known.
    pub kind: Option<String>,
    /// Whether it gives its names.
    pub state: SourceState,
    /// Why not: a sentence without its full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// Whether a source gives its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceState {
    /// It was not asked yet.
    Unasked,
    /// It gave them when it was last asked.
    Up,
    /// It did not.
    Down,
}

impl From<MemberStatus> for Source {
    fn from(status: MemberStatus) -> Source {
        let (state, reason, since) = match status.state {
            MemberState::Unasked => (SourceState::Unasked, None, None),
            MemberState::Up => (SourceState::Up, None, None),
            MemberState::Down { reason, since } => (SourceState::Down, Some(reason), Some(since)),
        };
        Source {
            at: status.place,
            url: status.url,
            kind: status.kind.map(str::to_owned),
            state,
            reason,
            seconds: since.map(|since| since.elapsed().as_secs()),
        }
    }
}

/// An origin that is paused after failures, except for occasional probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Down {
    /// Scheme, host and port.
    pub origin: String,
    /// Seconds since its first failure.
    pub seconds: u64,
    /// The last failure: a sentence without its full stop.
    pub reason: String,
}

impl From<crate::origin::DownOrigin> for Down {
    fn from(down: crate::origin::DownOrigin) -> Down {
        Down {
            origin: down.origin.to_string(),
            seconds: down.time.as_secs(),
            reason: down.why.to_string(),
        }
    }
}

/// The traffic to one origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Scheme, host and port.
    pub origin: String,
    /// Data requests in flight.
    pub fetches: usize,
    /// Current connection limit. Below the configured one after the server has refused requests.
    pub connections: usize,
    /// Number of reads and prefetches that wait for bytes.
    pub waiters: usize,
    /// Bytes that are wanted but not requested yet.
    pub wanted_bytes: u64,
    /// Measured milliseconds from a request to its response; `None` before the first response.
    pub latency_ms: Option<f64>,
    /// Measured bytes per second of one connection.
    pub connection_rate: Option<u64>,
}

impl From<OriginStatus> for Origin {
    fn from(status: OriginStatus) -> Origin {
        Origin {
            origin: status.origin,
            fetches: status.fetches,
            connections: status.connections,
            waiters: status.waiters,
            wanted_bytes: status.wanted_bytes,
            latency_ms: status
                .latency_and_rate
                .map(|(latency, _)| (latency * 1e4).round() / 10.0),
            connection_rate: status.latency_and_rate.map(|(_, rate)| rate as u64),
        }
    }
}
