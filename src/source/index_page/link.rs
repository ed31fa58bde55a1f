//! Which file a link means.
//!
//! A link is resolved as a browser would (WHATWG URL, `Url::join`), and only then looked at: what lies
//! exactly one level below the page, at the same origin and without a query, is an entry. Its name is
//! that last path segment, percent-decoded; the text that the page shows for the link is not used,
//! since nginx and Apache cut it short. After that it makes no difference how a server writes awkward
//! names: `a%3Ab` (nginx, lighttpd, Python) and `./a:b` (Apache, Caddy) are the same file.

use percent_encoding::percent_decode_str;
use url::Url;

use super::name;

/// What a link on an index page leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// One level down: an entry, if its name can be shown.
    Child(Child),
    /// The directory above.
    Parent,
    /// The page itself in another order (`?C=N;O=D`, `?sort=size&order=asc`).
    Sorted,
    /// Anything else.
    Elsewhere,
}

/// A link that leads one level down.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Child {
    /// The last path segment, percent-decoded. Any bytes; empty when it can't be known (see [`Page::resolve`]).
    pub(super) name: Vec<u8>,
    /// Without query and fragment. At the page's origin with the page's own user info, at any other without.
    pub(super) url: Url,
    /// The path ends in `/`.
    pub(super) directory: bool,
    /// It is at another origin.
    pub(super) external: bool,
}

/// The page whose links are resolved.
#[derive(Debug)]
pub(super) struct Page {
    url: Url,
    /// What links are relative to: the page, or its `<base href>`.
    base: Url,
    /// The page's path up to and with its last `/`.
    directory: String,
    /// Whether what lies on another origin is an entry.
    takes_external: bool,
}

impl Page {
    /// `url` is where the page came from, after redirects.
    pub(super) fn new(url: &Url, takes_external: bool) -> Page {
        let path = url.path();
        let directory = path[..path.rfind('/').map_or(0, |slash| slash + 1)].to_owned();
        Page {
            url: url.clone(),
            base: url.clone(),
            directory,
            takes_external,
        }
    }

    /// Takes a `<base href>`. One that points to another origin is not honoured: no entry could come of it.
    pub(super) fn set_base(&mut self, href: &str) {
        if let Ok(base) = self.url.join(href)
            && same_origin(&base, &self.url)
        {
            self.base = base;
        }
    }

    /// Says what `href` (as the tokenizer gives it, entities decoded) leads to.
    ///
    /// A query one level down (`get.php?file=1`) is left out: it is a program's answer rather than a
    /// file, and nothing says that two of them differ in name. A fragment is dropped.
    ///
    /// A child whose `href` holds U+FFFD gets the empty name, which no listing takes: that character
    /// stands where the page's bytes made no sense in its charset, so what to ask for is not known.
    pub(super) fn resolve(&self, href: &str) -> Link {
        let Ok(mut url) = self.base.join(href) else {
            return Link::Elsewhere;
        };
        if !same_origin(&url, &self.url) {
            return if self.takes_external {
                external(url)
            } else {
                Link::Elsewhere
            };
        }
        if let Some(query) = url.query() {
            return if url.path() == self.url.path() && sorts(query) {
                Link::Sorted
            } else {
                Link::Elsewhere
            };
        }
        let Some(below) = below(&self.directory, url.path()) else {
            return if self.is_parent(url.path()) {
                Link::Parent
            } else {
                Link::Elsewhere
            };
        };
        let directory = below.ends_with('/');
        let segment = below.strip_suffix('/').unwrap_or(below);
        if segment.is_empty() || segment.contains('/') {
            return Link::Elsewhere;
        }
        let name = if href.contains(char::REPLACEMENT_CHARACTER) {
            Vec::new()
        } else {
            name::decode(segment)
        };
        self.own(&mut url);
        Link::Child(Child {
            name,
            url,
            directory,
            external: false,
        })
    }

    /// Makes `url` one that the page's own credentials go with, whatever user info the page wrote into its link.
    fn own(&self, url: &mut Url) {
        url.set_fragment(None);
        if url.username() != self.url.username() || url.password() != self.url.password() {
            // These fail only for URLs without a host, and this one has the page's.
            let _ = url.set_username(self.url.username());
            let _ = url.set_password(self.url.password());
        }
    }

    fn is_parent(&self, path: &str) -> bool {
        let own = &self.directory[..self.directory.len().saturating_sub(1)];
        own.rfind('/')
            .is_some_and(|slash| below(&own[..=slash], path) == Some(""))
    }
}

/// What a link to another origin leads to, where such have names: called by the last part of its path, which asks nobody
/// for anything that this page's server was shown. What has a query stays out, as on this origin.
fn external(mut url: Url) -> Link {
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !is_web || url.query().is_some() {
        return Link::Elsewhere;
    }
    // These fail only for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let path = url.path();
    let directory = path.ends_with('/');
    let segment = path
        .strip_suffix('/')
        .unwrap_or(path)
        .rsplit('/')
        .next()
        .unwrap_or_default();
    if segment.is_empty() {
        return Link::Elsewhere;
    }
    let name = name::decode(segment);
    Link::Child(Child {
        name,
        url,
        directory,
        external: true,
    })
}

/// Scheme, host and port are the same. (`Url::origin` says the same, but allocates: this runs for every link.)
fn same_origin(one: &Url, other: &Url) -> bool {
    one.has_host()
        && one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// What of `path` is below `directory` (which ends in `/`), if it is below. `/%7Euser/` and `/~user/` are
/// one directory: a page that writes absolute links need not escape its path the way it was asked for.
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

/// Whether a query asks for the same page in another order: Apache `C=N;O=D`, fancyindex `C=N&O=A`, Caddy
/// `sort=name&order=asc`.
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
    (has("c") && has("o")) || (has("sort") && has("order"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(url: &str) -> Page {
        Page::new(&Url::parse(url).unwrap(), false)
    }

    /// The name and the path of a child, a `/` after a directory's name.
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
            "x?",
            "?x",
            "data:,x",
            "..%2f..%2fx/y",
            "%2e%2e/x",
        ] {
            assert_eq!(page.resolve(href), Link::Elsewhere, "{href}");
        }
    }

    #[test]
    fn other_origins_have_names_if_they_are_wanted_and_are_shown_no_user_info() {
        let page = Page::new(&Url::parse("http://me:secret@host/a/").unwrap(), true);
        for (href, name, url) in [
            ("http://other/deep/x%20y", "x y", "http://other/deep/x%20y"),
            ("//other:81/d/", "d/", "http://other:81/d/"),
            ("https://host/a/x", "x", "https://host/a/x"),
            ("http://you:guess@other/x#part", "x", "http://other/x"),
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
            "/up",
        ] {
            assert_eq!(page.resolve(href), Link::Elsewhere, "{href}");
        }
        assert_eq!(child(&page, "x").map(|(name, _)| name), Some("x".into()));
    }

    #[test]
    fn the_root_has_children_and_no_parent() {
        let page = page("http://host");
        assert_eq!(child(&page, "x/").map(|(name, _)| name), Some("x/".into()));
        assert_eq!(page.resolve("../"), Link::Elsewhere);
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
        for href in ["?C=N", "?page=2", "../?C=N;O=D"] {
            assert_eq!(page.resolve(href), Link::Elsewhere, "{href}");
        }
    }

    #[test]
    fn a_name_is_decoded_once_and_its_url_asks_for_the_same_name() {
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
            ("é", "é", "/d/%C3%A9"),
        ] {
            assert_eq!(child(&page, href), Some((name.into(), path.into())), "{href}");
        }
    }

    #[test]
    fn names_that_are_no_component_come_through_for_the_caller_to_refuse() {
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
    fn a_base_is_honoured_at_the_same_origin_only() {
        let mut page = page("http://host/d/index.html");
        page.set_base("http://other/d/");
        assert!(child(&page, "x").is_some());
        page.set_base("/");
        assert_eq!(page.resolve("x"), Link::Elsewhere);
        assert_eq!(child(&page, "d/x").map(|(name, _)| name), Some("x".into()));
    }
}
