//! All flights, and per origin the order in which they are served.
//!
//! Each decision needs one origin's most urgent entry, its running fetches and how many share it, and a mount may have
//! thousands of entries that want something. So this is kept up to date rather than looked for: a flight can only be
//! changed through a [`FlightMut`], which takes note of what has become of it when it is dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::entry_queue::EntryQueue;
use super::{FetchId, Priority};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::fetch::concurrency_probe::ConcurrencyProbe;
use crate::cache::fetch::connection_limit::ConnectionLimit;
use crate::cache::fetch::fetch_size::FetchSize;
use crate::cache::fetch::request_rate::RequestRate;
use crate::cache::key::EntryId;
use crate::http::{MOST_ORIGINS, Origin};

/// The number of an origin within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OriginNumber(usize);

/// The entries for which anything is wanted, in flight or waited for.
#[derive(Debug, Default)]
pub(super) struct EntryQueues {
    all: BTreeMap<EntryId, Kept>,
    numbers: HashMap<Origin, OriginNumber>,
    /// By number. An origin is not forgotten: how it answers is worth knowing the next time. One of the last is for all that are
    /// too many ([`MOST_ORIGINS`]).
    origins: Vec<AtOrigin>,
}

/// What goes on at one origin. **All but pace, tolerance, breadth and rate is what a look at all its flights would give.**
#[derive(Debug, Default)]
pub(super) struct AtOrigin {
    /// How it answers.
    pub(super) pace: FetchSize,
    /// How many connections it bears.
    pub(super) tolerance: ConnectionLimit,
    /// Over how many of them its bytes come.
    pub(super) breadth: ConcurrencyProbe,
    /// How fast requests may follow one another.
    pub(super) rate: RequestRate,
    /// The entries that want something and do not rest, in the order in which they are to be served.
    wanting: BTreeSet<(Rank, EntryId)>,
    /// The entries that have fetches under way.
    fetching: BTreeSet<EntryId>,
    /// How many fetches that are.
    running: usize,
    /// How many flights it has.
    queues: usize,
    /// How many fetches it has answered.
    answers: u64,
    /// The entry that gets only so many fetches.
    limited: Option<(EntryId, usize)>,
}

/// A flight, and what its origin has noted of it.
#[derive(Debug)]
struct Kept {
    flight: EntryQueue,
    noted: Noted,
}

/// What of a flight decides about its origin's order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Noted {
    wants: Option<Rank>,
    fetches: usize,
}

/// Who is served before whom; the lowest is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Of its most urgent chunk.
    priority: Priority,
    /// Whether something comes for its readers meanwhile. One of whom nothing does will be blocked in a moment: served after others, it
    /// would take the slot from one that has only just begun, and that costs a connection.
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

    fn of(flight: &EntryQueue) -> Option<Rank> {
        let priority = flight.next_priority()?;
        Some(Rank {
            priority,
            is_fetching_ahead: priority == Priority::High && !flight.fetches.is_empty(),
            turn: flight.turn,
        })
    }
}

impl Noted {
    fn of(flight: &EntryQueue) -> Noted {
        Noted {
            wants: Rank::of(flight),
            fetches: flight.fetches.len(),
        }
    }
}

impl EntryQueues {
    /// The number of an origin, which is made up when it is new.
    pub(super) fn number(&mut self, origin: &Origin) -> OriginNumber {
        if let Some(&number) = self.numbers.get(origin) {
            return number;
        }
        let nowhere = Origin::nowhere();
        if self.numbers.len() >= MOST_ORIGINS && *origin != nowhere {
            return self.number(&nowhere);
        }
        let number = OriginNumber(self.origins.len());
        self.origins.push(AtOrigin::default());
        self.numbers.insert(origin.clone(), number);
        number
    }

    pub(super) fn at(&self, origin: OriginNumber) -> &AtOrigin {
        &self.origins[origin.0]
    }

    pub(super) fn pace_mut(&mut self, origin: OriginNumber) -> &mut FetchSize {
        &mut self.origins[origin.0].pace
    }

    /// Notes which entry gets only so many fetches. Gives the one that did before.
    pub(super) fn limit(&mut self, origin: OriginNumber, now: Option<(EntryId, usize)>) -> Option<(EntryId, usize)> {
        std::mem::replace(&mut self.origins[origin.0].limited, now)
    }

    /// The origin has answered a fetch.
    pub(super) fn note_answer(&mut self, origin: OriginNumber) {
        self.origins[origin.0].answers += 1;
    }

    pub(super) fn tolerance_mut(&mut self, origin: OriginNumber) -> &mut ConnectionLimit {
        &mut self.origins[origin.0].tolerance
    }

    pub(super) fn rate_mut(&mut self, origin: OriginNumber) -> &mut RequestRate {
        &mut self.origins[origin.0].rate
    }

    pub(super) fn breadth_mut(&mut self, origin: OriginNumber) -> &mut ConcurrencyProbe {
        &mut self.origins[origin.0].breadth
    }

    /// All origins that anything was ever wanted of.
    pub(super) fn named(&self) -> impl Iterator<Item = (&Origin, OriginNumber)> {
        self.numbers.iter().map(|(origin, &number)| (origin, number))
    }

    /// The flights to an origin. Looks at all flights: for people, not for decisions.
    pub(super) fn flights_to(&self, origin: OriginNumber) -> impl Iterator<Item = &EntryQueue> {
        let queues = self.all.values().map(|kept| &kept.flight);
        queues.filter(move |flight| flight.origin == origin)
    }

    pub(super) fn origins(&self) -> impl Iterator<Item = OriginNumber> + use<> {
        (0..self.origins.len()).map(OriginNumber)
    }

    pub(super) fn get(&self, id: EntryId) -> Option<&EntryQueue> {
        self.all.get(&id).map(|kept| &kept.flight)
    }

    pub(super) fn get_mut(&mut self, id: EntryId) -> Option<FlightMut<'_>> {
        let kept = self.all.get_mut(&id)?;
        let origin = &mut self.origins[kept.flight.origin.0];
        Some(FlightMut { kept, origin })
    }

    /// The flight of an entry; a new one if it has none.
    pub(super) fn open(&mut self, entry: &Arc<CacheEntry>) -> FlightMut<'_> {
        let number = self.number(&entry.origin);
        let origin = &mut self.origins[number.0];
        let kept = self.all.entry(entry.id).or_insert_with(|| {
            origin.queues += 1;
            let mut flight = EntryQueue::new(Arc::clone(entry), number);
            let limited = origin.limited.filter(|(limited, _)| *limited == entry.id);
            flight.share = limited.map(|(_, most)| most);
            Kept {
                flight,
                noted: Noted::default(),
            }
        });
        FlightMut { kept, origin }
    }

    /// Forgets a flight if there is nothing left of it.
    pub(super) fn forget_if_idle(&mut self, id: EntryId) {
        if let Some(idle) = self.get(id).filter(|flight| flight.is_idle()) {
            let origin = idle.origin;
            self.origins[origin.0].queues -= 1;
            self.all.remove(&id);
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.all.keys().copied()
    }

    /// The entries with waiters that have lost chunks since the last check.
    pub(super) fn with_unseen_losses(&self) -> impl Iterator<Item = EntryId> {
        let all = self.all.iter();
        all.filter_map(|(&id, kept)| kept.flight.has_unseen_losses().then_some(id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The most urgent work for an origin; among equals, of the entry that was served longest ago. What is read ahead for those of whom
    /// nothing is under way comes before what is for others.
    pub(super) fn next_wanted(&self, origin: OriginNumber) -> Option<(Priority, EntryId)> {
        let &(rank, id) = self.at(origin).wanting.first()?;
        Some((rank.priority, id))
    }

    /// The fetches under way to an origin.
    pub(super) fn fetches_to(&self, origin: OriginNumber) -> impl Iterator<Item = FetchId> {
        let queues = self.at(origin).fetching.iter().filter_map(|&id| self.get(id));
        queues.flat_map(|flight| flight.fetches.iter().copied())
    }
}

impl AtOrigin {
    /// How many fetches are under way.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// How many fetches it has answered.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// Whether nothing that may begin is wanted of it.
    pub(super) fn is_served(&self) -> bool {
        self.wanting.is_empty()
    }

    /// Whether an entry other than this one has something to be begun for it.
    pub(super) fn is_wanted_by_another(&self, than: EntryId) -> bool {
        self.wanting.iter().any(|&(_, id)| id != than)
    }

    /// The entries that want something at this priority, and nothing more urgent.
    pub(super) fn wanting_at(&self, priority: Priority) -> impl Iterator<Item = EntryId> {
        let wanting = self.wanting.range((Rank::first(priority), EntryId(0))..);
        wanting.map_while(move |&(rank, id)| (rank.priority == priority).then_some(id))
    }

    /// How many entries share it.
    pub(super) fn queues(&self) -> usize {
        self.queues
    }

    fn note(&mut self, id: EntryId, before: Noted, now: Noted) {
        if let Some(rank) = before.wants {
            self.wanting.remove(&(rank, id));
        }
        if let Some(rank) = now.wants {
            self.wanting.insert((rank, id));
        }
        if now.fetches == 0 {
            self.fetching.remove(&id);
        } else {
            self.fetching.insert(id);
        }
        self.running = self.running + now.fetches - before.fetches;
    }
}

/// A flight that may be changed. Its origin is told when this is dropped.
pub(super) struct FlightMut<'a> {
    kept: &'a mut Kept,
    origin: &'a mut AtOrigin,
}

impl Deref for FlightMut<'_> {
    type Target = EntryQueue;

    fn deref(&self) -> &EntryQueue {
        &self.kept.flight
    }
}

impl DerefMut for FlightMut<'_> {
    fn deref_mut(&mut self) -> &mut EntryQueue {
        &mut self.kept.flight
    }
}

impl Drop for FlightMut<'_> {
    fn drop(&mut self) {
        let now = Noted::of(&self.kept.flight);
        let before = std::mem::replace(&mut self.kept.noted, now);
        if before != now {
            self.origin.note(self.kept.flight.entry.id, before, now);
        }
    }
}

#[cfg(test)]
impl EntryQueues {
    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryId, &EntryQueue)> {
        self.all.iter().map(|(&id, kept)| (id, &kept.flight))
    }

    /// Compares what is kept of each origin with what a look at all flights gives.
    pub(super) fn check(&self) {
        for number in self.origins() {
            let here = || self.iter().filter(|(_, flight)| flight.origin == number);
            let wanting = here().filter_map(|(id, flight)| Some((Rank::of(flight)?, id)));
            let fetching = here().filter(|(_, flight)| !flight.fetches.is_empty());
            let at = self.at(number);
            assert_eq!(at.wanting, wanting.collect());
            assert_eq!(at.fetching, fetching.map(|(id, _)| id).collect());
            assert_eq!(
                at.running,
                here().map(|(_, flight)| flight.fetches.len()).sum::<usize>()
            );
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
