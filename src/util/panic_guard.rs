//! Panic guard: a panic ends one piece of work, not the thread that does it.
//!
//! A panic unwinds to where it is caught; a thread that catches none ends. Some threads serve all readers: they answer,
//! write, track waiters, evict. Without them readers would wait for ever. So each piece of their work runs in
//! [`contained`]. Its values are dropped while unwinding: a dropped reply answers EIO, a guard releases its resource.
//!
//! The price is state that a panic may leave half changed. That is acceptable: state that guards a promise (the cache's
//! bytes and index) changes in an order that a crash at any point may interrupt as well.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::Receiver;

use super::events;

/// Runs a piece of work. `None` if it panicked; the log has the event, and its place by the hook that
/// [`crate::logging`] sets.
pub(crate) fn contained<T>(what: &str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work))
        .inspect_err(|_| {
            log::error!(
                event = events::OPERATION_LOST;
                "{what}: bug in fetchfs; this operation fails, and the mount continues"
            );
        })
        .ok()
}

/// Runs a piece of work for each item of a queue, until all senders are gone.
pub(crate) fn each<T>(queue: &Receiver<T>, what: &str, work: impl Fn(T)) {
    for item in queue {
        contained(what, || work(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_ends_only_its_own_work() {
        let (send, queue) = crossbeam_channel::unbounded();
        let (reply, replies) = crossbeam_channel::unbounded();
        for number in 0..5 {
            send.send((number, reply.clone())).unwrap();
        }
        drop((send, reply));
        each(&queue, "a test", |(number, reply)| {
            assert!(number % 2 == 0, "a bug");
            reply.send(number).unwrap();
        });
        assert_eq!(replies.iter().collect::<Vec<_>>(), [0, 2, 4]);
    }
}
