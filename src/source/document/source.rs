//! [`DocumentSource`]: the source of a kind of documents, whatever the kind.
//!
//! It requests the document, keeps the tree that it has found in it, and answers listings from that tree. **The document
//! is requested once for the whole tree**: again only for a listing that is wanted when the tree is older than the time
//! for which listings count as fresh. Tasks that want it at the same time share one request.
//!
//! A server that gave the document a validator is asked whether it has changed since (`If-None-Match`,
//! `If-Modified-Since`). A document with the same bytes keeps its tree. **The validator is stored with the listings.** A
//! later mount that has the listings of an unchanged document needs no tree of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::address;
use super::answer::Answer;
use super::file::{DocumentError, DocumentFile};
use super::format::{Format, Recognition};
use super::nested::Nested;
use super::tree::DocumentTree;
use crate::http::{Validator, redact, strip};
use crate::origin::{Client, DocumentRequest, as_directory};
use crate::source::local::{LocalContent, is_local};
use crate::source::{Asked, BoxFuture, Found, Listing, Source, SourceConfig, SourceError};
use crate::util::events;
use crate::util::plural::count;

/// The source of one kind of documents.
pub(crate) struct DocumentSource {
    format: Format,
    client: Client,
    config: SourceConfig,
    /// The documents of this mount by their URLs. Locked for a look-up only.
    documents: Mutex<HashMap<Url, Arc<State>>>,
}

/// What is known of a document.
#[derive(Default)]
struct State {
    /// Held while a task requests the document.
    loading: tokio::sync::Mutex<()>,
    /// Locked for the moment of a change.
    loaded: Mutex<Option<Loaded>>,
    /// The validator by which the server said that the document is unchanged, and when, while no tree is loaded.
    unchanged: Mutex<Option<(Validator, Instant)>>,
    nested: Nested,
    /// A document that can be read only once.
    content: Mutex<Option<LocalContent>>,
    /// Where the document is that describes this file, or this document itself; `None` if unknown.
    described_by: Mutex<Option<Url>>,
}

impl State {
    fn note(&self, loaded: Loaded) -> Arc<DocumentTree> {
        let tree = Arc::clone(&loaded.tree);
        *self.loaded.lock() = Some(loaded);
        tree
    }
}

#[derive(Clone)]
struct Loaded {
    tree: Arc<DocumentTree>,
    /// When it was requested; `None` once it no longer counts as fresh.
    at: Option<Instant>,
    validator: Validator,
    /// A hash of the document and of those that are nested in it.
    hash: u64,
    /// Whether the listings of all directories are stored.
    is_stored: bool,
}

impl Loaded {
    fn is_fresh(&self, ttl: Duration) -> bool {
        self.at.is_some_and(|at| at.elapsed() < ttl)
    }
}

impl DocumentSource {
    /// A source of documents in this format, which are requested through this client.
    pub(crate) fn new(format: Format, client: Client, config: SourceConfig) -> DocumentSource {
        DocumentSource {
            format,
            client,
            config,
            documents: Mutex::default(),
        }
    }

    fn state(&self, document: &Url) -> Arc<State> {
        Arc::clone(self.documents.lock().entry(document.clone()).or_default())
    }

    /// The tree of a document, which is requested unless it is fresh.
    async fn tree(&self, document: &Url, there: &Url) -> Result<Arc<DocumentTree>, SourceError> {
        let state = self.state(document);
        let _one_at_a_time = state.loading.lock().await;
        let known = state.loaded.lock().clone();
        if let Some(known) = known.as_ref().filter(|known| known.is_fresh(self.config.ttl.get())) {
            return Ok(Arc::clone(&known.tree));
        }
        let at = Instant::now();
        if is_local(document) {
            let content = state.content.lock().clone();
            let answer = Answer::of_local(document, content, self.client.max_page()).await?;
            return self.take(document, document, answer, at).await;
        }
        let request = DocumentRequest {
            unless: known.as_ref().map(|known| known.validator.clone()).unwrap_or_default(),
            ..DocumentRequest::default()
        };
        let asked = self.locate(&state, there).await?;
        let answer = self.client.document(&asked, request).await?;
        if let Some(known) = known
            && answer.is_unchanged()
        {
            return Ok(state.note(Loaded { at: Some(at), ..known }));
        }
        self.take(document, there, answer.into(), at).await
    }

    /// Whether a document of which no tree is loaded still has this validator. If it has another, its tree is loaded.
    async fn is_unchanged(&self, document: &Url, validator: &Validator) -> Result<bool, SourceError> {
        let state = self.state(document);
        let _one_at_a_time = state.loading.lock().await;
        if state.loaded.lock().is_some() || is_local(document) {
            return Ok(false);
        }
        let said = state.unchanged.lock().clone();
        if said.is_some_and(|(said, at)| said == *validator && at.elapsed() < self.config.ttl.get()) {
            return Ok(true);
        }
        let at = Instant::now();
        let request = DocumentRequest {
            unless: validator.clone(),
            ..DocumentRequest::default()
        };
        let asked = self.locate(&state, document).await?;
        let answer = self.client.document(&asked, request).await?;
        if answer.is_unchanged() {
            *state.unchanged.lock() = Some((validator.clone(), at));
            return Ok(true);
        }
        self.take(document, document, answer.into(), at).await?;
        Ok(false)
    }

    /// [`Source::open`] for a document on this machine.
    async fn open_local(&self, asked: &Asked<'_>) -> Result<Option<Found>, SourceError> {
        let (document, at) = (asked.url, Instant::now());
        let state = self.state(document);
        let content = asked.content.cloned();
        *state.content.lock() = content.clone();
        let answer = Answer::of_local(document, content, self.client.max_page()).await?;
        let is_one = match self.format.recognition {
            Recognition::ByUrl(is_one) => is_one(document),
            Recognition::ByContent { is_local_one, .. } => is_local_one(document, &answer.body),
        };
        if !asked.is_named && !is_one {
            return Ok(None);
        }
        let tree = self.take(document, document, answer, at).await?;
        self.found(document, &tree).map(Some)
    }

    /// The root directory of a document.
    fn found(&self, document: &Url, tree: &DocumentTree) -> Result<Found, SourceError> {
        let listing = tree.listing(&[]).cloned();
        let listing = listing.ok_or_else(|| SourceError::not_found(document))?;
        Ok(Found::Directory(self.root(document), listing))
    }

    /// Where to request a document. A file may be described by a document elsewhere.
    async fn locate(&self, state: &State, there: &Url) -> Result<Url, SourceError> {
        let Some(may_be_one) = self.format.may_be_described() else {
            return Ok(there.clone());
        };
        let known = state.described_by.lock().clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let answer = self.client.metadata(there).await?;
        let described_by = answer.described_by.clone().filter(|_| !may_be_one(there, &answer));
        let document = described_by.map_or_else(|| there.clone(), |url| *url);
        *state.described_by.lock() = Some(document.clone());
        Ok(document)
    }

    /// The tree of a file that its server says is described by a document, if it can be had.
    async fn tree_of_described(
        &self,
        asked: &Asked<'_>,
        document: &Url,
    ) -> Result<Option<Arc<DocumentTree>>, SourceError> {
        let Some(may_be_one) = self.format.may_be_described() else {
            return Ok(None);
        };
        let answer = asked.metadata().await?;
        let Some(described_by) = answer.described_by.as_ref().filter(|_| !may_be_one(asked.url, answer)) else {
            return Ok(None);
        };
        *self.state(document).described_by.lock() = Some(described_by.as_ref().clone());
        match self.tree(document, asked.there).await {
            Ok(tree) => Ok(Some(tree)),
            Err(error) if asked.is_named => Err(error),
            Err(error) => {
                log::warn!(
                    event = events::METALINK_UNUSABLE;
                    "{error}; it describes {}, which is mounted without it",
                    redact(document)
                );
                Ok(None)
            }
        }
    }

    /// Makes a document's answer its tree.
    async fn take(
        &self,
        document: &Url,
        there: &Url,
        answer: Answer,
        at: Instant,
    ) -> Result<Arc<DocumentTree>, SourceError> {
        let Answer {
            url,
            body,
            modified,
            validator,
        } = answer;
        let state = self.state(document);
        let before = state.loaded.lock().clone();
        let mut now = Loaded {
            tree: Arc::default(),
            at: Some(at),
            validator,
            hash: xxh3_64(&body),
            is_stored: false,
        };
        // The hash of one with nested documents is another.
        if let Some(same) = before.clone().filter(|before| before.hash == now.hash) {
            return Ok(state.note(Loaded {
                at: now.at,
                validator: now.validator,
                ..same
            }));
        }
        let not_a_listing = |error| SourceError::not_a_listing(there, error);
        // What comes from a mirror is relative to the document's own URL.
        let base = if document == there { url } else { document.clone() };
        let (parse, config) = (self.format.parse, self.config.clone());
        let parsed = in_background(move || parse(&base, &body, &config))
            .await
            .map_err(not_a_listing)?;
        let nested = &state.nested;
        let expanded = nested
            .expand(&self.format, &self.client, &self.config, document, parsed)
            .await?;
        if let Some(hash) = expanded.hash {
            // They may have changed although the document itself has not.
            (now.validator, now.hash) = (Validator::None, now.hash.rotate_left(1) ^ hash);
            if let Some(same) = before.clone().filter(|before| before.hash == now.hash) {
                return Ok(state.note(Loaded { at: now.at, ..same }));
            }
        }
        let mut parsed = expanded.parsed;
        self.take_logins(document, &mut parsed.files);
        let (root, most) = (self.root(document), self.config.listings.max_entries);
        let tree = in_background(move || DocumentTree::new(&root, parsed, modified, most)).await;
        let mut tree = tree.map_err(not_a_listing)?;
        tree.set_validator(&now.validator);
        now.tree = Arc::new(tree);
        let noted = before.as_ref().and_then(|before| before.tree.note());
        if let Some(note) = now.tree.note().filter(|note| Some(*note) != noted) {
            log::warn!(event = events::NAMES_NUMBERED; "{}: {note}", redact(document));
        }
        Ok(state.note(now))
    }

    /// Takes user names and passwords out of the files' URLs. Those in a local document are the user's own words, and are
    /// used for their servers. A server's document must not choose who the user is elsewhere.
    fn take_logins(&self, document: &Url, files: &mut [DocumentFile]) {
        let is_local = is_local(document);
        let mut dropped = 0_u64;
        for file in files {
            for url in std::iter::once(&mut file.url).chain(&mut file.published.alternates) {
                if url.username().is_empty() && url.password().is_none() {
                    continue;
                }
                if is_local {
                    *url = self.client.adopt(url.clone());
                } else {
                    strip(url);
                    dropped += 1;
                }
            }
        }
        if dropped > 0 {
            log::warn!(
                event = events::LOGINS_DROPPED;
                "{}: the user names in {} are not used, because the document comes from a server",
                redact(document),
                count(dropped, "URL")
            );
        }
    }

    /// The URL of the root directory in a document.
    fn root(&self, document: &Url) -> Url {
        address::root(self.format.kind, document).unwrap_or_else(|| as_directory(document))
    }
}

/// Runs work that takes a while for a long document: the runtime's threads have to move bodies.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DocumentError> + Send + 'static,
) -> Result<T, DocumentError> {
    // An error means a panic, or a runtime that is shutting down.
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(DocumentError::new(error.to_string())))
}

impl Source for DocumentSource {
    fn kind(&self) -> &'static str {
        self.format.kind
    }

    fn directory(&self, url: &Url) -> Url {
        self.root(&(self.format.document)(url))
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            if is_local(asked.url) {
                return self.open_local(asked).await;
            }
            let document = (self.format.document)(asked.url);
            let there = (self.format.document)(asked.there);
            let at = Instant::now();
            let tree = match self.format.recognition {
                Recognition::ByUrl(is_one) => {
                    if !asked.is_named && !is_one(asked.url) {
                        return Ok(None);
                    }
                    self.tree(&document, &there).await?
                }
                Recognition::ByContent { .. } if let Some(tree) = self.tree_of_described(asked, &document).await? => {
                    tree
                }
                Recognition::ByContent { may_be_one, is_one, .. } => {
                    if !asked.is_named && !may_be_one(asked.url, asked.metadata().await?) {
                        return Ok(None);
                    }
                    let answer = asked.document().await?;
                    if !asked.is_named && !is_one(&answer.body) {
                        return Ok(None);
                    }
                    self.take(&document, &there, Answer::of(answer), at).await?
                }
            };
            self.found(&document, &tree).map(Some)
        })
    }

    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(async move {
            let split = |url: &Url| address::split(self.format.kind, url);
            let (Some((document, place)), Some((there, _))) = (split(directory), split(there)) else {
                return Err(SourceError::not_a_listing(directory, "it is not in a document"));
            };
            let tree = self.tree(&document, &there).await?;
            let listing = tree.listing(&place).cloned();
            listing.ok_or_else(|| SourceError::not_found(directory))
        })
    }

    fn list_if_changed<'a>(
        &'a self,
        directory: &'a Url,
        known: &'a Validator,
    ) -> BoxFuture<'a, Result<Option<Listing>, SourceError>> {
        Box::pin(async move {
            if let Some((document, _)) = address::split(self.format.kind, directory)
                && self.is_unchanged(&document, known).await?
            {
                return Ok(None);
            }
            self.list(directory, directory).await.map(Some)
        })
    }

    fn list_now(&self, directory: &Url) -> Option<Result<Listing, SourceError>> {
        let (document, place) = address::split(self.format.kind, directory)?;
        let state = self.state(&document);
        let loaded = state.loaded.lock();
        let loaded = loaded
            .as_ref()
            .filter(|loaded| loaded.is_fresh(self.config.ttl.get()))?;
        let listing = loaded.tree.listing(&place).cloned();
        Some(listing.ok_or_else(|| SourceError::not_found(directory)))
    }

    fn fresh_for(&self, directory: &Url, ttl: Duration) -> Duration {
        let known = address::split(self.format.kind, directory).and_then(|(document, _)| {
            let state = self.state(&document);
            let loaded = state.loaded.lock();
            loaded.as_ref()?.at
        });
        known.map_or(ttl, |at| ttl.saturating_sub(at.elapsed()))
    }

    fn expire(&self) {
        for state in self.documents.lock().values() {
            if let Some(loaded) = &mut *state.loaded.lock() {
                loaded.at = None;
            }
            *state.unchanged.lock() = None;
        }
    }

    fn store_others(&self, directory: &Url, store: &mut dyn FnMut(&Url, &Listing) -> bool) {
        let Some((document, _)) = address::split(self.format.kind, directory) else {
            return;
        };
        let state = self.state(&document);
        let Some(Loaded {
            tree, is_stored: false, ..
        }) = state.loaded.lock().clone()
        else {
            return;
        };
        let mut others = tree.listings().filter(|(url, _)| *url != directory);
        let is_stored = others.all(|(url, listing)| store(url, listing));
        if let Some(loaded) = &mut *state.loaded.lock()
            && Arc::ptr_eq(&loaded.tree, &tree)
        {
            loaded.is_stored = is_stored;
        }
    }
}
