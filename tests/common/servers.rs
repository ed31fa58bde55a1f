//! Real web servers, each started for one test with its own configuration.

use std::fs;
use std::iter;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

mod case;
mod dav;
mod guarded;
mod others;

pub use case::cases;
pub use guarded::{Certificates, Guard, PASSWORD, USER};

use super::process::{self, Pidfd};
use super::{PATIENCE, is_root, program, temporary_directory};

/// Ports for servers.
const PORTS: Range<u32> = 16_384..32_768;

/// Attempts with other ports, if another process has just taken the port.
const ATTEMPTS: u32 = 5;

/// A running web server; killed when dropped.
pub struct WebServer {
    child: Child,
    scheme: &'static str,
    port: u16,
    home: TempDir,
    /// Other directories that the server needs.
    kept: Vec<TempDir>,
    /// The server that this one passes requests on to.
    behind: Option<Box<WebServer>>,
}

/// One line of an access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// As requested, percent-encoded.
    pub path: String,
    /// Status of the response.
    pub status: u16,
    /// The `Range` header, or `-`.
    pub range: String,
    /// Bytes of the body that were sent.
    pub bytes: u64,
}

/// The form of Apache's index pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApacheIndex {
    /// A list of names.
    Plain,
    /// Columns in a `<pre>`.
    Fancy,
    /// Columns in a `<table>`.
    Table,
}

impl WebServer {
    /// nginx with its autoindex, and an access log.
    #[track_caller]
    pub fn nginx(root: &Path) -> WebServer {
        WebServer::nginx_that(root, |port| format!("listen 127.0.0.1:{port};"))
    }

    /// nginx whose autoindex is `json` or `xml`.
    #[track_caller]
    pub fn nginx_with_format(root: &Path, format: &str) -> WebServer {
        WebServer::nginx_that(root, |port| {
            format!("listen 127.0.0.1:{port}; autoindex_format {format};")
        })
    }

    /// nginx that passes all requests on to another server, and logs them.
    #[track_caller]
    pub fn nginx_before(server: WebServer) -> WebServer {
        let to = server.url("");
        let mut nginx = WebServer::nginx_that(Path::new("/nonexistent"), |port| {
            format!("listen 127.0.0.1:{port}; location / {{ proxy_pass {to}; }}")
        });
        nginx.behind = Some(Box::new(server));
        nginx
    }

    /// nginx that answers 503 to more than 20 requests a second, or to more than a few at once.
    #[track_caller]
    pub fn nginx_that_limits(root: &Path) -> WebServer {
        let zone = "limit_req_zone $binary_remote_addr zone=all:1m rate=20r/s;";
        let listen = |port| format!("listen 127.0.0.1:{port}; limit_req zone=all burst=4 nodelay;");
        WebServer::nginx_with(root, "", zone, listen)
    }

    /// nginx with these lines in its server block, including `listen`.
    #[track_caller]
    fn nginx_that(root: &Path, lines: impl Fn(u16) -> String) -> WebServer {
        WebServer::nginx_with(root, "", "", lines)
    }

    /// nginx with these lines in its server block, a line at the top, and one beside the server block.
    #[track_caller]
    fn nginx_with(root: &Path, top: &str, beside: &str, lines: impl Fn(u16) -> String) -> WebServer {
        WebServer::start("nginx", |home, port| {
            let lines = lines(port);
            let (home, root, user) = (
                home.display(),
                root.display(),
                if is_root() { "user root;" } else { "" },
            );
            let config = format!(
                "{top} {user} daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error;
                 events {{ worker_connections 1024; }}
                 http {{
                   log_format lines '$request\t$status\t$http_range\t$body_bytes_sent';
                   access_log {home}/access lines;
                   client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
                   uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
                   sendfile on; keepalive_requests 1000000; {beside}
                   server {{ {lines} root {root}; autoindex on; default_type application/octet-stream; }}
                 }}"
            );
            let file = write_config(home.to_string().as_ref(), &config);
            let mut command = Command::new(program("nginx", "nginx"));
            command.arg("-e").arg(format!("{home}/error")).arg("-c").arg(file);
            command
        })
    }

    /// Apache with an access log.
    #[track_caller]
    pub fn apache(root: &Path, index: ApacheIndex) -> WebServer {
        let options = match index {
            ApacheIndex::Plain => "-FancyIndexing",
            ApacheIndex::Fancy => "FancyIndexing NameWidth=*",
            ApacheIndex::Table => "FancyIndexing HTMLTable NameWidth=*",
        };
        WebServer::apache_that(root, &[], &format!("Require all granted\nIndexOptions {options}"))
    }

    /// Apache with more modules, and with these lines for the directory that it serves.
    #[track_caller]
    fn apache_that(root: &Path, more: &[&str], lines: &str) -> WebServer {
        WebServer::start("apache", |home, port| {
            let (home, root, modules) = (home.display(), root.display(), apache_modules());
            // Apache refuses to run as root; the served files are readable by all users.
            let user = if is_root() { "User #65534\nGroup #65534" } else { "" };
            // Apache asks the database of locks for properties, and never makes one to read.
            let locks = match more.contains(&"dav_fs") {
                true => format!("DavLockDB {home}/locks\n"),
                false => String::new(),
            };
            let load = ["mpm_event", "authz_core", "dir", "autoindex", "mime"];
            let load: String = load
                .iter()
                .chain(more)
                .map(|name| format!("LoadModule {name}_module {modules}/mod_{name}.so\n"))
                .collect();
            let config = format!(
                "{load}{locks}{user}\nServerRoot {home}\nServerName localhost\nDefaultRuntimeDir {home}\nListen 127.0.0.1:{port}\nPidFile {home}/pid
                 ErrorLog {home}/error\nLogFormat \"%r\t%>s\t%{{Range}}i\t%B\" lines\nCustomLog {home}/access lines
                 TypesConfig /dev/null\nDocumentRoot \"{root}\"
                 <Directory \"{root}\">\nOptions +Indexes\n{lines}\n</Directory>\n"
            );
            let file = write_config(home.to_string().as_ref(), &config);
            let mut command = Command::new(program("apache2", "apache2"));
            command.args(["-D", "FOREGROUND", "-f"]).arg(file);
            command
        })
    }

    /// lighttpd with its directory listing.
    #[track_caller]
    pub fn lighttpd(root: &Path) -> WebServer {
        WebServer::start("lighttpd", |home, port| {
            let config = format!(
                "server.modules = (\"mod_dirlisting\")\nserver.document-root = \"{}\"\nserver.bind = \"127.0.0.1\"
                 server.port = {port}\ndir-listing.activate = \"enable\"\ndir-listing.encoding = \"utf-8\"
                 server.errorlog = \"{}/error\"\n",
                root.display(),
                home.display()
            );
            let mut command = Command::new(program("lighttpd", "lighttpd"));
            command.arg("-D").arg("-f").arg(write_config(home, &config));
            command
        })
    }

    /// Caddy's file server.
    #[track_caller]
    pub fn caddy(root: &Path) -> WebServer {
        WebServer::start("caddy", |home, port| {
            let mut command = Command::new(program("caddy", "caddy"));
            command
                .args([
                    "file-server",
                    "--browse",
                    "--listen",
                    &format!("127.0.0.1:{port}"),
                    "--root",
                ])
                .arg(root);
            command.envs(["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, home)));
            command
        })
    }

    /// Caddy's file server, whose pages are made by this template.
    #[track_caller]
    pub fn caddy_with_template(root: &Path, template: &str) -> WebServer {
        WebServer::start("caddy", |home, port| {
            let page = home.join("page.html");
            fs::write(&page, template).expect("to write a template");
            let config = format!(
                "{{\nadmin off\nauto_https off\n}}\nhttp://127.0.0.1:{port} {{\nbind 127.0.0.1\nroot * {}\nfile_server {{\nbrowse {}\n}}\n}}\n",
                root.display(),
                page.display()
            );
            let mut command = Command::new(program("caddy", "caddy"));
            command.args(["run", "--adapter", "caddyfile", "--config"]);
            command.arg(write_config(home, &config));
            command.envs(["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, home)));
            command
        })
    }

    /// Python's http.server, without ranges and sizes.
    #[track_caller]
    pub fn python(root: &Path) -> WebServer {
        WebServer::start("python", |_, port| {
            let mut command = Command::new(program("python3", "python3"));
            command
                .args([
                    "-m",
                    "http.server",
                    &port.to_string(),
                    "--bind",
                    "127.0.0.1",
                    "--directory",
                ])
                .arg(root);
            command
        })
    }

    /// The URL of a percent-encoded path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// All requests so far, for nginx and Apache only.
    ///
    /// A client may receive its response before the server writes the log line. So one more request is made, and the
    /// log is read once that one is in it.
    #[track_caller]
    pub fn requests(&self) -> Vec<Line> {
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("/mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
        ask(self.port, &mark);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(self.home.path().join("access")).expect("an access log");
            let lines: Vec<Line> = text
                .lines()
                .map(|line| Line::parse(line).unwrap_or_else(|| panic!("{line}")))
                .collect();
            if let Some(end) = lines.iter().position(|line| line.path == mark) {
                return lines[..end]
                    .iter()
                    .filter(|line| !line.path.starts_with("/mark-"))
                    .cloned()
                    .collect();
            }
            assert!(Instant::now() < deadline, "the server never logged {mark}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Bytes of this file (percent-encoded path) that were sent so far.
    #[track_caller]
    pub fn data_bytes_for(&self, path: &str) -> u64 {
        let data = |line: &Line| line.method == "GET" && line.path == path && matches!(line.status, 200 | 206);
        self.requests()
            .iter()
            .filter(|line| data(line))
            .map(|line| line.bytes)
            .sum()
    }

    #[track_caller]
    fn start(name: &str, command: impl Fn(&Path, u16) -> Command) -> WebServer {
        let home = temporary_directory();
        let output = home.path().join("output");
        for _ in 0..ATTEMPTS {
            let port = free_port();
            let file = fs::File::create(&output).expect("a file for what the server prints");
            let mut command = command(home.path(), port);
            command
                .stdin(Stdio::null())
                .stdout(file.try_clone().expect("its copy"))
                .stderr(file);
            let mut child = process::spawn(&mut command);
            if answers(&mut child, port) {
                let scheme = "http";
                return WebServer {
                    child,
                    scheme,
                    port,
                    home,
                    kept: Vec::new(),
                    behind: None,
                };
            }
            end(&mut child);
        }
        let said = ["output", "error"].map(|file| fs::read_to_string(home.path().join(file)).unwrap_or_default());
        panic!("{name} does not start: {}", said.concat());
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Line {
    fn parse(line: &str) -> Option<Line> {
        let mut fields = line.split('\t');
        let mut request = fields.next()?.split(' ');
        Some(Line {
            method: request.next()?.to_owned(),
            path: request.next()?.to_owned(),
            status: fields.next()?.parse().ok()?,
            range: fields.next()?.to_owned(),
            bytes: fields.next()?.parse().ok()?,
        })
    }
}

/// Ends a server together with its workers, which end when their parent gets the signal.
fn end(child: &mut Child) {
    if let Some(process) = Pidfd::open(child.id()) {
        process.signal(nix::sys::signal::Signal::SIGTERM);
        if !process.wait(Duration::from_secs(5)) {
            process.signal(nix::sys::signal::Signal::SIGKILL);
        }
    }
    let _ = child.wait();
}

/// Whether the server answers on its port. A foreign program has no event for that, so it is polled.
fn answers(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if child.try_wait().expect("a child can be waited for").is_some() {
            return false;
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn ask(port: u16, path: &str) {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server answers");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .expect("to ask");
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A free port that is not given away before the server binds it. The kernel gives ports from 32768 on to connections
/// and to unspecified binds (ip(7), `ip_local_port_range`), and each port here is handed out once.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Another concurrent run of the tests begins elsewhere.
    let begin = std::process::id().wrapping_mul(97);
    let ports = PORTS.end - PORTS.start;
    iter::repeat_with(|| begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % ports)
        .take(ports as usize)
        .map(|port| u16::try_from(PORTS.start + port).expect("a port"))
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("a free port")
}

fn write_config(home: &Path, config: &str) -> PathBuf {
    let file = home.join("config");
    fs::write(&file, config).expect("to write a configuration");
    file
}

#[track_caller]
fn apache_modules() -> &'static str {
    let places = [
        "/usr/lib/apache2/modules",
        "/usr/lib64/httpd/modules",
        "/usr/lib/httpd/modules",
    ];
    places
        .into_iter()
        .find(|place| Path::new(place).is_dir())
        .expect("Apache's modules: apt-get install apache2")
}
