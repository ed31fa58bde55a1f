//! The settings of a cache about servers: who asks, by which way, and whom to trust.
//!
//! The names are those of the options of `fetchfs mount`, and the values are checked by the same functions.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::builder::CacheBuilder;
use super::error::{Error, ErrorKind};
use crate::config::{NetworkError, read_cookies, read_netrc, request_header};
use crate::http::{Login, Protocol, ProxyChoice, Secret, TokenSource};

/// # Logins
///
/// A login, a token and headers are for one server: that of the first URL that is opened or mounted with this cache. URLs
/// of another server are refused then. A program that reads from several servers with different credentials opens several
/// caches, which may share a folder. For servers that only redirect, nothing is needed: no redirect target receives
/// credentials, except the host of an entry in the [netrc file](Self::netrc_file), its own login.
///
/// ```no_run
/// # fn main() -> Result<(), fetchfs::Error> {
/// let store = fetchfs::Cache::builder()
///     .bearer_token_file("/run/secrets/store-token")
///     .header("X-Project", "atlas")
///     .ca_cert("/etc/ssl/our-ca.pem")
///     .open()?;
/// let file = store.open_url("https://store.example.org/data/2024.parquet")?;
/// # Ok(())
/// # }
/// ```
impl CacheBuilder {
    /// The user name and password for the server, by Basic or Digest authentication. A URL with a user name of its own goes
    /// before it.
    ///
    /// Default: none.
    #[doc(alias = "basic_auth")]
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> CacheBuilder {
        self.config.http.access.login = Some(Login {
            user: user.into(),
            password: Secret::new(password.into()),
        });
        self
    }

    /// A netrc file with user names and passwords by host, as curl, wget and git read it. It is read by [`Self::open`]. Its
    /// logins are for as many servers as it names.
    ///
    /// Default: none.
    pub fn netrc_file(mut self, path: impl Into<PathBuf>) -> CacheBuilder {
        self.files.netrc = Some(path.into());
        self
    }

    /// The bearer token for the server. Replaces an earlier token.
    ///
    /// Default: none.
    #[doc(alias = "bearer_auth")]
    pub fn bearer_token(mut self, token: impl Into<String>) -> CacheBuilder {
        self.config.http.access.token = Some(TokenSource::Given(Secret::new(token.into())));
        self
    }

    /// A file whose first line is the bearer token. It is read again after a 401 from the server. A second line may give the
    /// token's lifetime, as `30m` or in seconds; then it is also read again before the token expires. Replaces an earlier
    /// token.
    ///
    /// Default: none.
    pub fn bearer_token_file(mut self, path: impl Into<PathBuf>) -> CacheBuilder {
        let path = path.into();
        match std::path::absolute(&path) {
            Ok(path) => self.config.http.access.token = Some(TokenSource::File(path)),
            Err(error) => self.refuse(format!("bearer_token_file: {}: {error}", path.display())),
        }
        self
    }

    /// A command that prints the bearer token, in the form of [`Self::bearer_token_file`]. `/bin/sh` runs it, and again after
    /// a 401 from the server. Replaces an earlier token.
    ///
    /// Default: none.
    pub fn bearer_token_command(mut self, command: impl Into<String>) -> CacheBuilder {
        self.config.http.access.token = Some(TokenSource::Command(Secret::new(command.into())));
        self
    }

    /// A header of each request to the server. Called several times, each is added. Headers that fetchfs sets itself, as
    /// `Range`, are refused by [`Self::open`].
    ///
    /// Default: none.
    #[doc(alias = "default_headers")]
    pub fn header(mut self, name: &str, value: &str) -> CacheBuilder {
        match request_header(name, value) {
            Ok((name, value)) => drop(self.config.http.access.headers.append(name, value)),
            Err(error) => self.refuse(error.to_string()),
        }
        self
    }

    /// A file of cookies in Netscape's format, as curl and browser extensions write it. It is read by [`Self::open`]. Each
    /// cookie is sent only to its own hosts.
    ///
    /// Default: none.
    pub fn cookie_file(mut self, path: impl Into<PathBuf>) -> CacheBuilder {
        self.files.cookies = Some(path.into());
        self
    }

    /// Whether the cookies that servers set are kept, in memory, and sent to the hosts that they are for. Those of
    /// [`cookie_file`](Self::cookie_file) are sent in any case.
    ///
    /// Default: on.
    #[doc(alias = "cookie_store")]
    pub fn keep_cookies(mut self, is_wanted: bool) -> CacheBuilder {
        self.config.http.cookies.keeps = is_wanted;
        self
    }

    /// The proxy: `http://HOST:PORT`, `https://`, `socks5://`, or `socks5h://`, which resolves host names itself. A user name
    /// and a password may be in it. Hosts in the variable `no_proxy` are reached directly.
    ///
    /// Default: the variables `http_proxy`, `https_proxy` and `all_proxy`.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), fetchfs::Error> {
    /// let cache = fetchfs::Cache::builder().proxy("socks5h://127.0.0.1:1080").open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn proxy(mut self, url: impl Into<String>) -> CacheBuilder {
        self.config.http.proxy = ProxyChoice::Url(Secret::new(url.into()));
        self
    }

    /// Uses no proxy, whatever the environment says.
    ///
    /// Default: off.
    pub fn no_proxy(mut self) -> CacheBuilder {
        self.config.http.proxy = ProxyChoice::Direct;
        self
    }

    /// A PEM file of certificate authorities to trust, in addition to the system's.
    ///
    /// Default: none.
    #[doc(alias = "add_root_certificate")]
    pub fn ca_cert(mut self, path: impl Into<PathBuf>) -> CacheBuilder {
        self.config.http.tls.ca_cert = Some(path.into());
        self
    }

    /// A PEM file with the client certificate, and its key if there is no [`client_key`](Self::client_key).
    ///
    /// Default: none.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), fetchfs::Error> {
    /// let cache = fetchfs::Cache::builder()
    ///     .client_cert("/etc/ssl/me.pem")
    ///     .client_key("/etc/ssl/private/me.key")
    ///     .open()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "identity")]
    pub fn client_cert(mut self, path: impl Into<PathBuf>) -> CacheBuilder {
        self.config.http.tls.client_cert = Some(path.into());
        self
    }

    /// A PEM file with the key of the [`client_cert`](Self::client_cert).
    ///
    /// Default: the key is in the certificate's file.
    pub fn client_key(mut self, path: impl Into<PathBuf>) -> CacheBuilder {
        self.config.http.tls.client_key = Some(path.into());
        self
    }

    /// Accepts any certificate. **An attacker on the network can then read and change everything**, passwords included.
    ///
    /// Default: off.
    #[doc(alias = "danger_accept_invalid_certs")]
    pub fn insecure(mut self, is_insecure: bool) -> CacheBuilder {
        self.config.http.tls.insecure = is_insecure;
        self
    }

    /// Maximum time to connect, TLS included; more than none.
    ///
    /// Default: 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> CacheBuilder {
        self.config.http.connect_timeout = time;
        self
    }

    /// The local address to connect from.
    ///
    /// Default: the system's choice.
    #[doc(alias = "local_address")]
    pub fn bind_address(mut self, address: IpAddr) -> CacheBuilder {
        self.config.http.bind_address = Some(address);
        self
    }

    /// Uses HTTP/2 if the server supports it, and always without TLS.
    ///
    /// Default: off. HTTP/1.1 is faster for large files, because each range has a connection of its own. A server that
    /// supports only HTTP/2 gets HTTP/2 in any case.
    pub fn http2(mut self, is_wanted: bool) -> CacheBuilder {
        self.config.http.protocol = if is_wanted { Protocol::Http2 } else { Protocol::Http1 };
        self
    }

    /// Maximum number of redirects of one request.
    ///
    /// Default: 10.
    pub fn max_redirects(mut self, redirects: usize) -> CacheBuilder {
        self.config.http.max_redirects = redirects;
        self
    }

    /// Notes a setting that can't be meant, for [`Self::open`].
    pub(super) fn refuse(&mut self, what: String) {
        self.error.get_or_insert(Error::new(ErrorKind::InvalidInput, what));
    }

    /// Reads the files with credentials of several servers.
    pub(super) fn read_files(&mut self) -> Result<(), Error> {
        let invalid = |error: NetworkError| Error::new(ErrorKind::InvalidInput, error.to_string());
        if let Some(path) = &self.files.netrc {
            self.config.http.access.netrc = read_netrc(path).map_err(invalid)?;
        }
        if let Some(path) = &self.files.cookies {
            self.config.http.cookies.file = read_cookies(path).map_err(invalid)?;
        }
        Ok(())
    }
}
