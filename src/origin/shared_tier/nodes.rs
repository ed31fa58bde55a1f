//! The nodes of a tier, those that DNS names among them, and what they lack.
//!
//! Nodes are compared by URL. So one that is in the records still, or again, keeps its state and its counts. One that has
//! left is not asked any more, and what it is sending goes on.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, time::Instant};
use url::Url;

use super::{
    lookup::{self, Found, FoundNode},
    node::Node,
    private::CredentialHashes,
    rendezvous::{EVEN, Rank},
    schedule::Schedule,
};
use crate::{
    http::{TierConfig, TierMember, TierName, Validator},
    origin::request::transport::Transport,
    stats::{TierNameTotals, TierNodeTotals, TierTotals},
    util::{events, plural::count},
};

/// Most notes of what a node lacks. A forgotten one costs one request.
const MOST_NOTES: usize = 4096;

/// Most nodes that are known. Above it, those that DNS names no more are forgotten, with their counts.
const MOST_KNOWN: usize = 1024;

/// Nodes that a line in the log names.
const MOST_NAMED: usize = 8;

/// The nodes of a client's tier and their state.
pub(in crate::origin) struct TierNodes {
    config: TierConfig,
    table: Mutex<Table>,
    /// What nodes lack, and until when they are not asked for it. **No other lock is taken under it.**
    lacking: Mutex<HashMap<Lacking, Instant>>,
    pub(super) hashes: CredentialHashes,
}

/// **No other lock is taken under it.**
struct Table {
    /// The groups in the order in which they are asked. **No URL is in them twice.**
    groups: Arc<Vec<Vec<Member>>>,
    /// Each name of the configuration, in its order.
    names: Vec<NameState>,
    /// The nodes of the groups, and those that were in them.
    known: HashMap<Url, Arc<Node>>,
}

/// A node in a group.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) node: Arc<Node>,
    weight: f64,
    /// The number of the name that it is of.
    name: Option<usize>,
}

struct NameState {
    schedule: Schedule,
    /// The last that was found.
    groups: Vec<Vec<FoundNode>>,
}

/// What a node lacks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lacking {
    /// Of a file in the node, or of a server.
    pub(super) address: Url,
    /// The version; `None` for all of them.
    pub(super) validator: Option<Validator>,
    /// The number of the slice; `None` for all of them.
    pub(super) slice: Option<u64>,
}

impl TierNodes {
    pub(in crate::origin) fn new(config: TierConfig) -> TierNodes {
        let state = |_: &TierName| NameState {
            schedule: Schedule::new(),
            groups: Vec::new(),
        };
        let mut table = Table {
            groups: Arc::default(),
            names: config.names().map(state).collect(),
            known: HashMap::new(),
        };
        table.arrange(&config);
        TierNodes {
            config,
            table: Mutex::new(table),
            lacking: Mutex::default(),
            hashes: CredentialHashes::default(),
        }
    }

    /// Returns true if the configuration has a tier.
    pub(super) fn is_configured(&self) -> bool {
        !self.config.groups.is_empty()
    }

    /// Whether nodes get the credentials of sources.
    pub(super) fn is_private(&self) -> bool {
        self.config.is_private
    }

    /// The groups in the order in which they are asked.
    pub(super) fn groups(&self) -> Arc<Vec<Vec<Member>>> {
        Arc::clone(&self.table.lock().groups)
    }

    /// The node that has this address, which may have left.
    pub(super) fn of(&self, address: &Url) -> Option<Arc<Node>> {
        let table = self.table.lock();
        let is_it = |node: &&Arc<Node>| node.has(address);
        let mut used = table.groups.iter().flatten().map(|member| &member.node);
        used.find(is_it).or_else(|| table.known.values().find(is_it)).cloned()
    }

    /// The nodes in the order in which to ask them for an extent of a file.
    pub(super) fn in_order(&self, file: &Url, extent: u64) -> Vec<Arc<Node>> {
        let mut nodes = Vec::new();
        for group in self.groups().iter() {
            let mut group: Vec<_> = group.iter().collect();
            group.sort_by_cached_key(|member| Reverse(Rank::of(member.node.name(), member.weight, file, extent)));
            nodes.extend(group.into_iter().map(|member| Arc::clone(&member.node)));
        }
        nodes
    }

    /// Looks up the names that are due, in the background.
    pub(super) fn look_up(self: &Arc<Self>, runtime: &Handle) {
        let due: Vec<(usize, Vec<Vec<FoundNode>>)> = {
            let mut table = self.table.lock();
            let names = table.names.iter_mut().enumerate();
            let due =
                names.filter_map(|(number, state)| state.schedule.try_begin().then(|| (number, state.groups.clone())));
            due.collect()
        };
        for (number, before) in due {
            let Some(name) = self.config.names().nth(number).cloned() else {
                continue;
            };
            // The client may end meanwhile.
            let nodes: Weak<TierNodes> = Arc::downgrade(self);
            runtime.spawn(async move {
                let found = lookup::look_up(&name, &before).await;
                if let Some(nodes) = nodes.upgrade() {
                    nodes.looked_up(number, &name, found);
                }
            });
        }
    }

    /// A look-up has ended.
    fn looked_up(&self, number: usize, name: &TierName, found: Result<Found, String>) {
        match found {
            Ok(found) => {
                let (changed, was_failing) = self.found(number, found);
                if let Some(urls) = changed {
                    let more = urls.len().saturating_sub(MOST_NAMED);
                    let more = if more > 0 {
                        format!(" and {more} more")
                    } else {
                        String::new()
                    };
                    let urls = &urls[..urls.len().min(MOST_NAMED)];
                    log::info!(event = events::TIER_NAME_FOUND; "{name} has the nodes {}{more}", urls.join(", "));
                } else if was_failing {
                    log::info!(event = events::TIER_NAME_FOUND; "{name} is found again, with the same nodes");
                }
            }
            Err(why) => {
                let (kept, is_first) = {
                    let mut table = self.table.lock();
                    let state = &mut table.names[number];
                    let kept = state.groups.iter().map(Vec::len).sum::<usize>();
                    (kept, state.schedule.failed(why.clone()))
                };
                if is_first {
                    let kept = match kept {
                        0 => "files are read without its nodes until it is found".to_owned(),
                        kept => format!("its {} are used on", count(kept as u64, "node")),
                    };
                    log::warn!(event = events::TIER_NAME_FAILED; "{name}: {why}; {kept}");
                }
            }
        }
    }

    /// Takes what was found. Returns the nodes if they have changed, and whether the look-up before failed.
    fn found(&self, number: usize, found: Found) -> (Option<Vec<String>>, bool) {
        let mut table = self.table.lock();
        let state = &mut table.names[number];
        let was_failing = state.schedule.found(found.ttl);
        if state.groups == found.groups {
            return (None, was_failing);
        }
        state.groups = found.groups;
        let urls = state.groups.iter().flatten().map(|node| node.url.to_string());
        let urls = urls.map(|url| url.trim_end_matches('/').to_owned()).collect();
        table.arrange(&self.config);
        (Some(urls), was_failing)
    }

    pub(super) fn lacks(&self, what: &Lacking) -> bool {
        let lacking = self.lacking.lock();
        lacking.get(what).is_some_and(|until| Instant::now() < *until)
    }

    pub(super) fn note_lacking(&self, what: Lacking, time: Duration) {
        let mut lacking = self.lacking.lock();
        if lacking.len() >= MOST_NOTES {
            lacking.clear();
        }
        lacking.insert(what, Instant::now() + time);
    }

    /// What the nodes did so far; `None` without a tier.
    pub(in crate::origin) fn totals(&self, transport: &Transport) -> Option<TierTotals> {
        let names: Vec<String> = self.config.names().map(TierName::to_string).collect();
        let received = |node: &Node| transport.requests.of_url(&node.url).totals().received_bytes;
        let of = |group: usize, member: &Member| {
            let node = &member.node;
            TierNodeTotals {
                url: node.name().to_owned(),
                group,
                name: member.name.map(|number| names[number].clone()),
                unused: node
                    .unused()
                    .map(str::to_owned)
                    .or_else(|| Some(transport.healths.of_url(&node.url).down()?.why.to_string())),
                p99: node.p99(),
                received_bytes: received(node),
                counts: node.counters.counts(),
            }
        };
        let (groups, left, name_totals) = {
            let table = self.table.lock();
            let groups = Arc::clone(&table.groups);
            (groups, table.left(), table.name_totals(&names))
        };
        let nodes = groups.iter().enumerate();
        let nodes = nodes.flat_map(|(number, nodes)| nodes.iter().map(move |node| of(number, node)));
        self.is_configured().then(|| TierTotals {
            nodes: nodes.collect(),
            names: name_totals,
            left_received_bytes: left.iter().map(|node| received(node)).sum(),
        })
    }
}

impl Table {
    /// Makes the groups from the configuration and from what was found. A URL counts where it is first.
    fn arrange(&mut self, config: &TierConfig) {
        let (mut groups, mut seen, mut number) = (Vec::new(), HashSet::new(), 0);
        for members in &config.groups {
            // Those of the names with SRV records are groups; of all others, they are in this one.
            let mut group = Vec::new();
            for member in members {
                match member {
                    TierMember::Node(url) => group.extend(self.member(url, EVEN, None, &mut seen)),
                    TierMember::Name(name) => {
                        let found = self.names[number].groups.clone();
                        for nodes in &found {
                            let nodes = nodes.iter();
                            group.extend(
                                nodes.filter_map(|node| self.member(&node.url, node.weight, Some(number), &mut seen)),
                            );
                            if name.is_service() {
                                groups.push(std::mem::take(&mut group));
                            }
                        }
                        number += 1;
                    }
                }
            }
            groups.push(group);
        }
        groups.retain(|group| !group.is_empty());
        self.groups = Arc::new(groups);
        if self.known.len() > MOST_KNOWN {
            self.known.retain(|url, _| seen.contains(url));
        }
    }

    /// The node with a URL that is not in a group yet.
    fn member(&mut self, url: &Url, weight: f64, name: Option<usize>, seen: &mut HashSet<Url>) -> Option<Member> {
        if !seen.insert(url.clone()) {
            return None;
        }
        let node = self
            .known
            .entry(url.clone())
            .or_insert_with(|| Arc::new(Node::new(url)));
        let node = Arc::clone(node);
        Some(Member { node, weight, name })
    }

    /// The nodes that are in no group any more.
    fn left(&self) -> Vec<Arc<Node>> {
        let used: HashSet<&Url> = self.groups.iter().flatten().map(|member| &member.node.url).collect();
        let left = self.known.iter().filter(|(url, _)| !used.contains(url));
        left.map(|(_, node)| Arc::clone(node)).collect()
    }

    fn name_totals(&self, names: &[String]) -> Vec<TierNameTotals> {
        let of = |(name, state): (&String, &NameState)| {
            let (lookups, failed) = state.schedule.counts();
            TierNameTotals {
                name: name.clone(),
                nodes: state.groups.iter().map(Vec::len).sum(),
                next: state.schedule.next(),
                error: state.schedule.error().map(str::to_owned),
                lookups,
                failed_lookups: failed,
            }
        };
        names.iter().zip(&self.names).map(of).collect()
    }
}

impl fmt::Debug for TierNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups();
        let names = groups.iter().flatten().map(|member| member.node.name());
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "http://a:8080/";
    const B: &str = "http://b:8080/";
    const C: &str = "http://c:8080/";
    const BACKUP: &str = "http://backup:8080/";

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn named(name: &str) -> TierMember {
        TierMember::Name(TierName {
            name: name.to_owned(),
            port: None,
            server: None,
        })
    }

    fn nodes(groups: Vec<Vec<TierMember>>) -> TierNodes {
        TierNodes::new(TierConfig {
            groups,
            is_private: false,
        })
    }

    fn answer(nodes: &TierNodes, number: usize, groups: &[&[&str]]) {
        let node = |text: &&str| FoundNode {
            url: url(text),
            weight: EVEN,
        };
        let found = Found {
            groups: groups.iter().map(|group| group.iter().map(node).collect()).collect(),
            ttl: Duration::ZERO,
        };
        let name = nodes.config.names().nth(number).unwrap().clone();
        nodes.looked_up(number, &name, Ok(found));
    }

    fn fail(nodes: &TierNodes, number: usize) {
        let name = nodes.config.names().nth(number).unwrap().clone();
        nodes.looked_up(number, &name, Err("the DNS server does not answer".to_owned()));
    }

    fn groups(nodes: &TierNodes) -> Vec<Vec<String>> {
        let group = |group: &Vec<Member>| group.iter().map(|member| member.node.url.to_string()).collect();
        nodes.groups().iter().map(group).collect()
    }

    #[tokio::test]
    async fn node_that_remains_keeps_its_state() {
        let nodes = nodes(vec![vec![named("tier")]]);
        assert!(groups(&nodes).is_empty() && nodes.is_configured());
        answer(&nodes, 0, &[&[A, B]]);
        let (a, b) = (nodes.of(&url(A)).unwrap(), nodes.of(&url(B)).unwrap());
        assert!(a.failed("a response broke off"));
        answer(&nodes, 0, &[&[A, C]]);
        assert_eq!(groups(&nodes), [[A, C]]);
        assert!(Arc::ptr_eq(&a, &nodes.of(&url(A)).unwrap()));
        assert!(a.unused().is_some());
        // What is running at the one that left can still be attributed to it, and it has its counts when it is back.
        assert!(Arc::ptr_eq(&b, &nodes.of(&url(B)).unwrap()));
        assert!(
            !nodes
                .in_order(&url("http://h/f"), 0)
                .iter()
                .any(|node| node.url == url(B))
        );
        answer(&nodes, 0, &[&[B]]);
        assert!(Arc::ptr_eq(&b, &nodes.groups()[0][0].node));
    }

    #[tokio::test]
    async fn failed_lookup_keeps_the_nodes() {
        let nodes = nodes(vec![vec![named("tier")]]);
        fail(&nodes, 0);
        assert!(groups(&nodes).is_empty());
        answer(&nodes, 0, &[&[A, B]]);
        fail(&nodes, 0);
        assert_eq!(groups(&nodes), [[A, B]]);
        let table = nodes.table.lock();
        let totals = table.name_totals(&["dns:tier".to_owned()]);
        let said = (totals[0].nodes, totals[0].error.is_some(), totals[0].failed_lookups);
        assert_eq!(said, (2, true, 2));
    }

    #[tokio::test]
    async fn names_and_urls_form_one_chain() {
        let nodes = nodes(vec![
            vec![TierMember::Node(url(A)), named("tier")],
            vec![named("_fetchfs._tcp")],
            vec![TierMember::Node(url(BACKUP))],
        ]);
        assert_eq!(groups(&nodes), [[A], [BACKUP]]);
        answer(&nodes, 1, &[&[C, A], &[BACKUP]]);
        // A URL counts where it is first.
        assert_eq!(groups(&nodes), [[A], [C], [BACKUP]]);
        answer(&nodes, 0, &[&[A, B]]);
        assert_eq!(groups(&nodes), [vec![A, B], vec![C], vec![BACKUP]]);
    }

    #[tokio::test]
    async fn nodes_that_left_are_forgotten_in_the_end() {
        let nodes = nodes(vec![vec![named("tier")]]);
        for number in 0..3 * MOST_KNOWN {
            answer(&nodes, 0, &[&[A, &format!("http://n{number}/")]]);
        }
        let table = nodes.table.lock();
        assert!(table.known.len() <= MOST_KNOWN + 1, "{}", table.known.len());
        assert!(table.known.contains_key(&url(A)));
    }
}
