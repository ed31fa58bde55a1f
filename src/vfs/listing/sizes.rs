//! Exact sizes and dates that a listing lacks: requested at the first `stat` of a file, then for the files that
//! follow it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::vfs::nodes::dates::Learnt;
use crate::vfs::nodes::ino::Ino;
use crate::vfs::nodes::node::{Kind, Node};
use crate::vfs::request::urgency::Urgency;
use crate::vfs::{Tree, TreeError};

/// Number of files whose sizes are requested ahead of the one that `stat` asks for.
const RESOLVE_AHEAD: usize = 64;

impl Tree {
    /// Makes a file's size exact, if the server gives it. If a program asks for one file after another (`ls -l`), the
    /// next ones are requested in parallel.
    ///
    /// # Errors
    /// If the origin does not answer or refuses.
    pub(crate) async fn resolve(self: &Arc<Self>, node: &Arc<Node>) -> Result<(), TreeError> {
        self.resolve_for(node, self.requests.waiting()).await
    }

    /// [`Self::resolve`], with an urgency.
    pub(in crate::vfs) async fn resolve_for(
        self: &Arc<Self>,
        node: &Arc<Node>,
        urgency: Urgency,
    ) -> Result<(), TreeError> {
        if node.is_ready() {
            return Ok(());
        }
        if let Kind::File(file) = &node.kind
            && file.lacks_clock()
        {
            self.find_clock(node, urgency).await;
            return Ok(());
        }
        self.resolve_ahead(node);
        match self.resolve_one(node, urgency).await {
            // Its size is shown as 0, which the kernel does not cache for long, and it can be read in sequence.
            Err(TreeError::SizeUnknown(_)) => Ok(()),
            // Only the date was missing.
            Err(error)
                if node.file().is_some_and(|file| file.exact_size().is_some())
                    && !matches!(error, TreeError::NotFound) =>
            {
                Ok(())
            }
            resolved => resolved,
        }
    }

    /// Learns the clock of a listing: requests one of the file's neighbours that needs a request anyway, if possible
    /// one with the same listed date.
    async fn find_clock(self: &Arc<Self>, node: &Arc<Node>, urgency: Urgency) {
        let Kind::File(file) = &node.kind else { return };
        let Some(parent) = self.node(node.parent) else { return };
        let Kind::Directory(directory) = &parent.kind else {
            return;
        };
        let names = directory.last_known();
        let unsized_file = names.as_ref().and_then(|names| {
            let mut others = (0..names.len()).filter(|&at| !names.is_directory(at) && names.exact_size(at).is_none());
            let first = others.clone().next();
            let same = others.find(|&at| names.is_listed_at(at, file.listed_time()));
            Some(self.child(&parent, names, same.or(first)?))
        });
        if let Some(neighbour) = &unsized_file {
            // The listed date has to do if the server gives none.
            let _ = self.resolve_one(neighbour, urgency.with_older_answer()).await;
            if let Kind::File(file) = &neighbour.kind {
                file.teach_dates();
            }
        }
        directory.dates.set_searched();
    }

    /// Notes a file's dates. Returns the inode numbers whose attributes the kernel may have cached with other dates.
    pub(crate) fn note_dates(&self, node: &Arc<Node>) -> Vec<Ino> {
        let Kind::File(file) = &node.kind else {
            return Vec::new();
        };
        if let Some(listed) = file.to_write() {
            self.cache.catalog().keep_shown(&file.url(), listed, node.ino);
        }
        let mut changed = Vec::new();
        let learnt = file.teach_dates();
        if learnt != Learnt::Nothing
            && let Some(parent) = self.node(node.parent)
            && let Kind::Directory(directory) = &parent.kind
            && let Some(names) = directory.last_known()
        {
            let is_touched = |at: &usize| learnt == Learnt::Clock || names.is_listed_at(*at, file.listed_time());
            let touched = (0..names.len()).filter(is_touched).map(|at| names.ino(at));
            changed.extend(touched.filter(|&ino| ino != node.ino && self.nodes.table.is_known(ino)));
        }
        if file.has_another_date() {
            changed.push(node.ino);
        }
        changed
    }

    /// Keeps a file's date unchanged for an open handle, until the guard is dropped.
    pub(crate) fn hold_date(&self, ino: Ino) -> Option<DateHold> {
        let node = self.node(ino)?;
        match &node.kind {
            Kind::File(file) => file.handle_opened(),
            Kind::Directory(_) => return None,
        }
        Some(DateHold(node))
    }

    /// Starts requests for the files after `node` in its directory, if the sequence of requests has reached it.
    fn resolve_ahead(self: &Arc<Self>, node: &Arc<Node>) {
        let Some(parent) = self.node(node.parent) else { return };
        let Kind::Directory(directory) = &parent.kind else {
            return;
        };
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
            let child = self.child(&parent, &snapshot, next);
            if child.is_ready() {
                continue;
            }
            let tree = Arc::clone(self);
            // A prefetch ignores errors; a later `stat` reports them.
            self.runtime
                .spawn(async move { tree.resolve_one(&child, Urgency::Prefetching).await.ok() });
        }
    }
}

/// Guard from [`Tree::hold_date`].
pub(crate) struct DateHold(Arc<Node>);

impl Drop for DateHold {
    fn drop(&mut self) {
        if let Kind::File(file) = &self.0.kind {
            file.handle_closed();
        }
    }
}
