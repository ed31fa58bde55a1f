//! [`Content`]: the seam between names and bytes. What a source says of a file's content, as a value.
//!
//! `source` and `vfs` make it; `cache` opens it and fetches ranges of it. So the cache knows no kinds of sources, and a
//! source knows nothing of chunks.
//!
//! Places for what no kind of source has yet:
//!
//! - **Signatures.** Today the client signs each request by its origin: logins, tokens, cookies
//!   ([`auth`](crate::http::auth)). A signer of a source's own is a field here, which the client gets with the URL.
//! - **Validators and dates** of a listing that are as good as the response's own. The cache can then open the version
//!   without a request. The dates of index pages are not: they may lack seconds and a time zone.

use std::sync::Arc;

use url::Url;

use super::{Hash, Published};

/// What a source says of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    url: Url,
    alternates: Vec<Url>,
    /// What else the source publishes of it.
    published: Option<Arc<Published>>,
    /// Files beside it that may have its hash.
    checksum_files: Option<Arc<ChecksumFilesBeside>>,
    /// The size by the source. The first response with bytes gives the true one.
    pub size: ListedSize,
}

/// The files beside a file that may have its hash, by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChecksumFilesBeside {
    /// The name of the file in its directory.
    pub name: String,
    /// Where they are, those with the stronger hashes first.
    pub urls: Vec<Url>,
}

/// A file's size by its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedSize {
    /// Bytes, exact: the page printed every digit.
    Exact(u64),
    /// Bytes, rounded by the page (`1.2M`): good as a first estimate, never for reading. Never 0.
    Rounded(u64),
    /// The source gives no size.
    Unknown,
}

impl ListedSize {
    /// Bytes, exact or rounded; 0 if unknown.
    pub fn estimate(self) -> u64 {
        match self {
            ListedSize::Exact(size) | ListedSize::Rounded(size) => size,
            ListedSize::Unknown => 0,
        }
    }
}

impl Content {
    /// The content at this URL.
    pub fn at(url: Url, size: ListedSize) -> Content {
        Content {
            url,
            alternates: Vec::new(),
            published: None,
            checksum_files: None,
            size,
        }
    }

    /// Adds what the source publishes of the file. Its URLs come before those of mirrors.
    pub fn with(mut self, published: Option<Arc<Published>>) -> Content {
        if let Some(published) = &published {
            self.alternates.extend(published.alternates.iter().cloned());
        }
        self.published = published;
        self
    }

    /// What the source publishes of the file, besides its URLs and size.
    pub fn published(&self) -> Option<&Arc<Published>> {
        self.published.as_ref()
    }

    /// The hash of the whole file that its source publishes; the one that proves most, if there are several.
    pub fn hash(&self) -> Option<&Hash> {
        self.published.as_ref()?.strongest()
    }

    /// Returns true if published hashes decide which bytes are the file's.
    pub fn is_hashed(&self) -> bool {
        let published = self.published.as_ref();
        published.is_some_and(|published| published.pieces.is_some() || !published.hashes.is_empty())
    }

    /// Adds the files beside it that may have its hash.
    pub(crate) fn with_checksum_files(mut self, beside: Option<ChecksumFilesBeside>) -> Content {
        self.checksum_files = beside.map(Arc::new);
        self
    }

    /// The files beside it that may have its hash. **What they say is not enforced**: they may be older than the file.
    pub(crate) fn checksum_files(&self) -> Option<&ChecksumFilesBeside> {
        self.checksum_files.as_deref()
    }

    /// Appends URLs at which the same file is, in order of preference.
    pub fn or_at(mut self, urls: impl IntoIterator<Item = Url>) -> Content {
        self.alternates.extend(urls);
        self
    }

    /// The preferred URL. **It also identifies the file**: the cache records it, so it contains no signature and no
    /// time. Only its responses decide which version is current, and whether the file exists.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The other URLs in order of preference: those of the source, then those of the mirrors. They are asked while
    /// the preferred one is unavailable ([`mirrors`](super::mirrors)).
    pub fn alternates(&self) -> &[Url] {
        &self.alternates
    }
}
