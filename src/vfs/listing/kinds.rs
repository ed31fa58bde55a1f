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

use percent_encoding::percent_decode_str;
use url::Url;

use super::directory::Directory;
use super::snapshot::Snapshot;
use super::stored;
use crate::http::redact;
use crate::origin::Metadata;
use crate::source::{EntryKind, ListedSize, Listing, Source};
use crate::vfs::Tree;
use crate::vfs::file::RemoteFile;
use crate::vfs::node::Kind;

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
        let may_be_index = !matches!(file.listed_size(), ListedSize::Exact(_));
        let url = file.url();
        let is_directory = directory_of(&url, &found.url).is_some()
            || (may_be_index && marked_index(&*self.source, &url, found).await.is_some());
        if is_directory {
            log::info!("{}: it is a directory, though its link has no `/`", redact(&url));
            file.mark_directory();
        }
        is_directory
    }

    /// The directory that replaces a file node.
    pub(in crate::vfs) fn directory_instead(&self, file: &RemoteFile) -> Directory {
        let url = file.url();
        self.cache.catalogue().forget_file(&url);
        self.listed_directory(with_slash(&url), file.listed_time())
    }

    /// Stores the corrected names of a directory.
    pub(in crate::vfs) fn keep_corrected(&self, directory: &Directory, names: &Snapshot) {
        let mut entries = names.entries().clone();
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
            ..stored::listing_of(url, names.modified)
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
        let Some(before_at) = before.find_near(entries.name(at), at) else {
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
            None => before.entries().url(before_at) == url,
        };
        if is_same {
            // If it does not fit, it is a file until it is corrected again.
            let _ = entries.replace(at, EntryKind::Directory, &url);
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
