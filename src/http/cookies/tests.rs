//! Which cookies are kept, and where they are sent.

use std::time::Duration;

use proptest::prelude::*;
use reqwest::header::HeaderValue;

use super::*;

const FILE: &str = "# Netscape HTTP Cookie File\n\n\
    .example.org\tTRUE\t/\tFALSE\t0\tall\t1\n\
    www.example.org\tFALSE\t/pub\tFALSE\t0\tdeep\t2\n\
    #HttpOnly_.example.org\tTRUE\t/\tTRUE\t2000\tsecure\ts3cret\r\n\
    127.0.0.1\tFALSE\t/\tFALSE\t-1\taddress\t\n";

/// When the tests' responses come, in seconds since 1970.
const NOW: u64 = 1_000_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn sent_of(jar: &CookieJar, url: &str, now: u64) -> Option<String> {
    jar.header(&Url::parse(url).unwrap(), at(now))
}

/// A jar after the responses of these URLs with these `Set-Cookie` headers.
fn jar_of<'a>(responses: impl IntoIterator<Item = (&'a str, &'a str)>) -> CookieJar {
    let jar = CookieJar::new(&CookieConfig::default());
    for (url, header) in responses {
        receive(&jar, url, header);
    }
    jar
}

fn receive(jar: &CookieJar, url: &str, cookie: &str) {
    let headers = HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap())]);
    jar.receive(&Url::parse(url).unwrap(), &headers, at(NOW));
}

/// The cookies that go to `url` after another one has set one.
fn sent(by: &str, cookie: &str, url: &str) -> String {
    sent_of(&jar_of([(by, cookie)]), url, NOW).unwrap_or_default()
}

#[test]
fn cookie_of_the_file_is_sent_only_to_its_host() {
    let file = CookieFile::parse(FILE, None).unwrap();
    let jar = CookieJar::new(&CookieConfig { file, keeps: true });
    let sent = |url: &str, now| sent_of(&jar, url, now);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(sent("http://www.example.org/pub/f", 0), some("deep=2; all=1"));
    assert_eq!(sent("http://www.example.org/public", 0), some("all=1"));
    assert_eq!(sent("http://a.www.example.org/pub/", 0), some("all=1"));
    assert_eq!(sent("https://example.org/", 1999), some("all=1; secure=s3cret"));
    assert_eq!(
        sent("https://example.org/", 2000),
        some("all=1"),
        "the other one has expired"
    );
    assert_eq!(sent("http://127.0.0.1:8000/", 0), some("address="));
    for url in ["http://anexample.org/", "http://example.org.net/", "http://127.0.0.2/"] {
        assert_eq!(sent(url, 0), None, "{url}");
    }
}

#[test]
fn invalid_cookie_is_reported_by_line() {
    for text in [
        "# a\nb=c",
        "# a\nh\tTRUE\t/\tFALSE\t0\tn",
        "\nh\tyes\t/\tFALSE\t0\tn\tv",
        "\nh\tTRUE\t/\tFALSE\tsoon\tn\tv",
    ] {
        assert!(
            CookieFile::parse(text, None)
                .unwrap_err()
                .to_string()
                .starts_with("line 2"),
            "{text}"
        );
    }
    let file = CookieFile::parse(FILE, None).unwrap();
    let jar = CookieJar::new(&CookieConfig {
        file: file.clone(),
        keeps: true,
    });
    assert!(!format!("{file:?} {jar:?}").contains("s3cret"));
}

#[test]
fn cookie_goes_to_the_hosts_that_its_domain_covers() {
    let by = "https://www.example.co.uk/";
    for (cookie, to, is_sent) in [
        // For its host alone, whatever the port and the scheme.
        ("a=1", "https://www.example.co.uk/x", true),
        ("a=1", "http://www.example.co.uk:81/", true),
        ("a=1", "https://example.co.uk/", false),
        ("a=1", "https://b.www.example.co.uk/", false),
        ("a=1; Domain=", "https://www.example.co.uk/", true),
        // For the hosts of a domain.
        ("a=1; Domain=example.co.uk", "https://other.example.co.uk/", true),
        ("a=1; domain=.Example.CO.UK", "https://example.co.uk/", true),
        ("a=1; Domain=example.co.uk", "https://anexample.co.uk/", false),
        ("a=1; Domain=www.example.co.uk", "https://a.www.example.co.uk/", true),
        // Not for what its server is no part of.
        ("a=1; Domain=other.example.co.uk", "https://other.example.co.uk/", false),
        ("a=1; Domain=b.www.example.co.uk", "https://b.www.example.co.uk/", false),
        // Nor for all that share a public suffix.
        ("a=1; Domain=co.uk", "https://www.example.co.uk/", false),
        ("a=1; Domain=uk", "https://www.example.co.uk/", false),
        ("a=1; Domain=127.0.0.1", "https://127.0.0.1/", false),
    ] {
        assert_eq!(sent(by, cookie, to) == "a=1", is_sent, "{cookie} {to}");
    }
    // The last `Domain` counts.
    assert_eq!(
        sent(by, "a=1; Domain=net; Domain=example.co.uk", "https://example.co.uk/"),
        "a=1"
    );
    for (by, domain, to, is_sent) in [
        // A public suffix that is a host keeps its cookie to itself.
        ("https://github.io/", "github.io", "https://github.io/", true),
        ("https://github.io/", "github.io", "https://ann.github.io/", false),
        ("https://ann.github.io/", "github.io", "https://ben.github.io/", false),
        (
            "https://a.ann.github.io/",
            "ann.github.io",
            "https://ann.github.io/",
            true,
        ),
        // Names of a network at home.
        ("http://nas/", "nas", "http://nas/", true),
        ("http://nas/", "nas", "http://b.nas/", false),
        ("http://localhost/", "localhost", "http://localhost:81/", true),
        ("http://a.nas.lan/", "lan", "http://b.lan/", false),
        ("http://a.nas.lan/", "nas.lan", "http://nas.lan/", true),
        // An address is a host, and no domain.
        ("http://127.0.0.1/", "127.0.0.1", "http://127.0.0.1/", true),
        ("http://127.0.0.1/", "0.0.1", "http://127.0.0.1/", false),
        ("http://127.0.0.1/", ".1", "http://127.0.0.1/", false),
        ("http://[::1]/", "[::1]", "http://[::1]:80/", true),
        ("http://127.0.0.1/", "127.0.0.1", "http://127.0.0.2/", false),
        // Names beyond ASCII are compared as they are requested.
        (
            "https://www.bücher.example/",
            "BÜCHER.example",
            "https://xn--bcher-kva.example/",
            true,
        ),
    ] {
        assert_eq!(
            sent(by, &format!("a=1; Domain={domain}"), to) == "a=1",
            is_sent,
            "{by} {domain} {to}"
        );
    }
}

#[test]
fn cookie_goes_to_what_is_below_its_path() {
    for (by, cookie, to, is_sent) in [
        ("/a/b/c", "a=1", "/a/b/d", true),
        ("/a/b/c", "a=1", "/a/b", true),
        ("/a/b/c", "a=1", "/a/bc", false),
        ("/a/b/c", "a=1", "/a/", false),
        ("/a", "a=1", "/", true),
        ("/a/", "a=1; Path=/", "/b", true),
        ("/a/", "a=1; Path=b", "/b", false),
        ("/a/", "a=1; Path=/b", "/b/c", true),
        ("/a/", "a=1; Path=/b/", "/b", false),
        ("/a/", "a=1; Path=/A", "/a", false),
    ] {
        let url = |path: &str| format!("https://host.example{path}");
        assert_eq!(sent(&url(by), cookie, &url(to)) == "a=1", is_sent, "{by} {cookie} {to}");
    }
    let jar = jar_of([
        ("http://h/", "a=1; Path=/"),
        ("http://h/", "b=2; Path=/d/e"),
        ("http://h/", "c=3; Path=/d"),
        ("http://h/", "a=4; Path=/"),
    ]);
    assert_eq!(
        sent_of(&jar, "http://h/d/e/f", NOW).unwrap(),
        "b=2; c=3; a=4",
        "longer paths first"
    );
}

#[test]
fn secure_cookie_needs_tls() {
    let (tls, plain) = ("https://h.example/", "http://h.example/");
    assert_eq!(sent(tls, "a=1; Secure", tls), "a=1");
    assert_eq!(sent(tls, "a=1; secure=no", plain), "", "it has no value that counts");
    assert_eq!(sent(plain, "a=1; Secure", tls), "");
    for (first, second, left) in [
        ("a=1; Secure; Path=/", "a=2; Path=/", "a=1"),
        ("a=1; Secure; Path=/", "a=2; Path=/x", "a=1"),
        ("a=1; Secure; Path=/", "a=; Max-Age=0", "a=1"),
        ("a=1; Secure; Path=/x", "a=2; Path=/", "a=2"),
        ("a=1; Secure; Path=/", "b=2", "a=1; b=2"),
    ] {
        let jar = jar_of([(tls, first), (plain, second)]);
        assert_eq!(sent_of(&jar, tls, NOW).unwrap_or_default(), left, "{first} {second}");
    }
    let jar = jar_of([
        ("https://h.example/", "a=1; Secure; Domain=h.example"),
        ("http://b.h.example/", "a=2; Domain=h.example"),
        ("http://b.h.example/", "a=3"),
    ]);
    assert_eq!(sent_of(&jar, "https://b.h.example/", NOW).unwrap(), "a=1");
}

#[test]
fn prefixes_say_what_they_promise() {
    for (cookie, is_kept) in [
        ("__Secure-a=1; Secure", true),
        ("__Secure-a=1", false),
        ("__Host-a=1; Secure; Path=/", true),
        ("__host-a=1; Path=/", false),
        ("__Host-a=1; Secure; Path=/x", false),
        ("__Host-a=1; Secure", false),
        ("__Host-a=1; Secure; Path=/; Domain=h.example", false),
    ] {
        assert_eq!(
            !sent("https://h.example/", cookie, "https://h.example/x").is_empty(),
            is_kept,
            "{cookie}"
        );
    }
}

#[test]
fn cookie_expires_when_it_says() {
    let expires = |attributes: &str| {
        let jar = jar_of([("http://h/", &*format!("a=1; {attributes}"))]);
        let is_sent = |now| sent_of(&jar, "http://h/", now).is_some();
        // The last second in which it is sent, of those that the tests name.
        [NOW, NOW + 9, NOW + 10, u64::from(u32::MAX), u64::MAX / 4]
            .into_iter()
            .filter(|&now| is_sent(now))
            .max()
    };
    let ever = Some(u64::MAX / 4);
    assert_eq!(expires("HttpOnly"), ever);
    assert_eq!(expires("Max-Age=10"), Some(NOW + 9));
    for gone in [
        "Max-Age=0",
        "Max-Age=-5",
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "Expires=Mon, 01-Jan-1601 00:00:00 GMT",
    ] {
        assert_eq!(expires(gone), None, "{gone}");
    }
    for ten in [
        "Expires=Sun, 09 Sep 2001 01:46:50 GMT",
        "expires=Sunday, 09-Sep-01 01:46:50 GMT",
        "Expires=Sun Sep  9 01:46:50 2001",
        "Expires=9 september 2001 1:46:50",
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=10",
        "Max-Age=10; Expires=never",
        "Max-Age=10; Max-Age=soon",
    ] {
        assert_eq!(expires(ten), Some(NOW + 9), "{ten}");
    }
    for unreadable in [
        "Expires=never",
        "Expires=32 Sep 2001 01:46:50",
        "Expires=9 Sep 1600 01:46:50",
        "Expires=9 Sep 2001 25:46:50",
        "Max-Age=",
        "Max-Age=+5",
        "Max-Age=5s",
    ] {
        assert_eq!(expires(unreadable), ever, "{unreadable}: for the life of the mount");
    }
    assert_eq!(expires("Max-Age=99999999999999999999999"), ever);
    let jar = jar_of([
        ("http://h/", "a=1"),
        ("http://h/", "a=; Max-Age=0"),
        ("http://h/", "b=1; Max-Age=0"),
    ]);
    assert_eq!(jar.len(), 0, "it was removed");
}

#[test]
fn malformed_cookie_is_ignored() {
    let long = "x".repeat(4100);
    for cookie in [
        "",
        "a",
        "=1",
        ";",
        " = ",
        "a=1\tb",
        &format!("a={long}"),
        &format!("{long}=1"),
    ] {
        assert_eq!(jar_of([("http://h/", cookie)]).len(), 0, "{cookie}");
    }
    let too_long = format!("a=1; Path=/{}", "x".repeat(2000));
    assert_eq!(
        sent("http://h/", &too_long, "http://h/"),
        "a=1",
        "the attribute is ignored"
    );
    assert_eq!(sent("http://h/", " a = \"1 2\" ;;=; x", "http://h/"), "a=\"1 2\"");
    assert_eq!(sent("http://h/", "a=é=2", "http://h/"), "a=é=2");
}

#[test]
fn jar_is_bounded_and_drops_the_least_recently_used() {
    let jar = CookieJar::new(&CookieConfig::default());
    receive(&jar, "http://h.example/used", "first=1; Path=/used");
    for number in 0..2 * MOST_OF_A_DOMAIN {
        assert!(sent_of(&jar, "http://h.example/used", NOW).is_some_and(|sent| sent.contains("first=1")));
        receive(&jar, "http://h.example/", &format!("c{number}=1; Path=/unused"));
    }
    assert_eq!(jar.len(), MOST_OF_A_DOMAIN);
    for number in 0..MOST + 100 {
        receive(&jar, &format!("http://h{number}.example/"), "a=1");
    }
    assert_eq!(jar.len(), MOST);
    assert_eq!(jar.state.lock().received, MOST);
    assert!(
        sent_of(&jar, &format!("http://h{}.example/", MOST + 99), NOW).is_some(),
        "the newest is there"
    );

    let jar = CookieJar::new(&CookieConfig::default());
    for number in 0..40 {
        receive(&jar, "http://h/", &format!("c{number}={}", "x".repeat(1000)));
    }
    assert!(sent_of(&jar, "http://h/", NOW).unwrap().len() <= LONGEST_HEADER);
}

#[test]
fn file_has_as_many_cookies_as_the_user_likes() {
    let lines = (0..MOST + 10).map(|number| format!("h\tFALSE\t/\tFALSE\t0\tc{number}\t1\n"));
    let file = CookieFile::parse(&lines.collect::<String>(), None).unwrap();
    let jar = CookieJar::new(&CookieConfig {
        file: file.clone(),
        keeps: true,
    });
    receive(&jar, "http://h/", "new=1");
    receive(&jar, "http://h/", "c0=2");
    assert_eq!((jar.len(), jar.state.lock().received), (MOST + 11, 2));
    let jar = CookieJar::new(&CookieConfig { file, keeps: false });
    receive(&jar, "http://h/", "new=1");
    assert_eq!(jar.len(), MOST + 10, "nothing is kept");
}

proptest! {
    #[test]
    fn any_header_keeps_the_jar_in_bounds(
        headers in prop::collection::vec("([a-c_=;é \t\"-]|Max-Age=|Expires=|Domain=|Path=/|Secure|[0-9:]|h\\.example|Jan){0,12}", 0..80),
        hosts in prop::collection::vec(0_usize..3, 80),
    ) {
        let jar = CookieJar::new(&CookieConfig::default());
        for (header, host) in headers.iter().zip(hosts) {
            receive(&jar, ["http://h.example/", "https://b.h.example/a/b", "http://127.0.0.1/"][host], header);
        }
        let state = jar.state.lock();
        let received = state.by_domain.values().flatten().filter(|known| known.is_received).count();
        prop_assert_eq!(received, state.received);
        prop_assert!(state.by_domain.values().all(|cookies| !cookies.is_empty() && cookies.len() <= MOST_OF_A_DOMAIN));
        drop(state);
        // What h.example has set does not go to another host.
        prop_assert!(sent_of(&jar, "http://other.example/", NOW).is_none());
        for url in ["http://h.example/", "https://b.h.example/a/b", "http://127.0.0.1/"] {
            if let Some(sent) = sent_of(&jar, url, NOW) {
                prop_assert!(HeaderValue::from_bytes(sent.as_bytes()).is_ok() && sent.len() <= LONGEST_HEADER);
            }
        }
    }
}
