//! The state of a mount at one moment: what `status`, `top` and metrics show.
//!
//! [`measure()`] puts it together; the parts are [`activity`], [`reads`] and [`origin`]. [`health`] says whether the mount does
//! its work, and [`live`] adds the maps of open files.

mod activity;
mod health;
mod live;
mod measure;
mod origin;
mod processes;
mod reads;
mod tier;

use serde::{Deserialize, Serialize};

pub(crate) use activity::{ErrorCount, OpenFile, SeenFailure, Totals, Waiting, WaitingRead};
pub(crate) use health::Health;
pub(super) use measure::measure;
pub(crate) use origin::{Down, Origin};
pub(crate) use processes::{CLASSES, ProgramTraffic};
pub(crate) use reads::{Latency, Reads};
pub(crate) use tier::{Tier, TierName, TierNode};

use crate::source::library::{MemberState, MemberStatus};
pub(crate) use crate::stats::Process;

/// What `fetchfs status` shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// When the mount began, in seconds since 1970.
    #[serde(default)]
    pub mounted_at: u64,
    /// Where its log is, for people.
    #[serde(default)]
    pub log: String,
    /// Where its status page is, if it has one: a URL, or `unix:PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The options that are set, as flags, without secrets. `fetchfs get` has all of them.
    #[serde(default)]
    pub options: Vec<String>,
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
    /// Bytes fetched since the mount began: [`Totals::fetched_bytes`].
    pub fetched_bytes: u64,
    /// What has happened since then.
    #[serde(default)]
    pub totals: Totals,
    /// How long reads took since then, and why their bytes were not here.
    #[serde(default)]
    pub reads: Reads,
    /// What waits now, and for what.
    #[serde(default)]
    pub waiting: Waiting,
    /// Number of files that programs have open.
    #[serde(default)]
    pub open_file_count: u64,
    /// The first of them, at most [`MOST_OPEN`](activity::MOST_OPEN).
    #[serde(default)]
    pub open_files: Vec<OpenFile>,
    /// The programs that have read, those with most bytes from servers first.
    #[serde(default)]
    pub programs: Vec<ProgramTraffic>,
    /// The number of errors that programs got, by operation and errno.
    #[serde(default)]
    pub errors: Vec<ErrorCount>,
    /// The last failures that programs saw, the last one first.
    #[serde(default)]
    pub failures: Vec<SeenFailure>,
    /// Bytes per second now, from a short sample; `None` if the request did without.
    pub fetching_rate: Option<u64>,
    /// Number of prefetch jobs in the background.
    pub jobs: usize,
    /// The origins that were asked for anything.
    pub origins: Vec<Origin>,
    /// The origins that are down, unreachable or overloaded, for data or metadata.
    #[serde(default)]
    pub down: Vec<Down>,
    /// The cache that several machines share, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
}

impl Status {
    /// The origins, without the nodes of the tier, which are shown apart.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Origin> {
        self.origins.iter().filter(|origin| !origin.is_tier_node)
    }
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
