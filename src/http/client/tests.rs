//! The client against servers that do what honest ones don't.

use std::time::{Instant, SystemTime};

use super::super::testing::{Reply, Server, breaks_off, says, stalls};
use super::*;
use crate::http::Validator;

const TAG: &str = "\"v1\"";

/// Long enough for a loaded machine to answer in, short enough to be waited for.
const PATIENCE: Duration = Duration::from_millis(300);

fn client() -> Client {
    Client::new(HttpConfig {
        timeout: Duration::from_secs(20),
        ..HttpConfig::default()
    })
    .unwrap()
}

fn impatient() -> Client {
    Client::new(HttpConfig {
        timeout: PATIENCE,
        ..HttpConfig::default()
    })
    .unwrap()
}

fn known(size: u64) -> Version {
    Version {
        size,
        validator: Validator::Strong(TAG.to_owned()),
    }
}

/// A 206 with this Content-Range and body.
fn part(range: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 206 P\r\nContent-Range: bytes {range}\r\nETag: {TAG}\r\nContent-Length: {length}\r\n\r\n{body}")
}

async fn read(body: &mut Body) -> Result<Vec<u8>, (Vec<u8>, HttpErrorKind)> {
    let mut bytes = Vec::new();
    loop {
        match body.next().await {
            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
            Ok(None) => return Ok(bytes),
            Err(error) => return Err((bytes, error.kind)),
        }
    }
}

/// Asks for bytes 2..6 of a file of ten bytes, and reads what comes.
async fn read_range(client: &Client, server: &Server) -> Result<Vec<u8>, (Vec<u8>, HttpErrorKind)> {
    match client.range(&server.at("f"), 2..6, Some(&known(10))).await {
        Ok(RangeAnswer::Partial {
            mut body,
            version,
            range,
            ..
        }) => {
            assert_eq!((version, range), (known(10), 2..6));
            read(&mut body).await
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err((Vec::new(), error.kind)),
    }
}

fn is_bad(kind: &HttpErrorKind) -> bool {
    matches!(kind, HttpErrorKind::BadAnswer(_))
}

#[tokio::test]
async fn a_range_is_asked_for_by_version_and_read_to_its_end() {
    let server = Server::start(|_| says(part("2-5/10", "cdef"))).await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(read_range(&client, &server).await.unwrap(), b"cdef");
    }
    let request = server.requests()[0].to_lowercase();
    assert!(request.starts_with("get /f http/1.1\r\n"), "{request}");
    for header in [
        "range: bytes=2-5",
        "if-range: \"v1\"",
        "accept-encoding: identity",
        "user-agent: fetchfs/",
    ] {
        assert!(request.contains(&format!("\r\n{header}")), "{header} in {request}");
    }
    assert_eq!(
        server.connections(),
        1,
        "a connection is used again after a body that was read"
    );
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_interrupted_after_what_came() {
    let cut = |text: &str| text[..text.len() - 2].to_owned();
    let by_length = cut(&part("2-5/10", "cdef"));
    let by_close = by_length.replace("Content-Length: 4\r\n", "Connection: close\r\n");
    let by_chunk = by_length
        .replace("Content-Length: 4", "Transfer-Encoding: chunked")
        .replace("\r\n\r\ncd", "\r\n\r\n2\r\ncd\r\n");
    let chunks_end = format!("{by_chunk}0\r\n\r\n");
    for text in [by_length, by_close, by_chunk, chunks_end] {
        let reply = text.clone();
        let server = Server::start(move |_| breaks_off(reply.clone())).await;
        let (bytes, kind) = read_range(&client(), &server).await.unwrap_err();
        assert_eq!(
            (bytes.as_slice(), kind),
            (b"cd".as_slice(), HttpErrorKind::Interrupted),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_body_that_goes_on_after_its_end_is_refused() {
    let text = part("2-5/10", "cdef").replace("Content-Length: 4", "Transfer-Encoding: chunked");
    let text = text.replace("\r\n\r\ncdef", "\r\n\r\n4\r\ncdef\r\n3\r\nghi\r\n0\r\n\r\n");
    let server = Server::start(move |_| says(text.clone())).await;
    let (bytes, kind) = read_range(&client(), &server).await.unwrap_err();
    assert!(is_bad(&kind), "{kind}");
    assert!(b"cdef".starts_with(&bytes), "no byte beyond the range was handed out");
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_the_timeout() {
    let whole = part("2-5/10", "cdef");
    for (text, came) in [("", ""), ("HTTP/1.1 206", ""), (&whole[..whole.len() - 2], "cd")] {
        let reply = text.to_owned();
        let server = Server::start(move |_| stalls(reply.clone())).await;
        let start = Instant::now();
        let (bytes, kind) = read_range(&impatient(), &server).await.unwrap_err();
        assert_eq!(
            (bytes.as_slice(), kind),
            (came.as_bytes(), HttpErrorKind::TimedOut(PATIENCE))
        );
        assert!(start.elapsed() >= PATIENCE && start.elapsed() < PATIENCE * 10);
    }
}

#[tokio::test]
async fn a_pause_of_the_reader_is_not_taken_for_a_pause_of_the_server() {
    let server = Server::start(|_| says(part("2-5/10", "cdef"))).await;
    let Ok(RangeAnswer::Partial { mut body, .. }) = impatient().range(&server.at("f"), 2..6, None).await else {
        panic!()
    };
    // The time is the matter here: a throttled reader comes back late.
    tokio::time::sleep(PATIENCE * 2).await;
    assert_eq!(read(&mut body).await.unwrap(), b"cdef");
}

#[tokio::test]
async fn what_does_not_fit_is_an_error_before_a_byte_is_read() {
    for text in [
        part("0-3/10", "abcd"),
        part("2-6/10", "cdefg"),
        part("2-5/10", "cdef").replace("Content-Range", "X-Range"),
        part("2-5/10", "cdef").replace("Content-Length", "Content-Encoding: gzip\r\nContent-Length"),
        "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\n\r\n".to_owned(),
        "220 ftp.example.org ready\r\n\r\n".to_owned(),
    ] {
        let reply = text.clone();
        let server = Server::start(move |_| breaks_off(reply.clone())).await;
        let (_, kind) = read_range(&client(), &server).await.unwrap_err();
        assert!(is_bad(&kind), "{kind}: {text}");
    }
}

#[tokio::test]
async fn a_server_without_ranges_sends_the_whole_file() {
    let server = Server::start(|_| says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcdefghij")).await;
    let answer = client().range(&server.at("f"), 2..6, None).await.unwrap();
    let RangeAnswer::Whole {
        size,
        validator,
        mut body,
        ..
    } = answer
    else {
        panic!("{answer:?}")
    };
    assert_eq!((size, validator), (Some(10), Validator::None));
    assert_eq!(read(&mut body).await.unwrap(), b"abcdefghij");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_read_to_its_end() {
    let server = Server::start(|_| breaks_off("HTTP/1.0 200 OK\r\n\r\nabc")).await;
    let answer = client().range(&server.at("f"), 0..6, None).await.unwrap();
    let RangeAnswer::Whole {
        size: None, mut body, ..
    } = answer
    else {
        panic!("{answer:?}")
    };
    assert_eq!(read(&mut body).await.unwrap(), b"abc");
}

#[tokio::test]
async fn unreachable_servers_are_told_apart() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Url::parse(&format!("http://{}/f?key=secret", listener.local_addr().unwrap())).unwrap()
    };
    let error = client().range(&nobody, 0..1, None).await.unwrap_err();
    assert_eq!(error.kind, HttpErrorKind::Refused);
    assert!(
        !error.to_string().contains("secret") && error.to_string().contains("/f?key=…"),
        "{error}"
    );
    let unknown = Url::parse("http://no-such-host.invalid/").unwrap();
    assert_eq!(
        client().page(&unknown).await.unwrap_err().kind,
        HttpErrorKind::UnknownHost
    );
    let server = Server::start(|_| breaks_off("")).await;
    assert_eq!(
        client().metadata(&server.url).await.unwrap_err().kind,
        HttpErrorKind::Interrupted
    );
    let secure = Url::parse(&server.url.as_str().replace("http:", "https:")).unwrap();
    let kind = impatient().metadata(&secure).await.unwrap_err().kind;
    assert!(kind.is_temporary() && !is_bad(&kind), "{kind:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_patience_is_quoted() {
    let server = Server::start(|_| says("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")).await;
    let busy = HttpErrorKind::Status {
        status: 503,
        retry_after: Some(Duration::from_secs(7)),
    };
    assert_eq!(
        client().range(&server.at("f"), 0..1, None).await.unwrap_err().kind,
        busy
    );
    assert_eq!(client().metadata(&server.at("f")).await.unwrap_err().kind, busy);
    assert_eq!(client().page(&server.at("f")).await.unwrap_err().kind, busy);
}

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
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_PAGE + 1);
    let server = Server::start(move |_| stalls(announced.clone())).await;
    assert!(is_bad(&client().page(&server.url).await.unwrap_err().kind));
    let server = Server::start(move |_| {
        let mut text = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        text.resize(MAX_PAGE + 4096, b'a');
        stalls(text)
    })
    .await;
    assert!(is_bad(&client().page(&server.url).await.unwrap_err().kind));
}

#[tokio::test]
async fn half_a_page_is_no_page() {
    let server = Server::start(|_| breaks_off("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<a>b")).await;
    assert_eq!(
        client().page(&server.url).await.unwrap_err().kind,
        HttpErrorKind::Interrupted
    );
}
