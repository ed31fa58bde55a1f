//! Validators, and how versions are told apart.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;

use fetchfs::internals::events;

use crate::common::Mount;
use crate::common::files::{advise_random, assert_same, errno_of, try_pread};
use crate::common::servers::WebServer;
use crate::common::wait_until;

/// Sends one request to the server and returns the body of its response.
#[track_caller]
pub fn ask(server: &WebServer, method: &str, path: &str) -> Vec<u8> {
    let url = server.url("");
    let mut connection = TcpStream::connect(url.trim_start_matches("http://")).expect("to connect");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    connection.write_all(request.as_bytes()).expect("to ask");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    answer.split_off(end + 4)
}

/// A mount of the server that revalidates at each open, and fetches little more than is read.
pub fn mount_of(server: &WebServer) -> Mount {
    Mount::of(&server.url("/"))
        .with("--attr-ttl", "0")
        .with("--chunk-size", "64KiB")
        .start()
}

/// Reads the beginning of the file and lets the server replace the file by one of the same length. Asserts that the
/// open handle gives no byte of the new version, and a new handle only bytes of the new one.
#[track_caller]
fn assert_replacement_is_noticed(server: &WebServer, what: &str) {
    assert_replaced_under(&mount_of(server), server, what);
}

#[track_caller]
fn assert_replaced_under(mount: &Mount, server: &WebServer, what: &str) {
    let old = ask(server, "GET", "/f.bin");
    let handle = File::open(mount.path("f.bin")).expect("to open");
    advise_random(&handle);
    let beginning = try_pread(&handle, 0..65536).expect("the beginning");
    assert_same(&beginning, &old[..65536], what);
    ask(server, "POST", "/");
    let end = old.len() as u64;
    let elsewhere = try_pread(&handle, end - 65536..end);
    assert_eq!(errno_of(elsewhere), libc::ESTALE, "{what}");
    let new = ask(server, "GET", "/f.bin");
    assert_ne!(old, new, "the server has replaced it");
    for _ in 0..2 {
        let read = fs::read(mount.path("f.bin")).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_same(&read, &new, what);
    }
}

/// An ETag without quotes, a repeated ETag, and malformed dates changed with the file. They once counted as no
/// validator, and the rest of an open file came from its next version.
#[test]
fn malformed_validators_distinguish_versions() {
    for mode in ["bare", "two", "single", "weak", "utc", "offset", "iso"] {
        let server = WebServer::case("bare-validators.py", &[mode, "PORT"]);
        assert_replacement_is_noticed(&server, mode);
    }
}

/// The server answers `If-Range` with the whole file, slowly; without it, it sends ranges.
#[test]
fn tail_is_read_first_despite_broken_if_range() {
    let server = WebServer::case("if-range-200.py", &["PORT"]);
    let mount = mount_of(&server);
    let handle = File::open(mount.path("a")).expect("to open");
    advise_random(&handle);
    for from in [0, 31 << 20, 16 << 20] {
        assert_same(
            &try_pread(&handle, from..from + 4096).expect("to read"),
            &[0; 4096],
            "a part",
        );
    }
    drop(handle);
    let asked_for_all = |line: &str| line.starts_with("GET /a 200");
    assert!(!server.printed().lines().any(asked_for_all), "{}", server.printed());
}

/// Opens and reads the file repeatedly, as a whole and in parts, and asserts the bytes. Each part is read through its
/// own handle while another one is open.
#[track_caller]
pub fn assert_readable(server: &WebServer, name: &str, what: &str) -> Mount {
    let mount = mount_of(server);
    let content = ask(server, "GET", &format!("/{name}"));
    let size = content.len() as u64;
    let handle = File::open(mount.path(name)).expect("to open");
    advise_random(&handle);
    for from in [0, size / 2, size - 65536, 65536, size / 4] {
        let part =
            try_pread(&handle, from..from + 65536).unwrap_or_else(|error| panic!("{what}, from {from}: {error}"));
        assert_same(&part, &content[from as usize..from as usize + 65536], what);
        File::open(mount.path(name)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    for _ in 0..3 {
        let read = fs::read(mount.path(name)).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_same(&read, &content, what);
    }
    mount
}

/// Two machines behind one name copied the file at different times; or a server sends the time of its response. Each
/// response named another version, and the file could not be read.
#[test]
fn varying_dates_do_not_prevent_reads() {
    for mode in ["dates", "now"] {
        let server = WebServer::case("backend-dates.py", &["PORT", mode]);
        let mount = assert_readable(&server, "a", mode);
        assert_eq!(mount.events(events::VALIDATORS_DIFFER), 1, "{mode}");
    }
}

/// The machines behind one name, and other uses of validators. The file is read, nothing is fetched twice except
/// small parts, and a replacement of the same length is detected.
#[test]
fn load_balanced_etags_count_as_one_version() {
    for mode in [
        "three",
        "both",
        "weak",
        "seldom-date",
        "seldom-tag",
        "random",
        "now",
        "hash",
        "none",
        "head",
        "gzip",
    ] {
        let server = WebServer::case("machines.py", &[mode, "PORT"]);
        drop(assert_readable(&server, "f.bin", mode));
        let fetched = |line: &str| {
            let mut words = line.strip_prefix("GET /f.bin 206 ")?.split(' ').map(str::parse::<u64>);
            let (asked, sent) = (words.next()?.ok()?, words.next()?.ok()?);
            (asked >= 65536).then_some(sent)
        };
        let sent = || -> u64 { server.printed().lines().filter_map(fetched).sum() };
        // The server prints it after it has sent them. Bytes in flight of an aborted request count too.
        wait_until("the server to print what it sent", || sent() >= 8 << 20);
        assert!(sent() < 16 << 20, "{mode}: {} bytes were sent of 8 MiB", sent());
        // A date has a resolution of one second, and this one is that of the response.
        if mode != "now" {
            assert_replacement_is_noticed(&server, mode);
        }
    }
}

/// Many concurrent readers of one large file, each with the ETag of the machine that answers it.
#[test]
fn load_balanced_file_serves_many_readers() {
    let server = WebServer::case("machines.py", &["both", "PORT"]);
    let mount = mount_of(&server);
    let content = ask(&server, "GET", "/f.bin");
    let handle = File::open(mount.path("f.bin")).expect("to open");
    advise_random(&handle);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (handle, content) = (&handle, &content);
            scope.spawn(move || {
                let from = number * (8 << 20) / 16;
                let part = try_pread(handle, from..from + 65536).expect("its part");
                assert_same(&part, &content[from as usize..from as usize + 65536], "a part");
            });
        }
    });
}
