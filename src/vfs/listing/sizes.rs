//! Exact sizes and dates, where a listing gives none: asked for at the first `stat` of a file, and then for its neighbours too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dates::Learnt;
use crate::vfs::node::{Ino, Kind, Node};
use crate::vfs::request::Urgency;
use crate::vfs::{Tree, TreeError};

/// How many files' sizes are asked for ahead of the one that was asked about.
const RESOLVE_AHEAD: usize = 64;

impl Tree {
    /// Makes sure that a file's size is known exactly, if the server can tell; and, when a directory's files are asked
    /// about one after another (`ls -l`), asks for the next ones side by side.
    ///
    /// # Errors
    /// When the origin does not answer, or refuses.
    pub async fn resolve(self: &Arc<Self>, node: &Arc<Node>) -> Result<(), TreeError> {
        self.resolve_for(node, self.waiting()).await
    }

    /// [`Self::resolve`], for this asker.
    pub(in crate::vfs) async fn resolve_for(
        self: &Arc<Self>,
        node: &Arc<Node>,
        asker: Urgency,
    ) -> Result<(), TreeError> {
        if node.is_ready() {
            return Ok(());
        }
        if let Kind::File(file) = &node.kind
            && file.lacks_clock()
        {
            self.find_clock(node, asker).await;
            return Ok(());
        }
        self.resolve_ahead(node);
        match self.resolve_one(node, asker).await {
            // It is shown as 0, which nobody believes for long, and can be read in sequence.
            Err(TreeError::SizeUnknown(_)) => Ok(()),
            // Only its date was wanted.
            Err(error) if node.has_exact_size() && !matches!(error, TreeError::NotFound) => Ok(()),
            resolved => resolved,
        }
    }

    /// Asks about one of a file's neighbours that has to be asked about anyway, to learn of the listing's clock: one with the same listed
    /// date if there is one.
    async fn find_clock(self: &Arc<Self>, node: &Arc<Node>, asker: Urgency) {
        let Kind::File(file) = &node.kind else { return };
        let Some(parent) = self.node(node.parent) else { return };
        let Kind::Directory(directory) = &parent.kind else {
            return;
        };
        let names = directory.last_known();
        let unsized_file = names.as_ref().and_then(|names| {
            let others = names.children().iter().map(|(_, child)| child);
            let mut others = others.filter(|child| !child.has_exact_size());
            let first = others.clone().next();
            let same = others.find(|other| matches!(&other.kind, Kind::File(other) if other.is_listed_with(file)));
            same.or(first)
        });
        if let Some(neighbour) = unsized_file {
            // The listed date has to do if the server tells nothing.
            let _ = self.resolve_one(neighbour, asker.who_knows_something()).await;
            if let Kind::File(file) = &neighbour.kind {
                file.teach_dates();
            }
        }
        directory.dates.set_searched();
    }

    /// Notes what is known of a file's dates by now. Returns the numbers of the nodes whose attributes the kernel may have otherwise.
    pub fn note_dates(&self, node: &Arc<Node>) -> Vec<Ino> {
        let Kind::File(file) = &node.kind else {
            return Vec::new();
        };
        if let Some(listed) = file.to_write() {
            self.cache.catalogue().keep_shown(&file.url, listed, node.ino);
        }
        let mut changed = Vec::new();
        let learnt = file.teach_dates();
        if learnt != Learnt::Nothing
            && let Some(parent) = self.node(node.parent)
            && let Kind::Directory(directory) = &parent.kind
            && let Some(names) = directory.last_known()
        {
            let is_touched = |other: &Node| match &other.kind {
                _ if learnt == Learnt::Clock => true,
                Kind::File(other) => other.is_listed_with(file),
                Kind::Directory(_) => false,
            };
            let others = names.children().iter().map(|(_, child)| child);
            let touched = others.filter(|other| other.ino != node.ino && is_touched(other));
            changed.extend(touched.map(|other| other.ino).filter(|&ino| self.nodes.is_known(ino)));
        }
        if file.has_another_date() {
            changed.push(node.ino);
        }
        changed
    }

    /// A handle has a file open: until this is dropped the file's date stays.
    pub fn hold_date(&self, ino: Ino) -> Option<DateHold> {
        let node = self.node(ino)?;
        match &node.kind {
            Kind::File(file) => file.handle_opened(),
            Kind::Directory(_) => return None,
        }
        Some(DateHold(node))
    }

    /// Starts asking for what comes after `node` in its directory, if it is where the asking stands.
    fn resolve_ahead(self: &Arc<Self>, node: &Arc<Node>) {
        let Some(parent) = self.node(node.parent) else { return };
        let Kind::Directory(directory) = &parent.kind else {
            return;
        };
        let Some(snapshot) = directory.last_known() else { return };
        let children = snapshot.children();
        let Some(at) = snapshot.position(node.ino) else { return };
        // The last position asked for; the reader follows it at some distance.
        let asked = directory.resolved_until.load(Ordering::Relaxed);
        if at > asked || at + 2 * RESOLVE_AHEAD < asked {
            // Elsewhere: an isolated question, and perhaps the first of a row from there.
            directory.resolved_until.store(at + 1, Ordering::Relaxed);
            return;
        }
        let until = (at + 1 + RESOLVE_AHEAD).min(children.len());
        if directory.resolved_until.fetch_max(until, Ordering::Relaxed) >= until {
            return;
        }
        for (_, child) in &children[asked.max(at + 1)..until] {
            if child.is_ready() {
                continue;
            }
            let (tree, child) = (Arc::clone(self), Arc::clone(child));
            // Who asks about it will hear of its error; here it was only a guess.
            self.runtime
                .spawn(async move { tree.resolve_one(&child, Urgency::Guessing).await.ok() });
        }
    }
}

/// See [`Tree::hold_date`].
pub struct DateHold(Arc<Node>);

impl Drop for DateHold {
    fn drop(&mut self) {
        if let Kind::File(file) = &self.0.kind {
            file.handle_closed();
        }
    }
}
