//! A cache that several machines share: what each of its nodes did for this process.

use std::time::Duration;

use super::counter::Counter;

/// Counts what a node does.
#[derive(Debug, Default)]
pub(crate) struct TierCounters {
    requests: Counter,
    hits: Counter,
    misses: Counter,
    hedged: Counter,
    failed: Counter,
}

/// What a node did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TierCounts {
    /// Requests for bytes.
    pub requests: u64,
    /// Those whose first slice it had.
    pub hits: u64,
    /// Those whose first slice it had to fetch.
    pub misses: u64,
    /// Those that were late, so that the file's own server was asked too.
    pub hedged: u64,
    /// Those without an answer that counts, or with one that broke off.
    pub failed: u64,
}

/// A node and what it did so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TierNodeTotals {
    /// Its URL.
    pub url: String,
    /// The number of its group, from 0.
    pub group: usize,
    /// The DNS name that it is of, as in the option; `None` for one that the option names itself.
    pub name: Option<String>,
    /// Why it is not used now, if so.
    pub unused: Option<String>,
    /// The 99th percentile of the last times to a response; `None` after a few responses only.
    pub p99: Option<Duration>,
    /// Bytes of the bodies of its responses.
    pub received_bytes: u64,
    /// Its requests.
    pub counts: TierCounts,
}

/// A DNS name that stands for nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TierNameTotals {
    /// As in the option: `dns:NAME`.
    pub name: String,
    /// Nodes that were found, in the last look-up that found any.
    pub nodes: usize,
    /// Time until it is looked up again, if something is read then. Zero: by the next read.
    pub next: Duration,
    /// Why the last look-up failed, if it did.
    pub error: Option<String>,
    /// Look-ups so far.
    pub lookups: u64,
    /// Those that failed.
    pub failed_lookups: u64,
}

/// The nodes of a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TierTotals {
    /// In the order of the option.
    pub nodes: Vec<TierNodeTotals>,
    /// Likewise.
    pub names: Vec<TierNameTotals>,
    /// Bytes of the bodies of the responses of nodes that DNS names no more.
    pub left_received_bytes: u64,
}

impl TierCounters {
    /// It is asked for bytes.
    pub(crate) fn asked(&self) {
        self.requests.add(1);
    }

    /// It has answered with bytes. `cache_status` is what nginx says of the first slice.
    pub(crate) fn served(&self, cache_status: Option<&str>) {
        match cache_status {
            Some("HIT" | "STALE" | "UPDATING" | "REVALIDATED") => self.hits.add(1),
            Some("MISS" | "EXPIRED" | "BYPASS") => self.misses.add(1),
            // Another engine may not say.
            _ => {}
        }
    }

    /// Its answer is late, and the file's own server is asked too.
    pub(crate) fn hedged(&self) {
        self.hedged.add(1);
    }

    /// It gave no answer that counts, or broke one off.
    pub(crate) fn failed(&self) {
        self.failed.add(1);
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> TierCounts {
        TierCounts {
            requests: self.requests.get(),
            hits: self.hits.get(),
            misses: self.misses.get(),
            hedged: self.hedged.get(),
            failed: self.failed.get(),
        }
    }
}
