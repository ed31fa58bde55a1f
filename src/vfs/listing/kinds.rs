//! File or directory: the type of a name that the listing shows without a `/`.
//!
//! **The rule.** A name is a directory in three cases:
//!
//! - Its link says so.
//! - The server redirects from it to the same name with a `/`.
//! - It is a page that marks itself as an index.
//!
//! A name that was first taken for a file is corrected then. In the tree a node with another number replaces its
//! node; in the index the listing is corrected. What later listings say of the name applies to the directory.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::Url;

use super::directory::Directory;
use super::snapshot::Snapshot;
use super::stored;
use crate::http::redact;
use crate::origin::Metadata;
use crate::source::{Entry, EntryKind, ListedSize, Listing, Source};
use crate::vfs::Tree;
use crate::vfs::file::RemoteFile;
use crate::vfs::node::{Kind, Node};

/// Extensions of files that are web pages themselves.
const PAGES: [&str; 9] = ["html", "htm", "xhtml", "shtml", "xht", "php", "asp", "aspx", "jsp"];

/// The URL with a `/` at its end.
pub(in crate::vfs) fn with_slash(url: &Url) -> Url {
    let mut directory = url.clone();
    directory.set_path(&format!("{}/", url.path().trim_end_matches('/')));
    directory
}

/// The directory's URL, if the server redirected from `asked` to the same name with a `/`.
pub(in crate::vfs) fn directory_of(asked: &Url, answered: &Url) -> Option<Url> {
    let last = |path: &str| -> Vec<u8> {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        percent_decode_str(name).collect()
    };
    let is_directory = !asked.path().ends_with('/')
        && answered.path().ends_with('/')
        && !last(asked.path()).is_empty()
        && last(asked.path()) == last(answered.path());
    is_directory.then(|| with_slash(asked))
}

/// Whether the answer is a web page although the name does not say so.
pub(in crate::vfs) fn is_page_in_place_of_a_file(url: &Url, found: &Metadata) -> bool {
    let is_html = matches!(
        found.content_type.as_deref(),
        Some("text/html" | "application/xhtml+xml")
    );
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    is_html && !ending.is_some_and(|ending| PAGES.contains(&ending.as_str()))
}

/// The listing of a directory whose URL `url` returned a page. `None` if the page does not mark itself as an index.
pub(in crate::vfs) async fn marked_index(source: &dyn Source, url: &Url, found: &Metadata) -> Option<Listing> {
    if !is_page_in_place_of_a_file(url, found) {
        return None;
    }
    let directory = with_slash(url);
    let listing = source.list(&directory, &directory).await.ok()?;
    listing.is_marked.then_some(listing)
}

impl Tree {
    /// Whether the server's answer shows that a file is a directory. Marks the file then.
    pub(in crate::vfs) async fn turns_out_directory(&self, file: &RemoteFile, found: &Metadata) -> bool {
        // No server gives the exact size of a page that it generates.
        let may_be_index = !matches!(file.listed_size, ListedSize::Exact(_));
        let is_directory = directory_of(&file.url, &found.url).is_some()
            || (may_be_index && marked_index(&*self.source, &file.url, found).await.is_some());
        if is_directory {
            log::info!("{}: it is a directory, though its link has no `/`", redact(&file.url));
            file.mark_directory();
        }
        is_directory
    }

    /// The directory that replaces a file node.
    pub(in crate::vfs) fn directory_instead(&self, file: &RemoteFile) -> Directory {
        self.cache.catalogue().forget_file(&file.url);
        self.listed_directory(with_slash(&file.url), file.listed_time)
    }

    /// Stores the corrected names of a directory.
    pub(in crate::vfs) fn keep_corrected(&self, directory: &Directory, names: &Snapshot) {
        let entries = names.children().iter().filter_map(|(name, node)| {
            let (kind, modified) = match &node.kind {
                Kind::Directory(below) => (EntryKind::Directory, below.listed_time()),
                Kind::File(file) => {
                    let (size, modified) = file.listed_as();
                    (EntryKind::File(size), modified)
                }
            };
            Some(Entry {
                name: name.clone(),
                url: node.url()?.clone(),
                kind,
                modified,
            })
        });
        let listing = Listing {
            entries: entries.collect(),
            ..stored::listing_of(names.modified)
        };
        self.keep(directory, &listing);
    }
}

/// Corrects a new listing: names known as directories count as directories, though it lists them as files.
pub(in crate::vfs) fn correct(before: &Snapshot, listing: &mut Listing) {
    if before.directories == 0 {
        return;
    }
    for entry in &mut listing.entries {
        if !matches!(entry.kind, EntryKind::File(_)) {
            continue;
        }
        let Some(Kind::Directory(directory)) = before.get(entry.name.as_os_str()).map(|node: &Arc<Node>| &node.kind)
        else {
            continue;
        };
        let url = with_slash(&entry.url);
        // A directory that can't be listed may have become a file.
        if directory.url.as_ref() == Some(&url) && !directory.has_failed() {
            (entry.kind, entry.url) = (EntryKind::Directory, url);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_to_the_name_with_a_slash_makes_a_directory() {
        let asked = Url::parse("http://h/pub/a%20b").unwrap();
        for (answered, is_directory) in [
            ("http://h/pub/a%20b/", true),
            ("https://mirror/x/a b/", true),
            ("http://h/pub/a%20b", false),
            ("http://h/login/", false),
            ("http://h/", false),
        ] {
            let found = directory_of(&asked, &Url::parse(answered).unwrap());
            let expected = is_directory.then(|| Url::parse("http://h/pub/a%20b/").unwrap());
            assert_eq!(found, expected, "{answered}");
        }
    }
}
