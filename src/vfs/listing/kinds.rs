//! File or directory: what a name is that the listing has without a `/`.
//!
//! **The rule.** A name is a directory if its link says so; or if the server redirects from it to the same name with a `/`, or has there a
//! page that says of itself that it is an index. What was taken for a file is corrected then: in the tree, where its node makes way for one with
//! another number, and in the index; and what a later listing says of it counts as said of the directory.

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

/// How the names of files end that are pages by themselves.
const PAGES: [&str; 9] = ["html", "htm", "xhtml", "shtml", "xht", "php", "asp", "aspx", "jsp"];

/// The URL with a `/` at its end.
pub(in crate::vfs) fn with_slash(url: &Url) -> Url {
    let mut directory = url.clone();
    directory.set_path(&format!("{}/", url.path().trim_end_matches('/')));
    directory
}

/// The URL of the directory at `asked`, if the server led from there to the same name with a `/`.
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

/// Whether this is a web page whose name does not say that it is one.
pub(in crate::vfs) fn is_page_in_place_of_a_file(url: &Url, found: &Metadata) -> bool {
    let is_html = matches!(
        found.content_type.as_deref(),
        Some("text/html" | "application/xhtml+xml")
    );
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    is_html && !ending.is_some_and(|ending| PAGES.contains(&ending.as_str()))
}

/// The listing of the directory that is at `url`, where a page was found: if that says of itself that it is an index.
pub(in crate::vfs) async fn marked_index(source: &dyn Source, url: &Url, found: &Metadata) -> Option<Listing> {
    if !is_page_in_place_of_a_file(url, found) {
        return None;
    }
    let directory = with_slash(url);
    let listing = source.list(&directory, &directory).await.ok()?;
    listing.is_marked.then_some(listing)
}

impl Tree {
    /// Whether what the server says of a file is that it is a directory. Then it is marked as one.
    pub(in crate::vfs) async fn turns_out_directory(&self, file: &RemoteFile, found: &Metadata) -> bool {
        // No server gives the exact size of a page that it makes.
        let may_be_index = !matches!(file.listed_size, ListedSize::Exact(_));
        let is_directory = directory_of(&file.url, &found.url).is_some()
            || (may_be_index && marked_index(&*self.source, &file.url, found).await.is_some());
        if is_directory {
            log::info!("{}: it is a directory, though its link has no `/`", redact(&file.url));
            file.mark_directory();
        }
        is_directory
    }

    /// The directory in the place of a file that turned out to be one.
    pub(in crate::vfs) fn directory_instead(&self, file: &RemoteFile) -> Directory {
        self.cache.catalogue().forget_file(&file.url);
        self.listed_directory(with_slash(&file.url), file.listed_time)
    }

    /// Writes down the names in a directory as they are known now.
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

/// Has a new listing say `directory` of the names that turned out to be directories, though it lists them as files.
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
        // One that can't be listed may have become a file.
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
