//! All entry queues, and for each origin the order in which they are served.
//!
//! Each decision needs an origin's most urgent entry, its running fetches and the number of entries
//! that share it. A mount may have thousands of entries with wanted chunks, so these are kept up to
//! date instead of searched for. A queue can only be changed through an [`EntryQueueMut`], which updates
//! the origin's order when it is dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::entry_queue::EntryQueue;
use super::running::Fetch;
use super::{FetchId, Priority};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::fetch::concurrency_probe::ConcurrencyProbe;
use crate::cache::fetch::connection_limit::ConnectionLimit;
use crate::cache::fetch::fetch_size::FetchSize;
use crate::cache::fetch::request_rate::RequestRate;
use crate::cache::key::EntryId;
use crate::http::{MOST_ORIGINS, Origin};

/// Maximum number of entries whose redirect target is remembered. A forgotten entry pays one redirect.
const MOST_LED: usize = 1024;

/// The number of an origin, unique within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OriginNumber(usize);

/// The entries for which anything is wanted, in flight or waited for.
#[derive(Debug, Default)]
pub(super) struct EntryQueues {
    all: BTreeMap<EntryId, QueueAtOrigin>,
    /// The last redirect target of entries, if not the origin that the entry names. Outlives their
    /// queues.
    led: HashMap<EntryId, OriginNumber>,
    numbers: HashMap<Origin, OriginNumber>,
    /// By number. Origins are never dropped: their measurements are useful later. The last is
    /// shared by all origins beyond [`MOST_ORIGINS`].
    origins: Vec<OriginState>,
}

/// The state of one origin. **`wanting` and `queues` follow from its queues, `fetching` from the
/// fetches.**
#[derive(Debug, Default)]
pub(super) struct OriginState {
    /// How it answers, and how long a fetch should be.
    pub(super) fetch_size: FetchSize,
    /// The number of connections it accepts.
    pub(super) connection_limit: ConnectionLimit,
    /// Over how many of them its bytes come best.
    pub(super) concurrency_probe: ConcurrencyProbe,
    /// How fast requests may follow one another.
    pub(super) rate: RequestRate,
    /// The entries with wanted chunks that do not rest, in the order in which they are served.
    wanting: BTreeSet<(Rank, EntryId)>,
    /// The fetches that have its slots.
    fetching: BTreeSet<FetchId>,
    /// The number of its queues.
    queues: usize,
    /// The number of fetches it has answered.
    answers: u64,
    /// The entry with a connection limit of its own, and that limit.
    limited: Option<(EntryId, usize)>,
}

/// A queue, and what its origin has noted of it.
#[derive(Debug)]
struct QueueAtOrigin {
    queue: EntryQueue,
    /// Its place in the origin's order, if it has one.
    noted: Option<Rank>,
}

/// The dispatch order of entries; the lowest rank is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The priority of its most urgent chunk.
    priority: Priority,
    /// True if a fetch brings something for its readers meanwhile. Readers without one block in a
    /// moment. Served after others, such an entry would take the slot of a fetch that has only just
    /// begun, and that costs a connection.
    is_fetching_ahead: bool,
    /// When it was last served.
    turn: u64,
}

impl Rank {
    const fn first(priority: Priority) -> Rank {
        Rank {
            priority,
            is_fetching_ahead: false,
            turn: 0,
        }
    }

    fn of(queue: &EntryQueue) -> Option<Rank> {
        let priority = queue.next_priority()?;
        Some(Rank {
            priority,
            is_fetching_ahead: priority == Priority::High && !queue.fetches.is_empty(),
            turn: queue.turn,
        })
    }
}

impl EntryQueues {
    /// The number of an origin; a new one gets the next number.
    pub(super) fn number(&mut self, origin: &Origin) -> OriginNumber {
        if let Some(&number) = self.numbers.get(origin) {
            return number;
        }
        let nowhere = Origin::nowhere();
        if self.numbers.len() >= MOST_ORIGINS && *origin != nowhere {
            return self.number(&nowhere);
        }
        let number = OriginNumber(self.origins.len());
        self.origins.push(OriginState::default());
        self.numbers.insert(origin.clone(), number);
        number
    }

    pub(super) fn at(&self, origin: OriginNumber) -> &OriginState {
        &self.origins[origin.0]
    }

    pub(super) fn fetch_size_mut(&mut self, origin: OriginNumber) -> &mut FetchSize {
        &mut self.origins[origin.0].fetch_size
    }

    /// Sets the entry with a connection limit of its own. Returns the previous one.
    pub(super) fn limit(&mut self, origin: OriginNumber, now: Option<(EntryId, usize)>) -> Option<(EntryId, usize)> {
        std::mem::replace(&mut self.origins[origin.0].limited, now)
    }

    /// The origin has answered a fetch.
    pub(super) fn note_answer(&mut self, origin: OriginNumber) {
        self.origins[origin.0].answers += 1;
    }

    pub(super) fn connection_limit_mut(&mut self, origin: OriginNumber) -> &mut ConnectionLimit {
        &mut self.origins[origin.0].connection_limit
    }

    pub(super) fn rate_mut(&mut self, origin: OriginNumber) -> &mut RequestRate {
        &mut self.origins[origin.0].rate
    }

    pub(super) fn concurrency_probe_mut(&mut self, origin: OriginNumber) -> &mut ConcurrencyProbe {
        &mut self.origins[origin.0].concurrency_probe
    }

    /// All origins that were ever requested.
    pub(super) fn named(&self) -> impl Iterator<Item = (&Origin, OriginNumber)> {
        self.numbers.iter().map(|(origin, &number)| (origin, number))
    }

    /// The queues of an origin. Visits all queues: for status output, not for decisions.
    pub(super) fn queues_to(&self, origin: OriginNumber) -> impl Iterator<Item = &EntryQueue> {
        let queues = self.all.values().map(|queued| &queued.queue);
        queues.filter(move |queue| queue.origin == origin)
    }

    pub(super) fn origins(&self) -> impl Iterator<Item = OriginNumber> + use<> {
        (0..self.origins.len()).map(OriginNumber)
    }

    pub(super) fn get(&self, id: EntryId) -> Option<&EntryQueue> {
        self.all.get(&id).map(|queued| &queued.queue)
    }

    pub(super) fn get_mut(&mut self, id: EntryId) -> Option<EntryQueueMut<'_>> {
        let queued = self.all.get_mut(&id)?;
        let origin = &mut self.origins[queued.queue.origin.0];
        Some(EntryQueueMut { queued, origin })
    }

    /// The origin that an entry's next fetch gets a slot of: the last target of its redirects, or the
    /// origin that the entry names.
    pub(super) fn origin_of(&mut self, entry: &CacheEntry) -> OriginNumber {
        let in_flight = self.get(entry.id).map(|queue| queue.origin);
        match in_flight.or_else(|| self.led.get(&entry.id).copied()) {
            Some(number) => number,
            None => self.number(&entry.origin),
        }
    }

    /// Moves an entry's queue to another origin. Its fetches keep their slots.
    pub(super) fn lead(&mut self, id: EntryId, to: OriginNumber) {
        let Some(queued) = self.all.get_mut(&id).filter(|queued| queued.queue.origin != to) else {
            return;
        };
        let from = std::mem::replace(&mut queued.queue.origin, to);
        queued.queue.has_moved = true;
        let left = &mut self.origins[from.0];
        left.note(id, queued.noted.take(), None);
        left.queues -= 1;
        let joined = &mut self.origins[to.0];
        queued.queue.share = joined.share_of(id);
        queued.noted = Rank::of(&queued.queue);
        joined.note(id, None, queued.noted);
        joined.queues += 1;
        let named = self.numbers.get(&queued.queue.entry.origin);
        if named == Some(&to) {
            self.led.remove(&id);
        } else {
            if self.led.len() >= MOST_LED && !self.led.contains_key(&id) {
                self.led.clear();
            }
            self.led.insert(id, to);
        }
    }

    /// A fetch takes a slot of an origin. It has one at a time.
    pub(super) fn take_slot(&mut self, origin: OriginNumber, fetch: FetchId) {
        self.origins[origin.0].fetching.insert(fetch);
    }

    /// A fetch releases its slot of an origin.
    pub(super) fn give_back_slot(&mut self, origin: OriginNumber, fetch: FetchId) {
        self.origins[origin.0].fetching.remove(&fetch);
    }

    /// The queue of an entry, created if there is none.
    pub(super) fn open(&mut self, entry: &Arc<CacheEntry>) -> EntryQueueMut<'_> {
        let number = self.origin_of(entry);
        let origin = &mut self.origins[number.0];
        let queued = self.all.entry(entry.id).or_insert_with(|| {
            origin.queues += 1;
            let mut queue = EntryQueue::new(Arc::clone(entry), number);
            queue.share = origin.share_of(entry.id);
            QueueAtOrigin { queue, noted: None }
        });
        EntryQueueMut { queued, origin }
    }

    /// Drops a queue that is idle.
    pub(super) fn forget_if_idle(&mut self, id: EntryId) {
        if let Some(idle) = self.get(id).filter(|queue| queue.is_idle()) {
            let origin = idle.origin;
            self.origins[origin.0].queues -= 1;
            self.all.remove(&id);
        }
    }

    /// All fetches, for changes that do not concern the order of entries.
    pub(super) fn fetches_mut(&mut self) -> impl Iterator<Item = &mut Fetch> {
        self.all.values_mut().flat_map(|queued| &mut queued.queue.fetches)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.all.keys().copied()
    }

    /// The entries with waiters that have lost chunks since the last check.
    pub(super) fn with_unseen_losses(&self) -> impl Iterator<Item = EntryId> {
        let all = self.all.iter();
        all.filter_map(|(&id, queued)| queued.queue.has_unseen_losses().then_some(id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The most urgent work for an origin; among equals, of the entry served least recently.
    /// Read-ahead for readers without a fetch in flight comes before other read-ahead.
    pub(super) fn next_wanted(&self, origin: OriginNumber) -> Option<(Priority, EntryId)> {
        let &(rank, id) = self.at(origin).wanting.first()?;
        Some((rank.priority, id))
    }

    /// The fetches that have slots of an origin.
    pub(super) fn fetches_to(&self, origin: OriginNumber) -> impl Iterator<Item = FetchId> {
        self.at(origin).fetching.iter().copied()
    }
}

impl OriginState {
    /// Number of fetches in flight.
    pub(super) fn running(&self) -> usize {
        self.fetching.len()
    }

    /// Maximum number of concurrent fetches of an entry, if it has a limit of its own.
    fn share_of(&self, id: EntryId) -> Option<usize> {
        self.limited.filter(|(limited, _)| *limited == id).map(|(_, most)| most)
    }

    /// Number of fetches it has answered.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// Returns true if nothing that may begin is wanted of it.
    pub(super) fn is_served(&self) -> bool {
        self.wanting.is_empty()
    }

    /// Returns true if something may begin for an entry other than this one.
    pub(super) fn is_wanted_by_another(&self, than: EntryId) -> bool {
        self.wanting.iter().any(|&(_, id)| id != than)
    }

    /// The entries that want something at this priority, and nothing more urgent.
    pub(super) fn wanting_at(&self, priority: Priority) -> impl Iterator<Item = EntryId> {
        let wanting = self.wanting.range((Rank::first(priority), EntryId(0))..);
        wanting.map_while(move |&(rank, id)| (rank.priority == priority).then_some(id))
    }

    /// Number of entries that share it.
    pub(super) fn queues(&self) -> usize {
        self.queues
    }

    fn note(&mut self, id: EntryId, before: Option<Rank>, now: Option<Rank>) {
        if let Some(rank) = before {
            self.wanting.remove(&(rank, id));
        }
        if let Some(rank) = now {
            self.wanting.insert((rank, id));
        }
    }
}

/// A mutable queue, except for its origin ([`EntryQueues::lead`]). Dropping it updates its origin.
pub(super) struct EntryQueueMut<'a> {
    queued: &'a mut QueueAtOrigin,
    origin: &'a mut OriginState,
}

impl Deref for EntryQueueMut<'_> {
    type Target = EntryQueue;

    fn deref(&self) -> &EntryQueue {
        &self.queued.queue
    }
}

impl DerefMut for EntryQueueMut<'_> {
    fn deref_mut(&mut self) -> &mut EntryQueue {
        &mut self.queued.queue
    }
}

impl Drop for EntryQueueMut<'_> {
    fn drop(&mut self) {
        let now = Rank::of(&self.queued.queue);
        let before = std::mem::replace(&mut self.queued.noted, now);
        if before != now {
            self.origin.note(self.queued.queue.entry.id, before, now);
        }
    }
}

#[cfg(test)]
impl EntryQueues {
    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryId, &EntryQueue)> {
        self.all.iter().map(|(&id, queued)| (id, &queued.queue))
    }

    /// Compares each origin's derived fields with its queues and the fetches.
    pub(super) fn check(&self) {
        for number in self.origins() {
            let here = || self.iter().filter(|(_, queue)| queue.origin == number);
            let wanting = here().filter_map(|(id, queue)| Some((Rank::of(queue)?, id)));
            let fetches = self.iter().flat_map(|(_, queue)| &queue.fetches);
            let fetching = fetches.filter(|fetch| fetch.origin == number);
            let at = self.at(number);
            assert_eq!(at.wanting, wanting.collect());
            assert_eq!(at.fetching, fetching.map(|fetch| fetch.id).collect());
            assert_eq!(at.queues, here().count());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    #[test]
    fn origins_beyond_the_most_share_an_account() {
        let mut queues = EntryQueues::default();
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
