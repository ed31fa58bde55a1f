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
//! ([`FetchSize::patience`](crate::cache::fetch::fetch_size::FetchSize::patience)). If nothing else
//! was answered meanwhile, the next turn is twice as long. Fetches that are each slow take turns of
//! a second, and lose nothing but their connections.
//!
//! A download that can't be resumed (the server ignores Range) loses its slot only when nothing
//! comes at all.

use super::entry_queue::EntryQueue;
use super::queues::OriginNumber;
use super::running::Fetch;
use super::{FetchId, Priority, Scheduler};
use crate::cache::key::EntryId;

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

impl Scheduler {
    /// The fetch that gives its slot to `by`, which wants something at `priority`: of the fetches
    /// that are no more urgent and too slow, the slowest.
    pub(super) fn stalled_fetch(&self, origin: OriginNumber, priority: Priority, by: EntryId) -> Option<FetchId> {
        self.fetches_to(origin)
            .filter(|(queue, fetch)| queue.entry.id != by && self.is_stalled(queue, fetch))
            .filter(|(queue, fetch)| {
                priority == Priority::Critical
                    || (!queue.is_waited_for(fetch) && queue.base_of(fetch).is_none_or(|base| base >= priority))
            })
            .map(|(_, fetch)| fetch)
            .min_by_key(|fetch| (fetch.lately(), fetch.id))
            .map(|fetch| fetch.id)
    }

    fn is_stalled(&self, queue: &EntryQueue, fetch: &Fetch) -> bool {
        let (held, left) = (self.period - fetch.began_in, queue.left_of(fetch));
        if left.is_empty() {
            return false;
        }
        if !fetch.has_begun() {
            let patience = self.queues.at(fetch.origin).fetch_size.patience().as_secs_f64() * PERIODS_PER_SECOND;
            let patience = (patience.ceil() as u64).max(A_SECOND) << queue.fruitless.unanswered.min(MOST_DOUBLED);
            return held >= patience && !(self.limits.is_throttled && fetch.served_in.is_some());
        }
        if held < A_SECOND || self.limits.is_throttled {
            return false;
        }
        if queue.entry.ignores_range() {
            return fetch.lately() == 0;
        }
        fetch.lately() < queue.bytes_to(fetch, &(left.start..left.start + 1))
    }

    /// Takes a fetch's slot away, and sets its entry back.
    pub(super) fn set_back(&mut self, id: FetchId) {
        let Some((queue, fetch)) = self.fetch(id) else { return };
        let (entry, has_come, period) = (queue.entry.id, fetch.lately() > 0, self.period);
        let others_were_answered = self.queues.at(fetch.origin).answers() > fetch.answers_before;
        if let Some(mut queue) = self.queues.get_mut(entry) {
            let fruitless = &mut queue.fruitless;
            let periods = if has_come {
                SLOW_SET_BACK
            } else {
                fruitless.turns += 1;
                fruitless.unanswered = if others_were_answered {
                    0
                } else {
                    fruitless.unanswered + 1
                };
                A_SECOND << fruitless.turns.min(MOST_DOUBLED)
            };
            queue.set_back_until = Some(period + periods);
        }
        if !self.set_back.contains(&entry) {
            self.set_back.push(entry);
        }
        self.preempt(id);
    }

    /// Ends the set-backs that have lasted long enough, and all of an origin that has a slot left
    /// over.
    pub(super) fn end_set_backs(&mut self) {
        for id in std::mem::take(&mut self.set_back) {
            let Some(queue) = self.queues.get(id) else { continue };
            let at = self.queues.at(queue.origin);
            let is_left_over = at.is_served() && at.running() < self.connections(queue.origin);
            let is_over = queue.set_back_until.is_none_or(|until| until <= self.period);
            if !is_over && !is_left_over {
                self.set_back.push(id);
                continue;
            }
            if let Some(mut queue) = self.queues.get_mut(id) {
                queue.set_back_until = None;
            }
            self.dispatch_for(id);
        }
    }
}
