//! The kind `file`: one file at the URL that the user named. It has no listing.

use url::Url;

use super::{Asked, BoxFuture, Found, Listing, Source, SourceError};

/// The name of the kind.
pub(super) const FILE: &str = "file";

/// The source of single files.
pub(crate) struct SingleFile;

impl Source for SingleFile {
    fn kind(&self) -> &'static str {
        FILE
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move { Ok(Some(Found::File(asked.metadata().await?.clone()))) })
    }

    fn list<'a>(&'a self, _: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(async move { Err(SourceError::not_a_listing(there, "it is mounted as a single file")) })
    }
}
