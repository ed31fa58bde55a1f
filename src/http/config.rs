//! Configuration of the client: plain values, each with its default.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use url::Url;

use crate::util::bandwidth::BandwidthLimit;

use super::{AccessConfig, CookieConfig, Secret, TierConfig, redact};

/// A source and its mirrors.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct MirrorConfig {
    /// The source's URL: of a directory, or of a file. `None` if there are no mirrors.
    pub source: Option<Url>,
    /// The mirrors' URLs, in the order in which they are asked. They may contain signatures.
    pub urls: Vec<Url>,
}

impl fmt::Debug for MirrorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.urls.iter().map(redact)).finish()
    }
}

/// The configuration for one source of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteConfig {
    /// Its URL as the user has written it.
    pub source: Url,
    /// The configuration for requests to it. Has no further sources in it.
    pub http: HttpConfig,
}

/// Configuration of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Maximum time without data from the server: until the connection and the head of the response are there, and
    /// between the bytes of a body. Default: 30 s.
    pub timeout: Duration,
    /// Maximum time to connect: DNS, TCP, TLS and proxy together. Default: 10 s. Less than [`timeout`](Self::timeout),
    /// because a dead address shows sooner than a slow server.
    pub connect_timeout: Duration,
    /// Connections to one origin that are kept for reuse. The caller limits those in use. Default: 16.
    pub max_connections: usize,
    /// Maximum bytes of a document. Default: 256 MiB, an index of some two million names.
    pub max_page: u64,
    /// Maximum number of redirects per request. Default: 10. Signed downloads take two or three; browsers stop after
    /// 20.
    pub max_redirects: usize,
    /// If true, every request fails with [`HttpErrorKind::Offline`](super::HttpErrorKind::Offline) instead of being
    /// sent. Default: false.
    pub offline: bool,
    /// Maximum bytes per second of files, for a source of a library. Default: no limit but the mount's.
    pub(crate) bwlimit: Option<BandwidthLimit>,
    /// The User-Agent header. Default: `fetchfs/` and the version.
    pub user_agent: String,
    /// The local address of connections. Default: the system's choice.
    pub bind_address: Option<IpAddr>,
    /// The proxy. Default: from the environment.
    pub proxy: ProxyChoice,
    /// The HTTP version. Default: HTTP/1.1.
    pub protocol: Protocol,
    /// Trusted certificates and the client certificate. Default: the system's roots, and none.
    pub tls: TlsConfig,
    /// The credentials for the sources' servers. Default: none.
    pub access: AccessConfig,
    /// Cookies, each sent only to its own hosts. Default: those that servers set.
    pub cookies: CookieConfig,
    /// Mirrors of the source. Default: none.
    pub mirrors: MirrorConfig,
    /// A cache that several machines share. Default: none.
    pub tier: TierConfig,
    /// The sources of a library, each with its own configuration. Default: none.
    pub sites: Vec<SiteConfig>,
}

/// Which proxy connections use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProxyChoice {
    /// `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.
    #[default]
    Environment,
    /// Directly to the server.
    Direct,
    /// Through this proxy (`http`, `https`, `socks5` or `socks5h`, with optional user and password), except for the
    /// hosts in `no_proxy`.
    Url(Secret),
}

impl ProxyChoice {
    /// Returns true if any host may be reached through a proxy.
    pub(crate) fn may_be_one(&self) -> bool {
        let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            ProxyChoice::Environment => PROXY_VARIABLES.iter().any(is_set),
            ProxyChoice::Direct => false,
            ProxyChoice::Url(_) => true,
        }
    }
}

/// The environment variables for a proxy, as the HTTP library reads them.
pub(crate) const PROXY_VARIABLES: [&str; 6] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
];

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1; HTTP/2 only with a server that refuses anything else in the TLS handshake.
    #[default]
    Http1,
    /// HTTP/2: negotiated in the TLS handshake where the server offers it, and assumed without TLS.
    Http2,
}

/// Trusted certificates and the client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// A PEM file of authorities, trusted in addition to the system's.
    pub ca_cert: Option<PathBuf>,
    /// A PEM file with the client certificate and its intermediates.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with the certificate's key; `None` if the key is in the certificate's file.
    pub client_key: Option<PathBuf>,
    /// **Accepts any certificate**: an attacker on the network path can read and change everything.
    pub insecure: bool,
}

impl HttpConfig {
    /// Returns true if the URL is reachable without TLS, proxy and a bound local address.
    pub(crate) fn reaches_directly(&self, url: &Url) -> bool {
        url.scheme() == "http" && self.bind_address.is_none() && (cfg!(test) || !self.proxy.may_be_one())
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_connections: 16,
            max_page: 256 << 20,
            max_redirects: 10,
            offline: false,
            bwlimit: None,
            user_agent: concat!("fetchfs/", env!("CARGO_PKG_VERSION")).to_owned(),
            bind_address: None,
            proxy: ProxyChoice::default(),
            protocol: Protocol::default(),
            tls: TlsConfig::default(),
            access: AccessConfig::default(),
            cookies: CookieConfig::default(),
            mirrors: MirrorConfig::default(),
            tier: TierConfig::default(),
            sites: Vec::new(),
        }
    }
}
