//! `--http-listen`: the status page, metrics and the health check of a mount, and who may see them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::exposition::Exposition;
use crate::common::files::{errno_of, open_direct, read_direct};
use crate::common::ground::{Ground, hello};
use crate::common::mount::is_mounted;
use crate::common::process::assert_refuses;
use crate::common::{Mount, PATIENCE, run, wait_until};
use crate::origin::{Content, Fault, Origin};
use crate::prefetching::{content, fetchfs_with};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const TOKEN: &str = "a token of more than sixteen characters";

/// An answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Reads to the end of the connection.
    #[track_caller]
    fn read(mut stream: impl Read) -> Answer {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("an answer");
        let text = String::from_utf8(all).expect("text");
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no head: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer {
            status: status.unwrap_or_else(|| panic!("no status: {head}")),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Sends a request whose lines are given, and reads the answer.
#[track_caller]
fn send(address: SocketAddr, lines: &[&str]) -> Answer {
    let mut stream = connect(address);
    let request = lines.join("\r\n") + "\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("to send");
    Answer::read(stream)
}

#[track_caller]
fn get(address: SocketAddr, target: &str) -> Answer {
    send(
        address,
        &[&format!("GET {target} HTTP/1.1"), &format!("Host: {address}")],
    )
}

fn status_of(mount: &Mount) -> Value {
    let ran = run(&mut fetchfs_with(&["status", "--json"], &[mount.root()])).succeeded();
    let all: Value = serde_json::from_str(&ran.out).expect("JSON");
    all[0].clone()
}

/// Where `fetchfs status` says that the page is.
#[track_caller]
fn address_of(mount: &Mount) -> SocketAddr {
    let status = status_of(mount);
    let url = status["http"].as_str().expect("it has a page");
    let address = url.strip_prefix("http://").expect("a URL").trim_end_matches('/');
    address.parse().expect("an address")
}

/// A mount with a page at a free port.
fn mount_of(origin: &Origin) -> (Mount, SocketAddr) {
    let mount = Mount::of(&origin.url("/"))
        .with("--http-listen", "127.0.0.1:0")
        .with("--retries", "0")
        .start();
    let address = address_of(&mount);
    (mount, address)
}

#[track_caller]
fn metrics(address: SocketAddr) -> Exposition {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    Exposition::read(&answer.body)
}

#[test]
fn metrics_move_by_the_figures_of_a_read() {
    let origin = Origin::start();
    origin.add("/data", content("/data", 8 * MIB));
    origin.add("/broken", content("/broken", MIB));
    origin.on("/broken").data().fault(Fault::Status(500));
    let (mount, address) = mount_of(&origin);
    let before = metrics(address);
    assert_eq!(before.value("fetchfs_reads_total", &[("result", "miss")]), 0.0);
    assert_eq!(before.value("fetchfs_open_files", &[]), 0.0);

    let file = open_direct(&mount.path("data"));
    let read = |offset: u64| read_direct(&file, offset, (64 * KIB) as usize).expect("to read");
    for offset in [3 * MIB, 7 * MIB, 5 * MIB, 7 * MIB] {
        read(offset);
    }
    let broken = open_direct(&mount.path("broken"));
    assert_eq!(errno_of(read_direct(&broken, 0, 4096)), libc::EIO);
    let all = origin.log().wait_for("the end of all responses", |all| all.all_ended());

    let after = metrics(address);
    let by = |result| [("result", result)];
    assert_eq!(after.value("fetchfs_reads_total", &by("miss")), 3.0);
    assert_eq!(after.value("fetchfs_reads_total", &by("hit")), 1.0);
    assert_eq!(after.value("fetchfs_reads_total", &by("error")), 1.0);
    assert_eq!(after.value("fetchfs_read_bytes_total", &by("miss")), (192 * KIB) as f64);
    assert_eq!(after.value("fetchfs_read_bytes_total", &by("hit")), (64 * KIB) as f64);
    let misses: f64 = ["not_cached", "in_flight", "unconfirmed"]
        .map(|reason| after.value("fetchfs_read_misses_total", &[("reason", reason)]))
        .iter()
        .sum();
    assert_eq!(misses, 3.0);
    let timed = |cause| after.value("fetchfs_read_duration_seconds_count", &[("cause", cause)]);
    assert_eq!(timed("cached"), 1.0);
    let waited: f64 = ["queued", "connecting", "tls", "first_byte", "transferring", "disk"]
        .map(timed)
        .iter()
        .sum();
    assert_eq!(waited, 3.0);
    let errors = [("operation", "read"), ("errno", "EIO")];
    assert_eq!(after.value("fetchfs_errors_total", &errors), 1.0);
    assert_eq!(after.value("fetchfs_open_files", &[]), 2.0);
    assert_eq!(
        after.value("fetchfs_fetched_bytes_total", &[]),
        all.body_bytes("/data") as f64
    );
    assert_eq!(after.value("fetchfs_fetched_read_bytes_total", &[]), (192 * KIB) as f64);
    let name = format!("http://{}", origin.address());
    let requests = |code| after.value("fetchfs_requests_total", &[("origin", &name), ("code", code)]);
    assert_eq!(requests("206"), all.data("/data").len() as f64);
    let refused = all.statuses("/broken").into_iter().filter(|status| *status == 500);
    assert_eq!(requests("500"), refused.count() as f64);
    assert_eq!(after.value("fetchfs_origin_up", &[("origin", &name)]), 1.0);
    assert_eq!(after.value("fetchfs_waiting_reads", &[("reason", "queued")]), 0.0);
    assert!(after.value("fetchfs_cache_used_bytes", &[]) >= (192 * KIB) as f64);
    assert!(after.value("process_resident_memory_bytes", &[]) > 1e6);
    assert!(
        before.kinds.keys().all(|name| after.kinds.contains_key(name)),
        "no metric disappears"
    );
    let mountpoint = mount.root().display().to_string();
    assert_eq!(after.value("fetchfs_mount_info", &[("mountpoint", &mountpoint)]), 1.0);
}

#[test]
fn open_metrics_are_sent_to_those_who_ask() {
    let origin = hello();
    let (_mount, address) = mount_of(&origin);
    let host = format!("Host: {address}");
    let accept = "Accept: application/openmetrics-text; version=1.0.0, */*;q=0.1";
    let answer = send(address, &["GET /metrics HTTP/1.1", &host, accept]);
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(answer.body.ends_with("\n# EOF\n"), "{}", answer.body);
}

#[test]
fn hosts_of_elsewhere_are_refused() {
    let origin = hello();
    let mount = Mount::of(&origin.url("/"))
        .with("--http-listen", "127.0.0.1:0")
        .with("--http-host", "status.example.org")
        .start();
    let address = address_of(&mount);
    let port = address.port();
    let of_host = |host: &str| send(address, &["GET /live.json HTTP/1.1", &format!("Host: {host}")]).status;
    assert_eq!(of_host(&format!("localhost:{port}")), 200);
    assert_eq!(of_host("status.example.org"), 200);
    for host in [
        format!("evil.example:{port}"),
        "localhost".to_owned(),
        format!("localhost.evil.example:{port}"),
    ] {
        assert_eq!(of_host(&host), 403, "{host}");
    }
    assert_eq!(send(address, &["GET /live.json HTTP/1.1"]).status, 400, "no host");
    let absolute = ["GET http://evil.example/ HTTP/1.1", &format!("Host: localhost:{port}")];
    assert_eq!(send(address, &absolute).status, 403);
}

#[test]
fn token_is_needed_where_it_is_set() {
    let origin = hello();
    let home = crate::common::temporary_directory();
    let file = home.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).expect("to write");
    let mount = Mount::of(&origin.url("/"))
        .with("--http-listen", "127.0.0.1:0")
        .with("--http-token-file", file.to_str().expect("a path"))
        .start();
    let address = address_of(&mount);
    let host = format!("Host: {address}");
    for path in ["/", "/metrics", "/healthz", "/live.json", "/app.js", "/nothing"] {
        let answer = get(address, path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(
            answer.header("www-authenticate").is_some() && !answer.body.contains("fetchfs_"),
            "{path}"
        );
    }
    let bearer = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        send(address, &["GET /healthz HTTP/1.1", &host, &header]).status
    };
    assert_eq!((bearer(TOKEN), bearer("another")), (200, 401));

    let wrong = get(address, "/?token=another");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    let entered = get(address, &format!("/?token={}", TOKEN.replace(' ', "%20")));
    assert_eq!((entered.status, entered.header("location")), (303, Some("/")));
    let cookie = entered.header("set-cookie").expect("a cookie");
    assert!(cookie.ends_with("; path=/; httponly; samesite=strict"), "{cookie}");
    assert!(!cookie.contains("token"), "{cookie}");
    let cookie = format!("Cookie: {}", cookie.split(';').next().expect("a value"));
    assert_eq!(send(address, &["GET /live.json HTTP/1.1", &host, &cookie]).status, 200);
    mount.log().assert_hides(TOKEN);
}

#[test]
fn address_for_other_machines_needs_a_token() {
    let (origin, ground) = (hello(), Ground::new());
    let ran = run(&mut ground.command(&origin.url("/"), &["--http-listen", "0.0.0.0:0"]));
    assert_refuses(&ran, &["--http-listen 0.0.0.0:0", "--http-token-file"]);
    assert_eq!(ran.code, 2);
    ground.assert_nothing_is_left();
}

#[test]
fn taken_port_fails_the_mount() {
    let (origin, ground) = (hello(), Ground::new());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it").to_string();
    let ran = run(&mut ground.command(&origin.url("/"), &["--http-listen", &address]));
    assert_refuses(&ran, &["--http-listen", &address, "another program listens there"]);
    assert_eq!(ran.code, 1);
    ground.assert_nothing_is_left();
    assert!(origin.log().all().gets("/").is_empty(), "no server is asked");
    drop(taken);

    // The port is free again after each mount.
    for _ in 0..2 {
        ground.mount(&origin.url("/"), &["--http-listen", &address]);
        assert_eq!(get(address.parse().expect("it"), "/healthz").status, 200);
        ground.unmount(&[]).succeeded();
        ground.wait_for_the_end();
        ground.assert_nothing_is_left();
    }
}

#[test]
fn unix_socket_is_private_and_leaves_with_the_mount() {
    let (origin, ground) = (hello(), Ground::new());
    let socket = ground.home.path().join("page.sock");
    let listen = format!("unix:{}", socket.display());
    let ask = || {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        let request = b"GET /healthz HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("to send");
        Answer::read(stream)
    };
    ground.mount(&origin.url("/"), &["--http-listen", &listen]);
    assert_eq!(
        fs::metadata(&socket).expect("it is there").permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(ask().body, format!("{}: well\n", ground.mountpoint().display()));
    // A killed process leaves it, and the next mount replaces it.
    for process in ground
        .processes()
        .into_iter()
        .filter_map(crate::common::process::Pidfd::open)
    {
        process.signal(nix::sys::signal::Signal::SIGKILL);
        assert!(process.wait(PATIENCE));
    }
    assert!(socket.exists());
    ground.mount(&origin.url("/"), &["--http-listen", &listen]);
    assert_eq!(ask().status, 200);
    ground.unmount(&[]).succeeded();
    ground.wait_for_the_end();
    assert!(!socket.exists(), "it is removed");

    fs::write(&socket, "mine").expect("to write");
    let ran = run(&mut ground.command(&origin.url("/"), &["--http-listen", &listen]));
    assert_refuses(&ran, &["something else is there"]);
    assert_eq!(fs::read(&socket).expect("it stays"), b"mine");
}

#[test]
fn health_is_that_of_status_check() {
    let origin = hello();
    let (mount, address) = mount_of(&origin);
    let mark = origin.log().mark();
    let well = get(address, "/healthz");
    assert_eq!((well.status, well.body.lines().count()), (200, 1));
    let check = run(&mut fetchfs_with(&["status", "--check"], &[mount.root()])).succeeded();
    assert_eq!(well.body, check.out);
    assert!(origin.log().since(mark).gets("/").is_empty(), "no server is asked");
    let json: Value = serde_json::from_str(&get(address, "/healthz?json").body).expect("JSON");
    assert_eq!(
        (&json["healthy"], &json["notes"]),
        (&true.into(), &serde_json::json!([]))
    );

    // Detached while a file is open: its process goes on, and the mount is gone.
    let file = fs::File::open(mount.path("hello.txt")).expect("a file");
    nix::mount::umount2(&mount.root(), nix::mount::MntFlags::MNT_DETACH).expect("to detach");
    assert!(!is_mounted(&mount.root()));
    let gone = get(address, "/healthz");
    assert_eq!((gone.status, gone.body.lines().count()), (503, 1), "{}", gone.body);
    let json: Value = serde_json::from_str(&get(address, "/healthz?json").body).expect("JSON");
    assert_eq!(json["healthy"], false);
    drop(file);
}

#[test]
fn page_and_its_data_are_safe_to_show() {
    const HOSTILE: &str = "<img src=x onerror=alert(1)>.bin";
    let origin = Origin::start();
    origin.add(&format!("/{HOSTILE}"), Content::noise(4 * MIB, 1));
    let mount = Mount::of(&format!("{}?key=s3cret", origin.url(&format!("/{HOSTILE}"))))
        .with("--http-listen", "127.0.0.1:0")
        .start();
    let address = address_of(&mount);
    let names = crate::common::files::names_in(&mount.root());
    let file = open_direct(&mount.path(&names[0]));
    read_direct(&file, 2 * MIB, (64 * KIB) as usize).expect("to read");

    let live = get(address, "/live.json");
    assert_eq!(live.header("content-type"), Some("application/json"));
    assert!(!live.body.contains("s3cret"), "{}", live.body);
    let json: Value = serde_json::from_str(&live.body).expect("JSON");
    assert_eq!(json["status"]["open_files"][0]["path"], names[0]);
    assert_eq!(json["maps"][0]["path"], names[0]);
    let cells = json["maps"][0]["cells"].as_str().expect("cells");
    assert_eq!((cells.len(), &cells[8..9]), (16, "c"), "{cells}");

    let page = get(address, "/");
    assert!(!page.body.contains("onerror"), "the page itself has no data");
    for path in ["/", "/app.js", "/style.css", "/icon.svg"] {
        let answer = get(address, path);
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), None);
        for word in ["src=\"http", "href=\"http", "url(", "@import"] {
            assert!(!answer.body.contains(word), "{path}: {word} is from elsewhere");
        }
    }
    let script = get(address, "/app.js").body;
    for sink in [
        "innerHTML =",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
    ] {
        assert!(!script.contains(sink), "{sink} would interpret data");
    }
}

#[test]
fn only_get_and_head_are_answered() {
    let origin = hello();
    let (_mount, address) = mount_of(&origin);
    let host = format!("Host: {address}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let answer = send(
            address,
            &[&format!("{method} /metrics HTTP/1.1"), &host, "Content-Length: 0"],
        );
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("get, head")),
            "{method}"
        );
    }
    let head = send(address, &["HEAD /metrics HTTP/1.1", &host]);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(get(address, "/nothing").status, 404);
    assert_eq!(get(address, "/../etc/passwd").status, 404);
}

#[test]
fn slow_and_many_clients_do_not_stop_the_mount() {
    let origin = hello();
    let (mount, address) = mount_of(&origin);
    let host = format!("Host: {address}");
    // Clients that say nothing, that never end their heads, and that never read.
    let mut clients: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let sent = match number % 3 {
            0 => continue,
            1 => format!("GET / HTTP/1.1\r\n{host}\r\nX-Slow: "),
            _ => format!("GET /metrics HTTP/1.1\r\n{host}\r\n\r\n").repeat(100),
        };
        client.write_all(sent.as_bytes()).expect("to send");
    }
    let began = Instant::now();
    assert_eq!(fs::read(mount.path("hello.txt")).expect("to read"), b"hello\n");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // They lose their places, and others get them.
    assert_eq!(get(address, "/healthz").status, 200);

    let large = format!("X-Large: {}", "x".repeat(64 << 10));
    let mut client = connect(address);
    let request = format!("GET / HTTP/1.1\r\n{host}\r\n{large}\r\n\r\n");
    // The answer may come before all is sent.
    let _ = client.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
    drop(clients);
}

#[test]
fn status_names_the_page_of_each_mount() {
    let origin = hello();
    let (one, other) = (mount_of(&origin), mount_of(&origin));
    assert_ne!(one.1, other.1, "each has its own port");
    let without = Mount::start_of(&origin.url("/"));
    assert_eq!(status_of(&without).get("http"), None);
    let json: Value = serde_json::from_str(&get(one.1, "/live.json").body).expect("JSON");
    assert_eq!(json["status"]["mountpoint"], one.0.root().display().to_string());
    let address = one.1;
    drop(one.0);
    wait_until("the port is free", || TcpListener::bind(address).is_ok());
}
