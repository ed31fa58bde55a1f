//! The cache that several machines share, for people.

use super::block::Block;
use super::text::{duration, percent};
use crate::cli::support::output::{count, size};
use crate::control::status::{Tier, TierNode};

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
        let mut parts = vec![count(name.nodes as u64, "node")];
        parts.extend(name.error.clone());
        parts.push(match name.next_lookup_seconds {
            0 => "looked up again by the next read".to_owned(),
            seconds => format!("looked up again in {}", duration(seconds)),
        });
        block.add("tier", &format!("{}: {}", name.name, parts.join("; ")));
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
