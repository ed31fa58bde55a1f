//! Asks origins for the current versions of files, and knows what they last said.
//!
//! While an origin can't be asked, its last answer stays valid, from this mount or an earlier one. A mirror's answer
//! never replaces the source's own.

use std::sync::Arc;

use url::Url;

use crate::cache::{Cache, Held, ReadError};
use crate::http::{Origin, Validator, Version, redact};
use crate::origin::{Comparison, Content, ListedSize, Metadata};
use crate::source::{EntityTag, EntryKind, NameKind, SourceError};
use crate::util::events;
use crate::vfs::error::TreeError;
use crate::vfs::nodes::node::Node;
use crate::vfs::nodes::remote_file::RemoteFile;
use crate::vfs::nodes::remote_file::known::Known;
use crate::vfs::request::mirror_lookup::Authority;
use crate::vfs::request::urgency::Urgency;
use crate::vfs::shared::Shared;

/// What is known of the versions of a mount's files.
pub(in crate::vfs) struct Revalidator {
    pub(in crate::vfs) shared: Arc<Shared>,
}

impl Revalidator {
    /// What the fresh listing of a file's directory says of this version, if it has the version's size and entity tag. Then
    /// nothing has to be asked.
    pub(super) fn listed(&self, node: &Node, held: &Held) -> Option<Known> {
        let version = &held.version;
        let (Validator::Strong(tag) | Validator::Weak(tag)) = &version.validator else {
            return None;
        };
        let parent = self.shared.nodes.get(node.parent())?;
        let (names, at) = parent.directory()?.answered_within(self.shared.ttl.get())?;
        let (entries, position) = (names.listed.entries(), names.position(node.ino)?);
        let is_it = entries.tag(position) == Some(EntityTag::of(tag)?)
            && entries.kind(position) == EntryKind::File(ListedSize::Exact(version.size));
        is_it.then(|| Known {
            version: version.clone(),
            modified: held.modified,
            at: Some(at),
        })
    }

    /// Asks the origin for the current version and notes it. `expected` is the last known version.
    pub(super) async fn confirm(
        &self,
        file: &RemoteFile,
        expected: Option<&Version>,
        urgency: Urgency,
    ) -> Result<Option<Known>, TreeError> {
        let (catalog, content) = (self.shared.cache.catalog(), self.content(file));
        let url = content.url();
        let authority = match expected {
            None => Authority::OrElsewhere(content.alternates()),
            Some(_) => Authority::Source,
        };
        let request = |there: Option<Url>| async move {
            match there {
                None => self.shared.client.confirm(url, expected, file.exactly_listed()).await,
                Some(there) => self.shared.client.metadata_of_mirror(&there).await,
            }
            .map_err(SourceError::from)
        };
        let answer = self.shared.requests.ask(url, authority, urgency, request).await;
        if let Err(TreeError::NotFound) = answer {
            catalog.forget_file(url);
            file.note_absent();
        }
        let mut metadata = answer?.value;
        let kind = file
            .source()
            .tell_apart(&file.url(), file.listed_size(), &metadata)
            .await;
        if kind == NameKind::Directory {
            log::info!(
                event = events::DIRECTORY_WITHOUT_SLASH;
                "{}: it is a directory, although its link has no trailing `/`",
                redact(&file.url())
            );
            file.mark_directory();
            return Err(TreeError::Changed);
        }
        if let Some(expected) = expected {
            self.recognise(url, expected, &mut metadata).await;
        }
        let known = Known::of(metadata);
        if let Some(known) = &known {
            // The catalog orders names by their last confirmation.
            if expected != Some(&known.version) || catalog.ages() {
                catalog.keep_file(url, known.version.clone(), known.modified);
            }
            file.note(known.clone());
        }
        Ok(known)
    }

    /// [`Self::confirm`] for a caller that has the version `expected`. `None` if the caller shall keep that version.
    pub(in crate::vfs) async fn confirm_newer(
        self: &Arc<Self>,
        node: &Arc<Node>,
        expected: Option<Version>,
    ) -> Option<Result<Option<Known>, TreeError>> {
        let url = node.file()?.url();
        let (this, node) = (Arc::clone(self), Arc::clone(node));
        let ask = async move {
            let confirmed = this.confirm(node.file()?, expected.as_ref(), Urgency::Refreshing);
            Some(confirmed.await)
        };
        self.shared.requests.ask_for_newer(&url, ask).await.flatten()
    }

    /// Takes the answer for the version `expected`, if it is the same under another validator.
    async fn recognise(&self, url: &Url, expected: &Version, metadata: &mut Metadata) {
        let is_unproven = self.shared.client.is_named_now_and_then(url, expected);
        let is_another = |version: &Version| version.size == expected.size && (version != expected || is_unproven);
        if !metadata.version.as_ref().is_some_and(is_another) {
            return;
        }
        let (modified, samples) = match self.newest(url).await.filter(|held| held.version == *expected) {
            Some(held) => {
                let modified = held.modified;
                let content = Content::at(url.clone(), ListedSize::Unknown);
                let samples = self.shared.cache.blocking(move |cache| {
                    let origin = Origin::of(content.url())?;
                    Some(cache.samples(content, origin, &held))
                });
                (modified, samples.await.ok().flatten().unwrap_or_default())
            }
            None => (self.stored(url).await.and_then(|stored| stored.modified), Vec::new()),
        };
        let label = metadata.label();
        match self
            .shared
            .client
            .compare_version(url, expected, modified, &label, &samples)
            .await
        {
            Ok(Comparison::Same | Comparison::Again) => {
                metadata.version = Some(expected.clone());
                metadata.validator = expected.validator.clone();
                metadata.modified = modified.or(metadata.modified);
            }
            // It is another version, and came without a validator. The server sends one only sometimes.
            Ok(Comparison::Another) if metadata.validator == Validator::None => {
                for _ in 0..4 {
                    match self.shared.client.metadata(url).await {
                        Ok(next) if next.validator != Validator::None => return *metadata = next,
                        Ok(_) | Err(_) => {}
                    }
                }
            }
            // Without an answer, the HEAD response counts.
            Ok(Comparison::Another) | Err(_) => {}
        }
    }

    /// What the source says of a file's content. The mirrors' URLs come after the source's own.
    pub(super) fn content(&self, file: &RemoteFile) -> Content {
        let content = file.content();
        self.shared.client.note_headers(&content);
        let mirrors = self.shared.client.mirrors().of(content.url());
        content.or_at(mirrors)
    }

    /// The last stored answer for a file, of any age.
    pub(super) async fn stored(&self, url: &Url) -> Option<Known> {
        let url = url.clone();
        let stored = self
            .shared
            .cache
            .blocking(move |cache| cache.catalog().file(&url))
            .await;
        stored.ok().flatten().map(Known::stored)
    }

    /// The last stored answer for a file, while the origin can't be asked. `Err` if there is none, or if the origin says
    /// that the file is gone (404, 410).
    pub(super) async fn stored_instead(&self, url: &Url, error: TreeError) -> Result<Known, TreeError> {
        if matches!(error, TreeError::NotFound) {
            return Err(error);
        }
        let Some(stored) = self.stored(url).await else {
            return Err(error);
        };
        if !matches!(error, TreeError::NotAsked) {
            log::warn!(event = events::METADATA_STALE; "{error}; using cached metadata");
        }
        Ok(stored)
    }

    /// The version of which the cache holds bytes, if it is current as far as is known.
    pub(super) async fn newest(&self, url: &Url) -> Option<Held> {
        let url = url.clone();
        self.shared
            .cache
            .blocking(move |cache| cache.newest(&url))
            .await
            .ok()
            .flatten()
    }

    /// What the cache holds of this version.
    pub(super) async fn held(&self, url: &Url, known: Known) -> Result<Held, ReadError> {
        let url = url.clone();
        let held = move |cache: &Arc<Cache>| cache.current(&url, known.version, known.modified);
        self.shared.cache.blocking(held).await
    }
}
