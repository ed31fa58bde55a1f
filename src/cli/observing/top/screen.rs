//! The terminal: taken over as a whole, and given back as it was, also after a panic and after a signal.

use std::io::{Stdout, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};

/// Whether a signal ends the command.
static IS_OVER: AtomicBool = AtomicBool::new(false);

extern "C" fn note_signal(_: libc::c_int) {
    IS_OVER.store(true, Ordering::Relaxed);
}

/// The whole terminal, until it is dropped.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal over.
    pub(super) fn enter() -> anyhow::Result<Screen> {
        let action = SigAction::new(SigHandler::Handler(note_signal), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
            unsafe { sigaction(signal, &action) }?;
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |bug| {
            // Before the message, which would be lost with the alternate screen.
            give_back();
            hook(bug);
        }));
        enable_raw_mode()?;
        // From here on it is given back in any case.
        let entered = || -> std::io::Result<_> {
            execute!(stdout(), EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(stdout()))
        };
        Ok(Screen(entered().inspect_err(|_| give_back())?))
    }

    /// To draw on.
    pub(super) fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.0
    }

    /// Whether a signal ends the command.
    pub(super) fn is_over(&self) -> bool {
        IS_OVER.load(Ordering::Relaxed)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// The terminal as it was. Errors mean that it is gone.
fn give_back() {
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
}
