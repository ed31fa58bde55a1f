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
