//! What scanners want: at the priority of prefetches, below all that other readers wait for or will need next.

use std::ops::Range;
use std::sync::Arc;

use super::Scheduler;
use super::action::{Action, Priority, WaiterId};
use super::entry::entry_queue::{EntryQueue, Waiter};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::error::ReadError;
use crate::cache::key::EntryId;

impl Scheduler {
    /// Registers a waiter for a scanner's read of these bytes, as [`Self::wait`] does. `ahead` is fetched with them.
    pub fn wait_for_scan(&mut self, entry: &Arc<CacheEntry>, bytes: Range<u64>, ahead: &Range<u64>, id: WaiterId) {
        if self.closed {
            let error = Err(ReadError::ShuttingDown);
            self.table.actions.push(Action::Wake(id, error));
            return;
        }
        let waiter = Waiter {
            id,
            bytes,
            priority: Priority::Medium,
            is_read: true,
            waits_for: None,
        };
        self.table
            .queues
            .open(entry)
            .want(&entry.chunk.touched(ahead), Priority::Medium);
        self.table.add_waiter(entry, waiter);
        self.look_after(entry.id);
    }

    /// The scanners of an entry have gone, and no other reader has it open. What only they wanted is dropped, as in
    /// [`Self::end_read_ahead`]. With `at_once`, so is the whole file that a server without ranges sends, unless something else
    /// is wanted of it.
    pub fn end_scan(&mut self, id: EntryId, at_once: bool) {
        self.table
            .change(id, |queue| queue.withdraw(&(0..u64::MAX), Priority::Medium));
        let is_unwanted = |queue: &EntryQueue| queue.waiters.is_empty() && queue.wants.is_empty();
        if at_once && self.table.queues.get(id).is_some_and(is_unwanted) {
            self.table.stop_all(id);
        }
        self.follow_up(id);
    }
}
