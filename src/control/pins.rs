//! Pins and evictions on the user's request.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::context::Control;
use super::protocol::{Failure, Reply, TreePath, Wanted};
use crate::cache::{Evicted, Unpinned};
use crate::source::LIBRARY;
use crate::vfs::Node;

/// The refusal of a request that could not be recorded and would be lost with the mount.
pub(super) const NOT_RECORDED: &str =
    "it can't be recorded, because the cache directory can't be written; see the mount's log";

/// How long a file may still seem in use after its last close.
const LEAVING: Duration = Duration::from_millis(500);

/// Number of attempts within that time.
const TRIES: u32 = 5;

/// A file or directory that a request names.
struct Named {
    path: TreePath,
    /// The path that the user has named: this one, or a directory above it.
    asked: TreePath,
    node: Arc<Node>,
    /// The URL under which the cache stores it.
    url: Url,
}

impl Control {
    pub(super) async fn pin(&self, paths: Vec<TreePath>, fetch: bool) -> Reply {
        let (named, mut failures) = self.named(paths).await;
        let named = self.with_files(named, &mut failures).await;
        let mut pinned: Vec<TreePath> = Vec::new();
        for Named { path, asked, node, url } in named {
            let is_directory = node.is_directory();
            match self.with_cache(move |cache| cache.pin(&url, is_directory)).await {
                Some(true) if pinned.last() == Some(&asked) => {}
                Some(true) => pinned.push(asked),
                Some(false) => failures.push(Failure {
                    path,
                    reason: NOT_RECORDED.to_owned(),
                }),
                None => failures.push(ending(path)),
            }
        }
        let job = if fetch && !pinned.is_empty() {
            let wanted = Wanted {
                paths: pinned,
                ranges: Vec::new(),
                recursive: true,
            };
            let jobs = Arc::clone(&self.jobs);
            self.with_cache(move |_| jobs.start(wanted)).await.flatten()
        } else {
            None
        };
        Reply::Pinned { job, failures }
    }

    pub(super) async fn unpin(&self, paths: Vec<TreePath>) -> Reply {
        let (named, mut failures) = self.named(paths).await;
        let named = self.with_files(named, &mut failures).await;
        for Named { path, url, .. } in named {
            let reason = match self.with_cache(move |cache| cache.unpin(&url)).await {
                Some(Unpinned::Done) => continue,
                Some(Unpinned::WasNot) => "it is not pinned".to_owned(),
                Some(Unpinned::Below(above)) => format!("it is pinned through {above}; unpin that directory"),
                None => {
                    failures.push(ending(path));
                    continue;
                }
            };
            failures.push(Failure { path, reason });
        }
        Reply::Unpinned { failures }
    }

    pub(super) async fn list_pins(&self) -> Reply {
        let urls = self.with_cache(|cache| cache.pins()).await;
        Reply::Pins {
            urls: urls.unwrap_or_default(),
        }
    }

    pub(super) async fn evict(&self, paths: Vec<TreePath>, recursive: bool, force: bool) -> Reply {
        let (named, mut failures) = self.named(paths).await;
        let (mut files, mut bytes) = (0, 0);
        let (named, refused): (Vec<_>, Vec<_>) = named
            .into_iter()
            .partition(|named| recursive || !named.node.is_directory());
        failures.extend(refused.into_iter().map(|Named { path, .. }| Failure {
            path,
            reason: "it is a directory; use --recursive to evict the files below it".to_owned(),
        }));
        for Named { path, node, url, .. } in self.with_files(named, &mut failures).await {
            let is_directory = node.is_directory();
            let Some(evicted) = self.evict_one(url, is_directory, force).await else {
                failures.push(ending(path));
                continue;
            };
            files += evicted.gone.len() as u64;
            bytes += evicted.gone.iter().map(|held| held.bytes).sum::<u64>();
            failures.extend(what_stays(&path, is_directory, &evicted));
        }
        Reply::Evicted { files, bytes, failures }
    }

    /// Evicts, and retries for a moment what seems in use: the kernel releases a file only after `close` has
    /// returned.
    async fn evict_one(&self, url: Url, is_directory: bool, force: bool) -> Option<Evicted> {
        let mut all = Evicted::default();
        for _ in 0..TRIES {
            let url = url.clone();
            let evicted = self
                .with_cache(move |cache| cache.evict(&url, is_directory, force))
                .await?;
            all.gone.extend(evicted.gone);
            (all.pinned, all.in_use) = (evicted.pinned, evicted.in_use);
            if all.in_use.is_empty() {
                break;
            }
            tokio::time::sleep(LEAVING / TRIES).await;
        }
        Some(all)
    }

    /// Replaces each directory in a document by the files below it: their URLs do not begin with its own, by which the
    /// cache knows what is below a directory.
    async fn with_files(&self, named: Vec<Named>, failures: &mut Vec<Failure>) -> Vec<Named> {
        let (mut all, mut left) = (Vec::new(), named);
        left.reverse();
        while let Some(next) = left.pop() {
            if !next.node.is_directory() || !is_in_document(&next.url) {
                all.push(next);
                continue;
            }
            match self.tree.list(&next.node).await {
                Ok(names) => left.extend((0..names.len()).rev().filter_map(|at| {
                    let node = self.tree.child(&next.node, &names, at);
                    Some(Named {
                        path: next.path.join(names.name(at)),
                        asked: next.asked.clone(),
                        url: node.url()?,
                        node,
                    })
                })),
                Err(error) => failures.push(Failure {
                    path: next.path,
                    reason: error.to_string(),
                }),
            }
        }
        all
    }

    /// Looks paths up. The root of a mount of several sources stands for all of them.
    async fn named(&self, paths: Vec<TreePath>) -> (Vec<Named>, Vec<Failure>) {
        let (mut named, mut failures) = (Vec::new(), Vec::new());
        for path in paths {
            match self.tree.find(path.names()).await {
                Ok((_, node)) => match node.url() {
                    Some(url) => named.push(Named {
                        asked: path.clone(),
                        path,
                        node,
                        url,
                    }),
                    None => {
                        let names = node.list_now().and_then(Result::ok);
                        if let Some(names) = names {
                            named.extend((0..names.len()).filter_map(|at| {
                                let (path, node) = (path.join(names.name(at)), self.tree.child(&node, &names, at));
                                let url = node.url()?;
                                Some(Named {
                                    asked: path.clone(),
                                    path,
                                    node,
                                    url,
                                })
                            }));
                        }
                    }
                },
                Err(error) => failures.push(Failure {
                    path,
                    reason: error.to_string(),
                }),
            }
        }
        (named, failures)
    }
}

/// Returns true if this is the URL of a directory that only a document or a library describes.
fn is_in_document(url: &Url) -> bool {
    url.scheme().contains('+') || url.scheme() == LIBRARY
}

/// The failures to report for what an eviction left: one sentence for each reason.
fn what_stays(path: &TreePath, is_directory: bool, evicted: &Evicted) -> Vec<Failure> {
    let stays = [
        (evicted.pinned.len(), "pinned", "use --force to evict it"),
        (evicted.in_use.len(), "in use", "close it first"),
    ];
    let stays = stays.into_iter().filter(|(count, ..)| *count > 0);
    stays
        .map(|(count, why, advice)| Failure {
            path: path.clone(),
            reason: match count {
                1 if !is_directory => format!("it is {why} and was kept; {advice}"),
                1 => format!("one of the files in it is {why} and was kept; {advice}"),
                count => format!("{count} of the files in it are {why} and were kept; {advice}"),
            },
        })
        .collect()
}

fn ending(path: TreePath) -> Failure {
    Failure {
        path,
        reason: "the mount is shutting down".to_owned(),
    }
}
