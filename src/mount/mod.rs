//! `fetchfs mount`, from its configuration to its end: the composition root.
//!
//! The steps come in the order of their obstacles: first the checks that need no server, then the cache, then the
//! sources (which the cache may know), and the mount itself last. `served` has the steps, which a Rust program uses
//! as well. This module adds what a process of its own needs: signals, limits, and the report to the command that
//! started it.
//!
//! A mount ends in one of two ways: another process unmounts it, and the session ends; or a signal ends this process.
//! In the second case, blocked reads get an error first, or they would keep the mount busy.

mod end;
pub(crate) mod mountpoint;
mod notify;
mod ready;
mod reload;
pub(crate) mod served;
mod settings;
mod signals;
mod threads;

use std::sync::Arc;

use anyhow::Context;
use crossbeam_channel::bounded;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::MountConfig;
use crate::engine::Engine;
use crate::util::events;
use crate::web;
use end::End;
pub(crate) use ready::Ready;
pub(crate) use ready::UP;
use served::{Prepared, SESSION_THREADS, Served, ServedBy, claim};

/// Prefix of the session threads' names, which the `fuser` crate sets.
const SESSION_THREAD_NAME: &str = "fuser-";

/// Mounts, reports to `ready` when the mount answers, and returns after the mount has ended.
///
/// # Errors
/// The obstacle, as one sentence for the user.
pub(crate) fn run(config: MountConfig, ready: Ready) -> anyhow::Result<()> {
    signals::ignore_the_meaningless();
    let run_file = claim(&config)?;
    // Before any server is asked: an address that is taken should be said at once.
    let listener = config.web.as_ref().map(web::Listener::bind).transpose()?;
    raise_open_files();
    let engine = Engine::open(config.engine.clone())?;
    let prepared = Prepared::new(&config, &engine)?;
    let (ends, ended) = bounded(2);
    signals::watch(
        engine.runtime(),
        config.foreground,
        prepared.tree(),
        prepared.settings(),
        prepared.reload(),
        ends.clone(),
    )?;
    let served = prepared.mount(&config, run_file, listener, ServedBy::Daemon, move |outcome| {
        // An error means that the process is ending anyway.
        let _ = ends.send(End::Unmounted(outcome));
    })?;
    signals::report_on_request(engine.runtime(), served.control())?;
    let early_end = threads::wait_for(SESSION_THREAD_NAME, SESSION_THREADS, &ended);
    if early_end.is_none() {
        log::info!(event = events::MOUNTED; "{} is mounted on {}", config.source_name, config.mountpoint.display());
        if let Err(error) = ready.up() {
            log::warn!(
                event = events::PARENT_GONE;
                "the command that started this mount has ended ({error}); unmounting"
            );
            leave(&served, &engine);
        } else if config.foreground {
            notify::keep_telling(engine.runtime(), served.control());
        }
    }

    // An error means that both senders are gone, which ends the mount too.
    let outcome = match early_end.map_or_else(|| ended.recv(), Ok) {
        Ok(End::Unmounted(outcome)) => {
            log::info!(event = events::UNMOUNTED; "{} was unmounted", config.mountpoint.display());
            outcome
                .context("the FUSE session failed")
                .inspect_err(|_| leave(&served, &engine))
        }
        Ok(End::Signal(name)) => {
            log::info!(event = events::UNMOUNTING; "{name}: unmounting {}", config.mountpoint.display());
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            leave(&served, &engine);
            Ok(())
        }
        Err(_) => {
            leave(&served, &engine);
            Ok(())
        }
    };
    engine.close();
    // If the mount was detached while files in it were open, the kernel ends the session when this process exits.
    drop(served);
    engine.leave();
    outcome
}

/// Unmounts, also a mount in use. All reads end with an error, present and future ones.
fn leave(served: &Served, engine: &Arc<Engine>) {
    engine.cache().close();
    served.unmount();
}

/// Raises the limit of open files. Every open file and every connection needs a descriptor, and the soft limit of 1,024
/// exists for programs that use select(2), which fetchfs does not.
fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // A failure only means that fewer files can be open at the same time.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
