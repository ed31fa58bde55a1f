//! Cookies: those of the user's file, and those that servers set (RFC 6265, and the prefixes and the protection of
//! `Secure` cookies of its successor).
//!
//! A [`CookieJar`] belongs to one client, and so to one mount. **It exists in memory only**: nothing of it is written to
//! disk or logged. `origin` sends what [`CookieJar::header`] returns, and gives each response to [`CookieJar::receive`],
//! also those of the redirects in between: a login host sends the reader back with a cookie.
//!
//! The jar is ours because the crates for it (`cookie_store`) have no bounds, take one cookie for another if one is for
//! a host and the other for its subdomains, and read the clock themselves. The list of public suffixes is a crate.
//!
//! What browsers need and fetchfs does not: `HttpOnly` (there are no scripts), `SameSite` and `Partitioned` (there is no
//! site that embeds another).

mod cookie;
mod cookie_file;
mod set_cookie;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::HashMap,
    fmt, iter,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use reqwest::header::{self, HeaderMap};
use url::{Host, Url};

use cookie::{Cookie, is_path_below};
pub(crate) use cookie_file::{CookieError, CookieFile};

/// Maximum number of cookies that servers may set for one domain (RFC 6265 §6.1). Beyond it, the least recently used
/// one is dropped.
const MOST_OF_A_DOMAIN: usize = 50;

/// Maximum number of cookies that servers may set (RFC 6265 §6.1).
const MOST: usize = 3000;

/// Maximum bytes of a Cookie header, as in curl: with larger ones, servers answer 400 or 431.
const LONGEST_HEADER: usize = 8190;

/// What a jar begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieConfig {
    /// The cookies of the user's file. Default: none.
    pub file: CookieFile,
    /// Whether cookies that servers set are kept and sent. Default: true.
    pub keeps: bool,
}

impl Default for CookieConfig {
    fn default() -> Self {
        CookieConfig {
            file: CookieFile::default(),
            keeps: true,
        }
    }
}

/// The cookies of a client.
pub(crate) struct CookieJar {
    keeps: bool,
    /// Locked for the moment of a look-up or change. **No other lock is taken under it.**
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_domain: HashMap<String, Vec<Stored>>,
    /// Number of cookies that servers have set.
    received: usize,
    /// Counts requests and changes, so that the least recently used cookie can be found.
    uses: u64,
}

struct Stored {
    cookie: Cookie,
    /// True if a server set it, false if it is from the user's file.
    is_received: bool,
    /// Its place in the order in which cookies were set.
    created: u64,
    /// The count of uses when it was last sent or set.
    used: Cell<u64>,
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieJar")
    }
}

impl CookieJar {
    pub(crate) fn new(config: &CookieConfig) -> CookieJar {
        let mut state = State::default();
        for cookie in config.file.cookies() {
            state.replace(cookie.clone(), false);
        }
        CookieJar {
            keeps: config.keeps,
            state: Mutex::new(state),
        }
    }

    /// The Cookie header of a request to `url`; `None` without a matching cookie. Secret.
    pub(crate) fn header(&self, url: &Url, now: SystemTime) -> Option<String> {
        self.header_of(url, now, |_| true)
    }

    /// The Cookie header of a request to `url` with the cookies of the user's file only. Secret.
    pub(crate) fn header_of_the_file(&self, url: &Url, now: SystemTime) -> Option<String> {
        self.header_of(url, now, |stored| !stored.is_received)
    }

    /// Returns true if requests to `url` carry a cookie that a server has set.
    pub(crate) fn has_received(&self, url: &Url, now: SystemTime) -> bool {
        self.header_of(url, now, |stored| stored.is_received).is_some()
    }

    /// The Cookie header with those that are `wanted` of the matching cookies.
    fn header_of(&self, url: &Url, now: SystemTime, wanted: impl Fn(&Stored) -> bool) -> Option<String> {
        let now = seconds(now);
        let state = &mut *self.state.lock();
        if state.by_domain.is_empty() {
            return None;
        }
        state.uses += 1;
        let cookies = domains(url).filter_map(|domain| state.by_domain.get(domain));
        let mut matching: Vec<&Stored> = cookies
            .flatten()
            .filter(|stored| stored.cookie.is_for(url, now) && wanted(stored))
            .collect();
        // Longer paths first, and of equal ones those that were set first (RFC 6265 §5.4).
        matching.sort_by_key(|stored| (Reverse(stored.cookie.path.len()), stored.created));
        let mut text = String::new();
        for Stored { cookie, used, .. } in matching {
            let value = cookie.value.expose();
            if text.len() + cookie.name.len() + value.len() + 3 > LONGEST_HEADER {
                continue;
            }
            used.set(state.uses);
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&cookie.name);
            text.push('=');
            text.push_str(value);
        }
        (!text.is_empty()).then_some(text)
    }

    /// Takes the cookies that the response of `url` sets.
    pub(crate) fn receive(&self, url: &Url, headers: &HeaderMap, now: SystemTime) {
        if !self.keeps || !headers.contains_key(header::SET_COOKIE) {
            return;
        }
        let now = seconds(now);
        let state = &mut *self.state.lock();
        for value in headers.get_all(header::SET_COOKIE) {
            if let Some(cookie) = std::str::from_utf8(value.as_bytes())
                .ok()
                .and_then(|text| set_cookie::parse(text, url, now))
            {
                state.receive(cookie, url, now);
            }
        }
    }

    /// Number of cookies, expired ones included.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.state.lock().by_domain.values().map(Vec::len).sum()
    }
}

impl State {
    /// Adds or removes a cookie that the response of `url` sets (RFC 6265 §5.3).
    fn receive(&mut self, cookie: Cookie, url: &Url, now: u64) {
        if url.scheme() != "https" && self.shadows_a_secure_one(&cookie) {
            return;
        }
        let domain = cookie.domain.clone();
        if cookie.has_expired(now) {
            self.remove(&domain, |known| known.cookie.is_same(&cookie));
            return;
        }
        self.replace(cookie, true);
        let of_domain = self.by_domain.get(&domain).into_iter().flatten();
        if of_domain.filter(|known| known.is_received).count() > MOST_OF_A_DOMAIN {
            self.evict(&domain, now);
        }
        if self.received > MOST {
            let last_uses = self.by_domain.iter().filter_map(|(domain, cookies)| {
                let received = cookies.iter().filter(|known| known.is_received);
                Some((received.map(|known| known.used.get()).min()?, domain))
            });
            if let Some(domain) = last_uses.min().map(|(_, domain)| domain.clone()) {
                self.evict(&domain, now);
            }
        }
    }

    /// Adds a cookie, in place of one with the same name, domain and path.
    fn replace(&mut self, cookie: Cookie, is_received: bool) {
        self.uses += 1;
        self.received += usize::from(is_received);
        let cookies = self.by_domain.entry(cookie.domain.clone()).or_default();
        let mut new = Stored {
            cookie,
            is_received,
            created: self.uses,
            used: Cell::new(self.uses),
        };
        match cookies.iter_mut().find(|known| known.cookie.is_same(&new.cookie)) {
            Some(known) => {
                self.received -= usize::from(known.is_received);
                new.created = known.created;
                *known = new;
            }
            None => cookies.push(new),
        }
    }

    /// Returns true if an insecure response would hide or replace a cookie that was set over TLS: an attacker on the
    /// network could otherwise choose the session.
    fn shadows_a_secure_one(&self, cookie: &Cookie) -> bool {
        let is_related = |domain: &str| {
            domain == cookie.domain || is_below(domain, &cookie.domain) || is_below(&cookie.domain, domain)
        };
        let cookies = self.by_domain.iter().filter(|(domain, _)| is_related(domain));
        cookies
            .flat_map(|(_, cookies)| cookies)
            .any(|Stored { cookie: known, .. }| {
                known.is_secure && known.name == cookie.name && is_path_below(&cookie.path, &known.path)
            })
    }

    /// Removes the expired ones of the cookies that servers have set for a domain; if there are none, the least recently
    /// used one.
    fn evict(&mut self, domain: &str, now: u64) {
        let before = self.received;
        self.remove(domain, |known| known.is_received && known.cookie.has_expired(now));
        if self.received < before {
            return;
        }
        let cookies = self.by_domain.get(domain).into_iter().flatten();
        let received = cookies.filter(|known| known.is_received);
        // One request uses several cookies at once: of these, the newest stays.
        if let Some(oldest) = received.map(|known| (known.used.get(), known.created)).min() {
            self.remove(domain, |known| (known.used.get(), known.created) == oldest);
        }
    }

    fn remove(&mut self, domain: &str, mut goes: impl FnMut(&Stored) -> bool) {
        let Some(cookies) = self.by_domain.get_mut(domain) else {
            return;
        };
        let received = &mut self.received;
        cookies.retain(|known| {
            let goes = goes(known);
            *received -= usize::from(goes && known.is_received);
            !goes
        });
        if cookies.is_empty() {
            self.by_domain.remove(domain);
        }
    }
}

/// The domains whose cookies may be for the URL's host: the host, and what it is below.
fn domains(url: &Url) -> impl Iterator<Item = &str> {
    let is_name = matches!(url.host(), Some(Host::Domain(_)));
    iter::successors(url.host_str(), move |domain| {
        Some(domain.split_once('.').filter(|_| is_name)?.1)
    })
}

/// Returns true if a host name is below a domain: `www.example.org` is below `example.org`.
fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|below| below.ends_with('.'))
}

/// Seconds since 1970.
fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
