//! How responses are validated: HEAD, ranges, codings, heads.

use std::process::Command;
use std::{fs, io};

use crate::common::ground::Ground;
use crate::common::process::assert_refuses;
use crate::common::servers::WebServer;
use crate::common::{Mount, program, run};

/// Without a peculiarity, the shared case server serves `/f.bin` correctly.
#[test]
fn plain_case_server_is_read() {
    let server = WebServer::case("coding-names-nothing.py", &["identity", "PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    assert_eq!(fs::read(mount.path("f.bin")).expect("its bytes").len(), 4 << 20);
}

/// The content of the shared case server's `/f.bin`.
fn noise() -> Vec<u8> {
    let script = "import random, sys; sys.stdout.buffer.write(random.Random('f.bin').randbytes(4 << 20))";
    let output = Command::new(program("python3", "python3"))
        .args(["-c", script])
        .output();
    output.expect("python runs").stdout
}

/// Reads `/f.bin` of a case server.
#[track_caller]
fn read_from(case: &str, mode: &str) -> io::Result<Vec<u8>> {
    let server = WebServer::case(case, &[mode, "PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    fs::read(mount.path("f.bin"))
}

#[test]
fn empty_content_encoding_is_ignored() {
    let noise = noise();
    for label in ["utf-8", "none", "binary", "aws-chunked", "UTF8", "bzip2"] {
        assert!(
            read_from("coding-names-nothing.py", label).expect("its bytes") == noise,
            "{label}"
        );
    }
}

#[test]
fn stored_compressed_file_is_read_unchanged() {
    for (coding, name, mode) in [
        ("x-gzip", "a.gz", "ranges"),
        ("gzip", "a.tgz", "ranges"),
        ("gzip", "a.gz", "whole"),
        ("compress", "a.Z", "whole"),
    ] {
        let server = WebServer::case("coding-label.py", &["PORT", coding, name, mode]);
        let mount = Mount::start_of(&server.url("/"));
        let bytes = fs::read(mount.path(name)).expect("its bytes");
        assert_eq!(bytes[..2], [0x1f, 0x8b], "{coding} {mode}: it is not decoded");
        assert_eq!(
            bytes.len() as u64,
            fs::metadata(mount.path(name)).expect("its size").len()
        );
    }
}

#[test]
fn file_compressed_in_transit_is_an_error() {
    for mode in ["length", "chunked", "tag"] {
        let error = read_from("coding-on-the-fly.py", mode).expect_err(mode);
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{mode}");
    }
}

#[test]
fn compressed_page_is_decoded() {
    for mode in ["gzip", "x-gzip", "deflate", "raw", "plain"] {
        assert_eq!(read_from("packed-page.py", mode).expect(mode).len(), 4 << 20, "{mode}");
    }
    let server = WebServer::case("packed-page.py", &["bomb", "PORT"]);
    let ground = Ground::new();
    assert_refuses(
        &run(&mut ground.command(&server.url("/"), &[])),
        &["--max-listing-size"],
    );
}

#[test]
fn invalid_header_line_is_tolerated() {
    let noise = noise();
    for mode in ["fold", "space", "name", "php"] {
        assert!(read_from("odd-header-line.py", mode).expect(mode) == noise, "{mode}");
    }
    for mode in ["php", "space"] {
        let server = WebServer::case("bad-header-line.py", &["PORT", mode]);
        let mount = Mount::start_of(&server.url("/"));
        assert_eq!(fs::read(mount.path("a")).expect(mode), b"hello\n", "{mode}");
    }
}
