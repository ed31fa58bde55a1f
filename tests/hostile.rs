//! Servers that mean harm: nothing they send escapes a directory, grows without bound, or ends the mount.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::common::files::errno_of;
use crate::common::mount::Mount;
use crate::logs;

/// Answers a path: writes what it likes to the connection, which is closed afterwards.
type Answer = dyn Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// A server on a bare socket. Its threads end with the connections, and the listener with the process.
fn serve(answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let answer: Arc<Answer> = Arc::new(answer);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // The client is expected to hang up on what is sent.
            std::thread::spawn(move || drop(one_request(connection, &answer)));
        }
    });
    address
}

fn one_request(mut connection: TcpStream, answer: &Arc<Answer>) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while !lines.next().unwrap_or_else(|| Ok(String::new()))?.is_empty() {}
    answer(first.split(' ').nth(1).unwrap_or("/"), &mut connection)
}

fn page(connection: &mut TcpStream, names: &[&str]) -> std::io::Result<()> {
    let rows: String = names
        .iter()
        .map(|name| format!("<a href=\"{name}\">x</a>   22-Nov-2026 10:00   7\n"))
        .collect();
    let body = format!("<html><body><h1>Index of /</h1><pre>{rows}</pre></body></html>");
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Repeats a piece until the client hangs up; fails if it takes more than any limit allows.
fn without_end(connection: &mut TcpStream, head: &str, piece: &[u8]) -> std::io::Result<()> {
    connection.write_all(head.as_bytes())?;
    // Twice the longest page that is read, and what sockets hold.
    for _ in 0..(160 << 20) / piece.len() {
        connection.write_all(piece)?;
    }
    std::process::abort();
}

#[track_caller]
fn mount_of(address: SocketAddr) -> Mount {
    Mount::of(&format!("http://{address}/")).with("--retries", "0").start()
}

#[test]
fn names_that_are_no_single_path_component_are_not_shown() {
    let long = "n".repeat(10_000);
    let address = serve(move |_, connection| {
        let bad = [
            "a%2Fb",
            "%2e%2e",
            "..%2f..%2fetc%2fpasswd",
            "a%00b",
            "a%0Ab",
            "%1b[2J",
            &long,
        ];
        page(connection, &[&bad[..], &["ok"]].concat())
    });
    let mount = mount_of(address);
    let names: Vec<_> = fs::read_dir(mount.root()).expect("to list").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(names[0].file_name(), "ok");
    // The dots of `%2e%2e` are dots to a URL: it leads to the directory above, and is no name here.
    mount.wait_for_log("6 names are not shown", 1);
}

#[test]
fn names_that_are_not_shown_are_told_of_a_few_times_and_counted() {
    let address = serve(|_, connection| page(connection, &["a%2Fb", "ok"]));
    let url = format!("http://{address}/");
    let mut mount = Mount::of(&url).with("--attr-ttl", "0").start();
    for _ in 0..logs::TIMES {
        assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), 1);
    }
    mount.unmount();
    let (lines, times) = logs::said_in(&mount.log(), "names are not shown");
    assert!(
        lines <= logs::FEW && times >= logs::TIMES / 2,
        "{lines} lines, {times} times"
    );
}

#[test]
fn links_to_other_servers_and_to_other_directories_are_no_names_here() {
    let address = serve(|_, connection| {
        page(
            connection,
            &[
                "http://127.0.0.2:9/secret",
                "//127.0.0.2/secret",
                "/etc/passwd",
                "../up",
                "file:///etc/passwd",
                "ok",
            ],
        )
    });
    let mount = Mount::start_of(&format!("http://{address}/directory/"));
    let names: Vec<_> = fs::read_dir(mount.root()).expect("to list").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn what_has_no_end_is_given_up_and_the_mount_goes_on() {
    let address = serve(|path, connection| match path {
        "/" => page(connection, &["head/", "body/", "length/", "file"]),
        "/head/" => without_end(
            connection,
            "HTTP/1.1 200 OK\r\n",
            b"X-More: and more and more and more\r\n",
        ),
        "/body/" => without_end(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n",
            &[format!("{:x}\r\n", 1 << 16).as_bytes(), &vec![b' '; 1 << 16], b"\r\n"].concat(),
        ),
        "/length/" => without_end(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9223372036854775807\r\n\r\n",
            &[b' '; 1 << 16],
        ),
        _ => page(connection, &[]),
    });
    let mount = mount_of(address);
    for directory in ["head", "body", "length"] {
        assert_eq!(errno_of(fs::read_dir(mount.path(directory))), libc::EIO, "{directory}");
    }
    mount.wait_for_log("a page of more than 64 MiB", 2);
    assert_eq!(fs::metadata(mount.path("file")).expect("to stat").len(), 7);
}

#[test]
fn sizes_that_no_file_can_have_are_errors() {
    let address = serve(|path, connection| match path {
        "/" => page(connection, &["largest", "larger"]),
        "/largest" => write!(
            connection,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/9223372036854775807\r\nContent-Length: 1\r\n\r\nx"
        ),
        _ => write!(
            connection,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/18446744073709551616\r\nContent-Length: 1\r\n\r\nx"
        ),
    });
    let mount = mount_of(address);
    for name in ["largest", "larger"] {
        assert_eq!(errno_of(fs::read(mount.path(name))), libc::EIO, "{name}");
    }
    let taken = fs::read_dir(mount.cache().join("data")).map_or(0, |shards| {
        let files = shards
            .flatten()
            .flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten().flatten());
        files.map(|file| file.metadata().expect("to stat").blocks() * 512).sum()
    });
    assert_eq!(taken, 0, "nothing of them is in the cache");
}
