//! Ctrl-C while a command waits for a mount: the request is cancelled, and the command says what was done.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};
use parking_lot::Mutex;

use crate::control::Client;

/// The exit status after a signal is this and its number, as a shell has it for a program that the signal ended: 130 after
/// Ctrl-C.
const SIGNALED: i32 = 128;

/// What Ctrl-C cancels.
#[derive(Default)]
struct State {
    /// The exit status, once the signal came.
    status: Option<i32>,
    /// The connection of the request in progress.
    connection: Option<UnixStream>,
}

/// Takes SIGINT and SIGTERM over, until the end of the process.
pub(in crate::cli) struct Interrupt(Arc<Mutex<State>>);

impl Interrupt {
    /// To be called by a process with one thread: later ones inherit that the signals are blocked.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(in crate::cli) fn watch() -> io::Result<Interrupt> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals.thread_block()?;
        let state = Arc::new(Mutex::new(State::default()));
        let watched = Arc::clone(&state);
        std::thread::Builder::new().name("interrupt".into()).spawn(move || {
            while let Ok(signal) = signals.wait() {
                let mut state = watched.lock();
                if let Some(status) = state.status {
                    // The second time, the command does not wait for anything.
                    std::process::exit(status);
                }
                state.status = Some(SIGNALED + signal as i32);
                if let Some(connection) = &state.connection {
                    // The mount cancels the request when its connection ends.
                    let _ = connection.shutdown(Shutdown::Both);
                }
            }
        })?;
        Ok(Interrupt(state))
    }

    /// From now on the signal cancels this client's request.
    pub(in crate::cli) fn cancels(&self, client: &Client) -> io::Result<()> {
        let mut state = self.0.lock();
        state.connection = Some(client.connection()?);
        Ok(())
    }

    /// Ends the process after `say` if the signal came.
    pub(in crate::cli) fn end(&self, say: impl FnOnce() -> anyhow::Result<()>) {
        let status = self.0.lock().status;
        if let Some(status) = status {
            // Nothing is left to do if standard output is closed.
            let _ = say();
            std::process::exit(status);
        }
    }
}
