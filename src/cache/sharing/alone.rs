//! A cache that no other process can join: its counters are in memory, and no file is locked.
//!
//! It stands in for the directory that can't be opened, until it can (`lifecycle::folder`), and in tests that need
//! nobody else. It counts as the [`ledger`](super::ledger) does, which a test compares.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::page::{self, GROWN, LIMIT, Page, limit_of, reserved_by};
use super::peers::{Bell, FileLocks, Overhead, Peers, Space};

/// Its place in the page.
const SLOT: usize = 0;

/// The only user of a cache.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Held for moments. No other lock is taken under it.
    page: Mutex<Page>,
    /// Notified when a bell rings. Belongs to `page`.
    rung: Condvar,
}

impl Alone {
    /// A cache of at most `limit` bytes, with none in it.
    pub(crate) fn new(limit: u64) -> Alone {
        let mut page = Page::empty();
        page.begin_anew(0);
        page[limit_of(SLOT)] = limit;
        page.agree_on_limit(&[SLOT]);
        Alone {
            page: Mutex::new(page),
            rung: Condvar::new(),
        }
    }
}

impl Peers for Alone {
    fn has_others(&self) -> bool {
        false
    }

    fn space(&self) -> Space {
        let page = self.page.lock();
        page.space(page[reserved_by(SLOT)])
    }

    fn recent(&self, _second: u32) -> (u64, u64) {
        let page = self.page.lock();
        (page[GROWN], page[LIMIT])
    }

    fn set_limit(&self, limit: u64) {
        let mut page = self.page.lock();
        page[limit_of(SLOT)] = limit;
        page.agree_on_limit(&[SLOT]);
    }

    fn try_reserve(&self, bytes: u64, most: u64) -> io::Result<bool> {
        Ok(self.page.lock().try_reserve(SLOT, bytes, most))
    }

    fn settle(&self, reserved: u64, grown: i64) {
        self.page.lock().add(page::settling(SLOT, reserved, grown));
    }

    fn note_overhead(&self, overhead: Overhead) {
        self.page.lock().note_overhead(overhead);
    }

    fn claim_audit(&self, every: u64) -> bool {
        self.page.lock().claim_audit(every)
    }

    fn demand_audit(&self) {
        self.page.lock().demand_audit();
    }

    fn begin_audit(&self) -> Space {
        self.space()
    }

    fn ring(&self, bell: Bell) {
        self.page.lock().ring(bell);
        self.rung.notify_all();
    }

    fn rung(&self, bell: Bell) -> u32 {
        self.page.lock().rung(bell)
    }

    fn wait(&self, bell: Bell, seen: u32, longest: Duration) {
        let deadline = Instant::now() + longest;
        let mut page = self.page.lock();
        // Looked at under the lock that a ring takes: none is missed.
        while page.rung(bell) == seen && Instant::now() < deadline {
            self.rung.wait_until(&mut page, deadline);
        }
    }
}

impl FileLocks for Alone {
    fn try_exclusive(&self, _file: &File) -> io::Result<bool> {
        Ok(true)
    }

    fn share(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::ledger::Ledger;
    use super::*;

    #[test]
    fn waiter_is_woken_by_a_bell() {
        let alone = Arc::new(Alone::new(0));
        let seen = alone.rung(Bell::Relieved);
        std::thread::scope(|scope| {
            scope.spawn(|| alone.wait(Bell::Relieved, seen, Duration::from_secs(60)));
            alone.ring(Bell::Relieved);
        });
        assert_ne!(alone.rung(Bell::Relieved), seen);
        assert_eq!(alone.rung(Bell::Wanted), 0);
        // It has rung since: no wait.
        alone.wait(Bell::Relieved, seen, Duration::from_secs(60));
    }

    proptest! {
        /// A ledger that no other process has joined is the model.
        #[test]
        fn it_counts_as_a_ledger_does(steps in prop::collection::vec((0u8..7, 1u64..50), 1..100)) {
            const MOST: u64 = 300;
            let dir = tempfile::tempdir().unwrap();
            let (alone, ledger) = (Alone::new(MOST), Ledger::join(dir.path(), MOST, 0).unwrap());
            let both: [&dyn Peers; 2] = [&alone, &ledger];
            for (what, bytes) in steps {
                let said = both.map(|one| match what {
                    0 => one.try_reserve(bytes, MOST).unwrap(),
                    1 => {
                        let reserved = one.space().reserved;
                        one.settle(reserved, reserved.min(bytes).cast_signed());
                        true
                    }
                    2 => {
                        one.settle(0, -one.space().used.saturating_sub(one.space().reserved).min(bytes).cast_signed());
                        true
                    }
                    3 => {
                        one.note_overhead(Overhead::Index(bytes));
                        one.note_overhead(Overhead::NewDirectory(bytes));
                        true
                    }
                    4 => one.claim_audit(bytes),
                    5 => {
                        one.demand_audit();
                        one.begin_audit() == one.space()
                    }
                    _ => {
                        one.note_overhead(Overhead::Directories(bytes));
                        one.has_others()
                    }
                });
                prop_assert_eq!(said[0], said[1], "step {}", what);
                prop_assert_eq!(alone.space(), ledger.space());
            }
        }
    }
}
