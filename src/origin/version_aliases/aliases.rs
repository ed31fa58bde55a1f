//! What was learnt of files whose validators differ.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use parking_lot::Mutex;
use url::Url;

use super::{
    decision::{LONG_AGO, RecognisedBy},
    label::VersionLabel,
};
use crate::{
    http::{Origin, Validator, Version, redact, response::head::AnswerHead},
    origin::per_origin::PerOrigin,
    util::events,
};

/// Maximum number of files whose aliases are remembered. Forgotten ones are learnt again.
const MOST_FILES: usize = 1024;

/// Maximum number of aliases remembered per version.
const MOST_LABELS: usize = 64;

/// Maximum number of responses per version that are requested again because nothing supports them.
const MOST_AGAIN: u32 = 16;

/// The aliases of files' versions.
#[derive(Default)]
pub(crate) struct VersionAliases {
    pub(super) origins: PerOrigin<AliasOrigin>,
    /// By requested URL.
    files: Mutex<HashMap<Url, Arc<AliasedFile>>>,
}

/// What was learnt of one origin.
#[derive(Default)]
pub(super) struct AliasOrigin {
    /// It sends no validator, not even to HEAD.
    pub(super) is_nameless: AtomicBool,
    /// The finding was logged.
    is_logged: AtomicBool,
}

/// One file.
#[derive(Default)]
pub(super) struct AliasedFile {
    /// Held by the caller that sends the requests.
    pub(super) comparing: tokio::sync::Mutex<()>,
    pub(super) state: Mutex<AliasState>,
}

/// What was learnt of one version of a file.
#[derive(Default)]
pub(super) struct AliasState {
    known: Option<Version>,
    modified: Option<SystemTime>,
    /// The version's aliases.
    labels: Vec<VersionLabel>,
    /// How the version is recognised, once its validators were found to differ.
    pub(super) by: Option<RecognisedBy>,
    /// Number of responses that were requested again.
    again: u32,
}

impl AliasState {
    /// Starts afresh if the state is about another version.
    pub(super) fn begin(&mut self, known: &Version, modified: Option<SystemTime>) {
        if self.known.as_ref() != Some(known) {
            *self = AliasState {
                known: Some(known.clone()),
                modified,
                ..AliasState::default()
            };
        }
    }

    /// Returns true if a response that nothing supports may be requested again. The count is limited, and a retry that
    /// helps ends the need.
    pub(super) fn asks_again(&mut self) -> bool {
        self.again += 1;
        self.again <= MOST_AGAIN
    }

    pub(super) fn label(&self) -> VersionLabel {
        self.known.as_ref().map_or_else(VersionLabel::default, |known| {
            VersionLabel::of_version(known, self.modified)
        })
    }

    /// Returns true if a response with this label is of the version, by what was learnt.
    pub(super) fn has(&self, label: &VersionLabel, now: SystemTime) -> bool {
        let known = self.label();
        let has_date = self.by == Some(RecognisedBy::Date)
            && label.date == known.date
            && known.age(now).is_some_and(|age| age >= LONG_AGO);
        !label.is_empty() && (has_date || self.labels.contains(label))
    }

    pub(super) fn learn<'a>(&mut self, by: RecognisedBy, labels: impl Iterator<Item = &'a VersionLabel>) {
        self.by = Some(by);
        for label in labels {
            if !label.is_empty() && !self.labels.contains(label) {
                self.labels.push(label.clone());
            }
        }
        let surplus = self.labels.len().saturating_sub(MOST_LABELS);
        self.labels.drain(..surplus);
    }
}

impl VersionAliases {
    pub(super) fn file(&self, url: &Url) -> Arc<AliasedFile> {
        let mut files = self.files.lock();
        if files.len() >= MOST_FILES && !files.contains_key(url) {
            files.retain(|_, file| Arc::strong_count(file) > 1);
        }
        Arc::clone(files.entry(url.clone()).or_default())
    }

    fn found(&self, url: &Url) -> Option<Arc<AliasedFile>> {
        self.files.lock().get(url).cloned()
    }

    /// Replaces the validators in the head of a response about `url` by those of the version `known`, if its label is a
    /// known alias.
    pub(crate) fn restate(&self, url: &Url, known: &Version, head: &mut AnswerHead) {
        let Some(file) = self.found(url) else { return };
        let state = file.state.lock();
        if state.known.as_ref() != Some(known) || !state.has(&VersionLabel::of(head), SystemTime::now()) {
            return;
        }
        let date = state.modified.map(httpdate::fmt_http_date);
        (head.etag, head.last_modified) = match &known.validator {
            Validator::Strong(tag) | Validator::Weak(tag) => (Some(tag.clone()), date),
            Validator::Dated(date) => (None, Some(date.clone())),
            Validator::None => (None, None),
        };
    }

    /// Returns true if HEAD identifies the version `known` of a file, because what GET says changes between responses.
    pub(crate) fn goes_by_head(&self, url: &Url, known: &Version) -> bool {
        self.found(url).is_some_and(|file| {
            let state = file.state.lock();
            state.known.as_ref() == Some(known) && matches!(state.by, Some(RecognisedBy::Head(_)))
        })
    }

    /// Returns true if some responses had a validator for the version `known`, which has none.
    pub(crate) fn is_named_now_and_then(&self, url: &Url, known: &Version) -> bool {
        known.validator == Validator::None
            && self.found(url).is_some_and(|file| {
                let state = file.state.lock();
                state.known.as_ref() == Some(known) && !state.labels.is_empty()
            })
    }

    /// Logs the finding once per origin.
    pub(super) fn log(&self, url: &Url, by: &RecognisedBy) {
        let Some(origin) = Origin::of(url) else { return };
        if !self.origins.of(&origin).is_logged.swap(true, Ordering::AcqRel) {
            let by = match by {
                RecognisedBy::Labels => "alternating validators count as one version",
                RecognisedBy::Date => "versions are distinguished by date and size",
                RecognisedBy::Head(_) => "versions are distinguished by the responses to HEAD",
                RecognisedBy::Bytes => "versions are distinguished by size and by samples of the bytes",
            };
            log::warn!(
                event = events::VALIDATORS_DIFFER;
                "{origin}: ETag or Last-Modified differ between responses for the same file ({}); {by}",
                redact(url)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_version_shares_no_learned_alias() {
        let url = Url::parse("http://h/f").unwrap();
        let version = |tag: &str| Version {
            size: 5,
            validator: Validator::Strong(tag.to_owned()),
        };
        let head = |tag: &str| AnswerHead {
            etag: Some(tag.to_owned()),
            ..AnswerHead::default()
        };
        let restated = |aliases: &VersionAliases, known: &Version, mut head: AnswerHead| {
            aliases.restate(&url, known, &mut head);
            head.etag.unwrap()
        };
        let (aliases, known) = (VersionAliases::default(), version("\"a\""));
        let file = aliases.file(&url);
        file.state.lock().begin(&known, None);
        file.state
            .lock()
            .learn(RecognisedBy::Labels, [VersionLabel::new(Some("b"), None)].iter());
        assert_eq!(restated(&aliases, &known, head("\"b\"")), "\"a\"");
        assert_eq!(restated(&aliases, &known, head("\"c\"")), "\"c\"");
        assert_eq!(restated(&aliases, &version("\"c\""), head("\"b\"")), "\"b\"");
        file.state.lock().begin(&version("\"c\""), None);
        assert_eq!(restated(&aliases, &known, head("\"b\"")), "\"b\"");
        for number in 0..2 * MOST_FILES {
            aliases.file(&url.join(&number.to_string()).unwrap());
        }
        assert!(aliases.files.lock().len() <= MOST_FILES);
    }
}
