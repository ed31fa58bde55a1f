//! Opening files: which version a name stands for now, and its cache entry.
//!
//! The origin's answer is fresh for the tree's `ttl`; then it is revalidated. While the origin can't be asked, the
//! last answer stays valid, from this mount or an earlier one.

use std::sync::Arc;

use url::Url;

use crate::cache::{CacheEntry, Held, Priority, ReadError};
use crate::http::{HttpError, HttpErrorKind, Origin, Validator, Version, redact};
use crate::origin::{AliasName, Content, ListedSize, Metadata, Weighed};
use crate::source::SourceError;
use crate::util::events;
use crate::vfs::nodes::ino::Ino;
use crate::vfs::nodes::node::{Kind, Node};
use crate::vfs::nodes::remote_file::RemoteFile;
use crate::vfs::nodes::remote_file::known::Known;
use crate::vfs::request::mirror_lookup::Authority;
use crate::vfs::request::urgency::Urgency;
use crate::vfs::{Tree, TreeError};

/// Bytes that are fetched at the open of a version that replaced another. `tail -F` reads a file a second after
/// opening it. By then the server may have the next version, and what is not cached can't be fetched any more.
const FIRST_OF_SUCCESSOR: u64 = 256 << 10;

impl Tree {
    /// Asks the origin for a file's size and version. Concurrent calls for one file share a request.
    pub(in crate::vfs) async fn resolve_one(
        self: &Arc<Self>,
        node: &Arc<Node>,
        urgency: Urgency,
    ) -> Result<(), TreeError> {
        let Kind::File(file) = &node.kind else { return Ok(()) };
        self.nodes.pin_in_directory(node);
        let (url, asking) = (&file.url(), file.asking());
        let _one_at_a_time = self.requests.in_time(url, urgency, asking.lock()).await?;
        if file.is_ready() {
            return Ok(());
        }
        if file.exact_size().is_some() {
            let before = self.told_before(url).await;
            let version = before.as_ref().map(|before| before.version.clone());
            let answer = self.confirm_newer(node, version).await;
            file.note_date_asked();
            if let Some(known) = before
                && !matches!(answer, Some(Ok(_)))
            {
                file.note(known);
            }
            return answer.map_or(Ok(()), |answer| answer.map(|_| ()));
        }
        let stored = if file.is_stored {
            self.told_before(url).await
        } else {
            None
        };
        let answer = match &stored {
            // A changed file would have another date in the listing, so there is nothing to ask.
            Some(_) if file.listed_time().is_some() => None,
            Some(stored) => self.confirm_newer(node, Some(stored.version.clone())).await,
            None => Some(self.confirm(file, None, urgency).await),
        };
        let known = match answer {
            None => stored,
            Some(Ok(known)) => known,
            // The last answer is good enough while the origin can't be asked.
            Some(Err(error)) => Some(self.told_before_instead(url, &error).await.ok_or(error)?),
        };
        let known = known.ok_or_else(|| unknown_size(url))?;
        file.note(known);
        Ok(())
    }

    /// The entry to open, from memory. `None` if the origin or the index has to be asked.
    pub(crate) fn open_now(&self, node: &Node) -> Option<Result<Arc<CacheEntry>, TreeError>> {
        match &node.kind {
            Kind::Directory(_) => Some(Err(TreeError::IsADirectory)),
            Kind::File(file) if file.is_changed() => Some(Err(TreeError::Changed)),
            Kind::File(file) => file.open_entry(self.ttl).map(Ok),
        }
    }

    /// The cache entry of a file's current version.
    ///
    /// - A file with nothing in the cache, whose bytes were never shown, is opened without a request. Its first range
    ///   gives the version.
    /// - Otherwise one request confirms that the version is still current, unless one did within the tree's `ttl`.
    ///
    /// # Errors
    /// [`TreeError::Changed`] if the node is of an outdated version.
    pub(crate) async fn open(self: &Arc<Self>, node: &Arc<Node>) -> Result<Arc<CacheEntry>, TreeError> {
        self.open_for(node, self.requests.waiting()).await
    }

    /// Opens a file by its URL, wherever it is, as [`Self::open`] does; its version is known then. No directory shows it.
    ///
    /// # Errors
    /// [`TreeError::IsADirectory`] when the origin says so; else as for [`Self::open`].
    pub(crate) async fn open_url(self: &Arc<Self>, url: &Url) -> Result<Arc<CacheEntry>, TreeError> {
        let file = RemoteFile::known(url, None, self.nodes.dates(url), self.sources.of_file(url));
        let node = Arc::new(Node::unlisted(file));
        match self.open(&node).await {
            Err(TreeError::Changed) if node.file().is_some_and(RemoteFile::is_directory) => {
                Err(TreeError::IsADirectory)
            }
            opened => opened,
        }
    }

    /// [`Self::open`], with an urgency.
    pub(in crate::vfs) async fn open_for(
        self: &Arc<Self>,
        node: &Arc<Node>,
        urgency: Urgency,
    ) -> Result<Arc<CacheEntry>, TreeError> {
        let Kind::File(file) = &node.kind else {
            return Err(TreeError::IsADirectory);
        };
        self.nodes.pin_in_directory(node);
        let (url, asking) = (&file.url(), file.asking());
        let _one_at_a_time = self.requests.in_time(url, urgency, asking.lock()).await?;
        if let Some(answer) = self.open_now(node) {
            return answer;
        }
        let entry = match self.current_version(node, file, urgency).await? {
            Some(held) => self.entry_of_version(file, &held).await?,
            None => self.entry_by_listing(node.ino, file)?,
        };
        file.opened(&entry);
        if file.is_successor() && !self.client.is_offline() && !self.cache.is_disk_failing() {
            let first = 0..FIRST_OF_SUCCESSOR.min(entry.size());
            self.cache.manager().request(&entry, first, Priority::High);
        }
        Ok(entry)
    }

    /// The version to open; `None` if the first range may decide it.
    async fn current_version(
        self: &Arc<Self>,
        node: &Arc<Node>,
        file: &RemoteFile,
        urgency: Urgency,
    ) -> Result<Option<Held>, TreeError> {
        let url = &file.url();
        if let Some(known) = file.freshly_known(self.ttl) {
            return Ok(Some(self.held(url, known).await?));
        }
        let (is_open, shown) = (file.live_entry(), file.shown());
        let held = self.newest(url).await;
        // The kernel may have pages of what was shown, even if the cache has evicted all of it. Then it would not
        // read the first range, or it would mix new bytes with old pages.
        let is_new = held.is_none() && is_open.is_none() && shown.is_none();
        if is_new && matches!(file.listed_size(), ListedSize::Exact(_)) {
            return Ok(None);
        }
        let before = match (held, shown) {
            (Some(held), _) => Some(held),
            (None, Some(shown)) => Some(self.held(url, shown).await?),
            (None, None) => self.held_of_told(url).await?,
        };
        let answer = match &before {
            None => Some(self.confirm(file, None, urgency).await),
            Some(before) => self.confirm_newer(node, Some(before.version.clone())).await,
        };
        match answer {
            None => Ok(before),
            Some(Ok(Some(known))) => Ok(Some(self.held(url, known).await?)),
            Some(Ok(None)) => Err(unknown_size(url)),
            Some(Err(TreeError::NotAsked)) if before.is_some() => Ok(before),
            Some(Err(error)) => {
                let told = self.told_before_instead(url, &error).await.ok_or(error)?;
                Ok(Some(self.held(url, told).await?))
            }
        }
    }

    /// Asks the origin for the current version and notes it. `expected` is the last known version.
    async fn confirm(
        &self,
        file: &RemoteFile,
        expected: Option<&Version>,
        urgency: Urgency,
    ) -> Result<Option<Known>, TreeError> {
        let (catalog, content) = (self.cache.catalog(), self.content(file));
        let url = content.url();
        // A mirror's answer never replaces the source's own.
        let who = match expected {
            None => Authority::OrElsewhere(content.alternates()),
            Some(_) => Authority::Source,
        };
        let question = |there: Option<Url>| async move {
            match there {
                None => self.client.confirm(url, expected, file.exactly_listed()).await,
                Some(there) => self.client.metadata_of_mirror(&there).await,
            }
            .map_err(SourceError::from)
        };
        let answer = self.requests.ask(url, who, urgency, question).await;
        if let Err(TreeError::NotFound) = answer {
            catalog.forget_file(url);
            file.note_absent();
        }
        let mut found = answer?.value;
        if self.turns_out_directory(file, &found).await {
            return Err(TreeError::Changed);
        }
        if let Some(expected) = expected {
            self.recognise(url, expected, &mut found).await;
        }
        let known = Known::of(found);
        if let Some(known) = &known {
            // The catalog orders names by their last confirmation.
            if expected != Some(&known.version) || catalog.ages() {
                catalog.keep_file(url, known.version.clone(), known.modified);
            }
            file.note(known.clone());
        }
        Ok(known)
    }

    /// Takes the answer for the version `expected`, if it is the same under another validator.
    async fn recognise(&self, url: &Url, expected: &Version, found: &mut Metadata) {
        let is_unproven = self.client.is_named_now_and_then(url, expected);
        let is_another = |version: &Version| version.size == expected.size && (version != expected || is_unproven);
        if !found.version.as_ref().is_some_and(is_another) {
            return;
        }
        let (modified, samples) = match self.newest(url).await.filter(|held| held.version == *expected) {
            Some(held) => {
                let modified = held.modified;
                let content = Content::at(url.clone(), ListedSize::Unknown);
                let samples = self.cache.blocking(move |cache| {
                    let origin = Origin::of(content.url())?;
                    Some(cache.samples(content, origin, &held))
                });
                (modified, samples.await.ok().flatten().unwrap_or_default())
            }
            None => (self.told_before(url).await.and_then(|told| told.modified), Vec::new()),
        };
        let told = AliasName::as_metadata(found);
        let weighed = self.client.weigh(url, expected, modified, &told, samples).await;
        match weighed {
            Ok(Weighed::Same | Weighed::Again) => {
                found.version = Some(expected.clone());
                found.validator = expected.validator.clone();
                found.modified = modified.or(found.modified);
            }
            // It is another version, and came without a validator. The server sends one only sometimes.
            Ok(Weighed::Another) if found.validator == Validator::None => {
                for _ in 0..4 {
                    match self.client.metadata(url).await {
                        Ok(next) if next.validator != Validator::None => return *found = next,
                        Ok(_) | Err(_) => {}
                    }
                }
            }
            // Without an answer, the HEAD response counts.
            Ok(Weighed::Another) | Err(_) => {}
        }
    }

    /// [`Self::confirm`] for a caller that has the version `expected`. `None` if the caller shall keep that version.
    pub(in crate::vfs) async fn confirm_newer(
        self: &Arc<Self>,
        node: &Arc<Node>,
        expected: Option<Version>,
    ) -> Option<Result<Option<Known>, TreeError>> {
        let Kind::File(file) = &node.kind else { return None };
        self.nodes.pin_in_directory(node);
        let url = file.url();
        let (tree, node) = (Arc::clone(self), Arc::clone(node));
        let ask = async move {
            match &node.kind {
                Kind::File(file) => Some(tree.confirm(file, expected.as_ref(), Urgency::Refreshing).await),
                Kind::Directory(_) => None,
            }
        };
        self.requests.ask_for_newer(&url, ask).await.flatten()
    }

    /// What the source says of a file's content. The mirrors' URLs come after the source's own.
    fn content(&self, file: &RemoteFile) -> Content {
        let content = file.content();
        self.client.note_headers(&content);
        let mirrors = self.client.mirrors_of(content.url());
        content.or_at(mirrors)
    }

    /// The origin that a file's bytes come from, as far as is known: where redirects last led.
    fn origin_of(&self, url: &Url) -> Result<Origin, TreeError> {
        let origin = self.client.origin_of(url);
        origin.ok_or_else(|| bad_answer(url, "its URL is not http or https"))
    }

    async fn entry_of_version(&self, file: &RemoteFile, held: &Held) -> Result<Arc<CacheEntry>, TreeError> {
        if !file.admits(&held.version) {
            return Err(TreeError::Changed);
        }
        if let Some(entry) = file.live_entry() {
            return Ok(entry);
        }
        let (content, held) = (self.content(file), held.clone());
        let origin = self.origin_of(content.url())?;
        let opened = self.cache.blocking(move |cache| cache.entry(content, origin, &held));
        Ok(opened.await??)
    }

    fn entry_by_listing(&self, ino: Ino, file: &RemoteFile) -> Result<Arc<CacheEntry>, TreeError> {
        let mut content = self.content(file);
        // The origin may have given another size since the listing.
        content.size = ListedSize::Exact(file.shown_size());
        let resized = Arc::clone(&self.on_resize);
        let on_resize = Box::new(move || resized(ino));
        let origin = self.origin_of(content.url())?;
        Ok(self.cache.unsettled(content, origin, on_resize))
    }

    /// The last known answer for a file, while the origin can't be asked. `None` if the origin says that the file is
    /// gone (404, 410).
    async fn told_before_instead(&self, url: &Url, error: &TreeError) -> Option<Known> {
        if matches!(error, TreeError::NotFound) {
            return None;
        }
        let told = self.told_before(url).await?;
        if matches!(error, TreeError::NotAsked) {
            return Some(told);
        }
        log::warn!(event = events::METADATA_STALE; "{error}; using cached metadata");
        Some(told)
    }

    /// The last known answer for a file, of any age.
    async fn told_before(&self, url: &Url) -> Option<Known> {
        let url = url.clone();
        let told = self.cache.blocking(move |cache| cache.catalog().file(&url)).await;
        told.ok().flatten().map(Known::stored)
    }

    async fn held_of_told(&self, url: &Url) -> Result<Option<Held>, ReadError> {
        match self.told_before(url).await {
            Some(told) => Ok(Some(self.held(url, told).await?)),
            None => Ok(None),
        }
    }

    async fn newest(&self, url: &Url) -> Option<Held> {
        let url = url.clone();
        self.cache
            .blocking(move |cache| cache.newest(&url))
            .await
            .ok()
            .flatten()
    }

    async fn held(&self, url: &Url, known: Known) -> Result<Held, ReadError> {
        let url = url.clone();
        self.cache
            .blocking(move |cache| cache.current(&url, known.version, known.modified))
            .await
    }
}

fn unknown_size(url: &Url) -> TreeError {
    TreeError::SizeUnknown(url.clone())
}

fn bad_answer(url: &Url, what: &str) -> TreeError {
    let (kind, url) = (HttpErrorKind::BadAnswer(what.to_owned()), redact(url));
    HttpError { kind, url }.into()
}
