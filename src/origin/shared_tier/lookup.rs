//! The look-up of a name: which nodes its records are.
//!
//! A node's URL is `http://IP:PORT` for A and AAAA records, and `http://TARGET:PORT` for SRV records. So all machines that see
//! the same records have the same URLs, and agree on which node has which extent.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, rdata::SRV},
};
use url::{Host, Url};

use super::rendezvous::{EVEN, weight_of};
use crate::http::TierName;

/// The longest time of a look-up. By default, a server that does not answer is asked twice, for 5 s each; there may be several
/// servers, and several names of a search list.
const LONGEST: Duration = Duration::from_secs(20);

/// Most nodes of a name, so that no DNS server can exhaust the memory.
const MOST_NODES: usize = 256;

/// Why there are no records of a name that does not exist.
const NO_NAME: &str = "DNS has no such name";

/// A node as a record names it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FoundNode {
    pub(super) url: Url,
    pub(super) weight: f64,
}

/// What the records of a name say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Groups in the order in which they are asked. **None is empty.**
    pub(super) groups: Vec<Vec<FoundNode>>,
    /// How long the records are valid.
    pub(super) ttl: Duration,
}

/// Records of one type.
#[derive(Default)]
struct Records {
    data: Vec<RData>,
    /// The server says that it has no records of any type.
    is_no_name: bool,
    /// The shortest of theirs, and of the aliases that led to them; `None` if there are none.
    ttl: Option<Duration>,
}

/// Looks a name up. `before`: the groups that were found before.
///
/// # Errors
/// Why there are no records: a sentence without its full stop.
pub(super) async fn look_up(name: &TierName, before: &[Vec<FoundNode>]) -> Result<Found, String> {
    let found = async {
        let resolver = resolver(name.server)?;
        let asked = Name::from_ascii(&name.name).map_err(|_| "it is no DNS name".to_owned())?;
        if name.is_service() {
            return services(records(resolver.srv_lookup(asked).await)?);
        }
        let (v4, v6) = tokio::join!(resolver.ipv4_lookup(asked.clone()), resolver.ipv6_lookup(asked));
        addresses(records(v4), records(v6), name.node_port(), before)
    };
    let found = tokio::time::timeout(LONGEST, found).await;
    found.unwrap_or_else(|_| Err(words(&NetError::Timeout)))
}

/// Made anew for each look-up: so a changed /etc/resolv.conf or hosts file counts, as on a laptop that changes its network,
/// and there is no second cache of records.
fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, String> {
    let builder = match server {
        None => TokioResolver::builder_tokio().map_err(|error| format!("/etc/resolv.conf can't be used: {error}"))?,
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        }
    };
    builder.build().map_err(|error| words(&error))
}

/// An answer's records; none if the server says that there are none.
fn records(answer: Result<Lookup, NetError>) -> Result<Records, String> {
    match answer {
        Ok(lookup) => Ok(Records {
            data: lookup.answers().iter().map(|record| record.data.clone()).collect(),
            ttl: lookup
                .answers()
                .iter()
                .map(|record| Duration::from_secs(record.ttl.into()))
                .min(),
            is_no_name: false,
        }),
        Err(error) if error.is_no_records_found() => Ok(Records {
            is_no_name: error.is_nx_domain(),
            ..Records::default()
        }),
        Err(error) => Err(words(&error)),
    }
}

/// The nodes of A and AAAA records. If one of the two look-ups fails, its addresses of before are kept.
fn addresses(
    v4: Result<Records, String>,
    v6: Result<Records, String>,
    port: u16,
    before: &[Vec<FoundNode>],
) -> Result<Found, String> {
    let kept = |is_kept: fn(&IpAddr) -> bool| {
        let before = before.iter().flatten().filter_map(|node| address_of(&node.url));
        before.filter(is_kept).collect::<Vec<_>>()
    };
    let of = |records: &Records| {
        let addresses = records.data.iter().filter_map(RData::ip_addr);
        addresses.map(|ip| ip.to_canonical()).collect::<Vec<_>>()
    };
    let (ttls, mut all) = match (&v4, &v6) {
        (Ok(v4), Ok(v6)) => ([v4.ttl, v6.ttl], [of(v4), of(v6)].concat()),
        (Ok(v4), Err(_)) if v4.ttl.is_some() => ([v4.ttl, None], [of(v4), kept(IpAddr::is_ipv6)].concat()),
        (Err(_), Ok(v6)) if v6.ttl.is_some() => ([None, v6.ttl], [kept(IpAddr::is_ipv4), of(v6)].concat()),
        (Err(why), _) | (_, Err(why)) => return Err(why.clone()),
    };
    // A blocked name has the address 0.0.0.0 or ::, which is this machine.
    all.retain(|ip| !ip.is_unspecified() && !ip.is_multicast());
    all.sort_unstable();
    all.dedup();
    let nodes = all.into_iter().filter_map(|ip| {
        Some(FoundNode {
            url: Url::parse(&format!("http://{}/", SocketAddr::new(ip, port))).ok()?,
            weight: EVEN,
        })
    });
    let group: Vec<_> = nodes.take(MOST_NODES).collect();
    if group.is_empty() {
        let is_no_name = [&v4, &v6].into_iter().flatten().any(|records| records.is_no_name);
        return Err(if is_no_name { NO_NAME } else { "it has no addresses" }.to_owned());
    }
    Ok(Found {
        groups: vec![group],
        ttl: ttls.into_iter().flatten().min().unwrap_or_default(),
    })
}

fn address_of(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

/// The nodes of SRV records: a group for each priority, the lowest number first (RFC 2782).
fn services(records: Records) -> Result<Found, String> {
    let services = records.data.iter().filter_map(|data| match data {
        RData::SRV(service) => Some(service),
        _ => None,
    });
    let mut services: Vec<&SRV> = services.collect();
    // The same first 256 on all machines.
    services.sort_unstable_by_key(|service| (service.priority, service.target.clone(), service.port));
    let mut groups: BTreeMap<u16, Vec<FoundNode>> = BTreeMap::new();
    for service in services.into_iter().take(MOST_NODES) {
        // The root as the only target: there is decidedly no such service.
        if service.target.is_root() || service.port == 0 {
            continue;
        }
        let target = service.target.to_ascii().to_ascii_lowercase();
        let url = format!("http://{}:{}/", target.trim_end_matches('.'), service.port);
        let Ok(url) = Url::parse(&url) else { continue };
        let weight = weight_of(service.weight);
        groups
            .entry(service.priority)
            .or_default()
            .push(FoundNode { url, weight });
    }
    if groups.is_empty() {
        return Err(if records.is_no_name {
            NO_NAME
        } else {
            "it has no SRV record that names a server"
        }
        .to_owned());
    }
    Ok(Found {
        groups: groups.into_values().collect(),
        ttl: records.ttl.unwrap_or_default(),
    })
}

/// What went wrong, in plain words.
fn words(error: &NetError) -> String {
    match error {
        NetError::Timeout | NetError::NoConnections => "the DNS server does not answer".to_owned(),
        NetError::Io(error) => format!("the DNS server can't be asked: {error}"),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the DNS server answers: {code}"),
        _ => format!("the look-up failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(found: &Found) -> Vec<Vec<&str>> {
        found
            .groups
            .iter()
            .map(|group| group.iter().map(|node| node.url.as_str()).collect())
            .collect()
    }

    fn of(addresses: &[&str], ttl: u64) -> Result<Records, String> {
        let ip = |text: &&str| text.parse::<IpAddr>().unwrap().into();
        Ok(Records {
            data: addresses.iter().map(ip).collect(),
            ttl: (!addresses.is_empty()).then_some(Duration::from_secs(ttl)),
            is_no_name: false,
        })
    }

    fn down() -> Result<Records, String> {
        Err("down".to_owned())
    }

    #[test]
    fn each_address_is_a_node() {
        let (v4, v6) = (
            of(&["10.0.0.6", "10.0.0.5", "0.0.0.0"], 60),
            of(&["2001:db8::5", "::ffff:10.0.0.6"], 30),
        );
        let found = addresses(v4, v6, 8080, &[]).unwrap();
        let expected = [
            "http://10.0.0.5:8080/",
            "http://10.0.0.6:8080/",
            "http://[2001:db8::5]:8080/",
        ];
        assert_eq!(urls(&found), [expected]);
        assert_eq!(found.ttl, Duration::from_secs(30));
        let found = addresses(of(&["10.0.0.5"], 60), of(&[], 0), 80, &[]).unwrap();
        assert_eq!(
            (urls(&found), found.ttl.as_secs()),
            (vec![vec!["http://10.0.0.5/"]], 60)
        );
    }

    #[test]
    fn failure_of_one_family_keeps_its_addresses() {
        let before = addresses(of(&["10.0.0.5"], 60), of(&["2001:db8::5"], 60), 1, &[]).unwrap();
        let of_v4 = addresses(of(&["10.0.0.6"], 60), down(), 1, &before.groups).unwrap();
        assert_eq!(urls(&of_v4), [["http://10.0.0.6:1/", "http://[2001:db8::5]:1/"]]);
        let of_v6 = addresses(down(), of(&["2001:db8::6"], 60), 1, &before.groups).unwrap();
        assert_eq!(urls(&of_v6), [["http://10.0.0.5:1/", "http://[2001:db8::6]:1/"]]);
        // With nothing from the other one, nothing is known.
        for (v4, v6) in [(down(), of(&[], 0)), (of(&[], 0), down()), (down(), down())] {
            assert_eq!(addresses(v4, v6, 1, &before.groups), Err("down".to_owned()));
        }
        assert!(addresses(of(&[], 0), of(&[], 0), 1, &before.groups).is_err());
    }

    #[test]
    fn priorities_are_groups() {
        let srv = |priority, weight, port, target: &str| {
            RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(target).unwrap()))
        };
        let found = services(Records {
            data: vec![
                srv(20, 0, 81, "C.example.org."),
                srv(10, 5, 8080, "b.example.org."),
                srv(10, 0, 8080, "a.example.org."),
                srv(10, 1, 0, "zero.example.org."),
            ],
            ttl: Some(Duration::from_secs(7)),
            is_no_name: false,
        });
        let found = found.unwrap();
        assert_eq!(
            urls(&found),
            [
                vec!["http://a.example.org:8080/", "http://b.example.org:8080/"],
                vec!["http://c.example.org:81/"]
            ]
        );
        let weights: Vec<_> = found.groups[0].iter().map(|node| node.weight).collect();
        assert_eq!((weights, found.ttl.as_secs()), (vec![weight_of(0), 5.0], 7));
        let none = Records {
            data: vec![srv(0, 0, 0, ".")],
            ..Records::default()
        };
        assert!(services(none).is_err());
    }
}
