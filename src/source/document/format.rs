//! [`Format`]: what is special about a kind of documents.

use url::Url;

use super::file::{DocumentError, Parsed};
use crate::origin::Metadata;
use crate::source::SourceConfig;

/// A kind of documents.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Its name for `--type`, in stored listings, and in the URLs of its directories.
    pub kind: &'static str,
    /// The document's URL, from the one that the user has named.
    pub document: fn(&Url) -> Url,
    /// How a document is recognised if the user has not named the kind.
    pub recognition: Recognition,
    /// Finds the files in a document that came from this URL.
    pub parse: Parse,
    /// True for a URL that looks like a document of this kind. If one is in a document, it may be a directory.
    pub may_be_nested: Option<fn(&Url) -> bool>,
    /// True if the answer for a file may name the document that describes it (`Link`, RFC 6249).
    pub is_described: bool,
}

impl Format {
    /// Whether an answer is one of a document, if the answer for a file may name its document instead.
    pub(super) fn may_be_described(&self) -> Option<fn(&Url, &Metadata) -> bool> {
        match self.recognition {
            Recognition::ByContent { may_be_one, .. } if self.is_described => Some(may_be_one),
            _ => None,
        }
    }
}

/// Finds the files in a document. The URL is the base of relative ones.
pub(crate) type Parse = fn(&Url, &[u8], &SourceConfig) -> Result<Parsed, DocumentError>;

/// How a document is recognised.
#[derive(Clone, Copy)]
pub(crate) enum Recognition {
    /// By the URL alone.
    ByUrl(fn(&Url) -> bool),
    /// By the first answer from its URL, and then by its bytes. The bytes are requested only if the answer says that it
    /// may be one.
    ByContent {
        may_be_one: fn(&Url, &Metadata) -> bool,
        is_one: fn(&[u8]) -> bool,
        /// Of a document on this machine, by its URL and bytes.
        is_local_one: fn(&Url, &[u8]) -> bool,
    },
}
