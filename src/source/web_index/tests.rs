//! In which forms servers are asked, and how often.

use super::*;
use crate::http::HttpConfig;
use crate::http::testing::{Reply, Server, says};

const HTML: &str = "<title>Index of /</title><a href=\"page\">page</a>  14-Nov-2023 22:13   7";
const ROUNDED: &str =
    "<title>Index of /</title><table><tr><td><a href=\"page\">page</a></td><td>7.0K</td></tr></table>";
const JSON: &str = r#"[{"name": "data", "type": "file", "mtime": 1700000000, "size": 7}]"#;
const API: &str = r#"{"version": 1}"#;
const DUFS: &str = "<script src=\"/__dufs_v0.47.0__/index.js\"></script>";

/// An answer of this media type, with these headers beside it.
fn answer(media_type: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    says(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ))
}

fn html(body: &str) -> Reply {
    answer("text/html", "", body)
}

fn json(body: &str) -> Reply {
    answer("application/json", "", body)
}

fn accepts_json(request: &str) -> bool {
    request.to_lowercase().contains("application/json")
}

/// The name in the listing of each of these directories, or why there is none, and the requests for them: `GET /x/`,
/// with `+json` if JSON is accepted.
async fn asked(
    reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    directories: &[&str],
) -> (Vec<String>, Vec<String>) {
    let server = Server::start(reply).await;
    let source = WebIndex::new(Client::new(HttpConfig::default()).unwrap(), ListingConfig::default());
    let mut listings = Vec::new();
    for directory in directories {
        let url = server.at(directory);
        listings.push(match source.list(&url, &url).await {
            Ok(listing) => {
                let entry = listing.entries.get(0).unwrap();
                let base = url.join(".").unwrap();
                assert_eq!(entry.url, base.join(entry.name.as_os_str().to_str().unwrap()).unwrap());
                entry.name.as_os_str().to_str().unwrap().to_owned()
            }
            Err(error) => error.to_string(),
        });
    }
    let line = |request: String| {
        let path = request.split(' ').nth(1).unwrap().to_owned();
        path + if accepts_json(&request) { " +json" } else { "" }
    };
    (listings, server.requests().into_iter().map(line).collect())
}

#[tokio::test]
async fn one_request_gets_json_or_html() {
    for body in [HTML, JSON] {
        let name = if body == HTML { "page" } else { "data" };
        let (listings, requests) = asked(move |_| answer("x/y", "", body), &["a/", "b/"]).await;
        assert_eq!(listings, [name, name]);
        assert_eq!(requests, ["/a/ +json", "/b/ +json"]);
    }
}

#[tokio::test]
async fn api_in_place_of_a_listing_is_asked_for_html_once() {
    let reply = |request: &str| if accepts_json(request) { json(API) } else { html(HTML) };
    let (listings, requests) = asked(reply, &["a/", "b/"]).await;
    assert_eq!(listings, ["page", "page"]);
    assert_eq!(requests, ["/a/ +json", "/a/", "/b/"]);
    let unacceptable = |request: &str| {
        if accepts_json(request) {
            says("HTTP/1.1 406 Not Acceptable\r\nContent-Length: 0\r\n\r\n")
        } else {
            html(HTML)
        }
    };
    let (listings, requests) = asked(unacceptable, &["a/", "b/"]).await;
    assert_eq!(listings, ["page", "page"]);
    assert_eq!(requests, ["/a/ +json", "/a/", "/b/"]);
}

#[tokio::test]
async fn nothing_but_an_api_is_an_error() {
    let (listings, requests) = asked(|_| json(API), &["a/", "b/"]).await;
    assert!(
        listings
            .iter()
            .all(|why| why.contains("it is JSON, but no directory listing")),
        "{listings:?}"
    );
    assert_eq!(requests, ["/a/ +json", "/a/", "/b/ +json", "/b/"]);
}

#[tokio::test]
async fn scripted_pages_are_asked_for_as_json() {
    let dufs = |request: &str| {
        if request.contains("?json ") {
            json(JSON)
        } else {
            html(DUFS)
        }
    };
    let (listings, requests) = asked(dufs, &["a/", "b/"]).await;
    assert_eq!(listings, ["data", "data"]);
    assert_eq!(requests, ["/a/ +json", "/a/?json +json", "/b/?json +json"]);

    let old = |request: &str| html(if request.contains("?noscript ") { HTML } else { DUFS });
    let (listings, requests) = asked(old, &["a/", "b/"]).await;
    assert_eq!(listings, ["page", "page"]);
    assert_eq!(
        requests,
        [
            "/a/ +json",
            "/a/?json +json",
            "/a/?noscript +json",
            "/b/?noscript +json"
        ]
    );
}

#[tokio::test]
async fn coloured_text_is_asked_for_as_json() {
    let copyparty = |request: &str| {
        if request.contains("?ls ") {
            json(r#"{"dirs": [], "files": [{"href": "data", "sz": 7, "ts": 1700000000}], "perms": ["read"]}"#)
        } else {
            answer("text/plain", "", "# acct: *\n# perms: ['read']\n")
        }
    };
    let (listings, requests) = asked(copyparty, &["a/", "b/"]).await;
    assert_eq!(listings, ["data", "data"]);
    assert_eq!(requests, ["/a/ +json", "/a/?ls +json", "/b/?ls +json"]);
}

/// Another program may answer for a part of the origin.
#[tokio::test]
async fn a_form_that_fails_is_left_for_one_directory() {
    let mixed = |request: &str| match request.split(' ').nth(1).unwrap() {
        "/other/?json" => json(API),
        "/other/" => html(HTML),
        path if path.ends_with("?json") => json(JSON),
        _ => html(DUFS),
    };
    let (listings, requests) = asked(mixed, &["a/", "other/", "b/"]).await;
    assert_eq!(listings, ["data", "page", "data"]);
    assert_eq!(requests[2..], ["/other/?json +json", "/other/ +json", "/b/?json +json"]);
}

#[tokio::test]
async fn rounded_sizes_of_new_lighttpds_are_asked_for_as_json() {
    for (version, has_json, requests_of_two) in [
        ("1.4.79", true, &["/a/ +json", "/a/?json +json", "/b/?json +json"][..]),
        ("1.4.79", false, &["/a/ +json", "/a/?json +json", "/b/ +json"]),
        ("1.4.69", true, &["/a/ +json", "/b/ +json"]),
    ] {
        let lighttpd = move |request: &str| {
            let body = if has_json && request.contains("?json ") {
                JSON
            } else {
                ROUNDED
            };
            answer("text/html", &format!("Server: lighttpd/{version}\r\n"), body)
        };
        let (listings, requests) = asked(lighttpd, &["a/", "b/"]).await;
        let name = if has_json && version == "1.4.79" {
            "data"
        } else {
            "page"
        };
        assert_eq!(listings, [name, name], "{version}");
        assert_eq!(requests, requests_of_two, "{version}");
    }
}

#[tokio::test]
async fn the_users_own_query_stays() {
    let dufs = |request: &str| {
        if request.contains("?json ") {
            json(JSON)
        } else {
            html(DUFS)
        }
    };
    let (listings, requests) = asked(dufs, &["a/", "b/?key=1"]).await;
    assert!(listings[1].contains("JavaScript"), "{listings:?}");
    assert_eq!(requests[2..], ["/b/?key=1 +json"]);
}

/// The names of a listing of several pages, or why there is none, and the queries that were requested.
async fn paged(reply: impl Fn(&str) -> Reply + Send + Sync + 'static, max_page: u64) -> (String, Vec<String>) {
    // `GET /?page=2 HTTP/1.1`
    let query = |request: &str| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        path.split_once('?').map_or("", |(_, query)| query).to_owned()
    };
    let server = Server::start(move |request: &str| reply(&query(request))).await;
    let config = HttpConfig {
        max_page,
        ..HttpConfig::default()
    };
    let source = WebIndex::new(Client::new(config).unwrap(), ListingConfig::default());
    let listing = source.list(&server.url, &server.url).await;
    let names = |listing: Listing| {
        let names = listing
            .entries
            .iter()
            .map(|entry| entry.name.as_os_str().to_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let listing = listing.map_or_else(|error| format!("{:?} {error}", error.kind()), names);
    (
        listing,
        server.requests().iter().map(|request| query(request)).collect(),
    )
}

/// A page with a name, and links to pages.
fn page(name: &str, others: &[&str]) -> Reply {
    let links: String = others
        .iter()
        .map(|query| format!("<a href=\"?{query}\">x</a>"))
        .collect();
    html(&format!(
        "<title>Index of /</title><a href=\"{name}\">{name}</a> {links}"
    ))
}

#[tokio::test]
async fn page_that_is_not_there_ends_nothing() {
    let gone = || says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let reply = move |query: &str| match query {
        "" => page("a", &["page=2", "page=3", "page=4"]),
        "page=3" => page("c", &["page=5"]),
        _ => gone(),
    };
    let (names, queries) = paged(reply, 1 << 20).await;
    assert_eq!(
        (names.as_str(), queries.join(" ").as_str()),
        ("a c", " page=2 page=3 page=4 page=5")
    );
}

/// Nothing is gone because a page of the listing can't be had.
#[tokio::test]
async fn page_that_fails_makes_the_listing_fail() {
    let fails = |status: &str| says(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
    for (answer, why) in [("503 Busy", "503"), ("403 No", "403")] {
        let reply = move |query: &str| {
            if query.is_empty() {
                page("a", &["page=2"])
            } else {
                fails(answer)
            }
        };
        let (error, _) = paged(reply, 1 << 20).await;
        assert!(error.contains(why) && !error.starts_with("NotFound"), "{error}");
    }
    let reply = |query: &str| match query {
        "" => page("a", &["page=2"]),
        _ => html("<form><input type=password></form>"),
    };
    let (error, _) = paged(reply, 1 << 20).await;
    assert!(error.contains("page=") && error.contains("login page"), "{error}");
}

#[tokio::test]
async fn pages_together_are_within_the_limit_of_a_listing() {
    let reply = |query: &str| {
        let number = query
            .strip_prefix("page=")
            .map_or(1, |number| number.parse::<usize>().unwrap());
        let filler = "<!-- x -->".repeat(40);
        html(&format!(
            "<title>Index of /</title>{filler}<a href=f{number}>f{number}</a><a href='?page={}'>next</a>",
            number + 1
        ))
    };
    let (error, queries) = paged(reply, 2048).await;
    assert!(error.contains("--max-listing-size"), "{error}");
    assert!(queries.len() < 6, "{queries:?}");
}

/// RFC 8288: for pages and for listings in JSON. Only a page of the same directory is the next one of its listing.
#[tokio::test]
async fn next_page_is_found_in_the_headers() {
    for is_json in [false, true] {
        let reply = move |query: &str| {
            let (name, next) = match query {
                "" => ("a", "</elsewhere/>; rel=next, <?after=a>; rel=\"next\""),
                "after=a" => ("b", "</?after=b>; rel=\"next\", </>; rel=\"first\""),
                _ => ("c", "</elsewhere/>; rel=next"),
            };
            let (kind, body) = match is_json {
                true => ("application/json", JSON.replace("data", name)),
                false => ("text/html", HTML.replace("page", name)),
            };
            answer(kind, &format!("Link: {next}\r\n"), &body)
        };
        let (names, queries) = paged(reply, 1 << 20).await;
        assert_eq!(names, "a b c", "{is_json}");
        assert_eq!(queries, ["", "after=a", "after=b"], "{is_json}");
    }
}
