//! Ctrl-C while a command waits for a mount: the request is cancelled, and the command says what was done.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};
use parking_lot::Mutex;

use crate::control::Client;

/// The exit status after Ctrl-C, as a shell has it for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// What Ctrl-C cancels.
#[derive(Default)]
struct State {
    is_interrupted: bool,
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
            while signals.wait().is_ok() {
                let mut state = watched.lock();
                if state.is_interrupted {
                    // The second time it is not waited for anything.
                    std::process::exit(INTERRUPTED);
                }
                state.is_interrupted = true;
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
        if self.0.lock().is_interrupted {
            // Nothing is left to do if standard output is closed.
            let _ = say();
            std::process::exit(INTERRUPTED);
        }
    }
}
