//! The metrics of the nodes of `--tier`. docs/monitoring.md has the table for users.

use std::fmt::Result;

use super::encode::{Metrics, Value};
use crate::control::status::{Tier, TierName, TierNode};

/// Writes them.
pub(super) fn encode(metrics: &mut Metrics<'_>, tier: &Tier) -> Result {
    let mut each = |name, help, value: &dyn Fn(&TierNode) -> u64| {
        let values = tier
            .nodes
            .iter()
            .map(|node| ([("node", Value(&node.url))], value(node)));
        metrics.counters(name, help, values)
    };
    each("fetchfs_tier_requests", "Requests to a node of the tier", &|node| {
        node.requests
    })?;
    each(
        "fetchfs_tier_hits",
        "Requests whose first slice the node had",
        &|node| node.hits,
    )?;
    each(
        "fetchfs_tier_misses",
        "Requests whose first slice the node had to fetch",
        &|node| node.misses,
    )?;
    each(
        "fetchfs_tier_hedged_requests",
        "Requests that a node was late with, so that the file's own server was asked too",
        &|node| node.hedged_requests,
    )?;
    each(
        "fetchfs_tier_failed_requests",
        "Requests without an answer that counts, or with one that broke off",
        &|node| node.failed_requests,
    )?;
    each(
        "fetchfs_tier_received_bytes",
        "Bytes of the bodies of a node's responses",
        &|node| node.received_bytes,
    )?;
    let is_used = |node: &TierNode| f64::from(u8::from(node.unused.is_none()));
    metrics.gauges(
        "fetchfs_tier_node_used",
        "0 while a node is left out after failures, else 1",
        tier.nodes
            .iter()
            .map(|node| ([("node", Value(&node.url))], is_used(node))),
    )?;
    if tier.names.is_empty() {
        return Ok(());
    }
    metrics.gauges(
        "fetchfs_tier_name_nodes",
        "Nodes that DNS has of a name of the tier",
        of_names(tier, |name| name.nodes as f64),
    )?;
    metrics.counters(
        "fetchfs_tier_name_lookups",
        "Look-ups of a name of the tier",
        of_names(tier, |name| name.lookups),
    )?;
    metrics.counters(
        "fetchfs_tier_name_failed_lookups",
        "Look-ups of a name of the tier that failed",
        of_names(tier, |name| name.failed_lookups),
    )
}

/// A value of each name.
fn of_names<T>(
    tier: &Tier,
    value: impl Fn(&TierName) -> T,
) -> impl Iterator<Item = ([(&'static str, Value<'_>); 1], T)> {
    tier.names
        .iter()
        .map(move |name| ([("name", Value(&name.name))], value(name)))
}
