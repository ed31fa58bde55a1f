//! Files: from what a listing says to a version whose bytes can be read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use url::Url;

use super::node::{Attributes, Ino, Kind, Node};
use super::{Tree, TreeError};
use crate::cache::{Cache, CacheEntry, Confirmed, Held, ReadError};
use crate::http::{HttpError, HttpErrorKind, Metadata, Origin, Version, redact};
use crate::source::{ListedSize, ListedTime};

/// One version of a remote file, as far as it is known.
pub struct RemoteFile {
    url: Url,
    listed_size: ListedSize,
    listed_time: Option<ListedTime>,
    /// The date that was first shown for this node. It stays: `tar` takes a file whose dates move
    /// while it is read for one that was changed.
    shown_time: OnceLock<SystemTime>,
    state: Mutex<State>,
    changed: AtomicBool,
    /// Held by the one who asks the origin, so that it is asked once.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// What the origin said of it apart from its bytes, and when.
    known: Option<Known>,
    /// The cache entry, while anybody or the cache keeps it open.
    entry: Weak<CacheEntry>,
    /// The version of the bytes that were shown under this node. The kernel may keep their pages, so
    /// **the node never shows another version's**.
    shown: Arc<OnceLock<Confirmed>>,
}

#[derive(Clone)]
struct Known {
    version: Version,
    modified: Option<SystemTime>,
    at: Instant,
}

impl RemoteFile {
    /// A file of which a listing tells.
    pub fn listed(url: Url, listed_size: ListedSize, listed_time: Option<ListedTime>) -> RemoteFile {
        RemoteFile {
            url,
            listed_size,
            listed_time,
            shown_time: OnceLock::new(),
            state: Mutex::default(),
            changed: AtomicBool::new(false),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// A file of which the origin has told.
    pub fn known(url: Url, metadata: Metadata) -> RemoteFile {
        let file = RemoteFile::listed(url, ListedSize::Unknown, None);
        file.state.lock().known = Known::of(metadata);
        file
    }

    /// The same URL, of whose new version nothing is known yet.
    pub fn next_version(&self) -> RemoteFile {
        // What the listing said may have been said of either version.
        RemoteFile::listed(self.url.clone(), ListedSize::Unknown, None)
    }

    /// The one truth for the size, or the best guess while there is none; and whether it is exact.
    fn size(&self) -> (u64, bool) {
        let state = self.state.lock();
        match (state.shown.get(), &state.known, self.listed_size) {
            (Some(shown), ..) => (shown.version.size, true),
            (None, Some(known), _) => (known.version.size, true),
            (None, None, ListedSize::Exact(size)) => (size, true),
            (None, None, ListedSize::Rounded(size)) => (size, false),
            (None, None, ListedSize::Unknown) => (0, false),
        }
    }

    /// The size that is shown now, in bytes.
    pub fn shown_size(&self) -> u64 {
        self.size().0
    }

    /// See [`Node::has_exact_size`].
    pub fn has_exact_size(&self) -> bool {
        self.size().1
    }

    /// See [`Node::is_changed`].
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
            || self
                .state
                .lock()
                .entry
                .upgrade()
                .is_some_and(|entry| entry.is_changed())
    }

    /// Whether what a newer listing says can be true of this version.
    pub fn still_fits(&self, url: &Url, size: ListedSize, time: Option<ListedTime>) -> bool {
        *url == self.url && size == self.listed_size && time == self.listed_time
    }

    /// What `stat` shows.
    pub fn attributes(&self, ino: Ino, mounted: SystemTime) -> Attributes {
        let (size, is_exact) = self.size();
        let modified = || {
            let known = self.state.lock().known.as_ref().and_then(|known| known.modified);
            known.or(self.listed_time.map(|listed| listed.time)).unwrap_or(mounted)
        };
        // While the size is a guess, the origin has yet to be asked, and will tell the date too.
        let modified = if is_exact {
            *self.shown_time.get_or_init(modified)
        } else {
            modified()
        };
        Attributes {
            ino,
            is_directory: false,
            size,
            is_exact,
            modified: modified.max(UNIX_EPOCH),
            links: 1,
        }
    }

    /// What the origin said of it within `ttl`: by itself, or with its bytes.
    fn freshly_known(&self, ttl: Duration) -> Option<Known> {
        let state = self.state.lock();
        let shown = state
            .shown
            .get()
            .cloned()
            .map(|Confirmed { version, modified, at }| Known { version, modified, at });
        state
            .known
            .clone()
            .into_iter()
            .chain(shown)
            .find(|known| known.at.elapsed() < ttl)
    }

    /// The open entry, if its version was confirmed within `ttl`; or if nobody knows its version
    /// yet, because its first range is still on its way.
    fn open_entry(&self, ttl: Duration) -> Option<Arc<CacheEntry>> {
        let entry = self.state.lock().entry.upgrade()?;
        (entry.settled().is_none() || self.freshly_known(ttl).is_some()).then_some(entry)
    }
}

impl Known {
    fn of(metadata: Metadata) -> Option<Known> {
        let version = metadata.version?;
        Some(Known {
            version,
            modified: metadata.modified,
            at: Instant::now(),
        })
    }
}

impl Tree {
    /// Asks the origin for a file's size, once.
    pub(super) async fn resolve_one(self: &Arc<Self>, node: &Node) -> Result<(), TreeError> {
        let Kind::File(file) = &node.kind else { return Ok(()) };
        let _one_at_a_time = file.asking.lock().await;
        if file.has_exact_size() {
            return Ok(());
        }
        // What the cache holds is good enough while the origin can't be asked.
        let known = match self.metadata(&file.url).await.map(Known::of) {
            Ok(Some(known)) => known,
            Ok(None) => return Err(unknown_size(&file.url)),
            Err(error) => match self.held_instead(&file.url, &error).await {
                Some(held) => Known {
                    version: held.version,
                    modified: held.modified,
                    at: Instant::now(),
                },
                None => return Err(error.into()),
            },
        };
        file.state.lock().known = Some(known);
        Ok(())
    }

    /// The entry to open, if memory can tell.
    pub fn open_now(&self, node: &Node) -> Option<Result<Arc<CacheEntry>, TreeError>> {
        match &node.kind {
            Kind::Directory(_) => Some(Err(TreeError::IsADirectory)),
            Kind::File(file) if file.is_changed() => Some(Err(TreeError::Changed)),
            Kind::File(file) => file.open_entry(self.ttl).map(Ok),
        }
    }

    /// The cache entry of a file's current version.
    ///
    /// A file that the cache holds nothing of is opened without asking: the first range tells its
    /// version. Otherwise one request confirms that the version is still the current one, unless
    /// one did within the tree's `ttl`.
    ///
    /// # Errors
    /// [`TreeError::Changed`] when this node is of a version that is no longer the current one.
    pub async fn open(self: &Arc<Self>, node: &Arc<Node>) -> Result<Arc<CacheEntry>, TreeError> {
        let Kind::File(file) = &node.kind else {
            return Err(TreeError::IsADirectory);
        };
        let _one_at_a_time = file.asking.lock().await;
        if let Some(answer) = self.open_now(node) {
            return answer;
        }
        let entry = match self.current_version(node, file).await? {
            Some(held) => self.entry_of_version(node.ino, file, &held).await?,
            None => self.entry_by_listing(node.ino, file)?,
        };
        let mut state = file.state.lock();
        state.entry = Arc::downgrade(&entry);
        if state.shown.get().is_none() {
            state.shown = Arc::clone(entry.confirmed());
        }
        Ok(entry)
    }

    /// The version to open; `None` if the first range may tell.
    async fn current_version(self: &Arc<Self>, node: &Arc<Node>, file: &RemoteFile) -> Result<Option<Held>, TreeError> {
        if let Some(Known { version, modified, .. }) = file.freshly_known(self.ttl) {
            return Ok(Some(self.held(&file.url, version, modified).await?));
        }
        let is_open = file.state.lock().entry.upgrade();
        let held = self.newest(&file.url).await;
        if held.is_none() && is_open.is_none() && matches!(file.listed_size, ListedSize::Exact(_)) {
            return Ok(None);
        }
        let answer = match &held {
            None => self.confirm(file).await,
            Some(held) => {
                let (tree, node) = (Arc::clone(self), Arc::clone(node));
                let ask = async move {
                    match &node.kind {
                        Kind::File(file) => Some(tree.confirm(file).await),
                        Kind::Directory(_) => None,
                    }
                };
                match self.ask_for_newer(&file.url, ask).await.flatten() {
                    Some(answer) => answer,
                    None => return Ok(Some(held.clone())),
                }
            }
        };
        match answer {
            Ok(Some(known)) => Ok(Some(self.held(&file.url, known.version, known.modified).await?)),
            Ok(None) => Err(unknown_size(&file.url)),
            Err(error) => Ok(Some(self.held_instead(&file.url, &error).await.ok_or(error)?)),
        }
    }

    /// Asks the origin which version is the current one, and notes it.
    async fn confirm(&self, file: &RemoteFile) -> Result<Option<Known>, HttpError> {
        let known = self.metadata(&file.url).await.map(Known::of)?;
        if known.is_some() {
            file.state.lock().known.clone_from(&known);
        }
        Ok(known)
    }

    async fn entry_of_version(&self, ino: Ino, file: &RemoteFile, held: &Held) -> Result<Arc<CacheEntry>, TreeError> {
        {
            let state = file.state.lock();
            if state.shown.get().is_some_and(|shown| shown.version != held.version) {
                file.changed.store(true, Ordering::Release);
                return Err(TreeError::Changed);
            }
            if let Some(entry) = state.entry.upgrade() {
                return Ok(entry);
            }
        }
        let origin = origin_of(&file.url)?;
        let (url, held) = (file.url.clone(), held.clone());
        Ok(self
            .with_cache(move |cache| cache.entry(&url, origin, ino, &held))
            .await??)
    }

    fn entry_by_listing(&self, ino: Ino, file: &RemoteFile) -> Result<Arc<CacheEntry>, TreeError> {
        Ok(self
            .cache
            .unsettled(&file.url, origin_of(&file.url)?, ino, file.shown_size()))
    }

    /// What the cache holds of a URL, while the origin can't say what is current. Only a word that
    /// it is gone (404, 410) keeps it from being served.
    async fn held_instead(&self, url: &Url, error: &HttpError) -> Option<Held> {
        if matches!(error.kind, HttpErrorKind::NotFound(_)) {
            return None;
        }
        let held = self.newest(url).await?;
        log::warn!("{error}; serving what the cache has of it");
        Some(held)
    }

    async fn newest(&self, url: &Url) -> Option<Held> {
        let url = url.clone();
        self.with_cache(move |cache| cache.newest(&url)).await.ok().flatten()
    }

    async fn held(&self, url: &Url, version: Version, modified: Option<SystemTime>) -> Result<Held, ReadError> {
        let url = url.clone();
        self.with_cache(move |cache| cache.current(&url, version, modified))
            .await
    }

    /// Does something with the cache that blocks for a query or a system call, on a thread for that.
    async fn with_cache<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let cache = Arc::clone(&self.cache);
        // It fails only if the work panics, or if the runtime is going down.
        tokio::task::spawn_blocking(move || work(&cache))
            .await
            .map_err(|err| ReadError::Store(err.to_string()))
    }
}

fn origin_of(url: &Url) -> Result<Origin, TreeError> {
    Origin::of(url).ok_or_else(|| bad_answer(url, "its address is not http or https"))
}

fn unknown_size(url: &Url) -> TreeError {
    bad_answer(url, "the server does not tell the file's size")
}

fn bad_answer(url: &Url, what: &str) -> TreeError {
    TreeError::Http(HttpError {
        kind: HttpErrorKind::BadAnswer(what.to_owned()),
        url: redact(url),
    })
}
