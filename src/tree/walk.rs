//! Seeing a walk through the tree, and asking for what it comes to next.
//!
//! `find`, `ls -R`, `cp -r` and scanners go through a tree in the order of its listings: into a directory's first
//! sub-directory, then to the next one; from one file to the next. One at a time, each costs a round trip. So when
//! directories are opened in that order, the listings of the next ones are asked for ahead; and when small files are
//! opened in that order, the next ones are fetched ahead. How many doubles with every step that keeps the order, up to a
//! bound, and falls to none with the first that breaks it.
//!
//! What comes next is decided by values (`Pace`, positions in snapshots); asking is left to tasks that nobody waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use super::directory::Directory;
use super::node::{Ino, Kind, Node, ROOT};
use super::{Snapshot, Tree};
use crate::cache::{CacheEntry, Priority, SMALL_FILE};

/// Listings asked for ahead at most. [`super::METADATA_CONNECTIONS`] of them are under way at a time; the others wait, so
/// that the next can start the moment one ends.
const DIRECTORIES_AHEAD: usize = 32;

/// Small files fetched ahead at most, for each four connections to the origin: the one that is left is there for what
/// somebody waits for, which would otherwise take the connection of a file that is on its way.
const FILES_AHEAD_PER_FOUR: usize = 3;

/// How many small files are fetched ahead at most over `connections`.
pub(super) fn files_ahead(connections: usize) -> usize {
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

    /// How many to ask for ahead, of at most `bound`.
    fn ahead(self, bound: usize) -> usize {
        if self.0 < PROOF {
            0
        } else {
            (1usize << (self.0 - PROOF + 2).min(16)).min(bound)
        }
    }
}

/// The walk over directories: one for the tree, because one program walking is what it is there for. Two at a time break
/// each other's pace and are as fast as without it.
#[derive(Debug, Default)]
pub(super) struct DirectoryWalk {
    last: Ino,
    pace: Pace,
}

/// The walk over one directory's files.
#[derive(Default)]
pub(super) struct FileWalk {
    /// Position of the file that was opened last.
    last: usize,
    pace: Pace,
    /// What is fetched ahead: position and entry. Kept open here until the walker has come to it.
    ahead: VecDeque<(usize, Arc<CacheEntry>)>,
    /// Up to which position files were looked at for fetching ahead, exclusive.
    looked_at: usize,
}

impl Tree {
    /// Notes that somebody looks into a directory. Starts asking for the listings that a walker will want next.
    pub fn note_directory_opened(self: &Arc<Self>, node: &Arc<Node>) {
        if self.client.is_offline() {
            return;
        }
        let ahead = {
            let mut walk = self.directory_walk.lock();
            if walk.last == node.ino {
                return;
            }
            let in_order = self.node(walk.last).is_some_and(|last| self.comes_next(&last, node));
            *walk = DirectoryWalk {
                last: node.ino,
                pace: walk.pace.after(in_order),
            };
            walk.pace.ahead(DIRECTORIES_AHEAD)
        };
        if ahead == 0 {
            return;
        }
        for next in self.next_unlisted(node, ahead) {
            let tree = Arc::clone(self);
            // Who looks into it will hear of its error; here it was only a guess.
            self.runtime.spawn(async move { tree.list(&next).await.ok() });
        }
    }

    /// Whether a walk in listing order, each directory before its sub-directories, goes from `last` to `now`.
    fn comes_next(&self, last: &Node, now: &Node) -> bool {
        if now.parent == last.ino {
            return snapshot_of(last)
                .is_some_and(|names| names.directories_after(None).next().is_some_and(|d| d.ino == now.ino));
        }
        // The next one beside it, or beside the nearest directory above it that has a next one.
        let mut at = last.ino;
        while let Some(node) = self.node(at).filter(|node| node.ino != ROOT) {
            let Some(parent) = self.node(node.parent) else {
                return false;
            };
            if parent.ino == now.parent {
                let names = snapshot_of(&parent);
                return names.is_some_and(|n| {
                    n.directories_after(Some(node.ino))
                        .next()
                        .is_some_and(|d| d.ino == now.ino)
                });
            }
            at = parent.ino;
        }
        false
    }

    /// The next directories after `node`, in the order of a walk, whose listings are not known or old; as far as the tree
    /// is known.
    fn next_unlisted(&self, node: &Arc<Node>, count: usize) -> Vec<Arc<Node>> {
        let mut found = Vec::with_capacity(count);
        // Directories that are listed already are stepped over; a tree full of them must not cost much each time.
        let mut patience = 8 * count;
        self.collect_below(node, count, &mut patience, &mut found);
        let mut at = Arc::clone(node);
        while found.len() < count && patience > 0 && at.ino != ROOT {
            let Some(parent) = self.node(at.parent) else { break };
            if let Some(names) = snapshot_of(&parent) {
                for sibling in names.directories_after(Some(at.ino)) {
                    self.collect(sibling, count, &mut patience, &mut found);
                }
            }
            at = parent;
        }
        found
    }

    fn collect(&self, node: &Arc<Node>, count: usize, patience: &mut usize, found: &mut Vec<Arc<Node>>) {
        if found.len() >= count || *patience == 0 {
            return;
        }
        *patience -= 1;
        match self.list_now(node) {
            None => found.push(Arc::clone(node)),
            Some(_) => self.collect_below(node, count, patience, found),
        }
    }

    fn collect_below(&self, node: &Node, count: usize, patience: &mut usize, found: &mut Vec<Arc<Node>>) {
        let Some(names) = snapshot_of(node) else { return };
        for child in names.directories_after(None) {
            if found.len() >= count || *patience == 0 {
                return;
            }
            self.collect(child, count, patience, found);
        }
    }

    /// Notes that somebody opens a file. Starts fetching the small files that a walker will open next.
    pub fn note_file_opened(self: &Arc<Self>, node: &Arc<Node>) {
        if self.client.is_offline() {
            return;
        }
        let Some(parent) = self.node(node.parent) else { return };
        let Kind::Directory(directory) = &parent.kind else {
            return;
        };
        let Some(names) = directory.last_known() else { return };
        let Some(position) = names.position(node.ino) else {
            return;
        };
        let step = {
            let mut walk = directory.file_walk.lock();
            if walk.last == position && walk.pace.0 > 0 {
                return;
            }
            let in_order = names.next_file(walk.last) == Some(position);
            walk.step(position, in_order, &names, self.files_ahead)
        };
        for entry in step.drop {
            self.cache.manager().end_read_ahead(entry.id);
        }
        for (position, node) in step.fetch {
            let (tree, parent) = (Arc::clone(self), Arc::clone(&parent));
            self.runtime.spawn(async move {
                let Ok(entry) = tree.open(&node).await else { return };
                let Kind::Directory(directory) = &parent.kind else {
                    return;
                };
                directory
                    .file_walk
                    .lock()
                    .ahead
                    .push_back((position, Arc::clone(&entry)));
                // What can't be kept would be fetched for nothing.
                if !tree.cache.is_in_trouble() {
                    tree.cache.manager().request(&entry, 0..entry.size(), Priority::High);
                }
            });
        }
    }
}

/// What follows from a file that was opened.
struct Step {
    /// Files to fetch ahead, with their positions.
    fetch: Vec<(usize, Arc<Node>)>,
    /// What was fetched ahead and is not needed any more.
    drop: Vec<Arc<CacheEntry>>,
}

impl FileWalk {
    /// Moves to `position`.
    fn step(&mut self, position: usize, in_order: bool, names: &Snapshot, most: usize) -> Step {
        self.last = position;
        self.pace = self.pace.after(in_order);
        if !in_order {
            self.looked_at = 0;
            return Step {
                fetch: Vec::new(),
                drop: self.ahead.drain(..).map(|(_, entry)| entry).collect(),
            };
        }
        // What the walker has come to is kept until it has come to the next: it is only about to be opened.
        self.ahead.retain(|(at, _)| *at >= position);
        let until = (position + 1 + self.pace.ahead(most)).min(names.children().len());
        let from = self.looked_at.max(position + 1);
        self.looked_at = self.looked_at.max(until);
        let candidates = (from..until).filter_map(|at| {
            let node = &names.children()[at].1;
            node.is_small_file(SMALL_FILE).then(|| (at, Arc::clone(node)))
        });
        Step {
            fetch: candidates.collect(),
            drop: Vec::new(),
        }
    }
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
