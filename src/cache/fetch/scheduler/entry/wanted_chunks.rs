//! The chunks of an entry that are wanted, by priority. A chunk keeps its reasons while it is in
//! flight, so nothing has to be moved when a fetch begins, is cut short, or is preempted.

use std::ops::Range;

use rangemap::RangeSet;

use crate::cache::chunk::common;
use crate::cache::fetch::scheduler::action::{PRIORITIES, Priority};

/// Sets of chunks, one for each priority. A chunk that is wanted for several reasons is in several
/// sets: the most urgent decides, and when that reason ends the others remain.
#[derive(Debug, Default)]
pub(in crate::cache::fetch::scheduler) struct WantedChunks([RangeSet<u64>; 4]);

impl WantedChunks {
    pub(super) fn add(&mut self, chunks: Range<u64>, priority: Priority) {
        if !chunks.is_empty() {
            self.0[priority as usize].insert(chunks);
        }
    }

    /// Removes chunks at all priorities.
    pub(in crate::cache::fetch::scheduler) fn remove(&mut self, chunks: Range<u64>) {
        if !chunks.is_empty() {
            self.0.iter_mut().for_each(|set| set.remove(chunks.clone()));
        }
    }

    /// Removes chunks at this priority only.
    pub(in crate::cache::fetch::scheduler) fn remove_at(&mut self, chunks: Range<u64>, priority: Priority) {
        if !chunks.is_empty() {
            self.0[priority as usize].remove(chunks);
        }
    }

    /// The runs of these chunks that are wanted at this priority.
    pub(super) fn within<'a>(
        &'a self,
        priority: Priority,
        chunks: &'a Range<u64>,
    ) -> impl Iterator<Item = Range<u64>> + use<'a> {
        // An empty range overlaps a run that it lies in.
        let runs = (!chunks.is_empty()).then(|| self.0[priority as usize].overlapping(chunks));
        runs.into_iter().flatten().map(move |run| common(run, chunks))
    }

    /// The most urgent priority at which any of these chunks is wanted.
    pub(super) fn most_urgent(&self, chunks: &Range<u64>) -> Option<Priority> {
        PRIORITIES
            .into_iter()
            .find(|&priority| self.within(priority, chunks).next().is_some())
    }

    /// The end of the last of these chunks that is wanted at this priority or a more urgent one,
    /// exclusive.
    pub(super) fn end(&self, chunks: &Range<u64>, at_least: Priority) -> Option<u64> {
        let priorities = PRIORITIES.into_iter().filter(|&priority| priority <= at_least);
        priorities
            .flat_map(|priority| self.within(priority, chunks))
            .map(|run| run.end)
            .max()
    }

    /// The chunks that are wanted at this priority; they may be wanted at others too.
    pub(in crate::cache::fetch::scheduler) fn at(&self, priority: Priority) -> &RangeSet<u64> {
        &self.0[priority as usize]
    }

    /// The wanted chunks, in runs that overlap where there are several reasons.
    pub(in crate::cache::fetch::scheduler) fn runs(&self) -> impl Iterator<Item = &Range<u64>> {
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

    pub(in crate::cache::fetch::scheduler) fn is_empty(&self) -> bool {
        self.0.iter().all(RangeSet::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_keeps_its_remaining_priorities() {
        let (mut wants, all) = (WantedChunks::default(), 0..100);
        wants.add(0..10, Priority::Low);
        wants.add(5..15, Priority::Critical);
        assert_eq!(
            (wants.most_urgent(&all), wants.in_a_row(0)),
            (Some(Priority::Critical), 15)
        );
        wants.remove_at(all.clone(), Priority::Critical);
        assert_eq!(
            (wants.most_urgent(&all), wants.end(&all, Priority::Low)),
            (Some(Priority::Low), Some(10))
        );
        assert_eq!(
            (wants.end(&all, Priority::Medium), wants.most_urgent(&(10..20))),
            (None, None)
        );
        assert_eq!(wants.within(Priority::Low, &(2..6)).next(), Some(2..6));
    }
}
