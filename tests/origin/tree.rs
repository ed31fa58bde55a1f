//! The origin's files by their paths, and the directories that follow from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::content::Content;
use super::index::{IndexStyle, PageTags};

/// The date of every first version (2024-01-01 00:00:00 UTC). Each further version is a day younger.
const FIRST_VERSION: Duration = Duration::from_secs(1_704_067_200);
const DAY: Duration = Duration::from_secs(86_400);

/// The validators that the server sends for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validators {
    /// A strong ETag and a date.
    Strong,
    /// A weak ETag (`W/"…"`) and a date.
    Weak,
    /// Only a date.
    DateOnly,
    /// Nothing.
    None,
}

/// One version of a file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub content: Content,
    pub modified: SystemTime,
    pub validators: Validators,
    version: u32,
}

impl File {
    /// The ETag header's value.
    pub fn etag(&self) -> Option<String> {
        let tag = format!("\"v{}-{}\"", self.version, self.content.size());
        match self.validators {
            Validators::Strong => Some(tag),
            Validators::Weak => Some(format!("W/{tag}")),
            Validators::DateOnly | Validators::None => None,
        }
    }

    /// The Last-Modified header's value.
    pub fn last_modified(&self) -> Option<String> {
        (self.validators != Validators::None).then(|| httpdate::fmt_http_date(self.modified))
    }
}

/// The file or directory at a path.
#[derive(Debug, Clone)]
pub(super) enum Node {
    File(File),
    /// The children: name, and the file unless it is a directory.
    Directory(Vec<(String, Option<File>)>, IndexStyle, PageTags),
}

/// All files and directories. Paths begin with `/`; those of directories do not end in one, and the root is empty.
pub(super) struct Tree {
    /// Guards the tree. Held for a look-up or a change, never during a send.
    inner: Mutex<Inner>,
}

struct Inner {
    files: BTreeMap<String, File>,
    directories: BTreeSet<String>,
    /// Paths that index pages omit.
    hidden: BTreeSet<String>,
    style: IndexStyle,
    page_tags: PageTags,
    /// Versions made so far, over all files: an ETag is never used again.
    versions: u32,
}

impl Tree {
    pub fn new() -> Tree {
        let directories = BTreeSet::from([String::new()]);
        let inner = Inner {
            files: BTreeMap::new(),
            directories,
            hidden: BTreeSet::new(),
            style: IndexStyle::Nginx,
            page_tags: PageTags::None,
            versions: 0,
        };
        Tree {
            inner: Mutex::new(inner),
        }
    }

    pub fn add(&self, path: &str, content: Content) {
        self.add_dated(path, content, None);
    }

    /// Adds a version with this date, or with the next day's.
    pub fn add_dated(&self, path: &str, content: Content, date: Option<SystemTime>) {
        let mut inner = self.lock();
        inner.versions += 1;
        let (next, validators) = match inner.files.get(path) {
            Some(old) => (old.modified + DAY, old.validators),
            None => (SystemTime::UNIX_EPOCH + FIRST_VERSION, Validators::Strong),
        };
        let file = File {
            content,
            modified: date.unwrap_or(next),
            validators,
            version: inner.versions,
        };
        inner.files.insert(path.to_owned(), file);
        inner.add_parents(path);
    }

    pub fn add_directory(&self, path: &str) {
        let mut inner = self.lock();
        inner.directories.insert(path.trim_end_matches('/').to_owned());
        inner.add_parents(path.trim_end_matches('/'));
    }

    pub fn remove(&self, path: &str) {
        self.lock()
            .files
            .remove(path)
            .unwrap_or_else(|| panic!("{path}: no such file to remove"));
    }

    pub fn hide(&self, path: &str) {
        self.lock().hidden.insert(path.to_owned());
    }

    pub fn set_validators(&self, path: &str, validators: Validators) {
        self.lock()
            .files
            .get_mut(path)
            .unwrap_or_else(|| panic!("{path}: no such file"))
            .validators = validators;
    }

    pub fn set_index_style(&self, style: IndexStyle) {
        self.lock().style = style;
    }

    pub fn set_page_tags(&self, page_tags: PageTags) {
        self.lock().page_tags = page_tags;
    }

    pub fn modified(&self, path: &str) -> SystemTime {
        self.lock()
            .files
            .get(path)
            .unwrap_or_else(|| panic!("{path}: no such file"))
            .modified
    }

    /// The node at `path`. A directory is also found without its final slash.
    pub fn get(&self, path: &str) -> Option<Node> {
        let inner = self.lock();
        if let Some(file) = inner.files.get(path) {
            return Some(Node::File(file.clone()));
        }
        let directory = path.trim_end_matches('/');
        inner
            .directories
            .contains(directory)
            .then(|| Node::Directory(inner.children(directory), inner.style, inner.page_tags))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn add_parents(&mut self, path: &str) {
        assert!(
            path.is_empty() || path.starts_with('/'),
            "{path}: a path begins with a slash"
        );
        let slashes = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        self.directories.extend(slashes);
    }

    fn children(&self, directory: &str) -> Vec<(String, Option<File>)> {
        let child = |path: &str| {
            if self.hidden.contains(path) {
                return None;
            }
            let name = path.strip_prefix(directory)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        let directories = self.directories.iter().filter_map(|path| Some((child(path)?, None)));
        let files = self
            .files
            .iter()
            .filter_map(|(path, file)| Some((child(path)?, Some(file.clone()))));
        directories.chain(files).collect()
    }
}
