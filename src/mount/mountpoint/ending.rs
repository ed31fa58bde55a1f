//! The end of a mount, as the process that unmounts it sees it.
//!
//! A daemon ends with its mount: what it has fetched is recorded when its process has ended. A Rust program goes on
//! without its mount, and says so when it greets. It is done with the mount when it closes the connection of a
//! [`Request::AwaitEnd`]. Where nothing answers at the control socket, the end of the process is waited for.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::daemon::Daemon;
use crate::control::protocol::{Hello, Request};

/// Maximum length of what a daemon says before the end: its greeting, in bytes.
const LONGEST: usize = 4096;

/// Maximum time to wait for the greeting. A stuck daemon sends none, and is unmounted all the same.
const GREETING: Duration = Duration::from_secs(2);

/// Waits for the end of a mount.
pub(super) struct Ending<'a> {
    daemon: &'a Daemon,
    /// Not blocking. `None` if it tells nothing.
    connection: Option<UnixStream>,
    heard: Vec<u8>,
}

impl<'a> Ending<'a> {
    /// Asks to be told of the end, and waits for the greeting: the mount's end may close the connection before it. Call it
    /// before the unmount.
    pub(super) fn of(daemon: &'a Daemon) -> Ending<'a> {
        let mut ending = Ending {
            connection: ask(daemon.address()).ok(),
            daemon,
            heard: Vec::new(),
        };
        let deadline = Instant::now() + GREETING;
        while !ending.heard.contains(&b'\n') {
            let Some(connection) = &ending.connection else { break };
            let left = deadline.saturating_duration_since(Instant::now());
            let mut watched = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) => break,
                _ if !ending.hear() => ending.connection = None,
                _ => {}
            }
        }
        ending
    }

    /// Waits until the process has ended, or goes on without the mount; returns false after `patience`.
    pub(super) fn wait(mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let mut watched = vec![PollFd::new(self.daemon.process(), PollFlags::POLLIN)];
            let connection = self.connection.as_ref().map(AsFd::as_fd);
            watched.extend(connection.map(|connection| PollFd::new(connection, PollFlags::POLLIN)));
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            let [has_ended, speaks] = [0, 1].map(|at| watched.get(at).and_then(PollFd::any).unwrap_or(false));
            match ready {
                Ok(0) => return false,
                _ if has_ended => return true,
                _ if speaks && !self.hear() => {
                    if goes_on_without_mount(&self.heard) {
                        return true;
                    }
                    self.connection = None;
                }
                _ => {}
            }
        }
    }

    /// Reads what has come. Returns false at the end of the connection.
    fn hear(&mut self) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let mut bytes = [0; LONGEST];
        match connection.read(&mut bytes) {
            Ok(0) => false,
            Ok(read) => {
                self.heard.extend(&bytes[..read]);
                self.heard.len() <= LONGEST
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }
}

fn ask(address: &SocketAddr) -> io::Result<UnixStream> {
    let mut connection = UnixStream::connect_addr(address)?;
    connection.set_nonblocking(true)?;
    let mut line = serde_json::to_vec(&Request::AwaitEnd)?;
    line.push(b'\n');
    // It fits into the socket's buffer.
    connection.write_all(&line)?;
    Ok(connection)
}

/// Returns true if this is the greeting of a program that goes on without its mount, and nothing after it: a second line
/// is a refusal to tell the end.
fn goes_on_without_mount(heard: &[u8]) -> bool {
    serde_json::from_slice(heard).is_ok_and(|hello: Hello| hello.outlives_mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_greeting_alone_says_that_the_program_goes_on() {
        let hello = |outlives_mount| serde_json::to_string(&Hello::of(outlives_mount)).unwrap() + "\n";
        assert!(goes_on_without_mount(hello(true).as_bytes()));
        assert!(!goes_on_without_mount(hello(false).as_bytes()));
        assert!(
            !goes_on_without_mount(b"{\"fetchfs\":\"0.1.0\",\"protocol\":1}\n"),
            "an older one"
        );
        let refused = hello(true) + r#"{"reply":"refused","reason":"too many requests"}"#;
        assert!(!goes_on_without_mount(refused.as_bytes()));
        assert!(!goes_on_without_mount(b""));
    }
}
