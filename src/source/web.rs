//! Directories as web servers show them: index pages, one GET each.

use url::Url;

use super::{BoxFuture, Listing, Source, index_page};
use crate::http::{Client, HttpError, HttpErrorKind, redact};

/// Index pages of whatever server.
pub struct WebIndex {
    client: Client,
}

impl WebIndex {
    /// Index pages, asked for with this client.
    pub fn new(client: Client) -> WebIndex {
        WebIndex { client }
    }
}

impl Source for WebIndex {
    fn list<'a>(&'a self, directory: &'a Url) -> BoxFuture<'a, Result<Listing, HttpError>> {
        Box::pin(async move {
            let page = self.client.page(directory).await?;
            // Whatever type the server gives it: lighttpd without a table of types calls its pages
            // octet streams.
            let mut listing =
                index_page::parse(&page.url, &page.body, page.charset.as_deref()).map_err(|_| HttpError {
                    kind: HttpErrorKind::BadAnswer("it is not an index page of a directory".to_owned()),
                    url: redact(directory),
                })?;
            listing.modified = page.modified;
            Ok(listing)
        })
    }
}
