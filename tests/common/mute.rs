//! A server that accepts connections and sends nothing or very little on them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::PATIENCE;

/// What the server sends on each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Nothing: a TLS client waits in the handshake.
    Nothing,
    /// The beginning of a status line.
    ABeginning,
    /// A head without end, one byte at a time.
    AByteAtATime,
}

/// Pause between two bytes: far shorter than any silence that a test allows.
const NOW_AND_THEN: Duration = Duration::from_millis(50);

/// A silent server. Dropping it ends it.
pub struct Mute {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Number of connections so far.
    taken: Mutex<usize>,
    changed: Condvar,
    is_over: AtomicBool,
}

impl Mute {
    pub fn start(says: Says) -> Mute {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                *shared.taken.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                shared.changed.notify_all();
                let shared = Arc::clone(&shared);
                thread::spawn(move || talk(stream, says, &shared.is_over));
            }
        });
        Mute { address, state }
    }

    /// `http://127.0.0.1:PORT/`, with this scheme.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/", self.address)
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        *self.state.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this many connections were made.
    #[track_caller]
    pub fn wait_for_connections(&self, count: usize) {
        let taken = self.state.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .state
            .changed
            .wait_timeout_while(taken, PATIENCE, |taken| *taken < count);
        let (taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(*taken >= count, "{} of {count} connections", *taken);
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        // Wakes the accepting thread; a failure means that it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

/// Sends until the client closes the connection.
fn talk(mut stream: TcpStream, says: Says, is_over: &AtomicBool) {
    let mut ignored = [0; 4096];
    // Except in the silent case, the server waits for a request first, as servers do.
    if says != Says::Nothing && stream.read(&mut ignored).is_err() {
        return;
    }
    if says == Says::ABeginning {
        let _ = stream.write_all(b"HTTP/1.1 20");
    }
    if says == Says::AByteAtATime {
        let mut head = b"HTTP/1.1 206 Partial Content\r\nX-"
            .iter()
            .chain(std::iter::repeat(&b'x'));
        while !is_over.load(Ordering::Acquire) && head.next().is_some_and(|&byte| stream.write_all(&[byte]).is_ok()) {
            thread::sleep(NOW_AND_THEN);
        }
        return;
    }
    while stream.read(&mut ignored).is_ok_and(|count| count > 0) {}
}
