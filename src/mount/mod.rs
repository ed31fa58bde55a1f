//! `fetchfs mount` from its options to its end: the composition root.
//!
//! The order is that of what can go wrong: first what is checked without asking a server, then the cache, then the sources (which the
//! cache may know), and the mount itself last. [`served`] has the steps, which a Rust program takes as well; here is what belongs to a
//! process that does nothing else: signals, limits, and the report to the command that has started it.
//!
//! A mount ends in one of two ways: it is unmounted from outside, and the session ends; or a signal asks the
//! process to go. Then blocked reads get an error first, or they would keep the mount busy.

pub mod mountpoint;
pub(crate) mod served;
mod signals;
mod threads;

use std::sync::Arc;

use anyhow::Context;
use crossbeam_channel::bounded;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::cli::Ready;
use crate::config::MountConfig;
use crate::engine::Engine;
use served::{Prepared, SESSION_THREADS, Served, claim};

/// How the names of the session's threads begin, which the `fuser` crate gives them.
const SESSION_THREAD_NAME: &str = "fuser-";

/// Why a mount has ended.
enum End {
    /// The session is over: it was unmounted from outside.
    Unmounted(std::io::Result<()>),
    /// A signal asks this process to go: its name, or what it told.
    Signal(&'static str),
}

/// Mounts, reports to `ready` when the mount answers, and returns when it has ended.
///
/// # Errors
/// What prevents the mount, as one sentence for the user.
pub fn run(config: MountConfig, ready: Ready) -> anyhow::Result<()> {
    signals::ignore_the_meaningless();
    let run_file = claim(&config)?;
    raise_open_files();
    let engine = Engine::open(config.engine.clone())?;
    let prepared = Prepared::new(&config, &engine)?;
    let (ends, ended) = bounded(2);
    signals::watch(engine.runtime(), config.foreground, prepared.tree(), ends.clone())?;
    let served = prepared.mount(&config, run_file, move |outcome| {
        // An error would mean that the process is going anyway.
        let _ = ends.send(End::Unmounted(outcome));
    })?;
    let early_end = threads::wait_for(SESSION_THREAD_NAME, SESSION_THREADS, &ended);
    if early_end.is_none() {
        log::info!("{} is mounted on {}", config.source_name, config.mountpoint.display());
        if let Err(error) = ready.up() {
            log::warn!("the command that started this mount has ended ({error}); unmounting");
            leave(&served, &engine);
        }
    }

    // An error would mean that both senders are gone without a word, which ends the mount too.
    let outcome = match early_end.map_or_else(|| ended.recv(), Ok) {
        Ok(End::Unmounted(outcome)) => {
            log::info!("{} was unmounted", config.mountpoint.display());
            outcome
                .context("the session with the kernel broke")
                .inspect_err(|_| leave(&served, &engine))
        }
        Ok(End::Signal(name)) => {
            log::info!("{name}: unmounting {}", config.mountpoint.display());
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
    // A session whose mount was detached while files in it were open is ended by the kernel when this process goes.
    drop(served);
    engine.leave();
    outcome
}

/// Takes the mount away, whoever uses it. All reads end with an error, those to come too.
fn leave(served: &Served, engine: &Arc<Engine>) {
    engine.cache().close();
    served.unmount();
}

/// Every open file and every connection takes a descriptor, and the soft limit of 1,024 is there for programs that
/// use select(2), which fetchfs does not.
fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it fewer files can be open at once, which is not worth failing for.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
