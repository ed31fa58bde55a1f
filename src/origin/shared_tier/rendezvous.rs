//! Which node of a group has an extent of a file: rendezvous hashing with weights.
//!
//! **The result is the same on all machines**, whatever the order in which their users or their DNS servers name the nodes.
//! If a node goes, only its own extents move, and they are spread over the others by weight. A new one takes its share from
//! all of them.

use std::cmp::Ordering;

use url::Url;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The weight of a node of which nothing is said.
pub(super) const EVEN: f64 = 1.0;

/// What weight 0 counts. RFC 2782: such a server should have a very small chance beside others, and if all of a group have 0,
/// there is no selection to do.
const ZERO: f64 = 0.01;

/// The weight of an SRV record.
pub(super) fn weight_of(weight: u16) -> f64 {
    if weight == 0 { ZERO } else { f64::from(weight) }
}

/// A node's rank for an extent: the one with the greatest has it, and the others follow in their order.
///
/// A score of `-weight / ln(u)`, with `u` the node's hash as a number between 0 and 1, gives each node a share in proportion to
/// its weight. With even weights, scores are in the order of the hashes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    score: f64,
    /// Decides between hashes that are one number.
    hash: u64,
}

impl Rank {
    /// Of the node with this URL.
    pub(super) fn of(node: &str, weight: f64, file: &Url, extent: u64) -> Rank {
        let place = xxh3_64_with_seed(file.as_str().as_bytes(), extent);
        let hash = xxh3_64_with_seed(node.as_bytes(), place);
        // 52 bits and a half one: neither 0 nor 1, whose logarithms would give no score.
        let above_zero = ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        Rank {
            score: -weight / above_zero.ln(),
            hash,
        }
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Rank) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then(self.hash.cmp(&other.hash))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Rank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Rank) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENTS: u64 = 4_000;

    fn rank(node: &str, weight: f64, extent: u64) -> Rank {
        Rank::of(node, weight, &Url::parse("https://h/f").unwrap(), extent)
    }

    /// The node that has an extent.
    fn owner<'a>(nodes: &[(&'a str, f64)], extent: u64) -> &'a str {
        let most = nodes.iter().max_by_key(|(name, weight)| rank(name, *weight, extent));
        most.unwrap().0
    }

    /// The share of each node.
    fn shares(nodes: &[(&str, f64)]) -> Vec<f64> {
        let owners: Vec<_> = (0..EXTENTS).map(|extent| owner(nodes, extent)).collect();
        let count = |name: &str| owners.iter().filter(|owner| **owner == name).count();
        nodes
            .iter()
            .map(|(name, _)| count(name) as f64 / EXTENTS as f64)
            .collect()
    }

    #[test]
    fn even_weights_keep_the_order_of_hashes() {
        for extent in 0..EXTENTS {
            let ranks = ["http://a:8080", "http://b:8080", "http://c"].map(|name| rank(name, EVEN, extent));
            let (mut by_rank, mut by_hash) = (ranks, ranks);
            by_rank.sort();
            by_hash.sort_by_key(|rank| rank.hash);
            assert!(by_rank == by_hash, "{ranks:?}");
            assert!(ranks.iter().all(|rank| rank.score.is_finite() && rank.score > 0.0));
        }
    }

    #[test]
    fn share_is_in_proportion_to_weight() {
        for weights in [[1, 1, 1], [10, 20, 70], [0, 0, 0], [0, 100, 100], [65_535, 65_535, 1]] {
            let nodes: Vec<_> = ["http://a", "http://b", "http://c"]
                .into_iter()
                .zip(weights.map(weight_of))
                .collect();
            let sum: f64 = nodes.iter().map(|(_, weight)| weight).sum();
            for ((_, weight), share) in nodes.iter().zip(shares(&nodes)) {
                let expected = weight / sum;
                assert!((share - expected).abs() < 0.025, "{weights:?}: {share}, not {expected}");
            }
        }
    }

    #[test]
    fn lost_node_moves_only_its_own_extents() {
        let nodes = [("http://a:8080", 1.0), ("http://b:8080", 2.0), ("http://c:8080", 3.0)];
        let mut moved = [0, 0];
        for extent in 0..EXTENTS {
            let (before, after) = (owner(&nodes, extent), owner(&nodes[..2], extent));
            if before == nodes[2].0 {
                moved[usize::from(after == nodes[1].0)] += 1;
            } else {
                assert_eq!(before, after, "extent {extent} moved");
            }
        }
        let second = f64::from(moved[1]) / f64::from(moved[0] + moved[1]);
        assert!((second - 2.0 / 3.0).abs() < 0.05, "{moved:?}");
    }

    #[test]
    fn changed_weight_moves_extents_to_or_from_that_node_only() {
        let before = [("http://a", 1.0), ("http://b", 1.0), ("http://c", 1.0)];
        let after = [("http://a", 1.0), ("http://b", 1.0), ("http://c", 2.0)];
        for extent in 0..EXTENTS {
            let (old, new) = (owner(&before, extent), owner(&after, extent));
            assert!(old == new || new == "http://c", "extent {extent}: from {old} to {new}");
        }
    }
}
