//! Tests of the origin: it is honest without a fault, and exactly as dishonest as a fault says. The client is a bare
//! socket, because a library would hide the details under test.

mod faults;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::common::process;
use crate::origin::{Content, Crowd, End, Fault, Framing, Gate, IndexStyle, Origin, Validators};

/// The response to one request.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// How the connection ended, if the response was read to its end.
    error: Option<ErrorKind>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }
}

fn connect(origin: &Origin) -> TcpStream {
    let stream = TcpStream::connect(origin.address()).expect("to connect");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream
}

/// Sends one request on a new connection, and reads until the server closes it.
fn ask(origin: &Origin, method: &str, path: &str, headers: &str) -> Reply {
    let mut stream = connect(origin);
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
    )
    .expect("to ask");
    let (mut bytes, mut error) = (Vec::new(), None);
    if let Err(failure) = stream.read_to_end(&mut bytes) {
        error = Some(failure.kind());
    }
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(bytes.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Reply {
        status,
        head,
        body: bytes[end..].to_vec(),
        error,
    }
}

fn get(origin: &Origin, path: &str) -> Reply {
    ask(origin, "GET", path, "")
}

fn get_range(origin: &Origin, path: &str, range: &str) -> Reply {
    ask(origin, "GET", path, &format!("Range: bytes={range}\r\n"))
}

/// An origin with `/f`: 300,000 bytes of noise.
fn with_noise() -> (Origin, Content) {
    let (origin, content) = (Origin::start(), Content::noise(300_000, 7));
    origin.add("/f", content.clone());
    (origin, content)
}

#[test]
fn content_depends_only_on_position_and_seed() {
    let content = Content::noise(5 << 30, 1);
    let at = (4 << 30) + 4090;
    let whole = content.read(at..at + 10_000);
    let pieces: Vec<u8> = (0..100)
        .flat_map(|i| content.read(at + i * 100..at + i * 100 + 100))
        .collect();
    assert_eq!(whole, pieces);
    assert_eq!(
        content.read(content.size() - 3..u64::MAX).len(),
        3,
        "cut off at the end"
    );
    let same = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a == b).count();
    let other = Content::noise(5 << 30, 2).read(at..at + 10_000);
    assert!(same(&whole, &other) < 200, "another seed is another file");
    let shifted = content.read(at + 1..at + 10_001);
    assert!(same(&whole, &shifted) < 200, "a byte further on is another text");
    let moved = content.read(at + 262_144..at + 272_144);
    assert!(same(&whole, &moved) < 200, "a chunk further on is another text");
}

#[test]
fn file_is_served_with_validators() {
    let (origin, content) = with_noise();
    let reply = get(&origin, "/f");
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("300000")));
    assert_eq!(reply.body, content.whole());
    assert_eq!(reply.header("etag"), Some("\"v1-300000\""));
    assert_eq!(reply.header("last-modified"), Some("Mon, 01 Jan 2024 00:00:00 GMT"));
    assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    let head = ask(&origin, "HEAD", "/f", "");
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some("300000"), 0)
    );
}

#[test]
fn range_is_served_and_cut_at_the_end() {
    let (origin, content) = with_noise();
    for (asked, range, said) in [
        ("0-0", 0..1, "bytes 0-0/300000"),
        ("70000-200000", 70_000..200_001, "bytes 70000-200000/300000"),
        ("299999-400000", 299_999..300_000, "bytes 299999-299999/300000"),
        ("150000-", 150_000..300_000, "bytes 150000-299999/300000"),
    ] {
        let reply = get_range(&origin, "/f", asked);
        assert_eq!((reply.status, reply.header("content-range")), (206, Some(said)));
        assert_eq!(reply.body, content.read(range), "{asked}");
    }
    let reply = get_range(&origin, "/f", "300000-");
    assert_eq!(
        (reply.status, reply.header("content-range")),
        (416, Some("bytes */300000"))
    );
    let reply = ask(&origin, "HEAD", "/f", "Range: bytes=5-9\r\n");
    assert_eq!(
        (reply.status, reply.header("content-length")),
        (200, Some("300000")),
        "a range is for GET"
    );
}

#[test]
fn conditional_requests_are_honoured() {
    let (origin, content) = with_noise();
    let status = |headers: &str| ask(&origin, "GET", "/f", headers).status;
    assert_eq!(status("Range: bytes=0-9\r\nIf-Range: \"v1-300000\"\r\n"), 206);
    assert_eq!(
        status("Range: bytes=0-9\r\nIf-Range: Mon, 01 Jan 2024 00:00:00 GMT\r\n"),
        206
    );
    assert_eq!(status("Range: bytes=0-9\r\nIf-Range: \"other\"\r\n"), 200);
    assert_eq!(status("If-Match: \"v1-300000\"\r\n"), 200);
    assert_eq!(status("If-Match: \"other\"\r\n"), 412);
    assert_eq!(status("If-Unmodified-Since: Sun, 31 Dec 2023 00:00:00 GMT\r\n"), 412);
    assert_eq!(status("If-None-Match: \"v1-300000\"\r\n"), 304);
    assert_eq!(status("If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n"), 304);
    origin.set_validators("/f", Validators::Weak);
    assert_eq!(
        status("Range: bytes=0-9\r\nIf-Range: W/\"v1-300000\"\r\n"),
        200,
        "a weak tag never fits If-Range"
    );
    assert_eq!(status("If-None-Match: W/\"v1-300000\"\r\n"), 304);
    origin.set_validators("/f", Validators::DateOnly);
    let reply = get(&origin, "/f");
    assert_eq!(
        (reply.header("etag"), reply.header("last-modified").is_some()),
        (None, true)
    );
    origin.set_validators("/f", Validators::None);
    let reply = get(&origin, "/f");
    assert_eq!((reply.header("etag"), reply.header("last-modified")), (None, None));
    assert_eq!(reply.body, content.whole());
}

#[test]
fn changed_file_has_new_etag_and_date() {
    let (origin, _) = with_noise();
    let before = origin.modified("/f");
    origin.add("/f", Content::noise(300_000, 8));
    let reply = ask(&origin, "GET", "/f", "Range: bytes=0-9\r\nIf-Range: \"v1-300000\"\r\n");
    assert_eq!((reply.status, reply.body), (200, Content::noise(300_000, 8).whole()));
    assert_eq!(
        reply.head.lines().find(|line| line.starts_with("ETag")),
        Some("ETag: \"v2-300000\"")
    );
    assert!(origin.modified("/f") > before);
    origin.remove("/f");
    assert_eq!(get(&origin, "/f").status, 404);
}

#[test]
fn index_page_links_all_files() {
    let origin = Origin::start();
    origin.add("/a & b/100% #1?.txt", "hello");
    origin.add_directory("/a & b/empty");
    let long = format!("{}.bin", "ü".repeat(60));
    origin.add(&format!("/a & b/{long}"), Content::noise(5 << 30, 1));
    assert_eq!(get(&origin, "/a%20%26%20b").header("location"), Some("/a%20%26%20b/"));
    let page = get(&origin, "/a%20%26%20b/").text();
    let line = format!(
        "<a href=\"100%25%20%231%3F.txt\">100% #1?.txt</a>{}",
        " ".repeat(50 - 12)
    );
    assert!(
        page.contains(&format!("{line} 01-Jan-2024 00:00                   5\r\n")),
        "{page}"
    );
    assert!(page.contains("<a href=\"empty/\">empty/</a>"), "{page}");
    assert!(
        page.contains(&format!(
            "{}..&gt;</a> 01-Jan-2024 00:00          5368709120\r\n",
            "ü".repeat(47)
        )),
        "{page}"
    );
    assert!(
        get(&origin, "/")
            .text()
            .contains("<a href=\"a%20%26%20b/\">a &amp; b/</a>")
    );
    assert_eq!(get(&origin, "/a%20%26%20b/100%25%20%231%3F.txt").text(), "hello");
    assert_eq!(
        origin.url("/a & b/100% #1?.txt"),
        format!("{}a%20%26%20b/100%25%20%231%3F.txt", origin.url("/"))
    );
    origin.set_index_style(IndexStyle::NamesOnly);
    let page = get(&origin, "/a%20%26%20b/").text();
    assert!(
        page.contains("<li><a href=\"100%25%20%231%3F.txt\">100% #1?.txt</a></li>"),
        "{page}"
    );
    assert!(!page.contains("5368709120"), "{page}");
}

#[test]
fn a_connection_serves_many_requests() {
    let (origin, content) = with_noise();
    let mut stream = connect(&origin);
    for start in [0, 1000, 2000] {
        write!(
            stream,
            "GET /f HTTP/1.1\r\nRange: bytes={start}-{}\r\n\r\n",
            start + 999
        )
        .expect("to ask");
        let mut bytes = Vec::new();
        while !bytes.ends_with(&content.read(start..start + 1000)) {
            let mut more = [0; 4096];
            let n = stream.read(&mut more).expect("to read");
            assert_ne!(n, 0, "the connection ended");
            bytes.extend_from_slice(&more[..n]);
        }
    }
    let requests = origin
        .log()
        .wait_for("three answers", |log| log.0.len() == 3 && log.all_ended());
    assert!(requests.0.iter().all(|request| request.connection == 0));
    assert_eq!(requests.ranges("/f"), [0..1000, 1000..2000, 2000..3000]);
    assert_eq!((requests.body_bytes("/f"), requests.max_in_flight()), (3000, 1));
}

#[test]
fn origin_restarts_on_the_same_port() {
    let (origin, _) = with_noise();
    origin.on("/f").fault(Fault::Hold(Gate::new()));
    let mut stream = connect(&origin);
    write!(stream, "GET /f HTTP/1.1\r\n\r\n").expect("to ask");
    origin.log().wait_for("the request", |log| log.0.len() == 1);
    origin.go_down();
    assert_eq!(
        stream.read(&mut [0; 1]).map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    let refused = TcpStream::connect(origin.address()).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    origin.come_back();
    assert_eq!(get(&origin, "/").status, 200);
}

#[test]
fn request_log_can_go_to_a_file() {
    let (origin, _) = with_noise();
    let file = tempfile::NamedTempFile::new().expect("a file");
    origin.log().write_to(file.reopen().expect("the file"));
    get_range(&origin, "/f", "10-19");
    get(&origin, "/not%20there");
    origin
        .log()
        .wait_for("two ends", |log| log.0.len() == 2 && log.all_ended());
    let lines = std::fs::read_to_string(file.path()).expect("the log");
    assert!(
        lines.starts_with("GET /f bytes=10-19 206 10\nGET /not%20there - 404 "),
        "{lines}"
    );
}

/// A program that is started at this moment inherits all sockets of this process for a while, including the listener.
#[test]
fn stopped_origin_is_not_kept_open_by_child_processes() {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                process::run(&mut Command::new("true"));
            }
        });
        let taken = (0..200).all(|_| {
            let origin = Origin::start();
            origin.go_down();
            TcpListener::bind(origin.address()).is_ok()
        });
        done.store(true, Ordering::Relaxed);
        assert!(taken, "somebody listens at the port still");
    });
}
