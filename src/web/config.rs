//! Where the status page is served, and who may see it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use http::uri::Authority;

use crate::http::Secret;

/// Fewest characters of a token. A shorter one can be guessed.
pub(crate) const SHORTEST_TOKEN: usize = 16;

/// The status page of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebConfig {
    /// Where it is served.
    pub listen: ListenAddress,
    /// Further names that requests may have in their Host header.
    pub hosts: Vec<HostName>,
    /// What a client must know. **Always there if other machines can connect.**
    pub token: Option<Secret>,
}

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// An IP address and a port; port 0 means a free one.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns true if only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => address.ip().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }
}

/// As the option has it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        const EXAMPLES: &str = "write for example 127.0.0.1:9090, [::1]:9090 or unix:/run/fetchfs.sock";
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(format!("the path of the socket is missing; {EXAMPLES}")),
                path => Ok(ListenAddress::Unix(PathBuf::from(path))),
            };
        }
        let localhost = |port: &str| Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?));
        let address = match text.strip_prefix("localhost:") {
            Some(port) => localhost(port),
            None => text.parse().ok(),
        };
        if let Some(address) = address {
            return Ok(ListenAddress::Tcp(address));
        }
        if text.parse::<IpAddr>().is_ok() || text == "localhost" {
            return Err(format!("the port is missing; {EXAMPLES}"));
        }
        Err(format!("not an IP address with a port; {EXAMPLES}"))
    }
}

/// A name of this machine, or of a proxy in front of it: `status.example.org` or `status.example.org:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName {
    /// In lower case, an IPv6 address in brackets.
    pub host: String,
    /// `None` means any port.
    pub port: Option<u16>,
}

impl HostName {
    /// The value of a Host header; `None` if it is malformed.
    pub(super) fn read(text: &str) -> Option<HostName> {
        let text = text.trim();
        let authority: Authority = text.parse().ok()?;
        let host = authority.host();
        let port = match text.strip_prefix(host)? {
            "" => None,
            port => {
                let digits = port
                    .strip_prefix(':')
                    .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
                Some(digits.parse().ok()?)
            }
        };
        (!host.is_empty()).then(|| HostName {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<HostName, String> {
        let not_a_name = || "not a host name; write for example status.example.org or nas:9090".to_owned();
        HostName::read(text).ok_or_else(not_a_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Result<String, String> {
        text.parse::<ListenAddress>().map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(listen("127.0.0.1:9090").as_deref(), Ok("127.0.0.1:9090"));
        assert_eq!(listen("localhost:0").as_deref(), Ok("127.0.0.1:0"));
        assert_eq!(listen("[::1]:9090").as_deref(), Ok("[::1]:9090"));
        assert_eq!(listen("unix:/run/f.sock").as_deref(), Ok("unix:/run/f.sock"));
        for text in [
            "9090",
            ":9090",
            "example.org:9090",
            "127.0.0.1:99999",
            "http://127.0.0.1:1/",
        ] {
            assert!(listen(text).unwrap_err().starts_with("not an IP address"), "{text}");
        }
        for text in ["127.0.0.1", "::1", "localhost"] {
            assert!(listen(text).unwrap_err().starts_with("the port is missing"), "{text}");
        }
        assert!(listen("unix:").unwrap_err().starts_with("the path"));
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        let is_local = |text: &str| text.parse::<ListenAddress>().unwrap().is_local();
        assert!(is_local("127.0.0.1:1") && is_local("127.9.9.9:1") && is_local("[::1]:1") && is_local("unix:a"));
        assert!(!is_local("0.0.0.0:1") && !is_local("[::]:1") && !is_local("192.168.1.2:1"));
    }

    #[test]
    fn host_names_are_read() {
        let name = |text: &str| HostName::read(text).map(|name| (name.host, name.port));
        assert_eq!(name("NAS"), Some(("nas".to_owned(), None)));
        assert_eq!(name("nas:80"), Some(("nas".to_owned(), Some(80))));
        assert_eq!(name("[::1]:80"), Some(("[::1]".to_owned(), Some(80))));
        for text in ["", "a@b", "a:", "a:b", "a:+1", "a b", "a/b", "http://a", "a:99999"] {
            assert_eq!(name(text), None, "{text}");
        }
    }
}
