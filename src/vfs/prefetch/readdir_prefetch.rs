//! Prefetches the listings and small files that a walk needs next, in background tasks.

use std::sync::Arc;

use parking_lot::Mutex;

use super::walk_order::Walked;
use super::walks::{DirectoriesAhead, DirectoryWalks, FileWalks};
use crate::cache::{CacheEntry, Priority};
use crate::vfs::file::files::Files;
use crate::vfs::listing::listings::Listings;
use crate::vfs::nodes::ino::{Ino, ROOT};
use crate::vfs::nodes::listed_names::Order;
use crate::vfs::nodes::node::{Directory, Node};
use crate::vfs::request::urgency::Urgency;
use crate::vfs::shared::Shared;

/// Most small files prefetched ahead, for each four connections to the origin. The fourth stays free for reads;
/// otherwise a read would take the connection of a file in flight.
const FILES_AHEAD_PER_FOUR: usize = 3;

/// How many directories ahead or behind the next one may be in a walk with another order than the listing, for
/// example upper case before lower case.
const NEAR: usize = 8;

/// The prefetches of a mount.
pub(in crate::vfs) struct ReaddirPrefetch {
    shared: Arc<Shared>,
    listings: Arc<Listings>,
    files: Arc<Files>,
    /// Locked for the moment of a decision.
    directory_walks: Mutex<DirectoryWalks>,
    /// Locked for the moment of a decision.
    file_walks: Mutex<FileWalks>,
}

impl ReaddirPrefetch {
    /// Prefetches over as many of an origin's connections as reads can spare.
    pub(in crate::vfs) fn new(shared: Arc<Shared>, listings: Arc<Listings>, files: Arc<Files>) -> ReaddirPrefetch {
        ReaddirPrefetch {
            shared,
            listings,
            files,
            directory_walks: Mutex::default(),
            file_walks: Mutex::default(),
        }
    }

    /// Most small files that are prefetched ahead of a walk.
    fn files_ahead(&self) -> usize {
        (self.shared.client.max_connections() * FILES_AHEAD_PER_FOUR / 4).max(1)
    }

    /// Notes that a program opens a directory. Starts prefetches of the listings that a walk needs next.
    pub(in crate::vfs) fn note_directory_opened(&self, node: &Arc<Node>) {
        if self.shared.client.is_offline() {
            return;
        }
        let comes_next = |last, order| {
            let last = self.shared.nodes.get(last);
            last.is_some_and(|last| self.comes_next(&last, node, order))
        };
        let widened = |top| self.widened(top, node);
        let ahead = self.directory_walks.lock().step(node.ino, comes_next, widened);
        if ahead.count == 0 {
            return;
        }
        for next in self.next_stale(node, &ahead) {
            let listings = Arc::clone(&self.listings);
            // A prefetch ignores errors; a later look-up reports them.
            self.shared
                .runtime
                .spawn(async move { listings.list(&next, Urgency::Prefetching).await.ok() });
        }
    }

    /// Whether a walk in this order, each directory before its sub-directories, leads from `last` to `now` or close
    /// by.
    fn comes_next(&self, last: &Node, now: &Node, order: Order) -> bool {
        if now.parent() == last.ino {
            return last.last_known().is_some_and(|names| {
                let mut near = Walked { names: &names, order }.directories_after(None).take(NEAR);
                near.any(|at| names.ino(at) == now.ino)
            });
        }
        // The next sibling, or that of the nearest ancestor that has a next sibling.
        let mut at = last.ino;
        while let Some(node) = self.shared.nodes.get(at).filter(|node| node.ino != ROOT) {
            let Some(parent) = self.shared.nodes.get(node.parent()) else {
                return false;
            };
            if parent.ino == now.parent() {
                return parent.last_known().is_some_and(|names| {
                    Walked { names: &names, order }.are_directories_near(node.ino, now.ino, NEAR)
                });
            }
            at = parent.ino;
        }
        false
    }

    /// The smallest directory that contains the directory `top`, and `node`.
    fn widened(&self, top: Ino, node: &Node) -> Ino {
        let mut above = vec![node.ino];
        let mut parent = node.parent();
        while let Some(node) = self.shared.nodes.get(parent).filter(|_| above.last() != Some(&ROOT)) {
            above.push(node.ino);
            parent = node.parent();
        }
        let mut at = top;
        while !above.contains(&at) {
            match self.shared.nodes.get(at) {
                Some(node) if at != ROOT => at = node.parent(),
                _ => return ROOT,
            }
        }
        at
    }

    /// The next directories after `node` in the order of a walk whose listings are unknown or stale, as far as the
    /// tree is known.
    fn next_stale(&self, node: &Arc<Node>, next: &DirectoriesAhead) -> Vec<Arc<Node>> {
        let &DirectoriesAhead { count, order, top } = next;
        let mut ahead = Ahead {
            order,
            count,
            visits_left: 8 * count,
            found: Vec::with_capacity(count),
        };
        self.collect_below(node, &mut ahead);
        let mut at = Arc::clone(node);
        while ahead.goes_on() && at.ino != ROOT && at.ino != top {
            let Some(parent) = self.shared.nodes.get(at.parent()) else {
                break;
            };
            if let Some(names) = parent.last_known() {
                for sibling in (Walked { names: &names, order }).directories_after(Some(at.ino)) {
                    if !ahead.goes_on() {
                        break;
                    }
                    self.collect(&self.shared.nodes.child(&parent, &names, sibling), &mut ahead);
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
        ahead.visits_left -= 1;
        match node.list_now() {
            None if node.directory().is_some_and(Directory::has_failed) => {}
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
            self.collect(&self.shared.nodes.child(node, &names, child), ahead);
        }
    }

    /// Notes that a program opens a file. Starts prefetches of the small files that a walk opens next. Returns the
    /// prefetched entry of this file, to be held until the file is open.
    pub(in crate::vfs) fn note_file_opened(self: &Arc<Self>, node: &Arc<Node>) -> Option<Arc<CacheEntry>> {
        if self.shared.client.is_offline() {
            return None;
        }
        let parent = self.shared.nodes.get(node.parent())?;
        let names = parent.last_known()?;
        let step = self
            .file_walks
            .lock()
            .step(parent.ino, node.ino, &names, self.files_ahead())?;
        for entry in step.drop {
            self.shared.cache.manager().end_read_ahead(entry.id);
        }
        for (rank, at) in step.fetch {
            let node = self.shared.nodes.child(&parent, &names, at);
            let (this, directory) = (Arc::clone(self), parent.ino);
            self.shared.runtime.spawn(async move {
                let Ok(entry) = this.files.open(&node, Urgency::Prefetching).await else {
                    return;
                };
                let is_wanted = this
                    .file_walks
                    .lock()
                    .keep(directory, step.serial, rank, Arc::clone(&entry));
                // A file that the cache can't keep would be fetched in vain.
                if is_wanted && !this.shared.cache.is_disk_failing() {
                    this.shared
                        .cache
                        .manager()
                        .request(&entry, 0..entry.size(), Priority::High);
                    // The walk may have ended meanwhile, and no other code cancels this request.
                    if !this.file_walks.lock().is_going_on(directory, step.serial) {
                        this.shared.cache.manager().end_read_ahead(entry.id);
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
    visits_left: usize,
    found: Vec<Arc<Node>>,
}

impl Ahead {
    fn goes_on(&self) -> bool {
        self.found.len() < self.count && self.visits_left > 0
    }
}
