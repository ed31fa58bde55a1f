//! What the client hands out: plain values, and the bodies of ranges.

use std::{ops::Range, time::SystemTime};

use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use crate::http::{
    Validator, Version,
    response::{head::AnswerHead, validation::is_same_version},
};
use crate::origin::{AliasName, Body};

/// What is known of a remote file, or a page, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where the redirects ended.
    pub url: Url,
    /// `size` and `validator` together; `None` if the size is unknown.
    pub version: Option<Version>,
    /// Bytes; `None` if the server does not tell.
    pub size: Option<u64>,
    /// What the server calls this version.
    pub validator: Validator,
    /// Last-Modified.
    pub modified: Option<SystemTime>,
    /// Media type without parameters, in lower case.
    pub content_type: Option<String>,
}

/// A document that was read as a whole.
#[derive(Debug)]
pub struct Page {
    /// Where the redirects ended: what relative links are relative to.
    pub url: Url,
    /// Media type without parameters, in lower case.
    pub content_type: Option<String>,
    /// The charset that the server named, as it wrote it.
    pub charset: Option<String>,
    /// Last-Modified.
    pub modified: Option<SystemTime>,
    /// At most [`max_page`](crate::http::HttpConfig::max_page) bytes.
    pub body: Vec<u8>,
    /// If it is a large one: keeps others from being held beside it.
    pub(crate) _leave: Option<OwnedSemaphorePermit>,
}

/// The answer to a request for a range.
#[derive(Debug)]
pub enum RangeAnswer {
    /// The range, or the beginning of it.
    Partial {
        /// The version that the bytes belong to: the known one where that has a validator.
        version: Version,
        /// Starts where the asked range does; ends there or before.
        range: Range<u64>,
        /// Last-Modified.
        modified: Option<SystemTime>,
        /// Exactly the bytes of `range`.
        body: Body,
    },
    /// The server ignores Range: the whole file, from byte 0.
    Whole {
        /// Bytes; `None` if neither the server nor a known version tells.
        size: Option<u64>,
        /// The known one, or what the server calls this version if none was known.
        validator: Validator,
        /// Last-Modified.
        modified: Option<SystemTime>,
        /// Exactly `size` bytes if that is known, or as many as come.
        body: Body,
    },
    /// It fits in size and range, and is not shown to be of the known version by its validators:
    /// [`Client::weigh`](crate::origin::Client::weigh) has to tell.
    Doubtful {
        /// What it calls its version.
        told: AliasName,
        /// The answer, if it is of the known version.
        answer: Box<RangeAnswer>,
    },
    /// Authoritative: the file is another version now, as far as the answer describes it.
    Changed(Option<Version>),
    /// Nothing was known, and the range starts at or after the end of the file.
    PastEnd {
        /// Bytes in the file, as the server says.
        size: u64,
    },
}

impl Metadata {
    /// What an answer's head tells; the size is the caller's to find in it.
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
        }
    }

    /// Of an answer that tells no length: it is of the known version if it names that; and where the server names no versions, if
    /// the listing still gives the file this version's size.
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

    /// The other way round: the head of a 200 that would tell the same.
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
