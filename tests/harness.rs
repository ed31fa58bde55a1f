//! Tests of the harness: each real server serves, logs and ends, and every end of a command is detected.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::common::files::{self, sha256, sha256_of};
use crate::common::process::processes_about;
use crate::common::servers::{ApacheIndex, WebServer, cases};
use crate::common::{run, temporary_directory};
use crate::origin::Content;

/// Requests a URL through a bare socket and returns the whole response.
fn get(url: &str, headers: &str) -> Vec<u8> {
    let rest = url.strip_prefix("http://").expect("an http URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("the server answers");
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
    )
    .expect("to ask");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

fn serves_and_goes(start: impl Fn(&Path) -> WebServer) -> Vec<u8> {
    let root = temporary_directory();
    let content = Content::noise(100_000, 3);
    files::write_file(&root.path().join("some file"), &content);
    let server = start(root.path());
    assert!(get(&server.url("/some%20file"), "").ends_with(&content.whole()));
    let index = get(&server.url("/"), "");
    drop(server);
    let left = processes_about(root.path().to_str().expect("a path of the harness"));
    assert!(left.is_empty(), "{left:?} outlived the server's guard");
    index
}

#[test]
fn every_test_server_starts_serves_and_stops() {
    let servers: [fn(&Path) -> WebServer; 7] = [
        WebServer::nginx,
        WebServer::lighttpd,
        WebServer::caddy,
        WebServer::python,
        |root| WebServer::apache(root, ApacheIndex::Plain),
        |root| WebServer::apache(root, ApacheIndex::Fancy),
        |root| WebServer::apache(root, ApacheIndex::Table),
    ];
    for start in servers {
        let index = String::from_utf8(serves_and_goes(start)).expect("text");
        assert!(index.contains("some%20file"), "{index}");
    }
}

#[test]
fn nginx_and_apache_logs_have_ranges_and_bytes() {
    let root = temporary_directory();
    let content = Content::noise(100_000, 3);
    files::write_file(&root.path().join("f"), &content);
    for server in [
        WebServer::nginx(root.path()),
        WebServer::apache(root.path(), ApacheIndex::Fancy),
    ] {
        assert!(get(&server.url("/f"), "Range: bytes=10-1009\r\n").ends_with(&content.read(10..1010)));
        get(&server.url("/f"), "");
        get(&server.url("/nothing"), "");
        let lines = server.requests();
        let seen: Vec<_> = lines
            .iter()
            .map(|line| (line.path.as_str(), line.status, line.range.as_str()))
            .collect();
        assert_eq!(
            seen,
            [("/f", 206, "bytes=10-1009"), ("/f", 200, "-"), ("/nothing", 404, "-")]
        );
        assert_eq!((lines[0].bytes, server.data_bytes_for("/f")), (1000, 101_000));
    }
}

#[test]
fn content_files_match_and_sparse_ones_use_no_space() {
    use std::os::unix::fs::MetadataExt;
    let root = temporary_directory();
    let content = Content::noise(5_000_001, 4);
    let path = root.path().join("f");
    files::write_file(&path, &content);
    assert_eq!(sha256(&path), sha256_of(&content));
    files::assert_same(
        &files::pread(&path, 4_999_000..6_000_000),
        &content.read(4_999_000..6_000_000),
        "the end",
    );
    let (path, content) = (root.path().join("big"), Content::noise(5 << 30, 5));
    let places = [0..10, (4 << 30) - 10..(4 << 30) + 10];
    files::write_sparse(&path, content.size(), &content, &places);
    let metadata = fs::metadata(&path).expect("the file");
    assert_eq!(metadata.len(), 5 << 30);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    for place in places {
        assert_eq!(files::pread(&path, place.clone()), content.read(place));
    }
}

#[test]
fn command_code_output_and_signal_are_captured() {
    let shell = |script: &str| run(Command::new("sh").args(["-c", script]));
    let ran = shell("echo out; echo err >&2; exit 3");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (3, "out\n", "err\n"));
    assert_eq!(shell("kill -9 $$").code, 137);
}

#[test]
fn case_server_prints_and_handles_signals() {
    assert!(cases().join("no-dates.py").is_file());
    let server = WebServer::case("no-dates.py", &["PORT", "none"]);
    assert!(server.printed().contains("listening"));
    server.signal(Signal::SIGSTOP);
    server.signal(Signal::SIGCONT);
    assert!(get(&server.url("/"), "").ends_with(b"</table>"));
}
