//! The nodes of a tier in the notation of CernVM-FS: `http://a:8080|http://b:8080;http://c:8080;DIRECT`. DNS names stand for
//! nodes: `dns:NAME`, `dns:NAME:PORT`, or with a DNS server as in RFC 4501, `dns://SERVER/NAME`.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use crate::http::{TierConfig, TierMember, TierName};

/// The last word of a list of nodes: the source's own server.
const DIRECT: &str = "DIRECT";

/// The port of DNS servers.
const DNS_PORT: u16 = 53;

/// The longest name and the longest of its labels (RFC 1035 §2.3.4), in text.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Parses a list of nodes.
///
/// # Errors
/// What is wrong with it, and what to write.
pub(super) fn parse(text: &str) -> Result<TierConfig, String> {
    const ADVICE: &str = "write for example 'http://10.0.0.5:8080|http://10.0.0.6:8080'";
    let mut groups: Vec<&str> = text.split(';').map(str::trim).collect();
    if groups.last() == Some(&DIRECT) {
        groups.pop();
    }
    let mut config = TierConfig::default();
    for group in groups {
        let mut members = Vec::new();
        for text in group.split('|').map(str::trim) {
            if text == DIRECT {
                return Err("DIRECT stands alone, after the last `;`: the source's server is asked last".to_owned());
            }
            let member = match text.strip_prefix("dns:") {
                Some(rest) => TierMember::Name(
                    name(rest)
                        .map_err(|why| format!("`{text}` {why}; write for example 'dns:tier.example.org:8080'"))?,
                ),
                None => TierMember::Node(node(text).map_err(|why| match text {
                    "" => format!("a node's URL is missing; {ADVICE}"),
                    _ => format!("`{text}` {why}; {ADVICE}"),
                })?),
            };
            if members.contains(&member) || config.groups.iter().any(|group| group.contains(&member)) {
                return Err(format!("{text} is named twice"));
            }
            members.push(member);
        }
        let service = members.iter().find_map(|member| match member {
            TierMember::Name(name) if name.is_service() => Some(name),
            _ => None,
        });
        if let Some(name) = service.filter(|_| members.len() > 1) {
            return Err(format!(
                "{name} stands alone between `;`: its SRV records say which nodes share the load"
            ));
        }
        config.groups.push(members);
    }
    match config.groups.is_empty() {
        true => Err(format!("names no node; {ADVICE}")),
        false => Ok(config),
    }
}

fn node(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("does not begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user, and a tier has no logins");
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("has a path, and a node is a host and a port");
    }
    Ok(url)
}

/// Parses what follows `dns:`.
fn name(text: &str) -> Result<TierName, &'static str> {
    let (server, text) = match text.strip_prefix("//") {
        Some(rest) => {
            let (server, rest) = rest.split_once('/').ok_or("has no name after the DNS server")?;
            (
                Some(dns_server(server).ok_or("needs the IP address of its DNS server")?),
                rest,
            )
        }
        None => (None, text),
    };
    let (text, port) = match text.rsplit_once(':') {
        // An IPv6 address has more of them, and is refused below.
        Some((name, port)) if !name.contains(':') => {
            let port = port.parse().ok().filter(|port| *port > 0);
            (name, Some(port.ok_or("has no port after the `:`")?))
        }
        _ => (text, None),
    };
    if text.is_empty() {
        return Err("has no name");
    }
    // Names in other alphabets become ASCII.
    let name = match Host::parse(text) {
        Ok(Host::Domain(name)) => name,
        Ok(_) => return Err("is an address, and no name; a node is written as http://ADDRESS:PORT"),
        Err(_) if text.parse::<IpAddr>().is_ok() => {
            return Err("is an address, and no name; a node is written as http://ADDRESS:PORT");
        }
        Err(_) => return Err("is no DNS name"),
    };
    let labels = name.strip_suffix('.').unwrap_or(&name);
    let is_label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len());
    if labels.len() > LONGEST_NAME || !labels.split('.').all(is_label) {
        return Err("is no DNS name");
    }
    let name = TierName { name, port, server };
    match name.is_service() && port.is_some() {
        true => Err("has a port, and its SRV records have their own"),
        false => Ok(name),
    }
}

/// An address with or without a port.
fn dns_server(text: &str) -> Option<SocketAddr> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|server| server.port() > 0);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    with_port.or_else(|| Some(SocketAddr::new(bare.unwrap_or(text).parse().ok()?, DNS_PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> Vec<Vec<String>> {
        let config = parse(text).unwrap();
        let shown = |member: TierMember| match member {
            TierMember::Node(url) => url.into(),
            TierMember::Name(name) => name.to_string(),
        };
        let group = |members: Vec<TierMember>| members.into_iter().map(shown).collect();
        config.groups.into_iter().map(group).collect()
    }

    #[test]
    fn groups_share_load_and_follow_each_other() {
        let (a, b, c) = ("http://a:8080/", "http://b/", "https://c/");
        assert_eq!(groups("http://a:8080"), [[a]]);
        assert_eq!(groups("http://a:8080;DIRECT"), [[a]]);
        assert_eq!(
            groups("http://a:8080 | http://b; https://c;DIRECT"),
            [vec![a, b], vec![c]]
        );
    }

    #[test]
    fn dns_names_stand_beside_urls() {
        assert_eq!(groups("dns:tier.example.org"), [["dns:tier.example.org"]]);
        assert_eq!(
            groups("http://a | dns:Tier.Example.org:81; dns:_fetchfs._tcp.example.org.; http://b;DIRECT"),
            [
                vec!["http://a/", "dns:tier.example.org:81"],
                vec!["dns:_fetchfs._tcp.example.org."],
                vec!["http://b/"]
            ]
        );
        assert_eq!(groups("dns:bücher.example"), [["dns:xn--bcher-kva.example"]]);
        for (text, server) in [
            ("dns://127.0.0.1:8600/tier.service.consul", "127.0.0.1:8600"),
            ("dns://10.0.0.1/tier", "10.0.0.1:53"),
            ("dns://[::1]:8600/_tier._tcp", "[::1]:8600"),
            ("dns://[::1]/tier:80", "[::1]:53"),
        ] {
            let config = parse(text).unwrap();
            let found = config.names().next().unwrap().server;
            assert_eq!(found, Some(server.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn error_says_what_to_write() {
        let error = |text: &str| parse(text).unwrap_err();
        for text in [
            "",
            ";",
            "DIRECT",
            "a:8080",
            "http://a|",
            "DIRECT;http://a",
            "http://a|DIRECT",
            "ftp://a",
            "http://ann:secret@a",
            "http://a/x",
            "http://a;http://a/",
            "dns:",
            "dns::8080",
            "dns:a:0",
            "dns:a:http",
            "dns:a:65536",
            "dns:a..b",
            "dns:a b",
            "dns:a/b",
            "dns:http://a",
            "dns:[::1]",
            "dns://a",
            "dns://ns.example/a",
            "dns://10.0.0.1:0/a",
            "dns:///a",
            "dns:a;dns:A",
            "http://a|dns:_x._tcp.a",
            "dns:_x._tcp.a|dns:_y._tcp.a",
            &format!("dns:{}", "x".repeat(64)),
            &format!("dns:{}", "x.".repeat(127) + "yy"),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        insta::assert_snapshot!(error("10.0.0.5:8080"), @"`10.0.0.5:8080` is not a URL; write for example 'http://10.0.0.5:8080|http://10.0.0.6:8080'");
        insta::assert_snapshot!(error("http://a|DIRECT"), @"DIRECT stands alone, after the last `;`: the source's server is asked last");
        insta::assert_snapshot!(error("DIRECT"), @"names no node; write for example 'http://10.0.0.5:8080|http://10.0.0.6:8080'");
        insta::assert_snapshot!(error("dns:a:"), @"`dns:a:` has no port after the `:`; write for example 'dns:tier.example.org:8080'");
        insta::assert_snapshot!(error("dns:10.0.0.5:8080"), @"`dns:10.0.0.5:8080` is an address, and no name; a node is written as http://ADDRESS:PORT; write for example 'dns:tier.example.org:8080'");
        insta::assert_snapshot!(error("dns:::1"), @"`dns:::1` is an address, and no name; a node is written as http://ADDRESS:PORT; write for example 'dns:tier.example.org:8080'");
        insta::assert_snapshot!(error("dns:_x._tcp.a:80"), @"`dns:_x._tcp.a:80` has a port, and its SRV records have their own; write for example 'dns:tier.example.org:8080'");
        insta::assert_snapshot!(error("dns:_x._tcp.a|http://b"), @"dns:_x._tcp.a stands alone between `;`: its SRV records say which nodes share the load");
    }
}
