//! Threads where the system gives only so many (`ulimit -u`, `TasksMax=`, `pids.max`).

use std::io;

use anyhow::anyhow;
use crossbeam_channel::{Receiver, bounded};

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
            "can't start the {count} threads that a mount needs ({error}); raise the limit of processes (`ulimit \
             -u`, TasksMax= of a systemd unit, pids.max of a container), or end other programs"
        )
    })?;
    for thread in threads {
        // It can't have panicked.
        let _ = thread.join();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_few_threads_can_be_had() {
        super::can_start(3).unwrap();
    }
}
