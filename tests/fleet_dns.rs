//! A tier whose nodes are the records of a DNS name: `--tier dns:NAME`, with real nginx nodes.
//!
//! A mount looks a name up again only when something is read. So these tests read until they see what they wait for.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fetchfs::internals::events;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::dns::DnsServer;
use crate::common::files::{assert_same, open_direct, read_direct};
use crate::common::mount::{Mount, fetchfs};
use crate::common::servers::free_port;
use crate::common::tier::Tier;
use crate::common::{run, temporary_directory, wait_until};
use crate::origin::{Content, Origin};

const MIB: u64 = 1 << 20;

/// The name of all tests.
const NAME: &str = "tier.test";

/// Reads after which each node of three has been asked: they have different extents.
const ENOUGH: usize = 60;

/// A file of 32 extents, and its origin.
struct Files {
    origin: Origin,
    content: Content,
}

impl Files {
    fn new(seed: u64) -> Files {
        let (origin, content) = (Origin::start(), Content::noise(2048 * MIB, seed));
        origin.add("/pub/f", content.clone());
        Files { origin, content }
    }

    /// Cached is so little that reads at other places are sent.
    fn mount(&self, tier: &str) -> Reader<'_> {
        let mount = Mount::of(&self.origin.url("/pub/"))
            .with("--tier", tier)
            .with("--cache-size", "64M")
            .start();
        Reader {
            file: open_direct(&mount.path("f")),
            mount,
            content: &self.content,
            place: AtomicU64::new(0),
        }
    }
}

/// A mount, and its file.
struct Reader<'a> {
    file: File,
    mount: Mount,
    content: &'a Content,
    place: AtomicU64,
}

impl Reader<'_> {
    /// Reads at a place in another extent than before.
    #[track_caller]
    fn read(&self) {
        let place = self.place.fetch_add(61 * MIB + 4096, Ordering::Relaxed) % (self.content.size() - 4096);
        let read = read_direct(&self.file, place, 4096).expect("to read");
        assert_same(&read, &self.content.read(place..place + 4096), "through the tier");
    }

    /// Reads until this is true of the status.
    #[track_caller]
    fn read_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        wait_until(what, || {
            self.read();
            is_so(&self.status())
        });
    }

    /// What `fetchfs status --json` says of the tier.
    #[track_caller]
    fn status(&self) -> Value {
        let out = run(fetchfs().args(["status", "--json"]).arg(self.mount.root()))
            .succeeded()
            .out;
        let all: Value = serde_json::from_str(&out).expect("JSON");
        let one = if all.is_array() { all[0].clone() } else { all };
        one["tier"].clone()
    }
}

/// The URLs of the nodes in a status.
fn urls(tier: &Value) -> Vec<String> {
    let nodes = tier["nodes"].as_array().expect("nodes");
    nodes
        .iter()
        .map(|node| node["url"].as_str().expect("a URL").to_owned())
        .collect()
}

/// A count of a node in a status; 0 for one that is not there.
fn count(tier: &Value, url: &str, what: &str) -> u64 {
    let mut nodes = tier["nodes"].as_array().expect("nodes").iter();
    nodes
        .find(|node| node["url"] == url)
        .map_or(0, |node| node[what].as_u64().expect("a count"))
}

/// Answers of a node with the file's bytes.
fn served(tier: &Value, url: &str) -> u64 {
    count(tier, url, "hits") + count(tier, url, "misses")
}

/// Nodes with addresses of their own and the same port, each with a log of its requests.
struct Nodes {
    nodes: Vec<Tier>,
    port: u16,
    logs: TempDir,
}

impl Nodes {
    fn start(files: &Files, number: u8) -> Nodes {
        let (port, logs) = (free_port(), temporary_directory());
        let nodes = (0..number).map(|number| {
            let log = log_of(logs.path(), number.into());
            let log = ["--access-log", log.to_str().expect("a name in UTF-8")].map(str::to_owned);
            let more: Vec<&str> = log.iter().map(String::as_str).collect();
            Tier::at(SocketAddr::new(ip(number), port), &[&files.origin.url("")], &more)
        });
        let nodes = nodes.collect();
        Nodes { nodes, port, logs }
    }

    fn url(&self, number: usize) -> String {
        self.nodes[number].url()
    }

    /// Requests to a node so far.
    fn requests(&self, number: usize) -> usize {
        let log = fs::read_to_string(log_of(self.logs.path(), number)).expect("a log");
        log.lines().count()
    }
}

fn log_of(folder: &Path, number: usize) -> std::path::PathBuf {
    folder.join(number.to_string())
}

fn ip(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, 2 + number).into()
}

/// The nodes of a name with addresses.
fn spec(dns: SocketAddr, nodes: &Nodes) -> String {
    format!("dns://{dns}/{NAME}:{}", nodes.port)
}

#[test]
fn nodes_follow_the_addresses_of_the_name() {
    let files = Files::new(180);
    let (nodes, dns) = (Nodes::start(&files, 3), DnsServer::start());
    dns.set_addresses(NAME, &[ip(0), ip(1)]);
    let spec = spec(dns.address(), &nodes);
    let reader = files.mount(&spec);
    let before = [nodes.url(0), nodes.url(1)];
    reader.read_until("both nodes are used", |tier| {
        urls(tier) == before && before.iter().all(|url| served(tier, url) > 0)
    });
    let said = reader.status();
    assert_eq!(said["nodes"][0]["name"], spec);
    assert_eq!(said["names"][0]["name"], spec);
    assert_eq!(said["names"][0]["nodes"], 2);
    assert!(said["names"][0]["error"].is_null(), "{said}");
    let kept = count(&said, &before[1], "requests");

    dns.set_addresses(NAME, &[ip(2), ip(1)]);
    let after = [nodes.url(1), nodes.url(2)];
    reader.read_until("the new node is used", |tier| {
        urls(tier) == after && served(tier, &after[1]) > 0
    });
    let said = reader.status();
    assert!(
        count(&said, &after[0], "requests") >= kept,
        "it has lost its counts: {said}"
    );
    let asked = nodes.requests(0);
    (0..ENOUGH).for_each(|_| reader.read());
    assert_eq!(nodes.requests(0), asked, "a node that has left is asked");
}

#[test]
fn priorities_and_ports_of_services_count() {
    let files = Files::new(181);
    let dns = DnsServer::start();
    let mut nodes: Vec<Tier> = (0..3).map(|_| Tier::of(&[&files.origin.url("")])).collect();
    let port = |node: &Tier| node.address().port();
    let service = format!("_fetchfs._tcp.{NAME}");
    let (first, second) = (port(&nodes[0]), port(&nodes[1]));
    dns.set_services(&service, &[(20, 0, second, "localhost."), (10, 7, first, "localhost.")]);
    let backup = nodes[2].url();
    let reader = files.mount(&format!("dns://{}/{service};{backup};DIRECT", dns.address()));
    let expected = [
        format!("http://localhost:{first}"),
        format!("http://localhost:{second}"),
        backup,
    ];
    reader.read_until("the first node is used", |tier| {
        urls(tier) == expected && served(tier, &expected[0]) > 0
    });
    let said = reader.status();
    let groups: Vec<_> = (0..3).map(|number| said["nodes"][number]["group"].clone()).collect();
    assert_eq!(groups, [0, 1, 2]);
    assert!(said["nodes"][2]["name"].is_null(), "{said}");
    for failing in 0..2 {
        nodes[failing].kill();
        reader.read_until("the next one is used", |tier| served(tier, &expected[failing + 1]) > 0);
    }
}

#[test]
fn mount_works_while_dns_is_down() {
    let files = Files::new(182);
    let nodes = Nodes::start(&files, 1);
    let address = DnsServer::free_address();
    let reader = files.mount(&spec(address, &nodes));
    reader.read_until("the look-up fails", |tier| tier["names"][0]["error"].is_string());
    assert_eq!(urls(&reader.status()), [""; 0]);
    // Said once.
    reader.read_until("it fails again", |tier| {
        tier["names"][0]["failed_lookups"].as_u64() >= Some(2)
    });
    assert_eq!(reader.mount.events(events::TIER_NAME_FAILED), 1);
    assert_eq!(nodes.requests(0), 0);
    let dns = DnsServer::at(address);
    dns.set_addresses(NAME, &[ip(0)]);
    reader.read_until("the node is used", |tier| served(tier, &nodes.url(0)) > 0);
    reader.mount.wait_for_event(events::TIER_NAME_FOUND, 1);
}

#[test]
fn failing_lookup_keeps_the_nodes() {
    let files = Files::new(183);
    let (nodes, dns) = (Nodes::start(&files, 2), DnsServer::start());
    dns.set_addresses(NAME, &[ip(0), ip(1)]);
    let reader = files.mount(&spec(dns.address(), &nodes));
    let both = [nodes.url(0), nodes.url(1)];
    reader.read_until("both nodes are known", |tier| urls(tier) == both);
    let failed = |tier: &Value| tier["names"][0]["failed_lookups"].as_u64().expect("a count");
    for what in ["SERVFAIL", "no addresses"] {
        let before = failed(&reader.status());
        match what {
            "SERVFAIL" => dns.set_failing(true),
            _ => {
                dns.set_failing(false);
                dns.set_addresses(NAME, &[]);
            }
        }
        // One look-up may have been under way.
        reader.read_until(what, |tier| failed(tier) >= before + 2);
        let asked = reader.status();
        assert_eq!(urls(&asked), both, "{what}");
        reader.read_until("they are used still", |tier| {
            both.iter().all(|url| served(tier, url) > served(&asked, url))
        });
    }
    dns.set_addresses(NAME, &[ip(1)]);
    reader.read_until("the answer counts", |tier| urls(tier) == both[1..]);
}
