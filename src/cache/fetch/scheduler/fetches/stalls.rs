//! Stalls: fetches that are too slow to keep their slot while others wait for one.
//!
//! A server may be silent about one file, or send it byte by byte. This must cost other files no
//! more than one connection, and for no longer than a second. **A fetch gives its slot to another
//! waiting entry if it has had the slot for about a second and would not reach its next chunk edge
//! within another**, even if a reader is blocked on it. The rate decides, not only whether anything
//! comes. What it has brought stays, and a later fetch continues at that byte. Its entry is **set
//! back**: others are served before it, for a time that doubles with each turn that brought
//! nothing, or until a slot is left over.
//!
//! A server that is slow with everything is served all the same. The time allowed for the first
//! byte follows from the time that others take
//! ([`FetchSize::first_byte_timeout`]). If nothing else
//! was answered meanwhile, the next turn is twice as long. Fetches that are each slow take turns of
//! a second, and lose nothing but their connections.
//!
//! A download that can't be resumed (the server ignores Range) loses its slot only when nothing
//! comes at all.

use super::running_fetch::RunningFetch;
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::fetch::fetch_size::FetchSize;

/// Number of periods after which a fetch has had its slot for one second at least, and one and a
/// half at most.
const A_SECOND: u64 = 3;

/// Number of periods for which a slow file is set back: it then has its slot for a third of the
/// time.
const SLOW_SET_BACK: u64 = 2 * A_SECOND;

/// Maximum number of times that a duration is doubled.
const MOST_DOUBLED: u32 = 5;

/// Periods in a second, for measured times.
const PERIODS_PER_SECOND: f64 = 2.0;

/// The turns at a slot in which an entry's fetches were too slow.
#[derive(Debug, Default)]
pub(in crate::cache::fetch::scheduler) struct Stalls {
    /// The period until which the entry is set back. **Nothing begins for it until this is cleared.**
    until: Option<u64>,
    /// Number of consecutive turns that brought nothing.
    fruitless: u32,
    /// How many of them passed while the origin answered nothing else either, so that it may be
    /// slow with everything.
    unanswered: u32,
}

impl Stalls {
    /// Returns true if a fetch of this entry is too slow to keep its slot. `is_throttled`: its own
    /// mount may have slowed it down.
    pub(in crate::cache::fetch::scheduler) fn is_stalled(
        &self,
        fetch: &RunningFetch,
        entry: &CacheEntry,
        period: u64,
        usual: &FetchSize,
        is_throttled: bool,
    ) -> bool {
        let (held, left) = (period - fetch.began_in, fetch.left(entry));
        if left.is_empty() {
            return false;
        }
        if !fetch.has_begun() {
            let timeout = usual.first_byte_timeout().as_secs_f64() * PERIODS_PER_SECOND;
            let timeout = (timeout.ceil() as u64).max(A_SECOND) << self.unanswered.min(MOST_DOUBLED);
            return held >= timeout && !(is_throttled && fetch.served_in.is_some());
        }
        if held < A_SECOND || is_throttled {
            return false;
        }
        if entry.ignores_range() {
            return fetch.lately() == 0;
        }
        fetch.lately() < fetch.bytes_to(left.start + 1, entry)
    }

    /// Sets the entry back after a turn.
    pub(in crate::cache::fetch::scheduler) fn set_back(
        &mut self,
        period: u64,
        has_brought_something: bool,
        others_were_answered: bool,
    ) {
        let periods = if has_brought_something {
            SLOW_SET_BACK
        } else {
            self.fruitless += 1;
            self.unanswered = if others_were_answered { 0 } else { self.unanswered + 1 };
            A_SECOND << self.fruitless.min(MOST_DOUBLED)
        };
        self.until = Some(period + periods);
    }

    pub(in crate::cache::fetch::scheduler) fn is_set_back(&self) -> bool {
        self.until.is_some()
    }

    /// Returns true if the entry was set back for long enough.
    pub(in crate::cache::fetch::scheduler) fn is_over(&self, period: u64) -> bool {
        self.until.is_none_or(|until| until <= period)
    }

    pub(in crate::cache::fetch::scheduler) fn end_set_back(&mut self) {
        self.until = None;
    }

    /// A fetch of the entry has brought something.
    pub(in crate::cache::fetch::scheduler) fn forget_turns(&mut self) {
        (self.fruitless, self.unanswered) = (0, 0);
    }
}
