//! Tests of ranges with servers that misbehave.

mod documents;
mod reaching;
mod redirects;

use std::time::{Duration, Instant};

use super::*;
use crate::http::testing::{Server, breaks_off, says, stalls};
use crate::http::{Validator, Version};
use crate::origin::RangeAnswer;

const TAG: &str = "\"v1\"";

/// Long enough for a busy machine's responses, short enough for a test.
const PATIENCE: Duration = Duration::from_millis(300);

pub(super) fn client() -> Client {
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

pub(super) fn known(size: u64) -> Version {
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

/// Requests bytes 2..6 of a file of ten bytes, and reads the body.
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

pub(super) fn is_bad(kind: &HttpErrorKind) -> bool {
    matches!(kind, HttpErrorKind::BadAnswer(_) | HttpErrorKind::Contradiction(_))
}

#[tokio::test]
async fn range_request_carries_the_validator() {
    let server = Server::start(|_| says(part("2-5/10", "cdef"))).await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(read_range(&client, &server).await.unwrap(), b"cdef");
    }
    let request = server.requests()[0].to_lowercase();
    assert!(request.starts_with("get /f http/1.1\r\n"), "{request}");
    for header in ["range: bytes=2-5", "accept-encoding: identity", "user-agent: fetchfs/"] {
        assert!(request.contains(&format!("\r\n{header}")), "{header} in {request}");
    }
    assert!(!request.contains("\r\nif-"), "no precondition: {request}");
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

/// A stall at a known offset is the server's; after much more of the body the connection is suspected again.
#[tokio::test]
async fn a_connection_is_trusted_at_one_place_only() {
    for (came, is_suspected) in [(10, false), (128 << 10, true)] {
        let body = "x".repeat(1 << 20);
        let whole = part(&format!("0-{}/{}", body.len() - 1, body.len()), &body);
        let reply = whole[..whole.len() - body.len() + came].to_owned();
        let server = Server::start(move |_| stalls(reply.clone())).await;
        let timeout = Duration::from_secs(5);
        let client = Client::new(HttpConfig {
            timeout,
            ..HttpConfig::default()
        });
        let answer = client.unwrap().range(&server.at("f"), 0..body.len() as u64, None).await;
        let Ok(RangeAnswer::Partial { mut body, .. }) = answer else {
            panic!("{came}")
        };
        body.trust_connection();
        let (bytes, kind) = read(&mut body).await.unwrap_err();
        assert_eq!(bytes.len(), came);
        assert_eq!(kind == HttpErrorKind::AskAgain, is_suspected, "{came}: {kind}");
    }
}

#[tokio::test]
async fn reader_pause_is_not_a_server_stall() {
    let server = Server::start(|_| says(part("2-5/10", "cdef"))).await;
    let Ok(RangeAnswer::Partial { mut body, .. }) = impatient().range(&server.at("f"), 2..6, None).await else {
        panic!()
    };
    // This test is about time: a throttled reader comes back late.
    tokio::time::sleep(PATIENCE * 2).await;
    assert_eq!(read(&mut body).await.unwrap(), b"cdef");
}

#[tokio::test]
async fn what_does_not_fit_is_an_error_before_a_byte_is_read() {
    for text in [
        part("0-3/10", "abcd"),
        part("2-5/10", "cdef").replace("Content-Range", "X-Range"),
        part("2-5/10", "cdef").replace("Content-Length: 4", "Content-Encoding: gzip"),
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
async fn bytes_after_the_range_are_ignored() {
    let by_length = part("2-9/10", "cdefghij");
    let by_chunk = by_length.replace("Content-Length: 8", "Transfer-Encoding: chunked");
    let by_chunk = by_chunk.replace("\r\n\r\ncdefghij", "\r\n\r\n3\r\ncde\r\n5\r\nfghij\r\n0\r\n\r\n");
    for text in [by_length, by_chunk] {
        let reply = text.clone();
        let server = Server::start(move |_| says(reply.clone())).await;
        let client = client();
        for _ in 0..2 {
            assert_eq!(read_range(&client, &server).await.unwrap(), b"cdef", "{text}");
        }
    }
}

#[tokio::test]
async fn server_without_ranges_sends_the_whole_file() {
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
async fn unreachable_server_errors_are_distinguished() {
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
        HttpErrorKind::Unanswered
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

/// Regression: Apache and lighttpd refuse a range past the end without `Content-Range: bytes */n`; others refuse any
/// range.
#[tokio::test]
async fn rejected_range_is_retried_as_the_whole_file() {
    for status in [416, 400, 405, 501] {
        let server = Server::start(move |request| match request.contains("range:") {
            true => says(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n")),
            false => says("HTTP/1.1 200 OK\r\nETag: \"v2\"\r\nContent-Length: 2\r\n\r\nab"),
        })
        .await;
        let answer = client().range(&server.at("f"), 2..6, None).await;
        assert!(matches!(answer, Ok(RangeAnswer::PastEnd { size: 2 })), "{answer:?}");
        let answer = client().range(&server.at("f"), 2..6, Some(&known(10))).await;
        let shrunk = Version {
            size: 2,
            validator: Validator::Strong("\"v2\"".to_owned()),
        };
        assert!(
            matches!(&answer, Ok(RangeAnswer::Changed(Some(version))) if *version == shrunk),
            "{answer:?}"
        );
        let answer = client().range(&server.at("f"), 1..6, None).await;
        let Ok(RangeAnswer::Whole {
            size: Some(2),
            mut body,
            ..
        }) = answer
        else {
            panic!("{status}: {answer:?}")
        };
        assert_eq!(read(&mut body).await.unwrap(), b"ab");
        assert_eq!(server.requests().len(), 6, "one more request for each");
    }
    let server = Server::start(|_| says("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")).await;
    let error = client().range(&server.at("f"), 1..6, None).await.unwrap_err();
    assert!(
        matches!(error.kind, HttpErrorKind::Status { status: 400, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn closed_idle_connection_is_not_a_failure() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| match turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        1 => breaks_off(""),
        _ => says(part("2-5/10", "cdef")),
    })
    .await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(read_range(&client, &server).await.unwrap(), b"cdef");
    }
    assert_eq!((server.requests().len(), server.connections()), (3, 2));
}
