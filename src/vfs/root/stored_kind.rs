//! The kind of a source whose kind the user has not named, as a server's answer showed it to an earlier mount.
//!
//! What the cache has of a URL does not show that: a file's row may come from the listing above it or from a mount with
//! `--type file`, and a listing from a mount with another `--type`. So the kind is stored by itself, as a listing without
//! names of the URL `source+URL`.

use url::Url;

use crate::cache::Catalog;
use crate::vfs::listing::stored;

/// The kind that an answer from this URL has shown.
pub(super) fn of(catalog: &Catalog, url: &Url) -> Option<String> {
    stored::read_kind(&catalog.listing(&address(url)?)?)
}

/// Stores the kind that an answer from this URL has shown.
pub(super) fn note(catalog: &Catalog, url: &Url, kind: &str) {
    if let Some(address) = address(url) {
        // A mount without a cache directory asks again.
        let _ = catalog.keep_listing(&address, stored::write_kind(kind));
    }
}

fn address(url: &Url) -> Option<Url> {
    Url::parse(&format!("source+{url}")).ok()
}
