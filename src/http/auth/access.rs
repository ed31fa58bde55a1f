//! The credentials of each origin, and which of them a request carries.

use std::{collections::HashMap, path::Path, sync::Arc};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use reqwest::{
    Method, RequestBuilder,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use url::Url;

use super::challenge::{self, Challenge};
use super::digest::Digest;
use super::login::Login;
use super::netrc::Netrc;
use super::token::{Token, TokenSource};
use crate::http::redact::strip;
use crate::http::{HttpErrorKind, MOST_ORIGINS, Origin, Secret};

/// The credentials for the sources' servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessConfig {
    /// For every source whose URL has no user.
    pub login: Option<Login>,
    /// Where the token comes from; takes precedence over any login.
    pub token: Option<TokenSource>,
    /// Logins by host: for sources without token and login, and for the login hosts that the sources' servers redirect
    /// to.
    pub netrc: Netrc,
    /// Additional headers of each request.
    pub headers: HeaderMap,
}

impl AccessConfig {
    /// The file of the token, if it is read from one.
    pub(crate) fn token_file(&self) -> Option<&Path> {
        match &self.token {
            Some(TokenSource::File(path)) => Some(path),
            _ => None,
        }
    }

    /// Returns true if there are credentials for a single server. Those of a netrc file are each for its own host.
    pub(crate) fn is_for_one_server(&self) -> bool {
        self.login.is_some() || self.token.is_some() || !self.headers.is_empty()
    }
}

/// All credentials, by origin. No `Debug`, so that no log can show them.
pub(crate) struct Access {
    config: AccessConfig,
    /// One token for all origins: the configuration accepts options for a single server only.
    token: Option<Arc<Token>>,
    /// Guards only the map. **No other lock is taken under it, and it is never held over an await.**
    homes: Mutex<HashMap<Origin, Arc<HomeOrigin>>>,
}

/// An origin that may receive credentials.
struct HomeOrigin {
    /// True if it is a source's. Otherwise a netrc file names its host, and it receives that login only.
    is_source: bool,
    login: Option<Login>,
    /// What its URL says of the login.
    written: Option<Written>,
    /// How the login is sent. Never held over an await.
    scheme: Mutex<Scheme>,
}

/// User and password of a URL that the user has written.
#[derive(Clone)]
struct Written {
    user: String,
    password: Option<String>,
}

/// How a login is sent to an origin.
enum Scheme {
    /// Not before the origin asks for it.
    Unasked,
    Basic,
    Digest(Digest),
}

/// The credentials that a request carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SentCredentials {
    /// None, and there are no better ones.
    Nothing,
    /// None although there is a login: the origin has not asked for it.
    Unasked,
    Basic,
    Digest {
        nonce: String,
    },
    Token {
        generation: u64,
    },
}

impl Access {
    pub(crate) fn new(config: AccessConfig) -> Access {
        Access {
            token: config.token.clone().map(|source| Arc::new(Token::new(source))),
            config,
            homes: Mutex::default(),
        }
    }

    /// Removes user and password from a URL that the user gave, and binds them to its origin. Without them, binds what
    /// options and netrc say.
    pub(crate) fn adopt(&self, mut url: Url) -> Url {
        let (user, password) = (decode(url.username()), url.password().map(decode));
        strip(&mut url);
        let Some(origin) = Origin::of(&url) else { return url };
        let written = (!user.is_empty() || password.is_some()).then_some(Written { user, password });
        let mut homes = self.homes.lock();
        if written.is_some() || !homes.get(&origin).is_some_and(|home| home.is_source) {
            let login = self.login_of(written.clone(), origin.host());
            let home = HomeOrigin::new(login, written, origin.is_https(), true);
            homes.insert(origin, Arc::new(home));
        }
        url
    }

    /// The login for a source at this host.
    fn login_of(&self, written: Option<Written>, host: &str) -> Option<Login> {
        let written = written.map(|written| self.complete(written, host));
        written
            .or_else(|| self.config.login.clone())
            .or_else(|| self.config.netrc.login(host, None))
    }

    /// The same origins with other credentials. An origin whose login is the same keeps what is known of it.
    pub(crate) fn changed(&self, config: AccessConfig) -> Access {
        let changed = Access::new(config);
        let homes = self.homes.lock();
        let sources = homes.iter().filter(|(_, home)| home.is_source);
        *changed.homes.lock() = sources
            .map(|(origin, home)| {
                let login = changed.login_of(home.written.clone(), origin.host());
                let home = match login == home.login {
                    true => Arc::clone(home),
                    false => Arc::new(HomeOrigin::new(login, home.written.clone(), origin.is_https(), true)),
                };
                (origin.clone(), home)
            })
            .collect();
        changed
    }

    /// Binds the login of a netrc entry for a login host: a host that the entry names, no source has, and a server's
    /// redirect leads to. Over http only if no source is on https: a redirect must not show a password to the network.
    fn adopt_login_host(&self, url: &Url, homes: &mut HashMap<Origin, Arc<HomeOrigin>>) -> Option<Arc<HomeOrigin>> {
        let (origin, host) = (Origin::of(url)?, url.host_str()?);
        let login = self.config.netrc.login_of_machine(host)?;
        let mut sources = homes
            .iter()
            .filter(|(_, home)| home.is_source)
            .map(|(origin, _)| origin);
        let is_refused = |source: &Origin| source.host() == host || (source.is_https() && !origin.is_https());
        if homes.len() >= MOST_ORIGINS || sources.any(is_refused) {
            return None;
        }
        let home = Arc::new(HomeOrigin::new(Some(login), None, origin.is_https(), false));
        homes.insert(origin, Arc::clone(&home));
        Some(home)
    }

    /// The login that a URL names; if it has no password, with the known one for its user.
    fn complete(&self, Written { user, password }: Written, host: &str) -> Login {
        let elsewhere = || {
            let by_option = self.config.login.clone().filter(|login| login.user == user);
            by_option.or_else(|| self.config.netrc.login(host, Some(&user)))
        };
        match password {
            Some(password) => Login {
                user,
                password: Secret::new(password),
            },
            None => elsewhere().unwrap_or(Login {
                user,
                password: Secret::new(""),
            }),
        }
    }

    /// Adds the credentials for the URL's origin, if there are any.
    ///
    /// # Errors
    /// `NoCredentials` if a token is configured but unavailable.
    pub(crate) async fn authorize(
        &self,
        method: &Method,
        url: &Url,
        request: RequestBuilder,
    ) -> Result<(RequestBuilder, SentCredentials), HttpErrorKind> {
        let (headers, sent) = self.headers(method, url).await?;
        Ok((request.headers(headers), sent))
    }

    /// The headers with which another machine may ask this URL's origin in place of this one: a token, a login as Basic,
    /// and the headers that the user gave. `None` if [`Self::can_be_passed_on`] is false.
    ///
    /// # Errors
    /// `NoCredentials` if a token is configured but unavailable.
    pub(crate) async fn passed_on(&self, url: &Url) -> Result<Option<HeaderMap>, HttpErrorKind> {
        if !self.can_be_passed_on(url) {
            return Ok(None);
        }
        let (headers, sent) = self.headers(&Method::GET, url).await?;
        let is_of_one_request = matches!(sent, SentCredentials::Digest { .. } | SentCredentials::Unasked);
        Ok((!is_of_one_request).then_some(headers))
    }

    /// Returns true if another machine can use what is sent to this URL's origin. Digest credentials are valid for one
    /// request only, and a login is not sent before the origin has asked for it.
    pub(crate) fn can_be_passed_on(&self, url: &Url) -> bool {
        let Some(home) = self.home(url) else { return true };
        let is_by_header =
            home.is_source && (self.token.is_some() || self.config.headers.contains_key(header::AUTHORIZATION));
        is_by_header || home.login.is_none() || matches!(*home.scheme.lock(), Scheme::Basic)
    }

    /// The headers of a request for this URL, and which credentials are in them.
    async fn headers(&self, method: &Method, url: &Url) -> Result<(HeaderMap, SentCredentials), HttpErrorKind> {
        let Some(home) = self.home(url) else {
            return Ok((HeaderMap::new(), SentCredentials::Nothing));
        };
        let mut headers = match home.is_source {
            true => self.config.headers.clone(),
            false => HeaderMap::new(),
        };
        if headers.contains_key(header::AUTHORIZATION) {
            return Ok((headers, SentCredentials::Nothing));
        }
        if let Some(token) = self.token.as_ref().filter(|_| home.is_source) {
            let (token, generation) = token.current().await?;
            headers.insert(header::AUTHORIZATION, secret(&format!("Bearer {}", token.expose()))?);
            return Ok((headers, SentCredentials::Token { generation }));
        }
        let Some(login) = &home.login else {
            return Ok((headers, SentCredentials::Nothing));
        };
        match &mut *home.scheme.lock() {
            Scheme::Unasked => return Ok((headers, SentCredentials::Unasked)),
            Scheme::Basic => {}
            Scheme::Digest(digest) => {
                let nonce = digest.nonce().to_owned();
                // The challenge's values were restricted to valid header characters when parsed; the user name is
                // checked here.
                if let Ok(value) = secret(&digest.answer(login, method, url)) {
                    headers.insert(header::AUTHORIZATION, value);
                    return Ok((headers, SentCredentials::Digest { nonce }));
                }
            }
        }
        let pair = format!("{}:{}", login.user, login.password.expose());
        headers.insert(
            header::AUTHORIZATION,
            secret(&format!("Basic {}", BASE64_STANDARD.encode(pair)))?,
        );
        Ok((headers, SentCredentials::Basic))
    }

    /// After a 401: returns true if there are other credentials than the refused ones, so that another attempt may
    /// help.
    ///
    /// # Errors
    /// `NoCredentials` if no new token is available.
    pub(crate) async fn renew(
        &self,
        url: &Url,
        shown: &SentCredentials,
        answer: &HeaderMap,
    ) -> Result<bool, HttpErrorKind> {
        let Some(home) = self.home(url) else { return Ok(false) };
        match (shown, &self.token) {
            (SentCredentials::Nothing, _) => Ok(false),
            (SentCredentials::Token { generation }, Some(token)) => token.renew(*generation).await,
            (SentCredentials::Token { .. }, None) => Ok(false),
            (SentCredentials::Unasked | SentCredentials::Basic | SentCredentials::Digest { .. }, _) => {
                Ok(home.choose(shown, &challenge::all(answer)))
            }
        }
    }

    /// The login to send to this URL's origin when it asks for one.
    pub(crate) fn login_at(&self, url: &Url) -> Option<Login> {
        self.home(url)?.login.clone()
    }

    /// The netrc file, if it names other hosts than this URL's.
    pub(crate) fn netrc_for_others(&self, url: &Url) -> Option<&Path> {
        self.config.netrc.path_if_for_others(url.host_str()?)
    }

    /// Returns true if a source is at this URL's origin, so that it may receive all credentials.
    pub(crate) fn is_home(&self, url: &Url) -> bool {
        self.home(url).is_some_and(|home| home.is_source)
    }

    /// The header of this name that the user gave for this URL's origin.
    pub(crate) fn header_at(&self, url: &Url, name: &HeaderName) -> Option<&HeaderValue> {
        self.config.headers.get(name).filter(|_| self.is_home(url))
    }

    /// Returns true if the user gave headers for this URL's origin.
    pub(crate) fn has_headers_at(&self, url: &Url) -> bool {
        !self.config.headers.is_empty() && self.is_home(url)
    }

    /// Returns true if there are credentials for this URL's origin.
    pub(crate) fn logs_in_at(&self, url: &Url) -> bool {
        self.home(url).is_some_and(|home| {
            let has_header = || self.config.headers.contains_key(header::AUTHORIZATION);
            home.login.is_some() || (home.is_source && (self.token.is_some() || has_header()))
        })
    }

    fn home(&self, url: &Url) -> Option<Arc<HomeOrigin>> {
        let mut homes = self.homes.lock();
        match homes.get(&Origin::of(url)?) {
            Some(home) => Some(Arc::clone(home)),
            None => self.adopt_login_host(url, &mut homes),
        }
    }
}

impl HomeOrigin {
    fn new(login: Option<Login>, written: Option<Written>, is_https: bool, is_source: bool) -> HomeOrigin {
        HomeOrigin {
            is_source,
            login,
            written,
            scheme: Mutex::new(match is_https {
                true => Scheme::Basic,
                false => Scheme::Unasked,
            }),
        }
    }

    /// Adopts the scheme that a 401 asks for. Returns false if that scheme was just refused, or is not supported.
    fn choose(&self, shown: &SentCredentials, challenges: &[Challenge]) -> bool {
        let mut scheme = self.scheme.lock();
        if let Some(offered) = Digest::best(challenges) {
            return match (shown, &*scheme) {
                // A concurrent request has adopted a newer nonce.
                (SentCredentials::Digest { nonce }, Scheme::Digest(known)) if known.nonce() != nonce => true,
                (SentCredentials::Digest { .. }, _) if !offered.is_stale() => false,
                _ => {
                    *scheme = Scheme::Digest(offered);
                    true
                }
            };
        }
        let asks_for_basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        let is_news = asks_for_basic && *shown != SentCredentials::Basic;
        if is_news {
            *scheme = Scheme::Basic;
        }
        is_news
    }
}

/// A header value that `Debug` does not show.
fn secret(text: &str) -> Result<HeaderValue, HttpErrorKind> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
        HttpErrorKind::NoCredentials("they have characters that are not allowed in a header".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
