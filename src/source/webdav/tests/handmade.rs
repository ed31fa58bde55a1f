//! Answers in the forms of servers that are not at hand, and of faulty ones.

use std::time::{Duration, UNIX_EPOCH};

use super::super::collection_tag::{TagKind, TagProperties};
use super::super::{Parsed, parse_whole};
use super::*;
use crate::http::Validator;
use crate::source::{EntityTag, ListedTime};

const DIRECTORY: &str = "http://host/dav/d/";

/// The listing of an answer for [`DIRECTORY`].
fn read(responses: &str) -> Result<Listing, NotMultistatus> {
    parse_at(DIRECTORY, multistatus(responses).as_bytes())
}

/// The names in answers for these `href`s, the first of which is the directory's own.
fn names_of(hrefs: &[&str]) -> Vec<String> {
    let responses: String = hrefs.iter().map(|href| response(href)).collect();
    let listing = read(&responses).unwrap();
    assert!(listing.left_out.is_nothing(), "{listing:?}");
    names(&listing)
}

#[test]
fn nextcloud() {
    let body = r#"<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns"><d:response><d:href>/remote.php/dav/files/ann/Photos/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype><d:getlastmodified>Tue, 14 Nov 2023 22:13:27 GMT</d:getlastmodified><d:getetag>&quot;6553f1e7a1b2c&quot;</d:getetag></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat><d:propstat><d:prop><d:getcontentlength/></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response><d:response><d:href>/remote.php/dav/files/ann/Photos/Gr%c3%bc%c3%9fe%20%26%20more.jpg</d:href><d:propstat><d:prop><d:resourcetype/><d:getcontentlength>7</d:getcontentlength><d:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</d:getlastmodified><d:getetag>&quot;048d7be4437ff7deeae94db50ff3e209&quot;</d:getetag></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response><d:response><d:href>/remote.php/dav/files/ann/Photos/2023/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype><d:getlastmodified>Tue, 14 Nov 2023 22:13:27 GMT</d:getlastmodified></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat><d:propstat><d:prop><d:getcontentlength/></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response></d:multistatus>"#;
    let listing = parse_at("https://cloud/remote.php/dav/files/ann/Photos/", body.as_bytes()).unwrap();
    assert_eq!(names(&listing), ["Grüße & more.jpg", "2023/"]);
    assert_eq!(listing.modified, Some(UNIX_EPOCH + Duration::from_secs(1_700_000_007)));
}

/// The form of Nextcloud's answers, which say for each folder what it has; a negative number stands for no limit.
#[test]
fn quota_is_that_of_the_first_resource() {
    let quota = |available: &str, used: &str| {
        let folder = |href: &str, used: &str| {
            format!(
                "<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype>\
                 <d:quota-available-bytes>{available}</d:quota-available-bytes><d:quota-used-bytes>{used}</d:quota-used-bytes>\
                 </d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
            )
        };
        let file = "<d:response><d:href>/remote.php/dav/files/ann/a</d:href><d:propstat><d:prop><d:resourcetype/>\
                    <d:getcontentlength>7</d:getcontentlength></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>\
                    <d:propstat><d:prop><d:quota-available-bytes/><d:quota-used-bytes/></d:prop>\
                    <d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response>";
        let folders = [
            folder("/remote.php/dav/files/ann/", used),
            folder("/remote.php/dav/files/ann/sub/", "1"),
        ];
        let body = format!(
            "<?xml version=\"1.0\"?><d:multistatus xmlns:d=\"DAV:\" xmlns:oc=\"http://owncloud.org/ns\">{}{file}</d:multistatus>",
            folders.concat()
        );
        let url = Url::parse("https://cloud/remote.php/dav/files/ann/").unwrap();
        let config = ListingConfig::default();
        let Parsed { listing, quota, .. } = parse_whole(&url, &url, body.as_bytes(), None, &config).unwrap();
        assert_eq!(names(&listing), ["sub/", "a"]);
        quota.map(|quota| (quota.available, quota.used))
    };
    assert_eq!(quota("1000", "24"), Some((1000, 24)));
    for (available, used) in [("-3", "24"), ("-2", "24"), ("", ""), ("1000", "")] {
        assert_eq!(quota(available, used), None, "{available:?}");
    }
}

/// The form of ownCloud and Nextcloud, which list the resources' missing properties as well.
#[test]
fn public_share_by_its_token() {
    let missing = "<d:propstat><d:prop><d:getcontentlength/><d:getetag/></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>";
    for top in [
        "/public.php/webdav/",
        "/public.php/dav/files/tOkEn/",
        "/owncloud/public.php/webdav/",
    ] {
        let body = format!(
            r#"<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns"><d:response><d:href>{top}</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype><d:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</d:getlastmodified></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>{missing}</d:response><d:response><d:href>{top}Nested%20folder%201/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>{missing}</d:response><d:response><d:href>{top}a%26b%20%28c%29.zip</d:href><d:propstat><d:prop><d:resourcetype/><d:getcontentlength>7</d:getcontentlength><d:getetag>&quot;d3551e403d2c690971ab11794e4961e4&quot;</d:getetag></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>"#
        );
        let listing = parse_at(&format!("https://cloud{top}"), body.as_bytes()).unwrap();
        assert_eq!(names(&listing), ["Nested folder 1/", "a&b (c).zip"], "{top}");
        let tag = EntityTag::of("\"d3551e403d2c690971ab11794e4961e4\"");
        assert_eq!((listing.entries.tag(0), listing.entries.tag(1)), (None, tag));
    }
}

#[test]
fn public_share_without_slash_at_its_root() {
    let responses = [response("/public.php/webdav/"), response("/public.php/webdav/a.zip")];
    let listing = parse_at(
        "https://cloud/public.php/webdav",
        multistatus(&responses.concat()).as_bytes(),
    )
    .unwrap();
    assert_eq!(names(&listing), ["a.zip"]);
}

/// The form of zurg: only the directory's own path is whole.
#[test]
fn relative_names() {
    assert_eq!(names_of(&["/dav/d/", "a%20b.mkv", "sub/"]), ["a b.mkv", "sub/"]);
    assert_eq!(
        names_of(&["/", "./a.mkv"]),
        ["a.mkv"],
        "its own path is the server's top"
    );
    assert_eq!(
        names_of(&["dav/d/", "dav/d/a", "dav/d/b/"]),
        ["a", "b/"],
        "a slash is missing"
    );
}

#[test]
fn other_host_scheme_or_encoding() {
    assert_eq!(
        names_of(&["https://inside:8443/dav/d/", "https://inside:8443/dav/d/a"]),
        ["a"]
    );
    assert_eq!(
        names_of(&["/%64av/%44/../d/".replace("/%44/..", "").as_str(), "/dav/d/%61"]),
        ["a"]
    );
    assert_eq!(names_of(&["//dav//d", "//dav//d//a", "/dav/d/b/"]), ["a", "b/"]);
}

#[test]
fn prefix_of_a_proxy() {
    for (own, inside) in [("/d/", "/d"), ("/srv/ann/", "/srv/ann"), ("/", "")] {
        let hrefs = [own.to_owned(), format!("{inside}/a"), format!("{inside}/b/")];
        let hrefs: Vec<&str> = hrefs.iter().map(String::as_str).collect();
        assert_eq!(names_of(&hrefs), ["a", "b/"], "{own}");
        assert_eq!(names_of(&[own]), [""; 0], "{own}");
        assert_eq!(names_of(&hrefs[1..]), ["a", "b/"], "{own} is left out");
    }
    assert_eq!(names_of(&["/d/only"]), ["only"], "the directory's own is left out");
}

/// Entries are requested below the directory, not where the answer says.
#[test]
fn urls_are_below_the_directory() {
    let responses = [
        response("http://other/x/"),
        response("http://other/x/a%20%28b%29"),
        response("http://other/x/d/"),
    ];
    let (home, asked) = (
        Url::parse("http://home/q/").unwrap(),
        Url::parse("http://mirror/m/").unwrap(),
    );
    let body = multistatus(&responses.concat());
    let listing = super::super::parse(&home, &asked, body.as_bytes(), None, &ListingConfig::default()).unwrap();
    let urls: Vec<_> = listing.entries.iter().map(|entry| entry.url.to_string()).collect();
    assert_eq!(urls, ["http://home/q/a%20%28b%29", "http://home/q/d/"]);
}

/// nginx's dav_ext before 3.0.
#[test]
fn unescaped_names() {
    let hrefs = [
        "/dav/d/",
        "/dav/d/t #:?3.txt",
        "/dav/d/%41",
        "/dav/d/100%",
        "/dav/d/a&amp;b",
        "/dav/d/a\\b",
    ];
    let responses: String = hrefs.iter().map(|href| response(href)).collect();
    let listing = read(&responses).unwrap();
    assert_eq!(names(&listing), ["t #:?3.txt", "%41", "100%", "a&b", "a\\b"]);
    let urls = [
        "/dav/d/t%20%23:%3F3.txt",
        "/dav/d/%2541",
        "/dav/d/100%25",
        "/dav/d/a&b",
        "/dav/d/a%5Cb",
    ];
    assert_eq!(paths(&listing), urls);
}

#[test]
fn names_decode_once_and_keep_their_escapes() {
    let hrefs = [
        "/dav/d/",
        "/dav/d/a%2520b",
        "/dav/d/%3F",
        "/dav/d/a?b#c",
        "/dav/d/a+b",
        "/dav/d/e%CC%81",
        "/dav/d/é",
    ];
    let responses: String = hrefs.iter().map(|href| response(href)).collect();
    let listing = read(&responses).unwrap();
    assert_eq!(names(&listing), ["a%20b", "?", "a?b#c", "a+b", "e\u{301}", "é"]);
    let urls = [
        "/dav/d/a%2520b",
        "/dav/d/%3F",
        "/dav/d/a%3Fb%23c",
        "/dav/d/a+b",
        "/dav/d/e%CC%81",
        "/dav/d/%C3%A9",
    ];
    assert_eq!(paths(&listing), urls);
}

#[test]
fn names_that_are_no_path_component_are_left_out() {
    let long = format!("/dav/d/{}", "x".repeat(2000));
    let hrefs = [
        "/dav/d/",
        "/dav/d/..",
        "/dav/d/%2e%2E",
        "/dav/e/a",
        "/dav/d/a%2Fb",
        "/dav/d/a%00b",
        &long,
    ];
    let responses: String = hrefs.iter().map(|href| response(href)).collect();
    let listing = read(&responses).unwrap();
    assert_eq!(names(&listing), ["a%2Fb", "a%00b"]);
    assert_eq!(listing.left_out.refused, 4);
}

#[test]
fn collection_is_believed_before_a_slash() {
    let answer = |href: &str, kind: &str| {
        format!(
            "<D:response><D:href>/dav/d/{href}</D:href><D:propstat><D:prop>{kind}<D:getcontentlength>7</D:getcontentlength></D:prop></D:propstat></D:response>"
        )
    };
    let collection = "<D:resourcetype><D:collection/></D:resourcetype>";
    let responses = [
        response("/dav/d/"),
        answer("a", collection),
        answer("b/", "<D:resourcetype/>"),
        answer("c/", ""),
        answer("d", ""),
        answer(
            "e",
            "<D:resourcetype><C:collection xmlns:C=\"other\"/></D:resourcetype>",
        ),
        answer(
            "f",
            "<D:resourcetype><x/><D:collection> </D:collection></D:resourcetype>",
        ),
        answer("g", "<D:iscollection>1</D:iscollection>"),
        answer("h/", "<D:iscollection>0</D:iscollection>"),
    ];
    let listing = read(&responses.concat()).unwrap();
    assert_eq!(names(&listing), ["a/", "b", "c/", "d", "e", "f/", "g/", "h"]);
    let urls = [
        "/dav/d/a/",
        "/dav/d/b",
        "/dav/d/c/",
        "/dav/d/d",
        "/dav/d/e",
        "/dav/d/f/",
        "/dav/d/g/",
        "/dav/d/h",
    ];
    assert_eq!(paths(&listing), urls);
}

#[test]
fn only_properties_with_status_200_count() {
    let propstat = |status: &str, properties: &str| {
        format!("<D:propstat><D:status>{status}</D:status><D:prop>{properties}</D:prop></D:propstat>")
    };
    let (size, no_size) = ("<D:getcontentlength>7</D:getcontentlength>", "<D:getcontentlength/>");
    let kind = "<D:resourcetype/>";
    for (propstats, expected) in [
        (
            propstat("HTTP/1.1 404 Not Found", "<D:getcontentlength>9</D:getcontentlength>")
                + &propstat("HTTP/1.1 200 OK", size),
            "a",
        ),
        (
            propstat("HTTP/1.1 200 OK", kind) + &propstat("HTTP/1.1 200 OK", size),
            "a",
        ),
        (
            propstat("HTTP/1.1 200", size) + &propstat("HTTP/1.1 404 Not Found", no_size),
            "a",
        ),
        (propstat("HTTP/1.1 403 Forbidden", size), "a Unknown"),
        (propstat("HTTP/2 200", &format!("{kind}{no_size}")), "a Unknown"),
        (
            propstat("HTTP/1.1 200 OK", "<D:getcontentlength>-1</D:getcontentlength>"),
            "a Unknown",
        ),
    ] {
        let responses = format!(
            "{}<D:response><D:href>/dav/d/a</D:href>{propstats}</D:response>",
            response("/dav/d/")
        );
        assert_eq!(names(&read(&responses).unwrap()), [expected], "{propstats}");
    }
}

#[test]
fn dates_in_every_form() {
    let at = |seconds| {
        Some(ListedTime {
            time: UNIX_EPOCH + Duration::from_secs(seconds),
            exact: true,
        })
    };
    for (properties, expected) in [
        (
            "<D:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</D:getlastmodified>",
            at(1_700_000_000),
        ),
        (
            "<D:getlastmodified>Tue, 14 Nov 2023 22:13:20 UTC</D:getlastmodified>",
            at(1_700_000_000),
        ),
        (
            "<D:getlastmodified>Fri, 05 Jan 2018 14:14:38 +0000</D:getlastmodified>",
            at(1_515_161_678),
        ),
        (
            "<D:getlastmodified>Fri, 7 Sep 2018 08:49:58 GMT</D:getlastmodified>",
            at(1_536_310_198),
        ),
        (
            "<D:getlastmodified>2023-11-14T23:13:20+01:00</D:getlastmodified>",
            at(1_700_000_000),
        ),
        (
            "<D:creationdate>2023-11-14T22:13:20Z</D:creationdate>",
            at(1_700_000_000),
        ),
        (
            "<D:creationdate>2000-01-01T00:00:00Z</D:creationdate><D:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</D:getlastmodified>",
            at(1_700_000_000),
        ),
        ("<D:getlastmodified>yesterday</D:getlastmodified>", None),
        ("<D:getlastmodified/>", None),
    ] {
        let responses = format!(
            "{}<D:response><D:href>/dav/d/a</D:href><D:propstat><D:prop>{properties}</D:prop></D:propstat></D:response>",
            response("/dav/d/")
        );
        assert_eq!(read(&responses).unwrap().entries.modified(0), expected, "{properties}");
    }
}

#[test]
fn namespaces_by_any_prefix() {
    let document = |root: &str, prefix: &str| {
        format!(
            "<{prefix}multistatus {root}><{prefix}response><{prefix}href>/dav/d/</{prefix}href></{prefix}response><{prefix}response><{prefix}href>/dav/d/a/</{prefix}href></{prefix}response></{prefix}multistatus>"
        )
    };
    for (root, prefix) in [
        ("xmlns=\"DAV:\"", ""),
        ("", ""),
        ("xmlns:lp1=\"DAV:\"", "lp1:"),
        ("", "D:"),
        ("xmlns:D=\"DAV\"", "D:"),
    ] {
        let listing = parse_at(DIRECTORY, document(root, prefix).as_bytes()).unwrap();
        assert_eq!(names(&listing), ["a/"], "{root} {prefix}");
    }
    let foreign = parse_at(DIRECTORY, document("xmlns:D=\"urn:other\"", "D:").as_bytes());
    assert_eq!(foreign, Err(NotMultistatus::NoMultistatus));
    let inner = "<D:response><x:href xmlns:x=\"urn:x\">/dav/d/no</x:href><D:href>/dav/d/a/</D:href></D:response>";
    assert_eq!(names(&read(inner).unwrap()), ["a/"]);
}

#[test]
fn text_in_parts() {
    for (href, name) in [
        ("\n  /dav/d/a\n", "a"),
        ("<![CDATA[/dav/d/a&b]]>", "a&b"),
        ("/dav/d/a&amp;b", "a&b"),
        ("/dav/d/a&#38;b&#x26;c", "a&b&c"),
        ("/dav/d/a&b", "a&b"),
        ("/dav/<!-- x -->d/a", "a"),
    ] {
        let responses = response("/dav/d/") + &response(href);
        assert_eq!(names(&read(&responses).unwrap()), [name], "{href}");
    }
}

#[test]
fn charset_of_the_document() {
    let document = |declared: &str, name: &[u8]| {
        let head = format!("<?xml version='1.0'{declared}?><multistatus xmlns='DAV:'><response><href>/dav/d/");
        [
            head.as_bytes(),
            name,
            b"</href></response><response><href>/dav/d/</href></response></multistatus>",
        ]
        .concat()
    };
    let latin1 = document(" encoding='iso-8859-1'", b"caf\xe9");
    assert_eq!(names(&parse_at(DIRECTORY, &latin1).unwrap()), ["café Unknown"]);
    let undeclared = parse_at(DIRECTORY, &document("", b"caf\xe9")).unwrap();
    assert_eq!(
        (undeclared.entries.len(), undeclared.left_out.refused),
        (0, 1),
        "the name is lost"
    );
    let utf16: Vec<u8> = std::iter::once(0xfeff_u16)
        .chain(String::from_utf8(document("", b"a")).unwrap().encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(names(&parse_at(DIRECTORY, &utf16).unwrap()), ["a Unknown"]);
}

#[test]
fn members_with_a_status_of_their_own() {
    let with_status = |href: &str, status: &str| {
        format!("<D:response><D:href>{href}</D:href><D:status>{status}</D:status></D:response>")
    };
    let responses = [
        response("/dav/d/"),
        with_status("/dav/d/gone", "HTTP/1.1 404 Not Found"),
        with_status("/dav/d/closed/", "HTTP/1.1 403 Forbidden"),
    ];
    assert_eq!(names(&read(&responses.concat()).unwrap()), ["closed/"]);
    let own = read(&with_status("/dav/d/", "HTTP/1.1 403 Forbidden"));
    assert_eq!(own, Err(NotMultistatus::Refused(403)));
}

#[test]
fn other_documents_are_no_listing() {
    let whole = multistatus(&(response("/dav/d/") + &response("/dav/d/a")));
    assert!(parse_at(DIRECTORY, whole.as_bytes()).is_ok());
    for cut in [whole.len() - 1, whole.len() - 20, whole.len() / 2] {
        let error = parse_at(DIRECTORY, &whole.as_bytes()[..cut]).unwrap_err();
        assert!(
            matches!(error, NotMultistatus::Truncated | NotMultistatus::Malformed(_)),
            "{cut}: {error}"
        );
    }
    for body in [
        "",
        "hello",
        "<html><body>login</body></html>",
        "<D:error xmlns:D=\"DAV:\"/>",
        "{\"a\": 1}",
    ] {
        assert_eq!(
            parse_at(DIRECTORY, body.as_bytes()),
            Err(NotMultistatus::NoMultistatus),
            "{body}"
        );
    }
    assert_eq!(read(""), Err(NotMultistatus::NoMultistatus), "not even the directory");
    let mixed = whole.replace("</D:href><D:propstat>", "</D:hrfe><D:propstat>");
    assert!(matches!(
        parse_at(DIRECTORY, mixed.as_bytes()),
        Err(NotMultistatus::Malformed(_))
    ));
    let entity = multistatus(&response("/dav/d/&nbsp;"));
    assert!(matches!(
        parse_at(DIRECTORY, entity.as_bytes()),
        Err(NotMultistatus::Malformed(_))
    ));
}

#[test]
fn limits_hold() {
    let url = Url::parse(DIRECTORY).unwrap();
    let config = ListingConfig {
        max_entries: 2,
        ..ListingConfig::default()
    };
    let parse = |responses: &str| super::super::parse(&url, &url, multistatus(responses).as_bytes(), None, &config);
    let three = [
        response("/dav/d/"),
        response("/dav/d/a"),
        response("/dav/d/b"),
        response("/dav/d/c"),
    ];
    assert_eq!(parse(&three[..3].concat()).unwrap().entries.len(), 2);
    assert_eq!(parse(&three.concat()), Err(NotMultistatus::TooManyNames(2)));
    let deep = "<a>".repeat(100_000);
    assert!(parse(&deep).is_err());
    let bindings: String = (0..10_000).map(|number| format!(" xmlns:n{number}='x'")).collect();
    assert!(parse(&format!("<D:response{bindings}/>")).is_err());
}

/// An answer for the directory alone, with these properties.
fn tags_of(spaces: &str, properties: &str) -> TagProperties {
    let body = format!(
        "<D:multistatus xmlns:D=\"DAV:\" {spaces}><D:response><D:href>/dav/d/</D:href><D:propstat><D:prop>\
         <D:resourcetype><D:collection/></D:resourcetype>{properties}</D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"
    );
    let url = Url::parse(DIRECTORY).unwrap();
    let config = ListingConfig::default();
    parse_whole(&url, &url, body.as_bytes(), None, &config).unwrap().tags
}

#[test]
fn tags_count_only_in_their_own_namespaces() {
    const SPACES: &str =
        "xmlns:cs=\"http://calendarserver.org/ns/\" xmlns:oc=\"http://owncloud.org/ns\" xmlns:x=\"urn:x\"";
    let of = |properties| {
        let tags = tags_of(SPACES, properties);
        (tags.kind(), tags.validator(tags.kind()))
    };
    let is_none = |properties| of(properties) == (TagKind::None, Validator::None);
    assert!(
        is_none("<D:getetag>\"1\"</D:getetag>"),
        "it may be made of the names alone"
    );
    assert!(is_none("<D:getctag>1</D:getctag><x:getctag>1</x:getctag><cs:getctag/>"));
    assert!(is_none(
        "<D:getetag>\"1\"</D:getetag><D:id>1</D:id><x:id>1</x:id><oc:id/>"
    ));
    assert!(is_none("<oc:id>1</oc:id>"));
    let (kind, one) = of("<cs:getctag>1</cs:getctag><D:getetag>\"2\"</D:getetag>");
    assert_eq!(kind, TagKind::ChangeTag);
    assert_eq!(of("<cs:getctag>1</cs:getctag><D:getetag>\"3\"</D:getetag>").1, one);
    assert_ne!(of("<cs:getctag>2</cs:getctag>").1, one);
    let (kind, other) = of("<D:getetag>\"1\"</D:getetag><oc:id>00000005ocx</oc:id>");
    assert_eq!(kind, TagKind::EntityTag);
    assert_ne!(other, one, "one kind of tag is never taken for another");
    assert_eq!(Validator::parse(&other.to_key()), Some(other));
}
