//! Nodes of a `--tier` that fail at random under many readers, and what the loss of one costs the origin.
//!
//! `FETCHFS_FLEET_ROUNDS` sets how often each node has each fault (2 by default); a round takes some 15 seconds.
//! `FETCHFS_FLEET_SEED` repeats a run's choices, but not its timing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::common::disk::Disk;
use crate::common::files::{assert_same, open_direct, read_direct, sha256, sha256_of};
use crate::common::fleet::{addresses, count, mount, one_group, origin_with, plan, read_and_compare, wait_until_used};
use crate::common::mount::Mount;
use crate::common::tier::Tier;
use crate::common::{is_root, temporary_directory, wait_until};
use crate::origin::{Content, Origin};

const MIB: u64 = 1 << 20;
/// The nodes of a group share a file by extents of this size.
const EXTENT: u64 = 64 * MIB;
/// Size of a node's disk in MiB: room for all that is read.
const DISK: u64 = 128;
const MOUNTS: u64 = 4;
const READERS: u64 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    /// By SIGSTOP.
    Stopped,
    /// No space is left on its disk, and it has no slices.
    Full,
    /// All of its slices are deleted, while it runs.
    Wiped,
}

const FAULTS: [Fault; 4] = [Fault::Killed, Fault::Stopped, Fault::Full, Fault::Wiped];

/// A node with a disk of its own.
struct Node {
    tier: Tier,
    // The disk before the directory that it is mounted on.
    disk: Disk,
    _directory: TempDir,
    /// What takes the space of a full disk.
    filler: Option<PathBuf>,
    fault: Option<Fault>,
}

impl Node {
    fn at(ip: Ipv4Addr, origin: &Origin) -> Node {
        let directory = temporary_directory();
        let disk = Disk::tmpfs(directory.path(), DISK, MsFlags::empty());
        Node {
            tier: Tier::on_disk(directory.path(), ip, &[&origin.url("")]),
            disk,
            _directory: directory,
            filler: None,
            fault: None,
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.mend();
        match fault {
            Fault::Killed => self.tier.kill(),
            Fault::Stopped => self.tier.signal(Signal::SIGSTOP),
            Fault::Full => {
                wipe(&self.tier.slices());
                self.filler = Some(self.disk.fill());
            }
            Fault::Wiped => wipe(&self.tier.slices()),
        }
        self.fault = Some(fault);
    }

    fn mend(&mut self) {
        match self.fault.take() {
            Some(Fault::Killed) => self.tier.start(),
            Some(Fault::Stopped) => self.tier.signal(Signal::SIGCONT),
            Some(Fault::Full) => {
                let filler = self.filler.take().expect("it is full");
                fs::remove_file(filler).expect("to make room");
            }
            Some(Fault::Wiped) | None => {}
        }
    }
}

/// Deletes all slices. nginx makes new ones meanwhile.
fn wipe(slices: &Path) {
    for directory in fs::read_dir(slices).expect("its slices").flatten() {
        wait_until("no slice is left", || {
            fs::remove_dir_all(directory.path()).is_ok() || !directory.path().exists()
        });
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Reads a few slices of each extent in random order until `is_over`, now and then a MiB in a row. Returns the number
/// of reads, and adds the slow ones.
fn read_all_over(
    file: &File,
    content: &Content,
    mut random: Rng,
    slow: &Mutex<Vec<(Instant, Duration)>>,
    is_over: &AtomicBool,
) -> usize {
    let mut reads = 0;
    while !is_over.load(Ordering::Relaxed) {
        let extent = random.u64(..content.size() / EXTENT) * EXTENT;
        let slice = extent + random.u64(..6) * 10 * MIB;
        let (place, length) = match random.u8(..4) {
            0 => (slice, MIB),
            _ => (slice + random.u64(..256) * 4096, 4096),
        };
        let asked = Instant::now();
        let read = read_direct(file, place, length as usize).expect("no reader gets an error");
        if asked.elapsed() > Duration::from_millis(500) {
            slow.lock().expect("no panic").push((asked, asked.elapsed()));
        }
        assert_same(&read, &content.read(place..place + length), "while nodes fail");
        reads += 1;
    }
    reads
}

#[test]
fn nodes_that_fail_at_random_fail_no_read() {
    if !is_root() {
        return;
    }
    let rounds = number_from("FETCHFS_FLEET_ROUNDS").unwrap_or(2);
    let seed = number_from("FETCHFS_FLEET_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("FETCHFS_FLEET_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let content = Content::noise(1024 * MIB, 89);
    let origin = origin_with(&content);
    let mut nodes = addresses().map(|ip| Node::at(ip, &origin));
    let spec = one_group(nodes.iter().map(|node| &node.tier));
    let mounts: Vec<Mount> = (0..MOUNTS)
        .map(|_| {
            plan(&origin, &spec)
                // Most reads need a node.
                .with("--cache-size", "16M")
                .living_for(Duration::from_secs(30 * rounds))
                .start()
        })
        .collect();
    let (slow, is_over) = (Mutex::default(), AtomicBool::new(false));
    let mut history = Vec::new();
    let reads = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let file = open_direct(&mounts[(number % MOUNTS) as usize].path("f"));
                let (content, slow, is_over) = (&content, &slow, &is_over);
                let random = Rng::with_seed(seed ^ (number + 1));
                scope.spawn(move || read_all_over(&file, content, random, slow, is_over))
            })
            .collect();
        // Readers end, too, if a node can't be started again.
        let _ends = EndOnDrop(&is_over);
        for _ in 0..rounds {
            let pairs = (0..nodes.len()).flat_map(|node| FAULTS.map(|fault| (node, fault)));
            let mut pairs: Vec<(usize, Fault)> = pairs.collect();
            random.shuffle(&mut pairs);
            for (node, fault) in pairs {
                history.push((Instant::now(), node, fault));
                nodes[node].fail(fault);
                std::thread::sleep(Duration::from_millis(random.u64(300..1800)));
                // Or it fails on, beside the next one.
                if random.bool() {
                    nodes[node].mend();
                }
            }
        }
        nodes.iter_mut().for_each(Node::mend);
        is_over.store(true, Ordering::Relaxed);
        let readers = readers.into_iter().map(|reader| reader.join().expect("no panic"));
        readers.collect::<Vec<_>>()
    });
    println!("reads of each reader: {reads:?}");
    let mut slow = slow.into_inner().expect("no panic");
    slow.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    for (asked, time) in slow.iter().take(10) {
        let before = history.iter().filter(|(when, ..)| *when < *asked + *time);
        let before: Vec<_> = before
            .rev()
            .take(4)
            .map(|(when, node, fault)| {
                let after = asked.saturating_duration_since(*when);
                format!("node {node} {fault:?} {after:.1?} before")
            })
            .collect();
        println!("a read took {time:.2?}: {}", before.join(", "));
    }
    assert!(reads.iter().all(|reads| *reads > 20), "{reads:?}");
    wait_until_used(&mounts[0], &content, &[0, 1, 2]);
}

/// Ends the readers.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn node_with_a_full_disk_fails_no_read() {
    if !is_root() {
        return;
    }
    let content = Content::noise(64 * MIB, 91);
    let origin = origin_with(&content);
    let mut node = Node::at(Ipv4Addr::LOCALHOST, &origin);
    node.fail(Fault::Full);
    let mount = mount(&origin, &node.tier.url());
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    assert!(count(&mount, 0, "requests") > 0);
    node.mend();
    let other = Content::noise(512 * MIB, 92);
    origin.add("/pub/other", other.clone());
    let file = open_direct(&mount.path("other"));
    let mut place = 0;
    wait_until("the node has new slices", || {
        place = (place + 61 * MIB) % other.size() / 4096 * 4096;
        read_and_compare(&file, &other, place, "afterwards");
        fs::read_dir(node.tier.slices()).expect("its slices").count() > 0
    });
}

/// The extents of the file that the origin was asked for.
fn extents_asked(origin: &Origin, mark: usize) -> BTreeSet<u64> {
    let asked = origin.log().since(mark).ranges("/pub/f");
    asked.iter().map(|range| range.start / EXTENT).collect()
}

#[test]
fn lost_node_costs_the_origin_its_own_extents() {
    const EXTENTS: u64 = 66;
    let content = Content::noise(EXTENTS * EXTENT, 93);
    let origin = origin_with(&content);
    let mut nodes = addresses().map(|ip| Tier::with(ip, &[&origin.url("")], &[]));
    let read_one_of_each = |mount: &Mount| {
        let file = open_direct(&mount.path("f"));
        for extent in 0..EXTENTS {
            read_and_compare(&file, &content, extent * EXTENT + 5 * MIB, "one of each extent");
        }
        (0..3).map(|node| count(mount, node, "hedged_requests")).sum::<u64>()
    };
    let spec = one_group(&nodes);
    let first = mount(&origin, &spec);
    let mark = origin.log().mark();
    read_one_of_each(&first);
    assert_eq!(extents_asked(&origin, mark).len() as u64, EXTENTS);
    // Each read was one request to the node that has the extent.
    let extents = [0, 1, 2].map(|node| count(&first, node, "requests"));
    // With so few, one node may have more than its share.
    let lost = (0..3).min_by_key(|node| extents[*node]).expect("three");
    nodes[lost].kill();
    let mark = origin.log().mark();
    let hedged = read_one_of_each(&mount(&origin, &spec));
    let again = extents_asked(&origin, mark).len() as u64;
    // On a machine that is busy with something else, the origin is asked for others, too.
    // And the first request of a mount names no version, so its slice may be fetched under that key.
    let most = extents[lost] + 1 + hedged;
    assert!(
        again <= most,
        "{again} of {EXTENTS}, {hedged} requests were late, {extents:?}"
    );
    assert!(extents[lost] <= EXTENTS / 3 + EXTENTS * 5 / 100, "{extents:?}");
}
