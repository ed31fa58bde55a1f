//! Fetches the names in directories, and decides which answer counts.
//!
//! - The first look-up in a directory uses the listing that an earlier mount stored, if there is one.
//! - A stored listing, or one older than the tree's `ttl`, is served if the origin takes too long for a new one
//!   ([`Responsiveness`](crate::origin::failures::responsiveness::Responsiveness)).
//! - Concurrent look-ups in one directory share a request.
//! - A program that opens a directory without known names gets the first ones while the listing is received
//!   ([`PartialListing`](crate::vfs::nodes::node::PartialListing)).
//! - A listing with a validator is asked for again only if it has changed ([`WHOLE_AGAIN`] says how long that is
//!   believed). The validator is stored with the listing, so that a later mount needs no listing of what is unchanged.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep_until;
use url::Url;

use super::early_names::EarlyNames;
use super::listing_cache::ListingCache;
use super::listing_request::ListingRequest;
use super::stored;
use crate::cache::Cache;
use crate::http::{Origin, Validator, redact};
use crate::origin::PerOrigin;
use crate::source::{Listing, NameSink, SourceError};
use crate::util::events;
use crate::vfs::error::TreeError;
use crate::vfs::nodes::changes::Changes;
use crate::vfs::nodes::node::{Directory, DirectoryNames, Node, Snapshot};
use crate::vfs::request::mirror_lookup::{Answer, Authority};
use crate::vfs::request::urgency::Urgency;
use crate::vfs::shared::Shared;

/// From this many names a listing takes seconds to fetch and parse. Then look-ups use the known names, and the
/// listing is fetched in the background. (With 1,000,000 names each look-up after the `ttl` took 2 s, and the limiter
/// took the server for silent.)
const LARGE: usize = 50_000;

/// How long a server's word that a listing is unchanged is believed before the whole listing is requested again.
///
/// Some servers make the validator of a listing from the directory's own date (Apache with `TrackModified`), which does
/// not change with a file's size or date. If a whole listing differs under the same validator, the validators of its
/// origin are ignored from then on.
const WHOLE_AGAIN: Duration = Duration::from_secs(300);

/// Fetches the listings of a mount.
pub(in crate::vfs) struct Listings {
    shared: Arc<Shared>,
    listing_cache: Arc<ListingCache>,
    /// Whether an origin's listings change without their validators.
    ignores_validators: PerOrigin<AtomicBool>,
    /// Directories of no origin, as the places of a library are, whose listings do. Locked for a look-up.
    without_validators: Mutex<HashSet<Url>>,
}

impl Listings {
    pub(in crate::vfs) fn new(shared: Arc<Shared>, listing_cache: Arc<ListingCache>) -> Listings {
        Listings {
            shared,
            listing_cache,
            ignores_validators: PerOrigin::default(),
            without_validators: Mutex::default(),
        }
    }

    /// The names in a directory. They are fetched again if they are older than the tree's `ttl`; old names are served
    /// while the origin is silent.
    ///
    /// # Errors
    /// If the names were never known and can't be fetched, or if the origin says that the directory is gone.
    pub(in crate::vfs) async fn list(
        self: &Arc<Self>,
        node: &Arc<Node>,
        urgency: Urgency,
    ) -> Result<Arc<Snapshot>, TreeError> {
        let directory = node.directory().ok_or(TreeError::NotADirectory)?;
        if let Some(snapshot) = directory.fresh() {
            return Ok(snapshot);
        }
        let url = directory.url.as_ref().ok_or(TreeError::NotFound)?;
        let known = match directory.last_known() {
            Some(known) => Some(known),
            // As quick as what is stored, and newer.
            None if directory.source.list_now(url).is_some() => None,
            None => self.find_stored(node, directory, url, urgency).await?,
        };
        let Some(known) = known else {
            return self.fetch(node, urgency).await;
        };
        if known.len() >= LARGE {
            self.fetch_in_background(node, directory);
            return Ok(known);
        }
        let (this, asked, urgency) = (Arc::clone(self), Arc::clone(node), urgency.with_older_answer());
        let ask = async move { this.fetch(&asked, urgency).await };
        let is_stored = directory.state.read().is_stored;
        let answer = if is_stored {
            self.shared.requests.ask_in_passing(url, ask).await
        } else {
            self.shared.requests.ask_for_newer(url, ask).await
        };
        answer.unwrap_or(Ok(known))
    }

    /// The names in a directory, as [`Self::list`] gives them. Without known names, those of the listing that is being received, as
    /// soon as there are some; it goes on then, whatever becomes of the caller.
    ///
    /// # Errors
    /// As for [`Self::list`], if the listing fails before it has names.
    pub(in crate::vfs) async fn open(
        self: &Arc<Self>,
        node: &Arc<Node>,
        urgency: Urgency,
    ) -> Result<DirectoryNames, TreeError> {
        let directory = node.directory().ok_or(TreeError::NotADirectory)?;
        if directory.is_listed() {
            return self.list(node, urgency).await.map(DirectoryNames::Known);
        }
        if let Some((url, incoming)) = directory.url.as_ref().zip(directory.incoming.current()) {
            incoming.want();
            self.shared.requests.in_time(url, urgency, incoming.ready(0)).await?;
            if incoming.has_names() {
                return Ok(DirectoryNames::Partial(incoming));
            }
        }
        directory.incoming.await_next();
        tokio::select! {
            biased;
            names = self.list(node, urgency) => names.map(DirectoryNames::Known),
            incoming = directory.incoming.first_names() => Ok(DirectoryNames::Partial(incoming)),
        }
    }

    /// Fetches a listing in the background, unless a request for it is in flight.
    fn fetch_in_background(self: &Arc<Self>, node: &Arc<Node>, directory: &Directory) {
        if self.shared.client.is_offline() || directory.refreshing.try_lock().is_err() {
            return;
        }
        let (this, node) = (Arc::clone(self), Arc::clone(node));
        // The next look-up reports an error.
        self.shared
            .runtime
            .spawn(async move { this.fetch(&node, Urgency::Refreshing).await.ok() });
    }

    /// The names that an earlier mount stored, at the first look-up.
    async fn find_stored(
        &self,
        node: &Arc<Node>,
        directory: &Directory,
        url: &Url,
        urgency: Urgency,
    ) -> Result<Option<Arc<Snapshot>>, TreeError> {
        let _one_at_a_time = self
            .shared
            .requests
            .in_time(url, urgency, directory.refreshing.lock())
            .await?;
        if std::mem::replace(&mut directory.state.write().is_searched, true) {
            return Ok(directory.last_known());
        }
        let (listing_cache, node, url) = (Arc::clone(&self.listing_cache), Arc::clone(node), url.clone());
        let kind = directory.source.kind();
        let find = move |cache: &Arc<Cache>| {
            let listing = stored::read(&url, kind, &cache.catalog().listing(&url)?)?;
            listing_cache.show_stored(&node, listing)
        };
        // If the query fails, no names count as stored.
        Ok(self.shared.cache.blocking(find).await.ok().flatten())
    }

    /// Fetches the names in a directory, unless another request did meanwhile.
    async fn fetch(self: &Arc<Self>, node: &Arc<Node>, urgency: Urgency) -> Result<Arc<Snapshot>, TreeError> {
        let (this, listed) = (Arc::clone(self), Arc::clone(node));
        let mut request = ListingRequest::new(node, &self.shared.runtime, move |is_receiving| {
            Box::pin(async move { this.fetch_once(&listed, urgency, &is_receiving).await })
        });
        request.answer().await
    }

    /// [`Self::fetch`]; sets `is_receiving` once programs may read the names while they are received.
    async fn fetch_once(
        &self,
        node: &Arc<Node>,
        urgency: Urgency,
        is_receiving: &AtomicBool,
    ) -> Result<Arc<Snapshot>, TreeError> {
        let directory = node.directory().ok_or(TreeError::NotADirectory)?;
        let url = directory.url.as_ref().ok_or(TreeError::NotFound)?;
        // A prefetch is useless while a request for the same directory is in flight, and would delay the next one.
        let _one_at_a_time = if urgency.is_prefetch() {
            directory.refreshing.try_lock().map_err(|_| TreeError::NotAsked)?
        } else {
            self.shared
                .requests
                .in_time(url, urgency, directory.refreshing.lock())
                .await?
        };
        if let Some(snapshot) = directory.fresh() {
            return Ok(snapshot);
        }
        if urgency.is_prefetch() {
            if directory.has_failed() {
                return Err(TreeError::NotAsked);
            }
        } else if let Some(error) = directory.take_unseen_failure() {
            return Err(error);
        }
        let known = directory.last_known();
        let unless = known
            .as_ref()
            .map_or(Validator::None, |_| self.validator(directory, url));
        // A request that nobody waits for may be given up, and a program that has seen names of it would get an error.
        let is_first = known.is_none() && matches!(urgency, Urgency::Waiting(_));
        let receiving = is_first.then(|| directory.incoming.begin());
        is_receiving.store(is_first, Ordering::Relaxed);
        let answer = self
            .ask_and_show(node, directory, url, known.as_ref(), &unless, urgency)
            .await;
        if let (Some(receiving), Err(error)) = (&receiving, &answer) {
            receiving.fail(error.clone());
        }
        match (answer, known) {
            (Ok(names), _) => Ok(names),
            (Err(TreeError::NotFound), _) => Err(TreeError::NotFound),
            (Err(error), Some(snapshot)) => {
                if !matches!(error, TreeError::NotAsked) {
                    log::warn!(event = events::LISTING_STALE; "{error}; showing the cached listing");
                    self.listing_cache.retry_soon(directory);
                }
                self.shared.cache.catalog().note_shown(url);
                Ok(snapshot)
            }
            (Err(error), None) => {
                if !matches!(error, TreeError::NotAsked) {
                    directory.note_failure(unseen(urgency, &error));
                }
                Err(error)
            }
        }
    }

    /// Asks the origin for the names in a directory now, however fresh the known ones are. Returns what has changed since
    /// they were known. A failure is not retried, and the whole listing is requested: a validator may not cover all of it.
    ///
    /// # Errors
    /// If the origin gives no listing. The known names stay then, unless the directory is gone.
    pub(in crate::vfs) async fn refresh(self: &Arc<Self>, node: &Arc<Node>) -> Result<Changes, TreeError> {
        let directory = node.directory().ok_or(TreeError::NotADirectory)?;
        let url = directory.url.as_ref().ok_or(TreeError::NotFound)?;
        let urgency = Urgency::Refreshing;
        if directory.last_known().is_none() {
            self.find_stored(node, directory, url, urgency).await?;
        }
        let locking = self.shared.requests.in_time(url, urgency, directory.refreshing.lock());
        let one_at_a_time = locking.await?;
        directory.forget_absent();
        let before = directory.last_known();
        let now = self
            .ask_and_show(node, directory, url, before.as_ref(), &Validator::None, urgency)
            .await?;
        drop(one_at_a_time);
        let compare = move |_: &Arc<Cache>| Changes::between(before.as_deref(), &now);
        let changes = self.shared.cache.blocking(compare).await?;
        if changes.new > 0
            && let Some(until) = directory.absent_until()
        {
            // Until then the kernel may take a new name for absent.
            sleep_until(until.into()).await;
        }
        Ok(changes)
    }

    /// Asks for the names and shows them, unless they are still those with the validator `unless`. **The caller holds the lock of the directory's requests.**
    async fn ask_and_show(
        &self,
        node: &Arc<Node>,
        directory: &Directory,
        url: &Url,
        known: Option<&Arc<Snapshot>>,
        unless: &Validator,
        urgency: Urgency,
    ) -> Result<Arc<Snapshot>, TreeError> {
        let incoming = directory.incoming.current();
        let names = incoming.clone().map(|listing| -> Arc<dyn NameSink> {
            Arc::new(EarlyNames {
                listing_cache: Arc::clone(&self.listing_cache),
                node: Arc::clone(node),
                listing,
            })
        });
        match self.ask(directory, url, known, unless, names.as_ref(), urgency).await {
            Ok(Answer { value: None, .. }) => {
                self.listing_cache.confirm(directory, url);
                known.cloned().ok_or(TreeError::NotAsked)
            }
            Ok(Answer {
                value: Some(listing),
                is_by_mirror,
            }) => {
                let is_same_version = !is_by_mirror
                    && listing.validator != Validator::None
                    && listing.validator == directory.state.read().validator;
                let (listing_cache, node) = (Arc::clone(&self.listing_cache), Arc::clone(node));
                let listed = url.clone();
                // A long listing takes a while to process, and the runtime's threads have response bodies to copy.
                let replace = move |_: &Arc<Cache>| {
                    let names = listing_cache.replace(&node, listing, is_by_mirror)?;
                    if let Some(incoming) = incoming {
                        incoming.complete(&names, || contradicted(&listed));
                    }
                    Some(names)
                };
                let replaced = self.shared.cache.blocking(replace).await?;
                let names = replaced.ok_or(TreeError::NotADirectory)?;
                if is_same_version && known.is_some_and(|known| are_different(known, &names)) {
                    self.ignore_validators(url);
                }
                Ok(names)
            }
            Err(TreeError::NotFound) => {
                if known.is_some() {
                    log::warn!(event = events::DIRECTORY_DELETED; "{}: deleted on the server", redact(url));
                }
                self.listing_cache.forget(directory, url);
                directory.note_failure(unseen(urgency, &TreeError::NotFound));
                Err(TreeError::NotFound)
            }
            Err(error) => Err(error),
        }
    }

    /// The validator by which the origin can be asked whether the known listing has changed.
    fn validator(&self, directory: &Directory, url: &Url) -> Validator {
        let state = directory.state.read();
        let is_recent = state.whole_at.is_none_or(|at| at.elapsed() < WHOLE_AGAIN);
        if is_recent && !state.is_by_mirror && !self.ignores_validators(url) {
            state.validator.clone()
        } else {
            Validator::None
        }
    }

    /// Whether a listing of this directory's origin was seen to change without its validator.
    fn ignores_validators(&self, url: &Url) -> bool {
        match Origin::of(url) {
            Some(origin) => self.ignores_validators.of(&origin).load(Ordering::Relaxed),
            None => self.without_validators.lock().contains(url),
        }
    }

    /// A listing of this origin has changed, and its validator has not.
    fn ignore_validators(&self, url: &Url) {
        let is_new = match Origin::of(url) {
            Some(origin) => !self.ignores_validators.of(&origin).swap(true, Ordering::Relaxed),
            None => self.without_validators.lock().insert(url.clone()),
        };
        if is_new {
            log::info!(
                event = events::VALIDATORS_IGNORED;
                "{}: the listing has changed and its ETag or Last-Modified has not, so whole listings are requested \
                 from this server",
                redact(url)
            );
        }
    }

    /// Asks the source for the names, or a mirror if the source never gave any: a mirror's answer never replaces the
    /// source's own. `None` if the names are still those with this validator.
    async fn ask(
        &self,
        directory: &Directory,
        url: &Url,
        known: Option<&Arc<Snapshot>>,
        validator: &Validator,
        names: Option<&Arc<dyn NameSink>>,
        urgency: Urgency,
    ) -> Result<Answer<Option<Listing>>, TreeError> {
        if let Some(listing) = directory.source.list_now(url) {
            let (value, is_by_mirror) = (Some(listing?), false);
            return Ok(Answer { value, is_by_mirror });
        }
        let mirrors = self.shared.client.mirrors().of(url);
        let authority = if known.is_none() || directory.state.read().is_by_mirror {
            Authority::OrElsewhere(&mirrors)
        } else {
            Authority::Source
        };
        let source = &directory.source;
        let request = |there: Option<Url>| async move {
            match there {
                None if *validator != Validator::None => source.list_if_changed(url, validator).await,
                there => {
                    let there = there.as_ref().unwrap_or(url);
                    let listing = match names {
                        Some(names) => source.list_early(url, there, names).await,
                        None => source.list(url, there).await,
                    };
                    listing.map(Some)
                }
            }
        };
        let answer = self.shared.requests.ask(url, authority, urgency, request).await?;
        match (known, &answer.value) {
            (Some(known), Some(listing)) if !may_become(known, listing) => Err(stands_in(url)),
            _ => Ok(answer),
        }
    }
}

/// Whether a listing may be the successor of these names: see [`Listing::may_follow`].
fn may_become(names: &Snapshot, listing: &Listing) -> bool {
    names.len() == 0 || listing.may_follow(|name| names.listed.find(name).is_some())
}

/// Whether two listings of a directory say different things. What turned out to be a directory may be listed as a file.
fn are_different(before: &Snapshot, now: &Snapshot) -> bool {
    let is_same = |at: usize| {
        before.listed.find_near(now.name(at), at).is_some_and(|there| {
            before.is_directory(there) && now.is_directory(at)
                || before.listed.entries().is_same_at(there, now.listed.entries(), at)
        })
    };
    before.len() != now.len() || !(0..now.len()).all(is_same)
}

/// The error for a listing that lacks names which its beginning seemed to have.
fn contradicted(url: &Url) -> TreeError {
    let why = "its end contradicts the names at its beginning; the names are shown when the directory is read again";
    TreeError::Source(SourceError::not_a_listing(url, why))
}

/// The error for an answer that is a web page for people instead of a listing.
fn stands_in(url: &Url) -> TreeError {
    let why = "it does not look like an index page, and all earlier names are missing; is a login needed?";
    TreeError::Source(SourceError::not_a_listing(url, why))
}

/// The error of a fetch that the next look-up reports: a refusal that a prefetch received and the server would repeat.
fn unseen(urgency: Urgency, error: &TreeError) -> Option<TreeError> {
    let is_lasting = match error {
        TreeError::NotFound => true,
        TreeError::Source(error) => !error.is_temporary(),
        _ => false,
    };
    (urgency.is_prefetch() && is_lasting).then(|| error.clone())
}
