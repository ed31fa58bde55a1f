//! Exact sizes and dates that a listing lacks: requested at the first `stat` of a file, then for the files that
//! follow it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::Files;
use crate::vfs::error::TreeError;
use crate::vfs::nodes::dates::Learnt;
use crate::vfs::nodes::ino::Ino;
use crate::vfs::nodes::node::Node;
use crate::vfs::nodes::remote_file::RemoteFile;
use crate::vfs::request::urgency::Urgency;
use crate::vfs::shared::Shared;

/// Number of files whose sizes are requested ahead of the one that `stat` asks for.
const RESOLVE_AHEAD: usize = 64;

/// Completes the attributes of a mount's files.
pub(in crate::vfs) struct Resolver {
    pub(in crate::vfs) shared: Arc<Shared>,
    pub(in crate::vfs) files: Arc<Files>,
}

impl Resolver {
    /// Makes a file's size exact, if the server gives it. If a program asks for one file after another (`ls -l`), the
    /// next ones are requested in parallel.
    ///
    /// # Errors
    /// If the origin does not answer or refuses.
    pub(in crate::vfs) async fn resolve(&self, node: &Arc<Node>, urgency: Urgency) -> Result<(), TreeError> {
        let Some(file) = node.file().filter(|file| !file.is_ready()) else {
            return Ok(());
        };
        if file.lacks_clock() {
            self.find_clock(node, file, urgency).await;
            return Ok(());
        }
        self.resolve_ahead(node);
        match self.files.resolve(node, urgency).await {
            // Its size is shown as 0, which the kernel does not cache for long, and it can be read in sequence.
            Err(TreeError::SizeUnknown(_)) => Ok(()),
            // Only the date was missing.
            Err(error) if file.exact_size().is_some() && !matches!(error, TreeError::NotFound) => Ok(()),
            resolved => resolved,
        }
    }

    /// Learns the clock of a listing: requests one of the file's neighbours that needs a request anyway, if possible
    /// one with the same listed date.
    async fn find_clock(&self, node: &Arc<Node>, file: &RemoteFile, urgency: Urgency) {
        let Some(parent) = self.shared.nodes.get(node.parent()) else {
            return;
        };
        let Some(directory) = parent.directory() else { return };
        let names = directory.last_known();
        let unsized_file = names.as_ref().and_then(|names| {
            let is_unsized = |&at: &usize| !names.is_directory(at) && names.exact_size(at).is_none();
            let mut others = (0..names.len()).filter(is_unsized);
            let first = others.clone().next();
            let same = others.find(|&at| names.is_listed_at(at, file.listed_time()));
            Some(self.shared.nodes.child(&parent, names, same.or(first)?))
        });
        if let Some(neighbour) = &unsized_file {
            // The listed date has to do if the server gives none.
            let _ = self.files.resolve(neighbour, urgency.with_older_answer()).await;
            if let Some(file) = neighbour.file() {
                file.teach_dates();
            }
        }
        directory.dates.set_searched();
    }

    /// Starts requests for the files after `node` in its directory, if the sequence of requests has reached it.
    fn resolve_ahead(&self, node: &Arc<Node>) {
        let Some(parent) = self.shared.nodes.get(node.parent()) else {
            return;
        };
        let Some(directory) = parent.directory() else { return };
        let Some(snapshot) = directory.last_known() else { return };
        let Some(at) = snapshot.position(node.ino) else { return };
        // The last requested position; the program follows it at some distance.
        let asked = directory.resolved_until.load(Ordering::Relaxed);
        if at > asked || at + 2 * RESOLVE_AHEAD < asked {
            // Outside of the sequence: an isolated request, or the first of a new sequence.
            directory.resolved_until.store(at + 1, Ordering::Relaxed);
            return;
        }
        let until = (at + 1 + RESOLVE_AHEAD).min(snapshot.len());
        if directory.resolved_until.fetch_max(until, Ordering::Relaxed) >= until {
            return;
        }
        for next in asked.max(at + 1)..until {
            let child = self.shared.nodes.child(&parent, &snapshot, next);
            if child.is_ready() {
                continue;
            }
            let files = Arc::clone(&self.files);
            // A prefetch ignores errors; a later `stat` reports them.
            self.shared
                .runtime
                .spawn(async move { files.resolve(&child, Urgency::Prefetching).await.ok() });
        }
    }

    /// Notes a file's dates. Returns the inode numbers whose attributes the kernel may have cached with other dates.
    pub(in crate::vfs) fn note_dates(&self, node: &Arc<Node>) -> Vec<Ino> {
        let Some(file) = node.file() else {
            return Vec::new();
        };
        if let Some(listed) = file.take_unstored() {
            self.shared.cache.catalog().keep_shown(&file.url(), listed, node.ino);
        }
        let mut changed = Vec::new();
        let learnt = file.teach_dates();
        if learnt != Learnt::Nothing
            && let Some(names) = self
                .shared
                .nodes
                .get(node.parent())
                .and_then(|parent| parent.last_known())
        {
            let is_touched = |at: &usize| learnt == Learnt::Clock || names.is_listed_at(*at, file.listed_time());
            let touched = (0..names.len()).filter(is_touched).map(|at| names.ino(at));
            changed.extend(touched.filter(|&ino| ino != node.ino && self.shared.nodes.table.is_known(ino)));
        }
        if file.has_another_date() {
            changed.push(node.ino);
        }
        changed
    }
}

/// Guard: keeps a file's date unchanged for an open handle until it is dropped.
pub(crate) struct DateHold(Arc<Node>);

impl DateHold {
    /// A hold on the date of this node; `None` for a directory.
    pub(in crate::vfs) fn new(node: Arc<Node>) -> Option<DateHold> {
        node.file()?.handle_opened();
        Some(DateHold(node))
    }
}

impl Drop for DateHold {
    fn drop(&mut self) {
        if let Some(file) = self.0.file() {
            file.handle_closed();
        }
    }
}
