//! How a mount is, at one moment.

use serde::{Deserialize, Serialize};

use super::Control;
use crate::cache::OriginStatus;

/// Over how long the rate is measured. Long enough for a body's pieces, which come some ten times a second at a
/// megabyte a second; short enough for somebody who waits for the answer.
const SAMPLE: std::time::Duration = std::time::Duration::from_millis(400);

/// What `fetchfs status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What is mounted, without secrets.
    pub source: String,
    /// Where.
    pub mountpoint: String,
    /// Where else: it was bound there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
    /// The daemon's process id.
    pub pid: u32,
    /// The daemon's version.
    pub version: String,
    /// Seconds since it was mounted.
    pub mounted_for: u64,
    /// Where fetched bytes are kept.
    pub cache_dir: String,
    /// Bytes in the cache, of all mounts that share it.
    pub cached_bytes: u64,
    /// Bytes that the cache may take on the disk.
    pub cache_limit: u64,
    /// Why files are read around the cache at the moment, if they are: a sentence without its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_trouble: Option<String>,
    /// Files that listings have named so far.
    pub known_files: u64,
    /// Bytes in them.
    pub known_bytes: u64,
    /// What listings name and the mount does not show, if there is any: a sentence without its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Bytes fetched since it was mounted.
    pub fetched_bytes: u64,
    /// Bytes fetched a second now, by a short sample.
    pub fetching_rate: u64,
    /// Prefetches that go on in the background.
    pub jobs: usize,
    /// The servers that it has talked to for bytes.
    pub origins: Vec<Origin>,
    /// Those that are down, away or overloaded, whatever they were asked for.
    #[serde(default)]
    pub down: Vec<Down>,
}

/// A server that is left alone, but for one question now and then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// Scheme, host and port.
    pub origin: String,
    /// Seconds since its first failure.
    pub seconds: u64,
    /// The last one: a sentence without its end.
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

/// What goes on at one origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Scheme, host and port.
    pub origin: String,
    /// Requests for bytes that are under way.
    pub fetches: usize,
    /// How many there may be at a time: fewer than configured after the server has complained.
    pub connections: usize,
    /// Reads and prefetches that wait for bytes.
    pub waiters: usize,
    /// Bytes that are wanted and not asked for yet.
    pub wanted_bytes: u64,
    /// Milliseconds from a request to its answer, as measured; none before the first answer.
    pub latency_ms: Option<f64>,
    /// Bytes a second over one connection, as measured.
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
    /// How the mount is. Takes the time of a sample.
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
            mountpoint: self.about.mountpoint.display().to_string(),
            // The client sees its own mount table.
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
