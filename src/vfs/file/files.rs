//! Opens files and finds out their sizes: which version a name stands for now, and its cache entry.
//!
//! The origin's answer is fresh for the tree's `ttl`; then it is revalidated. Concurrent calls for one file share a
//! request.

use std::sync::Arc;

use url::Url;

use super::revalidator::Revalidator;
use crate::cache::{CacheEntry, Held, Priority};
use crate::http::{HttpError, HttpErrorKind, Origin, redact};
use crate::origin::{ChecksumFilesBeside, Content, ListedSize, is_of_a_release, names_for};
use crate::vfs::error::TreeError;
use crate::vfs::nodes::changes::Changes;
use crate::vfs::nodes::node::Node;
use crate::vfs::nodes::remote_file::RemoteFile;
use crate::vfs::request::urgency::Urgency;
use crate::vfs::shared::Shared;

/// Bytes that are fetched at the open of a version that replaced another. `tail -F` reads a file a second after
/// opening it. By then the server may have the next version, and what is not cached can't be fetched any more.
const FIRST_OF_SUCCESSOR: u64 = 256 << 10;

/// Maximum number of checksum files that are read for one file.
const MOST_CHECKSUM_FILES: usize = 4;

/// Up to this many names, a directory is searched for the checksum files of a release, whose names can't be derived.
const MOST_SEARCHED: usize = 256;

/// The files of a mount.
pub(in crate::vfs) struct Files {
    pub(in crate::vfs) shared: Arc<Shared>,
    pub(in crate::vfs) revalidator: Arc<Revalidator>,
}

impl Files {
    /// Asks the origin for a file's size and version. Concurrent calls for one file share a request.
    pub(super) async fn resolve(&self, node: &Arc<Node>, urgency: Urgency) -> Result<(), TreeError> {
        let Some(file) = node.file() else { return Ok(()) };
        self.shared.nodes.pin_in_directory(node);
        let (url, asking) = (&file.url(), file.asking());
        let _one_at_a_time = self.shared.requests.in_time(url, urgency, asking.lock()).await?;
        if file.is_ready() {
            return Ok(());
        }
        let revalidator = &self.revalidator;
        if file.exact_size().is_some() {
            let stored = revalidator.stored(url).await;
            let version = stored.as_ref().map(|stored| stored.version.clone());
            let answer = revalidator.confirm_newer(node, version).await;
            file.note_date_asked();
            if let Some(stored) = stored
                && !matches!(answer, Some(Ok(_)))
            {
                file.note(stored);
            }
            return answer.map_or(Ok(()), |answer| answer.map(|_| ()));
        }
        let stored = if file.is_stored() {
            revalidator.stored(url).await
        } else {
            None
        };
        let answer = match &stored {
            // A changed file would have another date in the listing, so there is nothing to ask.
            Some(_) if file.listed_time().is_some() => None,
            Some(stored) => revalidator.confirm_newer(node, Some(stored.version.clone())).await,
            None => Some(revalidator.confirm(file, None, urgency).await),
        };
        let known = match answer {
            None => stored,
            Some(Ok(known)) => known,
            // The last answer is good enough while the origin can't be asked.
            Some(Err(error)) => Some(revalidator.stored_instead(url, error).await?),
        };
        file.note(known.ok_or_else(|| TreeError::SizeUnknown(url.clone()))?);
        Ok(())
    }

    /// Asks the origin for a file's current version now, however fresh the known one is. A failure is not retried.
    ///
    /// # Errors
    /// If the origin gives no answer. The known version stays then.
    pub(in crate::vfs) async fn refresh(&self, node: &Arc<Node>) -> Result<Changes, TreeError> {
        let file = node.file().ok_or(TreeError::IsADirectory)?;
        self.shared.nodes.pin_in_directory(node);
        let (url, asking, urgency) = (&file.url(), file.asking(), Urgency::Refreshing);
        let _one_at_a_time = self.shared.requests.in_time(url, urgency, asking.lock()).await?;
        let before = match file.version() {
            Some(version) => Some(version),
            None => self.revalidator.stored(url).await.map(|stored| stored.version),
        };
        let size_before = before.as_ref().map(|version| version.size).or(file.exact_size());
        let now = match self.revalidator.confirm(file, before.as_ref(), urgency).await {
            Ok(now) => now.map(|now| now.version),
            Err(TreeError::NotFound) => {
                (self.shared.attributes_changed)(node.ino);
                return Ok(Changes {
                    gone: 1,
                    ..Changes::default()
                });
            }
            // It is a directory.
            Err(TreeError::Changed) => None,
            Err(error) => return Err(error),
        };
        let is_another = match (&before, &now) {
            (Some(before), Some(now)) => before != now,
            (None, Some(now)) => size_before.is_some_and(|size| size != now.size),
            (_, None) => file.is_changed(),
        };
        if now.is_some_and(|now| !file.admits(&now)) || is_another {
            (self.shared.attributes_changed)(node.ino);
        }
        Ok(Changes {
            changed: u64::from(is_another),
            ..Changes::default()
        })
    }

    /// The entry to open, from memory. `None` if the origin or the index has to be asked.
    pub(in crate::vfs) fn open_now(&self, node: &Node) -> Option<Result<Arc<CacheEntry>, TreeError>> {
        match node.file() {
            None => Some(Err(TreeError::IsADirectory)),
            Some(file) if file.is_changed() => Some(Err(TreeError::Changed)),
            Some(file) => file.open_entry(self.shared.ttl.get()).map(Ok),
        }
    }

    /// The cache entry of a file's current version.
    ///
    /// - A file with nothing in the cache, whose bytes were never shown, is opened without a request. Its first range
    ///   gives the version.
    /// - Otherwise one request confirms that the version is still current, unless one did within the tree's `ttl`, or a
    ///   listing with its entity tag.
    ///
    /// # Errors
    /// [`TreeError::Changed`] if the node is of an outdated version.
    pub(in crate::vfs) async fn open(&self, node: &Arc<Node>, urgency: Urgency) -> Result<Arc<CacheEntry>, TreeError> {
        let file = node.file().ok_or(TreeError::IsADirectory)?;
        self.shared.nodes.pin_in_directory(node);
        let (url, asking) = (&file.url(), file.asking());
        let _one_at_a_time = self.shared.requests.in_time(url, urgency, asking.lock()).await?;
        if let Some(answer) = self.open_now(node) {
            return answer;
        }
        let entry = match self.current_version(node, file, urgency).await? {
            Some(held) => self.entry_of_version(node, file, held).await?,
            None => self.entry_by_listing(node, file)?,
        };
        file.opened(&entry);
        if file.is_successor() && !self.shared.client.is_offline() && !self.shared.cache.is_disk_failing() {
            let first = 0..FIRST_OF_SUCCESSOR.min(entry.size());
            self.shared.cache.manager().request(&entry, first, Priority::High);
        }
        Ok(entry)
    }

    /// The entry of what the cache has of a file; see [`Tree::cached_entry`](crate::vfs::Tree::cached_entry).
    pub(in crate::vfs) fn cached_entry(&self, file: &RemoteFile) -> Option<Arc<CacheEntry>> {
        file.live_entry().or_else(|| {
            let (cache, content) = (&self.shared.cache, self.revalidator.content(file));
            let held = cache.newest(&file.url())?;
            let origin = self.origin_of(content.url()).ok()?;
            cache.entry(content, origin, &held).ok()
        })
    }

    /// The version to open; `None` if the first range may decide it.
    async fn current_version(
        &self,
        node: &Arc<Node>,
        file: &RemoteFile,
        urgency: Urgency,
    ) -> Result<Option<Held>, TreeError> {
        let (url, revalidator) = (&file.url(), &self.revalidator);
        if let Some(known) = file.freshly_known(self.shared.ttl.get()) {
            return Ok(Some(revalidator.held(url, known).await?));
        }
        let (open, shown) = (file.live_entry(), file.shown());
        let held = revalidator.newest(url).await;
        // The kernel may have pages of what was shown, even if the cache has evicted all of it. Then it would not
        // read the first range, or it would mix new bytes with old pages.
        let is_new = held.is_none() && open.is_none() && shown.is_none();
        if is_new && matches!(file.listed_size(), ListedSize::Exact(_)) {
            return Ok(None);
        }
        let before = match (held, shown) {
            (Some(held), _) => Some(held),
            (None, Some(shown)) => Some(revalidator.held(url, shown).await?),
            (None, None) => match revalidator.stored(url).await {
                Some(stored) => Some(revalidator.held(url, stored).await?),
                None => None,
            },
        };
        if let Some(before) = &before
            && let Some(known) = revalidator.listed(node, before)
        {
            file.note(known);
            return Ok(Some(before.clone()));
        }
        let answer = match &before {
            None => Some(revalidator.confirm(file, None, urgency).await),
            Some(before) => revalidator.confirm_newer(node, Some(before.version.clone())).await,
        };
        let known = match answer {
            None => return Ok(before),
            Some(Err(TreeError::NotAsked)) if before.is_some() => return Ok(before),
            Some(Ok(known)) => known.ok_or_else(|| TreeError::SizeUnknown(url.clone()))?,
            Some(Err(error)) => revalidator.stored_instead(url, error).await?,
        };
        Ok(Some(revalidator.held(url, known).await?))
    }

    /// What is known of a file's content, with the files beside it that may have its hash.
    fn content(&self, node: &Node, file: &RemoteFile) -> Content {
        let content = self.revalidator.content(file);
        if content.is_hashed() {
            return content;
        }
        content.with_checksum_files(self.checksum_files(node))
    }

    /// The checksum files in a file's directory, by names of the listing that is known.
    fn checksum_files(&self, node: &Node) -> Option<ChecksumFilesBeside> {
        let parent = self.shared.nodes.get(node.parent())?;
        let names = parent.last_known()?;
        let own = names.position(node.ino)?;
        let name = names.name(own).to_str()?.to_owned();
        let entries = names.listed.entries();
        let found = names_for(&name).filter_map(|name| names.listed.find(name.as_ref()));
        let searched = if names.len() <= MOST_SEARCHED { names.len() } else { 0 };
        let of_release = (0..searched).filter(|&at| names.name(at).to_str().is_some_and(is_of_a_release));
        let files = found
            .chain(of_release)
            .filter(|&at| at != own && !entries.is_directory(at));
        let urls: Vec<Url> = files.take(MOST_CHECKSUM_FILES).map(|at| entries.url(at)).collect();
        (!urls.is_empty()).then_some(ChecksumFilesBeside { name, urls })
    }

    async fn entry_of_version(&self, node: &Node, file: &RemoteFile, held: Held) -> Result<Arc<CacheEntry>, TreeError> {
        if !file.admits(&held.version) {
            return Err(TreeError::Changed);
        }
        if let Some(entry) = file.live_entry() {
            return Ok(entry);
        }
        let content = self.content(node, file);
        let origin = self.origin_of(content.url())?;
        let opened = self
            .shared
            .cache
            .blocking(move |cache| cache.entry(content, origin, &held));
        Ok(opened.await??)
    }

    fn entry_by_listing(&self, node: &Node, file: &RemoteFile) -> Result<Arc<CacheEntry>, TreeError> {
        let mut content = self.content(node, file);
        // The origin may have given another size since the listing.
        content.size = ListedSize::Exact(file.shown_size());
        let (changed, ino) = (Arc::clone(&self.shared.attributes_changed), node.ino);
        let on_resize = Box::new(move || changed(ino));
        let origin = self.origin_of(content.url())?;
        Ok(self.shared.cache.unsettled(content, origin, on_resize))
    }

    /// The origin that a file's bytes come from, as far as is known: where redirects last led.
    fn origin_of(&self, url: &Url) -> Result<Origin, TreeError> {
        let origin = self.shared.client.origin_of(url);
        origin.ok_or_else(|| {
            let kind = HttpErrorKind::BadAnswer("its URL is not http or https".to_owned());
            HttpError { kind, url: redact(url) }.into()
        })
    }
}
