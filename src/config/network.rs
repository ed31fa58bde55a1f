//! The options about servers: how they are reached, who asks, and whom to trust.
//!
//! A part of the one table ([`super::MountArgs`]), with what its values mean together. Files that hold secrets are read
//! here, once, before the process leaves for the background; a token's file is read when it is needed. **No error
//! repeats a value that may be a secret**, and clap is given none to check, because its errors would.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::resolve::{absolute, home};
use super::{ConfigError, units};
use crate::http::{
    AccessConfig, CookieError, CookieJar, HttpConfig, Login, Netrc, NetrcError, Origin, Protocol, ProxyChoice, Secret,
    TlsConfig, TokenSource,
};

/// Headers that say what is asked for, which only fetchfs can know.
const OWN_HEADERS: [&str; 9] = [
    "accept-encoding",
    "connection",
    "content-length",
    "if-match",
    "if-range",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// See the module.
#[derive(Args)]
pub struct NetworkArgs {
    /// The longest that making a connection takes
    #[arg(
        long, value_name = "TIME", default_value = "10s", value_parser = units::time_above_zero,
        help_heading = "Network"
    )]
    connect_timeout: Duration,

    /// The local address from which to connect
    #[arg(long, value_name = "IP", help_heading = "Network")]
    bind_address: Option<IpAddr>,

    /// The proxy: http://HOST:PORT, https://, socks5:// or socks5h://; `none` is none
    ///
    /// With socks5h the proxy looks up names. A login is written as http://USER:PASSWORD@HOST:PORT.
    ///
    /// Default: what http_proxy, https_proxy, all_proxy and no_proxy say. no_proxy counts in any case.
    #[arg(long, value_name = "URL", help_heading = "Network")]
    proxy: Option<String>,

    /// Speak HTTP/2 where the server can, and always where there is no TLS
    ///
    /// Without it HTTP/1.1 is spoken, which is faster for large files because each range has a connection of its own;
    /// and HTTP/2 only with servers that have nothing else.
    #[arg(long, help_heading = "Network")]
    http2: bool,

    /// What to call this program
    ///
    /// Default: fetchfs/ and the version.
    #[arg(long, value_name = "TEXT", help_heading = "Network")]
    user_agent: Option<String>,

    /// A header for the source's server: 'NAME: VALUE', or @FILE
    ///
    /// It is sent with each request to that server, and not to where it redirects. May be given several times; a file has
    /// one in each line.
    #[arg(long, value_name = "HEADER", help_heading = "Network")]
    header: Vec<String>,

    /// The user name for the source's server, or NAME:PASSWORD
    ///
    /// For Basic and Digest authentication. Better than here is a password in --password-file, or both in the
    /// environment: FETCHFS_LOGIN.
    #[arg(long, value_name = "NAME", help_heading = "Login")]
    login: Option<String>,

    /// A file whose first line is the password
    ///
    /// For the user of --login, or the one that the URL names.
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    password_file: Option<PathBuf>,

    /// Take user names and passwords from ~/.netrc, or from $NETRC
    #[arg(long, help_heading = "Login")]
    netrc: bool,

    /// Take user names and passwords from this netrc file
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    netrc_file: Option<PathBuf>,

    /// A bearer token for the source's server
    ///
    /// Better than here in the environment: FETCHFS_BEARER_TOKEN.
    #[arg(long, value_name = "TOKEN", group = "token", help_heading = "Login")]
    bearer_token: Option<String>,

    /// A file whose first line is the bearer token
    ///
    /// It is read again when the server answers 401. A second line may say how long the token is good: 30m, or a number of
    /// seconds; it is then read again before.
    #[arg(long, value_name = "FILE", group = "token", help_heading = "Login")]
    bearer_token_file: Option<PathBuf>,

    /// A command that prints the bearer token
    ///
    /// Run by /bin/sh, and again when the server answers 401. What it prints is read as --bearer-token-file is.
    #[arg(long, value_name = "COMMAND", group = "token", help_heading = "Login")]
    bearer_token_command: Option<String>,

    /// A file of cookies in Netscape's format, each for the hosts that it names
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    cookie_file: Option<PathBuf>,

    /// Trust the authorities in this PEM file beside the system's
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    ca_cert: Option<PathBuf>,

    /// Show servers the certificate in this PEM file
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    client_cert: Option<PathBuf>,

    /// The PEM file with its key, unless --client-cert has that too
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = "TLS")]
    client_key: Option<PathBuf>,

    /// Believe any certificate: whoever is on the way can read and change everything
    #[arg(long, help_heading = "TLS")]
    insecure: bool,
}

/// What is wrong with the options about servers. Without any secret.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A file can't be read.
    #[error("can't read {option} {}: {error}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A netrc file is none.
    #[error("{} is no netrc file: {error}", path.display())]
    Netrc {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: NetrcError,
    },
    /// A cookie file is none.
    #[error("{} is no cookie file: {error}", path.display())]
    Cookies {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: CookieError,
    },
    /// A header is none.
    #[error("--header: not a header; write `NAME: VALUE`, or @FILE with one in each line")]
    Header,
    /// A header that fetchfs sets itself.
    #[error("--header: `{0}` is fetchfs's own; it says what is asked for")]
    OwnHeader(String),
    /// Not to be sent.
    #[error("--user-agent: has a character that no header can have")]
    UserAgent,
    /// A password without a user.
    #[error("--password-file: whose password is it? Name the user with --login, or in the URL: https://USER@HOST/")]
    NoUser,
    /// A user without a password.
    #[error("--login: there is no password for this user; name a --password-file, or write NAME:PASSWORD")]
    NoPassword,
    /// One secret for several servers.
    #[error(
        "{option} is for one server, and the sources are on {first} and {second}; mount them apart, or use --netrc-file"
    )]
    SeveralServers {
        /// The option.
        option: &'static str,
        /// A server.
        first: String,
        /// Another one.
        second: String,
    },
}

impl NetworkError {
    /// Whether it is the command line that is wrong, rather than a file.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::File { .. } | Self::Netrc { .. } | Self::Cookies { .. })
    }
}

impl NetworkArgs {
    /// What the client is to do for these sources. `timeout` and `max_connections` are options of their own.
    pub(super) fn resolve(self, sources: &[Url]) -> Result<HttpConfig, ConfigError> {
        self.refuse_several_servers(sources)?;
        let netrc = self.netrc()?;
        let cookies = match &self.cookie_file {
            None => CookieJar::default(),
            Some(path) => CookieJar::parse(&read("--cookie-file", path)?).map_err(|error| NetworkError::Cookies {
                path: path.clone(),
                error,
            })?,
        };
        let defaults = HttpConfig::default();
        let user_agent = self.user_agent.clone().unwrap_or(defaults.user_agent.clone());
        HeaderValue::from_str(&user_agent).map_err(|_| NetworkError::UserAgent)?;
        Ok(HttpConfig {
            connect_timeout: self.connect_timeout,
            user_agent,
            bind_address: self.bind_address,
            proxy: match self.proxy.as_deref() {
                None => ProxyChoice::Environment,
                Some("none") => ProxyChoice::Direct,
                Some(url) => ProxyChoice::Url(Secret::new(url)),
            },
            protocol: if self.http2 { Protocol::Http2 } else { Protocol::Http1 },
            access: AccessConfig {
                login: self.login(sources, &netrc)?,
                headers: self.headers()?,
                token: match (self.bearer_token, self.bearer_token_file, self.bearer_token_command) {
                    (Some(token), ..) => Some(TokenSource::Given(Secret::new(token))),
                    (_, Some(path), _) => Some(TokenSource::File(absolute(path)?)),
                    (.., Some(command)) => Some(TokenSource::Command(Secret::new(command))),
                    (None, None, None) => None,
                },
                netrc,
            },
            cookies,
            tls: TlsConfig {
                ca_cert: self.ca_cert.map(absolute).transpose()?,
                client_cert: self.client_cert.map(absolute).transpose()?,
                client_key: self.client_key.map(absolute).transpose()?,
                insecure: self.insecure,
            },
            ..defaults
        })
    }

    /// What is meant for the server must not go to two.
    fn refuse_several_servers(&self, sources: &[Url]) -> Result<(), NetworkError> {
        let secrets = [
            ("--login", self.login.is_some()),
            ("--password-file", self.password_file.is_some()),
            ("--bearer-token", self.bearer_token.is_some()),
            ("--bearer-token-file", self.bearer_token_file.is_some()),
            ("--bearer-token-command", self.bearer_token_command.is_some()),
            ("--header", !self.header.is_empty()),
        ];
        let Some((option, _)) = secrets.into_iter().find(|(_, is_given)| *is_given) else {
            return Ok(());
        };
        let mut origins = sources.iter().filter_map(Origin::of);
        let Some(first) = origins.next() else { return Ok(()) };
        match origins.find(|other| *other != first) {
            None => Ok(()),
            Some(second) => Err(NetworkError::SeveralServers {
                option,
                first: first.to_string(),
                second: second.to_string(),
            }),
        }
    }

    fn netrc(&self) -> Result<Netrc, NetworkError> {
        let standard = || {
            let named = std::env::var_os("NETRC").map(PathBuf::from);
            named.or_else(|| Some(home()?.join(".netrc")))
        };
        let path = match &self.netrc_file {
            Some(path) => Some(path.clone()),
            None if self.netrc => standard(),
            None => None,
        };
        let Some(path) = path else { return Ok(Netrc::default()) };
        let text = read("the netrc file", &path)?;
        Netrc::parse(&text).map_err(|error| NetworkError::Netrc { path, error })
    }

    fn login(&self, sources: &[Url], netrc: &Netrc) -> Result<Option<Login>, NetworkError> {
        let (name, mut password) = match self.login.as_deref().map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Ok((name, password))) => (Some(name), Some(Secret::new(password))),
            Some(Err(name)) => (Some(name), None),
        };
        // The sources are all on one server if there is a password for it, so any of them may name the user.
        let named = || {
            sources
                .iter()
                .map(Url::username)
                .find(|name| !name.is_empty())
                .map(decode)
        };
        if let Some(path) = &self.password_file {
            let text = read("--password-file", path)?;
            password = Some(Secret::new(text.lines().next().unwrap_or_default()));
        }
        let user = match name
            .map(str::to_owned)
            .or_else(|| password.as_ref().and_then(|_| named()))
        {
            Some(user) => user,
            None if password.is_some() => return Err(NetworkError::NoUser),
            None => return Ok(None),
        };
        let host = sources.first().and_then(Url::host_str).unwrap_or_default();
        let by_netrc = || Some(netrc.login(host, Some(&user))?.password);
        let password = password.or_else(by_netrc).ok_or(NetworkError::NoPassword)?;
        Ok(Some(Login { user, password }))
    }

    fn headers(&self) -> Result<HeaderMap, NetworkError> {
        let mut headers = HeaderMap::new();
        for given in &self.header {
            match given.strip_prefix('@') {
                None => add(&mut headers, given)?,
                Some(path) => {
                    let text = read("--header", Path::new(path))?;
                    let lines = text.lines().map(str::trim);
                    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
                        add(&mut headers, line)?;
                    }
                }
            }
        }
        Ok(headers)
    }
}

/// Adds a header that is written as `NAME: VALUE`.
fn add(headers: &mut HeaderMap, line: &str) -> Result<(), NetworkError> {
    let (name, value) = line.split_once(':').ok_or(NetworkError::Header)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| NetworkError::Header)?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(NetworkError::OwnHeader(name.to_string()));
    }
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| NetworkError::Header)?;
    value.set_sensitive(true);
    headers.append(name, value);
    Ok(())
}

fn read(option: &'static str, path: &Path) -> Result<String, NetworkError> {
    std::fs::read_to_string(path).map_err(|error| NetworkError::File {
        option,
        path: path.to_owned(),
        error,
    })
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::resolve::tests::config;
    use super::*;
    use std::fs;

    fn http(sources: &[&str], arguments: &[&str]) -> Result<HttpConfig, ConfigError> {
        let all: Vec<_> = arguments.iter().chain(sources).chain(&["/"]).copied().collect();
        config(&all).map(|config| config.http)
    }

    fn access(arguments: &[&str]) -> AccessConfig {
        http(&["https://host/"], arguments).unwrap().access
    }

    fn wrong(sources: &[&str], arguments: &[&str]) -> String {
        let error = http(sources, arguments).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        error.to_string()
    }

    #[test]
    fn nothing_is_sent_to_anybody_unless_it_is_asked_for() {
        let plain = http(&["https://host/"], &[]).unwrap();
        assert_eq!(plain, HttpConfig::default());
    }

    #[test]
    fn a_password_comes_from_the_option_a_file_or_netrc() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (password, netrc) = (
            file("p", "two words\nrest"),
            file("n", "machine host login ann password net"),
        );
        let login = |arguments: &[&str]| access(arguments).login.map(|login| (login.user, login.password));
        let is = |user: &str, password: &str| Some((user.to_owned(), Secret::new(password)));
        assert_eq!(login(&["--login=ann:a:b"]), is("ann", "a:b"));
        assert_eq!(
            login(&["--login=ann", "--password-file", &password]),
            is("ann", "two words")
        );
        assert_eq!(login(&["--login=ann", "--netrc-file", &netrc]), is("ann", "net"));
        assert_eq!(
            login(&["--netrc-file", &netrc]),
            None,
            "what netrc says depends on the source"
        );
        assert_ne!(access(&["--netrc-file", &netrc]).netrc, Netrc::default());
        let by_url = http(&["https://b%40b@host/"], &["--password-file", &password]).unwrap();
        assert_eq!(by_url.access.login.unwrap().user, "b@b");
        assert!(wrong(&["https://host/"], &["--password-file", &password]).contains("whose password"));
        assert!(wrong(&["https://host/"], &["--login=eve", "--netrc-file", &netrc]).contains("no password"));
    }

    #[test]
    fn headers_come_one_by_one_or_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# mine\nX-Key: hunter2\n\nX-Key:two\n").unwrap();
        let from_file = format!("@{}", file.path().display());
        let headers = access(&["--header", "Accept-Language: de, en", "--header", &from_file]).headers;
        assert_eq!(headers["accept-language"], "de, en");
        assert_eq!(headers.get_all("x-key").iter().collect::<Vec<_>>(), ["hunter2", "two"]);
        assert!(!format!("{headers:?}").contains("hunter2"));
        for header in ["hunter2", "a b: hunter2", "X: hunter2\u{7f}x"] {
            assert!(
                wrong(&["https://host/"], &["--header", header]).contains("not a header"),
                "{header}"
            );
        }
        assert!(wrong(&["https://host/"], &["--header", "Range: hunter2"]).contains("`range` is fetchfs's own"));
    }

    #[test]
    fn what_is_for_one_server_is_not_given_to_two() {
        let two = ["https://host/a", "https://host:8443/b"];
        for secret in ["--login=ann:hunter2", "--header=X: hunter2", "--bearer-token=hunter2"] {
            assert!(
                wrong(&two, &[secret]).contains("https://host:443 and https://host:8443"),
                "{secret}"
            );
            http(&["https://host/a", "https://host/b"], &[secret]).unwrap();
        }
        http(&two, &["--insecure", "--user-agent=x"]).unwrap();
    }

    #[test]
    fn a_token_comes_from_one_place() {
        assert!(matches!(
            access(&["--bearer-token=t"]).token,
            Some(TokenSource::Given(_))
        ));
        assert_eq!(
            access(&["--bearer-token-file=/t"]).token,
            Some(TokenSource::File("/t".into()))
        );
        assert!(matches!(
            access(&["--bearer-token-command=echo t"]).token,
            Some(TokenSource::Command(_))
        ));
    }
}
