//! Which version a response is of, where its validators do not tell ([`version_aliases`](crate::origin::version_aliases)).

use std::time::SystemTime;

use url::Url;

use super::{Client, answers::Metadata};
use crate::{
    http::{HttpError, Validator, Version, is_local, response::version::Sameness},
    origin::version_aliases::{Comparison, Sample, VersionLabel},
};

impl Client {
    /// Finds out whether a response about `url` with the label `told` is of the version `known`, last modified at
    /// `modified`. Sends requests to the server. A file system is believed: there are no machines that name one version in
    /// two ways. `samples` are bytes of that version, as far as the cache has any.
    ///
    /// # Errors
    /// If no request brings anything to compare.
    pub async fn compare_version(
        &self,
        url: &Url,
        known: &Version,
        modified: Option<SystemTime>,
        told: &VersionLabel,
        samples: &[Sample],
    ) -> Result<Comparison, HttpError> {
        if is_local(url) {
            return Ok(Comparison::Another);
        }
        let aliases = &self.shared.aliases;
        let compared = aliases
            .compare(self.transport(), url, (known, modified), told, samples)
            .await?;
        if compared == Comparison::Another {
            // Earlier responses to HEAD no longer count.
            self.shared.head_trusts.doubt(url);
        }
        Ok(compared)
    }

    /// Returns true if some responses had a validator for the version `known`, which has none.
    pub fn is_named_now_and_then(&self, url: &Url, known: &Version) -> bool {
        self.shared.aliases.is_named_now_and_then(url, known)
    }

    /// Version and date of a file of this size, from HEAD; `None` if HEAD has no validator either, or its origin never
    /// sends one.
    pub async fn named_by_head(&self, url: &Url, size: u64) -> Option<(Version, Option<SystemTime>)> {
        self.shared.aliases.named_by_head(self.transport(), url, size).await
    }

    /// Restates metadata as the version `known`, if it was found under an alias.
    pub fn restated(&self, url: &Url, known: &Version, found: &mut Metadata) {
        let mut head = found.as_head();
        self.shared.aliases.restate(url, known, &mut head);
        let is_told = || {
            known
                .validator
                .compare(head.etag.as_deref(), head.last_modified.as_deref())
                == Sameness::Same
        };
        if found.size == Some(known.size) && known.validator != Validator::None && is_told() {
            found.version = Some(known.clone());
            found.validator = known.validator.clone();
            found.modified = head.modified().or(found.modified);
        }
    }

    /// What was found, with HEAD's version if GET had none: some servers send a validator for the whole file only.
    pub(crate) async fn named(&self, url: &Url, found: Metadata) -> Metadata {
        let Some(size) = found.size.filter(|_| found.validator == Validator::None) else {
            return found;
        };
        match self.named_by_head(url, size).await {
            Some((version, modified)) => Metadata {
                validator: version.validator.clone(),
                version: Some(version),
                modified: modified.or(found.modified),
                ..found
            },
            None => found,
        }
    }
}
