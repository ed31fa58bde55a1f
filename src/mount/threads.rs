//! Threads where the system gives only so many (`ulimit -u`, `TasksMax=`, `pids.max`).
//!
//! The rule: **all threads that a mount can't do without run before it is said to be up**; what is started later can wait for one that
//! is there. A mount whose threads can't be started is refused.

use std::io;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use crossbeam_channel::{Receiver, bounded};
use procfs::process::Process;

use super::End;

/// How long threads may take to start. They take a millisecond, on a machine that is not overloaded.
const STARTING: Duration = Duration::from_secs(5);

/// How often it is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Finds out whether so many threads can be started, by starting them.
///
/// # Errors
/// When the system does not give them: the sentence for the user.
pub(super) fn can_start(count: usize) -> anyhow::Result<()> {
    let (stay, until) = bounded::<()>(0);
    let start = || {
        let until: Receiver<()> = until.clone();
        // Nothing is ever sent: they end when the sender does.
        std::thread::Builder::new().spawn(move || until.recv())
    };
    let threads: io::Result<Vec<_>> = (0..count).map(|_| start()).collect();
    drop(stay);
    let threads = threads.map_err(|error| {
        anyhow!(
            "the system does not give the {count} threads that a mount needs ({error}); raise the limit of processes (`ulimit -u`, \
             TasksMax= of a systemd unit, pids.max of a container), or end other programs"
        )
    })?;
    for thread in threads {
        // It can't have panicked.
        let _ = thread.join();
    }
    Ok(())
}

/// Waits until so many threads whose names begin so run, or until the mount has ended: then how.
pub(super) fn wait_for(name: &str, count: usize, ended: &Receiver<End>) -> Option<End> {
    let deadline = Instant::now() + STARTING;
    while Instant::now() < deadline {
        if let Ok(end) = ended.try_recv() {
            return Some(end);
        }
        if running(name) >= count {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    log::debug!("no {count} threads called {name}* are to be seen");
    None
}

fn running(name: &str) -> usize {
    let threads = Process::myself().and_then(|process| process.tasks());
    let threads = threads.into_iter().flatten().flatten();
    let names = threads.filter_map(|thread| Some(thread.stat().ok()?.comm));
    names.filter(|comm| comm.starts_with(name)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_waited_for_by_name() {
        can_start(3).unwrap();
        let (_ends, ended) = bounded(1);
        let (stay, until) = bounded::<()>(0);
        for number in 0..2 {
            let until = until.clone();
            let builder = std::thread::Builder::new().name(format!("waited-{number}"));
            builder.spawn(move || until.recv()).unwrap();
        }
        assert!(wait_for("waited-", 2, &ended).is_none());
        assert_eq!(running("waited-"), 2);
        drop(stay);
    }

    #[test]
    fn a_mount_that_ends_is_not_waited_for() {
        let (ends, ended) = bounded(1);
        ends.send(End::Signal("SIGTERM")).unwrap();
        assert!(matches!(wait_for("nobody-", 1, &ended), Some(End::Signal("SIGTERM"))));
    }
}
