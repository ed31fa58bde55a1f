//! Exact sizes, where a listing gives none: asked for when somebody looks at a file, and then for its neighbours too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::asking::Asker;
use super::node::{Kind, Node};
use super::{Tree, TreeError};

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
    pub(super) async fn resolve_for(self: &Arc<Self>, node: &Arc<Node>, asker: Asker) -> Result<(), TreeError> {
        if node.has_exact_size() {
            return Ok(());
        }
        self.resolve_ahead(node);
        match self.resolve_one(node, asker).await {
            // It is shown as 0, which nobody believes for long, and can be read in sequence.
            Err(TreeError::SizeUnknown(_)) => Ok(()),
            resolved => resolved,
        }
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
            if child.has_exact_size() {
                continue;
            }
            let (tree, child) = (Arc::clone(self), Arc::clone(child));
            // Who asks about it will hear of its error; here it was only a guess.
            self.runtime
                .spawn(async move { tree.resolve_one(&child, Asker::Guessing).await.ok() });
        }
    }
}
