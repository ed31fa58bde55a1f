//! The options about servers: connections, authentication, trust.
//!
//! A part of the table of options ([`super::MountArgs`]). [`NetworkArgs::resolve`] combines their values. clap parses
//! no secret values, because its errors repeat the value.

mod meaning;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::units;
pub use meaning::NetworkError;

/// The options about servers, before they are resolved.
#[derive(Args)]
pub struct NetworkArgs {
    /// The longest that making a connection takes
    #[arg(
        long, value_name = "TIME", default_value = "10s", value_parser = units::time_above_zero,
        help_heading = "Network"
    )]
    pub(super) connect_timeout: Duration,

    /// The local address from which to connect
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub(super) bind_address: Option<IpAddr>,

    /// The proxy: http://HOST:PORT, https://, socks5:// or socks5h://; `none` is none
    ///
    /// With socks5h the proxy looks up names. A login is written as http://USER:PASSWORD@HOST:PORT.
    ///
    /// Default: what http_proxy, https_proxy, all_proxy and no_proxy say. no_proxy counts in any case.
    #[arg(long, value_name = "URL", help_heading = "Network")]
    pub(super) proxy: Option<String>,

    /// Speak HTTP/2 where the server can, and always where there is no TLS
    ///
    /// The default is HTTP/1.1, which is faster for large files because each range has its own connection. Servers with
    /// nothing but HTTP/2 get HTTP/2 in any case.
    #[arg(long, help_heading = "Network")]
    pub(super) http2: bool,

    /// The longest index page that is read
    ///
    /// A longer page is an error, so that no server can fill the memory. 256MiB hold some two million names.
    #[arg(
        long, value_name = "SIZE", default_value = "256MiB", value_parser = units::size_above_zero,
        help_heading = "Network"
    )]
    pub(super) max_listing_size: u64,

    /// The most names that are taken from one index page
    ///
    /// A page with more is an error. Each name takes some 80 bytes of memory while it is remembered, and 300 while the
    /// kernel knows it. Over all directories at most twice as many names are remembered, those that were listed last.
    #[arg(
        long, value_name = "N", default_value = "1000000", value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Network"
    )]
    pub(super) max_entries: u32,

    /// Another URL at which the same files are, asked where the source's own does not answer
    ///
    /// A mirror stands for the whole source: what is below the source is below the mirror by the same name. May be
    /// given several times, and only for one source. A mirror's bytes count if its response has the same size and ETag,
    /// or the same date. Its names and versions count only while the source has given none. A mirror receives no login,
    /// token or header.
    #[arg(long, value_name = "URL", help_heading = "Network")]
    pub(super) mirror: Vec<String>,

    /// The most redirects that one request follows
    #[arg(long, value_name = "N", default_value = "10", help_heading = "Network")]
    pub(super) max_redirects: u16,

    /// Show what index pages link to elsewhere, too
    ///
    /// Without it, only links directly below the page become names. With it, links to another directory (as in Python
    /// package indexes) or to another server do too, by the last part of their path. Other servers receive no login,
    /// token or header.
    #[arg(long, help_heading = "Network")]
    pub(super) external_links: bool,

    /// Show links with a query, too
    ///
    /// Without it, `a.csv?download=1` is not shown. With it, the file appears as `a.csv` and is requested with its
    /// query. Of several links with one name, the first counts.
    #[arg(long, help_heading = "Network")]
    pub(super) query_links: bool,

    /// What to call this program
    ///
    /// Default: fetchfs/ and the version.
    #[arg(long, value_name = "TEXT", help_heading = "Network")]
    pub(super) user_agent: Option<String>,

    /// A header for the source's server: 'NAME: VALUE', or @FILE
    ///
    /// The header is sent with each request to that server, and not to redirect targets. May be given several times; a
    /// file has one header in each line.
    #[arg(long, value_name = "HEADER", help_heading = "Network")]
    pub(super) header: Vec<String>,

    /// The user name for the source's server, or NAME:PASSWORD
    ///
    /// For Basic and Digest authentication. A password is safer in --password-file, or in the environment:
    /// FETCHFS_LOGIN.
    #[arg(long, value_name = "NAME", help_heading = "Login")]
    pub(super) login: Option<String>,

    /// A file whose first line is the password
    ///
    /// For the user of --login, or the one that the URL names.
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    pub(super) password_file: Option<PathBuf>,

    /// Take user names and passwords from ~/.netrc, or from $NETRC
    #[arg(long, help_heading = "Login")]
    pub(super) netrc: bool,

    /// Take user names and passwords from this netrc file
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    pub(super) netrc_file: Option<PathBuf>,

    /// A bearer token for the source's server
    ///
    /// The token is safer in the environment: FETCHFS_BEARER_TOKEN.
    #[arg(long, value_name = "TOKEN", group = "token", help_heading = "Login")]
    pub(super) bearer_token: Option<String>,

    /// A file whose first line is the bearer token
    ///
    /// The file is read again after a 401 from the server. A second line may give the token's lifetime, as 30m or in
    /// seconds; the file is then read again before its end.
    #[arg(long, value_name = "FILE", group = "token", help_heading = "Login")]
    pub(super) bearer_token_file: Option<PathBuf>,

    /// A command that prints the bearer token
    ///
    /// /bin/sh runs it, and again after a 401 from the server. Its output has the form of --bearer-token-file.
    #[arg(long, value_name = "COMMAND", group = "token", help_heading = "Login")]
    pub(super) bearer_token_command: Option<String>,

    /// A file of cookies in Netscape's format, each for the hosts that it names
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    pub(super) cookie_file: Option<PathBuf>,

    /// Trust the authorities in this PEM file beside the system's
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(super) ca_cert: Option<PathBuf>,

    /// Show servers the certificate in this PEM file
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(super) client_cert: Option<PathBuf>,

    /// The PEM file with its key, unless --client-cert has that too
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = "TLS")]
    pub(super) client_key: Option<PathBuf>,

    /// Believe any certificate: whoever is on the way can read and change everything
    #[arg(long, help_heading = "TLS")]
    pub(super) insecure: bool,
}
