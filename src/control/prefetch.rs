//! Prefetch: fetches files and trees into the cache at `Medium` priority.
//!
//! [`run`] is one loop that keeps the remaining work: directories to list, files to fetch. It keeps a few of each in
//! flight. So neither a large file nor ten thousand small ones request more than the connections can carry, and
//! readers, which have priority, find a short queue. A large file is requested in pieces, several at a time.
//!
//! All work in flight belongs to the loop: dropping it cancels the rest.

mod failure;
mod file;
mod part;
mod tally;
mod tools;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::protocol::{ByteRange, TreePath, Wanted};
use crate::source::PATH_MAX;
use crate::util::events;
use crate::vfs::{Ino, Node, TreeError};
use failure::FetchError;
pub(super) use failure::{Again, Failed};
use file::File;
use part::plan;
pub(super) use tally::Tally;
pub(super) use tools::Tools;

/// Listings in flight: as many as the tree requests at a time.
const LISTINGS: usize = crate::origin::FIRST_NAME_REQUESTS;

/// Files in flight per connection to an origin. With two, the next file is opened while one is still being fetched.
const FILES_PER_CONNECTION: usize = 2;

/// No more directories are listed while this many files wait.
const FILES_WAITING: usize = 4096;

/// Fetches what is wanted and returns the failures. Dropping it cancels the work in flight.
pub(super) async fn run(tools: Tools, wanted: Wanted, tally: Arc<Tally>) -> Vec<Failed> {
    let mut work = Work {
        first: wanted.paths.first().cloned().unwrap_or_default(),
        named: wanted.paths.into(),
        directories: Vec::new(),
        files: VecDeque::new(),
        found: HashSet::new(),
        under_way: JoinSet::new(),
        searches: 0,
        fetches: 0,
        failed: Vec::new(),
        ranges: wanted.ranges.into(),
        recursive: wanted.recursive,
        tools,
        tally,
    };
    loop {
        work.give_up_what_can_t_stay();
        work.begin_more();
        match work.under_way.join_next().await {
            Some(done) => work.note(done.unwrap_or_else(|error| {
                log::error!(event = events::OPERATION_LOST; "prefetch: {error}");
                Done::Lost
            })),
            None => return work.failed,
        }
    }
}

/// The remaining work of a prefetch, and the work in flight.
struct Work {
    tools: Tools,
    tally: Arc<Tally>,
    ranges: Arc<[ByteRange]>,
    recursive: bool,
    /// The first path of the request. A failure of the whole request is reported for it.
    first: TreePath,
    /// Paths of the request that are not looked up yet.
    named: VecDeque<TreePath>,
    /// Directories to list. The last one is next, so memory grows with a path's depth and not with the tree's width.
    directories: Vec<(TreePath, Arc<Node>)>,
    files: VecDeque<File>,
    /// All files so far. A file that is named twice counts once.
    found: HashSet<Ino>,
    under_way: JoinSet<Done>,
    /// Number of look-ups and listings in flight.
    searches: usize,
    /// Number of files in flight.
    fetches: usize,
    failed: Vec<Failed>,
}

/// What a task has done.
enum Done {
    /// Looked up a path of the request.
    Found(TreePath, Result<(Option<Arc<Node>>, Arc<Node>), TreeError>),
    /// Listed a directory.
    Listed(TreePath, Result<Vec<(TreePath, Arc<Node>)>, TreeError>, Arc<Node>),
    Fetched(TreePath, Result<(), FetchError>),
    /// The task has panicked.
    Lost,
}

impl Work {
    /// Stops if more is wanted than the cache can keep. Otherwise the prefetch would evict its own beginning and
    /// other files, and still report success.
    fn give_up_what_can_t_stay(&mut self) {
        let (wanted, kept) = (self.tally.takes(), self.tools.cache.room());
        if wanted <= kept {
            return;
        }
        let error = if self.tools.cache.is_fallback() {
            FetchError::NoFolder
        } else {
            FetchError::TooMuch { wanted, kept }
        };
        self.named.clear();
        self.directories.clear();
        self.files.clear();
        // Dropping the tasks cancels them.
        self.under_way = JoinSet::new();
        (self.searches, self.fetches) = (0, 0);
        if !matches!(
            self.failed.last(),
            Some(Failed {
                error: FetchError::TooMuch { .. } | FetchError::NoFolder,
                ..
            })
        ) {
            self.fail(self.first.clone(), error);
        }
    }

    fn begin_more(&mut self) {
        while self.searches < LISTINGS && self.files.len() < FILES_WAITING {
            let tree = Arc::clone(&self.tools.tree);
            if let Some(path) = self.named.pop_front() {
                self.under_way.spawn(async move {
                    let found = tree.find(path.names()).await;
                    Done::Found(path, found)
                });
            } else if let Some((path, node)) = self.directories.pop() {
                self.under_way.spawn(async move {
                    let children = tree.list(&node).await.map(|names| {
                        let children = 0..names.len();
                        children
                            .map(|at| (path.join(names.name(at)), tree.child(&node, &names, at)))
                            .collect()
                    });
                    Done::Listed(path, children, node)
                });
            } else {
                break;
            }
            self.searches += 1;
        }
        while self.fetches < self.tools.tree.max_connections() * FILES_PER_CONNECTION {
            let Some(file) = self.files.pop_front() else { break };
            let (tools, tally, path) = (self.tools.clone(), Arc::clone(&self.tally), file.path.clone());
            self.under_way
                .spawn(async move { Done::Fetched(path, file.fetch(&tools, &tally).await) });
            self.fetches += 1;
        }
        self.tally.set_searching(self.searches > 0);
    }

    fn note(&mut self, done: Done) {
        match done {
            Done::Found(path, found) => {
                self.searches -= 1;
                match found {
                    Ok((_, node)) if node.is_directory() && !self.ranges.is_empty() => {
                        self.fail(path, FetchError::RangeOfDirectory);
                    }
                    Ok((_, node)) if node.is_directory() => self.directories.push((path, node)),
                    Ok((parent, node)) => self.add_file(path, parent, node),
                    Err(error) => self.fail(path, error.into()),
                }
            }
            Done::Listed(path, children, node) => {
                self.searches -= 1;
                match children {
                    Ok(children) => children.into_iter().for_each(|child| self.add_child(&node, child)),
                    Err(error) => self.fail(path, error.into()),
                }
            }
            Done::Fetched(path, result) => {
                self.fetches -= 1;
                self.tally.file_done();
                if let Err(error) = result {
                    self.fail(path, error);
                }
            }
            Done::Lost => {
                // The kind of the lost task is unknown. At worst the rest runs one at a time.
                self.searches = self.searches.min(self.under_way.len());
                self.fetches = self.fetches.min(self.under_way.len());
                self.fail(TreePath::default(), FetchError::Bug);
            }
        }
    }

    fn add_child(&mut self, parent: &Arc<Node>, (path, node): (TreePath, Arc<Node>)) {
        if path.as_path().as_os_str().len() > PATH_MAX {
            self.fail(path, FetchError::TooLong);
        } else if !node.is_directory() {
            self.add_file(path, Some(Arc::clone(parent)), node);
        } else if self.recursive {
            self.directories.push((path, node));
        } else {
            self.tally.left_out();
        }
    }

    fn add_file(&mut self, path: TreePath, parent: Option<Arc<Node>>, node: Arc<Node>) {
        if !self.found.insert(node.ino) {
            return;
        }
        let planned = plan(&self.tools.cache, &self.ranges, node.attributes().size);
        self.tally.file_found(planned);
        self.files.push_back(File {
            path,
            parent,
            node,
            ranges: Arc::clone(&self.ranges),
            planned,
        });
    }

    fn fail(&mut self, path: TreePath, error: FetchError) {
        log::info!(event = events::PREFETCH_FAILED; "prefetch of {}: {error}", path.as_path().display());
        self.tally.failed();
        self.failed.push(Failed { path, error });
    }
}
