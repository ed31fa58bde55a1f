//! Nodes of a `--tier` behind a network that fails: packets are lost, so nothing refuses, resets or ends a connection.
//! And nodes that answer, but so slowly that they are of no use.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};

use crate::common::files::{assert_same, open_direct, read_direct, sha256, sha256_of};
use crate::common::fleet::{mount, origin_with, read_and_compare, served, wait_until_used};
use crate::common::is_root;
use crate::common::mute::{Mute, Says};
use crate::common::network::{Cable, Network};
use crate::common::tier::Tier;
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;

/// An origin in a network, at the end of a cable, with this file at `/pub/f`.
fn origin_behind(network: &Network, cable: &Cable, content: &Content) -> Origin {
    let address = SocketAddr::new(IpAddr::V4(cable.far), 0);
    let origin = network.run(|| Origin::start_at(address).expect("a free port"));
    origin.add("/pub/f", content.clone());
    origin
}

/// What becomes of a cable, and what undoes it.
type Accident = (&'static str, fn(&Cable), fn(&Cable));

const ACCIDENTS: [Accident; 2] = [
    ("the cable is pulled", Cable::pull, Cable::plug),
    ("packets are lost", Cable::lose_packets, Cable::deliver_packets),
];

#[test]
fn node_without_network_fails_no_read() {
    if !is_root() {
        return;
    }
    let content = Content::noise(256 * MIB, 100);
    for (what, fail, mend) in ACCIDENTS {
        let network = Network::new();
        let [to_origin, to_node, to_other] = [(); 3].map(|()| network.cable());
        let origin = origin_behind(&network, &to_origin, &content);
        let node = Tier::in_network(&network, to_node.far, &[&origin.url("")]);
        let other = Tier::in_network(&network, to_other.far, &[&origin.url("")]);
        // The first is always preferred.
        let spec = format!("{};{}", node.url(), other.url());
        let used = mount(&origin, &spec);
        let file = open_direct(&used.path("f"));
        read_and_compare(&file, &content, 0, what);
        assert!(served(&used, 0) > 0, "{what}");

        // It fails in the middle of a response.
        let gate = Gate::new();
        let place = 16 * MIB;
        let after = Fault::HoldAfter(300_000, gate.clone());
        origin.on("/pub/f").data().starting_at(place).times(1).fault(after);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| read_direct(&file, place, MIB as usize).expect("no error"));
            gate.wait_for_arrivals(1);
            fail(&to_node);
            gate.open();
            let read = reading.join().expect("no panic");
            assert_same(&read, &content.read(place..place + read.len() as u64), what);
        });
        // Nor can new connections be made: by one that has used it, and by one that has not.
        for place in [17 * MIB, 80 * MIB, 200 * MIB] {
            read_and_compare(&file, &content, place, what);
        }
        let new = mount(&origin, &spec);
        let its_file = open_direct(&new.path("f"));
        for place in [0, 17 * MIB, 130 * MIB] {
            read_and_compare(&its_file, &content, place, what);
        }
        assert!(served(&new, 1) > 0, "{what}");
        mend(&to_node);
        wait_until_used(&used, &content, &[0]);
    }
}

#[test]
fn origin_that_only_the_tier_reaches_is_read() {
    if !is_root() {
        return;
    }
    let content = Content::noise(64 * MIB, 101);
    for (what, fail, _) in ACCIDENTS {
        let network = Network::new();
        let [to_origin, to_node] = [(); 2].map(|()| network.cable());
        let origin = origin_behind(&network, &to_origin, &content);
        let tier = Tier::in_network(&network, to_node.far, &[&origin.url("")]);
        let mount = mount(&origin, &tier.url());
        let file: File = open_direct(&mount.path("f"));
        read_and_compare(&file, &content, 0, what);
        fail(&to_origin);
        for slice in (0..64).step_by(5) {
            read_and_compare(&file, &content, slice * MIB + 8192, what);
        }
    }
}

#[test]
fn node_that_is_too_slow_to_be_of_use_is_left() {
    let content = Content::noise(8 * MIB, 102);
    let gate = Gate::new();
    let faults = [
        ("a byte a second", Fault::Rate(1)),
        ("a head and nothing else", Fault::HoldAfter(0, gate.clone())),
        ("a part of a body", Fault::HoldAfter(100_000, gate.clone())),
        ("nothing", Fault::Hold(gate.clone())),
    ];
    for (what, fault) in faults {
        let (origin, slow) = (origin_with(&content), Origin::start());
        slow.add(&Tier::path_of(&origin.url("/pub/f")), content.clone());
        slow.on_any().fault(fault);
        let mount = mount(&origin, &format!("http://{}", slow.address()));
        assert_eq!(sha256(&mount.path("f")), sha256_of(&content), "{what}");
        let asked = slow.log().all().0.len();
        assert!((1..=30).contains(&asked), "{what}: asked {asked} times");
    }
    gate.open();
}

#[test]
fn node_whose_heads_never_end_is_left() {
    let content = Content::noise(8 * MIB, 103);
    let (origin, node) = (origin_with(&content), Mute::start(Says::AByteAtATime));
    let mount = mount(&origin, node.url("http").trim_end_matches('/'));
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    assert!(node.connections() > 0);
}
