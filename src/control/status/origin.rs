//! Origins in a status: their traffic, and which of them are down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

use super::Tier;
use crate::cache::OriginStatus;
use crate::stats::RequestTotals;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Scheme, host and port.
    pub origin: String,
    /// Data requests in flight.
    pub fetches: usize,
    /// Current connection limit. Below the configured one after the server has refused requests; 0 if no data was
    /// requested yet.
    pub connections: usize,
    /// Number of reads and prefetches that wait for bytes.
    pub waiters: usize,
    /// Bytes that are wanted but not requested yet.
    pub wanted_bytes: u64,
    /// Measured milliseconds from a request to its response; `None` before the first response.
    pub latency_ms: Option<f64>,
    /// Measured bytes per second of one connection.
    pub connection_rate: Option<u64>,
    /// Responses since the mount began by HTTP status: of listings, metadata and data, redirects included. Only grows.
    #[serde(default)]
    pub responses: BTreeMap<String, u64>,
    /// Requests that got no response. Only grows.
    #[serde(default)]
    pub unanswered_requests: u64,
    /// Bytes of the bodies of its responses. Only grows.
    #[serde(default)]
    pub received_bytes: u64,
    /// It is a node of the tier. For people, these are shown apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tier_node: bool,
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
            ..Origin::default()
        }
    }
}

impl Origin {
    /// All origins, ordered by name: those that data was requested of, and those that were asked for anything.
    pub(super) fn all(
        of_data: Vec<OriginStatus>,
        requests: Vec<(crate::http::Origin, RequestTotals)>,
        tier: Option<&Tier>,
    ) -> Vec<Origin> {
        let nodes = tier.iter().flat_map(|tier| &tier.nodes);
        let nodes: Vec<_> = nodes
            .filter_map(|node| crate::http::Origin::of(&Url::parse(&node.url).ok()?))
            .collect();
        let named = of_data.into_iter().map(Origin::from);
        let mut all: BTreeMap<String, Origin> = named.map(|origin| (origin.origin.clone(), origin)).collect();
        for (origin, totals) in requests {
            let (name, is_tier_node) = (origin.to_string(), nodes.contains(&origin));
            let origin = all.entry(name.clone()).or_insert_with(|| Origin {
                origin: name,
                ..Origin::default()
            });
            let responses = totals.answered.into_iter();
            origin.responses = responses.map(|(status, count)| (status.to_string(), count)).collect();
            origin.unanswered_requests = totals.unanswered;
            origin.received_bytes = totals.received_bytes;
            origin.is_tier_node = is_tier_node;
        }
        all.into_values().collect()
    }
}
