//! A cache that several machines share, in a status.

use serde::{Deserialize, Serialize};

use crate::stats::{TierCounts, TierNodeTotals, TierTotals};

/// The nodes of `--tier`, and what they spare the sources' servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tier {
    /// In the order of the option.
    pub nodes: Vec<TierNode>,
    /// Bytes of the bodies of their responses. Only grows.
    pub received_bytes: u64,
    /// Bytes of the bodies of all other servers' responses: of listings, metadata and data. Only grows.
    pub other_received_bytes: u64,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TierNode {
    /// Its URL.
    pub url: String,
    /// The number of its group, from 0: group 1 is asked if those of group 0 fail.
    pub group: usize,
    /// Why it is not used now: a sentence without its full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<String>,
    /// The 99th percentile of the last milliseconds to a response; `None` after a few responses only.
    pub p99_ms: Option<f64>,
    /// Requests for bytes. Only grows, as all counts.
    pub requests: u64,
    /// Requests whose first slice it had.
    pub hits: u64,
    /// Requests whose first slice it had to fetch.
    pub misses: u64,
    /// Requests that it was late with, so that the file's own server was asked too.
    pub hedged_requests: u64,
    /// Requests without an answer that counts, or with one that broke off.
    pub failed_requests: u64,
    /// Bytes of the bodies of its responses.
    pub received_bytes: u64,
}

impl Tier {
    /// Of these nodes, where all servers together have sent so many bytes.
    pub(super) fn of(totals: TierTotals, all_received_bytes: u64) -> Tier {
        let nodes: Vec<_> = totals.nodes.into_iter().map(TierNode::from).collect();
        let received_bytes = nodes.iter().map(|node| node.received_bytes).sum();
        Tier {
            nodes,
            received_bytes,
            other_received_bytes: all_received_bytes.saturating_sub(received_bytes),
        }
    }
}

impl From<TierNodeTotals> for TierNode {
    fn from(totals: TierNodeTotals) -> TierNode {
        let TierCounts {
            requests,
            hits,
            misses,
            hedged,
            failed,
        } = totals.counts;
        TierNode {
            url: totals.url,
            group: totals.group,
            unused: totals.unused,
            p99_ms: totals.p99.map(|p99| (p99.as_secs_f64() * 1e4).round() / 10.0),
            requests,
            hits,
            misses,
            hedged_requests: hedged,
            failed_requests: failed,
            received_bytes: totals.received_bytes,
        }
    }
}
