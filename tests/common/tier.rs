//! An nginx that is configured by `fetchfs tier config`, as on a machine of a fleet.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::network::Network;
use super::servers::free_port;
use super::{PATIENCE, fetchfs, program, run, temporary_directory, wait_until};

/// A running tier; killed when dropped.
pub struct Tier {
    address: SocketAddr,
    home: TempDir,
    /// Its configuration's `--cache-dir`.
    cache: PathBuf,
    /// nginx, in the network of this tier.
    command: Command,
    /// The first process of the group of nginx's processes.
    master: Option<Child>,
}

/// What a tier answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// What came of its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, case-insensitive; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        headers
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }
}

impl Tier {
    /// A tier on 127.0.0.1 that may ask these origins.
    #[track_caller]
    pub fn of(allow: &[&str]) -> Tier {
        Tier::with(Ipv4Addr::LOCALHOST, allow, &[])
    }

    /// A tier on this loopback address, with more arguments for `fetchfs tier config`.
    #[track_caller]
    pub fn with(ip: Ipv4Addr, allow: &[&str], more: &[&str]) -> Tier {
        Tier::at((ip, free_port()).into(), allow, more)
    }

    /// A tier at this address, with more arguments for `fetchfs tier config`.
    #[track_caller]
    pub fn at(address: SocketAddr, allow: &[&str], more: &[&str]) -> Tier {
        let home = temporary_directory();
        let cache = home.path().join("cache");
        Tier::new(home, &cache, address, Command::new(nginx()), allow, more)
    }

    /// A tier on this loopback address with its slices on a disk.
    #[track_caller]
    pub fn on_disk(disk: &Path, ip: Ipv4Addr, allow: &[&str]) -> Tier {
        let (home, cache) = (temporary_directory(), disk.join("cache"));
        Tier::new(
            home,
            &cache,
            (ip, free_port()).into(),
            Command::new(nginx()),
            allow,
            &[],
        )
    }

    /// A tier at this address of a network.
    #[track_caller]
    pub fn in_network(network: &Network, ip: Ipv4Addr, allow: &[&str]) -> Tier {
        let home = temporary_directory();
        let cache = home.path().join("cache");
        Tier::new(
            home,
            &cache,
            (ip, free_port()).into(),
            network.command(&nginx()),
            allow,
            &[],
        )
    }

    #[track_caller]
    fn new(
        home: TempDir,
        cache: &Path,
        address: SocketAddr,
        mut command: Command,
        allow: &[&str],
        more: &[&str],
    ) -> Tier {
        fs::create_dir(cache).expect("a directory for the cache");
        let mut config = fetchfs();
        config.args(["tier", "config", "--cache-size", "1G", "--listen", &address.to_string()]);
        config.arg("--cache-dir").arg(cache);
        allow.iter().for_each(|origin| {
            config.args(["--allow", origin]);
        });
        let config = run(config.args(more)).succeeded().out;
        fs::write(home.path().join("config"), config).expect("to write the configuration");
        command.args(["-e", "stderr", "-c"]).arg(home.path().join("config"));
        // Signals go to the master and its workers.
        command.process_group(0);
        let mut tier = Tier {
            address,
            home,
            cache: cache.to_owned(),
            command,
            master: None,
        };
        tier.start();
        tier
    }

    /// Starts nginx with the configuration as it was printed.
    #[track_caller]
    pub fn start(&mut self) {
        let output = fs::File::create(self.home.path().join("output")).expect("a file for what nginx prints");
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut master = super::process::spawn(&mut self.command);
        wait_until("nginx answers", || {
            let ended = master.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "nginx does not start: {}", self.output());
            TcpStream::connect(self.address).is_ok()
        });
        self.master = Some(master);
    }

    /// Replaces text of its configuration and starts it again.
    #[track_caller]
    pub fn restart_with(&mut self, text: &str, other: &str) {
        self.kill();
        let path = self.home.path().join("config");
        let config = fs::read_to_string(&path).expect("to read");
        assert!(config.contains(text), "{config}");
        fs::write(path, config.replace(text, other)).expect("to write");
        self.start();
    }

    /// What nginx printed since its start.
    pub fn output(&self) -> String {
        fs::read_to_string(self.home.path().join("output")).unwrap_or_default()
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as for `--tier`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its URL, if it has a certificate for `localhost`.
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The path of a URL in a tier.
    pub fn path_of(url: &str) -> String {
        format!("/{}", url.replacen("://", "/", 1))
    }

    /// The directory with its slices.
    pub fn slices(&self) -> PathBuf {
        self.cache.join("slices")
    }

    /// Sends a signal to all of its processes.
    pub fn signal(&self, signal: Signal) {
        if let Some(master) = &self.master {
            // The group exists as long as its first process was not waited for.
            let _ = killpg(Pid::from_raw(master.id().cast_signed()), signal);
        }
    }

    /// Ends all of its processes at once.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(mut master) = self.master.take() {
            let _ = master.wait();
        }
    }

    /// Requests a path as it is written, with more header lines.
    #[track_caller]
    pub fn ask(&self, path: &str, headers: &[&str]) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("the tier answers");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: tier\r\nConnection: close\r\n");
        headers.iter().for_each(|line| request.push_str(&format!("{line}\r\n")));
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).expect("to ask");
        let mut answer = Vec::new();
        // A server that closes with bytes unread resets the connection; what came before counts.
        let _ = stream.read_to_end(&mut answer);
        Answer::parse(&answer).unwrap_or_else(|| panic!("{path}: {}", String::from_utf8_lossy(&answer)))
    }
}

fn nginx() -> PathBuf {
    program("nginx", "nginx")
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Answer> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        Some(Answer {
            status,
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: bytes[end + 4..].to_vec(),
        })
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        self.kill();
    }
}
