//! Detects walks over directories and over files, as plain values: which walk a step continues, and what to prefetch.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pace::Pace;
use super::walk_order::Walked;
use crate::cache::{CacheEntry, SMALL_FILE};
use crate::vfs::nodes::ino::Ino;
use crate::vfs::nodes::listed_names::Order;
use crate::vfs::nodes::node::Snapshot;

/// Most listings prefetched ahead. As many of them are in flight at a time as the origin's
/// [`NameSlots`](crate::origin::NameSlots) allow; the others wait, so that the next starts the moment one ends.
const DIRECTORIES_AHEAD: usize = 32;

/// Most walks tracked at a time, over directories and over files each: threads of a scanner, or a few programs.
/// Prefetched files of an abandoned walk stay open until this many others have begun.
const WALKS: usize = 4;

/// A walk over directories.
#[derive(Debug)]
struct DirectoryWalk {
    last: Ino,
    /// The directory that contains all of its steps: where it began, as far as is known. Nothing outside it is prefetched:
    /// a program that searches one directory does not go on beside it.
    top: Ino,
    order: Order,
    pace: Pace,
}

/// The walks over directories; the one with the latest step is last.
#[derive(Debug, Default)]
pub(super) struct DirectoryWalks(VecDeque<DirectoryWalk>);

impl DirectoryWalks {
    /// Notes that a program opens directory `now`: a walk that leads there continues, or a new one begins. Returns
    /// what to prefetch. `widened` is the smallest directory that contains a walk's top, and `now`.
    pub(super) fn step(
        &mut self,
        now: Ino,
        comes_next: impl Fn(Ino, Order) -> bool,
        widened: impl Fn(Ino) -> Ino,
    ) -> DirectoriesAhead {
        if self.0.iter().any(|walk| walk.last == now) {
            return DirectoriesAhead {
                count: 0,
                order: Order::Listed,
                top: now,
            };
        }
        let orders = |walk: &DirectoryWalk| walk.pace.orders(walk.order);
        let goes_on = self.0.iter().enumerate().rev().find_map(|(at, walk)| {
            let order = orders(walk).find(|&order| comes_next(walk.last, order))?;
            Some((at, order))
        });
        let (pace, order, top) = match goes_on.and_then(|(at, order)| Some((self.0.remove(at)?, order))) {
            Some((walk, order)) => (walk.pace.after(true), order, widened(walk.top)),
            None => (Pace::default(), Order::Listed, now),
        };
        self.0.push_back(DirectoryWalk {
            last: now,
            top,
            order,
            pace,
        });
        if self.0.len() > WALKS {
            self.0.pop_front();
        }
        DirectoriesAhead {
            count: pace.ahead(DIRECTORIES_AHEAD),
            order,
            top,
        }
    }
}

/// The listings to prefetch for a walk over directories.
pub(super) struct DirectoriesAhead {
    /// How many.
    pub(super) count: usize,
    pub(super) order: Order,
    /// The directory that all of them are in.
    pub(super) top: Ino,
}

/// A walk over the files of one directory.
struct FileWalk {
    directory: Ino,
    /// Identifies the walk. Prefetches that were started for an earlier walk are not wanted any more.
    serial: u64,
    /// The file that was opened last.
    last: Option<Ino>,
    /// Its rank in the walk's order.
    reached: Option<usize>,
    order: Order,
    pace: Pace,
    /// Prefetched files: rank in the walk's order, and entry. The walk keeps them open until it reaches them. **Ranks
    /// are above `reached`.**
    ahead: Vec<(usize, Arc<CacheEntry>)>,
    /// Rank up to which files were considered for prefetch, exclusive.
    looked_at: usize,
}

/// The walks over files; the one with the latest step is last.
#[derive(Default)]
pub(super) struct FileWalks {
    walks: VecDeque<FileWalk>,
    serials: u64,
}

/// What an opened file causes.
pub(super) struct Step {
    /// The walk that took the step.
    pub(super) serial: u64,
    /// The prefetched entry of that file.
    pub(super) reached: Option<Arc<CacheEntry>>,
    /// Files to prefetch: their ranks in the walk's order, and their positions.
    pub(super) fetch: Vec<(usize, usize)>,
    /// Prefetched entries that are not needed any more.
    pub(super) drop: Vec<Arc<CacheEntry>>,
}

impl FileWalks {
    /// Notes that a file of a directory is opened. `None` if the directory lacks the file.
    pub(super) fn step(&mut self, directory: Ino, now: Ino, names: &Snapshot, most: usize) -> Option<Step> {
        names.position(now)?;
        self.serials += 1;
        let before = self.walks.iter().position(|walk| walk.directory == directory);
        let mut walk = before
            .and_then(|at| self.walks.remove(at))
            .unwrap_or_else(|| FileWalk::new(directory, self.serials));
        let mut step = walk.step(now, self.serials, names, most);
        self.walks.push_back(walk);
        if self.walks.len() > WALKS {
            let forgotten = self.walks.pop_front().into_iter().flat_map(|walk| walk.ahead);
            step.drop.extend(forgotten.map(|(_, entry)| entry));
        }
        Some(step)
    }

    /// Keeps a prefetched entry open until the walk reaches it. Returns false if the walk will not.
    pub(super) fn keep(&mut self, directory: Ino, serial: u64, rank: usize, entry: Arc<CacheEntry>) -> bool {
        let Some(walk) = self.going_on(directory, serial) else {
            return false;
        };
        if walk.reached.is_none_or(|reached| reached < rank) {
            walk.ahead.push((rank, entry));
        }
        true
    }

    pub(super) fn is_going_on(&mut self, directory: Ino, serial: u64) -> bool {
        self.going_on(directory, serial).is_some()
    }

    fn going_on(&mut self, directory: Ino, serial: u64) -> Option<&mut FileWalk> {
        self.walks
            .iter_mut()
            .find(|walk| walk.directory == directory && walk.serial == serial)
    }
}

impl FileWalk {
    fn new(directory: Ino, serial: u64) -> FileWalk {
        FileWalk {
            directory,
            serial,
            last: None,
            reached: None,
            order: Order::Listed,
            pace: Pace::default(),
            ahead: Vec::new(),
            looked_at: 0,
        }
    }

    /// Moves to `now`. If that is out of order, the walk has ended and another with the number `next` begins.
    fn step(&mut self, now: Ino, next: u64, names: &Snapshot, most: usize) -> Step {
        let nothing = |serial| Step {
            serial,
            reached: None,
            fetch: Vec::new(),
            drop: Vec::new(),
        };
        if self.last == Some(now) {
            return nothing(self.serial);
        }
        let goes_on = self.pace.orders(self.order).find_map(|order| {
            let walked = Walked { names, order };
            let (last, rank) = walked.rank(self.last?).zip(walked.rank(now))?;
            (walked.next_file(last) == Some(rank)).then_some((walked, rank))
        });
        self.last = Some(now);
        self.pace = self.pace.after(goes_on.is_some());
        let Some((walked, rank)) = goes_on else {
            (self.looked_at, self.serial, self.reached) = (0, next, None);
            let drop = self.ahead.drain(..).map(|(_, entry)| entry).collect();
            return Step { drop, ..nothing(next) };
        };
        if walked.order != self.order {
            // The old value counts ranks of the other order.
            self.looked_at = 0;
        }
        (self.order, self.reached) = (walked.order, Some(rank));
        let (behind, ahead) = self.ahead.drain(..).partition(|(at, _)| *at <= rank);
        self.ahead = ahead;
        let behind: Vec<_> = behind;
        let reached = behind.into_iter().find(|(at, _)| *at == rank);
        let until = (rank + 1 + self.pace.ahead(most)).min(names.len());
        let from = self.looked_at.max(rank + 1);
        self.looked_at = self.looked_at.max(until);
        Step {
            reached: reached.map(|(_, entry)| entry),
            fetch: walked.small_files(from, until, SMALL_FILE),
            ..nothing(self.serial)
        }
    }
}
