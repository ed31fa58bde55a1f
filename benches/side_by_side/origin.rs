//! The origin: nginx on loopback, with two profiles of a network, and a log that is read when everybody has left. It speaks
//! WebDAV as well, and stands before `rclone serve webdav` and `rclone serve s3`.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{nginx, process};

/// How long the servers may take to start, or nginx to notice that its clients have left.
const PATIENCE: Duration = Duration::from_secs(15);

/// The delay before each answer's first byte in the profile `wan`, in seconds: a round trip to another continent's coast.
pub const ROUND_TRIP: f64 = 0.050;

/// What one connection carries at most in the profile `wan`, in bytes per second, as nginx is told it.
const CONNECTION_RATE: &str = "20m";

/// nginx keeps to `limit_rate` by pausing after each piece that it hands to the socket. By default a piece is up to 2 MiB,
/// so that a response of 2 MiB would come without any limit, and one of 4 MiB at 28 MB/s. With pieces of 10 ms the rate
/// holds for short responses too.
const PIECE: &str = "200k";

/// What lies between the origin and the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Loopback as it comes.
    Lan,
    /// 50 ms before each response's first byte, 20 MB/s a connection.
    Wan,
}

/// Who answers, and in which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Index pages by nginx.
    Http,
    /// WebDAV by nginx and its module dav_ext.
    NginxDav,
    /// WebDAV by `rclone serve webdav`.
    RcloneDav,
    /// S3 by `rclone serve s3`.
    RcloneS3,
}

/// The way to the corpus.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// What lies between.
    pub profile: Profile,
    /// Who answers.
    pub protocol: Protocol,
}

impl From<Profile> for Way {
    fn from(profile: Profile) -> Way {
        let protocol = Protocol::Http;
        Way { profile, protocol }
    }
}

/// Where a mount finds the corpus.
#[derive(Debug, Clone)]
pub struct Address {
    /// The protocol.
    pub protocol: Protocol,
    /// The URL of the corpus; of the service for S3.
    pub url: String,
    /// The bucket.
    pub bucket: String,
}

/// A running nginx; ended when dropped, and so are the servers behind it.
pub struct Origin {
    child: Child,
    behind: Vec<Child>,
    ports: Ports,
    bucket: String,
    home: TempDir,
}

/// Where it listens.
#[derive(Debug, Clone, Copy)]
struct Ports {
    lan: u16,
    wan: u16,
    /// In front of rclone, with the delays of [`Profile::Wan`].
    dav: u16,
    s3: u16,
    /// rclone itself.
    rclone_dav: u16,
    rclone_s3: u16,
}

/// A point in the log, from which [`Origin::traffic_since`] counts.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

/// What clients have asked for, and what was sent to them.
#[derive(Debug, Default, Clone, Copy)]
pub struct Traffic {
    /// Requests of any kind.
    pub requests: u64,
    /// Connections that they came over.
    pub connections: u64,
    /// Bytes that were handed to sockets, headers among them.
    pub bytes: u64,
}

impl Profile {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Lan => "lan",
            Profile::Wan => "wan",
        }
    }
}

impl Origin {
    /// Starts nginx over `root`, and `rclone` behind it.
    ///
    /// # Errors
    /// When they do not come to answer; the text has what nginx printed.
    pub fn start(root: &Path, rclone: &Path) -> Result<Origin> {
        let home = tempfile::Builder::new().prefix("fetchfs-bench-origin-").tempdir()?;
        let [lan, wan, dav, s3, rclone_dav, rclone_s3] = nginx::free_ports()?;
        let ports = Ports {
            lan,
            wan,
            dav,
            s3,
            rclone_dav,
            rclone_s3,
        };
        let folder = home.path().to_owned();
        let child = nginx::start(&folder, &config(&folder, root, ports)?, &[lan, wan])?;
        let name = root.file_name().context("the corpus is in a folder")?;
        let mut origin = Origin {
            child,
            behind: Vec::new(),
            ports,
            bucket: name.to_string_lossy().into_owned(),
            home,
        };
        // Without rclone, nginx alone has to do.
        let above = root.parent().context("the corpus is in a folder")?;
        for (protocol, served, port) in [("webdav", root, rclone_dav), ("s3", above, rclone_s3)] {
            origin.behind.extend(serve(rclone, protocol, served, port, &folder));
        }
        origin.wait_for_rclone()?;
        Ok(origin)
    }

    /// Where a mount finds the corpus by this way. The servers behind nginx are far away only.
    pub fn address(&self, Way { profile, protocol }: Way) -> Address {
        let port = match (protocol, profile) {
            (Protocol::Http | Protocol::NginxDav, Profile::Lan) => self.ports.lan,
            (Protocol::Http | Protocol::NginxDav, Profile::Wan) => self.ports.wan,
            (Protocol::RcloneDav, _) => self.ports.dav,
            (Protocol::RcloneS3, _) => self.ports.s3,
        };
        Address {
            protocol,
            url: format!("http://127.0.0.1:{port}/"),
            bucket: self.bucket.clone(),
        }
    }

    /// The URL of the corpus, by index pages.
    pub fn url(&self, profile: Profile) -> String {
        self.address(profile.into()).url
    }

    /// Whether the servers behind nginx run.
    pub fn has_rclone(&self) -> bool {
        self.behind.len() == 2
    }

    /// The end of the log as it is now. Nobody may be connected.
    ///
    /// # Errors
    /// When somebody stays connected.
    pub fn mark(&self) -> Result<Mark> {
        Ok(Mark(self.complete_log()?.len()))
    }

    /// What was asked for and sent since. Waits until all connections are closed: a response that a client broke off
    /// is logged when it ends.
    ///
    /// # Errors
    /// When somebody stays connected.
    pub fn traffic_since(&self, mark: Mark) -> Result<Traffic> {
        let log = self.complete_log()?;
        let lines = log.get(mark.0..).unwrap_or_default().lines();
        let (mut traffic, mut connections) = (Traffic::default(), HashSet::new());
        for line in lines {
            let sent = line.split('\t').nth(3).and_then(|field| field.parse::<u64>().ok());
            connections.insert(line.rsplit('\t').next());
            traffic.requests += 1;
            traffic.bytes += sent.with_context(|| format!("the origin's log: {line}"))?;
        }
        traffic.connections = connections.len() as u64;
        Ok(traffic)
    }

    /// Copies the log since `mark` to a file, for who wants to see which requests a line took.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save_log_since(&self, mark: Mark, to: &Path) -> Result<()> {
        Ok(fs::write(to, self.complete_log()?.get(mark.0..).unwrap_or_default())?)
    }

    fn complete_log(&self) -> Result<String> {
        // nginx logs a request before it counts its connection as closed. The one that is left is ours.
        let alone = process::poll_until(PATIENCE, || {
            Ok((ask_status(self.ports.lan)?.contains("Active connections: 1 ")).then_some(()))
        })?;
        if alone.is_none() {
            bail!("somebody stays connected to the origin");
        }
        Ok(fs::read_to_string(self.home.path().join("access"))?)
    }

    fn wait_for_rclone(&self) -> Result<()> {
        let ports = [self.ports.rclone_dav, self.ports.rclone_s3];
        let answers = || !self.has_rclone() || ports.iter().all(nginx::answers);
        let up = process::poll_until(PATIENCE, || Ok(answers().then_some(())))?;
        up.context("rclone serves nothing")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        process::end(&mut self.child);
        self.behind.iter_mut().for_each(process::end);
    }
}

/// Starts one of rclone's servers; `None` if there is no rclone.
fn serve(rclone: &Path, protocol: &str, served: &Path, port: u16, home: &Path) -> Option<Child> {
    let mut command = Command::new(rclone);
    command.args(["serve", protocol, "--config", "", "--read-only", "--addr"]);
    command.arg(format!("127.0.0.1:{port}")).arg(served);
    command.env("HOME", home).env("XDG_CACHE_HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process::spawn(&mut command).ok()
}

fn config(home: &Path, root: &Path, ports: Ports) -> Result<String> {
    let Ports {
        lan,
        wan,
        dav,
        s3,
        rclone_dav,
        rclone_s3,
    } = ports;
    let (home, root) = (home.display(), fs::canonicalize(root)?);
    let root = root.display();
    Ok(format!(
        "load_module modules/ndk_http_module.so; load_module modules/ngx_http_lua_module.so;
         load_module modules/ngx_http_dav_ext_module.so;
         daemon off; worker_processes 2; pid {home}/pid; error_log {home}/error warn;
         events {{ worker_connections 1024; }}
         http {{
           log_format bench '$request_method\\t$request_uri\\t$status\\t$bytes_sent\\t$http_range\\t$request_time\\t$msec\\t$connection';
           access_log {home}/access bench;
           client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
           uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
           sendfile on; keepalive_requests 1000000; autoindex on; default_type application/octet-stream;
           root \"{root}\";
           server {{
             listen 127.0.0.1:{lan};
             location = /.status {{ stub_status; access_log off; }}
           }}
           server {{
             listen 127.0.0.1:{wan};
             limit_rate {CONNECTION_RATE}; sendfile_max_chunk {PIECE};
             access_by_lua_block {{ ngx.sleep({ROUND_TRIP}) }}
             dav_ext_methods PROPFIND OPTIONS;
           }}
           proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
           upstream dav {{ server 127.0.0.1:{rclone_dav}; keepalive 32; }}
           upstream s3 {{ server 127.0.0.1:{rclone_s3}; keepalive 32; }}
           server {{
             listen 127.0.0.1:{dav};
             limit_rate {CONNECTION_RATE};
             access_by_lua_block {{ ngx.sleep({ROUND_TRIP}) }}
             location / {{ proxy_pass http://dav; }}
           }}
           server {{
             listen 127.0.0.1:{s3};
             limit_rate {CONNECTION_RATE};
             access_by_lua_block {{ ngx.sleep({ROUND_TRIP}) }}
             location / {{ proxy_pass http://s3; }}
           }}
         }}"
    ))
}

fn ask_status(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /.status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
