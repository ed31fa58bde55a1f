//! What systemd is told while the mount runs: a line for `systemctl status`, and that the process is alive.
//!
//! With `WatchdogSec=` systemd restarts a service that says nothing for that long. So the mount speaks only after it has
//! taken the lock that every fetch needs: a mount that hangs is restarted. The disk of the cache is not asked, because a
//! slow disk is no reason to end a mount.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::Handle;

use crate::control::Control;

/// How often the line is renewed.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Begins to tell systemd of a mount in the foreground, if it listens. Ends with the runtime.
pub(super) fn keep_telling(runtime: &Handle, control: &Arc<Control>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    runtime.spawn(tell_the_state(Arc::clone(control)));
    if let Some(time) = sd_notify::watchdog_enabled() {
        // Half of the time leaves room for a delay.
        runtime.spawn(feed_the_watchdog(Arc::clone(control), time / 2));
    }
}

async fn tell_the_state(control: Arc<Control>) {
    let mut told = String::new();
    loop {
        let line = control.summary().await;
        if line != told {
            told.clone_from(&line);
            send(move || drop(sd_notify::notify(&[NotifyState::Status(&line)]))).await;
        }
        tokio::time::sleep(LINE_EVERY).await;
    }
}

async fn feed_the_watchdog(control: Arc<Control>, every: Duration) {
    loop {
        let control = Arc::clone(&control);
        send(move || {
            control.check_responsive();
            drop(sd_notify::notify(&[NotifyState::Watchdog]));
        })
        .await;
        tokio::time::sleep(every).await;
    }
}

/// Runs on a thread that may block: sending blocks while systemd reads nothing.
async fn send(sending: impl FnOnce() + Send + 'static) {
    // It fails only when the runtime shuts down.
    let _ = tokio::task::spawn_blocking(sending).await;
}
