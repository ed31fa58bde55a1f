//! Resolves the options about servers to the client's configuration.
//!
//! Files with secrets are read here, once, before the process goes to the background; a token's file is read when it is
//! needed. **No error repeats a value that may be a secret.**

use std::path::{Path, PathBuf};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::NetworkArgs;
use crate::config::paths::{PathError, absolute, home};
use crate::config::source;
use crate::http::{
    AccessConfig, CookieError, CookieJar, HttpConfig, Login, MirrorConfig, Netrc, NetrcError, Origin, Protocol,
    ProxyChoice, Secret, TlsConfig, TokenSource,
};
use crate::source::SourceSpec;

/// Headers that only fetchfs itself can set correctly.
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

/// What is wrong with the options about servers. Contains no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// A file can't be read.
    #[error("can't read {option} {}: {error}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A netrc file is malformed.
    #[error("{} is not a netrc file: {error}", path.display())]
    Netrc {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: NetrcError,
    },
    /// A cookie file is malformed.
    #[error("{} is not a cookie file: {error}", path.display())]
    Cookies {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: CookieError,
    },
    /// A header is malformed.
    #[error("--header: not a header; write `NAME: VALUE`, or @FILE with one in each line")]
    Header,
    /// A header that fetchfs sets itself.
    #[error("--header: `{0}` is set by fetchfs and can't be overridden")]
    OwnHeader(String),
    /// The User-Agent has invalid characters.
    #[error("--user-agent: has a character that is not allowed in a header")]
    UserAgent,
    /// A password without a user.
    #[error("--password-file: the user name is missing; give it with --login, or in the URL: https://USER@HOST/")]
    NoUser,
    /// A user without a password.
    #[error("--login: the password is missing; give a --password-file, or write NAME:PASSWORD")]
    NoPassword,
    /// A mirror that is not an http(s) URL. Without secrets.
    #[error("--mirror: `{0}` is not a URL that begins with http:// or https://")]
    NoMirror(String),
    /// A mirror's URL with a user.
    #[error("--mirror: {0}: credentials are never sent to a mirror; write its URL without a user")]
    MirrorLogin(String),
    /// A mirror for several sources.
    #[error("--mirror needs exactly one source, but there are {0}; mount them separately")]
    MirrorOfSeveral(usize),
    /// One secret for several servers.
    #[error(
        "{option} is for one server, but the sources are on {first} and {second}; mount them separately, or use \
         --netrc-file"
    )]
    SeveralServers {
        /// The option.
        option: &'static str,
        /// A server.
        first: String,
        /// Another one.
        second: String,
    },
    /// A path can't be resolved.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl NetworkError {
    /// Returns true if the command line is wrong, false if a file is.
    pub(crate) fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::File { .. } | Self::Netrc { .. } | Self::Cookies { .. } | Self::Path(_)
        )
    }
}

impl NetworkArgs {
    /// The client's configuration for these sources. `timeout` and `max_connections` come from other options.
    pub(in crate::config) fn resolve(self, sources: &[SourceSpec]) -> Result<HttpConfig, NetworkError> {
        self.refuse_several_servers(sources)?;
        let (netrc, mirrors) = (self.netrc()?, self.mirrors(sources)?);
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
            mirrors,
            tls: TlsConfig {
                ca_cert: self.ca_cert.map(absolute).transpose()?,
                client_cert: self.client_cert.map(absolute).transpose()?,
                client_key: self.client_key.map(absolute).transpose()?,
                insecure: self.insecure,
            },
            ..defaults
        })
    }

    /// Refuses credentials for several servers: they must go to one only.
    fn refuse_several_servers(&self, sources: &[SourceSpec]) -> Result<(), NetworkError> {
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
        let mut origins = sources.iter().filter_map(|source| Origin::of(&source.url));
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

    fn mirrors(&self, sources: &[SourceSpec]) -> Result<MirrorConfig, NetworkError> {
        if self.mirror.is_empty() {
            return Ok(MirrorConfig::default());
        }
        if sources.len() != 1 {
            return Err(NetworkError::MirrorOfSeveral(sources.len()));
        }
        let read = |text: &String| {
            let read = source::parse(text).ok().filter(|mirror| mirror.kind.is_none());
            let url = read.ok_or_else(|| NetworkError::NoMirror(source::shown(text)))?.url;
            if !url.username().is_empty() || url.password().is_some() {
                return Err(NetworkError::MirrorLogin(source::shown(text)));
            }
            Ok(url)
        };
        Ok(MirrorConfig {
            source: sources.first().map(|source| source.url.clone()),
            urls: self.mirror.iter().map(read).collect::<Result<_, _>>()?,
        })
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

    fn login(&self, sources: &[SourceSpec], netrc: &Netrc) -> Result<Option<Login>, NetworkError> {
        let (name, mut password) = match self.login.as_deref().map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Ok((name, password))) => (Some(name), Some(Secret::new(password))),
            Some(Err(name)) => (Some(name), None),
        };
        // If there is a password, all sources are on one server, so any of them may name the user.
        let named = || {
            sources
                .iter()
                .map(|source| source.url.username())
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
        let host = sources
            .first()
            .and_then(|source| source.url.host_str())
            .unwrap_or_default();
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

/// Adds a header in the form `NAME: VALUE`.
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
mod tests;
