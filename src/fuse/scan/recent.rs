//! The programs of the last threads, so that one that opens many files is looked up once a second.
//!
//! A thread may begin another program (execve) meanwhile. The first read of a file compares the program's file, which costs a third
//! of the whole look-up; an open, which decides about prefetching only, does not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::program::{Program, file_of};

/// How long a look-up counts.
const LASTS: Duration = Duration::from_secs(1);

/// Number of threads.
const MOST: usize = 16;

/// The last look-ups.
#[derive(Default)]
pub(super) struct Recent {
    /// Held for moments. No other lock is taken under it.
    known: Mutex<VecDeque<Known>>,
}

struct Known {
    thread: u32,
    at: Instant,
    program: Arc<Program>,
}

impl Recent {
    /// The program of this thread, or the one that it had within the last second.
    pub(super) fn roughly(&self, thread: u32) -> Option<Arc<Program>> {
        self.known(thread).or_else(|| self.look_up(thread))
    }

    /// The program of this thread.
    pub(super) fn exactly(&self, thread: u32) -> Option<Arc<Program>> {
        let known = self.known(thread).filter(|program| program.has_file(file_of(thread)));
        known.or_else(|| self.look_up(thread))
    }

    fn known(&self, thread: u32) -> Option<Arc<Program>> {
        let known = self.known.lock();
        let known = known.iter().find(|known| known.thread == thread)?;
        (known.at.elapsed() < LASTS).then(|| Arc::clone(&known.program))
    }

    fn look_up(&self, thread: u32) -> Option<Arc<Program>> {
        let program = Arc::new(Program::of(thread)?);
        let mut known = self.known.lock();
        known.retain(|known| known.thread != thread);
        known.truncate(MOST - 1);
        known.push_front(Known {
            thread,
            at: Instant::now(),
            program: Arc::clone(&program),
        });
        Some(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_is_looked_up_once() {
        let (recent, me) = (Recent::default(), std::process::id());
        let first = recent.exactly(me).expect("it is visible");
        assert!(Arc::ptr_eq(&first, &recent.exactly(me).unwrap()));
        assert!(Arc::ptr_eq(&first, &recent.roughly(me).unwrap()));
        recent.known.lock()[0].program = Arc::new(Program::for_tests("another"));
        assert_eq!(recent.exactly(me), Some(first), "it has begun another program since");
        assert_eq!(recent.exactly(0), None);
        recent.known.lock()[0].at -= LASTS;
        recent.known.lock()[0].program = Arc::new(Program::for_tests("another"));
        assert_ne!(recent.roughly(me), Some(Arc::new(Program::for_tests("another"))));
    }
}
