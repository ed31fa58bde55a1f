//! The chunks of an entry that are wanted, by priority.

use std::ops::Range;

use rangemap::RangeSet;

use super::{PRIORITIES, Priority};
use crate::cache::chunk::common;

/// Sets of chunks, one for each priority. A chunk that is wanted for several reasons is in several
/// sets: the most urgent decides, and when that reason ends the others remain.
#[derive(Debug, Default)]
pub(super) struct WantedChunks([RangeSet<u64>; 4]);

impl WantedChunks {
    pub(super) fn add(&mut self, chunks: Range<u64>, priority: Priority) {
        if !chunks.is_empty() {
            self.0[priority as usize].insert(chunks);
        }
    }

    /// Number of wanted chunks.
    pub(super) fn count(&self) -> u64 {
        let all: RangeSet<u64> = self.0.iter().flat_map(RangeSet::iter).cloned().collect();
        all.iter().map(|run| run.end - run.start).sum()
    }

    /// Adds all chunks of another set.
    pub(super) fn add_all(&mut self, other: WantedChunks) {
        for (set, added) in self.0.iter_mut().zip(other.0) {
            set.extend(added);
        }
    }

    /// Removes chunks at all priorities.
    pub(super) fn remove(&mut self, chunks: Range<u64>) {
        if !chunks.is_empty() {
            self.0.iter_mut().for_each(|set| set.remove(chunks.clone()));
        }
    }

    /// Removes chunks at this priority only. Returns true if any of them was wanted at it.
    pub(super) fn remove_at(&mut self, chunks: Range<u64>, priority: Priority) -> bool {
        if chunks.is_empty() {
            return false;
        }
        let set = &mut self.0[priority as usize];
        let had_any = set.overlaps(&chunks);
        set.remove(chunks);
        had_any
    }

    /// Moves chunks from one priority to another. Returns true if any of them was wanted at `from`.
    pub(super) fn demote(&mut self, chunks: &Range<u64>, from: Priority, to: Priority) -> bool {
        if chunks.is_empty() {
            return false;
        }
        let wanted: Vec<_> = self.0[from as usize]
            .overlapping(chunks)
            .map(|run| common(run, chunks))
            .collect();
        self.0[from as usize].remove(chunks.clone());
        self.0[to as usize].extend(wanted.iter().cloned());
        !wanted.is_empty()
    }

    /// Removes chunks, and returns them with their priorities.
    pub(super) fn take(&mut self, chunks: &Range<u64>) -> WantedChunks {
        let mut taken = WantedChunks::default();
        if chunks.is_empty() {
            return taken;
        }
        for (set, taken) in self.0.iter_mut().zip(&mut taken.0) {
            for run in set.overlapping(chunks) {
                taken.insert(common(run, chunks));
            }
            set.remove(chunks.clone());
        }
        taken
    }

    /// The chunks that are wanted at this priority; they may be wanted at others too.
    pub(super) fn at(&self, priority: Priority) -> &RangeSet<u64> {
        &self.0[priority as usize]
    }

    /// The wanted chunks, in runs that overlap where there are several reasons.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter().flat_map(RangeSet::iter)
    }

    /// Number of consecutive wanted chunks from this one on, at any priority.
    pub(super) fn in_a_row(&self, first: u64) -> u64 {
        let mut end = first;
        while let Some(run) = self.0.iter().find_map(|set| set.get(&end)) {
            end = run.end;
        }
        end - first
    }

    /// The first wanted chunk from this one on, at any priority.
    pub(super) fn next_from(&self, first: u64) -> Option<u64> {
        let next_in = |set: &RangeSet<u64>| {
            let run = set.overlapping(&(first..u64::MAX)).next()?;
            Some(run.start.max(first))
        };
        self.0.iter().filter_map(next_in).min()
    }

    pub(super) fn most_urgent(&self) -> Option<Priority> {
        PRIORITIES.into_iter().find(|&p| !self.at(p).is_empty())
    }

    /// The end of the last chunk that is wanted at this priority or a more urgent one, exclusive.
    pub(super) fn end(&self, at_least: Priority) -> Option<u64> {
        let sets = self.0[..=at_least as usize].iter();
        sets.filter_map(|set| set.last()).map(|run| run.end).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chunk_that_loses_its_most_urgent_reason_keeps_the_others() {
        let mut wants = WantedChunks::default();
        wants.add(0..10, Priority::Low);
        wants.add(5..15, Priority::Critical);
        assert_eq!((wants.most_urgent(), wants.in_a_row(0)), (Some(Priority::Critical), 15));
        assert!(wants.remove_at(0..100, Priority::Critical));
        assert_eq!(
            (wants.most_urgent(), wants.end(Priority::Low)),
            (Some(Priority::Low), Some(10))
        );
        assert!(!wants.remove_at(0..100, Priority::High));
        assert_eq!(wants.end(Priority::Medium), None);
        assert_eq!((wants.next_from(3), wants.next_from(10)), (Some(3), None));
    }

    proptest! {
        #[test]
        fn what_is_taken_and_added_again_is_as_it_was(adds in prop::collection::vec((0u64..50, 1u64..20, 0usize..4), 0..20), a in 0u64..60, len in 0u64..30) {
            let mut wants = WantedChunks::default();
            for (start, len, priority) in adds {
                wants.add(start..start + len, PRIORITIES[priority]);
            }
            let before = wants.0.clone();
            let taken = wants.take(&(a..a + len));
            prop_assert!(wants.runs().all(|run| run.end <= a || run.start >= a + len || len == 0));
            prop_assert!(taken.runs().all(|run| run.start >= a && run.end <= a + len));
            wants.add_all(taken);
            prop_assert_eq!(wants.0, before);
        }
    }
}
