//! Malicious servers: nothing that they send escapes a directory, grows without bound, or ends the mount.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;

use fetchfs::internals::events;

use crate::common::files::{errno_of, open_direct, read_direct};
use crate::common::mount::{Mount, fetchfs};
use crate::common::run;
use crate::logs;
use crate::origin::{Content, Fault, Origin};

/// Answers a path: writes anything to the connection, which is closed afterwards.
type Answer = dyn Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// A server on a bare socket. Its threads end with the connections, and the listener with the process.
fn serve(answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let answer: Arc<Answer> = Arc::new(answer);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // The client is expected to close the connection early.
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

/// Repeats a piece until the client closes the connection. Fails if the client reads more than any limit allows.
fn without_end(connection: &mut TcpStream, head: &str, piece: &[u8]) -> std::io::Result<()> {
    connection.write_all(head.as_bytes())?;
    // Twice the longest page that is read, and the socket buffers.
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
fn names_are_one_path_component_and_escaped() {
    let (long, too_long) = ("n".repeat(1023), "n".repeat(10_000));
    let links = [
        "a%2Fb",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "a%00b",
        "a%0Ab",
        "%1b[2J",
        &long,
        &too_long,
        "ok",
    ];
    let rows = links.map(str::to_owned);
    let address = serve(move |_, connection| page(connection, &rows.each_ref().map(String::as_str)));
    let mut mount = mount_of(address);
    let names = || -> BTreeSet<String> {
        let entries = fs::read_dir(mount.root()).expect("to list");
        entries
            .map(|entry| entry.expect("a name").file_name().into_string().expect("text"))
            .collect()
    };
    // In a URL `%2e%2e` stands for two dots: it leads to the parent directory and is no name here.
    let expected: BTreeSet<String> = [
        "a%2Fb",
        "..%2F..%2Fetc%2Fpasswd",
        "a%00b",
        "a\nb",
        "\u{1b}[2J",
        &long,
        "ok",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(names(), expected);
    for name in &expected {
        assert_eq!(fs::metadata(mount.path(name)).expect(name).len(), 7, "{name:?}");
    }
    mount.wait_for_event_with(events::NAMES_HIDDEN, " 1 ", 1);
    // An earlier mount stored them, too.
    mount.unmount();
    mount.add_option("--offline", "");
    mount.start();
    let entries = fs::read_dir(mount.root()).expect("to list");
    assert_eq!(entries.count(), expected.len());
}

#[test]
fn hidden_names_are_logged_once() {
    let long = "n".repeat(10_000);
    let address = serve(move |_, connection| page(connection, &[&long, "ok"]));
    let url = format!("http://{address}/");
    let mut mount = Mount::of(&url).with("--attr-ttl", "0").start();
    for _ in 0..logs::TIMES {
        assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), 1);
    }
    mount.unmount();
    assert_eq!(mount.events(events::NAMES_HIDDEN), 1);
    assert_eq!(mount.log().occurrences(events::NAMES_HIDDEN), 1);
}

#[test]
fn links_outside_the_directory_are_hidden() {
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
fn external_links_show_on_request_without_credentials() {
    let other = Origin::start();
    other.add("/deep/inside/file", Content::from("from elsewhere"));
    other.add("/tree/leaf", Content::from("a leaf"));
    let links = ["/deep/inside/file", "/tree/"].map(|path| other.url(path));
    let address = serve(move |path, connection| match path {
        "/" => page(connection, &[&links[0], &links[1], "own"]),
        _ => write!(
            connection,
            "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
    });
    let source = format!("http://ann:secret@{address}/");
    let plain = Mount::of(&source).start();
    assert_eq!(fs::read_dir(plain.root()).expect("to list").count(), 1);
    let mut mount = Mount::of(&source)
        .with("-o", "external_links")
        .with("--header", "X-Secret: secret")
        .start();
    assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), 3);
    assert_eq!(fs::read(mount.path("tree/leaf")).expect("to read"), b"a leaf");
    assert_eq!(fs::metadata(mount.path("own")).expect("to stat").len(), 7);
    let requests = other.log().all();
    assert!(!requests.0.is_empty());
    for request in requests.0 {
        assert!(request.header("authorization").is_none() && request.header("x-secret").is_none());
    }
    // Another mount over the same cache must not learn what was requested there.
    mount.unmount();
    let mut command = fetchfs();
    command.args(["mount", "--offline", "--cache-dir"]).arg(mount.cache());
    let ran = run(command.arg(&source).arg(mount.root()));
    assert!(ran.code == 1 && ran.err.contains("without --offline"), "{ran:?}");
}

#[test]
fn endless_responses_are_aborted() {
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
    let mount = Mount::of(&format!("http://{address}/"))
        .with("--retries", "0")
        .with("--max-listing-size", "64MiB")
        .start();
    for directory in ["head", "body", "length"] {
        assert_eq!(errno_of(fs::read_dir(mount.path(directory))), libc::EIO, "{directory}");
    }
    mount.wait_for_event(events::BAD_RESPONSE, 3);
    assert_eq!(mount.events_with(events::BAD_RESPONSE, "--max-listing-size"), 2);
    assert_eq!(mount.events_with(events::BAD_RESPONSE, " 64.0 "), 2);
    assert_eq!(fs::metadata(mount.path("file")).expect("to stat").len(), 7);
}

/// A page with this many names, as short as possible.
fn long_page(connection: &mut TcpStream, names: usize) -> std::io::Result<()> {
    let mut page = String::from("<title>Index of /</title>");
    for number in 0..names {
        page += &format!("<a href={number}>");
    }
    let length = page.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
    )
}

#[test]
fn max_entries_is_enforced_with_a_clear_error() {
    const NAMES: usize = 100_000;
    let address = serve(|path, connection| match path {
        "/" => page(connection, &["many/", "more/"]),
        "/many/" => long_page(connection, NAMES),
        _ => long_page(connection, NAMES + 1),
    });
    let mount = Mount::of(&format!("http://{address}/"))
        .with("--max-entries", &NAMES.to_string())
        .start();
    assert_eq!(fs::read_dir(mount.path("many")).expect("to list").count(), NAMES);
    assert_eq!(errno_of(fs::read_dir(mount.path("more"))), libc::EIO);
    mount.wait_for_event_with(events::BAD_RESPONSE, "--max-entries", 1);
    assert_eq!(mount.events_with(events::BAD_RESPONSE, &NAMES.to_string()), 1);
}

#[test]
fn oversized_page_is_rejected_before_it_is_read() {
    let address = serve(|path, connection| match path {
        "/" => page(connection, &["huge/"]),
        _ => without_end(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1073741824\r\n\r\n",
            &[b' '; 1 << 16],
        ),
    });
    let mount = mount_of(address);
    assert_eq!(errno_of(fs::read_dir(mount.path("huge"))), libc::EIO);
    mount.wait_for_event_with(events::BAD_RESPONSE, "--max-listing-size", 1);
    assert_eq!(mount.events_with(events::BAD_RESPONSE, " 256.0 "), 1);
}

#[test]
fn evicted_listings_reload_and_open_inodes_keep_numbers() {
    const DIRECTORIES: usize = 20;
    let origin = Origin::start();
    let paths: Vec<String> = (0..DIRECTORIES * 8)
        .map(|number| format!("d{:02}/f{number}", number / 8))
        .collect();
    paths
        .iter()
        .for_each(|path| origin.add(&format!("/{path}"), path.as_str()));
    // Five times as many over all directories; there are nine times as many.
    let mount = Mount::of(&origin.url("/"))
        .with("--max-entries", &DIRECTORIES.to_string())
        .with("--attr-ttl", "1h")
        .start();
    let files: Vec<_> = paths
        .iter()
        .map(|path| fs::File::open(mount.path(path)).expect("to open"))
        .collect();
    let number = |metadata: std::io::Result<fs::Metadata>| metadata.expect("to stat").ino();
    for _ in 0..2 {
        for directory in 0..DIRECTORIES {
            let names = fs::read_dir(mount.path(format!("d{directory:02}"))).expect("to list");
            assert_eq!(names.count(), 8);
        }
        for (path, file) in paths.iter().zip(&files) {
            assert_eq!(
                number(fs::metadata(mount.path(path))),
                number(file.metadata()),
                "{path}"
            );
            assert_eq!(fs::read(mount.path(path)).expect("to read"), path.as_bytes());
        }
    }
    let listings = origin.log().all().gets("/d00/").len();
    assert!(
        listings > 1,
        "what is believed for an hour was let go of before: {listings}"
    );
}

#[test]
fn self_containing_directory_has_an_end() {
    // Long names reach the limit in few levels.
    let name = "n".repeat(250);
    let link = format!("{name}/");
    let address = serve(move |_, connection| page(connection, &[&link, "file"]));
    let mount = mount_of(address);
    let find = run(Command::new("find").arg(mount.root()).args(["-name", "file"])).succeeded();
    // In the root, and below each directory whose path has at most 4,096 bytes.
    assert_eq!(find.out.lines().count(), 1 + 4095 / 251);
    mount.wait_for_event(events::PATH_TOO_LONG, 1);
}

#[test]
fn dripping_page_times_out() {
    /// The number of concurrent requests.
    const DRIPS: usize = 8;
    let address = serve(|path, connection| match path {
        "/" => {
            let drips: Vec<String> = (0..DRIPS).map(|number| format!("drip{number}/")).collect();
            let names = drips.iter().map(String::as_str).chain(["other/"]);
            page(connection, &names.collect::<Vec<_>>())
        }
        "/other/" => page(connection, &["file"]),
        _ => {
            connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n")?;
            loop {
                // Never silent for as long as any silence limit, until the client closes the connection.
                connection.write_all(b" ")?;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    });
    let mount = Mount::of(&format!("http://{address}/"))
        .with("--read-timeout", "2s")
        .start();
    std::thread::scope(|scope| {
        let listings: Vec<_> = (0..DRIPS)
            .map(|number| mount.path(format!("drip{number}")))
            .map(|path| scope.spawn(move || errno_of(fs::read_dir(path))))
            .collect();
        for listing in listings {
            assert_eq!(listing.join().expect("no panic"), libc::ETIMEDOUT);
        }
    });
    assert_eq!(fs::read_dir(mount.path("other")).expect("to list").count(), 1);
}

#[test]
fn impossible_sizes_are_errors() {
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

#[test]
fn impossible_dates_and_sizes_in_listings_are_clamped() {
    // In the header and in the page.
    const DATES: [(&str, &str, i64); 3] = [
        ("01-Jan-1960 00:00", "Fri, 01 Jan 1960 00:00:00 GMT", 0),
        ("01-Jan-2199 00:00", "Tue, 01 Jan 2199 00:00:00 GMT", 7_226_582_400),
        ("31-Dec-9999 23:59", "Fri, 31 Dec 9999 23:59:00 GMT", 253_402_300_740),
    ];
    let address = serve(|path, connection| {
        if path == "/" {
            let row = |(number, (date, ..)): (usize, &(&str, &str, i64))| {
                format!("<a href=\"{number}\">x</a>   {date}   18446744073709551615\n")
            };
            let rows: String = DATES.iter().enumerate().map(row).collect();
            let page = format!("<html><body><h1>Index of /</h1><pre>{rows}</pre></body></html>");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
            return write!(connection, "{head}Content-Length: {}\r\n\r\n{page}", page.len());
        }
        let number: usize = path[1..].parse().unwrap_or_default();
        write!(
            connection,
            "HTTP/1.0 206 Partial Content\r\nLast-Modified: {}\r\nContent-Range: bytes 0-0/1\r\nContent-Length: 1\r\n\r\nx",
            DATES[number].1
        )
    });
    let mount = mount_of(address);
    for (number, (date, _, seconds)) in DATES.iter().enumerate() {
        let name = mount.path(number.to_string());
        assert_eq!(fs::read(&name).expect("to read"), b"x", "{date}");
        let metadata = fs::metadata(&name).expect("to stat");
        assert_eq!((metadata.len(), metadata.mtime()), (1, *seconds), "{date}");
    }
}

#[test]
fn mutual_redirects_and_non_http_targets_are_errors() {
    let (one, other) = (Origin::start(), Origin::start());
    for name in ["circle", "file", "ftp", "good"] {
        one.add(&format!("/{name}"), "good");
    }
    one.on("/circle").fault(Fault::Redirect(302, other.url("/circle")));
    other.on("/circle").fault(Fault::Redirect(307, one.url("/circle")));
    one.on("/file")
        .fault(Fault::Redirect(302, "file:///etc/passwd".to_owned()));
    one.on("/ftp")
        .fault(Fault::Redirect(302, "ftp://127.0.0.1/x".to_owned()));
    let mount = Mount::start_of(&one.url("/"));
    for name in ["circle", "file", "ftp"] {
        // The kernel's read-ahead would ask twice.
        let file = open_direct(&mount.path(name));
        assert_eq!(errno_of(read_direct(&file, 0, 4096)), libc::EIO, "{name}");
    }
    // Ten redirects, and no retry.
    let asked = one.log().all().gets("/circle").len() + other.log().all().gets("/circle").len();
    assert_eq!(asked, 11);
    assert_eq!(fs::read(mount.path("good")).expect("to read"), b"good");
}
