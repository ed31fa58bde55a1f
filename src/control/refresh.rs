//! Refresh: what the servers say now of files and directories, before the known answers are too old.
//!
//! - A directory is listed again. With `recursive`, so is all that is known below it: each directory whose names are in
//!   memory. What was never listed is asked for at its first use anyway.
//! - Of a file, the version is asked for again.
//! - A name that its directory lacks is searched in a new listing of the directory.
//!
//! Several requests are in flight at a time. All of them belong to the loop: dropping it cancels them.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::protocol::{Failure, Refreshed, TreePath};
use crate::util::events;
use crate::vfs::{Changes, Ino, Node, Tree, TreeError};

/// Requests in flight: as many as the tree sends at a time.
const REQUESTS: usize = crate::origin::FIRST_NAME_REQUESTS;

/// The counts so far, which the client sees while the refresh runs.
#[derive(Default)]
pub(super) struct RefreshTally(Mutex<Refreshed>);

impl RefreshTally {
    pub(super) fn counts(&self) -> Refreshed {
        *self.0.lock()
    }

    fn add(&self, changes: Changes) {
        let counts = &mut *self.0.lock();
        counts.new += changes.new;
        counts.gone += changes.gone;
        counts.changed += changes.changed;
    }

    fn done(&self, node: &Node, changes: Changes) {
        self.add(changes);
        let counts = &mut *self.0.lock();
        match node.is_directory() {
            true => counts.directories += 1,
            false => counts.files += 1,
        }
    }
}

/// Refreshes these paths and returns the failures.
pub(super) async fn run(
    tree: Arc<Tree>,
    paths: Vec<TreePath>,
    recursive: bool,
    tally: Arc<RefreshTally>,
) -> Vec<Failure> {
    tree.expire_documents();
    let mut work = Work {
        named: paths.into(),
        found: Vec::new(),
        seen: HashSet::new(),
        under_way: JoinSet::new(),
        failed: Vec::new(),
        recursive,
        tree,
        tally,
    };
    loop {
        work.begin_more();
        match work.under_way.join_next().await {
            Some(Ok(done)) => work.note(done),
            Some(Err(error)) => {
                log::error!(event = events::OPERATION_LOST; "refresh: {error}");
                work.fail(TreePath::default(), "a bug in fetchfs; see the mount's log".to_owned());
            }
            None => return work.failed,
        }
    }
}

struct Work {
    tree: Arc<Tree>,
    tally: Arc<RefreshTally>,
    recursive: bool,
    /// Paths of the request that are not looked up yet.
    named: VecDeque<TreePath>,
    /// What is to be refreshed. The last one is next, so memory grows with a path's depth and not with the tree's width.
    found: Vec<(TreePath, Arc<Node>)>,
    /// What was found so far. Of two paths to one directory, the first counts.
    seen: HashSet<Ino>,
    under_way: JoinSet<Done>,
    failed: Vec<Failure>,
}

/// What a task has done.
enum Done {
    /// Looked up a path of the request.
    Found(TreePath, Result<Arc<Node>, TreeError>),
    /// Refreshed a file or directory.
    Refreshed(TreePath, Arc<Node>, Result<(), TreeError>),
}

impl Work {
    fn begin_more(&mut self) {
        while self.under_way.len() < REQUESTS {
            let (tree, tally) = (Arc::clone(&self.tree), Arc::clone(&self.tally));
            if let Some(path) = self.named.pop_front() {
                self.under_way.spawn(async move {
                    let found = find(&tree, &path, &tally).await;
                    Done::Found(path, found)
                });
            } else if let Some((path, node)) = self.found.pop() {
                self.under_way.spawn(async move {
                    let refreshed = refresh(&tree, &path, &node, &tally).await;
                    Done::Refreshed(path, node, refreshed)
                });
            } else {
                break;
            }
        }
    }

    fn note(&mut self, done: Done) {
        match done {
            Done::Found(path, Ok(node)) => self.add(path, node),
            Done::Refreshed(path, node, Ok(())) => {
                // Only the mount has a directory without a URL, so it stands for what is in it.
                if self.recursive || node.url().is_none() {
                    for (name, child) in self.tree.known_below(&node) {
                        self.add(path.join(&name), child);
                    }
                }
            }
            Done::Found(path, Err(error)) | Done::Refreshed(path, _, Err(error)) => self.fail(path, error.to_string()),
        }
    }

    fn add(&mut self, path: TreePath, node: Arc<Node>) {
        if self.seen.insert(node.ino) {
            self.found.push((path, node));
        }
    }

    fn fail(&mut self, path: TreePath, reason: String) {
        self.failed.push(Failure { path, reason });
    }
}

/// Looks a path up. A directory that lacks the next name is refreshed before the name counts as absent.
async fn find(tree: &Arc<Tree>, path: &TreePath, tally: &RefreshTally) -> Result<Arc<Node>, TreeError> {
    let (_, mut node) = tree.find(std::iter::empty()).await?;
    for name in path.names() {
        node = match tree.lookup(&node, name).await {
            Err(TreeError::NotFound) => {
                tally.add(tree.refresh_now(&node).await?);
                tree.lookup(&node, name).await?
            }
            child => child?,
        };
    }
    Ok(node)
}

/// Refreshes what is at a path. A directory that is gone is looked for in its parent's new listing: the name is gone as
/// well, or the directory can't be listed.
async fn refresh(tree: &Arc<Tree>, path: &TreePath, node: &Arc<Node>, tally: &RefreshTally) -> Result<(), TreeError> {
    let error = match tree.refresh_now(node).await {
        Ok(changes) => {
            // A directory that only the mount has was not asked for.
            if node.url().is_some() {
                tally.done(node, changes);
            }
            return Ok(());
        }
        Err(error) => error,
    };
    let (TreeError::NotFound, Some(name), Some(parent)) = (&error, path.names().last(), tree.node(node.parent()))
    else {
        return Err(error);
    };
    tally.add(tree.refresh_now(&parent).await?);
    match tree.lookup(&parent, name).await {
        Err(TreeError::NotFound) => Ok(()),
        _ => Err(error),
    }
}
