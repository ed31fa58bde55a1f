//! A cache that several machines share, in a status.

use serde::{Deserialize, Serialize};

use crate::stats::{TierCounts, TierNameTotals, TierNodeTotals, TierTotals};

/// The nodes of `--tier`, and what they spare the sources' servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tier {
    /// In the order of the option.
    pub nodes: Vec<TierNode>,
    /// The DNS names among them, in the order of the option.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<TierName>,
    /// Bytes of the bodies of the nodes' responses, of those too that DNS names no more. Only grows.
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
    /// The DNS name that it is of, as in the option; `None` for one that the option names itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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

/// A DNS name whose records are nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TierName {
    /// As in the option: `dns:NAME`.
    pub name: String,
    /// Nodes that were found, in the last look-up that found any.
    pub nodes: usize,
    /// Seconds until it is looked up again, if something is read then. 0: by the next read.
    pub next_lookup_seconds: u64,
    /// Why the last look-up failed: a sentence without its full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Look-ups. Only grows.
    pub lookups: u64,
    /// Those that failed. Only grows.
    pub failed_lookups: u64,
}

impl Tier {
    /// Of these nodes, where all servers together have sent so many bytes.
    pub(super) fn of(totals: TierTotals, all_received_bytes: u64) -> Tier {
        let nodes: Vec<_> = totals.nodes.into_iter().map(TierNode::from).collect();
        let received_bytes = nodes.iter().map(|node| node.received_bytes).sum::<u64>() + totals.left_received_bytes;
        Tier {
            nodes,
            names: totals.names.into_iter().map(TierName::from).collect(),
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
            name: totals.name,
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

impl From<TierNameTotals> for TierName {
    fn from(totals: TierNameTotals) -> TierName {
        TierName {
            name: totals.name,
            nodes: totals.nodes,
            next_lookup_seconds: totals.next.as_secs_f64().ceil() as u64,
            error: totals.error,
            lookups: totals.lookups,
            failed_lookups: totals.failed_lookups,
        }
    }
}
