//! A URL that the user has named, while kinds of sources are asked whether it is theirs.

use tokio::sync::OnceCell;
use url::Url;

use super::SourceError;
use super::local::LocalContent;
use crate::origin::{Client, Document, DocumentRequest, Metadata};

/// A URL that the user has named, and the first answers from it. All kinds share these requests.
pub(crate) struct Asked<'a> {
    client: &'a Client,
    /// The URL.
    pub url: &'a Url,
    /// Where it is asked: itself, or its URL on a mirror.
    pub there: &'a Url,
    /// True if the user has named the kind.
    pub is_named: bool,
    /// The document, if it can be read only once.
    pub content: Option<&'a LocalContent>,
    metadata: OnceCell<Metadata>,
    document: OnceCell<Document>,
}

impl<'a> Asked<'a> {
    /// The URL `url`, asked at `there`. Nothing is requested yet.
    pub(super) fn new(
        client: &'a Client,
        content: Option<&'a LocalContent>,
        url: &'a Url,
        there: &'a Url,
        is_named: bool,
    ) -> Asked<'a> {
        Asked {
            client,
            url,
            there,
            is_named,
            content,
            metadata: OnceCell::new(),
            document: OnceCell::new(),
        }
    }

    /// Returns true if the source's own URL is asked, no mirror.
    pub(crate) fn is_own(&self) -> bool {
        self.url == self.there
    }

    /// The answer to a request for the first byte.
    ///
    /// # Errors
    /// As for [`Client::metadata`].
    pub(crate) async fn metadata(&self) -> Result<&Metadata, SourceError> {
        let ask = || async {
            if self.is_own() {
                self.client.metadata(self.url).await
            } else {
                self.client.metadata_of_mirror(self.there).await
            }
        };
        Ok(self.metadata.get_or_try_init(ask).await?)
    }

    /// The whole document. A kind asks for it only if the metadata looks like one of its documents.
    ///
    /// # Errors
    /// As for [`Client::document`].
    pub(crate) async fn document(&self) -> Result<&Document, SourceError> {
        let ask = || self.client.document(self.there, DocumentRequest::default());
        Ok(self.document.get_or_try_init(ask).await?)
    }
}
