//! The client's results: plain values, and the bodies of range responses.

use std::{ops::Range, time::SystemTime};

use url::Url;

use crate::http::{
    Validator, Version,
    response::{head::AnswerHead, validation::is_same_version},
};
use crate::origin::{request::body::Body, version_aliases::VersionLabel};

/// What is known of a remote file or document without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The URL after all redirects.
    pub url: Url,
    /// `size` and `validator` together; `None` if the size is unknown.
    pub version: Option<Version>,
    /// Bytes; `None` if the server does not say.
    pub size: Option<u64>,
    /// The validator of this version.
    pub validator: Validator,
    /// Last-Modified.
    pub modified: Option<SystemTime>,
    /// Media type without parameters, in lower case.
    pub content_type: Option<String>,
    /// The URL of the Metalink that describes the file, if the server names one.
    pub described_by: Option<Box<Url>>,
}

/// The answer to a request for a range.
#[derive(Debug)]
pub enum RangeAnswer {
    /// The range, or its first part.
    Partial {
        /// The version that the bytes belong to: the known one if that has a validator.
        version: Version,
        /// Starts at the requested start; ends at the requested end or earlier.
        range: Range<u64>,
        /// Last-Modified.
        modified: Option<SystemTime>,
        /// Exactly the bytes of `range`.
        body: Body,
    },
    /// The server ignores Range and sends the whole file, from byte 0.
    Whole {
        /// Bytes; `None` if neither the server nor a known version says.
        size: Option<u64>,
        /// The known validator, or the response's own if none was known.
        validator: Validator,
        /// Last-Modified.
        modified: Option<SystemTime>,
        /// Exactly `size` bytes if the size is known, else as many as arrive.
        body: Body,
    },
    /// Size and range fit, but the validators do not prove the known version. Call
    /// [`Client::compare_version`](crate::origin::Client::compare_version) to decide.
    Doubtful {
        /// What the response calls its version.
        told: VersionLabel,
        /// The result, if the response is of the known version.
        answer: Box<RangeAnswer>,
    },
    /// Authoritative: the file has another version now, described as far as the response does.
    Changed(Option<Version>),
    /// No version was known, and the range starts at or after the end of the file.
    PastEnd {
        /// The size of the file in bytes, from the response.
        size: u64,
    },
}

impl Metadata {
    /// Metadata from a response head. The caller finds the size in the head.
    pub(crate) fn of(url: Url, head: &AnswerHead, size: Option<u64>) -> Metadata {
        let validator = head.validator();
        Metadata {
            url,
            version: size.map(|size| Version {
                size,
                validator: validator.clone(),
            }),
            size,
            validator,
            modified: head.modified(),
            content_type: head.content_type.clone(),
            described_by: head.described_by.clone(),
        }
    }

    /// Metadata of a response without a length. It is of the known version in two cases: the response has that
    /// version's validator; or the server sends no validators, and the listing still gives the file this version's
    /// size.
    pub(crate) fn or_known(self, known: &Version, listed: Option<u64>) -> Metadata {
        let head = AnswerHead {
            content_length: listed.filter(|_| known.validator == Validator::None),
            ..self.as_head()
        };
        if self.size.is_some() || !is_same_version(&head, known) {
            return self;
        }
        Metadata {
            version: Some(known.clone()),
            size: Some(known.size),
            ..self
        }
    }

    /// What the response that gave this metadata calls its version.
    pub(crate) fn label(&self) -> VersionLabel {
        VersionLabel::of(&self.as_head())
    }

    /// The reverse: the head of a 200 with the same metadata.
    pub(crate) fn as_head(&self) -> AnswerHead {
        let etag = match &self.validator {
            Validator::Strong(tag) | Validator::Weak(tag) => Some(tag.clone()),
            Validator::Dated(_) | Validator::None => None,
        };
        let last_modified = match &self.validator {
            Validator::Dated(date) => Some(date.clone()),
            _ => self.modified.map(httpdate::fmt_http_date),
        };
        AnswerHead {
            status: 200,
            content_length: self.size,
            content_type: self.content_type.clone(),
            etag,
            last_modified,
            ..AnswerHead::default()
        }
    }
}
