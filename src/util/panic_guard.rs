//! What a bug may cost: the piece of work that met it, and not the thread that works for everybody.
//!
//! A panic unwinds to where it is caught, and a thread in which nobody catches it is gone for good. Those that serve all
//! readers (they answer, write, look after who waits, make room) would leave them waiting for ever. So each of their pieces
//! of work runs [`contained`]. What it had in hand is dropped on the way: a reply that is dropped answers EIO, a guard
//! gives back what it held.
//!
//! The price is state that a panic may have left half changed. It is the lesser one: what guards a promise (the cache's bytes
//! and index) is changed in an order that a crash at any point may interrupt as well.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::Receiver;

/// Does a piece of work. `None` if it ran into a bug; the log says so, and by the hook that [`crate::logging`] sets also where.
pub fn contained<T>(what: &str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work))
        .inspect_err(|_| log::error!("{what}: a bug in fetchfs; that fails, the mount goes on"))
        .ok()
}

/// Does a piece of work for each item of a queue, until nobody can send any more.
pub fn each<T>(queue: &Receiver<T>, what: &str, work: impl Fn(T)) {
    for item in queue {
        contained(what, || work(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_work_that_panics_costs_itself_and_what_it_had_in_hand_is_dropped() {
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
