//! The state of a mount at one moment.

use serde::{Deserialize, Serialize};

use super::Control;
use crate::cache::OriginStatus;

/// Time over which the rate is measured. Long enough for several buffers of a body, which arrive some ten times a
/// second at 1 MB/s. Short enough for a person who waits for the output.
const SAMPLE: std::time::Duration = std::time::Duration::from_millis(400);

/// What `fetchfs status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The mounted URLs, without secrets.
    pub source: String,
    /// The kinds of these sources, as `--type` has them, each once.
    #[serde(default)]
    pub kinds: Vec<String>,
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

/// An origin that is paused after failures, except for occasional probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// Scheme, host and port.
    pub origin: String,
    /// Seconds since its first failure.
    pub seconds: u64,
    /// The last failure: a sentence without its full stop.
    pub reason: String,
}

impl From<crate::origin::Down> for Down {
    fn from(down: crate::origin::Down) -> Down {
        Down {
            origin: down.origin.to_string(),
            seconds: down.time.as_secs(),
            reason: down.why.to_string(),
        }
    }
}

/// The traffic to one origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
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

impl Control {
    /// The state of the mount. Takes the time of one sample.
    pub(super) async fn status(&self) -> Status {
        let (_, before) = self.cache.manager().status();
        let began = tokio::time::Instant::now();
        tokio::time::sleep(SAMPLE).await;
        let (origins, fetched_bytes) = self.cache.manager().status();
        let rate = (fetched_bytes - before) as f64 / began.elapsed().as_secs_f64();
        let (known_files, known_bytes) = self.tree.known();
        let cached_bytes = self.with_cache(|cache| cache.cached_bytes()).await;
        Status {
            source: self.about.source.clone(),
            kinds: self.about.kinds.iter().map(|&kind| kind.to_owned()).collect(),
            mountpoint: self.about.mountpoint.display().to_string(),
            // The client reads its own mount table.
            elsewhere: Vec::new(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mounted_for: self.about.since.elapsed().as_secs(),
            cache_dir: self.about.cache_dir.display().to_string(),
            cached_bytes: cached_bytes.unwrap_or_default(),
            cache_limit: self.cache.limit(),
            cache_trouble: self.cache.trouble(),
            known_files,
            known_bytes,
            left_out: Some(self.tree.left_out())
                .filter(|left_out| !left_out.is_nothing())
                .map(|left_out| left_out.to_string()),
            fetched_bytes,
            fetching_rate: rate as u64,
            jobs: self.jobs.count(),
            origins: origins.into_iter().map(Origin::from).collect(),
            down: self.tree.servers_down().into_iter().map(Down::from).collect(),
        }
    }
}
