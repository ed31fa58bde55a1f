//! The tree of directories that a document's files form.
//!
//! It is built once from all files, and then answers [`DocumentTree::listing`] for each directory. Its promises are
//! those of [`document`](super).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use url::Url;

use super::address;
use super::file::{DocumentError, DocumentFile, Parsed};
use crate::http::Validator;
use crate::source::{Entries, Entry, EntryKind, LeftOut, ListedSize, ListedTime, Listing, Name, Published};

/// The tree of a document.
#[derive(Default)]
pub(crate) struct DocumentTree {
    /// The root first. **The folder of a position in [`Folder::folders`] is there.**
    folders: Vec<Folder>,
    /// What a user should know of names that were changed.
    note: Option<String>,
}

struct Folder {
    url: Url,
    listing: Listing,
    folders: HashMap<Name, usize>,
}

/// A folder while the tree is being built.
#[derive(Default)]
struct Draft {
    folders: HashMap<Name, usize>,
    /// Its parent's position and its own name; `None` for the root.
    place: Option<(usize, Name)>,
    items: Vec<Item>,
}

/// In a folder, in the order in which the document names them first.
enum Item {
    Folder(Name),
    File(usize),
}

impl DocumentTree {
    /// The tree of these files. `root` is the URL of its root directory, and `modified` the document's own date.
    ///
    /// # Errors
    /// If files and folders are more than `max_entries`.
    pub(crate) fn new(
        root: &Url,
        parsed: Parsed,
        modified: Option<SystemTime>,
        max_entries: usize,
    ) -> Result<DocumentTree, DocumentError> {
        let Parsed { mut files, left_out } = parsed;
        let drafts = draft(&mut files, max_entries)?;
        let mut urls: Vec<Url> = Vec::with_capacity(drafts.len());
        let mut tree = DocumentTree {
            folders: Vec::with_capacity(drafts.len()),
            note: None,
        };
        let mut renamed = Renamed::default();
        for draft in drafts {
            // A folder comes after its parent.
            let url = match &draft.place {
                None => root.clone(),
                Some((parent, name)) => address::below(&urls[*parent], name),
            };
            tree.add_folder(&url, draft, &mut files, modified, &mut renamed)?;
            urls.push(url);
        }
        if let Some(root) = tree.folders.first_mut() {
            root.listing.left_out.change(LeftOut::default(), left_out);
        }
        tree.note = renamed.note();
        Ok(tree)
    }

    fn add_folder(
        &mut self,
        url: &Url,
        draft: Draft,
        files: &mut [DocumentFile],
        modified: Option<SystemTime>,
        renamed: &mut Renamed,
    ) -> Result<(), DocumentError> {
        let mut left_out = LeftOut::default();
        let mut entries = Entries::of(url);
        let mut names = Names::of(&draft, files);
        for item in draft.items {
            let entry = match item {
                Item::Folder(name) => Entry {
                    url: address::below(url, &name),
                    name,
                    kind: EntryKind::Directory,
                    modified: None,
                    published: None,
                },
                Item::File(at) => {
                    let file = &mut files[at];
                    let Some(name) = file.path.pop() else { continue };
                    if draft.folders.contains_key(&name) {
                        left_out.both += 1;
                        continue;
                    }
                    let name = match names.take(name, &file.url) {
                        Taken::Free(name) => name,
                        Taken::Repeated => continue,
                        Taken::Renamed(before, Some(name)) => {
                            renamed.add(&before, &name);
                            name
                        }
                        Taken::Renamed(_, None) => {
                            left_out.refused += 1;
                            continue;
                        }
                    };
                    let published = std::mem::take(&mut file.published);
                    Entry {
                        name,
                        url: file.url.clone(),
                        kind: EntryKind::File(file.size.map_or(ListedSize::Unknown, ListedSize::Exact)),
                        modified: file.modified.map(|time| ListedTime { time, exact: true }),
                        published: (published != Published::default()).then(|| Arc::new(published)),
                    }
                }
            };
            if !entries.push(&entry) {
                return Err(DocumentError::new("its names and URLs are longer than 4 GiB"));
            }
        }
        entries.shrink_to_fit();
        self.folders.push(Folder {
            url: url.clone(),
            listing: Listing {
                left_out,
                modified,
                ..Listing::of(entries)
            },
            folders: draft.folders,
        });
        Ok(())
    }

    /// The listing of the directory at this place below the root; `None` if the document has none there.
    pub(crate) fn listing(&self, place: &[Name]) -> Option<&Listing> {
        let mut folder = self.folders.first()?;
        for name in place {
            folder = self.folders.get(*folder.folders.get(name)?)?;
        }
        Some(&folder.listing)
    }

    /// Gives the listings of all directories the document's own validator.
    pub(crate) fn set_validator(&mut self, validator: &Validator) {
        for folder in &mut self.folders {
            folder.listing.validator = validator.clone();
        }
    }

    /// The listings of all directories, each with its URL.
    pub(crate) fn listings(&self) -> impl Iterator<Item = (&Url, &Listing)> {
        self.folders.iter().map(|folder| (&folder.url, &folder.listing))
    }

    /// A sentence about names that are not shown as the document has them, if there are any.
    pub(crate) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

/// Arranges the files in folders. Takes the folders' names from the files' paths, and leaves their own names there.
fn draft(files: &mut [DocumentFile], max_entries: usize) -> Result<Vec<Draft>, DocumentError> {
    let mut drafts = vec![Draft::default()];
    for (position, file) in files.iter_mut().enumerate() {
        let mut at = 0;
        let own = file.path.len().saturating_sub(1);
        for name in file.path.drain(..own) {
            at = match drafts[at].folders.get(&name) {
                Some(&below) => below,
                None => {
                    let below = drafts.len();
                    drafts[at].folders.insert(name.clone(), below);
                    drafts[at].items.push(Item::Folder(name.clone()));
                    drafts.push(Draft {
                        place: Some((at, name)),
                        ..Draft::default()
                    });
                    below
                }
            };
        }
        drafts[at].items.push(Item::File(position));
        if position + drafts.len() > max_entries {
            return Err(DocumentError::new(format!(
                "it has more than {max_entries} names; raise --max-entries"
            )));
        }
    }
    Ok(drafts)
}

/// The names in one folder.
struct Names {
    /// Those that the document has, and those that were made up.
    all: HashSet<Name>,
    /// Those that are shown, with the number to try next for another file of the name.
    shown: HashMap<Name, u32>,
    /// Names and URLs of files.
    files: HashSet<(Name, Url)>,
}

/// What becomes of a file's name.
enum Taken {
    Free(Name),
    /// The same name with the same URL is shown already.
    Repeated,
    /// Another file has the name. `None` if the other name would be too long.
    Renamed(Name, Option<Name>),
}

impl Names {
    fn of(draft: &Draft, files: &[DocumentFile]) -> Names {
        let names = draft.items.iter().filter_map(|item| match item {
            Item::Folder(name) => Some(name),
            Item::File(at) => files[*at].path.last(),
        });
        Names {
            all: names.cloned().collect(),
            shown: HashMap::new(),
            files: HashSet::new(),
        }
    }

    fn take(&mut self, name: Name, url: &Url) -> Taken {
        if !self.files.insert((name.clone(), url.clone())) {
            return Taken::Repeated;
        }
        let Some(next) = self.shown.get_mut(&name) else {
            self.shown.insert(name.clone(), 2);
            return Taken::Free(name);
        };
        loop {
            let other = numbered(&name, *next);
            *next += 1;
            match other {
                // The document may have this name too.
                Some(other) if !self.all.insert(other.clone()) => {}
                other => return Taken::Renamed(name, other),
            }
        }
    }
}

/// `name (2).ext`. The extension of `x.tar.gz` is `.tar.gz`. `None` if the name gets too long.
fn numbered(name: &Name, number: u32) -> Option<Name> {
    let bytes = name.as_bytes();
    let dot = |within: &[u8]| within.iter().rposition(|&byte| byte == b'.').filter(|&at| at > 0);
    let at = dot(bytes).map_or(bytes.len(), |at| match dot(&bytes[..at]) {
        Some(before) if bytes[before..at] == *b".tar" => before,
        _ => at,
    });
    let (stem, extension) = bytes.split_at(at);
    Name::new([stem, format!(" ({number})").as_bytes(), extension].concat())
}

/// Counts names that were changed.
#[derive(Default)]
struct Renamed {
    count: usize,
    example: Option<(String, String)>,
}

impl Renamed {
    fn add(&mut self, before: &Name, after: &Name) {
        self.count += 1;
        self.example.get_or_insert_with(|| {
            let text = |name: &Name| name.as_os_str().to_string_lossy().into_owned();
            (text(before), text(after))
        });
    }

    fn note(self) -> Option<String> {
        let (before, after) = self.example?;
        let files = match self.count {
            1 => "1 file has the name of another file and is".to_owned(),
            count => format!("{count} files have the names of other files and are"),
        };
        Some(format!("{files} shown under another name ({before:?} as {after:?})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::document::text::path_of;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn file(path: &str, at: &str) -> DocumentFile {
        DocumentFile::at(path_of(path.as_bytes()).unwrap(), url(at))
    }

    fn tree_of(files: Vec<DocumentFile>, max: usize) -> Result<DocumentTree, DocumentError> {
        let parsed = Parsed {
            files,
            left_out: LeftOut::default(),
        };
        DocumentTree::new(&url("list+http://h/l.txt!/"), parsed, None, max)
    }

    fn tree(files: Vec<DocumentFile>) -> DocumentTree {
        tree_of(files, 100).unwrap()
    }

    fn names(tree: &DocumentTree, place: &str) -> Option<Vec<String>> {
        let place = path_of(place.as_bytes()).unwrap_or_default();
        let entries = &tree.listing(&place)?.entries;
        let shown = |entry: Entry| format!("{} {}", entry.name.as_os_str().display(), entry.url);
        Some(entries.iter().map(shown).collect())
    }

    #[test]
    fn each_folder_has_a_listing() {
        let tree = tree(vec![
            file("a/b/x", "http://h/1"),
            file("y", "http://h/2"),
            file("a/z", "http://h/3"),
        ]);
        let root = ["a list+http://h/l.txt!/a/", "y http://h/2"].map(str::to_owned);
        assert_eq!(names(&tree, "").unwrap(), root);
        let a = ["b list+http://h/l.txt!/a/b/", "z http://h/3"].map(str::to_owned);
        assert_eq!(names(&tree, "a").unwrap(), a);
        assert_eq!(names(&tree, "a/b").unwrap(), ["x http://h/1"]);
        assert!(names(&tree, "y").is_none() && names(&tree, "a/c").is_none());
        assert!(tree.listing(&[]).unwrap().is_marked && tree.note().is_none());
        assert_eq!(names(&self::tree(Vec::new()), "").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn files_of_one_name_are_numbered() {
        let tree = tree(vec![
            file("x.tar.gz", "http://h/1"),
            file("x.tar.gz", "http://h/2"),
            file("x.tar.gz", "http://h/1"),
            file("x (2).tar.gz", "http://h/3"),
            file("d/x.tar.gz", "http://h/4"),
            file(".x", "http://h/5"),
            file(".x", "http://h/6"),
        ]);
        let expected = [
            "x.tar.gz http://h/1",
            "x (3).tar.gz http://h/2",
            "x (2).tar.gz http://h/3",
            "d list+http://h/l.txt!/d/",
            ".x http://h/5",
            ".x (2) http://h/6",
        ];
        assert_eq!(names(&tree, "").unwrap(), expected);
        let note = "2 files have the names of other files and are shown under another name (\"x.tar.gz\" as \
                    \"x (3).tar.gz\")";
        assert_eq!(tree.note(), Some(note));
    }

    #[test]
    fn folder_hides_a_file_of_its_name() {
        let tree = tree(vec![file("a", "http://h/1"), file("a/b", "http://h/2")]);
        assert_eq!(names(&tree, "").unwrap(), ["a list+http://h/l.txt!/a/"]);
        assert_eq!(tree.listing(&[]).unwrap().left_out.both, 1);
    }

    #[test]
    fn name_that_gets_too_long_is_left_out() {
        let long = "x".repeat(1022);
        let tree = tree(vec![file(&long, "http://h/1"), file(&long, "http://h/2")]);
        let listing = tree.listing(&[]).unwrap();
        assert_eq!((listing.entries.len(), listing.left_out.refused), (1, 1));
    }

    #[test]
    fn number_of_names_is_bounded() {
        let files = || vec![file("a/x", "http://h/1"), file("a/y", "http://h/2")];
        assert!(tree_of(files(), 3).is_ok());
        let error = tree_of(files(), 2).err().unwrap();
        assert_eq!(error.to_string(), "it has more than 2 names; raise --max-entries");
    }

    #[test]
    fn facts_of_a_file_are_in_its_entry() {
        let mut with_mirror = file("x", "http://h/1");
        with_mirror.size = Some(7);
        with_mirror.published.alternates.push(url("http://m/1"));
        let tree = tree(vec![with_mirror.clone(), file("y", "http://h/2")]);
        let entries = &tree.listing(&[]).unwrap().entries;
        assert_eq!(entries.kind(0), EntryKind::File(ListedSize::Exact(7)));
        assert_eq!(
            entries.published(0).map(|published| &**published),
            Some(&with_mirror.published)
        );
        assert_eq!(entries.published(1), None);
    }

    /// The numbers of a crowd of files with one name are not tried again for each.
    #[test]
    fn crowd_of_one_name_is_numbered_quickly() {
        let files = (0..20_000)
            .map(|number| file("x", &format!("http://h/{number}")))
            .collect();
        let tree = tree_of(files, 100_000).unwrap();
        let entries = &tree.listing(&[]).unwrap().entries;
        assert_eq!(entries.name(19_999), "x (20000)");
    }
}
