//! What goes on for one entry: which of its chunks are wanted, in flight and waited for.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::{FetchId, PRIORITIES, Priority, WaiterId};
use crate::cache::entry::{CacheEntry, EntryId};

/// What goes on for one entry.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) entry: Arc<CacheEntry>,
    /// Chunks to be fetched, by priority. **The four sets are disjoint.**
    pub(super) wanted: [RangeSet<u64>; 4],
    pub(super) fetches: Vec<FetchId>,
    pub(super) waiters: Vec<Waiter>,
    /// When it last started a fetch.
    pub(super) turn: u64,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    /// The bytes it needs; may reach past the end of the file.
    pub(super) bytes: Range<u64>,
}

/// A running fetch.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) entry: EntryId,
    pub(super) chunks: Range<u64>,
    /// Byte offset up to which it has written.
    pub(super) watermark: u64,
    /// The period in which it last brought anything; `None` while nothing has come.
    pub(super) moved_in: Option<u64>,
    /// How urgent it is when nobody is blocked on it; `None` when nobody wants it then.
    pub(super) base: Option<Priority>,
}

impl Flight {
    pub(super) fn new(entry: Arc<CacheEntry>) -> Flight {
        Flight {
            entry,
            wanted: Default::default(),
            fetches: Vec::new(),
            waiters: Vec::new(),
            turn: 0,
        }
    }

    /// How many chunks the file has. Before it is settled at least one: that is fetched to find out.
    pub(super) fn chunk_count(&self) -> u64 {
        let count = self.entry.chunk.count(self.entry.size());
        if self.entry.settled().is_some() {
            count
        } else {
            count.max(1)
        }
    }

    pub(super) fn is_present(&self, chunk: u64) -> bool {
        self.entry
            .settled()
            .is_some_and(|settled| settled.presence.contains(chunk))
    }

    /// The chunks that these bytes touch, of those that the file has. For bytes past the end that a
    /// listing gave it is the first chunk: it tells where the end really is.
    pub(super) fn touched(&self, bytes: &Range<u64>) -> Range<u64> {
        let size = self.entry.size();
        let touched = self.entry.chunk.touched(&(bytes.start.min(size)..bytes.end.min(size)));
        if touched.is_empty() && !bytes.is_empty() && self.entry.settled().is_none() {
            return 0..1;
        }
        touched
    }

    /// The runs of chunks in `chunks` that are missing.
    pub(super) fn missing_in(&self, chunks: &Range<u64>) -> Vec<Range<u64>> {
        let Some(settled) = self.entry.settled() else {
            return vec![chunks.clone()];
        };
        let mut runs = Vec::new();
        let mut at = chunks.start;
        while let Some(start) = settled.presence.next_missing(&(at..chunks.end)) {
            at = (start..chunks.end)
                .find(|&chunk| settled.presence.contains(chunk))
                .unwrap_or(chunks.end);
            runs.push(start..at);
        }
        runs
    }

    pub(super) fn want(&mut self, chunks: Range<u64>, priority: Priority) {
        if chunks.is_empty() {
            return;
        }
        let mut parts = RangeSet::from_iter([chunks.clone()]);
        for urgent in PRIORITIES.into_iter().take_while(|&urgent| urgent < priority) {
            for part in self.wanted[urgent as usize].overlapping(&chunks) {
                parts.remove(part.clone());
            }
        }
        for part in parts.iter() {
            for set in &mut self.wanted {
                set.remove(part.clone());
            }
            self.wanted[priority as usize].insert(part.clone());
        }
    }

    pub(super) fn unwant(&mut self, chunks: Range<u64>) {
        if !chunks.is_empty() {
            self.wanted.iter_mut().for_each(|set| set.remove(chunks.clone()));
        }
    }

    pub(super) fn wanted_at(&self, chunk: u64) -> Option<Priority> {
        PRIORITIES
            .into_iter()
            .find(|&p| self.wanted[p as usize].contains(&chunk))
    }

    /// How many chunks in a row are wanted from this one on, however urgently.
    pub(super) fn wanted_in_a_row(&self, first: u64) -> u64 {
        let mut end = first;
        while let Some(run) = self.wanted.iter().find_map(|set| set.get(&end)) {
            end = run.end;
        }
        end - first
    }

    pub(super) fn most_urgent(&self) -> Option<Priority> {
        PRIORITIES.into_iter().find(|&p| !self.wanted[p as usize].is_empty())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.most_urgent().is_none() && self.fetches.is_empty() && self.waiters.is_empty()
    }
}

impl Fetch {
    pub(super) fn has_begun(&self) -> bool {
        self.moved_in.is_some()
    }

    /// Whether it has brought anything in this period or the last.
    pub(super) fn is_moving(&self, period: u64) -> bool {
        self.moved_in.is_some_and(|moved| moved + 1 >= period)
    }
}

/// What a fetch is worth without its waiters, once something more of it is wanted. `Critical`
/// counts for nothing here: it lasts only as long as a waiter does.
pub(super) fn more_urgent(base: Option<Priority>, wanted: Priority) -> Option<Priority> {
    if wanted == Priority::Critical {
        base
    } else {
        Some(base.map_or(wanted, |base| base.min(wanted)))
    }
}
