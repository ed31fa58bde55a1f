//! Resolves the links of an index page to entries.
//!
//! A link is resolved as in a browser (WHATWG URL, `Url::join`) before any decision. A target exactly one level below
//! the page, at the same origin and without a query, is an entry. Its name is the last path segment, percent-decoded.
//! The text of the link is not used for names, because nginx and Apache cut it short. So it makes no difference how a
//! server writes awkward names: `a%3Ab` (nginx, lighttpd, Python) and `./a:b` (Apache, Caddy) are the same file.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::origin::{Hash, HashAlgorithm};
use crate::source::ListingConfig;
use crate::source::listing::segment;

/// The target of a link on an index page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// One level down: an entry, if its name can be shown. Also a target that counts as an entry by the caller's
    /// options.
    Child(Child),
    /// A target that would be an entry with other options, and the reason.
    LeftOut(Child, Reason),
    /// The parent directory.
    Parent,
    /// The page itself, sorted differently (`?C=N;O=D`, `?sort=size&order=asc`).
    Sorted,
    /// Another page of the same listing, and its number (`?page=2`).
    Paged(Url, u32),
    /// A page elsewhere on the same origin that is not a directory above this one, and has no name.
    Away,
    /// Anything else.
    Elsewhere,
}

/// Why a link is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It has a query: [`ListingConfig::query_links`].
    Query,
    /// It leads elsewhere, on this origin or another one: [`ListingConfig::external_links`].
    Elsewhere,
}

/// A link to a target with a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Child {
    /// The last path segment, percent-decoded. Any bytes; empty if unknown (see [`Page::resolve`]).
    pub(super) name: Vec<u8>,
    /// Without fragment. With the page's user info at the page's origin, without user info at any other.
    pub(super) url: Url,
    /// True if the path ends in `/`.
    pub(super) directory: bool,
    /// True if it is not below the page.
    pub(super) external: bool,
    /// The hash in the link's fragment (`#sha256=…`, PEP 503).
    pub(super) hash: Option<Hash>,
}

/// The page whose links are resolved.
#[derive(Debug)]
pub(super) struct Page {
    url: Url,
    /// The base of relative links: the page, or its `<base href>`.
    base: Url,
    /// The page's path up to its last `/`, inclusive.
    directory: String,
    /// Which links count besides those below the page without a query.
    config: ListingConfig,
}

impl Page {
    /// `url` is the page's URL, after redirects.
    pub(super) fn new(url: &Url, config: &ListingConfig) -> Page {
        let path = url.path();
        let directory = path[..path.rfind('/').map_or(0, |slash| slash + 1)].to_owned();
        Page {
            url: url.clone(),
            base: url.clone(),
            directory,
            config: *config,
        }
    }

    /// The page's URL, after redirects.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Sets a `<base href>`. With one on another host, relative links lead there.
    ///
    /// One that names the page's host with another scheme or port counts by its path: it was written by a server that
    /// does not know of the proxy before it.
    pub(super) fn set_base(&mut self, href: &str) {
        let Ok(base) = self.url.join(href) else { return };
        if !matches!(base.scheme(), "http" | "https") {
            return;
        }
        if base.host_str() != self.url.host_str() {
            self.base = base;
            return;
        }
        self.base = self.url.clone();
        self.base.set_path(base.path());
        self.base.set_query(base.query());
    }

    /// The URL for clients without scripts, if the page names one: `?noscript`. Only within the same directory.
    pub(super) fn plain_form(&self, href: &str) -> Option<Url> {
        let url = self.base.join(href.trim().trim_matches(['\'', '"'])).ok()?;
        let is_same = same_origin(&url, &self.url) && url.path() == self.url.path();
        (is_same && url.query() != self.url.query()).then_some(url)
    }

    /// Resolves `href` (as the tokenizer emits it, with decoded entities).
    ///
    /// A target with a query (`get.php?file=1`) other than the page's own is left out unless
    /// [`ListingConfig::query_links`]: it may be a program's output rather than a file. A target in another directory
    /// or at another origin is left out unless [`ListingConfig::external_links`]. A fragment is dropped.
    ///
    /// A child whose `href` contains U+FFFD gets the empty name, which no listing accepts. That character replaces
    /// bytes that are invalid in the page's charset, so the URL to request is unknown.
    pub(super) fn resolve(&self, href: &str) -> Link {
        let href = &*with_controls(href);
        let Ok(mut url) = self.base.join(href) else {
            return Link::Elsewhere;
        };
        if !same_origin(&url, &self.url) {
            return self.external(url);
        }
        if url.path() == self.url.path() {
            return match url.query() {
                Some(query) if sorts(query) => Link::Sorted,
                Some(query) if let Some(number) = self.number_of(query) => {
                    url.set_fragment(None);
                    Link::Paged(url, number)
                }
                // `?path=sub`: only the page shows the name.
                Some(query) if !query.is_empty() && self.url.query() != Some(query) => {
                    let child = self.child(&mut url, Vec::new(), false, false);
                    self.left_out_unless(self.config.query_links, child, Reason::Query)
                }
                _ => Link::Elsewhere,
            };
        }
        let Some(below) = below(&self.directory, url.path()) else {
            return if self.is_parent(url.path()) {
                Link::Parent
            } else if self.is_above(url.path()) {
                Link::Elsewhere
            } else {
                self.external(url)
            };
        };
        let directory = below.ends_with('/');
        let segment = below.strip_suffix('/').unwrap_or(below);
        if segment.is_empty() {
            return Link::Elsewhere;
        }
        if segment.contains('/') {
            return self.external(url);
        }
        let name = if href.contains(char::REPLACEMENT_CHARACTER) {
            Vec::new()
        } else {
            segment::decode(segment)
        };
        if url.query() == Some("") {
            url.set_query(None);
        }
        // The query that this page was requested with does not count: `?noscript`, or a key that the user gave.
        let has_query = url.query().is_some() && url.query() != self.url.query();
        let child = self.child(&mut url, name, directory, false);
        self.left_out_unless(!has_query || self.config.query_links, child, Reason::Query)
    }

    /// The URL of the page after this one, which a link with `rel=next` leads to. Only within the same directory.
    pub(super) fn next(&self, href: &str) -> Option<Url> {
        let mut url = self.plain_form(href)?;
        url.set_fragment(None);
        Some(url)
    }

    /// The number of another page of this listing, by its query: the page's own, but for `page=`.
    fn number_of(&self, query: &str) -> Option<u32> {
        let (number, rest) = split_number(query);
        let (_, own) = split_number(self.url.query().unwrap_or_default());
        number.filter(|_| rest == own)
    }

    /// Returns true if a URL is at the page's origin.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        same_origin(url, &self.url)
    }

    /// The query that this page was requested with.
    pub(super) fn query(&self) -> Option<&str> {
        self.url.query()
    }

    /// Makes a child at the page's origin, with the page's credentials, whatever user info the link contains.
    fn child(&self, url: &mut Url, name: Vec<u8>, directory: bool, external: bool) -> Child {
        let hash = url.fragment().and_then(hash_in);
        url.set_fragment(None);
        if url.username() != self.url.username() || url.password() != self.url.password() {
            // These fail only for URLs without a host, and this one has the page's.
            let _ = url.set_username(self.url.username());
            let _ = url.set_password(self.url.password());
        }
        Child {
            name,
            url: url.clone(),
            directory,
            external,
            hash,
        }
    }

    fn left_out_unless(&self, is_wanted: bool, child: Child, reason: Reason) -> Link {
        if is_wanted {
            Link::Child(child)
        } else {
            Link::LeftOut(child, reason)
        }
    }

    /// The target of a link to another directory or origin. Its name is the last part of its path. Another origin
    /// receives no user info. A target with a query needs both options.
    fn external(&self, mut url: Url) -> Link {
        let is_own = same_origin(&url, &self.url);
        let nameless = if is_own { Link::Away } else { Link::Elsewhere };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return nameless;
        }
        let path = url.path();
        let directory = path.ends_with('/');
        let path = path.strip_suffix('/').unwrap_or(path);
        let segment = path.rsplit('/').next().unwrap_or_default();
        if segment.is_empty() {
            return nameless;
        }
        let name = segment::decode(segment);
        let has_query = url.query().is_some();
        let child = if is_own {
            self.child(&mut url, name, directory, true)
        } else {
            // These fail only for URLs without a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            let hash = url.fragment().and_then(hash_in);
            url.set_fragment(None);
            Child {
                name,
                url,
                directory,
                external: true,
                hash,
            }
        };
        let is_wanted = self.config.external_links && (!has_query || self.config.query_links);
        self.left_out_unless(is_wanted, child, Reason::Elsewhere)
    }

    fn is_parent(&self, path: &str) -> bool {
        let own = &self.directory[..self.directory.len().saturating_sub(1)];
        own.rfind('/')
            .is_some_and(|slash| below(&own[..=slash], path) == Some(""))
    }

    /// Returns true if `path` is the page's directory or one above, with or without its `/`: the targets of
    /// breadcrumbs.
    fn is_above(&self, path: &str) -> bool {
        let own: Vec<u8> = percent_decode_str(&self.directory).collect();
        let mut path: Vec<u8> = percent_decode_str(path).collect();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        own.starts_with(&path)
    }
}

/// A link with its tabs and newlines escaped. Browsers drop them, but servers that do not escape names mean them.
fn with_controls(href: &str) -> Cow<'_, str> {
    let href = href.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
    if href.contains(['\t', '\n', '\r']) {
        Cow::Owned(href.replace('\t', "%09").replace('\n', "%0A").replace('\r', "%0D"))
    } else {
        Cow::Borrowed(href)
    }
}

/// Returns true if scheme, host and port are the same. (`Url::origin` does the same but allocates; this runs for every
/// link.)
fn same_origin(one: &Url, other: &Url) -> bool {
    one.has_host()
        && one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// The part of `path` below `directory` (which ends in `/`); `None` if it is not below. `/%7Euser/` and `/~user/` are
/// one directory: a page with absolute links may escape its path in another way than the request did.
fn below<'a>(directory: &str, path: &'a str) -> Option<&'a str> {
    if let Some(rest) = path.strip_prefix(directory) {
        return Some(rest);
    }
    let depth = directory.bytes().filter(|&byte| byte == b'/').count();
    let (slash, _) = path.match_indices('/').nth(depth.checked_sub(1)?)?;
    let (above, rest) = path.split_at(slash + 1);
    percent_decode_str(above)
        .eq(percent_decode_str(directory))
        .then_some(rest)
}

/// The number in a query's `page=`, and the query's other fields.
fn split_number(query: &str) -> (Option<u32>, Vec<&str>) {
    let mut number = None;
    let rest = query.split('&').filter(|field| {
        let value = field.strip_prefix("page=").and_then(|value| value.parse().ok());
        number = number.or(value);
        value.is_none() && !field.is_empty()
    });
    let rest = rest.collect();
    (number, rest)
}

/// The hash in a link's fragment: `sha256=…` (PEP 503).
fn hash_in(fragment: &str) -> Option<Hash> {
    fragment.split('&').find_map(|field| {
        let (name, digest) = field.split_once('=')?;
        Hash::from_hex(HashAlgorithm::named(name)?, digest)
    })
}

/// Returns true if a query requests the same page in another order: Apache `C=N;O=D`, fancyindex `C=N&O=A`, Caddy
/// `sort=name&order=asc`, WEBrick and Yaws `N=D`, others `sort=0`, `sort_by=size`.
fn sorts(query: &str) -> bool {
    let has = |key: &str| {
        let mut fields = query.split(['&', ';']);
        fields.any(|field| {
            field
                .split('=')
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(key))
        })
    };
    let is_letter = query.len() == 3 && query.as_bytes()[1] == b'=' && query.is_ascii();
    (has("c") && has("o")) || has("sort") || has("sort_by") || has("order_by") || is_letter
}
