//! Networks of their own (network_namespaces(7)), and cables from this machine to them that a test can pull: packets
//! are lost then, and nothing refuses or resets a connection. Only root can make one.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::{process, program, run, wait_until};

/// Networks of two addresses in the range for tests of devices, 198.18.0.0/15 (RFC 2544).
const BLOCKS: u32 = 1 << 15;

/// A network without connections, except by its [cables](Cable). Dropping it ends it.
pub struct Network {
    /// A process that does nothing but keep it.
    holder: Child,
}

/// A cable between this machine and a network. Dropping it takes it away.
pub struct Cable {
    network: PathBuf,
    /// The name of the interface, the same at both ends.
    name: String,
    /// The address at this end.
    near: Ipv4Addr,
    /// The address in the network.
    pub far: Ipv4Addr,
}

impl Network {
    #[track_caller]
    pub fn new() -> Network {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]);
        let holder = process::spawn(&mut command);
        let network = Network { holder };
        let own = fs::read_link("/proc/self/ns/net").expect("its network");
        wait_until("a network namespace", || {
            fs::read_link(network.path()).is_ok_and(|path| path != own)
        });
        ip(Some(&network.path()), &["link", "set", "lo", "up"]);
        network
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// Connects it with this machine.
    #[track_caller]
    pub fn cable(&self) -> Cable {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Another concurrent run of the tests begins elsewhere.
        let begin = std::process::id().wrapping_mul(97);
        let block = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
        let first = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + block * 4;
        let cable = Cable {
            network: self.path(),
            name: format!("fetchfs{block}"),
            near: Ipv4Addr::from(first + 1),
            far: Ipv4Addr::from(first + 2),
        };
        let (name, holder) = (cable.name.as_str(), self.holder.id().to_string());
        ip(
            None,
            &[
                "link", "add", name, "type", "veth", "peer", "name", name, "netns", &holder,
            ],
        );
        for (network, address) in [(None, cable.near), (Some(cable.network.as_path()), cable.far)] {
            ip(network, &["address", "add", &format!("{address}/30"), "dev", name]);
            ip(network, &["link", "set", name, "up"]);
        }
        cable
    }

    /// A command in the network.
    pub fn command(&self, program: &Path) -> Command {
        enter(&self.path(), program)
    }

    /// Does some work in the network. Its sockets stay there, and threads that it starts, too.
    #[track_caller]
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).expect("its namespace");
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // SAFETY: takes two integers, and moves this thread alone.
                let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
                work()
            });
            thread.join().expect("no panic")
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Interfaces in it go with its last process.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Cable {
    /// Pulls it out of the far machine.
    pub fn pull(&self) {
        ip(Some(&self.network), &["link", "set", &self.name, "down"]);
    }

    /// Plugs it in again.
    pub fn plug(&self) {
        ip(Some(&self.network), &["link", "set", &self.name, "up"]);
    }

    /// Loses all packets to this machine from now on, as a switch on the way may. The link stays up.
    pub fn lose_packets(&self) {
        ip(
            Some(&self.network),
            &["route", "add", "blackhole", &self.near.to_string()],
        );
    }

    /// Ends the loss of packets.
    pub fn deliver_packets(&self) {
        ip(
            Some(&self.network),
            &["route", "delete", "blackhole", &self.near.to_string()],
        );
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Both ends. It may have gone with the network.
        let mut command = Command::new(program("ip", "iproute2"));
        let _ = command.args(["link", "delete", &self.name]).output();
    }
}

/// Runs ip(8) with these arguments, here or in a network.
#[track_caller]
fn ip(network: Option<&Path>, arguments: &[&str]) {
    let program = program("ip", "iproute2");
    let mut command = network.map_or_else(|| Command::new(&program), |network| enter(network, &program));
    run(command.args(arguments)).succeeded();
}

/// A command that runs in a network.
fn enter(network: &Path, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", network.display())).arg(program);
    command
}
