//! Metadata and pages, from servers that do what honest ones don't.

use std::time::{Duration, SystemTime};

use super::{
    super::testing::{Reply, Server, breaks_off, says, stalls},
    tests::{client, is_bad, known},
    *,
};

/// What a server says to HEAD, and to GET.
async fn of_two_minds(head: &'static str, get: &'static str) -> Server {
    let reply = move |request: &str| -> Reply {
        if request.starts_with("HEAD") {
            says(format!("{head}\r\n\r\n"))
        } else {
            says(get)
        }
    };
    Server::start(reply).await
}

#[tokio::test]
async fn one_head_is_enough_if_it_tells_the_size() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 123\r\nETag: \"v1\"\r\nContent-Type: Video/MP4; x=y\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
    let server = of_two_minds(head, "").await;
    let metadata = client().metadata(&server.at("f")).await.unwrap();
    assert_eq!(metadata.version, Some(known(123)));
    assert_eq!(
        (metadata.size, metadata.content_type.as_deref()),
        (Some(123), Some("video/mp4"))
    );
    assert_eq!(
        metadata.modified,
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    );
    assert_eq!((metadata.url, server.requests().len()), (server.at("f"), 1));
}

#[tokio::test]
async fn a_head_that_tells_no_size_is_followed_by_a_range() {
    const PART: &str = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-0/123\r\nETag: \"v1\"\r\nContent-Length: 1\r\n\r\na";
    const WHOLE: &str = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 3\r\n\r\nabc";
    const UNSIZED: &str = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    const EMPTY: &str = "HTTP/1.1 416 No\r\nContent-Range: bytes */0\r\nContent-Length: 0\r\n\r\n";
    const FINE: &str = "HTTP/1.1 200 OK\r\nETag: \"v1\"";
    for (head, get, size) in [
        ("HTTP/1.1 405 No\r\nContent-Length: 0", PART, Some(123)),
        ("HTTP/1.1 403 No\r\nContent-Length: 0", PART, Some(123)),
        ("HTTP/1.1 501 No\r\nContent-Length: 0", PART, Some(123)),
        ("HTTP/1.1 400 No\r\nContent-Length: 0", PART, Some(123)),
        ("HTTP/1.1 204 Fine", PART, Some(123)),
        (FINE, PART, Some(123)),
        (
            "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 77\r\nContent-Encoding: gzip",
            PART,
            Some(123),
        ),
        ("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 0", PART, Some(123)),
        ("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 0", EMPTY, Some(0)),
        (
            "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 0",
            "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n",
            Some(0),
        ),
        (FINE, WHOLE, Some(3)),
        (FINE, UNSIZED, None),
    ] {
        let server = of_two_minds(head, get).await;
        let metadata = client().metadata(&server.at("f")).await.unwrap();
        assert_eq!(metadata.size, size, "{head} {get}");
        assert_eq!(metadata.version, size.map(known), "{head} {get}");
        assert_eq!(server.requests().len(), 2);
        assert!(server.requests()[1].contains("range: bytes=0-0"));
    }
}

#[tokio::test]
async fn metadata_of_what_is_not_there_or_forbidden_fails_as_such() {
    let server = of_two_minds("HTTP/1.1 404 No\r\nContent-Length: 0", "").await;
    assert_eq!(
        client().metadata(&server.at("f")).await.unwrap_err().kind,
        HttpErrorKind::NotFound(404)
    );
    let server = of_two_minds("HTTP/1.1 403 No", "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(
        client().metadata(&server.at("f")).await.unwrap_err().kind,
        HttpErrorKind::Denied(403)
    );
}

#[tokio::test]
async fn a_page_comes_with_its_type_and_its_place() {
    let server = Server::start(|request| match request.starts_with("GET /old ") {
        true => says("HTTP/1.1 301 Moved\r\nLocation: new/\r\nContent-Length: 0\r\n\r\n"),
        false => says("HTTP/1.1 200 OK\r\nContent-Type: text/HTML; charset=\"utf-8\"\r\nContent-Length: 4\r\n\r\n<a>b"),
    })
    .await;
    let page = client().page(&server.at("old")).await.unwrap();
    assert_eq!(page.url, server.at("new/"));
    assert_eq!(
        (page.content_type.as_deref(), page.charset.as_deref()),
        (Some("text/html"), Some("utf-8"))
    );
    assert_eq!(page.body, b"<a>b");
}

#[tokio::test]
async fn a_page_without_end_is_refused() {
    let most = HttpConfig::default().max_page;
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", most + 1);
    let server = Server::start(move |_| stalls(announced.clone())).await;
    assert!(is_bad(&client().page(&server.url).await.unwrap_err().kind));
    let few = 1 << 20;
    let server = Server::start(move |_| {
        let mut text = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        text.resize(few + 4096, b'a');
        stalls(text)
    })
    .await;
    let config = HttpConfig {
        max_page: few as u64,
        ..HttpConfig::default()
    };
    let kind = Client::new(config).unwrap().page(&server.url).await.unwrap_err().kind;
    assert!(
        is_bad(&kind) && kind.to_string().contains("1.0 MiB; --max-listing-size"),
        "{kind}"
    );
}

#[tokio::test]
async fn large_pages_are_held_one_at_a_time_and_small_ones_beside_them() {
    let server = Server::start(|request| {
        let body = "a".repeat(if request.starts_with("GET /large") {
            LARGE_PAGE as usize + 1
        } else {
            10
        });
        says(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    })
    .await;
    let client = client();
    let first = client.page(&server.at("large1")).await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(300), client.page(&server.at("large2"))).await;
    assert!(second.is_err(), "it waits for the first to be dropped");
    client.page(&server.at("small")).await.unwrap();
    drop(first);
    client.page(&server.at("large3")).await.unwrap();
}

#[tokio::test]
async fn half_a_page_is_no_page() {
    let server = Server::start(|_| breaks_off("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<a>b")).await;
    assert_eq!(
        client().page(&server.url).await.unwrap_err().kind,
        HttpErrorKind::Interrupted
    );
}
