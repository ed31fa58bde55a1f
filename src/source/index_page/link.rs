//! Resolves the links of an index page to entries.
//!
//! A link is resolved as in a browser (WHATWG URL, `Url::join`) before any decision. A target exactly one level below
//! the page, at the same origin and without a query, is an entry. Its name is the last path segment, percent-decoded.
//! The text of the link is not used for names, because nginx and Apache cut it short. So it makes no difference how a
//! server writes awkward names: `a%3Ab` (nginx, lighttpd, Python) and `./a:b` (Apache, Caddy) are the same file.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::origin::{Hash, HashAlgorithm};
use crate::source::{ListingConfig, segment};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn page(url: &str) -> Page {
        Page::new(&Url::parse(url).unwrap(), &ListingConfig::default())
    }

    /// The name and the path of a child, with a `/` after a directory's name.
    fn child(page: &Page, href: &str) -> Option<(String, String)> {
        match page.resolve(href) {
            Link::Child(child) => {
                let name = String::from_utf8_lossy(&child.name).into_owned();
                Some((
                    name + if child.directory { "/" } else { "" },
                    child.url.path().to_owned(),
                ))
            }
            _ => None,
        }
    }

    #[test]
    fn one_level_down_is_an_entry_however_it_is_written() {
        let page = page("http://host:81/a/~b/");
        for href in [
            "x",
            "./x",
            "/a/~b/x",
            "/a/%7Eb/x",
            "//host:81/a/~b/x",
            "http://host:81/a/~b/x",
            "x#part",
            " x ",
        ] {
            assert_eq!(child(&page, href).map(|(name, _)| name), Some("x".into()), "{href}");
        }
        assert_eq!(child(&page, "x/").map(|(name, _)| name), Some("x/".into()));
        assert_eq!(child(&page, "y/../x/.").map(|(name, _)| name), Some("x/".into()));
    }

    #[test]
    fn elsewhere_is_no_entry() {
        let no_entry = |link: &Link| !matches!(link, Link::Child(_) | Link::Parent | Link::Sorted);
        let page = page("http://host/a/b/");
        for href in [
            "",
            ".",
            "./",
            "#top",
            "/",
            "/a/c",
            "/a/bx",
            "/a/b",
            "x/y",
            "x//",
            "//",
            "//other/a/b/x",
            "https://host/a/b/x",
            "http://host:8080/a/b/x",
            "http://user@other/a/b/x",
            "mailto:x",
            "javascript:x()",
            "a:b",
            "http://[",
            "x?y=z",
            "?x",
            "data:,x",
            "..%2f..%2fx/y",
            "%2e%2e/x",
        ] {
            let link = page.resolve(href);
            assert!(no_entry(&link), "{href}: {link:?}");
        }
    }

    #[test]
    fn what_is_left_out_has_its_reason() {
        let page = page("http://host/a/b/");
        for (href, reason) in [
            ("x?y=z", Reason::Query),
            ("x/?y", Reason::Query),
            ("?path=x", Reason::Query),
            ("/store/x", Reason::Elsewhere),
            ("x/y", Reason::Elsewhere),
            ("http://other/x?y", Reason::Elsewhere),
        ] {
            let Link::LeftOut(_, because) = page.resolve(href) else {
                panic!("{href}")
            };
            assert_eq!(because, reason, "{href}");
        }
        for href in ["/a", "/a/b", "/", "?", "http://other/"] {
            assert_eq!(page.resolve(href), Link::Elsewhere, "{href}");
        }
    }

    #[test]
    fn a_query_is_kept_if_it_is_wanted() {
        let config = ListingConfig {
            query_links: true,
            ..ListingConfig::default()
        };
        let page = Page::new(&Url::parse("http://host/a/").unwrap(), &config);
        for (href, url) in [
            ("x?y=z#part", "http://host/a/x?y=z"),
            ("x?", "http://host/a/x"),
            ("?path=x", "http://host/a/?path=x"),
        ] {
            let Link::Child(child) = page.resolve(href) else {
                panic!("{href}")
            };
            assert_eq!(child.url.as_str(), url, "{href}");
        }
        assert_eq!(page.resolve("?C=N;O=D"), Link::Sorted);
        let page = Page::new(&Url::parse("http://host/a/?key=1").unwrap(), &ListingConfig::default());
        for (href, is_entry) in [("x?key=1", true), ("x", true), ("x?key=2", false)] {
            assert_eq!(matches!(page.resolve(href), Link::Child(_)), is_entry, "{href}");
        }
    }

    #[test]
    fn external_links_have_names_without_user_info() {
        let config = ListingConfig {
            external_links: true,
            ..ListingConfig::default()
        };
        let page = Page::new(&Url::parse("http://me:secret@host/a/").unwrap(), &config);
        for (href, name, url) in [
            ("http://other/deep/x%20y", "x y", "http://other/deep/x%20y"),
            ("//other:81/d/", "d/", "http://other:81/d/"),
            ("https://host/a/x", "x", "https://host/a/x"),
            ("http://you:guess@other/x#part", "x", "http://other/x"),
            ("/store/ab/x#sha256=1", "x", "http://me:secret@host/store/ab/x"),
            ("../b/x", "x", "http://me:secret@host/b/x"),
            ("x/y", "y", "http://me:secret@host/a/x/y"),
        ] {
            let Link::Child(child) = page.resolve(href) else {
                panic!("{href}")
            };
            let shown = String::from_utf8(child.name).unwrap() + if child.directory { "/" } else { "" };
            assert_eq!((shown.as_str(), child.url.as_str()), (name, url), "{href}");
        }
        for href in [
            "http://other/",
            "http://other",
            "http://other/x?y",
            "ftp://other/x",
            "mailto:x",
        ] {
            assert!(!matches!(page.resolve(href), Link::Child(_)), "{href}");
        }
        assert_eq!(child(&page, "x").map(|(name, _)| name), Some("x".into()));
    }

    #[test]
    fn the_root_has_children_and_no_parent() {
        let page = page("http://host");
        assert_eq!(child(&page, "x/").map(|(name, _)| name), Some("x/".into()));
        assert_eq!(page.resolve("../"), Link::Elsewhere);
        assert_eq!(page.resolve("/"), Link::Elsewhere);
    }

    #[test]
    fn parents_and_sort_links_are_known() {
        let page = page("http://host/a%20b/c/");
        for href in ["..", "../", "/a%20b/", "/a b/", "http://host/a%20b/", "%2e%2e/"] {
            assert_eq!(page.resolve(href), Link::Parent, "{href}");
        }
        for href in [
            "?C=N;O=D",
            "?C=N&O=A",
            "./?C=M;O=A",
            "/a%20b/c/?C=S&O=D",
            "?sort=name&order=asc",
        ] {
            assert_eq!(page.resolve(href), Link::Sorted, "{href}");
        }
        assert_eq!(page.resolve("/a%20b/c/?"), Link::Elsewhere);
    }

    #[test]
    fn other_pages_differ_in_their_number_alone() {
        let number = |page: &Page, href: &str| match page.resolve(href) {
            Link::Paged(url, number) => Some((url.to_string(), number)),
            _ => None,
        };
        let first = page("http://host/d/");
        assert_eq!(
            number(&first, "?page=2#x"),
            Some(("http://host/d/?page=2".to_owned(), 2))
        );
        let of_key = page("http://host/d/?key=1&page=2");
        for (href, is) in [
            ("?page=3&key=1", true),
            ("/d/?key=1&page=1", true),
            ("?page=3", false),
            ("?key=2&page=3", false),
            ("?key=1&page=x", false),
            ("x?key=1&page=3", false),
        ] {
            assert_eq!(number(&of_key, href).is_some(), is, "{href}");
        }
        assert_eq!(first.next("?offset=50").unwrap().as_str(), "http://host/d/?offset=50");
        for href in ["", "?", "/", "x?page=2", "//other/d/?page=2"] {
            assert!(first.next(href).is_none_or(|url| url.query() == Some("")), "{href}");
        }
    }

    #[test]
    fn hash_of_a_fragment_is_kept() {
        let page = page("http://host/simple/x/");
        for (href, hash) in [
            (
                "x-1.tar.gz#md5=d41d8cd98f00b204e9800998ecf8427e",
                Some("d41d8cd98f00b204e9800998ecf8427e"),
            ),
            (
                "x-1.tar.gz#egg=x&md5=d41d8cd98f00b204e9800998ecf8427e",
                Some("d41d8cd98f00b204e9800998ecf8427e"),
            ),
            ("x-1.tar.gz#md5=1", None),
            ("x-1.tar.gz#tiger=d41d8cd98f00b204e9800998ecf8427e", None),
            ("x-1.tar.gz#top", None),
        ] {
            let Link::Child(child) = page.resolve(href) else {
                panic!("{href}")
            };
            assert_eq!(child.url.as_str(), "http://host/simple/x/x-1.tar.gz", "{href}");
            assert_eq!(child.hash.map(|hash| hash.to_string()).as_deref(), hash, "{href}");
        }
    }

    #[test]
    fn name_is_decoded_once_and_round_trips() {
        let page = page("http://host/d/");
        for (href, name, path) in [
            ("a%2520b", "a%20b", "/d/a%2520b"),
            ("100%25", "100%", "/d/100%25"),
            ("100%", "100%", "/d/100%"),
            ("a+b", "a+b", "/d/a+b"),
            ("a b", "a b", "/d/a%20b"),
            ("%20a%20", " a ", "/d/%20a%20"),
            ("%3FC=N;O=D", "?C=N;O=D", "/d/%3FC=N;O=D"),
            ("./a:b", "a:b", "/d/a:b"),
            ("back%5Cslash", "back\\slash", "/d/back%5Cslash"),
            ("%252e%252e", "%2e%2e", "/d/%252e%252e"),
            ("...", "...", "/d/..."),
            ("a\tb", "a\tb", "/d/a%09b"),
            ("\n  a\nb\n", "a\nb", "/d/a%0Ab"),
            ("é", "é", "/d/%C3%A9"),
        ] {
            assert_eq!(child(&page, href), Some((name.into(), path.into())), "{href}");
        }
    }

    #[test]
    fn invalid_names_are_passed_to_the_caller() {
        let page = page("http://host/d/");
        for (href, name) in [
            ("..%2fetc", "../etc"),
            ("a%0Ab", "a\nb"),
            ("a%00", "a\0"),
            ("a\u{fffd}", ""),
        ] {
            assert_eq!(child(&page, href).map(|(name, _)| name), Some(name.into()), "{href}");
        }
    }

    #[test]
    fn the_pages_user_info_stays_and_a_links_own_is_not_taken() {
        let with = page("http://me:secret@host/d/");
        let without = page("http://host/d/");
        for href in ["x", "/d/x", "http://host/d/x", "http://you:guess@host/d/x"] {
            let Link::Child(child) = with.resolve(href) else {
                panic!("{href}")
            };
            assert_eq!(child.url.as_str(), "http://me:secret@host/d/x");
            let Link::Child(child) = without.resolve(href) else {
                panic!("{href}")
            };
            assert_eq!(child.url.as_str(), "http://host/d/x");
        }
    }

    #[test]
    fn a_base_is_where_relative_links_begin() {
        let mut page = page("http://host/d/index.html");
        for base in [
            "https://host/d/",
            "http://host:81/d/y",
            "//you:guess@host/d/",
            "x",
            "data:,x",
            "http://[",
        ] {
            page.set_base(base);
            let found = child(&page, "x").map(|(_, path)| path);
            assert_eq!(found.as_deref(), Some("/d/x"), "{base}");
        }
        page.set_base("/");
        assert_eq!(child(&page, "x"), None);
        assert_eq!(child(&page, "d/x").map(|(name, _)| name), Some("x".into()));
        page.set_base("http://other/d/");
        assert!(matches!(page.resolve("x"), Link::LeftOut(_, Reason::Elsewhere)));
        assert_eq!(child(&page, "http://host/d/x").map(|(name, _)| name), Some("x".into()));
        page.config.external_links = true;
        let Link::Child(found) = page.resolve("x") else {
            panic!()
        };
        assert_eq!((found.url.as_str(), found.external), ("http://other/d/x", true));
    }
}
