//! The state of one origin: what was measured of it, the fetches that have its slots, and the order in
//! which entries get them.

use std::collections::BTreeSet;

use crate::cache::fetch::concurrency_probe::ConcurrencyProbe;
use crate::cache::fetch::fetch_size::FetchSize;
use crate::cache::fetch::scheduler::action::{FetchId, Priority};
use crate::cache::key::EntryId;
use crate::origin::{FetchLimit, RequestRate};

/// The number of an origin, unique within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache::fetch::scheduler) struct OriginNumber(pub(super) usize);

/// The state of one origin. **`wanting` and `queues` follow from its queues, `fetching` from the
/// fetches.**
#[derive(Debug, Default)]
pub(in crate::cache::fetch::scheduler) struct OriginState {
    /// How it answers, and how long a fetch should be.
    pub(in crate::cache::fetch::scheduler) lines: Lines,
    /// The number of fetches that it accepts.
    pub(in crate::cache::fetch::scheduler) fetch_limit: FetchLimit<EntryId>,
    /// Over how many connections its bytes come best.
    pub(in crate::cache::fetch::scheduler) concurrency_probe: ConcurrencyProbe,
    /// How fast requests may follow one another.
    pub(in crate::cache::fetch::scheduler) rate: RequestRate<EntryId>,
    /// The number of fetches it has answered.
    pub(in crate::cache::fetch::scheduler) answers: u64,
    /// Maximum number of concurrent fetches, however many it accepts.
    most_connections: usize,
    /// The number of its queues.
    pub(in crate::cache::fetch::scheduler) queues: usize,
    /// The entries with wanted chunks that do not rest, in the order in which they are served.
    wanting: BTreeSet<(Rank, EntryId)>,
    /// The fetches that have its slots.
    fetching: BTreeSet<FetchId>,
}

/// The lines that its bytes come over.
#[derive(Debug, Default)]
pub(in crate::cache::fetch::scheduler) struct Lines {
    /// Its own.
    pub(in crate::cache::fetch::scheduler) own: FetchSize,
    /// That of a tier, which is nearer or has to fetch first.
    pub(in crate::cache::fetch::scheduler) of_tier: FetchSize,
    /// True if its last answer came from a tier.
    pub(in crate::cache::fetch::scheduler) is_of_a_tier: bool,
}

/// The dispatch order of entries; the lowest rank is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cache::fetch::scheduler) struct Rank {
    /// The priority of its most urgent chunk.
    pub(in crate::cache::fetch::scheduler) priority: Priority,
    /// True if a fetch brings something for its readers meanwhile. Readers without one block in a
    /// moment. Served after others, such an entry would take the slot of a fetch that has only just
    /// begun, and that costs a connection.
    pub(in crate::cache::fetch::scheduler) is_fetching_ahead: bool,
    /// When it was last served.
    pub(in crate::cache::fetch::scheduler) turn: u64,
}

impl OriginState {
    /// Allows this many concurrent fetches from now on.
    pub(super) fn set_most_connections(&mut self, most: usize) {
        self.most_connections = most;
    }

    /// An origin that gets at most this many connections.
    pub(super) fn new(most_connections: usize) -> OriginState {
        OriginState {
            most_connections,
            ..OriginState::default()
        }
    }

    /// How its bytes come at present, and how long a fetch should be.
    pub(in crate::cache::fetch::scheduler) fn fetch_size(&self) -> &FetchSize {
        if self.lines.is_of_a_tier {
            &self.lines.of_tier
        } else {
            &self.lines.own
        }
    }

    /// Maximum number of concurrent fetches.
    pub(in crate::cache::fetch::scheduler) fn connections(&self) -> usize {
        self.fetch_limit.fetches(self.most_connections)
    }

    /// Maximum number of concurrent fetches that no reader is blocked on.
    pub(in crate::cache::fetch::scheduler) fn background_connections(&self) -> usize {
        self.concurrency_probe.of(self.connections())
    }

    /// Returns true if there are more files than connections.
    pub(in crate::cache::fetch::scheduler) fn is_crowded(&self) -> bool {
        self.queues > self.connections()
    }

    /// Number of fetches in flight.
    pub(in crate::cache::fetch::scheduler) fn running(&self) -> usize {
        self.fetching.len()
    }

    /// The fetches that have its slots.
    pub(in crate::cache::fetch::scheduler) fn fetches(&self) -> impl Iterator<Item = FetchId> {
        self.fetching.iter().copied()
    }

    /// Maximum number of concurrent fetches of an entry, if it has a limit of its own.
    pub(super) fn share_of(&self, id: EntryId) -> Option<usize> {
        let share = self.fetch_limit.share();
        share.filter(|(limited, _)| *limited == id).map(|(_, most)| most)
    }

    /// Returns true if nothing that may begin is wanted of it.
    pub(in crate::cache::fetch::scheduler) fn is_served(&self) -> bool {
        self.wanting.is_empty()
    }

    /// Returns true if something may begin for an entry other than this one.
    pub(in crate::cache::fetch::scheduler) fn is_wanted_by_another(&self, than: EntryId) -> bool {
        self.wanting.iter().any(|&(_, id)| id != than)
    }

    /// The most urgent work; among equals, of the entry served least recently. Read-ahead for readers
    /// without a fetch in flight comes before other read-ahead.
    pub(in crate::cache::fetch::scheduler) fn next_wanted(&self) -> Option<(Priority, EntryId)> {
        let &(rank, id) = self.wanting.first()?;
        Some((rank.priority, id))
    }

    /// Number of entries that wait for a slot at `Critical`, counted up to `most`.
    pub(in crate::cache::fetch::scheduler) fn waiting_critical(&self, most: usize) -> usize {
        let wanting = self.wanting.iter().take(most);
        wanting
            .take_while(|(rank, _)| rank.priority == Priority::Critical)
            .count()
    }

    /// A fetch takes a slot. It has one of one origin at a time.
    pub(in crate::cache::fetch::scheduler) fn take_slot(&mut self, fetch: FetchId) {
        self.fetching.insert(fetch);
    }

    pub(in crate::cache::fetch::scheduler) fn release_slot(&mut self, fetch: FetchId) {
        self.fetching.remove(&fetch);
    }

    /// The rank of an entry changes; `None`: nothing may begin for it.
    pub(super) fn rerank(&mut self, id: EntryId, before: Option<Rank>, now: Option<Rank>) {
        if before == now {
            return;
        }
        if let Some(rank) = before {
            self.wanting.remove(&(rank, id));
        }
        if let Some(rank) = now {
            self.wanting.insert((rank, id));
        }
    }

    /// Compares the fields that follow from queues and fetches with these.
    #[cfg(test)]
    pub(super) fn check(&self, wanting: BTreeSet<(Rank, EntryId)>, fetching: BTreeSet<FetchId>, queues: usize) {
        assert_eq!(self.wanting, wanting);
        assert_eq!(self.fetching, fetching);
        assert_eq!(self.queues, queues);
    }
}
