//! What `--tier` names: the nodes of a cache that several machines share, and DNS names that stand for nodes.

use std::{fmt, net::SocketAddr};

use url::Url;

/// The port of a node that a name's addresses give, unless the option gives another one.
pub(crate) const NODE_PORT: u16 = 8080;

/// The nodes of a cache that several machines share, which is asked before the sources' servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierConfig {
    /// Groups in the order in which they are asked; the nodes of a group share the load. Empty if there is no tier.
    pub groups: Vec<Vec<TierMember>>,
    /// Whether nodes get the credentials of sources, to pass them on. Otherwise sources with credentials are read
    /// directly. **Then no member is a name**: DNS would decide which servers get them.
    pub is_private: bool,
}

/// What a group consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TierMember {
    /// A node.
    Node(Url),
    /// The nodes that DNS has of a name. **One with SRV records is alone in its group**: they have groups of their own.
    Name(TierName),
}

/// A DNS name whose records are nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TierName {
    /// The name, in ASCII and lower case.
    pub name: String,
    /// The nodes' port, for A and AAAA records. `None`: [`NODE_PORT`].
    pub port: Option<u16>,
    /// The DNS server. `None`: the system's, with its hosts file and search list.
    pub server: Option<SocketAddr>,
}

impl TierConfig {
    /// The nodes that are named by URL, in the order of the option.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Url> {
        self.groups.iter().flatten().filter_map(|member| match member {
            TierMember::Node(url) => Some(url),
            TierMember::Name(_) => None,
        })
    }

    /// The names, in the order of the option.
    pub(crate) fn names(&self) -> impl Iterator<Item = &TierName> {
        self.groups.iter().flatten().filter_map(|member| match member {
            TierMember::Name(name) => Some(name),
            TierMember::Node(_) => None,
        })
    }
}

impl TierName {
    /// Returns true if its nodes are in SRV records, which have ports; otherwise in A and AAAA records.
    pub(crate) fn is_service(&self) -> bool {
        self.name.starts_with('_')
    }

    /// The port of nodes in A and AAAA records.
    pub(crate) fn node_port(&self) -> u16 {
        self.port.unwrap_or(NODE_PORT)
    }
}

/// As in the option.
impl fmt::Display for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dns:")?;
        if let Some(server) = self.server {
            write!(f, "//{server}/")?;
        }
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}
