//! All entry queues, and the origins at which they wait.
//!
//! Each decision needs an origin's most urgent entry, its running fetches and the number of entries
//! that share it. A mount may have thousands of entries with wanted chunks, so these are kept up to
//! date instead of searched for. A queue can only be changed through an [`EntryQueueMut`], which updates
//! the origin's order when it is dropped.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::origin_state::{OriginNumber, OriginState, Rank};
use super::redirects::RedirectTargets;
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::fetch::scheduler::entry::entry_queue::EntryQueue;
use crate::cache::fetch::scheduler::fetches::running_fetch::RunningFetch;
use crate::cache::key::EntryId;
use crate::http::{MOST_ORIGINS, Origin};

/// The entries for which anything is wanted, in flight or waited for.
#[derive(Debug, Default)]
pub(in crate::cache::fetch::scheduler) struct EntryQueues {
    all: BTreeMap<EntryId, RankedQueue>,
    redirect_targets: RedirectTargets,
    numbers: HashMap<Origin, OriginNumber>,
    /// By number. Origins are never dropped: their measurements are useful later. The last is
    /// shared by all origins beyond [`MOST_ORIGINS`].
    origins: Vec<OriginState>,
    /// Maximum number of concurrent fetches to an origin.
    most_connections: usize,
}

/// A queue, and its place in its origin's order, if it has one.
#[derive(Debug)]
struct RankedQueue {
    queue: EntryQueue,
    rank: Option<Rank>,
}

impl RankedQueue {
    /// Updates its place in the order of its origin.
    fn rerank(&mut self, at: &mut OriginState) {
        let id = self.queue.entry.id;
        let now = self.queue.rank(at.share_of(id));
        at.rerank(id, std::mem::replace(&mut self.rank, now), now);
    }
}

impl EntryQueues {
    /// Without queues; each origin gets at most this many connections.
    pub(in crate::cache::fetch::scheduler) fn new(most_connections: usize) -> EntryQueues {
        EntryQueues {
            most_connections,
            ..EntryQueues::default()
        }
    }

    /// Allows this many concurrent fetches to each origin from now on.
    pub(in crate::cache::fetch::scheduler) fn set_most_connections(&mut self, most: usize) {
        self.most_connections = most;
        for number in 0..self.origins.len() {
            self.change(OriginNumber(number), |at| at.set_most_connections(most));
        }
    }

    /// The number of an origin; a new one gets the next number.
    pub(in crate::cache::fetch::scheduler) fn number(&mut self, origin: &Origin) -> OriginNumber {
        if let Some(&number) = self.numbers.get(origin) {
            return number;
        }
        let nowhere = Origin::nowhere();
        if self.numbers.len() >= MOST_ORIGINS && *origin != nowhere {
            return self.number(&nowhere);
        }
        let number = OriginNumber(self.origins.len());
        self.origins.push(OriginState::new(self.most_connections));
        self.numbers.insert(origin.clone(), number);
        number
    }

    pub(in crate::cache::fetch::scheduler) fn at(&self, origin: OriginNumber) -> &OriginState {
        &self.origins[origin.0]
    }

    /// Changes what is known of an origin. If the connection limit of one of its entries changes by
    /// that, so does the entry's place in the order.
    pub(in crate::cache::fetch::scheduler) fn change<T>(
        &mut self,
        origin: OriginNumber,
        change: impl FnOnce(&mut OriginState) -> T,
    ) -> T {
        let at = &mut self.origins[origin.0];
        let before = at.fetch_limit.share();
        let result = change(at);
        let now = at.fetch_limit.share();
        if before != now {
            for (entry, _) in [before, now].into_iter().flatten() {
                // Dropping it is what updates the order.
                drop(self.get_mut(entry));
            }
        }
        result
    }

    /// All origins that were ever requested.
    pub(in crate::cache::fetch::scheduler) fn named(&self) -> impl Iterator<Item = (&Origin, OriginNumber)> {
        self.numbers.iter().map(|(origin, &number)| (origin, number))
    }

    /// The queues of an origin. Visits all queues: for status output, not for decisions.
    pub(in crate::cache::fetch::scheduler) fn queues_to(
        &self,
        origin: OriginNumber,
    ) -> impl Iterator<Item = &EntryQueue> {
        let queues = self.all.values().map(|ranked| &ranked.queue);
        queues.filter(move |queue| queue.origin == origin)
    }

    pub(in crate::cache::fetch::scheduler) fn origins(&self) -> impl Iterator<Item = OriginNumber> + use<> {
        (0..self.origins.len()).map(OriginNumber)
    }

    pub(in crate::cache::fetch::scheduler) fn get(&self, id: EntryId) -> Option<&EntryQueue> {
        self.all.get(&id).map(|ranked| &ranked.queue)
    }

    pub(in crate::cache::fetch::scheduler) fn get_mut(&mut self, id: EntryId) -> Option<EntryQueueMut<'_>> {
        let ranked = self.all.get_mut(&id)?;
        let origin = &mut self.origins[ranked.queue.origin.0];
        Some(EntryQueueMut { ranked, origin })
    }

    /// The origin that an entry's next fetch gets a slot of: the last target of its redirects, or the
    /// origin that the entry names.
    pub(in crate::cache::fetch::scheduler) fn origin_of(&mut self, entry: &CacheEntry) -> OriginNumber {
        let in_flight = self.get(entry.id).map(|queue| queue.origin);
        match in_flight.or_else(|| self.redirect_targets.of(entry.id)) {
            Some(number) => number,
            None => self.number(&entry.origin),
        }
    }

    /// Moves an entry's queue to another origin. Its fetches keep their slots.
    pub(in crate::cache::fetch::scheduler) fn redirect(&mut self, id: EntryId, to: OriginNumber) {
        let Some(ranked) = self.all.get_mut(&id).filter(|ranked| ranked.queue.origin != to) else {
            return;
        };
        let from = std::mem::replace(&mut ranked.queue.origin, to);
        ranked.queue.has_moved = true;
        self.origins[from.0].rerank(id, ranked.rank.take(), None);
        self.origins[from.0].queues -= 1;
        self.origins[to.0].queues += 1;
        ranked.rerank(&mut self.origins[to.0]);
        let named = self.numbers.get(&ranked.queue.entry.origin);
        self.redirect_targets.note(id, (named != Some(&to)).then_some(to));
    }

    /// The queue of an entry, created if there is none.
    pub(in crate::cache::fetch::scheduler) fn open(&mut self, entry: &Arc<CacheEntry>) -> EntryQueueMut<'_> {
        let number = self.origin_of(entry);
        let origin = &mut self.origins[number.0];
        let ranked = self.all.entry(entry.id).or_insert_with(|| {
            origin.queues += 1;
            let queue = EntryQueue::new(Arc::clone(entry), number);
            RankedQueue { queue, rank: None }
        });
        EntryQueueMut { ranked, origin }
    }

    /// Drops a queue that is idle.
    pub(in crate::cache::fetch::scheduler) fn forget_if_idle(&mut self, id: EntryId) {
        if let Some(idle) = self.get(id).filter(|queue| queue.is_idle()) {
            let origin = idle.origin;
            self.origins[origin.0].queues -= 1;
            self.all.remove(&id);
        }
    }

    /// All fetches, for changes that do not concern the order of entries.
    pub(in crate::cache::fetch::scheduler) fn fetches_mut(&mut self) -> impl Iterator<Item = &mut RunningFetch> {
        self.all.values_mut().flat_map(|ranked| &mut ranked.queue.fetches)
    }

    pub(in crate::cache::fetch::scheduler) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.all.keys().copied()
    }

    /// The entries with waiters that have lost chunks since the last check.
    pub(in crate::cache::fetch::scheduler) fn with_unseen_losses(&self) -> impl Iterator<Item = EntryId> {
        let all = self.all.iter();
        all.filter_map(|(&id, ranked)| ranked.queue.has_unseen_losses().then_some(id))
    }

    pub(in crate::cache::fetch::scheduler) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// A mutable queue, except for its origin ([`EntryQueues::redirect`]). Dropping it updates its origin.
pub(in crate::cache::fetch::scheduler) struct EntryQueueMut<'a> {
    ranked: &'a mut RankedQueue,
    origin: &'a mut OriginState,
}

impl Deref for EntryQueueMut<'_> {
    type Target = EntryQueue;

    fn deref(&self) -> &EntryQueue {
        &self.ranked.queue
    }
}

impl DerefMut for EntryQueueMut<'_> {
    fn deref_mut(&mut self) -> &mut EntryQueue {
        &mut self.ranked.queue
    }
}

impl Drop for EntryQueueMut<'_> {
    fn drop(&mut self) {
        self.ranked.rerank(self.origin);
    }
}

#[cfg(test)]
impl EntryQueues {
    pub(in crate::cache::fetch::scheduler) fn iter(&self) -> impl Iterator<Item = (EntryId, &EntryQueue)> {
        self.all.iter().map(|(&id, ranked)| (id, &ranked.queue))
    }

    /// Compares each origin's derived fields with its queues and the fetches.
    pub(in crate::cache::fetch::scheduler) fn check(&self) {
        for number in self.origins() {
            let at = self.at(number);
            let here = || self.iter().filter(|(_, queue)| queue.origin == number);
            let wanting = here().filter_map(|(id, queue)| Some((queue.rank(at.share_of(id))?, id)));
            let fetches = self.iter().flat_map(|(_, queue)| &queue.fetches);
            let fetching = fetches.filter(|fetch| fetch.origin == number);
            at.check(
                wanting.collect(),
                fetching.map(|fetch| fetch.id).collect(),
                here().count(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    #[test]
    fn origins_beyond_the_most_share_an_account() {
        let mut queues = EntryQueues::new(1);
        let mut number = |port: usize| {
            let url = Url::parse(&format!("http://h:{}/", port + 1)).unwrap();
            queues.number(&Origin::of(&url).unwrap()).0
        };
        let numbers: Vec<_> = (0..MOST_ORIGINS).map(&mut number).collect();
        assert_eq!(numbers, Vec::from_iter(0..MOST_ORIGINS));
        assert_eq!(
            (number(MOST_ORIGINS), number(2 * MOST_ORIGINS)),
            (MOST_ORIGINS, MOST_ORIGINS)
        );
        assert_eq!(number(3), 3);
    }
}
