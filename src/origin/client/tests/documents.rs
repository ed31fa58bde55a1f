//! Tests of metadata and documents with servers that misbehave.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{self, HeaderMap, HeaderValue},
};

use super::*;
use crate::http::testing::{Reply, Server, breaks_off, says, stalls};
use crate::http::{Validator, Version};
use crate::origin::{Comparison, Content, DocumentRequest, ListedSize, Published, RangeAnswer};

/// A server with one response to HEAD and another to GET.
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

const PART: &str = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-0/123\r\nETag: \"v1\"\r\nContent-Type: Video/MP4; x=y\r\n\
                    Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 1\r\n\r\na";
const WHOLE: &str = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 3\r\n\r\nabc";
const UNDATED: &str = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-0/123\r\nETag: \"v1\"\r\nContent-Length: 1\r\n\r\na";
const NOT_FOUND: &str = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";

fn methods(server: &Server) -> Vec<String> {
    let requests = server.requests();
    requests
        .iter()
        .filter_map(|request| Some(request.split_once(' ')?.0.to_owned()))
        .collect()
}

#[tokio::test]
async fn first_byte_probe_gives_size_and_version() {
    let server = of_two_minds("HTTP/1.1 404 No\r\nContent-Length: 0", PART).await;
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
    assert!(server.requests()[0].contains("range: bytes=0-0"));
}

/// A server with four responses: to `bytes=0-0`, to `bytes=0-1`, to a GET without Range, and to HEAD.
async fn of_many_minds(one: &'static str, two: &'static str, whole: &'static str, head: &'static str) -> Server {
    Server::start(move |request| match request {
        _ if request.starts_with("HEAD") => says(head),
        _ if request.contains("range: bytes=0-0\r\n") => says(one),
        _ if request.contains("range: bytes=0-1\r\n") => says(two),
        _ if request.contains("range:") => panic!("{request}"),
        _ => says(whole),
    })
    .await
}

#[tokio::test]
async fn probe_falls_back_to_two_bytes_then_whole_file() {
    const NO: &str = "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n";
    const BAD: &str = "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n";
    const BROKEN: &str = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    const OPEN: &str = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-0/*\r\nContent-Length: 1\r\n\r\na";
    const TOTAL: &str = "HTTP/1.1 416 No\r\nContent-Range: bytes */123\r\nContent-Length: 0\r\n\r\n";
    const EMPTY: &str = "HTTP/1.1 416 No\r\nContent-Range: bytes */0\r\nContent-Length: 0\r\n\r\n";
    const ALL: &str = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-2/3\r\nETag: \"v1\"\r\nContent-Length: 3\r\n\r\nabc";
    const TWO: &str = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-1/123\r\nETag: \"v1\"\r\nContent-Length: 2\r\n\r\nab";
    const SAYS_200: &str =
        "HTTP/1.1 200 OK\r\nContent-Range: bytes 0-0/123\r\nETag: \"v1\"\r\nContent-Length: 1\r\n\r\na";
    const NONE: &str = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 0\r\n\r\n";
    const UNSIZED: &str = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (one, two, whole, head, size, requests) in [
        (PART, NO, NO, NO, Some(123), 1),
        (ALL, NO, NO, NO, Some(3), 1),
        (SAYS_200, NO, NO, NO, Some(123), 1),
        (OPEN, TWO, NO, NO, Some(123), 2),
        (NO, TWO, NO, NO, Some(123), 2),
        (BAD, TWO, NO, NO, Some(123), 2),
        (OPEN, OPEN, WHOLE, NO, Some(3), 3),
        (NO, NO, WHOLE, NO, Some(3), 4),
        (BAD, BAD, WHOLE, NO, Some(3), 4),
        // HEAD might have a validator where no response to GET does.
        (TOTAL, TOTAL, BAD, NO, Some(123), 4),
        (UNSIZED, NO, NO, NONE, None, 1),
        (BAD, BAD, UNSIZED, NONE, None, 3),
        (TOTAL, TOTAL, UNSIZED, NO, Some(123), 3),
        // Empty files.
        (EMPTY, EMPTY, NONE, NO, Some(0), 3),
        (NO, NO, NONE, NO, Some(0), 3),
        (BROKEN, BROKEN, NONE, NO, Some(0), 3),
        (OPEN, OPEN, NONE, NO, Some(0), 3),
        (BROKEN, BROKEN, BROKEN, NONE, Some(0), 4),
        (BAD, BAD, BAD, NONE, Some(0), 4),
    ] {
        let server = of_many_minds(one, two, whole, head).await;
        let metadata = client().metadata(&server.at("f")).await.unwrap();
        let case = format!("{one} {two} {whole} {head}");
        assert_eq!(metadata.size, size, "{case}");
        if !case.contains("*/") && size.is_some() {
            assert_eq!(metadata.version, size.map(known), "{case}");
        }
        // The whole file is compared with a HEAD, once.
        let compared = usize::from(requests == 3 && whole == WHOLE);
        assert_eq!(server.requests().len(), requests + compared, "{case}");
    }
    // HEAD on a file that GET refuses: believed only if it says that the file is empty.
    let server = of_many_minds(BROKEN, BROKEN, BROKEN, WHOLE).await;
    let error = client().metadata(&server.at("f")).await.unwrap_err();
    assert!(
        matches!(error.kind, HttpErrorKind::Status { status: 500, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn successful_probe_is_used_first_next_time() {
    const NO: &str = "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n";
    const TWO: &str = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-1/123\r\nETag: \"v1\"\r\nContent-Length: 2\r\n\r\nab";
    let server = of_many_minds(NO, TWO, NO, NO).await;
    let client = client();
    for (file, requests) in [("a", 2), ("b", 3), ("c", 4)] {
        assert_eq!(client.metadata(&server.at(file)).await.unwrap().size, Some(123));
        assert_eq!(server.requests().len(), requests);
    }
}

#[tokio::test]
async fn head_suffices_if_ranges_are_ignored() {
    let server = of_two_minds("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 3", WHOLE).await;
    let client = client();
    for file in ["a", "b", "c"] {
        assert_eq!(client.metadata(&server.at(file)).await.unwrap().version, Some(known(3)));
    }
    assert_eq!(methods(&server), ["GET", "HEAD", "HEAD", "HEAD"]);
}

#[tokio::test]
async fn a_head_that_contradicts_get_is_the_last_one() {
    for head in [
        "HTTP/1.1 404 No\r\nContent-Length: 0",
        "HTTP/1.1 405 No\r\nContent-Length: 0",
        "HTTP/1.1 500 No\r\nContent-Length: 0",
        "HTTP/1.1 503 No\r\nContent-Length: 0",
        "HTTP/1.1 204 Fine",
        "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 0",
        "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 77",
        "HTTP/1.1 200 OK\r\nETag: \"other\"\r\nContent-Length: 123",
        "HTTP/1.1 200 OK\r\nContent-Length: 123",
        "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Encoding: gzip\r\nContent-Length: 99",
        "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 3",
    ] {
        for (get, size) in [(PART, 123), (WHOLE, 3)] {
            if head.ends_with("\"v1\"\r\nContent-Length: 3") && size == 3 {
                continue;
            }
            let server = of_two_minds(head, get).await;
            let client = client();
            for file in ["a", "b"] {
                let found = client
                    .confirm(&server.at(file), Some(&known(size)), None)
                    .await
                    .unwrap();
                assert_eq!(found.version, Some(known(size)), "{head}");
                assert_eq!(
                    client.metadata(&server.at(file)).await.unwrap().size,
                    Some(size),
                    "{head}"
                );
            }
            assert_eq!(methods(&server), ["HEAD", "GET", "GET", "GET", "GET"], "{head}");
        }
    }
}

#[tokio::test]
async fn unanswered_head_times_out_once() {
    for closes in [true, false] {
        let server = Server::start(move |request| match request.starts_with("HEAD") {
            true if closes => breaks_off(""),
            true => stalls(""),
            false => says(PART),
        })
        .await;
        let client = client();
        let begun = std::time::Instant::now();
        for _ in 0..3 {
            let found = client.confirm(&server.at("f"), Some(&known(123)), None).await.unwrap();
            assert_eq!(found.version, Some(known(123)));
        }
        assert!(begun.elapsed() < HttpConfig::default().timeout / 2);
        let heads = methods(&server).iter().filter(|method| *method == "HEAD").count();
        assert_eq!(
            heads,
            1 + usize::from(closes && heads == 2),
            "a closed connection may be tried again"
        );
    }
}

#[tokio::test]
async fn unchanged_head_is_enough() {
    let server = of_two_minds("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 123", UNDATED).await;
    let client = client();
    for _ in 0..2 {
        let found = client.confirm(&server.at("f"), Some(&known(123)), None).await.unwrap();
        assert_eq!(found.version, Some(known(123)));
    }
    assert_eq!(methods(&server), ["HEAD", "HEAD"]);
    // The version has changed and HEAD says so too: HEAD stays in use.
    let older = Version {
        size: 5,
        validator: Validator::Strong("\"v0\"".to_owned()),
    };
    for _ in 0..2 {
        let found = client.confirm(&server.at("f"), Some(&older), None).await.unwrap();
        assert_eq!(found.version, Some(known(123)));
    }
    assert_eq!(methods(&server), ["HEAD", "HEAD", "HEAD", "GET", "HEAD", "GET"]);
}

/// Regression: a cache in front of the server keeps answering HEAD with the old version's head.
#[tokio::test]
async fn stale_head_is_detected_by_the_next_range() {
    let server = of_two_minds("HTTP/1.1 200 OK\r\nETag: \"v0\"\r\nContent-Length: 123", UNDATED).await;
    let client = client();
    let (old, new) = (
        Version {
            size: 123,
            validator: Validator::Strong("\"v0\"".to_owned()),
        },
        known(123),
    );
    let found = client.confirm(&server.at("f"), Some(&old), None).await.unwrap();
    assert_eq!(found.version, Some(old.clone()), "as far as HEAD says");
    let answer = client.range(&server.at("f"), 0..1, Some(&old)).await.unwrap();
    let RangeAnswer::Doubtful { told, .. } = answer else {
        panic!("{answer:?}")
    };
    let compared = client.compare_version(&server.at("f"), &old, None, &told, &[]).await;
    assert_eq!(compared.unwrap(), Comparison::Another);
    for _ in 0..2 {
        let found = client.confirm(&server.at("f"), Some(&old), None).await.unwrap();
        assert_eq!(found.version, Some(new.clone()));
    }
    assert!(methods(&server).ends_with(&["HEAD", "GET", "GET"].map(String::from)));
}

#[tokio::test]
async fn status_202_file_has_the_size_of_head() {
    let server = of_two_minds(
        "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 123",
        "HTTP/1.1 202 Wait\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert_eq!(
        client().metadata(&server.at("f")).await.unwrap().version,
        Some(known(123))
    );
}

#[tokio::test]
async fn metadata_of_what_is_not_there_or_forbidden_fails_as_such() {
    let server = of_two_minds("HTTP/1.1 200 OK\r\nContent-Length: 3", NOT_FOUND).await;
    for expected in [None, Some(known(3))] {
        assert_eq!(
            client()
                .confirm(&server.at("f"), expected.as_ref(), None)
                .await
                .unwrap_err()
                .kind,
            HttpErrorKind::NotFound(404)
        );
    }
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
async fn document_request_keeps_method_and_body_over_redirects() {
    let server = Server::start(|request| match request {
        _ if request.starts_with("PROPFIND /old ") => {
            says("HTTP/1.1 301 Moved\r\nLocation: new/\r\nContent-Length: 0\r\n\r\n")
        }
        _ => says("HTTP/1.1 207 Multi-Status\r\nDAV: 1\r\nContent-Length: 2\r\n\r\nok"),
    })
    .await;
    let request = DocumentRequest {
        method: Method::from_bytes(b"PROPFIND").unwrap(),
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"))]),
        body: Bytes::from_static(b"<propfind/>"),
        accepts: &[207],
        ..DocumentRequest::default()
    };
    let client = client();
    for _ in 0..2 {
        let document = client.document(&server.at("old"), request.clone()).await.unwrap();
        assert_eq!(
            (document.status, document.url, document.body.as_slice()),
            (207, server.at("new/"), b"ok".as_slice())
        );
        assert_eq!(document.headers["dav"], "1");
    }
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.starts_with("PROPFIND /")
        && request.contains("content-type: application/xml\r\n")
        && request.ends_with("\r\n\r\n<propfind/>")));
    assert_eq!((requests.len(), server.connections()), (4, 1), "{requests:?}");
    let other = DocumentRequest {
        accepts: &[200],
        ..request
    };
    assert!(is_bad(&client.document(&server.url, other).await.unwrap_err().kind));
}

#[tokio::test]
async fn published_headers_are_sent_for_their_file_only() {
    let server = Server::start(|_| says(PART)).await;
    let published = Published {
        alternates: vec![server.at("b")],
        headers: vec![
            ("Referer".into(), "http://h/list".into()),
            ("User-Agent".into(), "VLC".into()),
        ],
        ..Published::default()
    };
    let content = Content::at(server.at("a"), ListedSize::Unknown).with(Some(Arc::new(published)));
    let client = client();
    client.note_headers(&content);
    for path in ["a", "b", "c"] {
        client.metadata(&server.at(path)).await.unwrap();
    }
    let has = |request: &String, header: &str| request.to_lowercase().matches(header).count() == 1;
    let sent: Vec<_> = server
        .requests()
        .iter()
        .map(|request| has(request, "referer: http://h/list\r\n") && has(request, "user-agent: vlc\r\n"))
        .collect();
    assert_eq!(sent, [true, true, false]);
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
        is_bad(&kind) && kind.to_string().contains("1.0 MiB; raise --max-listing-size"),
        "{kind}"
    );
}

#[tokio::test]
async fn only_one_large_page_is_in_memory() {
    let server = Server::start(|request| {
        let body = "a".repeat(if request.starts_with("GET /large") {
            document::LARGE as usize + 1
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

#[tokio::test]
async fn response_without_length_can_be_the_known_version() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    const BODY: &str = "\r\n3\r\nabc\r\n0\r\n\r\n";
    let unnamed = || Version {
        size: 3,
        validator: Validator::None,
    };
    for (validator, expected, listed, is_kept) in [
        ("ETag: \"v1\"\r\n", known(3), None, true),
        ("ETag: \"v1\"\r\n", known(3), Some(4), true),
        ("ETag: \"v2\"\r\n", known(3), Some(3), false),
        ("", unnamed(), Some(3), true),
        ("", unnamed(), Some(4), false),
        ("", unnamed(), None, false),
        ("", known(3), Some(3), false),
    ] {
        let reply = format!("{CHUNKED}{validator}{BODY}");
        let server = Server::start(move |request| match request.starts_with("HEAD") {
            true => says("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"),
            false => says(reply.clone()),
        })
        .await;
        let found = client()
            .confirm(&server.at("f"), Some(&expected), listed)
            .await
            .unwrap();
        assert_eq!(found.version, is_kept.then_some(expected), "{validator} {listed:?}");
    }
}
