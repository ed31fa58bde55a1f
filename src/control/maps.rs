//! Maps of files: which parts are cached, in flight and waited for.

use std::sync::Arc;

use super::context::Control;
use super::protocol::{Failure, FileMap, Reply, TreePath};
use crate::cache::CacheEntry;
use crate::http::redact;
use crate::vfs::Node;

impl Control {
    /// The maps of these files. Asks no server for more than their names.
    pub(super) async fn maps(&self, paths: Vec<TreePath>) -> Reply {
        let (mut files, mut failures) = (Vec::new(), Vec::new());
        for path in paths {
            match self.map(&path).await {
                Ok(map) => files.push(map),
                Err(reason) => failures.push(Failure { path, reason }),
            }
        }
        Reply::Maps { files, failures }
    }

    async fn map(&self, path: &TreePath) -> Result<FileMap, String> {
        let (_, node) = self.tree.find(path.names()).await.map_err(|error| error.to_string())?;
        if node.is_directory() {
            return Err("it is a directory; name a file".to_owned());
        }
        let (tree, cached) = (Arc::clone(&self.tree), Arc::clone(&node));
        let entry = self.with_cache(move |_| tree.cached_entry(&cached)).await.flatten();
        Ok(match entry {
            None => self.nothing_cached(path, &node),
            Some(entry) => self.map_of(path.clone(), &entry),
        })
    }

    /// The map of a file that the cache knows.
    pub(super) fn map_of(&self, path: TreePath, entry: &Arc<CacheEntry>) -> FileMap {
        let activity = self.cache.manager().activity(entry);
        FileMap {
            path,
            url: redact(entry.url()).to_string(),
            size: entry.size(),
            chunk_size: entry.chunk.bytes(),
            cached: entry.present(),
            in_flight: activity.in_flight,
            wanted: activity.wanted,
            waiting: activity.waiting,
        }
    }

    fn nothing_cached(&self, path: &TreePath, node: &Node) -> FileMap {
        FileMap {
            path: path.clone(),
            url: node.url().map(|url| redact(&url).to_string()).unwrap_or_default(),
            size: node.attributes().size,
            chunk_size: self.cache.chunk_size().bytes(),
            cached: Vec::new(),
            in_flight: Vec::new(),
            wanted: Vec::new(),
            waiting: Vec::new(),
        }
    }
}
