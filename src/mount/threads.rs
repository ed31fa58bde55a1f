//! Waits for the threads that answer the kernel.
//!
//! **All threads that a mount needs run before it counts as mounted.** Threads that are started later can wait for one
//! of these. If the system refuses threads, the mount is refused ([`crate::engine`]).

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use procfs::process::Process;

use super::end::End;

/// Maximum time for threads to start. They take a millisecond, on a machine that is not overloaded.
const STARTING: Duration = Duration::from_secs(5);

/// Interval of the checks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Waits until this many threads with this name prefix run; returns early if the mount has ended.
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
    use crossbeam_channel::bounded;

    #[test]
    fn threads_are_waited_for_by_name() {
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
