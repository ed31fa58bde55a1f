//! HEAD is a hint, GET decides: sizes, versions and existence, for servers whose HEAD differs.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::servers::WebServer;
use crate::common::{Mount, run};
use crate::filesystem::stat;
use crate::origin::{Content, Fault, Origin};

const HELLO: u64 = 13_000;

fn hello() -> Vec<u8> {
    b"hello, world\n".repeat(1000)
}

/// A mount that revalidates at each open.
fn mount(server: &WebServer) -> Mount {
    Mount::of(&server.url("/")).with("--attr-ttl", "0s").start()
}

/// Asserts that the file exists, has this size, and can be read, at each open and after a remount.
fn is_read(mount: &mut Mount, name: &str, size: u64, bytes: Option<&[u8]>) {
    for opening in 0..3 {
        if opening == 2 {
            mount.remount();
        }
        assert_eq!(stat(&mount.path(name)).len(), size);
        let read = fs::read(mount.path(name)).expect("its bytes");
        assert_eq!(read.len() as u64, size);
        assert!(bytes.is_none_or(|bytes| bytes == read));
    }
}

#[test]
fn file_exists_as_long_as_get_succeeds() {
    for how in ["close", "404", "405", "503"] {
        for page in ["names", "sizes"] {
            let server = WebServer::case("head-odd.py", &["PORT", how, page]);
            is_read(&mut mount(&server), "a", HELLO, Some(&hello()));
        }
    }
}

#[test]
fn hanging_head_delays_no_reader() {
    for page in ["names", "sizes"] {
        let server = WebServer::case("head-odd.py", &["PORT", "hang", page]);
        let mut mount = Mount::of(&server.url("/"))
            .with("--attr-ttl", "0s")
            .with("--read-timeout", "5m")
            .start();
        let begun = Instant::now();
        is_read(&mut mount, "a", HELLO, Some(&hello()));
        assert!(begun.elapsed() < Duration::from_secs(60), "{page}");
    }
}

#[test]
fn size_comes_from_get() {
    for kind in ["strong", "dated", "weak", "none"] {
        for how in ["ranges", "whole"] {
            for page in ["names", "sizes"] {
                let server = WebServer::case("head-length.py", &["PORT", kind, how, page]);
                is_read(&mut mount(&server), "a.bin", 2_000_000, None);
            }
        }
    }
}

#[test]
fn size_is_found_despite_broken_first_byte_ranges() {
    for how in ["whole", "416", "star"] {
        let server = WebServer::case("first-byte-probe.py", &["PORT", how]);
        is_read(&mut mount(&server), "a", HELLO, Some(&hello()));
    }
}

#[test]
fn empty_file_is_found_despite_broken_ranges() {
    for how in ["400", "416", "416-total", "500", "204", "star"] {
        for more in [&["sizes"][..], &["names", "plain"]] {
            let server = WebServer::case("empty-file.py", &[&["PORT", how], more].concat());
            is_read(&mut mount(&server), "e", 0, Some(b""));
        }
    }
}

#[test]
fn file_without_a_length_is_seekable() {
    for kind in ["strong", "dated", "weak", "none"] {
        let server = WebServer::case("head-length.py", &["PORT", kind, "chunked", "sizes"]);
        let mut mount = mount(&server);
        for _ in 0..2 {
            let mut file = File::open(mount.path("a.bin")).expect("to open");
            let mut end = Vec::new();
            file.seek(SeekFrom::End(-1000)).expect("to seek");
            file.read_to_end(&mut end).expect("to read");
            assert_eq!(end.len(), 1000, "{kind}");
            drop(file);
            is_read(&mut mount, "a.bin", 2_000_000, None);
        }
    }
}

#[test]
fn server_rejecting_ranges_is_read_sequentially() {
    for status in ["416", "400", "405", "501"] {
        let server = WebServer::case("range-refused.py", &[status, "PORT"]);
        is_read(&mut mount(&server), "f.bin", 4 << 20, None);
    }
}

#[test]
fn status_202_is_retried() {
    let server = WebServer::case("accepted-202.py", &["PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    assert_eq!(fs::read(mount.path("f.bin")).expect("its bytes").len(), 4 << 20);
}

#[test]
fn page_rewritten_in_transit_is_read_to_its_end() {
    let server = WebServer::case("rewritten-html.py", &["PORT"]);
    let mut mount = mount(&server);
    for _ in 0..2 {
        for _ in 0..2 {
            let page = fs::read(mount.path("c.html")).expect("its bytes");
            assert!(page.starts_with(b"<html><!-- added -->") && page.ends_with(b"</html>"));
        }
        let copy = mount.home().join("copy");
        run(Command::new("cp").arg(mount.path("c.html")).arg(&copy)).succeeded();
        assert!(fs::read(&copy).expect("the copy").ends_with(b"</html>"));
        mount.remount();
    }
}

#[test]
fn contradictory_response_is_retried() {
    let (origin, content) = (Origin::start(), Content::noise(24 << 20, 5));
    origin.add("/f", content.clone());
    let mount = Mount::start_of(&origin.url("/"));
    let file = File::open(mount.path("f")).expect("to open");
    let mut bytes = [0; 1000];
    file.read_exact_at(&mut bytes, 0).expect("while it is honest");
    let twice = origin
        .on("/f")
        .data()
        .starting_at(16 << 20)
        .times(2)
        .fault(Fault::WrongTotal(25 << 20));
    file.read_exact_at(&mut bytes, 20 << 20).expect("the third answer");
    assert_eq!(bytes.as_slice(), content.read(20 << 20..(20 << 20) + 1000));
    assert_eq!(twice.hits(), 2);
}

#[test]
fn file_shorter_than_listed_is_read_to_its_end() {
    for status in ["200", "416", "416-total", "400"] {
        let server = WebServer::case("past-the-end.py", &["PORT", status]);
        let mount = Mount::start_of(&server.url("/"));
        let tail = || {
            let tail = Command::new("tail").args(["-c", "5"]).arg(mount.path("a")).output();
            let tail = tail.expect("tail runs");
            assert!(
                !tail.status.success() || tail.stdout == b"56789",
                "{status}: an end that is none"
            );
        };
        tail();
        for _ in 0..2 {
            assert_eq!(
                fs::read(mount.path("a")).expect("its bytes").len(),
                1_000_000,
                "{status}"
            );
            tail();
        }
    }
}
