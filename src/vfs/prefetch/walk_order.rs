//! What comes next in a directory, for a program that walks through it.

use crate::vfs::nodes::ino::Ino;
use crate::vfs::nodes::listed_names::Order;
use crate::vfs::nodes::node::Snapshot;

/// The names of a directory in the order of a walk. A rank is a name's place in that order.
#[derive(Clone, Copy)]
pub(super) struct Walked<'a> {
    pub(super) names: &'a Snapshot,
    pub(super) order: Order,
}

impl<'a> Walked<'a> {
    /// The rank of a node.
    pub(super) fn rank(self, ino: Ino) -> Option<usize> {
        self.names.rank(self.order, ino)
    }

    /// The positions from this rank on.
    fn from(self, rank: usize) -> impl Iterator<Item = usize> + 'a {
        self.names.listed.from(self.order, rank)
    }

    /// The positions of the directories after this one, or of all of them.
    pub(super) fn directories_after(self, ino: Option<Ino>) -> impl Iterator<Item = usize> + 'a {
        let start = match self.names.directories() {
            // Stops early, because there may be a million files.
            0 => usize::MAX,
            _ => ino.map_or(0, |ino| self.rank(ino).map_or(usize::MAX, |rank| rank + 1)),
        };
        self.from(start).filter(move |&at| self.names.is_directory(at))
    }

    /// Whether two directories are at most `distance` directories apart, in either direction.
    pub(super) fn are_directories_near(self, one: Ino, other: Ino, distance: usize) -> bool {
        let Some((one, other)) = self.rank(one).zip(self.rank(other)) else {
            return false;
        };
        let between = self.from(one.min(other)).take(one.abs_diff(other));
        between
            .filter(|&at| self.names.is_directory(at))
            .take(distance + 1)
            .count()
            <= distance
    }

    /// The rank of the next file after this rank.
    pub(super) fn next_file(self, after: usize) -> Option<usize> {
        let next = self.from(after + 1).position(|at| !self.names.is_directory(at))?;
        Some(after + 1 + next)
    }

    /// For the ranks `from..until`: the ranks and positions of files of exactly known size between 1 and `limit` bytes.
    pub(super) fn small_files(self, from: usize, until: usize, limit: u64) -> Vec<(usize, usize)> {
        let is_small = |at| {
            self.names
                .exact_size(at)
                .is_some_and(|size| (1..=limit).contains(&size))
        };
        let ranked = (from..until).zip(self.from(from));
        ranked.filter(|&(_, at)| is_small(at)).collect()
    }
}
