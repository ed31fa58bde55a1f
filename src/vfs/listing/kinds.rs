//! File or directory: the type of a name that the listing shows without a `/`.
//!
//! A name is a directory if its listing says so, or if its source finds out
//! ([`tell_apart`](crate::source::Source::tell_apart)). A name that was first taken for a file is corrected then. In the
//! tree a node with another number replaces its node; in the index the listing is corrected. What later listings say of
//! the name applies to the directory.

use url::Url;

use super::stored;
use crate::source::{EntryKind, Listing};
use crate::vfs::nodes::node::{Kind, Snapshot};

/// The URL with a `/` at its end.
pub(super) fn with_slash(url: &Url) -> Url {
    let mut directory = url.clone();
    directory.set_path(&format!("{}/", url.path().trim_end_matches('/')));
    directory
}

/// Corrects a new listing: names known as directories count as directories, though it lists them as files.
pub(super) fn correct(before: &Snapshot, listing: &mut Listing) {
    if before.directories() == 0 {
        return;
    }
    let entries = &mut listing.entries;
    for at in 0..entries.len() {
        if entries.is_directory(at) {
            continue;
        }
        let Some(before_at) = before.listed.find_near(entries.name(at), at) else {
            continue;
        };
        if !before.is_directory(before_at) {
            continue;
        }
        let url = with_slash(&entries.url(at));
        let is_same = match before.pinned(before_at).as_ref().map(|node| &node.kind) {
            // A directory that can't be listed may have become a file.
            Some(Kind::Directory(directory)) => directory.url.as_ref() == Some(&url) && !directory.has_failed(),
            Some(Kind::File(_)) => false,
            None => before.listed.entries().url(before_at) == url,
        };
        if is_same {
            // If it does not fit, it is a file until it is corrected again.
            let _ = entries.replace(at, EntryKind::Directory, &url);
        }
    }
}

/// The listing of the directory at `url` with the corrections that its names had since.
pub(super) fn corrected(names: &Snapshot, url: &Url) -> Listing {
    let mut entries = names.listed.entries().clone();
    for (at, node) in names.all_pinned() {
        let below = node.directory().and_then(|directory| directory.url.as_ref());
        if let Some(below) = below.filter(|_| !entries.is_directory(at)) {
            // If it does not fit, it is stored as a file and corrected again later.
            let _ = entries.replace(at, EntryKind::Directory, below);
        }
    }
    Listing {
        entries,
        ..stored::listing_of(url, names.listed.modified)
    }
}
