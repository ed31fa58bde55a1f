//! Seeing a walk through the tree, and asking for what it comes to next.
//!
//! `find`, `ls -R`, `cp -r` and scanners go through a tree in the order of its listings: into a directory's first
//! sub-directory, then to the next one; from one file to the next. One at a time, each costs a round trip. So when
//! directories are opened in that order, the listings of the next ones are asked for ahead; and when small files are
//! opened in that order, the next ones are fetched ahead. How many doubles with every step that keeps the order, up to a
//! bound, and falls to none with the first that breaks it. Several may walk at a time, each at its own pace; and as
//! `ls -R` and the like sort what they find, a directory that stands near the one that was expected is in order too.
//! `cp -r` goes by inode number, so a walk may be in either [`Order`]; its second step tells which.
//!
//! What comes next is decided by values (`Pace`, positions in snapshots); asking is left to tasks that nobody waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use super::directory::Directory;
use super::snapshot::Order;
use crate::cache::{CacheEntry, Priority, SMALL_FILE};
use crate::vfs::node::{Ino, Kind, Node, ROOT};
use crate::vfs::request::Urgency;
use crate::vfs::{Snapshot, Tree};

/// Listings asked for ahead at most. [`crate::vfs::METADATA_CONNECTIONS`] of them are under way at a time; the others wait, so
/// that the next can start the moment one ends.
const DIRECTORIES_AHEAD: usize = 32;

/// Small files fetched ahead at most, for each four connections to the origin: the one that is left is there for what
/// somebody waits for, which would otherwise take the connection of a file that is on its way.
const FILES_AHEAD_PER_FOUR: usize = 3;

/// How many small files are fetched ahead at most over `connections`.
pub(in crate::vfs) fn files_ahead(connections: usize) -> usize {
    (connections * FILES_AHEAD_PER_FOUR / 4).max(1)
}

/// Steps in order that prove a walk. One is nothing: whoever opens a directory may well open its first sub-directory.
const PROOF: u32 = 2;

/// How sure it is that somebody walks: steps in order, one after another.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Pace(u32);

impl Pace {
    fn after(self, in_order: bool) -> Pace {
        if in_order {
            Pace(self.0.saturating_add(1))
        } else {
            Pace(0)
        }
    }

    /// The orders in which the next step may be: `order`, and at a walk's beginning any.
    fn orders(self, order: Order) -> impl Iterator<Item = Order> {
        let other = match order {
            Order::Listed => Order::Numbered,
            Order::Numbered => Order::Listed,
        };
        [Some(order), (self.0 < PROOF).then_some(other)].into_iter().flatten()
    }

    /// How many to ask for ahead, of at most `bound`.
    fn ahead(self, bound: usize) -> usize {
        if self.0 < PROOF {
            0
        } else {
            (1usize << (self.0 - PROOF + 2).min(16)).min(bound)
        }
    }
}

/// Walks that are remembered at a time, those over directories and those over files each: the threads of a scanner, or
/// a few programs. What a walk that nobody goes on with has fetched ahead stays open until that many others have begun.
const WALKS: usize = 4;

/// How many directories further on, or back, the next one of a walk may stand that goes by another order than the
/// listing: upper case before lower case, say, or the other way round.
const NEAR: usize = 8;

/// A walk over directories.
#[derive(Debug)]
struct DirectoryWalk {
    last: Ino,
    order: Order,
    pace: Pace,
}

/// The walks over directories, the one that made the last step at the end.
#[derive(Debug, Default)]
pub(in crate::vfs) struct DirectoryWalks(VecDeque<DirectoryWalk>);

impl DirectoryWalks {
    /// A program looks into `now`: the walk that comes there goes on, or else a new one begins. How many listings to ask
    /// for ahead, and in which order.
    fn step(&mut self, now: Ino, comes_next: impl Fn(Ino, Order) -> bool) -> (usize, Order) {
        if self.0.iter().any(|walk| walk.last == now) {
            return (0, Order::Listed);
        }
        let orders = |walk: &DirectoryWalk| walk.pace.orders(walk.order);
        let goes_on = self.0.iter().enumerate().rev().find_map(|(at, walk)| {
            let order = orders(walk).find(|&order| comes_next(walk.last, order))?;
            Some((at, order))
        });
        let (pace, order) = match goes_on.and_then(|(at, order)| Some((self.0.remove(at)?, order))) {
            Some((walk, order)) => (walk.pace.after(true), order),
            None => (Pace::default(), Order::Listed),
        };
        self.0.push_back(DirectoryWalk { last: now, order, pace });
        if self.0.len() > WALKS {
            self.0.pop_front();
        }
        (pace.ahead(DIRECTORIES_AHEAD), order)
    }
}

/// The walk over one directory's files.
struct FileWalk {
    directory: Ino,
    /// Tells this walk from those before it: what was begun for one of them is not wanted any more.
    serial: u64,
    /// The file that was opened last.
    last: Option<Ino>,
    /// Its rank in the walk's order.
    reached: Option<usize>,
    order: Order,
    pace: Pace,
    /// What is fetched ahead: rank in the walk's order, and entry. Kept open here until the walker comes to it. **Ranks are above
    /// `reached`.**
    ahead: Vec<(usize, Arc<CacheEntry>)>,
    /// Up to which rank files were looked at for fetching ahead, exclusive.
    looked_at: usize,
}

/// The walks over files, the one that made the last step at the end.
#[derive(Default)]
pub(in crate::vfs) struct FileWalks {
    walks: VecDeque<FileWalk>,
    serials: u64,
}

impl Tree {
    /// Notes that somebody looks into a directory. Starts asking for the listings that a walker will want next.
    pub fn note_directory_opened(self: &Arc<Self>, node: &Arc<Node>) {
        if self.client.is_offline() {
            return;
        }
        let comes_next = |last, order| self.node(last).is_some_and(|last| self.comes_next(&last, node, order));
        let (ahead, order) = self.directory_walks.lock().step(node.ino, comes_next);
        if ahead == 0 {
            return;
        }
        for next in self.next_unlisted(node, ahead, order) {
            let tree = Arc::clone(self);
            // Who looks into it will hear of its error; here it was only a guess.
            self.runtime
                .spawn(async move { tree.list_for(&next, Urgency::Guessing).await.ok() });
        }
    }

    /// Whether a walk in this order, each directory before its sub-directories, goes from `last` to `now`, or close by.
    fn comes_next(&self, last: &Node, now: &Node, order: Order) -> bool {
        if now.parent == last.ino {
            let names = snapshot_of(last);
            return names.is_some_and(|names| {
                names
                    .directories_after(order, None)
                    .take(NEAR)
                    .any(|d| d.ino == now.ino)
            });
        }
        // The next one beside it, or beside the nearest directory above it that has a next one.
        let mut at = last.ino;
        while let Some(node) = self.node(at).filter(|node| node.ino != ROOT) {
            let Some(parent) = self.node(node.parent) else {
                return false;
            };
            if parent.ino == now.parent {
                let names = snapshot_of(&parent);
                return names.is_some_and(|names| names.are_directories_near(order, node.ino, now.ino, NEAR));
            }
            at = parent.ino;
        }
        false
    }

    /// The next directories after `node`, in the order of a walk, whose listings are not known or old; as far as the tree
    /// is known.
    fn next_unlisted(&self, node: &Arc<Node>, count: usize, order: Order) -> Vec<Arc<Node>> {
        let mut ahead = Ahead {
            order,
            count,
            patience: 8 * count,
            found: Vec::with_capacity(count),
        };
        self.collect_below(node, &mut ahead);
        let mut at = Arc::clone(node);
        while ahead.goes_on() && at.ino != ROOT {
            let Some(parent) = self.node(at.parent) else { break };
            if let Some(names) = snapshot_of(&parent) {
                for sibling in names.directories_after(order, Some(at.ino)) {
                    self.collect(sibling, &mut ahead);
                }
            }
            at = parent;
        }
        ahead.found
    }

    fn collect(&self, node: &Arc<Node>, ahead: &mut Ahead) {
        if !ahead.goes_on() {
            return;
        }
        ahead.patience -= 1;
        match self.list_now(node) {
            None if has_failed(node) => {}
            None => ahead.found.push(Arc::clone(node)),
            Some(_) => self.collect_below(node, ahead),
        }
    }

    fn collect_below(&self, node: &Node, ahead: &mut Ahead) {
        let Some(names) = snapshot_of(node) else { return };
        for child in names.directories_after(ahead.order, None) {
            if !ahead.goes_on() {
                return;
            }
            self.collect(child, ahead);
        }
    }

    /// Notes that somebody opens a file. Starts fetching the small files that a walker will open next. Gives what was
    /// fetched ahead of this one, to be kept until the file is open.
    pub fn note_file_opened(self: &Arc<Self>, node: &Arc<Node>) -> Option<Arc<CacheEntry>> {
        if self.client.is_offline() {
            return None;
        }
        let parent = self.node(node.parent)?;
        let names = snapshot_of(&parent)?;
        let step = self
            .file_walks
            .lock()
            .step(parent.ino, node.ino, &names, self.files_ahead)?;
        for entry in step.drop {
            self.cache.manager().end_read_ahead(entry.id);
        }
        for (rank, node) in step.fetch {
            let (tree, directory) = (Arc::clone(self), parent.ino);
            self.runtime.spawn(async move {
                let Ok(entry) = tree.open_for(&node, Urgency::Guessing).await else {
                    return;
                };
                let is_wanted = tree
                    .file_walks
                    .lock()
                    .keep(directory, step.serial, rank, Arc::clone(&entry));
                // What can't be kept in the cache would be fetched for nothing.
                if is_wanted && !tree.cache.is_in_trouble() {
                    tree.cache.manager().request(&entry, 0..entry.size(), Priority::High);
                    // The walk may have ended between the two, and nobody else knows of the request.
                    if !tree.file_walks.lock().is_going_on(directory, step.serial) {
                        tree.cache.manager().end_read_ahead(entry.id);
                    }
                }
            });
        }
        step.reached
    }
}

/// Directories whose listings are to be asked for ahead.
struct Ahead {
    order: Order,
    /// How many are wanted.
    count: usize,
    /// How many may still be looked at. Those that are listed already are stepped over; a tree full of them must not cost much each time.
    patience: usize,
    found: Vec<Arc<Node>>,
}

impl Ahead {
    fn goes_on(&self) -> bool {
        self.found.len() < self.count && self.patience > 0
    }
}

/// What follows from a file that was opened.
struct Step {
    /// The walk that made it.
    serial: u64,
    /// What was fetched ahead of that file.
    reached: Option<Arc<CacheEntry>>,
    /// Files to fetch ahead, with their ranks in the walk's order.
    fetch: Vec<(usize, Arc<Node>)>,
    /// What was fetched ahead and is not needed any more.
    drop: Vec<Arc<CacheEntry>>,
}

impl FileWalks {
    /// A file of a directory is opened. `None` if the directory does not have it.
    fn step(&mut self, directory: Ino, now: Ino, names: &Snapshot, most: usize) -> Option<Step> {
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

    /// Keeps what is fetched ahead open until the walk comes to it. Whether it will.
    fn keep(&mut self, directory: Ino, serial: u64, rank: usize, entry: Arc<CacheEntry>) -> bool {
        let Some(walk) = self.going_on(directory, serial) else {
            return false;
        };
        if walk.reached.is_none_or(|reached| reached < rank) {
            walk.ahead.push((rank, entry));
        }
        true
    }

    fn is_going_on(&mut self, directory: Ino, serial: u64) -> bool {
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

    /// Moves to `now`. If that is out of order the walk has ended, and another one begins, with the number `next`.
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
            let (last, rank) = names.rank(order, self.last?).zip(names.rank(order, now))?;
            (names.next_file(order, last) == Some(rank)).then_some((order, rank))
        });
        self.last = Some(now);
        self.pace = self.pace.after(goes_on.is_some());
        let Some((order, rank)) = goes_on else {
            (self.looked_at, self.serial, self.reached) = (0, next, None);
            let drop = self.ahead.drain(..).map(|(_, entry)| entry).collect();
            return Step { drop, ..nothing(next) };
        };
        if order != self.order {
            // Ranks of the other order.
            self.looked_at = 0;
        }
        (self.order, self.reached) = (order, Some(rank));
        let (behind, ahead) = self.ahead.drain(..).partition(|(at, _)| *at <= rank);
        self.ahead = ahead;
        let behind: Vec<_> = behind;
        let reached = behind.into_iter().find(|(at, _)| *at == rank);
        let until = (rank + 1 + self.pace.ahead(most)).min(names.children().len());
        let from = self.looked_at.max(rank + 1);
        self.looked_at = self.looked_at.max(until);
        let candidates = (from..until).zip(names.from(order, from));
        let candidates = candidates.filter(|(_, node)| node.is_small_file(SMALL_FILE));
        let candidates = candidates.map(|(rank, node)| (rank, Arc::clone(node)));
        Step {
            reached: reached.map(|(_, entry)| entry),
            fetch: candidates.collect(),
            ..nothing(self.serial)
        }
    }
}

fn has_failed(node: &Node) -> bool {
    matches!(&node.kind, Kind::Directory(directory) if directory.has_failed())
}

fn snapshot_of(node: &Node) -> Option<Arc<Snapshot>> {
    match &node.kind {
        Kind::Directory(directory) => Directory::last_known(directory),
        Kind::File(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_doubles_with_every_step_in_order_and_falls_with_the_first_that_is_not() {
        let mut pace = Pace::default();
        let mut seen = Vec::new();
        for _ in 0..7 {
            pace = pace.after(true);
            seen.push(pace.ahead(32));
        }
        assert_eq!(seen, [0, 4, 8, 16, 32, 32, 32]);
        assert_eq!(pace.after(false).ahead(32), 0);
        assert_eq!(Pace(u32::MAX).after(true).ahead(32), 32);
    }
}
