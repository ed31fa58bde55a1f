//! Redirects: a fetch has a slot of the origin that its bytes come from.
//!
//! The URL of a file does not show that origin. So a fetch begins with a slot of the origin where
//! the entry's bytes came from last, or else of the one that the entry names. **When a redirect
//! leads to another origin, the slot moves there**, and the previous slot is free for other files
//! at once. So files that lead to a slow, silent or failing server hold that server's slots and no
//! others. The connection limit of a server is learnt from the requests that it really gets.
//!
//! If the other origin has no slot left, the fetch ends, and its bytes are wanted of that origin:
//! they come when it is their turn. The caller remembers the redirect, so the next fetch goes
//! straight there. So each slot that an entry gets makes progress.
//!
//! A request that goes back to the entry's own URL, to learn where it leads now, keeps its slot. It
//! is short, and the layer below counts connections for each origin. The slot moves only if that
//! origin answers with bytes, or fails. In that case no fetch ends, though the origin may have one
//! fetch too many for a while.

use super::queues::OriginNumber;
use super::{FetchId, Scheduler};
use crate::http::Origin;

impl Scheduler {
    /// A redirect leads a fetch to this origin, which is about to be asked. Returns false if the
    /// fetch has lost its slot, and is over.
    pub fn leads_to(&mut self, fetch: FetchId, origin: &Origin) -> bool {
        let to = self.queues.number(origin);
        let Some(from) = self.move_slot(fetch, to) else {
            return self.fetches.contains_key(&fetch);
        };
        if !self.has_room_for(fetch, to) {
            self.preempt(fetch);
        } else {
            self.queues.rate_mut(to).begins(self.now);
        }
        self.dispatch(from);
        self.dispatch(to);
        self.fetches.contains_key(&fetch)
    }

    /// This origin has answered a fetch, or refused it.
    pub(super) fn heard_from(&mut self, fetch: FetchId, origin: &Origin) {
        let to = self.queues.number(origin);
        if let Some(from) = self.move_slot(fetch, to) {
            self.dispatch(from);
            self.dispatch(to);
        }
    }

    /// Gives a fetch a slot of an origin in place of its previous one, and returns the previous
    /// origin. The entry's wanted chunks move there, too.
    fn move_slot(&mut self, id: FetchId, to: OriginNumber) -> Option<OriginNumber> {
        let (period, answers) = (self.period, self.queues.at(to).answers());
        let mut queue = self.flight_of(id)?;
        let fetch = queue.fetch_mut(id).filter(|fetch| fetch.origin != to)?;
        let from = std::mem::replace(&mut fetch.origin, to);
        // Its time with the slot begins anew.
        fetch.began_in = period;
        fetch.answers_before = answers;
        let entry = queue.entry.id;
        drop(queue);
        self.queues.give_back_slot(from, id);
        self.queues.take_slot(to, id);
        self.queues.lead(entry, to);
        Some(from)
    }

    /// Returns true if a fetch that has come to an origin may stay: as if it had begun there.
    fn has_room_for(&mut self, fetch: FetchId, origin: OriginNumber) -> bool {
        let at = self.queues.at(origin);
        if at.rate.wait(self.now).is_some() {
            return false;
        }
        let (running, all) = (at.running(), self.connections(origin));
        if !self
            .fetch(fetch)
            .is_some_and(|(queue, fetch)| queue.is_waited_for(fetch))
        {
            return running <= at.concurrency_probe.of(all);
        }
        if running > all {
            let Some(victim) = self.least_urgent_fetch(origin) else {
                return false;
            };
            self.preempt(victim);
        }
        true
    }
}
