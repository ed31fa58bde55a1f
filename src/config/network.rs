//! The options about servers: connections, authentication, trust.
//!
//! A part of the table of options ([`super::MountArgs`]). [`NetworkArgs::resolve`] combines their values. clap parses
//! no secret values, because its errors repeat the value.

mod command;
mod error;
mod resolve;
mod tier;
pub(super) mod values;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::units;
use crate::http::TierConfig;
pub(crate) use error::NetworkError;

/// The options about servers, before they are resolved.
#[derive(Args, PartialEq)]
pub(super) struct NetworkArgs {
    /// Maximum time to connect, including TLS
    #[arg(
        long, value_name = "TIME", default_value = "10s", value_parser = units::time_above_zero,
        help_heading = "Network"
    )]
    pub(super) connect_timeout: Duration,

    /// Local IP address to connect from
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub(super) bind_address: Option<IpAddr>,

    /// Proxy: http://HOST:PORT, https://, socks5:// or socks5h://; `none` for no proxy
    ///
    /// With socks5h the proxy resolves host names. Credentials are written as http://USER:PASSWORD@HOST:PORT.
    ///
    /// Default: the variables http_proxy, https_proxy and all_proxy. no_proxy always applies.
    #[arg(long, value_name = "URL", help_heading = "Network")]
    pub(super) proxy: Option<String>,

    /// Use HTTP/2 if the server supports it, and always without TLS
    ///
    /// The default is HTTP/1.1, which is faster for large files because each range has its own connection. Servers that
    /// support only HTTP/2 get HTTP/2 in any case.
    #[arg(long, help_heading = "Network")]
    pub(super) http2: bool,

    /// Maximum size of an index page
    ///
    /// A larger page is an error, so that no server can exhaust the memory. 256MiB hold some two million names.
    #[arg(
        long, value_name = "SIZE", default_value = "256MiB", value_parser = units::size_above_zero,
        help_heading = "Network"
    )]
    pub(super) max_listing_size: u64,

    /// Maximum number of names in one index page
    ///
    /// A page with more is an error. Each name takes about 80 bytes of memory while it is cached, and 230 while the
    /// kernel uses it. Over all directories at most five times as many names are cached, those that were listed last.
    #[arg(
        long, value_name = "N", default_value = "1000000", value_parser = |text: &str| units::count(text, 1..=u32::MAX),
        help_heading = "Network"
    )]
    pub(super) max_entries: u32,

    /// URL of a mirror of the source, used when the source does not respond
    ///
    /// A mirror has the same directory tree as the source. May be given several times, and only for one source. Bytes of
    /// a mirror are used if its response has the same size and ETag, or the same date. Its names and versions are used
    /// only while the source has given none. A mirror receives no login, token or header.
    #[arg(long, value_name = "URL", help_heading = "Network")]
    pub(super) mirror: Vec<String>,

    /// A cache that several machines share, which is asked for bytes before the source's server
    ///
    /// URLs of nginx nodes with the configuration of `fetchfs tier config`: `|` between those that share the load, `;` before
    /// those that are asked if the others fail, and DIRECT, the source's server, at the end, which goes without saying. Names
    /// and dates are always asked of the server. Sources with a login, header, cookie or client certificate are read from
    /// their server only; see --tier-private.
    ///
    /// dns:NAME stands for the nodes that DNS has of a name, and is looked up again by TTL: the addresses of dns:NAME or
    /// dns:NAME:PORT (port 8080 if none is given), or the SRV records of a name that begins with `_`, with their priorities and
    /// weights. dns://SERVER:PORT/NAME asks this DNS server, and not those of /etc/resolv.conf.
    #[arg(long, value_name = "NODES", value_parser = tier::parse, help_heading = "Network")]
    pub(super) tier: Option<TierConfig>,

    /// Let the nodes of --tier pass on logins, tokens, headers and cookies
    ///
    /// For sources that need them. The nodes have the configuration of `fetchfs tier config --private`. They get the
    /// credentials of a source in each request, and keep its bytes apart for each set of credentials. Between this machine
    /// and a node that is named as http://, all of it can be read on the network. Sources with a client certificate, with
    /// Digest authentication or with cookies that their server sets are read from their server.
    #[arg(long, requires = "tier", help_heading = "Network")]
    pub(super) tier_private: bool,

    /// Countries whose mirrors in a Metalink are preferred: de, or de,fr
    ///
    /// Codes of two letters, the most preferred first. The other mirrors follow, and within a country the Metalink's own
    /// order counts.
    #[arg(long, value_name = "COUNTRY", value_parser = units::countries, help_heading = "Network")]
    pub(super) metalink_location: Option<String>,

    /// Maximum number of redirects of one request
    #[arg(
        long, value_name = "N", default_value = "10", value_parser = |text: &str| units::count(text, 0..=u16::MAX),
        help_heading = "Network"
    )]
    pub(super) max_redirects: u16,

    /// Show links of index pages to other directories and servers, too
    ///
    /// Without this option, only links directly below the page become names. With it, links to another directory (as in Python
    /// package indexes) or to another server do too, by the last part of their path. Other servers receive no login,
    /// token or header.
    #[arg(long, help_heading = "Network")]
    pub(super) external_links: bool,

    /// Show links with a query, too
    ///
    /// Without this option, `a.csv?download=1` is not shown. With it, the file appears as `a.csv` and is requested with
    /// its query. Of several links with the same name, the first is used.
    #[arg(long, help_heading = "Network")]
    pub(super) query_links: bool,

    /// User-Agent header of requests
    ///
    /// Default: fetchfs/ and the version.
    #[arg(long, value_name = "TEXT", help_heading = "Network")]
    pub(super) user_agent: Option<String>,

    /// Request header for the source's server: 'NAME: VALUE', or @FILE
    ///
    /// The header is sent with each request to that server, and not to redirect targets. May be given several times; a
    /// file has one header in each line.
    #[arg(long, value_name = "HEADER", help_heading = "Network")]
    pub(super) header: Vec<String>,

    /// User name for the source's server, or NAME:PASSWORD
    ///
    /// For Basic and Digest authentication. A password is safer in --password-file, or in the environment:
    /// FETCHFS_LOGIN.
    #[arg(long, value_name = "NAME", help_heading = "Login")]
    pub(super) login: Option<String>,

    /// File whose first line is the password
    ///
    /// For the user of --login, or of the URL.
    #[arg(long, value_name = "FILE", group = "password", help_heading = "Login")]
    pub(super) password_file: Option<PathBuf>,

    /// Command whose first line of output is the password
    ///
    /// /bin/sh runs it once, before the mount: for example `pass show nas`, or `echo "$NAS_PASSWORD"`.
    #[arg(long, value_name = "COMMAND", group = "password", help_heading = "Login")]
    pub(super) password_command: Option<String>,

    /// Take user names and passwords from ~/.netrc, or from $NETRC
    ///
    /// An entry is used for the sources' servers, and for a login host that they redirect to.
    #[arg(long, help_heading = "Login")]
    pub(super) netrc: bool,

    /// Take user names and passwords from this netrc file
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    pub(super) netrc_file: Option<PathBuf>,

    /// Bearer token for the source's server
    ///
    /// The token is safer in the environment: FETCHFS_BEARER_TOKEN.
    #[arg(long, value_name = "TOKEN", group = "token", help_heading = "Login")]
    pub(super) bearer_token: Option<String>,

    /// File whose first line is the bearer token
    ///
    /// The file is read again after a 401 from the server. A second line may give the token's lifetime, as 30m or in
    /// seconds; the file is then read again before the token expires.
    #[arg(long, value_name = "FILE", group = "token", help_heading = "Login")]
    pub(super) bearer_token_file: Option<PathBuf>,

    /// Command that prints the bearer token
    ///
    /// /bin/sh runs it, and again after a 401 from the server. Its output has the form of --bearer-token-file.
    #[arg(long, value_name = "COMMAND", group = "token", help_heading = "Login")]
    pub(super) bearer_token_command: Option<String>,

    /// Cookie file in Netscape's format; each cookie is sent only to its own hosts
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    pub(super) cookie_file: Option<PathBuf>,

    /// Do not keep the cookies that servers set
    ///
    /// They are kept in memory until the mount ends, and sent to the hosts that they are for. Those of --cookie-file are
    /// sent in any case.
    #[arg(long, help_heading = "Login")]
    pub(super) no_cookies: bool,

    /// Trust the CA certificates in this PEM file, in addition to the system's
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(super) ca_cert: Option<PathBuf>,

    /// Client certificate, as a PEM file
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(super) client_cert: Option<PathBuf>,

    /// Private key of the client certificate, if it is not in the same PEM file
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = "TLS")]
    pub(super) client_key: Option<PathBuf>,

    /// Do not verify TLS certificates (unsafe)
    ///
    /// An attacker on the network can then read and change everything that is transferred, including passwords.
    #[arg(long, help_heading = "TLS")]
    pub(super) insecure: bool,
}
