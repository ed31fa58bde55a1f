//! Machines of a fleet: mounts with a tier, each with a cache of its own.

use std::fs::File;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::files::{assert_same, open_direct, read_direct};
use super::mount::{Mount, Plan, fetchfs};
use super::tier::Tier;
use super::{run, wait_until};
use crate::origin::{Content, Origin};

/// An origin with this file at `/pub/f`.
pub fn origin_with(content: &Content) -> Origin {
    let origin = Origin::start();
    origin.add("/pub/f", content.clone());
    origin
}

/// A mount of the origin's directory with this tier.
pub fn plan(origin: &Origin, tier: &str) -> Plan {
    Mount::of(&origin.url("/pub/")).with("--tier", tier)
}

/// The same, mounted.
pub fn mount(origin: &Origin, tier: &str) -> Mount {
    plan(origin, tier).start()
}

/// The loopback addresses of three nodes.
pub fn addresses() -> [Ipv4Addr; 3] {
    [2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 0, last))
}

/// `--tier` with all of these in one group.
pub fn one_group<'a>(nodes: impl IntoIterator<Item = &'a Tier>) -> String {
    nodes.into_iter().map(Tier::url).collect::<Vec<_>>().join("|")
}

/// What `fetchfs status --json` says of the tier.
#[track_caller]
pub fn status(mount: &Mount) -> Value {
    let out = run(fetchfs().args(["status", "--json"]).arg(mount.root()))
        .succeeded()
        .out;
    let all: Value = serde_json::from_str(&out).expect("JSON");
    let one = if all.is_array() { all[0].clone() } else { all };
    one["tier"].clone()
}

/// A count of a node, by its name in the status.
#[track_caller]
pub fn count(mount: &Mount, node: usize, name: &str) -> u64 {
    status(mount)["nodes"][node][name].as_u64().expect("a count")
}

/// Responses of a node with bytes.
#[track_caller]
pub fn served(mount: &Mount, node: usize) -> u64 {
    count(mount, node, "hits") + count(mount, node, "misses")
}

/// Reads 4 KiB past the kernel's pages and compares them.
#[track_caller]
pub fn read_and_compare(file: &File, content: &Content, place: u64, what: &str) {
    let read = read_direct(file, place, 4096).unwrap_or_else(|error| panic!("{what}: at {place}: {error}"));
    assert_same(&read, &content.read(place..place + 4096), what);
}

/// Reads all over the file `/pub/f` until each of the nodes has served bytes once more.
#[track_caller]
pub fn wait_until_used(mount: &Mount, content: &Content, nodes: &[usize]) {
    const STEP: u64 = 61 << 20;
    let (file, mut place) = (open_direct(&mount.path("f")), 0);
    for node in nodes {
        let before = served(mount, *node);
        wait_until(&format!("node {node} is used again"), || {
            place = (place + STEP) % content.size() / 4096 * 4096;
            read_and_compare(&file, content, place, "afterwards");
            served(mount, *node) > before
        });
    }
}
