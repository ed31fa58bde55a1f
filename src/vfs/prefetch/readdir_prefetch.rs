//! Readdir prefetch: detects a walk through the tree, and prefetches what comes next.
//!
//! `find`, `ls -R`, `cp -r` and scanners walk a tree in the order of its listings: into the first sub-directory, then
//! the next; from one file to the next. Without prefetch, each step costs a round trip.
//!
//! - Directories opened in that order make the listings of the next ones prefetched. Small files opened in that order
//!   make the next files prefetched.
//! - The number doubles with each step in order, up to a bound, and drops to none at the first step out of order.
//! - Several walks are tracked at a time, each with its own pace.
//! - `ls -R` sorts names, so a directory close to the expected one counts as in order.
//! - `cp -r` walks by inode number, so a walk may be in either [`Order`]; its second step decides which.
//!
//! `Pace` and positions in snapshots decide what comes next, as plain values. Background tasks send the requests.

use std::collections::VecDeque;
use std::sync::Arc;

use super::walk_order::Walked;
use crate::cache::{CacheEntry, Priority, SMALL_FILE};
use crate::vfs::Tree;
use crate::vfs::nodes::ino::{Ino, ROOT};
use crate::vfs::nodes::listed_names::Order;
use crate::vfs::nodes::node::{Kind, Node, Snapshot};
use crate::vfs::request::urgency::Urgency;

/// Most listings prefetched ahead. [`crate::vfs::request::limiter::METADATA_CONNECTIONS`] of them are in flight at a time; the others
/// wait, so that the next starts the moment one ends.
const DIRECTORIES_AHEAD: usize = 32;

/// Most small files prefetched ahead, for each four connections to the origin. The fourth stays free for reads;
/// otherwise a read would take the connection of a file in flight.
const FILES_AHEAD_PER_FOUR: usize = 3;

/// Most small files prefetched ahead over `connections`.
pub(in crate::vfs) fn files_ahead(connections: usize) -> usize {
    (connections * FILES_AHEAD_PER_FOUR / 4).max(1)
}

/// Steps in order that prove a walk. One proves nothing: many programs open a directory and its first sub-directory.
const PROOF: u32 = 2;

/// Confidence in a walk: the number of consecutive steps in order.
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

    /// The orders that the next step may follow: `order`, and at a walk's beginning either.
    fn orders(self, order: Order) -> impl Iterator<Item = Order> {
        let other = match order {
            Order::Listed => Order::Numbered,
            Order::Numbered => Order::Listed,
        };
        [Some(order), (self.0 < PROOF).then_some(other)].into_iter().flatten()
    }

    /// How many to prefetch, at most `bound`.
    fn ahead(self, bound: usize) -> usize {
        if self.0 < PROOF {
            0
        } else {
            (1usize << (self.0 - PROOF + 2).min(16)).min(bound)
        }
    }
}

/// Most walks tracked at a time, over directories and over files each: threads of a scanner, or a few programs.
/// Prefetched files of an abandoned walk stay open until this many others have begun.
const WALKS: usize = 4;

/// How many directories ahead or behind the next one may be in a walk with another order than the listing, for
/// example upper case before lower case.
const NEAR: usize = 8;

/// A walk over directories.
#[derive(Debug)]
struct DirectoryWalk {
    last: Ino,
    order: Order,
    pace: Pace,
}

/// The walks over directories; the one with the latest step is last.
#[derive(Debug, Default)]
pub(in crate::vfs) struct DirectoryWalks(VecDeque<DirectoryWalk>);

impl DirectoryWalks {
    /// Notes that a program opens directory `now`: a walk that leads there continues, or a new one begins. Returns
    /// how many listings to prefetch, and in which order.
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
pub(in crate::vfs) struct FileWalks {
    walks: VecDeque<FileWalk>,
    serials: u64,
}

impl Tree {
    /// Notes that a program opens a directory. Starts prefetches of the listings that a walk needs next.
    pub(crate) fn note_directory_opened(self: &Arc<Self>, node: &Arc<Node>) {
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
            // A prefetch ignores errors; a later look-up reports them.
            self.runtime
                .spawn(async move { tree.list_for(&next, Urgency::Prefetching).await.ok() });
        }
    }

    /// Whether a walk in this order, each directory before its sub-directories, leads from `last` to `now` or close
    /// by.
    fn comes_next(&self, last: &Node, now: &Node, order: Order) -> bool {
        if now.parent == last.ino {
            let names = last.last_known();
            return names.is_some_and(|names| {
                let mut near = Walked { names: &names, order }.directories_after(None).take(NEAR);
                near.any(|at| names.ino(at) == now.ino)
            });
        }
        // The next sibling, or that of the nearest ancestor that has a next sibling.
        let mut at = last.ino;
        while let Some(node) = self.node(at).filter(|node| node.ino != ROOT) {
            let Some(parent) = self.node(node.parent) else {
                return false;
            };
            if parent.ino == now.parent {
                let names = parent.last_known();
                return names.is_some_and(|names| {
                    Walked { names: &names, order }.are_directories_near(node.ino, now.ino, NEAR)
                });
            }
            at = parent.ino;
        }
        false
    }

    /// The next directories after `node` in the order of a walk whose listings are unknown or stale, as far as the
    /// tree is known.
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
            if let Some(names) = parent.last_known() {
                for sibling in (Walked { names: &names, order }).directories_after(Some(at.ino)) {
                    if !ahead.goes_on() {
                        break;
                    }
                    self.collect(&self.nodes.child(&parent, &names, sibling), &mut ahead);
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
        match node.list_now() {
            None if has_failed(node) => {}
            None => ahead.found.push(Arc::clone(node)),
            Some(_) => self.collect_below(node, ahead),
        }
    }

    fn collect_below(&self, node: &Node, ahead: &mut Ahead) {
        let Some(names) = node.last_known() else { return };
        let walked = Walked {
            names: &names,
            order: ahead.order,
        };
        for child in walked.directories_after(None) {
            if !ahead.goes_on() {
                return;
            }
            self.collect(&self.nodes.child(node, &names, child), ahead);
        }
    }

    /// Notes that a program opens a file. Starts prefetches of the small files that a walk opens next. Returns the
    /// prefetched entry of this file, to be held until the file is open.
    pub(crate) fn note_file_opened(self: &Arc<Self>, node: &Arc<Node>) -> Option<Arc<CacheEntry>> {
        if self.client.is_offline() {
            return None;
        }
        let parent = self.node(node.parent)?;
        let names = parent.last_known()?;
        let step = self
            .file_walks
            .lock()
            .step(parent.ino, node.ino, &names, self.files_ahead)?;
        for entry in step.drop {
            self.cache.manager().end_read_ahead(entry.id);
        }
        for (rank, at) in step.fetch {
            let node = self.nodes.child(&parent, &names, at);
            let (tree, directory) = (Arc::clone(self), parent.ino);
            self.runtime.spawn(async move {
                let Ok(entry) = tree.open_for(&node, Urgency::Prefetching).await else {
                    return;
                };
                let is_wanted = tree
                    .file_walks
                    .lock()
                    .keep(directory, step.serial, rank, Arc::clone(&entry));
                // A file that the cache can't keep would be fetched in vain.
                if is_wanted && !tree.cache.is_disk_failing() {
                    tree.cache.manager().request(&entry, 0..entry.size(), Priority::High);
                    // The walk may have ended meanwhile, and no other code cancels this request.
                    if !tree.file_walks.lock().is_going_on(directory, step.serial) {
                        tree.cache.manager().end_read_ahead(entry.id);
                    }
                }
            });
        }
        step.reached
    }
}

/// Collects directories whose listings are to be prefetched.
struct Ahead {
    order: Order,
    /// How many are still wanted.
    count: usize,
    /// How many may still be visited. Listed directories are skipped, and a tree full of them must not cost much at
    /// each step.
    patience: usize,
    found: Vec<Arc<Node>>,
}

impl Ahead {
    fn goes_on(&self) -> bool {
        self.found.len() < self.count && self.patience > 0
    }
}

/// What an opened file causes.
struct Step {
    /// The walk that took the step.
    serial: u64,
    /// The prefetched entry of that file.
    reached: Option<Arc<CacheEntry>>,
    /// Files to prefetch: their ranks in the walk's order, and their positions.
    fetch: Vec<(usize, usize)>,
    /// Prefetched entries that are not needed any more.
    drop: Vec<Arc<CacheEntry>>,
}

impl FileWalks {
    /// Notes that a file of a directory is opened. `None` if the directory lacks the file.
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

    /// Keeps a prefetched entry open until the walk reaches it. Returns false if the walk will not.
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

fn has_failed(node: &Node) -> bool {
    matches!(&node.kind, Kind::Directory(directory) if directory.has_failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_depth_doubles_in_order_and_resets() {
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
