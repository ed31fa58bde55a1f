//! The cache that several machines share, for people.

use super::block::Block;
use super::text::{duration, percent};
use crate::cli::support::output::{count, size};
use crate::control::status::{Tier, TierName, TierNode};

/// Adds the nodes of a tier.
pub(super) fn add(block: &mut Block, tier: &Tier) {
    block.add(
        "tier",
        &format!(
            "{} from it, {} from all other servers",
            size(tier.received_bytes),
            size(tier.other_received_bytes)
        ),
    );
    for name in &tier.names {
        let next = match name.next_lookup_seconds {
            0 => "by the next read".to_owned(),
            seconds => format!("in {}", duration(seconds)),
        };
        block.add("tier", &format!("{}; looked up again {next}", name_line(name)));
    }
    for node in &tier.nodes {
        let mut parts = vec![count(node.requests, "request")];
        parts.extend(figures(node, percent));
        if let Some(name) = &node.name {
            parts.push(format!("of {name}"));
        }
        if let Some(why) = &node.unused {
            parts.push(format!("not used now: {why}"));
        }
        block.add("tier", &format!("{}: {}", node.url, parts.join(", ")));
    }
}

/// How many nodes a DNS name has, and why its last look-up failed.
pub(in crate::cli) fn name_line(name: &TierName) -> String {
    let nodes = count(name.nodes as u64, "node");
    let error = name.error.as_ref().map_or(String::new(), |error| format!("; {error}"));
    format!("{}: {nodes}{error}", name.name)
}

/// What a node has done, besides its requests. `percent` writes a part of a whole.
pub(in crate::cli) fn figures(node: &TierNode, percent: fn(u64, u64) -> String) -> Vec<String> {
    let mut parts = Vec::new();
    let known = node.hits + node.misses;
    if known > 0 {
        parts.push(format!("{} hits", percent(node.hits, known)));
    }
    parts.push(size(node.received_bytes));
    if let Some(p99) = node.p99_ms {
        parts.push(format!("p99 {p99} ms"));
    }
    for (number, what) in [(node.hedged_requests, "hedged"), (node.failed_requests, "failed")] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    parts
}
