//! Who we are, bound to the origins that are to know it.
//!
//! Passwords, tokens and headers come from URLs that the user gave (`https://user:password@host/`), from options and
//! from netrc files. [`Access::adopt`] is the one place where an origin gets them: it is called for the sources of the
//! mount, and for nothing that a server said. So neither a redirect nor a listing's link can take them elsewhere
//! (docs/semantics.md, promise 9), and a URL has none of them once it was adopted.
//!
//! Over https a login goes out as Basic authentication (RFC 7617) with the first request, which costs no round trip. Over
//! http that would show the password to whoever listens, also where the server never wanted it: there the first request
//! says nothing, and what the server's 401 asks for goes out from then on, the strongest of it that we know: Digest
//! (RFC 7616), else Basic. A token goes out as Bearer (RFC 6750). When an origin answers 401, [`Access::renew`] finds out
//! whether there is something better to say.

mod challenge;
mod digest;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod netrc;
mod token;

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use reqwest::{
    Method, RequestBuilder,
    header::{self, HeaderMap, HeaderValue},
};
use url::Url;

use super::{HttpErrorKind, Origin, Secret, redact::strip};
use challenge::Challenge;
use digest::Digest;
pub use netrc::{Netrc, NetrcError};
use token::Token;
pub use token::TokenSource;

/// What the servers of the sources get to see of who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessConfig {
    /// For every source whose URL has no user.
    pub login: Option<Login>,
    /// Where the token comes from; goes before any login.
    pub token: Option<TokenSource>,
    /// Logins by host, for sources that have neither.
    pub netrc: Netrc,
    /// More headers for each request.
    pub headers: HeaderMap,
}

/// A user name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password; may be empty.
    pub password: Secret,
}

/// What is known of who we are, by origin. Deliberately without `Debug`.
pub(crate) struct Access {
    config: AccessConfig,
    /// One token for all origins: options that are meant for one server are accepted for one only.
    token: Option<Arc<Token>>,
    /// Guards nothing but the map; nothing else is locked under it, and it is never held over an await.
    homes: Mutex<HashMap<Origin, Arc<HomeOrigin>>>,
}

/// An origin that a source is at.
struct HomeOrigin {
    login: Option<Login>,
    /// How the login is told. Never held over an await.
    scheme: Mutex<Scheme>,
}

/// How an origin is told a login.
enum Scheme {
    /// Not at all, before it asks.
    Unasked,
    Basic,
    Digest(Digest),
}

/// What a request said of who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing that could be said better.
    Nothing,
    /// Nothing, although there is a login: the origin has not asked for it.
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
    pub fn new(config: AccessConfig) -> Access {
        Access {
            token: config.token.clone().map(|source| Arc::new(Token::new(source))),
            config,
            homes: Mutex::default(),
        }
    }

    /// Takes user and password out of a URL that the user gave, and remembers its origin as one that gets to see them,
    /// or what options and netrc say.
    pub fn adopt(&self, mut url: Url) -> Url {
        let (user, password) = (decode(url.username()), url.password().map(decode));
        strip(&mut url);
        let Some(origin) = Origin::of(&url) else { return url };
        let written = (!user.is_empty() || password.is_some()).then(|| self.complete(user, password, &url));
        let mut homes = self.homes.lock();
        if written.is_some() || !homes.contains_key(&origin) {
            let login = written
                .or_else(|| self.config.login.clone())
                .or_else(|| self.config.netrc.login(url.host_str()?, None));
            let scheme = Mutex::new(match url.scheme() {
                "https" => Scheme::Basic,
                _ => Scheme::Unasked,
            });
            homes.insert(origin, Arc::new(HomeOrigin { login, scheme }));
        }
        url
    }

    /// The login that a URL names, with the password that is known for its user if the URL has none.
    fn complete(&self, user: String, password: Option<String>, url: &Url) -> Login {
        let elsewhere = || {
            let by_option = self.config.login.clone().filter(|login| login.user == user);
            by_option.or_else(|| self.config.netrc.login(url.host_str()?, Some(&user)))
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

    /// Adds what the URL's origin is to see; nothing if there is nothing for that origin.
    ///
    /// # Errors
    /// `NoCredentials` if there should be a token and it can't be had.
    pub async fn authorize(
        &self,
        method: &Method,
        url: &Url,
        request: RequestBuilder,
    ) -> Result<(RequestBuilder, Shown), HttpErrorKind> {
        let Some(home) = self.home(url) else {
            return Ok((request, Shown::Nothing));
        };
        let request = request.headers(self.config.headers.clone());
        if self.config.headers.contains_key(header::AUTHORIZATION) {
            return Ok((request, Shown::Nothing));
        }
        if let Some(token) = &self.token {
            let (token, generation) = token.current().await?;
            return Ok((request.bearer_auth(token.expose()), Shown::Token { generation }));
        }
        let Some(login) = &home.login else {
            return Ok((request, Shown::Nothing));
        };
        match &mut *home.scheme.lock() {
            Scheme::Unasked => return Ok((request, Shown::Unasked)),
            Scheme::Basic => {}
            Scheme::Digest(digest) => {
                let nonce = digest.nonce().to_owned();
                // Only what a header may hold was taken from the challenge, and the user name is checked here.
                if let Ok(mut value) = HeaderValue::from_bytes(digest.answer(login, method, url).as_bytes()) {
                    value.set_sensitive(true);
                    return Ok((request.header(header::AUTHORIZATION, value), Shown::Digest { nonce }));
                }
            }
        }
        let request = request.basic_auth(&login.user, Some(login.password.expose()));
        Ok((request, Shown::Basic))
    }

    /// After a 401: whether there is something else to say than what was said, so that asking again may help.
    ///
    /// # Errors
    /// `NoCredentials` if a new token can't be had.
    pub async fn renew(&self, url: &Url, shown: &Shown, answer: &HeaderMap) -> Result<bool, HttpErrorKind> {
        let Some(home) = self.home(url) else { return Ok(false) };
        match (shown, &self.token) {
            (Shown::Nothing, _) => Ok(false),
            (Shown::Token { generation }, Some(token)) => token.renew(*generation).await,
            (Shown::Token { .. }, None) => Ok(false),
            (Shown::Unasked | Shown::Basic | Shown::Digest { .. }, _) => {
                Ok(home.choose(shown, &challenge::all(answer)))
            }
        }
    }

    /// The login that this URL's origin gets to see when it asks for one.
    pub fn login_at(&self, url: &Url) -> Option<Login> {
        self.home(url)?.login.clone()
    }

    /// Whether a source is at this URL's origin, so that it may see who we are.
    pub fn is_home(&self, url: &Url) -> bool {
        self.home(url).is_some()
    }

    /// Whether there is something by which to log in at this URL's origin.
    pub fn logs_in_at(&self, url: &Url) -> bool {
        self.home(url).is_some_and(|home| {
            home.login.is_some() || self.token.is_some() || self.config.headers.contains_key(header::AUTHORIZATION)
        })
    }

    fn home(&self, url: &Url) -> Option<Arc<HomeOrigin>> {
        self.homes.lock().get(&Origin::of(url)?).cloned()
    }
}

impl HomeOrigin {
    /// Takes up what a 401 asks for. False if that is what was refused, or nothing that we know.
    fn choose(&self, shown: &Shown, challenges: &[Challenge]) -> bool {
        let mut scheme = self.scheme.lock();
        if let Some(offered) = Digest::best(challenges) {
            return match (shown, &*scheme) {
                // Another request has taken up a newer one meanwhile.
                (Shown::Digest { nonce }, Scheme::Digest(known)) if known.nonce() != nonce => true,
                (Shown::Digest { .. }, _) if !offered.is_stale() => false,
                _ => {
                    *scheme = Scheme::Digest(offered);
                    true
                }
            };
        }
        let asks_for_basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        let is_news = asks_for_basic && *shown != Shown::Basic;
        if is_news {
            *scheme = Scheme::Basic;
        }
        is_news
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
