//! How the client behaves: plain values, each with its default.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use url::Url;

use super::{AccessConfig, CookieJar, Secret, redact};

/// The source and what stands for it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct MirrorConfig {
    /// The source's URL: of a directory, or of a file. `None` if there are no mirrors.
    pub source: Option<Url>,
    /// The URLs that stand for it, in the order in which they are asked. They may hold signatures.
    pub urls: Vec<Url>,
}

impl fmt::Debug for MirrorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.urls.iter().map(redact)).finish()
    }
}

/// How the client behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The longest silence: until a connection stands and the head of an answer is there, and between the bytes of a
    /// body. Default: 30 s.
    pub timeout: Duration,
    /// The longest that making a connection takes: name, TCP, TLS and proxy together. Default: 10 s, less than
    /// [`timeout`](Self::timeout), because an address that is dead shows sooner than a server that is slow.
    pub connect_timeout: Duration,
    /// Connections to one origin that are kept for reuse; the limit on those in use is the caller's. Default: 16.
    pub max_connections: usize,
    /// Bytes of the longest page that is read. Default: 256 MiB, an index of some two million names.
    pub max_page: u64,
    /// How many redirects one request follows. Default: 10. Signed downloads take two or three, browsers give up after 20.
    pub max_redirects: usize,
    /// Whether every request fails with [`HttpErrorKind::Offline`](super::HttpErrorKind::Offline) instead of being sent.
    /// Default: no.
    pub offline: bool,
    /// The User-Agent header. Default: `fetchfs/` and the version.
    pub user_agent: String,
    /// The local address from which connections are made. Default: the system's choice.
    pub bind_address: Option<IpAddr>,
    /// Which proxy is used. Default: what the environment says.
    pub proxy: ProxyChoice,
    /// Which version of HTTP is asked for. Default: HTTP/1.1.
    pub protocol: Protocol,
    /// Whose certificates are believed, and which is shown. Default: the system's roots, and none.
    pub tls: TlsConfig,
    /// What the servers of the sources get to see of who asks. Default: nothing.
    pub access: AccessConfig,
    /// Cookies, each for the hosts that it names. Default: none.
    pub cookies: CookieJar,
    /// Other URLs for the source. Default: none.
    pub mirrors: MirrorConfig,
}

/// Where connections go first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProxyChoice {
    /// `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.
    #[default]
    Environment,
    /// Straight to the server.
    Direct,
    /// To this proxy (`http`, `https`, `socks5` or `socks5h`, perhaps with user and password), except for the hosts in
    /// `no_proxy`.
    Url(Secret),
}

impl ProxyChoice {
    /// Whether there is one for any host.
    pub(crate) fn may_be_one(&self) -> bool {
        let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            ProxyChoice::Environment => PROXY_VARIABLES.iter().any(is_set),
            ProxyChoice::Direct => false,
            ProxyChoice::Url(_) => true,
        }
    }
}

/// The variables that name a proxy, as the HTTP library reads them.
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
    /// HTTP/2: agreed upon in the TLS handshake where the server has it, and taken for granted without TLS.
    Http2,
}

/// Whose certificates are believed, and which is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// A PEM file of authorities that are trusted beside the system's.
    pub ca_cert: Option<PathBuf>,
    /// A PEM file with the certificate, and those between it and its authority, that servers are shown.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with its key; `None` if that is in the certificate's file.
    pub client_key: Option<PathBuf>,
    /// **Any certificate is believed**: whoever is on the way can read and change everything.
    pub insecure: bool,
}

impl HttpConfig {
    /// Whether what answers at a URL can be asked without TLS, proxy or an address of our own.
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
            user_agent: concat!("fetchfs/", env!("CARGO_PKG_VERSION")).to_owned(),
            bind_address: None,
            proxy: ProxyChoice::default(),
            protocol: Protocol::default(),
            tls: TlsConfig::default(),
            access: AccessConfig::default(),
            cookies: CookieJar::default(),
            mirrors: MirrorConfig::default(),
        }
    }
}
