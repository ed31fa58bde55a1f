//! File or directory: the type of a name that the listing shows without a `/`.
//!
//! A name is a directory if its listing says so, or if its source finds out
//! ([`tell_apart`](crate::source::Source::tell_apart)). A name that was first taken for a file is corrected then. In the
//! tree a node with another number replaces its node; in the index the listing is corrected. What later listings say of
//! the name applies to the directory.

use url::Url;

use super::stored;
use crate::http::redact;
use crate::origin::Metadata;
use crate::source::{EntryKind, Listing, NameKind};
use crate::util::events;
use crate::vfs::Tree;
use crate::vfs::nodes::node::{Directory, Kind, Snapshot};
use crate::vfs::nodes::remote_file::RemoteFile;

/// The URL with a `/` at its end.
pub(in crate::vfs) fn with_slash(url: &Url) -> Url {
    let mut directory = url.clone();
    directory.set_path(&format!("{}/", url.path().trim_end_matches('/')));
    directory
}

impl Tree {
    /// Whether the server's answer shows that a file is a directory. Marks the file then.
    pub(in crate::vfs) async fn turns_out_directory(&self, file: &RemoteFile, found: &Metadata) -> bool {
        let url = file.url();
        let kind = file.source().tell_apart(&url, file.listed_size(), found).await;
        let is_directory = kind == NameKind::Directory;
        if is_directory {
            log::info!(
                event = events::DIRECTORY_WITHOUT_SLASH;
                "{}: it is a directory, although its link has no trailing `/`",
                redact(&url)
            );
            file.mark_directory();
        }
        is_directory
    }

    /// The directory that replaces a file node.
    pub(in crate::vfs) fn directory_instead(&self, file: &RemoteFile) -> Kind {
        let url = file.url();
        self.cache.catalog().forget_file(&url);
        self.nodes
            .directory(file.source(), with_slash(&url), file.listed_time())
    }

    /// Stores the corrected names of a directory.
    pub(in crate::vfs) fn keep_corrected(&self, directory: &Directory, names: &Snapshot) {
        let mut entries = names.listed.entries().clone();
        for (at, node) in names.all_pinned() {
            let Kind::Directory(below) = &node.kind else { continue };
            if let Some(url) = below.url.as_ref().filter(|_| !entries.is_directory(at)) {
                // If it does not fit, it is stored as a file and corrected again later.
                let _ = entries.replace(at, EntryKind::Directory, url);
            }
        }
        let Some(url) = &directory.url else { return };
        let listing = Listing {
            entries,
            ..stored::listing_of(url, names.listed.modified)
        };
        self.keep(directory, &listing);
    }
}

/// Corrects a new listing: names known as directories count as directories, though it lists them as files.
pub(in crate::vfs) fn correct(before: &Snapshot, listing: &mut Listing) {
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
