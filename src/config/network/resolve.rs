//! Resolves the options about servers to the client's configuration.
//!
//! Files with secrets are read here, once, before the process goes to the background; a token's file is read when it is
//! needed. **No error repeats a value that may be a secret.**

use std::path::{Path, PathBuf};

use reqwest::header::HeaderMap;

use super::NetworkArgs;
use super::command;
use super::error::NetworkError;
use super::values::{self, header, read};
use crate::config::paths::{absolute, home};
use crate::config::source;
use crate::http::{
    AccessConfig, CookieConfig, HttpConfig, Login, MirrorConfig, Netrc, Origin, Protocol, ProxyChoice, Secret,
    TierConfig, TlsConfig, TokenSource,
};
use crate::source::SourceSpec;

/// The configuration of the shared tier.
fn tier(config: TierConfig, is_private: bool) -> Result<TierConfig, NetworkError> {
    if let Some(name) = config.names().next().filter(|_| is_private) {
        return Err(NetworkError::PrivateTierOfName(name.to_string()));
    }
    Ok(TierConfig { is_private, ..config })
}

impl NetworkArgs {
    /// The client's configuration for these sources. `timeout` and `max_connections` come from other options.
    pub(in crate::config) fn resolve(self, sources: &[SourceSpec]) -> Result<HttpConfig, NetworkError> {
        self.refuse_several_servers(sources)?;
        let (netrc, mirrors) = (self.netrc()?, self.mirrors(sources)?);
        let cookies = self.cookie_file.as_deref().map(values::cookies).transpose()?;
        let defaults = HttpConfig::default();
        let user_agent = self.user_agent.clone().unwrap_or(defaults.user_agent.clone());
        values::check_user_agent(&user_agent)?;
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
            cookies: CookieConfig {
                file: cookies.unwrap_or_default(),
                keeps: !self.no_cookies,
            },
            mirrors,
            tier: tier(self.tier.unwrap_or_default(), self.tier_private)?,
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
            ("--password-command", self.password_command.is_some()),
            ("--bearer-token", self.bearer_token.is_some()),
            ("--bearer-token-file", self.bearer_token_file.is_some()),
            ("--bearer-token-command", self.bearer_token_command.is_some()),
            ("--header", !self.header.is_empty()),
        ];
        let Some((option, _)) = secrets.into_iter().find(|(_, is_given)| *is_given) else {
            return Ok(());
        };
        let mut origins = sources
            .iter()
            .filter_map(|source| Origin::of(&source.url))
            .filter(|origin| !origin.is_local());
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
            let read = source::parse(text)
                .ok()
                .filter(|mirror| mirror.kind.is_none() && !mirror.is_local());
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
        values::netrc(&path)
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
            password = Some(Secret::new(values::first_line("--password-file", path)?));
        }
        if let Some(command) = &self.password_command {
            let line = command::first_line(command).map_err(NetworkError::Command)?;
            password = Some(Secret::new(line));
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
    let (name, value) = header(name, value)?;
    headers.append(name, value);
    Ok(())
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
