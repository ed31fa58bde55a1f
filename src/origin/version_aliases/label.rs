//! Version labels: what a response calls its version.

use std::time::{Duration, SystemTime};

use crate::http::{
    Validator, Version,
    response::{
        head::AnswerHead,
        version::{parse_date, plain_tag},
    },
};

/// A date younger than this may be the response's own. Servers' clocks may be wrong by minutes.
const RECENT: Duration = Duration::from_secs(600);

/// The validators of a response in one form: a tag without quotes, `W/` and coding suffix; a date in HTTP's preferred
/// format.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionLabel {
    pub(super) tag: Option<String>,
    pub(super) date: Option<String>,
}

impl VersionLabel {
    pub(super) fn new(tag: Option<&str>, date: Option<&str>) -> VersionLabel {
        let plain = |date: &str| parse_date(date).map_or_else(|| date.to_owned(), httpdate::fmt_http_date);
        VersionLabel {
            tag: tag.map(|tag| plain_tag(tag).to_owned()),
            date: date.map(plain),
        }
    }

    /// The label of a response.
    pub(crate) fn of(head: &AnswerHead) -> VersionLabel {
        VersionLabel::new(head.etag.as_deref(), head.last_modified.as_deref())
    }

    /// The label of the response that gave this version, last modified at `modified`.
    pub(crate) fn of_version(version: &Version, modified: Option<SystemTime>) -> VersionLabel {
        let modified = modified.map(httpdate::fmt_http_date);
        match &version.validator {
            Validator::Strong(tag) | Validator::Weak(tag) => VersionLabel::new(Some(tag), modified.as_deref()),
            Validator::Dated(date) => VersionLabel::new(None, Some(date)),
            Validator::None => VersionLabel::new(None, modified.as_deref()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == VersionLabel::default()
    }

    /// Returns true if a response with this label is of the version with the label `known`.
    pub(super) fn is(&self, known: &VersionLabel) -> bool {
        match known {
            VersionLabel { tag: Some(_), .. } => self.tag == known.tag,
            VersionLabel { date: Some(_), .. } => self.date == known.date,
            _ => self.is_empty(),
        }
    }

    /// Returns true if its date may be the response's own.
    pub(super) fn is_recent(&self, now: SystemTime) -> bool {
        self.age(now + RECENT).is_some_and(|age| age < 2 * RECENT)
    }

    /// The age of its date; `None` without a date, or if it is in the future.
    pub(super) fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(parse_date(self.date.as_deref()?)?).ok()
    }
}
