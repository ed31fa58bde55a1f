//! A server that loses every packet, so that no connection can be made.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{Backlog, listen};

use super::PATIENCE;

/// Failed connection attempts before the queue counts as full.
const REFUSALS: usize = 3;

/// More time than the kernel needs for a connection on the same machine.
const AT_ONCE: Duration = Duration::from_millis(300);

/// `SYN_SENT`, in `/proc/net/tcp`.
const SYN_SENT: &str = "02";

/// A port that neither accepts nor refuses connections: its queue is full, and the kernel drops the packets (tcp(7)).
pub struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    /// Takes over an address without a listener.
    #[track_caller]
    pub fn at(address: SocketAddr) -> BlackHole {
        assert!(address.is_ipv4(), "{address} is not looked for in /proc/net/tcp");
        let listener = TcpListener::bind(address).expect("the port is free");
        // Listens again with a short queue: the standard library's queue takes thousands of connections.
        listen(&listener, Backlog::new(1).expect("it is in range")).expect("to listen");
        let (mut queued, mut refused) = (Vec::new(), 0);
        let deadline = Instant::now() + PATIENCE;
        while refused < REFUSALS {
            assert!(Instant::now() < deadline, "the queue never fills");
            match TcpStream::connect_timeout(&address, AT_ONCE) {
                Ok(stream) => queued.push(stream),
                Err(_) => refused += 1,
            }
        }
        BlackHole {
            address,
            _listener: listener,
            _queued: queued,
        }
    }

    /// Waits for an attempt to connect. It has no event, so the kernel's table is polled.
    pub fn wait_for_attempt(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_tried() {
            assert!(Instant::now() < deadline, "nobody tries to connect to {}", self.address);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_tried(&self) -> bool {
        let port = format!(":{:04X}", self.address.port());
        let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table of connections");
        table.lines().any(|line| {
            let mut words = line.split_ascii_whitespace().skip(2);
            words.next().is_some_and(|remote| remote.ends_with(&port)) && words.next() == Some(SYN_SENT)
        })
    }
}
